// Package attest is the encodings of what is signed: digests, DSSE envelopes
// and their pre-authentication encoding, in-toto statements, cosign's simple
// signing payload, and Sigstore bundles v0.3. It writes each in one
// deterministic form and reads strictly.
//
// A signature of an image is a DSSE envelope around
//
//	{"_type":"https://in-toto.io/Statement/v1",
//	 "subject":[{"digest":{"sha256":"…"},"annotations":{}}],
//	 "predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}
//
// whose signature is over PAE(payloadType, payload), kept in a bundle with the
// log entry and the timestamp. The legacy form signs the simple signing JSON
// itself.
//
// The law of every Parse function here: one document has one reading.
// Duplicate names, null, trailing data, names that differ from a field only in
// case, base64 in any but the standard padded form, and counts beyond
// internal/limits are refused, because another reader of the same bytes could
// see something else in them. What parses marshals back to an equal value.
//
// It judges nothing: whether a signature is valid, a log entry included or a
// subject the image in question is for the verifier to decide.
package attest
