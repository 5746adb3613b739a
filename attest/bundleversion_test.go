package attest_test

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/testauthority"
)

// versions are one bundle of each version, content and kind of signer, by what
// it is.
func versions(t testing.TB) map[string][]byte {
	t.Helper()
	authority, key := testauthority.New(t), testauthority.NewECDSA(t)
	ca := testauthority.NewCA(t, testauthority.CAOptions{})
	leaf := ca.Issue(key.Public(), testauthority.CertificateRequest{Issuer: "https://issuer.example.com", Subject: "https://subject.example.com", At: signedAt})
	digest := attest.DigestOf([]byte("artifact"))
	out := map[string][]byte{}
	for _, version := range []string{"0.1", "0.2", "0.3"} {
		certified := authority.CertifiedMessage(leaf, key, []byte("artifact"), signedAt)
		certified.Chain = ca.Chain()
		out[version+" message by a certificate"] = certified.As(version).JSON()
		out[version+" message by a key"] = authority.Message([]byte("artifact"), key, signedAt).As(version).JSON()
		out[version+" envelope by a certificate"] = authority.CertifiedBundle(leaf, key, digest, signedAt).As(version).JSON()
		out[version+" envelope by a key"] = authority.Bundle(digest, key, signedAt).As(version).JSON()
	}
	return out
}

// Every version and content is read as sigstore-go reads it, and written again.
func TestParseBundleVersions(t *testing.T) {
	for name, raw := range versions(t) {
		t.Run(name, func(t *testing.T) {
			var theirs bundle.Bundle
			if err := theirs.UnmarshalJSON(raw); err != nil {
				t.Fatal(err)
			}
			got, err := attest.ParseBundle(raw)
			if err != nil {
				t.Fatal(err)
			}
			if version, _, _ := strings.Cut(name, " "); string(got.Version) != version {
				t.Errorf("version %q", got.Version)
			}
			if strings.Contains(name, "message") {
				if m := got.Message; m == nil || m.Algorithm != crypto.SHA256 || !bytes.Equal(m.Digest, attest.DigestOf([]byte("artifact")).Bytes()) {
					t.Errorf("message %+v", m)
				}
			}
			if strings.Contains(name, "certificate") == (got.Certificate == nil) {
				t.Errorf("certificate of %d bytes", len(got.Certificate))
			}
			written, err := got.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			again, err := attest.ParseBundle(written)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, again, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What each version must have. The control of each case is the bundle itself.
func TestParseBundleVersionRefuses(t *testing.T) {
	all := versions(t)
	proof := func(raw string) string {
		return raw[strings.Index(raw, `"inclusionProof":`):strings.Index(raw, `,"canonicalizedBody"`)]
	}
	promise := func(raw string) string {
		text := raw[strings.Index(raw, `"inclusionPromise":`):]
		return text[:strings.Index(text, "}")+1]
	}
	const message = "message by a key"
	text := map[string]string{}
	for name, raw := range all {
		compact, err := testauthority.Compact(raw)
		if err != nil {
			t.Fatal(err)
		}
		text[name] = string(compact)
	}
	tests := []struct{ name, bundle, old, new string }{
		{"J5 0.1 without its promise", "0.1 " + message, "," + promise(text["0.1 "+message]), ""},
		{"J5 0.1 with an empty promise", "0.1 " + message, promise(text["0.1 "+message]), `"inclusionPromise":{}`},
		{"J5 0.2 without its proof", "0.2 " + message, "," + proof(text["0.2 "+message]), ""},
		{"J5 0.3 without its proof", "0.3 " + message, "," + proof(text["0.3 "+message]), ""},
		{"H7 0.3 with null for its proof", "0.3 " + message, proof(text["0.3 "+message]), `"inclusionProof":null`},
		{"H7 0.2 with null for its proof", "0.2 " + message, proof(text["0.2 "+message]), `"inclusionProof":null`},
		{"H7 0.1 with null for its promise", "0.1 " + message, promise(text["0.1 "+message]), `"inclusionPromise":null`},
		{"0.2 with half a proof", "0.2 " + message, `"checkpoint":`, `"checkpoint":{},"x":`},
		{"chain in 0.3", "0.2 message by a certificate", "bundle+json;version=0.2", "bundle.v0.3+json"},
		{"empty chain", "0.1 message by a certificate", `"certificates":[`, `"certificates":[{},`},
		{"digest of another length", "0.3 " + message, `"digest":"`, `"digest":"AA==","x":"`},
		{"digest of a weak algorithm", "0.3 " + message, "SHA2_256", "SHA1"},
		{"digest without algorithm", "0.3 " + message, `"algorithm":"SHA2_256",`, ""},
		{"digest by number", "0.3 " + message, `"algorithm":"SHA2_256"`, `"algorithm":1`},
		{"D7 without signature", "0.3 " + message, `"signature":"`, `"signature":"","x":"`},
		{"both contents", "0.3 " + message, `"messageSignature":`, `"dsseEnvelope":{"payload":"AA==","payloadType":"t","signatures":[{"sig":"AA=="}]},"messageSignature":`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := attest.ParseBundle([]byte(text[tt.bundle])); err != nil {
				t.Fatal(err)
			}
			refusesBundle(t, text[tt.bundle], tt.old, tt.new)
		})
	}
	// Only a bundle of 0.1 may do without a proof; the same bytes called
	// otherwise may not.
	for _, version := range []string{"version=0.2", "version=0.3"} {
		refusesBundle(t, text["0.1 "+message], "version=0.1", version)
	}
}

// sigstore-js wrote null for what is absent.
func TestOldBundlesSpellNull(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "verifier", "testdata", "sigstore", "sigstore-js-2.0.0.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(raw, []byte("null")) {
		t.Fatal("the bundle has no null")
	}
	b, err := attest.ParseBundle(raw)
	if err != nil || b.Version != attest.Version01 || b.Certificate == nil {
		t.Fatalf("%+v, %v", b, err)
	}
	if _, err := attest.ParseBundle(bytes.Replace(raw, []byte("bundle+json;version=0.1"), []byte("bundle.v0.3+json"), 1)); !errors.Is(err, attest.ErrBundle) {
		t.Errorf("as 0.3: %v", err)
	}
}
