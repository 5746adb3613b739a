package api

import (
	"encoding/json"
	"time"
)

// KeyRequest is the body of POST /v1/keys.
type KeyRequest struct {
	Name      string   `json:"name" minLength:"1" maxLength:"128"`
	Algorithm string   `json:"algorithm,omitempty" enum:"ecdsa-p256,ecdsa-p384,rsa-3072,rsa-4096,ed25519" doc:"Default: ecdsa-p256; in a backend that keeps the key elsewhere, the key's own."`
	Backend   string   `json:"backend,omitempty" enum:"file,hashivault,awskms,gcpkms,azurekms,pkcs11" doc:"Default: file."`
	Ref       string   `json:"ref,omitempty" maxLength:"512" doc:"Where the key lies, for a backend that keeps it elsewhere; the operator lists what is allowed."`
	Purposes  []string `json:"purposes,omitempty" nullable:"false" maxItems:"8" doc:"Default: sign."`
}

// Key is a managed key; nothing of its private half is in it.
type Key struct {
	Name      string       `json:"name"`
	KeyID     string       `json:"keyId" doc:"Hexadecimal SHA-256 of the current public key (SPKI)."`
	Algorithm string       `json:"algorithm"`
	Backend   string       `json:"backend"`
	Ref       string       `json:"ref,omitempty"`
	Purposes  []string     `json:"purposes" nullable:"false"`
	State     string       `json:"state" doc:"Of the current version: pre-active, active, suspended, deactivated, compromised or destroyed."`
	Version   int          `json:"version" doc:"The current version."`
	Versions  []KeyVersion `json:"versions" nullable:"false"`
	Revision  int64        `json:"revision"`
	CreatedAt time.Time    `json:"createdAt"`
	UpdatedAt time.Time    `json:"updatedAt"`
}

// KeyVersion is one key pair in the life of a key.
type KeyVersion struct {
	Version       int        `json:"version"`
	KeyID         string     `json:"keyId"`
	PublicKey     string     `json:"publicKey" doc:"PEM."`
	State         string     `json:"state"`
	CreatedAt     time.Time  `json:"createdAt"`
	ActivatedAt   *time.Time `json:"activatedAt,omitempty" nullable:"false"`
	DeactivatedAt *time.Time `json:"deactivatedAt,omitempty" nullable:"false"`
	RevokedAt     *time.Time `json:"revokedAt,omitempty" nullable:"false"`
	CompromisedAt *time.Time `json:"compromisedAt,omitempty" nullable:"false"`
	RevokedReason string     `json:"revokedReason,omitempty"`
}

// KeyList is a page of GET /v1/keys.
type KeyList struct {
	Items      []Key  `json:"items" nullable:"false"`
	NextCursor string `json:"nextCursor,omitempty"`
}

// RotateRequest is the optional body of POST /v1/keys/{name}/rotate.
type RotateRequest struct {
	Ref string `json:"ref,omitempty" maxLength:"512" doc:"Where the next version lies, for a backend that keeps it elsewhere. Default: where the current one lies."`
}

// RevokeRequest is the body of POST /v1/keys/{name}/revoke.
type RevokeRequest struct {
	Reason        string     `json:"reason" minLength:"1" maxLength:"1024"`
	CompromisedAt *time.Time `json:"compromisedAt,omitempty" nullable:"false" doc:"Since when signatures are not believed; without it all of them."`
}

// RegistryRequest is the body of PUT /v1/registries/{host}.
type RegistryRequest struct {
	Repositories        []string     `json:"repositories" nullable:"false" minItems:"1" doc:"Patterns over the repository path, such as team/**."`
	InsecureHTTP        bool         `json:"insecureHttp,omitempty" doc:"Speak plain HTTP to it."`
	CABundle            string       `json:"caBundle,omitempty" maxLength:"262144" doc:"PEM certificates to believe instead of the system's."`
	Credentials         *Credentials `json:"credentials,omitempty" nullable:"false" doc:"Write only: no answer shows them."`
	Mirrors             []string     `json:"mirrors,omitempty" nullable:"false"`
	AllowPrivateAddress bool         `json:"allowPrivateAddress,omitempty" doc:"The host may resolve to a private or loopback address."`
}

// Credentials authenticate to a registry: a user name and password, or a token.
type Credentials struct {
	Username string `json:"username,omitempty" maxLength:"1024"`
	Password string `json:"password,omitempty" maxLength:"16384"`
	Token    string `json:"token,omitempty" maxLength:"16384"`
}

// Registry is a registry that may be contacted.
type Registry struct {
	Host                string    `json:"host"`
	Repositories        []string  `json:"repositories" nullable:"false"`
	InsecureHTTP        bool      `json:"insecureHttp"`
	CABundle            string    `json:"caBundle,omitempty"`
	HasCredentials      bool      `json:"hasCredentials"`
	Mirrors             []string  `json:"mirrors" nullable:"false"`
	AllowPrivateAddress bool      `json:"allowPrivateAddress"`
	Revision            int64     `json:"revision"`
	CreatedAt           time.Time `json:"createdAt"`
	UpdatedAt           time.Time `json:"updatedAt"`
}

// RegistryList is a page of GET /v1/registries.
type RegistryList struct {
	Items      []Registry `json:"items" nullable:"false"`
	NextCursor string     `json:"nextCursor,omitempty"`
}

// RegistryCheckRequest is the body of POST /v1/registries/{host}/check.
type RegistryCheckRequest struct {
	Repository string `json:"repository,omitempty" maxLength:"255" doc:"A repository there to try; without it only the host is."`
}

// RegistryCheck is what a look at a registry showed.
type RegistryCheck struct {
	Reachable     bool              `json:"reachable"`
	Authenticated bool              `json:"authenticated"`
	Referrers     bool              `json:"referrers" doc:"It has the referrers API."`
	Write         bool              `json:"write" doc:"An upload may be started in the repository."`
	Details       map[string]string `json:"details,omitempty" doc:"Why one of these is false."`
}

// Policy is a managed TrustPolicy.
type Policy struct {
	Name      string          `json:"name"`
	Mode      string          `json:"mode"`
	Document  json.RawMessage `json:"document" doc:"The TrustPolicy as JSON."`
	Revision  int64           `json:"revision"`
	CreatedAt time.Time       `json:"createdAt"`
	UpdatedAt time.Time       `json:"updatedAt"`
}

// PolicyList is a page of GET /v1/policies.
type PolicyList struct {
	Items      []Policy `json:"items" nullable:"false"`
	NextCursor string   `json:"nextCursor,omitempty"`
}

// GrantRequest is the body of PUT /v1/grants/{name}.
type GrantRequest struct {
	Issuer         string            `json:"issuer" minLength:"1" maxLength:"1024" doc:"local for API tokens, else an issuer's URL."`
	Subject        string            `json:"subject,omitempty" maxLength:"1024" doc:"Pattern over the token's name or the sub claim."`
	Claims         map[string]string `json:"claims,omitempty" doc:"Patterns over verified claims."`
	Repositories   []string          `json:"repositories" nullable:"false" minItems:"1" doc:"Patterns over HOST/REPOSITORY."`
	Keys           []string          `json:"keys" nullable:"false" minItems:"1" doc:"Patterns over key names."`
	Actions        []string          `json:"actions" nullable:"false" minItems:"1" enum:"sign,attest,provenance"`
	PredicateTypes []string          `json:"predicateTypes,omitempty" nullable:"false"`
}

// Grant says who may sign what with which key.
type Grant struct {
	Name string `json:"name"`
	GrantRequest
	Revision  int64     `json:"revision"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// GrantList is a page of GET /v1/grants.
type GrantList struct {
	Items      []Grant `json:"items" nullable:"false"`
	NextCursor string  `json:"nextCursor,omitempty"`
}

// GrantCheckRequest asks "may X sign Y with Z?".
type GrantCheckRequest struct {
	Issuer        string            `json:"issuer" minLength:"1" maxLength:"1024"`
	Subject       string            `json:"subject" minLength:"1" maxLength:"1024"`
	Claims        map[string]string `json:"claims,omitempty"`
	Repository    string            `json:"repository" minLength:"1" maxLength:"1024" doc:"HOST/REPOSITORY."`
	Key           string            `json:"key" minLength:"1" maxLength:"128"`
	Action        string            `json:"action,omitempty" enum:"sign,attest,provenance" doc:"Default: sign."`
	PredicateType string            `json:"predicateType,omitempty" maxLength:"1024"`
}

// GrantCheck is the answer to a GrantCheckRequest.
type GrantCheck struct {
	Allowed bool   `json:"allowed"`
	Grant   string `json:"grant,omitempty" doc:"The grant that allows it."`
	Detail  string `json:"detail"`
}

// TokenRequest is the body of POST /v1/tokens.
type TokenRequest struct {
	Name      string     `json:"name" minLength:"1" maxLength:"128"`
	Roles     []string   `json:"roles" nullable:"false" minItems:"1" maxItems:"5" enum:"verifier,signer,auditor,security,admin"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty" nullable:"false"`
}

// Token is an API token; its secret is not in it.
type Token struct {
	Name      string     `json:"name"`
	Roles     []string   `json:"roles" nullable:"false"`
	CreatedAt time.Time  `json:"createdAt"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty" nullable:"false"`
}

// NewToken is the answer of POST /v1/tokens, the only one that shows the secret.
type NewToken struct {
	Token
	Secret string `json:"token" doc:"The token itself; it is shown this once."`
}

// TokenList is a page of GET /v1/tokens.
type TokenList struct {
	Items      []Token `json:"items" nullable:"false"`
	NextCursor string  `json:"nextCursor,omitempty"`
}

// Me is who calls and what they may do.
type Me struct {
	Issuer  string            `json:"issuer"`
	Subject string            `json:"subject"`
	Kind    string            `json:"kind,omitempty" doc:"Of the issuer; none for an API token."`
	Claims  map[string]string `json:"claims,omitempty" doc:"The verified claims of an identity token, under the names that grants match."`
	Roles   []string          `json:"roles" nullable:"false"`
	Rights  []string          `json:"rights" nullable:"false" doc:"The calls these roles may make, as METHOD PATH."`
	Grants  []string          `json:"grants" nullable:"false" doc:"Names of the grants that speak of this caller."`
}

// AuditRecord is one line of the journal.
type AuditRecord struct {
	Sequence     int64             `json:"sequence"`
	ID           string            `json:"id"`
	Time         time.Time         `json:"time"`
	Actor        string            `json:"actor"`
	ActorIssuer  string            `json:"actorIssuer,omitempty"`
	ActorSubject string            `json:"actorSubject,omitempty"`
	Action       string            `json:"action"`
	Resource     string            `json:"resource,omitempty"`
	Outcome      string            `json:"outcome"`
	Detail       map[string]string `json:"detail,omitempty"`
	RequestID    string            `json:"requestId,omitempty"`
	PreviousHash string            `json:"previousHash"`
	Hash         string            `json:"hash,omitempty"`
	// Log is the entry that covers the record: its own, or that of a later
	// record, which covers all before it. Nil while there is none.
	Log *AuditEntry `json:"log,omitempty" nullable:"false" doc:"The log entry that covers it; absent while there is none. It and hash are not part of what is hashed."`
}

// AuditEntry names the log entry of a record of the journal.
type AuditEntry struct {
	LogID    string `json:"logId" doc:"Hexadecimal id of the shard."`
	LogIndex int64  `json:"logIndex"`
	Sequence int64  `json:"sequence" doc:"The record whose hash the entry holds: this one, or a later one."`
}

// AuditList is a page of GET /v1/audit, newest first.
type AuditList struct {
	Items      []AuditRecord `json:"items" nullable:"false"`
	NextCursor string        `json:"nextCursor,omitempty"`
}

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status string `json:"status" doc:"ok or unavailable."`
	// Checks are the parts of /readyz: ok or unavailable.
	Checks map[string]string `json:"checks,omitempty"`
	// Version is the program's, in /healthz.
	Version string `json:"version,omitempty"`
}
