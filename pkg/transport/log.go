package transport

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// logger prints one line per attempt: method, URL without user info and
// without the values of secret query keys, status or error, duration.
type logger struct {
	next http.RoundTripper
	log  func(format string, args ...any) // redacts
}

var _ http.RoundTripper = (*logger)(nil)

func (l *logger) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := l.next.RoundTrip(req)
	took := time.Since(began).Round(time.Millisecond)
	again := ""
	if n := attemptOf(req.Context()); n > 1 {
		again = " (attempt " + itoa(n) + ")"
	}
	if err != nil {
		l.log("%s %s: %v, %s%s", req.Method, logURL(req.URL), err, took, again)
		return nil, err
	}
	l.log("%s %s: %s %s, %s%s", req.Method, logURL(req.URL), resp.Proto, resp.Status, took, again)
	return resp, nil
}

// logURL returns u for a log line. Query values whose key smells of a
// credential are replaced; the redactor catches known values anywhere.
func logURL(u *url.URL) string {
	v := *u
	v.User, v.Fragment, v.RawFragment = nil, "", ""
	pairs := strings.Split(v.RawQuery, "&")
	for i, p := range pairs {
		key, _, _ := strings.Cut(p, "=")
		if secretKey(key) {
			pairs[i] = key + "=" + redacted
		}
	}
	v.RawQuery = strings.Join(pairs, "&")
	return v.String()
}

func secretKey(key string) bool {
	if k, err := url.QueryUnescape(key); err == nil {
		key = k
	}
	key = strings.ToLower(key)
	for _, s := range []string{"token", "secret", "password", "passwd", "auth", "signature", "code", "key"} {
		if strings.Contains(key, s) {
			return true
		}
	}
	return false
}
