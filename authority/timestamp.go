package authority

import (
	"context"
	"crypto"
	"crypto/rand"
	_ "crypto/sha256" // the digests of imprints
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/digitorus/timestamp"

	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/store"
)

// TimestampConfig is what a Timestamper needs. Root, Leaf, Objects and Clock
// are required.
type TimestampConfig struct {
	// Root certifies the leaf and is not used afterwards. Leaf signs
	// timestamps; it is ECDSA or RSA and not the root's key.
	Root, Leaf crypto.Signer
	// Objects keeps the certificates.
	Objects store.Objects
	// Organization names the authority in its certificates; "Countersign" when
	// empty.
	Organization string
	Clock        clock.Clock
	// Rand is crypto/rand when nil.
	Rand io.Reader
}

// Timestamper answers timestamp queries. It is safe for concurrent use.
type Timestamper struct {
	chains [][]*x509.Certificate
	leaf   crypto.Signer
	hash   crypto.Hash
	clock  clock.Clock
}

// OpenTimestamper reads the authority's certificates, or issues them at the
// first start, when a key is another one, and within a year of the leaf's end.
func OpenTimestamper(ctx context.Context, c TimestampConfig) (*Timestamper, error) {
	if c.Root == nil || c.Leaf == nil || c.Objects == nil || c.Clock == nil {
		return nil, errors.New("timestamp authority needs two keys, a store and a clock")
	}
	if samePublic(c.Root.Public(), c.Leaf.Public()) {
		return nil, fmt.Errorf("%w: root and leaf must be different keys", ErrCertificate)
	}
	if c.Organization == "" {
		c.Organization = "Countersign"
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	hash, err := signatureHash(c.Leaf.Public())
	if err != nil {
		return nil, err
	}
	i := issuer{root: c.Root, leaf: c.Leaf, organization: c.Organization, rand: c.Rand}
	chains, err := i.open(ctx, c.Objects, c.Clock.Now())
	if err != nil {
		return nil, err
	}
	return &Timestamper{chains: chains, leaf: c.Leaf, hash: hash, clock: c.Clock}, nil
}

// Chain is the current chain, leaf first, root last.
func (t *Timestamper) Chain() []*x509.Certificate {
	return slices.Clone(t.chains[len(t.chains)-1])
}

// ChainPEM is Chain as concatenated PEM blocks.
func (t *Timestamper) ChainPEM() []byte { return encodePEM(t.Chain()) }

// Retired are the chains that were current before, oldest first. A trusted root
// goes on naming them: what they stamped stays proven.
func (t *Timestamper) Retired() [][]*x509.Certificate {
	var out [][]*x509.Certificate
	for _, chain := range t.chains[:len(t.chains)-1] {
		out = append(out, slices.Clone(chain))
	}
	return out
}

// Stamp returns a DER TimeStampResp over the SHA-256 of message, without
// certificates and without a nonce. For a signature, message is its raw bytes.
func (t *Timestamper) Stamp(ctx context.Context, message []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h := crypto.SHA256.New()
	h.Write(message)
	return t.respond(timestamp.Timestamp{HashAlgorithm: crypto.SHA256, HashedMessage: h.Sum(nil)})
}

// Respond answers a DER TimeStampReq with a DER TimeStampResp that repeats its
// nonce and carries the leaf when it asks for certificates. ErrQuery: the query
// is malformed, longer than limits.TimestampQuery, not version 1, or asks for
// another digest, another policy or extensions.
func (t *Timestamper) Respond(ctx context.Context, der []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q, hash, err := parseQuery(der)
	if err != nil {
		return nil, err
	}
	return t.respond(timestamp.Timestamp{
		HashAlgorithm: hash, HashedMessage: q.Imprint.Hashed, Nonce: q.Nonce, AddTSACertificate: q.CertReq,
	})
}

func (t *Timestamper) respond(ts timestamp.Timestamp) ([]byte, error) {
	leaf := t.Chain()[0]
	now := t.clock.Now().UTC()
	if genTime := now.Truncate(time.Second); genTime.Before(leaf.NotBefore) || genTime.After(leaf.NotAfter) {
		return nil, ErrExpired
	}
	ts.Time, ts.Accuracy, ts.Policy = now, Accuracy, PolicyOID()
	response, err := ts.CreateResponseWithOpts(leaf, t.leaf, t.hash)
	if err != nil {
		return nil, fmt.Errorf("signing timestamp: %w", err)
	}
	return response, nil
}
