package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// errAudit says that the log does not prove itself; what is wrong was printed.
var errAudit = errors.New("the log is damaged")

// auditFlags say which log is audited and what is believed about it.
type auditFlags struct {
	dataDir, url, root, from string
}

// fetch reads a file of a log by its path in the tlog-tiles layout; one that is
// not there is os.ErrNotExist.
type fetch func(ctx context.Context, path string) ([]byte, error)

// shardReport is the report about one shard.
type shardReport struct {
	Shard int    `json:"shard"`
	LogID string `json:"logId"`
	sequencer.Report
}

// logReport is the report about the log: what its shards' say together, with
// the root of the last one.
type logReport struct {
	sequencer.Report
	Shards []shardReport `json:"shards"`
}

func (r *logReport) add(one shardReport) {
	r.Shards = append(r.Shards, one)
	r.Size, r.Root = r.Size+one.Size, one.Root
	r.Duplicates = append(r.Duplicates, one.Duplicates...)
	for _, p := range one.Problems {
		if one.Shard > 1 {
			p.Where = fmt.Sprintf("shard %d: %s", one.Shard, p.Where)
		}
		r.Problems = append(r.Problems, p)
	}
}

func (a *app) logAuditCommand() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Re-prove the whole log from its stored bytes",
		Long: "Recomputes every leaf, tile and the checkpoint of each shard, from a data folder\n" +
			"(also one that is in use) or from a URL. --from names an older checkpoint that the\n" +
			"log must still contain. Exit code 0 when everything proves, 3 when something does not.",
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
	flags.StringVar(&f.url, "url", "", "URL of the service")
	flags.StringVar(&f.root, "trusted-root", "", "trusted_root.json to believe (default: the data folder's, or the one the URL gives)")
	flags.StringVar(&f.from, "from", "", "file with an older checkpoint")
	return cmd
}

// audit examines the shard of each log that the trusted root names: they stand
// there oldest first.
func (a *app) audit(ctx context.Context, f auditFlags) (logReport, error) {
	var report logReport
	if (f.dataDir == "") == (f.url == "") {
		return report, usagef("name one of --data-dir and --url")
	}
	logs, err := a.auditedLogs(ctx, f)
	if err != nil {
		return report, err
	}
	shard := folderShards(f.dataDir)
	if f.url != "" {
		client, err := a.stranger(f.url)
		if err != nil {
			return report, usagef("%v", err)
		}
		shard = servedShards(client)
	}
	from, of, err := olderCheckpoint(f.from, logs)
	if err != nil {
		return report, err
	}
	for i, log := range logs {
		config := sequencer.AuditConfig{Fetch: shard(i + 1), Origin: log.Origin, Public: log.Public}
		if i == of {
			config.From = from
		}
		one, err := sequencer.Audit(ctx, config)
		if err != nil {
			return report, fmt.Errorf("shard %d: %w", i+1, err)
		}
		report.add(shardReport{Shard: i + 1, LogID: hex.EncodeToString(log.ID), Report: one})
	}
	unknown, err := unaudited(ctx, shard(len(logs)+1), len(logs)+1)
	report.Problems = append(report.Problems, unknown...)
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

// folderShards reads the shards of a data folder: log, log-2 and so on.
func folderShards(dataDir string) func(int) fetch {
	return func(number int) fetch {
		dir := filepath.Join(dataDir, "log")
		if number > 1 {
			dir += "-" + strconv.Itoa(number)
		}
		return func(_ context.Context, path string) ([]byte, error) {
			return os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
		}
	}
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

func (a *app) printAudit(report logReport) error {
	return a.print(report, func() string {
		var lines []string
		var rows [][]string
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
		for _, p := range report.Problems {
			rows = append(rows, []string{p.Where, p.What})
		}
		if len(rows) > 0 {
			lines = append(lines, "", a.grid([]string{"WHERE", "WHAT"}, rows))
		}
		return strings.Join(lines, "\n")
	})
}
