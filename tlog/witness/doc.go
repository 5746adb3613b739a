// Package witness watches logs of others and cosigns their checkpoints: the
// server half of C2SP tlog-witness. A cosignature says that everybody who asks
// this witness is shown one and the same append-only log.
//
// # Protocol
//
// POST /add-checkpoint takes a tlog.WitnessRequest and answers
//
//	200  a note signature line: the cosignature (C2SP tlog-cosignature, Ed25519)
//	400  the request is malformed, or its old size exceeds the checkpoint's
//	403  no signature of a key that is configured for the origin
//	404  the origin is not configured
//	409  the old size is not the one cosigned last, which is the body
//	     (text/x.tlog.size)
//	422  the consistency proof does not verify, or the checkpoint has the size
//	     cosigned last and another root: a fork
//
// Checkpoints with extension lines are malformed: what they say would be
// cosigned without being understood.
//
// # Laws
//
// A log is its origin: the cosigned text names no key, so two keys of one origin
// share one history, and a log that goes on under a new key with an empty tree
// needs a new origin.
//
// The new state is durable before the cosignature exists. It replaces exactly
// the state that was compared (store.Objects, revision), so of two requests at
// once one is refused. A crash
//   - before the state is written leaves everything as it was;
//   - after it, before the answer, leaves a state that nobody was told of: the log
//     asks again, is told the size, and gets its cosignature.
//
// A state that cannot be read is an error, never an empty one: a witness that
// forgot would cosign a fork.
package witness
