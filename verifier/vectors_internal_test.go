package verifier

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/policy"
)

// vector is a bundle of the public instance, or of a test of Sigstore's.
type vector struct {
	bundle, root string
	// identity and issuer, or the PEM file of a key.
	identity, issuer, key string
	// artifact is the file that is signed; without one, the bytes cannot be had
	// and all but the subject is judged.
	artifact string
	logged   bool
}

func vectors() []vector {
	const github, actions = "https://github.com/login/oauth", "https://token.actions.githubusercontent.com"
	const workflow = "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main"
	return []vector{
		{bundle: "a.txt", root: "public-good", identity: "a@tny.town", issuer: github, artifact: "a.txt", logged: true},
		{bundle: "sigstore-js-2.0.0", root: "public-good", identity: workflow, issuer: actions, logged: true},
		{bundle: "npm-provenance", root: "public-good", identity: workflow, issuer: actions, logged: true},
		{bundle: "npm-publish", root: "public-good", key: "npm-publish.pem", logged: true},
		{bundle: "oci-attestation", root: "public-good", identity: "cody@soyland.com", issuer: github, logged: true},
	}
}

func readVector(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "sigstore", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (v vector) signer(t *testing.T) signer {
	t.Helper()
	_, root := foreignRoot(t, v.root+".json")
	who := signer{name: "theirs", trusted: root, logNeeded: v.logged}
	if v.key == "" {
		who.identity, who.timeNeeded = policy.ExactIdentity(v.issuer, v.identity, "sigstore"), true
		return who
	}
	text, err := json.Marshal(string(readVector(t, v.key)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Inline(json.RawMessage(`{"key":{"pem":`+string(text)+`}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	public := p.Authorities["signer"].Key.Public
	id, err := keyID(public)
	if err != nil {
		t.Fatal(err)
	}
	who.candidates = []candidate{{id: id, public: public}}
	return who
}

func (v vector) judge(t *testing.T, raw []byte) policy.Fact {
	t.Helper()
	content := []byte("unknown")
	if v.artifact != "" {
		content = readVector(t, v.artifact)
	}
	digest := attest.DigestOf(content)
	e := &evidence{}
	e.signed, e.fault = parseBundle(raw)
	if e.signed != nil && v.artifact == "" {
		e.signed.subjects = []map[string]string{{"sha256": digest.Hex()}}
	}
	b := bench{artifact: artifact{digest: digest, blob: true}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), signatures: map[signatureCheck]bool{}}
	return b.judge(e, v.signer(t))
}

// Bundles of versions 0.1, 0.2 and 0.3 that others made, with Rekor v1 entries
// of kinds hashedrekord, intoto and dsse; and each of them changed in one place.
func TestSigstoreVectors(t *testing.T) {
	for _, v := range vectors() {
		t.Run(v.bundle, func(t *testing.T) {
			raw := readVector(t, v.bundle+".sigstore.json")
			fact := v.judge(t, raw)
			if !fact.Accepted {
				t.Fatalf("%+v", fact.Reason)
			}
			if fact.Evidence.LogIndex == nil || fact.ProvenAt.IsZero() {
				t.Errorf("evidence %+v", fact.Evidence)
			}
			other := v
			other.identity, other.key = "somebody@example.com", ""
			if fact := other.judge(t, raw); fact.Accepted {
				t.Error("accepted for somebody else")
			}
			other = v
			other.root = "scaffolding"
			if fact := other.judge(t, raw); fact.Accepted {
				t.Error("accepted under another root")
			}
			for name, changed := range mutants(t, raw) {
				if fact := v.judge(t, changed); fact.Accepted {
					t.Errorf("%s: accepted", name)
				}
			}
		})
	}
}

// mutants changes, in turn, one character of each base64 value that carries
// weight, and removes each part of the log entry.
func mutants(t *testing.T, raw []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	var walk func(path string, node any)
	var document map[string]any
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	keep := func(name string) {
		changed, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(changed, raw) {
			out[name] = changed
		}
	}
	walk = func(path string, node any) {
		switch node := node.(type) {
		case map[string]any:
			for name, value := range node {
				switch name {
				case "hint", "keyid", "certificates", "timestampVerificationData":
					continue // hints, and a chain that nobody reads
				}
				if text, ok := value.(string); ok && len(text) > 8 {
					at := len(text) / 2
					swap := byte('A')
					if text[at] == swap {
						swap = 'B'
					}
					node[name] = text[:at] + string(swap) + text[at+1:]
					keep("change " + path + "/" + name)
					node[name] = value
				}
				walk(path+"/"+name, value)
			}
		case []any:
			for _, value := range node {
				walk(path, value)
			}
		}
	}
	walk("", document)
	return out
}

// Two signatures are none (sigstore-go refuses them too), and a key is judged in
// the trusted root's own window nowhere here: a PEM has none.
func TestSigstoreVectorsRefused(t *testing.T) {
	if _, f := parseBundle(readVector(t, "dsse-2sigs.sigstore.json")); f == nil || f.code != policy.SignatureInvalid {
		t.Errorf("two signatures: %+v", f)
	}
}
