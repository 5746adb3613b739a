package identity_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"reflect"
	"slices"
	"testing"

	"github.com/sigstore/fulcio/pkg/certificate"

	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/testauthority"
)

// rendered is a certificate with what Fulcio itself writes.
func rendered(t *testing.T, e certificate.Extensions, names ...string) *x509.Certificate {
	t.Helper()
	extensions, err := e.Render()
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{Extensions: extensions}
	for _, name := range names {
		u, err := url.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		cert.URIs = append(cert.URIs, u)
	}
	return cert
}

// Every extension that Fulcio knows is read under a name, each under its own.
func TestParseHolder(t *testing.T) {
	const subject = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
	e := certificate.Extensions{}
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		v.Field(i).SetString(v.Type().Field(i).Name)
	}
	e.Issuer = "https://issuer.example"
	holder, err := identity.ParseHolder(rendered(t, e, subject))
	if err != nil {
		t.Fatal(err)
	}
	if holder.Issuer != e.Issuer || holder.Subject != subject || holder.String() != e.Issuer+" "+subject {
		t.Errorf("%+v", holder)
	}
	want := map[string]string{
		"workflow": "GithubWorkflowName", "repository": "GithubWorkflowRepository",
		"buildSignerUri": "BuildSignerURI", "buildSignerDigest": "BuildSignerDigest", "runnerEnvironment": "RunnerEnvironment",
		"repositoryUri": "SourceRepositoryURI", "sha": "SourceRepositoryDigest", "ref": "SourceRepositoryRef",
		"repositoryId": "SourceRepositoryIdentifier", "ownerUri": "SourceRepositoryOwnerURI", "ownerId": "SourceRepositoryOwnerIdentifier",
		"buildConfigUri": "BuildConfigURI", "buildConfigDigest": "BuildConfigDigest", "trigger": "BuildTrigger",
		"runUri": "RunInvocationURI", "visibility": "SourceRepositoryVisibilityAtSigning", "environment": "DeploymentEnvironment",
		"tokenSubject": "Subject",
	}
	if !reflect.DeepEqual(holder.Claims, want) {
		t.Errorf("claims %v, want %v", holder.Claims, want)
	}
	if len(want) != len(identity.Extensions()) || !slices.ContainsFunc(identity.Extensions(), func(e identity.Extension) bool {
		return e.Name == "ref" && e.OID.String() == "1.3.6.1.4.1.57264.1.14"
	}) {
		t.Error("the table differs")
	}
	if !identity.IsExtension("ref") || identity.IsExtension("Ref") || identity.IsExtension("") {
		t.Error("IsExtension")
	}
}

func TestParseHolderRefuses(t *testing.T) {
	good := certificate.Extensions{Issuer: "https://issuer.example"}
	if _, err := identity.ParseHolder(rendered(t, good, "https://s.example/x")); err != nil {
		t.Fatalf("control: %v", err)
	}
	email := rendered(t, good)
	email.EmailAddresses = []string{"a@example.com"}
	if h, err := identity.ParseHolder(email); err != nil || h.Subject != "a@example.com" {
		t.Fatalf("control: %+v, %v", h, err)
	}
	for name, cert := range map[string]*x509.Certificate{
		"no extensions":    {URIs: rendered(t, good, "https://s.example/x").URIs},
		"no name":          rendered(t, good),
		"two names":        rendered(t, good, "https://s.example/x", "https://s.example/y"),
		"two kinds":        with(rendered(t, good, "https://s.example/x"), func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} }),
		"a host beside it": with(rendered(t, good, "https://s.example/x"), func(c *x509.Certificate) { c.DNSNames = []string{"s.example"} }),
		"two issuers": with(rendered(t, good, "https://s.example/x"), func(c *x509.Certificate) {
			c.Extensions[0].Value = []byte("https://evil.io")
		}),
		"malformed extension": with(rendered(t, good, "https://s.example/x"), func(c *x509.Certificate) {
			c.Extensions = append(c.Extensions, pkix.Extension{Id: certificate.OIDSourceRepositoryRef, Value: []byte("refs/heads/main")})
		}),
		"empty issuer": with(rendered(t, good, "https://s.example/x"), func(c *x509.Certificate) {
			c.Extensions = []pkix.Extension{{Id: certificate.OIDIssuerV2, Value: []byte{12, 0}}}
		}),
	} {
		if h, err := identity.ParseHolder(cert); !errors.Is(err, identity.ErrHolder) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

func with(c *x509.Certificate, change func(*x509.Certificate)) *x509.Certificate {
	change(c)
	return c
}

// FuzzParseHolder: no certificate panics, and a holder is never nameless.
func FuzzParseHolder(f *testing.F) {
	ca := testauthority.NewCA(f, testauthority.CAOptions{})
	f.Add(ca.Issue(testauthority.NewECDSA(f).Public(), testauthority.CertificateRequest{
		Issuer: "https://issuer.example", Subject: "https://s.example/x", Extensions: map[int]string{5: "acme/app"},
	}).Raw)
	f.Add(ca.Chain()[0].Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if h, err := identity.ParseHolder(cert); err == nil && (h.Issuer == "" || h.Subject == "") {
			t.Fatalf("%+v", h)
		}
	})
}
