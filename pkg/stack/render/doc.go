// Package render decides what a deployment directory comes to on a cluster:
// Render turns its files into Kubernetes objects and notices. It is pure: the
// same files give the same bytes on every machine, it reads no clock and asks
// no server. What only a cluster knows reaches it as a Facts value.
package render
