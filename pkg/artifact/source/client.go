package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/share"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
)

// Options of NewClient.
type Options struct {
	Next      http.RoundTripper                // one origin's *transport.Stack; required
	CloseIdle func()                           // the stack's CloseIdleConnections; nil: nothing
	Log       func(format string, args ...any) // -v; nil: silent
	Host      *share.Host                      // what the watches of this process have in common there; nil: nothing
	// Brief says that no connection is kept for the next request: too many ways
	// lead to the host for each to have one. nil: they are kept.
	Brief  func() bool
	Shared string  // questions of clients with the same text are the same; "": not shared
	Jitter float64 // of the questions that confirm a refusal; 0.25 is ±25 %
}

// Client asks one server. It is safe for concurrent use and dials nothing
// before it is asked.
type Client struct {
	retry  *transport.Retry
	host   *share.Host
	shared string
	brief  func() bool
	idle   func()
}

// NewClient returns a client.
func NewClient(o Options) *Client {
	return &Client{host: o.Host, shared: o.Shared, brief: o.Brief, idle: o.CloseIdle, retry: transport.NewRetry(transport.RetryOptions{
		Next: o.Next, Judge: judge, CloseIdle: o.CloseIdle, Log: o.Log, Jitter: o.Jitter,
	})}
}

// Request is one GET.
type Request struct {
	Name    string // for people: "newest build of www"
	URL     *url.URL
	Header  http.Header
	MaxBody int64 // bytes; 0: 8 MiB
	// Stream hands a 2xx body on unread; close it.
	Stream bool
	// Unread says that of a stream only status and headers are wanted.
	Unread bool
	// Redirect, if set, sees the Location of a redirect, which then is the
	// answer and is not followed. Its error refuses the answer.
	Redirect func(to *url.URL) error
	// Also are statuses that are answers besides 2xx and redirects.
	Also []int
	// Known is what has succeeded before if any request with it has, which makes
	// a refusal harder to believe; "": the path. Paths without end need one, as
	// it is remembered.
	Known string
	// Check looks at a body that was read; its error makes the answer nonsense.
	Check func(body []byte) error
}

type requestKey struct{}

// Get asks. The answer is a 2xx, a redirect if r wants it, or a status of
// r.Also. The error is *artifact.Failure or ctx's cause: Absent (404, 410) and
// Denied (any other 4xx) were confirmed, as was Refused, which is a redirect
// that leads away; all else is Transient.
func (c *Client) Get(ctx context.Context, r Request) (*http.Response, error) {
	if c.host == nil {
		return c.get(ctx, r)
	}
	if r.Stream && (r.Unread || conditional(r)) { // no body is due: no turn for bodies is waited for
		if resp, err := c.glance(ctx, r); resp != nil || err != nil {
			return resp, err
		}
	}
	give, err := c.host.Enter(ctx, r.Stream)
	if err != nil {
		return nil, err
	}
	leave := func() { c.shed(); give() }
	resp, err := c.get(ctx, r)
	if err != nil {
		leave()
		if said, yes := limited(err); yes {
			c.host.Hold(said)
		}
		return nil, err
	}
	resp.Body = &turn{resp.Body, leave}
	return resp, nil
}

func (c *Client) get(ctx context.Context, r Request) (*http.Response, error) {
	call := transport.Call{Name: r.Name, MaxBody: r.MaxBody, Stream: r.Stream, Known: r.Known, ByHand: r.Redirect != nil}
	ctx = transport.WithCall(context.WithValue(ctx, requestKey{}, &r), call)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL.String(), nil)
	if err != nil {
		return nil, Failf(artifact.Transient, err, "%s: %v", r.Name, err)
	}
	maps.Copy(req.Header, r.Header)
	// A body that is decoded on the way has another length and another hash.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := c.retry.RoundTrip(req)
	if err == nil {
		return resp, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if f, ok := errors.AsType[*artifact.Failure](err); ok {
		return nil, f
	}
	class := artifact.Transient
	if _, ok := errors.AsType[*transport.TokenError](err); ok {
		class = artifact.Denied // nothing was sent: the credential cannot be had
	}
	return nil, Failf(class, err, "%v", err)
}

// Ask is Get for who needs no body but what r.Check saw of it.
func (c *Client) Ask(ctx context.Context, r Request) (status int, header http.Header, err error) {
	if c.host != nil && c.shared != "" && !r.Stream {
		return c.hear(ctx, r)
	}
	resp, err := c.Get(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, resp.Header, resp.Body.Close()
}

// judge sorts the exchanges of all sources. What passes is not asked again
// here, hence Final.
func judge(x transport.Exchange) transport.Judgement {
	r, _ := x.Request.Context().Value(requestKey{}).(*Request)
	if r == nil {
		r = &Request{}
	}
	fail := func(class artifact.Class, format string, args ...any) transport.Judgement {
		j := transport.Judgement{Class: transport.Confirm, Err: Failf(class, x.Err, "%s: %s", r.Name, fmt.Sprintf(format, args...))}
		if class == artifact.Transient {
			j.Class = transport.Final
		}
		return j
	}
	if x.Response == nil {
		if _, ok := errors.AsType[*transport.RedirectError](x.Err); ok {
			return fail(artifact.Refused, "%v", x.Err)
		}
		j := fail(artifact.Transient, "%v", x.Err)
		if _, ok := errors.AsType[*transport.CertificateError](x.Err); ok {
			j.Class, j.Times = transport.Confirm, 2 // a new address may have come into use
		}
		return j
	}
	status := x.Response.StatusCode
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		j := fail(artifact.Transient, "%s", said(x))
		f, _ := errors.AsType[*artifact.Failure](j.Err)
		f.RetryAfter = min(max(transport.RetryAfter(x.Response), reset(x.Response.Header)), mostReset)
		f.Limited = status == http.StatusTooManyRequests
		return j
	case slices.Contains(r.Also, status):
		return transport.Judgement{Class: transport.Answer}
	case r.Redirect != nil && redirects(status):
		to, err := x.Request.URL.Parse(x.Response.Header.Get("Location"))
		if err == nil && x.Response.Header.Get("Location") == "" {
			err = errors.New("without an address")
		}
		if err == nil {
			err = r.Redirect(to)
		}
		if err != nil {
			return fail(artifact.Refused, "a redirect (%d) that is not followed: %v", status, err)
		}
		return transport.Judgement{Class: transport.Answer}
	case x.Err != nil:
		return fail(artifact.Transient, "%v", x.Err)
	case status/100 == 2:
		if e := x.Response.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
			return fail(artifact.Transient, "encoded as %s on the way, which was not asked for", Text(e))
		}
		if r.Check != nil && !r.Stream {
			if err := r.Check(x.Body); err != nil {
				return fail(artifact.Transient, "%v", err)
			}
		}
		return transport.Judgement{Class: transport.Answer}
	case status == http.StatusNotFound, status == http.StatusGone:
		return fail(artifact.Absent, "%s", said(x))
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status/100 != 4:
		return fail(artifact.Transient, "%s", said(x))
	}
	return fail(artifact.Denied, "%s", said(x))
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// said is an error answer's status and its words, if they are for people and
// not a page.
func said(x transport.Exchange) string {
	text := strconv.Itoa(x.Response.StatusCode) + " " + http.StatusText(x.Response.StatusCode)
	if kind, _, _ := mime.ParseMediaType(x.Response.Header.Get("Content-Type")); kind != "text/plain" {
		return text
	}
	if words := Text(string(x.Body)); words != "" {
		text += ": " + words
	}
	return text
}

// Limit is how soon the server wants the next request; 0 it does not say.
func Limit(header http.Header) time.Duration {
	if strings.TrimSpace(header.Get("RateLimit-Remaining")) != "0" {
		return 0
	}
	return reset(header)
}

// mostReset keeps a server from silencing a watch for good.
const mostReset = time.Hour

// reset is how long the server says its limit lasts, at most an hour.
func reset(header http.Header) time.Duration {
	n, err := strconv.ParseUint(strings.TrimSpace(header.Get("RateLimit-Reset")), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, mostReset)
}

// Failf returns a failure of the class; cause may be nil. Its text is cleaned.
func Failf(class artifact.Class, cause error, format string, args ...any) *artifact.Failure {
	return &artifact.Failure{Class: class, What: Text(fmt.Sprintf(format, args...)), Err: cause}
}

// IsAbsent reports whether err says that nothing is there.
func IsAbsent(err error) bool {
	f, ok := errors.AsType[*artifact.Failure](err)
	return ok && f.Class == artifact.Absent
}

const maxText = 500 // bytes of foreign text that are kept

// Text makes foreign text fit for one line of a story.
func Text(s string) string {
	s = strings.Join(strings.Fields(ui.Clean(s)), " ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// ErrMore is of a body that is longer than it may be.
var ErrMore = errors.New("more bytes than were announced or are allowed")

// Copy hands resp's body on to w, at most most bytes, and closes it. The error
// is w's own, ErrMore, ctx's cause, or Transient for a body that was cut.
func Copy(ctx context.Context, w io.Writer, resp *http.Response, most int64) (int64, error) {
	defer func() { _ = resp.Body.Close() }()
	buf := make([]byte, 64<<10)
	var n int64
	for {
		got, err := resp.Body.Read(buf)
		if int64(got) > most-n {
			return n, ErrMore
		}
		if got > 0 {
			if _, err := w.Write(buf[:got]); err != nil {
				return n, err
			}
			n += int64(got)
		}
		switch {
		case err == nil:
			continue
		case !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			if ctx.Err() != nil {
				return n, context.Cause(ctx)
			}
			return n, Failf(artifact.Transient, err, "cut after %d bytes: %v", n, err)
		case resp.ContentLength >= 0 && n != resp.ContentLength:
			return n, Failf(artifact.Transient, nil, "cut after %d of %d bytes", n, resp.ContentLength)
		}
		return n, nil
	}
}
