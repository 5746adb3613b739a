package keys

import (
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
)

// sealed is a private key at rest; see the package comment.
type sealed struct {
	DataKey    []byte `json:"dataKey"`
	PrivateKey []byte `json:"privateKey"`
}

const dataKeySize = 32

// place says where a sealed key belongs. It is the associated data of both
// boxes: a box opens only in its own place.
type place struct {
	name      string
	keyID     string
	algorithm Algorithm
	purposes  []string
	version   int
}

func (p place) associated(box string) []byte {
	fields := append([]string{
		"countersign sealed key 1", box, p.name, p.keyID, string(p.algorithm), strconv.Itoa(p.version),
	}, p.purposes...)
	var out []byte
	for _, f := range fields {
		out = binary.BigEndian.AppendUint64(out, uint64(len(f)))
		out = append(out, f...)
	}
	return out
}

func (m *Master) seal(private crypto.Signer, at place, rand io.Reader) (*sealed, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encoding private key: %w", err)
	}
	defer clear(der)
	dataKey := make([]byte, dataKeySize)
	defer clear(dataKey)
	if _, err := io.ReadFull(rand, dataKey); err != nil {
		return nil, fmt.Errorf("drawing a data key: %w", err)
	}
	box, err := subtle.NewAESGCM(dataKey)
	if err != nil {
		return nil, fmt.Errorf("opening the data key: %w", err)
	}
	var s sealed
	if s.PrivateKey, err = box.Encrypt(der, at.associated("private key")); err != nil {
		return nil, fmt.Errorf("sealing private key: %w", err)
	}
	if s.DataKey, err = m.wrap.Encrypt(dataKey, at.associated("data key")); err != nil {
		return nil, fmt.Errorf("wrapping data key: %w", err)
	}
	return &s, nil
}

// open unseals the private key that belongs in a place; anything else is
// ErrSealed.
func (m *Master) open(s *sealed, at place) (crypto.Signer, error) {
	dataKey, err := m.wrap.Decrypt(s.DataKey, at.associated("data key"))
	if err != nil {
		return nil, fmt.Errorf("%w: the data key does not open", ErrSealed)
	}
	defer clear(dataKey)
	box, err := subtle.NewAESGCM(dataKey)
	if err != nil {
		return nil, fmt.Errorf("%w: the data key is malformed", ErrSealed)
	}
	der, err := box.Decrypt(s.PrivateKey, at.associated("private key"))
	if err != nil {
		return nil, fmt.Errorf("%w: the private key does not open", ErrSealed)
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: the private key is malformed", ErrSealed)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: the private key does not sign", ErrSealed)
	}
	return private, checkHalves(private, at)
}

// checkHalves makes the algorithm and key id of the record true of the private
// key that will sign under them.
func checkHalves(private crypto.Signer, at place) error {
	id, err := KeyID(private.Public())
	if err != nil {
		return err
	}
	algorithm, err := AlgorithmOf(private.Public())
	if err != nil {
		return err
	}
	if id != at.keyID || algorithm != at.algorithm {
		return fmt.Errorf("%w: the private key is not the recorded one", ErrSealed)
	}
	return nil
}
