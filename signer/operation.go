package signer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/store"
)

// The states of an operation. Only pending, done and failed are ever stored:
// running means that this process has it in hand.
const (
	StatePending = "pending"
	StateRunning = "running"
	StateDone    = "done"
	StateFailed  = "failed"
)

// The steps of an operation, in their order.
const (
	// StepPermit decides and journals.
	StepPermit = "permit"
	// StepResolve reads the manifests.
	StepResolve = "resolve"
	// StepSign signs, checks the signatures and keeps them.
	StepSign = "sign"
	// StepLog appends to the transparency log: the commit point.
	StepLog = "log"
	// StepTimestamp stamps the signatures.
	StepTimestamp = "timestamp"
	// StepBundle assembles and keeps what will be attached.
	StepBundle = "bundle"
	// StepVerify is the verifier's judgement.
	StepVerify = "verify"
	// StepAttach writes to the registry and the archive.
	StepAttach = "attach"
)

// Operation is one signing sequence as callers see it.
type Operation struct {
	// ID is a UUIDv7, also the id of the signature or attestation it makes.
	ID string `json:"id"`
	// Kind is "signature" or "attestation".
	Kind string `json:"kind"`
	// State is pending, running, done or failed. A failed operation runs
	// again when its request is repeated with the same idempotency key.
	State string `json:"state"`
	// Image is host/repository@digest once it is resolved, before that what
	// was asked for.
	Image string `json:"image"`
	// Caller asked for it, as issuer and subject.
	Caller string `json:"caller"`
	// Steps are those begun so far.
	Steps []Step `json:"steps"`
	// Attempts counts the passing failures so far.
	Attempts int `json:"attempts,omitempty"`
	// Failure is why it failed, or why the last attempt did.
	Failure *Failure `json:"error,omitempty"`
	// Result is the 201 body once State is done.
	Result    json.RawMessage `json:"result,omitempty"`
	CreatedAt time.Time       `json:"createdAt"`
	UpdatedAt time.Time       `json:"updatedAt"`
}

// Finished reports whether nothing more will happen by itself.
func (o Operation) Finished() bool { return o.State == StateDone || o.State == StateFailed }

// Step is the progress of one step.
type Step struct {
	Name string `json:"name"`
	// State is running, done or failed.
	State      string     `json:"state"`
	StartedAt  time.Time  `json:"startedAt"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
}

// Failure is a stable code and words for the caller.
type Failure struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// document is Operation.Body in the store: everything that a start after a
// crash needs to go on with the same bytes. Fields are added, never renamed:
// a newer program must read what an older one left pending.
type document struct {
	Caller  callerDocument `json:"caller"`
	Request Request        `json:"request"`
	// Image is pinned once resolved.
	Image string `json:"image"`
	// CreatedAt is the operation's time: it goes into what is attached, so
	// that a repeated attach writes the same bytes.
	CreatedAt time.Time `json:"createdAt"`
	KeyID     string    `json:"keyId,omitempty"`
	// Certificate is the DER of the certificate that signed, Chain that of its
	// issuers; both empty when a managed key did. The private half of the
	// certificate's key is never kept.
	Certificate []byte   `json:"certificate,omitempty"`
	Chain       [][]byte `json:"chain,omitempty"`
	// NotaryChain is the DER of the managed key's certificate, and of what
	// certifies it, for the format notation.
	NotaryChain [][]byte `json:"notaryChain,omitempty"`
	// SLSA is the level of provenance, whose predicate is Request.Predicate:
	// made once, so that an operation that is taken up later needs no token.
	SLSA *SLSA `json:"slsa,omitempty"`
	// Summary is of a verification summary, else nil.
	Summary *summaryDocument `json:"summary,omitempty"`
	// ProvenAt is when the caller last proved who it is: a certificate is asked
	// for only shortly after.
	ProvenAt time.Time `json:"provenAt,omitzero"`
	Steps    []Step    `json:"steps"`
	Targets  []target  `json:"targets,omitempty"`
	// StampedAt is not before any time that the signatures prove: the key must
	// not have been deactivated before.
	StampedAt time.Time `json:"stampedAt,omitzero"`
	Attempts  int       `json:"attempts,omitempty"`
	Failure   *Failure  `json:"failure,omitempty"`
}

// callerDocument keeps who asked. Claims and roles are kept until the operation
// is done: a start after a crash decides again over what was not signed yet.
type callerDocument struct {
	Issuer  string            `json:"issuer"`
	Subject string            `json:"subject"`
	Kind    string            `json:"kind,omitempty"`
	Claims  map[string]string `json:"claims,omitempty"`
	Roles   []identity.Role   `json:"roles,omitempty"`
}

// target is one signature of one manifest in one format, with every byte that
// was made for it so far.
type target struct {
	// ID is the archive item's, fixed here so that keeping it twice keeps one.
	ID       string `json:"id"`
	Digest   string `json:"digest"`
	Platform string `json:"platform,omitempty"`
	Format   string `json:"format"`
	// Payload is the statement or the simple signing document. That of an
	// attestation is not kept: it is made of the request's predicate, which the
	// document holds once for all targets.
	Payload   []byte `json:"payload,omitempty"`
	Signature []byte `json:"signature,omitempty"`
	// LogBody is the log entry's body: appending it again finds the first.
	LogBody []byte `json:"logBody,omitempty"`
	// Entry is the log entry as protojson.
	Entry     json.RawMessage `json:"entry,omitempty"`
	Timestamp []byte          `json:"timestamp,omitempty"`
	// Bundle, or Annotations for the legacy format, is what is attached. The
	// bundle of an attestation is not kept: it is a function of its payload,
	// signature, entry and timestamp.
	Bundle      json.RawMessage   `json:"bundle,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Envelope is what is attached in the format notation.
	Envelope []byte `json:"envelope,omitempty"`
	// Assembled says that everything that is attached is known.
	Assembled bool `json:"assembled,omitempty"`
	// Referrer is the digest of the manifest it was attached in.
	Referrer string `json:"referrer,omitempty"`
	// LogID and LogIndex are where it is logged.
	LogID    string `json:"logId,omitempty"`
	LogIndex int64  `json:"logIndex,omitempty"`

	// made remembers the bundle or envelope of an attestation.
	made []byte
}

func (t *target) assembled() bool {
	return len(t.Bundle) > 0 || len(t.Annotations) > 0 || len(t.Envelope) > 0 || t.Assembled
}

// signed reports whether the operation is beyond the point where its bytes
// are fixed.
func (d *document) signed() bool { return len(d.Targets) > 0 && d.KeyID != "" }

func (d *document) assembled() bool {
	return d.signed() && !slices.ContainsFunc(d.Targets, func(t target) bool { return !t.assembled() })
}

func (d *document) identity() identity.Identity {
	return identity.Identity{Issuer: d.Caller.Issuer, Subject: d.Caller.Subject, Kind: d.Caller.Kind, Claims: d.Caller.Claims, Roles: d.Caller.Roles}
}

// prove records who asks, who has just been authenticated.
func (d *document) prove(caller identity.Identity, now time.Time) {
	d.Caller = callerDocument{
		Issuer: caller.Issuer, Subject: caller.Subject, Kind: caller.Kind,
		Claims: maps.Clone(caller.Claims), Roles: slices.Clone(caller.Roles),
	}
	d.ProvenAt = now
}

// begin ends the running step, if any, and begins the named one.
func (d *document) begin(step string, now time.Time) {
	d.end(StateDone, now)
	d.Steps = append(d.Steps, Step{Name: step, State: StateRunning, StartedAt: now})
}

func (d *document) end(state string, now time.Time) {
	if last := len(d.Steps) - 1; last >= 0 && d.Steps[last].State == StateRunning {
		d.Steps[last].State, d.Steps[last].FinishedAt = state, &now
	}
}

// restart forgets what failed: the attempt that begins now tells its own story.
func (d *document) restart() {
	d.Failure = nil
	if !d.signed() {
		d.unseal()
	}
	d.Steps = slices.DeleteFunc(d.Steps, func(s Step) bool { return s.State != StateDone })
}

// unseal forgets signatures that will not be released, so that new ones are
// made.
func (d *document) unseal() {
	d.KeyID, d.Targets, d.StampedAt = "", nil, time.Time{}
	d.Certificate, d.Chain, d.NotaryChain = nil, nil, nil
}

// strip drops what only a pending operation needs; the result holds the rest.
func (d *document) strip() {
	d.Caller.Claims, d.Caller.Roles = nil, nil
	d.Chain, d.NotaryChain = nil, nil
	d.Request.Predicate = nil
	for i := range d.Targets {
		t := &d.Targets[i]
		*t = target{
			ID: t.ID, Digest: t.Digest, Platform: t.Platform, Format: t.Format, Referrer: t.Referrer,
			LogID: t.LogID, LogIndex: t.LogIndex,
		}
	}
}

func (d *document) marshal() ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("%w: marshalling an operation: %w", ErrInternal, err)
	}
	return b, nil
}

func parseDocument(b []byte) (document, error) {
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return document{}, fmt.Errorf("%w: reading a stored operation: %w", ErrInternal, err)
	}
	return d, nil
}

// view is the operation as callers see it, from what is stored.
func view(op store.Operation) (Operation, error) {
	d, err := parseDocument(op.Body)
	if err != nil {
		return Operation{}, err
	}
	out := d.view(op)
	if op.State == StateDone {
		out.Result = slices.Clone(op.Result)
	}
	return out, nil
}

func (d *document) view(op store.Operation) Operation {
	return Operation{
		ID: op.ID, Kind: op.Kind, State: op.State,
		Image: d.Image, Caller: d.identity().String(),
		Steps: slices.Clone(d.Steps), Attempts: d.Attempts, Failure: d.Failure,
		CreatedAt: op.CreatedAt, UpdatedAt: op.UpdatedAt,
	}
}
