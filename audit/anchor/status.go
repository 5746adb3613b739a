package anchor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/internal/limits"
)

// Status is how much of the chain no entry of the log covers.
type Status struct {
	// Records is the number of records behind the last logged anchor.
	Records int64
	// Waiting is the number of anchors that the log has not taken yet: nearly
	// all are trust changes.
	Waiting int64
	// Cause is why the last round failed, nil after one that did not.
	Cause error
}

// Status is as of now.
func (k *Keeper) Status(ctx context.Context) (Status, error) {
	head, _, err := k.cfg.Chain.Head(ctx)
	if err != nil {
		return Status{}, err
	}
	progress, err := k.cfg.Anchors.Progress(ctx)
	if err != nil {
		return Status{}, err
	}
	k.state.Lock()
	defer k.state.Unlock()
	return Status{Records: max(0, head-progress.Logged), Waiting: progress.Waiting, Cause: k.fault}, nil
}

// Ready is nil while anchoring keeps up: ErrBehind when more than
// limits.AnchorsWaiting anchors wait, audit.ErrChain when the chain contradicts
// itself and nothing is anchored any more.
func (k *Keeper) Ready(ctx context.Context) error {
	s, err := k.Status(ctx)
	switch {
	case err != nil:
		return err
	case s.Waiting > limits.AnchorsWaiting:
		return fmt.Errorf("%w: %d of them: %w", ErrBehind, s.Waiting, errors.Join(s.Cause))
	case errors.Is(s.Cause, audit.ErrChain):
		return s.Cause
	}
	return nil
}

// scrape bounds one reading of the metrics.
const scrape = time.Second

// The two metrics. They are made anew for each use: the package has no state.
func described() (records, waiting *prometheus.Desc) {
	return prometheus.NewDesc("countersign_journal_unanchored_records", "Audit records that no entry of the log covers yet.", nil, nil),
		prometheus.NewDesc("countersign_journal_waiting_anchors", "Anchors, nearly all of trust changes, that the log has not taken yet.", nil, nil)
}

// Describe is of prometheus.Collector.
func (k *Keeper) Describe(out chan<- *prometheus.Desc) {
	records, waiting := described()
	out <- records
	out <- waiting
}

// Collect is of prometheus.Collector. Without an answer from the store there is
// no value: an old one would be believed.
func (k *Keeper) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrape)
	defer cancel()
	s, err := k.Status(ctx)
	if err != nil {
		return
	}
	records, waiting := described()
	out <- prometheus.MustNewConstMetric(records, prometheus.GaugeValue, float64(s.Records))
	out <- prometheus.MustNewConstMetric(waiting, prometheus.GaugeValue, float64(s.Waiting))
}
