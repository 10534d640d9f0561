package kubesim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
)

// ErrCut is what a client of Transport sees of a cut connection.
var ErrCut = errors.New("connection reset by kubesim")

// Base is a URL for clients that use Transport.
func Base() *url.URL { return &url.URL{Scheme: "https", Host: "kubesim.test"} }

// Transport returns a RoundTripper that asks s without a socket, with the
// user's token.
func (s *Sim) Transport(token string) http.RoundTripper { return inProcess{s, token} }

type inProcess struct {
	h     http.Handler
	token string
}

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	r = r.Clone(ctx)
	if t.token != "" {
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	a := &answer{header: http.Header{}, started: make(chan struct{}), wake: make(chan struct{}, 1), cancel: cancel}
	go func() {
		defer func() {
			switch p := recover(); p {
			case nil:
				a.finish(io.EOF)
			case http.ErrAbortHandler:
				a.finish(ErrCut)
			default:
				panic(p)
			}
		}()
		t.h.ServeHTTP(a, r)
	}()
	stop := context.AfterFunc(ctx, func() { a.finish(context.Cause(ctx)) })
	<-a.started
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.code == 0 {
		if a.end != io.EOF { //nolint:errorlint // set above
			stop()
			return nil, a.end
		}
		a.code = http.StatusOK
	}
	return &http.Response{
		StatusCode: a.code, Status: http.StatusText(a.code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), Body: a, Request: r, ContentLength: -1,
	}, nil
}

// answer is a response on its way: the writer never waits for the reader.
type answer struct {
	header  http.Header
	cancel  context.CancelCauseFunc
	started chan struct{}
	once    sync.Once
	wake    chan struct{}

	mu   sync.Mutex
	code int
	buf  bytes.Buffer
	end  error
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) {
	a.mu.Lock()
	if a.code == 0 {
		a.code = code
	}
	a.mu.Unlock()
	a.once.Do(func() { close(a.started) })
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.end != nil {
		return 0, a.end
	}
	n, err := a.buf.Write(b)
	a.poke()
	return n, err
}

func (a *answer) Flush() { a.WriteHeader(http.StatusOK) }

func (a *answer) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *answer) finish(err error) {
	a.mu.Lock()
	if a.end == nil {
		a.end = err
	}
	a.poke()
	a.mu.Unlock()
	a.once.Do(func() { close(a.started) })
}

func (a *answer) Read(p []byte) (int, error) {
	for {
		a.mu.Lock()
		if a.buf.Len() > 0 {
			defer a.mu.Unlock()
			return a.buf.Read(p)
		}
		end := a.end
		a.mu.Unlock()
		if end != nil {
			a.mu.Lock()
			a.poke()
			a.mu.Unlock()
			return 0, end
		}
		<-a.wake
	}
}

func (a *answer) Close() error {
	a.cancel(context.Canceled)
	a.finish(context.Canceled)
	return nil
}
