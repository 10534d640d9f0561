// Package rig is what programs such as the demonstration and the bench share:
// a temporary folder that holds a user's home, and in front of any handler a
// TLS listener on the loopback under a name that DNS does not know, configured
// for the shipped binary as its users would configure it.
package rig

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/tlstest"
)

// Host is the server's name. Nothing resolves it.
const Host = "ci.example.lan"

// T stands in for *testing.T in a program: what packages of test support take
// from their test. Make it with Run.
type T struct {
	dir string

	mu     sync.Mutex
	clean  []func()
	failed []error
	temps  int
}

var _ tlstest.TB = (*T)(nil)

// failure is how Fatal leaves.
type failure struct{ err error }

// Run calls f with a T that keeps its temporary folders in dir, then everything
// f registered with Cleanup, last first. It returns what went wrong.
func Run(dir string, f func(*T) error) (err error) {
	t := &T{dir: dir}
	defer func() {
		for _, c := range slices.Backward(t.clean) {
			c()
		}
		err = errors.Join(append([]error{err}, t.failed...)...)
	}()
	defer func() {
		switch x := recover().(type) {
		case nil:
		case failure:
			err = x.err
		default:
			panic(x)
		}
	}()
	return f(t)
}

// Helper does nothing.
func (t *T) Helper() {}

// Fatal ends Run with an error.
func (t *T) Fatal(args ...any) { panic(failure{errors.New(fmt.Sprint(args...))}) }

// Errorf lets Run fail in the end.
func (t *T) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = append(t.failed, fmt.Errorf(format, args...))
}

// Cleanup registers f for the end of Run.
func (t *T) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clean = append(t.clean, f)
}

// TempDir makes a new folder.
func (t *T) TempDir() string {
	t.mu.Lock()
	t.temps++
	dir := filepath.Join(t.dir, fmt.Sprintf("temp-%d", t.temps))
	t.mu.Unlock()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Site is a server within reach, and the home of a user who knows it.
type Site struct {
	Addr string // where it listens: what the user's configuration pins
	Home string // HOME of the user
	temp string
	ca   *tlstest.CA
}

// Open lets h be served at https://ci.example.lan, pinned to a free port of
// the loopback. If h is a balancer, it also decides about the connections.
func Open(t *T, h http.Handler) *Site {
	s := &Site{Home: t.TempDir(), temp: t.TempDir(), ca: tlstest.NewCA(t)}
	cert, o := s.ca.Cert(t, Host), tlstest.Options{}
	if lb, ok := h.(*faultlb.Balancer); ok {
		o.Cert = lb.Certificate(cert, s.ca.Cert(t, "default.ingress.local"))
		o.Wrap = lb.Listener
		o.HTTP1 = true            // where a reset is one of the connection
		defer t.Cleanup(lb.Close) // before the listener's own end
	}
	s.Addr = tlstest.Start(t, h, cert, o).Addr.String()
	dir := filepath.Dir(s.Config())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("woodpecker:\n  server: https://%s\n  dial: %s\n  ca-file: lab-ca.pem\n", Host, s.Addr)
	for name, data := range map[string][]byte{s.Config(): []byte(config), filepath.Join(dir, "lab-ca.pem"): s.ca.PEM()} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Config is the user's configuration file.
func (s *Site) Config() string { return filepath.Join(s.Home, ".config", "homelab", "config.yaml") }

// Env is the whole environment of the user's processes: nothing of the
// machine's own user but PATH, the language and the terminal.
func (s *Site) Env(token string) []string {
	env := []string{
		"HOME=" + s.Home, "XDG_CONFIG_HOME=" + filepath.Join(s.Home, ".config"), "TMPDIR=" + s.temp,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_DATE=2026-01-01T12:00:00Z", "GIT_COMMITTER_DATE=2026-01-01T12:00:00Z",
		"WOODPECKER_TOKEN=" + token,
	}
	for _, name := range []string{"PATH", "TERM", "COLORTERM", "NO_COLOR", "LANG", "LC_ALL", "LC_CTYPE"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Client asks the server as any program would that knows its address and
// trusts its authority.
func (s *Site) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: cmp.Or(timeout, 15*time.Second),
		Transport: &http.Transport{
			ForceAttemptHTTP2: true,
			TLSClientConfig:   &tls.Config{RootCAs: s.ca.Pool(), MinVersion: tls.VersionTLS12},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, s.Addr)
			},
		},
	}
}
