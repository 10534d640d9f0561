package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// step is what the fake server does with one request.
type step struct {
	status int               // 0: err
	body   string            //
	header map[string]string //
	err    error             // the connection's
	takes  time.Duration     // before the headers
	hang   bool              // until the request is cancelled
	cut    error             // the body's end instead of EOF
	stall  bool              // the body never goes on
}

func ok(body string) step         { return step{status: 200, body: body} }
func status(n int) step           { return step{status: n, body: http.StatusText(n)} }
func repeat(s step, n int) []step { return slices.Repeat([]step{s}, n) }

var errReset = errors.New("connection reset")

// script answers requests one step after the other, the last one for ever.
type script struct {
	mu    sync.Mutex
	steps []step
	at    []time.Duration // when each request came
	began time.Time
	seen  []*http.Request
}

func play(steps ...step) *script { return &script{steps: steps, began: time.Now()} }

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	step := s.steps[min(len(s.at), len(s.steps)-1)]
	s.at = append(s.at, time.Since(s.began))
	s.seen = append(s.seen, req)
	s.mu.Unlock()
	if step.hang {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	if step.takes > 0 {
		select {
		case <-req.Context().Done():
			return nil, req.Context().Err()
		case <-time.After(step.takes):
		}
	}
	if step.status == 0 {
		return nil, step.err
	}
	h := http.Header{}
	for k, v := range step.header {
		h.Set(k, v)
	}
	return &http.Response{
		StatusCode: step.status, Status: fmt.Sprintf("%d %s", step.status, http.StatusText(step.status)),
		Header: h, Request: req, ContentLength: -1,
		Body: &fakeBody{Reader: strings.NewReader(step.body), cut: step.cut, stall: step.stall, gone: req.Context().Done()},
	}, nil
}

type fakeBody struct {
	io.Reader
	cut    error
	stall  bool
	gone   <-chan struct{}
	closed bool
}

func (b *fakeBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	switch {
	case n > 0 || err != io.EOF:
		return n, err
	case b.stall:
		<-b.gone
		return 0, context.Canceled
	case b.cut != nil:
		return 0, b.cut
	}
	return 0, io.EOF
}

func (b *fakeBody) Close() error { b.closed = true; return nil }

// sort is a Judge as a client has one.
func sort(x Exchange) Judgement {
	switch {
	case x.Err != nil:
		var cert *CertificateError
		var away *RedirectError
		if errors.As(x.Err, &cert) || errors.As(x.Err, &away) {
			return Judgement{Class: Confirm, Times: 2}
		}
		return Judgement{Class: Transient}
	case x.Response.StatusCode == 401, x.Response.StatusCode == 404:
		return Judgement{Class: Confirm}
	case x.Response.StatusCode == 429, x.Response.StatusCode >= 500:
		return Judgement{Class: Transient}
	case x.Response.StatusCode >= 400:
		return Judgement{Class: Final, Err: fmt.Errorf("server says %s", x.Body)}
	}
	return Judgement{Class: Answer}
}

func get(t *testing.T, rt http.RoundTripper, ctx context.Context, c Call) (*http.Response, error) { //nolint:revive // t first reads better here
	t.Helper()
	return send(t, rt, ctx, http.MethodGet, c)
}

func send(t *testing.T, rt http.RoundTripper, ctx context.Context, method string, c Call) (*http.Response, error) { //nolint:revive // as get
	t.Helper()
	req, err := http.NewRequestWithContext(WithCall(ctx, c), method, "https://ci.lan/api/x?page=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func seconds(ds ...float64) []time.Duration {
	out := make([]time.Duration, len(ds))
	for i, d := range ds {
		out[i] = time.Duration(d * float64(time.Second))
	}
	return out
}

// Every row is one call: when each attempt was sent, to the nanosecond, and
// how it ended.
func TestRetrySchedule(t *testing.T) {
	refused := func(status, times int) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			var r *RefusedError
			if !errors.As(err, &r) || r.Status != status || r.Times != times || r.Err == nil {
				t.Errorf("ended with %#v, want status %d refused %d times", err, status, times)
			}
		}
	}
	exhausted := func(tries int, last string) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			var e *ExhaustedError
			if !errors.As(err, &e) || e.Tries != tries || !strings.Contains(e.Last.Error(), last) {
				t.Errorf("ended with %v, want exhausted after %d tries, last %q", err, tries, last)
			}
		}
	}
	final := func(text string) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			var f *FinalError
			if !errors.As(err, &f) || !strings.Contains(err.Error(), text) {
				t.Errorf("ended with %v, want final %q", err, text)
			}
		}
	}
	good := func(t *testing.T, err error) {
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	}
	mix := func(a, b step, n int) (out []step) {
		for range n {
			out = append(out, a, b)
		}
		return out
	}
	lost := step{err: errReset}
	busy := func(after string) step {
		return step{status: 429, header: map[string]string{"Retry-After": after}}
	}
	down := func(h map[string]string) step { return step{status: 503, header: h} }

	tests := []struct {
		name  string
		call  Call
		known bool // the call has succeeded before
		sick  int  // so many health questions are answered with an error
		steps []step
		at    []time.Duration
		end   func(*testing.T, error)
	}{
		{name: "at once", steps: []step{ok("1")}, at: seconds(0), end: good},
		{
			name: "waits double up to eight seconds", call: Call{Budget: time.Hour},
			steps: append(repeat(status(502), 8), ok("1")),
			at:    seconds(0, .25, .75, 1.75, 3.75, 7.75, 15.75, 23.75, 31.75), end: good,
		},
		{
			name: "the last try falls on the budget's end", steps: []step{lost},
			at: seconds(0, .25, .75, 1.75, 3.75, 7.75, 15.75, 20), end: exhausted(8, "connection reset"),
		},
		{
			name: "four tries at least", call: Call{Budget: time.Second}, steps: []step{{err: errReset, takes: 2 * time.Second}},
			at: seconds(0, 2.25, 4.75, 6.75), end: exhausted(4, "connection reset"),
		},
		{name: "a body that breaks off", steps: []step{{status: 200, body: "{", cut: io.ErrUnexpectedEOF}, ok("1")}, at: seconds(0, .25), end: good},
		{name: "a body that stalls", steps: []step{{status: 200, body: "{", stall: true}, ok("1")}, at: seconds(0, 10.25), end: good},
		{name: "an attempt that hangs", steps: []step{{hang: true}, ok("1")}, at: seconds(0, 15.25), end: good},
		{name: "an attempt's own total", call: Call{Total: 60 * time.Second, Budget: time.Hour}, steps: []step{{hang: true}, ok("1")}, at: seconds(0, 60.25), end: good},
		{name: "total includes the body", call: Call{Total: 4 * time.Second}, steps: []step{{status: 200, takes: 3 * time.Second, stall: true}, ok("1")}, at: seconds(0, 4.25), end: good},

		{name: "Retry-After in seconds", steps: []step{busy("5"), ok("1")}, at: seconds(0, 5), end: good},
		{name: "Retry-After shorter than the wait", call: Call{Budget: time.Hour}, steps: append(repeat(lost, 5), busy("1"), ok("1")), at: seconds(0, .25, .75, 1.75, 3.75, 7.75, 8.75), end: good},
		{name: "Retry-After is at most a minute", steps: []step{busy("3600"), ok("1")}, at: seconds(0, 60), end: good},
		{name: "Retry-After on 503", steps: []step{down(map[string]string{"Retry-After": "2"}), ok("1")}, at: seconds(0, 2), end: good},
		{
			name:  "Retry-After as a date is read by the server's clock",
			steps: []step{down(map[string]string{"Date": "Fri, 01 May 2026 10:00:00 GMT", "Retry-After": "Fri, 01 May 2026 10:00:07 GMT"}), ok("1")},
			at:    seconds(0, 7), end: good,
		},
		{
			name:  "Retry-After as a date without a clock", // a bubble starts at 2000-01-01
			steps: []step{down(map[string]string{"Retry-After": "Sat, 01 Jan 2000 00:00:09 GMT"}), ok("1")},
			at:    seconds(0, 9), end: good,
		},
		{name: "Retry-After in the past", steps: []step{down(map[string]string{"Retry-After": "Fri, 01 May 1998 10:00:07 GMT"}), ok("1")}, at: seconds(0, .25), end: good},
		{name: "Retry-After that is nonsense", steps: []step{busy("soon"), busy("-5"), busy("0"), ok("1")}, at: seconds(0, .25, .75, 1.75), end: good},
		{name: "Retry-After on another status", steps: []step{{status: 500, header: map[string]string{"Retry-After": "30"}}, ok("1")}, at: seconds(0, .25), end: good},
		{name: "the server's wait counts against the budget", steps: []step{busy("30")}, at: seconds(0, 30, 60, 90), end: exhausted(4, "429")},

		{name: "a refusal of an unknown call", steps: []step{status(401)}, at: seconds(0, 1.5, 3), end: refused(401, 3)},
		{name: "a refusal of a known call", known: true, steps: []step{status(404)}, at: seconds(0, 3.75, 7.5, 11.25, 15), end: refused(404, 5)},
		{name: "a refusal that was false", steps: []step{status(401), status(401), ok("1")}, at: seconds(0, 1.5, 3), end: good},
		{name: "slow refusals need no more than three", steps: []step{{status: 401, takes: 4 * time.Second}}, at: seconds(0, 5.5, 11), end: refused(401, 3)},
		{
			name: "faults between refusals do not reset the count", steps: append(mix(status(401), lost, 2), status(401)),
			at: seconds(0, 1.5, 2, 3.5, 5), end: refused(401, 3),
		},
		{
			name: "faults cannot drown a refusal", steps: append(repeat(lost, 5), append(mix(status(404), lost, 2), status(404))...),
			at: seconds(0, .25, .75, 1.75, 3.75, 7.75, 9.25, 10.75, 12.25, 13.75), end: refused(404, 3),
		},
		{
			name: "a refusal begun late is still finished", steps: append(repeat(lost, 7), status(401)),
			at: seconds(0, .25, .75, 1.75, 3.75, 7.75, 15.75, 20, 21.5, 23), end: refused(401, 3),
		},
		{
			name: "two answers in turn are not believed", steps: mix(status(401), status(404), 20),
			at: seconds(0, 1.5, 3, 4.5, 6, 7.5, 9, 10.5, 12, 13.5, 15, 16.5, 18, 19.5, 21, 22.5, 23), end: exhausted(17, "401"),
		},
		{
			name: "refusals while the server is unwell do not count", sick: 3, steps: []step{status(404)},
			at: seconds(0, .25, .75, 1.75, 3.25, 4.75), end: refused(404, 3),
		},
		{name: "an unwell server that refuses for ever", sick: 99, steps: []step{status(404)}, at: seconds(0, .25, .75, 1.75, 3.75, 7.75, 15.75, 20), end: exhausted(8, "not believed: database")},
		{name: "a certificate is asked for once more", sick: 99, steps: []step{{err: &CertificateError{Name: "ci.lan", Err: errReset}}}, at: seconds(0, .25), end: refused(0, 2)},
		{name: "a redirect is asked for once more", known: true, steps: []step{{err: &RedirectError{Host: "login.lan"}}}, at: seconds(0, .25), end: refused(0, 2)},
		{name: "redirects to different hosts", steps: []step{{err: &RedirectError{Host: "a"}}, {err: &RedirectError{Host: "b"}}, {err: &RedirectError{Host: "b"}}}, at: seconds(0, .25, .75), end: refused(0, 2)},
		{name: "one wrong certificate", steps: []step{{err: &CertificateError{Err: errReset}}, ok("1")}, at: seconds(0, .25), end: good},

		{name: "final", steps: []step{lost, {status: 400, body: "no such branch"}}, at: seconds(0, .25), end: final("no such branch")},
		{name: "no token", steps: []step{{err: &TokenError{Err: errors.New("vault is sealed")}}}, at: seconds(0), end: final("vault is sealed")},
		{name: "too large", call: Call{MaxBody: 3}, steps: []step{ok("1234")}, at: seconds(0), end: final("larger than 3 bytes")},
		{name: "exactly as large as allowed", call: Call{MaxBody: 3}, steps: []step{ok("123")}, at: seconds(0), end: good},
		{name: "what only decoding shows", call: Call{Check: func(_ *http.Response, b []byte) error {
			if len(b) == 0 {
				return errors.New("empty where a body is due")
			}
			return nil
		}}, steps: []step{ok(""), ok("1")}, at: seconds(0, .25), end: good},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := play(ok("before"))
				sick := tt.sick
				r := NewRetry(RetryOptions{Next: server, Judge: sort, Healthy: func(context.Context) error {
					if sick--; sick >= 0 {
						return errors.New("database")
					}
					return nil
				}})
				if tt.known {
					if _, err := get(t, r, t.Context(), Call{}); err != nil {
						t.Fatal(err)
					}
				}
				*server = script{steps: tt.steps, began: time.Now()}
				resp, err := get(t, r, t.Context(), tt.call)
				tt.end(t, err)
				if !slices.Equal(server.at, tt.at) {
					t.Errorf("attempts at\n%v, want\n%v", server.at, tt.at)
				}
				if err == nil {
					body, err := io.ReadAll(resp.Body)
					if err != nil || len(body) == 0 || resp.ContentLength != int64(len(body)) {
						t.Errorf("body %q (length %d), %v", body, resp.ContentLength, err)
					}
				}
				for i, req := range server.seen {
					if n := attemptOf(req.Context()); n != i+1 {
						t.Errorf("attempt %d calls itself %d", i+1, n)
					}
				}
			})
		})
	}
}

// A confirmed refusal of a call that never worked takes less than 20 s
// whatever else happens, as long as the server refuses now and then.
func TestRefusalIsNotDrowned(t *testing.T) {
	for faults := range 4 {
		for _, jitter := range []float64{0, .25} {
			synctest.Test(t, func(t *testing.T) {
				steps := []step{}
				for range 10 {
					steps = append(steps, repeat(status(503), faults)...)
					steps = append(steps, status(404))
				}
				began := time.Now()
				r := NewRetry(RetryOptions{Next: play(steps...), Judge: sort, Jitter: jitter})
				_, err := get(t, r, t.Context(), Call{})
				var refused *RefusedError
				if took := time.Since(began); !errors.As(err, &refused) || took >= 20*time.Second || took < 3*time.Second {
					t.Errorf("%d faults between refusals: %v after %s", faults, err, took)
				}
			})
		}
	}
}

func TestRetryJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := play(append(repeat(step{err: errReset}, 6), ok("1"))...)
		r := NewRetry(RetryOptions{Next: server, Judge: sort, Jitter: .25})
		if _, err := get(t, r, t.Context(), Call{Budget: time.Hour}); err != nil {
			t.Fatal(err)
		}
		same := true
		for i, want := range seconds(.25, .5, 1, 2, 4, 8) {
			got := server.at[i+1] - server.at[i]
			same = same && got == want
			if got < want*3/4 || got > want*5/4+time.Nanosecond {
				t.Errorf("wait %d is %s, want %s ±25 %%", i, got, want)
			}
		}
		if same {
			t.Error("no wait varied")
		}
	})
}

func TestDeadline(t *testing.T) {
	over := errors.New("time is up")
	for name, steps := range map[string][]step{
		"inside a hanging request":          {{hang: true}},
		"inside a stalled body":             {{status: 200, body: "{", stall: true}},
		"inside a wait":                     {{err: errReset}},
		"inside the server's wait":          {{status: 429, header: map[string]string{"Retry-After": "60"}}},
		"while confirming":                  {status(401)},
		"inside a hanging request, retried": {{err: errReset}, {err: errReset}, {hang: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), 2300*time.Millisecond, over)
				defer cancel()
				began := time.Now()
				r := NewRetry(RetryOptions{Next: play(steps...), Judge: sort})
				_, err := get(t, r, ctx, Call{})
				if took := time.Since(began); err != over || took != 2300*time.Millisecond { //nolint:errorlint // the cause itself
					t.Errorf("ended with %v after %s", err, took)
				}
			})
		})
	}
}

func TestCancelledByCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { time.Sleep(time.Second); cancel(why) }()
		r := NewRetry(RetryOptions{Next: play(step{hang: true}), Judge: sort})
		if _, err := get(t, r, ctx, Call{}); err != why { //nolint:errorlint // the cause itself
			t.Errorf("ended with %v", err)
		}
		server := play(ok("1"))
		if _, err := get(t, NewRetry(RetryOptions{Next: server, Judge: sort}), ctx, Call{}); err != why || len(server.at) > 0 { //nolint:errorlint // as above
			t.Errorf("an ended context: %v, %d requests", err, len(server.at))
		}
	})
}

// An answer that is complete counts even if the time ran out as it came.
func TestAnswerAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := NewRetry(RetryOptions{Next: play(ok("1")), Judge: func(x Exchange) Judgement { cancel(); return sort(x) }})
		if _, err := get(t, r, ctx, Call{}); err != nil {
			t.Error(err)
		}
	})
}

func TestOtherMethodsAreSentOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		step step
		want any
	}{
		"answered":  {ok("1"), nil},
		"lost":      {step{err: errReset}, new(*ExhaustedError)},
		"500":       {status(500), new(*ExhaustedError)},
		"429":       {status(429), new(*ExhaustedError)},
		"refused":   {status(404), new(*RefusedError)},
		"final":     {status(400), new(*FinalError)},
		"redirect":  {step{err: &RedirectError{}}, new(*RefusedError)},
		"hang":      {step{hang: true}, new(*ExhaustedError)},
		"cut short": {step{status: 200, body: "{", cut: io.ErrUnexpectedEOF}, new(*ExhaustedError)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := play(tt.step, ok("never"))
				healthy := func(context.Context) error { t.Error("a refused write asks nothing"); return nil }
				r := NewRetry(RetryOptions{Next: server, Judge: sort, Healthy: healthy})
				_, err := send(t, r, t.Context(), http.MethodPost, Call{})
				if tt.want == nil && err != nil || tt.want != nil && !errors.As(err, tt.want) {
					t.Errorf("ended with %#v", err)
				}
				if len(server.at) != 1 {
					t.Errorf("sent %d times", len(server.at))
				}
			})
		})
	}
}

func TestHealthTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := NewRetry(RetryOptions{Next: play(status(404), ok("1")), Judge: sort, Healthy: func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}})
		_, err := get(t, r, t.Context(), Call{})
		if took := time.Since(began); err != nil || took != 5250*time.Millisecond {
			t.Errorf("ended with %v after %s", err, took)
		}
	})
}

// What the story and the deadline's verdict are made of.
func TestTroubleAndHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var story []string
		tell := func(format string, args ...any) {
			story = append(story, fmt.Sprintf("%s "+format, append([]any{time.Since(began)}, args...)...))
		}
		server := play(ok("1"))
		r := NewRetry(RetryOptions{
			Next: server, Judge: sort,
			CloseIdle: func() { tell("close idle") },
			Trouble:   func(err error) { tell("trouble: %v", err) },
			Recovered: func(after time.Duration) { tell("recovered after %s", after) },
		})
		if h := r.Health(); h != (Health{}) {
			t.Errorf("before any request: %+v", h)
		}
		call := func(steps ...step) error {
			server.mu.Lock()
			server.steps, server.at = steps, nil
			server.mu.Unlock()
			_, err := get(t, r, t.Context(), Call{})
			return err
		}
		if err := call(step{err: errReset}, ok("1")); err != nil { // a single retry is nothing to tell
			t.Fatal(err)
		}
		if h := r.Health(); !h.AnyGood || !h.LastGood.Equal(time.Now()) || !h.FailingSince.IsZero() || h.Last != nil {
			t.Errorf("after a good answer: %+v", h)
		}
		if err := call(append(repeat(status(502), 4), ok("1"))...); err != nil {
			t.Fatal(err)
		}
		if err := call(status(401), status(401), ok("1")); err != nil { // refusals are not trouble
			t.Fatal(err)
		}
		good := time.Now()
		time.Sleep(time.Minute)
		failing := time.Now()
		if err := call(step{err: errReset}); err == nil {
			t.Fatal("no error")
		}
		h := r.Health()
		if !h.AnyGood || !h.LastGood.Equal(good) || !h.FailingSince.Equal(failing) || h.Last != errReset { //nolint:errorlint // itself
			t.Errorf("after trouble: %+v; good %s, failing %s", h, good, failing)
		}
		want := []string{
			"500ms close idle", "500ms trouble: 502 Bad Gateway", "1s close idle", "2s close idle", "4s recovered after 3.75s",
			"7.75s close idle",
			"1m11.75s close idle", "1m11.75s trouble: connection reset", "1m12.25s close idle", "1m13.25s close idle",
			"1m15.25s close idle", "1m19.25s close idle", "1m27.25s close idle", "1m31.5s close idle",
		}
		if !slices.Equal(story, want) {
			t.Errorf("story:\n%s\nwant:\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
		}
	})
}

// The streak is the server's, not the request's: two requests failing at once
// are trouble once, and a success of either ends it once.
func TestSharedRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var story []string
		down := true
		server := roundTripFunc(func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return nil, errReset
			}
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("1")), Request: req}, nil
		})
		var r *Retry
		r = NewRetry(RetryOptions{
			Next: server, Judge: sort, Jitter: .25,
			Trouble: func(error) {
				story = append(story, "trouble")
				if r.Health().Last == nil { // a callback may ask
					t.Error("trouble without an error")
				}
			},
			Recovered: func(time.Duration) { story = append(story, "recovered") },
		})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := get(t, r, t.Context(), Call{}); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(9 * time.Second)
		mu.Lock()
		down = false
		mu.Unlock()
		all.Wait()
		if !slices.Equal(story, []string{"trouble", "recovered"}) {
			t.Errorf("story: %v", story)
		}
	})
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []Exchange
		spy := func(x Exchange) Judgement { seen = append(seen, x); return sort(x) }
		long := strings.Repeat("x", maxErrorBody+1)
		r := NewRetry(RetryOptions{Next: play(step{status: 500, body: long}, step{status: 200, body: "{", cut: io.ErrUnexpectedEOF}, ok("answer")), Judge: spy})
		resp, err := get(t, r, t.Context(), Call{})
		if err != nil {
			t.Fatal(err)
		}
		if x := seen[0]; len(x.Body) != maxErrorBody || x.Err != nil {
			t.Errorf("an error body of 64 KiB and a byte: %d bytes, %v", len(x.Body), x.Err)
		}
		if x := seen[1]; string(x.Body) != "{" || !errors.Is(x.Err, io.ErrUnexpectedEOF) || x.Response == nil {
			t.Errorf("a cut body: %+v", x)
		}
		for range 2 {
			if b, err := io.ReadAll(resp.Body); string(b) != "answer" || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
			if _, err := resp.Body.(io.Seeker).Seek(0, io.SeekStart); err != nil {
				t.Error(err)
			}
		}
		var refused *RefusedError
		r = NewRetry(RetryOptions{Next: play(step{status: 404, body: "gone"}), Judge: sort})
		if _, err := get(t, r, t.Context(), Call{Name: "GET pipeline 57"}); !errors.As(err, &refused) || string(refused.Body) != "gone" ||
			err.Error() != "GET pipeline 57: 404 Not Found" {
			t.Errorf("refused: %v", err)
		}
	})
}

// A Judge that calls a broken exchange an answer does not get it handed on.
func TestBrokenIsNoAnswer(t *testing.T) {
	for _, class := range []Class{Answer, 0} {
		synctest.Test(t, func(t *testing.T) {
			yes := func(Exchange) Judgement { return Judgement{Class: class} }
			_, err := get(t, NewRetry(RetryOptions{Next: play(step{err: errReset}), Judge: yes}), t.Context(), Call{})
			if !errors.As(err, new(*ExhaustedError)) {
				t.Errorf("class %d: %v", class, err)
			}
		})
	}
}

func TestStream(t *testing.T) {
	stream := Call{Stream: true, Total: 3 * time.Second, Idle: 45 * time.Second}
	t.Run("handed on unread, without a total", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			pr, pw := io.Pipe()
			next := roundTripFunc(func(req *http.Request) (*http.Response, error) {
				context.AfterFunc(req.Context(), func() { pw.CloseWithError(req.Context().Err()) })
				return &http.Response{StatusCode: 200, Body: pr}, nil
			})
			resp, err := get(t, NewRetry(RetryOptions{Next: next, Judge: func(x Exchange) Judgement {
				if x.Body != nil {
					t.Error("the judge saw a stream's body")
				}
				return sort(x)
			}}), t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 16)
			for range 5 {
				go func() { time.Sleep(44 * time.Second); _, _ = pw.Write([]byte("ping")) }()
				if n, err := resp.Body.Read(buf); n != 4 || err != nil {
					t.Fatalf("read %d, %v", n, err)
				}
				time.Sleep(10 * time.Minute) // a busy reader is not silence of the server
			}
			silent := time.Now()
			_, err = resp.Body.Read(buf)
			var late *TimeoutError
			if took := time.Since(silent); !errors.As(err, &late) || took != 45*time.Second {
				t.Errorf("silence ended with %v after %s", err, took)
			}
		})
	})
	t.Run("Total ends at the headers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server := play(step{hang: true}, ok("1"))
			if _, err := get(t, NewRetry(RetryOptions{Next: server, Judge: sort}), t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(server.at, seconds(0, 3.25)) {
				t.Errorf("attempts at %v", server.at)
			}
		})
	})
	t.Run("an error's text is read, a refused stream closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			open := &fakeBody{Reader: strings.NewReader("html"), stall: true}
			n := 0
			next := roundTripFunc(func(*http.Request) (*http.Response, error) {
				if n++; n == 1 {
					return &http.Response{StatusCode: 200, Body: open}, nil
				}
				return &http.Response{StatusCode: 400, Body: io.NopCloser(bytes.NewBufferString("no such step"))}, nil
			})
			_, err := get(t, NewRetry(RetryOptions{Next: next, Judge: func(x Exchange) Judgement {
				if x.Response.StatusCode == 200 {
					return Judgement{Class: Transient}
				}
				return sort(x)
			}}), t.Context(), stream)
			if err == nil || !strings.Contains(err.Error(), "no such step") || !open.closed {
				t.Errorf("ended with %v, first body closed: %v", err, open.closed)
			}
		})
	})
	t.Run("the caller's end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			why := errors.New("interrupted")
			ctx, cancel := context.WithCancelCause(t.Context())
			resp, err := get(t, NewRetry(RetryOptions{Next: play(step{status: 200, stall: true}), Judge: sort}), ctx, stream)
			if err != nil {
				t.Fatal(err)
			}
			go func() { time.Sleep(time.Second); cancel(why) }()
			if _, err := resp.Body.Read(make([]byte, 1)); err != why { //nolint:errorlint // the cause itself
				t.Errorf("read ended with %v", err)
			}
		})
	})
}

func TestRetryLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		log := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
		r := NewRetry(RetryOptions{Next: play(step{err: errReset}, ok("1")), Judge: sort, Log: log})
		if _, err := get(t, r, t.Context(), Call{Name: "GET pipeline 57"}); err != nil {
			t.Fatal(err)
		}
		want := []string{"GET pipeline 57: attempt 1: connection reset; again in 250ms"}
		if !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	})
}
