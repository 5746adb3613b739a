// Package search follows the log and keeps an index of what its entries are
// about, which the log's own formats do not have: by the digest that was signed,
// by the key, and by the identity in the certificate.
//
// # What is believed
//
// Only the signed checkpoint. Entries are read from the tiles, never from a
// request, each is hashed, and the hashes lead to the checkpoint's root before a
// row is written ([sequencer.Reader]). What does not prove stops the follower:
// its fault is told, the rows from before stay, and neither signing nor the log
// is touched. The index is a cache: [Rebuild] makes it again from the tiles.
//
// # When the process dies
//
// Rows and the number of entries they reach are written in one transaction: the
// next process goes on from there. The last row must be the log's, else the
// index is of another log and refused.
//
// # What a row says
//
// The log holds the digest of the bytes that were signed; of an envelope that is
// its pre-authentication encoding, not the artifact. Which artifact those bytes
// speak of is known for kept bundles; package archive relates the two. The names
// in a row are the certificate's own: the log does not ask who issued it, and a
// certificate that does not have exactly one name and one issuer has none here.
//
// The follower also keeps the newest published checkpoint of each shard in the
// store, apart from the log: [CheckKept] refuses a log that is older.
package search
