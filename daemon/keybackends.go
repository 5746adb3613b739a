package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/keys/kms"
	"github.com/countersign/countersign/keys/pkcs11"
)

// AuthorityKeys say where the service's own keys lie when they are made: a
// reference for each job, empty for the data folder. A key that exists already
// is not moved; the next generation follows the reference.
type AuthorityKeys struct {
	CARoot, CA, CT, TSARoot, TSA, Log string
}

// byPurpose are the references that are set, by the purpose of the key.
func (a AuthorityKeys) byPurpose() map[string]string {
	all := map[string]string{
		"ca-root": a.CARoot, "ca": a.CA, "ct": a.CT, "tsa-root": a.TSARoot, "tsa": a.TSA, logPurpose: a.Log,
	}
	maps.DeleteFunc(all, func(_, ref string) bool { return ref == "" })
	return all
}

// Check refuses a reference that no back end has, and one key for two jobs (SP
// 800-57 part 1 §5.2).
func (a AuthorityKeys) Check() error {
	refs := a.byPurpose()
	jobs := map[string]string{}
	for _, job := range slices.Sorted(maps.Keys(refs)) {
		if _, err := keys.BackendOf(refs[job]); err != nil {
			return fmt.Errorf("authorities.%s: %w", job, err)
		}
		if other, taken := jobs[refs[job]]; taken {
			return fmt.Errorf("authorities.%s: the key is already that of authorities.%s", job, other)
		}
		jobs[refs[job]] = job
	}
	return nil
}

// backends are those that this build has, and the one of them to be closed.
func (c Config) backends() (map[string]keys.Backend, *pkcs11.Backend) {
	all := kms.Backends()
	tokens := pkcs11.New()
	all[keys.BackendPKCS11] = tokens
	maps.Copy(all, c.Backends)
	return all, tokens
}

// ownRing is the ring as the service asks for its own keys: a key that is made
// lies where the configuration says.
type ownRing struct {
	*keys.Ring
	refs map[string]string
}

// Ensure returns a key of the service wherever it was made, and makes it in the
// back end that is configured for its purpose when there is none. A reference
// that still leads to an earlier generation is refused with what to do about it.
func (r ownRing) Ensure(ctx context.Context, spec keys.Spec) (keys.Key, error) {
	made, err := r.Get(ctx, spec.Name)
	if err != nil && !errors.Is(err, keys.ErrNotFound) {
		return keys.Key{}, err
	}
	if err == nil {
		spec.Backend, spec.Ref = made.Backend, made.Ref
		return r.Ring.Ensure(ctx, spec)
	}
	ref := r.refs[spec.Purposes[0]]
	if ref == "" {
		return r.Ring.Ensure(ctx, spec)
	}
	if spec.Backend, err = keys.BackendOf(ref); err != nil {
		return keys.Key{}, err
	}
	spec.Ref = ref
	key, err := r.Ring.Ensure(ctx, spec)
	if errors.Is(err, keys.ErrExists) {
		err = fmt.Errorf("make a new key in its back end, or change authorities.%s: %w", spec.Purposes[0], err)
	}
	return key, err
}
