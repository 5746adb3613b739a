package verifier_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
)

// Each case takes a good bundle over digest and spoils it; the same bundle
// unspoiled is the positive control and must pass in the same world.
func TestBundleAttacks(t *testing.T) {
	cases := []struct {
		name  string // row of reference/security.md, then what is done
		spoil func(w *world, d *testauthority.Draft, digest attest.Digest)
		want  policy.Code
	}{
		{"A2 entry of a broken signature", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Signature = testauthority.SignP256(w.t, d.Key, d.Message())
		}, policy.LogEntryMismatch},
		{"A5 only sha512 right", func(w *world, d *testauthority.Draft, digest attest.Digest) {
			d.Payload = subject(fmt.Sprintf(`{"sha256":%q,"sha512":%q}`, strings.Repeat("0", 64), w.sha512(digest)))
			d.Resign()
		}, policy.SubjectMismatch},
		{"A5 only sha256 right", func(_ *world, d *testauthority.Draft, digest attest.Digest) {
			d.Payload = subject(fmt.Sprintf(`{"sha256":%q,"sha512":%q}`, digest.Hex(), strings.Repeat("0", 128)))
			d.Resign()
		}, policy.SubjectMismatch},
		{"A5 sha1 only", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Payload = subject(`{"sha1":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}`)
			d.Resign()
		}, policy.SubjectMismatch},
		{"A6 null subject", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Payload = []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[null],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`)
			d.Resign()
		}, policy.SignatureInvalid},
		{"A6 no subject", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Payload = []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`)
			d.Resign()
		}, policy.SignatureInvalid},
		{"A6 subject without digest", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Payload = subject(`{}`)
			d.Resign()
		}, policy.SignatureInvalid},
		{"A9 duplicate names in the statement", func(_ *world, d *testauthority.Draft, digest attest.Digest) {
			d.Payload = bytes.Replace(testauthority.Statement(digest, testauthority.SignPredicateType),
				[]byte(`{"_type"`), []byte(`{"predicateType":"https://sigstore.dev/cosign/sign/v1","_type"`), 1)
			d.Resign()
		}, policy.SignatureInvalid},
		{"A9 data after the statement", func(_ *world, d *testauthority.Draft, digest attest.Digest) {
			d.Payload = append(testauthority.Statement(digest, testauthority.SignPredicateType), "{}"...)
			d.Resign()
		}, policy.SignatureInvalid},
		{"A1 statement about another digest", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Payload = testauthority.Statement(attest.DigestOf([]byte("other")), testauthority.SignPredicateType)
			d.Resign()
		}, policy.SubjectMismatch},
		{"B1 entry of another artifact", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			other := w.authority.Bundle(attest.DigestOf([]byte("other")), d.Key, d.At)
			d.Entries = other.Entries
		}, policy.LogEntryMismatch},
		{"B1 entry of another artifact by the same signer for the same document", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			other := *d
			other.Resign()
			d.Entries = other.Entries
		}, policy.LogEntryMismatch},
		{"B1 entry of another key's signature", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			key := testauthority.NewECDSA(w.t)
			body := testauthority.HashedRekordV002(w.t, key.Public(), d.Message(), d.Signature)
			d.Entries = []*rekorpb.TransparencyLogEntry{w.authority.Append("hashedrekord", "0.0.2", body)}
		}, policy.LogEntryMismatch},
		{"B3 entry of the same signature and key for another document", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			body := testauthority.HashedRekordV002(w.t, d.Key.Public(), []byte("other"), d.Signature)
			d.Entries = []*rekorpb.TransparencyLogEntry{w.authority.Append("hashedrekord", "0.0.2", body)}
		}, policy.LogEntryMismatch},
		{"B1 entry of another kind than it says", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Entries[0].KindVersion.Version = "0.0.1"
		}, policy.LogEntryMismatch},
		{"B1 good entry beside one of another artifact", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			other := w.authority.Bundle(attest.DigestOf([]byte("other")), d.Key, d.At)
			d.Entries = append(d.Entries, other.Entries...)
		}, policy.LogEntryMismatch},
		{"B1 body replaced under a good proof", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			key := testauthority.NewECDSA(w.t)
			other := w.authority.Bundle(attest.DigestOf([]byte("other")), key, d.At).Entries[0]
			other.CanonicalizedBody = d.Entries[0].CanonicalizedBody
			d.Entries = []*rekorpb.TransparencyLogEntry{other}
		}, policy.InclusionProofInvalid},
		{"B4 log with its own key", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			mitm := testauthority.New(w.t)
			body := testauthority.HashedRekordV002(w.t, d.Key.Public(), d.Message(), d.Signature)
			d.Entries = []*rekorpb.TransparencyLogEntry{mitm.Append("hashedrekord", "0.0.2", body)}
		}, policy.LogEntryMissing},
		{"B4 log with its own key and our log's id", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			mitm := testauthority.New(w.t)
			body := testauthority.HashedRekordV002(w.t, d.Key.Public(), d.Message(), d.Signature)
			entry := mitm.Append("hashedrekord", "0.0.2", body)
			entry.LogId.KeyId = w.authority.LogID()
			d.Entries = []*rekorpb.TransparencyLogEntry{entry}
		}, policy.CheckpointInvalid},
		{"B5 checkpoint of another origin", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			p := d.Entries[0].InclusionProof
			p.Checkpoint.Envelope = w.authority.Checkpoint("evil.example", int(p.TreeSize), p.RootHash)
		}, policy.CheckpointInvalid},
		{"B5 proof against another root", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			p := d.Entries[0].InclusionProof
			p.RootHash = bytes.Repeat([]byte{7}, 32)
			p.Checkpoint.Envelope = w.authority.Checkpoint(testauthority.Origin, int(p.TreeSize), p.RootHash)
		}, policy.InclusionProofInvalid},
		{"B5 another index", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Entries[0].LogIndex--
			d.Entries[0].InclusionProof.LogIndex--
		}, policy.InclusionProofInvalid},
		{"B6 forged integrated time", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Entries[0].IntegratedTime = d.At.Unix()
		}, policy.TimestampInvalid},
		{"B6 promise that is not the log's", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Entries[0].IntegratedTime = d.At.Unix()
			d.Entries[0].InclusionPromise = &rekorpb.InclusionPromise{
				SignedEntryTimestamp: testauthority.New(w.t).SET(d.Entries[0].CanonicalizedBody, d.At, d.Entries[0].LogIndex),
			}
		}, policy.InclusionProofInvalid},
		{"B6 one good and one backdated stamp", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = append(d.Timestamps, w.authority.Stamp(d.Signature, d.At.AddDate(-1, 0, 0)))
		}, policy.KeyOutsideWindow},
		{"B6 one good stamp and one of another signature", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = append(d.Timestamps, w.authority.Stamp([]byte("other"), d.At))
		}, policy.TimestampInvalid},
		{"C1 an entry twice", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Entries = append(d.Entries, d.Entries[0])
		}, policy.SignatureInvalid},
		{"D2 stamp before the key's activation", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = [][]byte{w.authority.Stamp(d.Signature, d.At.AddDate(-1, 0, 0))}
		}, policy.KeyOutsideWindow},
		{"D2 stamp in the future", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = [][]byte{w.authority.Stamp(d.Signature, w.now.Load().Add(time.Hour))}
		}, policy.TimestampInvalid},
		{"D3 stamp by a look-alike authority", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = [][]byte{w.authority.ForgedStamp(d.Signature, d.At)}
		}, policy.TimestampInvalid},
		{"D5 stamp by an authority that is not trusted", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = [][]byte{w.authority.ForeignStamp(d.Signature, d.At)}
		}, policy.TimestampMissing},
		{"no stamp", func(_ *world, d *testauthority.Draft, _ attest.Digest) { d.Timestamps = nil }, policy.TimestampMissing},
		{"malformed stamp", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Timestamps = [][]byte{[]byte("0\x03\x02\x01\x00")}
		}, policy.TimestampInvalid},
		{"no log entry", func(_ *world, d *testauthority.Draft, _ attest.Digest) { d.Entries = nil }, policy.LogEntryMissing},
		{"log entry without proof", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Entries[0].InclusionProof = nil
		}, policy.SignatureInvalid},
		{"D7 empty signature", func(_ *world, d *testauthority.Draft, _ attest.Digest) { d.Signature = nil }, policy.SignatureInvalid},
		{"D7 zero signature", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.Signature = make([]byte, len(d.Signature))
			d.Relog()
		}, policy.SignatureInvalid},
		{"E7 hint of another algorithm's key", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Key = testauthority.NewECDSA(w.t)
			d.Resign()
		}, policy.SignatureInvalid}, // the hint still names the trusted key
		{"signed by another key", func(w *world, d *testauthority.Draft, _ attest.Digest) {
			d.Key = testauthority.NewECDSA(w.t)
			d.Hint = testauthority.KeyID(w.t, d.Key.Public())
			d.Resign()
		}, policy.UntrustedKey},
		{"F1 F2 attestation instead of a signature", func(_ *world, d *testauthority.Draft, digest attest.Digest) {
			d.Payload = testauthority.Statement(digest, "https://slsa.dev/provenance/v1")
			d.Resign()
		}, policy.PredicateTypeMismatch},
		{"F2 payload type not in-toto", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			d.PayloadType = "text/plain"
			d.Resign()
		}, policy.SignatureInvalid},
		{"H2 too many log entries", func(_ *world, d *testauthority.Draft, _ attest.Digest) {
			for range limits.LogEntries {
				d.Entries = append(d.Entries, d.Entries[0])
			}
		}, policy.SignatureInvalid},
		{"H2 too many subjects", func(_ *world, d *testauthority.Draft, digest attest.Digest) {
			one := fmt.Sprintf(`{"digest":{"sha256":%q}}`, digest.Hex())
			d.Payload = []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[` + strings.Repeat(one+",", limits.Subjects) + one +
				`],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`)
			d.Resign()
		}, policy.SignatureInvalid},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Attr("format", "bundle")
			w := newWorld(t)
			digest, image := w.image(c.name)
			draft := w.authority.Bundle(digest, w.key, w.signedAt)
			w.attachBundle(digest, draft.JSON())
			w.wantPassed(image)

			digest, image = w.image(c.name + " spoiled")
			draft = w.authority.Bundle(digest, w.key, w.signedAt)
			c.spoil(w, draft, digest)
			w.attachBundle(digest, draft.JSON())
			w.wantFailed(image, c.want)
		})
	}
}

// The same for legacy signatures.
func TestLegacyAttacks(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(w *world, d *testauthority.LegacyDraft, digest attest.Digest)
		want  policy.Code
	}{
		{"A1 payload about another digest", func(_ *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			d.Payload = testauthority.SimpleSigning(repository, attest.DigestOf([]byte("other")))
			d.Resign()
		}, policy.SubjectMismatch},
		{"A2 entry of a broken signature", func(w *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			d.Signature = testauthority.SignP256(w.t, d.Key, d.Payload)
			d.Timestamp = nil
		}, policy.LogEntryMismatch},
		{"A9 duplicate names in the payload", func(_ *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			d.Payload = bytes.Replace(d.Payload, []byte(`"type":`), []byte(`"type":"x","type":`), 1)
			d.Resign()
		}, policy.SignatureInvalid},
		{"B1 entry of another artifact", func(w *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			other := w.authority.Legacy(attest.DigestOf([]byte("other")), d.Key, d.At)
			d.Body, d.Index, d.Promise = other.Body, other.Index, other.Promise
		}, policy.LogEntryMismatch},
		{"B4 promise of a log with its own key", func(w *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			mitm := testauthority.New(w.t)
			d.LogID, d.Promise = mitm.LogID(), mitm.SET(d.Body, d.At, d.Index)
		}, policy.LogEntryMissing},
		{"B4 promise of another log under our log's id", func(w *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			d.Promise = testauthority.New(w.t).SET(d.Body, d.At, d.Index)
		}, policy.InclusionProofInvalid},
		{"B6 forged integrated time", func(_ *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			d.IntegratedTime = d.IntegratedTime.Add(-time.Hour)
		}, policy.InclusionProofInvalid},
		{"B6 another index", func(_ *world, d *testauthority.LegacyDraft, _ attest.Digest) { d.Index++ }, policy.InclusionProofInvalid},
		{"B6 good promise and backdated stamp", func(w *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			d.Timestamp = w.authority.Stamp(d.Signature, d.At.AddDate(-1, 0, 0))
		}, policy.KeyOutsideWindow},
		{"D7 zero signature", func(_ *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			d.Signature = make([]byte, len(d.Signature))
		}, policy.SignatureInvalid},
		{"J5 no log entry", func(_ *world, d *testauthority.LegacyDraft, _ attest.Digest) { d.Promise = nil }, policy.LogEntryMissing},
		{"empty promise", func(_ *world, d *testauthority.LegacyDraft, _ attest.Digest) { d.Promise = []byte{} }, policy.InclusionProofInvalid},
		{"stamp of another signature", func(w *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			d.Timestamp = w.authority.Stamp([]byte("other"), d.At)
		}, policy.TimestampInvalid},
		{"signed by another key", func(w *world, d *testauthority.LegacyDraft, _ attest.Digest) {
			d.Key = testauthority.NewECDSA(w.t)
			d.Resign()
		}, policy.UntrustedKey},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Attr("format", "legacy")
			w := newWorld(t)
			digest, image := w.image(c.name)
			w.attachLegacy(digest, w.authority.Legacy(digest, w.key, w.signedAt))
			w.wantPassed(image)

			digest, image = w.image(c.name + " spoiled")
			draft := w.authority.Legacy(digest, w.key, w.signedAt)
			c.spoil(w, draft, digest)
			w.attachLegacy(digest, draft)
			w.wantFailed(image, c.want)
		})
	}
}

func subject(digests string) []byte {
	return []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":` + digests +
		`}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`)
}
