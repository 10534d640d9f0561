// Package kubesim is a small scripted Kubernetes API server for tests and the
// demonstration: get, list, watch and pod logs over a versioned store, users
// with permissions, the faults a watch has to survive, a record of every
// request, and a brain that plays the controllers and kubelets of a rollout
// with given timings (ADR 0014).
//
// It uses the time package as it is, so it runs under a real clock behind a
// TLS listener and under testing/synctest through Transport. Close it before a
// bubble ends.
package kubesim
