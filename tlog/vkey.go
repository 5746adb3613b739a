package tlog

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	formatsnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// ErrVerifierKey says that a verifier key is malformed or of a type that is no
// log's.
var ErrVerifierKey = errors.New("invalid verifier key")

// The signature types of C2SP signed-note that logs sign with. 0x02 is
// registered for ECDSA and its encoding is Sigstore's: the key id is of the
// SubjectPublicKeyInfo alone.
const (
	noteEd25519 = 0x01
	noteECDSA   = 0x02
)

// verifierKeyBytes bounds a verifier key: a name, and the largest ECDSA key.
const verifierKeyBytes = 1024

// ParseVerifierKey reads a log's key as C2SP signed-note writes it,
// NAME+ID+KEY, of type Ed25519 (0x01) or ECDSA (0x02). The name is the log's
// origin. Keys of witnesses (0x04, 0x06) and of CT logs (0x05) are refused: what
// they sign is no checkpoint of a log.
func ParseVerifierKey(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 || len(vkey) > verifierKeyBytes {
		return nil, fmt.Errorf("%w: want NAME+ID+KEY", ErrVerifierKey)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(key) == 0 || len(parts[1]) != 8 {
		return nil, fmt.Errorf("%w: want NAME+ID+KEY, the key in base64", ErrVerifierKey)
	}
	if _, err := strconv.ParseUint(parts[1], 16, 32); err != nil || parts[0] == "" {
		return nil, fmt.Errorf("%w: want NAME+ID+KEY, the id in eight hexadecimal digits", ErrVerifierKey)
	}
	var verifier note.Verifier
	switch key[0] {
	case noteEd25519:
		verifier, err = note.NewVerifier(vkey)
	case noteECDSA:
		verifier, err = formatsnote.NewECDSAVerifier(vkey)
	default:
		return nil, fmt.Errorf("%w: type 0x%02x is none that logs sign checkpoints with", ErrVerifierKey, key[0])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVerifierKey, err)
	}
	return verifier, nil
}

// MarshalVerifierKey writes a log's key as ParseVerifierKey reads it, for the
// configuration of a witness.
func MarshalVerifierKey(origin string, pub crypto.PublicKey) (string, error) {
	verifier, err := NewCheckpointVerifier(origin, pub)
	if err != nil {
		return "", err
	}
	key, err := verifierKey(pub)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s+%08x+%s", origin, verifier.KeyHash(), base64.StdEncoding.EncodeToString(key)), nil
}

func verifierKey(pub crypto.PublicKey) ([]byte, error) {
	if key, ok := pub.(ed25519.PublicKey); ok {
		return append([]byte{noteEd25519}, key...), nil
	}
	if _, err := LogID(pub); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogKey, err)
	}
	return append([]byte{noteECDSA}, spki...), nil
}
