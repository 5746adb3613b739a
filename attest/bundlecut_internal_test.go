package attest

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/internal/strictjson"
)

// longPayload has an encoding with padding.
func longPayload() []byte { return append(bytes.Repeat([]byte("payload?"), largePayload/8+1), '!') }

// large is a bundle with a payload that is cut out.
func large(tb testing.TB) string {
	tb.Helper()
	raw, err := NewBundle(NewBundleInput{
		PayloadType: PayloadTypeInToto, Payload: longPayload(), Signature: []byte("signature"), KeyHint: "hint",
	})
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

// sameReading holds the short way against the long one: both read the same
// bundle or both refuse.
func sameReading(t *testing.T, raw []byte) (read bool) {
	t.Helper()
	if strictjson.Check(raw) != nil {
		return false
	}
	long, longErr := unmarshalChecked(raw)
	short, shortErr := unmarshalCut(raw)
	if (longErr == nil) != (shortErr == nil) || longErr == nil && !proto.Equal(long, short) {
		t.Fatalf("the whole: %v; cut: %v, %.200s", longErr, shortErr, raw)
	}
	return longErr == nil
}

func TestLargePayloads(t *testing.T) {
	control := large(t)
	if _, _, ok := cutPayload([]byte(control)); !ok || !sameReading(t, []byte(control)) {
		t.Fatal("the control is not cut or not read")
	}
	text := base64.StdEncoding.EncodeToString(longPayload())
	for name, c := range map[string]struct {
		old, new string
		read     bool
	}{
		"URL alphabet":       {text, strings.ReplaceAll(text, "/", "_"), false},
		"no padding":         {text, strings.TrimRight(text, "="), false},
		"bits after the end": {text, strings.TrimRight(text, "=")[:len(strings.TrimRight(text, "="))-1] + "x" + strings.Repeat("=", strings.Count(text, "=")), false},
		"a line break":       {text, text[:4] + `\n` + text[4:], false},
		"an escape":          {text, `\u00` + "63" + text[1:], true},
		"not a string":       {`"` + text + `"`, "1" + strings.Repeat("0", 5000), false},
		"an object":          {`"` + text + `"`, `{"a":"` + text + `"}`, false},
		"another spelling":   {`"dsseEnvelope"`, `"dsse_envelope"`, false},
		"an unknown field":   {`"payload":`, `"payloads":1,"payload":`, false},
		"both contents":      {`"dsseEnvelope"`, `"messageSignature":{"signature":"AAAA"},"dsseEnvelope"`, false},
		"white space":        {`"payload":`, " \"payload\" : \n", true},
		"elsewhere as well":  {`"mediaType":`, `"payload":"` + text + `","mediaType":`, false},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(control, c.old, c.new, 1)
			if changed == control {
				t.Fatal("nothing was changed")
			}
			if read := sameReading(t, []byte(changed)); read != c.read {
				t.Errorf("read: %v, want %v", read, c.read)
			}
		})
	}
	if _, err := ParseBundle([]byte(strings.Replace(control, `"payload":`, `"payload":"AA==","payload":`, 1))); err == nil {
		t.Error("a payload given twice was read")
	}
}

func FuzzLargePayload(f *testing.F) {
	control := large(f)
	at := strings.Index(control, `"payload":"`)
	f.Add(control[:at], `"payload":"`, control[at+len(`"payload":"`)+largePayload:])
	f.Fuzz(func(t *testing.T, head, name, tail string) {
		sameReading(t, []byte(head+name+strings.Repeat("QUJD", largePayload/4)+tail))
	})
}

func BenchmarkParseLargeBundle(b *testing.B) {
	raw, err := NewBundle(NewBundleInput{
		PayloadType: PayloadTypeInToto, Payload: bytes.Repeat([]byte(`{"a":1}`), 750_000), Signature: []byte("signature"), KeyHint: "hint",
	})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			if _, err := unmarshalChecked(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cut", func(b *testing.B) {
		for b.Loop() {
			if _, err := unmarshalCut(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if err := strictjson.Check(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
