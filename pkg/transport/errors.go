package transport

import (
	"fmt"
	"strings"
	"time"
)

// CertificateError is a server's certificate that was not accepted. A pin
// never weakens the check, so a wrong pin ends here.
type CertificateError struct {
	Addr      string   // address and port dialled (a proxy's if one is used); "" if not known
	Name      string   // the name wanted: the URL's host
	Presented []string // names the certificate is for; empty if it has none
	Err       error    // the verification's error
}

func (e *CertificateError) Error() string {
	at, presented := "", "no name"
	if e.Addr != "" {
		at = " at " + e.Addr
	}
	if len(e.Presented) > 0 {
		presented = strings.Join(e.Presented, ", ")
	}
	return fmt.Sprintf("certificate%s not accepted for %s; it is for %s: %v", at, e.Name, presented, e.Err)
}

func (e *CertificateError) Unwrap() error { return e.Err }

// RedirectError is a redirect that was not followed: it leaves the origin, the
// request was no GET, or it was the fourth in a row.
type RedirectError struct {
	Status int    // 301, 302, 303, 307 or 308
	From   string // origin and path that redirected
	Host   string // host (and port, if given) in Location
	Origin string // origin in Location; "" if it has none
	Reason string // why it was not followed
}

func (e *RedirectError) Error() string {
	return fmt.Sprintf("%s redirects (%d) to %s: %s", e.From, e.Status, e.Host, e.Reason)
}

// TokenError is a token source that failed while a request wanted its token.
// Nothing was sent. Retry returns it at once, as a *FinalError.
type TokenError struct{ Err error }

func (e *TokenError) Error() string { return e.Err.Error() }
func (e *TokenError) Unwrap() error { return e.Err }

// TimeoutError is an attempt that took too long. It is the attempt's own
// limit, not the caller's deadline: that one comes back as the context's cause.
type TimeoutError struct {
	What  string // what did not come: "complete answer", "byte of the body"
	After time.Duration
}

func (e *TimeoutError) Error() string { return fmt.Sprintf("no %s within %s", e.What, e.After) }

// Timeout makes this a net.Error's kind of timeout.
func (e *TimeoutError) Timeout() bool { return true }

// TooLargeError is a body that exceeds Call.MaxBody. It comes inside a
// *FinalError: the same request would get the same body.
type TooLargeError struct{ Limit int64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the answer is larger than %d bytes", e.Limit)
}

// ExhaustedError is a call that had no usable answer until its budget was
// spent. What it asked about is unknown.
type ExhaustedError struct {
	Name  string        // Call.Name
	Last  error         // the last attempt's, in the server's words where it had any
	Tries int           // attempts sent
	For   time.Duration // since the first
}

func (e *ExhaustedError) Error() string {
	if e.Tries == 1 {
		return fmt.Sprintf("%s: %v", e.Name, e.Last)
	}
	return fmt.Sprintf("%s: %v (%d tries in %s)", e.Name, e.Last, e.Tries, e.For.Round(100*time.Millisecond))
}

func (e *ExhaustedError) Unwrap() error { return e.Last }

// RefusedError is an answer the Judge wanted confirmed, and that stayed the
// same until it was (ADR 0005).
type RefusedError struct {
	Name   string
	Status int    // 0: the answer was a connection's error (certificate, redirect)
	Body   []byte // at most 64 KiB unless the status is 2xx
	Err    error  // the judge's
	Times  int    // how often it was seen; 1 for methods other than GET
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// FinalError is an answer that asking again cannot change.
type FinalError struct {
	Name string
	Err  error // the judge's, or *TooLargeError, or *TokenError
}

func (e *FinalError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }
func (e *FinalError) Unwrap() error { return e.Err }
