// Package backup writes and reads the archive that a service's data folder is
// kept as elsewhere: a zstd-compressed tar with a description first, then the
// files, then a seal over all of it.
//
//	countersign-backup.json   Description
//	countersign.db            the embedded database at one moment
//	log/…, log-2/…            each shard's checkpoint and tiles at that moment
//	tuf/…                     the TUF repository
//	monitor/state.json        what the log's monitor has verified, if it has
//	seal.json                 SHA-256 over the names and contents before it
//
// The seal finds an archive that was cut short or damaged; it is no proof of who
// wrote it. What is secret in the database is sealed under the master key, which
// is never in an archive.
//
// Read refuses what Write would not write: other names, links, devices, paths
// that leave the folder, files beyond the size that the description says.
package backup

import (
	"errors"
	"time"
)

// Names of the archive's own members.
const (
	descriptionName = "countersign-backup.json"
	sealName        = "seal.json"
	// Database is the name of the embedded database's copy.
	Database = "countersign.db"
	// Monitor is the name of the monitor's state.
	Monitor = "monitor/state.json"
)

// format is the version of the archive's layout. Read takes those from oldest on:
// the first had no monitor.
const (
	format = 2
	oldest = 1
)

// Errors of Read.
var (
	// ErrArchive: not an archive of this format, or not a whole one.
	ErrArchive = errors.New("not a backup")
)

// Description says what an archive holds.
type Description struct {
	Format    int       `json:"format"`
	CreatedAt time.Time `json:"createdAt"`
	// Version is of the program that wrote it.
	Version string `json:"version"`
	// Origin is the log's host name; each shard's checkpoint names its own.
	Origin string  `json:"origin"`
	Shards []Shard `json:"shards"`
	// External says that everything but keys and the log's index is in a
	// database of its own, which the archive does not hold.
	External bool `json:"external"`
}

// Shard is one shard of the log.
type Shard struct {
	// Folder is its name in the archive and in the data folder.
	Folder string `json:"folder"`
	Size   uint64 `json:"size"`
	// Checkpoint is the signed note over what the archive holds.
	Checkpoint string `json:"checkpoint"`
	// FrozenAt is of a shard that was frozen already.
	FrozenAt *time.Time `json:"frozenAt,omitempty"`
}
