package convert_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/policy/convert"
)

var update = flag.Bool("update", false, "write the golden files")

// recorded are whole documents, in the form that people keep them.
func recorded() map[string]convert.Kind {
	return map[string]convert.Kind{
		"clusterimagepolicy.yaml": convert.ClusterImagePolicy, "kyverno.yaml": convert.Kyverno,
		"policyjson.json": convert.PolicyJSON, "connaisseur.yaml": convert.Connaisseur,
		"notation.json": convert.Notation, "notation.yaml": convert.Notation, "dct.txt": convert.DCT, "dct-daemon.json": convert.DCT,
	}
}

func TestRecordedDocuments(t *testing.T) {
	for file, kind := range recorded() {
		t.Run(file, func(t *testing.T) {
			for suffix, options := range map[string]convert.Options{"": {}, ".unsafe": {AnySignedNameUnsafe: true}} {
				if suffix != "" && kind != convert.PolicyJSON {
					continue
				}
				result := importOne(t, kind, read(t, file), options)
				golden(t, file+suffix+".golden", result)
				checkPolicies(t, result)
			}
		})
	}
}

// Every leaf of a document is in the report, whatever became of it.
func TestEveryLeafIsReported(t *testing.T) {
	for file, kind := range recorded() {
		result := importOne(t, kind, read(t, file), convert.Options{})
		mentioned := map[string]bool{}
		for _, line := range result.Report {
			mentioned[line.Source] = true
			if line.Detail == "" || !slices.Contains([]convert.Outcome{convert.Exact, convert.Narrowed, convert.Refused}, line.Outcome) {
				t.Errorf("%s: %+v", file, line)
			}
		}
		leaves := leavesOf(t, file)
		if len(leaves) < 5 {
			t.Fatalf("%s: only %d leaves", file, len(leaves))
		}
		for _, at := range leaves {
			if !mentioned[at] {
				t.Errorf("%s: %s is not in the report", file, at)
			}
		}
	}
}

// A field that nobody knows, wherever it is put, never leaves the policies as
// they were unless the report refuses it.
func TestUnknownFieldsAreRefused(t *testing.T) {
	for file, kind := range recorded() {
		if file == "dct.txt" {
			continue
		}
		for i, doc := range split(t, file) {
			places := 0
			whole, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			control := importOne(t, kind, whole, convert.Options{AnySignedNameUnsafe: true})
			visit(doc, "", func(at string, object map[string]any) {
				// Members of these are names of things, or are not looked at.
				if strings.HasSuffix(at, "/docker") || strings.Contains(at, "/annotations") || strings.HasPrefix(at, "/kubernetes") ||
					file == "dct-daemon.json" && !strings.HasPrefix(at, "/content-trust") || strings.HasPrefix(at, "/spec/rules") && strings.Contains(at, "/match") {
					return
				}
				places++
				object["xUnknown"] = "x"
				b, err := json.Marshal(doc)
				delete(object, "xUnknown")
				if err != nil {
					t.Fatal(err)
				}
				result := importOne(t, kind, b, convert.Options{AnySignedNameUnsafe: true})
				if !slices.ContainsFunc(result.Report, func(l convert.Line) bool {
					return l.Outcome == convert.Refused && l.Source == at+"/xUnknown"
				}) {
					t.Errorf("%s document %d: a field that is not known at %q was not refused", file, i+1, at)
				}
				if counts(control, at) && reflect.DeepEqual(control.Policies, result.Policies) {
					t.Errorf("%s document %d: a field that is not known at %q changed no policy", file, i+1, at)
				}
			})
			if places == 0 {
				t.Errorf("%s: nothing was tried", file)
			}
		}
	}
}

// counts reports whether something below a place went into a policy: not all of
// it was refused.
func counts(control convert.Result, at string) bool {
	// What only denies goes into none, as do names of what is refused.
	if slices.ContainsFunc([]string{
		"/application/policy/0", "/application/validators/0", "/application/validators/1", "/application/validators/2",
		"/spec/rules/0/verifyImages/0/attestors/0/entries/2", "/spec/rules/1", "/default/0", "/transports",
	}, func(place string) bool {
		return at == place || place != "/transports" && strings.HasPrefix(at, place+"/")
	}) {
		return false
	}
	return len(control.Policies) > 0 && slices.ContainsFunc(control.Report, func(l convert.Line) bool {
		return strings.HasPrefix(l.Source, at+"/") && l.Outcome != convert.Refused
	})
}

func visit(v any, at string, f func(string, map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(at, v)
		for _, name := range slices.Sorted(maps.Keys(v)) {
			visit(v[name], at+"/"+pointer(name), f)
		}
	case []any:
		for i, below := range v {
			visit(below, fmt.Sprintf("%s/%d", at, i), f)
		}
	}
}

func pointer(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

func split(t *testing.T, file string) []any {
	t.Helper()
	var out []any
	for _, part := range strings.Split(string(read(t, file)), "\n---\n") {
		var doc any
		if err := yaml.Unmarshal([]byte(part), &doc); err != nil {
			t.Fatal(err)
		}
		out = append(out, doc)
	}
	return out
}

func leavesOf(t *testing.T, file string) []string {
	t.Helper()
	var out []string
	if file == "dct.txt" {
		for i := range 6 {
			out = append(out, fmt.Sprintf("/%d", i))
		}
		return out
	}
	docs := split(t, file)
	for i, doc := range docs {
		prefix := ""
		if len(docs) > 1 {
			prefix = fmt.Sprintf("[%d]", i+1)
		}
		out = append(out, leaves(doc, prefix)...)
	}
	return out
}

func leaves(v any, at string) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, below := range v {
			out = append(out, leaves(below, at+"/"+pointer(name))...)
		}
	case []any:
		for i, below := range v {
			out = append(out, leaves(below, fmt.Sprintf("%s/%d", at, i))...)
		}
	}
	if len(out) == 0 {
		return []string{at}
	}
	return out
}

func importOne(t testing.TB, kind convert.Kind, document []byte, options convert.Options) convert.Result {
	t.Helper()
	result, err := convert.Import(kind, [][]byte{document}, options)
	if err != nil {
		t.Fatalf("%s: %v\n%s", kind, err, document)
	}
	return result
}

// checkPolicies holds every document to the law that it parses to itself.
func checkPolicies(t testing.TB, result convert.Result) []*policy.Policy {
	t.Helper()
	var out []*policy.Policy
	for _, d := range result.Policies {
		p, err := policy.Parse(d.JSON)
		if err != nil || !bytes.Equal(p.Document(), d.JSON) || p.Name != d.Name {
			t.Fatalf("policy %s: %v\n%s", d.Name, err, d.JSON)
		}
		out = append(out, p)
	}
	return out
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func golden(t *testing.T, file string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s differs (run with -update): %v\n%s", file, err, got)
	}
}

func TestImportRefusesDocuments(t *testing.T) {
	for name, document := range map[string]string{
		"empty": "", "a list": "[1]", "a text": "hello", "an alias": "a: &x {b: 1}\nc: *x\n", "a tag": "a: !!str b\n",
		"a key twice": "a: 1\na: 2\n", "a JSON key twice": `{"a":1,"a":2}`, "rest": `{"a":1} {}`, "yes": "a: True\n",
		"too large": "a: " + strings.Repeat("x", limits.ForeignPolicy), "deep": "a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"many fields": "a: [" + strings.Repeat("1,", limits.ForeignFields) + "1]\n",
		"many":        strings.Repeat("a: 1\n---\n", limits.ForeignDocuments+1),
	} {
		for _, kind := range []convert.Kind{convert.ClusterImagePolicy, convert.Kyverno, convert.PolicyJSON, convert.Connaisseur, convert.Notation, convert.TrustRoot} {
			if _, err := convert.Import(kind, [][]byte{[]byte(document)}, convert.Options{}); !errors.Is(err, convert.ErrDocument) {
				t.Errorf("%s of %s: %v", name, kind, err)
			}
		}
	}
	if _, err := convert.Import("portieris", nil, convert.Options{}); !errors.Is(err, convert.ErrKind) {
		t.Error(err)
	}
	if _, err := convert.Import(convert.Kyverno, nil, convert.Options{}); !errors.Is(err, convert.ErrDocument) {
		t.Error(err)
	}
}

func TestTrustRoot(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Unix(1, 0), NotAfter: time.Unix(1<<32, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b64 := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	log := fmt.Sprintf(`{"baseURL":"https://rekor.example","hashAlgorithm":"sha-256","publicKey":%q}`, b64("PUBLIC KEY", der))
	ca := fmt.Sprintf(`{"subject":{"organization":"acme","commonName":"ca"},"uri":"https://fulcio.example","certChain":%q}`, b64("CERTIFICATE", certificate))
	document := func(name, keys string) []byte {
		return fmt.Appendf(nil, `{"apiVersion":"policy.sigstore.dev/v1alpha1","kind":"TrustRoot","metadata":{"name":%q},"spec":%s}`, name, keys)
	}
	inline := fmt.Sprintf(`{"sigstoreKeys":{"certificateAuthorities":[%s],"tLogs":[%s],"ctLogs":[%s]}}`, ca, log, log)
	result := importOne(t, convert.TrustRoot, document("acme", inline), convert.Options{})
	if len(result.TrustRoots) != 1 || result.TrustRoots[0].Name != "acme" || convert.HasRefused(result.Report) {
		t.Fatalf("%+v", result)
	}
	for name, keys := range map[string]string{
		"remote":    `{"remote":{"root":"eA==","mirror":"https://tuf.example"}}`,
		"packed":    `{"repository":{"root":"eA==","mirrorFS":"eA=="}}`,
		"a bad key": strings.Replace(inline, b64("PUBLIC KEY", der), "eA==", 1),
		"unknown":   strings.Replace(inline, `"tLogs"`, `"tlogs"`, 1),
		"no chain":  strings.Replace(inline, b64("CERTIFICATE", certificate), "eA==", 1),
	} {
		result := importOne(t, convert.TrustRoot, document("acme", keys), convert.Options{})
		if len(result.TrustRoots) != 0 || !convert.HasRefused(result.Report) {
			t.Errorf("%s: %+v", name, result)
		}
	}
	if result := importOne(t, convert.TrustRoot, document("self", inline), convert.Options{}); len(result.TrustRoots) != 0 {
		t.Error("a root of others took the name of ours")
	}
}

// Documents cut off at any field are judged without a crash, and what is missing
// never makes a policy of theirs admit more: at most what was there is refused.
func TestMissingFields(t *testing.T) {
	for file, kind := range recorded() {
		if file == "dct.txt" {
			continue
		}
		for _, doc := range split(t, file) {
			visit(doc, "", func(at string, object map[string]any) {
				for _, name := range slices.Sorted(maps.Keys(object)) {
					kept := object[name]
					for _, other := range []any{nil, "x", 1.0, true, []any{}, map[string]any{}, []any{nil, "x", map[string]any{"x": nil}}} {
						object[name] = other
						b, err := json.Marshal(doc)
						if err != nil {
							t.Fatal(err)
						}
						result := importOne(t, kind, b, convert.Options{AnySignedNameUnsafe: true})
						for _, p := range checkPolicies(t, result) {
							if decide(p) != policy.Failed {
								t.Errorf("%s: %s/%s as %v: %s passes", file, at, name, other, p.Document())
							}
						}
					}
					object[name] = kept
				}
			})
		}
	}
}
