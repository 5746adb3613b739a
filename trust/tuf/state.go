package tuf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/countersign/countersign/internal/limits"
)

// state is what is published: read whole, and proved, before anything is built
// on it.
type state struct {
	// roots are all roots, version v at v-1. Empty before the first start.
	roots []*rootDocument
	// The others are nil before the first start.
	targets   *targetsDocument
	snapshot  *snapshotDocument
	timestamp *timestampDocument
	// The bytes that are referred to by length and hash.
	rootBytes, targetsBytes, snapshotBytes []byte
	// highest is the highest version of each role that has a file.
	highest map[Role]int64
}

// root is the newest root, or nil.
func (s *state) root() *rootDocument {
	if len(s.roots) == 0 {
		return nil
	}
	return s.roots[len(s.roots)-1]
}

// load reads and proves the folder. Expiry is not judged: what has run out is
// renewed. Files that do not prove each other are ErrDamaged.
func (f *Folder) load() (*state, error) {
	highest, err := f.versions()
	if err != nil {
		return nil, err
	}
	s := &state{highest: highest}
	if err := f.loadRoots(s); err != nil {
		return nil, err
	}
	if err := f.loadTimestamp(s); err != nil || s.root() == nil {
		return s, err
	}
	if err := f.loadSnapshot(s); err != nil {
		return nil, err
	}
	return s, f.loadTargets(s)
}

func (f *Folder) loadRoots(s *state) error {
	if s.highest[Root] > limits.TUFRoots {
		return fmt.Errorf("%w: more than %d roots", ErrDamaged, limits.TUFRoots)
	}
	for version := int64(1); version <= s.highest[Root]; version++ {
		name := File{Role: Root, Version: version}.Path()
		raw, err := f.read(name)
		if err != nil {
			return damaged(name, err)
		}
		doc, err := parseRoot(raw)
		if err != nil {
			return damaged(name, err)
		}
		if err := follows(s.root(), doc); err != nil {
			return damaged(name, err)
		}
		s.roots, s.rootBytes = append(s.roots, doc), raw
	}
	return f.checkCopy(s)
}

// checkCopy notices that the newest roots are gone: root.json is written after
// what it is a copy of, so it is never ahead.
func (f *Folder) checkCopy(s *state) error {
	name := File{Role: Root}.Path()
	raw, err := f.read(name)
	if err != nil {
		return nil //nolint:nilerr // written anew by the next Refresh
	}
	if doc, err := parseRoot(raw); err == nil && doc.Signed.Version > int64(len(s.roots)) {
		return damaged(name, fmt.Errorf("%w: it is newer than every numbered root", ErrDocument))
	}
	return nil
}

// follows reports why a root is not the next after another; nil is before the
// first. A root is signed by a threshold of its own keys and of the keys before
// (specification 5.3.4 and 5.3.5).
func follows(before, next *rootDocument) error {
	want := int64(1)
	if before != nil {
		want = before.Signed.Version + 1
		if err := before.VerifyDelegate(string(Root), next); err != nil {
			return fmt.Errorf("%w: under the root before: %w", ErrSignature, err)
		}
	}
	if next.Signed.Version != want {
		return fmt.Errorf("%w: version %d, want %d", ErrDocument, next.Signed.Version, want)
	}
	if err := next.VerifyDelegate(string(Root), next); err != nil {
		return fmt.Errorf("%w: under its own keys: %w", ErrSignature, err)
	}
	return nil
}

// loadTimestamp leaves the timestamp out while there is no root: a first start
// that died before its last step starts anew, above the versions it left.
func (f *Folder) loadTimestamp(s *state) error {
	name := File{Role: Timestamp}.Path()
	raw, err := f.read(name)
	if errors.Is(err, ErrNotFound) && s.root() == nil {
		return nil
	}
	if err != nil {
		return damaged(name, err)
	}
	doc, err := parseTimestamp(raw)
	if err != nil {
		return damaged(name, err)
	}
	s.highest[Timestamp] = doc.Signed.Version
	if s.root() == nil {
		return nil
	}
	if !proved(s, Timestamp, doc) {
		return damaged(name, ErrSignature)
	}
	s.timestamp = doc
	return nil
}

// proved accepts the root before as well: when keys were lost, the root that
// replaces them is published ahead of what its keys sign.
func proved[T metadata.Roles](s *state, role Role, doc *metadata.Metadata[T]) bool {
	last := s.roots[max(0, len(s.roots)-2):]
	return slices.ContainsFunc(last, func(r *rootDocument) bool { return verifies([]*rootDocument{r}, role, doc) })
}

func (f *Folder) loadSnapshot(s *state) error {
	name, raw, err := f.readReferred(Snapshot, s.timestamp.Signed.Meta)
	if err != nil {
		return err
	}
	doc, err := parseSnapshot(raw)
	if err != nil {
		return damaged(name, err)
	}
	if doc.Signed.Version != s.timestamp.Signed.Meta[string(Snapshot)+".json"].Version || !proved(s, Snapshot, doc) {
		return damaged(name, ErrSignature)
	}
	s.snapshot, s.snapshotBytes = doc, raw
	return nil
}

func (f *Folder) loadTargets(s *state) error {
	name, raw, err := f.readReferred(Targets, s.snapshot.Signed.Meta)
	if err != nil {
		return err
	}
	doc, err := parseTargets(raw)
	if err != nil {
		return damaged(name, err)
	}
	if doc.Signed.Version != s.snapshot.Signed.Meta[string(Targets)+".json"].Version || !proved(s, Targets, doc) {
		return damaged(name, ErrSignature)
	}
	for target, about := range doc.Signed.Targets {
		if err := f.checkTarget(target, about); err != nil {
			return err
		}
	}
	s.targets, s.targetsBytes = doc, raw
	return nil
}

func (f *Folder) checkTarget(target string, about *metadata.TargetFiles) error {
	name := File{Hash: hex.EncodeToString(about.Hashes["sha256"]), Name: target}.Path()
	raw, err := f.read(name)
	if err != nil {
		return damaged(name, err)
	}
	if err := about.VerifyLengthHashes(raw); err != nil {
		return damaged(name, err)
	}
	return nil
}

func (f *Folder) readReferred(role Role, meta map[string]*metadata.MetaFiles) (name string, raw []byte, err error) {
	reference := meta[string(role)+".json"]
	name = File{Role: role, Version: reference.Version}.Path()
	raw, err = f.read(name)
	if err != nil {
		return name, nil, damaged(name, err)
	}
	if err := reference.VerifyLengthHashes(raw); err != nil {
		return name, nil, damaged(name, err)
	}
	return name, raw, nil
}

func damaged(name string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
}

// refer is a reference to a document's bytes.
func refer(version int64, raw []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(raw)
	return &metadata.MetaFiles{Version: version, Length: int64(len(raw)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}
