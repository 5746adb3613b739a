package api

import (
	"encoding/json"
	"time"

	"github.com/countersign/countersign/policy"
)

// VerifyRequest is the body of POST /v1/verify.
type VerifyRequest struct {
	Images   []string          `json:"images" nullable:"false" minItems:"1" maxItems:"200" doc:"Image references to judge."`
	Context  map[string]string `json:"context,omitempty" doc:"Where the images shall run: cluster, namespace, or any other key that policies match."`
	Policy   string            `json:"policy,omitempty" maxLength:"128" doc:"Only this policy; by default every policy that matches applies."`
	Timeout  string            `json:"timeout,omitempty" maxLength:"16" doc:"Go duration of at most 30s; what is not decided by then is FAILED with deadline_exceeded."`
	VSA      bool              `json:"vsa,omitempty" doc:"Add a signed SLSA verification summary per PASSED image; for at most 50 images, and not for anonymous callers."`
	Platform string            `json:"platform,omitempty" maxLength:"200" doc:"OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT: of an image that is an index, judge the child of this platform."`
	// VSAAttach needs VSA.
	VSAAttach bool `json:"vsaAttach,omitempty" doc:"Attach the summaries to the images in their registry too."`
}

// VerifyAnswer is the answer of POST and GET /v1/verify.
type VerifyAnswer struct {
	Verdict  policy.Verdict `json:"verdict" enum:"PASSED,FAILED"`
	Results  []VerifyResult `json:"results" nullable:"false"`
	Warnings []string       `json:"warnings" nullable:"false"`
}

// VerifyResult is the verdict on one image.
type VerifyResult struct {
	Image      string          `json:"image" doc:"As asked."`
	Pinned     string          `json:"pinned,omitempty" doc:"The image by digest."`
	Digest     string          `json:"digest,omitempty"`
	Verdict    policy.Verdict  `json:"verdict" enum:"PASSED,FAILED"`
	Reasons    []policy.Reason `json:"reasons" nullable:"false" doc:"Why it FAILED; when it PASSED none, or excepted with the exceptions that applied."`
	Policies   []PolicyResult  `json:"policies" nullable:"false"`
	Cached     bool            `json:"cached"`
	Stale      bool            `json:"stale,omitempty" doc:"The registry could not be reached and the verdict is an old one; a warning says of when."`
	DecisionID string          `json:"decisionId,omitempty"`
	Unrecorded bool            `json:"unrecorded,omitempty" doc:"The service's storage is exhausted: the verdict stands, and there is no record of it."`
	Warnings   []string        `json:"warnings,omitempty" nullable:"false"`
	Index      string          `json:"index,omitempty" doc:"The index of which the platform was chosen; digest and pinned are the child's."`
	Platform   string          `json:"platform,omitempty" doc:"What the index calls the chosen child."`
	Until      *Until          `json:"until,omitempty" nullable:"false" doc:"What time alone will change of a PASSED verdict first."`
	Explain    *Explanation    `json:"explain,omitempty" nullable:"false" doc:"With explain=true: the evidence considered."`
	VSA        *VSA            `json:"vsa,omitempty" nullable:"false" doc:"The verification summary, where one was asked for and the image PASSED."`
	VSAProblem *Problem        `json:"vsaProblem,omitempty" nullable:"false" doc:"Why there is no verification summary although the image PASSED; the verdict stands."`
}

// VSA is a signed and logged SLSA verification summary of one image.
type VSA struct {
	ID        string          `json:"id" doc:"Of the attestation; see /v1/attestations/{id}."`
	Digest    string          `json:"digest" doc:"The image that it is about."`
	Signer    SignedBy        `json:"signer"`
	Bundle    json.RawMessage `json:"bundle" doc:"Sigstore bundle v0.3."`
	LogEntry  LogEntryRef     `json:"logEntry"`
	Referrer  string          `json:"referrer,omitempty" doc:"Digest of the manifest that carries it in the registry, where it was attached."`
	Reused    bool            `json:"reused" doc:"It was signed for an earlier question with the same answer."`
	CreatedAt time.Time       `json:"createdAt"`
}

// PolicyResult is what one policy said about one image.
type PolicyResult struct {
	Name         string              `json:"name"`
	Revision     int64               `json:"revision"`
	Digest       string              `json:"digest,omitempty" doc:"SHA-256 of the policy's canonical document, as a verification summary names it."`
	BuildLevel   int                 `json:"buildLevel,omitempty" doc:"SLSA build level that the policy proved; absent when it judges none."`
	Mode         string              `json:"mode" doc:"enforce, warn or audit."`
	Verdict      policy.Verdict      `json:"verdict" enum:"PASSED,FAILED"`
	Reasons      []policy.Reason     `json:"reasons,omitempty" nullable:"false"`
	Exception    *Excepted           `json:"exception,omitempty" nullable:"false" doc:"It is PASSED by this exception; the requirements tell what was found."`
	Until        *Until              `json:"until,omitempty" nullable:"false" doc:"When time alone will change a PASSED verdict."`
	Requirements []RequirementResult `json:"requirements" nullable:"false"`
}

// RequirementResult is what became of one requirement of a policy.
type RequirementResult struct {
	Requirement string            `json:"requirement"`
	Verdict     policy.Verdict    `json:"verdict" enum:"PASSED,FAILED"`
	Evidence    []policy.Evidence `json:"evidence" nullable:"false"`
	Reasons     []policy.Reason   `json:"reasons,omitempty" nullable:"false"`
}

// Decision is a kept answer.
type Decision struct {
	ID         string            `json:"id"`
	Image      string            `json:"image"`
	Pinned     string            `json:"pinned,omitempty"`
	Digest     string            `json:"digest,omitempty"`
	Repository string            `json:"repository,omitempty"`
	Verdict    string            `json:"verdict"`
	Policy     string            `json:"policy,omitempty" doc:"The policy asked for; empty when all that match applied."`
	Caller     string            `json:"caller"`
	Context    map[string]string `json:"context,omitempty"`
	Result     json.RawMessage   `json:"result,omitempty" doc:"The result as it was answered; only in GET /v1/decisions/{id}."`
	CreatedAt  time.Time         `json:"createdAt"`
}

// DecisionList is a page of GET /v1/decisions.
type DecisionList struct {
	Items      []Decision `json:"items" nullable:"false"`
	NextCursor string     `json:"nextCursor,omitempty"`
}

// Artifact is everything known of a digest.
type Artifact struct {
	Digest       string                 `json:"digest"`
	Signatures   []ArtifactItem         `json:"signatures" nullable:"false"`
	Attestations []ArtifactAttestations `json:"attestations" nullable:"false" doc:"By predicate type, without their content."`
	Children     []ArtifactChild        `json:"children" nullable:"false" doc:"Manifests of an index that were signed or attested together with it."`
	Decisions    []Decision             `json:"decisions" nullable:"false"`
	Truncated    bool                   `json:"truncated" doc:"There is more than what is listed."`
}

// ArtifactAttestations are the attestations of one predicate type.
type ArtifactAttestations struct {
	PredicateType string         `json:"predicateType"`
	Items         []ArtifactItem `json:"items" nullable:"false"`
}

// ArtifactChild is a manifest of an index.
type ArtifactChild struct {
	Digest   string `json:"digest"`
	Platform string `json:"platform,omitempty"`
}

// IngestRequest is the body of POST /v1/artifacts/{digest}/ingest.
type IngestRequest struct {
	Image string `json:"image" minLength:"1" maxLength:"1024" doc:"Where to look: a reference that names the digest, or a tag of it."`
}

// Ingest is what was found at a registry.
type Ingest struct {
	Digest   string       `json:"digest"`
	Kept     []IngestItem `json:"kept" nullable:"false"`
	Refused  []IngestItem `json:"refused" nullable:"false"`
	Complete bool         `json:"complete" doc:"Nothing was passed over as unreadable or beyond a limit."`
}

// IngestItem is one signature or attestation that the registry has.
type IngestItem struct {
	Format        string         `json:"format" doc:"bundle, legacy or legacy-attestation."`
	Digest        string         `json:"digest" doc:"Of the referrer, or of the layer."`
	PredicateType string         `json:"predicateType,omitempty"`
	Signer        string         `json:"signer,omitempty" doc:"Key id, or issuer and subject."`
	LogIndex      *int64         `json:"logIndex,omitempty" nullable:"false"`
	LogID         string         `json:"logId,omitempty" doc:"The log, or the shard of one, that the index is of."`
	Policy        string         `json:"policy,omitempty" doc:"Whose authority accepts it."`
	Authority     string         `json:"authority,omitempty"`
	Reason        *policy.Reason `json:"reason,omitempty" nullable:"false" doc:"Why nobody accepts it: the nearest miss."`
}

// ArtifactItem is one kept signature or attestation of a digest.
type ArtifactItem struct {
	ID            string          `json:"id"`
	Repository    string          `json:"repository"`
	Format        string          `json:"format"`
	PredicateType string          `json:"predicateType,omitempty"`
	KeyID         string          `json:"keyId,omitempty"`
	Signer        string          `json:"signer,omitempty"`
	LogIndex      *int64          `json:"logIndex,omitempty" nullable:"false"`
	Operation     string          `json:"operation,omitempty" doc:"Id of the signature that made it."`
	Bundle        json.RawMessage `json:"bundle,omitempty"`
	Legacy        *Legacy         `json:"legacy,omitempty" nullable:"false"`
	CreatedAt     time.Time       `json:"createdAt"`
}
