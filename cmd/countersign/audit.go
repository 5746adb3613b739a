package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/examiner"
	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// errAudit says that something does not prove itself; what is wrong was printed.
var errAudit = errors.New("what is stored does not prove itself")

// auditFlags say which log is audited and what is believed about it.
type auditFlags struct {
	dataDir, database, url, root, journal, from string
}

// fetch reads a file of a log by its path in the tlog-tiles layout; one that is
// not there is os.ErrNotExist.
type fetch func(ctx context.Context, path string) ([]byte, error)

func (a *app) logAuditCommand() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Re-prove the log and what rests on it from the stored bytes",
		Long: "Recomputes every leaf, tile and the checkpoint of each shard. From a data folder (a\n" +
			"copy, or one that is in use) also the index of the log, every finished signature, the\n" +
			"audit journal and its log entries, and the managed objects; from a URL the log alone.\n" +
			"--from names an older checkpoint that the log must still contain.\n\n" +
			"Exit code 0 when everything proves, 3 when something was found, 2 for a wrong flag or\n" +
			"file, any other when it could not be done. Nothing is written.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := a.audit(cmd.Context(), f)
			if err != nil {
				return err
			}
			if err := a.printAudit(report); err != nil {
				return err
			}
			if len(report.Problems) > 0 {
				return fmt.Errorf("%w: %w", errFailed, errAudit)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dataDir, "data-dir", "", "data folder of the service")
	flags.StringVar(&f.database, "database", "", "postgres:// URL of its database, where it has one (or COUNTERSIGN_DATABASE)")
	flags.StringVar(&f.url, "url", "", "URL of the service")
	flags.StringVar(&f.root, "trusted-root", "", "trusted_root.json to believe (default: the data folder's, or the one the URL gives)")
	flags.StringVar(&f.journal, "journal-keys", "", "journal.pem to believe, kept from the data folder (default: the data folder's keys)")
	flags.StringVar(&f.from, "from", "", "file with an older checkpoint")
	return cmd
}

// audit examines the shard of each log that the trusted root names: they stand
// there oldest first.
func (a *app) audit(ctx context.Context, f auditFlags) (examiner.Report, error) {
	if (f.dataDir == "") == (f.url == "") {
		return examiner.Report{}, usagef("name one of --data-dir and --url")
	}
	if f.url != "" && (f.database != "" || f.journal != "") {
		return examiner.Report{}, usagef("--database and --journal-keys go with --data-dir")
	}
	logs, err := a.auditedLogs(ctx, f)
	if err != nil {
		return examiner.Report{}, err
	}
	from, of, err := olderCheckpoint(f.from, logs)
	if err != nil {
		return examiner.Report{}, err
	}
	if f.url != "" {
		return a.auditURL(ctx, f.url, logs, from, of)
	}
	return a.auditFolder(ctx, f, logs, from, of)
}

// auditFolder examines everything.
func (a *app) auditFolder(ctx context.Context, f auditFlags, logs []trust.Log, from []byte, of int) (examiner.Report, error) {
	config := daemon.ExamineConfig{
		DataDir: f.dataDir, Database: firstOf(f.database, a.getenv("COUNTERSIGN_DATABASE")), Logs: logs, From: from, FromShard: of,
	}
	var err error
	if f.journal != "" {
		if config.Journal, err = os.ReadFile(f.journal); err != nil {
			return examiner.Report{}, usagef("%v", err)
		}
	}
	var bar *progress
	part := ""
	config.Progress = func(name string, done, total uint64) {
		if name != part {
			bar.finish()
			part, bar = name, a.startProgress(ctx, name)
		}
		bar.at(done, total)
	}
	report, err := daemon.Examine(ctx, config)
	bar.finish()
	return report, err
}

// finish is end for a bar that may not have been started.
func (p *progress) finish() {
	if p != nil {
		p.end()
	}
}

// auditURL proves the log's bytes, which is all that a URL gives.
func (a *app) auditURL(ctx context.Context, url string, logs []trust.Log, from []byte, of int) (examiner.Report, error) {
	report := examiner.Report{Duplicates: []sequencer.Duplicate{}, Problems: []sequencer.Problem{}, NotChecked: []string{
		"the index of the log, the signatures that the service keeps, the audit journal and the managed objects: a URL does not give them; use --data-dir",
	}}
	client, err := a.stranger(url)
	if err != nil {
		return report, usagef("%v", err)
	}
	shard := servedShards(client)
	for i, log := range logs {
		config := sequencer.AuditConfig{Fetch: shard(i + 1), Origin: log.Origin, Public: log.Public}
		if i == of {
			config.From = from
		}
		one, err := sequencer.Audit(ctx, config)
		if err != nil {
			return report, fmt.Errorf("shard %d: %w", i+1, err)
		}
		report.AddShard(examiner.Shard{Shard: i + 1, LogID: hex.EncodeToString(log.ID), Report: one})
	}
	unknown, err := unaudited(ctx, shard(len(logs)+1), len(logs)+1)
	for _, p := range unknown {
		report.Add(p.Where, p.What)
	}
	return report, err
}

// unaudited finds a shard that the trusted root does not know: a log that has
// one is not proven.
func unaudited(ctx context.Context, next fetch, number int) ([]sequencer.Problem, error) {
	_, err := next(ctx, "checkpoint")
	switch {
	case err == nil:
		return []sequencer.Problem{{Where: fmt.Sprintf("shard %d", number), What: "the trusted root does not name it; believe a newer one"}}, nil
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	}
	return nil, fmt.Errorf("looking for shard %d: %w", number, err)
}

func (a *app) auditedLogs(ctx context.Context, f auditFlags) ([]trust.Log, error) {
	if f.dataDir != "" {
		f.root = firstOf(f.root, filepath.Join(f.dataDir, "trusted_root.json"))
	}
	root, err := a.auditRoot(ctx, f)
	if err != nil {
		return nil, err
	}
	parsed, err := trust.ParseTrustedRoot(root)
	if err != nil {
		return nil, usagef("%s: %v", f.root, err)
	}
	if len(parsed.Logs) == 0 {
		return nil, usagef("%s: it names no log", f.root)
	}
	return parsed.Logs, nil
}

// olderCheckpoint reads --from and finds the shard whose key signed it.
func olderCheckpoint(path string, logs []trust.Log) (from []byte, shard int, err error) {
	if path == "" {
		return nil, -1, nil
	}
	if from, err = os.ReadFile(path); err != nil {
		return nil, -1, usagef("%v", err)
	}
	for i, log := range logs {
		if _, err = tlog.ParseCheckpoint(from, log.Origin, log.Public); err == nil {
			return from, i, nil
		}
	}
	return nil, -1, usagef("%s: no log of the trusted root signed it: %v", path, err)
}

// auditRoot is what is believed about the log. A root that the audited server
// itself gives proves only that the log agrees with itself, which is said.
func (a *app) auditRoot(ctx context.Context, f auditFlags) ([]byte, error) {
	if f.root != "" {
		root, err := os.ReadFile(f.root)
		if err != nil {
			return nil, usagef("%v", err)
		}
		return root, nil
	}
	client, err := a.stranger(f.url)
	if err != nil {
		return nil, usagef("%v", err)
	}
	fmt.Fprintln(a.err, "warning: believing the trusted root that the server gives; name a kept one with --trusted-root")
	return client.TrustedRoot(ctx)
}

// servedShards reads the shards of a server by the URLs that they keep.
func servedShards(client *api.Client) func(int) fetch {
	return func(number int) fetch {
		return func(ctx context.Context, path string) ([]byte, error) {
			content, err := client.Shard(ctx, number, path)
			if notFound(err) && number == 1 {
				// Any other tile log has one shard, without a number.
				content, err = client.Tile(ctx, path)
			}
			if notFound(err) {
				return nil, fmt.Errorf("%w: %s", os.ErrNotExist, path)
			}
			return content, err
		}
	}
}

func notFound(err error) bool {
	var problem *api.Problem
	return errors.As(err, &problem) && problem.Status == 404
}

func (a *app) printAudit(report examiner.Report) error {
	return a.print(report, func() string {
		var lines []string
		for _, s := range report.Shards {
			state := "clean"
			if len(s.Problems) > 0 {
				state = fmt.Sprintf("%d problem(s)", len(s.Problems))
			}
			line := fmt.Sprintf("%s: %d entries, root %s", state, s.Size, s.Root)
			if len(report.Shards) > 1 {
				line += fmt.Sprintf(" (shard %d)", s.Shard)
			}
			lines = append(lines, line)
		}
		lines = append(lines, auditCounts(report.Counts)...)
		for _, d := range report.Duplicates {
			lines = append(lines, fmt.Sprintf("note: entries %d and %d are the same", d.First, d.Again))
		}
		for _, what := range report.NotChecked {
			lines = append(lines, "not checked: "+what)
		}
		if len(report.Problems) > 0 {
			rows := make([][]string, 0, len(report.Problems))
			for _, p := range report.Problems {
				rows = append(rows, []string{p.Where, p.What})
			}
			lines = append(lines, "", a.grid([]string{"WHERE", "WHAT"}, rows))
		}
		if report.Truncated {
			lines = append(lines, "there is more than is shown")
		}
		return strings.Join(lines, "\n")
	})
}

// auditCounts says what was examined beside the log.
func auditCounts(c examiner.Counts) []string {
	if c == (examiner.Counts{}) {
		return nil
	}
	lines := []string{
		fmt.Sprintf("leaf index: %d", c.Leaves),
		fmt.Sprintf("audit records: %d, log entries about them: %d, not covered yet: %d", c.Records, c.Anchors, c.Uncovered),
		fmt.Sprintf("finished operations: %d, kept bundles: %d and %d found elsewhere", c.Operations, c.Bundles, c.Foreign),
		fmt.Sprintf("managed objects, tokens and keys: %d", c.Objects),
	}
	if c.Behind > 0 {
		lines[0] += fmt.Sprintf(", %d to come at the next start", c.Behind)
	}
	if c.Unsealed > 0 {
		lines[2] += fmt.Sprintf("; %d operations are older than the seals of the journal", c.Unsealed)
	}
	return lines
}
