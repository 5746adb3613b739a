// Package faultinject runs a program and makes one of its system calls fail. It
// is for tests only.
//
// Run traces every thread of a child (ptrace) and counts the calls that change
// files under one folder: opening with O_CREAT or O_TRUNC, write, fsync, rename,
// link, unlink, mkdir, truncate, and whatever else the kernel may be asked to
// change a name or its bytes with. The n-th of them is the step of a [Fault]:
//
//   - Error: it is not executed and reports an error;
//   - Persisted: it is executed and reports the error all the same, which no
//     mechanism of the kernel's own fault injection or of strace can do;
//   - Kill: the process is killed before it is executed;
//   - KillAfter: or when it has been.
//
// Memory that is shared with a file is outside its sight: SQLite's index of the
// write-ahead log, which is made anew after a crash.
//
// It is built with the tag faults, for Linux on amd64 and arm64. Where the
// kernel forbids tracing, Run says so with ErrForbidden.
package faultinject
