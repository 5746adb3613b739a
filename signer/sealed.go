package signer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/store"
)

// SealDetail is the detail of the journal's record of a finished operation that
// holds its Seal.
const SealDetail = "seal"

// OperationDetail is the detail that holds the operation's id.
const OperationDetail = "operation"

// Seal is the hexadecimal SHA-256 of everything that is kept of an operation.
// It is journalled before a finished operation is stored: an edited or deleted
// one is found by whoever reads the journal.
func Seal(op store.Operation) (string, error) {
	document, err := json.Marshal([]any{
		op.ID, op.Kind, op.Scope, op.IdempotencyKey, op.RequestHash, op.State, op.Repository, op.Digest, op.Signer,
		op.PredicateType, op.Body, op.Result, op.CreatedAt.UnixNano(), op.UpdatedAt.UnixNano(),
	})
	if err != nil {
		return "", fmt.Errorf("%w: sealing an operation: %w", ErrInternal, err)
	}
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:]), nil
}

// Items are what the archive keeps of a finished operation, in the order of its
// result, with a bundle in the spelling of the result.
func Items(op store.Operation) ([]archive.Item, error) {
	d, err := parseDocument(op.Body)
	if err != nil {
		return nil, err
	}
	result, err := parseResult(op.Result)
	if err != nil {
		return nil, err
	}
	if len(d.Targets) != len(result.Signatures) {
		return nil, fmt.Errorf("%w: %d targets and %d signatures", ErrInternal, len(d.Targets), len(result.Signatures))
	}
	items := make([]archive.Item, 0, len(d.Targets))
	for i := range d.Targets {
		item, err := d.item(op, result, i)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func (d *document) item(op store.Operation, result Result, i int) (archive.Item, error) {
	s := result.Signatures[i]
	digest, err := attest.ParseDigest(s.Digest)
	if err != nil {
		return archive.Item{}, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	item := archive.Item{
		ID: d.Targets[i].ID, Digest: digest, Repository: op.Repository, Format: s.Format, PredicateType: op.PredicateType,
		KeyID: d.KeyID, Signer: result.Signer.name(), LogIndex: &s.LogEntry.Index, Operation: op.ID, CreatedAt: d.CreatedAt,
		Bundle: s.Bundle,
	}
	if s.Notation != nil {
		item.Notation = s.Notation.kept()
	}
	if s.Legacy != nil {
		item.Legacy = &archive.Legacy{Payload: s.Legacy.Payload, Annotations: s.Legacy.Annotations}
		if op.PredicateType != "" {
			item.Format = archive.FormatLegacyAttestation
		}
	}
	return item, nil
}

// Entry is the log entry of one signature of a result: the body that was
// logged, and for the format bundle the kept entry with its proof as protojson.
type Entry struct {
	LogID string
	Index int64
	Body  []byte
	Proof []byte
}

// LoggedEntry reads the entry that a signature carries.
func (s Signature) LoggedEntry() (Entry, error) {
	e := Entry{LogID: s.LogEntry.LogID, Index: s.LogEntry.Index}
	if s.Legacy != nil {
		var p promise
		if err := json.Unmarshal([]byte(s.Legacy.Annotations[annotationBundle]), &p); err != nil {
			return e, fmt.Errorf("%w: reading a promise: %w", ErrInternal, err)
		}
		e.Body = p.Payload.Body
		if p.Payload.LogIndex != e.Index || !strings.EqualFold(p.Payload.LogID, e.LogID) {
			return e, fmt.Errorf("%w: the promise names another entry", ErrInternal)
		}
		return e, nil
	}
	var err error
	if e.Proof, err = s.proof(); err != nil {
		return e, err
	}
	var body struct {
		CanonicalizedBody []byte `json:"canonicalizedBody"`
	}
	if err := json.Unmarshal(e.Proof, &body); err != nil {
		return e, fmt.Errorf("%w: reading a log entry: %w", ErrInternal, err)
	}
	e.Body = body.CanonicalizedBody
	return e, nil
}

// proof is the entry that a bundle holds, or that is kept beside an envelope.
func (s Signature) proof() ([]byte, error) {
	if s.Notation != nil {
		return s.Notation.LogEntry, nil
	}
	var bundle struct {
		VerificationMaterial struct {
			TlogEntries []json.RawMessage `json:"tlogEntries"`
		} `json:"verificationMaterial"`
	}
	if err := json.Unmarshal(s.Bundle, &bundle); err != nil {
		return nil, fmt.Errorf("%w: reading a bundle: %w", ErrInternal, err)
	}
	entries := bundle.VerificationMaterial.TlogEntries
	if len(entries) != 1 {
		return nil, fmt.Errorf("%w: a bundle with %d log entries", ErrInternal, len(entries))
	}
	return entries[0], nil
}

// ParseResult reads the result of a finished operation.
func ParseResult(b []byte) (Result, error) { return parseResult(b) }

// Unfinished reports whether a stored operation still has what its end needs:
// the signatures and entries that a finished one no longer keeps in its
// document.
func Unfinished(op store.Operation) bool {
	d, err := parseDocument(op.Body)
	if err != nil || !d.assembled() || len(op.Result) > 0 {
		return false
	}
	for i := range d.Targets {
		if len(d.Targets[i].Entry) == 0 || len(d.Targets[i].Signature) == 0 {
			return false
		}
	}
	return true
}
