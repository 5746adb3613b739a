// Package monitor follows transparency logs from outside and raises an alarm
// when one of them does what no honest log does, or when somebody signs who
// should not have.
//
// # One pass
//
// For each log: the checkpoint is fetched and its signature verified; it must not
// be smaller than the one kept, nor have another root at its size. Every new
// entry is hashed from its bytes and put on the tree that was verified before:
// the signed root must come out. The same entries must be in the tiles, and the
// tiles must prove that the new checkpoint extends the kept one. Other places
// that serve the same log must serve the same one.
//
// Only then are the entries looked at: until the root comes out they are
// anybody's bytes.
//
// # Laws
//
// What was verified is kept in one file that is replaced atomically. It never
// moves past a contradiction: the alarm is raised in each process until a person
// has looked. Its id is that of the state it contradicts: one that is repaired and
// comes again is another one. The state moves past an entry that should not be
// there only once the alarm was delivered, so an alarm may be delivered twice and
// is never lost; its id is the same both times.
//
// A place that cannot be reached is an error and not an alarm. A file that a
// signed checkpoint covers and that is not there is an alarm.
package monitor
