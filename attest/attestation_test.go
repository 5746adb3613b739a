package attest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
)

// TestPredicateStatementKeepsBytes: a predicate is signed as it was written;
// escapes, numbers, order and white space are the caller's.
func TestPredicateStatementKeepsBytes(t *testing.T) {
	digest := attest.DigestOf([]byte("image"))
	for _, predicate := range []string{
		`{}`, ` {"b": 1.0 , "a": [ null, 1e3, 9007199254740993 ]}` + "\n", `{"a":"<&>\u00e9\/é"}`,
	} {
		raw, err := attest.PredicateStatement("registry.example.com/team/app", digest, "https://example.com/t/v1", []byte(predicate))
		if err != nil {
			t.Fatal(err)
		}
		want := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"registry.example.com/team/app","digest":{"sha256":"` +
			digest.Hex() + `"}}],"predicateType":"https://example.com/t/v1","predicate":` + predicate + `}`
		if string(raw) != want {
			t.Errorf("got\n%s\nwant\n%s", raw, want)
		}
		parsed, err := attest.ParseStatement(raw)
		if err != nil || string(parsed.Predicate) != strings.TrimSpace(predicate) {
			t.Errorf("%q, %v", parsed.Predicate, err)
		}
	}
}

func TestPredicateStatementRefuses(t *testing.T) {
	digest := attest.DigestOf([]byte("image"))
	for name, c := range map[string]struct {
		digest    attest.Digest
		kind      string
		predicate string
	}{
		"no digest":    {kind: "t:a", predicate: `{}`},
		"no type":      {digest: digest, predicate: `{}`},
		"no predicate": {digest: digest, kind: "t:a"},
		// A predicate that closes the statement would add members to it.
		"two values":     {digest: digest, kind: "t:a", predicate: `{},"subject":[]`},
		"twice the name": {digest: digest, kind: "t:a", predicate: `{"a":1,"a":2}`},
		"too large":      {digest: digest, kind: "t:a", predicate: `{"a":"` + strings.Repeat("a", limits.Bundle) + `"}`},
	} {
		if _, err := attest.PredicateStatement("a/b", c.digest, c.kind, []byte(c.predicate)); !errors.Is(err, attest.ErrStatement) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
