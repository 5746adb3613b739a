package monitor_test

import (
	"context"
	"testing"

	"github.com/countersign/countersign/tlog/monitor"
)

// TestMovedLog: a log goes on in a new shard, and the URL where the one before was
// found serves the next one now. It is found at the place that it has moved to,
// here and at a mirror, without an alarm; where nobody knows of another place, the
// foreign checkpoint is one.
func TestMovedLog(t *testing.T) {
	old, next := newServed(t).add(entries(0, 3)...), newServed(t)
	next.origin = "shard-2-00000000." + origin
	next.add(entries(3, 2)...)
	root, shard1, shard2, mirror, mirrored := next.source(), old.source(), next.source(), next.source(), old.source()
	before := monitor.Log{Verifier: old.verifier(), Source: root, Also: []monitor.Source{mirror}}
	after := []monitor.Log{
		{Verifier: old.verifier(), Source: shard1, Also: []monitor.Source{mirrored}},
		{Verifier: next.verifier(), Source: shard2},
	}
	w := newWatched(t, old, "")
	w.cfg.Logs = nil
	found := 0
	w.cfg.Find = func(context.Context) ([]monitor.Log, error) {
		if found++; found == 1 {
			return []monitor.Log{before}, nil
		}
		return after, nil
	}
	w.expect("the log moved after it was found")
	w.expect("both shards")

	// The mirror alone is behind its move.
	before.Source = shard1
	found = 0
	w.expect("the mirror moved after it was found")

	w.cfg.Find = func(context.Context) ([]monitor.Log, error) { return []monitor.Log{before}, nil }
	w.expect("the mirror serves another log", monitor.BadCheckpoint)
	before.Source, before.Also = root, nil
	w.expect("another log is served, and nobody knows of a move", monitor.BadCheckpoint)
}
