// Package artifact decides when a watch deploys, and what it does when that
// goes wrong. One function, Next, takes what a watch knows, one thing that
// happened and the time, and returns what the watch knows then and what is to
// be done. It reads no clock, no file and no server: sources, targets, probes,
// the journal and the store are interfaces and packages beside it, and a runner
// joins them.
//
// What may never happen, whatever the order of events:
//
//  1. What runs is not touched before the new artifact is complete, verified
//     and the way back is ready.
//  2. An artifact is activated automatically once, ever.
//  3. What the target runs is asked of the target; memory is a copy of it.
//  4. Nothing older comes by itself, and absence is no change.
//  5. Nothing cancels a switch that has begun.
//  6. Success is the target running the id and the probes passing.
//  7. After a failed rollback a person acts, nobody else.
//
// Memory, the part that outlives the process, changes only by applying journal
// lines; so a journal read from its last snapshot is the memory again.
package artifact
