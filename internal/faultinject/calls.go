//go:build faults && linux && (amd64 || arm64)

package faultinject

import "golang.org/x/sys/unix"

// changing names the calls that change a file and say where: by the descriptor
// in their first argument, or by the path in argument path. Calls with two
// paths count by the one that is to be.
type changing struct {
	name string
	// fd is the argument with a descriptor, or of the directory a path is
	// relative to; -1 for none. path is the argument with a path, or -1.
	fd, path int
	// flags is the argument that must hold O_CREAT or O_TRUNC, or -1.
	flags int
}

// portable are the calls that every architecture has.
func portable() map[uint64]changing {
	return map[uint64]changing{
		unix.SYS_OPENAT:          {"openat", 0, 1, 2},
		unix.SYS_WRITE:           {"write", 0, -1, -1},
		unix.SYS_WRITEV:          {"writev", 0, -1, -1},
		unix.SYS_PWRITE64:        {"pwrite64", 0, -1, -1},
		unix.SYS_PWRITEV:         {"pwritev", 0, -1, -1},
		unix.SYS_PWRITEV2:        {"pwritev2", 0, -1, -1},
		unix.SYS_FSYNC:           {"fsync", 0, -1, -1},
		unix.SYS_FDATASYNC:       {"fdatasync", 0, -1, -1},
		unix.SYS_FTRUNCATE:       {"ftruncate", 0, -1, -1},
		unix.SYS_FALLOCATE:       {"fallocate", 0, -1, -1},
		unix.SYS_RENAMEAT:        {"renameat", 2, 3, -1},
		unix.SYS_RENAMEAT2:       {"renameat2", 2, 3, -1},
		unix.SYS_LINKAT:          {"linkat", 2, 3, -1},
		unix.SYS_UNLINKAT:        {"unlinkat", 0, 1, -1},
		unix.SYS_MKDIRAT:         {"mkdirat", 0, 1, -1},
		unix.SYS_TRUNCATE:        {"truncate", -1, 0, -1},
		unix.SYS_SYMLINKAT:       {"symlinkat", 1, 2, -1},
		unix.SYS_FCHMODAT:        {"fchmodat", 0, 1, -1},
		unix.SYS_FCHMOD:          {"fchmod", 0, -1, -1},
		unix.SYS_SENDFILE:        {"sendfile", 0, -1, -1},
		unix.SYS_SYNC_FILE_RANGE: {"sync_file_range", 0, -1, -1},
	}
}
