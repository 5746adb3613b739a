//go:build !cgo

package pkcs11

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/keys"
)

// Backend has no key.
type Backend struct{}

// New returns a back end that refuses every reference.
func New() *Backend { return &Backend{} }

// Close has nothing to close.
func (*Backend) Close() error { return nil }

// Open implements keys.Backend.
func (*Backend) Open(_ context.Context, ref string) (keys.Remote, error) {
	if _, err := parse(ref); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: this build has no PKCS #11; one made by `make build-pkcs11` has", keys.ErrBackend)
}
