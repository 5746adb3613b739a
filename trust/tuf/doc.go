// Package tuf publishes the trusted root and the signing configuration as a TUF
// repository (specification 1.0.31, consistent snapshots), so that stock
// clients find them, notice changes and refuse old or altered copies.
//
// # Folder
//
//	N.root.json          every root there was, from 1 on without a gap
//	root.json            a copy of the newest, for the first download
//	N.targets.json       what the targets are, by length and SHA-256
//	N.snapshot.json      which N.targets.json is in force, by length and SHA-256
//	timestamp.json       which N.snapshot.json is in force, by length and SHA-256
//	targets/HASH.NAME    the targets themselves
//	work/                drafts and requests; never served
//
// The folder may be served by this package ([Repository.ReadFile]) or, without
// work/, by any web server.
//
// # Laws
//
// A file whose name holds a version or a hash never changes once written, and
// is never deleted. timestamp.json and root.json are replaced in one step.
//
// What refers to a file is written after it: targets, N.targets.json,
// N.snapshot.json, timestamp.json. The replacement of timestamp.json is the
// commit point: before it clients see the old state, after it the new one, and
// whatever a crash leaves in between nobody refers to. Version numbers of
// leftovers are passed over.
//
// A new root is written after metadata that is good under both the old and the
// new root, because a client reads the roots and timestamp.json one after the
// other. Until the root after that, metadata carries the signatures of the keys
// of both, so that a client between the two reads finds nothing broken. Only
// when the keys of the old root are lost does the new root come first; until
// its metadata follows, within the same Refresh, clients find no valid state.
//
// # Roles
//
// Each role has keys and a threshold, 1 to the number of its keys; a key that
// appears under two ids counts once. The first start makes one key for each
// role in the service ("online"). The keys of root and targets can be replaced
// by keys whose private halves the service never sees ("offline"). Then a
// change is a draft in work/ that people sign elsewhere ([Sign]) and bring back
// ([Folder.Import]); [Repository.Refresh] publishes it when it has enough
// signatures, and never changes what the draft says. Snapshot and timestamp are
// always online.
//
// Keys are ECDSA P-256 and Ed25519. Delegations are not used and, in imported
// documents, refused.
package tuf
