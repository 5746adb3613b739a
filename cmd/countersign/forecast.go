package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

func (a *app) forecastCommand() *cobra.Command {
	var before, since string
	var limit int
	cmd := &cobra.Command{
		Use:   "forecast",
		Short: "Which images that passed will stop passing, when and why",
		Long: "Judges the images of recent PASSED decisions again, now and at every moment at\n" +
			"which time alone changes a verdict. What runs is not asked about again until it is\n" +
			"scheduled again: this tells before it is.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			f, err := client.Forecast(cmd.Context(), before, since, limit)
			if err != nil {
				return err
			}
			a.tellTruncated(f.Truncated)
			return a.print(f, func() string { return a.forecastTable(f) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&before, "before", "", "how far to look: a time, or a duration from now (default 720h)")
	flags.StringVar(&since, "since", "", "whose images: since a time, or a duration ago (default 168h)")
	flags.IntVar(&limit, "limit", 0, "items to show, at most 200")
	return cmd
}

func (a *app) tellTruncated(truncated bool) {
	if truncated {
		fmt.Fprintln(a.err, "there is more than is looked at or listed at once")
	}
}

func (a *app) forecastTable(f api.Forecast) string {
	rows := make([][]string, 0, len(f.Items))
	for _, i := range f.Items {
		rows = append(rows, []string{moment(&i.At), i.Image, short(i.Pinned[strings.LastIndex(i.Pinned, "@")+1:]), i.Basis, firstReason(i.Reasons)})
	}
	return a.grid([]string{"STOPS", "IMAGE", "DIGEST", "BASIS", "REASON"}, rows)
}

func firstReason(reasons []policy.Reason) string {
	if len(reasons) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %s", reasons[0].Code, reasons[0].Message)
}

func (a *app) testPolicyCommand() *cobra.Command {
	var request api.PolicyTestRequest
	var path string
	var context []string
	cmd := &cobra.Command{
		Use:   "test NAME",
		Short: "What a draft of a policy would decide, and what it would have decided",
		Long: "With --image judges images now, without and with the draft (-f) in the place of the\n" +
			"stored policy. With --decisions-since judges recorded questions again and lists the\n" +
			"verdicts that differ. Nothing is stored or recorded.",
		Example: "  countersign policies test production -f draft.yaml --decisions-since 24h",
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if request.Context, err = pairs("--context", context); err != nil {
				return err
			}
			if path != "" {
				document, err := a.readDocument(path)
				if err != nil {
					return err
				}
				if request.Policy, err = json.Marshal(string(document)); err != nil {
					return fmt.Errorf("encoding the draft: %w", err)
				}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			t, err := client.TestPolicy(cmd.Context(), args[0], request)
			if err != nil {
				return err
			}
			a.tellTruncated(t.Truncated)
			return a.print(t, func() string { return a.policyTestTable(t) })
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&path, "file", "f", "", "file with the draft; - is standard input; without it the stored policy counts")
	flags.StringArrayVar(&request.Images, "image", nil, "an image to judge now; may be repeated")
	flags.StringArrayVar(&context, "context", nil, "with --image: key=value that policies match; may be repeated")
	flags.StringVar(&request.Platform, "platform", "", "with --image: of an index, the child of this platform")
	flags.StringVar(&request.DecisionsSince, "decisions-since", "", "recorded decisions since a time, or a duration ago")
	flags.IntVar(&request.Limit, "limit", 0, "items to show, at most 200")
	return cmd
}

func (a *app) policyTestTable(t api.PolicyTest) string {
	rows := make([][]string, 0, len(t.Items))
	for _, i := range t.Items {
		rows = append(rows, []string{string(i.Before), string(i.After), string(i.Draft), i.Image, firstReason(i.Reasons)})
	}
	c := t.Counts
	return a.grid([]string{"BEFORE", "AFTER", "DRAFT", "IMAGE", "REASON"}, rows) +
		fmt.Sprintf("\n\n%d same, %d newly FAILED, %d newly PASSED, %d undecided", c.Same, c.NewlyFailed, c.NewlyPassed, c.Undecided)
}
