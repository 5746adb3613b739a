//go:build interop

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// Who else is asked. A stock verifier is named as its file is.
const (
	policyTester = "policy-tester-v0.14.0"
	offline      = "offline" // our own command line without the service
)

// lateState is signed after every other one.
const lateState = "turned-late"

// trial is one image in one state under one question.
type trial struct {
	state, ask string
	// want is the first reason of our verdict; empty passes.
	want policy.Code
	// differ names, for who answers otherwise, the difference in
	// docs/differences.md that explains it.
	differ map[string]string
}

// answers are what the peers said, kept to see that each question could be
// answered both ways.
type answers struct {
	mu       sync.Mutex
	judged   int // trials
	given    int // answers of others
	accepted map[string]bool
	named    map[string]bool
}

func (a *answers) note(who, ask string, accepted bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.given++
	key := who + " asked " + ask
	a.accepted[key] = a.accepted[key] || accepted
}

func (a *answers) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.judged++
}

// TestInteropDifferential puts the same images and policies to us and to the
// stock verifiers. Equal answers, or a difference that docs/differences.md
// explains under the name that the trial carries; the document has no entry
// without a trial.
func TestInteropDifferential(t *testing.T) {
	s := newStage(t)
	built := map[string]bool{}
	for _, trial := range trials {
		if _, ok := states[trial.state]; !ok && trial.state != lateState {
			t.Fatalf("no state %q", trial.state)
		}
		built[trial.state] = true
	}
	if unused := len(states) + 1 - len(built); unused > 0 || len(built) < 60 {
		t.Errorf("%d states without a trial, %d trials", unused, len(trials))
	}
	t.Run("states", func(t *testing.T) {
		for name, state := range states {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s.build(t, name, state)
			})
		}
	})
	if t.Failed() {
		t.FailNow() // a missing image proves nothing
	}
	s.afterwards(t)
	asks := s.questions(t)
	explained := readDifferences(t)
	a := &answers{accepted: map[string]bool{}, named: map[string]bool{}}
	t.Run("trials", func(t *testing.T) {
		for _, trial := range trials {
			t.Run(trial.state+"/"+trial.ask, func(t *testing.T) {
				t.Parallel()
				question, ok := asks[trial.ask]
				if !ok {
					t.Fatalf("no question %q", trial.ask)
				}
				s.judge(t, trial, question, explained, a)
			})
		}
	})
	if a.judged < len(trials) {
		return // a part of them, chosen with -run
	}
	for _, key := range slices.Sorted(maps.Keys(a.accepted)) {
		if !a.accepted[key] {
			t.Errorf("%s never accepts: its refusals prove nothing", key)
		}
	}
	if s.tester == "" {
		for _, trial := range trials {
			a.named[trial.differ[policyTester]] = true // nobody can show it
		}
	}
	for name := range explained {
		if !a.named[name] {
			t.Errorf("docs/differences.md explains %q, which no trial shows", name)
		}
	}
	t.Logf("%d images in %d trials, %d answers of others, %d differences", len(built), len(trials), a.given, len(explained))
}

// judge asks us over HTTP and everybody else, and compares.
func (s *stage) judge(t *testing.T, trial trial, ask question, explained map[string]difference, a *answers) {
	image := s.images[trial.state]
	if image == "" {
		t.Skip("its state was not built") // a part of the states, chosen with -run
	}
	answer, err := s.admin.Verify(t.Context(), api.VerifyRequest{Images: []string{image}, Policy: trial.ask, Timeout: "30s"})
	check(t, err)
	ours := answer.Results[0]
	passed := ours.Verdict == policy.Passed
	if got := firstCode(ours); got != trial.want {
		t.Errorf("our verdict is %q, want %q: %s", got, trial.want, mustJSON(t, ours.Reasons))
	}
	others := ask.judges
	a.begin()
	for who := range trial.differ {
		if _, asked := others[who]; !asked && who != policyTester {
			t.Errorf("the difference with %s is never seen", who)
		}
	}
	for _, who := range slices.Sorted(maps.Keys(others)) {
		accepted, out := others[who](t, image)
		a.note(who, trial.ask, accepted)
		name, told := trial.differ[who]
		switch {
		case accepted == passed && told:
			t.Errorf("%s answers as we do: the difference %q is not there", who, name)
		case accepted == passed:
		case !told:
			t.Errorf("%s: accepted=%v, ours: %v (%v); no difference explains it:\n%s", who, accepted, passed, ours.Reasons, out)
		case explained[name] == (difference{}):
			t.Errorf("docs/differences.md does not explain %q", name)
		case explained[name].weAccept != passed:
			t.Errorf("docs/differences.md has %q the other way round", name)
		default:
			a.mu.Lock()
			a.named[name] = true
			a.mu.Unlock()
		}
	}
}

func firstCode(r api.VerifyResult) policy.Code {
	if r.Verdict == policy.Passed {
		return ""
	}
	return r.Reasons[0].Code
}

// difference is an entry of docs/differences.md.
type difference struct {
	explained, weAccept bool
}

// readDifferences reads headings of the form "## `name`", each followed by who
// accepts and why.
func readDifferences(t *testing.T) map[string]difference {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "differences.md"))
	check(t, err)
	found := map[string]difference{}
	heading := regexp.MustCompile("^## `([a-z0-9-]+)`\n\n(We accept, they refuse|We refuse, they accept)\\. (.+)")
	for i, part := range strings.Split(string(raw), "\n## ") {
		if i == 0 {
			continue
		}
		m := heading.FindStringSubmatch("## " + part)
		if m == nil {
			t.Errorf("docs/differences.md: entry %q says not who accepts", fmt.Sprintf("%.40s", part))
			continue
		}
		found[m[1]] = difference{explained: true, weAccept: strings.HasPrefix(m[2], "We accept")}
	}
	return found
}
