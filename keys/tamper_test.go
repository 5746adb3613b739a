package keys_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
)

// put overwrites a row as somebody with the database in hands would.
func (b *bench) put(t *testing.T, name string, body []byte) {
	t.Helper()
	o, err := b.objects.Get(t.Context(), "key", name)
	if err != nil {
		t.Fatal(err)
	}
	o.Body = body
	if _, err := b.objects.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) body(t *testing.T, name string) []byte {
	t.Helper()
	o, err := b.objects.Get(t.Context(), "key", name)
	if err != nil {
		t.Fatal(err)
	}
	return o.Body
}

// refused checks that no door lets a row through.
func (b *bench) refused(t *testing.T, what, name string) {
	t.Helper()
	ctx := t.Context()
	b.clock.advance(keys.Staleness)
	for door, open := range map[string]func() error{
		"Get":    func() error { _, err := b.Get(ctx, name); return err },
		"List":   func() error { _, _, err := b.List(ctx, store.Page{Limit: 10}); return err },
		"Sign":   func() error { _, err := b.Sign(ctx, name, nil); return err },
		"Signer": func() error { _, err := b.Signer(ctx, name); return err },
		"Rotate": func() error { _, err := b.Rotate(ctx, name); return err },
		"Resume": func() error { _, err := b.Resume(ctx, name); return err },
		"Open": func() error {
			_, err := keys.Open(ctx, keys.Config{Objects: b.objects, Master: b.master, Clock: b.clock})
			return err
		},
	} {
		if err := open(); !errors.Is(err, keys.ErrSealed) {
			t.Errorf("%s: %s lets it pass: %v", what, door, err)
		}
	}
}

// TestEditedRows changes what is not secret in the way that would profit an
// intruder.
func TestEditedRows(t *testing.T) {
	for what, edit := range map[string]func(string) string{
		"revived":          func(s string) string { return strings.Replace(s, `"state":"compromised"`, `"state":"active"`, 1) },
		"another purpose":  func(s string) string { return strings.Replace(s, `"purposes":["sign"]`, `"purposes":["log"]`, 1) },
		"another name":     func(s string) string { return strings.Replace(s, `"name":"release"`, `"name":"nightly"`, 1) },
		"no revocation":    func(s string) string { return strings.Replace(s, `"revokedAt"`, `"suspendedAt"`, 1) },
		"algorithm":        func(s string) string { return strings.Replace(s, `"ecdsa-p256"`, `"ecdsa-p384"`, 1) }, // E7
		"unknown field":    func(s string) string { return strings.Replace(s, `{"record":`, `{"x":1,"record":`, 1) },
		"second record":    func(s string) string { return strings.Replace(s, `{"record":`, `{"record":{},"record":`, 1) },
		"not JSON":         func(string) string { return "x" },
		"empty":            func(string) string { return "" },
		"empty document":   func(string) string { return "{}" },
		"white space":      func(s string) string { return strings.Replace(s, `{"format"`, `{ "format"`, 1) },
		"empty mac":        func(s string) string { return s[:strings.Index(s, `"mac"`)] + `"mac":""}` },
		"document of null": func(string) string { return `{"record":null,"mac":null}` },
	} {
		t.Run(what, func(t *testing.T) {
			b := open(t)
			b.create(t, "release", "")
			if _, err := b.Revoke(t.Context(), "release", "lost", nil); err != nil {
				t.Fatal(err)
			}
			before := string(b.body(t, "release"))
			after := edit(before)
			if after == before {
				t.Fatal("the edit changes nothing")
			}
			b.put(t, "release", []byte(after))
			b.refused(t, what, "release")
		})
	}
}

// TestFlippedBits flips bits all over the row.
func TestFlippedBits(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", keys.Ed25519)
	good := b.body(t, "release")
	for i := 0; i < len(good); i += 7 {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		b.put(t, "release", bad)
		if _, err := b.Get(ctx, "release"); !errors.Is(err, keys.ErrSealed) {
			t.Fatalf("bit %d of byte %d: %v", i%8, i, err)
		}
	}
}

// TestSwappedRows exchanges whole rows, which are authentic each in its place.
func TestSwappedRows(t *testing.T) {
	ctx, b := t.Context(), open(t)
	b.create(t, "release", "")
	b.create(t, "nightly", "")
	release, nightly := b.body(t, "release"), b.body(t, "nightly")
	b.put(t, "release", nightly)
	b.put(t, "nightly", release)
	b.refused(t, "swapped", "release")
	b.refused(t, "swapped", "nightly")

	// Put back, the same bytes are refused too: the row has moved on by
	// revisions that the record does not know. A replayed older row therefore
	// fails unless its revision is put back with it.
	b.put(t, "release", release)
	if _, err := b.Get(ctx, "release"); !errors.Is(err, keys.ErrSealed) {
		t.Errorf("a replayed row: %v", err)
	}
	b.create(t, "control", "")
	if _, err := b.Get(ctx, "control"); err != nil {
		t.Errorf("control: %v", err)
	}
}

// TestSwappedBoxes exchanges single sealed keys between authentic rows.
func TestSwappedBoxes(t *testing.T) {
	for _, box := range []string{"sealed", "dataKey", "privateKey"} {
		b := open(t)
		b.create(t, "release", "")
		b.create(t, "nightly", "")
		var docs [2]map[string]any
		for i, name := range []string{"release", "nightly"} {
			if err := json.Unmarshal(b.body(t, name), &docs[i]); err != nil {
				t.Fatal(err)
			}
		}
		version := func(d map[string]any) map[string]any {
			return d["record"].(map[string]any)["versions"].([]any)[0].(map[string]any)
		}
		to, from := version(docs[0]), version(docs[1])
		if box != "sealed" {
			to, from = to["sealed"].(map[string]any), from["sealed"].(map[string]any)
		}
		to[box] = from[box]
		body, err := json.Marshal(docs[0])
		if err != nil {
			t.Fatal(err)
		}
		b.put(t, "release", body)
		b.refused(t, fmt.Sprintf("swapped %s", box), "release")
	}
}
