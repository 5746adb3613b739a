package authority

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/internal/strictjson"
	"github.com/countersign/countersign/store"
)

// Overlap is how long a replaced chain or key stays trusted: longer than any
// request that began with it and than any clock is wrong.
const Overlap = time.Hour

// Names in the store.
const (
	kind          = "certificate"
	timestampName = "timestamp"
	issuerName    = "issuer"
)

const defaultOrganization = "Countersign"

// Chain is a chain of certificates and the window in which it is used.
type Chain struct {
	// Certificates: each is signed by the next, the last is the root.
	Certificates []*x509.Certificate
	Start        time.Time
	// End is nil for the current chain.
	End *time.Time
	// Revoked says that its first certificate's key is not believed any more.
	Revoked *Revocation
}

// CTLog is a key of the certificate transparency log and the window in which
// it is used.
type CTLog struct {
	Public crypto.PublicKey
	Start  time.Time
	// End is nil for the current key.
	End *time.Time
	// Revoked says that the key is not believed any more.
	Revoked *Revocation
}

// record is what the store keeps: chains as PEM, newest last.
type record struct {
	Chains []string `json:"chains"`
	// Windows are those of Chains. They may be absent: then a chain is used as
	// long as its first certificate lasts.
	Windows []window      `json:"windows,omitempty"`
	CTLogs  []ctLogRecord `json:"ctLogs,omitempty"`
}

type window struct {
	Start   time.Time   `json:"start"`
	End     *time.Time  `json:"end,omitempty"`
	Revoked *Revocation `json:"revoked,omitempty"`
}

type ctLogRecord struct {
	// Key is a SubjectPublicKeyInfo.
	Key     []byte      `json:"key"`
	Start   time.Time   `json:"start"`
	End     *time.Time  `json:"end,omitempty"`
	Revoked *Revocation `json:"revoked,omitempty"`
}

// state is a record's meaning.
type state struct {
	chains []Chain
	ctLogs []CTLog
}

// keeper keeps the state of one authority in the store.
type keeper struct {
	objects store.Objects
	name    string
}

// keep applies a change to what is kept. change is called again when another
// process was faster; when it reports false nothing is written. The state
// returned is what the store holds.
func (k keeper) keep(ctx context.Context, now time.Time, change func(state) (state, bool, error)) (state, error) {
	for {
		o, err := k.objects.Get(ctx, kind, k.name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return state{}, fmt.Errorf("reading %s certificates: %w", k.name, err)
		}
		before, err := decodeState(o)
		if err != nil {
			return state{}, err
		}
		after, changed, err := change(before)
		if err != nil || !changed {
			return after, err
		}
		body, err := encodeState(after)
		if err != nil {
			return state{}, err
		}
		_, err = k.objects.Put(ctx, store.Object{
			Kind: kind, Name: k.name, Revision: o.Revision, Body: body, CreatedAt: now, UpdatedAt: now,
		})
		switch {
		case err == nil:
			return after, nil
		case !errors.Is(err, store.ErrStale) && !errors.Is(err, store.ErrExists):
			return state{}, fmt.Errorf("writing %s certificates: %w", k.name, err)
		}
	}
}

// succeed appends a chain that is used from now on and closes the one before.
func succeed(chains []Chain, next []*x509.Certificate, now time.Time) []Chain {
	chains = cloneChains(chains)
	if n := len(chains); n > 0 && chains[n-1].End == nil {
		chains[n-1].End = closing(now, chains[n-1].Certificates[0].NotAfter)
	}
	return append(chains, Chain{Certificates: next, Start: opening(now)})
}

// opening is a little before now, as a new certificate's own window.
func opening(now time.Time) time.Time { return now.Add(-backdate).UTC().Truncate(time.Second) }

func closing(now, latest time.Time) *time.Time {
	end := now.Add(Overlap)
	if end.After(latest) {
		end = latest
	}
	end = end.UTC().Truncate(time.Second)
	return &end
}

func cloneChains(chains []Chain) []Chain {
	out := slices.Clone(chains)
	for i := range out {
		out[i].Certificates, out[i].End = slices.Clone(out[i].Certificates), cloneTime(out[i].End)
		out[i].Revoked = out[i].Revoked.clone()
	}
	return out
}

func cloneTime(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	c := *t
	return &c
}

func encodeState(s state) ([]byte, error) {
	r := record{}
	for _, c := range s.chains {
		r.Chains = append(r.Chains, string(encodePEM(c.Certificates)))
		r.Windows = append(r.Windows, window{Start: c.Start, End: c.End, Revoked: c.Revoked})
	}
	for _, l := range s.ctLogs {
		spki, err := x509.MarshalPKIXPublicKey(l.Public)
		if err != nil {
			return nil, fmt.Errorf("encoding certificate transparency keys: %w", err)
		}
		r.CTLogs = append(r.CTLogs, ctLogRecord{Key: spki, Start: l.Start, End: l.End, Revoked: l.Revoked})
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding certificates: %w", err)
	}
	return body, nil
}

// decodeState reads a stored object; the zero object, which was never stored,
// holds nothing.
func decodeState(o store.Object) (state, error) {
	if o.Revision == 0 {
		return state{}, nil
	}
	var r record
	if err := strictjson.Unmarshal(o.Body, &r); err != nil {
		return state{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if len(r.Windows) != 0 && len(r.Windows) != len(r.Chains) {
		return state{}, fmt.Errorf("%w: %d chains with %d windows", ErrCertificate, len(r.Chains), len(r.Windows))
	}
	var s state
	for i, text := range r.Chains {
		certificates, err := decodePEM([]byte(text))
		if err != nil {
			return state{}, err
		}
		chain := Chain{Certificates: certificates}
		if len(r.Windows) != 0 {
			chain.Start, chain.End, chain.Revoked = r.Windows[i].Start, r.Windows[i].End, r.Windows[i].Revoked
		} else {
			chain.Start = certificates[0].NotBefore
			if i < len(r.Chains)-1 {
				chain.End = &certificates[0].NotAfter
			}
		}
		s.chains = append(s.chains, chain)
	}
	for _, l := range r.CTLogs {
		public, err := x509.ParsePKIXPublicKey(l.Key)
		if err != nil {
			return state{}, fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		s.ctLogs = append(s.ctLogs, CTLog{Public: public, Start: l.Start, End: l.End, Revoked: l.Revoked})
	}
	return s, nil
}
