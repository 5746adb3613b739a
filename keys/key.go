package keys

import (
	"crypto"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/countersign/countersign/internal/limits"
)

// PurposeSign is the purpose of keys that sign artifacts for callers. Every
// other purpose belongs to the service itself.
const PurposeSign = "sign"

// PurposeVSA is the purpose of the key that signs verification summaries in
// the service's own name. No caller signs with it; see Managed.
const PurposeVSA = "vsa"

// ownPrefix begins the names of the service's own keys: a key made on request
// that had the name of a later generation would stand in its way.
const ownPrefix = "countersign-"

// BackendFile keeps private keys sealed in the store.
const BackendFile = "file"

// Key is a managed key without its private halves.
type Key struct {
	Name      string
	Algorithm Algorithm
	// Backend says where private halves are; Ref names the key there.
	Backend string
	Ref     string
	// Purposes is sorted and never empty.
	Purposes []string
	// State is the current version's.
	State State
	// Current is the number of the version that signs.
	Current int
	// Versions are in order, version n at n-1.
	Versions []Version
	// Revision is the store object's.
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// CurrentVersion is the version that signs when it is active.
func (k Key) CurrentVersion() Version { return k.Versions[k.Current-1] }

// Service reports whether the key is the service's own.
func (k Key) Service() bool { return !slices.Contains(k.Purposes, PurposeSign) }

// Managed reports whether people see the key by its name and move it through
// its life cycle, and policies may name it: keys that sign for callers, and
// those of the service's own whose signatures others verify with the key alone.
// The other keys of the service have their place in the trusted root.
func (k Key) Managed() bool { return managed(k.Purposes) }

func managed(purposes []string) bool {
	return slices.Contains(purposes, PurposeSign) || slices.Contains(purposes, PurposeVSA)
}

// Summarizes reports whether the key signs verification summaries.
func (k Key) Summarizes() bool { return slices.Contains(k.Purposes, PurposeVSA) }

// Version is one generation of a key.
type Version struct {
	Version int
	// KeyID is KeyID(Public).
	KeyID     string
	Public    crypto.PublicKey
	PublicPEM string
	// Ref names the version in another back end than BackendFile.
	Ref       string
	State     State
	CreatedAt time.Time
	// ActivatedAt opens the version's window, DeactivatedAt closes it: a
	// signature belongs to the version only with a proven time between them.
	// They are exact to the microsecond, timestamps only to the second.
	ActivatedAt   *time.Time
	SuspendedAt   *time.Time
	DeactivatedAt *time.Time
	// RevokedAt is when the version was declared compromised. CompromisedAt is
	// from when on its signatures are not believed; nil beside a RevokedAt says
	// that nobody knows, and that none is.
	RevokedAt     *time.Time
	CompromisedAt *time.Time
	RevokedReason string
	DestroyedAt   *time.Time
}

// Spec asks for a key.
type Spec struct {
	// Name is 1 to limits.Name lowercase letters, digits and inner `.`, `_`,
	// `-`. "identity" is reserved: it asks for a certificate instead of a key.
	Name string
	// Algorithm is ECDSAP256 when empty; in other back ends than BackendFile
	// the key's own.
	Algorithm Algorithm
	// Backend is BackendFile when empty. Ref must be empty for it, and name the
	// key in every other; see ParseRefs for the forms.
	Backend string
	Ref     string
	// Purposes is PurposeSign when empty. PurposeSign and PurposeVSA stand
	// alone: a key that signs for callers is used for nothing else (SP 800-57
	// part 1 §5.2).
	Purposes []string
	// PreActive leaves the first version inactive, so that its public half can
	// be handed out before anything is signed with it.
	PreActive bool
}

func (s Spec) validated() (Spec, error) {
	if err := checkName(s.Name); err != nil {
		return Spec{}, err
	}
	if s.Backend == "" {
		s.Backend = BackendFile
	}
	if err := s.checkBackend(); err != nil {
		return Spec{}, err
	}
	algorithm, err := ParseAlgorithm(string(s.Algorithm))
	if err != nil {
		return Spec{}, err
	}
	if s.Backend == BackendFile || s.Algorithm != "" {
		s.Algorithm = algorithm
	}
	s.Purposes, err = checkPurposes(s.Purposes)
	return s, err
}

func (s Spec) checkBackend() error {
	if s.Backend == BackendFile {
		if s.Ref != "" {
			return fmt.Errorf("%w: back end %q takes no reference", ErrRef, BackendFile)
		}
		return nil
	}
	if !slices.Contains(Backends(), s.Backend) {
		return fmt.Errorf("%w: want one of %v", ErrBackend, Backends())
	}
	return nil
}

// Backends names every back end, the default first.
func Backends() []string {
	return []string{BackendFile, BackendHashivault, BackendAWS, BackendGCP, BackendAzure, BackendPKCS11}
}

func checkName(name string) error {
	if len(name) > limits.Name || !nameRule.MatchString(name) {
		return fmt.Errorf("%w: want 1 to %d lowercase letters, digits and inner . _ -", ErrName, limits.Name)
	}
	if name == "identity" {
		return fmt.Errorf("%w: \"identity\" is reserved", ErrName)
	}
	return nil
}

func checkPurposes(purposes []string) ([]string, error) {
	if len(purposes) == 0 {
		return []string{PurposeSign}, nil
	}
	sorted := slices.Sorted(slices.Values(purposes))
	sorted = slices.Compact(sorted)
	for _, p := range sorted {
		if len(p) > limits.Name || !nameRule.MatchString(p) {
			return nil, fmt.Errorf("%w: malformed purpose", ErrPurpose)
		}
	}
	for _, p := range sorted {
		if len(sorted) > 1 && managed([]string{p}) {
			return nil, fmt.Errorf("%w: %q stands alone", ErrPurpose, p)
		}
	}
	return sorted, nil
}

// nameRule is constant after start: regexp values are read-only.
var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)

// describes reports whether k is what the spec asks for.
func (s Spec) describes(k Key) bool {
	return (s.Algorithm == "" || k.Algorithm == s.Algorithm) && k.Backend == s.Backend && slices.Equal(k.Purposes, s.Purposes)
}
