package authority_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/timestamp-authority/v2/pkg/verification"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
)

// bench is an authority over a real store.
type bench struct {
	*authority.Timestamper
	config authority.TimestampConfig
	now    time.Time
}

func open(t testing.TB) *bench {
	t.Helper()
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	b := &bench{now: time.Now().UTC().Truncate(time.Second).Add(300 * time.Millisecond)}
	b.config = authority.TimestampConfig{
		Root: newKey(t, elliptic.P384()), Leaf: newKey(t, elliptic.P256()), Objects: db.Objects(),
		Organization: "Example", Clock: clock.Func(func() time.Time { return b.now }),
	}
	b.Timestamper = b.reopen(t)
	return b
}

func (b *bench) reopen(t testing.TB) *authority.Timestamper {
	t.Helper()
	ts, err := authority.OpenTimestamper(t.Context(), b.config)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (b *bench) verifyOptions() verification.VerifyOpts {
	chain := b.Chain()
	return verification.VerifyOpts{
		OID: authority.PolicyOID(), TSACertificate: chain[0], Roots: chain[1:], CommonName: "Example timestamp authority",
	}
}

func TestStampVerifies(t *testing.T) {
	b := open(t)
	message := []byte("signature bytes")
	response, err := b.Stamp(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	got, err := verification.VerifyTimestampResponse(response, bytes.NewReader(message), b.verifyOptions())
	if err != nil {
		t.Fatal(err)
	}
	if !got.Time.Equal(b.now.Truncate(time.Second)) || got.Accuracy != time.Second || got.Ordering || got.Nonce != nil {
		t.Errorf("%+v", got)
	}
	if len(got.Certificates) != 0 || !got.Policy.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}) {
		t.Errorf("%d certificates, policy %v", len(got.Certificates), got.Policy)
	}
	if _, err := verification.VerifyTimestampResponse(response, strings.NewReader("other"), b.verifyOptions()); err == nil {
		t.Error("it stamps another message too")
	}
	again, err := b.Stamp(t.Context(), message)
	if err != nil || bytes.Equal(again, response) {
		t.Errorf("two stamps share a serial number, %v", err)
	}
}

// TestSigstoreGoVerifies is what stock cosign does with a bundle's timestamp.
func TestSigstoreGoVerifies(t *testing.T) {
	b := open(t)
	signature := []byte("signature bytes")
	response, err := b.Stamp(t.Context(), signature)
	if err != nil {
		t.Fatal(err)
	}
	chain := b.Chain()
	tsa := root.SigstoreTimestampingAuthority{
		Root: chain[1], Leaf: chain[0], ValidityPeriodStart: chain[0].NotBefore, URI: "https://example.com/api/v1/timestamp",
	}
	got, err := tsa.Verify(response, signature)
	if err != nil || !got.Time.Equal(b.now.Truncate(time.Second)) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := tsa.Verify(response, []byte("another")); err == nil {
		t.Error("another signature")
	}
	other := open(t).Chain()
	tsa.Leaf, tsa.Root = other[0], other[1]
	if _, err := tsa.Verify(response, signature); err == nil {
		t.Error("another authority")
	}
}

// TestOpenSSLVerifies asks the implementation that shares no code with ours.
func TestOpenSSLVerifies(t *testing.T) {
	binary, err := exec.LookPath("openssl")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("openssl is not installed")
	}
	if err != nil {
		t.Skip("NOT RUN: openssl is not installed")
	}
	b, dir := open(t), t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, content []byte) {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
		return string(out), err
	}
	write("data", []byte("signature bytes"))
	write("other", []byte("something else"))
	chain := b.Chain()
	for i, name := range []string{"leaf.pem", "root.pem"} {
		write(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[i].Raw}))
	}
	for _, digest := range []string{"-sha256", "-sha384", "-sha512"} {
		for _, certificates := range []bool{true, false} {
			query := []string{"ts", "-query", "-data", path("data"), digest, "-out", path("query")}
			verify := []string{"-queryfile", path("query"), "-in", path("reply"), "-CAfile", path("root.pem")}
			if certificates {
				query = append(query, "-cert")
			} else {
				verify = append(verify, "-untrusted", path("leaf.pem"))
			}
			if out, err := run(query...); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			der, err := os.ReadFile(path("query"))
			if err != nil {
				t.Fatal(err)
			}
			reply, err := b.Respond(t.Context(), der)
			if err != nil {
				t.Fatalf("%s: %v", digest, err)
			}
			write("reply", reply)
			if out, err := run(append([]string{"ts", "-verify"}, verify...)...); err != nil || !strings.Contains(out, "Verification: OK") {
				t.Errorf("%s, certificates %v: %v: %s", digest, certificates, err, out)
			}
			if out, err := run("ts", "-verify", "-data", path("other"), "-in", path("reply"), "-CAfile", path("root.pem"),
				"-untrusted", path("leaf.pem")); err == nil {
				t.Errorf("other data verifies: %s", out)
			}
		}
	}
	stamp, err := b.Stamp(t.Context(), []byte("signature bytes"))
	if err != nil {
		t.Fatal(err)
	}
	write("stamp", stamp)
	if out, err := run("ts", "-verify", "-data", path("data"), "-in", path("stamp"), "-CAfile", path("root.pem"),
		"-untrusted", path("leaf.pem")); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run("verify", "-purpose", "timestampsign", "-CAfile", path("root.pem"), path("leaf.pem")); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRespondRepeatsTheQuestion(t *testing.T) {
	b := open(t)
	nonce := new(big.Int).SetBytes(bytes.Repeat([]byte{0xfe}, 20))
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for _, certificates := range []bool{true, false} {
			query, err := timestamp.CreateRequest(strings.NewReader("m"), &timestamp.RequestOptions{
				Hash: hash, Certificates: certificates, Nonce: nonce, TSAPolicyOID: authority.PolicyOID(),
			})
			if err != nil {
				t.Fatal(err)
			}
			response, err := b.Respond(t.Context(), query)
			if err != nil {
				t.Fatalf("%v: %v", hash, err)
			}
			options := b.verifyOptions()
			options.Nonce = nonce
			got, err := verification.VerifyTimestampResponse(response, strings.NewReader("m"), options)
			if err != nil {
				t.Fatalf("%v: %v", hash, err)
			}
			if got.HashAlgorithm != hash || (len(got.Certificates) == 1) != certificates {
				t.Errorf("%v, %d certificates", got.HashAlgorithm, len(got.Certificates))
			}
		}
	}
}

func TestRespondRefuses(t *testing.T) {
	b := open(t)
	digest := sha256.Sum256([]byte("m"))
	request := func(change func(*timestamp.Request)) []byte {
		r := timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:], Certificates: true}
		change(&r)
		der, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good := request(func(*timestamp.Request) {})
	if _, err := b.Respond(t.Context(), good); err != nil {
		t.Fatalf("control: %v", err)
	}
	version2 := bytes.Replace(good, []byte{2, 1, 1}, []byte{2, 1, 2}, 1)
	explicitFalse := bytes.Clone(good)
	explicitFalse[len(explicitFalse)-1] = 0
	for what, der := range map[string][]byte{
		"nothing":         nil,
		"text":            []byte("POST / HTTP/1.1"),
		"cut":             good[:len(good)-1],
		"trailing":        append(bytes.Clone(good), 0),
		"too long":        request(func(r *timestamp.Request) { r.Nonce = new(big.Int).Lsh(big.NewInt(1), 8*limits.TimestampQuery) }),
		"dots":            bytes.Repeat([]byte("."), 1<<20), // H5
		"SHA-1":           request(func(r *timestamp.Request) { r.HashAlgorithm, r.HashedMessage = crypto.SHA1, digest[:20] }),
		"short imprint":   request(func(r *timestamp.Request) { r.HashedMessage = digest[:31] }),
		"long imprint":    request(func(r *timestamp.Request) { r.HashedMessage = append(bytes.Clone(digest[:]), 0) }),
		"other policy":    request(func(r *timestamp.Request) { r.TSAPolicyOID = asn1.ObjectIdentifier{1, 2, 3} }),
		"version 2":       version2,
		"explicit FALSE":  explicitFalse,
		"null everything": {0x30, 0x04, 0x05, 0x00, 0x05, 0x00}, // H7
	} {
		if response, err := b.Respond(t.Context(), der); !errors.Is(err, authority.ErrQuery) || response != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestCertificateProfile: RFC 3161 §2.3. D4
func TestCertificateProfile(t *testing.T) {
	b := open(t)
	chain := b.Chain()
	if len(chain) != 2 {
		t.Fatalf("%d certificates", len(chain))
	}
	leaf, root := chain[0], chain[1]
	if leaf.IsCA || !root.IsCA || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping ||
		len(leaf.UnknownExtKeyUsage) != 0 || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("leaf %+v", leaf)
	}
	critical := 0
	for _, e := range leaf.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) && e.Critical {
			critical++
		}
	}
	if critical != 1 || leaf.SerialNumber.BitLen() < 64 || leaf.SerialNumber.Cmp(root.SerialNumber) == 0 {
		t.Errorf("critical %d, serial %v", critical, leaf.SerialNumber)
	}
	rest := b.ChainPEM()
	for i := range chain {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || !bytes.Equal(block.Bytes, chain[i].Raw) {
			t.Fatalf("PEM %d differs", i)
		}
	}
	if len(rest) != 0 {
		t.Error("more PEM than certificates")
	}
}

func TestCertificatesAreKept(t *testing.T) {
	b := open(t)
	same := b.reopen(t)
	if !same.Chain()[0].Equal(b.Chain()[0]) || len(same.Retired()) != 0 {
		t.Fatal("a restart made new certificates")
	}

	b.config.Leaf = newKey(t, elliptic.P384())
	rekeyed := b.reopen(t)
	if len(rekeyed.Retired()) != 1 || !rekeyed.Retired()[0][0].Equal(b.Chain()[0]) || !rekeyed.Chain()[1].Equal(b.Chain()[1]) {
		t.Error("a new leaf key must get a leaf under the root that is trusted already")
	}
	b.Timestamper = rekeyed
	response, err := b.Stamp(t.Context(), []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verification.VerifyTimestampResponse(response, strings.NewReader("m"), b.verifyOptions()); err != nil {
		t.Error(err)
	}

	b.now = b.Chain()[0].NotAfter.Add(-30 * 24 * time.Hour)
	renewed := b.reopen(t)
	if len(renewed.Retired()) != 2 || !renewed.Retired()[1][0].Equal(b.Chain()[0]) || !renewed.Chain()[0].NotAfter.After(b.now.AddDate(5, 0, 0)) {
		t.Error("a leaf near its end must be replaced and kept")
	}
	if _, err := renewed.Stamp(t.Context(), []byte("m")); err != nil {
		t.Error(err)
	}
}

// TestTwoStarts: processes that start together serve one chain.
func TestTwoStarts(t *testing.T) {
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := authority.TimestampConfig{
		Root: newKey(t, elliptic.P256()), Leaf: newKey(t, elliptic.P256()), Objects: db.Objects(), Clock: clock.System{},
	}
	leaves := make([]*x509.Certificate, 4)
	var wg sync.WaitGroup
	for i := range leaves {
		wg.Go(func() {
			ts, err := authority.OpenTimestamper(t.Context(), c)
			if err != nil {
				t.Error(err)
				return
			}
			leaves[i] = ts.Chain()[0]
		})
	}
	wg.Wait()
	for _, leaf := range leaves {
		if leaf == nil || !leaf.Equal(leaves[0]) {
			t.Fatal("two chains")
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	b := open(t)
	_, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*authority.TimestampConfig){
		"no leaf":      func(c *authority.TimestampConfig) { c.Leaf = nil },
		"one key":      func(c *authority.TimestampConfig) { c.Leaf = c.Root },
		"ed25519 leaf": func(c *authority.TimestampConfig) { c.Leaf = edPrivate },
	} {
		c := b.config
		change(&c)
		if _, err := authority.OpenTimestamper(t.Context(), c); err == nil {
			t.Errorf("%s: opens", what)
		}
	}
	for _, body := range []string{"", "x", `{"chains":["x"]}`, `{"chains":[""]}`, `{"chains":[],"x":1}`} {
		o, err := b.config.Objects.Get(t.Context(), "certificate", "timestamp")
		if err != nil {
			t.Fatal(err)
		}
		o.Body = []byte(body)
		if _, err := b.config.Objects.Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if _, err := authority.OpenTimestamper(t.Context(), b.config); !errors.Is(err, authority.ErrCertificate) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// TestForgedStoredChain: whoever can write the store cannot put a certificate
// of their own in front of our key.
func TestForgedStoredChain(t *testing.T) {
	b, mallory := open(t), open(t)
	theirs, err := mallory.config.Objects.Get(t.Context(), "certificate", "timestamp")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := b.config.Objects.Get(t.Context(), "certificate", "timestamp")
	if err != nil {
		t.Fatal(err)
	}
	ours.Body = theirs.Body
	if _, err := b.config.Objects.Put(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	got := b.reopen(t).Chain()
	if got[0].Equal(mallory.Chain()[0]) || !b.config.Leaf.Public().(*ecdsa.PublicKey).Equal(got[0].PublicKey) {
		t.Error("serves somebody else's certificate")
	}
}

func TestOutsideValidity(t *testing.T) {
	b := open(t)
	leaf := b.Chain()[0]
	for what, c := range map[string]struct {
		at   time.Time
		want error
	}{
		"first second": {leaf.NotBefore, nil},
		"before":       {leaf.NotBefore.Add(-time.Millisecond), authority.ErrExpired},
		"last second":  {leaf.NotAfter.Add(900 * time.Millisecond), nil},
		"after":        {leaf.NotAfter.Add(time.Second), authority.ErrExpired},
	} {
		b.now = c.at
		if _, err := b.Stamp(t.Context(), []byte("m")); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestRSALeaf(t *testing.T) {
	b := open(t)
	private, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	b.config.Leaf = private
	b.Timestamper = b.reopen(t)
	response, err := b.Stamp(t.Context(), []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verification.VerifyTimestampResponse(response, strings.NewReader("m"), b.verifyOptions()); err != nil {
		t.Error(err)
	}
}

func BenchmarkStamp(b *testing.B) {
	ts := open(b)
	signature := make([]byte, 71)
	for b.Loop() {
		if _, err := ts.Stamp(b.Context(), signature); err != nil {
			b.Fatal(err)
		}
	}
}
