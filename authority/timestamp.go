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
	"sync"
	"sync/atomic"
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
	config TimestampConfig
	// rotating admits one rotation at a time.
	rotating sync.Mutex
	use      atomic.Pointer[stamping]
}

// stamping is what one timestamp is made with; it never changes.
type stamping struct {
	root, leaf crypto.Signer
	hash       crypto.Hash
	chains     []Chain
}

// OpenTimestamper reads the authority's certificates, or issues them at the
// first start, when a key is another one, and within a year of the leaf's end.
func OpenTimestamper(ctx context.Context, c TimestampConfig) (*Timestamper, error) {
	if c.Root == nil || c.Leaf == nil || c.Objects == nil || c.Clock == nil {
		return nil, errors.New("timestamp authority needs two keys, a store and a clock")
	}
	if c.Organization == "" {
		c.Organization = defaultOrganization
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	t := &Timestamper{config: c}
	return t, t.adopt(ctx, c.Root, c.Leaf)
}

// Rotate replaces keys; a nil one stays as it is. The chain before stays
// trusted for [Overlap]. Timestamps that are being made meanwhile finish with
// the key they began with. Before the new chain is in the store nothing has
// changed; after, opening with the new keys finds it.
func (t *Timestamper) Rotate(ctx context.Context, root, leaf crypto.Signer) error {
	t.rotating.Lock()
	defer t.rotating.Unlock()
	u := t.use.Load()
	if root == nil {
		root = u.root
	}
	if leaf == nil {
		leaf = u.leaf
	}
	return t.adopt(ctx, root, leaf)
}

// adopt begins to stamp with a pair of keys.
func (t *Timestamper) adopt(ctx context.Context, root, leaf crypto.Signer) error {
	if samePublic(root.Public(), leaf.Public()) {
		return fmt.Errorf("%w: root and leaf must be different keys", ErrCertificate)
	}
	hash, err := signatureHash(leaf.Public())
	if err != nil {
		return err
	}
	c := t.config
	i := stampMaker{root: root, leaf: leaf, organization: c.Organization, rand: c.Rand}
	chains, err := i.open(ctx, keeper{objects: c.Objects, name: timestampName}, c.Clock.Now())
	if err != nil {
		return err
	}
	t.use.Store(&stamping{root: root, leaf: leaf, hash: hash, chains: chains})
	return nil
}

// Chains are all chains that ever stamped, leaf first, oldest first, the
// current one last.
func (t *Timestamper) Chains() []Chain { return cloneChains(t.use.Load().chains) }

// Chain is the current chain, leaf first, root last.
func (t *Timestamper) Chain() []*x509.Certificate { return t.use.Load().chain() }

func (s *stamping) chain() []*x509.Certificate {
	return slices.Clone(s.chains[len(s.chains)-1].Certificates)
}

// ChainPEM is Chain as concatenated PEM blocks.
func (t *Timestamper) ChainPEM() []byte { return encodePEM(t.Chain()) }

// Retired are the chains that were current before, oldest first. A trusted root
// goes on naming them: what they stamped stays proven.
func (t *Timestamper) Retired() [][]*x509.Certificate {
	chains := t.Chains()
	var out [][]*x509.Certificate
	for _, chain := range chains[:len(chains)-1] {
		out = append(out, chain.Certificates)
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

// StampCertified is Stamp with the authority's certificate, for readers who know
// its root only.
func (t *Timestamper) StampCertified(ctx context.Context, message []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h := crypto.SHA256.New()
	h.Write(message)
	return t.respond(timestamp.Timestamp{HashAlgorithm: crypto.SHA256, HashedMessage: h.Sum(nil), AddTSACertificate: true})
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
	u := t.use.Load()
	if u.chains[len(u.chains)-1].Revoked != nil {
		return nil, ErrRevoked
	}
	leaf := u.chain()[0]
	now := t.config.Clock.Now().UTC()
	if genTime := now.Truncate(time.Second); genTime.Before(leaf.NotBefore) || genTime.After(leaf.NotAfter) {
		return nil, ErrExpired
	}
	ts.Time, ts.Accuracy, ts.Policy = now, Accuracy, PolicyOID()
	response, err := ts.CreateResponseWithOpts(leaf, u.leaf, u.hash)
	if err != nil {
		return nil, fmt.Errorf("signing timestamp: %w", err)
	}
	return response, nil
}
