package examiner

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
)

// journal is what is known of the anchors while log and chain are read.
type journal struct {
	keys []journalKey
	// strange are the hashes in the log that no anchor row knows, with where
	// they stand: a record of that hash may still turn up.
	strange map[string]string
}

type journalKey struct {
	public *ecdsa.PublicKey
	// spelled is how an entry's body holds the key: what every anchor contains
	// and next to no other entry.
	spelled []byte
}

func newJournal(public []crypto.PublicKey) (journal, error) {
	j := journal{strange: map[string]string{}}
	for _, p := range public {
		key, ok := p.(*ecdsa.PublicKey)
		if !ok {
			return j, fmt.Errorf("%T is no key of the journal", p)
		}
		spki, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return j, fmt.Errorf("a key of the journal: %w", err)
		}
		j.keys = append(j.keys, journalKey{key, []byte(base64.StdEncoding.EncodeToString(spki))})
	}
	return j, nil
}

// holds reports whether a body is an anchor's by its key, without reading it.
func (j *journal) holds(body []byte) bool {
	for _, k := range j.keys {
		if bytes.Contains(body, k.spelled) {
			return true
		}
	}
	return false
}

// digest is the record's hash in a body that a journal key signed. Anybody may
// log a body that only names the key, or another signature that the key's
// owner's arithmetic allows: what counts is the hash.
func (j *journal) digest(body []byte) (hash []byte, problem string) {
	parsed, err := tlog.ParseBody(body)
	if err != nil {
		return nil, "it is no entry: " + err.Error()
	}
	public, ok := parsed.PublicKey.(*ecdsa.PublicKey)
	if ok {
		ok = false
		for _, k := range j.keys {
			ok = ok || k.public.Equal(public)
		}
	}
	switch {
	case !ok || parsed.Version != "0.0.2":
		return nil, "no key of the journal signed it"
	case !ecdsa.VerifyASN1(public, parsed.Digest, parsed.Signature):
		return nil, "its signature does not verify"
	}
	return parsed.Digest, ""
}

// entry holds a log entry by a journal key against the anchors and the chain.
func (j *journal) entry(ctx context.Context, e *examination, shard int, index uint64, body []byte) error {
	if body == nil || !j.holds(body) {
		return nil
	}
	hash, problem := j.digest(body)
	if problem != "" {
		return nil //nolint:nilerr // an entry that names the key beside another signature is its writer's
	}
	e.report.Counts.Anchors++
	where := fmt.Sprintf("%slog entry %d", ofShard(shard), index)
	row, err := e.Main.Anchors().ByHash(ctx, hash)
	if errors.Is(err, store.ErrNotFound) {
		if len(j.strange) < maxProblems {
			j.strange[string(hash)] = where
		}
		return nil
	}
	if err != nil {
		return err
	}
	links, err := e.Main.Chain().Read(ctx, row.Sequence-1, 1)
	if err != nil {
		return err
	}
	switch {
	case len(links) == 0 || links[0].Sequence != row.Sequence:
		e.report.Add(record(row.Sequence), "missing: "+where+" tells of it")
	case !bytes.Equal(links[0].Hash, hash):
		e.report.Add(record(row.Sequence), "it is not the one that "+where+" tells of")
	}
	return nil
}

func record(sequence int64) string { return fmt.Sprintf("audit record %d", sequence) }

// records proves the chain, then reads it again beside its anchors, and
// gathers what it says of operations and objects.
func (e *examination) records(ctx context.Context) error {
	err := audit.New(audit.Config{Chain: e.Main.Chain()}).Verify(ctx)
	var broken *audit.ChainError
	if errors.Is(err, store.ErrNotFound) {
		e.report.Add("audit journal", "it has no head")
	} else if errors.As(err, &broken) {
		e.report.Add(record(broken.Sequence), broken.Problem)
	} else if err != nil {
		return err
	}
	walk := &anchorWalk{e: e}
	if err := e.eachRecord(ctx, func(l store.Link, r audit.Record) error {
		if where, known := e.journal.strange[string(l.Hash)]; known {
			// An anchor is kept before its entry is appended, so it was there.
			e.report.Add(fmt.Sprintf("anchor of audit record %d", l.Sequence), "missing: "+where+" is its entry")
			delete(e.journal.strange, string(l.Hash))
		}
		if err := walk.next(ctx, l, r); err != nil {
			return err
		}
		return e.replay.record(ctx, e, r)
	}); err != nil {
		return err
	}
	for hash, where := range e.journal.strange {
		e.report.Add(where, "it tells of an audit record with the hash "+hex.EncodeToString([]byte(hash))+", which the journal does not have")
	}
	return walk.end(ctx)
}

// eachRecord reads the chain in order. What cannot be read was told by Verify.
func (e *examination) eachRecord(ctx context.Context, do func(store.Link, audit.Record) error) error {
	total, _, _, err := e.main.Size(ctx)
	if err != nil {
		return err
	}
	var after, done int64
	after = beforeAll
	for {
		links, err := e.Main.Chain().Read(ctx, after, store.MaxPage)
		if err != nil || len(links) == 0 {
			return err
		}
		for _, l := range links {
			r, err := audit.ParseLink(l)
			if err != nil {
				r = audit.Record{Sequence: l.Sequence}
			}
			if err := do(l, r); err != nil {
				return err
			}
		}
		after, done = links[len(links)-1].Sequence, done+int64(len(links))
		e.Progress("audit records", uint64(done), uint64(max(done, total)))
	}
}

// anchorWalk reads the anchors beside the chain.
type anchorWalk struct {
	e     *examination
	page  []store.Anchor
	after int64
	begun bool
	// last is the last anchor that was met; lone are trust changes since
	// without one of their own.
	last int64
	lone []int64
}

func (w *anchorWalk) peek(ctx context.Context) (*store.Anchor, error) {
	if !w.begun {
		w.begun, w.after = true, beforeAll
	}
	if len(w.page) == 0 {
		var err error
		if w.page, err = w.e.Main.Anchors().Read(ctx, w.after, store.MaxPage); err != nil || len(w.page) == 0 {
			return nil, err
		}
		w.after = w.page[len(w.page)-1].Sequence
	}
	return &w.page[0], nil
}

// next holds a record against its anchor. Between the first anchor and the last
// every trust change has one: they are made in the order of the records.
func (w *anchorWalk) next(ctx context.Context, l store.Link, r audit.Record) error {
	w.e.report.Counts.Records++
	w.e.report.Counts.Uncovered++
	a, err := w.peek(ctx)
	for ; err == nil && a != nil && a.Sequence < l.Sequence; a, err = w.peek(ctx) {
		w.e.report.Add(record(a.Sequence), "missing: an anchor tells of it")
		w.page = w.page[1:]
	}
	if err != nil {
		return err
	}
	if a == nil || a.Sequence > l.Sequence {
		if w.last > 0 && audit.TrustChange(r.Action) && len(w.lone) < maxProblems {
			w.lone = append(w.lone, l.Sequence)
		}
		return nil
	}
	w.page = w.page[1:]
	for _, sequence := range w.lone {
		w.e.report.Add(record(sequence), "it changes trust and has no log entry of its own")
	}
	w.lone, w.last = nil, l.Sequence
	return w.check(ctx, l, *a)
}

// check holds an anchor against its record and its log entry.
func (w *anchorWalk) check(ctx context.Context, l store.Link, a store.Anchor) error {
	where := fmt.Sprintf("anchor of audit record %d", a.Sequence)
	hash, problem := w.e.journal.digest(a.Body)
	switch {
	case problem != "":
		w.e.report.Add(where, problem)
	case !bytes.Equal(hash, a.Hash) || !bytes.Equal(hash, l.Hash):
		w.e.report.Add(where, "it is of another record")
	}
	if !a.Logged {
		if len(a.LogID) > 0 || a.LogIndex != -1 {
			w.e.report.Add(where, "it is not logged and names a log entry")
		}
		return nil
	}
	w.e.report.Counts.Uncovered = 0
	problem, err := w.e.entries.problem(ctx, a.LogID, a.LogIndex, a.Body)
	if err == nil && problem != "" {
		w.e.report.Add(where, problem)
	}
	return err
}

// end finds anchors beyond the chain.
func (w *anchorWalk) end(ctx context.Context) error {
	for {
		a, err := w.peek(ctx)
		if err != nil || a == nil {
			return err
		}
		w.page = w.page[1:]
		links, err := w.e.Main.Chain().Read(ctx, a.Sequence-1, 1)
		if err != nil {
			return err
		}
		// The service may be running: the record may have come since.
		if len(links) == 0 || links[0].Sequence != a.Sequence {
			w.e.report.Add(record(a.Sequence), "missing: an anchor tells of it")
		}
	}
}
