package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/revocation"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

// VerdictConfig says how long a verdict is remembered; the zero value has the
// defaults of package limits.
type VerdictConfig struct {
	// PassedTTL and FailedTTL are the ages up to which a verdict is answered again
	// while nothing that it rests on changed; negative remembers none.
	PassedTTL, FailedTTL time.Duration
	// StaleIfError is the age up to which a PASSED is answered, and marked, while
	// its registry cannot be reached; 0 is never.
	StaleIfError time.Duration
	// RevocationHosts may have private addresses when asked whether a certificate
	// is revoked.
	RevocationHosts []string
}

// Check refuses what is beyond the limits.
func (c VerdictConfig) Check() error {
	if c.PassedTTL > limits.VerdictTTLMax || c.FailedTTL > limits.VerdictTTLMax {
		return fmt.Errorf("a verdict is remembered for at most %s", limits.VerdictTTLMax)
	}
	if c.StaleIfError < 0 || c.StaleIfError > limits.StaleIfErrorMax {
		return fmt.Errorf("a verdict that is answered without its registry may be at most %s old", limits.StaleIfErrorMax)
	}
	return nil
}

// judged shows the registries to the verifier, which takes a manifest that was
// read a moment ago as still there.
type judged struct{ *registry.Client }

// Resolve is the client's ResolveRecent.
func (j judged) Resolve(ctx context.Context, ref registry.Reference) (registry.Manifest, error) {
	return j.ResolveRecent(ctx, ref)
}

// Lend is the client with a keychain.
func (j judged) Lend(k registry.Keychain) verifier.Registry { return lentJudged{j.Lent(k)} }

// lentJudged is judged with a keychain.
type lentJudged struct{ *registry.Lent }

// Resolve is the client's ResolveRecent.
func (j lentJudged) Resolve(ctx context.Context, ref registry.Reference) (registry.Manifest, error) {
	return j.ResolveRecent(ctx, ref)
}

func (d *Daemon) openVerifier(_ context.Context, s *services) error {
	return s.openVerifier(d.cfg, d.ring.Ring, s.trustRoot)
}

// openVerifier opens the verifier on the records, with the keys and the trusted
// root that are named.
func (s *services) openVerifier(cfg Config, ring *keys.Ring, root func() trust.Root) error {
	revocations, err := revocation.New(revocation.Config{PrivateHosts: cfg.Verdicts.RevocationHosts})
	if err != nil {
		return err
	}
	s.verifier, err = verifier.New(verifier.Config{
		Registry: judged{s.registry}, Archive: s.archive, Keys: ring, Policies: policies{s.catalog},
		Trust: root, Roots: s.catalog, Exceptions: s.catalog, References: ring, Revocations: revocations, PublicURL: s.publicURL, Version: cfg.Version,
		NewID: newID, Clock: cfg.Clock, Logger: cfg.Logger,
		PassedTTL: cfg.Verdicts.PassedTTL, FailedTTL: cfg.Verdicts.FailedTTL, StaleIfError: cfg.Verdicts.StaleIfError,
	})
	return err
}

// verdictCounts are the verifier's own counts.
type verdictCounts struct {
	verifier *verifier.Verifier
	answers  *prometheus.Desc
	refused  *prometheus.Desc
	readings *prometheus.Desc
}

func (s *services) verdictCounts() prometheus.Collector {
	return verdictCounts{
		verifier: s.verifier,
		answers: prometheus.NewDesc("countersign_verdicts_total",
			"Verdicts by how they were found: remembered, worked out, shared with a question that asked the same at the same time, or stale because the registry could not be reached.",
			[]string{"from"}, nil),
		refused: prometheus.NewDesc("countersign_verdicts_refused_total",
			"Questions refused at once because too many wait for their registry.", nil, nil),
		readings: prometheus.NewDesc("countersign_trust_readings_shared_total",
			"Questions that read the trust in force together with another.", nil, nil),
	}
}

// Describe tells the names.
func (c verdictCounts) Describe(out chan<- *prometheus.Desc) {
	out <- c.answers
	out <- c.refused
	out <- c.readings
}

// Collect tells the counts.
func (c verdictCounts) Collect(out chan<- prometheus.Metric) {
	s := c.verifier.Stats()
	for from, n := range map[string]uint64{"memory": s.Hits, "work": s.Rounds, "shared": s.Shared, "stale": s.Stale} {
		out <- prometheus.MustNewConstMetric(c.answers, prometheus.CounterValue, float64(n), from)
	}
	out <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(s.Refused))
	out <- prometheus.MustNewConstMetric(c.readings, prometheus.CounterValue, float64(s.SharedReadings))
}
