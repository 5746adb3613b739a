package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/store"
	"github.com/countersign/countersign/trust"
)

// The publication is an object of the shared database that the main service
// writes and verification replicas read: whom to believe. It is sealed under the
// replicas' key, so whoever can write the database and has not that key can
// neither add to it nor read it; putting back an older one is noticed by
// replicas that have seen a newer.
const (
	publicationKind   = "publication"
	publicationName   = "replicas"
	publicationFormat = 1
)

// publication is what is in the object.
type publication struct {
	Format int `json:"format"`
	// Number grows with every publication, across restarts and restored databases
	// too: it is at least the milliseconds since 1970 when it was made.
	Number int64 `json:"number"`
	// TrustedRoot is the trusted root in force, NotaryRoots what that document has
	// no place for, in DER.
	TrustedRoot json.RawMessage `json:"trustedRoot"`
	NotaryRoots [][]byte        `json:"notaryRoots"`
	// Keys are the managed keys, authentic under the replicas' key each.
	Keys []publishedKey `json:"keys"`
	// Serving is nil unless the service certifies its own TLS certificate.
	Serving *publishedServing `json:"serving,omitempty"`
}

// publishedKey is an object of the key ring, without what is secret.
type publishedKey struct {
	Name     string          `json:"name"`
	Revision int64           `json:"revision"`
	Document json.RawMessage `json:"document"`
}

// publishedServing is the TLS certificate in use, in DER, and its private key in
// PKCS #8: replicas answer under the same name.
type publishedServing struct {
	Chain [][]byte `json:"chain"`
	Key   []byte   `json:"key"`
	// Bundle is whom callers must believe for it, in PEM.
	Bundle []byte `json:"bundle"`
}

// sealedPublication is the body of the object.
type sealedPublication struct {
	Sealed []byte `json:"sealed"`
}

// seal makes the object that replaces the named revision of it.
func (p publication) seal(under *keys.Master, revision int64) (store.Object, error) {
	plain, err := json.Marshal(p)
	if err != nil {
		return store.Object{}, fmt.Errorf("encoding what replicas believe: %w", err)
	}
	var body sealedPublication
	if body.Sealed, err = under.Seal(publicationKind, publicationName, plain); err != nil {
		return store.Object{}, err
	}
	o := store.Object{Kind: publicationKind, Name: publicationName, Revision: revision}
	o.Body, err = json.Marshal(body)
	return o, err
}

// openPublication reads the object. Nothing of it is believed before it opened
// under the replicas' key, in its own place.
func openPublication(o store.Object, under *keys.Master) (publication, error) {
	var body sealedPublication
	if err := strictjson.Unmarshal(o.Body, &body); err != nil {
		return publication{}, fmt.Errorf("%w: %w", errPublication, err)
	}
	plain, err := under.Open(publicationKind, publicationName, body.Sealed)
	if err != nil {
		return publication{}, fmt.Errorf("%w: it was altered, or the replica key is another service's: %w", errPublication, err)
	}
	// What a newer main service says besides is not for this program: replicas are
	// updated after it. What must not be overlooked needs another format.
	var p publication
	if err := strictjson.UnmarshalOpen(plain, &p); err != nil {
		return publication{}, fmt.Errorf("%w: %w", errPublication, err)
	}
	if p.Format != publicationFormat {
		return publication{}, fmt.Errorf("%w: it has format %d, this program reads %d", errPublication, p.Format, publicationFormat)
	}
	return p, nil
}

// errPublication: what the main service wrote for its replicas cannot be used.
var errPublication = errors.New("what the main service published for its replicas cannot be believed")

// root is the trusted root in force.
func (p publication) root() (trust.Root, error) {
	root, err := trust.ParseTrustedRoot(p.TrustedRoot)
	if err != nil {
		return trust.Root{}, err
	}
	for _, der := range p.NotaryRoots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return trust.Root{}, err
		}
		root.NotaryRoots = append(root.NotaryRoots, c)
	}
	return root, nil
}

// certificate is the TLS certificate, or nil.
func (s *publishedServing) certificate() (*tls.Certificate, error) {
	if s == nil {
		return nil, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(s.Key)
	if err != nil {
		return nil, errors.New("the TLS key is malformed") // its own error could hold some of it
	}
	c := &tls.Certificate{Certificate: s.Chain, PrivateKey: key}
	if len(s.Chain) == 0 {
		return nil, errors.New("a TLS key without a certificate")
	}
	c.Leaf, err = x509.ParseCertificate(s.Chain[0])
	return c, err
}
