package woodpecker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"homelab/pkg/transport"
)

// judge is the one place that sorts an exchange with the server. Its table is
// tested with recorded answers.
func (c *Client) judge(x transport.Exchange) transport.Judgement {
	c.note(x.Response)
	j := judge(x, c.sawVersion())
	if j.Class == transport.Transient && impatient(x.Request) {
		j.Class = transport.Final
	}
	return j
}

// judge says what an exchange is worth: an answer, a passing fault, or a
// refusal to be confirmed. sawVersion: earlier answers of this run carried the
// server's version header, so one without it comes from something in front.
func judge(x transport.Exchange, sawVersion bool) transport.Judgement {
	if x.Response == nil {
		return judgeNoResponse(x)
	}
	resp := x.Response
	status := resp.StatusCode
	ours := resp.Header.Get(versionHeader) != ""
	no := func(class transport.Class, kind Class, err error) transport.Judgement {
		return transport.Judgement{
			Class: class, RetryAfter: transport.RetryAfter(resp),
			Err: &APIError{Class: kind, Status: status, Text: words(resp, x.Body), Err: err, RetryAfter: transport.RetryAfter(resp)},
		}
	}
	var redirect *transport.RedirectError
	switch {
	case errors.As(x.Err, &redirect):
		return no(transport.Confirm, Misdirected, x.Err)
	case status >= 300 && status < 400:
		return no(transport.Transient, Exhausted, errors.New("a redirect that leads nowhere, a proxy answers"))
	case x.Err != nil:
		if _, ok := errors.AsType[*transport.TooLargeError](x.Err); ok {
			return no(transport.Final, Rejected, x.Err)
		}
		return no(transport.Transient, Exhausted, x.Err)
	case status == http.StatusNoContent && !ours && sawVersion:
		return no(transport.Transient, Exhausted, errors.New("without the server's version, a proxy answers"))
	case status == http.StatusNoContent:
		return transport.Judgement{Class: transport.Answer}
	case status >= 200 && status < 300:
		switch kind := mediaType(resp); {
		case kind == "application/json":
			return transport.Judgement{Class: transport.Answer}
		case kind == "text/html" && ours:
			return no(transport.Confirm, WrongPath, errors.New("its web page instead of an API answer: the base URL is wrong or the server is too old"))
		case x.Body != nil && len(x.Body) == 0:
			return no(transport.Transient, Exhausted, errors.New("an empty answer where a body is due"))
		case !ours:
			return no(transport.Transient, Exhausted, fmt.Errorf("%s without the server's version, a proxy answers", orNone(kind)))
		default:
			return no(transport.Transient, Exhausted, fmt.Errorf("%s where JSON is due", orNone(kind)))
		}
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly,
		status == http.StatusTooManyRequests, status >= 500:
		return no(transport.Transient, Exhausted, nil)
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		if !ours && sawVersion {
			return no(transport.Transient, Exhausted, errors.New("without the server's version, a proxy answers"))
		}
		if status == http.StatusNotFound && unconfirmed(x.Request) {
			return no(transport.Final, Refused, nil)
		}
		return no(transport.Confirm, Refused, nil)
	case status >= 400:
		return no(transport.Final, Rejected, nil)
	}
	return no(transport.Transient, Exhausted, errors.New("an answer of no known kind"))
}

// takeAsIs is the judge of what is asked once: whatever comes is handed on.
func takeAsIs(x transport.Exchange) transport.Judgement {
	if x.Response == nil || x.Err != nil {
		return transport.Judgement{Class: transport.Final, Err: x.Err}
	}
	return transport.Judgement{Class: transport.Answer}
}

// judgeNoResponse sorts connections that gave no answer. A certificate is
// looked at once more: a new address may have come into use. A redirect away
// from the server may be a proxy's login page for a moment, so it is confirmed
// like any other refusal.
func judgeNoResponse(x transport.Exchange) transport.Judgement {
	var cert *transport.CertificateError
	var redirect *transport.RedirectError
	switch {
	case errors.As(x.Err, &cert):
		return transport.Judgement{Class: transport.Confirm, Times: 2, Err: &APIError{Class: Untrusted, Err: x.Err}}
	case errors.As(x.Err, &redirect):
		return transport.Judgement{Class: transport.Confirm, Err: &APIError{Class: Misdirected, Err: x.Err}}
	}
	return transport.Judgement{Class: transport.Transient, Err: &APIError{Class: Exhausted, Err: x.Err}}
}

func orNone(kind string) string {
	if kind == "" {
		return "an answer without a type"
	}
	return kind
}

func mediaType(resp *http.Response) string {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}

const maxWords = 300 // bytes of a server's error text that are kept

// words returns what the server said in an error answer: its text, not the
// markup of a proxy's page.
func words(resp *http.Response, body []byte) string {
	if resp.StatusCode < 400 {
		return ""
	}
	if kind := mediaType(resp); kind != "text/plain" && kind != "application/json" && kind != "" {
		return ""
	}
	text := strings.TrimSpace(string(body))
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return strings.Join(strings.Fields(text), " ")
}

// note keeps what every answer tells beside its body: the server's version and
// clock. A proxy's answer tells neither.
func (c *Client) note(resp *http.Response) {
	if resp == nil {
		return
	}
	version := resp.Header.Get(versionHeader)
	if version == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version, c.seen = Version(version), true
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		c.skew = skew(at, time.Now())
	}
}

// skew returns the difference to the server's clock. Date counts whole
// seconds, so a difference of under two seconds is none.
func skew(server, local time.Time) time.Duration {
	d := server.Sub(local)
	if d > -2*time.Second && d < 2*time.Second {
		return 0
	}
	return d
}

func (c *Client) sawVersion() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

var errUnhealthy = errors.New("while its database is not healthy")

// healthy asks the server whether its database answers: while it does not, a
// 401 or 404 means nothing. Only the documented 500 counts; whatever else
// fails here is a fault of the way, not of the database.
func (c *Client) healthy(ctx context.Context) error {
	req, err := c.newRequest(transport.WithCall(ctx, transport.Call{Name: "health", Total: 3 * time.Second}),
		request{op: "health", method: http.MethodGet, path: []string{"healthz"}})
	if err != nil {
		return err
	}
	resp, err := c.once.RoundTrip(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // lets the connection be reused
	if resp.StatusCode == http.StatusInternalServerError {
		return errUnhealthy
	}
	return nil
}
