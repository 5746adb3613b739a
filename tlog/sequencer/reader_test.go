package sequencer_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

func (l *testLog) reader(t *testing.T) *sequencer.Reader {
	t.Helper()
	r, err := sequencer.NewReader(l.dir, origin, l.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readAll reads a log through a reader, bundle by bundle.
func readAll(t *testing.T, r *sequencer.Reader) ([][]byte, error) {
	t.Helper()
	cp, _, err := r.Head(t.Context())
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for uint64(len(all)) < cp.Size {
		bodies, err := r.Entries(t.Context(), uint64(len(all)))
		if err != nil {
			return all, err
		}
		all = append(all, bodies...)
	}
	return all, nil
}

func TestReaderFollows(t *testing.T) {
	l := newTestLog(t)
	s, r := l.open(t), l.reader(t)
	if _, err := r.Entries(t.Context(), 0); !errors.Is(err, sequencer.ErrNotFound) {
		t.Errorf("before the first checkpoint: %v", err)
	}
	bodies := (forge{newKey(t)}).bodies(t, 300)
	for _, part := range [][][]byte{bodies[:3], bodies[3:300]} {
		appendEach(t, s, part)
		read, err := readAll(t, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range part {
			found := 0
			for _, got := range read {
				if bytes.Equal(got, want) {
					found++
				}
			}
			if found != 1 {
				t.Fatalf("an entry was read %d times", found)
			}
		}
	}
	if _, err := r.Entries(t.Context(), 300); !errors.Is(err, sequencer.ErrNotFound) {
		t.Errorf("beyond the checkpoint: %v", err)
	}
}

// Row B5: bytes that do not lead to the signed root are not answered, also when
// entry and tile were changed together.
func TestReaderRefusesAlteredBytes(t *testing.T) {
	swap := func(raw []byte, a, b, n int) {
		first := bytes.Clone(raw[a : a+n])
		copy(raw[a:], raw[b:b+n])
		copy(raw[b:], first)
	}
	for name, alter := range map[string]func(*testLog){
		"entry": func(l *testLog) { flip(t, l, "tile/entries/000", 100) },
		"tile":  func(l *testLog) { flip(t, l, "tile/0/000", 32*7) },
		"entry and tile": func(l *testLog) {
			raw := l.file(t, "tile/entries/000")
			raw[100] ^= 1
			l.write(t, "tile/entries/000", raw)
			leaves := l.file(t, "tile/0/000")
			copy(leaves, tlog.LeafHash(raw[2:2+int(raw[0])<<8+int(raw[1])]))
			l.write(t, "tile/0/000", leaves)
		},
		"tile above": func(l *testLog) { flip(t, l, "tile/1/000.p/2", 40) },
		"tiles changed places": func(l *testLog) {
			raw := l.file(t, "tile/1/000.p/2")
			swap(raw, 0, 32, 32)
			l.write(t, "tile/1/000.p/2", raw)
		},
		"short bundle": func(l *testLog) { l.write(t, "tile/entries/000", l.file(t, "tile/entries/000")[:5000]) },
	} {
		t.Run(name, func(t *testing.T) {
			l := grown(t, 600)
			if read, err := readAll(t, l.reader(t)); err != nil || len(read) != 600 {
				t.Fatalf("positive control: %d, %v", len(read), err)
			}
			alter(l)
			if read, err := readAll(t, l.reader(t)); !errors.Is(err, sequencer.ErrCorrupt) || len(read) > 0 {
				t.Errorf("%d entries, %v", len(read), err)
			}
		})
	}
}

func TestReaderRefusesCheckpoints(t *testing.T) {
	l := newTestLog(t)
	s, r := l.open(t), l.reader(t)
	forged := (forge{newKey(t)}).bodies(t, 8)
	appendEach(t, s, forged[:4])
	older := l.file(t, "checkpoint")
	if _, _, err := r.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendEach(t, s, forged[4:])
	if cp, _, err := r.Head(t.Context()); err != nil || cp.Size != 8 {
		t.Fatalf("control: %d, %v", cp.Size, err)
	}
	closeLog(t, s)
	l.write(t, "checkpoint", older)
	if _, _, err := r.Head(t.Context()); !errors.Is(err, sequencer.ErrRollback) {
		t.Errorf("an older checkpoint: %v", err)
	}
	l.write(t, "checkpoint", []byte("log.example.com\n9\n"))
	if _, _, err := r.Head(t.Context()); !errors.Is(err, tlog.ErrCheckpoint) {
		t.Errorf("an unsigned checkpoint: %v", err)
	}
	remove(t, l, "checkpoint")
	if _, _, err := r.Head(t.Context()); !errors.Is(err, sequencer.ErrNotFound) {
		t.Errorf("no checkpoint: %v", err)
	}
}

// TestConsistency: every pair of sizes, as a stranger verifies it.
func TestConsistency(t *testing.T) {
	l := newTestLog(t)
	s := l.open(t)
	const n = 270
	appendEach(t, s, (forge{newKey(t)}).bodies(t, n))
	r := l.reader(t)
	if _, _, err := r.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]uint64{{0, 0}, {0, 1}, {1, 1}, {1, 2}, {3, 7}, {255, 256}, {256, 257}, {1, n}, {257, n}, {n, n}, {n, 0}} {
		c, err := s.Consistency(t.Context(), pair[0], pair[1])
		if err != nil {
			t.Fatalf("%v: %v", pair, err)
		}
		if pair[1] == 0 && c.To != n {
			t.Errorf("%v leads to %d", pair, c.To)
		}
		for size, root := range map[uint64][]byte{c.From: c.FromRoot, c.To: c.ToRoot} {
			if want, err := r.Root(t.Context(), size); err != nil || !bytes.Equal(root, want) {
				t.Errorf("%v: root of %d: %v", pair, size, err)
			}
		}
		if c.From == 0 {
			continue
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, c.From, c.To, c.Hashes, c.FromRoot, c.ToRoot); err != nil {
			t.Errorf("%v: %v", pair, err)
		}
	}
	for pair, want := range map[[2]uint64]error{
		{5, 4}: sequencer.ErrRange, {n + 1, 0}: sequencer.ErrRange, {1, n + 1}: sequencer.ErrNotFound, {n + 1, n + 2}: sequencer.ErrNotFound,
	} {
		if _, err := s.Consistency(t.Context(), pair[0], pair[1]); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", pair, err, want)
		}
	}
	if _, err := r.Root(t.Context(), n+1); !errors.Is(err, sequencer.ErrNotFound) {
		t.Errorf("root beyond the tree: %v", err)
	}
}
