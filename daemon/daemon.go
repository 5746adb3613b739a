// Package daemon opens one data folder and wires the services on it. It is the
// one place that knows every constructor; the command line, the demo and the
// black-box tests start the same thing.
//
// A data folder holds
//
//	lock                a lock held while a process serves the folder
//	master.key          the key that all private keys are sealed under (0600)
//	countersign.db      the embedded database; with an external one, only the
//	                    sealed keys and the log's index
//	log/, log-2/ …      the transparency log's tiles and checkpoints, a folder
//	                    for each shard
//	admin.token         the first administrator's token (0600)
//	tuf/                the TUF repository, as served under /tuf/
//	trusted_root.json   what outsiders believe, for offline commands
//	restored.json       after a restore, until the next start
//	journal.pem         the public keys that anchor the audit journal
//	tls-ca.pem          the authority of the service's own TLS certificate, if it
//	                    makes one
//	monitor/            what the monitor has verified of the log
//
// A Replica has none: it joins the external database of a Daemon.
//
// It decides nothing: what may be signed or run is the business of the
// services it wires.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/countersign/countersign/audit/anchor"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/pkcs11"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/search"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust/tuf"
)

// ErrInUse says that another process serves the data folder.
var ErrInUse = errors.New("the data folder is in use by another process")

// ErrClaimed says that the external database belongs to another data folder, by
// its master key.
var ErrClaimed = errors.New("the database belongs to the service of another data folder")

// Config is what a Daemon is opened with. DataDir and PublicURL are required.
type Config struct {
	// DataDir is made when it does not exist.
	DataDir string
	// Database is a postgres:// URL, or empty for the embedded database.
	Database string
	// PublicURL is http(s)://HOST[:PORT] as clients see the service. HOST is
	// the log's name: it cannot change while the folder is used.
	PublicURL string
	// Organization is named in the timestamp authority's certificates; default
	// Countersign.
	Organization string
	// CheckpointInterval is 100 ms to 500 ms; default limits.CheckpointInterval.
	CheckpointInterval time.Duration
	// AnonymousVerify opens verification and admission to callers without
	// credentials, AnonymousLogWrites the log to writers without.
	AnonymousVerify    bool
	AnonymousLogWrites bool
	// Witnesses cosign the log's checkpoints before they are published; nil asks
	// nobody.
	Witnesses *sequencer.Witnesses
	// Monitor follows the log as outsiders see it.
	Monitor MonitorConfig
	// KeyRefs are the references by which callers may adopt keys that lie
	// elsewhere; the zero value allows none.
	KeyRefs keys.Refs
	// Authorities say where the service's own keys lie.
	Authorities AuthorityKeys
	// Backends replace the back ends of the same names that the build has.
	Backends map[string]keys.Backend
	// Verdicts says how long verdicts are remembered.
	Verdicts VerdictConfig
	// Admission are the choices of the admission endpoints.
	Admission admission.Settings
	// Kubernetes is the cluster whose pull secrets and running pods are read.
	Kubernetes KubernetesConfig
	// SelfSigned has the service certify its own TLS certificate, for the host of
	// PublicURL and ServingNames.
	SelfSigned   bool
	ServingNames []string
	// Version is told by /healthz and the User-Agent.
	Version string
	// Clock is the machine's when nil; Logger discards when nil.
	Clock  clock.Clock
	Logger *slog.Logger
}

// Daemon is a running service without a listener. It is safe for concurrent
// use.
type Daemon struct {
	cfg    Config
	public *url.URL
	origin string
	lock   *flock.Flock

	local   *store.DB // keys and the log's index: always embedded
	main    *store.DB // everything else; the same as local unless Database is set
	ring    ownRing
	tokens  *pkcs11.Backend
	log     *sequencer.Log
	search  *search.Follower
	signer  *signer.Signer
	server  *server.Server
	catalog *catalog.Catalog
	tuf     *tuf.Repository
	anchors *anchor.Keeper
	monitor *logMonitor
	// scanner and bundles are nil without a cluster to work on.
	scanner *scanner
	bundles *bundleKeeper
	// serving is nil unless Config.SelfSigned.
	serving *authority.Serving
	// draining is set when the process is about to stop.
	draining atomic.Bool
	// publisher is nil without a database that replicas could share.
	publisher *publisher
	// newJournalKey is set while the journal does not tell of its own key yet.
	newJournalKey string

	// restored is nil unless this is the first start after a restore.
	restored *restored

	authorities rotator
	// rotating admits one rotation of an authority at a time.
	rotating sync.Mutex

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Open locks and opens the data folder, making what is missing, resumes
// unfinished signing and starts the background work. Close ends all of it.
// Errors say what to do; a folder that another process serves is ErrInUse.
func Open(ctx context.Context, cfg Config) (*Daemon, error) {
	d := &Daemon{cfg: cfg}
	if err := d.complete(); err != nil {
		return nil, err
	}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.release(ctx))
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.wg.Go(func() {
		if err := d.signer.Run(background); err != nil && background.Err() == nil {
			d.cfg.Logger.ErrorContext(background, "background signing stopped", "error", err)
		}
	})
	d.wg.Go(func() { d.anchors.Run(background) })
	d.wg.Go(func() { _ = d.tuf.Run(background) }) // logs its own failures and ends with background
	d.wg.Go(func() { d.search.Run(background) })
	d.wg.Go(func() { d.monitor.run(background) })
	d.wg.Go(func() { d.publisher.run(background) })
	d.runKubernetes(background)
	return d, nil
}

func (d *Daemon) complete() error {
	c := &d.cfg
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Hostname() == "" {
		return errors.New("the public URL must be http(s)://HOST[:PORT]")
	}
	d.public, d.origin = u, u.Hostname()
	if c.DataDir == "" {
		return errors.New("a data folder is required")
	}
	if err := errors.Join(c.Authorities.Check(), c.Monitor.complete(), c.Verdicts.Check(), c.Kubernetes.Check()); err != nil {
		return err
	}
	if c.Organization == "" {
		c.Organization = "Countersign"
	}
	if c.CheckpointInterval == 0 {
		c.CheckpointInterval = limits.CheckpointInterval
	}
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// open builds the services from the bottom up: each step needs the one before.
func (d *Daemon) open(ctx context.Context) error {
	if err := d.lockFolder(); err != nil {
		return err
	}
	if err := d.openStores(ctx); err != nil {
		return err
	}
	return d.openServices(ctx)
}

func (d *Daemon) path(name string) string { return filepath.Join(d.cfg.DataDir, name) }

// lockFolder makes the folder and takes its lock, which the kernel gives back
// when the process dies.
func (d *Daemon) lockFolder() error {
	if err := os.MkdirAll(d.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	lock := flock.New(d.path("lock"), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("locking the data folder: %w", err)
	}
	if !locked {
		return fmt.Errorf("%w: %s; stop that process or name another folder with --data-dir", ErrInUse, d.cfg.DataDir)
	}
	d.lock = lock
	return nil
}

func (d *Daemon) openStores(ctx context.Context) error {
	if err := d.clearBackups(); err != nil {
		return err
	}
	local, err := store.OpenSQLite(ctx, d.path("countersign.db"))
	if err != nil {
		return fmt.Errorf("opening the embedded database: %w", err)
	}
	d.local, d.main = local, local
	if d.cfg.Database != "" {
		if d.main, err = store.OpenPostgres(ctx, d.cfg.Database); err != nil {
			d.main = nil
			return fmt.Errorf("opening the database: %w", err)
		}
	}
	return nil
}

// Handler serves the whole HTTP surface.
func (d *Daemon) Handler() http.Handler { return d.server.Handler() }

// AdminTokenPath is where the first administrator's token was written, or empty
// when the file is gone: an operator may delete it once it was read.
func (d *Daemon) AdminTokenPath() string {
	path := d.path(adminTokenFile)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// Close finishes running work, publishes what waits for the log, and releases
// the folder. What ctx cuts short is resumed by the next Open.
func (d *Daemon) Close(ctx context.Context) error {
	d.stop()
	err := d.signer.Close(ctx)
	d.wg.Wait()
	d.closeAnchors(ctx)
	return errors.Join(err, d.release(ctx))
}

// release closes what was opened, from the top down.
func (d *Daemon) release(ctx context.Context) error {
	var errs []error
	if d.log != nil {
		errs = append(errs, d.log.Close(ctx))
	}
	d.keepLast(ctx)
	if d.tuf != nil {
		errs = append(errs, d.tuf.Close())
	}
	if d.tokens != nil {
		errs = append(errs, d.tokens.Close())
	}
	if d.main != nil && d.main != d.local {
		errs = append(errs, d.main.Close())
	}
	if d.local != nil {
		errs = append(errs, d.local.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Unlock())
	}
	return errors.Join(errs...)
}
