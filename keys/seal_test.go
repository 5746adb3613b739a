package keys

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/store"
)

func testMaster(t testing.TB) *Master {
	t.Helper()
	m, err := OpenMaster(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestBoxesOpenOnlyInTheirPlace is the associated data alone, without the
// record's MAC in front of it.
func TestBoxesOpenOnlyInTheirPlace(t *testing.T) {
	m := testMaster(t)
	private, err := ECDSAP256.generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := KeyID(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	home := place{name: "release", keyID: id, algorithm: ECDSAP256, purposes: []string{"sign"}, version: 1}
	box, err := m.seal(private, home, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.open(box, home); err != nil {
		t.Fatalf("control: %v", err)
	}
	other, err := m.seal(private, home, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	move := func(f func(*place)) place { p := home; f(&p); return p }
	for what, c := range map[string]struct {
		box *sealed
		at  place
	}{
		"another name":      {box, move(func(p *place) { p.name = "nightly" })},
		"another key id":    {box, move(func(p *place) { p.keyID = id[1:] + "0" })},
		"another version":   {box, move(func(p *place) { p.version = 2 })},
		"another purpose":   {box, move(func(p *place) { p.purposes = []string{"log"} })},
		"more purposes":     {box, move(func(p *place) { p.purposes = []string{"sign", "log"} })},
		"another algorithm": {box, move(func(p *place) { p.algorithm = ECDSAP384 })},
		"shifted fields":    {box, move(func(p *place) { p.name, p.keyID = "release"+id[:1], id[1:] })},
		"another data key":  {&sealed{DataKey: other.DataKey, PrivateKey: box.PrivateKey}, home},
		"exchanged boxes":   {&sealed{DataKey: box.PrivateKey, PrivateKey: box.DataKey}, home},
		"empty":             {&sealed{}, home},
	} {
		if _, err := m.open(c.box, c.at); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := testMaster(t).open(box, home); !errors.Is(err, ErrSealed) {
		t.Errorf("another master key: %v", err)
	}
}

// TestAuthenticRecordThatContradictsItself: even under a good MAC the halves,
// key ids and algorithm must agree. E7
func TestAuthenticRecordThatContradictsItself(t *testing.T) {
	m := testMaster(t)
	r := &Ring{master: m, rand: rand.Reader}
	fresh := func() record {
		rec := record{Name: "release", Algorithm: ECDSAP256, Backend: BackendFile, Purposes: []string{PurposeSign}}
		private, err := ECDSAP256.generate(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.addVersion(&rec, private, Active, rec.CreatedAt); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	load := func(rec record) error {
		o, err := m.encode(rec)
		if err != nil {
			t.Fatal(err)
		}
		o.Revision++ // what the store does
		decoded, err := m.decode(o)
		if err != nil {
			return err
		}
		return r.fill(&slot{}, &decoded)
	}
	if err := load(fresh()); err != nil {
		t.Fatalf("control: %v", err)
	}
	stranger := fresh()
	for what, change := range map[string]func(*record){
		"algorithm":       func(rec *record) { rec.Algorithm = Ed25519 },
		"public half":     func(rec *record) { rec.Versions[0].Public = stranger.Versions[0].Public },
		"key id":          func(rec *record) { rec.Versions[0].KeyID = stranger.Versions[0].KeyID },
		"whole identity":  func(rec *record) { v := stranger.Versions[0]; v.Sealed = rec.Versions[0].Sealed; rec.Versions[0] = v },
		"sealed key":      func(rec *record) { rec.Versions[0].Sealed = stranger.Versions[0].Sealed },
		"no sealed key":   func(rec *record) { rec.Versions[0].Sealed = nil },
		"no public half":  func(rec *record) { rec.Versions[0].Public = "" },
		"two public ones": func(rec *record) { rec.Versions[0].Public += stranger.Versions[0].Public },
		"no version":      func(rec *record) { rec.Versions, rec.Current = nil, 0 },
		"current":         func(rec *record) { rec.Current = 2 },
		"number":          func(rec *record) { rec.Versions[0].Version = 7 },
		"state":           func(rec *record) { rec.Versions[0].State = "fine" },
	} {
		rec := fresh()
		change(&rec)
		if err := load(rec); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzRecord: no bytes but those the master key vouched for are a key.
func FuzzRecord(f *testing.F) {
	// A fixed master key: every fuzzing process must judge a seed alike.
	m, err := newMaster(make([]byte, masterSize))
	if err != nil {
		f.Fatal(err)
	}
	r := &Ring{master: m, rand: rand.Reader}
	rec := record{Name: "release", Algorithm: Ed25519, Backend: BackendFile, Purposes: []string{PurposeSign}}
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	if err := r.addVersion(&rec, private, Active, rec.CreatedAt); err != nil {
		f.Fatal(err)
	}
	o, err := m.encode(rec)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(o.Body)
	f.Add([]byte(`{"record":{},"mac":""}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := m.decode(store.Object{Kind: Kind, Name: "release", Revision: 1, Body: body})
		if err != nil && !errors.Is(err, ErrSealed) {
			t.Errorf("%v", err)
		}
		if err == nil && len(body) < len(o.Body) {
			t.Error("a shorter document is authentic")
		}
	})
}

// FuzzMaster: what parses is written back to the same bytes.
func FuzzMaster(f *testing.F) {
	path := filepath.Join(f.TempDir(), "master.key")
	if _, err := OpenMaster(path); err != nil {
		f.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(content))
	f.Add(masterPrefix)
	f.Fuzz(func(t *testing.T, content string) {
		secret, err := masterFile().parse("file", content)
		if (err == nil) != (secret != nil) {
			t.Error("a failed parse returns something")
		}
		if err == nil && masterFile().format(secret) != content {
			t.Error("two spellings of one key")
		}
	})
}
