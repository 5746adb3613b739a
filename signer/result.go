package signer

import (
	"encoding/json"
	"fmt"
	"time"
)

// Result is the answer to a finished signing request, the 201 body.
type Result struct {
	// ID is the operation's id (UUIDv7), which is also the signature's.
	ID string `json:"id"`
	// Image is host/repository@digest, whatever form was asked for.
	Image string `json:"image"`
	// Digest is the subject's.
	Digest string `json:"digest"`
	// PredicateType is of attestations, and empty for plain signatures.
	PredicateType string `json:"predicateType,omitempty"`
	// Signer says who signed.
	Signer Signatory `json:"signer"`
	// SLSA and Statement are of provenance: the level that the claims support,
	// and the statement about the image.
	SLSA      *SLSA           `json:"slsa,omitempty"`
	Statement json.RawMessage `json:"statement,omitempty"`
	// Signatures, or attestations, are in the order they were planned: the image first, then
	// the children of an index, each in the formats asked for.
	Signatures []Signature `json:"signatures"`
	CreatedAt  time.Time   `json:"createdAt"`

	body []byte
}

// Body is a copy of the JSON text kept with the operation. Every answer to the
// same idempotency key gives the same bytes, so write these rather than
// marshalling the value again.
func (r Result) Body() []byte { return append([]byte(nil), r.body...) }

// Signatory is who signed: a managed key, or an identity with a certificate.
type Signatory struct {
	// Key is the managed key's name.
	Key string `json:"key,omitempty"`
	// KeyID is the hexadecimal SHA-256 of the public key's SubjectPublicKeyInfo.
	KeyID string `json:"keyId,omitempty"`
	// Identity is the certificate's.
	Identity *SignatoryIdentity `json:"identity,omitempty"`
}

// SLSA is the SLSA build level that the service grants a provenance.
type SLSA struct {
	BuildLevel int `json:"buildLevel"`
	// Reasons say why it is not higher, or why it is the highest.
	Reasons []string `json:"reasons"`
}

// SignatoryIdentity is whom a certificate names.
type SignatoryIdentity struct {
	// Issuer is the OIDC issuer.
	Issuer string `json:"issuer"`
	// Subject is the certificate's subject alternative name: what a policy and
	// cosign's --certificate-identity ask for.
	Subject string `json:"subject"`
}

// Signature is one signature of one manifest in one format.
type Signature struct {
	// Digest is the signed manifest's.
	Digest string `json:"digest"`
	// Platform is os/architecture[/variant] of a child of an index.
	Platform string `json:"platform,omitempty"`
	// Format is bundle, legacy or notation.
	Format string `json:"format"`
	// Referrer is the digest of the manifest that carries the signature in
	// the registry; empty when it was not attached.
	Referrer string `json:"referrer,omitempty"`
	// Bundle is the Sigstore bundle v0.3 (format bundle).
	Bundle json.RawMessage `json:"bundle,omitempty"`
	// Legacy is the signed payload and its annotations (format legacy).
	Legacy *Legacy `json:"legacy,omitempty"`
	// Notation is the envelope (format notation).
	Notation *Notation `json:"notation,omitempty"`
	// LogEntry says where the signature is logged.
	LogEntry LogEntry `json:"logEntry"`
}

// Legacy is what a layer of the .sig or .att tag holds.
type Legacy struct {
	// Payload is the simple signing document, byte for byte as signed, or the
	// envelope of an attestation.
	Payload []byte `json:"payload"`
	// Annotations carry the signature (but of an attestation), the signed entry
	// timestamp and the RFC 3161 timestamp under cosign's names.
	Annotations map[string]string `json:"annotations"`
}

// LogEntry is a position in the transparency log.
type LogEntry struct {
	// LogID is the hexadecimal id of the log's key.
	LogID string `json:"logId"`
	Index int64  `json:"index"`
	// Checkpoint is the signed note that covers the entry.
	Checkpoint string `json:"checkpoint"`
}

func (r Result) marshal() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: marshalling the result: %w", ErrInternal, err)
	}
	return b, nil
}

func parseResult(b []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return Result{}, fmt.Errorf("%w: reading a stored result: %w", ErrInternal, err)
	}
	r.body = append([]byte(nil), b...)
	return r, nil
}
