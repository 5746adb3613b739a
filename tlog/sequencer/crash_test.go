package sequencer_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
)

const (
	victimEnv     = "COUNTERSIGN_TEST_LOG_VICTIM"
	victimSteps   = "COUNTERSIGN_TEST_LOG_STEPS"
	victimFrom    = "COUNTERSIGN_TEST_LOG_FROM"
	victimKey     = "key.der"
	victimBodies  = "bodies.json"
	victimLeaves  = "leaves.db"
	victimWorkers = 20
)

// TestKill kills an appending process fifteen times at random moments. Every
// acknowledged entry is in the log afterwards with a valid proof and under its
// index, no leaf stands there twice although each round appends most bodies of
// the last one again, and each checkpoint extends the one before.
func TestKill(t *testing.T) {
	const (
		kills = 15
		step  = 40
	)
	if testing.Short() {
		t.Skip("starts processes")
	}
	root := t.TempDir()
	l := &testLog{dir: filepath.Join(root, "log"), key: newKey(t)}
	bodies := (forge{newKey(t)}).bodies(t, kills*step+400)
	prepareVictim(t, root, l, bodies)
	acked := make(map[int]int64)
	var last []byte
	for round := range kills {
		for n, index := range killOne(t, root, round*step) {
			if old, ok := acked[n]; ok && old != index {
				t.Fatalf("body %d acknowledged at %d and %d", n, old, index)
			}
			acked[n] = index
		}
		if report := l.audit(t, last); !report.Sound() {
			t.Fatalf("after kill %d: %+v", round, report)
		}
		last = l.file(t, "checkpoint")
	}
	if len(acked) < kills/2 {
		t.Fatalf("only %d entries acknowledged: the victims did not work", len(acked))
	}
	l.leaves = openLeaves(t, filepath.Join(root, victimLeaves))
	s := l.open(t)
	for n, index := range acked {
		entry, err := s.Entry(t.Context(), uint64(index))
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(entry, bodies[n], l.key.Public()); err != nil {
			t.Errorf("acknowledged entry %d: %v", index, err)
		}
	}
	for n, index := range appendEach(t, s, bodies) {
		if old, ok := acked[n]; ok && old != index {
			t.Errorf("body %d was acknowledged at %d and is now at %d", n, old, index)
		}
	}
	if report := l.audit(t, last); !report.Sound() || report.Size != uint64(len(bodies)) {
		t.Errorf("%d bodies, %d acknowledged under kills: %+v", len(bodies), len(acked), report)
	}
}

func prepareVictim(t *testing.T, root string, l *testLog, bodies [][]byte) {
	t.Helper()
	key, err := x509.MarshalECPrivateKey(l.key)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(bodies)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{victimKey: key, victimBodies: doc} {
		if err := os.WriteFile(filepath.Join(root, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// killOne starts a victim, lets it acknowledge something, kills it, and
// returns what it acknowledged.
func killOne(t *testing.T, root string, from int) map[int]int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+root, victimFrom+"="+strconv.Itoa(from))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := make(map[int]int64)
	var once sync.Once
	for lines := bufio.NewScanner(out); lines.Scan(); {
		once.Do(func() {
			time.AfterFunc(rand.N(300*time.Millisecond), func() { _ = cmd.Process.Kill() })
		})
		var n int
		var index int64
		// A line that the kill cut short is no acknowledgement.
		if k, err := fmt.Sscanf(lines.Text(), "ack %d %d.", &n, &index); k == 2 && err == nil {
			acked[n] = index
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("victim ended by itself: %v", err)
	}
	return acked
}

// victim appends for ever, twenty bodies at a time, and says what was
// acknowledged.
func victim(root string) int {
	s, bodies, err := openVictim(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "victim:", err)
		return 1
	}
	from, err := strconv.Atoi(os.Getenv(victimFrom))
	if err != nil {
		return 1
	}
	fmt.Println("open")
	var next atomic.Int64
	var wg sync.WaitGroup
	for range victimWorkers {
		wg.Go(func() {
			for {
				n := from + int(next.Add(1)-1)%200
				entry, err := s.Append(context.Background(), bodies[n])
				if err != nil {
					fmt.Fprintln(os.Stderr, "victim:", err)
					os.Exit(1)
				}
				fmt.Printf("ack %d %d.\n", n, entry.GetLogIndex())
			}
		})
	}
	wg.Wait()
	return 0
}

func openVictim(root string) (*sequencer.Sequencer, [][]byte, error) {
	der, err := os.ReadFile(filepath.Join(root, victimKey))
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return nil, nil, err
	}
	doc, err := os.ReadFile(filepath.Join(root, victimBodies))
	if err != nil {
		return nil, nil, err
	}
	var bodies [][]byte
	if err := json.Unmarshal(doc, &bodies); err != nil {
		return nil, nil, err
	}
	if os.Getenv(victimSteps) != "" {
		root = filepath.Join(root, "data")
	}
	db, err := store.OpenSQLite(context.Background(), filepath.Join(root, victimLeaves))
	if err != nil {
		return nil, nil, err
	}
	s, err := sequencer.Open(context.Background(), sequencer.Config{
		Dir: filepath.Join(root, "log"), Origin: origin, Signer: key, Leaves: db.Leaves(),
		CheckpointInterval: 100 * time.Millisecond, Clock: clock.System{},
	})
	return s, bodies, err
}
