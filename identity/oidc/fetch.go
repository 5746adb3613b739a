package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/netguard"
	"github.com/countersign/countersign/internal/strictjson"
)

// fetcher asks issuers for their keys. It has no credentials and no memory:
// each question has a connection of its own, so that nothing of one issuer's
// transport serves another.
type fetcher struct {
	network netguard.Network
	logger  *slog.Logger
}

// keys finds and reads the issuer's JWK set.
func (f fetcher) keys(ctx context.Context, issuer Issuer) (*keySet, error) {
	set, err := f.ask(ctx, issuer)
	if errors.Is(err, netguard.ErrRefused) {
		err = fmt.Errorf("%w: %w", ErrIssuerUnsafe, err)
	}
	if err != nil {
		f.logger.WarnContext(ctx, "asking an issuer for its keys", "issuer", issuer.URL, "cause", err)
	}
	return set, err
}

func (f fetcher) ask(ctx context.Context, issuer Issuer) (*keySet, error) {
	transport := f.transport(issuer)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: stayOnOrigin}
	where := issuer.JWKSURL
	if where == "" {
		var err error
		if where, err = discover(ctx, client, issuer.URL); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
	}
	document, err := get(ctx, client, where)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return parseKeys(document)
}

// discover reads where the issuer's keys are (OpenID Connect Discovery 1.0 §4).
func discover(ctx context.Context, client *http.Client, issuer string) (string, error) {
	document, err := get(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	var d struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := strictjson.UnmarshalOpen(document, &d); err != nil {
		return "", err
	}
	if d.Issuer != issuer {
		return "", fmt.Errorf("%w: the document is another issuer's", ErrIssuerUnsafe)
	}
	here, err := url.Parse(issuer)
	if err != nil {
		return "", err
	}
	there, err := url.Parse(d.Keys)
	if err != nil || !sameOrigin(here, there) || there.User != nil {
		return "", fmt.Errorf("%w: jwks_uri has another scheme, host or port", ErrIssuerUnsafe)
	}
	return d.Keys, nil
}

func get(ctx context.Context, client *http.Client, where string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "countersign")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limits.IssuerDocument+1))
	if err != nil {
		return nil, err
	}
	if len(body) > limits.IssuerDocument {
		return nil, fmt.Errorf("larger than %d bytes", limits.IssuerDocument)
	}
	return body, nil
}

func stayOnOrigin(req *http.Request, via []*http.Request) error {
	if len(via) > limits.Redirects {
		return errors.New("too many redirects")
	}
	if !sameOrigin(via[0].URL, req.URL) || req.URL.User != nil {
		return fmt.Errorf("%w: redirect to another scheme, host or port", ErrIssuerUnsafe)
	}
	return nil
}

// sameOrigin compares scheme, host and port (RFC 6454 §5).
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

func (f fetcher) transport(issuer Issuer) *http.Transport {
	t := &http.Transport{
		Proxy:                  nil,
		DialContext:            f.network.Dial(issuer.AllowPrivateAddress),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    limits.DialTimeout,
		ResponseHeaderTimeout:  limits.IssuerRequest,
		MaxResponseHeaderBytes: limits.RegistryResponseHeader,
		DisableCompression:     true, // a bomb would pass behind the byte count
		ForceAttemptHTTP2:      true,
		IdleConnTimeout:        time.Second,
	}
	if issuer.CABundle != "" {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		t.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(issuer.CABundle))
	}
	return t
}
