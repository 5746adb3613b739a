// Command countersign signs container images and their provenance, records
// every signature in its own transparency log, and answers whether an image
// may run. `countersign serve` is the service; everything else is a client of
// one, or works on files.
//
// The answer of a command goes to standard output, everything else to standard
// error. Called by the name countersign-containerd-verifier it is that command.
// Exit codes are listed in `countersign help exit-codes`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker (-X main.version=…).
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, commandLine(os.Args), streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Getenv)
	stop()
	os.Exit(code)
}
