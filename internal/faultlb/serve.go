package faultlb

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"syscall"
	"time"

	"homelab/internal/woodsim"
)

func inProcess(h http.Handler) http.RoundTripper { return woodsim.InProcess(h) }

// forward makes a handler that passes requests on to a RoundTripper.
func forward(next http.RoundTripper) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI = ""
		if out.URL.Host == "" {
			out.URL.Scheme, out.URL.Host = "http", r.Host
		}
		res, err := next.RoundTrip(out)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer res.Body.Close()
		maps.Copy(w.Header(), res.Header)
		w.WriteHeader(res.StatusCode)
		c := http.NewResponseController(w)
		_ = c.Flush()
		buf := make([]byte, 32<<10)
		for {
			n, err := res.Body.Read(buf)
			if _, werr := w.Write(buf[:n]); werr != nil {
				return
			}
			_ = c.Flush()
			if errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				panic(http.ErrAbortHandler)
			}
		}
	})
}

// ServeHTTP forwards the request with what befalls it.
func (b *Balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.serve(w, r, b.decide(r))
}

func (b *Balancer) serve(w http.ResponseWriter, r *http.Request, k Kind) {
	switch onStream(k, r) {
	case None:
		b.pass(w, r)
	case Refuse, ResetBefore:
		reset(w)
	case ResetAfter:
		b.discard(r)
		reset(w)
	case Delay:
		if b.pause(r.Context(), b.o.Delay) {
			b.pass(w, r)
		}
	case Hang:
		select {
		case <-r.Context().Done():
		case <-b.closed:
		}
		reset(w)
	case Cut:
		b.cut(w, r)
	case Empty200, Empty401, Empty404, Empty500, Empty502, Empty503:
		if b.o.Version != "" {
			w.Header().Set("X-Woodpecker-Version", b.o.Version)
		}
		w.Header()["Content-Type"] = nil
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(k.status())
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><head><title>Sign in</title></head><body><form></form></body></html>\n")
	case Redirect:
		w.Header().Set("Location", b.o.Location)
		w.WriteHeader(http.StatusFound)
	case TooMany:
		w.Header().Set("Retry-After", b.o.RetryAfter)
		w.WriteHeader(http.StatusTooManyRequests)
	case BadCert:
		b.mu.Lock()
		b.cert = true
		b.mu.Unlock()
		if r.ProtoMajor == 2 {
			// Only so does the whole connection end, and a handshake follow.
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		reset(w)
	case BufferBody:
		b.buffer(w, r)
	case DropStream:
		b.drop(w, r)
	case kindsNumber:
		panic("faultlb: not a fault")
	}
}

// onStream replaces the faults that would have to wait for the end of a
// stream.
func onStream(k Kind, r *http.Request) Kind {
	switch {
	case !isStream(r):
		return k
	case k == Cut:
		return DropStream
	case k == ResetAfter:
		return ResetBefore
	default:
		return k
	}
}

func (k Kind) status() int {
	switch k { //nolint:exhaustive // only the empty ones have a status
	case Empty401:
		return 401
	case Empty404:
		return 404
	case Empty500:
		return 500
	case Empty502:
		return 502
	case Empty503:
		return 503
	default:
		return 200
	}
}

func (b *Balancer) pass(w http.ResponseWriter, r *http.Request) {
	b.forwarded()
	b.handler.ServeHTTP(w, r)
}

// discard lets the request take effect and forgets the answer.
func (b *Balancer) discard(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	b.forwarded()
	func() {
		defer func() {
			if x := recover(); x != nil && x != any(http.ErrAbortHandler) {
				panic(x)
			}
		}()
		b.handler.ServeHTTP(rec, r)
	}()
	return rec
}

// reset breaks the connection: with RST where it can be had, else by aborting,
// which resets the stream in HTTP/2.
func reset(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

func (b *Balancer) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-b.closed:
		return true
	case <-ctx.Done():
		return false
	}
}

// cut sends the header of the whole answer and a part of its body.
func (b *Balancer) cut(w http.ResponseWriter, r *http.Request) {
	rec := b.discard(r)
	body := rec.Body.Bytes()
	n := b.o.CutAt
	if n == 0 {
		n = len(body) / 2
	}
	n = min(n, max(len(body)-1, 0))
	maps.Copy(w.Header(), rec.Result().Header)
	if len(body) > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body[:n])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func (b *Balancer) buffer(w http.ResponseWriter, r *http.Request) {
	n := b.o.CutAt
	if n == 0 {
		n = 64 << 10
	}
	held := &holder{ResponseWriter: w, limit: n}
	b.pass(held, r)
	held.release()
}

// holder keeps the body back until there is enough of it.
type holder struct {
	http.ResponseWriter
	limit int
	buf   bytes.Buffer
	free  bool
}

func (h *holder) Write(p []byte) (int, error) {
	if h.free {
		return h.ResponseWriter.Write(p)
	}
	h.buf.Write(p)
	if h.buf.Len() >= h.limit {
		h.release()
	}
	return len(p), nil
}

func (h *holder) release() {
	if h.free {
		return
	}
	h.free = true
	_, _ = h.ResponseWriter.Write(h.buf.Bytes())
	_ = http.NewResponseController(h.ResponseWriter).Flush()
}

// Flush sends the header at most, while bytes are held back.
func (h *holder) Flush() {
	if h.free {
		_ = http.NewResponseController(h.ResponseWriter).Flush()
	}
}

func (b *Balancer) drop(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), b.o.DropAfter)
	defer cancel()
	b.pass(w, r.WithContext(ctx))
	if ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// RoundTrip forwards the request with what befalls it. A refused connection
// and a certificate that does not fit are the errors a real transport gives;
// a broken one is ECONNRESET.
func (b *Balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	k := onStream(b.decide(r), r)
	switch k { //nolint:exhaustive // the rest is done by serve
	case None:
		b.forwarded()
		return b.trip.RoundTrip(r)
	case Refuse:
		return nil, closeBody(r, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
	case ResetBefore:
		return nil, closeBody(r, broken())
	case BadCert:
		return nil, closeBody(r, badCert(r))
	case ResetAfter:
		b.forwarded()
		if res, err := b.trip.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		return nil, broken()
	case Hang:
		select {
		case <-r.Context().Done():
			return nil, closeBody(r, context.Cause(r.Context()))
		case <-b.closed:
			return nil, closeBody(r, broken())
		}
	}
	one := &Balancer{o: b.o, trip: b.trip, handler: forward(b.trip), closed: b.closed}
	defer b.add(one)
	return woodsim.InProcess(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		in.URL = r.URL // with scheme and host
		one.serve(w, in, k)
	})).RoundTrip(r)
}

// add counts what a helper has forwarded.
func (b *Balancer) add(one *Balancer) {
	one.mu.Lock()
	n := one.stats.Forwarded
	one.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Forwarded += n
}

func closeBody(r *http.Request, err error) error {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return err
}

func broken() error { return &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET} }

func badCert(r *http.Request) error {
	cert := &x509.Certificate{DNSNames: []string{"default.ingress.local"}}
	return &tls.CertificateVerificationError{
		UnverifiedCertificates: []*x509.Certificate{cert},
		Err:                    x509.HostnameError{Certificate: cert, Host: r.URL.Hostname()},
	}
}

// Certificate is for a listener's choice at each handshake (tlstest's
// Options.Cert): the good certificate, or the bad one after a BadCert fault,
// which breaks its connection so that a new handshake follows.
func (b *Balancer) Certificate(good, bad tls.Certificate) func() (tls.Certificate, error) {
	return func() (tls.Certificate, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.cert {
			b.cert = false
			return bad, nil
		}
		now := b.o.Now()
		for i := range b.ordered {
			o := &b.ordered[i]
			if o.kind != BadCert {
				continue
			}
			if o.left > 0 {
				o.left--
				b.stats.Faults[BadCert]++
				return bad, nil
			}
			if o.until.After(now) {
				b.stats.Faults[BadCert]++
				return bad, nil
			}
		}
		return good, nil
	}
}

// Listener breaks connections as soon as they are accepted while a Refuse of
// During lasts, before any handshake.
func (b *Balancer) Listener(l net.Listener) net.Listener { return &listener{l, b} }

type listener struct {
	net.Listener
	b *Balancer
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, fmt.Errorf("faultlb: %w", err)
		}
		if !l.b.refusing() {
			return c, nil
		}
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (b *Balancer) refusing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.o.Now()
	for _, o := range b.ordered {
		if o.kind == Refuse && o.left == 0 && o.until.After(now) {
			b.stats.Faults[Refuse]++
			return true
		}
	}
	return false
}
