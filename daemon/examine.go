package daemon

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/countersign/countersign/examiner"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/trust"
)

// ExamineConfig says which data folder is examined and what is believed of it.
type ExamineConfig struct {
	DataDir string
	// Database is a postgres:// URL, as the service has it, or empty.
	Database string
	// Logs are the shards as they are believed, oldest first.
	Logs []trust.Log
	// From is an older checkpoint of the shard FromShard, counted from 0.
	From      []byte
	FromShard int
	// Journal is a PEM file of the keys that anchor the journal, as it was kept
	// elsewhere; empty believes those of the folder.
	Journal []byte
	// Progress hears how far a part is.
	Progress func(part string, done, total uint64)
}

// Examine proves a data folder again from what is stored; see package examiner.
// The folder may be a copy or in use. Nothing in it is changed.
func Examine(ctx context.Context, cfg ExamineConfig) (report examiner.Report, err error) {
	x := &examined{cfg: cfg}
	defer func() { err = errors.Join(err, x.close()) }()
	if err := x.open(ctx); err != nil {
		return report, err
	}
	held, err := x.journalKeys(ctx)
	if err != nil {
		return report, err
	}
	if len(held) == 0 {
		x.notChecked = append(x.notChecked, "the audit journal's log entries: no key of the journal is known")
	}
	report, err = examiner.Examine(ctx, examiner.Config{
		Logs: cfg.Logs, Dir: x.shard, From: cfg.From, FromShard: cfg.FromShard,
		Local: x.local, Main: x.main, Journal: held, Ring: x.ring, Progress: cfg.Progress,
	})
	report.NotChecked = append(report.NotChecked, x.notChecked...)
	for _, p := range x.problems {
		report.Add(p[0], p[1])
	}
	return report, err
}

// examined is a data folder opened for reading.
type examined struct {
	cfg         ExamineConfig
	local, main *store.DB
	ring        *keys.Ring
	problems    [][2]string
	notChecked  []string
}

func (x *examined) path(name string) string { return filepath.Join(x.cfg.DataDir, name) }

func (x *examined) shard(number int) string { return x.path(shardFolder(number)) }

func (x *examined) open(ctx context.Context) (err error) {
	if x.local, err = store.OpenSQLiteForReading(ctx, x.path("countersign.db")); err != nil {
		return fmt.Errorf("opening the embedded database: %w", err)
	}
	x.main = x.local
	if x.cfg.Database != "" {
		if x.main, err = store.OpenPostgresForReading(ctx, x.cfg.Database); err != nil {
			x.main = nil
			return fmt.Errorf("opening the database: %w", err)
		}
	}
	return x.openRing(ctx)
}

func (x *examined) close() error {
	var errs []error
	if x.main != nil && x.main != x.local {
		errs = append(errs, x.main.Close())
	}
	if x.local != nil {
		errs = append(errs, x.local.Close())
	}
	return errors.Join(errs...)
}

// openRing opens the keys under their seals when the master key is there: a
// copy for an auditor need not have it.
func (x *examined) openRing(ctx context.Context) error {
	if _, err := os.Stat(x.path(masterFile)); errors.Is(err, fs.ErrNotExist) {
		x.notChecked = append(x.notChecked, "the keys: "+masterFile+" is not there")
		return nil
	}
	master, err := keys.OpenMaster(x.path(masterFile))
	if err != nil {
		return fmt.Errorf("opening the master key: %w", err)
	}
	x.ring, err = keys.Open(ctx, keys.Config{Objects: x.local.Objects(), Master: master, Clock: clock.System{}})
	if errors.Is(err, keys.ErrSealed) {
		x.problems = append(x.problems, [2]string{"keys", err.Error()})
		x.ring = nil
		return nil
	}
	return err
}

// journalKeys are the keys that were kept elsewhere, or those of the ring, or
// the public file of the folder. The file must agree with the ring.
func (x *examined) journalKeys(ctx context.Context) ([]crypto.PublicKey, error) {
	if len(x.cfg.Journal) > 0 {
		return parsePublicKeys(x.cfg.Journal)
	}
	published, fileErr := x.publishedKeys()
	if x.ring == nil {
		if fileErr != nil {
			x.problems = append(x.problems, [2]string{journalFile, fileErr.Error()})
		}
		return published, nil
	}
	service, err := x.ring.Service(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing service keys: %w", err)
	}
	var held []crypto.PublicKey
	for _, key := range service {
		if slices.Contains(key.Purposes, server.JournalPurpose) {
			held = append(held, key.CurrentVersion().Public)
		}
	}
	if fileErr != nil || !sameKeys(held, published) {
		x.problems = append(x.problems, [2]string{journalFile, "it does not hold the journal's keys"})
	}
	return held, nil
}

func (x *examined) publishedKeys() ([]crypto.PublicKey, error) {
	raw, err := os.ReadFile(x.path(journalFile))
	if err != nil {
		return nil, errors.New("it cannot be read")
	}
	return parsePublicKeys(raw)
}

func sameKeys(a, b []crypto.PublicKey) bool {
	if len(a) != len(b) {
		return false
	}
	for _, one := range a {
		known, ok := one.(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !slices.ContainsFunc(b, func(other crypto.PublicKey) bool { return known.Equal(other) }) {
			return false
		}
	}
	return true
}

// parsePublicKeys reads a file of PEM blocks.
func parsePublicKeys(document []byte) ([]crypto.PublicKey, error) {
	var found []crypto.PublicKey
	for len(document) > 0 {
		block, rest := pem.Decode(document)
		if block == nil {
			break
		}
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if block.Type != "PUBLIC KEY" || err != nil {
			return nil, errors.New("want PEM blocks of type PUBLIC KEY")
		}
		found, document = append(found, public), rest
	}
	if len(found) == 0 {
		return nil, errors.New("want PEM blocks of type PUBLIC KEY")
	}
	return found, nil
}
