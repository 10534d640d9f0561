package transport

import (
	"context"
	"net/http"
)

// Bearer writes s the way most servers want it. It is Options.SetToken's
// default.
func Bearer(h http.Header, s Secret) { h.Set("Authorization", "Bearer "+s.Reveal()) }

// token attaches the credential: innermost, so that no other layer sees it,
// and only when scheme, host and port are the configured ones (ADR 0009).
type token struct {
	next   http.RoundTripper
	origin Origin
	get    func(context.Context) (Secret, error)
	set    func(http.Header, Secret)
	redact *Redactor
}

var _ http.RoundTripper = (*token)(nil)

func (t *token) RoundTrip(req *http.Request) (*http.Response, error) {
	if o, err := OriginOf(req.URL); err != nil || o != t.origin {
		return t.next.RoundTrip(req)
	}
	s, err := t.get(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, &TokenError{Err: err}
	}
	if s.IsZero() {
		return t.next.RoundTrip(req)
	}
	t.redact.Add(s)
	req = req.Clone(req.Context())
	t.set(req.Header, s)
	return t.next.RoundTrip(req)
}
