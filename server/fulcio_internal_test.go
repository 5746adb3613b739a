package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/fulcio/pkg/api"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/identity/oidc"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/testissuer"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

// office is a server with a certificate authority over real stores, a real log
// and a real issuer.
type office struct {
	t       *testing.T
	url     string
	issuer  *testissuer.Issuer
	ca      *authority.Issuer
	journal *audit.Journal
	server  *Server
}

func ok[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newSigner(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return ok[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func openOffice(t *testing.T) *office {
	t.Helper()
	ctx := t.Context()
	db := ok[*store.DB](t)(store.OpenSQLite(ctx, filepath.Join(t.TempDir(), "db.sqlite")))
	t.Cleanup(func() { db.Close() })
	log := ok[*sequencer.Sequencer](t)(sequencer.Open(ctx, sequencer.Config{
		Dir: t.TempDir(), Origin: "sign.example", Signer: newSigner(t), Leaves: db.Leaves(), CheckpointInterval: 100 * time.Millisecond, Clock: clock.System{},
	}))
	t.Cleanup(func() { _ = log.Close(context.Background()) })
	master := ok[*keys.Master](t)(keys.OpenMaster(filepath.Join(t.TempDir(), "master.key")))
	o := &office{t: t, issuer: testissuer.Start(t)}
	o.ca = ok[*authority.Issuer](t)(authority.OpenIssuer(ctx, authority.IssuerConfig{
		Keys:    authority.IssuerKeys{Root: newSigner(t), Issuing: newSigner(t), CT: newSigner(t)},
		Objects: db.Objects(), Log: log, Clock: clock.System{},
	}))
	o.server = bare(t, db.Chain())
	cfg := &o.server.cfg
	o.journal = cfg.Journal
	cfg.Certificates = o.ca
	cfg.Catalog = ok[*catalog.Catalog](t)(catalog.New(catalog.Config{Objects: db.Objects(), Sealer: master}))
	cfg.IdentityTokens = ok[*oidc.Verifier](t)(oidc.New(oidc.Config{Issuers: cfg.Catalog, Used: db.Uses(), Clock: clock.System{}}))
	for r, a := range roleTable(*cfg) {
		if strings.Contains(r.path, "signingCert") || r.path == fulcioBundlePath || r.path == fulcioConfigPath {
			o.server.access[r] = a
		}
	}
	o.server.use()
	o.server.api = newAPI(o.server.engine)
	o.server.fulcioRoutes()
	if err := o.server.checkRoutes(); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(o.server.Handler())
	t.Cleanup(web.Close)
	o.url = web.URL
	return o
}

// believe configures the issuer.
func (o *office) believe(kind string, more map[string]any) {
	o.t.Helper()
	document := map[string]any{"url": o.issuer.URL, "audience": testissuer.Audience, "kind": kind, "insecureHttp": true, "allowPrivateAddress": true}
	for name, value := range more {
		document[name] = value
	}
	draft, err := o.server.cfg.Catalog.DraftIssuer("ci", ok[[]byte](o.t)(json.Marshal(document)))
	if err != nil {
		o.t.Fatal(err)
	}
	ok[catalog.Entry[oidc.Issuer]](o.t)(o.server.cfg.Catalog.IssuerObjects().Put(o.t.Context(), draft, 0))
}

// check is what a stock verifier does with the certificate.
func (o *office) check(leaf []byte) *x509.Certificate {
	o.t.Helper()
	certificate := ok[*x509.Certificate](o.t)(x509.ParseCertificate(leaf))
	var r trust.Root
	for _, c := range o.ca.Chains() {
		r.CertificateAuthorities = append(r.CertificateAuthorities, trust.CertificateAuthority{URI: o.url, Chain: c.Certificates, Start: c.Start, End: c.End})
	}
	for _, l := range o.ca.CTLogs() {
		r.CTLogs = append(r.CTLogs, trust.Log{BaseURL: o.url, Public: l.Public, Start: l.Start, End: l.End})
	}
	material, err := r.Material()
	if err != nil {
		o.t.Fatal(err)
	}
	chains, err := verify.VerifyLeafCertificate(certificate.NotBefore, certificate, material)
	if err == nil {
		err = verify.VerifySignedCertificateTimestamp(chains, 1, material)
	}
	if err != nil {
		o.t.Error(err)
	}
	return certificate
}

// TestStockClientsGetCertificates: sigstore-go for version 2, Fulcio's own
// client for version 1, and a certificate signing request.
func TestStockClientsGetCertificates(t *testing.T) {
	o := openOffice(t)
	o.believe("github", nil)
	const name = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"

	keypair := ok[*sign.EphemeralKeypair](t)(sign.NewEphemeralKeypair(nil))
	stock := sign.NewFulcio(&sign.FulcioOptions{BaseURL: o.url})
	leaf := ok[[]byte](t)(stock.GetCertificate(t.Context(), keypair, &sign.CertificateProviderOptions{IDToken: o.issuer.GitHub(map[string]any{"aud": "sigstore"})}))
	if c := o.check(leaf); len(c.URIs) != 1 || c.URIs[0].String() != name {
		t.Errorf("names %v", c.URIs)
	}

	base := ok[*url.URL](t)(url.Parse(o.url))
	key := newSigner(t)
	spki := ok[[]byte](t)(x509.MarshalPKIXPublicKey(key.Public()))
	digest := sha256.Sum256([]byte("repo:acme/app:ref:refs/heads/main"))
	proof := ok[[]byte](t)(key.Sign(rand.Reader, digest[:], crypto.SHA256))
	legacy := api.NewClient(base)
	for what, content := range map[string][]byte{"DER": spki, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})} {
		answer, err := legacy.SigningCert(api.CertificateRequest{PublicKey: api.Key{Content: content, Algorithm: "ecdsa"}, SignedEmailAddress: proof}, o.issuer.GitHub(nil))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		block, _ := pem.Decode(answer.CertPEM)
		if c := o.check(block.Bytes); !key.PublicKey.Equal(c.PublicKey) || len(answer.SCT) != 0 || bytes.Count(answer.ChainPEM, []byte("BEGIN")) != 2 {
			t.Errorf("%s: %d bytes of SCT, chain %s", what, len(answer.SCT), answer.ChainPEM)
		}
	}
	der := ok[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{"evil.example"}}, key))
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	answer := ok[*api.CertificateResponse](t)(legacy.SigningCert(api.CertificateRequest{CertificateSigningRequest: csr}, o.issuer.GitHub(nil)))
	block, _ := pem.Decode(answer.CertPEM)
	if c := o.check(block.Bytes); c.Subject.CommonName != "" || len(c.DNSNames) != 0 || c.URIs[0].String() != name {
		t.Error("the certificate holds more of the request than its key")
	}

	records, _, err := o.journal.List(t.Context(), store.Page{})
	if err != nil || len(records) != 8 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	if r := records[0]; r.Action != "certificate.issue" || r.Resource != name || r.Outcome != audit.Done || r.ActorIssuer != o.issuer.URL {
		t.Errorf("record %+v", r)
	}
}

func TestFulcioReading(t *testing.T) {
	o := openOffice(t)
	o.believe("kubernetes", nil)
	if err := o.ca.Rotate(t.Context(), authority.IssuerKeys{Issuing: newSigner(t)}); err != nil {
		t.Fatal(err)
	}
	status, body := o.ask(http.MethodGet, fulcioBundlePath, "", "")
	var bundle fulcioBundle
	if err := json.Unmarshal(body, &bundle); err != nil || status != http.StatusOK || len(bundle.Chains) != 2 || len(bundle.Chains[0].Certificates) != 2 {
		t.Fatalf("%d %s", status, body)
	}
	block, _ := pem.Decode([]byte(bundle.Chains[0].Certificates[0]))
	if !bytes.Equal(block.Bytes, o.ca.Chains()[1].Certificates[0].Raw) {
		t.Error("the current chain is not the first")
	}
	status, body = o.ask(http.MethodGet, fulcioConfigPath, "", "")
	want := `{"issuers":[{"issuerUrl":"` + o.issuer.URL + `","audience":"countersign","challengeClaim":"sub","issuerType":"kubernetes"}]}`
	if status != http.StatusOK || string(body) != want {
		t.Errorf("%d %s", status, body)
	}
}

func (o *office) ask(method, path, bearer, body string) (int, []byte) {
	o.t.Helper()
	req := ok[*http.Request](o.t)(http.NewRequestWithContext(o.t.Context(), method, o.url+path, strings.NewReader(body)))
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	req.Header.Set("Content-Type", "application/json")
	resp := ok[*http.Response](o.t)(http.DefaultClient.Do(req))
	defer resp.Body.Close()
	return resp.StatusCode, ok[[]byte](o.t)(io.ReadAll(resp.Body))
}

// request is a well-formed version 2 request, and the parts to spoil.
func (o *office) request(key *ecdsa.PrivateKey, challenge string, change func(map[string]any)) string {
	o.t.Helper()
	spki := ok[[]byte](o.t)(x509.MarshalPKIXPublicKey(key.Public()))
	digest := sha256.Sum256([]byte(challenge))
	proof := ok[[]byte](o.t)(key.Sign(rand.Reader, digest[:], crypto.SHA256))
	public := map[string]any{"algorithm": "ECDSA", "content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))}
	document := map[string]any{"publicKeyRequest": map[string]any{"publicKey": public, "proofOfPossession": proof}}
	if change != nil {
		change(document)
	}
	return string(ok[[]byte](o.t)(json.Marshal(document)))
}

// TestCertificateRequestsRefused: whose token, whose key. E2, H5
func TestCertificateRequestsRefused(t *testing.T) {
	o := openOffice(t)
	o.believe("kubernetes", nil)
	const subject = "system:serviceaccount:ci:builder"
	key, other := newSigner(t), newSigner(t)
	good, token := o.request(key, subject, nil), o.issuer.Kubernetes(nil)
	if status, body := o.ask(http.MethodPost, fulcioV2Path, token, good); status != http.StatusOK {
		t.Fatalf("control: %d %s", status, body)
	}
	inBody := o.request(key, subject, func(d map[string]any) { d["credentials"] = map[string]any{"oidcIdentityToken": token} })
	if status, body := o.ask(http.MethodPost, fulcioV2Path, "", inBody); status != http.StatusOK {
		t.Fatalf("control with the token in the body: %d %s", status, body)
	}
	if status, body := o.ask(http.MethodPost, fulcioV2Path, token, inBody); status != http.StatusOK {
		t.Fatalf("control with the token twice: %d %s", status, body)
	}
	noProof := func(d map[string]any) { d["publicKeyRequest"].(map[string]any)["proofOfPossession"] = []byte{} }
	otherKey := func(d map[string]any) {
		spki := ok[[]byte](t)(x509.MarshalPKIXPublicKey(other.Public()))
		d["publicKeyRequest"].(map[string]any)["publicKey"] = map[string]any{"content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))}
	}
	der := ok[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
	der[len(der)-1] ^= 1
	forged := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	weak := ok[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	for what, c := range map[string]struct {
		token, body string
		status      int
		code        string
	}{
		"no token":  {"", good, 401, "unauthenticated"},
		"API token": {"cst_0123456789", good, 401, "unauthenticated"},
		"dots":      {strings.Repeat(".", 8<<10), good, 401, "unauthenticated"},
		"more dots": {"", o.request(key, subject, func(d map[string]any) {
			d["credentials"] = map[string]any{"oidcIdentityToken": strings.Repeat(".", 32<<10)}
		}), 401, "unauthenticated"},
		"other token in body": {o.issuer.Kubernetes(map[string]any{"jti": "2"}), inBody, 401, "unauthenticated"},
		"other audience":      {o.issuer.Kubernetes(map[string]any{"aud": "sigstore.dev"}), good, 401, ""},
		"expired":             {o.issuer.Kubernetes(map[string]any{"exp": 1}), good, 401, ""},
		"other subject":       {token, o.request(key, "system:serviceaccount:ci:admin", nil), 400, "key_not_certifiable"},
		"no proof":            {token, o.request(key, subject, noProof), 400, "key_not_certifiable"},
		"other's key":         {token, o.request(key, subject, otherKey), 400, "key_not_certifiable"},
		"weak key":            {token, o.request(weak, subject, nil), 400, "key_not_certifiable"},
		"no key":              {token, `{}`, 400, "key_not_certifiable"},
		"private key":         {token, `{"publicKeyRequest":{"publicKey":{"content":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}}}`, 400, "key_not_certifiable"},
		"key and request":     {token, o.request(key, subject, func(d map[string]any) { d["certificateSigningRequest"] = forged }), 400, "key_not_certifiable"},
		"forged request":      {token, o.request(key, subject, func(d map[string]any) { delete(d, "publicKeyRequest"); d["certificateSigningRequest"] = forged }), 400, "key_not_certifiable"},
		"not JSON":            {token, `{`, 400, "invalid_request"},
		"two fields":          {token, `{"publicKeyRequest":{},"publicKeyRequest":{}}`, 400, "invalid_request"},
		"null":                {token, `{"publicKeyRequest":null,"credentials":null}`, 400, "key_not_certifiable"},
		"too large":           {token, `{"x":"` + strings.Repeat("a", 70<<10) + `"}`, 413, "too_large"},
		"path in namespace": {o.issuer.Kubernetes(map[string]any{"kubernetes.io": map[string]any{
			"namespace": "ci/serviceaccounts/admin?", "serviceaccount": map[string]any{"name": "builder"},
		}}), good, 422, "identity_not_certifiable"},
	} {
		status, body := o.ask(http.MethodPost, fulcioV2Path, c.token, c.body)
		var p struct{ Code, Detail string }
		if err := json.Unmarshal(body, &p); err != nil || status != c.status || (c.code != "" && p.Code != c.code) {
			t.Errorf("%s: %d %s", what, status, body)
		}
		if strings.Contains(p.Detail, "admin") {
			t.Errorf("%s: the answer repeats a claim: %s", what, body)
		}
		if what == "too large" || what == "more dots" {
			continue
		}
		if status, _ := o.ask(http.MethodPost, fulcioV1Path, c.token, `{"publicKey":{"content":""}}`); status < 400 {
			t.Errorf("%s at version 1: %d", what, status)
		}
	}
}

// TestCertificateNeedsSigner: K3; and a token for one use makes certificates
// for one key.
func TestCertificateNeedsSigner(t *testing.T) {
	o := openOffice(t)
	o.believe("kubernetes", map[string]any{"roles": []identity.Role{identity.Verifier}})
	const subject = "system:serviceaccount:ci:builder"
	status, body := o.ask(http.MethodPost, fulcioV2Path, o.issuer.Kubernetes(nil), o.request(newSigner(t), subject, nil))
	if status != http.StatusForbidden {
		t.Errorf("%d %s", status, body)
	}
	records, _, err := o.journal.List(t.Context(), store.Page{})
	if err != nil || len(records) != 1 || records[0].Outcome != audit.Denied {
		t.Errorf("%+v, %v", records, err)
	}
	if _, body := o.ask(http.MethodGet, fulcioConfigPath, "", ""); string(body) != `{"issuers":[]}` {
		t.Errorf("%s", body)
	}

	once := openOffice(t)
	once.believe("kubernetes", map[string]any{"oneTime": true})
	token, key := once.issuer.Kubernetes(map[string]any{"jti": "only"}), newSigner(t)
	for range 2 {
		if status, body := once.ask(http.MethodPost, fulcioV2Path, token, once.request(key, subject, nil)); status != http.StatusOK {
			t.Errorf("the same key: %d %s", status, body)
		}
	}
	if status, body := once.ask(http.MethodPost, fulcioV2Path, token, once.request(newSigner(t), subject, nil)); status != http.StatusUnauthorized {
		t.Errorf("another key: %d %s", status, body)
	}
}

// TestCertificateIsJournalledFirst: without a record nothing is issued.
func TestCertificateIsJournalledFirst(t *testing.T) {
	o := openOffice(t)
	o.believe("kubernetes", nil)
	o.server.cfg.Journal = audit.New(audit.Config{Chain: brokenChain{}})
	status, body := o.ask(http.MethodPost, fulcioV2Path, o.issuer.Kubernetes(nil), o.request(newSigner(t), "system:serviceaccount:ci:builder", nil))
	if status != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("journal_unavailable")) || bytes.Contains(body, []byte("BEGIN")) {
		t.Errorf("%d %s", status, body)
	}
}
