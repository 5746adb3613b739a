package daemon

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/identity/token"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

// The service's own keys. They are made at the first start; their names are
// taken for good.
const (
	logKey     = "countersign-log"
	stampRoot  = "countersign-tsa-root"
	stampKey   = "countersign-tsa"
	masterFile = "master.key"
	rootFile   = "trusted_root.json"
	logFolder  = "log"
)

// services are the parts that only wiring needs to name.
type services struct {
	logSigner  crypto.Signer
	stamper    *authority.Timestamper
	journal    *audit.Journal
	archive    *archive.Archive
	tokens     *token.Tokens
	registry   *registry.Client
	verifier   *verifier.Verifier
	root       trust.Root
	masterSeal *keys.Master
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// openServices builds everything above the stores, each from those before it,
// and resumes what a crash interrupted before a request can come in.
func (d *Daemon) openServices(ctx context.Context) error {
	s := &services{}
	for _, step := range []func(context.Context, *services) error{
		d.openKeys, d.openAuthorities, d.openRecords, d.openVerifier, d.openSigner, d.openServer,
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
	d.ring, err = keys.Open(ctx, keys.Config{Objects: d.local.Objects(), Master: s.masterSeal, Clock: d.cfg.Clock})
	if err != nil {
		return fmt.Errorf("opening the key ring: %w", err)
	}
	return nil
}

// serviceKey makes one of the service's own keys, or finds it.
func (d *Daemon) serviceKey(ctx context.Context, name, purpose string) (keys.Key, crypto.Signer, error) {
	key, err := d.ring.Ensure(ctx, keys.Spec{Name: name, Algorithm: keys.ECDSAP256, Purposes: []string{purpose}})
	if err != nil {
		return keys.Key{}, nil, fmt.Errorf("making key %s: %w", name, err)
	}
	signer, err := d.ring.Signer(ctx, name)
	if err != nil {
		return keys.Key{}, nil, fmt.Errorf("opening key %s: %w", name, err)
	}
	return key, signer, nil
}

// openAuthorities opens the log and the timestamp authority and publishes what
// outsiders must believe to verify either.
func (d *Daemon) openAuthorities(ctx context.Context, s *services) error {
	_, rootSigner, err := d.serviceKey(ctx, stampRoot, "tsa-root")
	if err != nil {
		return err
	}
	_, leafSigner, err := d.serviceKey(ctx, stampKey, "tsa")
	if err != nil {
		return err
	}
	s.stamper, err = authority.OpenTimestamper(ctx, authority.TimestampConfig{
		Root: rootSigner, Leaf: leafSigner, Objects: d.local.Objects(),
		Organization: d.cfg.Organization, Clock: d.cfg.Clock,
	})
	if err != nil {
		return fmt.Errorf("opening the timestamp authority: %w", err)
	}
	key, logSigner, err := d.serviceKey(ctx, logKey, "log")
	if err != nil {
		return err
	}
	s.logSigner = logSigner
	d.log, err = sequencer.Open(ctx, sequencer.Config{
		Dir: d.path(logFolder), Origin: d.origin, Signer: logSigner, Leaves: d.local.Leaves(),
		CheckpointInterval: d.cfg.CheckpointInterval, Clock: d.cfg.Clock, Logger: d.cfg.Logger,
	})
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	return d.publishTrust(s, key)
}

// publishTrust builds the trusted root and leaves a copy in the data folder
// for commands that work without the service.
func (d *Daemon) publishTrust(s *services, log keys.Key) error {
	s.root = trust.Root{Logs: []trust.Log{{
		BaseURL: d.cfg.PublicURL, Origin: d.origin, Public: s.logSigner.Public(),
		// An entry's promise has whole seconds: one of the key's first second
		// would lie before the key.
		Start: log.CreatedAt.Truncate(time.Second),
	}}}
	stamps := d.cfg.PublicURL + "/api/v1/timestamp"
	for i, chain := range s.stamper.Retired() {
		// Each authority needs a URI of its own, or their stamps count once.
		s.root.TimestampAuthorities = append(s.root.TimestampAuthorities, trust.TimestampAuthority{
			URI: fmt.Sprintf("%s?retired=%d", stamps, i), Chain: chain, Start: chain[0].NotBefore, End: &chain[0].NotAfter,
		})
	}
	current := s.stamper.Chain()
	s.root.TimestampAuthorities = append(s.root.TimestampAuthorities, trust.TimestampAuthority{
		URI: stamps, Chain: current, Start: current[0].NotBefore,
	})
	document, err := s.root.MarshalTrustedRoot()
	if err != nil {
		return fmt.Errorf("making the trusted root: %w", err)
	}
	if err := writeFile(d.path(rootFile), document, 0o644); err != nil {
		return fmt.Errorf("writing the trusted root: %w", err)
	}
	return nil
}

func (d *Daemon) openRecords(_ context.Context, s *services) error {
	s.journal = audit.New(audit.Config{Chain: d.main.Chain(), Clock: d.cfg.Clock, NewID: newID})
	s.archive = archive.New(archive.Config{Bundles: d.main.Bundles(), Decisions: d.main.Decisions(), Clock: d.cfg.Clock, NewID: newID})
	s.tokens = token.New(token.Config{Objects: d.main.Objects(), Clock: d.cfg.Clock})
	var err error
	d.catalog, err = catalog.New(catalog.Config{Objects: d.main.Objects(), Sealer: s.masterSeal})
	if err != nil {
		return err
	}
	s.registry = registry.New(registry.Config{
		Rules: d.catalog, Clock: d.cfg.Clock, Logger: d.cfg.Logger, UserAgent: "countersign/" + d.cfg.Version,
	})
	return nil
}

func (d *Daemon) openVerifier(_ context.Context, s *services) error {
	var err error
	s.verifier, err = verifier.New(verifier.Config{
		Registry: s.registry, Archive: s.archive, Keys: d.ring, Policies: policies{d.catalog},
		Trust: func() trust.Root { return s.root },
		NewID: newID, Clock: d.cfg.Clock, Logger: d.cfg.Logger,
	})
	return err
}

func (d *Daemon) openSigner(_ context.Context, s *services) error {
	var err error
	d.signer, err = signer.New(signer.Config{
		Registry: s.registry, Rules: d.catalog, Keys: d.ring, Log: d.log, LogSigner: s.logSigner,
		Timestamper: s.stamper, Archive: s.archive, Operations: d.main.Operations(), Journal: s.journal,
		Grants: d.catalog.Grants, Checker: signer.CheckFunc(s.checkFresh),
		Clock: d.cfg.Clock, NewID: newID, Logger: d.cfg.Logger,
	})
	return err
}

// checkFresh has the verifier judge what the signer is about to release; the
// two do not know each other.
func (s *services) checkFresh(ctx context.Context, f signer.Fresh) error {
	fresh := verifier.Fresh{Digest: f.Digest, Format: f.Format, Bundle: f.Bundle, Public: f.Public}
	if f.Format == signer.FormatLegacy {
		fresh.Legacy = &registry.Legacy{Payload: f.Payload, Annotations: f.Annotations}
	}
	return s.verifier.CheckFresh(ctx, fresh)
}

func (d *Daemon) openServer(_ context.Context, s *services) error {
	var err error
	d.server, err = server.New(server.Config{
		Signer: d.signer, Verifier: s.verifier, Keys: d.ring, Catalog: d.catalog,
		Tokens: s.tokens, Authenticator: s.tokens, Registry: s.registry, Log: d.log,
		Timestamper: s.stamper, Archive: s.archive, Journal: s.journal,
		Trust: func() trust.Root { return s.root }, Ready: d.ready,
		Clock: d.cfg.Clock, NewID: newID, Logger: d.cfg.Logger, Version: d.cfg.Version,
		AnonymousVerify: d.cfg.AnonymousVerify, AnonymousLogWrites: d.cfg.AnonymousLogWrites,
	})
	return err
}

// ready asks each part that can stop working while the process lives.
func (d *Daemon) ready(ctx context.Context) map[string]error {
	return map[string]error{
		"database": errors.Join(d.local.Ping(ctx), d.main.Ping(ctx)),
		"log":      d.log.Ready(ctx),
	}
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
