//go:build faults && linux && (amd64 || arm64)

package faultinject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// options follow every thread, kill the child with its tracer, and tell stops
// of system calls from signals.
const options = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
	unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESYSGOOD

// syscallStop is the signal of a stop at a system call.
const syscallStop = unix.SIGTRAP | 0x80

// Run runs cmd, whose standard output is collected, and injects the fault into
// what it does to files under dir. A program that has not ended by then is
// killed when timeout is over. An error says that the run shows nothing.
func Run(cmd *exec.Cmd, dir string, fault Fault, timeout time.Duration) (Report, error) {
	// Only the thread that started a tracee may speak to it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	reader, writer, err := os.Pipe()
	if err != nil {
		return Report{}, err
	}
	defer reader.Close() //nolint:errcheck // read to its end below
	cmd.Stdout = writer
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	err = cmd.Start()
	err = errors.Join(err, writer.Close())
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
		return Report{}, fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	if err != nil {
		return Report{}, fmt.Errorf("starting the program: %w", err)
	}
	var output bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(&output, reader) })
	pid := cmd.Process.Pid
	ending := time.AfterFunc(timeout, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	t := &tracer{pid: pid, dir: dir, fault: fault, calls: calls()}
	err = t.trace()
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
	late := !ending.Stop()
	reading.Wait()
	_ = cmd.Process.Release()
	t.report.Output = output.Bytes()
	if err == nil && late {
		err = fmt.Errorf("the program did not end within %v", timeout)
	}
	return t.report, err
}

type tracer struct {
	pid    int
	dir    string
	fault  Fault
	calls  map[uint64]changing
	report Report
	// victim is the thread whose call is at the fault's step and has not
	// returned; 0 for none.
	victim int
}

// trace follows the threads until the process is gone.
func (t *tracer) trace() error {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(t.pid, &status, 0, nil); err != nil {
		return fmt.Errorf("waiting for the program: %w", err)
	}
	if err := unix.PtraceSetOptions(t.pid, options); err != nil {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	if err := unix.PtraceSyscall(t.pid, 0); err != nil {
		return err
	}
	for {
		// This thread's tracees only: others may run programs of their own.
		thread, err := syscall.Wait4(-1, &status, syscall.WALL|ofThisThread, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("waiting for a thread: %w", err)
		case thread == t.pid && (status.Exited() || status.Signaled()):
			t.report.Status = status
			return nil
		case !status.Stopped():
			continue
		}
		if err := t.stopped(thread, status); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
}

// stopped deals with one stop and lets the thread go on.
func (t *tracer) stopped(thread int, status syscall.WaitStatus) error {
	signal := 0
	switch sig := status.StopSignal(); sig {
	case syscallStop:
		if err := t.call(thread); err != nil {
			return err
		}
	case syscall.SIGTRAP, syscall.SIGSTOP:
		// A new thread, or the mark of its birth.
	default:
		signal = int(sig)
	}
	return unix.PtraceSyscall(thread, signal)
}

// Numbers of the kernel's interface that x/sys does not name.
const (
	getSyscallInfo = 0x420e
	atEntry        = 1
	atExit         = 2
	// ofThisThread keeps wait from children of other threads.
	ofThisThread = 0x20000000
)

// stop is the kernel's struct ptrace_syscall_info: at an entry, data is the
// call's number and its arguments; at an exit its result.
type stop struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	data [8]uint64
}

func request(request, thread int, argument uintptr, data unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(thread), argument, uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (t *tracer) call(thread int) error {
	var s stop
	if err := request(getSyscallInfo, thread, unsafe.Sizeof(s), unsafe.Pointer(&s)); err != nil { //nolint:gosec // the kernel fills it
		return err
	}
	switch s.op {
	case atEntry:
		return t.enters(thread, s.data[0], s.data[1:7])
	case atExit:
		return t.returns(thread, int64(s.data[0])) //nolint:gosec // the bits of a result
	}
	return nil
}

func (t *tracer) enters(thread int, number uint64, arguments []uint64) error {
	step, counts := t.step(thread, number, arguments)
	if !counts {
		return nil
	}
	t.report.Steps = append(t.report.Steps, step)
	if len(t.report.Steps) != t.fault.Step || t.fault.Mode == None {
		return nil
	}
	t.report.Injected = true
	t.victim = thread
	switch t.fault.Mode {
	case Error:
		return skip(thread)
	case Kill:
		return syscall.Kill(t.pid, syscall.SIGKILL)
	}
	return nil
}

func (t *tracer) returns(thread int, result int64) error {
	if thread != t.victim {
		return nil
	}
	t.victim = 0
	switch {
	case t.fault.Mode == KillAfter:
		return syscall.Kill(t.pid, syscall.SIGKILL)
	case t.fault.Mode == Persisted && result < 0:
		// It failed by itself; that is a fault, too.
		return nil
	}
	return setResult(thread, -int64(t.fault.Errno)) //nolint:gosec // a small number
}

// step is the call that a thread has entered, if it changes a file of the
// folder.
func (t *tracer) step(thread int, number uint64, arguments []uint64) (Step, bool) {
	c, known := t.calls[number]
	if !known || (c.flags >= 0 && arguments[c.flags]&(unix.O_CREAT|unix.O_TRUNC) == 0) {
		return Step{}, false
	}
	path := ""
	if c.path >= 0 {
		path = t.text(thread, arguments[c.path])
	}
	if !filepath.IsAbs(path) && c.fd >= 0 {
		base, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t.pid, int32(arguments[c.fd]))) //nolint:gosec // a descriptor
		if err != nil {
			return Step{}, false
		}
		path = filepath.Join(base, path)
	}
	rest, inside := strings.CutPrefix(path, t.dir+"/")
	return Step{c.name, rest}, inside || path == t.dir
}

// text reads a string of the traced program.
func (t *tracer) text(thread int, address uint64) string {
	buffer := make([]byte, 512)
	n, _ := unix.PtracePeekData(thread, uintptr(address), buffer)
	text, _, _ := bytes.Cut(buffer[:n], []byte{0})
	return string(text)
}
