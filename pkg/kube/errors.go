package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"homelab/pkg/poll"
)

// maxErrorBody bounds what is read of an answer that is no success.
const maxErrorBody = 64 << 10

// StatusError is an answer that is not the wanted object: a Kubernetes Status,
// or something else that whoever stands in between said (Proxy).
type StatusError struct {
	Code       int           // HTTP status, or the Status object's code in a watch event
	Reason     string        // "Forbidden", "Expired"; empty from a proxy
	Message    string        // the server's words; from a proxy a description of the answer
	RetryAfter time.Duration // 0: not given
	Proxy      bool          // the body was no Kubernetes Status: nothing is refused, the API server was not reached
	Causes     []Cause       // the server's details; nil: none

	Verb      string // get, list, watch
	Resource  Resource
	Namespace string // empty for cluster-scoped requests
	Name      string // empty for collections
}

// Error names the request and repeats the server's words.
func (e *StatusError) Error() string {
	what := e.Verb + " " + e.Resource.String()
	if e.Name != "" {
		what += " " + e.Name
	}
	if e.Namespace != "" {
		what += " in " + e.Namespace
	}
	return fmt.Sprintf("%s: %d: %s", what, e.Code, e.Message)
}

// Refused says that the API server itself said no and repeating will not
// change it: 401, 403, 404 and the other client errors. False for 408, 409,
// 410, 429, 5xx and anything a proxy said.
func (e *StatusError) Refused() bool {
	switch e.Code {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusGone, http.StatusTooManyRequests:
		return false
	}
	return !e.Proxy && e.Code >= 400 && e.Code < 500
}

// expired says that the wanted resourceVersion is gone.
func (e *StatusError) expired() bool {
	return !e.Proxy && (e.Code == http.StatusGone || e.Reason == "Expired" || e.Reason == "Gone")
}

// UnreachableError is a request without a complete answer: no connection, no
// header or no byte in time, an answer cut off or undecodable.
type UnreachableError struct {
	What string // the request
	Err  error
}

func (e *UnreachableError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns the failure below.
func (e *UnreachableError) Unwrap() error { return e.Err }

// PluginError is a credential plugin that gave no credentials; no server was
// asked.
type PluginError struct {
	Command string
	Stderr  string // the end of what it said, 4 KiB at most
	Err     error
}

func (e *PluginError) Error() string {
	text := "credential plugin " + e.Command + ": " + e.Err.Error()
	if last := lastLine(e.Stderr); last != "" {
		text += ": " + last
	}
	return text
}

// Unwrap returns the failure below.
func (e *PluginError) Unwrap() error { return e.Err }

// IsDenied says that err is a confirmed refusal of these credentials: 401, 403
// or a plugin that gives none.
func IsDenied(err error) bool {
	var s *StatusError
	var p *PluginError
	return errors.As(err, &p) ||
		errors.As(err, &s) && !s.Proxy && (s.Code == http.StatusUnauthorized || s.Code == http.StatusForbidden)
}

// IsForbidden says that err is a confirmed 403: the credentials are good, the
// permission is missing.
func IsForbidden(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && !s.Proxy && s.Code == http.StatusForbidden
}

// IsAbsent says that the API server knows no such object.
func IsAbsent(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && !s.Proxy && s.Code == http.StatusNotFound
}

// IsTransient says that err is no answer yet, so that asking again makes sense.
func IsTransient(err error) bool {
	if s, ok := errors.AsType[*StatusError](err); ok {
		return !s.Refused()
	}
	return errors.As(err, new(*UnreachableError))
}

// retryAfter returns the wait err asks for, or 0.
func retryAfter(err error) time.Duration {
	if s, ok := errors.AsType[*StatusError](err); ok {
		return min(s.RetryAfter, mostRetryAfter)
	}
	return 0
}

// The errors of this package's own time limits.
const (
	errNoHeader  = constError("no answer in time")
	errCut       = constError("the answer was cut off")
	errDeaf      = constError("the watch had gone deaf")
	errNotObject = constError("the answer is no Kubernetes object")
)

type constError string

func (e constError) Error() string { return string(e) }

// status is the part of a Status that matters.
type status struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Code    int    `json:"code"`
	Details struct {
		RetryAfterSeconds int     `json:"retryAfterSeconds"`
		Causes            []Cause `json:"causes"`
	} `json:"details"`
}

// statusError sorts an answer that is no success.
func statusError(q request, code int, h http.Header, body []byte) *StatusError {
	e := &StatusError{
		Code: code, Verb: q.verb, Resource: q.resource, Namespace: q.namespace, Name: q.name,
		RetryAfter: headerRetryAfter(h),
	}
	var s status
	if json.Unmarshal(body, &s) != nil || s.Kind != "Status" {
		e.Proxy = true
		kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
		e.Message = http.StatusText(code) + ", not a Kubernetes answer"
		if kind != "" {
			e.Message += " (" + kind + ")"
		}
		return e
	}
	e.fill(s)
	return e
}

func (e *StatusError) fill(s status) {
	e.Reason, e.Message, e.Causes = s.Reason, s.Message, s.Details.Causes
	if d := time.Duration(s.Details.RetryAfterSeconds) * time.Second; d > 0 {
		e.RetryAfter = d
	}
	if e.Message == "" {
		e.Message = http.StatusText(e.Code)
	}
}

func headerRetryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// why replaces the text of a cancelled request by the limit that cancelled it.
func why(err, cause error) error {
	switch {
	case errors.Is(cause, poll.ErrIdle):
		return poll.ErrIdle
	case cause != nil:
		return cause
	}
	return err
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
