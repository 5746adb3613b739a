package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
)

// ErrIndex says that the index is not of this log; it must be rebuilt.
var ErrIndex = errors.New("the search index is of another log; rebuild it: countersign log reindex")

// Shard is one shard of the log to follow.
type Shard struct {
	// Number counts from 1.
	Number int
	LogID  []byte
	// Reader reads it; the same one each time.
	Reader *sequencer.Reader
}

// Config is what a Follower needs.
type Config struct {
	// Shards are those that the log has now, oldest first.
	Shards func() ([]Shard, error)
	// Index takes the rows.
	Index store.LogIndex
	// Checkpoints remembers how far the log has come; optional.
	Checkpoints store.Checkpoints
	// Relate relates all kept bundles to what they signed. It is called before
	// the first entry of an empty index is written; optional.
	Relate func(context.Context) error
	Clock  clock.Clock
	// Logger takes what an operator must know. Nil discards it.
	Logger *slog.Logger
}

// Progress says how far a shard is indexed.
type Progress struct {
	Shard int
	LogID []byte
	// Indexed is the number of entries that a search finds, Published how many
	// the checkpoint covers that was read last.
	Indexed   uint64
	Published uint64
}

// Follower keeps the index up with the log. It is safe for concurrent use.
type Follower struct {
	cfg Config
	// looking admits one look at a time.
	looking sync.Mutex

	mu    sync.Mutex // guards what follows
	at    map[int]*Progress
	order []int
	kept  map[int]uint64
	// faults are why shards are not followed any more.
	faults map[int]error
	// complaint is the last trouble that was logged, so that a database that is
	// away fills no disk.
	complaint string
}

// New makes a Follower; Run starts it.
func New(cfg Config) *Follower {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Follower{cfg: cfg, at: map[int]*Progress{}, kept: map[int]uint64{}, faults: map[int]error{}}
}

// Run looks again and again until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	tick := time.NewTicker(limits.LogLook)
	defer tick.Stop()
	for {
		err := f.Look(ctx)
		if ctx.Err() != nil {
			return
		}
		f.complain(ctx, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (f *Follower) complain(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	f.mu.Lock()
	again := text == f.complaint || len(f.faults) > 0
	f.complaint = text
	f.mu.Unlock()
	if err != nil && !again {
		f.cfg.Logger.WarnContext(ctx, "the log's search index does not grow, trying again", slog.Any("error", err))
	}
}

// Look takes over what is published now and returns when it is indexed. A shard
// that has a fault is passed over, and the others go on.
func (f *Follower) Look(ctx context.Context) error {
	f.looking.Lock()
	defer f.looking.Unlock()
	shards, err := f.cfg.Shards()
	if err != nil {
		return err
	}
	errs := []error{f.keepAll(ctx, shards)}
	for _, s := range shards {
		err := f.faultOf(s.Number)
		if err == nil {
			err = f.judged(ctx, s.Number, f.look(ctx, s))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Keep only remembers the checkpoints that are published now.
func (f *Follower) Keep(ctx context.Context) error {
	f.looking.Lock()
	defer f.looking.Unlock()
	shards, err := f.cfg.Shards()
	if err != nil {
		return err
	}
	return f.keepAll(ctx, shards)
}

func (f *Follower) keepAll(ctx context.Context, shards []Shard) error {
	var errs []error
	for _, s := range shards {
		cp, note, err := s.Reader.Head(ctx)
		if errors.Is(err, sequencer.ErrNotFound) && f.indexed(s.Number) == 0 {
			continue // not published yet
		}
		if err == nil {
			err = f.keep(ctx, s, cp, note)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("shard %d: %w", s.Number, err))
		}
	}
	return errors.Join(errs...)
}

// judged keeps an error of a shard that no repetition heals.
func (f *Follower) judged(ctx context.Context, shard int, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("shard %d: %w", shard, err)
	fatal := []error{ErrIndex, sequencer.ErrCorrupt, sequencer.ErrRollback, tlog.ErrCheckpoint, fs.ErrNotExist}
	if !slices.ContainsFunc(fatal, func(f error) bool { return errors.Is(err, f) }) {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[shard] = err
	f.cfg.Logger.ErrorContext(ctx, "the log's search index has stopped", slog.Any("error", err))
	return err
}

func (f *Follower) faultOf(shard int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faults[shard]
}

func (f *Follower) look(ctx context.Context, s Shard) error {
	cp, _, err := s.Reader.Head(ctx)
	if errors.Is(err, sequencer.ErrNotFound) && f.indexed(s.Number) == 0 {
		return nil // not published yet
	}
	if err != nil {
		return err
	}
	next, err := f.resume(ctx, s, cp)
	if err != nil {
		return err
	}
	for next < cp.Size {
		if next, err = f.step(ctx, s, next, cp.Size); err != nil {
			return err
		}
	}
	return nil
}

// keep remembers a checkpoint apart from the log.
func (f *Follower) keep(ctx context.Context, s Shard, cp tlog.Checkpoint, note []byte) error {
	f.mu.Lock()
	known, ok := f.kept[s.Number]
	f.mu.Unlock()
	if f.cfg.Checkpoints == nil || ok && known == cp.Size {
		return nil
	}
	err := f.cfg.Checkpoints.Advance(ctx, store.KeptCheckpoint{
		Shard: s.Number, LogID: s.LogID, Size: cp.Size, Root: cp.Root, Note: note, UpdatedAt: f.cfg.Clock.Now(),
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.kept[s.Number] = cp.Size
	f.mu.Unlock()
	return nil
}

// resume is the position to go on at. Whoever comes to a shard for the first
// time compares the last row with the log.
func (f *Follower) resume(ctx context.Context, s Shard, cp tlog.Checkpoint) (uint64, error) {
	f.mu.Lock()
	known := f.at[s.Number]
	if known != nil {
		known.Published = cp.Size
	}
	f.mu.Unlock()
	if known != nil {
		return f.indexed(s.Number), nil
	}
	size, err := f.cfg.Index.Size(ctx, s.Number)
	if err != nil {
		return 0, err
	}
	if err := f.sameLog(ctx, s, size, cp); err != nil {
		return 0, err
	}
	if size == 0 && s.Number == 1 && f.cfg.Relate != nil {
		if err := f.cfg.Relate(ctx); err != nil {
			return 0, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.order, s.Number) {
		f.order = append(f.order, s.Number)
	}
	f.at[s.Number] = &Progress{Shard: s.Number, LogID: s.LogID, Indexed: size, Published: cp.Size}
	return size, nil
}

func (f *Follower) sameLog(ctx context.Context, s Shard, size uint64, cp tlog.Checkpoint) error {
	switch {
	case size == 0:
		return nil
	case size > cp.Size:
		return fmt.Errorf("%w (it knows %d entries, the log has %d)", ErrIndex, size, cp.Size)
	}
	bodies, err := s.Reader.Entries(ctx, size-1)
	if err != nil {
		return err
	}
	hash, err := f.cfg.Index.LeafHash(ctx, s.Number, size-1)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if !bytes.Equal(hash, tlog.LeafHash(bodies[0])) {
		return fmt.Errorf("%w (entry %d differs)", ErrIndex, size-1)
	}
	return nil
}

// step indexes the next entries, at most limits.LogIndexBatch, and returns where
// they end.
func (f *Follower) step(ctx context.Context, s Shard, first, size uint64) (uint64, error) {
	seen := f.cfg.Clock.Now().UTC()
	var rows []store.LogEntry
	next := first
	for next < size && len(rows) < limits.LogIndexBatch {
		bodies, err := s.Reader.Entries(ctx, next)
		if err != nil {
			return first, err
		}
		for _, body := range bodies {
			rows = append(rows, row(body, seen))
		}
		next += uint64(len(bodies))
	}
	if err := f.cfg.Index.Record(ctx, s.Number, first, rows); err != nil {
		// The outcome is not known, or another process records: look again.
		f.forget(s.Number)
		return first, err
	}
	f.mu.Lock()
	f.at[s.Number].Indexed = next
	f.mu.Unlock()
	return next, nil
}

func (f *Follower) forget(shard int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.at, shard)
}

func (f *Follower) indexed(shard int) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.at[shard]; p != nil {
		return p.Indexed
	}
	return 0
}

// Fault is why shards are not followed any more, or nil.
func (f *Follower) Fault() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, number := range slices.Sorted(maps.Keys(f.faults)) {
		errs = append(errs, f.faults[number])
	}
	return errors.Join(errs...)
}

// Progress says how far each shard is indexed, oldest first.
func (f *Follower) Progress() []Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Progress, 0, len(f.order))
	for _, number := range f.order {
		if p := f.at[number]; p != nil {
			out = append(out, *p)
		}
	}
	return out
}

// Search is the index's.
func (f *Follower) Search(ctx context.Context, filter store.LogFilter, page store.Page) ([]store.LogEntry, string, error) {
	return f.cfg.Index.Search(ctx, filter, page)
}

// descriptions of what Collect tells.
type descriptions struct{ indexed, behind, damaged *prometheus.Desc }

func describe() descriptions {
	return descriptions{
		indexed: prometheus.NewDesc("countersign_log_index_entries", "Log entries that a search finds.", []string{"shard"}, nil),
		behind:  prometheus.NewDesc("countersign_log_index_behind", "Published log entries that a search does not find yet.", []string{"shard"}, nil),
		damaged: prometheus.NewDesc("countersign_log_index_damaged", "1 when the search index has stopped.", nil, nil),
	}
}

// Describe is prometheus.Collector's.
func (f *Follower) Describe(out chan<- *prometheus.Desc) {
	d := describe()
	out <- d.indexed
	out <- d.behind
	out <- d.damaged
}

// Collect is prometheus.Collector's.
func (f *Follower) Collect(out chan<- prometheus.Metric) {
	d := describe()
	for _, p := range f.Progress() {
		shard := fmt.Sprint(p.Shard)
		out <- prometheus.MustNewConstMetric(d.indexed, prometheus.GaugeValue, float64(p.Indexed), shard)
		out <- prometheus.MustNewConstMetric(d.behind, prometheus.GaugeValue, float64(p.Published-min(p.Indexed, p.Published)), shard)
	}
	damaged := 0.0
	if f.Fault() != nil {
		damaged = 1
	}
	out <- prometheus.MustNewConstMetric(d.damaged, prometheus.GaugeValue, damaged)
}
