// Package server is Countersign's HTTP door. It turns requests into calls of
// the signer, the verifier and the managed objects, and their errors into
// problem documents; gin and huma live here and nowhere else.
//
// Laws of the door:
//
//   - Default deny. Each route has an entry in the role table (routes.go); a
//     route without one does not start the server.
//   - Each path has one spelling. Doubled or trailing slashes and escaped dots
//     or slashes are 404, never a redirect to something else.
//   - Requests of our own API are decoded strictly: unknown and duplicate
//     names, other letter case, null and trailing data are 400 invalid_request.
//   - One table (problems.go) gives every error its status, code and safe
//     text. What an answer says is from that table; the cause goes to the log,
//     once, with the request id. No answer repeats what the request held.
//   - A change of trust is journalled before it is made; a journal that cannot
//     be written refuses the change.
//   - Secrets come in and do not go out: registry credentials are write-only,
//     a token's secret is in one answer, and no body or header is logged.
//
// The protocols of others (Rekor v2, RFC 3161, AdmissionReview) are plain gin
// handlers; /v1 is huma on the same engine and the source of openapi.json.
package server
