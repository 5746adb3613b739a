// Package testauthority manufactures, in memory, what a verifier judges: a
// transparency log, a timestamp authority, a certificate authority, keys, and
// finished bundles and legacy signatures, good ones and ones with every kind of
// fault.
//
// It builds its formats from the specifications (RFC 6962, C2SP checkpoints,
// RFC 3161, Rekor's entries, Fulcio's extensions, Sigstore bundle v0.3, cosign's
// annotations) and
// not with the project's own writers, so that a mistake shared by writer and
// verifier shows. Only package trust is used, to hand over the trusted root.
//
// It is for tests only: keys are made on the spot, every mistake ends the test,
// and no production package may import it.
package testauthority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	tilesnote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore/pkg/signature"
	"golang.org/x/mod/sumdb/note"

	"github.com/countersign/countersign/trust"
)

// Origin is the log's name: the host of its URL.
const Origin = "log.test.example"

// Authority is one log and one timestamp authority. It is safe for concurrent
// use.
type Authority struct {
	tb     testing.TB
	origin string
	logKey crypto.Signer
	tsa    tsa

	mu     sync.Mutex
	leaves [][]byte
}

type tsa struct {
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate
}

// New makes an authority whose certificates are valid from 1990 to 2050, so that
// tests may move the clock and run where time starts in 2000 (testing/synctest).
func New(tb testing.TB) *Authority {
	tb.Helper()
	return NewNamed(tb, "")
}

// NewNamed is New with a timestamp authority of that organization: two of the
// same name are look-alikes.
func NewNamed(tb testing.TB, organization string) *Authority {
	tb.Helper()
	return newAuthority(tb, NewECDSA(tb), organization)
}

// NewWithLogKey is New with a log that signs with that key: ECDSA of any curve,
// Ed25519 or RSA.
func NewWithLogKey(tb testing.TB, key crypto.Signer) *Authority {
	tb.Helper()
	return newAuthority(tb, key, "")
}

func newAuthority(tb testing.TB, logKey crypto.Signer, organization string) *Authority {
	tb.Helper()
	a := &Authority{tb: tb, origin: Origin, logKey: logKey}
	a.tsa = newTSA(tb, tsaOptions{organization: organization})
	for i := range 5 { // so that proofs have more than one hash
		a.leaves = append(a.leaves, fmt.Appendf(nil, "padding %d", i))
	}
	return a
}

// NewECDSA makes a P-256 key.
func NewECDSA(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	return key
}

// LogID is the id that the log's key gives it: SHA-256 of an ECDSA public key;
// for others the key hash of a signed note, uncut (C2SP signed-note).
func (a *Authority) LogID() []byte {
	a.tb.Helper()
	encoded := spki(a.tb, a.logKey.Public())
	switch key := a.logKey.Public().(type) {
	case ed25519.PublicKey:
		encoded = append([]byte(a.origin+"\n\x01"), key...)
	case *rsa.PublicKey:
		encoded = append([]byte(a.origin+"\n\xffPKIX-RSA-PKCS#1v1.5"), encoded...)
	}
	id := sha256.Sum256(encoded)
	return id[:]
}

// LogPublic is the log's public key.
func (a *Authority) LogPublic() crypto.PublicKey { return a.logKey.Public() }

// TimestampChain is the timestamp authority's chain, leaf first.
func (a *Authority) TimestampChain() []*x509.Certificate {
	return append([]*x509.Certificate(nil), a.tsa.chain...)
}

// Root is a trusted root with this log and this timestamp authority.
func (a *Authority) Root() trust.Root {
	return trust.Root{
		Logs: []trust.Log{{
			BaseURL: "https://" + a.origin, Origin: a.origin,
			Public: a.logKey.Public(), Start: begin(),
		}},
		TimestampAuthorities: []trust.TimestampAuthority{{
			URI: "https://tsa.test.example/api/v1/timestamp", Chain: a.TimestampChain(), Start: begin(),
		}},
	}
}

// Append adds a leaf and returns its entry with an inclusion proof in the tree
// as it is then.
func (a *Authority) Append(kind, version string, body []byte) *rekorpb.TransparencyLogEntry {
	a.tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	index := len(a.leaves)
	a.leaves = append(a.leaves, append([]byte(nil), body...))
	root := treeHash(a.leaves)
	return &rekorpb.TransparencyLogEntry{
		LogIndex:          int64(index),
		LogId:             &commonpb.LogId{KeyId: a.LogID()},
		KindVersion:       &rekorpb.KindVersion{Kind: kind, Version: version},
		CanonicalizedBody: append([]byte(nil), body...),
		InclusionProof: &rekorpb.InclusionProof{
			LogIndex: int64(index),
			TreeSize: int64(len(a.leaves)),
			RootHash: root,
			Hashes:   auditPath(index, a.leaves),
			Checkpoint: &rekorpb.Checkpoint{
				Envelope: a.checkpoint(a.origin, len(a.leaves), root),
			},
		},
	}
}

// Checkpoint signs any tree head under any origin, honest or not.
func (a *Authority) Checkpoint(origin string, size int, root []byte) string {
	a.tb.Helper()
	return a.checkpoint(origin, size, root)
}

func (a *Authority) checkpoint(origin string, size int, root []byte) string {
	inner, err := signature.LoadSigner(a.logKey, logHash(a.logKey))
	must(a.tb, err)
	signer, err := tilesnote.NewNoteSigner(context.Background(), origin, inner)
	must(a.tb, err)
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	must(a.tb, err)
	return string(signed)
}

// logHash is the digest that Sigstore's logs use with a key.
func logHash(key crypto.Signer) crypto.Hash {
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		switch ec.Curve {
		case elliptic.P384():
			return crypto.SHA384
		case elliptic.P521():
			return crypto.SHA512
		}
	}
	return crypto.SHA256
}

// Stamp is a DER TimeStampResp over message at a time of the caller's choice.
func (a *Authority) Stamp(message []byte, at time.Time) []byte {
	a.tb.Helper()
	return a.tsa.stamp(a.tb, message, at)
}

// ForgedStamp is a stamp by a look-alike: the same names and serial numbers as
// the real timestamp authority, with other keys.
func (a *Authority) ForgedStamp(message []byte, at time.Time) []byte {
	a.tb.Helper()
	fake := newTSA(a.tb, tsaOptions{})
	return fake.stamp(a.tb, message, at)
}

// ForeignStamp is a good stamp by a timestamp authority of another name.
func (a *Authority) ForeignStamp(message []byte, at time.Time) []byte {
	a.tb.Helper()
	foreign := newTSA(a.tb, tsaOptions{organization: "somebody else"})
	return foreign.stamp(a.tb, message, at)
}

// ForeignCertifiedStamp is ForeignStamp with that authority's certificate in it.
func (a *Authority) ForeignCertifiedStamp(message []byte, at time.Time) []byte {
	a.tb.Helper()
	foreign := newTSA(a.tb, tsaOptions{organization: "somebody else"})
	return foreign.make(a.tb, message, at, true)
}

// CertifiedStamp is Stamp with the authority's certificate in it.
func (a *Authority) CertifiedStamp(message []byte, at time.Time) []byte {
	a.tb.Helper()
	return a.tsa.make(a.tb, message, at, true)
}

func (s tsa) stamp(tb testing.TB, message []byte, at time.Time) []byte {
	tb.Helper()
	return s.make(tb, message, at, false)
}

func (s tsa) make(tb testing.TB, message []byte, at time.Time, certified bool) []byte {
	tb.Helper()
	sum := sha256.Sum256(message)
	ts := timestamp.Timestamp{
		HashAlgorithm: crypto.SHA256,
		HashedMessage: sum[:],
		Time:          at.UTC(),
		Accuracy:      time.Second,
		Policy:        asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2},

		AddTSACertificate: certified,
	}
	der, err := ts.CreateResponseWithOpts(s.chain[0], s.key, crypto.SHA256)
	must(tb, err)
	return der
}

type tsaOptions struct{ organization string }

func begin() time.Time { return time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC) }

func newTSA(tb testing.TB, o tsaOptions) tsa {
	tb.Helper()
	if o.organization == "" {
		o.organization = "test authority"
	}
	rootKey, leafKey := NewECDSA(tb), NewECDSA(tb)
	end := begin().AddDate(60, 0, 0)
	rootTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: begin(), NotAfter: end,
		Subject: pkix.Name{Organization: []string{o.organization}, CommonName: "tsa root"},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root := issue(tb, rootTemplate, rootTemplate, rootKey.Public(), rootKey)
	eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	must(tb, err)
	leafTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: begin(), NotAfter: end,
		Subject:  pkix.Name{Organization: []string{o.organization}, CommonName: "tsa"},
		KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: eku},
		},
	}
	leaf := issue(tb, leafTemplate, root, leafKey.Public(), rootKey)
	return tsa{key: leafKey, chain: []*x509.Certificate{leaf, root}}
}

func issue(tb testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	must(tb, err)
	certificate, err := x509.ParseCertificate(der)
	must(tb, err)
	return certificate
}

func spki(tb testing.TB, public crypto.PublicKey) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	must(tb, err)
	return der
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
