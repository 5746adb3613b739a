package authority

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"slices"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/ctutil"
	cttls "github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/google/certificate-transparency-go/x509util"

	"github.com/countersign/countersign/tlog"
)

// transparency signs certificate timestamps (RFC 6962 §3.2) for certificates
// of one issuer.
type transparency struct {
	signer crypto.Signer
	id     ct.SHA256Hash
	issuer *ctx509.Certificate
	rand   io.Reader
}

func newTransparency(signer crypto.Signer, issuer *x509.Certificate, random io.Reader) (transparency, error) {
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return transparency{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	parsed, err := parseCT(issuer.Raw)
	if err != nil {
		return transparency{}, err
	}
	return transparency{signer: signer, id: sha256.Sum256(spki), issuer: parsed, rand: random}, nil
}

// precertificate is the certificate with the poison that keeps it from being
// used (RFC 6962 §3.1).
func (t transparency) precertificate(template, issuer *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	poison := pkix.Extension{Id: asn1.ObjectIdentifier(ctx509.OIDExtensionCTPoison), Critical: true, Value: asn1.NullBytes}
	der, err := x509.CreateCertificate(t.rand, with(template, poison), issuer, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("signing a precertificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// stamp signs the timestamp of a precertificate and makes the log entry that
// tells of it: hashedrekord, whose message is what the timestamp signs (which
// holds the precertificate), whose signature is the timestamp's and whose key
// is ours. Whoever holds the certificate can compute the entry.
func (t transparency) stamp(precertificate *x509.Certificate, now time.Time) (*ct.SignedCertificateTimestamp, []byte, error) {
	parsed, err := parseCT(precertificate.Raw)
	if err != nil {
		return nil, nil, err
	}
	at := uint64(now.UnixMilli())
	leaf, err := ct.MerkleTreeLeafFromChain([]*ctx509.Certificate{parsed, t.issuer}, ct.PrecertLogEntryType, at)
	if err != nil {
		return nil, nil, fmt.Errorf("building a certificate timestamp: %w", err)
	}
	stamp := &ct.SignedCertificateTimestamp{SCTVersion: ct.V1, LogID: ct.LogID{KeyID: t.id}, Timestamp: at}
	message, err := ct.SerializeSCTSignatureInput(*stamp, ct.LogEntry{Leaf: *leaf})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a certificate timestamp: %w", err)
	}
	digest := sha256.Sum256(message)
	signature, err := t.signer.Sign(t.rand, digest[:], crypto.SHA256)
	if err != nil {
		return nil, nil, fmt.Errorf("signing a certificate timestamp: %w", err)
	}
	stamp.Signature = ct.DigitallySigned{
		Algorithm: cttls.SignatureAndHashAlgorithm{Hash: cttls.SHA256, Signature: cttls.ECDSA}, Signature: signature,
	}
	body, err := tlog.HashedRekordV002(t.signer.Public(), message, signature)
	if err != nil {
		return nil, nil, fmt.Errorf("making the entry of a certificate timestamp: %w", err)
	}
	return stamp, body, nil
}

// complete signs the certificate with its timestamp in place of the poison and
// checks that a verifier will find the one to be of the other.
func (t transparency) complete(template, issuer *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer, stamp *ct.SignedCertificateTimestamp) ([]byte, error) {
	list, err := x509util.MarshalSCTsIntoSCTList([]*ct.SignedCertificateTimestamp{stamp})
	if err != nil {
		return nil, fmt.Errorf("encoding a certificate timestamp: %w", err)
	}
	encoded, err := cttls.Marshal(*list)
	if err != nil {
		return nil, fmt.Errorf("encoding a certificate timestamp: %w", err)
	}
	value, err := asn1.Marshal(encoded)
	if err != nil {
		return nil, fmt.Errorf("encoding a certificate timestamp: %w", err)
	}
	extension := pkix.Extension{Id: asn1.ObjectIdentifier(ctx509.OIDExtensionCTSCT), Value: value}
	der, err := x509.CreateCertificate(t.rand, with(template, extension), issuer, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	parsed, err := parseCT(der)
	if err != nil {
		return nil, err
	}
	err = ctutil.VerifySCT(t.signer.Public(), []*ctx509.Certificate{parsed, t.issuer}, stamp, true)
	if err != nil {
		return nil, fmt.Errorf("%w: its timestamp: %w", ErrCertificate, err)
	}
	return der, nil
}

// with is a copy of a template with one more extension, the last.
func with(template *x509.Certificate, extension pkix.Extension) *x509.Certificate {
	t := *template
	t.ExtraExtensions = append(slices.Clone(template.ExtraExtensions), extension)
	return &t
}

func parseCT(der []byte) (*ctx509.Certificate, error) {
	c, err := ctx509.ParseCertificate(der)
	if ctx509.IsFatal(err) {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return c, nil
}
