package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/cluster"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/tlog/monitor"
	"github.com/countersign/countersign/verifier"
)

// What a scan says of an image. An image is undecided when its FAILED says only
// that nothing could be found out.
const (
	statePassed    = "passed"
	stateFailed    = "failed"
	stateUndecided = "undecided"
)

// scanner judges what runs again and again: a running pod is not admitted anew
// when a key is revoked or an attestation grows old. Its verdicts are decisions
// like those of any caller, so the forecast covers what runs.
type scanner struct {
	client   *cluster.Client
	verifier *verifier.Verifier
	cfg      *Config
	pulls    bool
	hook     *monitor.Webhook
	counts   *scanCounts

	// before is what the last scan said, by question; only run uses it.
	before map[running]string
}

// running is one image in one namespace.
type running struct{ namespace, image string }

// judgedImage is what a scan says of it.
type judgedImage struct {
	running
	state      string
	reasons    []policy.Reason
	decision   string
	workloads  []string
	changedFor string
}

func newScanner(d *Daemon, s *services) *scanner {
	return &scanner{
		client: s.cluster, verifier: s.verifier, cfg: &d.cfg, pulls: d.cfg.Kubernetes.PullSecrets != PullNever,
		hook: d.hook(), counts: newScanCounts(), before: map[running]string{},
	}
}

// run scans at once and then after each pause.
func (s *scanner) run(ctx context.Context) {
	for {
		if err := s.scan(ctx); err != nil && ctx.Err() == nil {
			s.counts.failed()
			s.cfg.Logger.ErrorContext(ctx, "what runs in the cluster was not scanned", "error", err)
		}
		if !wait(ctx, s.cfg.Kubernetes.ScanInterval) {
			return
		}
	}
}

func (s *scanner) scan(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limits.ScanTime)
	defer cancel()
	found, err := s.client.Running(ctx, "")
	if err != nil {
		return err
	}
	var judged []judgedImage
	for _, q := range questionsOf(found.Pods) {
		more, err := s.ask(ctx, q)
		if err != nil {
			return err
		}
		judged = append(judged, more...)
	}
	s.counts.done(s.cfg.Clock.Now(), len(found.Pods), found.Truncated, judged)
	s.tell(ctx, s.changes(judged))
	return nil
}

// scanQuestion is about images of one namespace that are pulled with the same secrets.
type scanQuestion struct {
	pull   cluster.Pull
	images []string
	// workloads by image.
	workloads map[string][]string
}

// questionsOf puts pods together: what is asked and pulled alike is asked once.
func questionsOf(pods []cluster.Pod) []scanQuestion {
	byPull := map[string]*scanQuestion{}
	for _, pod := range pods {
		key := strings.Join(append([]string{pod.Pull.Namespace, pod.Pull.ServiceAccount}, pod.Pull.Secrets...), "\x00")
		q, ok := byPull[key]
		if !ok {
			q = &scanQuestion{pull: pod.Pull, workloads: map[string][]string{}}
			byPull[key] = q
		}
		for _, image := range pod.Images {
			have := q.workloads[image.Runs]
			if len(have) == 0 {
				q.images = append(q.images, image.Runs)
			}
			if w := pod.Workload.String(); !slices.Contains(have, w) {
				q.workloads[image.Runs] = append(have, w)
			}
		}
	}
	var out []scanQuestion
	for _, key := range slices.Sorted(maps.Keys(byPull)) {
		out = append(out, *byPull[key])
	}
	return out
}

// ask judges the images of a question, a bounded number at a time.
func (s *scanner) ask(ctx context.Context, q scanQuestion) ([]judgedImage, error) {
	place := map[string]string{"namespace": q.pull.Namespace}
	if s.cfg.Kubernetes.Cluster != "" {
		place["cluster"] = s.cfg.Kubernetes.Cluster
	}
	var keychain registry.Keychain
	if s.pulls && len(q.images) > 0 {
		var notes []string
		keychain, notes = s.client.Keychain(ctx, q.pull)
		for _, note := range notes {
			s.cfg.Logger.DebugContext(ctx, "pull secret", slog.String("namespace", q.pull.Namespace), slog.String("note", note))
		}
	}
	var out []judgedImage
	for images := range slices.Chunk(q.images, limits.ScanBatch) {
		answer, err := s.verifier.Verify(ctx, verifier.Request{
			Images: images, Context: place, Keychain: keychain, Timeout: limits.VerifyTimeoutMax,
			Caller: identity.Identity{Issuer: "countersign", Subject: "cluster-scan"},
		})
		if err != nil {
			return nil, fmt.Errorf("judging what runs in %s: %w", q.pull.Namespace, err)
		}
		for _, r := range answer.Results {
			out = append(out, judgedImage{
				running: running{q.pull.Namespace, r.Image}, state: stateOf(r), reasons: r.Reasons, decision: r.DecisionID, workloads: q.workloads[r.Image],
			})
		}
	}
	return out, nil
}

func stateOf(r verifier.Result) string {
	if r.Verdict == policy.Passed {
		return statePassed
	}
	for _, reason := range r.Reasons {
		if reason.Code != policy.RegistryUnavailable && reason.Code != policy.DeadlineExceeded {
			return stateFailed
		}
	}
	return stateUndecided
}

// changes are the images whose state is another than at the last scan, and what
// does not pass among those that were not there. An outage is no change: what was
// known before stays.
func (s *scanner) changes(judged []judgedImage) []judgedImage {
	now := make(map[running]string, len(judged))
	var out []judgedImage
	for _, j := range judged {
		before, known := s.before[j.running]
		state := j.state
		if state == stateUndecided {
			if _, twice := now[j.running]; known && !twice {
				now[j.running] = before
			}
			continue
		}
		if other, twice := now[j.running]; twice && (other == state || other == stateFailed) {
			continue // pulled in two ways; that one of them fails is what counts
		}
		now[j.running] = state
		if before != state && (known || state != statePassed) {
			j.changedFor = before
			out = append(out, j)
		}
	}
	s.before = now
	return out
}

// change is how the webhook hears of one image.
type change struct {
	Namespace string          `json:"namespace"`
	Image     string          `json:"image"`
	Workloads []string        `json:"workloads"`
	Before    string          `json:"before,omitempty"`
	State     string          `json:"state"`
	Reasons   []policy.Reason `json:"reasons"`
	Decision  string          `json:"decisionId,omitempty"`
}

// tell writes a line for each change and sends one event with all of them, both
// to a bound; the metrics have all.
func (s *scanner) tell(ctx context.Context, changes []judgedImage) {
	if len(changes) == 0 {
		return
	}
	slices.SortStableFunc(changes, func(a, b judgedImage) int { return strings.Compare(a.state, b.state) }) // failed first
	total := len(changes)
	changes = changes[:min(total, limits.ScanChanges)]
	var items []change
	for _, j := range changes {
		level := slog.LevelInfo
		if j.state == stateFailed {
			level = slog.LevelWarn
		}
		c := change{Namespace: j.namespace, Image: j.image, Workloads: j.workloads, Before: j.changedFor, State: j.state, Reasons: append([]policy.Reason{}, j.reasons...), Decision: j.decision}
		items = append(items, c)
		s.cfg.Logger.Log(ctx, level, "running image changed its verdict", "namespace", c.Namespace, "image", c.Image,
			"workloads", strings.Join(c.Workloads, ","), "before", c.Before, "now", c.State, "reasons", codesOf(c.Reasons), "decision", c.Decision)
	}
	if s.hook == nil {
		return
	}
	err := s.hook.Send(ctx, monitor.Event{
		ID: newID(), Type: "cluster.scan", Subject: s.cfg.Kubernetes.Cluster, Time: s.cfg.Clock.Now().Truncate(time.Second),
		Data: map[string]any{"changes": items, "total": total},
	})
	if err != nil {
		s.cfg.Logger.ErrorContext(ctx, "the webhook was not told of what runs", "error", err)
	}
}

func codesOf(reasons []policy.Reason) string {
	var codes []string
	for _, r := range reasons {
		codes = append(codes, string(r.Code))
	}
	return strings.Join(codes, ",")
}
