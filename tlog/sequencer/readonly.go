package sequencer

import (
	"context"
	"errors"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

// ErrReadOnly says that an operator has the log take nothing new.
var ErrReadOnly = errors.New("log is read-only")

// SetReadOnly has Append take nothing new from now on, or ends that. What is
// under way is finished, what is in the log is answered, and the journal's
// entries wait with the others.
func (l *Log) SetReadOnly(on bool) { l.readOnly.Store(on) }

// ReadOnly reports whether nothing new is taken.
func (l *Log) ReadOnly() bool { return l.readOnly.Load() }

// find is Append without adding anything.
func (l *Log) find(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error) {
	for _, shard := range l.all() {
		entry, found, err := shard.Find(ctx, body)
		if found || err != nil {
			return entry, err
		}
	}
	return nil, ErrReadOnly
}

// ReadOnly reports whether the shard takes nothing new: it is, or is being,
// frozen.
func (s *Sequencer) ReadOnly() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed
}
