package monitor_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/monitor"
	"github.com/countersign/countersign/tlog/witness"
)

var (
	forks = flag.Int("forks", 25, "how many random forks and old snapshots are tried")
	seed  = flag.Uint64("seed", 0, "seed of the forks; 0 draws one")
)

// TestForks is row B8 as a figure: random forks and old snapshots, each shown to
// two witnesses, with the best proof that whoever forked can make, and to a monitor
// that reads the log and a mirror. All are found by each of the three, in the first
// look; the honest log, before and after, is the control.
func TestForks(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 0))
	nodes := []*cosigner{newCosigner(t, "w1"), newCosigner(t, "w2")}
	found := map[string]int{}
	var slowest time.Duration
	for n := range *forks {
		f := newForked(t, rng, fmt.Sprintf("log-%d.example.com", n), nodes)
		what := f.inject()
		began := time.Now()
		by := f.detect()
		slowest = max(slowest, time.Since(began))
		for _, who := range by {
			found[who]++
		}
		if len(by) != len(nodes)+1 {
			t.Errorf("fork %d of seed %d, %s: found by %v alone", n, *seed, what, by)
		}
		f.repair()
	}
	t.Logf("%d forks and old snapshots, found by %v, the slowest in %v", *forks, found, slowest)
}

// cosigner is a witness's key and store: one state for each log.
type cosigner struct {
	key *witness.Key
	db  *store.DB
}

func newCosigner(t testing.TB, name string) *cosigner {
	t.Helper()
	dir := t.TempDir()
	key, err := witness.OpenKey(filepath.Join(dir, "witness.key"), "witness.example.com/"+name)
	must(t, err)
	db, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "witness.db"))
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return &cosigner{key, db}
}

// forked is one log with a mirror, followed by a monitor and witnesses.
type forked struct {
	t         testing.TB
	rng       *rand.Rand
	log       *served
	mirror    *served
	monitor   *watched
	witnesses []*witness.Witness
	// shown is what at, one of the two places, serves instead.
	shown, at *served
}

func newForked(t testing.TB, rng *rand.Rand, origin string, nodes []*cosigner) *forked {
	t.Helper()
	f := &forked{t: t, rng: rng, log: newServed(t)}
	f.log.origin = origin
	vkey, err := tlog.MarshalVerifierKey(origin, f.log.key.Public())
	must(t, err)
	logs, err := witness.ParseLogs(vkey)
	must(t, err)
	for _, n := range nodes {
		w, err := witness.New(witness.Config{Logs: logs, Key: n.key, Objects: n.db.Objects()})
		must(t, err)
		f.witnesses = append(f.witnesses, w)
	}
	f.mirror = f.log.fork(0)
	f.monitor = newWatched(t, f.log, "", f.mirror.source())
	f.honest(1 + rng.IntN(300))
	f.honest(1 + rng.IntN(300))
	return f
}

// honest grows the log, which everybody must take.
func (f *forked) honest(n int) {
	f.t.Helper()
	old := uint64(len(f.log.entries))
	f.log.add(f.fresh(n)...)
	f.mirror.replace(f.log)
	for i, w := range f.witnesses {
		if err := f.ask(w, f.log, old); err != nil {
			f.t.Fatalf("witness %d does not cosign an honest log: %v", i+1, err)
		}
	}
	f.monitor.expect("honest")
}

// fresh are entries that no tree has.
func (f *forked) fresh(n int) [][]byte {
	out := make([][]byte, 0, n)
	for range n {
		out = append(out, fmt.Appendf(nil, "entry %d", f.rng.Uint64()))
	}
	return out
}

// ask has a witness cosign a log as it is served, as a continuation of old
// entries.
func (f *forked) ask(w *witness.Witness, l *served, old uint64) error {
	size := uint64(len(l.entries))
	r := tlog.WitnessRequest{OldSize: old, Checkpoint: l.get("checkpoint")}
	if old > 0 && old < size {
		tree := testonly.New(rfc6962.DefaultHasher)
		tree.AppendData(l.entries...)
		proof, err := tree.ConsistencyProof(old, size)
		must(f.t, err)
		r.Proof = proof
	}
	_, err := w.AddCheckpoint(f.t.Context(), r)
	return err
}

// inject has the log or its mirror serve what was never the log's, or what is
// not any more, and says what.
func (f *forked) inject() string {
	n := len(f.log.entries)
	k := f.rng.IntN(n) // entries in common
	var what string
	switch f.rng.IntN(5) {
	case 0:
		f.shown, what = f.log.fork(k).add(), "an old snapshot"
	case 1:
		f.shown, what = f.log.fork(k).add(f.fresh(n-k)...), "a fork of one size"
	case 2:
		f.shown, what = f.log.fork(k).add(f.fresh(n-k+1+f.rng.IntN(300))...), "a fork that went on"
	case 3:
		f.shown, what = f.log.fork(k).add(f.fresh(1+f.rng.IntN(n-k))...), "a fork that is behind"
	case 4:
		f.shown, what = f.log.fork(n).add(), "a root that nothing makes"
		root := make([]byte, 32)
		for i := range root {
			root[i] = byte(f.rng.Uint32())
		}
		f.shown.put("checkpoint", f.shown.sign(uint64(n), root))
	}
	place := "the mirror"
	if f.at = f.mirror; f.rng.IntN(2) == 0 {
		f.at, place = f.log, "the log"
	}
	f.at.replace(f.shown)
	return fmt.Sprintf("%s of %d entries, %d in common with %d, at %s", what, len(f.shown.entries), k, n, place)
}

// detect says who refuses it. A witness is asked as from its own state and as from
// the size that whoever forked would like it to be in.
func (f *forked) detect() (by []string) {
	f.t.Helper()
	n, size := uint64(len(f.log.entries)), uint64(len(f.shown.entries))
	for i, w := range f.witnesses {
		refused := true
		for _, old := range []uint64{n, size, 0} {
			refused = refused && f.ask(w, f.shown, old) != nil
		}
		if refused {
			by = append(by, fmt.Sprintf("witness %d", i+1))
		}
	}
	for _, kind := range f.monitor.pass() {
		if kind == monitor.SplitView || kind == monitor.OlderCheckpoint {
			return append(by, "monitor")
		}
	}
	return by
}

// repair serves the honest log again, which goes on.
func (f *forked) repair() {
	f.t.Helper()
	f.at.replace(f.log.fork(len(f.log.entries)).add())
	f.honest(1 + f.rng.IntN(10))
}

// replace serves what another log has.
func (s *served) replace(other *served) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = maps.Clone(other.files)
}
