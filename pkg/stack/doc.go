// Package stack carries a deployment directory to a cluster and back: start,
// stop, restart from git, update, diff, and the looks in between. The packages
// below it decide; this one puts their decisions in order:
//
//	files judged whole -> lock -> journal settled -> connect -> read -> guards
//	-> plan -> effects -> wait -> prune -> record
//
// Nothing is contacted before every file is judged, nothing is written before
// every guard has passed, and nothing is called up before it was observed: each
// Deployment's rollout, on the very images that were rendered, in one
// observation. A run that was killed anywhere is finished by the next one.
package stack
