package keys

import (
	"encoding/binary"
	"fmt"
)

// Seal encrypts a secret that is not a signing key, a registry's password for
// example, for one purpose and name. What it returns opens only under the same
// master key, purpose and name.
func (m *Master) Seal(purpose, name string, plaintext []byte) ([]byte, error) {
	sealed, err := m.wrap.Encrypt(plaintext, secretPlace(purpose, name))
	if err != nil {
		return nil, fmt.Errorf("sealing a secret: %w", err)
	}
	return sealed, nil
}

// Open decrypts what Seal returned for the same purpose and name. Anything
// else is ErrSealed.
func (m *Master) Open(purpose, name string, sealed []byte) ([]byte, error) {
	plaintext, err := m.wrap.Decrypt(sealed, secretPlace(purpose, name))
	if err != nil {
		return nil, fmt.Errorf("%w: the secret does not open", ErrSealed)
	}
	return plaintext, nil
}

// secretPlace is associated data that no sealed signing key has (see place).
func secretPlace(purpose, name string) []byte {
	var out []byte
	for _, f := range []string{"countersign sealed secret 1", purpose, name} {
		out = binary.BigEndian.AppendUint64(out, uint64(len(f)))
		out = append(out, f...)
	}
	return out
}
