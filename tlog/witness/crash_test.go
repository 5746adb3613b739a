package witness_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/witness"
)

const (
	victimDir    = "COUNTERSIGN_TEST_WITNESS_DIR"
	victimListen = "COUNTERSIGN_TEST_WITNESS_LISTEN"
	victimLog    = "COUNTERSIGN_TEST_WITNESS_LOG"
	victimWhen   = "COUNTERSIGN_TEST_WITNESS_WHEN"
)

// TestMain runs the tests, or, as the victim of TestKill, a witness that dies.
func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		os.Exit(victim(dir))
	}
	os.Exit(m.Run())
}

// dying is a store whose process is killed around a write.
type dying struct {
	store.Objects
	when string
}

func (d dying) Put(ctx context.Context, o store.Object) (store.Object, error) {
	if d.when == "before" {
		die()
	}
	o, err := d.Objects.Put(ctx, o)
	if err == nil && d.when == "after" {
		die()
	}
	return o, err
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func victim(dir string) int {
	db, err := store.OpenSQLite(context.Background(), filepath.Join(dir, "witness.db"))
	if err != nil {
		return 1
	}
	key, err := witness.OpenKey(filepath.Join(dir, "witness.key"), "witness.example.com/w1")
	if err != nil {
		return 1
	}
	logs, err := witness.ParseLogs(os.Getenv(victimLog))
	if err != nil {
		return 1
	}
	w, err := witness.New(witness.Config{Logs: logs, Key: key, Objects: dying{db.Objects(), os.Getenv(victimWhen)}})
	if err != nil {
		return 1
	}
	listener, err := net.Listen("tcp", os.Getenv(victimListen))
	if err != nil {
		return 1
	}
	os.Stdout.WriteString("ready\n")
	_ = http.Serve(listener, w.Handler())
	return 1
}

// TestKill: a witness that is killed around the write of its state has, when it
// is back, either state, says which, and cosigns no fork of it.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for when, kept := range map[string]string{"before": "10\n", "after": "15\n"} {
		t.Run(when, func(t *testing.T) {
			dir := t.TempDir()
			l := newLog(t, origin).grow("entry", 20)
			n := newNode(t, dir, l)
			n.cosigned(l.request(t, 0, 10))
			n.close()
			askVictim(t, dir, when, l, l.request(t, 10, 15).Marshal())
			n = newNode(t, dir, l)
			n.refused("what it knows", l.request(t, 0, 20).Marshal(), http.StatusConflict, kept)
			fork := l.fork().grow("forked", 20)
			if when == "after" {
				n.refused("fork", fork.request(t, 15, 15).Marshal(), http.StatusUnprocessableEntity, "")
				n.cosigned(l.request(t, 15, 15)) // who was not answered asks again
				n.cosigned(l.request(t, 15, 20))
				return
			}
			n.refused("fork", fork.request(t, 10, 15).Marshal(), http.StatusUnprocessableEntity, "")
			n.cosigned(l.request(t, 10, 15))
		})
	}
}

// askVictim sends a request to a witness that dies of it.
func askVictim(t *testing.T, dir, when string, l *log, body []byte) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().String()
	listener.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir, victimListen+"="+address, victimLog+"="+l.vkey, victimWhen+"="+when)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	ready := make([]byte, len("ready\n"))
	if _, err := out.Read(ready); err != nil || string(ready) != "ready\n" {
		t.Fatalf("the victim did not start: %q %v", ready, err)
	}
	resp, err := http.Post("http://"+address+"/add-checkpoint", "", bytes.NewReader(body))
	if err == nil {
		resp.Body.Close()
		t.Errorf("answered %d before it died", resp.StatusCode)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the victim lived")
	}
}
