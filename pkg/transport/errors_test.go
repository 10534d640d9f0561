package transport

import (
	"errors"
	"testing"
	"time"
)

// What a person reads when one of these reaches the end of a run.
func TestErrorTexts(t *testing.T) {
	last := errors.New("502 Bad Gateway")
	tests := []struct {
		err  error
		want string
	}{
		{
			&ExhaustedError{Name: "GET pipeline 57", Last: last, Tries: 8, For: 20*time.Second + time.Millisecond},
			"GET pipeline 57: 502 Bad Gateway (8 tries in 20s)",
		},
		{&ExhaustedError{Name: "approve pipeline 57", Last: last, Tries: 1, For: time.Second}, "approve pipeline 57: 502 Bad Gateway"},
		{&RefusedError{Name: "GET pipeline 57", Status: 404, Err: last, Times: 3}, "GET pipeline 57: 502 Bad Gateway"},
		{&FinalError{Name: "GET pipeline 57", Err: last}, "GET pipeline 57: 502 Bad Gateway"},
		{&TokenError{Err: last}, "502 Bad Gateway"},
		{&TimeoutError{What: "complete answer", After: 15 * time.Second}, "no complete answer within 15s"},
		{&TooLargeError{Limit: 8 << 20}, "the answer is larger than 8388608 bytes"},
		{
			&CertificateError{Addr: "10.0.20.203:443", Name: "ci.lan", Presented: []string{"a.lan", "b.lan"}, Err: last},
			"certificate at 10.0.20.203:443 not accepted for ci.lan; it is for a.lan, b.lan: 502 Bad Gateway",
		},
		{&CertificateError{Name: "ci.lan", Err: last}, "certificate not accepted for ci.lan; it is for no name: 502 Bad Gateway"},
		{
			&RedirectError{Status: 302, From: "https://ci.lan/api", Host: "login.lan", Reason: "it is never followed"},
			"https://ci.lan/api redirects (302) to login.lan: it is never followed",
		},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%T: %q, want %q", tt.err, got, tt.want)
		}
		if u, ok := tt.err.(interface{ Unwrap() error }); ok && u.Unwrap() != last { //nolint:errorlint // itself
			t.Errorf("%T hides its cause", tt.err)
		}
	}
	var timeout interface{ Timeout() bool }
	if !errors.As(error(&TimeoutError{}), &timeout) || !timeout.Timeout() {
		t.Error("a TimeoutError is no timeout")
	}
}
