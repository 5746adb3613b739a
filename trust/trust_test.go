package trust_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	trustpb "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/countersign/countersign/trust"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// chain is a timestamp authority's leaf and root.
func chain(t testing.TB, start time.Time) []*x509.Certificate {
	t.Helper()
	rootKey, leafKey := newKey(t), newKey(t)
	rootTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root", Organization: []string{"Example"}},
		NotBefore: start, NotAfter: start.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leafTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "tsa"}, NotBefore: start, NotAfter: start.AddDate(9, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	}
	return []*x509.Certificate{
		certificate(t, leafTemplate, rootTemplate, leafKey.Public(), rootKey),
		certificate(t, rootTemplate, rootTemplate, rootKey.Public(), rootKey),
	}
}

func certificate(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newRoot(t testing.TB) trust.Root {
	t.Helper()
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	end := start.AddDate(0, 6, 0)
	return trust.Root{
		Logs: []trust.Log{
			{BaseURL: "https://log.example.com", Origin: "log.example.com", Public: newKey(t).Public(), Start: start, End: &end},
			{BaseURL: "https://log.example.com", Origin: "log.example.com", Public: newKey(t).Public(), Start: end},
		},
		TimestampAuthorities: []trust.TimestampAuthority{
			{URI: "https://log.example.com/api/v1/timestamp", Chain: chain(t, start), Start: start},
		},
	}
}

func TestTrustedRootIsAcceptedByStockClients(t *testing.T) {
	r := newRoot(t)
	doc, err := r.MarshalTrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	stock, err := root.NewTrustedRootFromJSON(doc)
	if err != nil {
		t.Fatal(err)
	}
	if len(stock.RekorLogs()) != 2 || len(stock.TimestampingAuthorities()) != 1 {
		t.Errorf("stock client sees %d logs and %d timestamp authorities", len(stock.RekorLogs()), len(stock.TimestampingAuthorities()))
	}
	tsa, ok := stock.TimestampingAuthorities()[0].(*root.SigstoreTimestampingAuthority)
	if !ok || tsa.Leaf == nil || tsa.Root == nil {
		t.Errorf("timestamp authority without leaf or root: %+v", tsa)
	}
	again, err := r.MarshalTrustedRoot()
	if err != nil || !bytes.Equal(doc, again) {
		t.Error("equal roots give different bytes")
	}
	material, err := r.Material()
	if err != nil || len(material.RekorLogs()) != 2 {
		t.Errorf("material: %v", err)
	}
}

func TestTrustedRootSurvivesParsing(t *testing.T) {
	r := newRoot(t)
	doc, err := r.MarshalTrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := trust.ParseTrustedRoot(doc)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parsed.MarshalTrustedRoot()
	if err != nil || !bytes.Equal(doc, again) {
		t.Errorf("parsing changed the document: %v\n%s\n%s", err, doc, again)
	}
	one, err1 := r.Fingerprint()
	two, err2 := parsed.Fingerprint()
	if err1 != nil || err2 != nil || one != two {
		t.Error("fingerprints differ")
	}
	for _, l := range parsed.Logs {
		if found, ok := parsed.Log(l.ID); !ok || !found.Public.(*ecdsa.PublicKey).Equal(l.Public) {
			t.Errorf("log %s is not found by its id", hex.EncodeToString(l.ID))
		}
	}
	if _, ok := parsed.Log([]byte("other")); ok {
		t.Error("a log was found by an id that is nobody's")
	}
}

func TestSigningConfigIsAcceptedByStockClients(t *testing.T) {
	r := newRoot(t)
	doc, err := r.MarshalSigningConfig()
	if err != nil {
		t.Fatal(err)
	}
	stock, err := root.NewSigningConfigFromJSON(doc)
	if err != nil {
		t.Fatal(err)
	}
	now := r.Logs[1].Start.Add(time.Hour)
	logs, err := root.SelectServices(stock.RekorLogURLs(), stock.RekorLogURLsConfig(), []uint32{1, 2}, now)
	if err != nil || len(logs) != 1 || logs[0].URL != "https://log.example.com" || logs[0].MajorAPIVersion != 2 {
		t.Errorf("logs %+v, %v", logs, err)
	}
	stamps, err := root.SelectServices(stock.TimestampAuthorityURLs(), stock.TimestampAuthorityURLsConfig(), []uint32{1}, now)
	if err != nil || len(stamps) != 1 || stamps[0].URL != r.TimestampAuthorities[0].URI {
		t.Errorf("timestamp authorities %+v, %v", stamps, err)
	}
	if stock.RekorLogURLsConfig().Selector == trustpb.ServiceSelector_SERVICE_SELECTOR_UNDEFINED {
		t.Error("no selector")
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, change := range map[string]func(r *trust.Root){
		"URL without scheme":    func(r *trust.Root) { r.Logs[0].BaseURL = "log.example.com" },
		"origin with a port":    func(r *trust.Root) { r.Logs[0].Origin = "log.example.com:443" },
		"no start":              func(r *trust.Root) { r.Logs[1].Start = time.Time{} },
		"end before start":      func(r *trust.Root) { end := r.Logs[0].Start.Add(-1); r.Logs[0].End = &end },
		"no key":                func(r *trust.Root) { r.Logs[0].Public = nil },
		"no chain":              func(r *trust.Root) { r.TimestampAuthorities[0].Chain = nil },
		"chain without leaf":    func(r *trust.Root) { r.TimestampAuthorities[0].Chain = r.TimestampAuthorities[0].Chain[1:] },
		"chain of another root": func(r *trust.Root) { r.TimestampAuthorities[0].Chain[1] = chain(t, r.Logs[0].Start)[1] },
		"two authorities one URI": func(r *trust.Root) {
			r.TimestampAuthorities = append(r.TimestampAuthorities, r.TimestampAuthorities[0])
		},
	} {
		r := newRoot(t)
		if _, err := r.MarshalTrustedRoot(); err != nil {
			t.Fatalf("control: %v", err)
		}
		change(&r)
		if _, err := r.MarshalTrustedRoot(); !errors.Is(err, trust.ErrRoot) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Material(); !errors.Is(err, trust.ErrRoot) {
			t.Errorf("%s as material: %v", name, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	doc, err := newRoot(t).MarshalTrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) []byte { return []byte(strings.Replace(string(doc), old, new, 1)) }
	for name, bad := range map[string][]byte{
		"empty":           nil,
		"null":            []byte("null"),
		"no media type":   []byte("{}"),
		"version 0.2":     edit("version=0.1", "version=0.2"),
		"unknown field":   edit(`{"mediaType"`, `{"extra":1,"mediaType"`),
		"duplicate field": edit(`{"mediaType"`, `{"mediaType":"","mediaType"`),
		"null log":        []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[null]}`),
		"null authority":  []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","timestampAuthorities":[{"certChain":{"certificates":[null]}}]}`),
		"too large":       append(doc, bytes.Repeat([]byte(" "), 1<<20)...),
	} {
		if _, err := trust.ParseTrustedRoot(bad); !errors.Is(err, trust.ErrRoot) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A log's id finds one key: an entry that named two logs, or none, could be
// taken for either's (row B4).
func TestLogIDsAreDistinct(t *testing.T) {
	for name, change := range map[string]func(*trust.Root){
		"the id of another log": func(r *trust.Root) {
			r.Logs[0].ID, r.Logs[1].ID = bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{7}, 32)
		},
		"an empty id": func(r *trust.Root) { r.Logs[0].ID = []byte{} },
	} {
		r := newRoot(t)
		doc, err := r.MarshalTrustedRoot()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := trust.ParseTrustedRoot(doc); err != nil {
			t.Fatalf("before the change: %v", err)
		}
		change(&r)
		if doc, err = r.MarshalTrustedRoot(); err != nil {
			t.Fatal(err)
		}
		if _, err := trust.ParseTrustedRoot(doc); !errors.Is(err, trust.ErrRoot) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// D2, D5: a window is the instance's own and includes both ends.
func TestActiveAt(t *testing.T) {
	r := newRoot(t)
	old := r.Logs[0]
	for at, want := range map[time.Time]bool{
		old.Start.Add(-1): false, old.Start: true, *old.End: true, old.End.Add(1): false,
	} {
		if old.ActiveAt(at) != want {
			t.Errorf("at %v: %v", at, !want)
		}
	}
	if !r.TimestampAuthorities[0].ActiveAt(old.End.AddDate(50, 0, 0)) {
		t.Error("an open window ended")
	}
}

func FuzzParseTrustedRoot(f *testing.F) {
	doc, err := newRoot(f).MarshalTrustedRoot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := trust.ParseTrustedRoot(raw)
		if err != nil {
			if !errors.Is(err, trust.ErrRoot) {
				t.Errorf("error outside the family: %v", err)
			}
			return
		}
		out, err := r.MarshalTrustedRoot()
		if err != nil {
			return
		}
		back, err := trust.ParseTrustedRoot(out)
		if err != nil {
			t.Fatalf("marshalled root does not parse: %v", err)
		}
		again, err := back.MarshalTrustedRoot()
		if err != nil || !bytes.Equal(out, again) {
			t.Errorf("not stable: %v\n%s\n%s", err, out, again)
		}
	})
}
