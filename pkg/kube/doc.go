// Package kube reads a Kubernetes cluster: kubeconfig, single objects, lists,
// logs, and Follow, the list-and-watch loop. It decides what a genuine answer
// is, what is repeated and when; what the objects mean is left to its callers,
// which get them as raw JSON.
//
// Of client-go only rest, clientcmd and the exec plugins are used for reading:
// fixed API paths, JSON, no discovery, no typed clientset, no informers. RetryWatcher
// stops at 410 and UntilWithSync hides 401 and 403; here a broken watch is
// repaired, and only a refusal by the API server itself ends it (ADR 0005).
// Apply is the one write here; Dynamic and Transport lend the connection to
// those who write more, with the same limits, trust and errors.
package kube
