package tlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/countersign/countersign/internal/strictjson"
)

// KindInToto is Rekor v1's older entry of an envelope. It is read, never
// written.
const KindInToto = "intoto"

// bodyInToto001 is Rekor v1's intoto schema 0.0.1 as it is logged: without the
// envelope, whose digest it has.
type bodyInToto001 struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Content struct {
			Hash        hashV001Document `json:"hash"`
			PayloadHash hashV001Document `json:"payloadHash"`
		} `json:"content"`
		PublicKey string `json:"publicKey"`
	} `json:"spec"`
}

// bodyInToto002 is the schema 0.0.2 as it is logged: the envelope without its
// payload.
type bodyInToto002 struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Content struct {
			Envelope struct {
				PayloadType string `json:"payloadType"`
				Signatures  []struct {
					KeyID     string `json:"keyid,omitempty"`
					PublicKey string `json:"publicKey"`
					Sig       string `json:"sig"`
				} `json:"signatures"`
			} `json:"envelope"`
			Hash        hashV001Document `json:"hash"`
			PayloadHash hashV001Document `json:"payloadHash"`
		} `json:"content"`
	} `json:"spec"`
}

func parseInToto001(body []byte) (Body, error) {
	var doc bodyInToto001
	if err := decodeCanonical(body, &doc); err != nil {
		return Body{}, err
	}
	content := doc.Spec.Content
	out := Body{Kind: doc.Kind, Version: doc.APIVersion}
	var err error
	if out.EnvelopeDigest, err = content.Hash.sha256(); err != nil {
		return Body{}, err
	}
	return out, out.setInToto(content.PayloadHash, doc.Spec.PublicKey)
}

func parseInToto002(body []byte) (Body, error) {
	var doc bodyInToto002
	if err := decodeCanonical(body, &doc); err != nil {
		return Body{}, err
	}
	content := doc.Spec.Content
	if len(content.Envelope.Signatures) != 1 {
		return Body{}, fmt.Errorf("%w: %d signatures, want one", ErrBody, len(content.Envelope.Signatures))
	}
	// The signature is there, so that nothing needs the envelope's digest.
	if _, err := content.Hash.sha256(); err != nil {
		return Body{}, err
	}
	signature := content.Envelope.Signatures[0]
	out := Body{Kind: doc.Kind, Version: doc.APIVersion}
	// The envelope's base64 is itself in base64.
	text, errText := base64.StdEncoding.Strict().DecodeString(signature.Sig)
	raw, errRaw := base64.StdEncoding.Strict().DecodeString(string(text))
	if err := errors.Join(errText, errRaw); err != nil {
		return Body{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	out.Signature = raw
	return out, out.setInToto(content.PayloadHash, signature.PublicKey)
}

func (h hashV001Document) sha256() ([]byte, error) {
	digest, err := hex.DecodeString(h.Value)
	if err != nil || h.Algorithm != "sha256" || len(digest) != sha256.Size {
		return nil, fmt.Errorf("%w: the envelope's digest is not one of SHA-256", ErrBody)
	}
	return digest, nil
}

// setInToto reads what both schemas have.
func (b *Body) setInToto(payload hashV001Document, publicKey string) error {
	var ok bool
	if b.DigestAlgorithm, ok = hashV001(payload.Algorithm); !ok {
		return fmt.Errorf("%w: unknown digest algorithm", ErrBody)
	}
	digest, errDigest := hex.DecodeString(payload.Value)
	block, errKey := base64.StdEncoding.Strict().DecodeString(publicKey)
	if err := errors.Join(errDigest, errKey); err != nil {
		return fmt.Errorf("%w: %w", ErrBody, err)
	}
	b.Digest = digest
	if err := b.setPEM(block); err != nil {
		return err
	}
	return b.check()
}

// decodeCanonical reads a body of Rekor v1, which must be in canonical form.
func decodeCanonical(body []byte, doc any) error {
	if err := strictjson.Unmarshal(body, doc); err != nil {
		return fmt.Errorf("%w: %w", ErrBody, err)
	}
	if again, err := canonical(json.Marshal(doc)); err != nil || !bytes.Equal(again, body) {
		return fmt.Errorf("%w: not in canonical form", ErrBody)
	}
	return nil
}
