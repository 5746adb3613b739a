package tlog_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/tlog"
)

// What parses has one spelling and a key and digest that fit together.
func FuzzParseBody(f *testing.F) {
	for _, key := range keysOfEveryType(f) {
		sig := sign(f, key, []byte("m"))
		v2, err := tlog.HashedRekordV002(key.Public(), []byte("m"), sig)
		if err != nil {
			f.Fatal(err)
		}
		v1, err := tlog.HashedRekordV001(key.Public(), []byte("m"), signLegacy(f, key, []byte("m")))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(v2)
		f.Add(v1)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := tlog.ParseBody(raw)
		if err != nil {
			if !errors.Is(err, tlog.ErrBody) {
				t.Errorf("error outside the family: %v", err)
			}
			return
		}
		if body.PublicKey == nil || len(body.Digest) != body.DigestAlgorithm.Size() || len(body.Signature) == 0 {
			t.Errorf("incomplete body %+v", body)
		}
	})
}

// What is accepted gives a body that parses and is stable.
func FuzzHashedRekordV002FromRequest(f *testing.F) {
	key := newECDSA(f, elliptic.P256())
	f.Add([]byte(request(f, key, []byte("m"))))
	f.Add([]byte(dsseRequest(f, key, []byte("{}"))))
	f.Add([]byte(`{"hashedRekordRequestV002":{"signature":{"verifier":{"publicKey":null}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := tlog.HashedRekordV002FromRequest(raw)
		if err != nil {
			if !errors.Is(err, tlog.ErrRequest) {
				t.Errorf("error outside the family: %v", err)
			}
			return
		}
		if _, err := tlog.ParseBody(body); err != nil {
			t.Errorf("built a body that does not parse: %v", err)
		}
	})
}

// A path that parses is the tile's one spelling.
func FuzzParseTilePath(f *testing.F) {
	for _, seed := range []string{"tile/0/000", "tile/1/x001/234.p/8", "tile/entries/x001/x234/067", "tile/0/../000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := tlog.ParseTilePath(path)
		if err == nil && tile.Path() != path {
			t.Errorf("%q parses but is spelled %q", path, tile.Path())
		}
	})
}

// Checkpoint text that parses marshals back to itself.
func FuzzUnmarshalCheckpoint(f *testing.F) {
	f.Add(tlog.Checkpoint{Origin: origin, Size: 42, Root: make([]byte, 32)}.Marshal())
	f.Add([]byte("a\n01\nAAAA\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cp, err := tlog.UnmarshalCheckpoint(text)
		if err == nil && !bytes.Equal(cp.Marshal(), text) {
			t.Errorf("%q parses but marshals to %q", text, cp.Marshal())
		}
	})
}

// Text with extension lines is read as the three lines before them, and the strict
// reader takes exactly those without any.
func FuzzOpenExtendedCheckpoint(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := tlog.NewCheckpointSigner(origin, key)
	if err != nil {
		f.Fatal(err)
	}
	verifier, err := tlog.NewCheckpointVerifier(origin, key.Public())
	if err != nil {
		f.Fatal(err)
	}
	plain := string(tlog.Checkpoint{Origin: origin, Size: 42, Root: make([]byte, 32)}.Marshal())
	for _, seed := range []string{plain, plain + "extension\n", plain + "\nx\n", plain + "a\nb\n", plain[:20]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			return
		}
		cp, err := tlog.OpenExtendedCheckpoint(raw, verifier)
		strict, strictErr := tlog.OpenCheckpoint(raw, verifier)
		switch {
		case err != nil && strictErr == nil:
			t.Errorf("%q is refused: %v", text, err)
		case err != nil:
		case !strings.HasPrefix(text, string(cp.Marshal())):
			t.Errorf("%q is read as %q", text, cp.Marshal())
		case (strictErr == nil) != (text == string(cp.Marshal())):
			t.Errorf("%q: the strict reader says %v, %v", text, strict, strictErr)
		}
	})
}

// A mutated entry never verifies unless it says exactly the same.
func FuzzUnmarshalEntry(f *testing.F) {
	log := newTwoEntries(f)
	good, err := tlog.MarshalEntry(log.entries[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"inclusionProof":{"checkpoint":null},"logId":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		entry, err := tlog.UnmarshalEntry(raw)
		if err != nil {
			return
		}
		if tlog.VerifyInclusion(entry, origin, log.key.Public()) != nil {
			return
		}
		again, err := tlog.MarshalEntry(entry)
		if err != nil {
			t.Fatal(err)
		}
		back, err := tlog.UnmarshalEntry(again)
		if err != nil || !proto.Equal(entry, back) {
			t.Errorf("entry does not survive marshalling: %v", err)
		}
		known := bytes.Equal(entry.GetCanonicalizedBody(), log.entries[0].GetCanonicalizedBody()) ||
			bytes.Equal(entry.GetCanonicalizedBody(), log.entries[1].GetCanonicalizedBody())
		if !known {
			t.Error("a body that was never logged verifies")
		}
	})
}

// A body of which a field is empty or names no algorithm has no canonical form
// that says so, and is refused however it is spelled.
func TestParseBodyEmptyFields(t *testing.T) {
	key, message := testauthority.NewECDSA(t), []byte("message")
	good, err := tlog.HashedRekordV002(key.Public(), message, testauthority.SignP256(t, key, message))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tlog.ParseBody(good); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{`"algorithm"`, `"digest"`, `"content"`, `"keyDetails"`, `"rawBytes"`} {
		at := bytes.Index(good, []byte(field)) + len(field) + len(`:"`)
		end := at + bytes.IndexByte(good[at:], '"')
		for _, value := range []string{"", "HASH_ALGORITHM_UNSPECIFIED", "PUBLIC_KEY_DETAILS_UNSPECIFIED", "0"} {
			changed := slices.Concat(good[:at], []byte(value), good[end:])
			if body, err := tlog.ParseBody(changed); !errors.Is(err, tlog.ErrBody) {
				t.Errorf("%s %q: %+v, %v", field, value, body, err)
			}
		}
	}
}
