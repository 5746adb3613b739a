// Package policy is what must hold of an image before it may run, and who may
// sign what: trust policies with their decision, and grants with theirs. It is
// pure: it does no I/O, never asks the time, and decides over facts that the
// verifier has established.
//
// A policy is a TrustPolicy document in YAML or JSON:
//
//	apiVersion: countersign.dev/v1
//	kind: TrustPolicy
//	metadata: {name: production}
//	spec:
//	  match:
//	    images: ["registry.example.com/prod/**"]
//	    context: {cluster: ["prod-*"]}
//	  mode: enforce
//	  authorities:
//	    release: {key: {name: release}}
//	    partner: {key: {pem: "-----BEGIN PUBLIC KEY-----…"}, log: optional}
//	    ci:
//	      identity:
//	        issuer: https://token.actions.githubusercontent.com
//	        subjectPattern: "https://github.com/acme/*/.github/workflows/release.yml@refs/heads/main"
//	        claims: {runnerEnvironment: github-hosted}
//	        trustRoot: self
//	  require:
//	    atLeast: {n: 1, of: [{signature: {by: release}}, {signature: {by: partner}}]}
//
// The laws: nothing passes by default; a requirement holds only by an accepted
// fact of an authority it names; a threshold counts distinct signers, not
// signatures or names; an accepted fact more never turns PASSED into FAILED;
// what is not understood (an unknown field, a kind of authority of a later
// version) is refused when the document is loaded and never passed over.
//
// It refuses to know what a mode means for an image: warn and audit change
// what the verifier answers, not what is decided here.
package policy
