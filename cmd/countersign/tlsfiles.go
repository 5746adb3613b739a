package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"

	"github.com/countersign/countersign/server/api"
)

// tlsFiles name a client certificate and the authorities of the service's own.
type tlsFiles struct{ certificate, key, authorities string }

func (a *app) tlsFiles() tlsFiles {
	return tlsFiles{
		certificate: firstOf(a.tls.certificate, a.getenv("COUNTERSIGN_CLIENT_CERT")),
		key:         firstOf(a.tls.key, a.getenv("COUNTERSIGN_CLIENT_KEY")),
		authorities: firstOf(a.tls.authorities, a.getenv("COUNTERSIGN_CACERT")),
	}
}

// stranger is a client without any credential.
func (a *app) stranger(url string) (*api.Client, error) {
	transport, err := tlsFiles{authorities: a.tlsFiles().authorities}.transport()
	if err != nil {
		return nil, err
	}
	return api.NewClientWith(api.ClientConfig{URL: url, Transport: transport, UserAgent: "countersign/" + version})
}

// transport is nil, the default one, when there is nothing to set up. The
// certificate is read for each connection: short-lived ones are renewed under a
// running command.
func (f tlsFiles) transport() (http.RoundTripper, error) {
	if f == (tlsFiles{}) {
		return nil, nil
	}
	if (f.certificate == "") != (f.key == "") {
		return nil, usagef("--client-cert and --client-key go together")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.authorities != "" {
		bundle, err := os.ReadFile(f.authorities)
		if err != nil {
			return nil, usagef("--cacert: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(bundle) {
			return nil, usagef("--cacert: %s has no PEM certificate", f.authorities)
		}
	}
	if f.certificate != "" {
		if _, err := tls.LoadX509KeyPair(f.certificate, f.key); err != nil {
			return nil, usagef("--client-cert: %v", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
			return &pair, err
		}
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		transport = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	transport = transport.Clone()
	transport.TLSClientConfig = config
	return transport, nil
}
