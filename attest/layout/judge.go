package layout

import (
	"fmt"
	"reflect"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
)

// Judge reports whether links show that the subject came out of the layout's
// steps, and if not why: a sentence that names the step. Links that are not
// signed by anyone the layout names, whatever else they are, are passed over,
// and so are links of other runs, as long as one set of links satisfies the
// layout.
//
// Its cost is bounded by limits.LayoutLinks, LayoutVerifications and
// LayoutChains; beyond a bound the answer is no.
func (l *Layout) Judge(links [][]byte, subject attest.Digest, now time.Time) (reason string, ok bool) {
	switch {
	case subject.IsZero():
		return "there is no artifact to judge", false
	case !now.Before(l.expires):
		return "the layout expired at " + l.expires.Format(time.RFC3339), false
	case len(links) > limits.LayoutLinks:
		return fmt.Sprintf("there are more than %d links", limits.LayoutLinks), false
	}
	runs, reason := l.gather(links)
	if reason != "" {
		return reason, false
	}
	last := l.steps[len(l.steps)-1].Name
	if runs[last] = having(runs[last], subject); len(runs[last]) == 0 {
		return fmt.Sprintf("step %q: the artifact is not among the products of the layout's last step", last), false
	}
	s := search{layout: l, runs: runs, chosen: map[string]link{}}
	if s.from(0) {
		return "", true
	}
	return s.reason, false
}

// run is what one or more functionaries say alike of one run of a step.
type run struct {
	link    link
	signers map[string]bool
}

// gather is the runs of each step that enough functionaries signed.
func (l *Layout) gather(links [][]byte) (map[string][]run, string) {
	all := map[string][]run{}
	verifications := 0
	for _, raw := range links {
		c, err := parseCandidate(raw)
		if err != nil {
			continue
		}
		step, known := l.step(c.link.name)
		if !known {
			continue
		}
		signers, within := l.signers(c, step, &verifications)
		if !within {
			return nil, fmt.Sprintf("the links have more signatures than %d verifications settle", limits.LayoutVerifications)
		}
		if len(signers) > 0 {
			all[step.Name] = add(all[step.Name], c.link, signers)
		}
	}
	enough := map[string][]run{}
	for _, step := range l.steps {
		most := 0
		for _, r := range all[step.Name] {
			most = max(most, len(r.signers))
			if len(r.signers) >= step.Threshold {
				enough[step.Name] = append(enough[step.Name], r)
			}
		}
		if len(enough[step.Name]) == 0 {
			return nil, fmt.Sprintf("step %q: %d of its keys signed one link, want %d", step.Name, most, step.Threshold)
		}
	}
	return enough, ""
}

// signers are the step's keys of which one signature over the candidate is
// valid; every signature is tried. A key id that is one of the step's names the
// key to try; any other says nothing.
func (l *Layout) signers(c candidate, step in_toto.Step, verifications *int) (map[string]bool, bool) {
	signers := map[string]bool{}
	authorised := make(map[string]bool, len(step.PubKeys))
	for _, id := range step.PubKeys {
		authorised[id] = true
	}
	for _, s := range c.signatures {
		for _, id := range step.PubKeys {
			if signers[id] || authorised[s.KeyID] && s.KeyID != id {
				continue
			}
			if *verifications++; *verifications > limits.LayoutVerifications {
				return nil, false
			}
			if l.keys[id].verifies(c.message, s.Signature) {
				signers[id] = true
				break
			}
		}
	}
	return signers, true
}

// add joins a link to those that say the same.
func add(runs []run, l link, signers map[string]bool) []run {
	for _, r := range runs {
		if reflect.DeepEqual(r.link, l) {
			for id := range signers {
				r.signers[id] = true
			}
			return runs
		}
	}
	return append(runs, run{l, signers})
}

// having are the runs that produced the subject.
func having(runs []run, subject attest.Digest) []run {
	var out []run
	for _, r := range runs {
		for _, digests := range r.link.products {
			if digests["sha256"] == subject.Hex() {
				out = append(out, r)
				break
			}
		}
	}
	return out
}

// search tries one run of each step after another.
type search struct {
	layout *Layout
	runs   map[string][]run
	chosen map[string]link
	chains int
	reason string
}

// from chooses runs for the steps from i on, and reports whether a choice
// satisfies the layout. The first failure is the one that is told.
func (s *search) from(i int) bool {
	if i == len(s.layout.steps) {
		if s.chains++; s.chains > limits.LayoutChains {
			s.reason = fmt.Sprintf("the links of several runs fit together in more than %d ways", limits.LayoutChains)
			return false
		}
		reason := s.layout.holds(s.chosen)
		if s.reason == "" {
			s.reason = reason
		}
		return reason == ""
	}
	name := s.layout.steps[i].Name
	for _, r := range s.runs[name] {
		s.chosen[name] = r.link
		if s.from(i + 1) {
			return true
		}
		if s.chains > limits.LayoutChains {
			return false
		}
	}
	return false
}

// holds applies the artifact rules of all steps to one run of each.
func (l *Layout) holds(chosen map[string]link) string {
	metadata := make(map[string]in_toto.Metadata, len(chosen))
	for name, c := range chosen {
		metadata[name] = &in_toto.Metablock{Signed: in_toto.Link{Type: "link", Name: name, Materials: c.materials, Products: c.products}}
	}
	for i, step := range l.steps {
		if err := verifyArtifacts(step, metadata); err != nil {
			return fmt.Sprintf("step %q: its artifact rules do not hold", step.Name)
		}
		for _, e := range l.edges[i] {
			if !share(chosen[step.Name].side(e.own), chosen[e.from].side(e.theirs)) {
				return fmt.Sprintf("step %q: its %s and the %s of step %q share no artifact", step.Name, e.own, e.theirs, e.from)
			}
		}
	}
	return ""
}

// verifyArtifacts contains the library: whatever happens in it is a refusal.
func verifyArtifacts(step in_toto.Step, metadata map[string]in_toto.Metadata) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the rules could not be applied: %v", r)
		}
	}()
	return in_toto.VerifyArtifacts([]any{step}, metadata)
}

func (l link) side(name string) map[string]in_toto.HashObj {
	if name == "materials" {
		return l.materials
	}
	return l.products
}

// share reports whether two sets of artifacts have a digest in common.
func share(a, b map[string]in_toto.HashObj) bool {
	type digest struct{ algorithm, value string }
	seen := map[digest]bool{}
	for _, digests := range a {
		for _, algorithm := range []string{"sha256", "sha512"} {
			if v := digests[algorithm]; v != "" {
				seen[digest{algorithm, v}] = true
			}
		}
	}
	for _, digests := range b {
		for algorithm, v := range digests {
			if seen[digest{algorithm, v}] {
				return true
			}
		}
	}
	return false
}
