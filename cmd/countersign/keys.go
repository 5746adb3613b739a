package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

func (a *app) keysCommand() *cobra.Command {
	cmd := group("keys", "Manage signing keys")
	cmd.AddCommand(
		listCommand(a, "List keys",
			func(ctx context.Context, c *api.Client, o api.ListOptions) (api.KeyList, error) {
				return c.Keys(ctx, o)
			},
			func(l api.KeyList) string { return l.NextCursor }, a.keyTable),
		oneCommand(a, "get", "Show a key",
			func(ctx context.Context, c *api.Client, name string) (api.Key, error) { return c.Key(ctx, name) }, a.keyDetail),
		a.createKeyCommand(), a.publicKeyCommand(), a.rotateKeyCommand(), a.revokeKeyCommand(),
	)
	for verb, short := range map[string]string{
		"suspend": "Stop signing for a while",
		"resume":  "Sign again after suspend",
		"retire":  "Stop signing for good; earlier signatures stay valid",
	} {
		cmd.AddCommand(oneCommand(a, verb, short,
			func(ctx context.Context, c *api.Client, name string) (api.Key, error) {
				return c.KeyAction(ctx, name, verb)
			}, a.keyDetail))
	}
	return cmd
}

func (a *app) createKeyCommand() *cobra.Command {
	var request api.KeyRequest
	cmd := &cobra.Command{
		Use:     "create NAME",
		Aliases: []string{"apply"},
		Short:   "Make a key",
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			request.Name = args[0]
			key, err := client.CreateKey(cmd.Context(), request)
			if err != nil {
				return err
			}
			return a.print(key, func() string { return a.keyDetail(key) })
		},
	}
	cmd.Flags().StringVar(&request.Algorithm, "algorithm", "", "ecdsa-p256 (default), ecdsa-p384, rsa-3072, rsa-4096 or ed25519")
	cmd.Flags().StringVar(&request.Backend, "backend", "", "where the private half lives: file (default), hashivault, awskms, gcpkms, azurekms or pkcs11")
	cmd.Flags().StringVar(&request.Ref, "ref", "", "the key in its backend, such as hashivault://NAME; the server's keys.refs says which are allowed")
	return cmd
}

func (a *app) rotateKeyCommand() *cobra.Command {
	var request api.RotateRequest
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Make a new version and sign with it from now on",
		Long: "A key in another backend than file is not changed there: make its new key there\n" +
			"first. The new version is what is behind its reference now, or behind --ref.",
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			key, err := client.RotateKey(cmd.Context(), args[0], request)
			if err != nil {
				return err
			}
			return a.print(key, func() string { return a.keyDetail(key) })
		},
	}
	cmd.Flags().StringVar(&request.Ref, "ref", "", "where the new key lies, when not behind the current reference")
	return cmd
}

func (a *app) publicKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "public NAME",
		Short: "Print the public half (PEM), as cosign --key takes it",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			pem, err := client.PublicKey(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = a.out.Write(pem)
			return err
		},
	}
}

func (a *app) revokeKeyCommand() *cobra.Command {
	var request api.RevokeRequest
	var since string
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Stop believing a key's signatures",
		Long: "Without --compromised-at no signature of the key is believed any more; with it,\n" +
			"those whose proven time is earlier still are.",
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if since != "" {
				at, err := time.Parse(time.RFC3339, since)
				if err != nil {
					return usagef("--compromised-at: want a time like 2026-01-31T12:00:00Z")
				}
				request.CompromisedAt = &at
			}
			key, err := client.RevokeKey(cmd.Context(), args[0], request)
			if err != nil {
				return err
			}
			return a.print(key, func() string { return a.keyDetail(key) })
		},
	}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the record")
	cmd.Flags().StringVar(&since, "compromised-at", "", "since when its signatures are not believed (RFC 3339)")
	return cmd
}

func (a *app) keyTable(l api.KeyList) string {
	rows := make([][]string, 0, len(l.Items))
	for _, k := range l.Items {
		rows = append(rows, []string{k.Name, k.Algorithm, k.State, strconv.Itoa(k.Version), short(k.KeyID)})
	}
	return a.grid([]string{"NAME", "ALGORITHM", "STATE", "VERSION", "KEY ID"}, rows)
}

func (a *app) keyDetail(k api.Key) string {
	rows := make([][]string, 0, len(k.Versions))
	for _, v := range k.Versions {
		rows = append(rows, []string{strconv.Itoa(v.Version), v.State, v.KeyID, moment(&v.CreatedAt), moment(v.DeactivatedAt), moment(v.CompromisedAt)})
	}
	return fmt.Sprintf("%s: %s, %s\n\n%s", clean(k.Name), k.Algorithm, k.State,
		a.grid([]string{"VERSION", "STATE", "KEY ID", "CREATED", "DEACTIVATED", "COMPROMISED"}, rows))
}

// moment prints a time as the API does, or nothing.
func moment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
