package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

func (a *app) authoritiesCommand() *cobra.Command {
	cmd := group("authorities", "Show, rotate and revoke the service's own authorities: log, ca, ct, tsa, journal")
	list := &cobra.Command{
		Use:   "list",
		Short: "List authorities, retired ones too, with their windows",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			authorities, err := client.Authorities(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(authorities, func() string { return a.authorityTable(authorities) })
		},
	}
	cmd.AddCommand(list, oneCommand(a, "rotate", "Make a new key for log, ca, ct, tsa or journal; the one before stays trusted with its end",
		func(ctx context.Context, c *api.Client, name string) (api.AuthorityList, error) {
			return c.RotateAuthority(ctx, name)
		}, a.authorityTable), a.revokeAuthorityCommand(), a.requestAuthorityCommand(), a.importAuthorityCommand())
	return cmd
}

func (a *app) requestAuthorityCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "request",
		Short: "Make a key and print a certificate request, to issue under your own root",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			made, err := client.RequestAuthority(cmd.Context())
			if err != nil {
				return err
			}
			_, err = a.out.Write([]byte(made.Request))
			return err
		},
	}
}

func (a *app) importAuthorityCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "import -f CHAIN",
		Short: "Issue with the certificate that your root gave for a request",
		Long:  "CHAIN is PEM: the certificate of the requested key first, the root last. What was\nissued before stays trusted.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chain, err := a.readDocument(path)
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			list, err := client.ImportAuthority(cmd.Context(), api.AuthorityChain{Chain: string(chain)})
			if err != nil {
				return err
			}
			return a.print(list, func() string { return a.authorityTable(list) })
		},
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "PEM file with the chain; - is standard input")
	return cmd
}

func (a *app) revokeAuthorityCommand() *cobra.Command {
	var request api.AuthorityRevocation
	var since string
	cmd := &cobra.Command{
		Use:   "revoke ca|ct|tsa",
		Short: "Stop believing an authority's key; a new one takes over",
		Long: "Without --compromised-at nothing that the key vouched for is believed any more;\n" +
			"with it, what it vouched for before that time still is. Whoever holds a timestamp\n" +
			"key can set the clock back: give the time only when you know that nobody did.",
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
			list, err := client.RevokeAuthority(cmd.Context(), args[0], request)
			if err != nil {
				return err
			}
			return a.print(list, func() string { return a.authorityTable(list) })
		},
	}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the record")
	cmd.Flags().StringVar(&since, "compromised-at", "", "since when it is not believed (RFC 3339)")
	cmd.Flags().StringVar(&request.ID, "id", "", "which key, from `authorities list`; the one in use when absent")
	return cmd
}

func (a *app) authorityTable(l api.AuthorityList) string {
	rows := make([][]string, 0, len(l.Items))
	for _, item := range l.Items {
		rows = append(rows, []string{item.Name, item.ID, item.Subject, moment(&item.Start), moment(item.End), moment(item.RevokedAt)})
	}
	return a.grid([]string{"NAME", "ID", "SUBJECT", "START", "END", "REVOKED"}, rows)
}
