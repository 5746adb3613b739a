package sequencer

import (
	"bytes"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/tlog"
)

// guard signs checkpoints, but only such as extend the last one. The storage
// driver signs whatever .state/treeState says; this is where a state file that
// was changed or restored is found out before the key speaks.
type guard struct {
	note.Signer
	disk *disk
	// signed receives, without blocking, after each signature: the checkpoint
	// is about to appear on disk.
	signed chan struct{}
	// witness is nil without witnesses.
	witness *witnessing

	mu sync.Mutex
	// last is the newest checkpoint that was published or signed.
	last tlog.Checkpoint
	// open is false until Open has compared the tree with the leaf index.
	// Until then only the empty tree of a new log may be signed.
	open bool
	// refusal is why the last signature was refused, nil after one was made.
	refusal error
}

func newGuard(signer note.Signer, d *disk, last tlog.Checkpoint) *guard {
	return &guard{Signer: signer, disk: d, signed: make(chan struct{}, 1), last: last}
}

// Sign signs the text of a checkpoint if it extends the last one.
func (g *guard) Sign(text []byte) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	cp, err := g.check(text)
	if err != nil {
		g.refusal = err
		g.notify()
		return nil, err
	}
	sig, err := g.Signer.Sign(text)
	if err != nil {
		return nil, fmt.Errorf("signing checkpoint: %w", err)
	}
	g.last, g.refusal = cp, nil
	g.witness.begin()
	g.notify()
	return sig, nil
}

func (g *guard) check(text []byte) (tlog.Checkpoint, error) {
	cp, err := tlog.UnmarshalCheckpoint(text)
	if err != nil {
		return cp, err
	}
	switch {
	case cp.Origin != g.Name():
		return cp, fmt.Errorf("%w: checkpoint of another origin", ErrCorrupt)
	case !g.open && cp.Size > 0:
		return cp, fmt.Errorf("%w: log is not open yet", ErrClosed)
	case cp.Size < g.last.Size:
		return cp, fmt.Errorf("%w: tree of %d entries after a checkpoint of %d", ErrRollback, cp.Size, g.last.Size)
	case cp.Size == g.last.Size && g.last.Root != nil && !bytes.Equal(cp.Root, g.last.Root):
		return cp, fmt.Errorf("%w: two roots for %d entries", ErrCorrupt, cp.Size)
	}
	return cp, newTree(cp.Size, g.disk.read).extends(g.last, cp.Root)
}

func (g *guard) notify() {
	select {
	case g.signed <- struct{}{}:
	default:
	}
}

// setOpen allows or ends signing.
func (g *guard) setOpen(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = open
}

// state is the size of the newest signature and why signing stands still.
func (g *guard) state() (size uint64, refusal error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last.Size, g.refusal
}
