package attest

import (
	"bytes"
	"fmt"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// PredicateStatement is a Statement v1 of one subject: a predicate about a
// digest. The predicate stands in it byte for byte, white space included: what
// the caller sent is what is signed. It must be one JSON value; what it says is
// not looked at. Errors wrap ErrStatement.
func PredicateStatement(name string, digest Digest, predicateType string, predicate []byte) ([]byte, error) {
	switch {
	case digest.IsZero():
		return nil, fmt.Errorf("%w: no digest", ErrStatement)
	case predicateType == "":
		return nil, fmt.Errorf("%w: no predicate type", ErrStatement)
	}
	if err := strictjson.Check(predicate); err != nil {
		return nil, fmt.Errorf("%w: predicate: %w", ErrStatement, err)
	}
	head, err := strictjson.Marshal(attestationHead{
		Type:          StatementType,
		Subject:       []attestationSubject{{Name: name, Digest: map[string]string{"sha256": digest.Hex()}}},
		PredicateType: predicateType,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	head = bytes.TrimSuffix(head, []byte("}"))
	const member = `,"predicate":`
	if len(head)+len(member)+len(predicate)+1 > limits.Bundle {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrStatement, limits.Bundle)
	}
	statement := make([]byte, 0, len(head)+len(member)+len(predicate)+1)
	statement = append(append(append(statement, head...), member...), predicate...)
	return append(statement, '}'), nil
}

// attestationHead is a statement without its predicate, in the order of
// in-toto's own examples.
type attestationHead struct {
	Type          string               `json:"_type"`
	Subject       []attestationSubject `json:"subject"`
	PredicateType string               `json:"predicateType"`
}

type attestationSubject struct {
	Name   string            `json:"name,omitzero"`
	Digest map[string]string `json:"digest"`
}
