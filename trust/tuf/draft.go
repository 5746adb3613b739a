package tuf

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// MaxRootTerm is the longest a root or targets document may be made valid for.
const MaxRootTerm = 3 * 366 * 24 * time.Hour

// Change alters the keys of Root or Targets.
type Change struct {
	Role Role
	// Replace drops every key the role has.
	Replace bool
	// Remove names keys by id; a unique beginning of at least 8 digits is
	// enough.
	Remove []string
	Add    []crypto.PublicKey
	// Threshold is kept when 0.
	Threshold int
}

// Need is how far a document is from being published under one root.
type Need struct {
	// Root is the version of the root whose keys count.
	Root int64 `json:"root"`
	// SignedBy are the ids of the keys whose signature is there and good.
	SignedBy []string `json:"signedBy"`
	// Missing are the ids of the keys whose signature would count.
	Missing []string `json:"missing"`
	// Online is how many of the missing ones the service adds by itself.
	Online    int `json:"online"`
	Threshold int `json:"threshold"`
}

// Met reports whether the threshold is reached.
func (n Need) Met() bool { return len(n.SignedBy) >= n.Threshold }

// Draft is a document that waits for signatures.
type Draft struct {
	Role    Role      `json:"role"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
	// Document is the metadata with the signatures so far, as Sign takes it.
	Document []byte `json:"-"`
	// Payload is what signatures are made over: ECDSA P-256 with SHA-256 in
	// ASN.1 DER, or Ed25519.
	Payload []byte `json:"-"`
	Needs   []Need `json:"needs"`
}

// Complete reports whether nothing is missing.
func (d Draft) Complete() bool {
	return !slices.ContainsFunc(d.Needs, func(n Need) bool { return !n.Met() })
}

// Propose drafts the next root: the current one with changes, valid for a term
// from now on. Without changes it only renews. ErrDraft: there is a draft
// already. ErrEmpty: nothing was published yet. ErrRole, ErrKey, ErrThreshold:
// the change is not possible.
func (f *Folder) Propose(ctx context.Context, now time.Time, term time.Duration, changes ...Change) (Draft, error) {
	unlock, err := f.lock(ctx)
	if err != nil {
		return Draft{}, err
	}
	defer unlock() //nolint:errcheck // the kernel gives the lock back at the latest when the process ends
	s, err := f.load()
	if err != nil {
		return Draft{}, err
	}
	if s.root() == nil {
		return Draft{}, ErrEmpty
	}
	if there, err := f.readDraftRoot(s); err != nil || there != nil {
		return Draft{}, errors.Join(err, fmt.Errorf("%w: a root is drafted already; complete or discard it", ErrDraft))
	}
	next, err := nextRoot(s.root(), now, term)
	if err != nil {
		return Draft{}, err
	}
	for _, change := range changes {
		if err := change.apply(&next.Signed); err != nil {
			return Draft{}, err
		}
	}
	if err := checkRoot(next); err != nil {
		return Draft{}, err
	}
	if err := f.saveDraft(draftRoot, next); err != nil {
		return Draft{}, err
	}
	return describeDraft(f, Root, next, []*rootDocument{s.root(), next})
}

// nextRoot is a root without signatures that continues another.
func nextRoot(current *rootDocument, now time.Time, term time.Duration) (*rootDocument, error) {
	if term <= 0 || term > MaxRootTerm {
		return nil, fmt.Errorf("%w: want a term of at most %s", ErrDocument, MaxRootTerm)
	}
	raw, err := marshal(current)
	if err != nil {
		return nil, err
	}
	next, err := parseRoot(raw)
	if err != nil {
		return nil, err
	}
	next.Signatures = nil
	next.Signed.Version++
	next.Signed.Expires = after(now, term)
	next.Signed.SpecVersion = metadata.SPECIFICATION_VERSION
	return next, nil
}

// after is in whole seconds, as the format has them.
func after(now time.Time, term time.Duration) time.Time {
	return now.Add(term).UTC().Truncate(time.Second)
}

func (c Change) apply(s *metadata.RootType) error {
	if c.Role != Root && c.Role != Targets {
		return fmt.Errorf("%w: keys of %s are made by the service", ErrRole, c.Role)
	}
	role := s.Roles[string(c.Role)]
	remove := c.Remove
	if c.Replace {
		remove = slices.Clone(role.KeyIDs)
	}
	for _, beginning := range remove {
		id, err := match(role.KeyIDs, beginning)
		if err != nil {
			return err
		}
		if err := s.RevokeKey(id, string(c.Role)); err != nil {
			return fmt.Errorf("%w: %w", ErrKey, err)
		}
	}
	for _, pub := range c.Add {
		if err := addKey(s, c.Role, pub); err != nil {
			return err
		}
	}
	if c.Threshold != 0 {
		role.Threshold = c.Threshold
	}
	return nil
}

func addKey(s *metadata.RootType, role Role, pub crypto.PublicKey) error {
	key, id, err := describe(pub)
	if err != nil {
		return err
	}
	if slices.Contains(s.Roles[string(role)].KeyIDs, id) {
		return fmt.Errorf("%w: key %.12s is named twice for %s", ErrKey, id, role)
	}
	if err := s.AddKey(key, string(role)); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

// match finds the one id that begins so.
func match(ids []string, beginning string) (string, error) {
	var found []string
	for _, id := range ids {
		if len(beginning) >= 8 && strings.HasPrefix(id, beginning) {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%w: no single key begins with the given id (at least 8 digits)", ErrKey)
	}
	return found[0], nil
}

// Draft returns the draft of Root or Targets; ErrDraft when there is none.
func (f *Folder) Draft(role Role) (Draft, error) {
	s, err := f.load()
	if err != nil {
		return Draft{}, err
	}
	return f.draft(s, role)
}

func (f *Folder) draft(s *state, role Role) (Draft, error) {
	next, err := f.readDraftRoot(s)
	if err != nil {
		return Draft{}, err
	}
	roots := judges(s.root(), next)
	switch {
	case role == Root && next != nil:
		return describeDraft(f, Root, next, roots)
	case role == Targets:
		targets, err := f.readDraftTargets(s)
		if err != nil {
			return Draft{}, err
		}
		if targets != nil {
			return describeDraft(f, Targets, targets, roots)
		}
	}
	return Draft{}, fmt.Errorf("%w: no draft of %s", ErrDraft, role)
}

// judges are the roots that a document must satisfy: the one in force, and the
// one about to be.
func judges(roots ...*rootDocument) []*rootDocument {
	return slices.DeleteFunc(roots, func(r *rootDocument) bool { return r == nil })
}

func describeDraft[T metadata.Roles](f *Folder, role Role, doc *metadata.Metadata[T], roots []*rootDocument) (Draft, error) {
	raw, err := marshal(doc)
	if err != nil {
		return Draft{}, err
	}
	payload, err := payloadOf(doc)
	if err != nil {
		return Draft{}, err
	}
	online, err := f.onlineKeys()
	if err != nil {
		return Draft{}, err
	}
	version, expires := head(doc)
	d := Draft{Role: role, Version: version, Expires: expires, Document: raw, Payload: payload}
	for _, root := range roots {
		good, err := signed(root, role, doc)
		if err != nil {
			return Draft{}, err
		}
		rules := root.Signed.Roles[string(role)]
		need := Need{Root: root.Signed.Version, SignedBy: good, Threshold: rules.Threshold}
		for _, id := range rules.KeyIDs {
			if !slices.Contains(good, id) {
				need.Missing = append(need.Missing, id)
			}
			if slices.Contains(online, id) && !slices.Contains(good, id) {
				need.Online++
			}
		}
		d.Needs = append(d.Needs, need)
	}
	return d, nil
}

func head[T metadata.Roles](doc *metadata.Metadata[T]) (version int64, expires time.Time) {
	switch s := any(&doc.Signed).(type) {
	case *metadata.RootType:
		return s.Version, s.Expires
	case *metadata.TargetsType:
		return s.Version, s.Expires
	case *metadata.SnapshotType:
		return s.Version, s.Expires
	case *metadata.TimestampType:
		return s.Version, s.Expires
	}
	return 0, time.Time{}
}

// readDraftRoot returns the drafted root, or nil. One that does not follow the
// root in force any more counts as none.
func (f *Folder) readDraftRoot(s *state) (*rootDocument, error) {
	raw, err := f.read(draftRoot)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // none is a regular answer
	}
	if err != nil {
		return nil, err
	}
	doc, err := parseRoot(raw)
	if err != nil {
		return nil, damaged(draftRoot, err)
	}
	if s.root() == nil || doc.Signed.Version != s.root().Signed.Version+1 {
		return nil, nil //nolint:nilnil // stale: overtaken by another root
	}
	return doc, nil
}

func (f *Folder) readDraftTargets(s *state) (*targetsDocument, error) {
	raw, err := f.read(draftTargets)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // none is a regular answer
	}
	if err != nil {
		return nil, err
	}
	doc, err := parseTargets(raw)
	if err != nil {
		return nil, damaged(draftTargets, err)
	}
	if s.targets != nil && doc.Signed.Version <= s.targets.Signed.Version {
		return nil, nil //nolint:nilnil // stale: overtaken by other targets
	}
	// A file of that version is this draft's own, from a publication that a
	// crash cut short, or it makes the draft stale.
	there, err := f.read(File{Role: Targets, Version: doc.Signed.Version}.Path())
	if err == nil && !bytes.Equal(there, raw) {
		return nil, nil //nolint:nilnil // stale: its version is taken
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	return doc, nil
}

func (f *Folder) saveDraft(name string, doc any) error {
	var raw []byte
	var err error
	switch d := doc.(type) {
	case *rootDocument:
		raw, err = marshal(d)
	case *targetsDocument:
		raw, err = marshal(d)
	}
	if err != nil {
		return err
	}
	return f.update(name, raw)
}

// Discard drops the draft of Root or Targets. The service drafts targets anew
// when they still differ from what is published.
func (f *Folder) Discard(ctx context.Context, role Role) error {
	name, ok := map[Role]string{Root: draftRoot, Targets: draftTargets}[role]
	if !ok {
		return fmt.Errorf("%w: %s is never drafted", ErrRole, role)
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // the kernel gives the lock back at the latest when the process ends
	if _, err := f.read(name); errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: no draft of %s", ErrDraft, role)
	}
	return f.remove(name)
}

// Import takes the signatures of a signed copy of a draft. Those that count
// are kept; none is ErrSignature. A copy that says anything else than the
// draft is ErrDraft.
func (f *Folder) Import(ctx context.Context, document []byte) (Draft, error) {
	role, err := roleOf(document)
	if err != nil {
		return Draft{}, err
	}
	signatures, payload, err := signaturesOf(role, document)
	if err != nil {
		return Draft{}, err
	}
	return f.accept(ctx, role, payload, signatures)
}

// ImportSignature takes one signature that another tool made over the draft's
// payload with a private key whose public half is given.
func (f *Folder) ImportSignature(ctx context.Context, role Role, pub crypto.PublicKey, signature []byte) (Draft, error) {
	id, err := KeyID(pub)
	if err != nil {
		return Draft{}, err
	}
	return f.accept(ctx, role, nil, []metadata.Signature{{KeyID: id, Signature: bytes.Clone(signature)}})
}

func signaturesOf(role Role, raw []byte) (signatures []metadata.Signature, payload []byte, err error) {
	if role == Root {
		doc, err := parseRoot(raw)
		if err != nil {
			return nil, nil, err
		}
		payload, err := payloadOf(doc)
		return doc.Signatures, payload, err
	}
	doc, err := parseTargets(raw)
	if err != nil {
		return nil, nil, err
	}
	payload, err = payloadOf(doc)
	return doc.Signatures, payload, err
}

// accept puts those signatures into the draft that count. A nil payload is not
// compared: each signature proves itself.
func (f *Folder) accept(ctx context.Context, role Role, payload []byte, signatures []metadata.Signature) (Draft, error) {
	unlock, err := f.lock(ctx)
	if err != nil {
		return Draft{}, err
	}
	defer unlock() //nolint:errcheck // the kernel gives the lock back at the latest when the process ends
	s, err := f.load()
	if err != nil {
		return Draft{}, err
	}
	before, err := f.draft(s, role)
	if err != nil {
		return Draft{}, err
	}
	if payload != nil && !bytes.Equal(payload, before.Payload) {
		return Draft{}, fmt.Errorf("%w: the document is not the %s that is drafted now", ErrDraft, role)
	}
	next, err := f.readDraftRoot(s)
	if err != nil {
		return Draft{}, err
	}
	roots := judges(s.root(), next)
	keys := authorised(role, roots)
	good := slices.DeleteFunc(slices.Clone(signatures), func(sig metadata.Signature) bool {
		pub, ok := keys[sig.KeyID]
		return !ok || !verifyPayload(pub, before.Payload, sig.Signature)
	})
	if len(good) == 0 {
		return Draft{}, fmt.Errorf("%w: none is a good one by a key of %s", ErrSignature, role)
	}
	if role == Root {
		return keep(f, draftRoot, role, before.Document, good, roots, parseRoot)
	}
	return keep(f, draftTargets, role, before.Document, good, roots, parseTargets)
}

func keep[T metadata.Roles](f *Folder, name string, role Role, raw []byte, good []metadata.Signature, roots []*rootDocument, parse func([]byte) (*metadata.Metadata[T], error)) (Draft, error) {
	doc, err := parse(raw)
	if err != nil {
		return Draft{}, err
	}
	for _, signature := range good {
		replace(doc, metadata.Signature{KeyID: signature.KeyID, Signature: signature.Signature})
	}
	if err := f.saveDraft(name, doc); err != nil {
		return Draft{}, err
	}
	return describeDraft(f, role, doc, roots)
}

// authorised are the keys of a role under any of the roots.
func authorised(role Role, roots []*rootDocument) map[string]crypto.PublicKey {
	keys := map[string]crypto.PublicKey{}
	for _, root := range roots {
		for _, id := range root.Signed.Roles[string(role)].KeyIDs {
			if pub, err := public(id, root.Signed.Keys[id]); err == nil {
				keys[id] = pub
			}
		}
	}
	return keys
}
