package daemon_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/server/api"
)

// front is the service behind a TLS listener that asks for certificates.
type front struct {
	t      *testing.T
	url    string
	admin  *api.Client
	server *httptest.Server
}

func newFront(t *testing.T) *front {
	t.Helper()
	dir := t.TempDir()
	d := open(t, config(dir))
	s := httptest.NewUnstartedServer(d.Handler())
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	admin, err := api.NewClientWith(api.ClientConfig{URL: s.URL, Token: token(t, dir), Transport: s.Client().Transport})
	must(t, err)
	return &front{t: t, url: s.URL, admin: admin, server: s}
}

// believe makes or replaces the issuer build-farm.
func (f *front) believe(bundle string, roles ...string) {
	f.t.Helper()
	var options api.PutOptions
	if i, err := f.admin.Issuer(f.t.Context(), "build-farm"); err == nil {
		options.Revision = i.Revision
	}
	_, err := f.admin.PutIssuer(f.t.Context(), "build-farm", api.IssuerRequest{Kind: "mtls", CABundle: bundle, Roles: roles}, options)
	must(f.t, err)
}

// caller is a client with a certificate. Each request has a connection of its
// own; sessions are resumed.
type caller struct {
	*http.Client
	resumed bool
}

func (f *front) caller(pair *tls.Certificate) *caller {
	f.t.Helper()
	c := &caller{}
	roots := x509.NewCertPool()
	roots.AddCert(f.server.Certificate())
	settings := &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(8),
		VerifyConnection: func(s tls.ConnectionState) error { c.resumed = s.DidResume; return nil },
	}
	if pair != nil {
		settings.Certificates = []tls.Certificate{*pair}
	}
	c.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}}
	return c
}

// me asks who the caller is.
func (f *front) me(c *caller, header ...string) (me api.Me, status int) {
	f.t.Helper()
	request, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.url+"/v1/me", nil)
	must(f.t, err)
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer, err := c.Do(request)
	must(f.t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(f.t, err)
	if answer.StatusCode == http.StatusOK {
		must(f.t, json.Unmarshal(body, &me))
		return me, answer.StatusCode
	}
	var problem api.Problem
	if err := json.Unmarshal(body, &problem); err != nil || problem.Code != "unauthenticated" {
		f.t.Errorf("%s %v", body, err)
	}
	return me, answer.StatusCode
}

// Row D8: the certificate of a configured authority is a credential, each
// request anew; nobody else's is.
func TestClientCertificates(t *testing.T) {
	f := newFront(t)
	ca := testauthority.NewClientCA(t, "farm")
	pair := ca.Below("row 3", nil).Issue(nil)
	c := f.caller(&pair)
	if _, status := f.me(c); status != http.StatusUnauthorized {
		t.Errorf("before any issuer: %d", status)
	}
	f.believe(ca.PEM(), "signer", "verifier")
	me, status := f.me(c)
	if status != http.StatusOK || me.Issuer != "mtls:build-farm" || me.Subject != "client.example.com" || !slices.Equal(me.Roles, []string{"signer", "verifier"}) {
		t.Fatalf("%d %+v", status, me)
	}
	lookalike := testauthority.NewClientCA(t, "farm").Issue(nil)
	expired := ca.Issue(func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(0, 0, 0) })
	forServers := ca.Issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	for name, stranger := range map[string]*tls.Certificate{"look-alike": &lookalike, "expired": &expired, "for servers": &forServers, "none": nil} {
		if _, status := f.me(f.caller(stranger)); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
	}
	// What is anonymous stays so for whoever brings a strange certificate.
	answer, err := f.caller(&lookalike).Get(f.url + "/healthz")
	must(t, err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("health with a strange certificate: %d", answer.StatusCode)
	}
	// A certificate in a header is no certificate.
	encoded, _ := testauthority.PairPEM(t, pair)
	line := strings.ReplaceAll(string(encoded), "\n", " ")
	for _, header := range []string{"X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "Client-Cert", "X-Client-Cert"} {
		if _, status := f.me(f.caller(nil), header, line); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", header, status)
		}
	}
}

// The authorities can change while connections live: a resumed session is
// judged by those of now (row D8).
func TestClientAuthoritiesChange(t *testing.T) {
	f := newFront(t)
	old, next := testauthority.NewClientCA(t, "farm"), testauthority.NewClientCA(t, "farm")
	first, second := old.Issue(nil), next.Issue(nil)
	f.believe(old.PEM())
	c := f.caller(&first)
	want := func(what string, c *caller, status int, resumed bool) {
		t.Helper()
		if _, got := f.me(c); got != status || c.resumed != resumed {
			t.Errorf("%s: status %d, resumed %v", what, got, c.resumed)
		}
	}
	want("first", c, http.StatusOK, false)
	want("resumed", c, http.StatusOK, true)
	renewed := f.caller(&second)
	want("renewed by an authority that is not believed yet", renewed, http.StatusUnauthorized, false)
	f.believe(old.PEM() + next.PEM())
	want("both believed", c, http.StatusOK, true)
	want("renewed", renewed, http.StatusOK, true)
	f.believe(next.PEM())
	want("resumed after its authority is gone", c, http.StatusUnauthorized, true)
	want("renewed", renewed, http.StatusOK, true)
	i, err := f.admin.Issuer(t.Context(), "build-farm")
	must(t, err)
	must(t, f.admin.Delete(t.Context(), "issuers", "build-farm", api.PutOptions{Revision: i.Revision}))
	want("after the issuer is gone", renewed, http.StatusUnauthorized, true)
}

// A header is meant for the request and counts alone, good or not.
func TestTokenBesideClientCertificate(t *testing.T) {
	f := newFront(t)
	ca := testauthority.NewClientCA(t, "farm")
	f.believe(ca.PEM())
	pair := ca.Issue(nil)
	c := f.caller(&pair)
	made, err := f.admin.CreateToken(t.Context(), api.TokenRequest{Name: "deploy", Roles: []string{"verifier"}})
	must(t, err)
	if me, status := f.me(c, "Authorization", "Bearer "+made.Secret); status != http.StatusOK || me.Subject != "deploy" || me.Issuer != "local" {
		t.Errorf("%d %+v", status, me)
	}
	for _, header := range []string{"Bearer cst_wrong", "Basic eDp5", "Bearer", "x"} {
		if _, status := f.me(c, "Authorization", header); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", header, status)
		}
	}
}

// What a certificate's holder may sign is said by grants; a certificate of the
// service's own cannot be had with one.
func TestClientCertificateGrants(t *testing.T) {
	f := newFront(t)
	ca := testauthority.NewClientCA(t, "farm")
	f.believe(ca.PEM())
	pair := ca.Issue(nil)
	client, err := api.NewClientWith(api.ClientConfig{URL: f.url, Transport: f.caller(&pair).Transport})
	must(t, err)
	sign := func(key string) string {
		t.Helper()
		_, _, err := client.Sign(t.Context(), api.SignatureRequest{Image: "127.0.0.1:1/team/app@sha256:" + strings.Repeat("0", 64), Key: key}, api.SignOptions{})
		var problem *api.Problem
		if !errors.As(err, &problem) {
			t.Fatal(err)
		}
		return problem.Code
	}
	_, err = f.admin.PutRegistry(t.Context(), "127.0.0.1:1", api.RegistryRequest{
		Repositories: []string{"team/**"}, InsecureHTTP: true, AllowPrivateAddress: true,
	}, api.PutOptions{})
	must(t, err)
	if got := sign("release"); got != "forbidden" {
		t.Errorf("without a grant: %s", got)
	}
	if got := sign("identity"); got != "identity_required" {
		t.Errorf("with a certificate of ours: %s", got)
	}
	if _, err := f.admin.CreateKey(t.Context(), api.KeyRequest{Name: "release"}); err != nil {
		t.Fatal(err)
	}
	_, err = f.admin.PutGrant(t.Context(), "farm", api.GrantRequest{
		Issuer: "mtls:build-farm", Subject: "client.*", Claims: map[string]string{"subjectType": "dns", "issuerDN": "CN=farm"},
		Repositories: []string{"127.0.0.1:1/team/**"}, Keys: []string{"release"}, Actions: []string{"sign"},
	}, api.PutOptions{})
	must(t, err)
	if got := sign("release"); got != "registry_unavailable" {
		t.Errorf("with a grant: %s, want it to get as far as the registry, which is not there", got)
	}
}
