package sequencer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
)

var errInjected = errors.New("injected")

// failing wraps a real leaf index. It fails what it is told to, once having
// had no effect and once after its effect, as the interface allows only for a
// context's error and reality does not promise.
type failing struct {
	store.Leaves
	findFails   atomic.Int32
	recordFails atomic.Int32
	persist     atomic.Bool
}

func (f *failing) Find(ctx context.Context, leaf []byte) (uint64, bool, error) {
	if f.findFails.Add(-1) >= 0 {
		return 0, false, errInjected
	}
	return f.Leaves.Find(ctx, leaf)
}

func (f *failing) Record(ctx context.Context, first uint64, hashes [][]byte) error {
	if f.recordFails.Add(-1) < 0 {
		return f.Leaves.Record(ctx, first, hashes)
	}
	if f.persist.Load() {
		return errors.Join(errInjected, f.Leaves.Record(ctx, first, hashes))
	}
	return errInjected
}

// An index that fails for a while delays appends; nobody is told a lie and
// nothing is logged twice.
func TestLeafIndexFails(t *testing.T) {
	for _, persist := range []bool{false, true} {
		l := newTestLog(t)
		faults := &failing{Leaves: l.leaves}
		faults.persist.Store(persist)
		l.leaves = faults
		s := l.open(t)
		bodies := (forge{newKey(t)}).bodies(t, 30)
		faults.recordFails.Store(3)
		appendEach(t, s, bodies[:20])

		faults.findFails.Store(1)
		if _, err := s.Append(t.Context(), bodies[20]); !errors.Is(err, errInjected) {
			t.Errorf("index cannot be asked: %v", err)
		}
		appendEach(t, s, bodies)
		if report := l.audit(t, nil); !report.Sound() || report.Size != uint64(len(bodies)) {
			t.Errorf("persist %v: %+v", persist, report)
		}
	}
}

// While the index cannot be written, entries are in the tree but nobody is
// answered; Close gives up with its context, and the next Open finishes the
// work.
func TestCloseGivesUpWithItsContext(t *testing.T) {
	l := newTestLog(t)
	real := l.leaves
	faults := &failing{Leaves: real}
	l.leaves = faults
	s := l.open(t)
	body := (forge{newKey(t)}).body(t, 1)
	faults.recordFails.Store(1 << 30)
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if entry, err := s.Append(ctx, body); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("append was answered without its index: %v, %v", entry, err)
	}
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	l.leaves = real
	s = l.open(t)
	entry, err := s.Append(t.Context(), body)
	if err != nil || entry.GetLogIndex() != 0 {
		t.Errorf("after the restart: %v, %v", entry, err)
	}
	if size, _ := s.Size(t.Context()); size != 1 {
		t.Errorf("%d entries for one body", size)
	}
}

// A storage directory that cannot be written fails appends and heals.
func TestStorageFails(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	f := forge{newKey(t)}
	appendEach(t, s, f.bodies(t, 5))
	// The driver makes bundle files in a directory of the first bundle's name;
	// a file in its place refuses them, also to root.
	moveAside(t, l, "tile/entries/000.p")
	l.write(t, "tile/entries/000.p", nil)
	if entry, err := s.Append(t.Context(), f.body(t, 100)); err == nil || errors.Is(err, sequencer.ErrStopped) {
		t.Errorf("append without storage: %v, %v", entry, err)
	}
	remove(t, l, "tile/entries/000.p")
	moveBack(t, l, "tile/entries/000.p")
	entry, err := s.Append(t.Context(), f.body(t, 100))
	if err != nil || entry.GetLogIndex() != 5 {
		t.Errorf("after healing: %v, %v", entry, err)
	}
	if report := l.audit(t, nil); !report.Sound() {
		t.Errorf("audit: %+v", report)
	}
}
