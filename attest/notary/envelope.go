package notary

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/attest"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// ErrEnvelope is wrapped by every error about an envelope.
var ErrEnvelope = errors.New("invalid Notary Project envelope")

// Media types.
const (
	// ArtifactType is that of a manifest that carries an envelope.
	ArtifactType = "application/vnd.cncf.notary.signature"
	// MediaTypeJWS and MediaTypeCOSE are those of envelopes.
	MediaTypeJWS  = "application/jose+json"
	MediaTypeCOSE = "application/cose"
	// MediaTypePayload is the content type of what is signed.
	MediaTypePayload = "application/vnd.cncf.notary.payload.v1+json"
	// AnnotationThumbprints of the manifest lists the SHA-256 of the chain's
	// certificates: JSON, hexadecimal.
	AnnotationThumbprints = "io.cncf.notary.x509chain.thumbprint#S256"
)

// Names of attributes, the same in JWS and COSE.
const (
	attributeScheme        = "io.cncf.notary.signingScheme"
	attributeTime          = "io.cncf.notary.signingTime"
	attributeAuthenticTime = "io.cncf.notary.authenticSigningTime"
	attributeExpiry        = "io.cncf.notary.expiry"
	attributeTimestamp     = "io.cncf.notary.timestampSignature"
	attributeAgent         = "io.cncf.notary.signingAgent"
)

// Scheme says what the signing time is worth.
type Scheme string

// The schemes.
const (
	// SchemeX509: the signing time is the signer's word.
	SchemeX509 Scheme = "notary.x509"
	// SchemeSigningAuthority: the signer is an authority whose word on the time
	// its users take.
	SchemeSigningAuthority Scheme = "notary.x509.signingAuthority"
)

// Target is the artifact that an envelope speaks of.
type Target struct {
	MediaType string
	Digest    attest.Digest
	Size      int64
	// Annotations are the signer's; nil when there are none.
	Annotations map[string]string
}

// Envelope is what an envelope claims. Nothing of it is verified.
type Envelope struct {
	// Message is the bytes that Signature is over.
	Message   []byte
	Signature []byte
	// Algorithm is what the protected header says.
	Algorithm Algorithm
	Scheme    Scheme
	// SigningTime is the signer's word in either scheme.
	SigningTime time.Time
	// Expiry is zero when the signature does not expire.
	Expiry time.Time
	// Chain begins with the signing certificate; it is never empty.
	Chain []*x509.Certificate
	// Timestamp is an RFC 3161 token over Signature, nil when there is none.
	Timestamp []byte
	// Payload is the signed document, Target what it says.
	Payload []byte
	Target  Target
}

// Parse reads an envelope of a media type. Errors wrap ErrEnvelope.
func Parse(mediaType string, b []byte) (*Envelope, error) {
	if len(b) == 0 || len(b) > limits.NotaryEnvelope {
		return nil, invalid("has no or more than %d bytes", limits.NotaryEnvelope)
	}
	var e *Envelope
	var err error
	switch mediaType {
	case MediaTypeJWS:
		e, err = parseJWS(b)
	case MediaTypeCOSE:
		e, err = parseCOSE(b)
	default:
		return nil, invalid("is of a media type that is neither %s nor %s", MediaTypeJWS, MediaTypeCOSE)
	}
	if err != nil {
		return nil, err
	}
	if e.Target, err = parseTarget(e.Payload); err != nil {
		return nil, err
	}
	return e, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrEnvelope}, args...)...)
}

// attributes are the signed attributes of either form.
type attributes struct {
	scheme        string
	contentType   string
	time          *time.Time
	authenticTime *time.Time
	expiry        *time.Time
	// critical are the names under crit.
	critical []string
}

// check holds the attributes to the specification: what must be critical is,
// nothing that is not known here is, and the times are the scheme's.
func (a attributes) check() error {
	want := []string{attributeScheme}
	if a.authenticTime != nil {
		want = append(want, attributeAuthenticTime)
	}
	if a.expiry != nil {
		want = append(want, attributeExpiry)
	}
	have := slices.Sorted(slices.Values(a.critical))
	slices.Sort(want)
	if !slices.Equal(have, want) {
		return invalid("has a critical attribute that is not known here, or one that should be critical and is not")
	}
	signed := a.time
	switch Scheme(a.scheme) {
	case SchemeX509:
		if a.authenticTime != nil {
			return invalid("has the other scheme's signing time")
		}
	case SchemeSigningAuthority:
		if a.time != nil {
			return invalid("has the other scheme's signing time")
		}
		signed = a.authenticTime
	default:
		return invalid("has an unknown signing scheme")
	}
	switch {
	case a.contentType != MediaTypePayload:
		return invalid("is around another content type than %s", MediaTypePayload)
	case signed == nil || signed.IsZero():
		return invalid("has no signing time")
	case a.expiry != nil && !a.expiry.After(*signed):
		return invalid("expires before it was signed")
	}
	return nil
}

// fill writes checked attributes into the envelope.
func (a attributes) fill(e *Envelope) {
	e.Scheme = Scheme(a.scheme)
	if a.time != nil {
		e.SigningTime = a.time.UTC()
	}
	if a.authenticTime != nil {
		e.SigningTime = a.authenticTime.UTC()
	}
	if a.expiry != nil {
		e.Expiry = a.expiry.UTC()
	}
}

func parseChain(ders [][]byte) ([]*x509.Certificate, error) {
	if n := len(ders); n == 0 || n > limits.NotaryChain {
		return nil, invalid("has a chain of %d certificates, want 1 to %d", n, limits.NotaryChain)
	}
	chain := make([]*x509.Certificate, 0, len(ders))
	for _, der := range ders {
		if len(der) > limits.NotaryCertificate {
			return nil, invalid("has a certificate of more than %d bytes", limits.NotaryCertificate)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, invalid("has a malformed certificate")
		}
		chain = append(chain, c)
	}
	return chain, nil
}

type wirePayload struct {
	TargetArtifact *wireTarget `json:"targetArtifact"`
}

type wireTarget struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        *int64            `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func parseTarget(payload []byte) (Target, error) {
	var wire wirePayload
	if err := strictjson.UnmarshalOpen(payload, &wire); err != nil {
		return Target{}, fmt.Errorf("%w: payload: %w", ErrEnvelope, err)
	}
	if err := strictjson.NoNull(payload); err != nil {
		return Target{}, fmt.Errorf("%w: payload: %w", ErrEnvelope, err)
	}
	t := wire.TargetArtifact
	if t == nil || t.MediaType == "" || t.Size == nil || *t.Size < 0 {
		return Target{}, invalid("names no target artifact with media type, digest and size")
	}
	digest, err := attest.ParseDigest(t.Digest)
	if err != nil {
		return Target{}, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	if len(t.Annotations) > limits.NotaryAnnotations {
		return Target{}, invalid("has more than %d annotations", limits.NotaryAnnotations)
	}
	return Target{MediaType: t.MediaType, Digest: digest, Size: *t.Size, Annotations: t.Annotations}, nil
}
