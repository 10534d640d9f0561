package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"homelab/pkg/poll"
)

// The limits of one request. A watch has those of its stream instead.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 10 * time.Second // no byte of a body for this long
	objectTimeout = 15 * time.Second // a whole object
	listTimeout   = 60 * time.Second // a whole list
	maxObject     = 8 << 20

	mostRetryAfter = 30 * time.Second
)

// Cluster is a connection to one API server with one user's credentials. It is
// safe for concurrent use.
type Cluster struct {
	o         Options
	base      *url.URL
	rt        http.RoundTripper
	config    *rest.Config // of Connect
	context   string
	namespace string
	plugin    *plugin // nil: no credential plugin
	conns     *conns
	limit     limiter
	clock     clock
	random    func() float64

	mu      sync.Mutex
	health  Health
	warned  map[string]bool
	streams map[*stream]struct{}
}

// New returns a Cluster that sends everything through rt to base, credentials
// and trust being rt's business. Connect is the usual way.
func New(base *url.URL, rt http.RoundTripper, o Options) *Cluster {
	c := &Cluster{
		o: o, base: base, context: o.Context, namespace: o.Namespace, conns: &conns{},
		random: o.Random, warned: map[string]bool{}, streams: map[*stream]struct{}{},
	}
	c.rt = &guard{next: rt, warn: c.warn, clock: &c.clock}
	if c.namespace == "" {
		c.namespace = "default"
	}
	if c.random == nil {
		c.random = rand.Float64
	}
	return c
}

// Context is the kubeconfig context's name, or "in-cluster".
func (c *Cluster) Context() string { return c.context }

// Namespace is the wanted namespace, else the context's, else "default".
func (c *Cluster) Namespace() string { return c.namespace }

// Server is the API server's base URL, for messages.
func (c *Cluster) Server() string { return c.base.Redacted() }

// Now is the time on the server's clock, known from Date headers to about half
// a second. A local clock that may be right counts as right. It may step by
// less than a second while answers narrow it down.
func (c *Cluster) Now() time.Time { return c.clock.now() }

// Health tells how the server has been: what decides at a deadline between
// time up and unreachable. A genuine refusal counts as good: it was asked.
type Health struct {
	AnyGood      bool      // there was a genuine answer at all
	LastGood     time.Time // local clock; bytes of a watch count; zero: never
	FailingSince time.Time // the first failure after it; zero: the last exchange was good
	Last         error     // the last failure of that streak
}

// Health returns the state over all requests and watches so far.
func (c *Cluster) Health() Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health
}

func (c *Cluster) good() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health = Health{AnyGood: true, LastGood: time.Now()}
}

func (c *Cluster) bad(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.health.FailingSince.IsZero() {
		c.health.FailingSince = time.Now()
	}
	c.health.Last = err
}

// Close ends idle connections and stops reading credential plugins' words. The
// Cluster is of no use afterwards.
func (c *Cluster) Close() {
	c.conns.closeAll()
	if c.plugin != nil {
		c.plugin.close()
	}
}

func (c *Cluster) log(format string, args ...any) {
	if c.o.Log != nil {
		c.o.Log(format, args...)
	}
}

// warn hands on each API warning once.
func (c *Cluster) warn(text string) {
	c.mu.Lock()
	told := c.warned[text]
	c.warned[text] = true
	c.mu.Unlock()
	if !told && c.o.Warn != nil {
		c.o.Warn(text)
	}
}

// request is one GET.
type request struct {
	verb            string // as in permission rules: get, list, watch
	resource        Resource
	namespace, name string
	sub             string
	path            string // "" is the resource's
	query           url.Values
	accept          string        // "" is JSON
	total, idle     time.Duration // the limits of trip
}

func (q request) String() string {
	s := q.verb + " " + q.resource.String()
	if q.sub != "" {
		s += "/" + q.sub
	}
	if q.name != "" {
		s += " " + q.name
	}
	return s
}

// ask sends one attempt and returns a success's response, its body to be read
// and closed. The error is *StatusError, *UnreachableError, *PluginError or
// ctx's cause. Failures are noted in Health; a success is the reader's to note.
func (c *Cluster) ask(ctx context.Context, q request) (*http.Response, error) {
	if err := c.limit.wait(ctx); err != nil {
		return nil, err
	}
	path := q.path
	if path == "" {
		path = q.resource.path(q.namespace, q.name, q.sub)
	}
	u := c.base.JoinPath(path)
	u.RawQuery = q.query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, &UnreachableError{What: q.String(), Err: err}
	}
	req.Header.Set("Accept", "application/json")
	if q.accept != "" {
		req.Header.Set("Accept", q.accept)
	}
	start := time.Now()
	res, err := c.send(req, q)
	if err != nil {
		c.log("%s %s: %v (%s)", q, u.RequestURI(), err, time.Since(start).Round(time.Millisecond))
		return nil, err
	}
	c.log("%s %s: %d (%s)", q, u.RequestURI(), res.StatusCode, time.Since(start).Round(time.Millisecond))
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	e := statusError(q, res.StatusCode, res.Header, body)
	if e.Refused() || e.expired() {
		c.good()
	} else {
		c.bad(e)
	}
	return nil, e
}

// send runs the round trip. A credential plugin cannot be interrupted, so with
// one the round trip is left behind when ctx ends.
func (c *Cluster) send(req *http.Request, q request) (*http.Response, error) {
	ctx := req.Context()
	trip := &trip{total: q.total, idle: q.idle}
	req = req.WithContext(context.WithValue(ctx, tripKey{}, trip))
	type answer struct {
		res *http.Response
		err error
	}
	once := func() answer {
		res, err := c.rt.RoundTrip(req) //nolint:bodyclose // handed on, closed by the reader
		return answer{res, err}
	}
	var a answer
	if c.plugin == nil {
		a = once()
	} else {
		done := make(chan answer, 1)
		go func() { done <- once() }()
		select {
		case a = <-done:
		case <-ctx.Done():
			go func() {
				if a := <-done; a.res != nil {
					_ = a.res.Body.Close()
				}
			}()
			return nil, context.Cause(ctx)
		}
	}
	switch {
	case a.err == nil:
		return a.res, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case c.plugin != nil && !trip.sent.Load():
		return nil, &PluginError{Command: c.plugin.command, Stderr: c.plugin.said(), Err: a.err}
	}
	err := &UnreachableError{What: q.String(), Err: a.err}
	c.bad(err)
	return nil, err
}

// How refusals are believed. A plugin refreshes its token after a 401.
const (
	tries401 = 3
	tries403 = 2
	again401 = 250 * time.Millisecond
	again403 = 500 * time.Millisecond
)

// confirmed repeats f while its answer is a refusal of the credentials that
// has not been heard often enough to be believed: 401 and a failing plugin
// three times, 403 twice, all within two seconds.
func confirmed(ctx context.Context, f func() error) error {
	heard := 0
	for {
		err := f()
		if !IsDenied(err) {
			return err
		}
		need, wait := tries401, again401
		if IsForbidden(err) {
			need, wait = tries403, again403
		}
		if heard++; heard >= need {
			return err
		}
		if err := poll.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// Persist calls f until it returns something that is no transient failure, or
// ctx ends; waits follow the server's Retry-After, else grow from 250 ms to 5 s.
func (c *Cluster) Persist(ctx context.Context, f func(context.Context) error) error {
	waits := poll.Exponential(250*time.Millisecond, 5*time.Second, 0.25)
	for {
		err := f(ctx)
		if !IsTransient(err) {
			return err
		}
		if err := poll.Sleep(ctx, max(waits.Next(), retryAfter(err))); err != nil {
			return err
		}
	}
}

// Get returns one object as it is now: no resourceVersion is sent, so the
// server reads through. It is one attempt, a 401 and a 403 confirmed. The
// error is *StatusError, *UnreachableError, *PluginError or ctx's cause.
// Source: GET /apis/{group}/{version}/namespaces/{ns}/{plural}/{name}.
func (c *Cluster) Get(ctx context.Context, r Resource, ns, name string) (Object, error) {
	var o Object
	err := confirmed(ctx, func() (err error) {
		o, err = c.get(ctx, r, ns, name)
		return err
	})
	return o, err
}

func (c *Cluster) get(ctx context.Context, r Resource, ns, name string) (Object, error) {
	q := request{verb: "get", resource: r, namespace: ns, name: name, total: objectTimeout}
	raw, err := c.read(ctx, q, maxObject)
	if err != nil {
		return Object{}, err
	}
	o, err := decode(raw)
	if err == nil && o.Name != name {
		err = errNotObject
	}
	if err != nil {
		return Object{}, c.broken(ctx, q, err)
	}
	c.good()
	return o, nil
}

// Serves says whether the server knows the API group at all: that of a custom
// resource it answers otherwise as something in between would, with a page of
// its own. It is one attempt, a 401 and a 403 confirmed; the error is as Get's.
// Source: GET /apis.
func (c *Cluster) Serves(ctx context.Context, group string) (bool, error) {
	q := request{verb: "list", resource: Resource{Plural: "apigroups"}, path: "apis", total: objectTimeout}
	var all struct {
		Kind   string
		Groups []struct{ Name string }
	}
	err := confirmed(ctx, func() error {
		raw, err := c.read(ctx, q, maxObject)
		if err != nil {
			return err
		}
		if json.Unmarshal(raw, &all) != nil || all.Kind != "APIGroupList" {
			return c.broken(ctx, q, errNotObject)
		}
		c.good()
		return nil
	})
	for _, g := range all.Groups {
		if g.Name == group {
			return true, err
		}
	}
	return false, err
}

// read returns a whole body of at most limit bytes.
func (c *Cluster) read(ctx context.Context, q request, limit int64) (json.RawMessage, error) {
	res, err := c.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if n := res.ContentLength; n > 0 && n <= limit {
		b.Grow(int(n) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
	case n > limit:
		err = constError("the answer is too large")
	case n == 0 && q.sub == "":
		err = errCut
	}
	if err != nil {
		return nil, c.broken(ctx, q, err)
	}
	return b.Bytes(), nil
}

// broken is a success that could not be read or made out.
func (c *Cluster) broken(ctx context.Context, q request, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errCut
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) {
		err = errNotObject
	}
	e := &UnreachableError{What: q.String(), Err: err}
	c.bad(e)
	return e
}

// LogOptions choose what of a container's log is read.
type LogOptions struct {
	Container  string // "" is the only container
	Previous   bool   // of the container's previous run
	Tail       int    // lines from the end; 0 all
	LimitBytes int64  // 0 means 64 KiB
}

// Log returns a container's log so far; it never follows. The error is as
// Get's; a container that has not started is a *StatusError 400.
// Source: GET /api/v1/namespaces/{ns}/pods/{pod}/log.
func (c *Cluster) Log(ctx context.Context, ns, pod string, o LogOptions) ([]byte, error) {
	if o.LimitBytes <= 0 {
		o.LimitBytes = 64 << 10
	}
	v := url.Values{"limitBytes": {itoa(o.LimitBytes)}}
	if o.Container != "" {
		v.Set("container", o.Container)
	}
	if o.Previous {
		v.Set("previous", "true")
	}
	if o.Tail > 0 {
		v.Set("tailLines", itoa(int64(o.Tail)))
	}
	// The log is text; a refusal is JSON.
	q := request{
		verb: "get", resource: Core("pods"), namespace: ns, name: pod, sub: "log", query: v,
		accept: "application/json, */*", total: objectTimeout,
	}
	var b []byte
	err := confirmed(ctx, func() (err error) {
		// A server may overstep limitBytes; more than twice is not read.
		b, err = c.read(ctx, q, 2*o.LimitBytes+4096)
		if err == nil {
			c.good()
		}
		return err
	})
	return b, err
}

// guard is the innermost of our own: it limits the wait for headers and bytes
// once credentials are there, notes the server's clock and its warnings.
type guard struct {
	next  http.RoundTripper
	warn  func(string)
	clock *clock
}

var _ http.RoundTripper = (*guard)(nil)

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	outer := req.Context()
	t, _ := outer.Value(tripKey{}).(*trip)
	if t == nil {
		t = &trip{total: objectTimeout}
	}
	t.sent.Store(true)
	ctx, cancel := context.WithCancelCause(outer)
	head, headDone := context.WithTimeoutCause(ctx, headerTimeout, errNoHeader)
	disarm := context.AfterFunc(head, func() { cancel(context.Cause(head)) })
	sent := time.Now()
	res, err := g.next.RoundTrip(req.WithContext(ctx))
	inTime := disarm()
	headDone()
	if err == nil && !inTime {
		_ = res.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		err = why(err, context.Cause(ctx))
		cancel(nil)
		return nil, err
	}
	g.clock.heard(res.Header.Get("Date"), sent, time.Now())
	if values := res.Header["Warning"]; len(values) > 0 {
		warnings, _ := utilnet.ParseWarningHeaders(values) // what it makes out of a broken one is left out
		for _, w := range warnings {
			g.warn(w.Text)
		}
	}
	b := &body{ReadCloser: res.Body, ctx: ctx, cancel: cancel}
	idle := idleTimeout
	if t.idle > 0 {
		idle = t.idle
	}
	watched, feed, stop := poll.Watchdog(ctx, idle)
	b.feed, b.stop = feed, stop
	context.AfterFunc(watched, func() { cancel(context.Cause(watched)) })
	if t.total > 0 {
		whole, wholeDone := context.WithTimeoutCause(ctx, t.total, errCut)
		context.AfterFunc(whole, func() { cancel(context.Cause(whole)) })
		b.stop = func() { wholeDone(); stop() }
	}
	res.Body = b
	return res, nil
}
