package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/monitor"
	"github.com/countersign/countersign/tlog/sequencer"
)

// errAlarm says that the monitor found something; it was printed.
var errAlarm = errors.New("the monitor has raised an alarm")

// monitorFlags say which logs are followed, and who is told.
type monitorFlags struct {
	url, root, key, origin string
	also                   []string
	state, watch, webhook  string
	witnesses              string
	interval               time.Duration
	once, fromNow          bool
	metrics                string
}

func (a *app) logMonitorCommand() *cobra.Command {
	var f monitorFlags
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Follow a log and raise an alarm when it contradicts itself or a stranger signs",
		Long: "Follows every log of a trusted root (or one log, with --key), of this service or any\n" +
			"other Rekor v2 or tlog-tiles log: checkpoints, consistency, every new entry against\n" +
			"tiles and root. --watch names a YAML file that says who may sign; --also another\n" +
			"place where the same log is served. Each alarm is a line of JSON.\n\n" +
			"With --once: exit code 0 when nothing was found, 3 after an alarm, 6 when something\n" +
			"could not be reached.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.monitor(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "", "where the log is served")
	flags.StringVar(&f.root, "trusted-root", "", "trusted_root.json that names the logs (default: the one the URL gives)")
	flags.StringVar(&f.key, "key", "", "public key of one log: PEM, with --origin, or a verifier key NAME+ID+KEY")
	flags.StringVar(&f.origin, "origin", "", "origin of the log; with a trusted root, follow only logs of this origin")
	flags.StringArrayVar(&f.also, "also", nil, "another URL that must serve the same log; may be repeated")
	flags.StringVar(&f.state, "state", "", "file of what was verified; keep it (required)")
	flags.StringVar(&f.watch, "watch", "", "YAML file of identities and keys that are expected or forbidden")
	flags.StringVar(&f.witnesses, "witness-policy", "", "tlog-policy file: the witnesses whose cosignatures a checkpoint must carry")
	flags.StringVar(&f.webhook, "webhook", "", "URL that alarms are posted to as CloudEvents")
	flags.DurationVar(&f.interval, "interval", limits.MonitorInterval, "pause between two looks")
	flags.BoolVar(&f.once, "once", false, "look once and exit")
	flags.BoolVar(&f.fromNow, "from-now", false, "begin a log that is not in the state with its checkpoint of now, and not with its first entry")
	flags.StringVar(&f.metrics, "metrics-listen", "", "address to serve Prometheus metrics on")
	return cmd
}

func (f monitorFlags) check() error {
	switch {
	case f.url == "":
		return usagef("name the log with --url")
	case f.state == "":
		return usagef("name a file to keep what was verified with --state")
	case f.key != "" && f.root != "":
		return usagef("name one of --key and --trusted-root")
	case f.interval < limits.MonitorIntervalMin:
		return usagef("--interval: want at least %v", limits.MonitorIntervalMin)
	}
	for _, text := range append([]string{f.url, f.webhook}, f.also...) {
		if text != "" && !isHTTP(text) {
			return usagef("%q: want http(s)://HOST", text)
		}
	}
	return nil
}

func (a *app) monitor(ctx context.Context, f monitorFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	config := monitor.Config{State: f.state, FromNow: f.fromNow, Raise: a.raiser(f), Clock: a.clock, Logger: a.logger("info", "text")}
	if f.watch != "" {
		raw, err := os.ReadFile(f.watch)
		if err != nil {
			return usagef("--watch: %v", err)
		}
		if config.Watch, err = monitor.ParseWatch(raw); err != nil {
			return usagef("--watch %s: %v", f.watch, err)
		}
	}
	quorum, err := f.quorum()
	if err != nil {
		return err
	}
	if err := a.monitoredLogs(ctx, f, quorum, &config); err != nil {
		return err
	}
	m, err := monitor.New(config)
	if err != nil {
		return err
	}
	if f.once {
		return once(ctx, m)
	}
	if f.metrics == "" {
		return m.Run(ctx, f.interval)
	}
	return runMeasured(ctx, m, f)
}

// quorum is what --witness-policy asks of every checkpoint; nil asks for nothing.
func (f monitorFlags) quorum() (func(checkpoint []byte) bool, error) {
	if f.witnesses == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(f.witnesses)
	if err != nil {
		return nil, usagef("--witness-policy: %v", err)
	}
	policy, err := sequencer.ParseWitnessPolicy(raw)
	if err != nil {
		return nil, usagef("--witness-policy %s: %v", f.witnesses, err)
	}
	return policy.Satisfied, nil
}

// once makes one pass and says by its error how it ended.
func once(ctx context.Context, m *monitor.Monitor) error {
	alarms, err := m.Pass(ctx)
	switch {
	case alarms > 0:
		return errors.Join(fmt.Errorf("%w: %w", errFailed, errAlarm), err)
	case err != nil:
		return fmt.Errorf("%w: %w", errUndecided, err)
	}
	return nil
}

// runMeasured runs the monitor and serves its metrics.
func runMeasured(ctx context.Context, m *monitor.Monitor, f monitorFlags) error {
	registry := prometheus.NewRegistry()
	if err := registry.Register(m); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.metrics)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	served := make(chan error, 1)
	go func() {
		defer stop() // a monitor whose metrics are gone is not watched
		served <- serveUntil(ctx, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, listener)
	}()
	err = m.Run(ctx, f.interval)
	stop()
	return errors.Join(err, <-served)
}

// raiser prints an alarm as one line of JSON, and posts it.
func (a *app) raiser(f monitorFlags) func(context.Context, monitor.Alarm) error {
	var hook *monitor.Webhook
	if f.webhook != "" {
		hook = monitor.NewWebhook(f.webhook, f.url)
	}
	printed := map[string]bool{}
	return func(ctx context.Context, alarm monitor.Alarm) error {
		if !printed[alarm.ID] {
			line, err := strictjson.Marshal(alarm)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(a.out, "%s\n", line); err != nil {
				return err
			}
			printed[alarm.ID] = true
		}
		if hook == nil {
			return nil
		}
		return hook.Deliver(ctx, alarm)
	}
}

func (a *app) monitorClient() (*http.Client, error) {
	transport, err := tlsFiles{authorities: a.tlsFiles().authorities}.transport()
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: transport, Timeout: limits.MonitorFetch}, nil
}

// logVerifier reads --key.
func logVerifier(path, origin string) (note.Verifier, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("--key: %v", err)
	}
	if verifier, err := tlog.ParseVerifierKey(strings.TrimSpace(string(raw))); err == nil {
		if origin != "" && origin != verifier.Name() {
			return nil, usagef("--key %s: it is of the origin %s", path, verifier.Name())
		}
		return verifier, nil
	}
	public, err := parsePublic(raw)
	if err != nil {
		return nil, usagef("--key %s: neither a verifier key nor PEM: %v", path, err)
	}
	verifier, err := tlog.NewCheckpointVerifier(origin, public)
	if err != nil {
		return nil, usagef("--key %s with --origin %q: %v", path, origin, err)
	}
	return verifier, nil
}
