package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/pkcs11"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/store"
)

// Replica is a verification replica without a listener: a process on another
// service's PostgreSQL database that verifies and answers admission, and nothing
// else. It has no data folder, no private key that signs anything, and no log.
// What the main service and other replicas change holds for its next question;
// it goes on while the main service is away. It is safe for concurrent use.
type Replica struct {
	cfg      Config
	main     *store.DB
	told     *told
	ring     *keys.Ring
	tokens   *pkcs11.Backend
	services *services
	server   *server.Server
	draining atomic.Bool

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// OpenReplica joins the database of a main service, whose replica key is key. Of
// the configuration it uses what concerns verification, admission and who may
// ask. Database and PublicURL are required, and the main service must have
// started once with the same program.
func OpenReplica(ctx context.Context, cfg Config, key *keys.Master) (*Replica, error) {
	r := &Replica{cfg: cfg}
	if err := r.complete(); err != nil {
		return nil, err
	}
	if err := r.open(ctx, key); err != nil {
		return nil, errors.Join(err, r.release())
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.wg.Go(func() { r.told.run(background) })
	return r, nil
}

func (r *Replica) complete() error {
	c := &r.cfg
	if u, err := url.Parse(c.PublicURL); err != nil || u.Hostname() == "" {
		return errors.New("the public URL must be http(s)://HOST[:PORT]")
	}
	if c.Database == "" {
		return errors.New("a verification replica works on the database of a main service: name it")
	}
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(c.Verdicts.Check(), c.Kubernetes.Check())
}

// open builds the services from the bottom up: each step needs the one before.
func (r *Replica) open(ctx context.Context, key *keys.Master) error {
	public, err := url.Parse(r.cfg.PublicURL)
	if err != nil {
		return err
	}
	r.services = &services{publicURL: r.cfg.PublicURL, public: public, masterSeal: key}
	for _, step := range []func(context.Context, *services) error{r.join, r.openKeys, r.openVerifier, r.openServer} {
		if err := step(ctx, r.services); err != nil {
			return err
		}
	}
	return nil
}

// join opens the database and what the main service published in it.
func (r *Replica) join(ctx context.Context, s *services) (err error) {
	if r.main, err = store.JoinPostgres(ctx, r.cfg.Database); err != nil {
		return fmt.Errorf("joining the database: %w", err)
	}
	if r.told, err = openTold(ctx, r.main.Objects(), s.masterSeal, r.cfg.Logger); err != nil || !r.cfg.SelfSigned {
		return err
	}
	_, err = r.told.certificate(nil)
	return err
}

func (r *Replica) openKeys(ctx context.Context, s *services) (err error) {
	var backends map[string]keys.Backend
	backends, r.tokens = r.cfg.backends()
	r.ring, err = keys.Open(ctx, keys.Config{
		Objects: r.told, Master: s.masterSeal, Clock: r.cfg.Clock, Backends: backends, Refs: r.cfg.KeyRefs,
	})
	if err != nil {
		return fmt.Errorf("opening the published keys: %w", err)
	}
	return nil
}

func (r *Replica) openVerifier(_ context.Context, s *services) error {
	s.journal = audit.New(audit.Config{Chain: r.main.Chain(), Clock: r.cfg.Clock, NewID: newID})
	if err := s.openRecords(r.cfg, r.main, s.masterSeal); err != nil {
		return err
	}
	if err := s.openVerifier(r.cfg, r.ring, r.told.root); err != nil {
		return err
	}
	return s.openCluster(r.cfg)
}

func (r *Replica) openServer(_ context.Context, s *services) error {
	rules, err := admission.New(r.cfg.Admission)
	if err != nil {
		return fmt.Errorf("the settings of admission: %w", err)
	}
	r.server, err = server.New(server.Config{ //nolint:contextcheck // each request has its own
		VerifyOnly: true,
		Verifier:   s.verifier, Catalog: s.catalog, Tokens: s.tokens, Authenticator: s.tokens, IdentityTokens: s.identities,
		ClientCertificates: s.clients, Archive: s.archive, Journal: s.journal, Ready: r.ready,
		Collectors: []prometheus.Collector{s.unrecorded(), s.verdictCounts()},
		Admission:  rules, PullSecrets: s.pullSecrets(r.cfg.Kubernetes),
		Clock: r.cfg.Clock, NewID: newID, Logger: r.cfg.Logger, Version: r.cfg.Version, AnonymousVerify: r.cfg.AnonymousVerify,
	})
	return err
}

func (r *Replica) ready(ctx context.Context) map[string]error {
	parts := map[string]error{
		"database": r.main.Ping(ctx),
		"policies": policyFault(ctx, r.services.catalog),
		"trust":    r.told.refresh(ctx),
	}
	if r.draining.Load() {
		parts["process"] = errStopping
	}
	return parts
}

// Handler serves verification, admission and what operating them takes.
func (r *Replica) Handler() http.Handler { return r.server.Handler() }

// ServingCertificate is the certificate to serve TLS with, which the main service
// made; nil unless Config.SelfSigned.
func (r *Replica) ServingCertificate() func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if !r.cfg.SelfSigned {
		return nil
	}
	return r.told.certificate
}

// Drain makes the replica say that it is not ready, so that a balancer sends new
// callers elsewhere; it goes on answering.
func (r *Replica) Drain() { r.draining.Store(true) }

// Close ends the background work and leaves the database.
func (r *Replica) Close(context.Context) error {
	r.stop()
	r.wg.Wait()
	return r.release()
}

func (r *Replica) release() error {
	var errs []error
	if r.tokens != nil {
		errs = append(errs, r.tokens.Close())
	}
	if r.main != nil {
		errs = append(errs, r.main.Close())
	}
	return errors.Join(errs...)
}
