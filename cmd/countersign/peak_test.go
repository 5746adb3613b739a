//go:build interop || kubernetes

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// forgetPeak and peak bound a stretch of time in which the most resident memory
// of the process is measured, where the kernel tells.
func (p *process) forgetPeak(b *testing.B) {
	b.Helper()
	check(b, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0))
}

func (p *process) peak(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	check(b, err)
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kib float64
	_, err = fmt.Sscanf(after, "%g kB", &kib)
	check(b, err)
	return kib / 1024
}
