// Package layout judges in-toto layouts: whether signed links show that an
// artifact came out of the steps that a layout demands, each done by the people
// or machines it names (in-toto specification 0.9, and its links as they are
// carried today).
//
// A layout is a part of a policy and trusted as such; it needs no signature of
// its own. Links come from anywhere and are not trusted: a link counts for a
// step when its name is the step's, and for as many signers as there are keys
// of that step whose signature over it is valid. Key ids in signatures are
// hints. Links are read in three forms: the Metablock (`signed`,
// `signatures`), a DSSE envelope around a link, and a DSSE envelope around a
// statement whose predicate is a link (Link/v1 and link/v0.3).
//
// What is judged beyond the artifact rules of the layout, which
// in-toto-golang's VerifyArtifacts decides:
//
//   - the artifact's digest must be among the products of the last step;
//   - steps that a MATCH rule joins must share an artifact, whatever the rule
//     lets pass when there is nothing to match;
//   - an artifact in a link must have a digest by SHA-256 or SHA-512, and one
//     name.
//
// It refuses, when a layout is read: inspections (they run commands),
// certificate constraints, no steps, a step without keys or without a threshold
// it can meet, one key under two ids, a rule or pattern that readers of layouts
// read differently, and a step that no MATCH rule joins to the last one, since
// it would be evidence of nothing. Sublayouts do not count as links.
//
// It does no I/O, runs nothing, and does not ask the time.
package layout
