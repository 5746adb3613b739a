package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func (a *app) admissionCommand() *cobra.Command {
	cmd := group("admission", "What admission controllers need to be set up with")
	cmd.AddCommand(a.admissionCACommand())
	return cmd
}

// admissionCACommand prints the bundle for a webhook's caBundle. It cannot be
// asked of a service that is not believed yet, so the data folder has a copy.
func (a *app) admissionCACommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Print the authority of the service's own TLS certificate (serve --tls-self-signed)",
		Long: "Prints, in PEM, whom a webhook configuration, a provider or another caller must\n" +
			"believe to trust the certificate that `serve --tls-self-signed` makes. Around a\n" +
			"change of that authority, once in ten years, it prints both.\n\n" +
			"--data-dir reads it where the service runs, before anybody trusts it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bundle, err := a.tlsAuthority(cmd, dir)
			if err != nil {
				return err
			}
			_, err = a.out.Write(bundle)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "the service's data folder, in place of asking the service")
	return cmd
}

func (a *app) tlsAuthority(cmd *cobra.Command, dir string) ([]byte, error) {
	if dir != "" {
		bundle, err := os.ReadFile(filepath.Join(dir, "tls-ca.pem"))
		if err != nil {
			return nil, usagef("--data-dir: %v; is it served with --tls-self-signed?", err)
		}
		return bundle, nil
	}
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	return client.TLSAuthority(cmd.Context())
}
