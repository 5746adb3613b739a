// Package scan turns the report of a vulnerability scanner into the predicate
// of an attestation: cosign's vulnerability record
// (https://cosign.sigstore.dev/attestation/vuln/v1), with one form of result
// whatever the scanner, so that one policy can judge all of them:
//
//	"result": {
//	  "critical": 0, "high": 1, "medium": 0, "low": 0, "negligible": 0, "unknown": 0,
//	  "total": 1, "ignored": 2,
//	  "vulnerabilities": [
//	    {"id": "CVE-2026-11111", "severity": "high", "package": "musl", "version": "1.2.5-r8", "fixedIn": "1.2.5-r9"}
//	  ]
//	}
//
// It reads Trivy's JSON (SchemaVersion 2), Grype's JSON and SARIF 2.1.0.
//
// Its law is that silence is not a clean result: a report without its list of
// results, of a run that failed, or of a form that is not exactly one of the
// three is an error, and a finding whose severity cannot be told counts as
// unknown. Findings that the scanner was told to suppress are counted apart, as
// ignored. Times are the report's own; where it has none, the time of the call.
package scan
