package lab

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/tlstest"
	"homelab/internal/woodsim"
)

// The lab's people, names and secrets. Every secret has the word canary in it,
// so that one search finds any of them.
const (
	Name     = "ci.example.lan" // of the server; no DNS has it
	Forge    = "https://git.example.lan"
	FullName = "ada/app"
	Login    = "ada"
	Token    = "wp-canary-4fJ7q2Zx9TtL0vR8"
	Variable = "variable-canary-8c1d" // a value of each row's variables
)

// Options describe a lab. The zero value is a public repository on the newest
// release, with a user who may push.
type Options struct {
	Version  string // of Woodpecker; "" means the simulator's newest
	RootPath string // "/ci": the server lives below it
	Repo     woodsim.RepoOptions
	Perm     woodsim.Perm // zero: pull and push
	Admin    bool         // the user administers the server
	HTTP1    bool         // no HTTP/2
	Seed     uint64       // of random faults
	CA       *tlstest.CA
}

// Lab is a running server.
type Lab struct {
	Sim  *woodsim.Server
	Repo *woodsim.Repo // the first one
	LB   *faultlb.Balancer
	Addr netip.AddrPort // where Name is to be dialled

	t        tlstest.TB
	o        Options
	server   *tlstest.Server
	offset   atomic.Int64 // nanoseconds the server's clock is ahead
	redirect atomic.Pointer[string]
	injected atomic.Int64 // faults before the last order

	mu     sync.Mutex
	repos  map[string]*woodsim.Repo
	tokens []string
}

// New starts a lab; it ends with the test.
func New(t tlstest.TB, o Options) *Lab {
	t.Helper()
	l := &Lab{t: t, o: o, repos: map[string]*woodsim.Repo{}, tokens: []string{Token}}
	l.Sim = woodsim.New(woodsim.Options{Version: o.Version, RootPath: o.RootPath, Now: l.Now, ForgeURL: Forge, Seed: o.Seed})
	l.Sim.AddUser(woodsim.User{Login: Login, Token: Token, Admin: o.Admin})
	if o.Repo.FullName == "" {
		o.Repo.FullName = FullName
	}
	if o.Perm == (woodsim.Perm{}) {
		o.Perm = woodsim.Perm{Pull: true, Push: true}
	}
	l.Repo = l.addRepo(o.Repo, o.Perm)
	l.LB = faultlb.New(l.Sim, faultlb.Options{Seed: o.Seed, RetryAfter: "0"})
	ca := o.CA
	if ca == nil {
		ca = tlstest.NewCA(t)
	}
	good, bad := ca.Cert(t, Name, "localhost"), ca.Cert(t, "default.ingress.local")
	l.server = tlstest.Start(t, http.HandlerFunc(l.serve), good, tlstest.Options{
		HTTP1: o.HTTP1, Wrap: l.LB.Listener, Cert: l.LB.Certificate(good, bad),
	})
	l.Addr = l.server.Addr
	t.Cleanup(l.LB.Close)
	return l
}

func (l *Lab) addRepo(o woodsim.RepoOptions, p woodsim.Perm) *woodsim.Repo {
	r := l.Sim.AddRepo(o)
	if p.Pull || p.Push {
		r.Allow(Login, p)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.repos[o.FullName] = r
	return r
}

// URL is the server's, without a port: the pin brings that.
func (l *Lab) URL() string { return "https://" + Name + l.o.RootPath }

// Dial is the pin that reaches the server.
func (l *Lab) Dial() string { return l.Addr.String() }

// Now is the server's clock.
func (l *Lab) Now() time.Time { return time.Now().Add(time.Duration(l.offset.Load())) }

// Advance sets the server's clock forward.
func (l *Lab) Advance(d time.Duration) {
	l.offset.Add(int64(d))
	l.Sim.Poke()
}

func (l *Lab) serve(w http.ResponseWriter, r *http.Request) {
	if to := l.redirect.Load(); to != nil {
		w.Header().Set("Location", *to)
		w.WriteHeader(http.StatusFound)
		return
	}
	l.LB.ServeHTTP(w, r)
}

// Plain starts a listener without TLS in front of the same server.
func (l *Lab) Plain() netip.AddrPort {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(l.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			l.t.Errorf("lab: %v", err)
		}
	}()
	l.t.Cleanup(func() { _ = s.Close() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// Close stops the server: its address is dead from now on.
func (l *Lab) Close() { l.server.Close() }

// Misuse returns what a client did that the real server would not have
// forgiven: a path that does not exist, another host's name, a credential that
// was never given out.
func (l *Lab) Misuse() error {
	var errs []error
	for _, r := range l.Sim.Unexpected() {
		errs = append(errs, fmt.Errorf("a request for nothing: %s %s?%s", r.Method, r.Path, r.Query))
	}
	l.mu.Lock()
	known := slices.Clone(l.tokens)
	l.mu.Unlock()
	for _, r := range l.Sim.Requests() {
		host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
		host = strings.TrimSuffix(host, ".")
		if host != Name && host != "localhost" && host != "127.0.0.1" {
			errs = append(errs, fmt.Errorf("%s %s came for the host %q", r.Method, r.Path, r.Host))
		}
		token := strings.TrimPrefix(r.Authorization(), "Bearer ")
		if token != "" && !slices.Contains(known, token) {
			errs = append(errs, fmt.Errorf("%s %s came with a credential nobody gave out", r.Method, r.Path))
		}
		if strings.Contains(r.Query, "canary") || strings.Contains(r.Query, "access_token") {
			errs = append(errs, fmt.Errorf("%s %s carries a secret in its query", r.Method, r.Path))
		}
	}
	for _, n := range l.server.ServerNames() {
		if n := strings.ToLower(n); n != Name && n != "localhost" {
			errs = append(errs, fmt.Errorf("a handshake asked for %q", n))
		}
	}
	return errors.Join(errs...)
}
