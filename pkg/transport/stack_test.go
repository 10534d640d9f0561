package transport

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"homelab/internal/tlstest"
	"homelab/pkg/fault"
)

// Only the dial changes: Host, server name, verified name and path are the
// URL's, HTTP/2 is spoken, DNS is not asked (ci.homelab.test does not exist).
func TestPinnedDial(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := ca.Cert(t, "ci.homelab.test")
	s := serve(t, "127.0.0.2:0", &cert, hello)
	tests := []struct {
		name, base string
		pin        Pin
		host       string // as it arrives
	}{
		{"the pin's port", "https://ci.homelab.test", *s.pin(), "ci.homelab.test"},
		{"the URL's port", "https://ci.homelab.test:" + s.port(), Pin{Addr: s.addr.Addr()}, "ci.homelab.test:" + s.port()},
		{"both", "https://ci.homelab.test:4444", *s.pin(), "ci.homelab.test:4444"},
		{"any case", "https://CI.Homelab.TEST", *s.pin(), "CI.Homelab.TEST"},
		{"default port written out", "https://ci.homelab.test:443", *s.pin(), "ci.homelab.test:443"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := newStack(t, Options{Base: mustURL(t, tt.base), Pin: &tt.pin, CAFile: ca.File(t), UserAgent: "homelab/test"})
			status, body, err := fetch(t, st, http.MethodGet, tt.base+"/api/x?page=1")
			if err != nil || status != 200 || body != "hello" {
				t.Fatalf("answer %d %q, %v", status, body, err)
			}
			all := s.arrivals()
			got := all[len(all)-1]
			if got.proto != "HTTP/2.0" || !strings.EqualFold(got.sni, "ci.homelab.test") || got.host != tt.host ||
				got.path != "/api/x?page=1" || got.agent != "homelab/test" {
				t.Errorf("arrived as %+v", got)
			}
		})
	}
}

func TestOnlyThePinnedServerIsRerouted(t *testing.T) {
	pinned := serve(t, "127.0.0.2:0", nil, hello)
	other := serve(t, "127.0.0.3:0", nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "other") })
	named := newStack(t, Options{Base: mustURL(t, "http://ci.homelab.test"), Pin: pinned.pin()})
	// An address as the server's name shows what happens to its other ports
	// without asking DNS.
	numbered := newStack(t, Options{Base: mustURL(t, "http://127.0.0.3:1"), Pin: pinned.pin()})
	for _, tt := range []struct {
		st            *Stack
		address, want string
	}{
		{named, "http://ci.homelab.test/", "hello"},
		{named, "http://ci.homelab.test./", "hello"},
		{named, other.URL + "/", "other"},
		{numbered, "http://127.0.0.3:1/", "hello"},
		{numbered, other.URL + "/", "other"},
	} {
		if _, body, err := fetch(t, tt.st, http.MethodGet, tt.address); err != nil || body != tt.want {
			t.Errorf("%s: %q, %v", tt.address, body, err)
		}
	}
	if n := len(pinned.arrivals()); n != 3 {
		t.Errorf("the pinned server got %d requests, want 3", n)
	}
}

func TestCertificateErrors(t *testing.T) {
	ca, stranger := tlstest.NewCA(t), tlstest.NewCA(t)
	right, wrong, foreign := ca.Cert(t, "ci.homelab.test"), ca.Cert(t, "git.homelab.test", "www.homelab.test"), stranger.Cert(t, "ci.homelab.test")
	base := mustURL(t, "https://ci.homelab.test")
	t.Run("another name's", func(t *testing.T) {
		s := serve(t, "127.0.0.2:0", &wrong, hello)
		st := newStack(t, Options{Base: base, Pin: s.pin(), CAFile: ca.File(t)})
		_, _, err := fetch(t, st, http.MethodGet, base.String())
		var c *CertificateError
		if !errors.As(err, &c) || c.Addr != s.addr.String() || c.Name != "ci.homelab.test" ||
			!slices.Equal(c.Presented, []string{"git.homelab.test", "www.homelab.test"}) {
			t.Fatalf("ended with %#v", err)
		}
		for _, want := range []string{s.addr.String(), "ci.homelab.test", "git.homelab.test, www.homelab.test"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not name %s", err, want)
			}
		}
		if !slices.Equal(s.sni, []string{"ci.homelab.test"}) || len(s.arrivals()) != 0 {
			t.Errorf("asked for %v, %d requests came", s.sni, len(s.arrivals()))
		}
	})
	t.Run("of an unknown authority", func(t *testing.T) {
		s := serve(t, "127.0.0.2:0", &foreign, hello)
		st := newStack(t, Options{Base: base, Pin: s.pin(), CAFile: ca.File(t)})
		if _, _, err := fetch(t, st, http.MethodGet, base.String()); !errors.As(err, new(*CertificateError)) {
			t.Fatalf("ended with %#v", err)
		}
	})
	t.Run("without the CA file", func(t *testing.T) {
		s := serve(t, "127.0.0.2:0", &right, hello)
		st := newStack(t, Options{Base: base, Pin: s.pin()})
		if _, _, err := fetch(t, st, http.MethodGet, base.String()); !errors.As(err, new(*CertificateError)) {
			t.Fatalf("ended with %#v", err)
		}
	})
	t.Run("unpinned", func(t *testing.T) {
		s := serve(t, "127.0.0.1:0", &right, hello)
		st := newStack(t, Options{Base: mustURL(t, s.URL), CAFile: ca.File(t)})
		_, _, err := fetch(t, st, http.MethodGet, s.URL)
		var c *CertificateError
		if !errors.As(err, &c) || c.Addr != s.addr.String() || c.Name != "127.0.0.1" {
			t.Fatalf("ended with %#v", err)
		}
	})
	t.Run("for an address only", func(t *testing.T) {
		numbered := ca.Cert(t, "127.0.0.9")
		s := serve(t, "127.0.0.2:0", &numbered, hello)
		st := newStack(t, Options{Base: base, Pin: s.pin(), CAFile: ca.File(t)})
		_, _, err := fetch(t, st, http.MethodGet, base.String())
		var c *CertificateError
		if !errors.As(err, &c) || !slices.Equal(c.Presented, []string{"127.0.0.9"}) {
			t.Fatalf("ended with %#v", err)
		}
	})
	t.Run("for no name", func(t *testing.T) {
		nameless := ca.Cert(t)
		s := serve(t, "127.0.0.2:0", &nameless, hello)
		st := newStack(t, Options{Base: base, Pin: s.pin(), CAFile: ca.File(t)})
		_, _, err := fetch(t, st, http.MethodGet, base.String())
		var c *CertificateError
		if !errors.As(err, &c) || !slices.Equal(c.Presented, []string{"homelab test"}) { // its subject, for want of names
			t.Fatalf("ended with %#v", err)
		}
	})
	t.Run("tried once more, then final", func(t *testing.T) {
		s := serve(t, "127.0.0.2:0", &wrong, hello)
		st := newStack(t, Options{Base: base, Pin: s.pin(), CAFile: ca.File(t)})
		r := NewRetry(RetryOptions{Next: st, Judge: sort})
		_, _, err := fetch(t, r, http.MethodGet, base.String())
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Times != 2 || !errors.As(err, new(*CertificateError)) || len(s.sni) != 2 {
			t.Errorf("ended with %v after %d handshakes", err, len(s.sni))
		}
	})
}

// A proxy from the environment serves unpinned connections; it must not see
// the pinned server's, or the pin would silently do nothing.
func TestProxy(t *testing.T) {
	proxy := serve(t, "127.0.0.4:0", nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "proxied") })
	direct := serve(t, "127.0.0.2:0", nil, hello)
	through := func(*url.URL) (*url.URL, error) { return url.Parse(proxy.URL) }
	base := mustURL(t, "http://ci.homelab.test")
	token := func(context.Context) (Secret, error) { return NewSecret(canary) }

	pinned := newStack(t, Options{Base: base, Pin: direct.pin(), Proxy: through, Token: token})
	for address, want := range map[string]string{
		"http://ci.homelab.test/":    "hello",
		"http://other.test/":         "proxied",
		"http://ci.homelab.test:81/": "proxied",
	} {
		if _, body, err := fetch(t, pinned, http.MethodGet, address); err != nil || body != want {
			t.Errorf("pinned, %s: %q, %v", address, body, err)
		}
	}
	for _, a := range proxy.arrivals() {
		if a.auth != "" || a.host == "ci.homelab.test" {
			t.Errorf("the proxy saw %+v", a)
		}
	}
	unpinned := newStack(t, Options{Base: base, Proxy: through, InsecureHTTP: true})
	if _, body, err := fetch(t, unpinned, http.MethodGet, "http://ci.homelab.test/"); err != nil || body != "proxied" {
		t.Errorf("unpinned: %q, %v", body, err)
	}
}

func TestTokenAndRedirects(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := ca.Cert(t, "ci.homelab.test", "sub.ci.homelab.test", "login.homelab.test")
	var to string
	code := http.StatusFound
	s := serve(t, "127.0.0.2:0", &cert, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, to, code)
		case "/a", "/b", "/c", "/d":
			w.Header().Set("Location", "/"+string(r.URL.Path[1]+1)+"?q=1#frag")
			w.WriteHeader(code)
		case "/loop":
			http.Redirect(w, r, "/loop", code)
		case "/none":
			w.WriteHeader(code)
		case "/bad":
			w.Header().Set("Location", "http://[")
			w.WriteHeader(code)
		default:
			hello(w, r)
		}
	})
	// Whoever a redirect could send the token to.
	elsewhere := serve(t, "127.0.0.3:0", &cert, hello)
	plain := serve(t, "127.0.0.3:0", nil, hello)
	var log []string
	st := newStack(t, Options{
		Base: mustURL(t, "https://ci.homelab.test"), Pin: s.pin(), CAFile: ca.File(t),
		Token: func(context.Context) (Secret, error) { return NewSecret(canary) },
		Log:   func(f string, a ...any) { log = append(log, fmt.Sprintf(f, a...)) },
	})
	const home = "https://ci.homelab.test"
	for _, target := range []string{
		"https://ci.homelab.test:8443/", "http://ci.homelab.test/", "https://sub.ci.homelab.test/", "https://homelab.test/",
		"https://login.homelab.test/?return=" + url.QueryEscape(home), elsewhere.URL + "/", plain.URL + "/", "//login.homelab.test/x",
		"https://ci.homelab.test@" + elsewhere.addr.String() + "/", "ftp://ci.homelab.test/",
	} {
		to = target
		_, _, err := fetch(t, st, http.MethodGet, home+"/away")
		var away *RedirectError
		u := mustURL(t, target)
		if !errors.As(err, &away) || away.Host != u.Host || !strings.Contains(err.Error(), u.Host) || away.Status != code {
			t.Errorf("redirect to %s: %v", target, err)
		}
	}
	if n := len(elsewhere.arrivals()) + len(plain.arrivals()); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
	for _, a := range s.arrivals() {
		if a.path != "/away" || a.auth != "Bearer "+canary {
			t.Errorf("arrived: %+v", a)
		}
	}

	for _, code = range []int{301, 302, 303, 307, 308} {
		if status, body, err := fetch(t, st, http.MethodGet, home+"/b"); err != nil || status != 200 || body != "hello" {
			t.Errorf("three redirects inside the origin (%d): %d %q, %v", code, status, body, err)
		}
		all := s.arrivals()
		if last := all[len(all)-1]; last.path != "/e?q=1" || last.auth != "Bearer "+canary {
			t.Errorf("ended at %+v", last)
		}
		for _, path := range []string{"/a", "/loop"} {
			if _, _, err := fetch(t, st, http.MethodGet, home+path); !errors.As(err, new(*RedirectError)) {
				t.Errorf("four redirects (%s, %d): %v", path, code, err)
			}
		}
		before := len(s.arrivals())
		for _, method := range []string{http.MethodPost, http.MethodHead, http.MethodDelete} {
			if _, _, err := fetch(t, st, method, home+"/d"); !errors.As(err, new(*RedirectError)) {
				t.Errorf("redirected %s (%d): %v", method, code, err)
			}
		}
		if n := len(s.arrivals()) - before; n != 3 {
			t.Errorf("three redirected writes made %d requests", n)
		}
		if status, _, err := fetch(t, st, http.MethodGet, home+"/none"); err != nil || status != code {
			t.Errorf("%d without Location: %d, %v", code, status, err)
		}
		if _, _, err := fetch(t, st, http.MethodGet, home+"/bad"); !errors.As(err, new(*RedirectError)) {
			t.Errorf("unreadable Location: %v", err)
		}
	}
	for _, line := range log {
		if strings.Contains(line, canary) {
			t.Errorf("the log shows the token: %s", line)
		}
	}

	// A request to anywhere else gets no token in the first place.
	for _, address := range []string{plain.URL + "/", "https://ci.homelab.test:" + s.port() + "/"} {
		_, _, _ = fetch(t, st, http.MethodGet, address)
	}
	if got := plain.arrivals(); len(got) != 1 || got[0].auth != "" {
		t.Errorf("elsewhere arrived: %+v", got)
	}

	// A call that wants to see redirects itself is shown them, and none is
	// followed.
	for _, target := range []string{"/b", elsewhere.URL + "/"} {
		to = target
		before := len(s.arrivals())
		ctx := WithCall(t.Context(), Call{ByHand: true})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, home+"/away", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := NewRetry(RetryOptions{Next: st, Judge: func(Exchange) Judgement { return Judgement{Class: Answer} }}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != code || resp.Header.Get("Location") != target || len(s.arrivals()) != before+1 || len(elsewhere.arrivals()) != 0 {
			t.Errorf("by hand: %s, %q", resp.Status, resp.Header.Get("Location"))
		}
	}

	// The retry layer sees what its Judge makes of it.
	to = "https://login.homelab.test/"
	r := NewRetry(RetryOptions{Next: st, Judge: sort})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, home+"/away", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.RoundTrip(req)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Times != 2 || !strings.Contains(err.Error(), "login.homelab.test") {
		t.Errorf("through Retry: %v", err)
	}
}

func TestTokenSources(t *testing.T) {
	s := serve(t, "127.0.0.1:0", nil, hello)
	for name, tt := range map[string]struct {
		token func(context.Context) (Secret, error)
		set   func(http.Header, Secret)
		auth  string
		err   string
	}{
		"anonymous":      {},
		"none":           {token: func(context.Context) (Secret, error) { return Secret{}, nil }},
		"bearer":         {token: func(context.Context) (Secret, error) { return NewSecret(canary) }, auth: "Bearer " + canary},
		"written by us":  {token: func(context.Context) (Secret, error) { return NewSecret(canary) }, set: func(h http.Header, s Secret) { h.Set("Authorization", "token "+s.Reveal()) }, auth: "token " + canary},
		"a failing one":  {token: func(context.Context) (Secret, error) { return Secret{}, errors.New("vault is sealed") }, err: "vault is sealed"},
		"of the request": {token: func(ctx context.Context) (Secret, error) { return NewSecret(CallOf(ctx).Name) }, auth: "Bearer x"},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStack(t, Options{Base: mustURL(t, s.URL), Token: tt.token, SetToken: tt.set})
			before := len(s.arrivals())
			req, err := http.NewRequestWithContext(WithCall(t.Context(), Call{Name: "x"}), http.MethodGet, s.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := st.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			if len(req.Header) != 0 {
				t.Errorf("the caller's request was changed: %v", req.Header)
			}
			if tt.err != "" {
				if !errors.As(err, new(*TokenError)) || !strings.Contains(err.Error(), tt.err) || len(s.arrivals()) != before {
					t.Errorf("ended with %v, %d requests", err, len(s.arrivals())-before)
				}
				return
			}
			if got := s.arrivals(); err != nil || got[len(got)-1].auth != tt.auth {
				t.Errorf("arrived with %q, %v", got[len(got)-1].auth, err)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("not a certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	near, far := &Pin{Addr: netip.MustParseAddr("127.0.0.2")}, &Pin{Addr: netip.MustParseAddr("10.0.20.203")}
	tests := []struct {
		name string
		o    Options
		base string
		err  string // "": accepted
	}{
		{name: "https", base: "https://ci.homelab.test"},
		{name: "a root path", base: "https://ci.homelab.test/woodpecker/"},
		{name: "http to loopback", base: "http://127.0.0.1:8000"},
		{name: "http to localhost", base: "http://localhost:8000"},
		{name: "http to a loopback pin", base: "http://ci.homelab.test", o: Options{Pin: near}},
		{name: "http on purpose", base: "http://ci.homelab.test", o: Options{InsecureHTTP: true}},
		{name: "http", base: "http://ci.homelab.test", err: "plain http"},
		{name: "http to a pin", base: "http://ci.homelab.test", o: Options{Pin: far}, err: "plain http"},
		{name: "no scheme", base: "ci.homelab.test", err: "no scheme"},
		{name: "another scheme", base: "ftp://ci.homelab.test", err: "neither https nor http"},
		{name: "no host", base: "https:///x", err: "no host"},
		{name: "a password", base: "https://u:hunter2@ci.homelab.test", err: "must not contain a user name"},
		{name: "an empty pin", base: "https://ci.homelab.test", o: Options{Pin: &Pin{Port: 1}}, err: "no address"},
		{name: "a missing CA file", base: "https://ci.homelab.test", o: Options{CAFile: filepath.Join(dir, "none.pem")}, err: "none.pem"},
		{name: "an empty CA file", base: "https://ci.homelab.test", o: Options{CAFile: empty}, err: "holds no certificate"},
		{name: "a directory as CA file", base: "https://ci.homelab.test", o: Options{CAFile: dir}, err: "cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Base = mustURL(t, tt.base)
			_, err := New(tt.o)
			if tt.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("New: %v (%s), want a usage error with %q", err, fault.KindOf(err), tt.err)
			}
		})
	}
	if _, err := New(Options{}); fault.KindOf(err) != fault.Usage {
		t.Errorf("no URL: %v", err)
	}
}

// The settings no test on loopback would miss.
func TestTransportSettings(t *testing.T) {
	st := newStack(t, Options{Base: mustURL(t, "https://ci.homelab.test"), Pin: &Pin{Addr: netip.MustParseAddr("10.0.20.203")}})
	tr := st.base
	if !tr.ForceAttemptHTTP2 || tr.HTTP2.SendPingTimeout != 15*time.Second || tr.HTTP2.PingTimeout != 5*time.Second {
		t.Errorf("HTTP/2: forced %v, %+v", tr.ForceAttemptHTTP2, tr.HTTP2)
	}
	if tr.TLSHandshakeTimeout != 5*time.Second || tr.ResponseHeaderTimeout != 10*time.Second {
		t.Errorf("TLS %s, headers %s", tr.TLSHandshakeTimeout, tr.ResponseHeaderTimeout)
	}
	if tr.TLSClientConfig.InsecureSkipVerify || tr.TLSClientConfig.ServerName != "" || tr.TLSClientConfig.MinVersion != 0x0303 {
		t.Errorf("TLS settings: %+v", tr.TLSClientConfig)
	}
	if tr.Proxy != nil {
		t.Error("a proxy nobody configured")
	}
	if got := st.Origin().String(); got != "https://ci.homelab.test" {
		t.Errorf("origin %s", got)
	}
}

func TestBodiesOnTheWire(t *testing.T) {
	zipped := func(w http.ResponseWriter, size int) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, size))
		_ = z.Close()
	}
	s := serve(t, "127.0.0.1:0", nil, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gzip-fits":
			zipped(w, 1<<20)
		case "/gzip-bomb":
			zipped(w, 1<<20+1)
		case "/cut":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "12345")
		case "/stall":
			_, _ = io.WriteString(w, "12345")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/hang":
			<-r.Context().Done()
		}
	})
	st := newStack(t, Options{Base: mustURL(t, s.URL)})
	var mu sync.Mutex
	var seen []Exchange
	r := NewRetry(RetryOptions{Next: st, CloseIdle: st.CloseIdleConnections, Judge: func(x Exchange) Judgement {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, x)
		return Judgement{Class: Final} // one attempt is enough here
	}})
	call := func(path string, c Call) error {
		seen = nil
		ctx, cancel := context.WithTimeout(WithCall(t.Context(), c), 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.RoundTrip(req)
		return err
	}
	if _ = call("/gzip-fits", Call{MaxBody: 1 << 20}); len(seen) != 1 || seen[0].Err != nil || len(seen[0].Body) != 1<<20 {
		t.Errorf("1 MiB after decompression: %d bytes, %v", len(seen[0].Body), seen[0].Err)
	}
	if err := call("/gzip-bomb", Call{MaxBody: 1 << 20}); !errors.As(err, new(*TooLargeError)) {
		t.Errorf("1 MiB and a byte after decompression: %v", err)
	}
	if err := call("/cut", Call{}); !errors.Is(err, io.ErrUnexpectedEOF) || string(seen[0].Body) != "12345" {
		t.Errorf("cut: %v", err)
	}
	var late *TimeoutError
	if err := call("/stall", Call{Idle: 50 * time.Millisecond}); !errors.As(err, &late) || late.What != "byte of the body" || seen[0].Response == nil {
		t.Errorf("stalled body: %v", err)
	}
	if err := call("/hang", Call{Total: 50 * time.Millisecond}); !errors.As(err, &late) || late.What != "complete answer" {
		t.Errorf("hanging request: %v", err)
	}
	if err := call("/hang", Call{Total: 50 * time.Millisecond, Stream: true}); !errors.As(err, &late) || late.What != "answer" {
		t.Errorf("hanging stream: %v", err)
	}
}

// Connection level faults, then an answer: what the whole stack makes of a
// load balancer in trouble.
func TestRetryOnTheWire(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(c))
			switch n {
			case 0: // closed without a word
			case 1:
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"cut")
			case 2:
				_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			default:
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
			}
			_ = c.Close()
		}
	}()
	base := "http://" + l.Addr().String()
	st := newStack(t, Options{Base: mustURL(t, base)})
	trouble := 0
	r := NewRetry(RetryOptions{Next: st, Judge: sort, CloseIdle: st.CloseIdleConnections, Trouble: func(error) { trouble++ }})
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, base+"/", nil)
	req.RequestURI = ""
	resp, err := r.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "{}" || trouble != 1 {
		t.Errorf("answer %q, trouble told %d times", b, trouble)
	}
}

func TestLogLines(t *testing.T) {
	s := serve(t, "127.0.0.1:0", nil, hello)
	var log []string
	redact := &Redactor{}
	st := newStack(t, Options{
		Base: mustURL(t, s.URL), Redact: redact,
		Token: func(context.Context) (Secret, error) { return NewSecret(canary) },
		Log:   func(f string, a ...any) { log = append(log, fmt.Sprintf(f, a...)) },
	})
	if _, _, err := fetch(t, st, http.MethodGet, s.URL+"/x?access_token=abc&page=1&echo="+url.QueryEscape(canary)); err != nil {
		t.Fatal(err)
	}
	gone := "http://" + tlstest.Reserve(t).String()
	_, _, _ = fetch(t, st, http.MethodGet, gone+"/y")
	if len(log) != 2 {
		t.Fatalf("logged %q", log)
	}
	if !strings.HasPrefix(log[0], "GET "+s.URL+"/x?access_token=[redacted]&page=1&echo=[redacted]: HTTP/1.1 200 OK, ") {
		t.Errorf("logged %q", log[0])
	}
	if !strings.HasPrefix(log[1], "GET "+gone+"/y: dial tcp ") || !strings.Contains(log[1], "refused") {
		t.Errorf("logged %q", log[1])
	}
	if got := redact.String(canary); got != "[redacted]" {
		t.Error("the redactor did not learn the token")
	}
}
