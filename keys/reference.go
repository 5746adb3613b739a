package keys

import (
	"context"
	"crypto"
	"fmt"
)

// ReadPublic reads, now, the public half of a key in another back end that is
// none of the ring's own. Whom this service calls is the operator's choice: a
// reference must be among those that callers may name (row I1). Errors are
// those of Create with a reference.
func (r *Ring) ReadPublic(ctx context.Context, ref string) (crypto.PublicKey, error) {
	name, err := BackendOf(ref)
	if err != nil {
		return nil, err
	}
	if err := r.mayName(name, ref); err != nil {
		return nil, err
	}
	b, err := r.backend(name)
	if err != nil {
		return nil, err
	}
	remote, err := call(ctx, b, func(ctx context.Context) (Remote, error) { return b.backend.Open(ctx, ref) })
	if err != nil {
		return nil, fmt.Errorf("opening %s key: %w", name, err)
	}
	public := remote.Public()
	if _, err := AlgorithmOf(public); err != nil {
		return nil, err
	}
	return public, checkStrength(public)
}
