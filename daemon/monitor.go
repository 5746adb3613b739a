package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/backup"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/monitor"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// alarmKind is the kind of the objects that say which alarms are in the journal.
const alarmKind = "log-alarm"

// MonitorConfig says how the service follows its own log. The zero value looks
// whether the log contradicts itself, and tells the journal and the metrics.
type MonitorConfig struct {
	// Watch says who may sign; nil looks at no entry. The keys that the service
	// itself writes to the log with are expected always.
	Watch *monitor.Watch
	// Webhook, if set, is where alarms are posted to as CloudEvents.
	Webhook string
	// Interval is the pause between two looks; default limits.MonitorOwn.
	Interval time.Duration
	// Also are URLs that must serve the same log: mirrors.
	Also []string
}

func (c *MonitorConfig) complete() error {
	if c.Interval == 0 {
		c.Interval = limits.MonitorOwn
	}
	if c.Interval < limits.MonitorIntervalMin {
		return fmt.Errorf("the monitor's interval must be at least %v", limits.MonitorIntervalMin)
	}
	if len(c.Also) > limits.MonitorSources {
		return fmt.Errorf("the monitor compares at most %d mirrors", limits.MonitorSources)
	}
	return nil
}

// logMonitor follows the service's own log as an outsider would: with the keys of
// the trusted root in force, and through what the log answers readers. It keeps
// nobody from work: what it finds is told.
type logMonitor struct {
	daemon   *Daemon
	services *services
	hook     *monitor.Webhook
	// monitor is nil, and fault says why, when its state cannot be used.
	monitor *monitor.Monitor
	fault   error

	// shards are numbers of shards by origin and key, logged and posted the alarms
	// that this process has told there. They are the running monitor's.
	shards         map[string]int
	logged, posted map[string]bool
}

// openMonitor makes the monitor. A state that cannot be used is told and does not
// keep the service from starting: people may have to sign and to verify.
func (d *Daemon) openMonitor(ctx context.Context, s *services) error {
	c := d.cfg.Monitor
	m := &logMonitor{daemon: d, services: s, shards: map[string]int{}, logged: map[string]bool{}, posted: map[string]bool{}}
	d.monitor = m
	if c.Webhook != "" {
		m.hook = monitor.NewWebhook(c.Webhook, d.cfg.PublicURL)
	}
	path := d.path(backup.Monitor)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making the monitor's folder: %w", err)
	}
	m.monitor, m.fault = monitor.New(monitor.Config{
		Find: m.logs, Watch: c.Watch, Own: m.own, State: path, Raise: m.raise, Clock: d.cfg.Clock, Logger: d.cfg.Logger,
	})
	if errors.Is(m.fault, monitor.ErrConfig) {
		return m.fault
	}
	if m.fault != nil {
		d.cfg.Logger.ErrorContext(ctx, "the log is not monitored; put the file back, or remove it and all of the log is looked at anew",
			"file", path, "cause", m.fault)
	}
	return nil
}

func (m *logMonitor) run(ctx context.Context) {
	if m.monitor == nil {
		return
	}
	if err := m.monitor.Run(ctx, m.daemon.cfg.Monitor.Interval); err != nil {
		m.daemon.cfg.Logger.ErrorContext(ctx, "the log is not monitored", "cause", err)
	}
}

// ready tells of a log that contradicts itself: a person must look, and the
// service goes on.
func (m *logMonitor) ready() error {
	fault := m.fault
	if m.monitor != nil {
		fault = m.monitor.Fault()
	}
	if fault != nil {
		return fmt.Errorf("%w: %w", server.ErrDegraded, fault)
	}
	return nil
}

// Describe makes a logMonitor a prometheus.Collector.
func (m *logMonitor) Describe(out chan<- *prometheus.Desc) {
	if m.monitor != nil {
		m.monitor.Describe(out)
	}
}

// Collect makes a logMonitor a prometheus.Collector.
func (m *logMonitor) Collect(out chan<- prometheus.Metric) {
	if m.monitor != nil {
		m.monitor.Collect(out)
	}
}

// logs are those of the trusted root in force, as it is handed out.
func (m *logMonitor) logs(ctx context.Context) ([]monitor.Log, error) {
	document, err := m.services.trustRoot().MarshalTrustedRoot()
	if err != nil {
		return nil, err
	}
	root, err := trust.ParseTrustedRoot(document)
	if err != nil {
		return nil, err
	}
	shards := m.daemon.log.Shards()
	logs := make([]monitor.Log, 0, len(root.Logs))
	for i, log := range root.Logs {
		at := slices.IndexFunc(shards, func(s sequencer.Shard) bool { return bytes.Equal(s.LogID, log.ID) })
		if at < 0 {
			return nil, fmt.Errorf("log %d of the trusted root: %w", i+1, sequencer.ErrNotFound)
		}
		if _, err := m.checkpointOf(ctx, shards[at]); errors.Is(err, sequencer.ErrUnwitnessed) && shards[at].State == sequencer.Prepared {
			continue // it waits for its witnesses to know it
		}
		followed, err := m.follow(log, shards[at])
		if err != nil {
			return nil, fmt.Errorf("log %d of the trusted root: %w", i+1, err)
		}
		logs = append(logs, followed)
	}
	return logs, nil
}

func (m *logMonitor) checkpointOf(ctx context.Context, shard sequencer.Shard) ([]byte, error) {
	reader, err := m.daemon.log.Shard(shard.Number)
	if err != nil {
		return nil, err
	}
	return reader.Checkpoint(ctx)
}

// follow is a shard, here and at the mirrors, which need not have one that is only
// prepared.
func (m *logMonitor) follow(log trust.Log, shard sequencer.Shard) (monitor.Log, error) {
	reader, err := m.daemon.log.Shard(shard.Number)
	if err != nil {
		return monitor.Log{}, err
	}
	verifier, err := tlog.NewCheckpointVerifier(log.Origin, log.Public)
	if err != nil {
		return monitor.Log{}, err
	}
	base, err := url.Parse(log.BaseURL)
	if err != nil {
		return monitor.Log{}, err
	}
	m.shards[shardName(verifier.Name(), fmt.Sprintf("%08x", verifier.KeyHash()))] = shard.Number
	followed := monitor.Log{Verifier: verifier, Source: monitor.Source{URL: log.BaseURL, Fetch: fetchShard(reader)}}
	if shard.State == sequencer.Prepared {
		return followed, nil
	}
	for _, other := range m.daemon.cfg.Monitor.Also {
		place := strings.TrimSuffix(other, "/") + strings.TrimSuffix(base.Path, "/")
		followed.Also = append(followed.Also, monitor.Source{URL: place, Fetch: monitor.FetchURL(nil, place)})
	}
	return followed, nil
}

func shardName(origin, keyHash string) string { return origin + " " + keyHash }

// fetchShard reads a shard as the HTTP interface does.
func fetchShard(shard *sequencer.Sequencer) monitor.Fetch {
	return func(ctx context.Context, path string) ([]byte, error) {
		if path == "checkpoint" {
			return shard.Checkpoint(ctx)
		}
		raw, err := shard.ReadTile(ctx, path)
		switch {
		case errors.Is(err, sequencer.ErrNotFound):
			err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		case errors.Is(err, sequencer.ErrCorrupt):
			err = fmt.Errorf("%w: %w", monitor.ErrTile, err)
		}
		return raw, err
	}
}

// own are the keys that the service writes to the log with: the journal's, among
// them those that log an alarm, and that of verification summaries. No other key
// of the service has business there.
func (m *logMonitor) own(ctx context.Context) ([]string, error) {
	service, err := m.daemon.ring.Service(ctx)
	if err != nil {
		return nil, err
	}
	summaries, err := m.daemon.ring.Get(ctx, summaryKey)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, key := range append(service, summaries) {
		if !slices.Contains(key.Purposes, server.JournalPurpose) && key.Name != summaryKey {
			continue
		}
		for _, version := range key.Versions {
			ids = append(ids, version.KeyID)
		}
	}
	return ids, nil
}

// raise tells the service's own log, the journal and the webhook, each of which
// hears of an alarm although another one cannot be reached.
func (m *logMonitor) raise(ctx context.Context, a monitor.Alarm) error {
	if !m.logged[a.ID] {
		remember(m.logged, a.ID)
		m.daemon.cfg.Logger.ErrorContext(ctx, "log alarm", "kind", a.Kind, "id", a.ID, "source", a.Source, "detail", a.Detail,
			"index", index(a), "issuer", a.Issuer, "subject", a.Subject, "keyId", a.KeyID, "checkpoints", a.Checkpoints)
	}
	err := m.journal(ctx, a)
	if m.hook == nil || m.posted[a.ID] {
		return err
	}
	if posting := m.hook.Deliver(ctx, a); posting != nil {
		return errors.Join(err, posting)
	}
	remember(m.posted, a.ID)
	return err
}

func remember(ids map[string]bool, id string) {
	if len(ids) >= limits.MonitorKnown {
		clear(ids)
	}
	ids[id] = true
}

// journal writes an alarm's line once, whichever process finds it again. A crash
// between the line and its mark is followed by a second line, never by none.
func (m *logMonitor) journal(ctx context.Context, a monitor.Alarm) error {
	objects := m.daemon.main.Objects()
	_, err := objects.Get(ctx, alarmKind, a.ID)
	if err == nil || !errors.Is(err, store.ErrNotFound) {
		return err
	}
	detail := map[string]string{
		"alarm": a.ID, "kind": string(a.Kind), "shard": strconv.Itoa(m.shards[shardName(a.Origin, a.KeyHash)]), "source": a.Source,
	}
	if a.Index != nil {
		detail["index"] = index(a)
	}
	if a.KeyID != "" {
		detail["keyId"] = a.KeyID
	}
	_, err = m.services.journal.Append(ctx, audit.Record{
		Actor: "countersign", Action: "log.alarm", Resource: "log", Outcome: audit.Done, Detail: detail,
	})
	if err != nil {
		return err
	}
	_, err = objects.Put(ctx, store.Object{Kind: alarmKind, Name: a.ID, Body: []byte("{}"), UpdatedAt: m.daemon.cfg.Clock.Now()})
	return err
}

func index(a monitor.Alarm) string {
	if a.Index == nil {
		return ""
	}
	return strconv.FormatUint(*a.Index, 10)
}
