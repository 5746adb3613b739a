package signer_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
)

// points are the boundaries of every step: each call of each part.
func points() []string {
	return []string{
		"find", "rules", "grants", "journal allowed", "key get 1", "resolve", "key sign", "key sign legacy", "key get 2",
		"begin", "log", "stamp", "promise", "update pending", "key get 3", "check", "attach bundle", "attach legacy",
		"archive", "journal done", "update done",
	}
}

// modes are the faults that are tried at a step. Short runs, which look for races,
// try the hardest alone: the others differ in order, not in what runs at once.
func modes() []mode {
	all := []mode{errorBefore, errorAfter, killBefore, killAfter}
	if testing.Short() {
		return all[3:]
	}
	return all
}

// TestFaultAtEveryStep is security.md §5 row 9: every boundary fails, once and
// again during recovery, without effect, with its effect, or with the death of
// the process. Then a fresh signer on the same stores, or the same one asked
// again, must end with one signature per format, one leaf per signature, and
// one answer.
func TestFaultAtEveryStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("faults", func(t *testing.T) {
		for _, point := range points() {
			for _, m := range modes() {
				for rounds := 1; rounds <= 2 && (rounds == 1 || !testing.Short()); rounds++ {
					t.Run(fmt.Sprintf("%s/%s/%d", point, m, rounds), func(t *testing.T) {
						t.Parallel()
						faultAt(t, w, point, m, rounds)
					})
				}
			}
		}
	})
	auditLog(t, w)
}

func faultAt(t *testing.T, w *world, point string, m mode, rounds int) {
	s := newSite(t, w)
	_, image := w.push(t, t.Name())
	request := signer.Request{
		Image: image, Key: "release", Formats: []string{"bundle", "legacy"}, IdempotencyKey: "job",
	}
	bodies := map[string]bool{}
	var acknowledged []byte
	for round := range rounds {
		in := newInjector(point, m)
		sg := start(t, in.into(s.config()))
		if round > 0 {
			_ = sg.Resume(t.Context()) // as a restarted process does; the fault may hit it
		}
		result, _, err := sg.Sign(t.Context(), ci(), request)
		if err == nil {
			acknowledged = sameAnswer(t, acknowledged, result.Body())
		}
		if round == 0 && !in.fired() {
			t.Fatalf("the point was not reached")
		}
		stop(t, sg)
		for body := range in.bodies {
			bodies[body] = true
		}
	}

	in := newInjector("", 0)
	sg := start(t, in.into(s.config()))
	if err := sg.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	result, _, err := sg.Sign(t.Context(), ci(), request)
	if err != nil {
		t.Fatalf("after the fault: %v", err)
	}
	sameAnswer(t, acknowledged, result.Body())
	for body := range in.bodies {
		bodies[body] = true
	}
	if len(bodies) != 2 {
		t.Errorf("%d different entries were appended, want one per format", len(bodies))
	}
	settled(t, s, image, result)
	again, replayed, err := sg.Sign(t.Context(), ci(), request)
	if err != nil || !replayed {
		t.Errorf("replay: %v, %v", replayed, err)
	}
	sameAnswer(t, result.Body(), again.Body())
}

func sameAnswer(t *testing.T, before, now []byte) []byte {
	t.Helper()
	if before != nil && !bytes.Equal(before, now) {
		t.Errorf("two answers:\n%s\n%s", before, now)
	}
	return now
}

// settled checks that nothing is left over and that what is there is good.
func settled(t *testing.T, s *site, image string, result signer.Result) {
	t.Helper()
	checkResult(t, s, image, result, []string{"bundle", "legacy"})
	if answer := s.verdict(t, image); answer.Verdict != policy.Passed {
		t.Errorf("verdict %+v", answer)
	}
	for _, state := range []string{signer.StatePending, signer.StateFailed} {
		ops, _, err := s.db.Operations().List(t.Context(), store.OperationFilter{State: state}, store.Page{Limit: 10})
		if err != nil || len(ops) != 0 {
			t.Errorf("%d operations are %s, %v", len(ops), state, err)
		}
	}
	if err := s.journal.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// auditLog re-proves the log from its stored bytes: no leaf is there twice.
func auditLog(t *testing.T, w *world) {
	t.Helper()
	report, err := sequencer.Audit(t.Context(), sequencer.AuditConfig{
		Dir: filepath.Join(w.dir, "log"), Origin: origin, Public: w.logKey.Public(),
	})
	if err != nil || len(report.Problems) != 0 || len(report.Duplicates) != 0 {
		t.Errorf("auditing the log: %+v, %v", report, err)
	}
}

// TestResumeWithoutIdempotencyKey: an operation without idempotency key whose
// process dies is completed by the next start, once.
func TestResumeWithoutIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, point := range []string{"log", "stamp", "update pending", "check", "attach bundle", "archive", "update done"} {
		for _, m := range []mode{killBefore, killAfter} {
			t.Run(point+"/"+m.String(), func(t *testing.T) {
				s := newSite(t, w)
				_, image := w.push(t, t.Name())
				in := newInjector(point, m)
				sg := start(t, in.into(s.config()))
				_, _, err := sg.Sign(t.Context(), ci(), signer.Request{Image: image, Key: "release"})
				var pending *signer.PendingError
				if !errors.As(err, &pending) {
					t.Fatalf("got %v", err)
				}
				stop(t, sg)

				fresh := start(t, s.config())
				if err := fresh.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
				result, err := fresh.Signature(t.Context(), pending.Operation)
				if err != nil {
					t.Fatal(err)
				}
				checkResult(t, s, image, result, []string{"bundle"})
			})
		}
	}
	auditLog(t, w)
}

// TestFaultRecursive: with several targets a fault leaves some of them logged
// or attached and others not.
func TestFaultRecursive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("faults", func(t *testing.T) {
		for _, point := range []string{"child", "log", "stamp", "attach bundle", "archive"} {
			for _, m := range modes() {
				t.Run(point+"/"+m.String(), func(t *testing.T) {
					t.Parallel()
					recursiveFaultAt(t, w, point, m)
				})
			}
		}
	})
	auditLog(t, w)
}

func recursiveFaultAt(t *testing.T, w *world, point string, m mode) {
	s := newSite(t, w)
	index, err := w.local.PushIndex(t.Context(), "team/app", "", t.Name(), "amd64", "arm64", "s390x")
	if err != nil {
		t.Fatal(err)
	}
	request := signer.Request{Image: w.local.Image("team/app", index), Key: "release", Recursive: true, IdempotencyKey: "job"}
	in := newInjector(point, m)
	sg := start(t, in.into(s.config()))
	if _, _, err := sg.Sign(t.Context(), ci(), request); err == nil || !in.fired() {
		t.Fatalf("fired %v, %v", in.fired(), err)
	}
	stop(t, sg)
	fresh := start(t, s.config())
	if err := fresh.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	result, _, err := fresh.Sign(t.Context(), ci(), request)
	if err != nil || len(result.Signatures) != 4 {
		t.Fatalf("%d signatures, %v", len(result.Signatures), err)
	}
	for _, x := range result.Signatures {
		image := w.local.Host + "/team/app@" + x.Digest
		if n := len(s.found(t, image)); n != 1 {
			t.Errorf("%s has %d signatures", x.Platform, n)
		}
		if answer := s.verdict(t, image); answer.Verdict != policy.Passed {
			t.Errorf("%+v", answer)
		}
	}
}
