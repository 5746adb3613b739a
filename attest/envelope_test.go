package attest_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
)

// The example of DSSE protocol.md, and the edges of its length prefix.
func TestPAE(t *testing.T) {
	tests := []struct{ payloadType, payload, want string }{
		{"http://example.com/HelloWorld", "hello world", "DSSEv1 29 http://example.com/HelloWorld 11 hello world"},
		{"", "", "DSSEv1 0  0 "},
		{"ü", " \n", "DSSEv1 2 ü 2  \n"},
	}
	for _, tt := range tests {
		if got := string(attest.PAE(tt.payloadType, []byte(tt.payload))); got != tt.want {
			t.Errorf("PAE = %q, want %q", got, tt.want)
		}
	}
}

const envelopeJSON = `{"payloadType":"application/vnd.in-toto+json","payload":"aGVsbG8=","signatures":[{"keyid":"k","sig":"c2ln"},{"sig":"c2lnMg=="}]}`

func TestParseEnvelope(t *testing.T) {
	got, err := attest.ParseEnvelope([]byte(envelopeJSON))
	if err != nil {
		t.Fatal(err)
	}
	want := attest.Envelope{
		PayloadType: attest.PayloadTypeInToto,
		Payload:     []byte("hello"),
		Signatures: []attest.EnvelopeSignature{
			{KeyID: "k", Signature: []byte("sig")},
			{Signature: []byte("sig2")},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	b, err := got.Marshal()
	if err != nil || string(b) != envelopeJSON {
		t.Errorf("Marshal = %s, %v", b, err)
	}
}

// Rows A9 (one reading), D7 (empty signatures), H2 (counts), H7 (null).
func TestParseEnvelopeRefuses(t *testing.T) {
	many := strings.Repeat(`{"sig":"c2ln"},`, limits.EnvelopeSignatures)
	tests := []struct{ name, old, new string }{
		{"A9 duplicate payload", `"payload":"aGVsbG8="`, `"payload":"aGVsbG8=","payload":"aGVsbG8="`},
		{"A9 another case", `"payload":`, `"Payload":`},
		{"A9 both cases", `"payload":`, `"Payload":"eA==","payload":`},
		{"A9 unknown field", `"payload":`, `"extra":1,"payload":`},
		{"A9 unpadded", `"aGVsbG8="`, `"aGVsbG8"`},
		{"A9 line break", `"aGVsbG8="`, `"aGVs\nbG8="`},
		{"A9 trailing bits", `"aGVsbG8="`, `"aGVsbG9="`},
		{"A9 URL alphabet", `"aGVsbG8="`, `"-_-_"`},
		{"A9 data after", `]}`, `]}{}`},
		{"H7 null payload", `"aGVsbG8="`, `null`},
		{"H7 null type", `"application/vnd.in-toto+json"`, `null`},
		{"H7 null signature", `{"keyid":"k","sig":"c2ln"}`, `null`},
		{"H7 null sig", `"c2ln"`, `null`},
		{"H7 null keyid", `"k"`, `null`},
		{"D7 empty signature", `"c2ln"`, `""`},
		{"D7 no signature", `"sig":"c2lnMg=="`, ``},
		{"no payload", `"payload":"aGVsbG8=",`, ``},
		{"empty payload", `"aGVsbG8="`, `""`},
		{"no type", `"payloadType":"application/vnd.in-toto+json",`, ``},
		{"empty type", `"application/vnd.in-toto+json"`, `""`},
		{"D7 no signatures", `[{"keyid":"k","sig":"c2ln"},{"sig":"c2lnMg=="}]`, `[]`},
		{"H2 too many signatures", `[{`, `[` + many + `{`},
		{"wrong type", `"aGVsbG8="`, `[]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(envelopeJSON, tt.old, tt.new, 1)
			if text == envelopeJSON {
				t.Fatalf("the control has no %q", tt.old)
			}
			e, err := attest.ParseEnvelope([]byte(text))
			if !errors.Is(err, attest.ErrEnvelope) || cmp.Diff(attest.Envelope{}, e) != "" {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
	large := fmt.Sprintf(`{"payloadType":"t","payload":%q,"signatures":[{"sig":"c2ln"}]}`, strings.Repeat("A", limits.Bundle))
	if _, err := attest.ParseEnvelope([]byte(large)); !errors.Is(err, attest.ErrEnvelope) {
		t.Errorf("H2 too large: %v", err)
	}
}

// What parses marshals back to an equal envelope and, from then on, to the
// same bytes.
func FuzzParseEnvelope(f *testing.F) {
	f.Add([]byte(envelopeJSON))
	f.Add([]byte(`{"payloadType":"\u0074","payload":"AA==","signatures":[{"keyid":"","sig":"AA=="}]}`))
	f.Add([]byte(`{"signatures":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := attest.ParseEnvelope(b)
		if err != nil {
			if !errors.Is(err, attest.ErrEnvelope) || cmp.Diff(attest.Envelope{}, e) != "" {
				t.Fatalf("%+v, %v", e, err)
			}
			return
		}
		marshalled, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := attest.ParseEnvelope(marshalled)
		if err != nil || cmp.Diff(e, again) != "" {
			t.Fatalf("%s: %v %s", marshalled, err, cmp.Diff(e, again))
		}
		if twice, err := again.Marshal(); err != nil || !bytes.Equal(twice, marshalled) {
			t.Fatalf("%s, then %s: %v", marshalled, twice, err)
		}
	})
}
