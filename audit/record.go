package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/store"
)

// Outcomes of a recorded act.
const (
	// Allowed: the act was permitted and is about to happen.
	Allowed = "allowed"
	// Denied: the act was refused.
	Denied = "denied"
	// Done: the act happened.
	Done = "done"
	// Failed: the act was permitted and did not happen.
	Failed = "failed"
)

// maxRecord bounds one record, in bytes of its canonical form. An honest one
// has a few hundred; a caller who could write megabytes could fill the disk.
const maxRecord = 64 << 10

// Errors of this package.
var (
	// ErrRecord: the record given to Append lacks an action, has an unknown
	// outcome or is longer than 64 KiB.
	ErrRecord = errors.New("invalid audit record")
	// ErrChain is wrapped by every fault that Verify finds.
	ErrChain = errors.New("audit chain broken")
)

// Record is one line of the journal. Its JSON form is what the chain hashes and
// what GET /v1/audit answers.
type Record struct {
	// Sequence starts at 1 and has no gaps.
	Sequence int64 `json:"sequence"`
	// ID is a UUIDv7.
	ID string `json:"id"`
	// Time is when the record was made, in UTC.
	Time time.Time `json:"time"`
	// Actor names who acted for people; ActorIssuer and ActorSubject are the
	// identity's own fields.
	Actor        string `json:"actor"`
	ActorIssuer  string `json:"actorIssuer,omitempty"`
	ActorSubject string `json:"actorSubject,omitempty"`
	// Action is `noun.verb`: signature.create, key.rotate, policy.put.
	Action string `json:"action"`
	// Resource names what was acted on.
	Resource string `json:"resource,omitempty"`
	// Outcome is allowed, denied, done or failed.
	Outcome string `json:"outcome"`
	// Detail explains. It never holds a secret: what is journalled is read by
	// auditors and kept for good.
	Detail map[string]string `json:"detail,omitempty"`
	// RequestID is the request that caused it.
	RequestID string `json:"requestId,omitempty"`
	// PreviousHash is the Hash of the record before, empty in the first. Hash
	// is the lowercase hexadecimal SHA-256 of the canonical form without Hash.
	PreviousHash string `json:"previousHash"`
	Hash         string `json:"hash,omitempty"`
}

// canonical is the record's RFC 8785 form without its hash: the bytes that are
// hashed and kept.
func (r Record) canonical() ([]byte, error) {
	r.Hash = ""
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	b, err := jsoncanonicalizer.Transform(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrRecord, len(b), maxRecord)
	}
	return b, nil
}

func (r Record) check() error {
	switch r.Outcome {
	case Allowed, Denied, Done, Failed:
	default:
		return fmt.Errorf("%w: outcome must be allowed, denied, done or failed", ErrRecord)
	}
	if r.Action == "" {
		return fmt.Errorf("%w: no action", ErrRecord)
	}
	return nil
}

// link is the record as the chain keeps it.
func (r Record) link() (store.Link, error) {
	body, err := r.canonical()
	if err != nil {
		return store.Link{}, err
	}
	sum := sha256.Sum256(body)
	return store.Link{Sequence: r.Sequence, Body: body, Hash: sum[:]}, nil
}

// ParseLink reads a kept record back. It judges nothing: see Journal.Verify.
func ParseLink(l store.Link) (Record, error) {
	var r Record
	if err := strictjson.UnmarshalOpen(l.Body, &r); err != nil {
		return Record{}, err
	}
	r.Hash = hex.EncodeToString(l.Hash)
	return r, nil
}
