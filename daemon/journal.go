package daemon

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"slices"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/audit/anchor"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/server"
)

// The keys that anchor the audit journal in the log, and the file that tells
// outsiders their public halves.
const (
	journalPrefix = "countersign-journal-"
	journalFile   = "journal.pem"
)

func (d *Daemon) journalKeys() generations {
	return generations{d.ring, journalPrefix, server.JournalPurpose}
}

// openAnchors opens the journal's way into the log. Nothing is anchored before
// Open has come to its end.
func (d *Daemon) openAnchors(ctx context.Context, _ *services) error {
	held := d.journalKeys()
	numbers, err := held.numbers(ctx)
	if err != nil {
		return err
	}
	signer, err := held.newest(ctx)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		d.newJournalKey = held.name(1)
	}
	d.anchors, err = anchor.Open(ctx, anchor.Config{
		Chain: d.main.Chain(), Anchors: d.main.Anchors(), Log: d.log, Signer: signer, Clock: d.cfg.Clock, Logger: d.cfg.Logger,
	})
	if err != nil {
		return err
	}
	return d.publishJournalKeys(ctx)
}

// tellJournalKey journals the first key. Those that follow are journalled when
// they are made, so that an entry of the key before names each.
func (d *Daemon) tellJournalKey(ctx context.Context, s *services) error {
	if d.newJournalKey == "" {
		return nil
	}
	return d.journalKey(ctx, s.journal, d.newJournalKey)
}

func (d *Daemon) journalKey(ctx context.Context, journal *audit.Journal, name string) error {
	key, err := d.ring.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("reading key %s: %w", name, err)
	}
	_, err = journal.Append(ctx, audit.Record{
		Actor: "countersign", Action: "authority.create", Resource: "authority/journal", Outcome: audit.Done,
		Detail: map[string]string{"key": name, "keyId": key.CurrentVersion().KeyID},
	})
	if err != nil {
		return fmt.Errorf("journalling key %s: %w", name, err)
	}
	return nil
}

// publishJournalKeys writes the public halves, oldest first.
func (d *Daemon) publishJournalKeys(ctx context.Context) error {
	service, err := d.ring.Service(ctx)
	if err != nil {
		return fmt.Errorf("listing service keys: %w", err)
	}
	slices.SortFunc(service, func(a, b keys.Key) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var document bytes.Buffer
	for _, key := range service {
		if slices.Contains(key.Purposes, server.JournalPurpose) {
			document.WriteString(key.CurrentVersion().PublicPEM)
		}
	}
	if err := writeFile(d.path(journalFile), document.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the journal's public keys: %w", err)
	}
	return nil
}

// adoptJournalKey anchors with a new key from now on. The record that names it
// comes first.
func (r rotator) adoptJournalKey(ctx context.Context, signer crypto.Signer) error {
	d := r.daemon
	numbers, err := d.journalKeys().numbers(ctx)
	if err != nil {
		return err
	}
	if err := d.journalKey(ctx, r.services.journal, d.journalKeys().name(numbers[len(numbers)-1])); err != nil {
		return err
	}
	d.anchors.Use(signer)
	return d.publishJournalKeys(ctx)
}

// closeAnchors covers the end of the journal. What the log does not take now
// is taken after the next start.
func (d *Daemon) closeAnchors(ctx context.Context) {
	if err := d.anchors.Close(ctx); err != nil {
		d.cfg.Logger.WarnContext(ctx, "the end of the audit journal is not in the log yet", "cause", err)
	}
}

// anchorFaults is what keeps the journal out of the log: nothing waits for it.
func (d *Daemon) anchorFaults(ctx context.Context) error {
	if err := d.anchors.Ready(ctx); err != nil {
		return fmt.Errorf("%w: %w", server.ErrDegraded, err)
	}
	return nil
}
