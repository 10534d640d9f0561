// Package rollout answers whether the commit somebody expects is what a
// workload runs now, completely. It is the part that decides: its functions
// read no clock, dial nothing and start nothing, so every answer can be had
// again from the same values.
//
// A status condition such as "successfully rolled out" tells of counters, not
// of a commit, and it tells of the last revision its controller has worked on.
// So the answer here is one conjunction over one snapshot: the template carries
// the commit, the controller has seen that template, the revision made of
// exactly that template is the one the pods belong to, and those pods are
// ready, still ready after a while, and run the image they should.
// Whatever part is missing is waited for; it is told which one.
//
// Everything is anchored to the target revision. A pod of an older revision
// can neither complete a wait nor fail it, and a condition that may speak of an
// older revision is not believed.
//
// What could not be read is a value too (Sight): it makes an answer weaker or
// later, never a success.
//
// A caller keeps a Snapshot up to date, lets Remember carry first sights from
// one look to the next, and calls Assess. The Verdict says what to fetch, and
// at which instant time alone could change it. How a verdict becomes a command,
// a colour or an exit code is left to the callers.
package rollout
