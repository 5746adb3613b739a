// Package convert reads the trust policies of other verifiers as TrustPolicies,
// and writes TrustPolicies for them. It is pure: no I/O, no time, and nothing is
// looked up; what a foreign document only refers to (a secret, a KMS, a file)
// is refused with what to do about it.
//
// The law: what comes out never admits more than what went in. A field that
// restricts is expressed exactly, expressed more strictly, or what it belongs to
// is refused: the authority where any of several would do, else the policy. Where
// several policies of the source must all pass, a refused one also withdraws
// those that speak of the same images, since without it they would admit more.
// Unknown fields are refused.
//
// Every leaf of a document has a line in the report:
//
//	/spec/images/0/glob                 exact     registry.example.com/prod/**
//	/spec/authorities/0/ctlog/url       narrowed  a log entry is required, in this service's log
//	/spec/authorities/1/key/kms         refused   import the key …
//
// The whole is judged within the documents given; policies that the service
// already has are one more restriction each. An image of which no policy speaks
// is FAILED here, whatever the source's default was.
package convert
