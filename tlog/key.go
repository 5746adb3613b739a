package tlog

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// Errors about the log's own key and name.
var (
	// ErrLogKey: the key is of a type that logs do not sign with. A log that is
	// written here has ECDSA P-256, the one type that serves checkpoints, signed
	// entry timestamps and every stock verifier.
	ErrLogKey = errors.New("log key must be ECDSA P-256")
	// ErrOrigin: the origin is not a plain host name.
	ErrOrigin = errors.New("invalid log origin")
)

// LogID is the 32 byte id of a log that is written here: SHA-256 of the key's
// SubjectPublicKeyInfo (RFC 6962 §3.2). pub must be ECDSA P-256, else ErrLogKey.
// NewLog takes the keys of others too.
func LogID(pub crypto.PublicKey) ([]byte, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, ErrLogKey
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogKey, err)
	}
	sum := sha256.Sum256(spki)
	return sum[:], nil
}

// CheckOrigin accepts a host name as origin: stock verifiers compare a
// checkpoint's origin with the host name of the log's URL, so a port, a path
// or white space would make every proof unverifiable. It also refuses the form
// `name - digits`, which marks a Rekor v1 tree.
func CheckOrigin(origin string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("+/:\\?#@", r) }
	if origin == "" || len(origin) > 253 || !utf8.ValidString(origin) || strings.IndexFunc(origin, bad) >= 0 {
		return fmt.Errorf("%w: want a host name without port or path", ErrOrigin)
	}
	return nil
}

// NewCheckpointSigner signs checkpoints of origin with an ECDSA P-256 key. The
// private half stays behind signer.
func NewCheckpointSigner(origin string, signer crypto.Signer) (note.Signer, error) {
	name, err := newCheckpointName(origin, signer.Public())
	if err != nil {
		return nil, err
	}
	return &checkpointSigner{checkpointName: name, signer: signer}, nil
}

type checkpointName struct {
	origin string
	hash   uint32
}

func newCheckpointName(origin string, pub crypto.PublicKey) (checkpointName, error) {
	if err := CheckOrigin(origin); err != nil {
		return checkpointName{}, err
	}
	id, err := LogID(pub)
	if err != nil {
		return checkpointName{}, err
	}
	return checkpointName{origin: origin, hash: binary.BigEndian.Uint32(id)}, nil
}

// Name is the origin.
func (n checkpointName) Name() string { return n.origin }

// KeyHash is the first four bytes of the log id (sigstore's rule for ECDSA
// notes; C2SP leaves the type unassigned).
func (n checkpointName) KeyHash() uint32 { return n.hash }

type checkpointSigner struct {
	checkpointName
	signer crypto.Signer
}

// Sign signs SHA-256 of the note's text.
func (s *checkpointSigner) Sign(msg []byte) ([]byte, error) {
	digest := sha256.Sum256(msg)
	return s.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
}
