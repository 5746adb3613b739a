// Package registry speaks to OCI registries: it resolves a reference to a
// digest, reads the signatures attached to that digest, and attaches new ones.
//
// The protocol is the OCI distribution specification 1.1. Three layouts are
// read and two are written:
//
//   - a Sigstore bundle as a referrer: an image manifest whose artifactType and
//     only layer are application/vnd.dev.sigstore.bundle.v0.3+json and whose
//     subject is the image, found through GET /v2/NAME/referrers/DIGEST;
//   - the same, listed in an index under the tag sha256-HEX, where a registry
//     has no referrers API;
//   - the tag sha256-HEX.sig with one layer of
//     application/vnd.dev.cosign.simplesigning.v1+json per signature.
//
// The registry, and whoever can push to it, is taken for hostile. The laws:
//
//   - A registry that no Rule lists is not contacted, nor is a repository that
//     its rule does not cover.
//   - Bytes are named by their own digest. An answer that hashes to another
//     digest than asked for, or that another reader could take for another kind
//     of document, is refused.
//   - Credentials go to the host they are configured for, and to its token
//     server: the same host, or an https host of the same site (registrable
//     domain). No redirect, Link, Location or foreign-layer URL carries them
//     elsewhere; the last is never followed at all.
//   - Credentials that come with a question (Keychain) are used for that question
//     only where the listed registry denies or hides what is asked for, never at a
//     mirror, and what they gave is remembered under them alone.
//   - Connections go to public addresses unless the rule allows private ones,
//     judged on the address dialled, after name resolution. Metadata services,
//     link-local, multicast and unspecified addresses are refused always. The
//     environment's proxy settings are not used: a proxy would resolve names
//     behind this check.
//   - A redirect to another host is followed for blobs only (registries keep
//     them in object stores), over https, to a public address, with no header
//     of ours, and the blob must hash to its digest.
//   - Bytes, counts, pages, redirects, time and parallel requests per host are
//     bounded by package limits; where a bound cut something off, the answer
//     says so.
//
// It refuses to judge: what it returns is bound to a digest, not verified.
package registry
