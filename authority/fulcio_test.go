package authority_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/fulcio/pkg/ca"
	"github.com/sigstore/fulcio/pkg/certificate"
	"github.com/sigstore/fulcio/pkg/challenges"
	"github.com/sigstore/fulcio/pkg/config"
	fulcio "github.com/sigstore/fulcio/pkg/identity"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/testissuer"
)

// oneIssuer believes one issuer.
type oneIssuer oidc.Issuer

func (i oneIssuer) ByURL(_ context.Context, url string) (oidc.Issuer, error) {
	if url != i.URL {
		return oidc.Issuer{}, oidc.ErrUnknownIssuer
	}
	return oidc.Issuer(i), nil
}

// identify verifies a token as the service does.
func identify(t testing.TB, issuer *testissuer.Issuer, kind, token string, more map[string]any) identity.Identity {
	t.Helper()
	document := map[string]any{"url": issuer.URL, "audience": testissuer.Audience, "kind": kind, "insecureHttp": true, "allowPrivateAddress": true}
	for name, value := range more {
		document[name] = value
	}
	raw, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := oidc.ParseIssuer("test", raw)
	if err != nil {
		t.Fatal(err)
	}
	v, err := oidc.New(oidc.Config{Issuers: oneIssuer(parsed), Clock: clock.System{}})
	if err != nil {
		t.Fatal(err)
	}
	id, err := v.Authenticate(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// principal verifies a token as Fulcio does.
func principal(t testing.TB, issuer *testissuer.Issuer, token string, c *config.FulcioConfig) fulcio.Principal {
	t.Helper()
	keys := &gooidc.StaticKeySet{PublicKeys: []crypto.PublicKey{issuer.Key().Private.Public()}}
	verified, err := gooidc.NewVerifier(issuer.URL, keys, &gooidc.Config{ClientID: testissuer.Audience}).Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	p, err := challenges.PrincipalFromIDToken(config.With(t.Context(), c), verified)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func fulcioConfig(t testing.TB, entry config.OIDCIssuer) *config.FulcioConfig {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "fulcio-ci.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	// An operator gives a self-managed GitLab its own address.
	c.CIIssuerMetadata["gitlab-pipeline"].DefaultTemplateValues["url"] = entry.IssuerURL
	c.OIDCIssuers = map[string]config.OIDCIssuer{entry.IssuerURL: entry}
	return c
}

// fulcioCertificate is what Fulcio's own authority would have signed.
func fulcioCertificate(t testing.TB, p fulcio.Principal, pub crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template, err := ca.MakeX509(t.Context(), p, pub)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, elliptic.P256())
	parent := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fulcio"}, IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte{1}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCertificatesEqualFulcios: for the same token and key, every field and
// extension but the serial number, the dates and what names the issuing key.
func TestCertificatesEqualFulcios(t *testing.T) {
	w := openWorld(t)
	issuer := testissuer.Start(t)
	ci := func(provider string) config.OIDCIssuer {
		return config.OIDCIssuer{IssuerURL: issuer.URL, ClientID: testissuer.Audience, Type: config.IssuerTypeCIProvider, CIProvider: provider}
	}
	plain := func(kind config.IssuerType) config.OIDCIssuer {
		return config.OIDCIssuer{IssuerURL: issuer.URL, ClientID: testissuer.Audience, Type: kind, SubjectDomain: "https://spiffe.example"}
	}
	username := plain(config.IssuerTypeUsername)
	username.SubjectDomain = "127.0.0.1"
	for name, c := range map[string]struct {
		kind, token string
		entry       config.OIDCIssuer
	}{
		"GitHub":             {"github", issuer.GitHub(nil), ci("github-workflow")},
		"GitHub environment": {"github", issuer.GitHub(map[string]any{"environment": "production", "sub": "repo:acme/app:environment:production"}), ci("github-workflow")},
		"GitHub tag": {"github", issuer.GitHub(map[string]any{
			"ref": "refs/tags/v1.0 ü", "event_name": "release", "job_workflow_ref": "acme/shared/.github/workflows/build.yml@refs/tags/v1.0 ü#%41",
		}), ci("github-workflow")},
		"GitLab":     {"gitlab", issuer.GitLab(nil), ci("gitlab-pipeline")},
		"GitLab tag": {"gitlab", issuer.GitLab(map[string]any{"ref_type": "tag", "ref": "v2", "environment": nil}), ci("gitlab-pipeline")},
		"Buildkite":  {"buildkite", issuer.Buildkite(nil), ci("buildkite-job")},
		"Buildkite agent": {"buildkite", issuer.Buildkite(map[string]any{
			"runner_environment": "self-hosted", "build_commit": "HEAD", "build_source": "ui",
		}), ci("buildkite-job")},
		"CircleCI":     {"circleci", issuer.CircleCI(nil), ci("circleci-job")},
		"CircleCI ssh": {"circleci", issuer.CircleCI(map[string]any{"oidc.circleci.com/ssh-rerun": true}), ci("circleci-job")},
		"CircleCI webhook": {"circleci", issuer.CircleCI(map[string]any{
			"oidc.circleci.com/vcs-origin": nil, "oidc.circleci.com/vcs-ref": nil,
		}), ci("circleci-job")},
		"Kubernetes": {"kubernetes", issuer.Kubernetes(nil), plain(config.IssuerTypeKubernetes)},
		"mail":       {"generic", issuer.Token(map[string]any{"sub": "CgVhbGljZQ", "email": "alice@acme.example", "email_verified": true}), plain(config.IssuerTypeEmail)},
		"URI":        {"generic", issuer.Token(map[string]any{"sub": "https://spiffe.example/build/7"}), plain(config.IssuerTypeURI)},
		"user name":  {"generic", issuer.Token(map[string]any{"sub": "alice"}), username},
	} {
		t.Run(name, func(t *testing.T) {
			id := identify(t, issuer, c.kind, c.token, nil)
			theirs := principal(t, issuer, c.token, fulcioConfig(t, c.entry))
			key := newKey(t, elliptic.P256())
			want := fulcioCertificate(t, theirs, key.Public())
			issued, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: id, Public: key.Public()})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, parse(t, issued.Leaf), want)
			if challenge, err := authority.Challenge(id); err != nil || challenge != theirs.Name(t.Context()) {
				t.Errorf("challenge %q, Fulcio's %q, %v", challenge, theirs.Name(t.Context()), err)
			}
		})
	}
}

func compare(t *testing.T, got, want *x509.Certificate) {
	t.Helper()
	fields, err := certificate.ParseExtensions(got.Extensions)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := certificate.ParseExtensions(want.Extensions)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs, fields); diff != "" {
		t.Errorf("Fulcio's fields (-), ours (+):\n%s", diff)
	}
	if diff := cmp.Diff(extensions(want), extensions(got)); diff != "" {
		t.Errorf("Fulcio's extensions (-), ours (+):\n%s", diff)
	}
	if diff := cmp.Diff(names(want), names(got)); diff != "" || !bytes.Equal(got.RawSubject, want.RawSubject) {
		t.Errorf("Fulcio's names (-), ours (+):\n%s", diff)
	}
	if got.NotAfter.Sub(got.NotBefore) != want.NotAfter.Sub(want.NotBefore) || got.KeyUsage != want.KeyUsage || got.Version != want.Version {
		t.Errorf("%v to %v, usage %v", got.NotBefore, got.NotAfter, got.KeyUsage)
	}
}

// extensions are those that do not depend on the issuing key and the log, in
// their order.
func extensions(c *x509.Certificate) []pkix.Extension {
	var out []pkix.Extension
	for _, e := range c.Extensions {
		if e.Id.String() == "2.5.29.35" || e.Id.String() == "1.3.6.1.4.1.11129.2.4.2" {
			continue
		}
		out = append(out, e)
	}
	return out
}

func names(c *x509.Certificate) []string {
	all := append([]string{}, c.EmailAddresses...)
	all = append(all, c.DNSNames...)
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	return all
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
