//go:build !faults || !linux || !(amd64 || arm64)

package sequencer_test

// steps is the program that TestSteps traces, which is not in this build.
func steps(string) int { return 2 }
