package tlog

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
)

// ErrSET says that a signed entry timestamp is not the log's promise about this
// body, time and index.
var ErrSET = errors.New("signed entry timestamp does not verify")

// promise is what Rekor v1 signs; its RFC 8785 form is the message.
type promise struct {
	Body           string `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       int64  `json:"logIndex"`
}

// SignSET signs the promise that body stands at index of the log since
// integratedTime (whole seconds). Rekor v2 gives none; stock verifiers of the
// legacy cosign format ask for one. Call it only for an entry whose inclusion
// was proven. signer is the log's key.
func SignSET(signer crypto.Signer, body []byte, integratedTime time.Time, index int64) ([]byte, error) {
	id, err := LogID(signer.Public())
	if err != nil {
		return nil, err
	}
	digest, err := promiseDigest(body, integratedTime, index, id)
	if err != nil {
		return nil, err
	}
	set, err := signer.Sign(rand.Reader, digest, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing entry timestamp: %w", err)
	}
	return set, nil
}

// VerifySET is Log.VerifySET for the log with that key, under the id that its
// key gives it.
func VerifySET(pub crypto.PublicKey, body []byte, integratedTime time.Time, index int64, logID, set []byte) error {
	id, err := LogID(pub)
	if err != nil {
		return err
	}
	return (&Log{id: id, public: pub}).VerifySET(body, integratedTime, index, logID, set)
}

// VerifySET checks that set is the log's promise about exactly this body, time,
// index and log id; anything else is ErrSET. A key that is not ECDSA P-256 is
// ErrLogKey: stock verifiers believe the promise of no other either.
func (l *Log) VerifySET(body []byte, integratedTime time.Time, index int64, logID, set []byte) error {
	key, ok := l.public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return ErrLogKey
	}
	if !bytes.Equal(l.id, logID) {
		return fmt.Errorf("%w: it names another log", ErrSET)
	}
	digest, err := promiseDigest(body, integratedTime, index, l.id)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(key, digest, set) {
		return ErrSET
	}
	return nil
}

func promiseDigest(body []byte, integratedTime time.Time, index int64, logID []byte) ([]byte, error) {
	if index < 0 {
		return nil, fmt.Errorf("%w: negative index", ErrSET)
	}
	doc, err := json.Marshal(promise{
		Body:           base64.StdEncoding.EncodeToString(body),
		IntegratedTime: integratedTime.Unix(),
		LogID:          hex.EncodeToString(logID),
		LogIndex:       index,
	})
	if err != nil {
		return nil, fmt.Errorf("marshalling entry timestamp: %w", err)
	}
	message, err := jsoncanonicalizer.Transform(doc)
	if err != nil {
		return nil, fmt.Errorf("canonicalising entry timestamp: %w", err)
	}
	sum := sha256.Sum256(message)
	return sum[:], nil
}
