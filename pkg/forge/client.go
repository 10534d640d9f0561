// Package forge asks a git forge for pull requests: Forgejo and Gitea, which
// speak one API, and GitHub. It finds, makes and reads them, and says what the
// forge refused in the forge's own words. What a refusal means for a landing
// is for its callers.
//
// A request that makes something is sent once. After an unclear reply the
// client looks before it repeats (ADR 0005), so that a lost reply never makes
// two pull requests of one.
package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"homelab/pkg/transport"
)

// Kind is the API a forge speaks.
type Kind string

// Every kind. Forgejo and Gitea differ in the name of their token only.
const (
	Forgejo Kind = "forgejo"
	Gitea   Kind = "gitea"
	GitHub  Kind = "github"
)

// API returns the root of the API of a forge whose pages are at web. It is
// also the one origin that may be sent the token.
func API(kind Kind, web *url.URL) *url.URL {
	switch kind {
	case GitHub:
		if strings.EqualFold(web.Hostname(), "github.com") {
			return &url.URL{Scheme: "https", Host: "api.github.com"}
		}
		return web.JoinPath("api", "v3")
	case Forgejo, Gitea:
	}
	return web.JoinPath("api", "v1")
}

// SetToken returns how a kind of forge wants its token written.
func SetToken(kind Kind) func(http.Header, transport.Secret) {
	if kind == GitHub {
		return transport.Bearer
	}
	return func(h http.Header, s transport.Secret) { h.Set("Authorization", "token "+s.Reveal()) }
}

// Options builds a Client.
type Options struct {
	Kind      Kind
	API       *url.URL          // of API
	Transport http.RoundTripper // pin, token and log, without retry
	CloseIdle func()            // drops idle connections after repeated failure; nil: nothing
	Log       func(format string, args ...any)
}

// Client asks one forge. It is safe for concurrent use.
type Client struct {
	kind  Kind
	api   *url.URL
	retry *transport.Retry
}

// New returns a client. Nothing is dialled.
func New(o Options) *Client {
	return &Client{kind: o.Kind, api: o.API, retry: transport.NewRetry(transport.RetryOptions{
		Next: o.Transport, Judge: judge, CloseIdle: o.CloseIdle, Log: o.Log, Jitter: 0.25,
	})}
}

// Class says what kind of no an error is.
type Class string

// Every class.
const (
	Refused     Class = "refused"     // 401, 403 or 404, confirmed by asking again where that is safe
	Rejected    Class = "rejected"    // the forge understood and says no
	Unreachable Class = "unreachable" // no usable answer: what was asked is unknown
)

// APIError is what the forge, or the way there, said.
type APIError struct {
	Op     string // "GET acme/site"
	Class  Class
	Status int    // 0 without an answer
	Text   string // the forge's words, foreign; may be empty
	Err    error
}

func (e *APIError) Error() string {
	what := string(e.Class)
	if e.Status != 0 {
		what = fmt.Sprintf("%d", e.Status)
	}
	if e.Text != "" {
		return fmt.Sprintf("%s: %s: %s", e.Op, what, e.Text)
	}
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return e.Op + ": " + what
}

func (e *APIError) Unwrap() error { return e.Err }

// judge sorts an exchange. A forge that is restarted, or a proxy before it,
// answers 401 and 404 falsely: refusals are believed after asking again.
func judge(x transport.Exchange) transport.Judgement {
	no := func(class transport.Class, kind Class, err error) transport.Judgement {
		e := &APIError{Class: kind, Err: err}
		if x.Response != nil {
			e.Status, e.Text = x.Response.StatusCode, words(x.Body)
		}
		return transport.Judgement{Class: class, Err: e}
	}
	if token := (*transport.TokenError)(nil); errors.As(x.Err, &token) {
		return no(transport.Final, Refused, x.Err)
	}
	if cert := (*transport.CertificateError)(nil); errors.As(x.Err, &cert) {
		return no(transport.Final, Unreachable, x.Err)
	}
	if away := (*transport.RedirectError)(nil); errors.As(x.Err, &away) {
		return no(transport.Final, Unreachable, x.Err) // it would be the same every time
	}
	if x.Response == nil || x.Err != nil {
		return no(transport.Transient, Unreachable, x.Err)
	}
	switch status := x.Response.StatusCode; {
	case status >= 200 && status < 300:
		kind, _, err := mime.ParseMediaType(x.Response.Header.Get("Content-Type"))
		if err != nil || kind != "application/json" || !json.Valid(x.Body) {
			return no(transport.Transient, Unreachable, errors.New("no JSON where an answer is due"))
		}
		return transport.Judgement{Class: transport.Answer}
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		if status == http.StatusForbidden && x.Response.Header.Get("X-RateLimit-Remaining") == "0" {
			return no(transport.Transient, Unreachable, errors.New("the rate limit is used up"))
		}
		return no(transport.Confirm, Refused, nil)
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return no(transport.Transient, Unreachable, nil)
	case status >= 400:
		return no(transport.Final, Rejected, nil)
	}
	return no(transport.Transient, Unreachable, errors.New("a redirect, or an answer of no known kind"))
}

// words returns the message of an error's JSON body, and GitHub's details.
func words(body []byte) string {
	var b struct {
		Message string `json:"message"`
		Errors  []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &b) != nil {
		return ""
	}
	out := []string{b.Message}
	for _, e := range b.Errors {
		if e.Message != "" {
			out = append(out, e.Message)
		}
	}
	return strings.Join(out, "; ")
}

// do sends one request below the API's root and decodes its answer.
func (c *Client) do(ctx context.Context, method string, query url.Values, in, out any, path ...string) error {
	op := method + " " + strings.Join(path, "/")
	escaped := make([]string, len(path))
	for i, p := range path {
		escaped[i] = url.PathEscape(p)
	}
	u := c.api.JoinPath(escaped...)
	u.RawQuery = query.Encode()
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(transport.WithCall(ctx, transport.Call{Name: op}), method, u.String(), body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.retry.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		said := &APIError{Class: Unreachable, Err: err}
		if own := (*APIError)(nil); errors.As(err, &own) {
			said = &APIError{Class: own.Class, Status: own.Status, Text: own.Text, Err: err}
		}
		said.Op = op
		return said
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return &APIError{Op: op, Class: Unreachable, Status: resp.StatusCode, Err: err}
	}
	return nil
}

// unclear is the pause before looking what became of a request.
const unclear = 300 * time.Millisecond
