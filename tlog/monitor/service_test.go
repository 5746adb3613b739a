package monitor_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"

	formatsnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/tlog/monitor"
	"github.com/countersign/countersign/tlog/sequencer"
)

// TestExtensionLines: a log whose checkpoints say more than we understand is
// followed, and held to what we do understand.
func TestExtensionLines(t *testing.T) {
	s := newServed(t).add(entries(0, 100)...)
	s.put("checkpoint", s.extended(100, s.root(), "an extension\nanother one\n"))
	w := newWatched(t, s, "")
	w.expect("extension lines")
	s.put("checkpoint", s.extended(100, s.root(), "one that changes\n"))
	w.expect("other extension lines, same tree")
	s.add(entries(100, 10)...)
	s.put("checkpoint", s.extended(110, s.root(), "an extension\n"))
	w.expect("growth")
	good := s.get("checkpoint")
	s.put("checkpoint", s.extended(110, make([]byte, 32), "an extension\n"))
	w.expect("another root", monitor.SplitView)
	s.put("checkpoint", s.extended(110, s.root(), "\nempty before\n"))
	w.expect("an empty line", monitor.BadCheckpoint)
	s.put("checkpoint", good)
	w.expect("control")
}

// TestUnwitnessed: a checkpoint without its quorum is told once while it lasts,
// though the log grows, and nothing is kept of it; what contradicts the log is told
// all the same. One alarm is another one after the quorum was back.
func TestUnwitnessed(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "witness.example.com/w1")
	must(t, err)
	cosigner, err := formatsnote.NewSignerForCosignatureV1(skey)
	must(t, err)
	vkey, err = formatsnote.VKeyToCosignatureV1(vkey)
	must(t, err)
	policy, err := sequencer.ParseWitnessPolicy([]byte("witness w1 " + vkey + " https://witness.example.com\nquorum w1\n"))
	must(t, err)
	s := newServed(t)
	cosign := func() {
		signed, err := note.Open(s.get("checkpoint"), note.VerifierList(s.verifier()))
		must(t, err)
		raw, err := note.Sign(signed, cosigner)
		must(t, err)
		s.put("checkpoint", raw)
	}
	w := newWatched(t, s, "")
	w.cfg.Logs[0].Quorum = policy.Satisfied
	s.add(entries(0, 10)...)
	cosign()
	w.expect("control")
	kept := file(t, w.cfg.State)
	s.add(entries(10, 10)...)
	w.expect("not cosigned", monitor.Unwitnessed)
	first := w.told[0]
	s.add(entries(20, 10)...)
	w.expect("not cosigned either", monitor.Unwitnessed)
	if w.told[0].ID != first.ID || w.told[0].Checkpoints[0] != string(s.get("checkpoint")) || !bytes.Equal(file(t, w.cfg.State), kept) {
		t.Errorf("%+v, before %+v", w.told[0], first)
	}
	fork := s.fork(9).add(entries(900, 1)...)
	grown := s.get("checkpoint")
	s.put("checkpoint", fork.get("checkpoint"))
	w.expect("forked and not cosigned", monitor.SplitView)
	s.put("checkpoint", grown)
	cosign()
	w.expect("the quorum is back")
	s.add(entries(30, 1)...)
	w.expect("away again", monitor.Unwitnessed)
	if w.told[0].ID == first.ID {
		t.Error("two outages have one id")
	}
}

// TestFoundLogs: logs that are named anew for each pass, own keys that are always
// expected, and what Fault says.
func TestFoundLogs(t *testing.T) {
	own, ownID := newKey(t)
	good, goodID := newKey(t)
	bad, _ := newKey(t)
	s := newServed(t).add(signed(t, good), signed(t, own))
	w := newWatched(t, s, "keys: {expected: ["+goodID+"]}")
	logs := w.cfg.Logs
	w.cfg.Logs, w.cfg.Find = nil, func(context.Context) ([]monitor.Log, error) { return logs, nil }
	asked := 0
	w.cfg.Own = func(context.Context) ([]string, error) {
		asked++
		return []string{ownID}, nil
	}
	m, err := monitor.New(w.cfg)
	must(t, err)
	pass := func(what string, want int, fault bool) {
		t.Helper()
		w.told = nil
		n, err := m.Pass(t.Context())
		if err != nil || n != want || (m.Fault() != nil) != fault {
			t.Errorf("%s: %d alarms %v, %v, fault %v", what, n, w.told, err, m.Fault())
		}
	}
	pass("own key", 0, false)
	s.add(signed(t, own), signed(t, bad))
	pass("a stranger", 1, false)
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	other := newServed(t).add(signed(t, own))
	second := monitor.Log{Verifier: other.verifier(), Source: other.source()}
	logs = append(logs, second)
	pass("a second shard", 0, false)
	other.put("checkpoint", other.sign(1, make([]byte, 32)))
	pass("its root", 1, true)
	other.down = true
	if _, err := m.Pass(t.Context()); err == nil || m.Fault() == nil {
		t.Errorf("away: %v, %v", err, m.Fault())
	}
	other.down = false
	other.put("checkpoint", other.sign(1, other.root()))
	pass("repaired", 0, false)

	// A log that stands still costs no write.
	must(t, os.Remove(w.cfg.State))
	pass("nothing new", 0, false)
	if _, err := os.Stat(w.cfg.State); !os.IsNotExist(err) {
		t.Errorf("it was written: %v", err)
	}
	s.add(signed(t, own))
	w.cfg.Own = func(context.Context) ([]string, error) { return nil, errors.New("no answer") }
	m, err = monitor.New(w.cfg)
	must(t, err)
	if n, err := m.Pass(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer") || n != 0 {
		t.Errorf("own keys unknown: %d %v", n, err)
	}
	// Own is no way around what is forbidden.
	w.cfg.Own = func(context.Context) ([]string, error) { return []string{ownID}, nil }
	w.cfg.Watch, err = monitor.ParseWatch([]byte("keys: {expected: [" + goodID + "], forbidden: [" + ownID + "]}"))
	must(t, err)
	w.cfg.State += ".fresh"
	w.expect("forbidden", monitor.ForbiddenKey, monitor.ForbiddenKey, monitor.UnexpectedKey, monitor.ForbiddenKey, monitor.ForbiddenKey)
}
