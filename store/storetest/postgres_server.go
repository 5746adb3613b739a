//go:build interop || kubernetes || soak

package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Server is a private PostgreSQL server on loopback.
type Server struct {
	// Address is its URL.
	Address string

	stop func()
}

// Stop ends the server at once, as a crash would; connections break.
func (s *Server) Stop() { s.stop() }

func startPostgres(t testing.TB) string {
	t.Helper()
	return StartPostgres(t).Address
}

// StartPostgres makes a new cluster in a temporary directory and starts a
// server on it, which ends with the test or with the test's process. Run by
// root, the server runs as user postgres, since it refuses to run as root.
func StartPostgres(t testing.TB) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "countersign-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	credential := serverUser(t, dir)
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(context.Background(), binary(t, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
	initdb.Dir, initdb.SysProcAttr = dir, credential
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := freePort(t)
	s := &Server{Address: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)}
	s.stop = serve(t, credential, dir, data, port)
	await(t, s.Address)
	return s
}

// serve runs the server under a shell that ends it when its standard input
// closes, so that it cannot outlive the test's process.
func serve(t testing.TB, credential *syscall.SysProcAttr, dir, data string, port int) func() {
	t.Helper()
	command := exec.CommandContext(context.Background(), "sh", "-c", `"$@" & p=$!; read -r _; kill -QUIT $p; wait $p`, "sh",
		binary(t, "postgres"), "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(port),
		"-c", "unix_socket_directories="+dir, "-c", "max_connections=200")
	command.Dir, command.SysProcAttr = dir, credential
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	command.Stdout, command.Stderr = log, log
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			_ = input.Close()
			_ = command.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

func serverUser(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("PostgreSQL does not run as root: %v", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// binary finds a program of the newest installed PostgreSQL; Debian keeps the
// server's outside PATH.
func binary(t testing.TB, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("no PostgreSQL server here (%v): install the package postgresql, or set %s", err, PostgresVariable)
	}
	return path
}

func freePort(t testing.TB) int {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func await(t testing.TB, address string) {
	t.Helper()
	pool, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		err := pool.PingContext(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the PostgreSQL server did not start: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
