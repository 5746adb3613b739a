package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/internal/testauthority"
)

// renewed writes a certificate of a fresh authority into a folder and returns
// that authority.
func renewed(t *testing.T, dir string, files ...string) *x509.CertPool {
	t.Helper()
	ca := testauthority.NewClientCA(t, "cluster")
	certificate, key := testauthority.PairPEM(t, ca.Issue(func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}))
	for _, name := range files {
		check(t, os.WriteFile(filepath.Join(dir, name), map[string][]byte{"tls.crt": certificate, "tls.key": key}[name], 0o600))
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca.PEM()))
	return pool
}

// TestRenewedCertificateIsServed: files that change count for the next
// handshake; files that do not fit together, are empty or are gone leave the
// certificate before in use, and that is told.
func TestRenewedCertificateIsServed(t *testing.T) {
	dir := t.TempDir()
	first := renewed(t, dir, "tls.crt", "tls.key")
	var logged bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&logged, nil))
	config, err := servingTLS(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), nil, logger)
	check(t, err)
	server := newHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }), slog.New(slog.DiscardHandler))
	server.TLSConfig = config
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serveUntil(ctx, server, listener) }()
	believed := func(pool *x509.CertPool) bool {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
		resp, err := client.Get("https://" + listener.Addr().String())
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}
	if !believed(first) {
		t.Fatal("the first certificate is not served")
	}
	second := renewed(t, dir, "tls.crt", "tls.key")
	if !believed(second) || believed(first) {
		t.Error("the renewed certificate is not the one served")
	}
	for _, half := range []string{"tls.crt", "tls.key"} {
		renewed(t, dir, half)
		if !believed(second) {
			t.Errorf("half a renewal, %s, took the certificate away", half)
		}
	}
	check(t, os.WriteFile(filepath.Join(dir, "tls.key"), nil, 0o600))
	if !believed(second) {
		t.Error("an empty file took the certificate away")
	}
	check(t, os.Remove(filepath.Join(dir, "tls.crt")))
	if !believed(second) {
		t.Error("a missing file took the certificate away")
	}
	if third := renewed(t, dir, "tls.crt", "tls.key"); !believed(third) {
		t.Error("after that, a good pair is not served")
	}
	if !bytes.Contains(logged.Bytes(), []byte("is not used")) || !bytes.Contains(logged.Bytes(), []byte("was renewed")) {
		t.Errorf("not told: %s", logged.String())
	}
	stop()
	check(t, <-done)
}
