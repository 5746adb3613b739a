package verifier_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/verifier"
)

// memoryExceptions keeps the law of Exceptions: a change makes the revision of
// the policies grow.
type memoryExceptions struct {
	w    *world
	list []*policy.Exception
	err  error
}

func (m *memoryExceptions) Exceptions(context.Context) ([]*policy.Exception, error) {
	return m.list, m.err
}

// put adds an exception to a policy for a digest or, with a slash, for images.
func (m *memoryExceptions) put(name, policyName, scope string, until time.Time) {
	m.w.t.Helper()
	field := "digests"
	if strings.Contains(scope, "/") {
		field = "images"
	}
	e, err := policy.ParseException(fmt.Appendf(nil, `{%q:[%q],"policy":%q,"reason":"INC-1: a reason","expiresAt":%q}`, field, scope, policyName, until.Format(time.RFC3339)))
	if err != nil {
		m.w.t.Fatal(err)
	}
	e.Name = name
	m.list = append(m.list, e)
	m.touch()
}

func (m *memoryExceptions) touch() {
	m.w.policies.mu.Lock()
	defer m.w.policies.mu.Unlock()
	m.w.policies.revision++
}

func exceptedWorld(t *testing.T) (*world, *memoryExceptions) {
	t.Helper()
	m := &memoryExceptions{}
	w := newWorld(t, func(c *verifier.Config) {
		c.Exceptions, c.FailedTTL, c.PublicURL = m, time.Minute, "https://sign.example.com"
	})
	m.w = w
	return w, m
}

// An exception makes an unsigned image pass: the answer and the decision name
// it, and nothing else is helped.
func TestException(t *testing.T) {
	w, m := exceptedWorld(t)
	digest, image := w.image("unsigned")
	_, other := w.image("another")
	w.wantFailed(image, policy.NoSignature) // control, and it is remembered
	until := w.now.Load().Add(time.Hour)
	m.put("inc-1", "production", digest.String(), until)

	r := w.wantPassed(image)
	if len(r.Reasons) != 1 || r.Reasons[0].Code != policy.Excepted || r.Reasons[0].Policy != "production" ||
		!strings.Contains(r.Reasons[0].Message, "inc-1 until "+until.Format(time.RFC3339)+": INC-1: a reason (without it: no_signature)") {
		t.Errorf("reasons %+v", r.Reasons)
	}
	p := r.Policies[0]
	if p.Verdict != policy.Passed || p.Exception == nil || p.Exception.Name != "inc-1" || !p.Exception.ExpiresAt.Equal(until) ||
		p.Requirements[0].Verdict != policy.Failed || p.Requirements[0].Reasons[0].Code != policy.NoSignature {
		t.Errorf("policy %+v", p)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "inc-1") {
		t.Errorf("warnings %v", r.Warnings)
	}
	kept := w.archive.decisions[len(w.archive.decisions)-1]
	var result verifier.Result
	if err := json.Unmarshal(kept.Result, &result); err != nil || result.Policies[0].Exception == nil || result.Reasons[0].Code != policy.Excepted {
		t.Errorf("decision %s: %v", kept.Result, err)
	}
	if _, err := w.Summary(r); !errors.Is(err, verifier.ErrNoSummary) {
		t.Errorf("a summary of an excepted image: %v", err)
	}
	w.wantFailed(other, policy.NoSignature)
}

// Row J3: an exception counts for no question after its end, though the verdict
// is remembered, and after its removal for none at all.
func TestJ3ExceptionEnds(t *testing.T) {
	w, m := exceptedWorld(t)
	digest, image := w.image("unsigned")
	start := *w.now.Load()
	m.put("inc-1", "production", digest.String(), start.Add(10*time.Second))
	if w.wantPassed(image); !w.wantPassed(image).Cached {
		t.Error("the verdict is not remembered")
	}
	w.setNow(start.Add(10 * time.Second))
	w.wantFailed(image, policy.NoSignature)

	m.put("inc-2", "production", digest.String(), start.Add(time.Hour))
	w.wantPassed(image)
	m.list = nil
	m.touch()
	w.wantFailed(image, policy.NoSignature)
}

// What an exception never helps: each beside the same image with nothing but
// the signature missing, which it does help.
func TestNeverExcepted(t *testing.T) {
	for name, tc := range map[string]struct {
		harm func(w *world, image string)
		want policy.Code
	}{
		"key_revoked": {func(w *world, _ string) {
			w.keys.version("release", func(v *keys.Version) { v.RevokedAt = w.now.Load() })
		}, policy.KeyRevoked},
		"digest_mismatch": {func(w *world, image string) {
			ref, _ := registry.ParseReference(image)
			w.registry.lie[ref.Digest] = []byte(`{"schemaVersion":2,"config":{},"layers":[]}`)
		}, policy.DigestMismatch},
		"registry_not_trusted": {func(w *world, _ string) {
			w.registry.before = func(context.Context, registry.Reference) error { return registry.ErrNotListed }
		}, policy.RegistryNotTrusted},
		"registry_unavailable": {func(w *world, _ string) {
			w.registry.beforeRead = func(context.Context, registry.Reference) error { return registry.ErrUnavailable }
		}, policy.RegistryUnavailable},
		"no_policy, row F7": {func(w *world, _ string) {
			w.policies.put(w.t, strings.Replace(releasePolicy, "registry.example.com/**", "registry.example.com/elsewhere/**", 1))
		}, policy.NoPolicy},
		"policy_error": {func(w *world, _ string) {
			w.policies.put(w.t, strings.Replace(releasePolicy, "name: release", "name: gone", 1))
		}, policy.PolicyError},
	} {
		t.Run(name, func(t *testing.T) {
			w, m := exceptedWorld(t)
			digest, image := w.image("app")
			m.put("inc-1", "production", digest.String(), w.now.Load().Add(time.Hour))
			w.wantPassed(image) // control: unsigned, and excepted
			w.attachBundle(digest, w.authority.Bundle(digest, w.key, w.signedAt).JSON())
			tc.harm(w, image)
			m.touch()
			w.wantFailed(image, tc.want)
		})
	}
}

// Exceptions that cannot be read are no exceptions and no permission either.
func TestUnreadableExceptions(t *testing.T) {
	w, m := exceptedWorld(t)
	_, image := w.image("app")
	m.err = errors.New("broken")
	if _, err := w.Verify(t.Context(), verifier.Request{Images: []string{image}}); !errors.Is(err, verifier.ErrPolicies) {
		t.Errorf("%v", err)
	}
}

// An exception to one policy leaves the others as they are, and to one in mode
// warn silences its warning by saying so.
func TestExceptionIsToOnePolicy(t *testing.T) {
	w, m := exceptedWorld(t)
	w.policies.put(t, strings.Replace(releasePolicy, "name: production", "name: base", 1))
	digest, image := w.image("app")
	m.put("inc-1", "production", repository, w.now.Load().Add(time.Hour))
	if r := w.wantFailed(image, policy.NoSignature); r.Reasons[0].Policy != "base" || len(r.Reasons) != 1 {
		t.Errorf("reasons %+v", r.Reasons)
	}
	m.put("inc-2", "base", digest.String(), w.now.Load().Add(time.Hour))
	w.wantPassed(image) // control
	w.policies.put(t, strings.NewReplacer("name: production", "name: base", "enforce", "warn").Replace(releasePolicy))
	if r := w.wantPassed(image); len(r.Reasons) != 1 || len(r.Warnings) != 2 {
		t.Errorf("reasons %v, warnings %v", r.Reasons, r.Warnings)
	}
}
