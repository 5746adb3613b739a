package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
)

func (a *app) artifactsCommand() *cobra.Command {
	cmd := group("artifacts", "What is known of a digest")
	get := oneCommand(a, "get", "Show signatures, decisions and log entries of a digest",
		func(ctx context.Context, c *api.Client, digest string) (api.Artifact, error) {
			return c.Artifact(ctx, digest)
		}, a.artifactDetail)
	get.Use = "get DIGEST"
	cmd.AddCommand(get, a.ingestCommand())
	return cmd
}

func (a *app) ingestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ingest DIGEST IMAGE",
		Short: "Keep the signatures and attestations that a registry has about a digest",
		Long: "Keeps what an authority of a policy in force accepts, and says why the rest is\n" +
			"refused. IMAGE says where to look: a reference that names DIGEST.",
		Args: exactArgs("DIGEST", "IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			found, err := client.Ingest(cmd.Context(), args[0], api.IngestRequest{Image: args[1]})
			if err != nil {
				return err
			}
			return a.print(found, func() string { return a.ingestDetail(found) })
		},
	}
}

func (a *app) ingestDetail(found api.Ingest) string {
	rows := make([][]string, 0, len(found.Kept)+len(found.Refused))
	for _, i := range found.Kept {
		rows = append(rows, []string{"kept", i.Format, i.PredicateType, i.Signer, i.Policy + "/" + i.Authority})
	}
	for _, i := range found.Refused {
		rows = append(rows, []string{"refused", i.Format, i.PredicateType, "", string(i.Reason.Code)})
	}
	out := found.Digest + "\n\n" + a.grid([]string{"", "FORMAT", "PREDICATE TYPE", "SIGNER", "BY"}, rows)
	if !found.Complete {
		out += "\n\nsome of what is attached could not be read"
	}
	return out
}

func (a *app) artifactDetail(artifact api.Artifact) string {
	out := artifact.Digest + "\n\nsignatures\n" + a.keptTable(artifact.Signatures)
	for _, group := range artifact.Attestations {
		out += "\n\n" + clean(group.PredicateType) + "\n" + a.keptTable(group.Items)
	}
	if len(artifact.Children) > 0 {
		rows := make([][]string, 0, len(artifact.Children))
		for _, c := range artifact.Children {
			rows = append(rows, []string{c.Digest, c.Platform})
		}
		out += "\n\n" + a.grid([]string{"CHILD", "PLATFORM"}, rows)
	}
	out += "\n\n" + a.decisionTable(artifact.Decisions)
	if artifact.Truncated {
		out += "\n\nthere is more than is shown"
	}
	return out
}

// keptTable lists what the archive keeps.
func (a *app) keptTable(items []api.ArtifactItem) string {
	rows := make([][]string, 0, len(items))
	for _, s := range items {
		index := ""
		if s.LogIndex != nil {
			index = strconv.FormatInt(*s.LogIndex, 10)
		}
		rows = append(rows, []string{s.Repository, s.Format, s.Signer, index, moment(&s.CreatedAt)})
	}
	return a.grid([]string{"REPOSITORY", "FORMAT", "SIGNER", "LOG INDEX", "CREATED"}, rows)
}

func (a *app) decisionsCommand() *cobra.Command {
	cmd := group("decisions", "What was answered, and why")
	var filter api.DecisionFilter
	list := listCommand(a, "List decisions, newest first",
		func(ctx context.Context, c *api.Client, o api.ListOptions) (api.DecisionList, error) {
			filter.ListOptions = o
			return c.Decisions(ctx, filter)
		},
		func(l api.DecisionList) string { return l.NextCursor },
		func(l api.DecisionList) string { return a.decisionTable(l.Items) })
	list.Flags().StringVar(&filter.Verdict, "verdict", "", "PASSED or FAILED")
	list.Flags().StringVar(&filter.Digest, "digest", "", "only this digest")
	list.Flags().StringVar(&filter.Image, "image", "", "only this reference, as it was asked")
	get := oneCommand(a, "get", "Show a decision with its reasons",
		func(ctx context.Context, c *api.Client, id string) (api.Decision, error) { return c.Decision(ctx, id) },
		func(d api.Decision) string {
			return a.decisionTable([]api.Decision{d}) + "\n\n" + string(d.Result)
		})
	get.Use = "get ID"
	cmd.AddCommand(list, get)
	return cmd
}

func (a *app) decisionTable(items []api.Decision) string {
	rows := make([][]string, 0, len(items))
	for _, d := range items {
		rows = append(rows, []string{moment(&d.CreatedAt), d.Verdict, d.Image, short(d.Digest), d.Caller, d.ID})
	}
	return a.grid([]string{"TIME", "VERDICT", "IMAGE", "DIGEST", "CALLER", "ID"}, rows)
}

func (a *app) auditCommand() *cobra.Command {
	cmd := group("audit", "Who changed what")
	cmd.AddCommand(listCommand(a, "List the journal, newest first",
		func(ctx context.Context, c *api.Client, o api.ListOptions) (api.AuditList, error) {
			return c.Audit(ctx, o)
		},
		func(l api.AuditList) string { return l.NextCursor },
		func(l api.AuditList) string {
			rows := make([][]string, 0, len(l.Items))
			for _, r := range l.Items {
				rows = append(rows, []string{fmt.Sprint(r.Sequence), moment(&r.Time), r.Actor, r.Action, r.Resource, r.Outcome, covering(r)})
			}
			return a.grid([]string{"#", "TIME", "ACTOR", "ACTION", "RESOURCE", "OUTCOME", "LOG ENTRY"}, rows)
		}))
	return cmd
}

// covering names the log entry of a record, and the record that the entry is of
// when that is a later one.
func covering(r api.AuditRecord) string {
	switch {
	case r.Log == nil:
		return "waits"
	case r.Log.Sequence != r.Sequence:
		return fmt.Sprintf("%d (of #%d)", r.Log.LogIndex, r.Log.Sequence)
	}
	return strconv.FormatInt(r.Log.LogIndex, 10)
}
