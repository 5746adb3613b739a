package sequencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/transparency-dev/tessera"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/tlog"
)

// ErrUnwitnessed says that a checkpoint has not the cosignatures that the policy
// asks for, so it is not published and nothing new is taken.
var ErrUnwitnessed = errors.New("witnesses do not cosign")

// WitnessConfig says who cosigns checkpoints before they are published.
type WitnessConfig struct {
	// Policy is required.
	Policy *WitnessPolicy
	// FailOpen publishes a checkpoint that lacks its quorum. Meant for the time
	// in which a log and its witnesses get to know each other.
	FailOpen bool
	// Timeout is how long a checkpoint waits for its quorum, up to
	// limits.WitnessTimeoutMax; 0 means limits.WitnessTimeout.
	Timeout time.Duration
	// Clock is required.
	Clock clock.Clock
}

// Witnesses are asked for cosignatures by the logs that are configured with
// them. It is a prometheus.Collector and safe for concurrent use.
type Witnesses struct {
	cfg     WitnessConfig
	client  *http.Client
	names   map[string]string
	results *prometheus.CounterVec
	took    *prometheus.HistogramVec
	quorum  *prometheus.GaugeVec
	waited  prometheus.Histogram
}

// NewWitnesses checks a configuration, or fails with ErrConfig.
func NewWitnesses(cfg WitnessConfig) (*Witnesses, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = limits.WitnessTimeout
	}
	switch {
	case cfg.Policy == nil || cfg.Clock == nil:
		return nil, fmt.Errorf("%w: witnesses need a policy and a clock", ErrConfig)
	case cfg.Timeout < 100*time.Millisecond || cfg.Timeout > limits.WitnessTimeoutMax:
		return nil, fmt.Errorf("%w: the witnesses' timeout must be 100ms to %v", ErrConfig, limits.WitnessTimeoutMax)
	}
	seconds := []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	w := &Witnesses{
		cfg: cfg, names: map[string]string{},
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_log_witness_requests_total", Help: "Requests to witnesses, by what came of them.",
		}, []string{"witness", "result"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "countersign_log_witness_request_duration_seconds", Help: "Time to a witness's answer.", Buckets: seconds,
		}, []string{"witness"}),
		quorum: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "countersign_log_witness_quorum", Help: "1 while the newest checkpoint of a shard has its quorum of witnesses, else 0.",
		}, []string{"origin"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "countersign_log_witness_quorum_duration_seconds", Help: "Time from a checkpoint's signature to its quorum.", Buckets: seconds,
		}),
	}
	for _, entry := range cfg.Policy.witnesses {
		w.names[entry.url] = entry.name
	}
	w.client = &http.Client{
		Transport: measured{w, &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment}},
		// A cosignature comes from the configured place or not at all.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       cfg.Timeout,
	}
	return w, nil
}

// Describe makes Witnesses a prometheus.Collector.
func (w *Witnesses) Describe(out chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{w.results, w.took, w.quorum, w.waited} {
		c.Describe(out)
	}
}

// Collect makes Witnesses a prometheus.Collector.
func (w *Witnesses) Collect(out chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{w.results, w.took, w.quorum, w.waited} {
		c.Collect(out)
	}
}

// group tells seen whenever the driver asks whether a checkpoint has its quorum.
func (w *Witnesses) group(seen func(met bool)) tessera.WitnessGroup {
	return tessera.NewWitnessGroup(1, watched{w.cfg.Policy.quorum, seen})
}

type watched struct {
	tessera.WitnessGroup
	seen func(met bool)
}

// Satisfied is the group's.
func (g watched) Satisfied(checkpoint []byte) bool {
	met := g.WitnessGroup.Satisfied(checkpoint)
	g.seen(met)
	return met
}

// answer is what a witness said.
type answer struct {
	status int
	// size is what it cosigned last, when it says so.
	size   uint64
	sized  bool
	signed []byte
}

// conflicts tells a witness that has seen another log under our name. checked
// is the largest tree that we can prove.
func (a answer) conflicts(checked uint64) bool {
	switch a.status {
	case http.StatusConflict:
		return !a.sized || a.size > checked
	case http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// readAnswer reads a bounded answer; its body can be read again.
func readAnswer(resp *http.Response) (answer, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limits.WitnessAnswer+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	if len(raw) > limits.WitnessAnswer {
		return answer{}, fmt.Errorf("the answer is larger than %d bytes", limits.WitnessAnswer)
	}
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	a := answer{status: resp.StatusCode, signed: raw}
	if a.status == http.StatusConflict && resp.Header.Get("Content-Type") == "text/x.tlog.size" {
		a.size, err = strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
		a.sized = err == nil
	}
	return a, nil
}

// measured bounds and counts what witnesses answer. Labels are the names of the
// policy.
type measured struct {
	w     *Witnesses
	inner http.RoundTripper
}

// RoundTrip is http.RoundTripper's.
func (m measured) RoundTrip(req *http.Request) (*http.Response, error) {
	name, started := m.w.names[req.URL.String()], m.w.cfg.Clock.Now()
	resp, err := m.inner.RoundTrip(req)
	var a answer
	if err == nil {
		a, err = readAnswer(resp)
	}
	m.w.took.WithLabelValues(name).Observe(m.w.cfg.Clock.Now().Sub(started).Seconds())
	m.w.results.WithLabelValues(name, resultOf(a, err)).Inc()
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func resultOf(a answer, err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "unneeded" // others made the quorum
	case err != nil:
		return "unreachable"
	case a.status == http.StatusOK:
		return "answered"
	case a.status == http.StatusConflict && a.sized:
		return "stale"
	case a.status == http.StatusConflict, a.status == http.StatusUnprocessableEntity:
		return "conflict"
	default:
		return "refused"
	}
}

// spotting is the driver's way to the witnesses: an answer that contradicts the
// log is told to seen before the driver, which only logs it, has it.
type spotting struct {
	inner http.RoundTripper
	seen  func(err error)
	names map[string]string
}

// RoundTrip is http.RoundTripper's.
func (s spotting) RoundTrip(req *http.Request) (*http.Response, error) {
	checked, known := requestSize(req)
	resp, err := s.inner.RoundTrip(req)
	if err != nil || !known {
		return resp, err
	}
	a, err := readAnswer(resp)
	if err != nil {
		return nil, err
	}
	if a.conflicts(checked) {
		s.seen(conflictError(s.names[req.URL.String()], a, checked))
	}
	return resp, nil
}

// requestSize is the size of the checkpoint that the driver submits.
func requestSize(req *http.Request) (uint64, bool) {
	if req.GetBody == nil {
		return 0, false
	}
	body, err := req.GetBody()
	if err != nil {
		return 0, false
	}
	raw, err := io.ReadAll(io.LimitReader(body, tlog.WitnessRequestBytes+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return 0, false
	}
	request, err := tlog.ParseWitnessRequest(raw)
	if err != nil {
		return 0, false
	}
	cp, err := unsignedCheckpoint(request.Checkpoint)
	return cp.Size, err == nil
}

// unsignedCheckpoint reads a note of our own.
func unsignedCheckpoint(raw []byte) (tlog.Checkpoint, error) {
	text, _, _ := bytes.Cut(raw, []byte("\n\n"))
	return tlog.UnmarshalCheckpoint(append(bytes.Clone(text), '\n'))
}

// conflictError says what happened and what to do.
func conflictError(name string, a answer, checked uint64) error {
	what := fmt.Sprintf("knows another tree than ours of %d entries", checked)
	if a.sized {
		what = fmt.Sprintf("has cosigned %d entries, this copy of the log has %d", a.size, checked)
	}
	return fmt.Errorf("%w: witness %s %s: this is an older copy, or another one is running; restore the newest copy, "+
		"and take the witness out of the policy only if it is the one that is wrong", ErrRollback, name, what)
}
