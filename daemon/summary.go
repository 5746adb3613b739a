package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/keys"
)

// summaryKey signs verification summaries: the one key of the service that is
// managed like a caller's and that no caller signs with.
const summaryKey = "countersign-vsa"

// openSummaries makes the key at the first start, so that its public half can be
// handed out before there is a summary, and journals it like a caller's.
func (d *Daemon) openSummaries(ctx context.Context, s *services) error {
	_, err := d.ring.Get(ctx, summaryKey)
	if !errors.Is(err, keys.ErrNotFound) {
		return err
	}
	record := audit.Record{Actor: "first start", Action: "key.create", Resource: "key/" + summaryKey, Outcome: audit.Allowed}
	if _, err := s.journal.Append(ctx, record); err != nil {
		return fmt.Errorf("journalling key %s: %w", summaryKey, err)
	}
	_, err = d.ring.Ensure(ctx, keys.Spec{Name: summaryKey, Algorithm: keys.ECDSAP256, Purposes: []string{keys.PurposeVSA}})
	if err != nil {
		return fmt.Errorf("making key %s: %w", summaryKey, err)
	}
	record.Outcome = audit.Done
	if _, err := s.journal.Append(ctx, record); err != nil {
		return fmt.Errorf("journalling key %s: %w", summaryKey, err)
	}
	return nil
}
