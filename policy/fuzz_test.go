package policy_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/policy"
)

// What parses marshals to a canonical document that parses to the same one,
// passes nothing without facts, and matches no image by accident of form.
func FuzzParse(f *testing.F) {
	f.Add([]byte(control(f)))
	f.Add(mustParse(f, control(f)).Document())
	for _, require := range []string{wholeProvenance, wholeSummary, `{attestation: {predicateType: vuln, by: [a, b], maxAge: 1h, condition: "predicate.n == 0"}}`} {
		f.Add([]byte(withIdentity(require)))
		f.Add(mustParse(f, withIdentity(require)).Document())
	}
	f.Add([]byte("a: &a [x]\nb: *a\n"))
	f.Add([]byte("%YAML 1.1\n---\nkind: !!str TrustPolicy\n"))
	f.Add([]byte("kind: |\n  TrustPolicy\n? [complex]\n: 0x1F\n"))
	f.Add([]byte(`{"spec":{"require":{"atLeast":{"n":1e0,"of":[{}]}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := policy.Parse(b)
		if err != nil {
			if p != nil || !errors.Is(err, policy.ErrPolicy) {
				t.Fatalf("%v, %v", p, err)
			}
			return
		}
		again, err := policy.Parse(p.Document())
		if err != nil || !bytes.Equal(again.Document(), p.Document()) {
			t.Fatalf("%s\n%v", p.Document(), err)
		}
		if decide(p, nil).Verdict != policy.Failed || p.Matches("", nil) || p.Matches("host", nil) {
			t.Fatalf("passes or matches nothing: %s", p.Document())
		}
	})
}

// What parses marshals to a canonical document that parses to the same one,
// and permits nothing to nobody.
func FuzzParseGrant(f *testing.F) {
	f.Add([]byte(ciGrant))
	g := mustGrant(f, "ci", ciGrant)
	f.Add(g.Document())
	f.Add([]byte("issuer: i\nsubject: '**'\nrepositories: ['*/**']\nkeys: ['*']\nactions: [sign]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := policy.ParseGrant(b)
		if err != nil {
			if g != nil || !errors.Is(err, policy.ErrGrant) {
				t.Fatalf("%v, %v", g, err)
			}
			return
		}
		again, err := policy.ParseGrant(g.Document())
		if err != nil || !bytes.Equal(again.Document(), g.Document()) {
			t.Fatalf("%s\n%v", g.Document(), err)
		}
		ask := policy.Ask{Action: policy.ActionSign, Repository: "r.example/x", Key: "k"}
		nobody := identity.Identity{Roles: []identity.Role{identity.Admin}}
		unnamed := identity.Identity{Issuer: g.Issuer, Roles: []identity.Role{identity.Admin}}
		for _, id := range []identity.Identity{nobody, unnamed} {
			if g.Subject != "" && policy.Permit([]policy.Grant{*g}, id, ask).Allowed {
				t.Fatalf("%s permits %v", g.Document(), id)
			}
		}
	})
}
