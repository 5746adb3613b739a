// Package tlog holds the transparency log's formats and its arithmetic:
// entries, leaf hashes, checkpoints, inclusion proofs, signed entry timestamps
// and tile paths. It reads and writes nothing; tlog/sequencer is the log's one
// writer.
//
// # Entry
//
// An entry is a Rekor hashedrekord, version 0.0.2 (or 0.0.1, which only the
// signed entry timestamp of the legacy cosign format needs). Its body is the
// protobuf message dev.sigstore.rekor.v2.Entry as protojson in the canonical
// form of RFC 8785, at most 65 535 bytes:
//
//	{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{
//	  "data":{"algorithm":"SHA2_256","digest":"…"},
//	  "signature":{"content":"…","verifier":{
//	    "keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":"…"}}}}}}
//
// (without the line breaks). The digest is of the bytes that were signed: for
// a DSSE envelope that is the pre-authentication encoding, Rekor v2's
// client specification §4.4. keyDetails must be the default of the key's type,
// because verifiers rebuild the body from key, digest and signature alone;
// Ed25519 therefore appears as Ed25519ph over SHA-512, never pure.
//
// The leaf hash is SHA-256(0x00 ‖ body), RFC 6962 §2.1.
//
// # Checkpoint
//
// C2SP tlog-checkpoint: a signed note of origin, size and root,
//
//	log.example.com
//	42
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//
//	— log.example.com wNI9aw…
//
// signed with ECDSA P-256 over SHA-256; the key id is the first four bytes of
// SHA-256(SubjectPublicKeyInfo), whose 32 bytes are also the log id. Logs of
// others are read with other keys too (Log): theirs have the key id of C2SP
// signed-note, SHA-256(origin ‖ 0x0A ‖ 0x01 ‖ key) for Ed25519.
//
// # Laws
//
// What parses marshals back to the same bytes. Nothing here trusts a hash that
// it was handed: VerifyInclusion hashes the body itself and reads size and
// root from the signed checkpoint only.
package tlog
