// Package provenance writes SLSA provenance v1 (https://slsa.dev/provenance/v1)
// from the verified claims of a build's token, and says which build level they
// support. The builder, the build type, the source, the workflow and the
// invocation come from the token and the operator's rules, never from the
// caller; what the caller says beyond the artifact's digest is added where SLSA
// lets a tenant speak, and refused where it contradicts a claim.
//
//	{"buildDefinition": {
//	   "buildType": "https://actions.github.io/buildtypes/workflow/v1",
//	   "externalParameters": {"workflow": {"ref": "refs/heads/main",
//	     "repository": "https://github.com/acme/app", "path": ".github/workflows/release.yml"}},
//	   "internalParameters": {"countersign": {"buildLevel": 2, "reasons": ["builder_not_listed"]},
//	     "github": {"event_name": "push", "repository_id": "123456789",
//	       "repository_owner_id": "987654", "runner_environment": "github-hosted"}},
//	   "resolvedDependencies": [{"uri": "git+https://github.com/acme/app@refs/heads/main",
//	     "digest": {"gitCommit": "6dcb09b5b57875f334f61aebed695e2e4193db5e"}}]},
//	 "runDetails": {
//	   "builder": {"id": "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"},
//	   "metadata": {"invocationId": "https://github.com/acme/app/actions/runs/8675309001/attempts/1"}}}
//
// What a GitHub token yields is what `@actions/attest` writes; docs/provenance.md
// has the table of claims and fields for every kind of issuer.
//
// # Builder ids
//
// A builder id is the name that the job's certificate has, so that a verifier
// can compare the two. SLSA demands different ids for modes of different
// security: a job on a runner that its owner operates has the same name under
// another scheme, `self-hosted+https://…`. It is a prefix, since a suffix would
// be matched by every pattern that ends with a wildcard. Service accounts of
// Kubernetes have their issuer in front, as two clusters have the same names.
//
// The package does no I/O, asks no clock, and refuses to guess: a claim that is
// missing or could be read in two ways is an error.
package provenance
