// Package landing brings the commits of a branch onto the branch others build
// on, and says exactly what came of it.
//
// It decides what is published and when; what a verdict is called on a command
// line, and how it looks, is left to its callers. Four rules stand above the
// rest. What is pushed is a commit whose tree was verified, named by its hash
// (ADR 0012). A push carries the value the base must have, and losing the race
// leads back to merging and verifying, never straight to another push. The
// user's work tree, index and branch are not touched before the base has
// accepted. And each side effect is written down before it happens, so that
// the next run can tell what became of it; what cannot be told is told as
// unknown.
//
// decide.go, message.go, choose.go and ends.go are pure. The rest are thin
// steps around them, in the order they run: prepare, integrate, guard, verify,
// publish, settle, watch.
package landing
