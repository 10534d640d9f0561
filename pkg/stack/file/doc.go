// Package file reads and writes what a stack and its deployments are made of:
// stack.yml, spec.yml, deployment.yml, config.env and the deployment directory
// that holds them. It knows their grammar and their defaults, finds every
// mistake in a file before anything is contacted, and keeps a person's comments
// and order wherever it edits.
//
// It contacts nothing and starts nothing. What the files come to on a cluster
// is decided in package render.
package file
