package monitor_test

import (
	"context"
	"io/fs"
	"testing"

	"github.com/countersign/countersign/tlog/monitor"
)

// direct reads a log without HTTP.
func (s *served) direct() monitor.Source {
	return monitor.Source{URL: "direct", Fetch: func(_ context.Context, path string) ([]byte, error) {
		if raw := s.get(path); raw != nil {
			return raw, nil
		}
		return nil, fs.ErrNotExist
	}}
}

// BenchmarkIdle is a look at a log that stands still.
func BenchmarkIdle(b *testing.B) {
	s := newServed(b).add(entries(0, 100_000)...)
	w := newWatched(b, s, "")
	w.cfg.Logs[0].Source = s.direct()
	m, err := monitor.New(w.cfg)
	must(b, err)
	_, err = m.Pass(b.Context())
	must(b, err)
	for b.Loop() {
		_, err := m.Pass(b.Context())
		must(b, err)
	}
}

// BenchmarkFirst is the first look at a log; entries/s says how fast new entries
// are looked at.
func BenchmarkFirst(b *testing.B) {
	for name, watch := range map[string]bool{"consistency": false, "watch": true} {
		b.Run(name, func(b *testing.B) {
			const n = 10_000
			key, id := newKey(b)
			one := signed(b, key)
			all := make([][]byte, n)
			for i := range all {
				all[i] = one
			}
			s := newServed(b).add(all...)
			rules := ""
			if watch {
				rules = "keys: {expected: [" + id + "]}"
			}
			for b.Loop() {
				w := newWatched(b, s, rules)
				w.cfg.Logs[0].Source = s.direct()
				w.expect("first look")
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
