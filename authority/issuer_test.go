package authority_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/google/certificate-transparency-go/x509util"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/identity"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/tlog"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
)

const (
	origin  = "sign.example"
	baseURL = "https://" + origin
)

// world is a certificate authority over a real store and a real log.
type world struct {
	issuer *authority.Issuer
	config authority.IssuerConfig
	log    *sequencer.Sequencer

	mu      sync.Mutex
	now     time.Time
	entries []*rekorpb.TransparencyLogEntry
	logErr  error
}

func (w *world) Append(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error) {
	w.mu.Lock()
	err := w.logErr
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	entry, err := w.log.Append(ctx, body)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries = append(w.entries, entry)
	return entry, err
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) at(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

func openWorld(t testing.TB) *world {
	t.Helper()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{now: time.Now().UTC()}
	w.log, err = sequencer.Open(t.Context(), sequencer.Config{
		Dir: t.TempDir(), Origin: origin, Signer: newKey(t, elliptic.P256()), Leaves: db.Leaves(),
		CheckpointInterval: 100 * time.Millisecond, Clock: clock.System{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.log.Close(context.Background()) })
	w.config = authority.IssuerConfig{
		Keys:    authority.IssuerKeys{Root: newKey(t, elliptic.P384()), Issuing: newKey(t, elliptic.P256()), CT: newKey(t, elliptic.P256())},
		Objects: db.Objects(), Log: w, Organization: "Example", Clock: w,
	}
	w.reopen(t)
	return w
}

func (w *world) reopen(t testing.TB) {
	t.Helper()
	issuer, err := authority.OpenIssuer(t.Context(), w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.issuer = issuer
}

func (w *world) issue(t testing.TB, id identity.Identity) authority.Certificate {
	t.Helper()
	c, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: id, Public: newKey(t, elliptic.P256()).Public()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// root is what outsiders are told.
func (w *world) root() trust.Root {
	var r trust.Root
	for _, c := range w.issuer.Chains() {
		if !c.Believed() {
			continue
		}
		r.CertificateAuthorities = append(r.CertificateAuthorities, trust.CertificateAuthority{URI: baseURL, Chain: c.Certificates, Start: c.Start, End: c.End})
	}
	for _, l := range w.issuer.CTLogs() {
		r.CTLogs = append(r.CTLogs, trust.Log{BaseURL: baseURL, Public: l.Public, Start: l.Start, End: l.End})
	}
	return r
}

// verifyWithStock is what sigstore-go does with a leaf at a proven time.
func verifyWithStock(t testing.TB, r trust.Root, leaf []byte, at time.Time) error {
	t.Helper()
	material, err := r.Material()
	if err != nil {
		t.Fatal(err)
	}
	certificate := parse(t, leaf)
	certificate.UnhandledCriticalExtensions = nil // the name's form, as verify.SignedEntityVerifier does
	chains, err := verify.VerifyLeafCertificate(at, certificate, material)
	if err != nil {
		return err
	}
	return verify.VerifySignedCertificateTimestamp(chains, 1, material)
}

func service() identity.Identity {
	return identity.Identity{
		Issuer: "https://cluster.example", Subject: "system:serviceaccount:ci:builder", Kind: "kubernetes",
		Claims: map[string]string{"kubernetes.io.namespace": "ci", "kubernetes.io.serviceaccount.name": "builder"},
	}
}

// TestStockClientsVerify: chain, usage, window and embedded timestamp. D1
func TestStockClientsVerify(t *testing.T) {
	w := openWorld(t)
	issued := w.issue(t, service())
	leaf, r := parse(t, issued.Leaf), w.root()
	if len(issued.Chain) != 2 || !bytes.Equal(issued.Chain[0], r.CertificateAuthorities[0].Chain[0].Raw) {
		t.Errorf("chain of %d", len(issued.Chain))
	}
	for what, at := range map[string]time.Time{"first": leaf.NotBefore, "last": leaf.NotAfter} {
		if err := verifyWithStock(t, r, issued.Leaf, at); err != nil {
			t.Errorf("%s second: %v", what, err)
		}
	}
	other := openWorld(t).root()
	early := leaf.NotBefore.Add(-2 * time.Minute)
	for what, c := range map[string]struct {
		root trust.Root
		at   time.Time
	}{
		"before":                   {r, leaf.NotBefore.Add(-time.Second)},
		"after":                    {r, leaf.NotAfter.Add(time.Second)},
		"another authority":        {trust.Root{CertificateAuthorities: other.CertificateAuthorities, CTLogs: r.CTLogs}, leaf.NotBefore},
		"another transparency log": {trust.Root{CertificateAuthorities: r.CertificateAuthorities, CTLogs: other.CTLogs}, leaf.NotBefore},
		"no transparency log":      {trust.Root{CertificateAuthorities: r.CertificateAuthorities}, leaf.NotBefore},
		"log closed before": {trust.Root{CertificateAuthorities: r.CertificateAuthorities, CTLogs: []trust.Log{
			{BaseURL: baseURL, Public: r.CTLogs[0].Public, Start: early, End: &early},
		}}, leaf.NotBefore},
		"authority closed before": {trust.Root{CTLogs: r.CTLogs, CertificateAuthorities: []trust.CertificateAuthority{
			{URI: baseURL, Chain: r.CertificateAuthorities[0].Chain, Start: early, End: &early},
		}}, leaf.NotBefore},
	} {
		if err := verifyWithStock(t, c.root, issued.Leaf, c.at); err == nil {
			t.Errorf("%s: verifies", what)
		}
	}
}

// TestTimestampIsLogged: from a certificate anyone computes its log entry.
func TestTimestampIsLogged(t *testing.T) {
	w := openWorld(t)
	issued := w.issue(t, service())
	stamps, err := x509util.ParseSCTsFromCertificate(issued.Leaf)
	if err != nil || len(stamps) != 1 {
		t.Fatalf("%d timestamps, %v", len(stamps), err)
	}
	var chain []*ctx509.Certificate
	for _, der := range [][]byte{issued.Leaf, issued.Chain[0]} {
		c, err := ctx509.ParseCertificate(der)
		if ctx509.IsFatal(err) {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	leaf, err := ct.MerkleTreeLeafForEmbeddedSCT(chain, stamps[0].Timestamp)
	if err != nil {
		t.Fatal(err)
	}
	message, err := ct.SerializeSCTSignatureInput(*stamps[0], ct.LogEntry{Leaf: *leaf})
	if err != nil {
		t.Fatal(err)
	}
	want, err := tlog.HashedRekordV002(w.config.Keys.CT.Public(), message, stamps[0].Signature.Signature)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.entries) != 1 || !bytes.Equal(w.entries[0].CanonicalizedBody, want) || w.entries[0].InclusionProof == nil {
		t.Errorf("%d entries, not the certificate's", len(w.entries))
	}
	if digest := sha256.Sum256(message); !bytes.Contains(w.entries[0].CanonicalizedBody, mustJSON(t, digest[:])) {
		t.Error("the entry is of something else")
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestNothingIsReleasedUnlogged: what the log refuses is not issued.
func TestNothingIsReleasedUnlogged(t *testing.T) {
	w := openWorld(t)
	w.issue(t, service())
	w.logErr = errors.New("log is full")
	c, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: service(), Public: newKey(t, elliptic.P256()).Public()})
	if !errors.Is(err, w.logErr) || c.Leaf != nil || c.Chain != nil {
		t.Errorf("%v", err)
	}
	w.logErr = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.issuer.Issue(ctx, authority.CertificateRequest{Identity: service(), Public: newKey(t, elliptic.P256()).Public()}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestNothingOutlivesItsIssuer: D1
func TestNothingOutlivesItsIssuer(t *testing.T) {
	w := openWorld(t)
	end := w.issuer.Chains()[0].Certificates[0].NotAfter
	for what, c := range map[string]struct {
		at   time.Time
		want error
	}{
		"last that fits":  {end.Add(-authority.Lifetime), nil},
		"one second more": {end.Add(-authority.Lifetime + time.Second), authority.ErrOutlived},
		"after the end":   {end.Add(time.Hour), authority.ErrOutlived},
		"before":          {w.issuer.Chains()[0].Certificates[0].NotBefore.Add(-time.Second), authority.ErrOutlived},
	} {
		w.at(c.at)
		_, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: service(), Public: newKey(t, elliptic.P256()).Public()})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestPublicKeys(t *testing.T) {
	w := openWorld(t)
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := func(bits int) crypto.PublicKey {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	even := rsaKey(2048).(*rsa.PublicKey)
	for what, pub := range map[string]crypto.PublicKey{
		"P-256": newKey(t, elliptic.P256()).Public(), "P-384": newKey(t, elliptic.P384()).Public(),
		"P-521": newKey(t, elliptic.P521()).Public(), "Ed25519": edwards, "RSA": even,
	} {
		c, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: service(), Public: pub})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if err := verifyWithStock(t, w.root(), c.Leaf, w.Now()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, pub := range map[string]crypto.PublicKey{
		"none": nil, "nil": (*ecdsa.PublicKey)(nil), "P-224": newKey(t, elliptic.P224()).Public(), "text": "key",
		"RSA exponent 3": &rsa.PublicKey{N: even.N, E: 3}, "short RSA": &rsa.PublicKey{N: new(big.Int).Rsh(even.N, 1024), E: 65537},
		"huge RSA": &rsa.PublicKey{N: new(big.Int).Lsh(even.N, 8192), E: 65537}, "short Ed25519": edwards[:31],
	} {
		if _, err := w.issuer.Issue(t.Context(), authority.CertificateRequest{Identity: service(), Public: pub}); !errors.Is(err, authority.ErrPublicKey) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOpenIssuerRefuses(t *testing.T) {
	w := openWorld(t)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*authority.IssuerConfig){
		"no log":           func(c *authority.IssuerConfig) { c.Log = nil },
		"no root":          func(c *authority.IssuerConfig) { c.Keys.Root = nil },
		"no issuing key":   func(c *authority.IssuerConfig) { c.Keys.Issuing = nil },
		"no CT key":        func(c *authority.IssuerConfig) { c.Keys.CT = nil },
		"one key twice":    func(c *authority.IssuerConfig) { c.Keys.CT = c.Keys.Issuing.(*ecdsa.PrivateKey) },
		"root as issuing":  func(c *authority.IssuerConfig) { c.Keys.Root = c.Keys.Issuing },
		"Ed25519 issuing":  func(c *authority.IssuerConfig) { c.Keys.Issuing = edwards },
		"P-384 CT":         func(c *authority.IssuerConfig) { c.Keys.CT = newKey(t, elliptic.P384()) },
		"root and imports": func(c *authority.IssuerConfig) { c.Keys.Imported = w.issuer.Chains()[0].Certificates },
	} {
		c := w.config
		change(&c)
		if _, err := authority.OpenIssuer(t.Context(), c); err == nil {
			t.Errorf("%s: opens", what)
		}
	}
	for _, body := range []string{
		"", "x", `{"chains":["x"]}`, `{"chains":[],"x":1}`, `{"chains":[],"ctLogs":[{"key":"AAAA","start":"2026-01-01T00:00:00Z"}]}`,
		`{"chains":[],"windows":[{"start":"2026-01-01T00:00:00Z"}]}`,
	} {
		o, err := w.config.Objects.Get(t.Context(), "certificate", "issuer")
		if err != nil {
			t.Fatal(err)
		}
		o.Body = []byte(body)
		if _, err := w.config.Objects.Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if _, err := authority.OpenIssuer(t.Context(), w.config); !errors.Is(err, authority.ErrCertificate) {
			t.Errorf("%q: %v", body, err)
		}
	}
}
