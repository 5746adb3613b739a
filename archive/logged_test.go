package archive_test

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/store"
)

const payloadType = "application/vnd.in-toto+json"

// statementOf is a statement about a digest and its pre-authentication encoding.
func statementOf(t *testing.T, digest attest.Digest) (statement, pae []byte) {
	t.Helper()
	statement, err := attest.SignatureStatement("app", digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	return statement, attest.PAE(payloadType, statement)
}

// TestLogged: the log's entry is found by the digest of the artifact that the
// signed bytes name, whatever the item says of itself, and again after the
// relation was lost.
func TestLogged(t *testing.T) {
	ctx := context.Background()
	other := attest.DigestOf([]byte("another image"))
	statement, pae := statementOf(t, subject)
	bundle, err := attest.NewBundle(attest.NewBundleInput{PayloadType: payloadType, Payload: statement, Signature: []byte("s"), KeyHint: "k"})
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := attest.Envelope{PayloadType: payloadType, Payload: statement, Signatures: []attest.EnvelopeSignature{{Signature: []byte("s")}}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	payload, err := attest.SimpleSigning("registry.example.com/team/app", subject, nil)
	if err != nil {
		t.Fatal(err)
	}
	legacy := func(digest attest.Digest, format string, payload []byte) archive.Item {
		return archive.Item{Digest: digest, Repository: "r/a", Format: format, Legacy: &archive.Legacy{Payload: payload}}
	}
	sum256, sum512 := sha256.Sum256(pae), sha512.Sum512(pae)
	ofPayload := sha256.Sum256(statement)
	simple := sha256.Sum256(payload)
	for name, c := range map[string]struct {
		item   archive.Item
		logged string
		found  bool
	}{
		"bundle":                               {archive.Item{Digest: subject, Repository: "r/a", Format: archive.FormatBundle, Bundle: bundle}, "sha256:" + hex.EncodeToString(sum256[:]), true},
		"bundle, Ed25519":                      {archive.Item{Digest: subject, Repository: "r/a", Format: archive.FormatBundle, Bundle: bundle}, "sha512:" + hex.EncodeToString(sum512[:]), true},
		"legacy":                               {legacy(subject, archive.FormatLegacy, payload), "sha256:" + hex.EncodeToString(simple[:]), true},
		"legacy attestation, Rekor v1's entry": {legacy(subject, archive.FormatLegacyAttestation, envelope), "sha256:" + hex.EncodeToString(ofPayload[:]), true},
		"legacy attestation":                   {legacy(subject, archive.FormatLegacyAttestation, envelope), "sha256:" + hex.EncodeToString(sum256[:]), true},
		"row B3: bundle of other":              {archive.Item{Digest: other, Repository: "r/a", Format: archive.FormatBundle, Bundle: bundle}, "sha256:" + hex.EncodeToString(sum256[:]), false},
		"row B3: legacy of other":              {legacy(other, archive.FormatLegacy, payload), "sha256:" + hex.EncodeToString(simple[:]), false},
		"row B3: another's digest":             {legacy(subject, archive.FormatLegacy, payload), "sha256:" + hex.EncodeToString(sum256[:]), false},
		"unreadable":                           {archive.Item{Digest: subject, Repository: "r/a", Format: archive.FormatBundle, Bundle: []byte("{}")}, "sha256:" + hex.EncodeToString(sum256[:]), false},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := store.OpenSQLite(ctx, filepath.Join(t.TempDir(), "countersign.db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			a := archive.New(archive.Config{Bundles: db.Bundles(), Decisions: db.Decisions()})
			if err := a.Keep(ctx, c.item); err != nil {
				t.Fatal(err)
			}
			if err := db.LogIndex().Record(ctx, 1, 0, []store.LogEntry{{Digest: c.logged}}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				entries, _, err := db.LogIndex().Search(ctx, store.LogFilter{Digest: c.item.Digest.String()}, store.Page{})
				if err != nil || (len(entries) == 1) != c.found {
					t.Fatalf("%d entries, %v", len(entries), err)
				}
				if err := a.Relate(ctx); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
