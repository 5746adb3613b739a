package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/server/api"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// errAudit says that the log does not prove itself; what is wrong was printed.
var errAudit = errors.New("the log is damaged")

func (a *app) logCommand() *cobra.Command {
	cmd := group("log", "Read and audit the transparency log")
	cmd.AddCommand(
		&cobra.Command{
			Use:   "checkpoint",
			Short: "Print the newest checkpoint",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				note, err := client.Checkpoint(cmd.Context())
				if err != nil {
					return err
				}
				_, err = a.out.Write(note)
				return err
			},
		},
		a.logEntryCommand(), a.logAuditCommand(),
	)
	return cmd
}

func (a *app) logEntryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "entry INDEX",
		Short: "Print an entry with a fresh inclusion proof (JSON)",
		Args:  exactArgs("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || index < 0 {
				return usagef("INDEX: want a number from 0 on")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			entry, err := client.LogEntry(cmd.Context(), index)
			if err != nil {
				return err
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, entry, "", "  "); err != nil {
				return fmt.Errorf("reading the entry: %w", err)
			}
			_, err = fmt.Fprintln(a.out, pretty.String())
			return err
		},
	}
}

// auditFlags say which log is audited and what is believed about it.
type auditFlags struct {
	dataDir, url, root, from string
}

func (a *app) logAuditCommand() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Re-prove the whole log from its stored bytes",
		Long: "Recomputes every leaf, tile and the checkpoint, from a data folder (also one\n" +
			"that is in use) or from a URL. --from names an older checkpoint that the log must\n" +
			"still contain. Exit code 0 when everything proves, 3 when something does not.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := a.auditConfig(cmd.Context(), f)
			if err != nil {
				return err
			}
			report, err := sequencer.Audit(cmd.Context(), config)
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

func (a *app) auditConfig(ctx context.Context, f auditFlags) (sequencer.AuditConfig, error) {
	var config sequencer.AuditConfig
	if (f.dataDir == "") == (f.url == "") {
		return config, usagef("name one of --data-dir and --url")
	}
	if f.dataDir != "" {
		config.Dir = filepath.Join(f.dataDir, "log")
		f.root = firstOf(f.root, filepath.Join(f.dataDir, "trusted_root.json"))
	} else {
		client, err := api.NewClient(f.url, "")
		if err != nil {
			return config, usagef("%v", err)
		}
		config.Fetch = fetchLog(client)
	}
	root, err := a.auditRoot(ctx, f)
	if err != nil {
		return config, err
	}
	parsed, err := trust.ParseTrustedRoot(root)
	if err != nil {
		return config, usagef("%s: %v", f.root, err)
	}
	if len(parsed.Logs) != 1 {
		return config, usagef("%s: want exactly one log", f.root)
	}
	config.Origin, config.Public = parsed.Logs[0].Origin, parsed.Logs[0].Public
	if f.from != "" {
		if config.From, err = os.ReadFile(f.from); err != nil {
			return config, usagef("%v", err)
		}
	}
	return config, nil
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
	client, err := api.NewClient(f.url, "")
	if err != nil {
		return nil, usagef("%v", err)
	}
	fmt.Fprintln(a.err, "warning: believing the trusted root that the server gives; name a kept one with --trusted-root")
	return client.TrustedRoot(ctx)
}

// fetchLog reads a log over HTTP by the paths of its folder.
func fetchLog(client *api.Client) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, path string) ([]byte, error) {
		if path == "checkpoint" {
			return client.Checkpoint(ctx)
		}
		tile, err := client.Tile(ctx, path)
		var problem *api.Problem
		if errors.As(err, &problem) && problem.Status == 404 {
			return nil, fmt.Errorf("%w: %s", os.ErrNotExist, path)
		}
		return tile, err
	}
}

func (a *app) printAudit(report sequencer.Report) error {
	return a.print(report, func() string {
		if len(report.Problems) == 0 {
			return fmt.Sprintf("clean: %d entries, root %s", report.Size, report.Root)
		}
		rows := make([][]string, 0, len(report.Problems))
		for _, p := range report.Problems {
			rows = append(rows, []string{p.Where, p.What})
		}
		return fmt.Sprintf("%d problem(s) in %d entries\n\n%s", len(report.Problems), report.Size, a.grid([]string{"WHERE", "WHAT"}, rows))
	})
}
