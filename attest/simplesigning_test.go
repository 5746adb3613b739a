package attest_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/sigstore/pkg/signature/payload"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
)

// What cosign v2.6.5 signed for this digest (`--output-payload`), without
// annotations and with `-a git.sha=abc -a z=<&>`.
const (
	legacyPlain     = `{"critical":{"identity":{"docker-reference":"127.0.0.1:5977/team/app"},"image":{"docker-manifest-digest":"sha256:` + appHex + `"},"type":"cosign container image signature"},"optional":null}`
	legacyAnnotated = `{"critical":{"identity":{"docker-reference":"127.0.0.1:5977/team/app"},"image":{"docker-manifest-digest":"sha256:` + appHex + `"},"type":"cosign container image signature"},"optional":{"git.sha":"abc","z":"\u003c\u0026\u003e"}}`
)

func TestSimpleSigningIsCosigns(t *testing.T) {
	for want, annotations := range map[string]map[string]string{
		legacyPlain:     nil,
		legacyAnnotated: {"z": "<&>", "git.sha": "abc"},
	} {
		got, err := attest.SimpleSigning("127.0.0.1:5977/team/app", appDigest(t), annotations)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Error(diff)
		}
		var theirs payload.Cosign
		if err := json.Unmarshal(got, &theirs); err != nil {
			t.Error(err)
		}
	}
	empty, err := attest.SimpleSigning("127.0.0.1:5977/team/app", appDigest(t), map[string]string{})
	if err != nil || string(empty) != legacyPlain {
		t.Errorf("%s, %v", empty, err)
	}
}

func TestSimpleSigningRefuses(t *testing.T) {
	if _, err := attest.SimpleSigning("", appDigest(t), nil); !errors.Is(err, attest.ErrSimpleSigning) {
		t.Errorf("no reference: %v", err)
	}
	if _, err := attest.SimpleSigning("r.example/x", attest.Digest{}, nil); !errors.Is(err, attest.ErrSimpleSigning) {
		t.Errorf("no digest: %v", err)
	}
	long := map[string]string{"a": strings.Repeat("x", limits.AnnotationBytes)}
	if _, err := attest.SimpleSigning("r.example/x", appDigest(t), long); !errors.Is(err, attest.ErrAnnotations) {
		t.Errorf("annotations: %v", err)
	}
}

func TestParseSimpleSigning(t *testing.T) {
	got, err := attest.ParseSimpleSigning([]byte(legacyAnnotated))
	if err != nil {
		t.Fatal(err)
	}
	want := attest.SimpleSigningPayload{
		DockerReference: "127.0.0.1:5977/team/app",
		Digest:          appDigest(t),
		Optional:        map[string]json.RawMessage{"git.sha": json.RawMessage(`"abc"`), "z": json.RawMessage(`"<&>"`)},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(attest.Digest{}), equalJSON()); diff != "" {
		t.Error(diff)
	}
	without := strings.Replace(legacyPlain, `,"optional":null`, ``, 1)
	for _, text := range []string{legacyPlain, without} {
		p, err := attest.ParseSimpleSigning([]byte(text))
		if err != nil || p.Optional != nil || p.Digest != appDigest(t) {
			t.Errorf("%+v, %v", p, err)
		}
	}
}

// Rows A9, H7; every case edits cosign's own payload once.
func TestParseSimpleSigningRefuses(t *testing.T) {
	tests := []struct{ name, old, new string }{
		{"A9 duplicate critical", `{"critical"`, `{"critical":{},"critical"`},
		{"A9 duplicate digest", `"image":{`, `"image":{"docker-manifest-digest":"sha256:` + strings.Repeat("0", 64) + `",`},
		{"A9 digest in another case", `"image":{`, `"image":{"Docker-Manifest-Digest":"sha256:` + strings.Repeat("0", 64) + `",`},
		{"A9 critical in another case", `"critical":`, `"Critical":`},
		{"A9 trailing data", `"optional":null}`, `"optional":null}x`},
		{"unknown critical", `"type":`, `"expires":"2020","type":`},
		{"unknown field", `"optional":null`, `"optional":null,"more":1`},
		{"another type", `cosign container image signature`, `atomic container signature`},
		{"type missing", `,"type":"cosign container image signature"`, ``},
		{"H7 null critical", `"critical":{"identity":{"docker-reference":"127.0.0.1:5977/team/app"},"image":{"docker-manifest-digest":"sha256:` + appHex + `"},"type":"cosign container image signature"}`, `"critical":null`},
		{"H7 null identity", `{"docker-reference":"127.0.0.1:5977/team/app"}`, `null`},
		{"H7 null reference", `"127.0.0.1:5977/team/app"`, `null`},
		{"H7 null image", `{"docker-manifest-digest":"sha256:` + appHex + `"}`, `null`},
		{"H7 null digest", `"sha256:` + appHex + `"`, `null`},
		{"H7 null type", `"cosign container image signature"`, `null`},
		{"no identity", `{"docker-reference":"127.0.0.1:5977/team/app"}`, `{}`},
		{"no digest", `{"docker-manifest-digest":"sha256:` + appHex + `"}`, `{}`},
		{"A9 uppercase digest", appHex, strings.ToUpper(appHex)},
		{"digest of another algorithm", `sha256:`, `sha512:`},
		{"empty digest", `sha256:` + appHex, ``},
		{"optional is no object", `"optional":null`, `"optional":[]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(legacyPlain, tt.old, tt.new, 1)
			if text == legacyPlain {
				t.Fatalf("the control has no %q", tt.old)
			}
			p, err := attest.ParseSimpleSigning([]byte(text))
			if !errors.Is(err, attest.ErrSimpleSigning) || !p.Digest.IsZero() {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
	large := strings.Replace(legacyPlain, "null", strings.Repeat(" ", limits.Bundle)+"null", 1)
	if _, err := attest.ParseSimpleSigning([]byte(large)); !errors.Is(err, attest.ErrSimpleSigning) {
		t.Errorf("H2 too large: %v", err)
	}
}

// What parses and has annotations of text marshals back to an equal payload.
func FuzzParseSimpleSigning(f *testing.F) {
	f.Add([]byte(legacyPlain))
	f.Add([]byte(legacyAnnotated))
	f.Add([]byte(strings.Replace(legacyPlain, "null", `{"n":1,"x":null,"":""}`, 1)))
	f.Add([]byte(`{"critical":{"identity":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := attest.ParseSimpleSigning(b)
		if err != nil {
			if !errors.Is(err, attest.ErrSimpleSigning) {
				t.Fatal(err)
			}
			return
		}
		annotations := make(map[string]string)
		for k, raw := range p.Optional {
			var v string
			if k == "" || json.Unmarshal(raw, &v) != nil || string(raw) == "null" {
				return
			}
			annotations[k] = v
		}
		if p.DockerReference == "" || attest.CheckAnnotations(annotations) != nil {
			return
		}
		written, err := attest.SimpleSigning(p.DockerReference, p.Digest, annotations)
		if err != nil {
			t.Fatal(err)
		}
		again, err := attest.ParseSimpleSigning(written)
		if len(p.Optional) == 0 {
			p.Optional = nil
		}
		if diff := cmp.Diff(p, again, cmp.AllowUnexported(attest.Digest{}), equalJSON()); err != nil || diff != "" {
			t.Fatalf("%s: %v %s", written, err, diff)
		}
	})
}
