package authority

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Revocation says that a key is not believed any more.
type Revocation struct {
	// Reason is for people.
	Reason string `json:"reason"`
	// At is when it was declared.
	At time.Time `json:"at"`
	// CompromisedAt is when the key was lost: what it vouched for before still
	// counts. Nil is that nobody knows: nothing it vouched for counts.
	CompromisedAt *time.Time `json:"compromisedAt,omitempty"`
}

func (r *Revocation) clone() *Revocation {
	if r == nil {
		return nil
	}
	c := *r
	c.CompromisedAt = cloneTime(r.CompromisedAt)
	return &c
}

// check gives a new revocation its time.
func (r Revocation) check(now time.Time) (*Revocation, error) {
	if r.Reason == "" {
		return nil, fmt.Errorf("%w: it needs a reason", ErrRevocation)
	}
	out := r.clone()
	out.At = now.UTC().Truncate(time.Second)
	if out.CompromisedAt != nil {
		if out.CompromisedAt.After(now) {
			return nil, fmt.Errorf("%w: compromisedAt lies in the future", ErrRevocation)
		}
		// Ends are whole seconds, as genTime is: cut, never up.
		*out.CompromisedAt = out.CompromisedAt.UTC().Truncate(time.Second)
	}
	return out, nil
}

// believesLess reports whether r takes away more than what was declared before.
func (r *Revocation) believesLess(before *Revocation) bool {
	return before == nil || before.CompromisedAt != nil &&
		(r.CompromisedAt == nil || r.CompromisedAt.Before(*before.CompromisedAt))
}

// end is that of a window which the revocation closes.
func (r *Revocation) end(end *time.Time) *time.Time {
	last := r.At
	if r.CompromisedAt != nil {
		last = *r.CompromisedAt
	}
	if end != nil && end.Before(last) {
		last = *end
	}
	return &last
}

// Believed reports whether anything the chain vouched for still counts. What
// is not believed does not belong into a trusted root.
func (c Chain) Believed() bool { return believed(c.Start, c.End, c.Revoked) }

// Believed is Chain.Believed.
func (l CTLog) Believed() bool { return believed(l.Start, l.End, l.Revoked) }

func believed(start time.Time, end *time.Time, r *Revocation) bool {
	return r == nil || r.CompromisedAt != nil && end != nil && end.After(start)
}

// ID names the chain's generation: the hexadecimal serial number of its first
// certificate.
func (c Chain) ID() string { return c.Certificates[0].SerialNumber.Text(16) }

// ID names the key's generation: its hexadecimal log id.
func (l CTLog) ID() string {
	// A key that was parsed or used to sign can be encoded.
	spki, err := x509.MarshalPKIXPublicKey(l.Public)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// revokeChains revokes the key of the chain with that id, the last one when id
// is empty, and so every chain of that key. It reports whether anything changed.
func revokeChains(chains []Chain, id string, r *Revocation) ([]Chain, bool, error) {
	i := len(chains) - 1
	if id != "" {
		i = slices.IndexFunc(chains, func(c Chain) bool { return c.ID() == id })
	}
	if i < 0 {
		return chains, false, ErrGeneration
	}
	key, changed := chains[i].Certificates[0].PublicKey, false
	chains = cloneChains(chains)
	for n := range chains {
		c := &chains[n]
		if samePublic(c.Certificates[0].PublicKey, key) && r.believesLess(c.Revoked) {
			c.Revoked, c.End, changed = r.clone(), r.end(c.End), true
		}
	}
	return chains, changed, nil
}

func revokeCT(logs []CTLog, id string, r *Revocation) ([]CTLog, bool, error) {
	i := len(logs) - 1
	if id != "" {
		i = slices.IndexFunc(logs, func(l CTLog) bool { return l.ID() == id })
	}
	if i < 0 {
		return logs, false, ErrGeneration
	}
	if !r.believesLess(logs[i].Revoked) {
		return logs, false, nil
	}
	logs = slices.Clone(logs)
	logs[i].Revoked, logs[i].End = r.clone(), r.end(logs[i].End)
	return logs, true, nil
}

// revokedKey reports whether a key was revoked under any of its chains.
func revokedKey(chains []Chain, key crypto.PublicKey) bool {
	return slices.ContainsFunc(chains, func(c Chain) bool {
		return c.Revoked != nil && samePublic(c.Certificates[0].PublicKey, key)
	})
}

// Revoke revokes the key of the chain with that id, or the current one when id
// is empty. When it returns, the store holds the revocation; when the key was
// the current one, [Timestamper.Respond] is ErrRevoked until Rotate replaces it.
// Revoking again can take away more and never gives back. Errors: ErrRevocation,
// ErrGeneration.
func (t *Timestamper) Revoke(ctx context.Context, id string, r Revocation) error {
	t.rotating.Lock()
	defer t.rotating.Unlock()
	now := t.config.Clock.Now()
	declared, err := r.check(now)
	if err != nil {
		return err
	}
	kept, err := keeper{objects: t.config.Objects, name: timestampName}.keep(ctx, now, func(s state) (state, bool, error) {
		chains, changed, err := revokeChains(s.chains, id, declared)
		s.chains = chains
		return s, changed, err
	})
	if err != nil {
		return err
	}
	used := *t.use.Load()
	used.chains = kept.chains
	t.use.Store(&used)
	return nil
}

// Revoke revokes the key of the chain with that id, or the current one when id
// is empty, as [Timestamper.Revoke] does: Issue is ErrRevoked until Rotate
// replaces the key.
func (i *Issuer) Revoke(ctx context.Context, id string, r Revocation) error {
	return i.revoke(ctx, r, func(s state, declared *Revocation) (out state, changed bool, err error) {
		s.chains, changed, err = revokeChains(s.chains, id, declared)
		return s, changed, err
	})
}

// RevokeCT is Revoke for a certificate transparency key: Issue is ErrRevokedCT
// until Rotate replaces it.
func (i *Issuer) RevokeCT(ctx context.Context, id string, r Revocation) error {
	return i.revoke(ctx, r, func(s state, declared *Revocation) (out state, changed bool, err error) {
		s.ctLogs, changed, err = revokeCT(s.ctLogs, id, declared)
		return s, changed, err
	})
}

func (i *Issuer) revoke(ctx context.Context, r Revocation, change func(state, *Revocation) (state, bool, error)) error {
	i.rotating.Lock()
	defer i.rotating.Unlock()
	now := i.config.Clock.Now()
	declared, err := r.check(now)
	if err != nil {
		return err
	}
	kept, err := keeper{objects: i.config.Objects, name: issuerName}.keep(ctx, now, func(s state) (state, bool, error) {
		return change(s, declared)
	})
	if err != nil {
		return err
	}
	used := *i.use.Load()
	used.state = kept
	i.use.Store(&used)
	return nil
}

// usable is what Issue asks before it signs.
func (u *issuing) usable() error {
	switch {
	case u.state.chains[len(u.state.chains)-1].Revoked != nil:
		return ErrRevoked
	case u.state.ctLogs[len(u.state.ctLogs)-1].Revoked != nil:
		return ErrRevokedCT
	}
	return nil
}
