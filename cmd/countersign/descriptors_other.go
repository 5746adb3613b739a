//go:build !unix

package main

import "github.com/countersign/countersign/internal/limits"

// descriptors is without bound where the system has none.
func descriptors() uint64 { return limits.Connections + limits.ReservedDescriptors }
