package sequencer_test

import (
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/klog/v2"
)

// TestMain runs the tests, or, when the crash test has started this binary as
// its victim, an appender that waits to be killed.
func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	if dir := os.Getenv(victimEnv); dir != "" && os.Getenv(victimSteps) != "" {
		os.Exit(steps(dir))
	} else if dir != "" {
		os.Exit(victim(dir))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}
