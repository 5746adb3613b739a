package daemon

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/internal/limits"
)

// otherNamespaces stands for those that have no series of their own; no namespace
// can be called so.
const otherNamespaces = "_other"

// scanCounts are the metrics of scans. Which namespaces have a series is bounded
// (row H6): those with the most that fails come first.
type scanCounts struct {
	images, pods, truncated, last, scans *prometheus.Desc

	mu sync.Mutex
	// Guarded by mu.
	running         map[[2]string]int
	podCount        int
	more            bool
	at              time.Time
	finished, fails uint64
}

func newScanCounts() *scanCounts {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &scanCounts{
		images:    desc("countersign_running_images", "Images that run by what the last scan says of them: passed, failed, or undecided because nothing could be found out.", "namespace", "verdict"),
		pods:      desc("countersign_running_pods", "Pods that the last scan looked at."),
		truncated: desc("countersign_cluster_scan_truncated", "1 when there were more pods than one scan looks at."),
		last:      desc("countersign_cluster_scan_last_timestamp_seconds", "When the last scan ended that looked at everything it should."),
		scans:     desc("countersign_cluster_scans_total", "Scans by how they ended: done or failed.", "outcome"),
	}
}

func (c *scanCounts) failed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fails++
}

func (c *scanCounts) done(at time.Time, pods int, truncated bool, judged []judgedImage) {
	running := countRunning(judged)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running, c.podCount, c.more, c.at = running, pods, truncated, at
	c.finished++
}

// countRunning counts images by namespace and state.
func countRunning(judged []judgedImage) map[[2]string]int {
	failed := map[string]int{}
	for _, j := range judged {
		failed[j.namespace] += 0
		if j.state == stateFailed {
			failed[j.namespace]++
		}
	}
	shown := slices.SortedFunc(maps.Keys(failed), func(a, b string) int {
		return cmp.Or(cmp.Compare(failed[b], failed[a]), cmp.Compare(a, b))
	})
	shown = shown[:min(len(shown), limits.ScanNamespaces)]
	out := map[[2]string]int{}
	for _, name := range shown {
		for _, state := range []string{statePassed, stateFailed, stateUndecided} {
			out[[2]string{name, state}] = 0
		}
	}
	for _, j := range judged {
		name := j.namespace
		if _, ok := out[[2]string{name, stateFailed}]; !ok {
			name = otherNamespaces
		}
		out[[2]string{name, j.state}]++
	}
	return out
}

// Describe tells the names.
func (c *scanCounts) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.images, c.pods, c.truncated, c.last, c.scans} {
		out <- d
	}
}

// Collect tells the counts.
func (c *scanCounts) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for outcome, n := range map[string]uint64{"done": c.finished, "failed": c.fails} {
		out <- prometheus.MustNewConstMetric(c.scans, prometheus.CounterValue, float64(n), outcome)
	}
	if c.at.IsZero() {
		return
	}
	for at, n := range c.running {
		gauge(c.images, float64(n), at[0], at[1])
	}
	gauge(c.pods, float64(c.podCount))
	more := 0.0
	if c.more {
		more = 1
	}
	gauge(c.truncated, more)
	gauge(c.last, float64(c.at.Unix()))
}
