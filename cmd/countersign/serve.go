package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"

	"github.com/countersign/countersign/daemon"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
)

// shutdownGrace is how long running requests may take once the process was
// asked to stop.
const shutdownGrace = 20 * time.Second

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: "Runs the service on one data folder. The first start makes the keys, the log,\n" +
			"the database and an administrator's token (DATA/admin.token).\n\n" +
			"With --role verify it is a verification replica of a service whose database is\n" +
			"PostgreSQL: it verifies and answers admission, also while that service is away.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := loadConfig(cmd.Flags(), a.getenv)
			if err != nil {
				return err
			}
			config.daemon.Logger = a.logger(config.logLevel, config.logForm)
			adoptStorageLog(config.daemon.Logger)
			return a.serve(cmd.Context(), config)
		},
	}
	addSettings(cmd.Flags())
	return cmd
}

// serve listens first, so that a taken address leaves no trace in the data
// folder, and returns nil after a graceful stop.
func (a *app) serve(ctx context.Context, config serveConfig) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", config.listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	listener = netutil.LimitListener(listener, connections(descriptors()))
	defer listener.Close() //nolint:errcheck // closed by the server too; a second close only reports that
	d, err := a.open(ctx, config, listener.Addr())
	if err != nil {
		return err
	}
	err = a.serveHTTP(ctx, d, listener, config)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	return errors.Join(err, d.Close(closing))
}

// service is a daemon.Daemon or a daemon.Replica.
type service interface {
	Handler() http.Handler
	// ServingCertificate is nil when the service makes none.
	ServingCertificate() func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Drain has the service say that it is about to stop.
	Drain()
	Close(ctx context.Context) error
}

// open opens what the role asks for, and says what serves where.
func (a *app) open(ctx context.Context, config serveConfig, address net.Addr) (service, error) {
	if config.role == roleVerify {
		key, err := keys.OpenReplicaKey(config.replicaKey)
		if err != nil {
			return nil, fmt.Errorf("%w: replica-key-file: %w", errConfig, err)
		}
		replica, err := daemon.OpenReplica(ctx, config.daemon, key)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(a.err, "countersign %s verifies for %s on %s\n", version, config.daemon.PublicURL, address)
		return replica, nil
	}
	d, err := daemon.Open(ctx, config.daemon)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(a.err, "countersign %s serves %s on %s\n", version, config.daemon.PublicURL, address)
	if path := d.AdminTokenPath(); path != "" {
		fmt.Fprintf(a.err, "the administrator's token is in %s\n", path)
	}
	return d, nil
}

func (a *app) serveHTTP(ctx context.Context, d service, listener net.Listener, config serveConfig) (err error) {
	server := newHTTPServer(d.Handler(), config.daemon.Logger)
	if server.TLSConfig, err = servingTLS(config.tlsCert, config.tlsKey, d.ServingCertificate(), config.daemon.Logger); err != nil {
		return err
	}
	if config.clientCerts {
		// TLS has the client prove its key; whose certificate counts is decided
		// for each request, so a resumed session needs no second look here.
		server.TLSConfig.ClientAuth = tls.RequestClientCert
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		defer stop()
		select {
		case <-ctx.Done():
		case <-serving.Done():
			return
		}
		// Whoever balances calls between several learns it from /readyz.
		d.Drain()
		select {
		case <-time.After(config.shutdownDelay):
		case <-serving.Done():
		}
	}()
	return serveUntil(serving, server, listener)
}

// connections is how many clients are let in at the same time by a process that
// may open so many files. Clients beyond wait before they are accepted: the log,
// the database and the registries must not be left without descriptors.
func connections(descriptors uint64) int {
	reserved := min(descriptors/2, limits.ReservedDescriptors)
	return int(min(descriptors-reserved, limits.Connections))
}

// newHTTPServer bounds what a slow or silent client can hold. There is no
// write timeout: event streams and long verifications are bounded by their
// own deadlines.
func newHTTPServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}
