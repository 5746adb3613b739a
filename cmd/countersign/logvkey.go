package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/trust"
)

// logVKeyCommand prints what a witness is configured with.
func (a *app) logVKeyCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "vkey",
		Short: "Print the log's verifier key, for the configuration of witnesses",
		Long: "Prints the verifier key (C2SP signed-note) of the shard that is written: the last log\n" +
			"of a trusted root.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			document, err := a.rootDocument(cmd, root)
			if err != nil {
				return err
			}
			parsed, err := trust.ParseTrustedRoot(document)
			if err != nil || len(parsed.Logs) == 0 {
				return usagef("no log in the trusted root: %v", err)
			}
			log := parsed.Logs[len(parsed.Logs)-1]
			vkey, err := tlog.MarshalVerifierKey(log.Origin, log.Public)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, vkey)
			return err
		},
	}
	cmd.Flags().StringVar(&root, "trusted-root", "", "trusted_root.json to read (default: what the service gives)")
	return cmd
}

// rootDocument is a trusted root from a file, or the service's.
func (a *app) rootDocument(cmd *cobra.Command, path string) ([]byte, error) {
	if path != "" {
		document, err := os.ReadFile(path)
		if err != nil {
			return nil, usagef("%v", err)
		}
		return document, nil
	}
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	return client.TrustedRoot(cmd.Context())
}
