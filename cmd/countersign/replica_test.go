//go:build interop || kubernetes

package main

import (
	"os"
	"path/filepath"
)

// replicaKey is a file with the key for replicas of a running process.
func (p *process) replicaKey() string {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "replica.key")
	check(p.t, os.WriteFile(path, []byte(p.must("replica", "key", "--data-dir", p.dir)), 0o640))
	return path
}

// replica is a verification replica of a process that serves TLS with a
// certificate of its own; it was not started. The test finds the token and whom to
// believe in the process's data folder; the replica never looks there.
func (p *process) replica(key, database string, args ...string) *process {
	p.t.Helper()
	r := newProcess(p.t, append([]string{
		"--role", "verify", "--database", database, "--replica-key-file", key, "--public-url", p.url,
	}, args...)...).secure()
	return r.in(p.dir)
}
