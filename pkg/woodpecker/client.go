package woodpecker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"homelab/pkg/transport"
)

// Options builds a Client.
type Options struct {
	Base      *url.URL          // may carry a root path
	Transport http.RoundTripper // pin, token and log, without retry
	CloseIdle func()            // drops idle connections after repeated failure; nil: nothing

	Trouble   func(error)                      // once when trouble begins; nil: silent
	Recovered func(after time.Duration)        // once when it ends
	Log       func(format string, args ...any) // retries, for --verbose
	Exact     bool                             // no jitter: for tests of schedules
}

// Client asks one server. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	retry *transport.Retry
	once  *transport.Retry // the same limits, and every answer is taken as it is: streams, health

	mu      sync.Mutex
	version Version       // from the last answer that carried one
	seen    bool          // some answer carried the version header
	skew    time.Duration // server clock minus ours
	user    User          // the token's owner, once asked
}

const versionHeader = "X-Woodpecker-Version"

// New returns a client of o.Base. Nothing is dialled.
func New(o Options) *Client {
	c := &Client{base: o.Base}
	c.once = transport.NewRetry(transport.RetryOptions{Next: o.Transport, Judge: takeAsIs})
	jitter := 0.25
	if o.Exact {
		jitter = 0
	}
	c.retry = transport.NewRetry(transport.RetryOptions{
		Next:      o.Transport,
		Judge:     c.judge,
		Healthy:   c.healthy,
		CloseIdle: o.CloseIdle,
		Trouble:   o.Trouble,
		Recovered: o.Recovered,
		Log:       o.Log,
		Jitter:    jitter,
	})
	return c
}

// Now returns the server's clock as its last Date header told it, to the
// second; before any answer, the local clock.
func (c *Client) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.skew)
}

// Version returns what the last answer's header called the server; "" before
// any answer.
func (c *Client) Version() Version {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// Health returns how contact with the server stands.
func (c *Client) Health() transport.Health { return c.retry.Health() }

// PageURL returns the web page of a pipeline, or of one step of it (pid > 0).
func (c *Client) PageURL(id RepoID, number int64, pid int) string {
	u := c.base.JoinPath("repos", itoa(int64(id)), "pipeline", itoa(number))
	if pid > 0 {
		u = u.JoinPath(strconv.Itoa(pid))
	}
	u.RawQuery, u.Fragment = "", ""
	return u.String()
}

// request is one call: what to ask, and what makes its answer good.
type request struct {
	op     string
	method string
	path   []string // below the base; segments are escaped here
	query  url.Values
	body   any
	decode func([]byte) error // nil: no body is due

	empty func(http.Header) bool // says whether a 204 with that header is an answer; nil: none is
}

func api(segments ...string) []string { return append([]string{"api"}, segments...) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	u := *c.base
	u.RawQuery, u.Fragment = "", ""
	var escaped strings.Builder
	escaped.WriteString(strings.TrimSuffix(c.base.EscapedPath(), "/"))
	for _, s := range r.path {
		escaped.WriteString("/" + url.PathEscape(s))
	}
	path, err := url.PathUnescape(escaped.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.op, err)
	}
	u.Path, u.RawPath = path, escaped.String()
	u.RawQuery = r.query.Encode()
	var body io.Reader
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.op, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.op, err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// do asks and decodes. It returns the good answer's header, or *APIError, or
// ctx's cause.
func (c *Client) do(ctx context.Context, r request) (http.Header, error) {
	call := transport.Call{Name: r.op, Budget: patience(ctx), Check: r.verify}
	req, err := c.newRequest(transport.WithCall(ctx, call), r)
	if err != nil {
		return nil, err
	}
	resp, err := c.retry.RoundTrip(req)
	if err != nil {
		return nil, c.fail(ctx, r, err)
	}
	return resp.Header, resp.Body.Close()
}

// verify judges what only decoding shows: exactly one JSON value of the
// expected shape.
func (r request) verify(resp *http.Response, body []byte) error {
	switch {
	case resp.StatusCode == http.StatusNoContent && r.empty != nil && r.empty(resp.Header):
		return nil
	case len(bytes.TrimSpace(body)) == 0:
		return errors.New("an empty answer where a body is due")
	case r.decode == nil:
		return errors.New("a body where none is due")
	}
	return r.decode(body)
}

// into decodes a body into *out, replacing what an earlier attempt left there,
// and checks its shape.
func into[T any](out *T, check func(T) error) func([]byte) error {
	return func(body []byte) error {
		if bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
			return errors.New("null where a value is due")
		}
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			return fmt.Errorf("broken JSON: %w", err)
		}
		if err := exactKeys(json.NewDecoder(bytes.NewReader(body)), reflect.TypeFor[T]()); err != nil {
			return err
		}
		if check != nil {
			if err := check(v); err != nil {
				return err
			}
		}
		*out = v
		return nil
	}
}

type patienceKey struct{}

// WithPatience lets calls under ctx fail for d without a break before they
// give up; without it, the transport's default holds.
func WithPatience(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, d)
}

func patience(ctx context.Context) time.Duration {
	d, _ := ctx.Value(patienceKey{}).(time.Duration)
	return d
}

type impatientKey struct{}

// Impatient lets calls under ctx end with the first passing fault, for callers
// that look again by a schedule of their own. Refusals are still confirmed.
func Impatient(ctx context.Context) context.Context {
	return context.WithValue(WithPatience(ctx, time.Second), impatientKey{}, true)
}

func impatient(req *http.Request) bool {
	if req == nil {
		return false
	}
	on, _ := req.Context().Value(impatientKey{}).(bool)
	return on
}

type unconfirmedKey struct{}

// Unconfirmed lets calls under ctx report the server's 404 as answered once,
// for callers that prove in another way whether a row is gone. Without it a 404
// is believed after it has been repeated.
func Unconfirmed(ctx context.Context) context.Context {
	return context.WithValue(ctx, unconfirmedKey{}, true)
}

func unconfirmed(req *http.Request) bool {
	if req == nil {
		return false
	}
	on, _ := req.Context().Value(unconfirmedKey{}).(bool)
	return on
}

// askOnce asks a single time, whatever comes, and leaves no trace in Health:
// for questions whose answer is welcome and not needed.
func (c *Client) askOnce(ctx context.Context, r request) error {
	req, err := c.newRequest(transport.WithCall(ctx, transport.Call{Name: r.op}), r)
	if err != nil {
		return err
	}
	x := transport.Exchange{Request: req}
	if resp, err := c.once.RoundTrip(req); err != nil {
		x.Err = bare(err)
	} else {
		x.Response = resp
		x.Body, x.Err = io.ReadAll(resp.Body) // in memory and bounded already
		_ = resp.Body.Close()
	}
	j := c.judge(x)
	if j.Class == transport.Answer {
		j.Err = r.verify(x.Response, x.Body)
	}
	if j.Err == nil {
		return nil
	}
	return c.fail(ctx, r, j.Err)
}

// bare takes the retry layer's name for the call off err: ours follows.
func bare(err error) error {
	if final, ok := errors.AsType[*transport.FinalError](err); ok {
		return final.Err
	}
	return err
}

// fail turns what the retry layer reports into an *APIError about this call.
func (c *Client) fail(ctx context.Context, r request, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	out := &APIError{Op: r.op, Class: Exhausted}
	var inner *APIError
	if errors.As(err, &inner) {
		out.Status, out.Text, out.Err, out.Class = inner.Status, inner.Text, inner.Err, inner.Class
		out.RetryAfter = inner.RetryAfter
	} else {
		out.Err = bare(err)
	}
	var exhausted *transport.ExhaustedError
	var refused *transport.RefusedError
	switch {
	case errors.As(err, &exhausted):
		out.Tries, out.For = exhausted.Tries, exhausted.For
		out.Class = Exhausted
		switch {
		case inner == nil:
			out.Err = exhausted.Last
		case errors.Is(exhausted.Last, errUnhealthy):
			out.Err = errUnhealthy
		}
		if r.method != http.MethodGet {
			out.Class = Doubtful
		}
	case r.method != http.MethodGet && odd(out.Class, err):
		out.Class = Doubtful
	case errors.As(err, &refused):
		out.Tries = refused.Times
		if inner == nil {
			out.Class, out.Status = Refused, refused.Status
		}
	}
	return out
}

// odd says whether an answer to a write is none of the API's, so that it says
// nothing about the write: a page, a redirect, more than can be read.
func odd(c Class, err error) bool {
	_, tooLarge := errors.AsType[*transport.TooLargeError](err)
	return c == WrongPath || c == Misdirected || tooLarge
}

// get reads path into a T; check may refuse its shape.
func get[T any](ctx context.Context, c *Client, op string, path []string, query url.Values, check func(T) error) (T, error) {
	var out T
	_, err := c.do(ctx, request{op: op, method: http.MethodGet, path: path, query: query, decode: into(&out, check)})
	return out, err
}
