package revocation_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/internal/testauthority"
	"github.com/countersign/countersign/revocation"
)

func checker(t *testing.T, hosts ...string) *revocation.Checker {
	t.Helper()
	c, err := revocation.New(revocation.Config{PrivateHosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func issue(t *testing.T, ca *testauthority.NotaryCA, change func(*x509.Certificate)) []*x509.Certificate {
	t.Helper()
	return ca.Issue(testauthority.NewECDSA(t).Public(), change)
}

// Row D6: a revoked certificate is refused by either protocol, its neighbour is
// the control, and silence is no consent.
func TestCheck(t *testing.T) {
	ca := testauthority.NewNotaryCA(t, "acme CA")
	r := ca.Revoker()
	silent := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(silent.Close)
	elsewhere := httptest.NewServer(http.RedirectHandler(r.URL+"/crl", http.StatusFound))
	t.Cleanup(elsewhere.Close)
	other := testauthority.NewNotaryCA(t, "acme CA").Revoker()
	for name, tc := range map[string]struct {
		points        func(*x509.Certificate)
		good, revoked error
	}{
		"a list":      {func(c *x509.Certificate) { c.CRLDistributionPoints = []string{r.URL + "/crl"} }, nil, revocation.ErrRevoked},
		"a responder": {func(c *x509.Certificate) { c.OCSPServer = []string{r.URL + "/ocsp"} }, nil, revocation.ErrRevoked},
		"both, one silent": {func(c *x509.Certificate) {
			c.OCSPServer, c.CRLDistributionPoints = []string{silent.URL}, []string{r.URL + "/crl"}
		}, nil, revocation.ErrRevoked},
		"none":       {func(*x509.Certificate) {}, nil, nil},
		"silence":    {func(c *x509.Certificate) { c.CRLDistributionPoints = []string{silent.URL} }, revocation.ErrUnknown, revocation.ErrUnknown},
		"a redirect": {func(c *x509.Certificate) { c.CRLDistributionPoints = []string{elsewhere.URL} }, revocation.ErrUnknown, revocation.ErrUnknown},
		"a list of another authority of that name": {func(c *x509.Certificate) { c.CRLDistributionPoints = []string{other.URL + "/crl"} }, revocation.ErrUnknown, revocation.ErrUnknown},
		"an answer of another authority":           {func(c *x509.Certificate) { c.OCSPServer = []string{other.URL + "/ocsp"} }, revocation.ErrUnknown, revocation.ErrUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			c := checker(t, "127.0.0.1")
			good, bad := issue(t, ca, tc.points), issue(t, ca, tc.points)
			r.Revoke(bad[0])
			if err := c.Check(t.Context(), good, revocation.CodeSigning, time.Time{}); !errors.Is(err, tc.good) || (err == nil) != (tc.good == nil) {
				t.Errorf("control: %v, want %v", err, tc.good)
			}
			if err := c.Check(t.Context(), bad, revocation.CodeSigning, time.Time{}); !errors.Is(err, tc.revoked) || (err == nil) != (tc.revoked == nil) {
				t.Errorf("revoked: %v, want %v", err, tc.revoked)
			}
		})
	}
}

// Row I: a certificate leads nobody into the operator's own network.
func TestPrivateAddress(t *testing.T) {
	ca := testauthority.NewNotaryCA(t, "acme CA")
	r := ca.Revoker()
	chain := issue(t, ca, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{r.URL + "/crl"} })
	if err := checker(t).Check(t.Context(), chain, revocation.CodeSigning, time.Time{}); !errors.Is(err, revocation.ErrUnknown) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
	if n := r.Asked.Load(); n != 0 {
		t.Errorf("%d requests reached it", n)
	}
	if err := checker(t, "127.0.0.1").Check(t.Context(), chain, revocation.CodeSigning, time.Time{}); err != nil {
		t.Errorf("control: %v", err)
	}
}

// What was answered is remembered, and asked for once by all who want to know.
func TestRemembers(t *testing.T) {
	ca := testauthority.NewNotaryCA(t, "acme CA")
	r := ca.Revoker()
	c := checker(t, "127.0.0.1")
	chain := issue(t, ca, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{r.URL + "/crl"} })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := c.Check(t.Context(), chain, revocation.CodeSigning, time.Time{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Check(gone, chain, revocation.CodeSigning, time.Time{}); err != nil {
		t.Error(err)
	}
	if n := r.Asked.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	bad := issue(t, ca, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{r.URL + "/crl"} })
	r.Revoke(bad[0])
	for range 2 {
		if err := c.Check(t.Context(), bad, revocation.CodeSigning, time.Time{}); !errors.Is(err, revocation.ErrRevoked) {
			t.Error(err)
		}
	}
}
