package store

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// filePause is how long nothing must be decided before decisions are filed.
	filePause = 25 * time.Millisecond
	// fileSlice bounds how many one write files: one that comes meanwhile waits
	// for it.
	fileSlice = 512
	// fileMost is how many may wait. With more, filing does not wait for a pause.
	fileMost = 1 << 14
)

// filer moves decisions from decisions_recent to decisions, whose indexes by
// digest and image are written at random places: that is two thirds of what
// keeping the decisions of a large pod costs, and it is paid when nobody waits
// for it. A decision is durable in either table, and reading reads both.
type filer struct {
	writer runner
	// recent is about how many wait, added how many ever came.
	recent atomic.Int64
	added  atomic.Int64
	wake   chan struct{}
	stop   chan struct{}
	done   chan struct{}
}

// newFiler starts one for the decisions that an earlier process left, and for
// those to come. It ends with close and not with ctx.
func newFiler(ctx context.Context, db *DB) (*filer, error) {
	left, err := one(ctx, db.read(), scanInteger, "SELECT count(*) FROM decisions_recent")
	if err != nil {
		return nil, err
	}
	f := &filer{writer: db.update, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	f.tell(left)
	go f.loop(context.WithoutCancel(ctx))
	return f, nil
}

// tell says that n decisions were added.
func (f *filer) tell(n int64) {
	f.recent.Add(n)
	f.added.Add(n)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *filer) loop(ctx context.Context) {
	defer close(f.done)
	for {
		select {
		case <-f.stop:
			return
		case <-f.wake:
		}
		for more := true; more; {
			before := f.added.Load()
			select {
			case <-f.stop:
				return
			case <-time.After(filePause):
			}
			if f.added.Load() == before || f.recent.Load() >= fileMost {
				more = f.file(ctx)
			}
		}
	}
}

// file moves the oldest, and reports whether there are more that can be moved
// now: what a failing disk keeps is tried again after the next addition. A
// decision that is filed under its id already is passed over, as it is when it
// is added.
func (f *filer) file(ctx context.Context) (more bool) {
	const oldest = "SELECT id FROM decisions_recent ORDER BY id LIMIT $1"
	var moved int64
	err := f.writer.run(ctx, func(ctx context.Context, s session) error {
		_, err := s.exec(ctx, "INSERT INTO decisions ("+decisionColumns+") SELECT "+decisionColumns+
			" FROM decisions_recent WHERE id IN ("+oldest+") ORDER BY id ON CONFLICT DO NOTHING", fileSlice)
		if err != nil {
			return err
		}
		moved, err = s.exec(ctx, "DELETE FROM decisions_recent WHERE id IN ("+oldest+")", fileSlice)
		return err
	})
	if err != nil {
		return false
	}
	if moved < fileSlice {
		f.recent.Store(0)
		return false
	}
	f.recent.Add(-moved)
	return true
}

func (f *filer) close() error {
	close(f.stop)
	<-f.done
	return nil
}
