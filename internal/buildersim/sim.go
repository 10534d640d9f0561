// Package buildersim plays the servers that files are deployed from: a
// builder-web with its habits (Builder), and a file server whose validators and
// checksum files can be switched (Files). Both are handlers; whoever serves
// them chooses names and TLS (tlstest), or serves no socket at all
// (woodsim.InProcess). Every request is logged, and hooks break what is asked.
package buildersim

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Request is one that arrived, with what was answered.
type Request struct {
	Method string
	URI    string // as it was sent
	Header http.Header
	Status int   // 0: the connection was cut before a status
	Bytes  int64 // of the body
}

// Hook sees a request before the server does. It answers itself, or calls
// next, perhaps with a changed w or r.
type Hook func(w http.ResponseWriter, r *http.Request, next http.Handler)

type order struct {
	match string
	left  int // -1: for good
	hook  Hook
}

// Sim is what both servers have in common.
type Sim struct {
	route http.Handler

	mu     sync.Mutex
	log    []*Request
	orders []*order
}

// ServeHTTP logs the request, lets the hooks have it, and answers.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	entry := &Request{Method: r.Method, URI: r.URL.RequestURI(), Header: r.Header.Clone()}
	s.mu.Lock()
	s.log = append(s.log, entry)
	next := s.route
	for _, o := range s.orders {
		if o.left == 0 || !matches(o.match, entry.URI) {
			continue
		}
		if o.left > 0 {
			o.left--
		}
		inner, hook := next, o.hook
		next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hook(w, r, inner) })
		break
	}
	s.mu.Unlock()
	next.ServeHTTP(&counter{ResponseWriter: w, sim: s, entry: entry}, r)
}

// matches: part occurs in uri; with $ at its end, uri (without query) ends
// with it.
func matches(part, uri string) bool {
	if end, ok := strings.CutSuffix(part, "$"); ok {
		path, _, _ := strings.Cut(uri, "?")
		return strings.HasSuffix(path, end)
	}
	return strings.Contains(uri, part)
}

// Next lets the hook have the next n requests whose URI contains match (or
// ends with it: "latest$"; "" all). n of -1 is for good. Of several, the one
// ordered first is carried out first.
func (s *Sim) Next(n int, match string, h Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = append(s.orders, &order{match, n, h})
}

// Clear forgets all hooks.
func (s *Sim) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = nil
}

// Requests are all that arrived since the last Forget.
func (s *Sim) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.log))
	for i, r := range s.log {
		out[i] = *r
	}
	return out
}

// Count is how many requests match, as for Next.
func (s *Sim) Count(match string) int {
	n := 0
	for _, r := range s.Requests() {
		if matches(match, r.URI) {
			n++
		}
	}
	return n
}

// Forget empties the log.
func (s *Sim) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}

type counter struct {
	http.ResponseWriter
	sim   *Sim
	entry *Request
}

func (c *counter) WriteHeader(status int) {
	c.sim.mu.Lock()
	c.entry.Status = status
	c.sim.mu.Unlock()
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.sim.mu.Lock()
	if c.entry.Status == 0 {
		c.entry.Status = http.StatusOK
	}
	c.entry.Bytes += int64(n)
	c.sim.mu.Unlock()
	return n, err
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Flush hands on what was written.
func (c *counter) Flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() }

// Status answers with a status and a body instead of the server.
func Status(status int, kind, body string) Hook {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { answer(w, status, kind, body) }
}

// TooMany answers 429 with Retry-After.
func TooMany(after time.Duration) Hook {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
		answer(w, http.StatusTooManyRequests, "text/plain", "slow down\n")
	}
}

// Redirect answers with a redirect to a location of your choice.
func Redirect(status int, location string) Hook {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Location", location)
		w.WriteHeader(status)
	}
}

// Late answers d later.
func Late(d time.Duration) Hook {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pause(r, d) {
			next.ServeHTTP(w, r)
		}
	}
}

// Cut breaks the connection after n bytes of the body; headers are whole.
func Cut(n int64) Hook {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&shaper{ResponseWriter: w, cut: n, limited: true}, r)
		panic(http.ErrAbortHandler)
	}
}

// Slow sends the body in chunks of n bytes with a pause of d between them.
func Slow(n int, d time.Duration) Hook {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&shaper{ResponseWriter: w, chunk: n, wait: func() bool { return pause(r, d) }}, r)
	}
}

// Header changes a header of the server's answer; "" removes it.
func Header(key, value string) Hook {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&shaper{ResponseWriter: w, header: func(h http.Header) {
			h.Del(key)
			if value != "" {
				h[http.CanonicalHeaderKey(key)] = []string{value}
			}
		}}, r)
	}
}

// Body replaces the body of a 200; everything that was announced stays, but
// for the length, which becomes the new body's.
func Body(body []byte) Hook {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&shaper{ResponseWriter: w, body: body, replace: true, header: func(h http.Header) {
			h.Set("Content-Length", strconv.Itoa(len(body)))
		}}, r)
	}
}

// Endless answers 200 with a body without a length that does not end.
func Endless() Hook {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		chunk := []byte(strings.Repeat(" ", 64<<10))
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
}

func pause(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// shaper changes what a handler answers.
type shaper struct {
	http.ResponseWriter
	limited bool
	cut     int64
	chunk   int
	wait    func() bool
	header  func(http.Header)
	replace bool
	body    []byte
	status  int
}

func (s *shaper) WriteHeader(status int) {
	s.status = status
	if s.header != nil && (!s.replace || status == http.StatusOK) {
		s.header(s.Header())
	}
	s.ResponseWriter.WriteHeader(status)
	if s.replace && status == http.StatusOK {
		_, _ = s.ResponseWriter.Write(s.body)
	}
}

func (s *shaper) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.WriteHeader(http.StatusOK)
	}
	if s.replace && s.status == http.StatusOK {
		return len(p), nil
	}
	if s.limited {
		if int64(len(p)) > s.cut {
			_, _ = s.ResponseWriter.Write(p[:s.cut])
			_ = http.NewResponseController(s.ResponseWriter).Flush()
			panic(http.ErrAbortHandler)
		}
		s.cut -= int64(len(p))
	}
	if s.chunk <= 0 {
		return s.ResponseWriter.Write(p)
	}
	sent := 0
	for sent < len(p) {
		end := min(sent+s.chunk, len(p))
		n, err := s.ResponseWriter.Write(p[sent:end])
		sent += n
		if err != nil {
			return sent, err
		}
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		if !s.wait() {
			return sent, io.ErrClosedPipe
		}
	}
	return sent, nil
}

func (s *shaper) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// reply is an answer made under the lock and sent without it: a slow reader
// stops nobody else. What is written is not copied.
type reply struct {
	header http.Header
	status int
	body   [][]byte
}

func (a *reply) Header() http.Header { return a.header }

func (a *reply) WriteHeader(status int) { a.status = status }

func (a *reply) Write(p []byte) (int, error) {
	a.body = append(a.body, p)
	return len(p), nil
}

// locked makes a handler of one that answers under the lock.
func (s *Sim) locked(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &reply{header: http.Header{}, status: http.StatusOK}
		s.mu.Lock()
		h(a, r)
		s.mu.Unlock()
		maps.Copy(w.Header(), a.header)
		w.WriteHeader(a.status)
		for _, p := range a.body {
			if _, err := w.Write(p); err != nil {
				return
			}
		}
	})
}

func answer(w http.ResponseWriter, status int, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// Sum is the sha256 of b, in hex.
func Sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
