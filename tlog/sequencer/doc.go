// Package sequencer is the transparency log's one writer: it gives each entry
// its index, grows the tree, publishes checkpoints, and hands every appender
// an inclusion proof that it has checked. The tree lies in one directory in
// the C2SP tlog-tiles layout and the form of Tessera's POSIX driver, written
// under Tessera's appender by a driver of this package; formats and proofs are
// package tlog's.
//
// # What Append promises
//
// When Append returns an entry, the entry's bytes, the tree over them and a
// signed checkpoint that covers them are durable on disk, its leaf hash is
// kept in the leaf index, and the inclusion proof was verified against that
// checkpoint with the leaf hash of the bytes read back from the log. The same
// body always gets the same index, also when it is appended concurrently, and
// also after a crash.
//
// # When the process dies
//
//   - While entries wait for their batch: they were only in memory; nobody was
//     answered; the log is as before.
//   - After entry bundles or tiles of a batch are written, before
//     .state/treeState is replaced: the tree has its old size; the next batch
//     overwrites the files. Readers never see them, because ReadTile serves
//     only what the published checkpoint covers.
//   - After treeState, before the checkpoint: the entries are in the tree and
//     keep their index. Open publishes a checkpoint over them.
//   - After the checkpoint, before the leaf index was written: Open writes the
//     index from the tree, before it lets anybody append.
//
// # What it refuses
//
// A second writer (advisory lock on .state/writer.lock). A log whose published
// checkpoint is not signed by the configured key for the configured origin. A
// tree that is smaller than the published checkpoint or than the leaf index,
// the sign of a restored old copy: signing again would fork the log. And every
// checkpoint that is not provably an extension of the last one: the proof is
// made and checked from the tiles on disk before each signature, so a tree that
// was changed underneath stops the log instead of forking it.
//
// # Witnesses
//
// With [Config].Witnesses a checkpoint is published when enough witnesses have
// cosigned it (C2SP tlog-witness, tlog-policy): what readers and bundles get
// carries their lines. Without enough of them nothing is published, everybody
// who appends is sent away with ErrUnwitnessed, and the log is back by itself
// when they are. At its start it asks each what it knows. One that has cosigned
// more than this copy holds, or another tree, is ErrRollback, at the start and
// later: a restored older copy that agrees with its own index is found by nobody
// else. A witness may be ahead of the published checkpoint by one that a crash
// kept from being published; its entries are in the tree.
//
// Witnesses know a log by its origin, so each shard has one, and the next is
// written when they have cosigned its empty tree.
//
// # Shards
//
// A [Log] goes on under a new key in a new shard: a directory, a key and a leaf
// index of its own, an origin of its own. The shard before is frozen: the mark
// .state/frozen names its last checkpoint, and from then on nothing is signed
// for it but promises about its entries. A crash
//   - before anything is written to the new shard leaves it prepared: OpenLog
//     goes on with the one before;
//   - before the mark leaves an ordinary shard: OpenLog freezes all but the
//     last one;
//   - after it leaves a frozen one, which takes no entry from anybody.
//
// A log whose last shard is frozen is refused: the next one is missing, and
// starting it again with another key would log retries twice.
//
// Network file systems are not supported: the writes rely on atomic rename and
// on fsync of directories.
package sequencer
