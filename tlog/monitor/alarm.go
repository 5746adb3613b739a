package monitor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// Kind says what happened. The values are stable.
type Kind string

// The kinds of alarms. Those of the first group keep the monitor where it is.
const (
	// BadCheckpoint: a checkpoint is malformed or not signed by the log.
	BadCheckpoint Kind = "bad_checkpoint"
	// OlderCheckpoint: somebody is shown an older state than was shown before.
	OlderCheckpoint Kind = "older_checkpoint"
	// SplitView: two signed checkpoints contradict each other.
	SplitView Kind = "split_view"
	// EntryChanged: an entry is not the one under the signed root.
	EntryChanged Kind = "entry_changed"
	// TileChanged: a tile contradicts the signed root.
	TileChanged Kind = "tile_changed"
	// Missing: a file that the checkpoint covers is not there.
	Missing Kind = "missing"
	// Unwitnessed: a checkpoint lacks the cosignatures that are asked for.
	Unwitnessed Kind = "unwitnessed"

	// UnexpectedIdentity and UnexpectedKey: whoever signed is not expected.
	UnexpectedIdentity Kind = "unexpected_identity"
	UnexpectedKey      Kind = "unexpected_key"
	// ForbiddenIdentity and ForbiddenKey: whoever signed is forbidden.
	ForbiddenIdentity Kind = "forbidden_identity"
	ForbiddenKey      Kind = "forbidden_key"
	// UnreadableEntry: nobody can say who signed.
	UnreadableEntry Kind = "unreadable_entry"
)

// contradicts reports whether a kind keeps the monitor where it is.
func (k Kind) contradicts() bool {
	switch k {
	case BadCheckpoint, OlderCheckpoint, SplitView, EntryChanged, TileChanged, Missing, Unwitnessed:
		return true
	}
	return false
}

// Alarm is one thing that a person must look at.
type Alarm struct {
	// ID is the same whenever the same thing is found again.
	ID   string    `json:"id"`
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`
	// Origin and KeyHash name the log, Source the place that served it.
	Origin  string `json:"origin"`
	KeyHash string `json:"keyHash"`
	Source  string `json:"source"`
	// Detail is for people.
	Detail string `json:"detail"`
	// Index is the entry's position, of alarms about one.
	Index *uint64 `json:"index,omitempty"`
	// Issuer and Subject are the certificate's, KeyID the key's that signed.
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
	KeyID   string `json:"keyId,omitempty"`
	// Checkpoints are the evidence: signed notes.
	Checkpoints []string `json:"checkpoints,omitempty"`
}

// identified gives an alarm its id. kept is the checkpoint that the monitor stays
// at, of a contradiction: what contradicts it may grow, with every alarm that is
// logged for one, and is the same contradiction.
func (a Alarm) identified(kept string) Alarm {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q", a.Kind, a.Origin, a.KeyHash, a.Source, kept)
	if a.Index != nil {
		fmt.Fprintf(h, " %d", *a.Index)
	}
	a.ID = hex.EncodeToString(h.Sum(nil)[:16])
	return a
}
