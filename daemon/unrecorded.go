package daemon

import "github.com/prometheus/client_golang/prometheus"

// unrecorded counts the verdicts that were answered while the journal's storage
// was exhausted: an alarm on it is due.
func (s *services) unrecorded() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "countersign_decisions_unrecorded_total",
		Help: "Verdicts answered that could not be recorded, because storage is exhausted.",
	}, func() float64 { return float64(s.verifier.Unrecorded()) })
}
