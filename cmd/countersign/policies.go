package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

func (a *app) policiesCommand() *cobra.Command {
	cmd := group("policies", "Manage trust policies")
	cmd.AddCommand(
		listCommand(a, "List policies",
			func(ctx context.Context, c *api.Client, o api.ListOptions) (api.PolicyList, error) {
				return c.Policies(ctx, o)
			},
			func(l api.PolicyList) string { return l.NextCursor },
			func(l api.PolicyList) string { return a.policyTable(l.Items...) }),
		oneCommand(a, "get", "Show a policy",
			func(ctx context.Context, c *api.Client, name string) (api.Policy, error) { return c.Policy(ctx, name) },
			func(p api.Policy) string { return a.policyTable(p) + "\n\n" + string(p.Document) }),
		a.applyPolicyCommand(), a.testPolicyCommand(), a.importPoliciesCommand(), a.exportPoliciesCommand(),
		deleteCommand(a, "policies", "Remove a policy",
			func(ctx context.Context, c *api.Client, name string) (int64, error) {
				p, err := c.Policy(ctx, name)
				return p.Revision, err
			}),
	)
	return cmd
}

func (a *app) applyPolicyCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or replace a policy",
		Long:  "The policy is checked here first, so that a mistake is told without a round trip.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			document, err := a.readDocument(path)
			if err != nil {
				return err
			}
			parsed, err := policy.Parse(document)
			if err != nil {
				return usagef("%s: %v", path, err)
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			stored, err := putPolicy(cmd.Context(), client, parsed.Name, document)
			if err != nil {
				return err
			}
			return a.print(stored, func() string { return a.policyTable(stored) })
		},
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "YAML or JSON file with a TrustPolicy; - is standard input")
	return cmd
}

func putPolicy(ctx context.Context, client *api.Client, name string, document []byte) (api.Policy, error) {
	current, err := client.Policy(ctx, name)
	revision, err := currentRevision(current, err, func(p api.Policy) int64 { return p.Revision })
	if err != nil {
		return api.Policy{}, err
	}
	return client.PutPolicy(ctx, name, document, api.PutOptions{Revision: revision})
}

func (a *app) policyTable(items ...api.Policy) string {
	rows := make([][]string, 0, len(items))
	for _, p := range items {
		rows = append(rows, []string{p.Name, p.Mode, fmt.Sprint(p.Revision), moment(&p.UpdatedAt)})
	}
	return a.grid([]string{"NAME", "MODE", "REVISION", "UPDATED"}, rows)
}

func (a *app) grantsCommand() *cobra.Command {
	cmd := group("grants", "Manage who may sign what with which key")
	cmd.AddCommand(
		listCommand(a, "List grants",
			func(ctx context.Context, c *api.Client, o api.ListOptions) (api.GrantList, error) {
				return c.Grants(ctx, o)
			},
			func(l api.GrantList) string { return l.NextCursor },
			func(l api.GrantList) string { return a.grantTable(l.Items...) }),
		oneCommand(a, "get", "Show a grant",
			func(ctx context.Context, c *api.Client, name string) (api.Grant, error) { return c.Grant(ctx, name) },
			func(g api.Grant) string { return a.grantTable(g) }),
		a.applyGrantCommand(), a.checkGrantCommand(),
		deleteCommand(a, "grants", "Remove a grant",
			func(ctx context.Context, c *api.Client, name string) (int64, error) {
				g, err := c.Grant(ctx, name)
				return g.Revision, err
			}),
	)
	return cmd
}

func (a *app) applyGrantCommand() *cobra.Command {
	var request api.GrantRequest
	var path string
	cmd := &cobra.Command{
		Use:   "apply NAME",
		Short: "Create or replace a grant",
		Long:  "Takes the whole grant, from flags or from a YAML or JSON file (-f).",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if path != "" {
				if err := a.decodeFile(path, &request); err != nil {
					return err
				}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			current, err := client.Grant(cmd.Context(), args[0])
			revision, err := currentRevision(current, err, func(g api.Grant) int64 { return g.Revision })
			if err != nil {
				return err
			}
			stored, err := client.PutGrant(cmd.Context(), args[0], request, api.PutOptions{Revision: revision})
			if err != nil {
				return err
			}
			return a.print(stored, func() string { return a.grantTable(stored) })
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&path, "file", "f", "", "file with the grant; - is standard input")
	flags.StringVar(&request.Issuer, "issuer", "local", "local for API tokens, or the URL of an issuer")
	flags.StringVar(&request.Subject, "subject", "", "pattern over the token's name or the subject claim")
	flags.StringToStringVar(&request.Claims, "claim", nil, "NAME=PATTERN over a verified claim of an identity token")
	flags.StringSliceVar(&request.Repositories, "repositories", nil, "patterns over HOST/REPOSITORY")
	flags.StringSliceVar(&request.Keys, "keys", nil, "patterns over key names")
	flags.StringSliceVar(&request.Actions, "actions", []string{"sign"}, "sign, attest, provenance")
	return cmd
}

// errNotGranted ends a grant check that found no grant with exit code 4.
var errNotGranted = errors.New("not granted")

func (a *app) checkGrantCommand() *cobra.Command {
	var request api.GrantCheckRequest
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Ask whether someone may sign a repository with a key, and which grant says so",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			check, err := client.CheckGrant(cmd.Context(), request)
			if err != nil {
				return err
			}
			if err := a.print(check, func() string { return clean(check.Detail) }); err != nil {
				return err
			}
			if !check.Allowed {
				return errNotGranted
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Issuer, "issuer", "local", "local for API tokens, or the URL of an issuer")
	flags.StringVar(&request.Subject, "subject", "", "the token's name or the subject claim")
	flags.StringToStringVar(&request.Claims, "claim", nil, "NAME=VALUE of a verified claim")
	flags.StringVar(&request.Repository, "repository", "", "HOST/REPOSITORY")
	flags.StringVar(&request.Key, "key", "", "name of the key")
	flags.StringVar(&request.Action, "action", "sign", "sign, attest or provenance")
	return cmd
}

func (a *app) grantTable(items ...api.Grant) string {
	rows := make([][]string, 0, len(items))
	for _, g := range items {
		rows = append(rows, []string{g.Name, g.Issuer, g.Subject, fmt.Sprint(g.Repositories), fmt.Sprint(g.Keys), fmt.Sprint(g.Actions)})
	}
	return a.grid([]string{"NAME", "ISSUER", "SUBJECT", "REPOSITORIES", "KEYS", "ACTIONS"}, rows)
}
