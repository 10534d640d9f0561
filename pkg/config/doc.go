// Package config decides what a run is configured with: it is the only place
// that reads the environment, the user's file and the repository's
// .homelab.yaml, and it names the source of every value it hands on.
//
// The order is flag, environment, user file, repository file, default. Values
// that describe one server stay with that server: an address to dial, a CA or
// a token source of the user's file is not used for a server of another origin
// that a flag or the environment names (ADR 0026), and the result says so.
// The repository's file can never name a server, an address, a token source or
// a CA (ADR 0010): a checkout must not decide where a token is sent.
//
// Everything is checked before anything is contacted. Every error is a
// *fault.Error of kind Usage unless its function says otherwise; a file's
// errors name the file, the line and the nearest known key, several at once.
// The package dials nothing, starts no process and does not look into git:
// the caller supplies the repository file's bytes. Whether a CA file can be
// read and whether plain http is allowed is judged where the connection is
// made.
package config
