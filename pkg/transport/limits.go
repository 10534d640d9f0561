package transport

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"homelab/pkg/poll"
)

// The limits of one attempt. All are cut to what the context has left.
const (
	dialTimeout   = 5 * time.Second
	tlsTimeout    = 5 * time.Second
	headerTimeout = 10 * time.Second
	defaultTotal  = 15 * time.Second
	defaultIdle   = 10 * time.Second

	defaultBudget = 20 * time.Second
	minTries      = 4 // before a budget can be spent

	defaultMaxBody = 8 << 20
	maxErrorBody   = 64 << 10
)

// Call is what the caller tells Retry about one request; it travels in the
// request's context. The zero value of each field is its default.
type Call struct {
	Name    string                             // for -v lines and errors: "GET pipeline 57"; "" means method and path
	Total   time.Duration                      // one attempt in all; 0 means 15 s
	MaxBody int64                              // bytes after decompression; 0 means 8 MiB; beyond: *TooLargeError
	Budget  time.Duration                      // uninterrupted failure; 0 means 20 s; never before four tries
	Stream  bool                               // a 2xx body is handed on unread; Total ends at the headers
	Idle    time.Duration                      // no body byte for this long while one is waited for; 0 means 10 s
	Check   func(*http.Response, []byte) error // what only decoding shows; an error makes a 2xx transient. Not for streams
	Known   string                             // key of "this call has succeeded before in this run"; "" means method and path
	ByHand  bool                               // a redirect is not followed but handed to the Judge, wherever it leads
}

type (
	callKey    struct{}
	attemptKey struct{}
)

// WithCall returns a context for one request with what c says about it.
func WithCall(ctx context.Context, c Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// CallOf returns what WithCall put into ctx, or the zero Call.
func CallOf(ctx context.Context) Call {
	c, _ := ctx.Value(callKey{}).(Call)
	return c
}

// callFor returns req's Call with all defaults filled in.
func callFor(req *http.Request) Call {
	c := CallOf(req.Context())
	path := req.Method + " " + req.URL.EscapedPath()
	if c.Name == "" {
		c.Name = path
	}
	if c.Known == "" {
		c.Known = path
	}
	if c.Total <= 0 {
		c.Total = defaultTotal
	}
	if c.MaxBody <= 0 {
		c.MaxBody = defaultMaxBody
	}
	if c.Budget <= 0 {
		c.Budget = defaultBudget
	}
	if c.Idle <= 0 {
		c.Idle = defaultIdle
	}
	return c
}

// attemptOf returns which attempt of a call ctx belongs to, from 1; 0 if none.
func attemptOf(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return n
}

// limits bounds one attempt in time: in all, or for streams up to the headers,
// and between bytes of the body.
type limits struct {
	next http.RoundTripper
}

var _ http.RoundTripper = (*limits)(nil)

func (l *limits) RoundTrip(req *http.Request) (*http.Response, error) {
	call := callFor(req)
	ctx, cancel := context.WithCancelCause(req.Context())
	stop := func() { cancel(nil) }
	headers := make(chan struct{})
	if call.Stream {
		go func() {
			if woken, err := poll.Wait(ctx, call.Total, headers); err == nil && !woken {
				cancel(&TimeoutError{What: "answer", After: call.Total})
			}
		}()
	} else {
		var done context.CancelFunc
		ctx, done = context.WithTimeoutCause(ctx, call.Total, &TimeoutError{What: "complete answer", After: call.Total})
		stop = func() { done(); cancel(nil) }
	}
	resp, err := l.next.RoundTrip(req.WithContext(ctx))
	close(headers)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		stop()
		return nil, err
	}
	b := &boundedBody{
		rc: resp.Body, stop: stop, began: time.Now(),
		cause: func() error {
			if ctx.Err() == nil {
				return nil
			}
			return context.Cause(ctx)
		},
	}
	if b.rc == nil {
		b.rc = http.NoBody
	}
	go b.guard(ctx, cancel, call.Idle)
	resp.Body = b
	return resp, nil
}

// boundedBody kills the request when a Read has waited too long for a byte. A
// reader that is busy elsewhere does not count as silence of the server.
type boundedBody struct {
	rc      io.ReadCloser
	stop    func()
	cause   func() error // why the attempt was cancelled; nil if it was not
	began   time.Time
	waiting atomic.Int64 // 1 + nanoseconds from began to the current Read's start; 0: no Read is waiting
}

func (b *boundedBody) Read(p []byte) (int, error) {
	b.waiting.Store(int64(time.Since(b.began)) + 1)
	n, err := b.rc.Read(p)
	b.waiting.Store(0)
	if err == nil {
		return n, nil
	}
	if cause := b.cause(); cause != nil && err != io.EOF { //nolint:errorlint // Read returns io.EOF itself
		err = cause
	}
	b.stop()
	return n, err
}

func (b *boundedBody) Close() error {
	err := b.rc.Close()
	b.stop()
	return err
}

// guard runs until ctx ends, which stop sees to. It looks once per idle period
// and then exactly when the Read that is waiting will have waited long enough.
func (b *boundedBody) guard(ctx context.Context, cancel context.CancelCauseFunc, idle time.Duration) {
	for wait := idle; poll.Sleep(ctx, wait) == nil; {
		wait = idle
		if since := b.waiting.Load(); since != 0 {
			waited := time.Since(b.began) - time.Duration(since-1)
			if waited >= idle {
				cancel(&TimeoutError{What: "byte of the body", After: idle})
				return
			}
			wait = idle - waited
		}
	}
}

// replay is a body that is in memory; it can be read again after Seek.
type replay struct{ *bytes.Reader }

func (replay) Close() error { return nil }

// readWhole reads resp's body to its end or limit, closes it, and puts what it
// read in its place. A longer body is cut.
func readWhole(resp *http.Response, limit int64) (body []byte, cut bool, err error) {
	body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	_ = resp.Body.Close()
	if int64(len(body)) > limit {
		body, cut, err = body[:limit], true, nil
	}
	resp.Body = replay{bytes.NewReader(body)}
	resp.ContentLength = int64(len(body))
	return body, cut, err
}
