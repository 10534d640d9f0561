package faultlb_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/tlstest"
	"homelab/internal/woodsim"
)

// counting answers 200 with a JSON body, or a stream of two lines a second
// apart, and counts.
type counting struct{ n atomic.Int64 }

func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.n.Add(1)
	w.Header().Set("X-Woodpecker-Version", "3.17.0")
	if strings.Contains(r.URL.Path, "/stream/") {
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, "data: %d\n\n", i); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Second):
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"id":1,"number":2}`)
}

type outcome struct {
	status int
	body   string
	header http.Header
	err    error // of the request or of reading the body
}

func get(t *testing.T, rt http.RoundTripper, url string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := rt.RoundTrip(req)
	if err != nil {
		return outcome{err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return outcome{res.StatusCode, string(b), res.Header, err}
}

// effects tells for each fault what the client sees and whether the server
// behind was asked.
var effects = []struct {
	kind   faultlb.Kind
	asked  int64
	status int  // 0: an error instead
	broken bool // the body cannot be read to its end
	empty  bool
}{
	{faultlb.None, 1, 200, false, false},
	{faultlb.Refuse, 0, 0, false, false},
	{faultlb.ResetBefore, 0, 0, false, false},
	{faultlb.ResetAfter, 1, 0, false, false},
	{faultlb.Cut, 1, 200, true, false},
	{faultlb.Empty200, 0, 200, false, true},
	{faultlb.Empty401, 0, 401, false, true},
	{faultlb.Empty404, 0, 404, false, true},
	{faultlb.Empty500, 0, 500, false, true},
	{faultlb.Empty502, 0, 502, false, true},
	{faultlb.Empty503, 0, 503, false, true},
	{faultlb.HTML, 0, 200, false, false},
	{faultlb.Redirect, 0, 302, false, true},
	{faultlb.TooMany, 0, 429, false, true},
}

func checkEffects(t *testing.T, lb *faultlb.Balancer, rt http.RoundTripper, url string, next *counting) {
	for _, e := range effects {
		before := next.n.Load()
		if e.kind != faultlb.None {
			lb.Next(1, e.kind)
		}
		o := get(t, rt, url)
		if got := next.n.Load() - before; got != e.asked {
			t.Errorf("%v: the server was asked %d times, want %d", e.kind, got, e.asked)
		}
		if o.status != e.status || (o.err != nil) != (e.status == 0 || e.broken) {
			t.Errorf("%v: status %d, error %v", e.kind, o.status, o.err)
		}
		if e.empty && o.body != "" || e.broken && len(o.body) != 9 {
			t.Errorf("%v: body %q", e.kind, o.body)
		}
		if e.kind == faultlb.HTML && (o.header.Get("X-Woodpecker-Version") != "" || !strings.HasPrefix(o.body, "<html>")) {
			t.Errorf("html: %v %q", o.header, o.body)
		}
		if e.kind == faultlb.TooMany && o.header.Get("Retry-After") != "1" {
			t.Errorf("429: %v", o.header)
		}
		if again := get(t, rt, url); again.status != 200 || again.err != nil {
			t.Fatalf("after %v: %d %v", e.kind, again.status, again.err)
		}
	}
}

func TestEffectsInProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &counting{}
		lb := faultlb.New(next, faultlb.Options{})
		checkEffects(t, lb, lb, "https://ci.test/api/user", next)

		lb.Next(1, faultlb.Refuse)
		if o := get(t, lb, "https://ci.test/x"); !errors.Is(o.err, syscall.ECONNREFUSED) {
			t.Errorf("refused: %v", o.err)
		}
		lb.Next(1, faultlb.BadCert)
		if o := get(t, lb, "https://ci.test/x"); !errors.As(o.err, new(x509.HostnameError)) {
			t.Errorf("certificate: %v", o.err)
		}
	})
}

func TestEffectsOverTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &counting{}
		lb := faultlb.Transport(faultlb.New(next, faultlb.Options{}), faultlb.Options{})
		checkEffects(t, lb, lb, "https://ci.test/api/user", next)
	})
}

func TestEffectsOverTLS(t *testing.T) {
	for _, http1 := range []bool{true, false} {
		t.Run(fmt.Sprintf("http1=%v", http1), func(t *testing.T) {
			next := &counting{}
			lb := faultlb.New(next, faultlb.Options{})
			ca := tlstest.NewCA(t)
			s := tlstest.Start(t, lb, tls.Certificate{}, tlstest.Options{
				HTTP1: http1,
				Cert:  lb.Certificate(ca.Cert(t, "127.0.0.1"), ca.Cert(t, "default.ingress.local")),
				Wrap:  lb.Listener,
			})
			t.Cleanup(lb.Close)
			// New connections only: net/http repeats a GET by itself when a
			// reused connection breaks.
			tr := &http.Transport{ForceAttemptHTTP2: true, DisableKeepAlives: http1, TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}}
			t.Cleanup(tr.CloseIdleConnections)
			checkEffects(t, lb, tr, s.URL("127.0.0.1")+"/api/user", next)

			tr.CloseIdleConnections()
			lb.Next(1, faultlb.BadCert)
			if o := get(t, tr, s.URL("127.0.0.1")); !errors.As(o.err, new(x509.HostnameError)) {
				t.Errorf("certificate: %+v", o)
			}
			tr.CloseIdleConnections()
			lb.During(time.Minute, faultlb.Refuse)
			if o := get(t, tr, s.URL("127.0.0.1")); o.err == nil {
				t.Errorf("refused: %+v", o)
			}
			lb.Clear()
			if o := get(t, tr, s.URL("127.0.0.1")); o.status != 200 {
				t.Errorf("after all: %+v", o)
			}
		})
	}
}

func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &counting{}
		lb := faultlb.New(next, faultlb.Options{})
		took := func() (outcome, time.Duration) {
			begin := time.Now()
			o := get(t, lb, "https://ci.test/api/user")
			return o, time.Since(begin)
		}
		lb.Next(1, faultlb.Delay)
		if o, d := took(); o.status != 200 || d != 2*time.Second {
			t.Errorf("delay: %d after %v", o.status, d)
		}
		lb.Next(1, faultlb.Hang)
		if o, d := took(); !errors.Is(o.err, context.DeadlineExceeded) || d != 10*time.Second {
			t.Errorf("hang: %v after %v", o.err, d)
		}
		lb.During(5*time.Second, faultlb.Empty503)
		if o, _ := took(); o.status != 503 {
			t.Errorf("within the time: %d", o.status)
		}
		time.Sleep(5 * time.Second)
		if o, _ := took(); o.status != 200 {
			t.Errorf("after the time: %d", o.status)
		}
	})
}

func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lb := faultlb.New(&counting{}, faultlb.Options{CutAt: 20, DropAfter: 2500 * time.Millisecond})
		first := func(k faultlb.Kind) (time.Duration, error) {
			lb.Next(1, k)
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://ci.test/api/stream/events", nil)
			begin := time.Now()
			res, err := lb.RoundTrip(req)
			if err != nil {
				return 0, err
			}
			defer res.Body.Close()
			_, err = res.Body.Read(make([]byte, 5))
			return time.Since(begin), err
		}
		if d, err := first(faultlb.BufferBody); d != 2*time.Second || err != nil {
			t.Errorf("buffered: first byte after %v, %v", d, err)
		}
		for _, k := range []faultlb.Kind{faultlb.DropStream, faultlb.Cut} {
			lb.Next(1, k)
			begin := time.Now()
			o := get(t, lb, "https://ci.test/api/stream/events")
			if d := time.Since(begin); d != 2500*time.Millisecond || o.err == nil || o.body != "data: 0\n\ndata: 1\n\ndata: 2\n\n" {
				t.Errorf("%v: %q, %v after %v", k, o.body, o.err, d)
			}
		}
		lb.Next(1, faultlb.DropStream)
		if o := get(t, lb, "https://ci.test/api/user"); o.status != 200 {
			t.Errorf("a stream's fault befell a request: %+v", o)
		}
	})
}

func TestRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := func(seed uint64) (string, faultlb.Stats) {
			lb := faultlb.New(&counting{}, faultlb.Options{Seed: seed, Rate: 0.9, MaxConsecutive: 2, Match: faultlb.Match("GET", "/api/")})
			var trace strings.Builder
			for range 60 {
				o := get(t, lb, "https://ci.test/api/user")
				fmt.Fprint(&trace, o.status, " ")
			}
			if o := get(t, lb, "https://ci.test/healthz"); o.status != 200 {
				t.Errorf("not matching: %+v", o)
			}
			return trace.String(), lb.Stats()
		}
		a, s := run(7)
		if b, _ := run(7); a != b {
			t.Errorf("one seed, two sequences:\n%s\n%s", a, b)
		}
		if b, _ := run(8); a == b {
			t.Error("two seeds, one sequence")
		}
		if s.Longest != 2 || s.Injected() < 30 || s.Requests != 61 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestPrecede(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lb := faultlb.New(&counting{}, faultlb.Options{})
		lb.Precede(faultlb.Empty503)
		var seen []int
		for _, path := range []string{"/a", "/b", "/a", "/b", "/a", "/a"} {
			seen = append(seen, get(t, lb, "https://ci.test"+path).status)
		}
		if want := []int{503, 503, 200, 200, 503, 200}; !slices.Equal(seen, want) {
			t.Errorf("%v, want %v", seen, want)
		}
	})
}

// What the client does not learn has happened all the same.
func TestWriteBehindAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := woodsim.New(woodsim.Options{})
		s.AddUser(woodsim.User{Login: "ada", Token: "t", Admin: true})
		s.AddRepo(woodsim.RepoOptions{FullName: "ada/app"}).Push(woodsim.Commit{}, woodsim.Green(0))
		lb := faultlb.Transport(s.Client(), faultlb.Options{})
		for _, c := range []struct {
			kind   faultlb.Kind
			writes int
		}{{faultlb.ResetBefore, 0}, {faultlb.Empty502, 0}, {faultlb.ResetAfter, 1}, {faultlb.Cut, 2}} {
			lb.NextMatch(1, c.kind, faultlb.Match("POST", "/pipelines/1"))
			for _, method := range []string{"GET", "POST"} { // the fault waits for the POST
				req, _ := http.NewRequestWithContext(t.Context(), method, "https://ci.test/api/repos/1/pipelines/1", nil)
				req.Header.Set("Authorization", "Bearer t")
				res, err := lb.RoundTrip(req)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if failed := err != nil || res.StatusCode != 200; failed != (method == "POST") {
					t.Errorf("%v, %s: %v", c.kind, method, err)
				}
			}
			if n := len(s.Writes()); n != c.writes {
				t.Errorf("%v: %d writes, want %d", c.kind, n, c.writes)
			}
		}
	})
}

func TestNames(t *testing.T) {
	for _, k := range faultlb.All() {
		if p, ok := faultlb.Parse(k.String()); !ok || p != k {
			t.Errorf("%d: %q is read back as %v", k, k.String(), p)
		}
	}
	if _, ok := faultlb.Parse("rain"); ok {
		t.Error("rain is no fault")
	}
}
