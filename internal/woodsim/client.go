package woodsim

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Client reaches the server without a socket, so also inside a synctest
// bubble. Streams deliver as they are written.
func (s *Server) Client() http.RoundTripper { return InProcess(s) }

// InProcess makes a RoundTripper of any handler. The answer is handed over
// when its header is written; a handler that is ahead of its reader by 256 KiB
// waits. Closing the body ends the request's context for the handler. A
// handler that panics with http.ErrAbortHandler cuts the connection.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ h http.Handler }

func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	in := req.Clone(ctx)
	in.RequestURI = req.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:1"
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	p := &pipe{header: http.Header{}, begun: make(chan struct{}), moved: make(chan struct{}), cancel: cancel}
	go func() {
		defer cancel(nil)
		defer in.Body.Close()
		err := io.EOF
		defer func() {
			if x := recover(); x != nil {
				if e, ok := x.(error); !ok || !errors.Is(e, http.ErrAbortHandler) {
					panic(x)
				}
				err = io.ErrUnexpectedEOF
			}
			p.end(err)
		}()
		t.h.ServeHTTP(p, in)
	}()
	select {
	case <-p.begun:
	case <-req.Context().Done():
		p.end(context.Cause(req.Context()))
		return nil, context.Cause(req.Context())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status == 0 { // cut before the header
		return nil, p.err
	}
	stop := context.AfterFunc(req.Context(), func() { p.end(context.Cause(req.Context())) })
	p.release = func() { stop() }
	res := &http.Response{
		Status: strconv.Itoa(p.status) + " " + http.StatusText(p.status), StatusCode: p.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: p.sent, Body: p, ContentLength: -1, Request: req,
	}
	if n, err := strconv.ParseInt(p.sent.Get("Content-Length"), 10, 64); err == nil {
		res.ContentLength = n
	}
	if p.status == http.StatusNoContent {
		res.ContentLength = 0
	}
	return res, nil
}

const window = 256 << 10

// pipe is a ResponseWriter and the body the client reads from it.
type pipe struct {
	header http.Header
	begun  chan struct{}
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	moved   chan struct{} // closed and renewed at every change
	status  int
	sent    http.Header
	data    []byte
	err     error // set once: no more data after what is buffered
	closed  bool
	release func()
}

func (p *pipe) Header() http.Header { return p.header }

func (p *pipe) WriteHeader(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin(status)
}

func (p *pipe) begin(status int) {
	if p.status != 0 || p.err != nil {
		return
	}
	p.status, p.sent = status, p.header.Clone()
	for k, v := range p.sent {
		if len(v) == 0 {
			delete(p.sent, k)
		}
	}
	close(p.begun)
}

func (p *pipe) move() {
	close(p.moved)
	p.moved = make(chan struct{})
}

// Flush only has to send the header: data is never held back.
func (p *pipe) Flush() { p.WriteHeader(http.StatusOK) }

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin(http.StatusOK)
	for len(p.data) >= window && p.err == nil && !p.closed {
		p.wait()
	}
	if p.closed || p.err != nil {
		return 0, io.ErrClosedPipe
	}
	p.data = append(p.data, b...)
	p.move()
	return len(b), nil
}

// wait lets go of the lock until something has changed.
func (p *pipe) wait() {
	moved := p.moved
	p.mu.Unlock()
	<-moved
	p.mu.Lock()
}

func (p *pipe) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	if errors.Is(err, io.EOF) {
		p.begin(http.StatusOK)
	}
	p.err = err
	if p.status == 0 {
		close(p.begun)
	}
	p.move()
}

// Read is the client's side.
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.data) == 0 {
		switch {
		case p.closed:
			return 0, http.ErrBodyReadAfterClose
		case p.err != nil:
			return 0, p.err
		case len(b) == 0:
			return 0, nil
		}
		p.wait()
	}
	n := copy(b, p.data)
	if p.data = p.data[n:]; len(p.data) == 0 {
		p.data = nil
	}
	p.move()
	return n, nil
}

// Close hangs up.
func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed, p.data = true, nil
		if p.release != nil {
			p.release()
		}
		p.move()
		p.cancel(errHungUp)
	}
	return nil
}

var errHungUp = errors.New("woodsim: client closed the body")
