// Package woodsim is a Woodpecker server made for tests: the REST and stream
// interface with the habits of the real one, and pipelines that live by a plan
// instead of by agents (ADR 0014).
//
// Nothing runs in the background. Everything planned sits in one queue ordered
// by time; each request, each operation and each waiting stream first carries
// out what has become due by Options.Now. So a server works behind a real
// listener and, through Client, inside a testing/synctest bubble, where only
// the fake clock moves.
//
// What the simulator knows for certain is told by Truth, Writes, Requests and
// Unexpected, whatever faults lie between it and the client.
package woodsim
