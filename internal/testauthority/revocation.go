package testauthority

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/countersign/countersign/internal/clock"
)

// Revoker tells, over HTTP, which certificates of a NotaryCA are revoked: a list
// at URL+"/crl", and answers to OCSP requests at URL+"/ocsp".
type Revoker struct {
	URL string
	// Asked counts the requests.
	Asked atomic.Int64

	ca      *NotaryCA
	mu      sync.Mutex
	revoked map[string]time.Time
}

// Revoker starts one, which the end of the test stops.
func (c *NotaryCA) Revoker() *Revoker {
	c.tb.Helper()
	r := &Revoker{ca: c, revoked: map[string]time.Time{}}
	server := httptest.NewServer(r)
	c.tb.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// Revoke revokes a certificate as of now.
func (r *Revoker) Revoke(cert *x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked[cert.SerialNumber.String()] = now().Add(-time.Minute)
}

// ServeHTTP answers by the beginning of the path: a ServeMux would take the
// slashes of a request in base64 for its own.
func (r *Revoker) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	switch path := request.URL.EscapedPath(); {
	case path == "/crl":
		r.list(w, request)
	case path == "/ocsp" || strings.HasPrefix(path, "/ocsp/"):
		r.status(w, request)
	default:
		http.NotFound(w, request)
	}
}

// now is the real time: the library that reads the answers has no other clock.
func now() time.Time { return clock.System{}.Now() }

func (r *Revoker) list(w http.ResponseWriter, _ *http.Request) {
	r.Asked.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now().Add(-time.Hour), NextUpdate: now().Add(time.Hour)}
	for serial, at := range r.revoked {
		number, _ := new(big.Int).SetString(serial, 10)
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: number, RevocationTime: at})
	}
	raw, err := x509.CreateRevocationList(rand.Reader, template, r.ca.mid, r.ca.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(raw)
}

func (r *Revoker) status(w http.ResponseWriter, request *http.Request) {
	r.Asked.Add(1)
	body, err := io.ReadAll(request.Body)
	if request.Method == http.MethodGet { // RFC 6960 appendix A.1
		var encoded string
		if encoded, err = url.PathUnescape(strings.TrimPrefix(request.URL.EscapedPath(), "/ocsp/")); err == nil {
			body, err = base64.StdEncoding.DecodeString(encoded)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	asked, err := ocsp.ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	at, revoked := r.revoked[asked.SerialNumber.String()]
	r.mu.Unlock()
	answer := ocsp.Response{Status: ocsp.Good, SerialNumber: asked.SerialNumber, ThisUpdate: now().Add(-time.Minute), NextUpdate: now().Add(time.Hour)}
	if revoked {
		answer.Status, answer.RevokedAt, answer.RevocationReason = ocsp.Revoked, at, ocsp.KeyCompromise
	}
	raw, err := ocsp.CreateResponse(r.ca.mid, r.ca.mid, answer, r.ca.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(raw)
}
