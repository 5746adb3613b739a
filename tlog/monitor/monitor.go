package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
)

// ErrConfig says that a field of Config is missing or out of range.
var ErrConfig = errors.New("invalid monitor configuration")

// Source is one place that serves a log.
type Source struct {
	// URL names it, in alarms and in the state.
	URL   string
	Fetch Fetch
}

// Log is one log and where it is read. The name of its verifier is its origin.
type Log struct {
	note.Verifier
	Source
	// Also are other places that must serve the same log.
	Also []Source
}

// Config is what a Monitor needs.
type Config struct {
	Logs []Log
	// Watch says who may sign; nil looks at no entry.
	Watch *Watch
	// State is the path of the file of what was verified, made when there is
	// none.
	State string
	// FromNow begins a log that is not in the state with its checkpoint of now
	// instead of its first entry.
	FromNow bool
	// Raise delivers an alarm. While it fails the monitor does not move on.
	Raise func(context.Context, Alarm) error
	Clock clock.Clock
	// Logger takes what an operator must know. Nil discards it.
	Logger *slog.Logger
}

// Monitor follows logs. It is a prometheus.Collector; everything else is for one
// goroutine.
type Monitor struct {
	cfg   Config
	state state
	// raised are the ids of alarms that were delivered in this process.
	raised  map[string]bool
	alarms  *prometheus.CounterVec
	size    *prometheus.GaugeVec
	passes  *prometheus.CounterVec
	success *prometheus.GaugeVec
}

// New reads the state, or fails with ErrConfig or ErrState.
func New(cfg Config) (*Monitor, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Logs) == 0 || len(cfg.Logs) > limits.MonitorLogs || cfg.State == "" || cfg.Raise == nil || cfg.Clock == nil {
		return nil, fmt.Errorf("%w: want 1 to %d logs, a state file, a clock and somebody to tell", ErrConfig, limits.MonitorLogs)
	}
	seen := map[string]bool{}
	for _, log := range cfg.Logs {
		if log.Verifier == nil || log.Fetch == nil || len(log.Also) > limits.MonitorSources || seen[keyOf(log)] {
			return nil, fmt.Errorf("%w: a log without key or source, with more than %d other sources, or named twice", ErrConfig, limits.MonitorSources)
		}
		seen[keyOf(log)] = true
	}
	kept, err := readState(cfg.State)
	if err != nil {
		return nil, err
	}
	labels := []string{"origin", "key"}
	return &Monitor{
		cfg: cfg, state: kept, raised: map[string]bool{},
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_monitor_alarms_total", Help: "Alarms that were raised, by kind.",
		}, []string{"kind"}),
		size: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "countersign_monitor_verified_size", Help: "Entries under the newest verified checkpoint.",
		}, labels),
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_monitor_passes_total", Help: "Passes over a log, by outcome: clean, alarm or error.",
		}, append(labels, "outcome")),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "countersign_monitor_last_clean_timestamp_seconds", Help: "When a pass over the log last found nothing.",
		}, labels),
	}, nil
}

// Describe makes a Monitor a prometheus.Collector.
func (m *Monitor) Describe(out chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.alarms, m.size, m.passes, m.success} {
		c.Describe(out)
	}
}

// Collect makes a Monitor a prometheus.Collector.
func (m *Monitor) Collect(out chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.alarms, m.size, m.passes, m.success} {
		c.Collect(out)
	}
}

// keyOf names a log in the state: one origin may have had several keys.
func keyOf(log Log) string { return log.Name() + " " + hashOf(log) }

func hashOf(log Log) string { return fmt.Sprintf("%08x", log.KeyHash()) }

// Pass looks at every log once and returns how many alarms there were, those
// that were raised before included. An error says that something could not be
// looked at, or that an alarm or the state could not be delivered; the other logs
// were looked at all the same.
func (m *Monitor) Pass(ctx context.Context) (alarms int, err error) {
	var errs []error
	for _, log := range m.cfg.Logs {
		found, err := m.passOver(ctx, log)
		alarms += len(found)
		outcome := "clean"
		switch {
		case len(found) > 0:
			outcome = "alarm"
		case err != nil:
			outcome = "error"
		default:
			m.success.WithLabelValues(log.Name(), hashOf(log)).Set(float64(m.cfg.Clock.Now().Unix()))
		}
		m.passes.WithLabelValues(log.Name(), hashOf(log), outcome).Inc()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", log.URL, err))
		}
	}
	return alarms, errors.Join(errs...)
}

// passOver looks at one log, raises the alarms, and keeps what was verified.
func (m *Monitor) passOver(ctx context.Context, log Log) ([]Alarm, error) {
	before, err := m.before(log)
	if err != nil {
		return nil, err
	}
	p := &pass{m: m, log: log, before: before}
	err = p.run(ctx)
	if raiseErr := m.raise(ctx, p.alarms); raiseErr != nil || err != nil || p.contradicted {
		return p.alarms, errors.Join(err, raiseErr)
	}
	m.state.Logs[keyOf(log)] = p.after
	m.size.WithLabelValues(log.Name(), hashOf(log)).Set(float64(p.cp.Size))
	return p.alarms, m.state.write(m.cfg.State)
}

// raise delivers what was not delivered yet.
func (m *Monitor) raise(ctx context.Context, alarms []Alarm) error {
	for _, a := range alarms {
		if m.raised[a.ID] {
			continue
		}
		if err := m.cfg.Raise(ctx, a); err != nil {
			return err
		}
		m.alarms.WithLabelValues(string(a.Kind)).Inc()
		if len(m.raised) >= limits.MonitorKnown {
			clear(m.raised)
		}
		m.raised[a.ID] = true
	}
	return nil
}

// Run makes a pass at once and then after each interval, until ctx ends. Errors
// go to the logger.
func (m *Monitor) Run(ctx context.Context, interval time.Duration) error {
	if interval < limits.MonitorIntervalMin {
		return fmt.Errorf("%w: the interval must be at least %v", ErrConfig, limits.MonitorIntervalMin)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if _, err := m.Pass(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Logger.WarnContext(ctx, "not everything could be looked at; trying again", "cause", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
