package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// servedFiles serve the TLS certificate of two files as they are now: they are
// read for each handshake, which costs little beside it, so a renewed
// certificate counts without a restart and without a watch that could be lost.
// Files that do not fit together, as while they are being replaced, leave the
// certificate before in use. It is safe for concurrent use.
type servedFiles struct {
	certificate, key string
	logger           *slog.Logger

	// mu guards what follows.
	mu sync.Mutex
	// pair is in use; it was made of the contents read.
	pair *tls.Certificate
	read [2][]byte
	// refused are contents that made no pair, told once.
	refused [2][]byte
}

// serveFiles reads the files a first time; then they must be good.
func serveFiles(certificate, key string, logger *slog.Logger) (*servedFiles, error) {
	f := &servedFiles{certificate: certificate, key: key, logger: logger}
	contents, err := f.contents()
	if err != nil {
		return nil, err
	}
	f.pair, err = parsePair(contents)
	f.read = contents
	return f, err
}

// Certificate is what tls.Config.GetCertificate wants.
func (f *servedFiles) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	contents, err := f.contents()
	if err != nil || same(contents, f.read) || same(contents, f.refused) {
		return f.pair, nil //nolint:nilerr // a file that is being replaced is there again for the next caller
	}
	pair, err := parsePair(contents)
	if err != nil {
		f.refused = contents
		f.logger.Warn("the new TLS certificate is not used", "file", f.certificate, "cause", err)
		return f.pair, nil
	}
	f.pair, f.read, f.refused = pair, contents, [2][]byte{}
	f.logger.Info("the TLS certificate was renewed", "file", f.certificate, "until", pair.Leaf.NotAfter)
	return f.pair, nil
}

func (f *servedFiles) contents() (c [2][]byte, err error) {
	for i, path := range []string{f.certificate, f.key} {
		if c[i], err = os.ReadFile(path); err != nil {
			return c, err
		}
	}
	return c, nil
}

func same(a, b [2][]byte) bool { return bytes.Equal(a[0], b[0]) && bytes.Equal(a[1], b[1]) }

func parsePair(contents [2][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("reading the certificate: %w", err)
		}
	}
	return &pair, nil
}

// servingTLS is how to end TLS here, or nil for plain HTTP.
func servingTLS(certificate, key string, made func(*tls.ClientHelloInfo) (*tls.Certificate, error), logger *slog.Logger) (*tls.Config, error) {
	if certificate != "" {
		files, err := serveFiles(certificate, key, logger)
		if err != nil {
			return nil, fmt.Errorf("%w: tls-cert, tls-key: %w", errConfig, err)
		}
		made = files.Certificate
	}
	if made == nil {
		return nil, nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: made}, nil
}
