package policy_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/policy"
)

// two authorities, one managed and one by its public half: the control from
// which every refused document below differs in one thing.
func control(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf(`apiVersion: countersign.dev/v1
kind: TrustPolicy
metadata: {name: production}
spec:
  match:
    images: ["registry.example.com/prod/**"]
    context: {cluster: ["prod-*"], namespace: ["*"]}
  mode: enforce
  authorities:
    release: {key: {name: release}}
    partner: {key: {pem: %q}}
  require:
    all:
      - signature: {by: release}
      - atLeast: {n: 1, of: [{signature: {by: release}}, {signature: {by: partner}}]}
`, partnerPEM)
}

// partnerPEM is a P-256 public key.
const partnerPEM = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEvkaYejMEEGLVxQ7AGOx1fsu7v/oN
AlDyOFYoQl159EOfwO8hLCKFUODGOOz9/2It25rHFvlENt/gdbQ00OsG6g==
-----END PUBLIC KEY-----
`

func pemOf(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func mustParse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse: %v\n%s", err, text)
	}
	t.Attr("verdict", "PASSED") // a control, for the table of attacks
	return p
}

func TestParse(t *testing.T) {
	p := mustParse(t, control(t))
	if p.Name != "production" || p.Mode != policy.Enforce {
		t.Errorf("name %q mode %q", p.Name, p.Mode)
	}
	release := p.Authorities["release"]
	if release.Name != "release" || release.Key.Name != "release" || release.Key.Public != nil || release.Log != policy.LogRequired {
		t.Errorf("release = %+v", release)
	}
	partner := p.Authorities["partner"]
	if partner.Key.PEM != partnerPEM || partner.Log != policy.LogOptional {
		t.Errorf("partner = %+v", partner)
	}
	if _, ok := partner.Key.Public.(*ecdsa.PublicKey); !ok {
		t.Errorf("partner's key is a %T", partner.Key.Public)
	}
}

func TestDocumentIsCanonicalAndComplete(t *testing.T) {
	p := mustParse(t, `
kind: TrustPolicy
apiVersion: countersign.dev/v1
metadata: {name: p}
spec:
  require: {signature: {by: a}}
  authorities: {a: {key: {name: release}}}
  match: {images: ["r.example/x"]}
`)
	want := `{"apiVersion":"countersign.dev/v1","kind":"TrustPolicy","metadata":{"name":"p"},` +
		`"spec":{"authorities":{"a":{"key":{"name":"release"},"log":"required"}},"match":{"images":["r.example/x"]},` +
		`"mode":"enforce","require":{"signature":{"by":"a"}}}}`
	if diff := cmp.Diff(want, string(p.Document())); diff != "" {
		t.Error(diff)
	}
	b, err := json.Marshal(p)
	if err != nil || string(b) != want {
		t.Errorf("MarshalJSON = %s, %v", b, err)
	}
	again := mustParse(t, string(p.Document()))
	if diff := cmp.Diff(string(p.Document()), string(again.Document())); diff != "" {
		t.Error(diff)
	}
	// The caller's copy is its own.
	p.Document()[0] = 'X'
	if string(p.Document()) != want {
		t.Error("Document shares its bytes")
	}
}

// Each case is one edit of the control. Rows E1 (unknown fields), E5 (empty
// constraints), F4 (nothing to check), C3 (thresholds).
func TestParseRefuses(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := `[{signature: {by: release}}, {signature: {by: partner}}]`
	tests := []struct {
		name, old, new string
		pointer        string // "" when the fault has no place
	}{
		{name: "E1 unknown field in spec", old: "  mode: enforce\n", new: "  mode: enforce\n  modus: x\n", pointer: "/spec/modus"},
		{name: "E1 unknown field in signature", old: "- signature: {by: release}", new: "- signature: {by: release, subjectRegExp: x}", pointer: "/spec/require/all/0/signature/subjectRegExp"},
		{name: "E1 field in another case", old: "metadata: {name: production}", new: "metadata: {Name: production}", pointer: "/metadata/Name"},
		{name: "E1 unknown top field", old: "kind: TrustPolicy\n", new: "kind: TrustPolicy\nstatus: {}\n", pointer: "/status"},
		{name: "wrong version", old: "countersign.dev/v1", new: "countersign.dev/v2", pointer: "/apiVersion"},
		{name: "wrong kind", old: "kind: TrustPolicy", new: "kind: ClusterImagePolicy", pointer: "/kind"},
		{name: "no kind", old: "kind: TrustPolicy\n", new: "", pointer: "/kind"},
		{name: "no name", old: "metadata: {name: production}\n", new: "", pointer: "/metadata/name"},
		{name: "name with slash", old: "{name: production}", new: "{name: a/b}", pointer: "/metadata/name"},
		{name: "name too long", old: "{name: production}", new: "{name: " + strings.Repeat("a", 129) + "}", pointer: "/metadata/name"},
		{name: "unknown mode", old: "mode: enforce", new: "mode: Enforce", pointer: "/spec/mode"},
		{name: "empty mode", old: "mode: enforce", new: "mode:", pointer: "/spec/mode"},

		{name: "E5 no images", old: `images: ["registry.example.com/prod/**"]`, new: `images: []`, pointer: "/spec/match/images"},
		{name: "E5 null images", old: `images: ["registry.example.com/prod/**"]`, new: `images:`, pointer: "/spec/match/images"},
		{name: "E5 no match", old: "  match:\n    images: [\"registry.example.com/prod/**\"]\n    context: {cluster: [\"prod-*\"], namespace: [\"*\"]}\n", new: "", pointer: "/spec/match/images"},
		{name: "E5 empty pattern", old: `"registry.example.com/prod/**"`, new: `""`, pointer: "/spec/match/images/0"},
		{name: "E3 wildcard over hosts", old: `"registry.example.com/prod/**"`, new: `"**"`, pointer: "/spec/match/images/0"},
		{name: "E5 empty context", old: `{cluster: ["prod-*"], namespace: ["*"]}`, new: `{}`, pointer: "/spec/match/context"},
		{name: "E5 empty context list", old: `cluster: ["prod-*"]`, new: `cluster: []`, pointer: "/spec/match/context/cluster"},
		{name: "context is no list", old: `cluster: ["prod-*"]`, new: `cluster: prod`, pointer: "/spec/match/context/cluster"},

		{name: "F4 no authorities", old: fmt.Sprintf("  authorities:\n    release: {key: {name: release}}\n    partner: {key: {pem: %q}}\n", partnerPEM), new: "", pointer: "/spec/authorities"},
		{name: "F4 authority of nobody", old: "{key: {name: release}}", new: "{}", pointer: "/spec/authorities/release"},
		{name: "F4 key of nobody", old: "{key: {name: release}}", new: "{key: {}}", pointer: "/spec/authorities/release/key"},
		{name: "name and pem", old: "{key: {name: release}}", new: fmt.Sprintf("{key: {name: release, pem: %q}}", partnerPEM), pointer: "/spec/authorities/release/key"},
		{name: "key of empty name", old: "{key: {name: release}}", new: `{key: {name: ""}}`, pointer: "/spec/authorities/release/key/name"},
		{name: "unknown log rule", old: "{key: {name: release}}", new: "{key: {name: release}, log: never}", pointer: "/spec/authorities/release/log"},
		{name: "empty log rule", old: "{key: {name: release}}", new: `{key: {name: release}, log: ""}`, pointer: "/spec/authorities/release/log"},
		{name: "C2 one key under two names", old: "{key: {name: release}}", new: fmt.Sprintf("{key: {pem: %q}}", partnerPEM), pointer: "/spec/authorities/release/key"},
		{name: "C2 one key in two encodings", old: "{key: {name: release}}", new: fmt.Sprintf("{key: {pem: %q}}", strings.ReplaceAll(partnerPEM, "oN\nAl", "\noNAl")), pointer: "/spec/authorities/release/key"},
		{name: "identity beside key", old: "{key: {name: release}}", new: "{key: {name: release}, identity: {issuer: https://i, subject: s}}", pointer: "/spec/authorities/release"},
		{name: "F4 x509 without subjects", old: "{key: {name: release}}", new: "{x509: {roots: self}}", pointer: "/spec/authorities/release/x509/subjects"},
		{name: "E5 x509 with an empty list of subjects", old: "{key: {name: release}}", new: "{x509: {roots: self, subjects: []}}", pointer: "/spec/authorities/release/x509/subjects"},
		{name: "x509 for everybody", old: "{key: {name: release}}", new: "{x509: {roots: self, subjects: ['*']}}", pointer: "/spec/authorities/release/x509/subjects/0"},
		{name: "H10 x509 subject in hexadecimal", old: "{key: {name: release}}", new: "{x509: {roots: self, subjects: ['CN=#0c0141']}}", pointer: "/spec/authorities/release/x509/subjects/0"},
		{name: "x509 without roots", old: "{key: {name: release}}", new: "{x509: {subjects: ['CN=a']}}", pointer: "/spec/authorities/release/x509/roots"},
		{name: "x509 with no root in its list", old: "{key: {name: release}}", new: "{x509: {roots: [], subjects: ['CN=a']}}", pointer: "/spec/authorities/release/x509/roots"},
		{name: "x509 with a key for a root", old: "{key: {name: release}}", new: fmt.Sprintf("{x509: {roots: %q, subjects: ['CN=a']}}", partnerPEM), pointer: "/spec/authorities/release/x509/roots"},
		{name: "x509 with a number for roots", old: "{key: {name: release}}", new: "{x509: {roots: 1, subjects: ['CN=a']}}", pointer: "/spec/authorities/release/x509/roots"},
		{name: "x509 of an unknown scheme", old: "{key: {name: release}}", new: "{x509: {roots: self, subjects: ['CN=a'], scheme: x}}", pointer: "/spec/authorities/release/x509/scheme"},
		{name: "x509 with an unknown rule of revocation", old: "{key: {name: release}}", new: "{x509: {roots: self, subjects: ['CN=a'], revocation: later}}", pointer: "/spec/authorities/release/x509/revocation"},
		{name: "x509 with a name for timestamp roots", old: "{key: {name: release}}", new: "{x509: {roots: self, subjects: ['CN=a'], timestampRoots: self}}", pointer: "/spec/authorities/release/x509/timestampRoots"},
		{name: "x509 with an unknown field", old: "{key: {name: release}}", new: "{x509: {roots: self, subjects: ['CN=a'], crls: []}}", pointer: "/spec/authorities/release/x509/crls"},
		{name: "x509 and key", old: "{key: {name: release}}", new: "{key: {name: release}, x509: {roots: self, subjects: ['CN=a']}}", pointer: "/spec/authorities/release"},
		{name: "I1 key by address", old: "{key: {name: release}}", new: "{key: {ref: https://k}}", pointer: "/spec/authorities/release/key/ref"},
		{name: "key by half a reference", old: "{key: {name: release}}", new: "{key: {ref: awskms://}}", pointer: "/spec/authorities/release/key/ref"},
		{name: "key by a reference with a space", old: "{key: {name: release}}", new: `{key: {ref: "awskms:///a b"}}`, pointer: "/spec/authorities/release/key/ref"},
		{name: "name and reference", old: "{key: {name: release}}", new: "{key: {name: release, ref: awskms:///k}}", pointer: "/spec/authorities/release/key"},
		{name: "E5 no blobs", old: `images: ["registry.example.com/prod/**"]`, new: `blobs: []`, pointer: "/spec/match/blobs"},
		{name: "E5 empty blob pattern", old: `images: ["registry.example.com/prod/**"]`, new: `blobs: [""]`, pointer: "/spec/match/blobs/0"},
		{name: "E5 blobs and no images", old: `images: ["registry.example.com/prod/**"]`, new: `images: []
    blobs: ["**"]`, pointer: "/spec/match/images"},
		{name: "pem of nothing", old: "{key: {name: release}}", new: "{key: {pem: hello}}", pointer: "/spec/authorities/release/key/pem"},
		{name: "pem with text before", old: "{key: {name: release}}", new: fmt.Sprintf("{key: {pem: %q}}", "x\n"+partnerPEM), pointer: "/spec/authorities/release/key/pem"},
		{name: "pem of two keys", old: "{key: {name: release}}", new: fmt.Sprintf("{key: {pem: %q}}", partnerPEM+partnerPEM), pointer: "/spec/authorities/release/key/pem"},
		{name: "pem of a certificate", old: "{key: {name: release}}", new: fmt.Sprintf("{key: {pem: %q}}", strings.ReplaceAll(partnerPEM, "PUBLIC KEY", "CERTIFICATE")), pointer: "/spec/authorities/release/key/pem"},
		{name: "pem of a short RSA key", old: "{key: {name: release}}", new: fmt.Sprintf("{key: {pem: %q}}", pemOf(t, small.Public())), pointer: "/spec/authorities/release/key/pem"},
		{name: "pem of a small curve", old: "{key: {name: release}}", new: fmt.Sprintf("{key: {pem: %q}}", pemOf(t, p224.Public())), pointer: "/spec/authorities/release/key/pem"},

		{name: "F4 nothing required", old: "    all:\n      - signature: {by: release}\n      - atLeast: {n: 1, of: " + of + "}\n", new: "    all: []\n", pointer: "/spec/require/all"},
		{name: "F4 any of nothing", old: "    all:\n      - signature: {by: release}\n      - atLeast: {n: 1, of: " + of + "}\n", new: "    any: []\n", pointer: "/spec/require/any"},
		{name: "F4 empty requirement", old: "- signature: {by: release}", new: "- {}", pointer: "/spec/require/all/0"},
		{name: "F4 null requirement", old: "- signature: {by: release}", new: "- ", pointer: "/spec/require/all/0"},
		{name: "F4 empty root", old: "    all:\n      - signature: {by: release}\n      - atLeast: {n: 1, of: " + of + "}\n", new: "    {}\n", pointer: "/spec/require"},
		{name: "F4 no require", old: "  require:\n    all:\n      - signature: {by: release}\n      - atLeast: {n: 1, of: " + of + "}\n", new: "", pointer: "/spec/require"},
		{name: "two kinds in one", old: "- signature: {by: release}", new: "- {signature: {by: release}, any: [{signature: {by: release}}]}", pointer: "/spec/require/all/0"},
		{name: "undefined authority", old: "- signature: {by: release}", new: "- signature: {by: nobody}", pointer: "/spec/require/all/0/signature/by"},
		{name: "F4 signature by no one", old: "- signature: {by: release}", new: "- signature: {}", pointer: "/spec/require/all/0/signature/by"},
		{name: "attestation", old: "- signature: {by: release}", new: "- attestation: {predicateType: x, by: release}", pointer: "/spec/require/all/0/attestation/predicateType"},
		{name: "C3 threshold 0", old: "n: 1", new: "n: 0", pointer: "/spec/require/all/1/atLeast/n"},
		{name: "C3 threshold -1", old: "n: 1", new: "n: -1", pointer: "/spec/require/all/1/atLeast/n"},
		{name: "C3 no threshold", old: "n: 1, ", new: "", pointer: "/spec/require/all/1/atLeast/n"},
		{name: "C3 threshold above members", old: "n: 1", new: "n: 3", pointer: "/spec/require/all/1/atLeast/n"},
		{name: "C3 threshold above authorities", old: "n: 1, of: " + of, new: "n: 2, of: [{signature: {by: release}}, {signature: {by: release}}]", pointer: "/spec/require/all/1/atLeast/n"},
		{name: "C3 threshold as text", old: "n: 1", new: `n: "1"`, pointer: "/spec/require/all/1/atLeast/n"},
		{name: "C3 threshold as fraction", old: "n: 1", new: "n: 1.0", pointer: "/spec/require/all/1/atLeast/n"},
		{name: "C3 octal threshold", old: "n: 1", new: "n: 01", pointer: "/spec/require/all/1/atLeast/n"},
		{name: "C3 of nothing", old: of, new: "[]", pointer: "/spec/require/all/1/atLeast/of"},
		{name: "too deep", old: "- signature: {by: release}", new: "- " + strings.Repeat("{any: [", 8) + "{signature: {by: release}}" + strings.Repeat("]}", 8), pointer: "/spec/require/all/0" + strings.Repeat("/any/0", 7)},
		{name: "too many", old: "- signature: {by: release}", new: "- any: [" + strings.Repeat("{signature: {by: release}},", 64) + "]", pointer: "/spec/require/all/0/any/62"},

		{name: "A9 duplicate key", old: "  mode: enforce\n", new: "  mode: enforce\n  mode: audit\n", pointer: "/spec/mode"},
		{name: "alias", old: "{key: {name: release}}", new: "&a {key: {name: release}}", pointer: "/spec/authorities/release"},
		{name: "tag", old: "mode: enforce", new: "mode: !!str enforce", pointer: "/spec/mode"},
		{name: "merge key", old: "{key: {name: release}}", new: "{<<: {key: {name: release}}}", pointer: "/spec/authorities/release"},
		{name: "key that is a number", old: "release: {key", new: "1: {key", pointer: "/spec/authorities"},
		{name: "second document", old: "apiVersion", new: "---\nx: y\n---\napiVersion"},
		{name: "tab", old: "  mode: enforce", new: "\tmode: enforce"},
	}
	control := control(t)
	mustParse(t, control)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(control, tt.old) {
				t.Fatalf("the control has no %q", tt.old)
			}
			p, err := policy.Parse([]byte(strings.Replace(control, tt.old, tt.new, 1)))
			if err == nil {
				t.Fatalf("accepted: %s", p.Document())
			}
			if p != nil || !errors.Is(err, policy.ErrPolicy) {
				t.Errorf("%v, %v", p, err)
			}
			at, located := errors.AsType[*policy.FieldError](err)
			if located != (tt.pointer != "") || (located && at.Pointer != tt.pointer) {
				t.Errorf("error %q, want a fault at %q", err, tt.pointer)
			}
			t.Attr("verdict", "FAILED invalid_request")
		})
	}
}

// The same refusals hold for JSON.
func TestParseJSON(t *testing.T) {
	canonical := string(mustParse(t, control(t)).Document())
	if got := string(mustParse(t, "  \n"+canonical+"\n").Document()); got != canonical {
		t.Errorf("got %s", got)
	}
	for name, text := range map[string]string{
		"empty":            "",
		"white space":      " \n",
		"null":             "null",
		"comment only":     "# nothing\n",
		"list":             "[]",
		"text":             "policy",
		"trailing data":    canonical + "{}",
		"A9 duplicate":     strings.Replace(canonical, `"mode"`, `"mode":"audit","mode"`, 1),
		"null field":       strings.Replace(canonical, `"mode":"enforce"`, `"mode":null`, 1),
		"YAML in braces":   `{apiVersion: countersign.dev/v1}`,
		"deep":             strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000),
		"deep YAML":        strings.Repeat("[", 10000),
		"too large":        canonical + strings.Repeat(" ", 1<<20),
		"not UTF-8":        strings.Replace(canonical, "production", "prod\xff", 1),
		"NUL":              "a: \x00",
		"alias bomb":       "a: &a [x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]\n",
		"number threshold": strings.Replace(canonical, `"n":1`, `"n":1.5`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := policy.Parse([]byte(text)); !errors.Is(err, policy.ErrPolicy) || p != nil {
				t.Errorf("%v, %v", p, err)
			}
		})
	}
}

func TestErrorsDoNotRepeatValues(t *testing.T) {
	const canary = "hunter2-canary"
	control := control(t)
	for _, old := range []string{"enforce", "TrustPolicy", "{name: release}", `["prod-*"]`, "n: 1", "countersign.dev/v1", "by: release"} {
		for _, value := range []string{canary, `"` + canary + ` \x01"`, "{" + canary + ": " + canary} {
			_, err := policy.Parse([]byte(strings.Replace(control, old, value, 1)))
			if err == nil {
				t.Fatalf("%s as %s was accepted", value, old)
			}
			at, located := errors.AsType[*policy.FieldError](err)
			if located && strings.Contains(at.Problem, canary) || !located && strings.Contains(err.Error(), canary) {
				t.Errorf("%v", err)
			}
		}
	}
}

func TestPublicKeysOfEveryKind(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string]any{"p384": p384.Public(), "rsa": rsaKey.Public(), "ed25519": edPublic} {
		text := strings.Replace(control(t), fmt.Sprintf("%q", partnerPEM), fmt.Sprintf("%q", pemOf(t, public)), 1)
		got := mustParse(t, text).Authorities["partner"].Key.Public
		if pemOf(t, got) != pemOf(t, public) {
			t.Errorf("%s: another key", name)
		}
	}
}

func TestMatches(t *testing.T) {
	p := mustParse(t, control(t))
	prod := map[string]string{"cluster": "prod-1", "namespace": "shop"}
	tests := []struct {
		image   string
		context map[string]string
		want    bool
	}{
		{"registry.example.com/prod/app", prod, true},
		{"registry.example.com/prod/team/app", prod, true},
		{"registry.example.com/prod/app", map[string]string{"cluster": "prod-1"}, true},
		{"registry.example.com/prod/app", map[string]string{"cluster": "prod-1", "other": "x"}, true},
		{"registry.example.com/prod/app", map[string]string{"cluster": "test-1", "namespace": "shop"}, false},
		{"registry.example.com/prod/app", map[string]string{"cluster": "x-prod-1"}, false}, // E2
		{"registry.example.com/prod/app", nil, false},
		{"registry.example.com/prod", prod, false},
		{"registry.example.com/production/app", prod, false},   // E5: prefix name
		{"evil.io/registry.example.com/prod/app", prod, false}, // E3
		{"registry.example.com.evil.io/prod/app", prod, false},
		{"", prod, false},
	}
	for _, tt := range tests {
		if got := p.Matches(tt.image, tt.context); got != tt.want {
			t.Errorf("Matches(%q, %v) = %v", tt.image, tt.context, got)
		}
	}
	if new(policy.Policy).Matches("registry.example.com/prod/app", prod) {
		t.Error("the zero policy matches")
	}
}
