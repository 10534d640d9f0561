// Package registry reads what a container registry knows of an image: the
// digests a running container of it may show, and the commit it was built
// from. It decides what counts as such a commit and what an answer is; what
// follows from it is left to its callers.
//
// Of go-containerregistry only name, authn and remote are used. Nothing is
// pulled but manifests, configurations and provenance.
package registry
