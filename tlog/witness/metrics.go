package witness

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/countersign/countersign/tlog"
)

// metrics counts answers. Labels are bounded: configured origins and the codes
// of the protocol.
type metrics struct {
	registry *prometheus.Registry
	answers  *prometheus.CounterVec
	size     *prometheus.GaugeVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_witness_requests_total", Help: "Answered requests, by what was decided.",
		}, []string{"result"}),
		size: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "countersign_witness_cosigned_size", Help: "Entries under the checkpoint cosigned last in this process.",
		}, []string{"origin"}),
	}
	m.registry.MustRegister(m.answers, m.size)
	return m
}

func (m *metrics) cosigned(cp tlog.Checkpoint) {
	m.size.WithLabelValues(cp.Origin).Set(float64(cp.Size))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
