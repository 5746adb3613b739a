//go:build faults && linux && (amd64 || arm64)

package sequencer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/internal/faultinject"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
)

var sampled = flag.Int("sample", 20, "how many cases of each scenario are run; 0 runs every step once and a spread of pairs, -1 every pair")

// pairsPerStep is how many second faults each first one is combined with when
// not every pair is run: there are half a million.
const pairsPerStep = 3

const (
	// stepBodies are appended by each run, two at a time, to a log of
	// stepBefore entries, so that a bundle and a tile become full and the next
	// level begins.
	stepBodies = 4
	stepBefore = 254
	stepData   = "data"
)

// steps is the program under test: it opens the log, appends what is to be
// appended, says what was acknowledged, and closes. It ends by itself whatever
// fails.
func steps(root string) int {
	s, bodies, err := openVictim(root)
	if err != nil {
		fmt.Println("refused open:", err)
		return 1
	}
	for at := len(bodies) - stepBodies; at < len(bodies); at += 2 {
		var wg sync.WaitGroup
		for n := at; n < at+2; n++ {
			wg.Go(func() { appendStep(s, n, bodies[n]) })
		}
		wg.Wait()
		if cp, err := s.Checkpoint(context.Background()); err == nil {
			fmt.Printf("checkpoint %s.\n", base64.StdEncoding.EncodeToString(cp))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		fmt.Println("refused close:", err)
	}
	return 0
}

// appendStep is a caller that tries again once.
func appendStep(s *sequencer.Sequencer, n int, body []byte) {
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		entry, err := s.Append(ctx, body)
		cancel()
		if err == nil {
			fmt.Printf("ack %d %d.\n", n, entry.GetLogIndex())
			return
		}
		fmt.Println("refused append:", err)
	}
}

// plan is one case: what is done to each of some runs, before one without
// faults.
type plan []faultinject.Fault

func (p plan) String() string {
	var parts []string
	for _, f := range p {
		parts = append(parts, f.String())
	}
	return strings.Join(parts, ", then ")
}

// TestSteps enumerates every system call by which an appending process changes
// a file, of the log and of its index, and makes each one fail, fail after its
// effect, or be the last one: once, in two runs in a row, and in the start
// after a kill. Whatever happens, what was acknowledged is there afterwards at
// its place, no place ever held two entries, no entry stands twice, and no
// checkpoint that was ever shown is contradicted.
func TestSteps(t *testing.T) {
	for _, before := range []int{0, stepBefore} {
		t.Run(fmt.Sprintf("log of %d entries", before), func(t *testing.T) { newStepping(t, before).enumerate(t) })
	}
}

type stepping struct {
	template string
	log      *testLog
	bodies   [][]byte
	before   int

	// singles is how many plans have one fault.
	singles int

	mu   sync.Mutex
	acks int
}

func newStepping(t *testing.T, before int) *stepping {
	t.Helper()
	s := &stepping{template: t.TempDir(), log: &testLog{key: newKey(t)}, before: before}
	s.bodies = (forge{newKey(t)}).bodies(t, before+stepBodies)
	if err := os.Mkdir(filepath.Join(s.template, stepData), 0o755); err != nil {
		t.Fatal(err)
	}
	prepareVictim(t, s.template, s.log, s.bodies)
	if before == 0 {
		return s
	}
	l, db := s.at(t, s.template)
	log, err := sequencer.Open(t.Context(), l.config())
	if err != nil {
		t.Fatal(err)
	}
	appendEach(t, log, s.bodies[:before])
	closeLog(t, log)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// at is the log in a folder, opened by this process.
func (s *stepping) at(t testing.TB, root string) (*testLog, *store.DB) {
	t.Helper()
	db, err := store.OpenSQLite(context.Background(), filepath.Join(root, stepData, victimLeaves))
	if err != nil {
		t.Fatal(err)
	}
	return &testLog{dir: filepath.Join(root, stepData, "log"), key: s.log.key, leaves: db.Leaves()}, db
}

func (s *stepping) enumerate(t *testing.T) {
	clean := s.history()
	report := clean.run(t, faultinject.Fault{})
	restart := clean.run(t, faultinject.Fault{})
	clean.settle()
	if clean.failed() {
		t.Fatal(errors.Join(clean.problems...))
	}
	first, second := len(report.Steps), len(restart.Steps)
	if first < 20 || second == 0 {
		t.Fatalf("%d and %d steps were seen: the tracer sees nothing", first, second)
	}
	modes := []faultinject.Fault{
		{Mode: faultinject.Error, Errno: syscall.EIO},
		{Mode: faultinject.Error, Errno: syscall.ENOSPC},
		{Mode: faultinject.Persisted, Errno: syscall.EIO},
		{Mode: faultinject.Kill},
		{Mode: faultinject.KillAfter},
	}
	var once, twice, recovery []plan
	for _, f := range modes {
		for n := 1; n <= first; n++ {
			f.Step = n
			once = append(once, plan{f})
			for m := 1; m <= first; m++ {
				again := f
				again.Step = m
				twice = append(twice, plan{f, again})
				kill := faultinject.Fault{Step: n, Mode: faultinject.Kill}
				recovery = append(recovery, plan{kill, again})
			}
		}
	}
	t.Logf("%d steps in a first run, %d in the next one without anything new; %d modes", first, second, len(modes))
	s.singles = len(once)
	s.scenario(t, "once", once)
	s.scenario(t, "twice in a row", twice)
	s.scenario(t, "during recovery", recovery)
	t.Logf("%d acknowledged; 0 lost, 0 forks, 0 places used twice", s.acks)
}

// pick is the i-th of count plans, spread evenly over the first faults, and over
// the second ones by chance that is the same in every run.
func (s *stepping) pick(plans []plan, i, count int) plan {
	if count == len(plans) {
		return plans[i]
	}
	inner := len(plans) / s.singles
	outer := i * s.singles / count
	if count > s.singles {
		outer = i % s.singles
	}
	chance := rand.New(rand.NewPCG(uint64(i), uint64(len(plans))))
	return plans[outer*inner+chance.IntN(inner)]
}

// scenario runs all plans, or as many as are asked for, spread evenly.
func (s *stepping) scenario(t *testing.T, name string, plans []plan) {
	t.Helper()
	count := len(plans)
	switch {
	case *sampled > 0:
		count = min(count, *sampled)
	case *sampled == 0 && len(plans[0]) > 1:
		count = min(count, pairsPerStep*s.singles)
	}
	var group errgroup.Group
	group.SetLimit(4 * runtime.NumCPU()) // most of a case is waiting for a disk or a deadline
	var reached sync.Map
	start := time.Now()
	for i := range count {
		p := s.pick(plans, i, count)
		group.Go(func() error {
			h := s.history()
			defer os.RemoveAll(h.root)
			for _, f := range p {
				if h.run(t, f).Injected {
					reached.Store(i, true)
				}
			}
			h.settle()
			if h.failed() {
				return fmt.Errorf("%s: %w", p, errors.Join(h.problems...))
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.acks += h.acks
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	hit := 0
	reached.Range(func(any, any) bool { hit++; return true })
	t.Logf("%-16s %6d cases, %6d run, %6d reached their step, %v", name, len(plans), count, hit, time.Since(start).Round(time.Second))
}

// history is what is known of one log from outside: nothing that was said is
// ever taken back.
type history struct {
	s     *stepping
	root  string
	acked map[int]int64
	// shown are all checkpoints that were seen.
	shown    map[string]bool
	problems []error
	// acks are those that were heard before the log was opened without faults.
	acks int
}

func (s *stepping) history() *history {
	h := &history{s: s, acked: map[int]int64{}, shown: map[string]bool{}}
	root, err := os.MkdirTemp(s.template, "case-")
	if err == nil {
		err = os.CopyFS(filepath.Join(root, stepData), os.DirFS(filepath.Join(s.template, stepData)))
	}
	for _, name := range []string{victimKey, victimBodies} {
		if err == nil {
			err = os.Symlink(filepath.Join(s.template, name), filepath.Join(root, name))
		}
	}
	if err != nil {
		h.problem("%w", err)
	}
	h.root = root
	return h
}

func (h *history) problem(format string, args ...any) {
	h.problems = append(h.problems, fmt.Errorf(format, args...))
}

func (h *history) failed() bool { return len(h.problems) > 0 }

func (h *history) run(t testing.TB, fault faultinject.Fault) faultinject.Report {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+h.root, victimSteps+"=1")
	report, err := faultinject.Run(cmd, filepath.Join(h.root, stepData), fault, 60*time.Second)
	if errors.Is(err, faultinject.ErrForbidden) {
		// Not a skip: a suite that did not run must not look like one that did.
		t.Errorf("NOT RUN: %v", err)
	}
	if err != nil {
		h.problem("%w\n%s", err, report.Output)
	}
	if report.Status.Exited() && report.Status.ExitStatus() > 1 {
		h.problem("the program broke: exit %d\n%s", report.Status.ExitStatus(), report.Output)
	}
	for line := range strings.Lines(string(report.Output)) {
		h.heard(line)
	}
	if raw, err := os.ReadFile(filepath.Join(h.root, stepData, "log", "checkpoint")); err == nil {
		h.shown[string(raw)] = true
	}
	return report
}

// heard takes an acknowledgement or a checkpoint; a line that a kill cut short
// is neither.
func (h *history) heard(line string) {
	var n int
	var index int64
	if k, err := fmt.Sscanf(line, "ack %d %d.", &n, &index); k == 2 && err == nil {
		if old, ok := h.acked[n]; ok && old != index {
			h.problem("body %d was acknowledged at %d and %d", n, old, index)
		}
		h.acked[n] = index
		h.acks++
		return
	}
	if text, ok := strings.CutPrefix(strings.TrimSpace(line), "checkpoint "); ok {
		if raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(text, ".")); err == nil && strings.HasSuffix(text, ".") {
			h.shown[string(raw)] = true
		}
	}
}

// settle opens the log without faults and holds it to everything that was said.
func (h *history) settle() {
	if h.failed() {
		return
	}
	db, err := store.OpenSQLite(context.Background(), filepath.Join(h.root, stepData, victimLeaves))
	if err != nil {
		h.problem("the index does not open: %w", err)
		return
	}
	defer db.Close()
	l := &testLog{dir: filepath.Join(h.root, stepData, "log"), key: h.s.log.key, leaves: db.Leaves()}
	s, err := sequencer.Open(context.Background(), l.config())
	if err != nil {
		h.problem("the log does not open: %w", err)
		return
	}
	for n := h.s.before; n < len(h.s.bodies); n++ {
		entry, err := s.Append(context.Background(), h.s.bodies[n])
		if err != nil {
			h.problem("appending body %d: %w", n, err)
			continue
		}
		if old, ok := h.acked[n]; ok && old != entry.GetLogIndex() {
			h.problem("body %d was acknowledged at %d and is at %d", n, old, entry.GetLogIndex())
		}
		h.acked[n] = entry.GetLogIndex()
		again, err := s.Entry(context.Background(), uint64(entry.GetLogIndex()))
		if err != nil || !bytes.Equal(again.GetCanonicalizedBody(), h.s.bodies[n]) {
			h.problem("entry %d is not what was appended: %w", entry.GetLogIndex(), err)
		} else if err := verify(again, h.s.bodies[n], l.key.Public()); err != nil {
			h.problem("entry %d: %w", entry.GetLogIndex(), err)
		}
	}
	if err := s.Close(context.Background()); err != nil {
		h.problem("closing: %w", err)
	}
	for cp := range h.shown {
		report, err := sequencer.Audit(context.Background(), sequencer.AuditConfig{Dir: l.dir, Origin: origin, Public: l.key.Public(), From: []byte(cp)})
		if err != nil || !report.Sound() || report.Size != uint64(len(h.s.bodies)) {
			h.problem("audit from %q: %+v, %w", cp, report, err)
		}
	}
}
