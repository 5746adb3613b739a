package verifier

import (
	"context"
	"crypto"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/policy"
)

// References reads the public halves of keys that policies name by reference.
type References interface {
	// ReadPublic reads it now, and asks nobody whom the operator did not list.
	ReadPublic(ctx context.Context, ref string) (crypto.PublicKey, error)
}

// referenced remembers what was read of one epoch. Failures are not remembered.
type referenced struct {
	mu    sync.Mutex
	epoch [sha256.Size]byte
	keys  map[string]referencedKey
}

type referencedKey struct {
	public crypto.PublicKey
	until  time.Time
}

func (r *referenced) recall(e [sha256.Size]byte, ref string, now time.Time) (crypto.PublicKey, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, ok := r.keys[ref]
	return key.public, ok && r.epoch == e && now.Before(key.until)
}

func (r *referenced) remember(e [sha256.Size]byte, ref string, public crypto.PublicKey, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != e || r.keys == nil || len(r.keys) >= limits.References {
		r.epoch, r.keys = e, make(map[string]referencedKey)
	}
	r.keys[ref] = referencedKey{public: public, until: now.Add(limits.ReferenceFresh)}
}

// referencedOf reads the key of an authority by reference. One that cannot be
// read fails this authority alone, and only this answer: asking again asks
// again.
func (r *round) referencedOf(ctx context.Context, s signer, ref string) signer {
	e := r.question.sum
	public, known := r.references.recall(e, ref, r.bench.now)
	if !known {
		var err error
		if public, err = r.readReference(ctx, ref); err != nil {
			r.log.WarnContext(ctx, "reading a key by reference", "authority", s.name, "error", err)
			r.unsure = true
			s.fault = faultf(policy.PolicyError, "the key of authority %s could not be read by its reference: is it listed in keys.refs, and its service reachable?", s.name)
			return s
		}
		r.references.remember(e, ref, public, r.bench.now)
	}
	id, err := keyID(public)
	if err != nil {
		s.fault = faultf(policy.PolicyError, "the key of authority %s is of an unknown kind", s.name)
		return s
	}
	s.candidates = []candidate{{id: id, public: public}}
	return s
}

func (r *round) readReference(ctx context.Context, ref string) (crypto.PublicKey, error) {
	if r.referencing == nil {
		return nil, errNoReferences
	}
	return r.referencing.ReadPublic(ctx, ref)
}
