package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

func (a *app) trustRootsCommand() *cobra.Command {
	cmd := group("trust-roots", "Manage the trusted roots of others that policies may name")
	cmd.Long = "A trusted root says whose certificates, logs and timestamps are believed. self is\nthe service's own; another is somebody's trusted_root.json, such as the public\nSigstore instance's or a partner's."
	cmd.AddCommand(
		listCommand(a, "List trusted roots",
			func(ctx context.Context, c *api.Client, o api.ListOptions) (api.TrustRootList, error) {
				return c.TrustRoots(ctx, o)
			},
			func(l api.TrustRootList) string { return l.NextCursor },
			func(l api.TrustRootList) string { return a.trustRootTable(l.Items...) }),
		oneCommand(a, "get", "Show a trusted root; self is the service's own",
			func(ctx context.Context, c *api.Client, name string) (api.TrustRoot, error) {
				return c.TrustRoot(ctx, name)
			},
			func(t api.TrustRoot) string { return a.trustRootTable(t) }),
		a.applyTrustRootCommand(),
		deleteCommand(a, "trust-roots", "Delete a trusted root; policies that name it fail",
			func(ctx context.Context, c *api.Client, name string) (int64, error) {
				t, err := c.TrustRoot(ctx, name)
				return t.Revision, err
			}),
	)
	return cmd
}

func (a *app) applyTrustRootCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:     "apply NAME -f FILE",
		Short:   "Keep somebody's trusted_root.json under a name, or replace it",
		Example: "  countersign trust-roots apply sigstore -f trusted_root.json",
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := a.readDocument(path)
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			current, err := client.TrustRoot(cmd.Context(), args[0])
			revision, err := currentRevision(current, err, func(t api.TrustRoot) int64 { return t.Revision })
			if err != nil {
				return err
			}
			stored, err := client.PutTrustRoot(cmd.Context(), args[0], document, api.PutOptions{Revision: revision})
			if err != nil {
				return err
			}
			return a.print(stored, func() string { return a.trustRootTable(stored) })
		},
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "trusted_root.json; - is standard input")
	return cmd
}

func (a *app) trustRootTable(items ...api.TrustRoot) string {
	rows := make([][]string, 0, len(items))
	for _, t := range items {
		rows = append(rows, []string{
			t.Name, strings.Join(t.CertificateAuthorities, " "), strings.Join(t.Logs, " "),
			strings.Join(t.TimestampAuthorities, " "), fmt.Sprint(t.Revision),
		})
	}
	return a.grid([]string{"NAME", "CERTIFICATE AUTHORITIES", "LOGS", "TIMESTAMP AUTHORITIES", "REVISION"}, rows)
}
