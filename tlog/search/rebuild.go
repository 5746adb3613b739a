package search

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign/countersign/internal/limits"
)

// Rebuild makes the index again from the tiles and the kept bundles, while
// nobody else writes it. told, which may be nil, hears of each step how many
// entries of how many are done. Killed in between, what was indexed again is
// found, and the next Follower or Rebuild does the rest. It returns how far each
// shard is indexed.
func Rebuild(ctx context.Context, cfg Config, told func(done, total uint64)) ([]Progress, error) {
	shards, err := cfg.Shards()
	if err != nil {
		return nil, err
	}
	var total uint64
	for _, s := range shards {
		cp, _, err := s.Reader.Head(ctx)
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", s.Number, err)
		}
		total += cp.Size
	}
	for _, s := range shards {
		if err := cfg.Index.Reset(ctx, s.Number); err != nil {
			return nil, err
		}
	}
	f := New(cfg)
	if told == nil {
		told = func(uint64, uint64) {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		f.tell(total, told, done)
	}()
	err = f.Look(ctx)
	close(done)
	<-ended
	return f.Progress(), err
}

// tell reports progress until done is closed, and then once more.
func (f *Follower) tell(total uint64, told func(done, total uint64), done <-chan struct{}) {
	tick := time.NewTicker(limits.LogLook)
	defer tick.Stop()
	for {
		select {
		case <-done:
			told(f.sum(), total)
			return
		case <-tick.C:
			told(f.sum(), total)
		}
	}
}

func (f *Follower) sum() (indexed uint64) {
	for _, p := range f.Progress() {
		indexed += p.Indexed
	}
	return indexed
}
