// Package notary is the format of signatures of the Notary Project
// (specifications v1.1): an envelope in, what it claims out. It reads JWS
// (RFC 7515, flattened JSON) and COSE (RFC 9052, COSE_Sign1 with its tag), and
// writes JWS.
//
// A JWS envelope is
//
//	{"payload":"BASE64URL","protected":"BASE64URL",
//	 "header":{"x5c":["BASE64 DER", …],
//	           "io.cncf.notary.timestampSignature":"BASE64 DER",
//	           "io.cncf.notary.signingAgent":"…"},
//	 "signature":"BASE64URL"}
//
// whose signature is over `protected.payload`. The protected header holds alg,
// cty, crit and the attributes io.cncf.notary.signingScheme, .signingTime,
// .authenticSigningTime and .expiry; the payload, of content type
// application/vnd.cncf.notary.payload.v1+json, is
//
//	{"targetArtifact":{"mediaType":"…","digest":"sha256:…","size":527,
//	                   "annotations":{"git.sha":"…"}}}
//
// COSE has the same under the labels 1, 3 and 2 and the same names, the times
// as CBOR's tag 1 over an integer, the chain under label 33; its signature is
// over Sig_structure ["Signature1", protected, ”, payload].
//
// One document has one reading: duplicate names or labels, names that differ in
// case from a known one, null, trailing bytes, base64 in a second spelling,
// indefinite lengths, a label in both headers, signed attributes in the unsigned
// header, and several signatures are refused; so is every critical attribute
// that is not named above. A chain is read and judged by nobody here.
//
// It verifies no signature and asks for no time.
package notary
