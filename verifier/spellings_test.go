package verifier_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
)

// Spellings of one bundle that another reader could read otherwise (A9), each
// beside the good spelling.
func TestBundleSpellings(t *testing.T) {
	w := newWorld(t)
	digest, image := w.image("spelling")
	good := string(w.authority.Bundle(digest, w.key, w.signedAt).JSON())
	cases := map[string]string{
		"duplicate name":       strings.Replace(good, `"mediaType":`, `"mediaType":"x","mediaType":`, 1),
		"trailing data":        good + "{}",
		"truncated":            good[:len(good)-1],
		"message signature":    strings.Replace(good, `"dsseEnvelope"`, `"messageSignature"`, 1),
		"older version":        strings.Replace(good, "bundle.v0.3+json", "bundle.v0.2+json", 1),
		"null material":        `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":null,"dsseEnvelope":null}`,
		"array":                "[" + good + "]",
		"not JSON":             "\x00\x01",
		"empty":                "",
		"non-canonical base64": nonCanonical(t, good),
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			w.t = t
			other, failing := w.image("spelling " + name)
			text := strings.ReplaceAll(text, good, string(w.authority.Bundle(other, w.key, w.signedAt).JSON()))
			w.attachBundle(other, []byte(text))
			w.wantFailed(failing, policy.SignatureInvalid)
		})
	}
	w.t = t
	w.attachBundle(digest, []byte(good))
	w.wantPassed(image)
}

// nonCanonical changes unused trailing bits of a base64 value: the same bytes
// in another spelling.
func nonCanonical(t *testing.T, bundle string) string {
	t.Helper()
	const field = `"payload":"`
	i := strings.Index(strings.ReplaceAll(bundle, `"payload": "`, field), field)
	bundle = strings.ReplaceAll(bundle, `"payload": "`, field)
	if i < 0 {
		t.Fatal("no payload")
	}
	value, _, _ := strings.Cut(bundle[i+len(field):], `"`)
	var spelled string
	if strings.HasSuffix(value, "=") {
		spelled = strings.TrimRight(value, "=") // unpadded
	} else {
		spelled = value[:4] + "\\n" + value[4:]
	}
	if raw, err := base64.StdEncoding.DecodeString(value); err != nil || len(raw) == 0 {
		t.Fatal("payload is not base64")
	}
	return strings.Replace(bundle, value, spelled, 1)
}

// A9 for the annotations of a legacy signature: other spellings of the same
// values.
func TestLegacySpellings(t *testing.T) {
	cases := map[string]func(map[string]string){
		"line break in the signature": func(a map[string]string) {
			s := a[testauthority.LegacySignature]
			a[testauthority.LegacySignature] = s[:4] + "\n" + s[4:]
		},
		"space after the signature":  func(a map[string]string) { a[testauthority.LegacySignature] += " " },
		"no signature":               func(a map[string]string) { delete(a, testauthority.LegacySignature) },
		"duplicate name in the log":  double(testauthority.LegacyBundle, "Payload"),
		"unknown name in the log":    double(testauthority.LegacyBundle, "payload"),
		"duplicate name in the time": double(testauthority.LegacyTimestamp, "SignedRFC3161Timestamp"),
		"trailing data in the log":   func(a map[string]string) { a[testauthority.LegacyBundle] += "{}" },
		"null log":                   func(a map[string]string) { a[testauthority.LegacyBundle] = "null" },
		"empty log":                  func(a map[string]string) { a[testauthority.LegacyBundle] = "" },
		"empty timestamp":            func(a map[string]string) { a[testauthority.LegacyTimestamp] = "" },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			digest, image := w.image(name)
			d := w.authority.Legacy(digest, w.key, w.signedAt)
			annotations := d.Annotations()
			spoil(annotations)
			w.registry.attach(digest, registry.Attachment{
				Format: registry.FormatLegacy, Legacy: &registry.Legacy{Payload: d.Payload, Annotations: annotations},
			})
			if r := w.verify(image).Results[0]; r.Verdict != policy.Failed {
				t.Errorf("%+v", r)
			}
			w.attachLegacy(digest, d)
			w.setNow(w.now.Load().Add(time.Minute))
			w.wantPassed(image)
		})
	}
}

// double writes a member again in front of the others.
func double(annotation, name string) func(map[string]string) {
	return func(a map[string]string) {
		a[annotation] = strings.Replace(a[annotation], "{", `{"`+name+`":"",`, 1)
	}
}
