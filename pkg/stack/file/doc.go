// Package file reads and writes what a stack and its deployments are made of:
// stack.yml, spec.yml, deployment.yml, config.env and the deployment directory
// that holds them. It knows their grammar and their defaults, and where stacks
// are found. What a person wrote is judged whole, before anything is
// contacted: every mistake is reported at once, with file, line and key, and
// what has no effect becomes a notice, never silence.
//
// It contacts nothing and starts nothing; the environment arrives in an Env.
// Compose files are carried, not read: what they come to on a cluster is
// decided in package render.
package file
