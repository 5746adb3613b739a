package tlog_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"testing"

	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/tlog"
)

// twoEntries is a log of two entries, made by hand.
type twoEntries struct {
	key     *ecdsa.PrivateKey
	entries [2]*rekorpb.TransparencyLogEntry
}

func newTwoEntries(t testing.TB) twoEntries {
	t.Helper()
	log := twoEntries{key: newECDSA(t, elliptic.P256())}
	signer := newECDSA(t, elliptic.P256())
	var bodies [2][]byte
	for i := range bodies {
		message := fmt.Appendf(nil, "artifact %d", i)
		var err error
		if bodies[i], err = tlog.HashedRekordV002(signer.Public(), message, sign(t, signer, message)); err != nil {
			t.Fatal(err)
		}
	}
	leaves := [2][]byte{tlog.LeafHash(bodies[0]), tlog.LeafHash(bodies[1])}
	cp := tlog.Checkpoint{Origin: origin, Size: 2, Root: rfc6962.DefaultHasher.HashChildren(leaves[0], leaves[1])}
	id, err := tlog.LogID(log.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for i := range bodies {
		log.entries[i] = &rekorpb.TransparencyLogEntry{
			LogIndex: int64(i), LogId: &commonpb.LogId{KeyId: id},
			KindVersion: &rekorpb.KindVersion{Kind: "hashedrekord", Version: "0.0.2"},
			InclusionProof: &rekorpb.InclusionProof{
				LogIndex: int64(i), RootHash: cp.Root, TreeSize: 2, Hashes: [][]byte{leaves[1-i]},
				Checkpoint: &rekorpb.Checkpoint{Envelope: string(signCheckpoint(t, log.key, cp))},
			},
			CanonicalizedBody: bodies[i],
		}
	}
	return log
}

func signCheckpoint(t testing.TB, key crypto.Signer, cp tlog.Checkpoint) []byte {
	t.Helper()
	signer, err := tlog.NewCheckpointSigner(cp.Origin, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := note.Sign(&note.Note{Text: string(cp.Marshal())}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// B1, B2, B4: nothing of one entry proves another, and no log proves with a
// key that was not given.
func TestVerifyInclusion(t *testing.T) {
	log := newTwoEntries(t)
	pub := log.key.Public()
	for _, entry := range log.entries {
		if err := tlog.VerifyInclusion(entry, origin, pub); err != nil {
			t.Fatalf("control: %v", err)
		}
	}
	forged := newECDSA(t, elliptic.P256())
	for _, test := range []struct {
		name   string
		change func(e *rekorpb.TransparencyLogEntry)
		want   error
	}{
		{"B1 body of the other entry", func(e *rekorpb.TransparencyLogEntry) { e.CanonicalizedBody = log.entries[1].CanonicalizedBody }, tlog.ErrProof},
		{"B1 proof of the other entry", func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof = log.entries[1].InclusionProof }, tlog.ErrProof},
		{"B1 hashes of the other entry", func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.Hashes = log.entries[1].InclusionProof.Hashes }, tlog.ErrProof},
		{"other index", func(e *rekorpb.TransparencyLogEntry) { e.LogIndex, e.InclusionProof.LogIndex = 1, 1 }, tlog.ErrProof},
		{"negative index", func(e *rekorpb.TransparencyLogEntry) { e.LogIndex, e.InclusionProof.LogIndex = -1, -1 }, tlog.ErrProof},
		{"other size", func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.TreeSize = 3 }, tlog.ErrProof},
		{"other root", func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.RootHash = make([]byte, 32) }, tlog.ErrProof},
		{"other log id", func(e *rekorpb.TransparencyLogEntry) { e.LogId.KeyId = make([]byte, 32) }, tlog.ErrProof},
		{"no log id", func(e *rekorpb.TransparencyLogEntry) { e.LogId = nil }, tlog.ErrProof},
		{"other kind", func(e *rekorpb.TransparencyLogEntry) { e.KindVersion.Version = "0.0.1" }, tlog.ErrProof},
		{"short hash", func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.Hashes[0] = []byte{1} }, tlog.ErrProof},
		{"no hashes", func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.Hashes = nil }, tlog.ErrProof},
		{"no proof", func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof = nil }, tlog.ErrCheckpoint},
		{"no checkpoint", func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.Checkpoint = nil }, tlog.ErrCheckpoint},
		{"no body", func(e *rekorpb.TransparencyLogEntry) { e.CanonicalizedBody = nil }, tlog.ErrBody},
		{"B4 checkpoint of another key", func(e *rekorpb.TransparencyLogEntry) {
			cp := tlog.Checkpoint{Origin: origin, Size: 1, Root: tlog.LeafHash(e.CanonicalizedBody)}
			e.InclusionProof = &rekorpb.InclusionProof{
				RootHash: cp.Root, TreeSize: 1,
				Checkpoint: &rekorpb.Checkpoint{Envelope: string(signCheckpoint(t, forged, cp))},
			}
		}, tlog.ErrCheckpoint},
		{"checkpoint of another origin", func(e *rekorpb.TransparencyLogEntry) {
			cp := tlog.Checkpoint{Origin: "evil.example.com", Size: 2, Root: e.InclusionProof.RootHash}
			e.InclusionProof.Checkpoint.Envelope = string(signCheckpoint(t, log.key, cp))
		}, tlog.ErrCheckpoint},
	} {
		entry := proto.Clone(log.entries[0]).(*rekorpb.TransparencyLogEntry)
		test.change(entry)
		if err := tlog.VerifyInclusion(entry, origin, pub); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	if err := tlog.VerifyInclusion(nil, origin, pub); !errors.Is(err, tlog.ErrCheckpoint) {
		t.Errorf("nil entry: %v", err)
	}
	if err := tlog.VerifyInclusion(log.entries[0], origin, newECDSA(t, elliptic.P384()).Public()); !errors.Is(err, tlog.ErrCheckpoint) {
		t.Errorf("P-384 log key: %v", err)
	}
}
