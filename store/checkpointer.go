package store

import (
	"context"
	"database/sql"

	"github.com/ncruces/go-sqlite3"
)

const (
	// copyAfter is how many pages the write-ahead log grows by before it is
	// copied: 16 MiB. More often, and one commit of a hundred meets it at the disk.
	copyAfter = 4000
	// copyNow is when the writer copies what is left itself, which is no more
	// than came since: the log begins anew only once all of it is copied, and a
	// writer that never rests is always ahead.
	copyNow = 4 * copyAfter
)

// checkpointer copies SQLite's write-ahead log into the database beside the
// writer. SQLite's own way is to let the commit that fills the log do it, and
// that caller waits for the disk to take 4 MiB.
type checkpointer struct {
	pool *sql.DB
	wake chan struct{}
	done chan struct{}
	// asked is the length that was last asked for; only the writer's goroutine
	// uses it.
	asked int
}

// newCheckpointer starts one, which ends with close and not with ctx.
func newCheckpointer(ctx context.Context, path string) (*checkpointer, error) {
	pool, err := openSQLitePool(path, 1, nil)
	if err != nil {
		return nil, err
	}
	c := &checkpointer{pool: pool, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go c.loop(context.WithoutCancel(ctx))
	return c, nil
}

func (c *checkpointer) loop(ctx context.Context) {
	defer close(c.done)
	for range c.wake {
		// What it does not copy, the next does; a disk that fails is found by
		// the writer.
		_, _ = c.pool.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
	}
}

// watch has the connection tell its commits instead of copying by itself.
func (c *checkpointer) watch(writer *sqlite3.Conn) error {
	writer.WALHook(func(db *sqlite3.Conn, schema string, pages int) error {
		if pages < c.asked {
			c.asked = 0
		}
		switch {
		case pages >= copyNow:
			// An error here would be the commit's, which is done. SQLite's own
			// hook passes it over as well.
			_, _, _ = db.WALCheckpoint(schema, sqlite3.CHECKPOINT_PASSIVE)
		case pages-c.asked >= copyAfter:
			c.asked = pages
			select {
			case c.wake <- struct{}{}:
			default:
			}
		}
		return nil
	})
	return nil
}

// close ends it after the writer, which tells it of commits, is closed.
func (c *checkpointer) close() error {
	close(c.wake)
	<-c.done
	return c.pool.Close()
}
