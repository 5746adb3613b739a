package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/store"
)

// adoptionText is signed once when a key is adopted, to prove that the back
// end signs with the key whose public half it shows. It is no DSSE envelope,
// payload, checkpoint or certificate.
const adoptionText = "countersign: this key was adopted"

// adopt opens the key of a reference and proves it: its algorithm is one of
// ours and the one asked for, its public half is strong, it belongs to no other
// key of this ring, and it signs. Nothing is recorded.
func (r *Ring) adopt(ctx context.Context, spec Spec) (crypto.PublicKey, Algorithm, error) {
	if err := checkRef(spec.Backend, spec.Ref); err != nil {
		return nil, "", err
	}
	b, err := r.backend(spec.Backend)
	if err != nil {
		return nil, "", err
	}
	remote, err := call(ctx, b, func(ctx context.Context) (Remote, error) { return b.backend.Open(ctx, spec.Ref) })
	if err != nil {
		return nil, "", fmt.Errorf("opening %s key: %w", spec.Backend, err)
	}
	pub := remote.Public()
	algorithm, err := checkAdopted(pub, spec.Algorithm)
	if err != nil {
		return nil, "", err
	}
	if err := r.checkUnknown(ctx, spec.Name, pub); err != nil {
		return nil, "", err
	}
	key := &remoteKey{backend: b, ref: spec.Ref, public: pub, opened: remote}
	if err := r.prove(ctx, key, algorithm); err != nil {
		return nil, "", fmt.Errorf("proving the %s key: %w", spec.Backend, err)
	}
	return pub, algorithm, nil
}

func (r *Ring) prove(ctx context.Context, key *remoteKey, algorithm Algorithm) error {
	hash, err := algorithm.Hash(FormBundle)
	if err != nil {
		return err
	}
	_, err = key.signDigest(ctx, r.rand, sum(hash, []byte(adoptionText)), hash)
	if errors.Is(err, ErrForm) {
		return fmt.Errorf("%w: the back end cannot sign with %s as this service needs it: %w", ErrAlgorithm, algorithm, err)
	}
	return err
}

// checkAdopted holds a foreign public half to what keys made here are by
// construction.
func checkAdopted(pub crypto.PublicKey, want Algorithm) (Algorithm, error) {
	algorithm, err := AlgorithmOf(pub)
	switch {
	case err != nil:
		return "", err
	case algorithm == Ed25519:
		return "", fmt.Errorf("%w: ed25519 keys sign whole messages elsewhere, and this service sends digests; only file keys can be ed25519", ErrAlgorithm)
	case want != "" && want != algorithm:
		return "", fmt.Errorf("%w: the key is %s, not %s", ErrAlgorithm, algorithm, want)
	}
	return algorithm, checkStrength(pub)
}

// checkUnknown refuses a public half that any version of any key of the ring
// has: two names for one key would let the one sign what the other is for, and
// survive the other's revocation. Found under the same name it is ErrUnchanged:
// a rotation wants a new key.
func (r *Ring) checkUnknown(ctx context.Context, name string, pub crypto.PublicKey) error {
	id, err := KeyID(pub)
	if err != nil {
		return err
	}
	page := store.Page{Limit: limits.PageMax}
	for {
		all, next, err := r.list(ctx, page, func(Key) bool { return true })
		if err != nil {
			return err
		}
		for _, k := range all {
			for _, v := range k.Versions {
				if v.KeyID != id {
					continue
				}
				if k.Name == name {
					return ErrUnchanged
				}
				return fmt.Errorf("%w: its public half is recorded already", ErrExists)
			}
		}
		if next == "" {
			return nil
		}
		page.Cursor = next
	}
}

// mayName refuses a reference that callers may not adopt a key by.
func (r *Ring) mayName(backend, ref string) error {
	if !r.refs.backend(backend) {
		return fmt.Errorf("%w: callers may use no %q key here; the operator lists references in keys.refs", ErrBackend, backend)
	}
	if err := checkRef(backend, ref); err != nil {
		return err
	}
	if slices.Contains(r.reserved, ref) {
		return fmt.Errorf("%w: it is the service's own", ErrRef)
	}
	return r.refs.Allow(ref)
}

func (r *Ring) backend(name string) (*bounded, error) {
	if b, ok := r.backends[name]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("%w: %q is none that this service was started with", ErrBackend, name)
}

// addAdopted records an adopted public half as the next version and makes it
// current.
func (r *Ring) addAdopted(rec *record, pub crypto.PublicKey, ref string, state State, now time.Time) (err error) {
	v := recordVersion{Version: len(rec.Versions) + 1, State: state, CreatedAt: now, Ref: ref}
	if v.KeyID, err = KeyID(pub); err != nil {
		return err
	}
	if v.Public, err = publicPEM(pub); err != nil {
		return err
	}
	rec.append(v, now)
	rec.Ref = ref
	return nil
}

// RotateTo is Rotate for a key in another back end: the next version is what
// is behind ref now, or behind the current reference when ref is empty.
// Errors: those of Create, and ErrUnchanged when the back end still holds the
// recorded key.
func (r *Ring) RotateTo(ctx context.Context, name, ref string) (Key, error) {
	rec, err := r.read(ctx, name)
	if err != nil {
		return Key{}, err
	}
	if !managed(rec.Purposes) {
		return Key{}, fmt.Errorf("%w: %q belongs to the service", ErrPurpose, name)
	}
	if rec.Backend == BackendFile {
		if ref != "" {
			return Key{}, fmt.Errorf("%w: back end %q takes no reference", ErrRef, BackendFile)
		}
		return r.rotateFile(ctx, rec)
	}
	if ref == "" {
		ref = rec.Ref
	}
	if err := r.mayName(rec.Backend, ref); err != nil {
		return Key{}, err
	}
	r.adopting.Lock()
	defer r.adopting.Unlock()
	pub, _, err := r.adopt(ctx, Spec{Name: name, Backend: rec.Backend, Ref: ref, Algorithm: rec.Algorithm})
	if err != nil {
		return Key{}, err
	}
	return r.change(ctx, name, func(rec *record, now time.Time) error {
		if err := rec.succeed(now); err != nil {
			return err
		}
		return r.addAdopted(rec, pub, ref, Active, now)
	})
}
