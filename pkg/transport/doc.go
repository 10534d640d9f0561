// Package transport is how homelab speaks HTTP to one configured server: the
// pinned dial, trust, where the token may travel, time and size limits, and
// the retry contract. It knows no server's meaning: which exchange is an
// answer, a refusal or a passing fault is the client's one Judge (ADR 0005),
// and waiting is poll's (ADR 0006).
//
// A client is built from two halves. [New] makes the stack for one origin,
// outermost first:
//
//	log         every attempt with -v, redacted
//	user agent
//	redirect    same origin and GET: at most three hops; else *RedirectError
//	certificate a refused certificate becomes *CertificateError
//	token       only for the configured scheme, host and port (ADR 0009)
//	pin         a DialContext: the address dialled, nothing else (ADR 0003)
//
// [NewRetry] goes around it, bounds every attempt, reads the body whole, asks
// the Judge and repeats GETs. Both halves are plain round trippers and are used
// without an http.Client: that would follow redirects by its own rules, which
// carry Authorization to other ports of a host and any other header, such as
// X-Vault-Token, to any host. An http.Client that a library insists on may sit
// on top: no response with a Location to follow ever reaches it, unless it asks
// for one (Call.ByHand).
package transport
