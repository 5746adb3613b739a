package policy

// Code is a stable reason code. Codes are added, never renamed: scripts and
// alert rules match them.
type Code string

// The vocabulary of reasons, one for every format and every caller.
const (
	RegistryNotTrusted    Code = "registry_not_trusted"
	ImageNotFound         Code = "image_not_found"
	RegistryUnavailable   Code = "registry_unavailable"
	DigestMismatch        Code = "digest_mismatch"
	AmbiguousManifest     Code = "ambiguous_manifest"
	NoPolicy              Code = "no_policy"
	PolicyError           Code = "policy_error"
	NoSignature           Code = "no_signature"
	SignatureInvalid      Code = "signature_invalid"
	UntrustedKey          Code = "untrusted_key"
	IdentityMismatch      Code = "identity_mismatch"
	CertificateInvalid    Code = "certificate_invalid"
	CertificateExpired    Code = "certificate_expired"
	CertificateRevoked    Code = "certificate_revoked"
	SignatureExpired      Code = "signature_expired"
	KeyRevoked            Code = "key_revoked"
	KeyOutsideWindow      Code = "key_outside_window"
	LogEntryMissing       Code = "log_entry_missing"
	LogEntryMismatch      Code = "log_entry_mismatch"
	InclusionProofInvalid Code = "inclusion_proof_invalid"
	CheckpointInvalid     Code = "checkpoint_invalid"
	TimestampMissing      Code = "timestamp_missing"
	TimestampInvalid      Code = "timestamp_invalid"
	AttestationMissing    Code = "attestation_missing"
	PredicateTypeMismatch Code = "predicate_type_mismatch"
	PredicateInvalid      Code = "predicate_invalid"
	ConditionFalse        Code = "condition_false"
	ConditionError        Code = "condition_error"
	BuilderMismatch       Code = "builder_mismatch"
	SourceMismatch        Code = "source_mismatch"
	ParameterMismatch     Code = "parameter_mismatch"
	BuildLevelTooLow      Code = "build_level_too_low"
	AttestationTooOld     Code = "attestation_too_old"
	ThresholdNotMet       Code = "threshold_not_met"
	SubjectMismatch       Code = "subject_mismatch"
	LayoutNotSatisfied    Code = "layout_not_satisfied"
	LimitExceeded         Code = "limit_exceeded"
	DeadlineExceeded      Code = "deadline_exceeded"
	DeniedByPolicy        Code = "denied_by_policy"
	// Excepted is a passing reason: an exception applied.
	Excepted Code = "excepted"
)

// Verdict is the outcome of a question. The zero value is not a verdict and
// must never be answered.
type Verdict string

// The two verdicts.
const (
	Passed Verdict = "PASSED"
	Failed Verdict = "FAILED"
)

// Reason says why. Message is for a person: it names what was looked for and
// what to do, and carries no bytes from the image's publisher but digests.
type Reason struct {
	Code        Code   `json:"code"`
	Message     string `json:"message"`
	Policy      string `json:"policy,omitempty"`
	Requirement string `json:"requirement,omitempty"`
}

// Evidence is one accepted signature or attestation.
type Evidence struct {
	// Format is bundle, legacy, notation or layout; legacy are both of cosign's tags.
	Format string `json:"format"`
	// Digest is the subject it speaks of.
	Digest string `json:"digest"`
	// Authority is the policy's name of who signed.
	Authority string `json:"authority"`
	// Signer is the key id, or issuer and subject of a certificate.
	Signer string `json:"signer"`
	// LogIndex is the position in the log, if it is logged, and LogID the log
	// (or the shard of one) in which it is that: lowercase hexadecimal.
	LogIndex *int64 `json:"logIndex,omitempty"`
	LogID    string `json:"logId,omitempty"`
	// SignedAt is the proven time (RFC 3339), if there is one.
	SignedAt      string `json:"signedAt,omitempty"`
	PredicateType string `json:"predicateType,omitempty"`
	// Attachment is the sha256:… of what carries it, as a registry names it: of
	// the bundle, or of the layer. Empty for a layout, which rests on several.
	Attachment string `json:"attachment,omitempty"`
}
