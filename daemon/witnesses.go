package daemon

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/server"
)

// collectors are the parts that measure themselves.
func (d *Daemon) collectors(s *services) []prometheus.Collector {
	all := []prometheus.Collector{d.tuf, d.search, d.anchors, d.monitor, s.unrecorded(), s.verdictCounts()}
	if d.cfg.Witnesses != nil {
		all = append(all, d.cfg.Witnesses)
	}
	if d.scanner != nil {
		all = append(all, d.scanner.counts)
	}
	return all
}

// readyWitnesses tells whether the published checkpoint has its quorum. Whether
// that keeps the log from its work is the log's own answer.
func (d *Daemon) readyWitnesses(parts map[string]error) {
	if d.cfg.Witnesses == nil {
		return
	}
	parts["witnesses"] = nil
	if err := d.log.Witnessed(); err != nil {
		parts["witnesses"] = fmt.Errorf("%w: %w", server.ErrDegraded, err)
	}
}
