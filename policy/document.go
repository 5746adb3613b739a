package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/countersign/countersign/internal/limits"
)

// The one version and kind of document Parse reads.
const (
	apiVersion = "countersign.dev/v1"
	kind       = "TrustPolicy"
)

// document is a TrustPolicy as it is written. Pointers and nil tell what was
// left out from what was left empty.
type document struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       spec     `json:"spec"`
}

type metadata struct {
	Name string `json:"name"`
}

type spec struct {
	Match       matchSpec                `json:"match"`
	Mode        *Mode                    `json:"mode,omitzero"`
	Authorities map[string]authoritySpec `json:"authorities"`
	Require     *requireSpec             `json:"require"`
	// Index is not written out when it is left out: the document and with it the
	// digest of a policy without one stays what it was.
	Index *indexSpec `json:"index,omitzero"`
}

type matchSpec struct {
	Images  []string            `json:"images,omitzero"`
	Blobs   []string            `json:"blobs,omitzero"`
	Context map[string][]string `json:"context,omitzero"`
}

type authoritySpec struct {
	Key      *keySpec      `json:"key,omitzero"`
	Identity *identitySpec `json:"identity,omitzero"`
	X509     *x509Spec     `json:"x509,omitzero"`
	Log      *LogRule      `json:"log,omitzero"`
}

// keySpec holds what a later version judges as raw JSON: it is refused by name,
// whatever it contains.
type keySpec struct {
	Name *string `json:"name,omitzero"`
	PEM  *string `json:"pem,omitzero"`
	Ref  *string `json:"ref,omitzero"`
}

type requireSpec struct {
	All         []requireSpec    `json:"all,omitzero"`
	Any         []requireSpec    `json:"any,omitzero"`
	AtLeast     *atLeastSpec     `json:"atLeast,omitzero"`
	Signature   *signatureSpec   `json:"signature,omitzero"`
	Attestation *attestationSpec `json:"attestation,omitzero"`
	Layout      *layoutSpec      `json:"layout,omitzero"`
}

// hasLayout reports whether a layout is among the requirements: it brings its
// own keys.
func (s *requireSpec) hasLayout() bool {
	if s == nil {
		return false
	}
	below := slices.Concat(s.All, s.Any)
	return s.Layout != nil || slices.ContainsFunc(below, func(m requireSpec) bool { return m.hasLayout() })
}

type atLeastSpec struct {
	N  *int          `json:"n"`
	Of []requireSpec `json:"of"`
}

type signatureSpec struct {
	By string `json:"by"`
}

// names of policies, authorities and keys: they stand in URLs, journals and
// messages.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func checkName(pointer, name string) error {
	if len(name) > limits.Name || !nameForm.MatchString(name) {
		return fault(pointer, "is not a name: want 1 to %d letters, digits, '.', '_' and '-', the first a letter or digit", limits.Name)
	}
	return nil
}

// authority reads one authority and writes its defaults into its spec.
func (a *authoritySpec) authority(name, pointer string) (Authority, error) {
	out := Authority{Name: name}
	var err error
	switch {
	case a.kinds() != 1:
		return Authority{}, fault(pointer, "must have exactly one of key, identity and x509")
	case a.Identity != nil:
		out.Identity, err = a.Identity.authority(pointer + "/identity")
	case a.X509 != nil:
		out.X509, err = a.X509.authority(pointer + "/x509")
	default:
		out.Key, err = a.Key.authority(pointer + "/key")
	}
	if err != nil {
		return Authority{}, err
	}
	if a.Log == nil {
		a.Log = new(LogRequired)
		if out.Key != nil && out.Key.Name == "" || out.X509 != nil {
			a.Log = new(LogOptional)
		}
	}
	if *a.Log != LogRequired && *a.Log != LogOptional {
		return Authority{}, fault(pointer+"/log", "is neither %s nor %s", LogRequired, LogOptional)
	}
	// Without an entry nobody would see a certificate that should not have been
	// issued.
	if out.Identity != nil && *a.Log != LogRequired {
		return Authority{}, fault(pointer+"/log", "must be %s for an identity", LogRequired)
	}
	out.Log = *a.Log
	return out, nil
}

// kinds counts the kinds of authority that the spec has.
func (a *authoritySpec) kinds() int {
	n := 0
	for _, is := range []bool{a.Key != nil, a.Identity != nil, a.X509 != nil} {
		if is {
			n++
		}
	}
	return n
}

func (k *keySpec) authority(pointer string) (*KeyAuthority, error) {
	given := 0
	for _, field := range []*string{k.Name, k.PEM, k.Ref} {
		if field != nil {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, fault(pointer, "must have exactly one of name, pem and ref")
	case k.Ref != nil:
		if err := checkRef(pointer+"/ref", *k.Ref); err != nil {
			return nil, err
		}
		return &KeyAuthority{Ref: *k.Ref}, nil
	case k.Name != nil:
		if err := checkName(pointer+"/name", *k.Name); err != nil {
			return nil, err
		}
		return &KeyAuthority{Name: *k.Name}, nil
	}
	public, canonical, err := parsePublicKey(*k.PEM)
	if err != nil {
		return nil, fault(pointer+"/pem", "%s", err.Error())
	}
	k.PEM = &canonical
	return &KeyAuthority{PEM: canonical, Public: public}, nil
}

// parsePublicKey reads exactly one PKIX public key and gives its canonical
// PEM.
func parsePublicKey(text string) (crypto.PublicKey, string, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(block.Headers) != 0 ||
		len(bytes.TrimSpace(rest)) != 0 || !bytes.HasPrefix(bytes.TrimSpace([]byte(text)), []byte("-----BEGIN")) {
		return nil, "", errors.New(`is not one PEM block of type "PUBLIC KEY" and nothing else`)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, "", errors.New("does not hold a PKIX public key")
	}
	if err := checkStrength(public); err != nil {
		return nil, "", err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, "", errors.New("does not hold a PKIX public key")
	}
	return public, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// checkStrength keeps to the algorithms every signature format here verifies.
func checkStrength(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		return errors.New("is an ECDSA key on another curve than P-256 and P-384")
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= 2048 && bits <= 8192 {
			return nil
		}
		return errors.New("is an RSA key of fewer than 2048 or more than 8192 bits")
	case ed25519.PublicKey:
		return nil
	default:
		return fmt.Errorf("is a key of an unknown kind")
	}
}
