package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/server/api"
)

func (a *app) logSearchCommand() *cobra.Command {
	var f api.LogFilter
	var since, until string
	cmd := listCommand(a, "Find entries of the log, newest first",
		func(ctx context.Context, c *api.Client, o api.ListOptions) (l api.LogSearch, err error) {
			if f.Digest == "" && f.Identity == "" && f.Key == "" {
				return l, usagef("name at least one of --digest, --identity and --key")
			}
			f.ListOptions = o
			if f.Since, err = instant("--since", since); err != nil {
				return l, err
			}
			if f.Until, err = instant("--until", until); err != nil {
				return l, err
			}
			return c.SearchLog(ctx, f)
		},
		func(l api.LogSearch) string { return l.NextCursor }, a.logSearchTable)
	cmd.Use = "search"
	cmd.Long = "Finds entries by what was signed, by whom, or with which key. What is named must\n" +
		"match as a whole, all of it. An answer tells where an entry stands; `log entry\n" +
		"INDEX --log-id ID` proves it."
	flags := cmd.Flags()
	flags.StringVar(&f.Digest, "digest", "", "digest of an artifact, or of the bytes that were signed")
	flags.StringVar(&f.Identity, "identity", "", "name in the certificate")
	flags.StringVar(&f.Issuer, "issuer", "", "issuer in the certificate; with --identity")
	flags.StringVar(&f.Key, "key", "", "key id: SHA-256 of the public key, in hexadecimal")
	flags.StringVar(&since, "since", "", "only entries whose time is not before this (RFC 3339)")
	flags.StringVar(&until, "until", "", "only entries whose time is before this (RFC 3339)")
	return cmd
}

func instant(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, usagef("%s: want a time such as 2026-11-25T08:00:00Z", flag)
	}
	return t, nil
}

func (a *app) logSearchTable(l api.LogSearch) string {
	rows := make([][]string, 0, len(l.Items))
	for _, i := range l.Items {
		who := "key " + short(i.KeyID)
		if i.Identity != nil {
			who = i.Identity.Issuer + " " + i.Identity.Subject
		}
		subject := short(i.Digest) + " (signed bytes)"
		if len(i.Subjects) > 0 {
			subject = short(i.Subjects[0])
		}
		if len(i.Subjects) > 1 {
			subject += fmt.Sprintf(" and %d more", len(i.Subjects)-1)
		}
		rows = append(rows, []string{strconv.Itoa(i.Shard), strconv.FormatInt(i.LogIndex, 10), moment(&i.Time), i.TimeSource, who, subject, short(i.LogID)})
	}
	out := a.grid([]string{"SHARD", "INDEX", "TIME", "WHICH IS", "WHO", "SUBJECT", "LOG ID"}, rows)
	for _, p := range l.IndexedTo {
		if p.Size < p.Published {
			out += fmt.Sprintf("\nshard %d is searched up to entry %d of %d", p.Shard, p.Size, p.Published)
		}
	}
	return out
}

func (a *app) logConsistencyCommand() *cobra.Command {
	var from, to uint64
	var logID string
	cmd := &cobra.Command{
		Use:   "consistency --from SIZE",
		Short: "Print the proof that one tree of the log is the beginning of another",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("from") {
				return usagef("--from is required")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			proof, err := client.LogConsistency(cmd.Context(), logID, from, to)
			if err != nil {
				return err
			}
			return a.print(proof, func() string {
				return fmt.Sprintf("%d entries  root %s\n%d entries  root %s\n%s", proof.From, proof.FromRoot, proof.To, proof.ToRoot, strings.Join(proof.Hashes, "\n"))
			})
		},
	}
	flags := cmd.Flags()
	flags.Uint64Var(&from, "from", 0, "size of the smaller tree")
	flags.Uint64Var(&to, "to", 0, "size of the larger tree (default: the published one)")
	flags.StringVar(&logID, "log-id", "", "hexadecimal id of the shard, as answers name it (default: the shard that is written)")
	return cmd
}

// reindexed says how far the index reaches.
type reindexed struct {
	Entries uint64           `json:"entries"`
	Shards  []api.LogIndexed `json:"shards"`
}

func (a *app) logReindexCommand() *cobra.Command {
	var dataDir, database string
	cmd := &cobra.Command{
		Use:   "reindex",
		Short: "Rebuild the search index from the log's tiles",
		Long: "Rebuilds what `log search` answers from, while no service runs on the data folder.\n" +
			"Every entry is proven under the signed checkpoint. It may be stopped and repeated.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dataDir := firstOf(dataDir, a.getenv(envName("data-dir")))
			if dataDir == "" {
				return usagef("--data-dir is required")
			}
			bar := a.startProgress(cmd.Context(), "indexing")
			done, err := daemon.Reindex(cmd.Context(), dataDir, firstOf(database, a.getenv(envName("database"))), bar.at)
			bar.end()
			if err != nil {
				return err
			}
			report := reindexed{Shards: []api.LogIndexed{}}
			for _, p := range done {
				report.Entries += p.Indexed
				report.Shards = append(report.Shards, api.LogIndexed{Shard: p.Shard, LogID: hex.EncodeToString(p.LogID), Size: p.Indexed, Published: p.Published})
			}
			return a.print(report, func() string {
				return fmt.Sprintf("%d entries of %d shard(s) are indexed", report.Entries, len(report.Shards))
			})
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "data folder of the service (COUNTERSIGN_DATA_DIR)")
	cmd.Flags().StringVar(&database, "database", "", "postgres:// URL of the database, if the service has one (COUNTERSIGN_DATABASE)")
	return cmd
}
