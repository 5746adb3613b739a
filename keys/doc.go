// Package keys keeps the service's private keys and signs with them. It is the
// only package that touches private key material, unless the key lies where
// nothing of ours touches it: what leaves it is public halves, signatures, and
// for the service's own authorities a crypto.Signer whose key stays inside.
//
// # Life cycle
//
// A key is a name with an algorithm, purposes and numbered versions; the
// highest version is current and is the one that signs. Each version is in one
// state of NIST SP 800-57 part 1 §7. The transitions are those of
// [CanMove] and no others:
//
//	pre-active  → active, compromised, destroyed
//	active      → suspended, deactivated, compromised, destroyed
//	suspended   → active, deactivated, compromised, destroyed
//	deactivated → compromised, destroyed
//	compromised → destroyed
//
// Only an active version signs. People move keys through it that sign for
// callers, and the service's own key of verification summaries; the service's
// other keys are its authorities' (packages authority and sequencer). What was signed before a version was
// deactivated stays good; what a compromised version signed is good only with
// a proven time before CompromisedAt, and not at all when that is unknown.
// Public halves are never deleted.
//
// # Form at rest
//
// A key is one object of kind "key" in the store:
//
//	{"record": {…}, "mac": base64(HMAC-SHA256(mac key, record bytes))}
//
// The record holds the names, states and public halves, the revision of the
// object that carries it, and for each version
//
//	"sealed": {"dataKey": …, "privateKey": …}
//
// where privateKey is the PKCS #8 form under AES-256-GCM with a data key drawn
// for that version alone, and dataKey is that data key under AES-256-GCM with
// the wrapping key. Wrapping key and MAC key are derived from the master key
// (HKDF-SHA256). The associated data of both boxes is the list of key name, key
// id, algorithm, purposes and version, each field preceded by its length: a box
// moved to another key, version or purpose does not open. The MAC covers what
// is not secret, so that a row whose state, purposes or public half was edited
// in the database is refused with [ErrSealed], as is a row copied over another.
// A row or a whole database put back to an older state together with its
// revision cannot be told from its own past here; the audit journal can.
//
// [Master.Seal] keeps the service's other secrets (a registry's password) under
// the same wrapping key, with associated data that no signing key has.
//
// # Other back ends
//
// A key may lie in a key management service or a security module ([Backend]).
// Its record then has a reference in place of the sealed box, and its life cycle
// is that of every key: adopted once, after proof that it signs as its public
// half says; rotated only when asked. What the back end answers is verified with
// the recorded public half before it is returned, so a key exchanged behind its
// reference stops signing ([ErrChanged]) and is never believed. Which references
// a caller may name is the operator's list ([Refs]); a public half belongs to
// one key of the ring and no other.
//
// # Signature form
//
// The algorithm belongs to the key record, never to a message or a caller.
//
//	algorithm    Sign (bundles, log)      SignLegacy (cosign .sig tag)
//	ecdsa-p256   SHA-256, ASN.1 DER       the same
//	ecdsa-p384   SHA-384, ASN.1 DER       SHA-256, ASN.1 DER
//	rsa-3072/96  PKCS #1 v1.5, SHA-256    the same
//	ed25519      Ed25519ph, SHA-512       refused with ErrForm
//
// Sign makes the one form that a Rekor v2 hashedrekord entry can carry for that
// key (sigstore-go pkg/verify/tlog.go reconstructs the entry with the default
// algorithm of the key and Ed25519ph). SignLegacy makes the one form that stock
// cosign checks on a legacy tag: its log entry must carry the SHA-256 of the
// payload, which Ed25519ph cannot sign.
//
// What cosign v2.6.5 and v3.1.3 verify with --key:
//
//	algorithm    bundle                                          legacy tag
//	ecdsa-p256   yes                                             yes
//	ecdsa-p384   with --signature-digest-algorithm=sha384        yes
//	rsa-3072/96  yes                                             yes
//	ed25519      no                                              no
//
// For Ed25519 they check pure Ed25519 only, which no honest log entry can hold;
// cosign's own attest makes Ed25519ph too and does not verify it afterwards.
// Verifiers that load the key with Ed25519ph, as this service's does, accept it.
//
// # Freshness
//
// Unsealed keys are kept in memory. A life cycle change made through a Ring is
// effective for that Ring before the call returns: no signature is made after
// it. A change made by another process on the same store is noticed within
// [Staleness]; while the store cannot be asked, signing stops rather than
// trusting an older answer.
package keys
