package daemon

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/store"
)

// Revoke closes a key of ca, ct or tsa in the trusted root, makes another one
// when it was the current one, and publishes both. The revocation is in the
// store first: a crash after that is finished by the next start.
func (r rotator) Revoke(ctx context.Context, name, id string, why authority.Revocation) error {
	s := r.services
	var err error
	switch name {
	case "tsa":
		if err = s.stamper.Revoke(ctx, id, why); err == nil {
			err = r.succeedStamper(ctx)
		}
	case "ca":
		if err = s.issuer.Revoke(ctx, id, why); err == nil {
			err = r.succeedIssuer(ctx)
		}
	case "ct":
		if err = s.issuer.RevokeCT(ctx, id, why); err == nil {
			err = r.succeedCT(ctx)
		}
	case "log":
		return fmt.Errorf("%w: the log's key is not revoked here: close its shard", server.ErrAuthorityLog)
	default:
		return fmt.Errorf("%w: want ca, ct or tsa", server.ErrAuthority)
	}
	if err != nil {
		return fmt.Errorf("revoking %s: %w", name, err)
	}
	return r.publish(ctx)
}

// succeedStamper replaces a revoked timestamp key and its root.
func (r rotator) succeedStamper(ctx context.Context) error {
	chains := r.services.stamper.Chains()
	if chains[len(chains)-1].Revoked == nil {
		return nil
	}
	root, leaf, err := r.daemon.nextStampKeys(ctx)
	if err != nil {
		return err
	}
	return r.services.stamper.Rotate(ctx, root, leaf)
}

// succeedIssuer replaces a revoked issuing key and its root. An imported one is
// succeeded by our own: somebody else's authority cannot be asked from here.
func (r rotator) succeedIssuer(ctx context.Context) error {
	chains := r.services.issuer.Chains()
	if chains[len(chains)-1].Revoked == nil {
		return nil
	}
	next, err := r.daemon.nextIssuingKeys(ctx)
	if err != nil {
		return err
	}
	return r.services.issuer.Rotate(ctx, next)
}

func (r rotator) succeedCT(ctx context.Context) error {
	logs := r.services.issuer.CTLogs()
	if logs[len(logs)-1].Revoked == nil {
		return nil
	}
	key, err := r.daemon.transparency().add(ctx)
	if err != nil {
		return err
	}
	return r.services.issuer.Rotate(ctx, authority.IssuerKeys{CT: key})
}

func (d *Daemon) stampRoots() generations   { return generations{d.ring, stampRootPrefix, "tsa-root"} }
func (d *Daemon) issuingRoots() generations { return generations{d.ring, caRootPrefix, "ca-root"} }

// nextStampKeys makes the keys that follow revoked ones. The root is new too:
// whoever took the leaf's key from this machine may have had the root's.
func (d *Daemon) nextStampKeys(ctx context.Context) (root, leaf crypto.Signer, err error) {
	if root, err = d.stampRoots().add(ctx); err != nil {
		return nil, nil, err
	}
	leaf, err = d.stampKeys().add(ctx)
	return root, leaf, err
}

// nextIssuingKeys is nextStampKeys for the certificate authority, and puts an
// imported chain away.
func (d *Daemon) nextIssuingKeys(ctx context.Context) (authority.IssuerKeys, error) {
	_, revision, err := d.importedChain(ctx)
	if err != nil {
		return authority.IssuerKeys{}, err
	}
	if revision != 0 {
		err := d.local.Objects().Delete(ctx, importedKind, importedName, revision)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return authority.IssuerKeys{}, fmt.Errorf("putting the imported chain away: %w", err)
		}
	}
	root, err := d.issuingRoots().add(ctx)
	if err != nil {
		return authority.IssuerKeys{}, err
	}
	issuing, err := d.issuingKeys().add(ctx)
	return authority.IssuerKeys{Root: root, Issuing: issuing}, err
}

// reopenIssuer opens the certificate authority again after a revocation that a
// crash kept without a successor.
func (d *Daemon) reopenIssuer(ctx context.Context, c authority.IssuerConfig, cause error) (*authority.Issuer, error) {
	// Both keys may have been revoked: once for each.
	for range 2 {
		switch {
		case errors.Is(cause, authority.ErrRevokedCT):
			key, err := d.transparency().add(ctx)
			if err != nil {
				return nil, err
			}
			c.Keys.CT = key
		case errors.Is(cause, authority.ErrRevoked):
			next, err := d.nextIssuingKeys(ctx)
			if err != nil {
				return nil, err
			}
			next.CT = c.Keys.CT
			c.Keys = next
		}
		issuer, err := authority.OpenIssuer(ctx, c)
		if err == nil {
			return issuer, nil
		}
		cause = err
	}
	return nil, cause
}

// Revoked are the keys that were revoked, oldest first.
func (r rotator) Revoked() []server.RevokedAuthority {
	var out []server.RevokedAuthority
	add := func(name string, chains []authority.Chain) {
		for _, c := range chains {
			if c.Revoked != nil {
				out = append(out, server.RevokedAuthority{
					Name: name, ID: c.ID(), Subject: c.Certificates[0].Subject.String(),
					Start: c.Start, End: c.End, Revocation: *c.Revoked,
				})
			}
		}
	}
	add("ca", r.services.issuer.Chains())
	for _, l := range r.services.issuer.CTLogs() {
		if l.Revoked != nil {
			out = append(out, server.RevokedAuthority{
				Name: "ct", ID: l.ID(), Subject: r.services.publicURL, Start: l.Start, End: l.End, Revocation: *l.Revoked,
			})
		}
	}
	add("tsa", r.services.stamper.Chains())
	return out
}
