//go:build faults && linux

package faultinject

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// regsetSystemCall is NT_ARM_SYSTEM_CALL: the number of the call that a thread
// has entered is not among its registers.
const regsetSystemCall = 0x404

// skip makes the kernel execute no call at all.
func skip(thread int) error {
	none := int32(-1)
	vector := unix.Iovec{Base: (*byte)(unsafe.Pointer(&none)), Len: 4}
	return request(unix.PTRACE_SETREGSET, thread, regsetSystemCall, unsafe.Pointer(&vector))
}

func setResult(thread int, value int64) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(thread, &regs); err != nil {
		return err
	}
	regs.Regs[0] = uint64(value) //nolint:gosec // the bits of a negative result
	return unix.PtraceSetRegs(thread, &regs)
}

func calls() map[uint64]changing { return portable() }
