package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// UnreachableError is a question without an answer: no connection, no complete
// answer in time, overload, a broken registry. What the image is stays unknown.
type UnreachableError struct {
	Ref string
	Err error
}

func (e *UnreachableError) Error() string { return e.Ref + ": " + e.Err.Error() }

// Unwrap returns the failure below.
func (e *UnreachableError) Unwrap() error { return e.Err }

// RefusedError is a registry that answered and gave nothing: credentials
// missing or not accepted, or no such image, which many registries do not tell
// apart.
type RefusedError struct {
	Ref  string
	Code int // HTTP status
	Err  error
}

func (e *RefusedError) Error() string { return e.Ref + ": " + e.Err.Error() }

// Unwrap returns the registry's words.
func (e *RefusedError) Unwrap() error { return e.Err }

// Absent says that the registry knows no such image.
func (e *RefusedError) Absent() bool { return e.Code == http.StatusNotFound }

// Denied says that the registry wants other credentials.
func (e *RefusedError) Denied() bool {
	return e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden
}

// InvalidError is a reference that is none; nothing was asked.
type InvalidError struct {
	Ref string
	Err error
}

func (e *InvalidError) Error() string { return fmt.Sprintf("image reference %q: %v", e.Ref, e.Err) }

// Unwrap returns what is wrong.
func (e *InvalidError) Unwrap() error { return e.Err }

// PlainError is a registry that offers plain http only and is not allowed to.
type PlainError struct{ Host string }

func (e *PlainError) Error() string {
	return e.Host + " would be asked over plain http, which needs --insecure-registry " + e.Host
}

// LimitedError is a registry, or its token server, that counts requests and
// wants no more for now (429). It comes inside an *UnreachableError.
type LimitedError struct {
	Host  string
	After time.Duration // how long it asks to wait; 0: it does not say
}

func (e *LimitedError) Error() string {
	if e.After == 0 {
		return e.Host + " answers 429: too many requests"
	}
	return fmt.Sprintf("%s answers 429: too many requests, again in %s", e.Host, e.After)
}

// TimeoutError is an attempt that took too long.
type TimeoutError struct{}

func (TimeoutError) Error() string { return "no answer within 5s" }

// classify gives a failure its type. ctx is the caller's.
func classify(ctx context.Context, ref string, err error) error {
	var said *transport.Error
	var plain *PlainError
	var limited *LimitedError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &plain):
		return &UnreachableError{Ref: ref, Err: plain}
	case errors.As(err, &limited):
		return &UnreachableError{Ref: ref, Err: limited}
	case errors.Is(err, TimeoutError{}):
		return &UnreachableError{Ref: ref, Err: TimeoutError{}}
	case !errors.As(err, &said):
		return &UnreachableError{Ref: ref, Err: err}
	case said.StatusCode == http.StatusTooManyRequests, said.StatusCode == http.StatusRequestTimeout, said.StatusCode >= 500:
		return &UnreachableError{Ref: ref, Err: said}
	case said.StatusCode >= 400:
		return &RefusedError{Ref: ref, Code: said.StatusCode, Err: said}
	}
	return &UnreachableError{Ref: ref, Err: said}
}
