package transport

import "net/http"

// userAgent names us to the server unless the request already does.
type userAgent struct {
	next  http.RoundTripper
	value string
}

var _ http.RoundTripper = (*userAgent)(nil)

func (u *userAgent) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("User-Agent") == "" {
		req = req.Clone(req.Context())
		req.Header.Set("User-Agent", u.value)
	}
	return u.next.RoundTrip(req)
}
