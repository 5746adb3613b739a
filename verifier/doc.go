// Package verifier answers one question: may this image run here? A reference
// and the policies go in, a verdict with its reasons comes out.
//
// One request runs in this order, for each image on its own:
//
//  1. the reference is resolved to a digest, exactly once; what is not listed
//     among the registries is not contacted (registry_not_trusted);
//  2. the policies that match the image and the context are chosen; none means
//     FAILED (no_policy);
//  3. a bounded set of bundles and legacy signatures of that digest is
//     gathered: the archive's first, the registry's only when those do not
//     suffice;
//  4. each of them is judged under each authority of each policy (judge.go):
//     which key made the signature, does everything in it speak of this digest
//     (bind.go, the one binding function for all formats), is it proven to be
//     in the log, when was it made, was the key good at that time; and for a
//     certificate (certified.go): did an authority of the trusted root that the
//     policy names issue it, was all of its chain good at every proven time, is
//     it in certificate transparency, and is its holder who the policy wants;
//  5. the facts go to policy.Decide; an exception may help a policy that FAILED
//     (settle.go); the decision is journalled, then answered.
//
// Nothing in a bundle is believed before it is verified: hints only choose
// words in a message, an unsigned time is a fault, an entry of a log that is
// not trusted here counts as no entry, and an entry that speaks of something
// else is a fault whoever signed it.
//
// The chain beside a certificate is never read: whom to believe is the trusted
// root's word alone, and each root proves on its own, with its own logs and
// authorities. Ours is self; others are kept by name and used offline.
//
// Verdicts are remembered under the digest, the repository, the context, the
// policies asked for, and the revisions of policies, keys and trusted root: any
// change of trust makes them unreachable. What could not be decided is never
// remembered.
//
// Of an index the verdict is on the index, or on the child of the platform that
// was asked for; a policy says whose evidence counts (index.go). Only an index
// whose bytes name a child, and a policy that says so, lets the child rest on it.
//
// It refuses to sign, to change trust, and to turn "nothing found" or any error
// into PASSED.
package verifier
