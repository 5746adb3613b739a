package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/store"
)

// crashVariable names the database of the process that is to be killed.
const crashVariable = "COUNTERSIGN_TEST_CRASH"

// TestSQLiteKilled kills a process that writes from many goroutines, again and
// again, without warning: every write it acknowledged is there afterwards, the
// chain has neither fork nor gap, and the file is sound.
func TestSQLiteKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crash.db")
	acknowledged := map[string]bool{}
	kills := 10
	if testing.Short() {
		kills = 3
	}
	for round := range kills {
		for _, line := range killWriter(t, path, round) {
			acknowledged[line] = true
		}
		checkSurvivors(t, path, acknowledged)
	}
	if len(acknowledged) < kills {
		t.Fatalf("only %d writes were acknowledged in %d rounds: nothing was shown", len(acknowledged), kills)
	}
	t.Logf("%d kills, %d acknowledged writes, all kept", kills, len(acknowledged))
}

// killWriter runs the writer, kills it within a random time after its first
// acknowledgement, and returns what it acknowledged.
func killWriter(t *testing.T, path string, round int) []string {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^TestCrashWriter$")
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%s", crashVariable, round, path))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	reader := bufio.NewReader(out)
	for {
		line, err := reader.ReadString('\n')
		if err == io.EOF {
			break // an unfinished line was never acknowledged
		}
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "done "); ok {
			lines = append(lines, name)
		}
		if len(lines) == 1 {
			time.AfterFunc(time.Duration(rand.IntN(200))*time.Millisecond, func() { _ = command.Process.Kill() })
		}
	}
	if err := command.Wait(); err == nil {
		t.Fatal("the writer ended by itself")
	}
	return lines
}

// TestCrashWriter is the process that is killed; in the suite itself it has
// nothing to do.
func TestCrashWriter(t *testing.T) {
	round, path, ok := strings.Cut(os.Getenv(crashVariable), ":")
	if !ok {
		t.SkipNow()
	}
	db, err := store.OpenSQLite(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	for w := range 16 {
		go func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("%s-%d-%d", round, w, n)
				writeAll(t, db, name)
				// One write call a line, so that lines do not mix.
				if _, err := os.Stdout.WriteString("done " + name + "\n"); err != nil {
					return
				}
			}
		}()
	}
	time.Sleep(time.Minute)
}

func writeAll(t *testing.T, db *store.DB, name string) {
	ctx := context.Background()
	_, _, err := db.Operations().Begin(ctx, store.Operation{ID: name, Scope: "s", IdempotencyKey: name, Body: make([]byte, 3000)})
	if err == nil {
		_, err = db.Chain().Append(ctx, func(sequence int64, previous []byte) (store.Link, error) {
			return store.Link{Sequence: sequence + 1, Body: []byte(name + " after " + string(previous)), Hash: []byte(name)}, nil
		})
	}
	if err == nil {
		_, err = db.Objects().Put(ctx, store.Object{Kind: "k", Name: name, Alias: name})
	}
	if err != nil {
		t.Error(err)
		panic(err)
	}
}

func checkSurvivors(t *testing.T, path string, acknowledged map[string]bool) {
	t.Helper()
	ctx := context.Background()
	db, err := store.OpenSQLite(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	linked := checkChain(t, db)
	for name := range acknowledged {
		if _, err := db.Operations().Get(ctx, name); err != nil {
			t.Fatalf("acknowledged operation %s: %v", name, err)
		}
		if _, err := db.Objects().GetByAlias(ctx, "k", name); err != nil {
			t.Fatalf("acknowledged object %s: %v", name, err)
		}
		if !linked[name] {
			t.Fatalf("acknowledged link %s is lost", name)
		}
	}
	var verdict string
	if err := second(t, path).QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("integrity_check: %s, %v", verdict, err)
	}
}

// checkChain returns the names of all links.
func checkChain(t *testing.T, db *store.DB) map[string]bool {
	t.Helper()
	ctx := context.Background()
	names, previous, after := map[string]bool{}, "", int64(0)
	for {
		links, err := db.Chain().Read(ctx, after, store.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		if len(links) == 0 {
			break
		}
		for _, l := range links {
			after++
			if l.Sequence != after || !strings.HasSuffix(string(l.Body), " after "+previous) {
				t.Fatalf("link %d: %d %q, want it after %q", after, l.Sequence, l.Body, previous)
			}
			previous = string(l.Hash)
			names[previous] = true
		}
	}
	if sequence, hash, err := db.Chain().Head(ctx); err != nil || sequence != after || string(hash) != previous {
		t.Fatalf("head %d %q, %v; the last link is %d %q", sequence, hash, err, after, previous)
	}
	return names
}

// second opens the file beside the store, as somebody with another tool would.
func second(t testing.TB, path string) *sql.DB {
	t.Helper()
	pool, err := sql.Open("sqlite3", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}
