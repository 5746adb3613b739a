package predicate_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	link "github.com/in-toto/attestation/go/predicates/link/v0"
	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	reference "github.com/in-toto/attestation/go/predicates/reference/v0"
	release "github.com/in-toto/attestation/go/predicates/release/v02"
	scai "github.com/in-toto/attestation/go/predicates/scai/v0"
	svr "github.com/in-toto/attestation/go/predicates/svr/v01"
	testresult "github.com/in-toto/attestation/go/predicates/test_result/v0"
	vsa "github.com/in-toto/attestation/go/predicates/vsa/v1"
	vulns "github.com/in-toto/attestation/go/predicates/vulns/v02"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/attest/predicate"
)

// What we accept, in-toto's own library reads and its Validate, where it has
// one, accepts: for each document, and for each document with one value
// removed or replaced by something else.
func TestInTotoAcceptsWhatWeAccept(t *testing.T) {
	for name, message := range map[string]proto.Message{
		"slsaprovenance1": &provenance.Provenance{},
		"scai":            &scai.AttributeReport{},
		"link03":          &link.Link{},
		"test-result":     &testresult.TestResult{},
		"vsa":             &vsa.VerificationSummary{},
		"vulns02":         &vulns.Vulns{},
		"reference":       &reference.Reference{},
		"release":         &release.Release{},
		"svr":             &svr.SimpleVerificationResult{},
	} {
		uri, text := documents()[name][0], []byte(document(t, name))
		if err := theirs(message, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		accepted, refused, both := 0, 0, 0
		for pointer, edited := range mutations(t, text) {
			ours, theirs := predicate.Check(uri, edited), theirs(message, edited)
			switch {
			case ours == nil && theirs != nil && !knownDifference(pointer, string(edited)):
				t.Errorf("%s, %s: only in-toto refuses: %v", name, pointer, theirs)
			case ours == nil:
				accepted++
			case theirs != nil:
				both++
			default:
				refused++
			}
		}
		t.Logf("%s: accepted %d, refused %d of which in-toto refuses %d", name, accepted, both+refused, both)
		if accepted == 0 || refused+both == 0 {
			t.Errorf("%s: the mutations show nothing", name)
		}
	}
}

// knownDifference is what the specification allows and the library does not: a
// resource may be content alone (v1/resource_descriptor.md), and a commit may be
// named by SHA-256 (v1/digest_set.md).
func knownDifference(pointer, edited string) bool {
	return strings.HasPrefix(pointer, "/runDetails/byproducts/0/name") && strings.Contains(edited, `"content"`) ||
		strings.Contains(edited, `"gitCommit":"`+strings.Repeat("ab", 32)) || strings.Contains(edited, `"gitBlob":"`+strings.Repeat("ab", 32))
}

func theirs(message proto.Message, text []byte) error {
	m := message.ProtoReflect().New().Interface()
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, m); err != nil {
		return err
	}
	if v, ok := m.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// mutations are the documents that differ from one in one value: removed, or
// replaced.
func mutations(t *testing.T, text []byte) map[string][]byte {
	t.Helper()
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	replacements := []any{nil, "", "x", "2026-01-01T00:00:00+02:00", float64(7), true, []any{}, map[string]any{}, strings.Repeat("AB", 32), strings.Repeat("ab", 32)}
	visit(tree, "", func(pointer string, set func(any), remove func(), old any) {
		put := func(kind string) {
			b, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			out[pointer+" "+kind] = b
		}
		for i, r := range replacements {
			set(r)
			put(fmt.Sprint(i))
		}
		if remove != nil {
			remove()
			put("removed")
		}
		set(old)
	})
	return out
}

// visit calls f for each value below node, with ways to change it.
func visit(node any, pointer string, f func(pointer string, set func(any), remove func(), old any)) {
	switch node := node.(type) {
	case map[string]any:
		names := make([]string, 0, len(node))
		for name := range node {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			old := node[name]
			f(pointer+"/"+name, func(v any) { node[name] = v }, func() { delete(node, name) }, old)
			visit(old, pointer+"/"+name, f)
		}
	case []any:
		for i, old := range node {
			at := fmt.Sprintf("%s/%d", pointer, i)
			f(at, func(v any) { node[i] = v }, nil, old)
			visit(old, at, f)
		}
	}
}
