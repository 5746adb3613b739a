package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/netguard"
)

// network is how names become connections, judged by package netguard.
type network struct{ netguard.Network }

func systemNetwork() network { return network{netguard.System()} }

// dial is netguard's with this package's errors.
func (n network) dial(allowPrivate bool) func(ctx context.Context, _, addr string) (net.Conn, error) {
	dial := n.Dial(allowPrivate)
	return func(ctx context.Context, proto, addr string) (net.Conn, error) {
		conn, err := dial(ctx, proto, addr)
		switch {
		case errors.Is(err, netguard.ErrRefused):
			return nil, fmt.Errorf("%w: %w", ErrUnsafe, err)
		case errors.Is(err, netguard.ErrNoAddress):
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return conn, err
	}
}

// transport makes the HTTP transport of one rule. Responses are taken as they
// are sent: transparent decompression would put a bomb behind our byte counts.
func (n network) transport(allowPrivate bool, caBundle string) *http.Transport {
	t := &http.Transport{
		Proxy:                  nil,
		DialContext:            n.dial(allowPrivate),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    limits.DialTimeout,
		ResponseHeaderTimeout:  limits.RegistryRequest,
		MaxResponseHeaderBytes: limits.RegistryResponseHeader,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    limits.RegistryRequests,
		IdleConnTimeout:        90 * time.Second,
	}
	if caBundle != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(caBundle))
		t.TLSClientConfig.RootCAs = pool
	}
	return t
}
