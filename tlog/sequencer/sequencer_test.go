package sequencer_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

func TestAppendProvesInclusion(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	for i, body := range (forge{newKey(t)}).bodies(t, 3) {
		entry, err := s.Append(t.Context(), body)
		if err != nil {
			t.Fatal(err)
		}
		if entry.GetLogIndex() != int64(i) {
			t.Errorf("index %d, want %d", entry.GetLogIndex(), i)
		}
		if err := verify(entry, body, l.key.Public()); err != nil {
			t.Error(err)
		}
		again, err := s.Entry(t.Context(), uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(again, body, l.key.Public()); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Entry(t.Context(), 3); !errors.Is(err, sequencer.ErrNotFound) {
		t.Errorf("entry outside the log: %v", err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// Two hundred concurrent appends share batches and checkpoints, and each gets
// a proof of its own.
func TestAppendConcurrently(t *testing.T) {
	const n = 200
	l := newTestLog(t)
	s := l.open(t)
	bodies := (forge{newKey(t)}).bodies(t, n)
	var mu sync.Mutex
	indices := make(map[int64]bool)
	checkpoints := make(map[string]int)
	var group errgroup.Group
	for _, body := range bodies {
		group.Go(func() error {
			entry, err := s.Append(t.Context(), body)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			indices[entry.GetLogIndex()] = true
			checkpoints[entry.GetInclusionProof().GetCheckpoint().GetEnvelope()]++
			return verify(entry, body, l.key.Public())
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(indices) != n {
		t.Errorf("%d distinct indices for %d bodies", len(indices), n)
	}
	if len(checkpoints) > n/10 {
		t.Errorf("%d checkpoints for %d appends: batches are not shared", len(checkpoints), n)
	}
	if report := l.audit(t, nil); !report.Sound() || report.Size != n {
		t.Errorf("audit: %+v", report)
	}
}

// The same body has one index, however often and however concurrently it is
// appended, and across a restart.
func TestAppendOnce(t *testing.T) {
	l := newTestLog(t)
	bodies := (forge{newKey(t)}).bodies(t, 20)
	index := make([]int64, len(bodies))
	appendAll := func(s *sequencer.Sequencer, check func(i int, index int64) bool) {
		t.Helper()
		var group errgroup.Group
		for i, body := range bodies {
			for range 5 {
				group.Go(func() error {
					entry, err := s.Append(t.Context(), body)
					if err != nil {
						return err
					}
					if !check(i, entry.GetLogIndex()) {
						t.Errorf("body %d has index %d now", i, entry.GetLogIndex())
					}
					return verify(entry, body, l.key.Public())
				})
			}
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	first := l.open(t)
	var mu sync.Mutex
	known := make(map[int]int64)
	appendAll(first, func(i int, at int64) bool {
		mu.Lock()
		defer mu.Unlock()
		if old, ok := known[i]; ok && old != at {
			return false
		}
		known[i], index[i] = at, at
		return true
	})
	before, err := first.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, first)

	second := l.open(t)
	appendAll(second, func(i int, at int64) bool { return index[i] == at })
	if size, _ := second.Size(t.Context()); size != uint64(len(bodies)) {
		t.Errorf("%d entries for %d bodies", size, len(bodies))
	}
	if report := l.audit(t, before); !report.Sound() {
		t.Errorf("audit: %+v", report)
	}
}

// The leaf index is only a cache: without it the log finds its entries again.
func TestLeafIndexIsRebuilt(t *testing.T) {
	l := newTestLog(t)
	bodies := (forge{newKey(t)}).bodies(t, 300)
	s := l.open(t)
	index := appendEach(t, s, bodies)
	closeLog(t, s)

	l.leaves = openLeaves(t, t.TempDir()+"/fresh.db")
	s = l.open(t)
	for i, at := range appendEach(t, s, bodies) {
		if at != index[i] {
			t.Fatalf("body %d moved from %d to %d", i, index[i], at)
		}
	}
}

func appendEach(t testing.TB, s *sequencer.Sequencer, bodies [][]byte) []int64 {
	t.Helper()
	index := make([]int64, len(bodies))
	var group errgroup.Group
	for i, body := range bodies {
		group.Go(func() error {
			entry, err := s.Append(t.Context(), body)
			if err == nil {
				index[i] = entry.GetLogIndex()
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return index
}

func TestAppendRefuses(t *testing.T) {
	s := newTestLog(t).open(t)
	if _, err := s.Append(t.Context(), make([]byte, limits.LogEntry+1)); !errors.Is(err, sequencer.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := s.Append(t.Context(), []byte(`{"kind":"other"}`)); !errors.Is(err, tlog.ErrBody) {
		t.Errorf("not an entry: %v", err)
	}
	body := (forge{newKey(t)}).body(t, 1)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Append(gone, body); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// Control: the work went on, and the body can be appended again.
	entry, err := s.Append(t.Context(), body)
	if err != nil || entry.GetLogIndex() != 0 {
		t.Errorf("after a cancelled append: %v, %v", entry, err)
	}
	closeLog(t, s)
	if _, err := s.Append(t.Context(), body); !errors.Is(err, sequencer.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// Close publishes what is under way.
func TestCloseDrains(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	bodies := (forge{newKey(t)}).bodies(t, 50)
	var group errgroup.Group
	started := make(chan struct{}, len(bodies))
	for _, body := range bodies {
		group.Go(func() error {
			started <- struct{}{}
			_, err := s.Append(t.Context(), body)
			if errors.Is(err, sequencer.ErrClosed) {
				return nil
			}
			return err
		})
	}
	for range bodies {
		<-started
	}
	closeLog(t, s)
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if report := l.audit(t, nil); !report.Sound() {
		t.Errorf("audit: %+v", report)
	}
}
