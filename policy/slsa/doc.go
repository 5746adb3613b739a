// Package slsa reads SLSA provenance (v1 and v0.2) and verification summaries
// (v1) into what a policy compares with its expectations: who built, from which
// repository and ref, with which parameters.
//
// The source is where the build type says it is. Of a build type that is not
// known here it is the one git dependency, if there is exactly one.
//
//	build type                                  source, ref
//	GitHub's workflow/v1 (both spellings) and   externalParameters.source, else
//	ours, https://countersign.dev/buildtypes/…  externalParameters.workflow:
//	                                            repository, ref
//	https://slsa.dev/container-based-build/v0.1 externalParameters.source.uri
//	Google Cloud Build's google-worker/v1       externalParameters.buildConfigSource:
//	                                            repository, ref
//	GitLab's                                    externalParameters.source
//	slsa-github-generator's delegators          the first dependency
//	any of v0.2                                 invocation.configSource.uri
//
// Provenance v0.2 is read as v1 like this: builder.id and buildType are the
// same, invocation.parameters are the external parameters, and materials the
// dependencies.
//
// Repositories are compared in one spelling: without git+, .git and ref, with
// scheme and host in lower case. Null, an empty value and no value are the same.
// Fields that are not known are passed over, but an external parameter is never:
// see Provenance.Unexpected.
//
// It decides nothing: what must hold is the policy's.
package slsa
