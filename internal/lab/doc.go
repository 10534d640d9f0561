// Package lab puts the simulated Woodpecker where the real one stands: behind
// TLS, under a name that no DNS knows, behind a load balancer that breaks
// things on request. It is steered by words, so that a script of the whole
// program can say what the server does in the lines between the commands it
// proves.
//
// Time on the server is the real one plus what Advance has added: a pipeline
// of an hour ends at once when a script says so.
package lab
