package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/google/uuid"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest/notary"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/cluster"
	"github.com/countersign/countersign/identity/mtls"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/identity/token"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/verifier"
)

// Names within the data folder.
const (
	masterFile = "master.key"
	rootFile   = "trusted_root.json"
)

// services are the parts that only wiring needs to name.
type services struct {
	publicURL  string
	public     *url.URL
	log        *sequencer.Log
	stamper    *authority.Timestamper
	issuer     *authority.Issuer
	notary     *authority.Notary
	journal    *audit.Journal
	archive    *archive.Archive
	tokens     *token.Tokens
	identities *oidc.Verifier
	clients    *mtls.Verifier
	registry   *registry.Client
	verifier   *verifier.Verifier
	catalog    *catalog.Catalog
	// cluster is nil without one.
	cluster    *cluster.Client
	masterSeal *keys.Master
	// replicaSeal is what replicas open; nil without a database that they could share.
	replicaSeal *keys.Master
	// publisher is nil without a database that replicas could share.
	publisher *publisher
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// openServices builds everything above the stores, each from those before it,
// and resumes what a crash interrupted before a request can come in.
func (d *Daemon) openServices(ctx context.Context) error {
	s := &services{publicURL: d.cfg.PublicURL, public: d.public}
	for _, step := range []func(context.Context, *services) error{
		d.openKeys, d.claimDatabase, d.openServing, d.openAuthorities, d.openAnchors, d.openRecords, d.tellJournalKey, d.openSummaries, d.openVerifier,
		d.openSigner, d.openTUF, d.openPublisher, d.finishLog, d.finishRestore, d.openLogMode, d.openSearch, d.openMonitor, d.openKubernetes, d.openServer,
	} {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	if err := d.ensureAdmin(ctx, s.tokens, s.journal); err != nil {
		return err
	}
	if err := d.signer.Resume(ctx); err != nil {
		return fmt.Errorf("resuming unfinished signing: %w", err)
	}
	return nil
}

func (d *Daemon) openKeys(ctx context.Context, s *services) error {
	var err error
	if s.masterSeal, err = keys.OpenMaster(d.path(masterFile)); err != nil {
		return fmt.Errorf("opening the master key: %w", err)
	}
	if d.main != d.local {
		if s.replicaSeal, err = s.masterSeal.Replica(); err != nil {
			return err
		}
	}
	refs := d.cfg.Authorities.byPurpose()
	d.ring.refs = refs
	var backends map[string]keys.Backend
	backends, d.tokens = d.cfg.backends()
	d.ring.Ring, err = keys.Open(ctx, keys.Config{
		Objects: d.local.Objects(), Master: s.masterSeal, Clock: d.cfg.Clock,
		Backends: backends, Refs: d.cfg.KeyRefs, Reserved: slices.Collect(maps.Values(refs)),
		Changed: func(ctx context.Context) error { return s.publisher.publish(ctx) },
	})
	if err != nil {
		return fmt.Errorf("opening the key ring: %w", err)
	}
	return nil
}

// claimDatabase keeps a database for one data folder: two services on one would
// finish each other's signing and overwrite what replicas believe.
func (d *Daemon) claimDatabase(ctx context.Context, s *services) error {
	if d.main == d.local {
		return nil
	}
	own, err := json.Marshal(map[string]string{"master": s.masterSeal.ID()})
	if err != nil {
		return err
	}
	objects := d.main.Objects()
	claim, err := objects.Get(ctx, setupKind, ownerName)
	if errors.Is(err, store.ErrNotFound) {
		if claim, err = objects.Put(ctx, store.Object{Kind: setupKind, Name: ownerName, Body: own}); errors.Is(err, store.ErrExists) {
			claim, err = objects.Get(ctx, setupKind, ownerName)
		}
	}
	if err != nil {
		return fmt.Errorf("claiming the database: %w", err)
	}
	if !bytes.Equal(claim.Body, own) {
		return fmt.Errorf("%w: use that folder, an empty database, or a verification replica (--role verify)", ErrClaimed)
	}
	return nil
}

func (d *Daemon) openRecords(ctx context.Context, s *services) error {
	s.journal = audit.New(audit.Config{Chain: d.main.Chain(), Clock: d.cfg.Clock, NewID: newID, Appended: d.anchors.Appended})
	if err := s.openRecords(d.cfg, d.main, s.credentialSealer()); err != nil {
		return err
	}
	d.catalog = s.catalog
	return d.shareCredentials(ctx, s)
}

// openRecords opens what is kept in the database, and who is known by it.
func (s *services) openRecords(cfg Config, db *store.DB, sealer catalog.Sealer) error {
	s.archive = archive.New(archive.Config{Bundles: db.Bundles(), Decisions: db.Decisions(), Clock: cfg.Clock, NewID: newID})
	s.tokens = token.New(token.Config{Objects: db.Objects(), Clock: cfg.Clock})
	var err error
	s.catalog, err = catalog.New(catalog.Config{Objects: db.Objects(), Sealer: sealer})
	if err != nil {
		return err
	}
	s.identities, err = oidc.New(oidc.Config{Issuers: s.catalog, Used: db.Uses(), Clock: cfg.Clock, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	if s.clients, err = mtls.New(s.catalog, cfg.Clock); err != nil {
		return err
	}
	s.registry = registry.New(registry.Config{
		Rules: s.catalog, Clock: cfg.Clock, Logger: cfg.Logger, UserAgent: "countersign/" + cfg.Version,
	})
	return nil
}

func (d *Daemon) openSigner(_ context.Context, s *services) error {
	var err error
	d.signer, err = signer.New(signer.Config{
		Registry: s.registry, Rules: d.catalog, Keys: d.ring, Log: d.log,
		Timestamper: s.stamper, Certificates: s.issuer, Notary: notaryParts{s.notary, s.stamper}, Archive: s.archive, Operations: d.main.Operations(), Journal: s.journal,
		ProvenanceRules: d.catalog.ProvenanceRules, SummaryKey: summaryKey,
		Grants: d.catalog.Grants, Checker: signer.CheckFunc(s.checkFresh),
		Clock: d.cfg.Clock, NewID: newID, Logger: d.cfg.Logger,
	})
	return err
}

// checkFresh has the verifier judge what the signer is about to release; the
// two do not know each other.
func (s *services) checkFresh(ctx context.Context, f signer.Fresh) error {
	fresh := verifier.Fresh{
		Digest: f.Digest, Format: f.Format, PredicateType: f.PredicateType, Bundle: f.Bundle,
		Public: f.Public, Certificate: f.Certificate,
	}
	if f.Format == signer.FormatLegacy && f.PredicateType != "" {
		fresh.Format = registry.FormatLegacyAttestation
	}
	if f.Format == signer.FormatNotation {
		fresh.Envelope, fresh.LogEntry = &registry.Envelope{MediaType: notary.MediaTypeJWS, Content: f.Payload}, f.LogEntry
	}
	if f.Format == signer.FormatLegacy {
		fresh.Legacy = &registry.Legacy{Payload: f.Payload, Annotations: f.Annotations}
	}
	return s.verifier.CheckFresh(ctx, fresh)
}

func (d *Daemon) openServer(_ context.Context, s *services) error {
	rules, err := admission.New(d.cfg.Admission)
	if err != nil {
		return fmt.Errorf("the settings of admission: %w", err)
	}
	d.server, err = server.New(server.Config{
		Signer: d.signer, Verifier: s.verifier, Keys: d.ring.Ring, Catalog: d.catalog,
		Tokens: s.tokens, Authenticator: s.tokens, IdentityTokens: s.identities, ClientCertificates: s.clients, Registry: s.registry, Log: d.log,
		Timestamper: s.stamper, Archive: s.archive, Journal: s.journal,
		Trust: s.trustRoot, TUF: d.tuf, Ready: d.ready,
		Certificates: s.issuer, Authorities: d.authorities,
		Collectors: d.collectors(s), Anchors: d.anchors, LogSearch: d.search, Backup: d.Backup, LogModes: d, Admission: rules, PullSecrets: s.pullSecrets(d.cfg.Kubernetes),
		ServingCA: d.ServingBundle,
		Clock:     d.cfg.Clock, NewID: newID, Logger: d.cfg.Logger, Version: d.cfg.Version,
		AnonymousVerify: d.cfg.AnonymousVerify, AnonymousLogWrites: d.cfg.AnonymousLogWrites,
	})
	return err
}

// ready asks each part that can stop working while the process lives.
func (d *Daemon) ready(ctx context.Context) map[string]error {
	parts := map[string]error{
		"database": errors.Join(d.local.Ping(ctx), d.main.Ping(ctx)),
		"log":      d.log.Ready(ctx),
		"shards":   frozenFaults(d.log),
		"search":   d.searchFault(),
		"journal":  d.anchorFaults(ctx),
		"monitor":  d.monitor.ready(),
		"policies": policyFault(ctx, d.catalog),
	}
	if d.draining.Load() {
		parts["process"] = errStopping
	}
	if d.publisher != nil {
		parts["replicas"] = d.publisher.standing()
	}
	d.readyWitnesses(parts)
	return parts
}

var errStopping = errors.New("the process is about to stop")

// policyFault says why no question could be answered: the policies cannot be
// read. That there are none is no fault; every image is refused then.
func policyFault(ctx context.Context, c *catalog.Catalog) error {
	_, err := c.Policies(ctx)
	return err
}

// policies shows the catalog to the verifier in its own words.
type policies struct{ *catalog.Catalog }

// Policies returns every policy in force.
func (p policies) Policies(ctx context.Context) ([]verifier.Loaded, error) {
	entries, err := p.Catalog.Policies(ctx)
	if err != nil {
		return nil, err
	}
	loaded := make([]verifier.Loaded, 0, len(entries))
	for _, e := range entries {
		loaded = append(loaded, verifier.Loaded{Policy: e.Value, Revision: e.Revision})
	}
	return loaded, nil
}
