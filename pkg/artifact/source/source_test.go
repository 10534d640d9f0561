package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/buildersim"
	"homelab/internal/woodsim"
	"homelab/pkg/artifact"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

func get(t *testing.T, h http.Handler, r Request) (*http.Response, error) {
	t.Helper()
	u, err := url.Parse("https://files.example.org/x")
	if err != nil {
		t.Fatal(err)
	}
	r.Name, r.URL = "x", u
	return NewClient(Options{Next: woodsim.InProcess(h)}).Get(t.Context(), r)
}

// Each answer's class, how often it is asked for before it is told, and how
// long that takes.
func TestGet(t *testing.T) {
	for name, tc := range map[string]struct {
		hook  buildersim.Hook
		also  int
		want  artifact.Class // "": an answer
		asked int
		took  time.Duration
	}{
		"good":             {buildersim.Status(200, "text/plain", "x"), 0, "", 1, 0},
		"no content":       {buildersim.Status(204, "text/plain", ""), 0, "", 1, 0},
		"304 as asked":     {buildersim.Status(304, "text/plain", ""), 304, "", 1, 0},
		"304 not asked":    {buildersim.Status(304, "text/plain", ""), 0, artifact.Transient, 1, 0},
		"400":              {buildersim.Status(400, "text/plain", "x"), 0, artifact.Denied, 3, 3 * time.Second},
		"401":              {buildersim.Status(401, "text/plain", "x"), 0, artifact.Denied, 3, 3 * time.Second},
		"403":              {buildersim.Status(403, "text/plain", "x"), 0, artifact.Denied, 3, 3 * time.Second},
		"404":              {buildersim.Status(404, "text/plain", "x"), 0, artifact.Absent, 3, 3 * time.Second},
		"404 is an answer": {buildersim.Status(404, "text/plain", "x"), 404, "", 1, 0},
		"410":              {buildersim.Status(410, "text/plain", "x"), 0, artifact.Absent, 3, 3 * time.Second},
		"408":              {buildersim.Status(408, "text/plain", "x"), 0, artifact.Transient, 1, 0},
		"425":              {buildersim.Status(425, "text/plain", "x"), 0, artifact.Transient, 1, 0},
		"429":              {buildersim.Status(429, "text/plain", "x"), 0, artifact.Transient, 1, 0},
		"500":              {buildersim.Status(500, "text/plain", "x"), 0, artifact.Transient, 1, 0},
		"503":              {buildersim.Status(503, "text/plain", "x"), 0, artifact.Transient, 1, 0},
		"302":              {buildersim.Redirect(302, "/y"), 0, artifact.Transient, 1, 0}, // the stack follows; what is left is nonsense
		"cut":              {buildersim.Cut(0), 0, artifact.Transient, 1, 0},
		"too large":        {buildersim.Endless(), 0, artifact.Transient, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := buildersim.NewFiles()
				f.Put("/x", []byte("body"), time.Now())
				f.Next(-1, "", tc.hook)
				r := Request{}
				if tc.also != 0 {
					r.Also = []int{tc.also}
				}
				began := time.Now()
				_, err := get(t, f, r)
				got := FailureClass(err)
				if got != tc.want || len(f.Requests()) != tc.asked || time.Since(began) != tc.took {
					t.Errorf("%v (%s), asked %d times in %s", err, got, len(f.Requests()), time.Since(began))
				}
			})
		})
	}
}

// FailureClass is the class of a failure; "" of none.
func FailureClass(err error) artifact.Class {
	if f := artifact.FailureOf(err, "not a failure"); f != nil {
		return f.Class
	}
	return ""
}

// A refusal that passes is none.
func TestGetDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := buildersim.NewFiles()
		f.Put("/x", []byte("body"), time.Now())
		f.Next(2, "", buildersim.Status(404, "text/html", "x"))
		if resp, err := get(t, f, Request{}); err != nil || resp.StatusCode != 200 {
			t.Fatal(err)
		}
	})
}

func TestGetLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := buildersim.NewFiles()
		f.Next(1, "", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("RateLimit-Reset", "120")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		_, err := get(t, f, Request{})
		if e, _ := errors.AsType[*artifact.Failure](err); e == nil || !e.Limited || e.RetryAfter != 2*time.Minute {
			t.Fatalf("%#v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // nobody is silenced for good
		_, err := get(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "2000000000")
			w.WriteHeader(http.StatusTooManyRequests)
		}), Request{})
		if e, _ := errors.AsType[*artifact.Failure](err); e == nil || e.RetryAfter != time.Hour {
			t.Fatalf("%#v", err)
		}
	})
	for _, tc := range []struct {
		remaining, reset string
		want             time.Duration
	}{
		{"0", "30", 30 * time.Second},
		{"0", "999999999", time.Hour},
		{"0", "-1", 0},
		{"0", "x", 0},
		{"5", "30", 0},
		{"", "", 0},
	} {
		h := http.Header{}
		h.Set("RateLimit-Remaining", tc.remaining)
		h.Set("RateLimit-Reset", tc.reset)
		if got := Limit(h); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}

type broken struct{ err error }

func (b broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, b.err }

func TestGetBroken(t *testing.T) {
	u, err := url.Parse("https://files.example.org/x")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		err   error
		want  artifact.Class
		tries time.Duration
	}{
		{io.ErrUnexpectedEOF, artifact.Transient, 0},
		{&transport.TokenError{Err: errors.New("no file")}, artifact.Denied, 0},
		{&transport.CertificateError{Err: errors.New("expired")}, artifact.Transient, time.Second},
		{&transport.RedirectError{Host: "evil.example"}, artifact.Refused, 4 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, err := NewClient(Options{Next: broken{tc.err}}).Get(t.Context(), Request{Name: "x", URL: u})
			if FailureClass(err) != tc.want || time.Since(began) > tc.tries {
				t.Errorf("%v: %v after %s", tc.err, err, time.Since(began))
			}
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fault.ErrTimeUp)
	if _, err := NewClient(Options{Next: broken{io.EOF}}).Get(ctx, Request{Name: "x", URL: u}); !errors.Is(err, fault.ErrTimeUp) {
		t.Error(err)
	}
}

type parts struct {
	text []string
	err  error
}

func (p *parts) Read(b []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, p.err
	}
	n := copy(b, p.text[0])
	p.text = p.text[1:]
	return n, nil
}

func (p *parts) Close() error { return nil }

func TestCopy(t *testing.T) {
	full := errors.New("full")
	for name, tc := range map[string]struct {
		body   *parts
		length int64
		most   int64
		want   string
		class  artifact.Class
		err    error
	}{
		"whole":         {&parts{[]string{"ab", "cd"}, io.EOF}, 4, 4, "abcd", "", nil},
		"no length":     {&parts{[]string{"ab", "cd"}, io.EOF}, -1, 10, "abcd", "", nil},
		"short":         {&parts{[]string{"ab"}, io.EOF}, 4, 10, "ab", artifact.Transient, nil},
		"cut":           {&parts{[]string{"ab"}, io.ErrUnexpectedEOF}, 4, 10, "ab", artifact.Transient, nil},
		"reset":         {&parts{[]string{"ab"}, errors.New("reset")}, -1, 10, "ab", artifact.Transient, nil},
		"too long":      {&parts{[]string{"ab", "cd"}, io.EOF}, 4, 3, "ab", "", ErrMore},
		"nothing":       {&parts{nil, io.EOF}, 0, 0, "", "", nil},
		"writer's word": {&parts{[]string{"ab"}, io.EOF}, 2, 10, "", "", full},
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			w := io.Writer(&got)
			if errors.Is(tc.err, full) {
				w = refusing{full}
			}
			n, err := Copy(t.Context(), w, &http.Response{Body: tc.body, ContentLength: tc.length}, tc.most)
			if got.String() != tc.want || n != int64(len(tc.want)) {
				t.Errorf("%q, %d", got.String(), n)
			}
			switch {
			case tc.err != nil && !errors.Is(err, tc.err), tc.class != "" && FailureClass(err) != tc.class, tc.err == nil && tc.class == "" && err != nil:
				t.Error(err)
			}
		})
	}
}

type refusing struct{ err error }

func (r refusing) Write([]byte) (int, error) { return 0, r.err }

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                    "plain",
		"a\nb\tc  d":               "a b c d",
		"\x1b[31mred\x1b[0m\u202e": "red",
		strings.Repeat("é", 300):   strings.Repeat("é", 250) + "…",
	} {
		if got := Text(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestAt(t *testing.T) {
	base := &url.URL{Scheme: "https", Host: "b.example"}
	for _, seg := range [][]string{{"job", "a b"}, {"job", "a?b#c"}, {"x", "ä%", "y"}, {"dir", ""}} {
		u := At(base, seg...)
		again, err := url.Parse(u.String())
		if err != nil || again.RawQuery != "" || again.Fragment != "" {
			t.Errorf("%q: %s", seg, u)
			continue
		}
		if got, err := Segments(again); err != nil || strings.Join(got, "|") != strings.Join(seg, "|") {
			t.Errorf("%q: %s: %q %v", seg, u, got, err)
		}
	}
}
