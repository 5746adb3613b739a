package tlog_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/tlog"
)

const requestHash = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw="

func TestParseWitnessRequest(t *testing.T) {
	for name, test := range map[string]struct {
		raw string
		ok  bool
	}{
		"first":             {"old 0\n\ncp\n", true},
		"with a proof":      {"old 12\n" + requestHash + "\n\ncp\n", true},
		"longest proof":     {"old 12\n" + strings.Repeat(requestHash+"\n", 63) + "\ncp\n", true},
		"proof too long":    {"old 12\n" + strings.Repeat(requestHash+"\n", 64) + "\ncp\n", false},
		"no checkpoint":     {"old 12\n\n", false},
		"no empty line":     {"old 12\n" + requestHash + "\n", false},
		"leading zero":      {"old 012\n\ncp\n", false},
		"sign":              {"old +1\n\ncp\n", false},
		"two spaces":        {"old  1\n\ncp\n", false},
		"overflow":          {"old 18446744073709551616\n\ncp\n", false},
		"carriage return":   {"old 1\r\n\r\ncp\n", false},
		"short hash":        {"old 1\nAAAA\n\ncp\n", false},
		"base64 with slack": {"old 1\n" + strings.Replace(requestHash, "kaw=", "kax=", 1) + "\n\ncp\n", false},
		"empty":             {"", false},
		"too large":         {"old 1\n\n" + strings.Repeat("x", tlog.WitnessRequestBytes), false},
	} {
		r, err := tlog.ParseWitnessRequest([]byte(test.raw))
		switch {
		case test.ok && (err != nil || string(r.Marshal()) != test.raw):
			t.Errorf("%s: %v", name, err)
		case !test.ok && !errors.Is(err, tlog.ErrWitnessRequest):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseWitnessRequest: what parses marshals back to the same bytes.
func FuzzParseWitnessRequest(f *testing.F) {
	f.Add([]byte("old 0\n\ncp\n"))
	f.Add([]byte("old 12\n" + requestHash + "\n\nlog.example.com\n13\n" + requestHash + "\n\n— log.example.com AAAA\n"))
	f.Add([]byte("old 12\n" + requestHash + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := tlog.ParseWitnessRequest(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Marshal(), raw) {
			t.Errorf("%q became %q", raw, r.Marshal())
		}
	})
}

func TestVerifierKey(t *testing.T) {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, pub := range map[string]any{"Ed25519": ed, "ECDSA": ec.Public()} {
		vkey, err := tlog.MarshalVerifierKey("log.example.com", pub)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tlog.ParseVerifierKey(vkey)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := tlog.NewCheckpointVerifier("log.example.com", pub)
		if err != nil {
			t.Fatal(err)
		}
		if got.Name() != want.Name() || got.KeyHash() != want.KeyHash() {
			t.Errorf("%s: %s %08x, want %s %08x", name, got.Name(), got.KeyHash(), want.Name(), want.KeyHash())
		}
	}
}

// TestVerifierKeyRefuses: a witness's key is no log's (row E7: the type belongs
// to the key).
func TestVerifierKeyRefuses(t *testing.T) {
	_, good, err := note.GenerateKey(rand.Reader, "log.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tlog.ParseVerifierKey(good); err != nil {
		t.Fatalf("control: %v", err)
	}
	name, id, key := cut3(good)
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	witness := append([]byte{0x04}, raw[1:]...)
	for what, vkey := range map[string]string{
		"empty": "", "no id": name + "+" + key, "other id": name + "+00000000+" + key, "no name": "+" + id + "+" + key,
		"id not hexadecimal": name + "+0000000g+" + key, "witness": name + "+" + id + "+" + base64.StdEncoding.EncodeToString(witness),
		"no key": name + "+" + id + "+", "ECDSA garbage": name + "+" + id + "+" + base64.StdEncoding.EncodeToString([]byte{0x02, 1, 2}),
		"long": strings.Repeat("x", 2000) + "+" + id + "+" + key,
	} {
		if _, err := tlog.ParseVerifierKey(vkey); !errors.Is(err, tlog.ErrVerifierKey) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func cut3(vkey string) (name, id, key string) {
	parts := strings.SplitN(vkey, "+", 3)
	return parts[0], parts[1], parts[2]
}
