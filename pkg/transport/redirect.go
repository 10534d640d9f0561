package transport

import (
	"io"
	"net/http"
)

// maxHops is how many redirects in a row are followed.
const maxHops = 3

// redirect follows a GET's redirects inside the origin and turns every other
// one into a *RedirectError (ADR 0023), unless the call wants to see them itself:
// where the address is the answer, following it costs a request. It stands outside the token layer, so
// each hop is checked again before it gets the credential.
type redirect struct {
	next http.RoundTripper
}

var _ http.RoundTripper = (*redirect)(nil)

func (r *redirect) RoundTrip(req *http.Request) (*http.Response, error) {
	home, err := OriginOf(req.URL)
	if err != nil {
		return nil, err
	}
	for hop := 0; ; hop++ {
		resp, err := r.next.RoundTrip(req)
		if err != nil || !redirects(resp) || CallOf(req.Context()).ByHand {
			return resp, err
		}
		// A short body read to its end leaves the connection usable.
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		_ = resp.Body.Close()
		refusal := &RedirectError{Status: resp.StatusCode, From: home.String() + req.URL.EscapedPath()}
		to, err := req.URL.Parse(resp.Header.Get("Location"))
		if err != nil {
			refusal.Host, refusal.Reason = "an unreadable address", "it is not followed"
			return nil, refusal
		}
		refusal.Host = to.Host
		there, err := OriginOf(to)
		if err == nil {
			refusal.Origin = there.String()
		}
		switch {
		case err != nil || there != home:
			refusal.Reason = "a redirect to another origin than " + home.String() + " is never followed"
			return nil, refusal
		case req.Method != http.MethodGet:
			refusal.Reason = "a redirected " + req.Method + " is not repeated"
			return nil, refusal
		case hop == maxHops:
			refusal.Reason = "more than " + itoa(maxHops) + " redirects in a row"
			return nil, refusal
		}
		to.User, to.Fragment, to.RawFragment = nil, "", ""
		req = req.Clone(req.Context())
		req.URL = to
	}
}

// redirects reports whether a client would follow resp. A 3xx without Location
// is an answer like any other.
func redirects(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return resp.Header.Get("Location") != ""
	}
	return false
}
