package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrDigest is wrapped by errors of ParseDigest.
var ErrDigest = errors.New("invalid digest")

// Digest names content by its SHA-256. It is comparable; the zero value names
// nothing and marshals to the empty string.
//
// Only sha256 is accepted: it is what registries resolve to and what every
// signature format here binds to; a second algorithm would let one artifact
// have two names.
type Digest struct {
	sum [sha256.Size]byte
	set bool
}

// DigestOf is the digest of b.
func DigestOf(b []byte) Digest { return Digest{sum: sha256.Sum256(b), set: true} }

// ParseDigest reads `sha256:` followed by 64 lowercase hexadecimal digits.
func ParseDigest(s string) (Digest, error) {
	hexa, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(hexa) != hex.EncodedLen(sha256.Size) || strings.ToLower(hexa) != hexa {
		return Digest{}, fmt.Errorf("%w: want sha256: and 64 lowercase hexadecimal digits", ErrDigest)
	}
	d := Digest{set: true}
	if _, err := hex.Decode(d.sum[:], []byte(hexa)); err != nil {
		return Digest{}, fmt.Errorf("%w: want sha256: and 64 lowercase hexadecimal digits", ErrDigest)
	}
	return d, nil
}

// String is the form ParseDigest reads; empty for the zero value.
func (d Digest) String() string {
	if !d.set {
		return ""
	}
	return "sha256:" + d.Hex()
}

// Hex is the digest's 64 hexadecimal digits without the algorithm.
func (d Digest) Hex() string { return hex.EncodeToString(d.sum[:]) }

// Bytes is a copy of the 32 bytes.
func (d Digest) Bytes() []byte { return append([]byte(nil), d.sum[:]...) }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return !d.set }

// MarshalText is String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDigest; the empty string gives the zero value.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	parsed, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
