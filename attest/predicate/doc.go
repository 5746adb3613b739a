// Package predicate is the types of statement predicates: their URIs, the
// short names people type, the other spellings that writers in the field use,
// and what a predicate of each type must hold before it is signed.
//
// Its laws:
//
//   - A short name and an alias are for people and for policies. What is signed
//     keeps the URI and the bytes of the caller.
//   - Two URIs are one type only when their documents are read alike. Versions
//     are types of their own: a policy that asks for provenance v1 is not
//     answered by v0.2.
//   - Unknown fields are passed over, as the in-toto specification asks of
//     consumers (spec/v1/README.md, "Parsing rules"), and unknown types need
//     only be a JSON object within the limits.
//
// It refuses documents that two readers could read differently (duplicate
// names, data after the value), and never rewrites a document.
package predicate
