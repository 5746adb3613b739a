package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

func (a *app) exceptionsCommand() *cobra.Command {
	cmd := group("exceptions", "Manage exceptions to trust policies")
	cmd.Long = "An exception lets images pass a policy that fails them, for a reason that every\n" +
		"answer shows and until a moment at most 90 days away. It never helps an image that\n" +
		"could not be judged, or that a revoked key signed."
	cmd.AddCommand(
		listCommand(a, "List exceptions",
			func(ctx context.Context, c *api.Client, o api.ListOptions) (api.ExceptionList, error) {
				return c.Exceptions(ctx, o)
			},
			func(l api.ExceptionList) string { return l.NextCursor },
			func(l api.ExceptionList) string { return a.exceptionTable(l.Items...) }),
		oneCommand(a, "get", "Show an exception",
			func(ctx context.Context, c *api.Client, name string) (api.Exception, error) {
				return c.Exception(ctx, name)
			},
			func(e api.Exception) string { return a.exceptionTable(e) }),
		a.applyExceptionCommand(),
		deleteCommand(a, "exceptions", "Remove an exception; the policy counts again at once",
			func(ctx context.Context, c *api.Client, name string) (int64, error) {
				e, err := c.Exception(ctx, name)
				return e.Revision, err
			}),
	)
	return cmd
}

func (a *app) applyExceptionCommand() *cobra.Command {
	var request api.ExceptionRequest
	var path, until string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "apply NAME",
		Short: "Create or replace an exception",
		Long:  "Takes the whole exception, from flags or from a YAML or JSON file (-f).",
		Example: "  countersign exceptions apply inc-1234 --policy production --digest sha256:… \\\n" +
			"    --reason 'INC-1234: the scanner is down' --for 72h",
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if path != "" {
				if err := a.decodeFile(path, &request); err != nil {
					return err
				}
			}
			if err := a.setExpiry(&request, until, life); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			current, err := client.Exception(cmd.Context(), args[0])
			revision, err := currentRevision(current, err, func(e api.Exception) int64 { return e.Revision })
			if err != nil {
				return err
			}
			stored, err := client.PutException(cmd.Context(), args[0], request, api.PutOptions{Revision: revision})
			if err != nil {
				return err
			}
			return a.print(stored, func() string { return a.exceptionTable(stored) })
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&path, "file", "f", "", "file with the exception; - is standard input")
	flags.StringSliceVar(&request.Digests, "digest", nil, "an image by digest; may be repeated")
	flags.StringSliceVar(&request.Images, "image", nil, "pattern over HOST/REPOSITORY, instead of digests; may be repeated")
	flags.StringVar(&request.Policy, "policy", "", "the policy whose verdict it changes")
	flags.StringVar(&request.Reason, "reason", "", "why; every answer shows it")
	flags.StringVar(&until, "until", "", "when it ends, such as 2026-12-01T00:00:00Z")
	flags.DurationVar(&life, "for", 0, "how long it lasts from now, instead of --until")
	return cmd
}

// setExpiry takes the end of an exception from the one flag that says it.
func (a *app) setExpiry(request *api.ExceptionRequest, until string, life time.Duration) error {
	switch {
	case until != "" && life != 0:
		return usagef("want one of --until and --for")
	case until != "":
		at, err := time.Parse(time.RFC3339, until)
		if err != nil {
			return usagef("--until: want a time such as 2026-12-01T00:00:00Z")
		}
		request.ExpiresAt = at.UTC()
	case life > 0:
		request.ExpiresAt = a.clock.Now().Add(life).UTC().Truncate(time.Second)
	case life < 0 || request.ExpiresAt.IsZero():
		return usagef("say when it ends: --until or --for")
	}
	return nil
}

func (a *app) exceptionTable(items ...api.Exception) string {
	rows := make([][]string, 0, len(items))
	for _, e := range items {
		scope := strings.Join(e.Images, " ")
		for _, d := range e.Digests {
			scope = strings.TrimSpace(scope + " " + short(d))
		}
		state := "in force"
		if e.Expired {
			state = "expired"
		}
		rows = append(rows, []string{e.Name, e.Policy, scope, moment(&e.ExpiresAt), state, fmt.Sprint(e.Revision), e.Reason})
	}
	return a.grid([]string{"NAME", "POLICY", "IMAGES", "EXPIRES", "STATE", "REVISION", "REASON"}, rows)
}
