//go:build unix

package main

import (
	"syscall"

	"github.com/countersign/countersign/internal/limits"
)

// descriptors is how many files the process may have open. The runtime has
// raised the soft limit to the hard one.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 2 * limits.ReservedDescriptors
	}
	return uint64(limit.Cur) //nolint:unconvert // signed on some systems
}
