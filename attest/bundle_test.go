package attest_test

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/testauthority"
)

var signedAt = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// parts is a signature over our own statement by a fresh key, logged and
// stamped, with the authority and public key that verify it.
func parts(t testing.TB) (attest.NewBundleInput, *testauthority.Authority, crypto.PublicKey) {
	t.Helper()
	statement, err := attest.SignatureStatement("", appDigest(t), map[string]string{"git.sha": "abc"})
	if err != nil {
		t.Fatal(err)
	}
	authority := testauthority.New(t)
	key := testauthority.NewECDSA(t)
	draft := authority.BundleOf(statement, key, signedAt)
	return attest.NewBundleInput{
		PayloadType: attest.PayloadTypeInToto,
		Payload:     statement,
		Signature:   draft.Signature,
		KeyHint:     draft.Hint,
		Entry:       draft.Entries[0],
		Timestamp:   draft.Timestamps[0],
	}, authority, key.Public()
}

func newBundle(t testing.TB, in attest.NewBundleInput) []byte {
	t.Helper()
	raw, err := attest.NewBundle(in)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// sigstore-go v1.3.0 reads the bundle and its whole verification passes: log
// entry, timestamp, signature, subject.
func TestNewBundleVerifiesWithSigstoreGo(t *testing.T) {
	in, authority, public := parts(t)
	var b bundle.Bundle
	if err := b.UnmarshalJSON(newBundle(t, in)); err != nil {
		t.Fatal(err)
	}
	theirs, err := authority.Root().Material()
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	keys := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(verifier, time.Time{}, time.Time{}), nil
	})
	v, err := verify.NewVerifier(root.TrustedMaterialCollection{theirs, keys}, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	for digest, want := range map[attest.Digest]bool{appDigest(t): true, attest.DigestOf(nil): false} {
		result, err := v.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", digest.Bytes()), verify.WithKey()))
		if (err == nil) != want {
			t.Errorf("%s: %v", digest, err)
		}
		if want && result.Statement.GetPredicateType() != attest.PredicateCosignSign {
			t.Errorf("statement %v", result.Statement)
		}
	}
}

func TestNewBundleIsDeterministicAndCompact(t *testing.T) {
	in, _, _ := parts(t)
	first := newBundle(t, in)
	for range 20 {
		in.Entry = proto.CloneOf(in.Entry)
		if !bytes.Equal(newBundle(t, in), first) {
			t.Fatal("other bytes for the same input")
		}
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, first); err != nil || !bytes.Equal(compact.Bytes(), first) {
		t.Errorf("has white space: %s", first)
	}
	if !bytes.HasPrefix(first, []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":`)) {
		t.Errorf("begins %.120s", first)
	}
}

// The bundle without log entry and timestamp, byte for byte as cosign v3.1.3
// wrote it with `sign --key --tlog-upload=false --bundle`.
func TestNewBundleIsCosigns(t *testing.T) {
	const cosign = `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"2KcD11PcU2xyRaA73eR3bYro0Tdt8eFJ2/0tiE2lPEU="}},"dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJkaWdlc3QiOnsic2hhMjU2IjoiNTM2NmViMzdmYWJhMjFjMzczOTkzYjM1M2ZhYTdiM2UzYjNmYzY4OGZhMzlhYTgxNDU3ZGQxYWMwNDQ3MzgyYSJ9LCJhbm5vdGF0aW9ucyI6eyJnaXQuc2hhIjoiYWJjIiwieiI6IjwmPiJ9fV0sInByZWRpY2F0ZVR5cGUiOiJodHRwczovL3NpZ3N0b3JlLmRldi9jb3NpZ24vc2lnbi92MSIsInByZWRpY2F0ZSI6e319","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEQCIGQhnJ+K99QwBRjudA6897u6stoemdjfg4wNM49mfazMAiA+yUqqvGKrIJ4j+W1RTLNRvhIHxQ0i4UPn8svHavgFcw=="}]}}`
	sig, err := base64.StdEncoding.DecodeString("MEQCIGQhnJ+K99QwBRjudA6897u6stoemdjfg4wNM49mfazMAiA+yUqqvGKrIJ4j+W1RTLNRvhIHxQ0i4UPn8svHavgFcw==")
	if err != nil {
		t.Fatal(err)
	}
	got := newBundle(t, attest.NewBundleInput{
		PayloadType: attest.PayloadTypeInToto, Payload: []byte(cosignAnnotated),
		Signature: sig, KeyHint: "2KcD11PcU2xyRaA73eR3bYro0Tdt8eFJ2/0tiE2lPEU=",
	})
	if diff := cmp.Diff(cosign, string(got)); diff != "" {
		t.Error(diff)
	}
	parsed, err := attest.ParseBundle([]byte(cosign))
	if err != nil {
		t.Fatal(err)
	}
	if string(parsed.Envelope.Payload) != cosignAnnotated || len(parsed.Entries) != 0 || len(parsed.Timestamps) != 0 || parsed.Certificate != nil {
		t.Errorf("%+v", parsed)
	}
}

// A certificate takes the place of the hint, as a single leaf: v0.3 has no chain.
func TestNewBundleCertificate(t *testing.T) {
	in, _, _ := parts(t)
	in.KeyHint, in.Certificate = "", []byte("DER of a certificate")
	raw := newBundle(t, in)
	if !bytes.Contains(raw, []byte(`"verificationMaterial":{"certificate":{"rawBytes":`)) {
		t.Errorf("begins %.160s", raw)
	}
	got, err := attest.ParseBundle(raw)
	if err != nil || !bytes.Equal(got.Certificate, in.Certificate) || got.Hint != "" {
		t.Errorf("%+v, %v", got, err)
	}
	in.Certificate[0]++
	if again, err := attest.ParseBundle(raw); err != nil || bytes.Equal(again.Certificate, in.Certificate) {
		t.Errorf("the bundle shares the caller's bytes: %v", err)
	}
}

func TestNewBundleRefuses(t *testing.T) {
	for name, edit := range map[string]func(*attest.NewBundleInput){
		"D7 no signature": func(in *attest.NewBundleInput) { in.Signature = nil },
		"no payload":      func(in *attest.NewBundleInput) { in.Payload = nil },
		"no payload type": func(in *attest.NewBundleInput) { in.PayloadType = "" },
		"no hint":         func(in *attest.NewBundleInput) { in.KeyHint = "" },
		"two signers":     func(in *attest.NewBundleInput) { in.Certificate = []byte{0x30} },
		"not UTF-8":       func(in *attest.NewBundleInput) { in.KeyHint = "\xff" },
		"no proof":        func(in *attest.NewBundleInput) { in.Entry.InclusionProof = nil },
		"no checkpoint":   func(in *attest.NewBundleInput) { in.Entry.InclusionProof.Checkpoint = nil },
		"no body":         func(in *attest.NewBundleInput) { in.Entry.CanonicalizedBody = nil },
		"no log":          func(in *attest.NewBundleInput) { in.Entry.LogId = nil },
		"empty entry":     func(in *attest.NewBundleInput) { in.Entry = &rekorpb.TransparencyLogEntry{} },
		"too large":       func(in *attest.NewBundleInput) { in.Payload = make([]byte, limits.Bundle) },
	} {
		in, _, _ := parts(t)
		newBundle(t, in)
		edit(&in)
		if raw, err := attest.NewBundle(in); !errors.Is(err, attest.ErrBundle) || raw != nil {
			t.Errorf("%s: %d bytes, %v", name, len(raw), err)
		}
	}
}

func TestParseBundle(t *testing.T) {
	in, _, _ := parts(t)
	raw := newBundle(t, in)
	got, err := attest.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := &attest.Bundle{
		Version: attest.Version03,
		Envelope: attest.Envelope{
			PayloadType: in.PayloadType, Payload: in.Payload,
			Signatures: []attest.EnvelopeSignature{{Signature: in.Signature}},
		},
		Hint:       in.KeyHint,
		Entries:    []*rekorpb.TransparencyLogEntry{in.Entry},
		Timestamps: [][]byte{in.Timestamp},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	again, err := got.Marshal()
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("Marshal: %v\n%s\n%s", err, again, raw)
	}
}

// Spellings of the same bundle that honest writers use.
func TestParseBundleAccepts(t *testing.T) {
	in, _, _ := parts(t)
	raw := string(newBundle(t, in))
	want, err := attest.ParseBundle([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	index := fmt.Sprintf(`"logIndex":"%d"`, in.Entry.GetLogIndex())
	for name, text := range map[string]string{
		"indented":             indent(t, raw),
		"protojson's own":      protojson.Format(unmarshal(t, raw)),
		"first media type":     strings.Replace(raw, "bundle.v0.3+json", "bundle+json;version=0.3", 1),
		"explicit zero time":   strings.Replace(raw, index, index+`,"integratedTime":"0"`, 1),
		"explicit empty keyid": strings.Replace(raw, `"sig":`, `"keyid":"","sig":`, 1),
		"number for int64":     strings.Replace(raw, index, strings.ReplaceAll(strings.ReplaceAll(index, `"`, ``), "logIndex", `"logIndex"`), 1),
	} {
		got, err := attest.ParseBundle([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func unmarshal(t testing.TB, raw string) proto.Message {
	t.Helper()
	var b bundle.Bundle
	if err := b.UnmarshalJSON([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	return b.Bundle
}

func indent(t testing.TB, raw string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(raw), "\t", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Rows A9 (one reading), D7, H2 (limit + 1), H7 (every optional field null).
// Every case edits a good bundle once.
func TestParseBundleRefuses(t *testing.T) {
	in, _, _ := parts(t)
	control := string(newBundle(t, in))
	if _, err := attest.ParseBundle([]byte(control)); err != nil {
		t.Fatal(err)
	}
	sig := base64.StdEncoding.EncodeToString(in.Signature)
	stamp := base64.StdEncoding.EncodeToString(in.Timestamp)
	payload := base64.StdEncoding.EncodeToString(in.Payload)
	key := fmt.Sprintf(`"publicKey":{"hint":%q}`, in.KeyHint)
	entries := control[strings.Index(control, `"tlogEntries":[`)+len(`"tlogEntries":[`) : strings.Index(control, `],"timestampVerificationData"`)]
	proof := entries[strings.Index(entries, `"inclusionProof":`):strings.Index(entries, `,"canonicalizedBody"`)]
	certificate := `"certificate":{"rawBytes":"AAAA"}`
	stamps := make([]string, limits.Timestamps+1)
	logged := make([]string, limits.LogEntries+1)
	for i := range stamps {
		stamps[i] = fmt.Sprintf(`{"signedTimestamp":%q}`, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%d", i)))
		logged[i] = strings.Replace(entries, fmt.Sprintf(`"logIndex":"%d"`, in.Entry.GetLogIndex()), fmt.Sprintf(`"logIndex":"%d"`, i+1), 1)
	}
	tests := []struct{ name, old, new string }{
		{"version 0.0", "bundle.v0.3+json", "bundle+json;version=0.0"},
		{"version 0.2 in the new spelling", "bundle.v0.3+json", "bundle.v0.2+json"},
		{"version 0.4", "bundle.v0.3+json", "bundle.v0.4+json"},
		{"no version", `"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",`, ``},
		{"A9 duplicate field", `"dsseEnvelope":`, `"dsseEnvelope":{},"dsseEnvelope":`},
		{"A9 both spellings of a name", `"dsseEnvelope":`, `"dsse_envelope":{},"dsseEnvelope":`},
		{"A9 other spelling of a name", `"dsseEnvelope":`, `"dsse_envelope":`},
		{"A9 another case", `"dsseEnvelope":`, `"DsseEnvelope":`},
		{"A9 unknown field", `"dsseEnvelope":`, `"extra":1,"dsseEnvelope":`},
		{"A9 trailing data", `]}}`, `]}}{}`},
		{"A9 unpadded base64", payload, strings.TrimRight(payload, "=") + strings.Repeat("=", 3)},
		{"A9 URL alphabet", sig, strings.NewReplacer("+", "-", "/", "_").Replace(sig[:8]) + "-_-_" + sig[8:]},
		{"A9 payload with a line break", payload, payload[:4] + `\n` + payload[4:]},
		{"A9 index as fraction", fmt.Sprintf(`"logIndex":"%d"`, in.Entry.GetLogIndex()), fmt.Sprintf(`"logIndex":%d.0`, in.Entry.GetLogIndex())},
		{"message signature", `"dsseEnvelope":`, `"messageSignature":{},"dsseEnvelope":`},
		{"D7 empty signature", sig, ``},
		{"D7 no signatures", `[{"sig":"` + sig + `"}]`, `[]`},
		{"two signatures", `[{"sig":"` + sig + `"}]`, `[{"sig":"` + sig + `"},{"sig":"` + sig + `"}]`},
		{"empty payload", payload, ``},
		{"no key", key + `,`, ``},
		{"key and certificate", key, key + `,` + certificate},
		{"empty certificate", key, `"certificate":{}`},
		{"certificate chain", key, `"x509CertificateChain":{"certificates":[{"rawBytes":"AAAA"}]}`},
		{"no proof", `,` + proof, ``},
		{"entry twice", entries, entries + `,` + entries},
		{"empty entry", entries, entries + `,{}`},
		{"empty timestamp", stamp, ``},
		{"timestamp twice", `{"signedTimestamp":"` + stamp + `"}`, `{"signedTimestamp":"` + stamp + `"},{"signedTimestamp":"` + stamp + `"}`},
		{"negative index", fmt.Sprintf(`"logIndex":"%d"`, in.Entry.GetLogIndex()), `"logIndex":"-1"`},
		{"H2 too many timestamps", `{"signedTimestamp":"` + stamp + `"}`, strings.Join(stamps, ",")},
		{"H2 too many entries", entries, strings.Join(logged, ",")},
		{"H9 deep", key, key + `,"x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { refusesBundle(t, control, tt.old, tt.new) })
	}
	for name, value := range members(t, control) {
		t.Run("H7 null "+name, func(t *testing.T) { refusesBundle(t, control, value, value[:strings.Index(value, ":")+1]+"null") })
	}
	t.Run("H7 null elements", func(t *testing.T) {
		refusesBundle(t, control, `{"sig":"`+sig+`"}`, `null`)
		refusesBundle(t, control, entries, `null`)
		refusesBundle(t, control, `{"signedTimestamp":"`+stamp+`"}`, `null`)
	})
	if _, err := attest.ParseBundle(append([]byte(control), bytes.Repeat([]byte(" "), limits.Bundle)...)); !errors.Is(err, attest.ErrBundle) {
		t.Errorf("H2 too large: %v", err)
	}
	for _, text := range []string{"", "null", "[]", "{}", `"x"`, "\xff", `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`} {
		if b, err := attest.ParseBundle([]byte(text)); !errors.Is(err, attest.ErrBundle) || b != nil {
			t.Errorf("%q: %+v, %v", text, b, err)
		}
	}
}

func refusesBundle(t *testing.T, control, old, replacement string) {
	t.Helper()
	text := strings.Replace(control, old, replacement, 1)
	if text == control {
		t.Fatalf("the control has no %q", old)
	}
	if b, err := attest.ParseBundle([]byte(text)); !errors.Is(err, attest.ErrBundle) || b != nil {
		t.Errorf("%+v, %v", b, err)
	}
}

// members are the `"name":value` texts of every member at every depth.
func members(t testing.TB, text string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	var walk func(at string, raw json.RawMessage)
	walk = func(at string, raw json.RawMessage) {
		var object map[string]json.RawMessage
		var list []json.RawMessage
		switch {
		case json.Unmarshal(raw, &object) == nil:
			for name, value := range object {
				found[at+"/"+name] = fmt.Sprintf("%q:%s", name, value)
				walk(at+"/"+name, value)
			}
		case json.Unmarshal(raw, &list) == nil:
			for i, value := range list {
				walk(fmt.Sprintf("%s/%d", at, i), value)
			}
		}
	}
	walk("", json.RawMessage(text))
	return found
}

func TestBundleOfACertificate(t *testing.T) {
	in, _, _ := parts(t)
	b, err := attest.ParseBundle(newBundle(t, in))
	if err != nil {
		t.Fatal(err)
	}
	b.Hint, b.Certificate = "", []byte("DER")
	raw, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := attest.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, again, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	b.Hint = "k"
	if _, err := b.Marshal(); !errors.Is(err, attest.ErrBundle) {
		t.Errorf("certificate and hint: %v", err)
	}
}

// What parses marshals back to an equal bundle, sigstore-go reads it too, and
// it has what the doc comment promises.
func FuzzParseBundle(f *testing.F) {
	in, _, _ := parts(f)
	f.Add(newBundle(f, in))
	in.Entry, in.Timestamp = nil, nil
	f.Add(newBundle(f, in))
	for _, raw := range versions(f) {
		f.Add(raw)
	}
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{"rawBytes":"AA=="},"tlogEntries":[{}]},"dsseEnvelope":{"payload":"AA==","payloadType":"t","signatures":[{"sig":"AA=="}]}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{"payload":"AA==","payloadType":"t","signatures":[{"sig":"AA==","keyid":"\u0000"}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := attest.ParseBundle(raw)
		if err != nil {
			if b != nil || !errors.Is(err, attest.ErrBundle) {
				t.Fatalf("%+v, %v", b, err)
			}
			return
		}
		if b.Message == nil && (len(b.Envelope.Signatures) != 1 || len(b.Envelope.Signatures[0].Signature) == 0 || len(b.Envelope.Payload) == 0) {
			t.Fatalf("%+v", b)
		}
		if b.Message != nil && (len(b.Message.Signature) == 0 || len(b.Message.Digest) != b.Message.Algorithm.Size() || b.Envelope.PayloadType != "") {
			t.Fatalf("%+v", b)
		}
		for _, entry := range b.Entries {
			if entry.GetInclusionProof() == nil && (b.Version != attest.Version01 || len(entry.GetInclusionPromise().GetSignedEntryTimestamp()) == 0) {
				t.Fatalf("an entry that nothing proves: %+v", b)
			}
		}
		marshalled, err := b.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := attest.ParseBundle(marshalled)
		if err != nil || cmp.Diff(b, again, protocmp.Transform()) != "" {
			t.Fatalf("%s: %v %s", marshalled, err, cmp.Diff(b, again, protocmp.Transform()))
		}
		if err := protojson.Unmarshal(marshalled, new(bundlepb.Bundle)); err != nil {
			t.Fatal(err)
		}
	})
}
