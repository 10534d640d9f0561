package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/share"
)

// turn gives a turn at a host back when the body is closed.
type turn struct {
	io.ReadCloser
	leave func()
}

func (t *turn) Close() error {
	defer t.leave()
	return t.ReadCloser.Close()
}

// shed closes the connections that nobody uses, where they are not to be kept.
func (c *Client) shed() {
	if c.brief != nil && c.idle != nil && c.brief() {
		c.idle()
	}
}

// limited says whether err is of a server that counts requests.
func limited(err error) (time.Duration, bool) {
	f, ok := errors.AsType[*artifact.Failure](err)
	if !ok || !f.Limited {
		return 0, false
	}
	return f.RetryAfter, true
}

// question is all that the answer to r depends on; "" it is not shared.
func (c *Client) question(r Request) string {
	if c.shared == "" {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n%v %v %d\n", c.shared, r.URL, r.Also, r.Redirect != nil, r.MaxBody)
	keys := make([]string, 0, len(r.Header))
	for key := range r.Header {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		fmt.Fprintf(&b, "%s: %q\n", key, r.Header[key])
	}
	return b.String()
}

// heard is an answer that was read.
type heard struct {
	status int
	header http.Header
	body   []byte
	size   int64 // announced
}

// Large says that it is not kept.
func (a heard) Large() bool { return len(a.body) > mostKept }

// mostKept is the longest body that is kept, in bytes.
const mostKept = 64 << 10

// mostHeard is the longest body that is read for several.
const mostHeard = 16 << 20

// hear is Ask for a question that others may put as well. What the answer means
// is up to each of them.
func (c *Client) hear(ctx context.Context, r Request) (int, http.Header, error) {
	plain := r
	plain.Check = nil
	if r.Redirect != nil {
		plain.Redirect = func(*url.URL) error { return nil }
	}
	a, err := share.Ask(ctx, c.host, c.question(r), limited, func(ctx context.Context) (heard, error) {
		defer c.shed()
		resp, err := c.get(ctx, plain)
		if err != nil {
			return heard{}, err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(io.LimitReader(resp.Body, mostHeard))
		if err != nil {
			return heard{}, Failf(artifact.Transient, err, "%s: %v", r.Name, err)
		}
		return heard{resp.StatusCode, resp.Header, body, resp.ContentLength}, nil
	})
	if err != nil {
		return 0, nil, err
	}
	switch {
	case r.Redirect != nil && redirects(a.status):
		to, err := r.URL.Parse(a.header.Get("Location"))
		if err == nil {
			err = r.Redirect(to)
		}
		if err != nil {
			return c.alone(ctx, r) // which asks again before it is believed
		}
	case r.Check != nil && a.status/100 == 2:
		if err := r.Check(a.body); err != nil {
			return 0, nil, Failf(artifact.Transient, err, "%s: %v", r.Name, err)
		}
	}
	return a.status, a.header, nil
}

// alone is Ask for one watch.
func (c *Client) alone(ctx context.Context, r Request) (int, http.Header, error) {
	resp, err := c.Get(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, resp.Header, resp.Body.Close()
}

// conditional says whether r may be answered with "not modified".
func conditional(r Request) bool {
	return slices.Contains(r.Also, http.StatusNotModified) &&
		(len(r.Header["If-None-Match"]) > 0 || len(r.Header["If-Modified-Since"]) > 0)
}

// same says whether a is of what the question named, by a server that does not
// answer "not modified": nobody reads that body.
func same(r Request, a heard) bool {
	etag := a.header.Values("ETag")
	return a.status == http.StatusOK && len(etag) == 1 && slices.Equal(r.Header["If-None-Match"], etag)
}

// glance is Get for a question that others may put as well and whose answer is
// "not modified" mostly. A body is of one watch: where there is one, the answer
// is nil, and each of them asks for it.
func (c *Client) glance(ctx context.Context, r Request) (*http.Response, error) {
	a, err := share.Ask(ctx, c.host, c.question(r), limited, func(ctx context.Context) (heard, error) {
		defer c.shed()
		resp, err := c.get(ctx, r)
		if err != nil {
			return heard{}, err
		}
		_ = resp.Body.Close()
		return heard{status: resp.StatusCode, header: resp.Header, size: resp.ContentLength}, nil
	})
	if err != nil || a.status/100 == 2 && !r.Unread && !same(r, a) {
		return nil, err
	}
	return &http.Response{
		Status: fmt.Sprint(a.status, " ", http.StatusText(a.status)), StatusCode: a.status, ContentLength: a.size, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: http.NoBody,
	}, nil
}
