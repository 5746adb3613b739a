package daemon

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/authority"
)

const notaryPrefix = "countersign-notary-"

func (d *Daemon) notaryKeys() generations { return generations{d.ring, notaryPrefix, "notary"} }

// openNotary opens the authority that certifies managed keys for signatures of
// the Notary Project.
func (d *Daemon) openNotary(ctx context.Context, s *services) error {
	key, err := d.notaryKeys().newest(ctx)
	if err != nil {
		return err
	}
	s.notary, err = authority.OpenNotary(ctx, authority.NotaryConfig{
		Key: key, Objects: d.local.Objects(), Organization: d.cfg.Organization, Clock: d.cfg.Clock,
	})
	if err != nil {
		return fmt.Errorf("opening the Notary authority: %w", err)
	}
	return nil
}

// notaryParts gives the signer what signatures of the Notary Project need.
type notaryParts struct {
	*authority.Notary
	stamper *authority.Timestamper
}

// Stamp stamps with the authority's certificate.
func (n notaryParts) Stamp(ctx context.Context, message []byte) ([]byte, error) {
	return n.stamper.StampCertified(ctx, message)
}
