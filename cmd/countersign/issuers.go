package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

func (a *app) issuersCommand() *cobra.Command {
	cmd := group("issuers", "Manage whose identity tokens are believed")
	cmd.Long = "An issuer signs the OpenID Connect tokens of a CI system, a cluster or an identity\nprovider; one of the kind mtls certifies clients. What its identities may sign is\nsaid by grants."
	cmd.AddCommand(
		listCommand(a, "List issuers",
			func(ctx context.Context, c *api.Client, o api.ListOptions) (api.IssuerList, error) {
				return c.Issuers(ctx, o)
			},
			func(l api.IssuerList) string { return l.NextCursor },
			func(l api.IssuerList) string { return a.issuerTable(l.Items...) }),
		oneCommand(a, "get", "Show an issuer",
			func(ctx context.Context, c *api.Client, name string) (api.Issuer, error) { return c.Issuer(ctx, name) },
			func(i api.Issuer) string { return a.issuerTable(i) }),
		a.applyIssuerCommand(),
		deleteCommand(a, "issuers", "Believe an issuer's tokens no more",
			func(ctx context.Context, c *api.Client, name string) (int64, error) {
				i, err := c.Issuer(ctx, name)
				return i.Revision, err
			}),
	)
	return cmd
}

func (a *app) applyIssuerCommand() *cobra.Command {
	var request api.IssuerRequest
	var path, caFile string
	cmd := &cobra.Command{
		Use:   "apply NAME",
		Short: "Believe an issuer's tokens, or change how",
		Long: "Takes the whole definition, from flags or from a YAML or JSON file (-f) with the\n" +
			"fields of the API. What is said of provenance is only in a file.",
		Example: "  countersign issuers apply github --kind github \\\n" +
			"    --issuer https://token.actions.githubusercontent.com --audience https://sign.example.com\n" +
			"  countersign issuers apply build-farm --kind mtls --ca-bundle farm-ca.pem",
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if path != "" {
				if err := a.decodeFile(path, &request); err != nil {
					return err
				}
			}
			if caFile != "" {
				bundle, err := a.readDocument(caFile)
				if err != nil {
					return err
				}
				request.CABundle = string(bundle)
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			stored, err := putIssuer(cmd.Context(), client, args[0], request)
			if err != nil {
				return err
			}
			return a.print(stored, func() string { return a.issuerTable(stored) })
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&path, "file", "f", "", "file with the definition; - is standard input")
	flags.StringVar(&request.URL, "issuer", "", "the iss of its tokens, byte for byte")
	flags.StringVar(&request.Audience, "audience", "", "the aud that its tokens must have")
	flags.StringVar(&request.Kind, "kind", "", "github, gitlab, buildkite, circleci, kubernetes, generic, or mtls for client certificates")
	flags.StringVar(&caFile, "ca-bundle", "", "PEM file of certificate authorities to believe instead of the system's; of the kind mtls, those of its client certificates")
	flags.StringVar(&request.JWKSURL, "jwks-url", "", "where its keys are, instead of what its discovery document says")
	flags.StringToStringVar(&request.ClaimsMapping, "claim", nil, "of the kind generic: OURS=THEIRS, a known name for one of its claims")
	flags.StringSliceVar(&request.Roles, "roles", nil, "what its identities may do: verifier, signer, auditor (default signer)")
	flags.BoolVar(&request.OneTime, "one-time", false, "a token authenticates one signing call")
	flags.BoolVar(&request.InsecureHTTP, "insecure-http", false, "its URLs may be plain HTTP")
	flags.BoolVar(&request.AllowPrivateAddress, "allow-private-address", false, "it may have a private or loopback address")
	return cmd
}

func putIssuer(ctx context.Context, client *api.Client, name string, request api.IssuerRequest) (api.Issuer, error) {
	current, err := client.Issuer(ctx, name)
	revision, err := currentRevision(current, err, func(i api.Issuer) int64 { return i.Revision })
	if err != nil {
		return api.Issuer{}, err
	}
	return client.PutIssuer(ctx, name, request, api.PutOptions{Revision: revision})
}

func (a *app) issuerTable(items ...api.Issuer) string {
	rows := make([][]string, 0, len(items))
	for _, i := range items {
		rows = append(rows, []string{i.Name, i.Kind, i.URL, i.Audience, strings.Join(i.Roles, " "), yesNo(i.OneTime), fmt.Sprint(i.Revision)})
	}
	return a.grid([]string{"NAME", "KIND", "ISSUER", "AUDIENCE", "ROLES", "ONE TIME", "REVISION"}, rows)
}
