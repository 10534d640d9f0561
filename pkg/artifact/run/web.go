package run

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/fault"
	"homelab/pkg/poll"
)

const (
	mostStreams  = 32
	mostWait     = 600     // seconds
	mostHint     = 4 << 10 // bytes of a body
	mostConns    = 256     // at once
	mostReplay   = 1000    // lines of the journal
	commentEvery = 15 * time.Second
	expectBurst  = 8 // hints that are told apart; then one more each expectEvery
	expectEvery  = 2 * time.Second
)

// web is the HTTP listener.
type web struct {
	*site
	l    *loop
	name string
	mux  *http.ServeMux

	host    string // as configured; "" any
	machine string
	beyond  bool // it can be reached from other machines
	token   []byte
	streams *atomic.Int64 // of all watches of the process

	mu     sync.Mutex
	tokens float64 // hints that may say what they expect
	at     time.Time
}

// listen opens the listener.
func (l *loop) listen(ctx context.Context, o Listen) (*web, error) {
	ln, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	h := newWeb(l, o, ln.Addr())
	h.site = serveSite(ctx, ln, h)
	return h, nil
}

// open is the listener that was given, or a new one.
func (o Listen) open(ctx context.Context) (net.Listener, error) {
	if o.Listener != nil {
		return o.Listener, nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fault.Usagef("", "--listen %s is not possible", o.Addr).Because(err.Error()).From(err)
	}
	return ln, nil
}

// site is a server of HTTP.
type site struct {
	server *http.Server
	done   chan struct{}
	cancel context.CancelFunc
}

func serveSite(ctx context.Context, ln net.Listener, handler http.Handler) *site {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h := &site{cancel: cancel, done: make(chan struct{})}
	h.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10, ErrorLog: log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return base },
	}
	go func() {
		defer close(h.done)
		_ = h.server.Serve(&few{Listener: ln, slots: make(chan struct{}, mostConns), ended: base.Done()})
	}()
	return h
}

func newWeb(l *loop, o Listen, addr net.Addr) *web {
	h := &web{l: l, name: l.o.Config.Name, tokens: expectBurst, at: l.now(), streams: &atomic.Int64{}}
	h.machine, _ = os.Hostname()
	h.machine = strings.ToLower(h.machine)
	if host, _, err := net.SplitHostPort(o.Addr); err == nil {
		h.host = strings.ToLower(host)
	}
	ip, err := netip.ParseAddrPort(addr.String())
	h.beyond = err != nil || !ip.Addr().Unmap().IsLoopback()
	if !o.Token.IsZero() {
		sum := sha256.Sum256([]byte(o.Token.Reveal()))
		h.token = sum[:]
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /watches/{name}/hint", h.ours(h.hint))
	mux.HandleFunc("GET /watches/{name}/status", h.ours(h.status))
	mux.HandleFunc("GET /watches/{name}/events", h.ours(h.events))
	mux.HandleFunc("GET /healthz", h.health)
	h.mux = mux
	return h
}

// few is a listener with a limit of connections at once: more wait.
type few struct {
	net.Listener
	slots chan struct{}
	ended <-chan struct{}
}

func (f *few) Accept() (net.Conn, error) {
	select {
	case f.slots <- struct{}{}:
	case <-f.ended:
		return nil, net.ErrClosed
	}
	c, err := f.Listener.Accept()
	if err != nil {
		<-f.slots
		return nil, err
	}
	return &counted{Conn: c, free: sync.OnceFunc(func() { <-f.slots })}, nil
}

type counted struct {
	net.Conn
	free func()
}

func (c *counted) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// close ends the listener; streams have had their last event before.
func (h *site) close() {
	late, cancel := context.WithTimeout(h.server.BaseContext(nil), hurry)
	defer cancel()
	_ = h.server.Shutdown(late)
	h.cancel()
	_ = h.server.Close()
	<-h.done
}

// ServeHTTP lets nobody in whom a browser sent.
func (h *web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.admits(w, r) {
		h.mux.ServeHTTP(w, r)
	}
}

// admits reports whether the request may come in, and answers it if not.
func (h *web) admits(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case len(r.Header.Values("Origin")) > 0:
		refuse(w, http.StatusForbidden, "not from a web page")
		return false
	case !h.known(r):
		refuse(w, http.StatusForbidden, "this is not the host that was asked for")
		return false
	}
	return true
}

// known reports whether the request names this listener, or loopback: a name
// that somebody pointed at this address does not count.
func (h *web) known(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host != "" && (host == "localhost" || host == h.host || host == h.machine)
	}
	ip = ip.Unmap()
	if ip.IsLoopback() || host == h.host && !ip.IsUnspecified() {
		return true
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	return err == nil && at.Addr().Unmap().WithZone("") == ip.WithZone("")
}

func refuse(w http.ResponseWriter, code int, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, why+"\n")
}

func answerJSON(w http.ResponseWriter, code int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n'))
}

// ours lets through what is about this watch.
func (h *web) ours(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") != h.name {
			refuse(w, http.StatusNotFound, "there is no such watch here")
			return
		}
		next(w, r)
	}
}

// allowed reports whether the story may be told: everybody on this machine
// may hear it, others with the token. It answers those who may not.
func (h *web) allowed(w http.ResponseWriter, r *http.Request) bool {
	if !h.beyond {
		return true
	}
	if h.token == nil {
		refuse(w, http.StatusForbidden, "beyond loopback this needs a token, and none is configured")
		return false
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], h.token) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "a bearer token is needed")
		return false
	}
	return true
}

// health is 204 while the loop turns.
func (h *web) health(w http.ResponseWriter, r *http.Request) {
	late, cancel := context.WithTimeout(r.Context(), answerIn)
	defer cancel()
	if h.l.turns(late) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	refuse(w, http.StatusServiceUnavailable, "the watch does not turn")
}

// turns reports whether the loop turned before ctx ended.
func (l *loop) turns(ctx context.Context) bool {
	turned := make(chan struct{})
	if !l.box.post(func() { close(turned) }) {
		return false
	}
	select {
	case <-turned:
		return true
	case <-ctx.Done():
		return false
	}
}

func (h *web) status(w http.ResponseWriter, r *http.Request) {
	if !h.allowed(w, r) {
		return
	}
	v := *h.l.latest.Load()
	v.Daemon = true
	answerJSON(w, http.StatusOK, v)
}

// hinted is the body of a hint.
type hinted struct {
	Expect string `json:"expect"`
}

// hint has the watch look. It has no say in what is deployed.
func (h *web) hint(w http.ResponseWriter, r *http.Request) {
	wait, err := seconds(r.URL.Query().Get("wait"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	e, code, err := expectation(w, r)
	if err != nil {
		refuse(w, code, err.Error())
		return
	}
	req := artifact.Request{Verb: artifact.Hint, Expect: e, Wait: wait, Detached: wait == 0}
	if wait == 0 {
		h.detached(w, r, req)
		return
	}
	if !h.allowed(w, r) {
		return
	}
	if !h.told() {
		busy(w)
		return
	}
	h.stream(w, r, func(s *sub) (func(), error) {
		id, err := h.ask(r.Context(), req, s)
		return func() { h.l.box.post(func() { h.l.left(id) }) }, err
	}, nil)
}

// seconds reads ?wait=.
func seconds(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > mostWait {
		return 0, fmt.Errorf("wait is a number of seconds up to %d", mostWait)
	}
	return time.Duration(n) * time.Second, nil
}

// expectation reads the body: empty, or an object that says what to look out
// for.
func expectation(w http.ResponseWriter, r *http.Request) (e artifact.Expectation, code int, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostHint))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return e, http.StatusRequestEntityTooLarge, fmt.Errorf("a hint has at most %d bytes", mostHint)
	}
	if err != nil {
		return e, http.StatusBadRequest, errors.New("the body was cut off")
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return e, 0, nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var hint hinted
	if err := d.Decode(&hint); err != nil || d.More() {
		return e, http.StatusBadRequest, errors.New(`the body is empty, or {"expect":"sha256:HEX"}`)
	}
	if hint.Expect == "" {
		return e, 0, nil
	}
	if e, err = artifact.ParseExpectation(hint.Expect); err != nil {
		return e, http.StatusBadRequest, err
	}
	return e, 0, nil
}

// told takes one of the hints that are told apart. Each is a line of the
// story, so a flood of them must not be one.
func (h *web) told() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.l.now()
	h.tokens = min(expectBurst, h.tokens+max(0, float64(now.Sub(h.at))/float64(expectEvery)))
	h.at = now
	if h.tokens < 1 {
		return false
	}
	h.tokens--
	return true
}

func busy(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "2")
	refuse(w, http.StatusServiceUnavailable, "too many at once")
}

// accepted is the answer to a hint that nobody waits for.
type accepted struct {
	Watch  string         `json:"watch"`
	State  artifact.Phase `json:"state"`
	Events string         `json:"events"`
}

func (h *web) detached(w http.ResponseWriter, r *http.Request, req artifact.Request) {
	if !req.Expect.IsZero() && !h.told() {
		req.Expect = artifact.Expectation{} // a look is a look
	}
	if _, err := h.ask(r.Context(), req, nil); err != nil {
		h.refused(w, err)
		return
	}
	answerJSON(w, http.StatusAccepted, accepted{h.name, h.l.latest.Load().State, "/watches/" + h.name + "/events"})
}

func (h *web) refused(w http.ResponseWriter, err error) {
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Usage {
		refuse(w, http.StatusBadRequest, f.Error())
		return
	}
	refuse(w, http.StatusServiceUnavailable, "the watch does not turn")
}

// ask hands a hint to the loop.
func (h *web) ask(ctx context.Context, req artifact.Request, s *sub) (int64, error) {
	type begun struct {
		id  int64
		err error
	}
	started := make(chan begun, 1)
	late, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	h.l.box.post(func() {
		if late.Err() != nil {
			return
		}
		if err := answerable(h.l.o.Source, req.Expect); err != nil {
			started <- begun{0, err}
			return
		}
		if s != nil {
			h.l.hub.join(s, -1)
		}
		started <- begun{h.l.ask(req, s), nil}
	})
	select {
	case b := <-started:
		return b.id, b.err
	case <-late.Done():
		return 0, context.Cause(late)
	}
}

// events is the story from now on, or from what Last-Event-ID names.
func (h *web) events(w http.ResponseWriter, r *http.Request) {
	if !h.allowed(w, r) {
		return
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	after := int64(-1)
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil || n < 0 {
			refuse(w, http.StatusBadRequest, "Last-Event-ID is the id of an event")
			return
		}
		after = n
	}
	var older []Event
	h.stream(w, r, func(s *sub) (func(), error) {
		before := h.l.hub.join(s, after)
		if after >= 0 {
			older = h.before(after, before)
		}
		return func() {}, nil
	}, func() []Event { return older })
}

// before is what the journal knows of the time after an event and before the
// first one that is kept in memory; 0 of all there is.
func (h *web) before(after, first int64) []Event {
	o := h.l.options.Load()
	lines, err := journal.History(o.Place.Dir())
	if err != nil {
		return nil
	}
	var all []Event
	if n := len(lines); n > 0 && after > max(first, lines[n-1].Seq) {
		after = 0 // numbers of a watch that was here before
	}
	for _, l := range lines {
		if l.Seq <= after || first > 0 && l.Seq >= first {
			continue
		}
		e, told := past(l)
		if !told {
			continue
		}
		e.Watch, e.Run = h.name, o.Config.Run
		if l.Outcome != nil {
			ended := o.ended(*l.Outcome, artifact.Memory{})
			e.Outcome = &ended
		}
		all = append(all, e)
	}
	return all[max(0, len(all)-mostReplay):]
}

// stream writes events until their end: the answer, for who asked something.
func (h *web) stream(w http.ResponseWriter, r *http.Request, begin func(*sub) (func(), error), older func() []Event) {
	defer h.streams.Add(-1)
	if h.streams.Add(1) > mostStreams {
		busy(w)
		return
	}
	s := newSub(streamQueue+keptEvents, false)
	defer h.l.hub.leave(s)
	end, err := begin(s)
	if err != nil {
		h.refused(w, err)
		return
	}
	defer end()
	out := sse{w, http.NewResponseController(w)}
	_ = out.c.SetReadDeadline(time.Time{}) // that of the request would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	err = out.comment()
	asked := older == nil
	if !asked {
		for _, e := range older() {
			if err == nil {
				err = out.event(e)
			}
		}
	}
	seq := int64(0)
	for err == nil {
		t := s.take()
		if t.lost {
			return
		}
		for _, e := range t.events {
			seq = max(seq, e.Seq)
			if asked && e.Type == artifact.OutcomeEvent {
				continue // the answer is this one's outcome, others' are not
			}
			if err == nil {
				err = out.event(e)
			}
		}
		switch {
		case err != nil:
			return
		case t.answer != nil:
			ended := t.answer.ended
			_ = out.event(Event{
				Type: artifact.OutcomeEvent, Time: t.answer.outcome.Ended, Seq: seq, Watch: h.name, Run: ended.Run,
				State: artifact.Phase(ended.State), Text: ended.Reason, Outcome: &ended,
			})
			return
		case t.gone:
			return
		}
		var woken bool
		if woken, err = poll.Wait(r.Context(), commentEvery, s.bell); err == nil && !woken {
			err = out.comment()
		}
	}
}

// sse writes server-sent events. A reader that does not read is dropped.
type sse struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (o sse) write(data []byte) error {
	// A writer that knows no deadline is one that does not block.
	_ = o.c.SetWriteDeadline(time.Now().Add(writeIn))
	if _, err := o.w.Write(data); err != nil {
		return err
	}
	return o.c.Flush()
}

func (o sse) comment() error { return o.write([]byte(":\n\n")) }

func (o sse) event(e Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if e.Seq > 0 {
		fmt.Fprintf(&b, "id: %d\n", e.Seq)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", e.Type, data)
	return o.write(b.Bytes())
}
