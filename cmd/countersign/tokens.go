package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

func (a *app) tokensCommand() *cobra.Command {
	cmd := group("tokens", "Manage API tokens")
	cmd.AddCommand(
		listCommand(a, "List tokens",
			func(ctx context.Context, c *api.Client, o api.ListOptions) (api.TokenList, error) {
				return c.Tokens(ctx, o)
			},
			func(l api.TokenList) string { return l.NextCursor },
			func(l api.TokenList) string { return a.tokenTable(l.Items...) }),
		oneCommand(a, "get", "Show a token, without its secret",
			func(ctx context.Context, c *api.Client, name string) (api.Token, error) { return c.Token(ctx, name) },
			func(t api.Token) string { return a.tokenTable(t) }),
		a.createTokenCommand(), a.initialTokenCommand(),
		deleteCommand(a, "tokens", "Revoke a token at once",
			func(ctx context.Context, c *api.Client, name string) (int64, error) { return 0, nil }),
	)
	return cmd
}

// initialTokenCommand prints the file of the first start: an image with nothing
// but the program has no cat.
func (a *app) initialTokenCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "initial --data-dir DIR",
		Short: "Print the administrator's token of the first start, where the service runs",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			secret, err := os.ReadFile(filepath.Join(dir, "admin.token"))
			if err != nil {
				return usagef("--data-dir: %v", err)
			}
			_, err = a.out.Write(secret)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "./countersign-data", "the service's data folder")
	return cmd
}

func (a *app) createTokenCommand() *cobra.Command {
	var request api.TokenRequest
	var validFor time.Duration
	cmd := &cobra.Command{
		Use:     "create NAME",
		Aliases: []string{"apply"},
		Short:   "Make a token and print it, this once",
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			request.Name = args[0]
			if validFor > 0 {
				at := a.clock.Now().Add(validFor).Truncate(time.Second)
				request.ExpiresAt = &at
			}
			token, err := client.CreateToken(cmd.Context(), request)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.err, "token %s; it is not shown again\n", token.Name)
			return a.print(token, func() string { return token.Secret })
		},
	}
	cmd.Flags().StringSliceVar(&request.Roles, "roles", nil, "verifier, signer, auditor, security, admin")
	cmd.Flags().DurationVar(&validFor, "valid-for", 0, "how long it is valid, such as 720h; 0 is until it is deleted")
	return cmd
}

func (a *app) tokenTable(items ...api.Token) string {
	rows := make([][]string, 0, len(items))
	for _, t := range items {
		rows = append(rows, []string{t.Name, strings.Join(t.Roles, " "), moment(&t.CreatedAt), moment(t.ExpiresAt)})
	}
	return a.grid([]string{"NAME", "ROLES", "CREATED", "EXPIRES"}, rows)
}
