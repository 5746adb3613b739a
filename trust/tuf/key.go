package tuf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ParsePublicKey reads one PEM block PUBLIC KEY (SubjectPublicKeyInfo) that
// holds an ECDSA P-256 or Ed25519 key; anything else is ErrKey.
func ParsePublicKey(text []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		return nil, fmt.Errorf("%w: want one PEM block PUBLIC KEY", ErrKey)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if _, _, err := describe(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

// KeyID is the id under which metadata names a public key, 64 hexadecimal
// digits. Other keys than ECDSA P-256 and Ed25519 are ErrKey.
func KeyID(pub crypto.PublicKey) (string, error) {
	_, id, err := describe(pub)
	return id, err
}

// describe is a public key as metadata holds it, and its id.
func describe(pub crypto.PublicKey) (*metadata.Key, string, error) {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return nil, "", fmt.Errorf("%w: want ECDSA P-256 or Ed25519", ErrKey)
		}
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return nil, "", fmt.Errorf("%w: malformed Ed25519 key", ErrKey)
		}
	default:
		return nil, "", fmt.Errorf("%w: want ECDSA P-256 or Ed25519", ErrKey)
	}
	key, err := metadata.KeyFromPublicKey(pub)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	id, err := key.ID()
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key, id, nil
}

// public is the key of a metadata record, which must be written exactly as
// describe writes it: a key has one record and one id.
func public(id string, key *metadata.Key) (crypto.PublicKey, error) {
	if key == nil || len(key.UnrecognizedFields)+len(key.Value.UnrecognizedFields) > 0 {
		return nil, fmt.Errorf("%w: malformed key record", ErrKey)
	}
	pub, err := key.ToPublicKey()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	canonical, want, err := describe(pub)
	if err != nil {
		return nil, err
	}
	if id != want || key.Type != canonical.Type || key.Scheme != canonical.Scheme || key.Value.PublicKey != canonical.Value.PublicKey {
		return nil, fmt.Errorf("%w: key record and key id differ", ErrKey)
	}
	return pub, nil
}

// signPayload makes the one signature form of a key: ASN.1 DER over SHA-256,
// or pure Ed25519.
func signPayload(signer crypto.Signer, payload []byte) ([]byte, error) {
	if _, ok := signer.Public().(ed25519.PublicKey); ok {
		return signer.Sign(rand.Reader, payload, crypto.Hash(0))
	}
	digest := sha256.Sum256(payload)
	return signer.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func verifyPayload(pub crypto.PublicKey, payload, signature []byte) bool {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(payload)
		return ecdsa.VerifyASN1(key, digest[:], signature)
	case ed25519.PublicKey:
		return ed25519.Verify(key, payload, signature)
	}
	return false
}

// held is a private key the service signs with.
type held struct {
	id     string
	key    *metadata.Key
	signer crypto.Signer
}

func hold(signer crypto.Signer) (held, error) {
	key, id, err := describe(signer.Public())
	return held{id: id, key: key, signer: signer}, err
}

// signed lists the ids of a role's keys whose signature over the document is
// good, in the role's order.
func signed[T metadata.Roles](root *rootDocument, role Role, doc *metadata.Metadata[T]) ([]string, error) {
	payload, err := payloadOf(doc)
	if err != nil {
		return nil, err
	}
	var good []string
	for _, id := range root.Signed.Roles[string(role)].KeyIDs {
		at := slices.IndexFunc(doc.Signatures, func(s metadata.Signature) bool { return s.KeyID == id })
		if at < 0 {
			continue
		}
		pub, err := public(id, root.Signed.Keys[id])
		if err != nil {
			return nil, err
		}
		if verifyPayload(pub, payload, doc.Signatures[at].Signature) {
			good = append(good, id)
		}
	}
	return good, nil
}

// attach adds a held key's signature unless a good one is there.
func attach[T metadata.Roles](doc *metadata.Metadata[T], key held) error {
	payload, err := payloadOf(doc)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(doc.Signatures, func(s metadata.Signature) bool { return s.KeyID == key.id })
	if at >= 0 && verifyPayload(key.signer.Public(), payload, doc.Signatures[at].Signature) {
		return nil
	}
	signature, err := signPayload(key.signer, payload)
	if err != nil {
		return fmt.Errorf("signing with TUF key %.12s: %w", key.id, err)
	}
	replace(doc, metadata.Signature{KeyID: key.id, Signature: signature})
	return nil
}

// replace puts a signature in the place of one by the same key. Documents are
// sorted by key id, so that equal sets of signatures are equal documents.
func replace[T metadata.Roles](doc *metadata.Metadata[T], signature metadata.Signature) {
	kept := slices.DeleteFunc(slices.Clone(doc.Signatures), func(s metadata.Signature) bool { return s.KeyID == signature.KeyID })
	doc.Signatures = append(kept, signature)
	slices.SortFunc(doc.Signatures, func(a, b metadata.Signature) int {
		if a.KeyID < b.KeyID {
			return -1
		}
		return 1
	})
}
