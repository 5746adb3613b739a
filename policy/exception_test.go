package policy_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/policy"
)

const digestException = `
digests: ["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
policy: production
reason: "INC-1: the scanner is down"
expiresAt: "2026-12-01T00:00:00Z"
`

func TestParseException(t *testing.T) {
	digests := `digests: ["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]`
	images := func(pattern string) [2]string { return [2]string{digests, `images: ["` + pattern + `"]`} }
	for _, tc := range []struct {
		name   string
		change [2]string
		ok     bool
	}{
		{"as it is", [2]string{}, true},
		{"images", images("r.example/team/app"), true},
		{"images below a team", images("r.example/team/**"), true},
		{"every image of a host", images("r.example/**"), false},
		{"one segment of a host", images("r.example/*"), false},
		{"part of a first segment", images("r.example/te*/app"), false},
		{"every host", images("**"), false},
		{"a host by a wildcard", images("*.example/team/app"), false},
		{"no scope", [2]string{digests, ""}, false},
		{"an empty scope", [2]string{digests, "digests: []"}, false},
		{"both scopes", [2]string{digests, digests + "\nimages: [r.example/team/app]"}, false},
		{"a digest in another spelling", [2]string{"sha256:a", "SHA256:a"}, false},
		{"a short digest", [2]string{"sha256:a", "sha256:"}, false},
		{"no reason", [2]string{`"INC-1: the scanner is down"`, `" "`}, false},
		{"a reason of two lines", [2]string{"INC-1:", `INC-1\n`}, false},
		{"a reason with an escape", [2]string{"INC-1:", `INC-1\e[2J`}, false},
		{"a long reason", [2]string{"INC-1:", strings.Repeat("x", 600)}, false},
		{"no policy", [2]string{"policy: production", `policy: ""`}, false},
		{"no end", [2]string{`expiresAt: "2026-12-01T00:00:00Z"`, ""}, false},
		{"an end without a time", [2]string{"2026-12-01T00:00:00Z", "2026-12-01"}, false},
		{"an unknown field", [2]string{"policy: production", "policy: production\nallowRevoked: true"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := digestException
			if tc.change[0] != "" {
				text = strings.Replace(text, tc.change[0], tc.change[1], 1)
			}
			e, err := policy.ParseException([]byte(text))
			if (err == nil) != tc.ok || err != nil && (e != nil || !errors.Is(err, policy.ErrException)) {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

func TestExceptionCovers(t *testing.T) {
	mustParse := func(text string) *policy.Exception {
		e, err := policy.ParseException([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a := policy.Image{Registry: "r.example", Repository: "team/app", Digest: "sha256:" + strings.Repeat("a", 64)}
	b := policy.Image{Registry: "r.example", Repository: "team/app", Digest: "sha256:" + strings.Repeat("b", 64)}
	end := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	before := end.Add(-time.Nanosecond)
	byDigest := mustParse(digestException)
	byImage := mustParse(strings.Replace(digestException, `digests: ["`+a.Digest+`"]`, `images: ["r.example/team/*"]`, 1))
	for name, tc := range map[string]struct {
		e      *policy.Exception
		policy string
		image  policy.Image
		at     time.Time
		want   bool
	}{
		"its digest":                {byDigest, "production", a, before, true},
		"at its end":                {byDigest, "production", a, end, false},
		"another digest":            {byDigest, "production", b, before, false},
		"another policy":            {byDigest, "base", a, before, false},
		"its repository":            {byImage, "production", b, before, true},
		"a repository below":        {byImage, "production", policy.Image{Registry: "r.example", Repository: "team/app/x", Digest: a.Digest}, before, false},
		"one that was not parsed":   {&policy.Exception{Policy: "production", Digests: []string{a.Digest}, ExpiresAt: end}, "production", a, before, false},
		"an image without a digest": {byDigest, "production", policy.Image{}, before, false},
	} {
		if got := tc.e.Covers(tc.policy, tc.image, tc.at); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What was not judged, and a code that nobody thought of, is not excused.
func TestExcusable(t *testing.T) {
	failed := func(codes ...policy.Code) policy.RequirementResult {
		r := policy.RequirementResult{Verdict: policy.Failed}
		for _, c := range codes {
			r.Reasons = append(r.Reasons, policy.Reason{Code: c})
		}
		return r
	}
	held := policy.RequirementResult{Verdict: policy.Passed}
	for name, tc := range map[string]struct {
		in   []policy.RequirementResult
		want bool
	}{
		"unsigned":                  {[]policy.RequirementResult{failed(policy.NoSignature)}, true},
		"one of two":                {[]policy.RequirementResult{held, failed(policy.AttestationTooOld)}, true},
		"nothing required":          {nil, false},
		"nothing failed":            {[]policy.RequirementResult{held}, false},
		"no reason":                 {[]policy.RequirementResult{failed()}, false},
		"a revoked key":             {[]policy.RequirementResult{failed(policy.KeyRevoked)}, false},
		"a revoked key beside":      {[]policy.RequirementResult{failed(policy.NoSignature), failed(policy.AttestationMissing, policy.KeyRevoked)}, false},
		"another digest":            {[]policy.RequirementResult{failed(policy.DigestMismatch)}, false},
		"a registry that is down":   {[]policy.RequirementResult{failed(policy.RegistryUnavailable)}, false},
		"too late":                  {[]policy.RequirementResult{failed(policy.DeadlineExceeded)}, false},
		"too much":                  {[]policy.RequirementResult{failed(policy.LimitExceeded)}, false},
		"a policy that is broken":   {[]policy.RequirementResult{failed(policy.PolicyError)}, false},
		"a code of a later version": {[]policy.RequirementResult{failed("brand_new")}, false},
	} {
		if got := policy.Excusable(tc.in); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What parses marshals to a canonical document that parses to the same one.
func FuzzParseException(f *testing.F) {
	f.Add([]byte(digestException))
	f.Add([]byte(`{"images":["r.example/team/**"],"policy":"p","reason":"r","expiresAt":"2026-12-01T00:00:00.5+01:00"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := policy.ParseException(b)
		if err != nil {
			if e != nil || !errors.Is(err, policy.ErrException) {
				t.Fatalf("%v, %v", e, err)
			}
			return
		}
		again, err := policy.ParseException(e.Document())
		if err != nil || !bytes.Equal(again.Document(), e.Document()) || !again.ExpiresAt.Equal(e.ExpiresAt) {
			t.Fatalf("%s\n%v", e.Document(), err)
		}
	})
}
