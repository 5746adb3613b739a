//go:build faults && linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/countersign/countersign/internal/localregistry"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/server/api"
)

// recoverWithin is how soon signing must go on, without a restart, after there
// is room again.
const recoverWithin = 10 * time.Second

// exhaustion is a service that will lose its storage.
type exhaustion struct {
	*process
	t        *testing.T
	registry *localregistry.Registry
	signed   string
	tried    map[string]string // idempotency key by image, of refused calls
	n        int
}

func newExhaustion(t *testing.T, p *process) *exhaustion {
	t.Helper()
	registry, err := localregistry.Start(t.Context(), localregistry.Options{})
	check(t, err)
	t.Cleanup(func() { registry.Close() })
	e := &exhaustion{process: p, t: t, registry: registry, tried: map[string]string{}}
	p.start()
	p.trustAll(registry, "release")
	e.signed = e.push()
	_, _, err = p.admin.Sign(t.Context(), api.SignatureRequest{Image: e.signed, Key: "release"}, api.SignOptions{})
	check(t, err)
	e.passes()
	return e
}

func (e *exhaustion) push() string {
	e.t.Helper()
	e.n++
	d, err := e.registry.PushImage(context.Background(), "app", "", fmt.Sprint("image ", e.n))
	check(e.t, err)
	return e.registry.Image("app", d)
}

// passes asks about the signed image in a place that no cache knows, and
// returns whether the answer is recorded.
func (e *exhaustion) passes() (recorded bool) {
	e.t.Helper()
	e.n++
	answer, err := e.admin.Verify(context.Background(), api.VerifyRequest{
		Images: []string{e.signed}, Context: map[string]string{"n": fmt.Sprint(e.n)},
	})
	if err != nil {
		e.t.Fatalf("verification stopped: %v", err)
	}
	r := answer.Results[0]
	if answer.Verdict != policy.Passed || r.Cached {
		e.t.Fatalf("verification stopped: %+v", r)
	}
	if r.Unrecorded == (r.DecisionID != "") || r.Unrecorded != (len(answer.Warnings) > 0) {
		e.t.Fatalf("half recorded: %+v", r)
	}
	return !r.Unrecorded
}

// refused demands the one code, and returns what the caller is told.
func (e *exhaustion) refused(what string, err error) {
	e.t.Helper()
	var problem *api.Problem
	if !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable ||
		problem.Code != "storage_exhausted" || problem.RetryAfter == 0 || !strings.Contains(problem.Detail, "disk is full") {
		e.t.Fatalf("%s: %v, want 503 storage_exhausted", what, err)
	}
}

func (e *exhaustion) signs() error {
	e.t.Helper()
	image := e.push()
	key := fmt.Sprint("call-", e.n)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, _, err := e.admin.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{IdempotencyKey: key})
	if err != nil {
		e.tried[image] = key
	}
	return err
}

func (e *exhaustion) logs() error {
	_, err := e.admin.AddLogEntry(context.Background(), logRequest(e.t))
	return err
}

// reads: what is published stays readable.
func (e *exhaustion) reads() {
	e.t.Helper()
	ctx := context.Background()
	for what, read := range map[string]func() error{
		"checkpoint":   func() error { _, err := e.admin.Checkpoint(ctx); return err },
		"trusted root": func() error { _, err := e.admin.TrustedRoot(ctx); return err },
		"signatures":   func() error { _, err := e.admin.Signatures(ctx, api.SignatureFilter{}); return err },
	} {
		if err := read(); err != nil {
			e.t.Errorf("reading the %s: %v", what, err)
		}
	}
}

// recovers: signing goes on by itself, refused calls are completed once, and
// the log is whole.
func (e *exhaustion) recovers() {
	e.t.Helper()
	ctx := context.Background()
	start := time.Now()
	for {
		err := e.signs()
		if err == nil {
			break
		}
		if time.Since(start) > recoverWithin {
			e.t.Fatalf("no signature %v after there was room: %v", recoverWithin, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	e.t.Logf("signing again after %v", time.Since(start).Round(time.Millisecond))
	for image, key := range e.tried {
		if _, _, err := e.admin.Sign(ctx, api.SignatureRequest{Image: image, Key: "release"}, api.SignOptions{IdempotencyKey: key}); err != nil {
			e.t.Errorf("a refused call repeated: %v", err)
		}
	}
	if !e.passes() {
		e.t.Error("decisions are still not recorded")
	}
	if _, status, err := e.admin.Ready(ctx); err != nil || status != http.StatusOK {
		e.t.Errorf("readyz: %d, %v", status, err)
	}
	out, code := e.run("log", "audit", "--data-dir", e.dir)
	if code != 0 {
		e.t.Errorf("log audit: exit %d\n%s", code, out)
	}
}

func (e *exhaustion) metric(name string) (value float64) {
	e.t.Helper()
	request, err := http.NewRequest(http.MethodGet, e.url+"/metrics", nil)
	check(e.t, err)
	request.Header.Set("Authorization", "Bearer "+e.token())
	answer, err := http.DefaultClient.Do(request)
	check(e.t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	check(e.t, err)
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, err = fmt.Sscan(rest, &value)
			check(e.t, err)
		}
	}
	return value
}

// TestExhaustedDiskFull fills the disk under a running service.
func TestExhaustedDiskFull(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("NOT RUN: a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	p := newProcess(t, "--log-anonymous-writes").in(filepath.Join(mount, "data"))
	t.Cleanup(p.kill)
	e := newExhaustion(t, p)
	ballast := filepath.Join(mount, "ballast")
	fill(t, ballast)

	e.refused("signing", e.signs())
	e.refused("logging", e.logs())
	// What SQLite has set aside takes some more records.
	unrecorded := 0
	for range 2000 {
		if !e.passes() {
			unrecorded++
		}
		if unrecorded == 5 {
			break
		}
	}
	if unrecorded < 5 || e.metric("countersign_decisions_unrecorded_total") < 5 {
		t.Fatalf("%d verdicts unrecorded, metric %v", unrecorded, e.metric("countersign_decisions_unrecorded_total"))
	}
	e.refused("signing with the database full", e.signs())
	_, err := e.admin.CreateKey(t.Context(), api.KeyRequest{Name: "another"})
	e.refused("a change of trust", err)
	_, err = putPolicy(t.Context(), e.admin, "other", []byte("apiVersion: countersign.dev/v1\nkind: TrustPolicy\nmetadata: {name: other}\nspec:\n  match: {images: [\"example.com/**\"]}\n  mode: enforce\n  authorities: {signer: {key: {name: release}}}\n  require: {all: [{signature: {by: signer}}]}\n"))
	e.refused("a change of policy", err)
	if _, status, _ := e.admin.Ready(t.Context()); status != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d on a full disk", status)
	}
	e.reads()
	check(t, os.Remove(ballast))
	e.recovers()
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else {
			check(t, err)
		}
	}
}

// TestExhaustedReadOnly takes the right to write away, in two ways.
func TestExhaustedReadOnly(t *testing.T) {
	t.Run("immutable", func(t *testing.T) {
		p := newProcess(t, "--log-anonymous-writes")
		e := newExhaustion(t, p)
		if err := immutable(p.dir, true); err != nil {
			t.Skipf("NOT RUN: files cannot be made immutable here: %v", err)
		}
		t.Cleanup(func() { _ = immutable(p.dir, false) })
		e.refused("signing", e.signs())
		e.refused("logging", e.logs())
		for range 3 {
			if e.passes() {
				t.Error("a decision was recorded in an immutable file")
			}
		}
		e.reads()
		check(t, immutable(p.dir, false))
		e.recovers()
	})
	t.Run("permissions", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Log("running without root: the permissions of our own files")
		}
		p := newProcess(t, "--log-anonymous-writes").asNobody()
		e := newExhaustion(t, p)
		directories(t, p.dir, 0o555)
		e.refused("signing", e.signs())
		e.refused("logging", e.logs())
		e.passes()
		e.reads()
		directories(t, p.dir, 0o755)
		e.recovers()
	})
}

// immutable sets or takes the attribute that binds root too. Memory that SQLite
// shares through a file is left out: the kernel answers a write to a mapped
// page of an immutable file with a signal.
func immutable(dir string, on bool) error {
	const flag = 0x10 // FS_IMMUTABLE_FL
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular()) && !strings.HasSuffix(path, "-shm") {
			paths = append(paths, path)
		}
		return err
	})
	for _, path := range paths {
		f, oerr := os.Open(path)
		if oerr != nil {
			return oerr
		}
		flags, ferr := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if ferr == nil {
			if flags &^= flag; on {
				flags |= flag
			}
			ferr = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
		}
		err = errors.Join(err, ferr, f.Close())
	}
	return err
}

func directories(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, mode)
		}
		return err
	}))
}

// TestExhaustedDescriptors takes every free descriptor from a running service;
// what is connected goes on being answered.
func TestExhaustedDescriptors(t *testing.T) {
	p := newProcess(t, "--log-anonymous-writes")
	e := newExhaustion(t, p)
	// One connection to the service, and the service's to the registry, are
	// open from here on.
	e.passes()
	before := new(unix.Rlimit)
	check(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, before))
	check(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: before.Max}, nil))
	for range 3 {
		e.refused("signing", e.signs())
		e.refused("logging", e.logs())
		e.passes()
		e.reads()
	}
	check(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, before, nil))
	e.recovers()
}

// TestExhaustedByClients: as many silent clients as like to come do not take
// the descriptors that signing needs.
func TestExhaustedByClients(t *testing.T) {
	const descriptors = 256
	p := newProcess(t)
	p.shell = fmt.Sprintf("ulimit -n %d; exec \"$0\" \"$@\"", descriptors)
	e := newExhaustion(t, p)
	var silent []net.Conn
	t.Cleanup(func() {
		for _, c := range silent {
			_ = c.Close()
		}
	})
	for range 2 * descriptors {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(p.url, "http://"), time.Second)
		if err != nil {
			break
		}
		silent = append(silent, c)
	}
	if len(silent) < descriptors/2 {
		t.Fatalf("only %d clients came", len(silent))
	}
	for range 5 {
		check(t, e.signs())
		if !e.passes() {
			t.Error("a decision is not recorded")
		}
	}
}

// asNobody has the service run without the rights of root, which no permission
// binds, from a copy of the binary that everybody may read.
func (p *process) asNobody() *process {
	p.t.Helper()
	if os.Geteuid() != 0 {
		return p
	}
	binary, err := os.ReadFile(os.Args[0])
	check(p.t, err)
	home := filepath.Dir(p.dir)
	p.binary = filepath.Join(home, "countersign")
	check(p.t, os.WriteFile(p.binary, bytes.Clone(binary), 0o755))
	check(p.t, os.Chown(home, nobody, nobody))
	for _, dir := range []string{home, filepath.Dir(home)} {
		check(p.t, os.Chmod(dir, 0o755))
	}
	p.attributes = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return p
}

const nobody = 65534
