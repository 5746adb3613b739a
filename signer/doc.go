// Package signer makes signatures: it decides whether the caller may, resolves
// the image, signs, logs, stamps, has the verifier check the result, and
// attaches it to the registry. It is one resumable sequence with one commit
// point and no rollback code. It decides nothing about trust (package policy
// and the verifier do), holds no private key, and answers no HTTP.
//
// # The sequence
//
//	1 permit     the repository is listed, a grant permits; journal the decision
//	2 resolve    the reference becomes a digest, once; children of an index
//	3 sign       statement or payload; sign; check with the public half
//	4            keep the operation, pending, with its signatures
//	5 log        append every entry and wait for a checkpoint that covers it:
//	             the commit point; then stamp
//	6 bundle     assemble; keep what was assembled
//	  verify     the key was not revoked meanwhile; the verifier accepts it
//	7 attach     registry and archive; keep the answer, done; journal the end
//
// Nothing is contacted and no key is looked up before the decision is in the
// journal; a journal that cannot be written refuses. No signature reaches a
// registry or a caller before step 7.
//
// A fresh request, a repeated one, a background retry and a start after a crash
// all run the same function from wherever the operation's document stands.
//
// # Writes
//
// One operation is one row. It is written three times: at step 4 (the bytes
// that are signed and the signatures), in step 6 (entry, timestamp and bundle)
// and at the end (the answer, without what only a retry needs). Start, the
// asynchronous door, writes it once more, before step 2.
//
// # Crashes
//
// Before step 4 a crash leaves the journalled decision and nothing else: the
// signature, if it was made, was never written anywhere. The caller repeats the
// request and the sequence begins anew. After Start, the operation is there
// without signatures; it is decided again, since grants may have changed, and
// goes on.
//
// After step 4 and before the entries are in the log, the next start appends
// the stored bytes. The commit point is the log's: an entry that was integrated
// although the answer was lost is found by its leaf hash, so that appending the
// same bytes again returns the first position with a fresh proof and leaves one
// leaf. That is why the log body is kept and never made again (an ECDSA
// signature over the same statement would be another leaf).
//
// After the commit point there is no way back: the operation is completed, by
// this process or the next, unless the key was revoked or the verifier refuses,
// in which case it fails and the entry in the log stands for a signature that
// was never released. Timestamps and signed entry timestamps do not come out
// the same twice; therefore what was assembled is kept before it is attached,
// and every later attach writes the same bytes: the manifest of a bundle is a
// function of subject, bundle and the operation's time, so a registry has it
// already, and a legacy layer that is in the manifest already is not added
// twice. A crash between assembling and keeping costs a second timestamp over
// the same signature; the first was seen by nobody.
//
// After the attach and before the last write, the next start attaches again,
// without effect, and writes the same answer. A crash between that write and
// the journal's closing record loses that record; the decision is there, and
// the operation says done.
//
// An error of the store is treated like a crash at that point, since the write
// may have happened.
//
// # Attestations
//
// An attestation goes through the same sequence. Step 3 makes a statement of the
// caller's predicate, byte for byte, or of provenance that the service made of
// the caller's verified claims as a part of the decision in step 1; what makes
// it is checked before anything is contacted. The document holds the predicate
// once: statements and bundles are functions of what is kept, and are made again
// when they are needed. Flights are bounded by the predicates they hold.
//
// Provenance is built once. An operation that is taken up without its caller
// signs the claims of the request; one without signatures that its caller
// repeats is built anew, so that no certificate of one run is over the claims of
// another.
//
// # Verification summaries
//
// A summary that the service verified an image is an attestation in its own
// name: Summarize makes it of a verdict, with a key that signs nothing else and
// that no caller's request reaches. The permission of step 1 is the role to ask
// for verdicts. Its idempotency key is what it says, under which trust, by which
// version of the key and in which period of limits.SummaryReuse: all callers
// share one, one that is younger than a period is answered again, and the log is
// not filled by asking. It goes to the registry
// only when that was asked for.
//
// # Rotation and revocation
//
// All signatures of an operation are by one key version. A version that was
// rotated away or suspended between signing and stamping would leave a
// signature that no verifier takes as made in time; it is dropped before
// release and signed anew. A version that was revoked before release fails the
// operation. Hence the stamp of every released signature is older than the
// acknowledgement of a revocation.
//
// # Identities
//
// With the key "identity" the signatures are by a key that lives in memory for
// as long as step 3 takes, and that a certificate of ten minutes binds to the
// caller's verified identity. What is kept at step 4 is the signatures and the
// certificate; the key is gone, so a start after a crash goes on with the same
// bytes or not at all. If the certificate ended before the stamp, the signatures
// are made anew, with a new certificate, but only within ten minutes of the
// moment at which the caller last proved who it is: later the operation fails
// (identity_expired) until the caller asks again with a fresh token.
//
// # Idempotency
//
// The scope of an idempotency key is the caller and the route. The same key and
// request give the bytes of the first answer, also after a crash; a request
// that comes while the first one runs joins it; a failed operation is tried
// again, with the same signatures. Another request under the same key is
// refused.
package signer
