// Package examiner proves the data of a service again from what is stored: the
// log, the index of the log, every acknowledged signature, the audit journal,
// and the managed objects that the journal tells of.
//
// What holds it together: the journal's records are chained; hashes of them
// stand in the log (audit/anchor), which cannot be changed without its
// checkpoints contradicting each other; and the journal names the hash of each
// finished operation (signer.Seal) and of each document of a managed object.
// From a checkpoint that was kept elsewhere everything else follows.
//
// It reads and never writes. The service may run meanwhile: what is written
// after the examination began is not held against it. Memory does not grow with
// the log, the journal or the archive, but for a number for each managed object
// and, when something was found, for what was found.
//
// It refuses to call unknown what it could not read: an error means that the
// examination could not be done. What it cannot know without a witness is
// written in docs/log-audit.md.
package examiner

import (
	"context"
	"crypto"
	"encoding/hex"
	"fmt"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// Config says what to examine.
type Config struct {
	// Logs are the shards as they are believed, oldest first; Dir names the
	// folder of each by its number from 1.
	Logs []trust.Log
	Dir  func(shard int) string
	// From is an older checkpoint of the shard FromShard, counted from 0, or
	// nil.
	From      []byte
	FromShard int
	// Local holds the leaf index and the keys, Main all else; both may be one.
	Local, Main *store.DB
	// Journal are the public halves that anchor the journal.
	Journal []crypto.PublicKey
	// Ring reads the keys under their seals; nil leaves them unexamined.
	Ring *keys.Ring
	// Progress hears how far a part is; nil is nobody.
	Progress func(part string, done, total uint64)
}

// Shard is the report about one shard.
type Shard struct {
	Shard int    `json:"shard"`
	LogID string `json:"logId"`
	sequencer.Report
}

// Report is the outcome. Everything is sound when Problems is empty.
type Report struct {
	// Size is the number of entries of all shards, Root the last one's.
	Size       uint64                `json:"size"`
	Root       string                `json:"root"`
	Duplicates []sequencer.Duplicate `json:"duplicates"`
	Problems   []sequencer.Problem   `json:"problems"`
	// Truncated says that there are more problems than are listed.
	Truncated bool    `json:"truncated"`
	Shards    []Shard `json:"shards"`
	Counts    Counts  `json:"counts"`
	// NotChecked says in words what this examination did not look at.
	NotChecked []string `json:"notChecked"`
}

// Counts say how much was examined, and what stands without proof.
type Counts struct {
	// Leaves are the rows of the leaf index; Behind is how many entries it
	// lacks at its end, as after a crash: the next start adds them.
	Leaves int64 `json:"leaves"`
	Behind int64 `json:"behind"`
	// Records are those of the journal, Anchors the log entries about them.
	Records int64 `json:"records"`
	Anchors int64 `json:"anchors"`
	// Uncovered are the records at the end that no log entry covers yet.
	Uncovered int64 `json:"uncovered"`
	// Operations are the finished ones, Unsealed those that an older program
	// finished: their signatures are proven and not their other fields.
	Operations int64 `json:"operations"`
	Unsealed   int64 `json:"unsealed"`
	// Bundles are those that operations made, Foreign those that were found in
	// registries, whose removal nothing shows.
	Bundles int64 `json:"bundles"`
	Foreign int64 `json:"foreign"`
	// Objects are managed objects and keys.
	Objects int64 `json:"objects"`
}

// maxProblems bounds a report.
const maxProblems = 1000

// Sound reports whether nothing was found.
func (r *Report) Sound() bool { return len(r.Problems) == 0 && len(r.Duplicates) == 0 }

// Add notes a problem.
func (r *Report) Add(where, what string) {
	if len(r.Problems) >= maxProblems {
		r.Truncated = true
		return
	}
	r.Problems = append(r.Problems, sequencer.Problem{Where: where, What: what})
}

// AddShard takes a shard's report over.
func (r *Report) AddShard(one Shard) {
	r.Shards = append(r.Shards, one)
	r.Size, r.Root = r.Size+one.Size, one.Root
	r.Duplicates = append(r.Duplicates, one.Duplicates...)
	for _, p := range one.Problems {
		r.Add(ofShard(one.Shard)+p.Where, p.What)
	}
}

// ofShard begins where something is; the first shard is older than shards.
func ofShard(number int) string {
	if number == 1 {
		return ""
	}
	return fmt.Sprintf("shard %d: ", number)
}

// examination is one run.
type examination struct {
	Config
	report  Report
	local   store.Examination
	main    store.Examination
	entries *entries
	journal journal
	replay  *replay
	// counts is what the leaf index said of itself at the beginning.
	counts map[int]int64
}

// Examine examines everything. An error means that it could not be done; what
// is wrong is in the report.
func Examine(ctx context.Context, c Config) (Report, error) {
	e := &examination{
		Config: c, local: c.Local.Examine(), main: c.Main.Examine(),
		entries: newEntries(c), replay: newReplay(),
	}
	e.report.Duplicates, e.report.Problems, e.report.NotChecked = []sequencer.Duplicate{}, []sequencer.Problem{}, []string{}
	if e.Progress == nil {
		e.Progress = func(string, uint64, uint64) {}
	}
	var err error
	if e.journal, err = newJournal(c.Journal); err != nil {
		return Report{}, err
	}
	// The log comes first: whatever it tells of was written before it.
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"the log", e.shards}, {"the journal", e.records}, {"operations", e.operations}, {"kept bundles", e.bundles}, {"objects", e.objects},
	} {
		if err := part.do(ctx); err != nil {
			return Report{}, fmt.Errorf("examining %s: %w", part.name, err)
		}
	}
	return e.report, nil
}

func (e *examination) logOf(shard int) string { return hex.EncodeToString(e.Logs[shard-1].ID) }
