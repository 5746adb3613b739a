package api

import (
	"encoding/json"
	"time"
)

// SignatureRequest is the body of POST /v1/signatures.
type SignatureRequest struct {
	Image       string            `json:"image" minLength:"1" maxLength:"1024" doc:"Image reference; a tag is resolved once and the answer names the digest."`
	Key         string            `json:"key,omitempty" maxLength:"128" doc:"Name of a managed key, or identity (the default of a caller with an identity token) for a short-lived certificate."`
	Annotations map[string]string `json:"annotations,omitempty" doc:"Signed together with the digest."`
	Recursive   bool              `json:"recursive,omitempty" doc:"Sign each child of an index too."`
	Formats     []string          `json:"formats,omitempty" nullable:"false" enum:"bundle,legacy,notation" maxItems:"3" doc:"Default: bundle."`
}

// Signature is the answer of POST /v1/signatures and GET /v1/signatures/{id}.
type Signature struct {
	ID          string            `json:"id" doc:"UUIDv7."`
	Image       string            `json:"image" doc:"The image by digest."`
	Digest      string            `json:"digest"`
	Signer      SignedBy          `json:"signer"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Signatures  []SignatureItem   `json:"signatures" nullable:"false"`
	CreatedAt   time.Time         `json:"createdAt"`
}

// AttestationRequest is the body of POST /v1/attestations.
type AttestationRequest struct {
	Image         string          `json:"image" minLength:"1" maxLength:"1024" doc:"Image reference; a tag is resolved once and the answer names the digest."`
	Key           string          `json:"key,omitempty" maxLength:"128" doc:"Name of a managed key, or identity (the default of a caller with an identity token) for a short-lived certificate."`
	PredicateType string          `json:"predicateType" minLength:"1" maxLength:"1024" doc:"URI, or a short name: slsaprovenance1, spdxjson, cyclonedx, vuln, openvex and others."`
	Predicate     json.RawMessage `json:"predicate" doc:"A JSON object of that type; it is signed byte for byte as it stands here."`
	Recursive     bool            `json:"recursive,omitempty" doc:"Attest each child of an index too, each with a statement of its own."`
	Formats       []string        `json:"formats,omitempty" nullable:"false" enum:"bundle,legacy" maxItems:"2" doc:"Default: bundle."`
}

// ProvenanceRequest is the body of POST /v1/provenance. Everything about the
// build but these additions comes from the caller's identity token.
type ProvenanceRequest struct {
	Image                string            `json:"image" minLength:"1" maxLength:"1024" doc:"Image reference; a tag is resolved once and the answer names the digest."`
	Key                  string            `json:"key,omitempty" maxLength:"128" doc:"Name of a managed key, or identity (the default) for a short-lived certificate."`
	ExternalParameters   json.RawMessage   `json:"externalParameters,omitempty" doc:"A JSON object. What the token does not say is added and lowers the build level; what contradicts it is refused."`
	ResolvedDependencies []json.RawMessage `json:"resolvedDependencies,omitempty" nullable:"false" doc:"in-toto resource descriptors."`
	Byproducts           []json.RawMessage `json:"byproducts,omitempty" nullable:"false" doc:"in-toto resource descriptors."`
	Recursive            bool              `json:"recursive,omitempty" doc:"Attest each child of an index too, each with a statement of its own."`
	Formats              []string          `json:"formats,omitempty" nullable:"false" enum:"bundle,legacy" maxItems:"2" doc:"Default: bundle."`
}

// Attestation is the answer of POST /v1/attestations and /v1/provenance, and of
// GET /v1/attestations/{id}.
type Attestation struct {
	ID            string          `json:"id" doc:"UUIDv7."`
	Image         string          `json:"image" doc:"The image by digest."`
	Digest        string          `json:"digest"`
	PredicateType string          `json:"predicateType" doc:"A URI."`
	Signer        SignedBy        `json:"signer"`
	SLSA          *SLSA           `json:"slsa,omitempty" nullable:"false" doc:"Of provenance."`
	Statement     json.RawMessage `json:"statement,omitempty" doc:"Of provenance: the in-toto statement about the image."`
	Signatures    []SignatureItem `json:"signatures" nullable:"false"`
	CreatedAt     time.Time       `json:"createdAt"`
}

// SLSA is the build level that the service grants a provenance.
type SLSA struct {
	BuildLevel int      `json:"buildLevel" minimum:"0" maximum:"3"`
	Reasons    []string `json:"reasons" nullable:"false" doc:"Why it is not higher, or why it is the highest."`
}

// AttestationList is a page of GET /v1/attestations, newest first. Its items
// leave out bundles, payloads and statements; GET /v1/attestations/{id} has
// them.
type AttestationList struct {
	Items      []Attestation `json:"items" nullable:"false"`
	NextCursor string        `json:"nextCursor,omitempty"`
}

// SignedBy names who signed: a managed key or, with a certificate, an identity.
type SignedBy struct {
	Key      string    `json:"key,omitempty"`
	KeyID    string    `json:"keyId,omitempty"`
	Identity *Identity `json:"identity,omitempty" nullable:"false"`
}

// Identity is the holder of a certificate or token.
type Identity struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// SignatureItem is one signature: of one manifest in one format.
type SignatureItem struct {
	Digest   string          `json:"digest" doc:"The signed manifest."`
	Platform string          `json:"platform,omitempty"`
	Format   string          `json:"format" doc:"bundle or legacy."`
	Referrer string          `json:"referrer,omitempty" doc:"Digest of the manifest that carries it in the registry."`
	Bundle   json.RawMessage `json:"bundle,omitempty" doc:"Sigstore bundle v0.3."`
	Legacy   *Legacy         `json:"legacy,omitempty" nullable:"false"`
	Notation *Notation       `json:"notation,omitempty" nullable:"false"`
	LogEntry *LogEntryRef    `json:"logEntry,omitempty" nullable:"false"`
}

// Notation is a signature of the Notary Project.
type Notation struct {
	MediaType string          `json:"mediaType" doc:"application/jose+json."`
	Envelope  []byte          `json:"envelope" nullable:"false" doc:"The JWS envelope, base64."`
	LogEntry  json.RawMessage `json:"logEntry" doc:"The log's record of the signature, as a Sigstore TransparencyLogEntry."`
}

// Legacy is what a layer of cosign's .sig or .att tag holds.
type Legacy struct {
	Payload     []byte            `json:"payload" doc:"The simple signing document that was signed, or the envelope of an attestation."`
	Annotations map[string]string `json:"annotations" doc:"Signature, log entry and timestamp under cosign's names."`
}

// LogEntryRef is where a signature stands in the log.
type LogEntryRef struct {
	LogID      string `json:"logId" doc:"Hexadecimal SHA-256 of the log's public key."`
	Index      int64  `json:"index"`
	Checkpoint string `json:"checkpoint,omitempty" doc:"Signed note that covers the entry."`
}

// SignatureList is a page of GET /v1/signatures, newest first. Its items leave
// out bundles and payloads; GET /v1/signatures/{id} has them.
type SignatureList struct {
	Items      []Signature `json:"items" nullable:"false"`
	NextCursor string      `json:"nextCursor,omitempty"`
}

// Operation states.
const (
	OperationPending = "pending"
	OperationRunning = "running"
	OperationDone    = "done"
	OperationFailed  = "failed"
)

// Operation is the progress of one signing call.
type Operation struct {
	ID        string          `json:"id" doc:"Also the id of the signature or attestation it makes."`
	Kind      string          `json:"kind" doc:"signature or attestation"`
	State     string          `json:"state" enum:"pending,running,done,failed"`
	Image     string          `json:"image" doc:"By digest once it is resolved."`
	Caller    string          `json:"caller"`
	Steps     []OperationStep `json:"steps" nullable:"false" doc:"Those begun so far."`
	Attempts  int             `json:"attempts,omitempty" doc:"Passing failures so far."`
	Result    json.RawMessage `json:"result,omitempty" doc:"The signature or attestation, once the state is done."`
	Problem   *Problem        `json:"problem,omitempty" nullable:"false" doc:"Why it failed, or why the last attempt did."`
	CreatedAt time.Time       `json:"createdAt"`
	UpdatedAt time.Time       `json:"updatedAt"`
}

// Finished reports whether the operation will not change any more.
func (o Operation) Finished() bool {
	return o.State == OperationDone || o.State == OperationFailed
}

// OperationStep is one step of an operation.
type OperationStep struct {
	Name       string     `json:"name"`
	State      string     `json:"state" enum:"running,done,failed"`
	StartedAt  time.Time  `json:"startedAt"`
	FinishedAt *time.Time `json:"finishedAt,omitempty" nullable:"false"`
}
