// Package pipeline follows a commit through a CI server: it finds the run that
// belongs to the commit, waits for its end and says what that end means. It is
// told where the repository and the commit are, and it leaves to its callers
// how a verdict is worded as a command, a colour or an exit code.
//
// What is judged is judged by pure functions over plain values: choose (which
// run), absence (why there is none), decide (what a reading means), follow
// (when a successor takes over) and cadence (when to read next). The files
// named after verbs are thin loops around them.
//
// Four rules stand above the rest. A verdict comes only from a complete answer
// about one pinned run, never from an event. A refusal is believed after it
// has been repeated. The watch moves to another run only where decide says so,
// and tells it. And what is unknown is told as unknown, never as success.
package pipeline
