package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
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
	// Quorum reports whether a checkpoint, a signed note, has the cosignatures
	// that it needs. Nil asks for none.
	Quorum func(checkpoint []byte) bool
}

// Config is what a Monitor needs.
type Config struct {
	Logs []Log
	// Find, in place of Logs, names them for each pass: shards are added.
	Find func(context.Context) ([]Log, error)
	// Watch says who may sign; nil looks at no entry.
	Watch *Watch
	// Own, if set, are the ids of keys that are expected whatever Watch says,
	// unless it forbids them: an alarm must not be the cause of the next one.
	Own func(context.Context) ([]string, error)
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

// Monitor follows logs. It is a prometheus.Collector; that and Fault are safe for
// concurrent use, everything else is for one goroutine.
type Monitor struct {
	cfg   Config
	state state
	// dirty says that the file lacks what state has.
	dirty bool
	// raised are the ids of alarms that were delivered in this process.
	raised  map[string]bool
	alarms  *prometheus.CounterVec
	size    *prometheus.GaugeVec
	passes  *prometheus.CounterVec
	success *prometheus.GaugeVec

	mu sync.Mutex
	// Guarded by mu: what is wrong with each log.
	faults map[string]error
}

// New reads the state, or fails with ErrConfig or ErrState.
func New(cfg Config) (*Monitor, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if (len(cfg.Logs) == 0) == (cfg.Find == nil) || cfg.State == "" || cfg.Raise == nil || cfg.Clock == nil {
		return nil, fmt.Errorf("%w: want logs or who finds them, a state file, a clock and somebody to tell", ErrConfig)
	}
	if err := checkLogs(cfg.Logs); err != nil {
		return nil, err
	}
	kept, err := readState(cfg.State)
	if err != nil {
		return nil, err
	}
	labels := []string{"origin", "key"}
	return &Monitor{
		cfg: cfg, state: kept, raised: map[string]bool{}, faults: map[string]error{},
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

func checkLogs(logs []Log) error {
	if len(logs) > limits.MonitorLogs {
		return fmt.Errorf("%w: want at most %d logs", ErrConfig, limits.MonitorLogs)
	}
	seen := map[string]bool{}
	for _, log := range logs {
		if log.Verifier == nil || log.Fetch == nil || len(log.Also) > limits.MonitorSources || seen[keyOf(log)] {
			return fmt.Errorf("%w: a log without key or source, with more than %d other sources, or named twice", ErrConfig, limits.MonitorSources)
		}
		seen[keyOf(log)] = true
	}
	return nil
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
	logs, err := m.logs(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, log := range logs {
		found, err := m.passOver(ctx, log)
		m.note(log, found, err)
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

func (m *Monitor) logs(ctx context.Context) ([]Log, error) {
	if m.cfg.Find == nil {
		return m.cfg.Logs, nil
	}
	logs, err := m.cfg.Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("finding the logs: %w", err)
	}
	return logs, checkLogs(logs)
}

// note remembers what is wrong with a log until a pass has found that nothing is.
func (m *Monitor) note(log Log, found []Alarm, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	worst := slices.IndexFunc(found, func(a Alarm) bool { return a.Kind.contradicts() })
	switch {
	case worst >= 0:
		m.faults[keyOf(log)] = fmt.Errorf("%s: %s: %s", found[worst].Source, found[worst].Kind, found[worst].Detail)
	case errors.Is(err, ErrState):
		m.faults[keyOf(log)] = err
	case err == nil:
		delete(m.faults, keyOf(log))
	}
}

// Fault is what is wrong with the logs as they are served, or nil: contradictions,
// and a state that cannot be read or kept. Who signed is no fault of a log.
func (m *Monitor) Fault() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(m.faults)) {
		errs = append(errs, m.faults[key])
	}
	return errors.Join(errs...)
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
	m.size.WithLabelValues(log.Name(), hashOf(log)).Set(float64(p.cp.Size))
	if !m.dirty && p.before.known && p.after.equal(p.before.progress) {
		return p.alarms, nil // a log that stands still costs no write
	}
	m.state.Logs[keyOf(log)], m.dirty = p.after, true
	if err := m.state.write(m.cfg.State); err != nil {
		return p.alarms, err
	}
	m.dirty = false
	return p.alarms, nil
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
