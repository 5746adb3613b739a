package attest

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// Types of statements and the predicate type of an image signature.
const (
	// StatementType is the `_type` of an in-toto Statement v1.
	StatementType = "https://in-toto.io/Statement/v1"
	// StatementTypeV01 is the `_type` of its predecessor, which older signers
	// still write; the two differ in nothing that is read here.
	StatementTypeV01 = "https://in-toto.io/Statement/v0.1"
	// PredicateCosignSign is the predicate type of a statement that says only
	// "signed".
	PredicateCosignSign = "https://sigstore.dev/cosign/sign/v1"
)

// ErrStatement is wrapped by errors of ParseStatement and SignatureStatement.
var ErrStatement = errors.New("invalid statement")

// Statement is an in-toto statement: a predicate about subjects.
type Statement struct {
	// Type is StatementType or StatementTypeV01.
	Type string
	// Subjects are 1 to limits.Subjects artifacts.
	Subjects []Subject
	// PredicateType is a URI.
	PredicateType string
	// Predicate is the predicate's JSON, or nil when there is none.
	Predicate json.RawMessage
}

// Subject names an artifact by its digests.
type Subject struct {
	// Name is free text of the signer and proves nothing.
	Name string
	// Digest maps algorithms to hexadecimal digits; never empty.
	Digest map[string]string
	// Annotations are the signer's, each value as JSON.
	Annotations map[string]json.RawMessage
}

type wireStatement struct {
	Type          *string          `json:"_type"`
	Subject       []*wireSubject   `json:"subject"`
	PredicateType *string          `json:"predicateType"`
	Predicate     *json.RawMessage `json:"predicate,omitzero"`
}

type wireSubject struct {
	Name        string                     `json:"name,omitzero"`
	Digest      map[string]string          `json:"digest"`
	Annotations map[string]json.RawMessage `json:"annotations,omitzero"`
}

// SignatureStatement is the statement that an image signature is over, in the
// bytes cosign v3 writes: one subject with its sha256, an `annotations` object
// even when empty, and an empty predicate. Cosign leaves the subject unnamed;
// name is written only when it is not empty.
//
// It refuses a zero digest and annotations beyond limits.Annotations or
// limits.AnnotationBytes; errors wrap ErrStatement.
func SignatureStatement(name string, digest Digest, annotations map[string]string) ([]byte, error) {
	if digest.IsZero() {
		return nil, fmt.Errorf("%w: no digest", ErrStatement)
	}
	if err := CheckAnnotations(annotations); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	subject := signatureSubject{
		Name:        name,
		Digest:      map[string]string{"sha256": digest.Hex()},
		Annotations: annotations,
	}
	b, err := strictjson.Marshal(signatureStatement{
		Type:          StatementType,
		Subject:       []signatureSubject{subject},
		PredicateType: PredicateCosignSign,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	return b, nil
}

// signatureStatement has its fields in the order of cosign's protobuf
// message; a nil map is written as {}.
type signatureStatement struct {
	Type          string             `json:"_type"`
	Subject       []signatureSubject `json:"subject"`
	PredicateType string             `json:"predicateType"`
	Predicate     struct{}           `json:"predicate"`
}

type signatureSubject struct {
	Name        string            `json:"name,omitzero"`
	Digest      map[string]string `json:"digest"`
	Annotations map[string]string `json:"annotations"`
}

// ErrAnnotations is wrapped by errors of CheckAnnotations.
var ErrAnnotations = errors.New("invalid annotations")

// CheckAnnotations reports whether annotations are within limits.Annotations
// and limits.AnnotationBytes, have no empty name, and are valid UTF-8.
func CheckAnnotations(annotations map[string]string) error {
	if n := len(annotations); n > limits.Annotations {
		return fmt.Errorf("%w: %d of them, at most %d", ErrAnnotations, n, limits.Annotations)
	}
	size := 0
	for k, v := range annotations {
		if k == "" || strings.ToValidUTF8(k, "") != k || strings.ToValidUTF8(v, "") != v {
			return fmt.Errorf("%w: a name is empty or text is not UTF-8", ErrAnnotations)
		}
		size += len(k) + len(v)
	}
	if size > limits.AnnotationBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrAnnotations, size, limits.AnnotationBytes)
	}
	return nil
}

// ParseStatement reads an in-toto Statement v1 or v0.1. Unknown fields are
// passed over, as the specification asks of consumers (statement.md,
// "Parsing rules"); null is refused outside the predicate, as are no or more
// than limits.Subjects subjects, a subject without a digest or with more than
// limits.SubjectDigests, a digest that is not lowercase hexadecimal, and a
// sha256 of the wrong length. Errors wrap ErrStatement.
func ParseStatement(b []byte) (Statement, error) {
	if len(b) > limits.Bundle {
		return Statement{}, fmt.Errorf("%w: larger than %d bytes", ErrStatement, limits.Bundle)
	}
	var w wireStatement
	if err := decodeNoNull(b, &w, true, "/predicate"); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	if w.Type == nil || (*w.Type != StatementType && *w.Type != StatementTypeV01) {
		return Statement{}, fmt.Errorf("%w: _type is not %s", ErrStatement, StatementType)
	}
	if w.PredicateType == nil || *w.PredicateType == "" {
		return Statement{}, fmt.Errorf("%w: predicateType is missing or empty", ErrStatement)
	}
	if n := len(w.Subject); n == 0 || n > limits.Subjects {
		return Statement{}, fmt.Errorf("%w: %d subjects, want 1 to %d", ErrStatement, n, limits.Subjects)
	}
	s := Statement{Type: *w.Type, PredicateType: *w.PredicateType}
	if w.Predicate != nil {
		s.Predicate = *w.Predicate
	}
	for i, ws := range w.Subject {
		if err := checkDigests(ws.Digest); err != nil {
			return Statement{}, fmt.Errorf("%w: subject %d %w", ErrStatement, i, err)
		}
		s.Subjects = append(s.Subjects, Subject(*ws))
	}
	return s, nil
}

func checkDigests(digests map[string]string) error {
	if n := len(digests); n == 0 || n > limits.SubjectDigests {
		return fmt.Errorf("has %d digests, want 1 to %d", n, limits.SubjectDigests)
	}
	for algorithm, value := range digests {
		raw, err := hex.DecodeString(value)
		if err != nil || len(raw) == 0 || strings.ToLower(value) != value {
			return errors.New("has a digest that is not lowercase hexadecimal")
		}
		if algorithm == "sha256" && len(raw) != 32 {
			return errors.New("has a sha256 that is not 32 bytes")
		}
	}
	return nil
}

// Marshal is the statement in the form ParseStatement reads.
func (s Statement) Marshal() ([]byte, error) {
	w := wireStatement{Type: &s.Type, PredicateType: &s.PredicateType}
	for _, subject := range s.Subjects {
		w.Subject = append(w.Subject, new(wireSubject(subject)))
	}
	if s.Predicate != nil {
		w.Predicate = &s.Predicate
	}
	return strictjson.Marshal(w)
}

// decodeNoNull decodes strictly and refuses null but below the excepted
// pointers.
func decodeNoNull(b []byte, v any, open bool, except ...string) error {
	decode := strictjson.Unmarshal
	if open {
		decode = strictjson.UnmarshalOpen
	}
	if err := decode(b, v); err != nil {
		return err
	}
	return strictjson.NoNull(b, except...)
}
