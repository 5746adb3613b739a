package signer_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/attest/predicate"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/signer"
)

// newSummaryConfig is that of a site with a key for summaries.
func newSummaryConfig(t testing.TB, s *site) signer.Config {
	t.Helper()
	must[keys.Key](t)(s.ring.Ensure(t.Context(), keys.Spec{Name: "vsa", Purposes: []string{keys.PurposeVSA}}))
	config := s.config()
	config.SummaryKey = "vsa"
	return config
}

// gatekeeper may ask for verdicts and has no grant.
func gatekeeper() identity.Identity {
	return identity.Identity{Issuer: identity.Local, Subject: "gate", Roles: []identity.Role{identity.Verifier}}
}

func summaryOf(image, result string) signer.Summary {
	name, _, _ := strings.Cut(image, "@")
	return signer.Summary{
		Image: image, Basis: sha256.Sum256([]byte(image)), Decision: "d-1",
		Predicate: fmt.Appendf(nil, `{"verifier":{"id":"https://v.example"},"timeVerified":"2026-11-25T08:00:00Z","resourceUri":"oci://%s",
"policy":{"uri":"https://v.example/p"},"verificationResult":%q,"verifiedLevels":["SLSA_BUILD_LEVEL_2"]}`, name, result),
	}
}

// TestSummarize: a summary goes the way of every attestation, is attached only
// when that is asked for, and is made once for all who ask.
func TestSummarize(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	_, image := s.push(t, "summarised")
	sg := start(t, newSummaryConfig(t, s))
	in := summaryOf(image, "PASSED")
	result, reused, err := sg.Summarize(t.Context(), gatekeeper(), in)
	if err != nil || reused || len(result.Signatures) != 1 || result.PredicateType != predicate.VSAV1 || result.Signer.Key != "vsa" {
		t.Fatalf("%+v, %v, %v", result, reused, err)
	}
	statement := statementOf(t, result.Signatures[0])
	if string(statement.Predicate) != string(in.Predicate) || !strings.HasSuffix(image, statement.Subjects[0].Digest["sha256"]) {
		t.Errorf("%+v", statement)
	}
	if n := len(s.found(t, image)); n != 0 || s.archived(t, result.Digest) != 1 {
		t.Errorf("%d attached, %d archived", n, s.archived(t, result.Digest))
	}
	other := gatekeeper()
	other.Subject = "other"
	if again, reused, err := sg.Summarize(t.Context(), other, in); err != nil || !reused || again.ID != result.ID {
		t.Errorf("again: %s, %v, %v", again.ID, reused, err)
	}
	in.Attach = true
	attached, reused, err := sg.Summarize(t.Context(), gatekeeper(), in)
	if err != nil || reused || attached.Signatures[0].Referrer == "" || len(s.found(t, image)) != 1 {
		t.Errorf("attached: %+v, %v, %v", attached, reused, err)
	}
	in.Attach = false
	if again, reused, err := sg.Summarize(t.Context(), gatekeeper(), in); err != nil || !reused || again.ID != attached.ID {
		t.Errorf("the attached one: %s, %v, %v", again.ID, reused, err)
	}
	if got := s.outcomes(t); !slices.Equal(got, []string{audit.Allowed, audit.Done, audit.Allowed, audit.Done}) {
		t.Errorf("journal %v", got)
	}
}

// TestSummarizeRefuses: who may not ask for verdicts has no summary, not an
// earlier one either; what is not that this image passed is not signed; no
// request signs with the key of summaries or in their name.
func TestSummarizeRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, newWorld(t))
	s.grants = append(s.grants, s.grant(t, `{"issuer":"local","subject":"ci","repositories":["`+s.local.Host+`/**"],"keys":["*"],"actions":["sign","attest"]}`))
	_, image := s.push(t, "refused")
	sg := start(t, newSummaryConfig(t, s))
	if _, _, err := sg.Summarize(t.Context(), gatekeeper(), summaryOf(image, "PASSED")); err != nil {
		t.Fatalf("the control: %v", err)
	}
	for _, who := range []identity.Identity{ci(), {}} {
		if _, _, err := sg.Summarize(t.Context(), who, summaryOf(image, "PASSED")); !errors.Is(err, signer.ErrForbidden) {
			t.Errorf("%s: %v", who, err)
		}
	}
	if got := s.outcomes(t); got[len(got)-1] != audit.Denied {
		t.Errorf("journal %v", got)
	}
	elsewhere := summaryOf(s.local.Host+"/team/other@"+attest.DigestOf(nil).String(), "PASSED")
	elsewhere.Image = image
	unlisted := summaryOf("other.example/team/app@"+attest.DigestOf(nil).String(), "PASSED")
	tagged := summaryOf(image, "PASSED")
	tagged.Image = s.local.Host + "/team/app:tag"
	for name, c := range map[string]struct {
		in   signer.Summary
		want error
	}{
		"FAILED": {summaryOf(image, "FAILED"), signer.ErrInternal}, "another image": {elsewhere, signer.ErrInternal},
		"a tag": {tagged, signer.ErrInternal}, "not listed": {unlisted, signer.ErrRegistryNotListed},
	} {
		if _, _, err := sg.Summarize(t.Context(), gatekeeper(), c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	request := attestation(image, `{}`)
	request.Key = "vsa"
	if _, _, err := sg.Sign(t.Context(), ci(), request); !errors.Is(err, signer.ErrKeyNotFound) {
		t.Errorf("a caller's attestation: %v", err)
	}
	request.Action = "summary"
	if _, _, err := sg.Sign(t.Context(), ci(), request); !errors.Is(err, signer.ErrRequest) {
		t.Errorf("a caller's summary: %v", err)
	}
	without := start(t, s.config())
	if _, _, err := without.Summarize(t.Context(), gatekeeper(), summaryOf(image, "PASSED")); !errors.Is(err, signer.ErrNoSummaries) {
		t.Errorf("without a key: %v", err)
	}
}

// TestSummaryFaults: at each step a failure or a death leaves no summary that is
// not logged, and asking again ends with one, of one leaf. Law 4.
func TestSummaryFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("faults", func(t *testing.T) {
		for _, point := range []string{"journal allowed", "resolve", "key sign summary", "begin", "log", "stamp", "update pending", "check", "attach bundle", "archive", "update done"} {
			for _, m := range modes() {
				t.Run(point+"/"+m.String(), func(t *testing.T) {
					t.Parallel()
					summaryFaultAt(t, w, point, m)
				})
			}
		}
	})
	auditLog(t, w)
}

func summaryFaultAt(t *testing.T, w *world, point string, m mode) {
	s := newSite(t, w)
	_, image := w.push(t, t.Name())
	in := summaryOf(image, "PASSED")
	in.Attach = true
	injected := newInjector(point, m)
	sg := start(t, injected.into(newSummaryConfig(t, s)))
	first, _, err := sg.Summarize(t.Context(), gatekeeper(), in)
	if !injected.fired() || err == nil {
		t.Fatalf("fired %v: %+v, %v", injected.fired(), first, err)
	}
	if point == "log" && len(s.found(t, image))+s.archived(t, strings.Split(image, "@")[1]) != 0 {
		t.Error("a summary that is not logged was released")
	}
	stop(t, sg)
	fresh := start(t, newSummaryConfig(t, s))
	if err := fresh.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	result, _, err := fresh.Summarize(t.Context(), gatekeeper(), in)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.found(t, image)); n != 1 || s.archived(t, result.Digest) != 1 || len(injected.bodies) > 1 {
		t.Errorf("%d attached, %d archived, %d entries", n, s.archived(t, result.Digest), len(injected.bodies))
	}
}
