package daemon

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/keys"
)

// summaryKey signs verification summaries: the one key of the service that is
// managed like a caller's and that no caller signs with.
const summaryKey = "countersign-vsa"

// openSummaries makes the key at the first start, so that its public half can be
// handed out before there is a summary.
func (d *Daemon) openSummaries(ctx context.Context, _ *services) error {
	_, err := d.ring.Ensure(ctx, keys.Spec{Name: summaryKey, Algorithm: keys.ECDSAP256, Purposes: []string{keys.PurposeVSA}})
	if err != nil {
		return fmt.Errorf("making key %s: %w", summaryKey, err)
	}
	return nil
}
