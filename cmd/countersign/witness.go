package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/witness"
)

// witnessFlags say which logs are witnessed, and where.
type witnessFlags struct {
	dataDir, listen, name string
	logs                  []string
	tlsCert, tlsKey       string
	behindProxy           bool
	logLevel, logForm     string
}

func (a *app) witnessCommand() *cobra.Command {
	var f witnessFlags
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Run a witness that cosigns checkpoints of other logs",
		Long: "Serves C2SP tlog-witness (POST /add-checkpoint), /healthz and /metrics, from a data\n" +
			"folder of its own: witness.key, made at the first start, and witness.db. Its verifier\n" +
			"key is printed; logs name it in their witness policy.\n\n" +
			"--log names a file with verifier keys (NAME+ID+KEY, one a line, also as lines of a\n" +
			"tlog-policy), or ORIGIN=FILE with a public key in PEM. Keep the folder on a machine\n" +
			"that whoever runs the log cannot reach, and never restore an older copy of it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.witness(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dataDir, "data-dir", "./countersign-witness", "folder of the witness's key and state")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8182", "address to listen on")
	flags.StringVar(&f.name, "name", "", "name of a new key, such as witness.example.com/w1; needed at the first start")
	flags.StringArrayVar(&f.logs, "log", nil, "FILE with verifier keys, or ORIGIN=FILE with a PEM key; may be repeated")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "PEM file with the certificate chain to serve")
	flags.StringVar(&f.tlsKey, "tls-key", "", "PEM file with its private key")
	flags.BoolVar(&f.behindProxy, "behind-proxy", false, "serve plain HTTP on a non-loopback address because a proxy in front ends TLS")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.logForm, "log-format", "text", "text or json")
	return cmd
}

func (f witnessFlags) check() error {
	host, _, err := net.SplitHostPort(f.listen)
	switch {
	case err != nil:
		return usagef("--listen: want HOST:PORT")
	case (f.tlsCert == "") != (f.tlsKey == ""):
		return usagef("--tls-cert and --tls-key go together")
	case f.tlsCert == "" && !loopback(host) && !f.behindProxy:
		return usagef("serving plain HTTP on %s needs --tls-cert and --tls-key, or --behind-proxy", f.listen)
	case len(f.logs) == 0:
		return usagef("name the witnessed logs with --log")
	}
	return nil
}

func (a *app) witness(ctx context.Context, f witnessFlags) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	logs, err := witnessedLogs(f.logs)
	if err != nil {
		return err
	}
	lock, err := lockWitness(f.dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	key, err := witness.OpenKey(filepath.Join(f.dataDir, "witness.key"), f.name)
	if err != nil {
		return err
	}
	db, err := store.OpenSQLite(ctx, filepath.Join(f.dataDir, "witness.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	logger := a.logger(f.logLevel, f.logForm)
	w, err := witness.New(witness.Config{Logs: logs, Key: key, Objects: db.Objects(), Logger: logger})
	if err != nil {
		return usagef("%v", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer listener.Close() //nolint:errcheck // closed by the server too
	fmt.Fprintln(a.out, key.VKey())
	fmt.Fprintf(a.err, "countersign %s witnesses %d log key(s) on %s\n", version, len(logs), listener.Addr())
	server := newHTTPServer(w.Handler(), logger)
	if server.TLSConfig, err = servingTLS(f.tlsCert, f.tlsKey, nil, logger); err != nil {
		return err
	}
	return serveUntil(ctx, server, listener)
}

// lockWitness makes the folder and keeps a second witness out of it: two would
// agree on the state, but an operator who starts two has mixed up folders.
func lockWitness(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data folder: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the data folder: %w", err)
	}
	if !held {
		return nil, fmt.Errorf("%w: %s", daemon.ErrInUse, dir)
	}
	return lock, nil
}

// witnessedLogs reads the values of --log.
func witnessedLogs(values []string) ([]witness.Log, error) {
	var logs []witness.Log
	for _, value := range values {
		origin, path, named := strings.Cut(value, "=")
		if !named {
			path = value
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, usagef("--log: %v", err)
		}
		if !named {
			listed, err := witness.ParseLogs(string(raw))
			if err != nil {
				return nil, usagef("--log %s: %v", path, err)
			}
			logs = append(logs, listed...)
			continue
		}
		public, err := parsePublic(raw)
		if err != nil {
			return nil, usagef("--log %s: %v", path, err)
		}
		verifier, err := tlog.NewCheckpointVerifier(origin, public)
		if err != nil {
			return nil, usagef("--log %s: %v", value, err)
		}
		logs = append(logs, witness.Log{Verifier: verifier})
	}
	return logs, nil
}

// parsePublic reads one public key in PEM.
func parsePublic(raw []byte) (crypto.PublicKey, error) {
	return cryptoutils.UnmarshalPEMToPublicKey(raw)
}

// serveUntil serves until ctx ends, and then lets running requests finish; it
// ends TLS where the server says how.
func serveUntil(ctx context.Context, server *http.Server, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(listener, "", "")
			return
		}
		failed <- server.Serve(listener)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	return nil
}
