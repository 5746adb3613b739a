package tlog

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"

	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore/pkg/signature"
	"golang.org/x/mod/sumdb/note"
)

// Log is a transparency log as its readers know it: the origin of its
// checkpoints, its key, and the id by which entries name it. Its key may be of
// any type that Sigstore's logs sign with: ECDSA P-256, P-384 or P-521, Ed25519,
// or RSA. The algorithm is the key's; nothing that is read names another
// (row E7).
type Log struct {
	id       []byte
	public   crypto.PublicKey
	verifier note.Verifier
}

// NewLog describes a log to read. id is the one that a trusted root gives it;
// nil derives it from the key: SHA-256 of the SubjectPublicKeyInfo for ECDSA,
// the full key hash of a signed note for others (C2SP signed-note: SHA-256 of
// origin ‖ 0x0A ‖ 0x01 ‖ key for Ed25519). It fails with ErrOrigin or ErrLogKey.
func NewLog(origin string, pub crypto.PublicKey, id []byte) (*Log, error) {
	verifier, err := NewCheckpointVerifier(origin, pub)
	if err != nil {
		return nil, err
	}
	if id == nil {
		if _, id, err = rekornote.KeyHash(origin, pub); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLogKey, err)
		}
	}
	if len(id) == 0 {
		return nil, fmt.Errorf("%w: the log id is empty", ErrLogKey)
	}
	return &Log{id: bytes.Clone(id), public: pub, verifier: verifier}, nil
}

// ID is the id by which entries name the log.
func (l *Log) ID() []byte { return bytes.Clone(l.id) }

// NewCheckpointVerifier verifies the log's own line under a checkpoint of
// origin. A line is the log's when it has its name and its key's hash, whatever
// id a trusted root calls the log by.
func NewCheckpointVerifier(origin string, pub crypto.PublicKey) (note.Verifier, error) {
	if err := CheckOrigin(origin); err != nil {
		return nil, err
	}
	hash, err := checkpointHash(pub)
	if err != nil {
		return nil, err
	}
	key, err := signature.LoadVerifier(pub, hash)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogKey, err)
	}
	verifier, err := rekornote.NewNoteVerifier(origin, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogKey, err)
	}
	return verifier, nil
}

var errKeyType = errors.New("its type is none that logs sign with")

// checkpointHash is the digest that a log with that key signs. Ed25519 signs
// the text itself and ignores it.
func checkpointHash(pub crypto.PublicKey) (crypto.Hash, error) {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return crypto.SHA256, nil
		case elliptic.P384():
			return crypto.SHA384, nil
		case elliptic.P521():
			return crypto.SHA512, nil
		}
	case ed25519.PublicKey:
		if len(key) == ed25519.PublicKeySize {
			return crypto.SHA512, nil
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= rsaBitsMin && bits <= rsaBitsMax {
			return crypto.SHA256, nil
		}
	}
	return 0, fmt.Errorf("%w: %w", ErrLogKey, errKeyType)
}

// Bounds of an RSA key: below is weak, above costs a verifier too much.
const (
	rsaBitsMin = 2048
	rsaBitsMax = 4096
)
