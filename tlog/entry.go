package tlog

import (
	"errors"
	"fmt"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// ErrEntry is wrapped by every error of UnmarshalEntry.
var ErrEntry = errors.New("invalid transparency log entry")

// MarshalEntry is the protojson form of an entry, the answer of Rekor v2's
// createEntry. The bytes are canonical (RFC 8785) and therefore stable;
// protojson alone varies its white space.
func MarshalEntry(entry *rekorpb.TransparencyLogEntry) ([]byte, error) {
	doc, err := protojson.Marshal(entry)
	if err != nil {
		return nil, fmt.Errorf("marshalling entry: %w", err)
	}
	out, err := jsoncanonicalizer.Transform(doc)
	if err != nil {
		return nil, fmt.Errorf("canonicalising entry: %w", err)
	}
	return out, nil
}

// UnmarshalEntry reads the protojson form, at most limits.LogEntryBody bytes.
// Unknown and duplicate fields are refused. It verifies nothing; see
// VerifyInclusion.
func UnmarshalEntry(b []byte) (*rekorpb.TransparencyLogEntry, error) {
	if len(b) > limits.LogEntryBody {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrEntry, limits.LogEntryBody)
	}
	if err := strictjson.Check(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	var entry rekorpb.TransparencyLogEntry
	if err := protojson.Unmarshal(b, &entry); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	return &entry, nil
}

// Entry is an entry with its own body parsed, once for everything that asks
// about it. Neither may be changed afterwards.
type Entry struct {
	proto *rekorpb.TransparencyLogEntry
	body  Body
	err   error
}

// ParseEntry parses the body of an entry and verifies nothing.
func ParseEntry(entry *rekorpb.TransparencyLogEntry) Entry {
	body, err := ParseBody(entry.GetCanonicalizedBody())
	return Entry{proto: entry, body: body, err: err}
}

// Proto is the entry as it was given.
func (e Entry) Proto() *rekorpb.TransparencyLogEntry { return e.proto }

// Body is the parsed body, or the error of ParseBody.
func (e Entry) Body() (Body, error) { return e.body, e.err }
