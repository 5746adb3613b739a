package authority

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/countersign/countersign/internal/limits"
)

// query is TimeStampReq of RFC 3161 §2.4.1.
type query struct {
	Version    int
	Imprint    imprint
	Policy     asn1.ObjectIdentifier `asn1:"optional"`
	Nonce      *big.Int              `asn1:"optional"`
	CertReq    bool                  `asn1:"optional"`
	Extensions []pkix.Extension      `asn1:"tag:0,optional"`
}

type imprint struct {
	Algorithm pkix.AlgorithmIdentifier
	Hashed    []byte
}

// parseQuery accepts only DER, in its one form, that this authority can answer
// as asked. Errors wrap ErrQuery.
func parseQuery(der []byte) (query, crypto.Hash, error) {
	if len(der) > limits.TimestampQuery {
		return query{}, 0, fmt.Errorf("%w: longer than %d bytes", ErrQuery, limits.TimestampQuery)
	}
	var q query
	if rest, err := asn1.Unmarshal(der, &q); err != nil || len(rest) != 0 {
		return query{}, 0, fmt.Errorf("%w: not one DER value", ErrQuery)
	}
	// The decoder lets a few non-canonical forms pass; a query that is signed
	// or compared elsewhere must mean the same bytes everywhere.
	if again, err := asn1.Marshal(q); err != nil || !bytes.Equal(again, der) {
		return query{}, 0, fmt.Errorf("%w: not in canonical form", ErrQuery)
	}
	hash, err := q.check()
	if err != nil {
		return query{}, 0, err
	}
	return q, hash, nil
}

func (q query) check() (crypto.Hash, error) {
	hash := hashOf(q.Imprint.Algorithm)
	switch {
	case q.Version != 1:
		return 0, fmt.Errorf("%w: version %d is not 1", ErrQuery, q.Version)
	case hash == 0:
		return 0, fmt.Errorf("%w: want a SHA-256, SHA-384 or SHA-512 imprint", ErrQuery)
	case len(q.Imprint.Hashed) != hash.Size():
		return 0, fmt.Errorf("%w: the imprint is not as long as its algorithm's", ErrQuery)
	case q.Policy != nil && !q.Policy.Equal(PolicyOID()):
		return 0, fmt.Errorf("%w: only policy %v is served", ErrQuery, PolicyOID())
	case len(q.Extensions) != 0:
		return 0, fmt.Errorf("%w: extensions are not served", ErrQuery)
	}
	return hash, nil
}

// hashOf reads a digest algorithm; parameters are absent or NULL (RFC 5754 §2).
func hashOf(a pkix.AlgorithmIdentifier) crypto.Hash {
	if p := a.Parameters.FullBytes; len(p) != 0 && !bytes.Equal(p, asn1.NullBytes) {
		return 0
	}
	for _, known := range []struct {
		hash crypto.Hash
		oid  asn1.ObjectIdentifier
	}{
		{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
		{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
		{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
	} {
		if a.Algorithm.Equal(known.oid) {
			return known.hash
		}
	}
	return 0
}
