// Package proof decides whether a file is what its maker made, beyond its hash:
// by a minisign signature of somebody who is trusted (minisign.go), and by
// others who built the very same bytes (prover.go).
//
// A hash says that the bytes are those the source announced; whoever can write
// to the source can announce others. A signature ties the bytes to a key that
// is not there, and its trusted comment to one job and platform, or one file
// name: otherwise an artifact of another job, with its own good signature,
// could be put in the place of this one. Independent builds say that the bytes
// follow from their source.
//
// A signature that does not hold is a refusal. Too few builds are none: others
// may still be building.
package proof
