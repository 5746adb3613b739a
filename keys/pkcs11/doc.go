// Package pkcs11 opens signing keys in PKCS #11 tokens: hardware security
// modules, smart cards and SoftHSM. It needs a build with cgo (`make
// build-pkcs11`); in any other, every key is keys.ErrBackend.
//
// A reference is an RFC 7512 URI with exactly these attributes, each once:
//
//	pkcs11:token=LABEL;object=LABEL?module-path=/ABSOLUTE&pin-source=file:/ABSOLUTE
//	pkcs11:token=LABEL;id=%01?module-path=/ABSOLUTE&pin-source=file:/ABSOLUTE
//
// object and id may both stand; together they must name one key pair. Every
// other attribute is refused, above all pin-value: the PIN stands in a file
// that only its owner may read, is read when the token is opened, and appears
// in no error. A PIN that the token refused is not sent again until the file
// holds another, because tokens lock themselves after a few wrong ones.
//
// The library named by module-path runs inside the process: references come
// from the operator, or match a pattern of his that spells the library out (see
// keys.ParseRefs).
package pkcs11
