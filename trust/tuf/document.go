package tuf

import (
	"errors"
	"fmt"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Errors of this package.
var (
	// ErrRole says that a name is not a top-level role, or that the role
	// cannot do what was asked.
	ErrRole = errors.New("unsuitable TUF role")
	// ErrKey says that a public key cannot sign TUF metadata.
	ErrKey = errors.New("unsuitable TUF key")
	// ErrThreshold says that a threshold is not 1 to the number of keys.
	ErrThreshold = errors.New("unsuitable TUF threshold")
	// ErrDocument says that TUF metadata is malformed, too large, or uses what
	// this repository does not.
	ErrDocument = errors.New("invalid TUF metadata")
	// ErrSignature says that a document brought no signature that counts.
	ErrSignature = errors.New("no usable TUF signature")
	// ErrDraft says that there is a draft already, none, or another one.
	ErrDraft = errors.New("the TUF drafts do not allow it")
	// ErrEmpty says that nothing was published yet.
	ErrEmpty = errors.New("the TUF repository is empty")
	// ErrNotFound says that there is no such published file.
	ErrNotFound = errors.New("no such file in the TUF repository")
	// ErrDamaged says that the folder holds files that do not prove each other.
	ErrDamaged = errors.New("the TUF repository is damaged")
	// ErrNotHeld says that the service holds too few keys of a role that it
	// must sign.
	ErrNotHeld = errors.New("too few TUF keys are held")
)

type (
	rootDocument      = metadata.Metadata[metadata.RootType]
	targetsDocument   = metadata.Metadata[metadata.TargetsType]
	snapshotDocument  = metadata.Metadata[metadata.SnapshotType]
	timestampDocument = metadata.Metadata[metadata.TimestampType]
)

// payloadOf is what signatures are made over: the canonical JSON of the
// document without its signatures.
func payloadOf[T metadata.Roles](doc *metadata.Metadata[T]) ([]byte, error) {
	payload, err := cjson.EncodeCanonical(doc.Signed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	return payload, nil
}

func marshal[T metadata.Roles](doc *metadata.Metadata[T]) ([]byte, error) {
	raw, err := doc.ToBytes(true)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	if len(raw) > limits.TUFDocument {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrDocument, limits.TUFDocument)
	}
	return raw, nil
}

// decode reads a document of one role's type. The library takes the last of
// duplicate names and does not bound anything, so it comes second.
func decode[T metadata.Roles](raw []byte) (*metadata.Metadata[T], error) {
	if len(raw) > limits.TUFDocument {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrDocument, limits.TUFDocument)
	}
	if err := strictjson.Check(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	doc, err := new(metadata.Metadata[T]).FromBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	if len(doc.Signatures) > limits.TUFKeys {
		return nil, fmt.Errorf("%w: more than %d signatures", ErrDocument, limits.TUFKeys)
	}
	return doc, nil
}

func parseRoot(raw []byte) (*rootDocument, error) {
	doc, err := decode[metadata.RootType](raw)
	if err != nil {
		return nil, err
	}
	return doc, checkRoot(doc)
}

// checkRoot holds a root to the rules of the package comment.
func checkRoot(doc *rootDocument) error {
	s := &doc.Signed
	if err := checkHead(s.SpecVersion, s.Version, s.Expires); err != nil {
		return err
	}
	if !s.ConsistentSnapshot || len(s.UnrecognizedFields) > 0 {
		return fmt.Errorf("%w: want consistent snapshots and no other fields", ErrDocument)
	}
	if len(s.Roles) != len(Roles()) || len(s.Keys) > limits.TUFKeys {
		return fmt.Errorf("%w: want four roles and at most %d keys", ErrDocument, limits.TUFKeys)
	}
	for id, key := range s.Keys {
		if _, err := public(id, key); err != nil {
			return err
		}
	}
	for _, name := range Roles() {
		if err := checkRole(s, name); err != nil {
			return err
		}
	}
	return nil
}

func checkRole(s *metadata.RootType, name Role) error {
	role := s.Roles[string(name)]
	if role == nil || len(role.UnrecognizedFields) > 0 {
		return fmt.Errorf("%w: role %s is missing or has other fields", ErrDocument, name)
	}
	distinct := map[string]bool{}
	for _, id := range role.KeyIDs {
		if s.Keys[id] == nil {
			return fmt.Errorf("%w: role %s names an unknown key", ErrDocument, name)
		}
		distinct[id] = true
	}
	if len(distinct) != len(role.KeyIDs) {
		return fmt.Errorf("%w: role %s names a key twice", ErrDocument, name)
	}
	if role.Threshold < 1 || role.Threshold > len(distinct) {
		return fmt.Errorf("%w: %d of %d keys for %s", ErrThreshold, role.Threshold, len(distinct), name)
	}
	return nil
}

func checkHead(spec string, version int64, expires time.Time) error {
	if spec == "" || version < 1 || version >= maxVersion || expires.IsZero() {
		return fmt.Errorf("%w: version or expiry is missing", ErrDocument)
	}
	return nil
}

// maxVersion is the first version that has no path.
const maxVersion = 1_000_000_000

func parseTargets(raw []byte) (*targetsDocument, error) {
	doc, err := decode[metadata.TargetsType](raw)
	if err != nil {
		return nil, err
	}
	s := &doc.Signed
	if err := checkHead(s.SpecVersion, s.Version, s.Expires); err != nil {
		return nil, err
	}
	if s.Delegations != nil || len(s.UnrecognizedFields) > 0 || len(s.Targets) > limits.TUFTargets {
		return nil, fmt.Errorf("%w: delegations, other fields, or more than %d targets", ErrDocument, limits.TUFTargets)
	}
	for name, target := range s.Targets {
		if !isName(name) || target == nil || len(target.Hashes) != 1 || len(target.Hashes["sha256"]) != 32 || target.Length < 0 {
			return nil, fmt.Errorf("%w: target without a plain name or its one SHA-256", ErrDocument)
		}
	}
	return doc, nil
}

func parseSnapshot(raw []byte) (*snapshotDocument, error) {
	doc, err := decode[metadata.SnapshotType](raw)
	if err != nil {
		return nil, err
	}
	if err := checkHead(doc.Signed.SpecVersion, doc.Signed.Version, doc.Signed.Expires); err != nil {
		return nil, err
	}
	return doc, checkMeta(doc.Signed.Meta, Targets)
}

func parseTimestamp(raw []byte) (*timestampDocument, error) {
	doc, err := decode[metadata.TimestampType](raw)
	if err != nil {
		return nil, err
	}
	if err := checkHead(doc.Signed.SpecVersion, doc.Signed.Version, doc.Signed.Expires); err != nil {
		return nil, err
	}
	return doc, checkMeta(doc.Signed.Meta, Snapshot)
}

// checkMeta wants exactly one reference, by version, length and SHA-256.
func checkMeta(meta map[string]*metadata.MetaFiles, role Role) error {
	file := meta[string(role)+".json"]
	if len(meta) != 1 || file == nil || file.Version < 1 || file.Length < 1 || len(file.Hashes) != 1 || len(file.Hashes["sha256"]) != 32 {
		return fmt.Errorf("%w: want the version, length and SHA-256 of %s alone", ErrDocument, role)
	}
	return nil
}

// verifies reports whether a document has enough good signatures for a role
// under each of the roots. The library decides; it counts a public key once.
func verifies[T metadata.Roles](roots []*rootDocument, role Role, doc *metadata.Metadata[T]) bool {
	for _, root := range roots {
		if root.VerifyDelegate(string(role), doc) != nil {
			return false
		}
	}
	return true
}
