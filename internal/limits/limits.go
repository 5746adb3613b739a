// Package limits holds every bound of the service, so that what a hostile
// registry, client or document can cost is read in one place. A parser and the
// code that checks its result use the same constant.
//
// It refuses to be configurable: a limit that an operator may raise is a
// setting of the package that enforces it, checked against the ceiling here.
package limits

import "time"

// PublicationInterval is the pause between two looks at what verification replicas
// believe: by the main service, which writes what changed by itself, and by replicas
// that nobody asks anything.
const PublicationInterval = 10 * time.Second

// Request bodies of our own API and of the protocols we answer.
const (
	// RequestBody bounds a request body of our own API.
	RequestBody = 1 << 20
	// AdmissionBody bounds an AdmissionReview; Kubernetes sends objects of up
	// to 1.5 MiB twice (object and oldObject).
	AdmissionBody = 4 << 20
	// CertificateBody bounds a request of the Fulcio protocol: a token and a
	// key.
	CertificateBody = 64 << 10
	// LogEntryBody bounds POST /api/v2/log/entries.
	LogEntryBody = 1 << 20
	// TimestampQuery bounds an RFC 3161 request; the largest honest one is
	// below 200 bytes.
	TimestampQuery = 4 << 10
	// JSONDepth bounds nesting of every JSON document we read.
	JSONDepth = 64
	// IdempotencyKey bounds the Idempotency-Key header, in bytes.
	IdempotencyKey = 255
	// PageDefault and PageMax bound list answers.
	PageDefault = 50
	PageMax     = 200
	// Name bounds the name of a managed object.
	Name = 128
	// Descriptor bounds the descriptor of an image that containerd passes.
	Descriptor = 256 << 10
	// Annotations bounds the annotations of one signature, AnnotationBytes
	// the sum of their keys and values.
	Annotations     = 64
	AnnotationBytes = 16 << 10
)

// What is read from a registry for one subject.
const (
	// Manifest bounds one manifest or index; the distribution specification
	// asks registries to accept 4 MiB.
	Manifest = 4 << 20
	// Bundle bounds one stored bundle or envelope: a predicate of the largest
	// size in base64, and its signature and proofs.
	Bundle = 12 << 20
	// ReferrersPage bounds one page of the referrers API.
	ReferrersPage = 4 << 20
	// ReferrersPages bounds how many pages are followed.
	ReferrersPages = 8
	// Referrers bounds the descriptors considered for one subject.
	Referrers = 512
	// Bundles bounds the bundles and signatures fetched for one subject.
	Bundles = 64
	// Kept bounds what is read of one subject from the archive when all of it
	// matters.
	Kept = 200
	// OtherAttachments bounds those of them that are said to be of another type
	// than the one looked for.
	OtherAttachments = 8
	// IndexChildren bounds the children of an index that are read or signed.
	IndexChildren = 64
	// RegistryResponseHeader bounds the headers of a registry's answer.
	RegistryResponseHeader = 64 << 10
	// TokenResponse bounds the answer of a registry's token server.
	TokenResponse = 256 << 10
	// Redirects bounds redirects on one registry request.
	Redirects = 3
	// Blob bounds one uploaded or fetched configuration or layer blob.
	Blob = 4 << 20
	// AttachmentBytes bounds the sum of what is fetched as attachments of one
	// subject.
	AttachmentBytes = 64 << 20
	// LegacySignatures bounds the layers of one .sig manifest; stock readers
	// refuse more.
	LegacySignatures = 1000
	// Challenge bounds one WWW-Authenticate header.
	Challenge = 4 << 10
	// RegistryPatterns and RegistryMirrors bound one registry rule.
	RegistryPatterns = 256
	RegistryMirrors  = 8
	// RegistryAttempts bounds how often one read is tried.
	RegistryAttempts = 3
	// AttachAttempts bounds how often a shared tag is rewritten when another
	// writer was faster.
	AttachAttempts = 8
	// AttachmentsParallel bounds attachments of one subject fetched at the
	// same time.
	AttachmentsParallel = 8
)

// What one verification may do.
const (
	// Images bounds the images of one verify or admission request.
	Images = 200
	// Subjects bounds the subjects of one statement.
	Subjects = 1024
	// SubjectDigests bounds the digests of one subject.
	SubjectDigests = 32
	// EnvelopeSignatures bounds the signatures of one envelope.
	EnvelopeSignatures = 64
	// LargeRound is from how many bytes of attachments on the judging of one
	// image counts as large, and LargeRounds how many of those run at the same
	// time: parsed and under a condition, a document takes up to fifty times its
	// size.
	LargeRound  = 1 << 20
	LargeRounds = 4
	// LogEntries bounds the log entries in one bundle.
	LogEntries = 32
	// Timestamps bounds the timestamps in one bundle.
	Timestamps = 32
	// ProofHashes bounds one inclusion proof: a tree of 2^64 leaves needs 64.
	ProofHashes = 64
	// Policies bounds the policies that are loaded, Requirements the
	// requirements and authorities of one policy.
	Policies     = 1024
	Requirements = 64
	// TrustRoots bounds the trusted roots of others.
	TrustRoots = 64
	// PolicyDepth bounds nesting of all, any and atLeast.
	PolicyDepth = 8
	// Pattern bounds one glob pattern, in bytes.
	Pattern = 1024
	// PolicyDocument bounds one policy or grant, in bytes; YAML takes about a
	// hundred times its size in memory while it is read.
	PolicyDocument = 256 << 10
	// Patterns bounds one list of patterns in a policy or a grant.
	Patterns = 256
)

// TUF repository.
const (
	// TUFDocument bounds one file of the repository; stock clients read a root
	// of at most 512 000 bytes and a timestamp of at most 16 384.
	TUFDocument = 500_000
	// TUFRoots bounds the roots of one repository; stock clients follow at most
	// 256 of them at once.
	TUFRoots = 1024
	// TUFKeys bounds the keys of one root and the signatures of one document.
	TUFKeys = 32
	// TUFTargets bounds the targets.
	TUFTargets = 64
)

// Time.
const (
	// RequestTimeout bounds one API request when the caller names no shorter.
	RequestTimeout = 60 * time.Second
	// VerifyTimeout is the default of a verification; VerifyTimeoutMax the
	// most a caller may ask for.
	VerifyTimeout    = 10 * time.Second
	VerifyTimeoutMax = 30 * time.Second
	// RegistryRequest bounds one request to a registry.
	RegistryRequest = 15 * time.Second
	// RegistryPause is how long a registry that could not be reached is asked
	// only after its mirrors.
	RegistryPause = 30 * time.Second
	// DialTimeout bounds a connection attempt to a registry.
	DialTimeout = 5 * time.Second
	// ShutdownDelay bounds how long a process that was asked to stop goes on
	// serving, and VerifierDeadline how long the node's verifier may take.
	ShutdownDelay    = 5 * time.Minute
	VerifierDeadline = time.Minute
	// ClockSkew is how far a proven time may lie in the future.
	ClockSkew = time.Minute
)

// Concurrency.
const (
	// RegistryRequests bounds parallel requests to one registry host.
	RegistryRequests = 64
	// VerifyParallel bounds images of one request judged at the same time.
	VerifyParallel = 8
	// SignParallel bounds signing sequences that run at the same time.
	SignParallel = 512
)

// Log.
const (
	// LogEntry bounds one entry: a Tessera entry bundle holds 16-bit lengths.
	LogEntry = 65535
	// LogPushback bounds entries waiting to be integrated.
	LogPushback = 4096
	// CheckpointInterval is how often a new checkpoint is published when the
	// log grew.
	CheckpointInterval = 100 * time.Millisecond
	// BatchMaxAge and BatchMaxSize bound how long an entry waits for company.
	BatchMaxAge  = 20 * time.Millisecond
	BatchMaxSize = 512
)

// Identity tokens and their issuers.
const (
	// IDToken bounds a JWT, in bytes; those of CI systems have up to 8 KiB.
	IDToken = 16 << 10
	// IDTokenHeader bounds its decoded header.
	IDTokenHeader = 2 << 10
	// Claims bounds the claims of one token after nested ones are flattened.
	Claims = 256
	// Audiences bounds the audiences of one token.
	Audiences = 16
	// IssuerDocument bounds a discovery document and a set of keys.
	IssuerDocument = 256 << 10
	// IssuerKeys bounds the keys of one issuer.
	IssuerKeys = 64
	// Issuers bounds the issuers that are configured.
	Issuers = 256
	// IssuerRequest bounds one request to an issuer, in time.
	IssuerRequest = 10 * time.Second
	// IssuerKeysFresh is how long an issuer's keys are used without asking
	// again; IssuerKeysStale how long they are used while it cannot be asked.
	IssuerKeysFresh = 10 * time.Minute
	IssuerKeysStale = time.Hour
	// CertificateClaim bounds one claim that stands in a certificate, in bytes.
	CertificateClaim = 1024
	// IssuerPause is the least time between two questions to one issuer.
	IssuerPause = 5 * time.Second
)

// Predicates.
const (
	// Predicate bounds one predicate before it is signed. A bill of materials
	// of a large image has up to about 5 MB.
	Predicate = 8 << 20
	// PredicateType bounds the URI of a predicate type, in bytes.
	PredicateType = 1024
	// ScanReport bounds the report of a scanner, which has much text that the
	// predicate made of it has not; Findings the vulnerabilities in it.
	ScanReport = 16 << 20
	Findings   = 20_000
	// FieldErrors bounds the faults of one document that are told at once.
	FieldErrors = 16
)

// Provenance.
const (
	// ProvenanceParameters bounds the external parameters that a caller adds to
	// a provenance, ProvenanceParameterBytes their JSON.
	ProvenanceParameters     = 64
	ProvenanceParameterBytes = 64 << 10
	// ProvenanceDescriptors bounds the resolved dependencies, and the
	// byproducts, that a caller adds; ProvenanceDescriptor each one's JSON.
	ProvenanceDescriptors = 1024
	ProvenanceDescriptor  = 16 << 10
	// Provenance bounds the predicate, in bytes.
	Provenance = 1 << 20
)

// Layouts.
const (
	// LayoutSteps, LayoutKeys and LayoutRules bound one in-toto layout;
	// LayoutKeyBytes bounds one of its keys.
	LayoutSteps    = 32
	LayoutKeys     = 64
	LayoutRules    = 256
	LayoutKeyBytes = 4 << 10
	// LayoutLinks bounds the links that are read in one judgement, and
	// LayoutVerifications the signatures that are tried.
	LayoutLinks         = 256
	LayoutVerifications = 2048
	// LayoutArtifacts bounds the materials and products of one link.
	LayoutArtifacts = 4096
	// LayoutChains bounds how many combinations of runs are tried.
	LayoutChains = 16
)

// Attestations.
const (
	// AttestationBody bounds the body of a request that carries a predicate.
	AttestationBody = Predicate + 256<<10
	// AttestedBytes bounds the predicates that one operation signs: one for
	// each manifest and format. The answer holds them in base64.
	AttestedBytes = 32 << 20
	// PredicatesInHand bounds the predicates of all operations that run at the
	// same time: in two formats an operation takes about 30 times its predicate
	// in memory.
	PredicatesInHand = 24 << 20
	// LargeBodies bounds the requests above RequestBody that are read at the
	// same time.
	LargeBodies = 8
)

// Conditions and expectations of policies.
const (
	// Condition bounds one expression, in bytes; ConditionDepth its nesting,
	// ConditionNodes its parts, ConditionLoops loops within loops, and
	// ConditionRegex one compiled regular expression in instructions.
	Condition      = 8 << 10
	ConditionDepth = 64
	ConditionNodes = 10_000
	ConditionLoops = 4
	ConditionRegex = 1000
	// ConditionCost bounds one evaluation, in CEL's units: about a step, or ten
	// bytes of text looked at.
	ConditionCost = 1_000_000
	// ConditionInterrupt is after how many rounds of a loop a deadline is
	// looked at.
	ConditionInterrupt = 100
	// ConditionMembers bounds the members of one object or list that an
	// expression looks into.
	ConditionMembers = 1 << 18
	// ConditionText bounds one text that an expression uses, and one object or
	// list that it compares or joins as a whole, in bytes.
	ConditionText = 256 << 10
	// Levels bounds the builders of one policy requirement.
	Levels = 64
	// MaxAge bounds how long ago a policy may let an attestation be made.
	MaxAge = 10 * 366 * 24 * time.Hour
)

// Verification summaries.
const (
	// Summaries bounds the images of one verification with summaries, and
	// SummaryParallel those that are signed at the same time.
	Summaries       = 50
	SummaryParallel = 8
	// SummaryWait bounds how long a verification waits for summaries beyond the
	// time of its verdicts.
	SummaryWait = 10 * time.Second
	// SummaryReuse bounds the age at which a summary is answered again instead
	// of another being signed.
	SummaryReuse = 5 * time.Minute
)

// Keys in other back ends than the data folder.
const (
	// KeyRef bounds a reference, in bytes.
	KeyRef = 512
	// KeyRefs bounds the references that callers may name.
	KeyRefs = 256
	// BackendCall bounds one call to a back end, waiting for a turn included.
	BackendCall = 10 * time.Second
	// BackendCalls bounds the calls to one back end at the same time; a call
	// that was given up counts until it really ends.
	BackendCalls = 32
	// PIN bounds the PIN file of a security module, in bytes.
	PIN = 256
)

// Client certificates.
const (
	// ClientChain bounds the certificates that a client sends.
	ClientChain = 8
	// ClientAuthorities bounds the certificates of authorities of one issuer of
	// client certificates.
	ClientAuthorities = 32
)

// Backups.
const (
	// BackupDescription bounds the description of a backup: some hundred bytes
	// a shard.
	BackupDescription = 1 << 20
	// BackupWindow bounds the memory for unpacking one.
	BackupWindow = 64 << 20
)

// Search over the log.
const (
	// LogLook is the pause between two looks at the published checkpoint.
	LogLook = 250 * time.Millisecond
	// LogIndexBatch bounds the entries that are indexed in one step.
	LogIndexBatch = 4096
	// LogSearches bounds searches and consistency proofs at the same time, and
	// LogSearchTimeout one of them: anybody may ask.
	LogSearches      = 16
	LogSearchTimeout = 5 * time.Second
	// CertificateName bounds a name that is searched for, in bytes.
	CertificateName = 1024
)

// Anchoring of the audit journal in the log.
const (
	// AnchorRecords and AnchorInterval bound how many records, and for how long,
	// no entry of the log covers while the log takes entries. A trust change
	// does not wait for either.
	AnchorRecords  = 1024
	AnchorInterval = time.Minute
	// AnchorPoll is how soon records of another process are seen.
	AnchorPoll = time.Second
	// AnchorRetry bounds the pause after a failure.
	AnchorRetry = 5 * time.Second
	// AnchorBatch bounds the records that are read at once, AnchorParallel the
	// entries that are appended at the same time.
	AnchorBatch    = 256
	AnchorParallel = 64
	// AnchorsWaiting is how many trust changes may wait for the log before
	// readiness tells of it.
	AnchorsWaiting = 64
	// AnchorClose bounds the anchoring of the last records at the end.
	AnchorClose = 5 * time.Second
)

// Connections.
const (
	// Connections bounds the connections that are open at the same time, and
	// ReservedDescriptors what is left for files and for calls to others when
	// clients take all they can get.
	Connections         = 16384
	ReservedDescriptors = 512
)

// Witnesses of logs.
const (
	// WitnessedLogs bounds the logs of one witness, WitnessOrigin the origin of
	// one, in bytes.
	WitnessedLogs = 256
	WitnessOrigin = 255
	// WitnessPolicy bounds a file that says who witnesses our log, in bytes;
	// Witnesses and WitnessGroups what it names. A signed note has at most 100
	// signatures.
	WitnessPolicy = 64 << 10
	Witnesses     = 32
	WitnessGroups = 32
	// WitnessAnswer bounds what a witness answers, in bytes.
	WitnessAnswer = 16 << 10
	// WitnessTimeout is how long a checkpoint waits for its quorum unless it is
	// configured, WitnessTimeoutMax the most that may be.
	WitnessTimeout    = 5 * time.Second
	WitnessTimeoutMax = 30 * time.Second
)

// The monitor of logs.
const (
	// MonitorTiles bounds the tiles of 8 KiB that are kept in memory, MonitorLogs
	// the logs and MonitorSources the places of each.
	MonitorTiles   = 1024
	MonitorLogs    = 64
	MonitorSources = 16
	// MonitorAlarms bounds the alarms about entries of one pass over one log; the
	// last one says how many more there are.
	MonitorAlarms = 1000
	// MonitorKnown bounds the alarms that are remembered as raised.
	MonitorKnown = 100_000
	// MonitorFile bounds what is read under one path: the largest entry bundle.
	MonitorFile = 256 * (2 + 1<<16)
	// MonitorRules bounds the rules of a watch file, MonitorWatch its bytes.
	MonitorRules = 1000
	MonitorWatch = 1 << 20
	// MonitorState bounds the file of what was verified, in bytes.
	MonitorState = 16 << 20
	// MonitorFetch bounds one request, MonitorWebhook one delivery.
	MonitorFetch   = 30 * time.Second
	MonitorWebhook = 10 * time.Second
	// MonitorInterval is the pause between two passes, MonitorIntervalMin the
	// least.
	MonitorInterval    = 15 * time.Second
	MonitorIntervalMin = 100 * time.Millisecond
	// MonitorOwn is the pause of the monitor in the service. A fork is told
	// within a minute; a look at a log that stands still is one signature
	// verified for each shard.
	MonitorOwn = 30 * time.Second
)

// Trust policies of other verifiers that are imported.
const (
	// ForeignPolicy bounds what is read in one import, in bytes, ForeignDocuments
	// its documents and ForeignFields the values in them.
	ForeignPolicy    = 1 << 20
	ForeignDocuments = 256
	ForeignFields    = 20_000
)

// What keeps verdicts quick and a registry's troubles its own.
const (
	// RegistryRounds bounds the images of one registry host that are judged at
	// the same time, over all requests, and RegistryRoundsWaiting those that wait
	// for that; what comes then is refused at once.
	RegistryRounds        = 64
	RegistryRoundsWaiting = 1024
	// RegistryFailures is after how many requests in a row without an answer a
	// registry is left alone for RegistryRest, and then asked by one request at a
	// time. A request that its caller gave up counts from RegistrySlow on.
	RegistryFailures = 8
	RegistryRest     = 2 * time.Second
	RegistrySlow     = 4 * time.Second
	// ManifestFresh is how long the verifier takes the existence of a manifest
	// from an earlier reading of its bytes, and ManifestsFresh bounds those bytes.
	ManifestFresh  = time.Minute
	ManifestsFresh = 16 << 20
	// PassedTTL and FailedTTL are how long a verdict is remembered unless it is
	// configured, and VerdictTTLMax the most that may be.
	PassedTTL     = time.Minute
	FailedTTL     = 3 * time.Second
	VerdictTTLMax = time.Hour
	// RevocationTimeout bounds one question whether certificates are revoked,
	// RevocationAge how old its answer may be, and RevocationChains how many are
	// remembered. RevocationHeader bounds the header of what a responder sends.
	RevocationTimeout = 4 * time.Second
	RevocationAge     = 5 * time.Minute
	RevocationChains  = 4096
	RevocationHeader  = 16 << 10
	// Verdicts bounds the verdicts that are remembered.
	Verdicts = 20_000
	// StaleIfErrorMax is the most that a verdict may be old that is answered
	// because the registry cannot be reached, and StaleWait how long a question
	// must have waited before its own deadline counts as that.
	StaleIfErrorMax = 24 * time.Hour
	StaleWait       = 2 * time.Second
)

// Signatures of the Notary Project.
const (
	// NotaryEnvelope bounds one envelope, NotaryCertificate one certificate of
	// its chain and NotaryTimestamp its timestamp, in bytes.
	NotaryEnvelope    = 1 << 20
	NotaryCertificate = 32 << 10
	NotaryTimestamp   = 64 << 10
	// NotaryChain bounds the certificates of a chain, NotaryAnnotations the
	// annotations in a payload.
	NotaryChain       = 10
	NotaryAnnotations = 256
	// CBORDepth and CBORElements bound what is decoded of an envelope in CBOR.
	CBORDepth    = 8
	CBORElements = 64
	// X509Roots bounds the certificates that a policy's authority trusts,
	// X509Name the bytes of a name in it and X509Attributes its attributes.
	X509Roots      = 64
	X509Name       = 1024
	X509Attributes = 16
)

// Blobs, and keys that policies name by reference.
const (
	// BlobArtifact bounds the bytes of an artifact that come with a question
	// about it; larger ones are judged by digest.
	BlobArtifact = 8 << 20
	// BlobBody bounds such a question: artifact in base64, bundle, the rest.
	BlobBody = BlobArtifact*4/3 + Bundle + 1<<20
	// BlobName bounds the name that a caller gives a blob.
	BlobName = 1024
	// ReferenceFresh is how long a public half that was read in another back
	// end is used while nothing of the trust changes, References how many.
	ReferenceFresh = 5 * time.Minute
	References     = 1024
)

// Admission.
const (
	// AdmissionPlaces bounds the places of one Kubernetes object that name
	// images; how many different images they may name is Images.
	AdmissionPlaces = 1000
	// AdmissionResources bounds the custom resources whose images are configured,
	// AdmissionPaths the paths of one, AdmissionPath one of them in bytes and
	// AdmissionSteps in steps, AdmissionFile the file of all of them.
	AdmissionResources = 64
	AdmissionPaths     = 64
	AdmissionPath      = 256
	AdmissionSteps     = 16
	AdmissionFile      = 256 << 10
	// AdmissionUID bounds the uid that an answer echoes; Kubernetes' own have 36
	// bytes.
	AdmissionUID = 128
)

// Exceptions, explanations, forecasts and replays.
const (
	// Exceptions bounds the exceptions that are loaded, ExceptionImages the
	// digests or patterns of one, ExceptionReason its reason in bytes.
	Exceptions      = 1024
	ExceptionImages = 64
	ExceptionReason = 512
	// ExceptionLife bounds how long an exception may last from when it is
	// written.
	ExceptionLife = 90 * 24 * time.Hour
	// ExplainedEvidence and ExplainedJudgements bound what one result explains.
	ExplainedEvidence   = 512
	ExplainedJudgements = 4096
	// RecordedDecisions bounds the decisions that one forecast or replay reads,
	// RecordedImages the images that it judges again, and ForecastSteps the
	// moments that one image is judged at.
	RecordedDecisions = 5000
	RecordedImages    = 200
	ForecastSteps     = 8
	// RecordedTime bounds one forecast or replay.
	RecordedTime = 45 * time.Second
	// ForecastAhead bounds how far a forecast looks, RecordedWindow how far back
	// a forecast or replay does.
	ForecastAhead  = 366 * 24 * time.Hour
	RecordedWindow = 90 * 24 * time.Hour
)
