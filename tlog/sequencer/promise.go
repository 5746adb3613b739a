package sequencer

import (
	"bytes"
	"context"
	"fmt"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/tlog"
)

// Promise signs, with the log's key, that an entry of this log stands in it
// since at, in whole seconds (see tlog.SignSET). It promises nothing that it
// does not find there: ErrNotFound for an entry of another log or beyond the
// published checkpoint, ErrCorrupt for other bytes under that index.
//
// at is now; of a frozen shard it is never later than the freeze, when the
// entry was there already: verifiers compare it with the window of the key,
// which ends then, and a signature may be resumed much later.
func (s *Sequencer) Promise(ctx context.Context, entry *rekorpb.TransparencyLogEntry) (at time.Time, set []byte, err error) {
	if err := ctx.Err(); err != nil {
		return at, nil, err
	}
	v := s.current()
	index := entry.GetLogIndex()
	if !bytes.Equal(entry.GetLogId().GetKeyId(), s.logID) || index < 0 || uint64(index) >= v.cp.Size {
		return at, nil, ErrNotFound
	}
	stored, err := v.leaf(uint64(index))
	if err != nil {
		return at, nil, s.noted(err)
	}
	if !bytes.Equal(stored, tlog.LeafHash(entry.GetCanonicalizedBody())) {
		return at, nil, fmt.Errorf("%w: entry %d holds other bytes", ErrCorrupt, index)
	}
	at = s.promisedAt()
	set, err = tlog.SignSET(s.cfg.Signer, entry.GetCanonicalizedBody(), at, index)
	return at, set, err
}

func (s *Sequencer) promisedAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Clock.Now().UTC()
	if !s.endedAt.IsZero() && now.After(s.endedAt) {
		now = s.endedAt
	}
	return now.Truncate(time.Second)
}
