package sequencer_test

import (
	"errors"
	"testing"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

// TestWitnessedRotation: a witnessed log goes on in a shard whose witness has
// cosigned its empty tree. Until then, also after a restart, the next shard is
// only prepared and the one before goes on.
func TestWitnessedRotation(t *testing.T) {
	l := newShardedLog(t)
	f := forge{newKey(t)}
	var known []string
	for i := range 2 {
		cfg := &l.configs[i]
		var err error
		if cfg.Origin, err = tlog.ShardOrigin(origin, i+1, cfg.Signer.Public()); err != nil {
			t.Fatal(err)
		}
		known = append(known, must[string](t)(tlog.MarshalVerifierKey(cfg.Origin, cfg.Signer.Public())))
	}
	w := newWitnessOf(t, "a.example.com", known[0])
	l.configs[0].Witnesses = witnesses(t, 1, false, w)
	l.configs[1].Witnesses = l.configs[0].Witnesses
	log := l.open(t, 1)
	bodies := f.bodies(t, 2)
	first := appendOne(t, log, bodies[0])
	if err := log.AwaitWitnessed(t.Context()); err != nil {
		t.Errorf("nothing is prepared: %v", err)
	}
	if err := log.Prepare(t.Context(), l.configs[1]); err != nil {
		t.Fatal(err)
	}
	waits := func(stage string) {
		t.Helper()
		if err := log.AwaitWitnessed(t.Context()); !errors.Is(err, sequencer.ErrUnwitnessed) {
			t.Errorf("%s: %v", stage, err)
		}
		if again := appendOne(t, log, bodies[0]); place(again) != place(first) {
			t.Errorf("%s: at %s, was at %s", stage, place(again), place(first))
		}
	}
	waits("the witness knows one shard")
	closeShards(t, log)
	log = l.open(t, 2)
	waits("restarted")

	w.knows(t, known...)
	eventually(t, "the next shard is not cosigned", func() bool { return log.AwaitWitnessed(t.Context()) == nil })
	log.Switch()
	if err := log.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := appendOne(t, log, bodies[1])
	for i, entry := range []string{
		first.GetInclusionProof().GetCheckpoint().GetEnvelope(), second.GetInclusionProof().GetCheckpoint().GetEnvelope(),
	} {
		if got := tlog.OriginLine([]byte(entry)); got != l.configs[i].Origin || cosignatures(t, []byte(entry), w) != 1 {
			t.Errorf("shard %d: not cosigned, or of another origin:\n%s", i+1, entry)
		}
		if got, err := sequencer.OriginOf(l.configs[i].Dir); err != nil || got != l.configs[i].Origin {
			t.Errorf("shard %d is of %q, %v", i+1, got, err)
		}
	}
	if shards := log.Shards(); len(shards) != 2 || shards[0].State != sequencer.Frozen || shards[1].State != sequencer.Active {
		t.Errorf("shards: %+v", shards)
	}
}

// TestOneOriginIsRefused is what a witness does with a new shard under the origin
// of the one before, whose key it knows, too: shards have origins of their own
// for this reason.
func TestOneOriginIsRefused(t *testing.T) {
	l := newShardedLog(t)
	f := forge{newKey(t)}
	var known []string
	for i := range 2 {
		known = append(known, must[string](t)(tlog.MarshalVerifierKey(origin, l.configs[i].Signer.Public())))
	}
	w := newWitnessOf(t, "a.example.com", known...)
	l.configs[0].Witnesses = witnesses(t, 1, false, w)
	l.configs[1].Witnesses = l.configs[0].Witnesses
	log := l.open(t, 1)
	appendOne(t, log, f.body(t, 0))
	if err := log.Prepare(t.Context(), l.configs[1]); !errors.Is(err, sequencer.ErrRollback) {
		t.Errorf("an empty tree under the origin of another: %v", err)
	}
	appendOne(t, log, f.body(t, 1))
}
