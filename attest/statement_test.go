package attest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
)

const appHex = "5366eb37faba21c373993b353faa7b3e3b3fc688fa39aa81457dd1ac0447382a"

func appDigest(t testing.TB) attest.Digest {
	t.Helper()
	d, err := attest.ParseDigest("sha256:" + appHex)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What cosign v3.1.3 signed for this digest, copied from its bundles: `sign
// --key` without annotations, and with `-a git.sha=abc -a z=<&>`.
const (
	cosignPlain     = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + appHex + `"},"annotations":{}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`
	cosignAnnotated = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + appHex + `"},"annotations":{"git.sha":"abc","z":"<&>"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`
)

func TestSignatureStatementIsCosigns(t *testing.T) {
	for want, annotations := range map[string]map[string]string{
		cosignPlain:     nil,
		cosignAnnotated: {"z": "<&>", "git.sha": "abc"},
	} {
		got, err := attest.SignatureStatement("", appDigest(t), annotations)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Error(diff)
		}
	}
	empty, err := attest.SignatureStatement("", appDigest(t), map[string]string{})
	if err != nil || string(empty) != cosignPlain {
		t.Errorf("%s, %v", empty, err)
	}
}

// The in-toto library reads the statement as we do, whatever is in its text.
func TestSignatureStatementIsInToto(t *testing.T) {
	annotations := map[string]string{"a": "\u2028 \" \\ \x00 \x7f é 😀", "ключ": "", "b": "</script>"}
	b, err := attest.SignatureStatement("registry.example.com/team/app", appDigest(t), annotations)
	if err != nil {
		t.Fatal(err)
	}
	var theirs intoto.Statement
	if err := protojson.Unmarshal(b, &theirs); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Validate(); err != nil {
		t.Error(err)
	}
	subject := theirs.GetSubject()[0]
	if subject.GetName() != "registry.example.com/team/app" || subject.GetDigest()["sha256"] != appHex {
		t.Errorf("subject %v", subject)
	}
	for k, v := range annotations {
		if got := subject.GetAnnotations().GetFields()[k].GetStringValue(); got != v {
			t.Errorf("annotation %q is %q, want %q", k, got, v)
		}
	}
}

// Cosign makes the statement with the in-toto message and protojson; for any
// annotations ours are its bytes.
func TestSignatureStatementIsProtojsons(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawn := rapid.MapOfN(rapid.StringN(1, 10, -1), rapid.String(), 0, 5).Draw(t, "annotations")
		fields := make(map[string]any)
		for k, v := range drawn {
			fields[k] = v
		}
		annotations, err := structpb.NewStruct(fields)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := protojson.Marshal(&intoto.Statement{
			Type:          intoto.StatementTypeUri,
			Subject:       []*intoto.ResourceDescriptor{{Digest: map[string]string{"sha256": appHex}, Annotations: annotations}},
			PredicateType: attest.PredicateCosignSign,
			Predicate:     &structpb.Struct{},
		})
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := json.Compact(&want, theirs); err != nil {
			t.Fatal(err)
		}
		digest, err := attest.ParseDigest("sha256:" + appHex)
		if err != nil {
			t.Fatal(err)
		}
		got, err := attest.SignatureStatement("", digest, drawn)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), string(got)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestSignatureStatementRefuses(t *testing.T) {
	many := make(map[string]string)
	for i := range limits.Annotations + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, annotations := range map[string]map[string]string{
		"too many":   many,
		"too long":   {"a": strings.Repeat("x", limits.AnnotationBytes)},
		"empty name": {"": "x"},
		"not UTF-8":  {"a": "\xff"},
	} {
		if _, err := attest.SignatureStatement("", appDigest(t), annotations); !errors.Is(err, attest.ErrAnnotations) || !errors.Is(err, attest.ErrStatement) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := attest.SignatureStatement("", attest.Digest{}, nil); !errors.Is(err, attest.ErrStatement) {
		t.Errorf("no digest: %v", err)
	}
}

func TestParseStatement(t *testing.T) {
	text := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","uri":"pkg:oci/app","digest":{"sha256":"` + appHex + `"},"annotations":{"a":"b","n":1}}],
	 "predicateType":"https://slsa.dev/provenance/v1","predicate":{"x":null,"y":[1e3]},"later":true}`
	got, err := attest.ParseStatement([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := attest.Statement{
		Type: attest.StatementType,
		Subjects: []attest.Subject{{
			Name: "app", Digest: map[string]string{"sha256": appHex},
			Annotations: map[string]json.RawMessage{"a": json.RawMessage(`"b"`), "n": json.RawMessage(`1`)},
		}},
		PredicateType: "https://slsa.dev/provenance/v1",
		Predicate:     json.RawMessage(`{"x":null,"y":[1e3]}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	old := strings.Replace(text, "Statement/v1", "Statement/v0.1", 1)
	if s, err := attest.ParseStatement([]byte(old)); err != nil || s.Type != attest.StatementTypeV01 {
		t.Errorf("%+v, %v", s, err)
	}
}

// Rows A6 (null and empty subjects), A9, H2, H7; every case edits cosign's own
// statement once.
func TestParseStatementRefuses(t *testing.T) {
	subject := `{"digest":{"sha256":"` + appHex + `"},"annotations":{}}`
	digests := make([]string, limits.SubjectDigests+1)
	for i := range digests {
		digests[i] = fmt.Sprintf(`"a%d":"00"`, i)
	}
	tests := []struct{ name, old, new string }{
		{"A6 null subject", subject, `null`},
		{"A6 second subject null", subject, subject + `,null`},
		{"A6 no subjects", `[` + subject + `]`, `[]`},
		{"A6 subjects null", `[` + subject + `]`, `null`},
		{"A6 subjects missing", `"subject":[` + subject + `],`, ``},
		{"A6 empty digest", `{"sha256":"` + appHex + `"}`, `{}`},
		{"A6 null digest", `{"sha256":"` + appHex + `"}`, `null`},
		{"A6 digest missing", `"digest":{"sha256":"` + appHex + `"},`, ``},
		{"A6 one of two without digest", subject, subject + `,{"name":"x"}`},
		{"A6 null sha256", `"` + appHex + `"`, `null`},
		{"A6 empty sha256", appHex, ``},
		{"A9 uppercase", appHex, strings.ToUpper(appHex)},
		{"A9 short", appHex, appHex[2:]},
		{"A9 odd", appHex, appHex[1:]},
		{"A9 with prefix", appHex, "sha256:" + appHex},
		{"A9 duplicate subject", `"subject":`, `"subject":[],"subject":`},
		{"A9 subject in two cases", `"subject":`, `"Subject":[{"digest":{"sha256":"` + strings.Repeat("0", 64) + `"}}],"subject":`},
		{"A9 subject in another case", `"subject":`, `"Subject":`},
		{"A9 digest in another case", `"digest":`, `"Digest":{"sha256":"` + strings.Repeat("0", 64) + `"},"digest":`},
		{"A9 duplicate sha256", `{"sha256"`, `{"sha256":"00","sha256"`},
		{"A9 trailing data", `"predicate":{}}`, `"predicate":{}} {}`},
		{"A9 not UTF-8", `"annotations":{}`, "\"annotations\":{\"\xff\":1}"},
		{"wrong type", "https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v2"},
		{"type missing", `"_type":"https://in-toto.io/Statement/v1",`, ``},
		{"F2 predicate type missing", `"predicateType":"https://sigstore.dev/cosign/sign/v1",`, ``},
		{"F2 predicate type empty", `"https://sigstore.dev/cosign/sign/v1"`, `""`},
		{"H7 null predicate type", `"https://sigstore.dev/cosign/sign/v1"`, `null`},
		{"H7 null annotations", `"annotations":{}`, `"annotations":null`},
		{"H7 null name", `"annotations":{}`, `"name":null`},
		{"H2 too many subjects", subject, strings.Repeat(subject+",", limits.Subjects) + subject},
		{"H2 too many digests", `"sha256":"` + appHex + `"`, strings.Join(digests, ",")},
		{"H9 too deep", `"predicate":{}`, `"predicate":` + strings.Repeat("[", 65) + strings.Repeat("]", 65)},
	}
	if _, err := attest.ParseStatement([]byte(cosignPlain)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(cosignPlain, tt.old, tt.new, 1)
			if text == cosignPlain {
				t.Fatalf("the control has no %q", tt.old)
			}
			s, err := attest.ParseStatement([]byte(text))
			if !errors.Is(err, attest.ErrStatement) || cmp.Diff(attest.Statement{}, s) != "" {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// What parses marshals back to an equal statement.
func FuzzParseStatement(f *testing.F) {
	f.Add([]byte(cosignPlain))
	f.Add([]byte(cosignAnnotated))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"\ud83d\ude00","digest":{"x":"00"}}],"predicateType":"p","predicate":null}`))
	f.Add([]byte(`{"subject":[null],"predicate":{"a":1e400}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := attest.ParseStatement(b)
		if err != nil {
			if !errors.Is(err, attest.ErrStatement) || cmp.Diff(attest.Statement{}, s) != "" {
				t.Fatalf("%+v, %v", s, err)
			}
			return
		}
		marshalled, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := attest.ParseStatement(marshalled)
		if err != nil || cmp.Diff(s, again, equalJSON()) != "" {
			t.Fatalf("%s: %v %s", marshalled, err, cmp.Diff(s, again, equalJSON()))
		}
	})
}

// equalJSON compares raw values without white space and ways to escape.
func equalJSON() cmp.Option {
	return cmp.Comparer(func(a, b json.RawMessage) bool {
		return string(a) == string(b) || normal(a) == normal(b)
	})
}
