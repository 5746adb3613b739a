// Package catalog reads and writes the managed objects that decide what is
// trusted: listed registries, trust policies, exceptions to them, grants,
// issuers and the trusted roots of others. It is the one place that turns their stored documents into
// checked values, for the server that manages them and for the signer and the verifier that obey them.
//
// An object is one row of store.Objects whose body is
//
//	kind "policy"    the TrustPolicy as canonical JSON
//	kind "grant"     the grant as JSON, without its name
//	kind "registry"  {"rule": …, "credentials": …}: the rule without
//	                 credentials, and these sealed for this host
//	kind "issuer"    the issuer as JSON, without its name; its URL is the alias,
//	                 so that no two issuers have one URL
//	kind "trust-root"  somebody else's trusted_root.json in canonical form
//	kind "exception"   the exception as canonical JSON, without its name
//
// Reads go to a copy in memory that is as old as store.Objects.Revision: that
// is asked each time, so that a change counts for the next question, in every
// process that shares the store.
//
// It refuses to guess: when one stored document cannot be read, the whole kind
// cannot (ErrStored), and who asks must deny. Passing over a broken policy
// would switch it off.
package catalog
