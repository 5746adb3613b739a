package tuf

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/internal/clock"
)

// Keys holds the private keys that the service signs metadata with.
type Keys interface {
	// Signers returns what is held for a role, oldest first; none is no error.
	// Keys are ECDSA P-256 or Ed25519.
	Signers(ctx context.Context, role Role) ([]crypto.Signer, error)
	// Add makes one more key for a role. It is kept durably before Add returns:
	// a root that names a lost key cannot be followed by another.
	Add(ctx context.Context, role Role) (crypto.Signer, error)
}

// Config is what a Repository needs. Everything but Poll is required.
type Config struct {
	// Dir is made when it does not exist.
	Dir  string
	Keys Keys
	// Targets returns the contents by name, such as trusted_root.json. Names
	// are letters, digits and inner `.`, `-`, `_`. It is asked at every
	// Refresh; different bytes make a new version.
	Targets func() (map[string][]byte, error)
	Clock   clock.Clock
	Logger  *slog.Logger
	// Floor is the least version of new targets, snapshots and timestamps: after
	// an older copy of the folder was restored, clients have seen versions that
	// it does not know, and accept no lower ones. Roots count on from the folder.
	Floor int64
	// Poll is how often Run looks for something to do; default 2 seconds.
	Poll time.Duration
}

// failurePause is the least pause after a failed attempt, so that a lasting
// cause does not fill the log.
const failurePause = time.Minute

// Repository publishes the contents and keeps the metadata from running out. It
// is safe for concurrent use.
type Repository struct {
	cfg    Config
	folder *Folder

	// mu guards what follows.
	mu     sync.Mutex
	roles  []RoleStatus
	warned map[Role]time.Time
	drafts map[Role]string
}

// Open opens or makes the repository in a folder and brings it up to date.
// After it, clients can be served. ErrDamaged: the files do not prove each
// other; nothing was changed.
func Open(ctx context.Context, cfg Config) (*Repository, error) {
	return open(ctx, cfg, nil)
}

func open(ctx context.Context, cfg Config, before func(string) error) (*Repository, error) {
	if cfg.Dir == "" || cfg.Keys == nil || cfg.Targets == nil || cfg.Clock == nil || cfg.Logger == nil {
		return nil, errors.New("a TUF repository needs a folder, keys, contents, a clock and a logger")
	}
	if cfg.Poll <= 0 {
		cfg.Poll = 2 * time.Second
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil { //nolint:gosec // everything in it is public
		return nil, fmt.Errorf("making the TUF repository: %w", err)
	}
	folder, err := OpenFolder(cfg.Dir)
	if err != nil {
		return nil, err
	}
	folder.before = before
	r := &Repository{cfg: cfg, folder: folder, warned: map[Role]time.Time{}, drafts: map[Role]string{}}
	err = r.Refresh(ctx)
	if errors.Is(err, ErrNotHeld) && r.roles != nil {
		// Keys were lost. What is published is still served, and people can
		// still sign a root with new ones.
		cfg.Logger.ErrorContext(ctx, "TUF metadata cannot be renewed; see countersign trust rotate", "cause", err)
		return r, nil
	}
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return r, nil
}

// Close releases the folder.
func (r *Repository) Close() error { return r.folder.Close() }

// Refresh publishes what changed: contents, a draft that is complete, a request
// for new keys, and new metadata for what is about to run out. When it fails,
// what was published before stays as it was. It is idempotent.
func (r *Repository) Refresh(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	unlock, err := r.folder.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // the kernel gives the lock back at the latest when the process ends
	w, err := r.begin(ctx)
	if err != nil {
		return err
	}
	err = w.publish(ctx)
	if w.state.root() != nil {
		r.roles = w.state.status(w.now, w.heldIDs())
		r.warn(ctx, w.now)
	}
	if err != nil {
		return err
	}
	return r.folder.saveOnline(w.heldIDs())
}

// Run refreshes until ctx ends, and returns nil then. A failed attempt is
// logged and repeated: what is published stays valid for days.
func (r *Repository) Run(ctx context.Context) error {
	timer := time.NewTimer(r.cfg.Poll)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		pause := r.cfg.Poll
		if err := r.Refresh(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.ErrorContext(ctx, "TUF metadata could not be renewed", "cause", err)
			pause = max(pause, failurePause)
		}
		timer.Reset(pause)
	}
}

// ReadFile returns a published file by its path relative to the repository; see
// ParsePath. ErrPath, ErrNotFound.
func (r *Repository) ReadFile(_ context.Context, path string) ([]byte, error) {
	file, err := ParsePath(path)
	if err != nil {
		return nil, err
	}
	return r.folder.read(file.Path())
}

// Expiry is when each role's published document runs out.
func (r *Repository) Expiry() map[Role]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[Role]time.Time{}
	for _, role := range r.roles {
		out[role.Role] = role.Expires
	}
	return out
}

// warn logs once a day what runs out soon. It is called with mu held.
func (r *Repository) warn(ctx context.Context, now time.Time) {
	for _, role := range r.roles {
		if !role.Expires.Before(now.Add(terms(role.Role).warn)) || now.Sub(r.warned[role.Role]) < day {
			continue
		}
		r.warned[role.Role] = now
		r.cfg.Logger.WarnContext(ctx, "TUF metadata runs out and was not renewed; see countersign trust status",
			"role", string(role.Role), "version", role.Version, "expires", role.Expires)
	}
}

// expiryMetric is the one metric of a repository.
func expiryMetric() *prometheus.Desc {
	return prometheus.NewDesc("countersign_tuf_expiry_timestamp_seconds", "When the published TUF metadata of a role runs out.", []string{"role"}, nil)
}

// Describe makes a Repository a prometheus.Collector.
func (r *Repository) Describe(out chan<- *prometheus.Desc) { out <- expiryMetric() }

// Collect reports the expiry of each role.
func (r *Repository) Collect(out chan<- prometheus.Metric) {
	for role, at := range r.Expiry() {
		out <- prometheus.MustNewConstMetric(expiryMetric(), prometheus.GaugeValue, float64(at.Unix()), string(role))
	}
}
