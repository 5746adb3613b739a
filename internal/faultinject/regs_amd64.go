//go:build faults && linux

package faultinject

import (
	"maps"

	"golang.org/x/sys/unix"
)

// skip makes the kernel execute no call at all.
func skip(thread int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(thread, &regs); err != nil {
		return err
	}
	regs.Orig_rax = ^uint64(0)
	return unix.PtraceSetRegs(thread, &regs)
}

func setResult(thread int, value int64) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(thread, &regs); err != nil {
		return err
	}
	regs.Rax = uint64(value) //nolint:gosec // the bits of a negative result
	return unix.PtraceSetRegs(thread, &regs)
}

// calls adds what only this architecture has.
func calls() map[uint64]changing {
	all := portable()
	maps.Copy(all, map[uint64]changing{
		unix.SYS_OPEN:   {"open", -1, 0, 1},
		unix.SYS_CREAT:  {"creat", -1, 0, -1},
		unix.SYS_RENAME: {"rename", -1, 1, -1},
		unix.SYS_LINK:   {"link", -1, 1, -1},
		unix.SYS_UNLINK: {"unlink", -1, 0, -1},
		unix.SYS_MKDIR:  {"mkdir", -1, 0, -1},
		unix.SYS_RMDIR:  {"rmdir", -1, 0, -1},
		unix.SYS_CHMOD:  {"chmod", -1, 0, -1},
	})
	return all
}
