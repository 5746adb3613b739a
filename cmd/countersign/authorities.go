package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

func (a *app) authoritiesCommand() *cobra.Command {
	cmd := group("authorities", "Show and rotate the service's own authorities: log, ca, ct, tsa")
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
	cmd.AddCommand(list, oneCommand(a, "rotate", "Make a new key for ca, ct or tsa; the one before stays trusted with its end",
		func(ctx context.Context, c *api.Client, name string) (api.AuthorityList, error) {
			return c.RotateAuthority(ctx, name)
		}, a.authorityTable), a.requestAuthorityCommand(), a.importAuthorityCommand())
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

func (a *app) authorityTable(l api.AuthorityList) string {
	rows := make([][]string, 0, len(l.Items))
	for _, item := range l.Items {
		rows = append(rows, []string{item.Name, item.Subject, moment(&item.Start), moment(item.End)})
	}
	return a.grid([]string{"NAME", "SUBJECT", "START", "END"}, rows)
}
