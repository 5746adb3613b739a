package verifier

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/tlog"
)

// The public instance's Rekor v2 log signs its checkpoints with Ed25519: every
// log of its trusted root is read, and a real entry is proven.
func TestPublicRekorV2(t *testing.T) {
	root, public := foreignRoot(t, "public-good-2025.json")
	if len(root.Logs) != 2 || len(public.logs) != 2 {
		t.Fatalf("%d of %d logs can be read", len(public.logs), len(root.Logs))
	}
	read := func() *rekorpb.TransparencyLogEntry {
		raw, err := os.ReadFile(filepath.Join("testdata", "sigstore", "rekor-v2-entry.json"))
		if err != nil {
			t.Fatal(err)
		}
		entry, err := tlog.UnmarshalEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		return entry
	}
	proven, known, f := public.proveEntry(tlog.ParseEntry(read()))
	if !known || f != nil || proven.index != 412114 || !proven.time.IsZero() {
		t.Fatalf("known %v, fault %+v, proven %+v", known, f, proven)
	}
	for name, change := range map[string]func(*rekorpb.TransparencyLogEntry){
		"another size": func(e *rekorpb.TransparencyLogEntry) {
			e.InclusionProof.Checkpoint.Envelope = strings.Replace(e.InclusionProof.Checkpoint.Envelope, "412115", "412116", 1)
		},
		"another body":  func(e *rekorpb.TransparencyLogEntry) { e.CanonicalizedBody[20] ^= 1 },
		"another index": func(e *rekorpb.TransparencyLogEntry) { e.LogIndex--; e.InclusionProof.LogIndex-- },
	} {
		entry := read()
		change(entry)
		if _, _, f := public.proveEntry(tlog.ParseEntry(entry)); f == nil {
			t.Errorf("%s: proven", name)
		}
	}
}

// logKeys makes a key of every type that Sigstore's logs sign with.
func logKeys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{
		"ed25519": ed, "ecdsa-p256": testauthority.NewECDSA(t), "ecdsa-p384": large, "rsa-2048": old,
	}
}

// logCase spoils a good bundle that log recorded; other is a log of the same
// name with another key of the same type.
type logCase struct {
	name  string
	spoil func(d *testauthority.Draft, log, other *testauthority.Authority)
	want  policy.Code
}

func logCases(t *testing.T) []logCase {
	entryOf := func(d *testauthority.Draft, a *testauthority.Authority) *rekorpb.TransparencyLogEntry {
		return a.Append("hashedrekord", "0.0.2", testauthority.HashedRekordV002(t, d.Key.Public(), d.Message(), d.Signature))
	}
	return []logCase{
		{"B4 a log with a key of its own", func(d *testauthority.Draft, _, other *testauthority.Authority) {
			d.Entries = []*rekorpb.TransparencyLogEntry{entryOf(d, other)}
		}, policy.LogEntryMissing},
		{"B4 a log with a key of its own under this log's id", func(d *testauthority.Draft, log, other *testauthority.Authority) {
			d.Entries = []*rekorpb.TransparencyLogEntry{entryOf(d, other)}
			d.Entries[0].LogId.KeyId = log.LogID()
		}, policy.CheckpointInvalid},
		{"B5 another origin", func(d *testauthority.Draft, log, _ *testauthority.Authority) {
			p := d.Entries[0].InclusionProof
			p.Checkpoint.Envelope = log.Checkpoint("evil.example", int(p.TreeSize), p.RootHash)
		}, policy.CheckpointInvalid},
		{"B5 a tampered checkpoint", func(d *testauthority.Draft, _, _ *testauthority.Authority) {
			p := d.Entries[0].InclusionProof
			p.TreeSize++
			lines := strings.SplitN(p.Checkpoint.Envelope, "\n", 3)
			p.Checkpoint.Envelope = strings.Join([]string{lines[0], strconv.FormatInt(p.TreeSize, 10), lines[2]}, "\n")
		}, policy.CheckpointInvalid},
		{"C1 an entry twice", func(d *testauthority.Draft, _, _ *testauthority.Authority) {
			d.Entries = append(d.Entries, d.Entries[0])
		}, policy.SignatureInvalid},
	}
}

// Rows B4, B5 and C1 for logs with every type of key, with the honest bundle as
// the control; the stock verifier agrees on each of them.
func TestLogKeys(t *testing.T) {
	others := logKeys(t)
	for name, key := range logKeys(t) {
		t.Run(name, func(t *testing.T) {
			log, other := testauthority.NewWithLogKey(t, key), testauthority.NewWithLogKey(t, others[name])
			c, honest := newCourtOf(t, log)
			stock := stockVerifier(t, log, honest.Key.Public())
			judge := func(d *testauthority.Draft) (policy.Fact, error) {
				raw := d.JSON()
				fact, _ := c.judge(attachment{format: formatBundle, bundle: raw})
				return fact, stock(raw, c.bench.artifact.digest)
			}
			if fact, err := judge(honest); !fact.Accepted || fact.Evidence.LogIndex == nil || err != nil {
				t.Fatalf("an honest bundle: %+v, stock %v", fact, err)
			}
			for _, tc := range logCases(t) {
				d := log.Bundle(c.bench.artifact.digest, honest.Key, honest.At)
				tc.spoil(d, log, other)
				if fact, err := judge(d); fact.Accepted || fact.Reason.Code != tc.want || err == nil {
					t.Errorf("%s: %+v, want %s; stock %v", tc.name, fact, tc.want, err)
				}
			}
		})
	}
}

// E7: an Ed25519 log is not found under the id that its key would have if it
// were ECDSA, unless the trusted root itself calls it so; then by no other.
func TestLogIDIsTheRoots(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	log := testauthority.NewWithLogKey(t, key)
	c, d := newCourtOf(t, log)
	judge := func() policy.Fact {
		fact, _ := c.judge(attachment{format: formatBundle, bundle: d.JSON()})
		return fact
	}
	if fact := judge(); !fact.Accepted {
		t.Fatalf("an honest bundle: %+v", fact)
	}
	id, err := hex.DecodeString(testauthority.KeyID(t, key.Public()))
	if err != nil {
		t.Fatal(err)
	}
	d.Entries[0].LogId.KeyId = id
	if fact := judge(); fact.Accepted || fact.Reason.Code != policy.LogEntryMissing {
		t.Errorf("under the id of an ECDSA key: %+v", fact)
	}
	root := log.Root()
	root.Logs[0].ID = id
	foreign, err := prepare("partner", root)
	if err != nil {
		t.Fatal(err)
	}
	if foreign.fingerprint == c.signer.trusted.fingerprint {
		t.Error("another id leaves the fingerprint as it was")
	}
	c.signer.trusted = foreign
	if fact := judge(); !fact.Accepted {
		t.Errorf("under the root's own id: %+v", fact)
	}
	d.Entries[0].LogId.KeyId = log.LogID()
	if fact := judge(); fact.Accepted || fact.Reason.Code != policy.LogEntryMissing {
		t.Errorf("under the key's id, which the root does not use: %+v", fact)
	}
}
