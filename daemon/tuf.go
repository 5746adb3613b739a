package daemon

import (
	"context"
	"crypto"
	"fmt"

	"github.com/countersign/countersign/trust/tuf"
)

// Targets of the TUF repository, under the names that stock clients ask for.
const (
	tufFolder           = "tuf"
	trustedRootTarget   = "trusted_root.json"
	signingConfigTarget = "signing_config.v0.2.json"
)

// openTUF opens the TUF repository, which publishes the trusted root in force.
func (d *Daemon) openTUF(ctx context.Context, s *services) error {
	var err error
	d.tuf, err = tuf.Open(ctx, tuf.Config{
		Dir: d.path(tufFolder), Keys: tufKeys{d.ring}, Clock: d.cfg.Clock, Logger: d.cfg.Logger,
		Floor: d.restored.floor(),
		Targets: func() (map[string][]byte, error) {
			trusted, err := s.trustRoot().MarshalTrustedRoot()
			if err != nil {
				return nil, err
			}
			signing, err := s.trustRoot().MarshalSigningConfig()
			if err != nil {
				return nil, err
			}
			return map[string][]byte{trustedRootTarget: trusted, signingConfigTarget: signing}, nil
		},
	})
	if err != nil {
		return fmt.Errorf("opening the TUF repository: %w", err)
	}
	return nil
}

// tufKeys keeps the online keys of the TUF roles in the ring: metadata of two
// generations is signed side by side while a role's key is replaced.
type tufKeys struct{ ring ownRing }

func (k tufKeys) of(role tuf.Role) generations {
	return generations{k.ring, "countersign-tuf-" + string(role) + "-", "tuf"}
}

// Signers returns what the ring holds for a role, oldest first.
func (k tufKeys) Signers(ctx context.Context, role tuf.Role) ([]crypto.Signer, error) {
	return k.of(role).signers(ctx)
}

// Add makes the next generation of a role's key.
func (k tufKeys) Add(ctx context.Context, role tuf.Role) (crypto.Signer, error) {
	return k.of(role).add(ctx)
}
