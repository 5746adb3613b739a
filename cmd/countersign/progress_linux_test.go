package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// terminal is a new pseudo terminal: what is written to tty is read from pty.
func terminal(t *testing.T) (pty, tty *os.File) {
	t.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = pty.Close() })
	var unlock, number int32
	size := [4]uint16{24, 80} // a bar of no width is not drawn
	for request, arg := range map[uintptr]unsafe.Pointer{
		syscall.TIOCSPTLCK: unsafe.Pointer(&unlock), syscall.TIOCGPTN: unsafe.Pointer(&number), syscall.TIOCSWINSZ: unsafe.Pointer(&size),
	} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, pty.Fd(), request, uintptr(arg)); errno != 0 {
			t.Skipf("no pseudo terminals here: %v", errno)
		}
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return pty, tty
}

// TestProgress: a bar for a terminal, and not a byte for anything else.
func TestProgress(t *testing.T) {
	environment := map[string]string{}
	a := &app{getenv: func(name string) string { return environment[name] }}
	run := func() {
		p := a.startProgress(t.Context(), "reading")
		for i := range uint64(1000) {
			p.at(i, 1000)
		}
		p.end()
	}
	var pipe bytes.Buffer
	a.err = &pipe
	run()
	if pipe.Len() > 0 {
		t.Errorf("to a pipe: %q", pipe.String())
	}

	pty, tty := terminal(t)
	a.err = tty
	environment["TERM"] = "dumb"
	run()
	environment["TERM"] = "xterm"
	p := a.startProgress(t.Context(), "reading\x1b]0;")
	p.at(3, 10)
	said := ""
	for buf := make([]byte, 4096); !strings.Contains(said, "3 / 10"); {
		n, err := pty.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		said += string(buf[:n])
	}
	p.end()
	if !strings.Contains(said, "reading") || strings.Contains(said, "\x1b]0;") || strings.Contains(said, "1000") {
		t.Errorf("to a terminal: %q", said)
	}
}
