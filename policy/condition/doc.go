// Package condition is the CEL expressions of a trust policy: compiled and
// type-checked when the policy is loaded, evaluated over one verified
// statement.
//
//	predicate.scanner.result.critical == 0 && context.cluster.startsWith("prod-")
//
// What an expression sees:
//
//	predicate   the predicate of the statement, JSON
//	statement   all of the statement, JSON: statement.subject[0].name
//	image       image.reference (HOST/REPOSITORY@DIGEST), image.name
//	            (HOST/REPOSITORY), image.registry, image.repository, image.digest
//	context     what the caller said of the place, a map of strings
//
// Functions are those of CEL's standard library and its string extension,
// without replace, join and format, whose results may be larger than any bound.
//
// The laws:
//
//   - Only true holds. False, an error, a value that is no boolean, a cost
//     beyond limits.ConditionCost and an interruption do not.
//   - A member that a document does not have is an error, in a comparison as
//     anywhere; has(predicate.x) asks for it.
//   - JSON numbers are doubles, as the CEL specification maps them, whether they
//     are written 0 or 0.0; they compare with whole numbers, and arithmetic
//     between them needs no conversion, but with a literal it needs one with a
//     point: predicate.score * 2.0. A whole number that a double cannot hold
//     exactly is an error where it is used, never rounded.
//   - Time is not asked: an expression gives the same for the same input.
//
// Documents are decoded where an expression looks and nowhere else, so that a
// bill of materials of megabytes costs an index of what was visited.
package condition
