package doctor

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/internal/golden"
	"homelab/internal/tlstest"
	"homelab/internal/vaultsim"
	"homelab/internal/woodsim"
	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/verbs/verb"
)

// Everything is well: text, story and JSON as they are.
func TestHealthy(t *testing.T) {
	t.Parallel()
	l := newLab(t, "3.17.0")
	l.serve(t, host)
	out, story, err := l.run(t, "--repo", "ada/app")
	if err != nil {
		t.Error(err)
	}
	golden.CompareString(t, "healthy-pipe", l.same(out))
	golden.CompareString(t, "healthy-story", l.same(story))
	out, _, err = l.run(t, "--repo", "ada/app", "--json", "--quiet")
	if err != nil {
		t.Error(err)
	}
	golden.CompareString(t, "healthy-json", indent(t, l.same(out)))
	if n := len(l.sim.Unexpected()); n > 0 {
		t.Errorf("%d requests the server does not know: %v", n, l.sim.Unexpected())
	}
}

// vaulted keeps ada's token in a Vault instead of the environment.
func vaulted(t *testing.T, l *lab) *vaultsim.Vault {
	v := vaultsim.New()
	v.Mount("", "secret", 2)
	v.Put("", "secret/ci/global", map[string]any{"woodpecker": goodWord})
	v.Token("canary-vault", vaultsim.Token{})
	s := v.Serve(t, l.ca, "vault.example.lan")
	delete(l.env, "WOODPECKER_TOKEN")
	l.env["VAULT_TOKEN"], l.env["VAULT_CACERT"] = "canary-vault", l.ca.File(t)
	l.file += "  token-vault: {path: secret/ci/global, field: woodpecker}\nvault: {address: https://vault.example.lan, dial: '" + s.Addr.String() + "'}\n"
	return v
}

// Each ill by itself: the check that fails, what it says and what helps, what
// is left out for it and what is not, how the run ends.
func TestIlls(t *testing.T) {
	repo := []string{"--repo", "ada/app"}
	tests := []struct {
		name    string
		version string
		args    []string
		setup   func(t *testing.T, l *lab)
		code    int
		check   string
		status  status
		detail  []string // parts of it
		fix     string   // part of it; "-" none
		skipped string   // for it; "" none
		ok      string   // still looked at
	}{
		{
			name: "nothing configured", setup: func(_ *testing.T, l *lab) { l.env = map[string]string{"HOME": l.home} },
			code: 64, check: "server", status: failed, detail: []string{"no Woodpecker server", "--server URL", "WOODPECKER_SERVER"},
			fix: "homelab config init --server", skipped: "route dns tcp tls version health user repository permissions events", ok: "config git",
		},
		{
			name: "broken file", setup: func(_ *testing.T, l *lab) { l.file = "woodpecker:\n  sever: https://ci\n" },
			code: 64, check: "config", status: failed, detail: []string{"config.yaml:2", "server"},
			skipped: "server route dns tcp tls version health vault token user repository permissions events", ok: "git",
		},
		{
			name: "plain http", setup: func(_ *testing.T, l *lab) { l.file = "woodpecker: {server: http://ci.example.lan/ci}\n" },
			code: 64, check: "server", status: failed, detail: []string{"plain http", "could read the token"},
			fix: "homelab doctor --server https://ci.example.lan/ci", skipped: "route dns tcp", ok: "config token",
		},
		{
			name: "no CA file", setup: func(_ *testing.T, l *lab) {
				l.file = "woodpecker: {server: 'https://ci.example.lan', ca-file: /nowhere/ca.pem}\n"
			},
			code: 64, check: "server", status: failed, detail: []string{"CA file", "/nowhere/ca.pem"}, skipped: "tls", ok: "token",
		},
		{
			name: "part of the file is not used", setup: func(t *testing.T, l *lab) {
				s := l.serve(t, host, "other.example.lan")
				l.env["WOODPECKER_SERVER"], l.env["HOMELAB_WOODPECKER_DIAL"] = "https://other.example.lan", s.Addr.String()
			},
			// The CA file belongs to the other server.
			code: 7, check: "config", status: warned, detail: []string{"not all of it is used", "ca-file", "belongs to https://ci.example.lan"},
			fix: "homelab config show", ok: "tcp token",
		},
		{
			name: "no name in DNS", setup: func(_ *testing.T, l *lab) {
				l.file = "woodpecker: {server: https://ci.example.lan}\n"
				l.resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
					return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
				}
			},
			code: 7, check: "dns", status: failed, detail: []string{"no address for ci.example.lan", "no such host", "--dial"},
			fix: "getent ahosts ci.example.lan", skipped: "tcp tls version", ok: "route token git",
		},
		{
			name: "dead port", setup: func(t *testing.T, l *lab) {
				l.file = "woodpecker: {server: https://ci.example.lan, dial: '" + tlstest.Reserve(t).String() + "'}\n"
			},
			code: 7, check: "tcp", status: failed, detail: []string{"no connection to 127.0.0.1:", "refused", "config.yaml:1"},
			fix: "homelab config show", skipped: "tls version health user repository permissions events", ok: "route token git",
		},
		{
			name: "another server's certificate", setup: func(t *testing.T, l *lab) { l.serve(t, "www.example.lan", "mail.example.lan") },
			code: 7, check: "tls", status: failed,
			detail: []string{"another server answers at 127.0.0.1:", "www.example.lan, mail.example.lan", "wanted is ci.example.lan", "config.yaml:3"},
			fix:    "openssl s_client -connect 127.0.0.1:", skipped: "version health user", ok: "tcp token",
		},
		{
			name: "nobody's certificate", setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				l.file = strings.Replace(l.file, "  ca-file", "  # ca-file", 1)
			},
			code: 7, check: "tls", status: failed, detail: []string{"signed by nobody this machine trusts", "homelab test CA", "woodpecker.ca-file"},
			fix: "-servername ci.example.lan", skipped: "version", ok: "tcp",
		},
		{
			name: "expired certificate", setup: func(t *testing.T, l *lab) {
				l.pointTo(t, tlstest.Start(t, l.sim, l.ca.Expired(t, host), tlstest.Options{}))
			},
			code: 7, check: "tls", status: failed, detail: []string{"has expired", time.Now().Add(-time.Hour).UTC().Format(time.DateOnly), "clock"},
			fix: "openssl", skipped: "version", ok: "tcp",
		},
		{
			name: "certificate ends soon", args: repo, setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				l.now = time.Now().Add(-12*24*time.Hour - time.Hour)
			},
			check: "tls", status: warned, detail: []string{"ends on", "in 13 days", "ci.example.lan", "homelab test CA"},
			fix: "openssl s_client", ok: "version repository",
		},
		{
			name: "no TLS there", setup: func(t *testing.T, l *lab) {
				s, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				plain := &http.Server{Handler: l.sim}
				go func() { _ = plain.Serve(s) }()
				t.Cleanup(func() { plain.Close() })
				l.file = "woodpecker: {server: https://ci.example.lan, dial: '" + s.Addr().String() + "'}\n"
			},
			code: 7, check: "tls", status: failed, detail: []string{"does not speak TLS"}, skipped: "version", ok: "tcp",
		},
		{
			name: "old server", version: "3.13.0", args: repo, setup: func(t *testing.T, l *lab) { l.serve(t, host) },
			check: "version", status: warned, detail: []string{"3.13.0 is older than 3.14.0", "event stream"}, fix: "-", ok: "health repository permissions",
		},
		{
			name: "build from a branch", version: "dev", args: repo, setup: func(t *testing.T, l *lab) { l.serve(t, host) },
			check: "version", status: warned, detail: []string{"dev is no release", "event stream"}, ok: "health repository permissions",
		},
		{
			name: "candidate", version: "3.14.0-rc.1", args: repo, setup: func(t *testing.T, l *lab) { l.serve(t, host) },
			check: "version", status: warned, detail: []string{"3.14.0-rc.1 is no release"}, ok: "permissions",
		},
		{
			name: "wrong base path", setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				l.file = strings.Replace(l.file, "https://"+host, "https://"+host+"/wrong", 1)
			},
			code: 7, check: "version", status: failed, detail: []string{"base URL is wrong", "https://ci.example.lan/wrong", "web page"},
			fix: "homelab doctor --server https://ci.example.lan", skipped: "health user", ok: "tls token",
		},
		{
			name: "a proxy's page", setup: func(t *testing.T, l *lab) {
				l.pointTo(t, l.ca.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/html")
					_, _ = w.Write([]byte("<h1>It works!</h1>"))
				}), host))
			},
			code: 7, check: "version", status: failed, detail: []string{"a proxy answers at https://ci.example.lan instead of Woodpecker"},
			fix: "curl -sv https://ci.example.lan/version", skipped: "health user", ok: "tls token",
		},
		{
			name: "a login page elsewhere", setup: func(t *testing.T, l *lab) {
				l.pointTo(t, l.ca.Serve(t, http.RedirectHandler("https://sso.example.lan/login", http.StatusFound), host))
			},
			code: 7, check: "version", status: failed, detail: []string{"redirects to sso.example.lan", "never followed"},
			fix: "homelab config show", skipped: "health user", ok: "tls",
		},
		{
			name: "sick database", args: repo, setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				l.sim.TroubleFor(time.Hour, woodsim.Trouble{Health: true})
			},
			code: 7, check: "health", status: failed, detail: []string{"its database is not", "database is locked"}, ok: "version user repository permissions",
		},
		{
			name: "no token", setup: func(t *testing.T, l *lab) { l.serve(t, host); delete(l.env, "WOODPECKER_TOKEN") },
			code: 4, check: "token", status: failed, detail: []string{"no token for ci.example.lan", "WOODPECKER_TOKEN", "token-vault"},
			fix: "read -rs WOODPECKER_TOKEN", skipped: "user repository permissions", ok: "version health events",
		},
		{
			name: "a token that is none", setup: func(t *testing.T, l *lab) { l.serve(t, host); l.env["WOODPECKER_TOKEN"] = "two words" },
			code: 64, check: "token", status: failed, detail: []string{"WOODPECKER_TOKEN is not usable"}, skipped: "user", ok: "version",
		},
		{
			name: "bad token", args: repo, setup: func(t *testing.T, l *lab) { l.serve(t, host); l.env["WOODPECKER_TOKEN"] = "canary-old" },
			code: 4, check: "user", status: failed, detail: []string{"the token is not accepted", "401", "https://ci.example.lan/user/cli-and-api"},
			fix: "read -rs WOODPECKER_TOKEN", skipped: "repository permissions", ok: "token health events",
		},
		{
			name: "token in Vault", args: repo, setup: func(t *testing.T, l *lab) { l.serve(t, host); vaulted(t, l) },
			check: "token", status: passed, detail: []string{"from Vault, secret/ci/global, field woodpecker"}, ok: "vault user permissions",
		},
		{
			name: "old token in Vault", setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				vaulted(t, l).Put("", "secret/ci/global", map[string]any{"woodpecker": "canary-old"})
			},
			code: 4, check: "user", status: failed, detail: []string{"not accepted"}, fix: "vault kv patch secret/ci/global woodpecker=-", skipped: "repository", ok: "vault token",
		},
		{
			name: "Vault sealed", setup: func(t *testing.T, l *lab) { l.serve(t, host); vaulted(t, l).Become(vaultsim.Sealed, "") },
			code: 7, check: "token", status: failed, detail: []string{"Vault at https://vault.example.lan is sealed"}, fix: "vault status", skipped: "user repository", ok: "vault health",
		},
		{
			name: "Vault refuses", setup: func(t *testing.T, l *lab) { l.serve(t, host); vaulted(t, l); l.env["VAULT_TOKEN"] = "canary-gone" },
			code: 4, check: "token", status: failed, detail: []string{"the Vault token is invalid or has expired"}, fix: "vault login", skipped: "user", ok: "vault",
		},
		{
			name: "no such field", setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				vaulted(t, l)
				l.file = strings.Replace(l.file, "field: woodpecker", "field: wp", 1)
			},
			code: 4, check: "token", status: failed, detail: []string{"no field wp", "it has woodpecker"}, skipped: "user", ok: "vault",
		},
		{
			name: "Vault is away", setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				vaulted(t, l)
				l.file = l.file[:strings.Index(l.file, "\nvault: {")] + "\nvault: {address: https://vault.example.lan, dial: '" + tlstest.Reserve(t).String() + "'}\n"
			},
			code: 7, check: "vault", status: failed, detail: []string{"Vault: no connection to 127.0.0.1:", "refused"}, fix: "homelab config show", skipped: "token user", ok: "health",
		},
		{
			name: "Vault is somebody else", setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				vaulted(t, l)
				l.file = strings.Replace(l.file, "https://vault.example.lan", "https://vault2.example.lan", 1)
			},
			code: 7, check: "vault", status: failed, detail: []string{"Vault: another server answers", "vault.example.lan"}, skipped: "token", ok: "health",
		},
		{
			name: "no Vault address", setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				delete(l.env, "WOODPECKER_TOKEN")
				l.file += "  token-vault: {path: secret/ci/global, field: woodpecker}\n"
			},
			code: 64, check: "vault", status: failed, detail: []string{"no Vault address", "VAULT_ADDR"}, skipped: "token", ok: "health",
		},
		{
			name: "no such repository", args: []string{"--repo", "ada/nothing"}, setup: func(t *testing.T, l *lab) { l.serve(t, host) },
			code: 4, check: "repository", status: failed, detail: []string{"unknown to the server or not readable by ada", "ada/nothing (--repo): 404"}, skipped: "permissions", ok: "user events",
		},
		{
			name: "disabled repository", args: repo, setup: func(t *testing.T, l *lab) { l.serve(t, host); l.repo.SetActive(false) },
			code: 3, check: "repository", status: failed, detail: []string{"ada/app is disabled", "https://ci.example.lan/repos/2/settings"}, skipped: "permissions", ok: "user events",
		},
		{
			name: "may not push", args: repo, setup: func(t *testing.T, l *lab) { l.serve(t, host); l.repo.Allow("ada", woodsim.Perm{Pull: true}) },
			check: "permissions", status: warned, detail: []string{"ada may only read ada/app", "will be refused"}, ok: "repository events",
		},
		{
			name: "no repository named", setup: func(t *testing.T, l *lab) { l.serve(t, host) },
			check: "repository", status: skipped, detail: []string{"--repo OWNER/NAME"}, ok: "user events",
		},
		{
			name: "no git", setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				l.version = func(context.Context) (git.Version, error) { return git.Version{}, git.ErrNoGit }
			},
			code: 1, check: "git", status: failed, detail: []string{"not installed"}, skipped: "repository permissions", ok: "user events",
		},
		{
			name: "no git and no need", args: repo, setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				l.version = func(context.Context) (git.Version, error) { return git.Version{}, git.ErrNoGit }
			},
			code: 1, check: "git", status: failed, ok: "repository permissions events",
		},
		{
			name: "somebody else's checkout", args: repo, setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				l.checkout = func(context.Context) (*git.Repo, error) { return nil, &git.OwnershipError{Dir: "/src"} }
			},
			code: 1, check: "git", status: failed, detail: []string{"/src belongs to another user"}, fix: "git config --global --add safe.directory /src", ok: "repository",
		},
		{
			name: "stream cut off", args: repo, setup: func(t *testing.T, l *lab) {
				l.pointTo(t, l.ca.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/api/stream/events" {
						panic(http.ErrAbortHandler)
					}
					l.sim.ServeHTTP(w, r)
				}), host))
			},
			check: "events", status: warned, detail: []string{"cannot be used: stream error", "every few seconds"}, fix: "-", ok: "permissions",
		},
		{
			name: "stream held back", args: repo, setup: func(t *testing.T, l *lab) {
				l.pointTo(t, l.ca.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/api/stream/events" {
						w.Header().Set("Content-Type", "text/event-stream")
						w.WriteHeader(http.StatusOK)
						_ = http.NewResponseController(w).Flush()
						<-r.Context().Done()
						return
					}
					l.sim.ServeHTTP(w, r)
				}), host))
			},
			check: "events", status: warned, detail: []string{"opens and stays silent", "every few seconds"}, ok: "permissions",
		},
		{
			name: "stream refused by a proxy", args: repo, setup: func(t *testing.T, l *lab) {
				l.pointTo(t, l.ca.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/api/stream/events" {
						http.Error(w, "no", http.StatusBadGateway)
						return
					}
					l.sim.ServeHTTP(w, r)
				}), host))
			},
			check: "events", status: warned, detail: []string{"cannot be used: the server answered 502"}, ok: "permissions",
		},
		{
			name: "private and unknown to the stream", args: []string{"--repo", "ada/secret"}, setup: func(t *testing.T, l *lab) {
				l.serve(t, host)
				l.sim.AddRepo(woodsim.RepoOptions{FullName: "ada/secret", Visibility: "private"}).Allow("ada", woodsim.Perm{Pull: true, Push: true, Never: true})
			},
			check: "events", status: warned, detail: []string{"tells nothing of ada/secret"}, ok: "permissions",
		},
	}
	// All at once, also on a machine with few cores: most of the time is spent
	// waiting for refusals to be confirmed.
	t.Parallel()
	results := make([]told, len(tests))
	var running sync.WaitGroup
	for i, tt := range tests {
		l := newLab(t, cmp.Or(tt.version, "3.17.0"))
		tt.setup(t, l)
		running.Go(func() { results[i] = l.json(t, tt.args...) })
	}
	running.Wait()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := results[i]
			defer func() {
				if t.Failed() {
					t.Log("\n" + r.String())
				}
			}()
			if r.ExitCode != tt.code || r.Kind != "doctor" {
				t.Errorf("code %d, want %d", r.ExitCode, tt.code)
			}
			c := r.check(tt.check)
			if c.Status != tt.status {
				t.Errorf("%s is %s, want %s", tt.check, c.Status, tt.status)
			}
			for _, part := range tt.detail {
				if !strings.Contains(c.Detail, part) {
					t.Errorf("%s says %q, want %q in it", tt.check, c.Detail, part)
				}
			}
			switch {
			case tt.fix == "-" && c.Fix != nil:
				t.Errorf("fix %q", *c.Fix)
			case tt.fix != "" && tt.fix != "-" && (c.Fix == nil || !strings.Contains(*c.Fix, tt.fix)):
				t.Errorf("fix of %s is %v, want %q", tt.check, c.Fix, tt.fix)
			}
			for name := range strings.FieldsSeq(tt.skipped) {
				if got := r.check(name); got.Status != skipped || got.Detail != "needs "+tt.check {
					t.Errorf("%s is %s (%s), want skipped for %s", name, got.Status, got.Detail, tt.check)
				}
			}
			for name := range strings.FieldsSeq(tt.ok) {
				if got := r.check(name); got.Status != passed && got.Status != warned {
					t.Errorf("%s is %s (%s), want ok", name, got.Status, got.Detail)
				}
			}
			if tt.status == failed && (r.Next == nil) != (c.Fix == nil) {
				t.Errorf("next %v, fix %v", r.Next, c.Fix)
			}
		})
	}
}

// DNS is asked where the server is not pinned, and the checkout's remote says
// which repository it is.
func TestCheckoutWithoutPin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, remote string
		git, repo    status
		detail       string
	}{
		{"its own host", "https://git.example/ada/app.git", passed, passed, "ada/app, id 2"},
		{"a mirror", "git@mirror.example:ada/app.git", passed, warned, "under another host than mirror.example"},
		{"a directory", "/srv/git/app.git", warned, skipped, "none is named"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "3.17.0")
			s := l.ca.Serve(t, l.sim, "localhost")
			l.file = "woodpecker: {server: '" + s.URL("localhost") + "', ca-file: " + l.ca.File(t) + "}\n"
			asked := ""
			l.resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
				asked = name
				return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("::1")}, nil
			}
			r := gittest.New(t, "main")
			r.Git("remote", "add", "origin", tt.remote)
			l.checkout = func(ctx context.Context) (*git.Repo, error) { return git.Open(ctx, r.Dir, gittest.Env(t)) }
			got := l.json(t)
			if c := got.check("dns"); asked != "localhost" || c.Status != passed || c.Detail != "localhost is 127.0.0.1, ::1" {
				t.Errorf("dns: %v", c)
			}
			if got.check("git").Status != tt.git || got.check("repository").Status != tt.repo || !strings.Contains(got.check("repository").Detail, tt.detail) {
				t.Errorf("\n%s", got)
			}
		})
	}
}

// A proxy is where connections go, unless the server is pinned.
func TestProxy(t *testing.T) {
	t.Parallel()
	l := newLab(t, "3.17.0")
	l.env["HTTPS_PROXY"] = "http://ada:canary-proxy@" + tlstest.Reserve(t).String()
	l.file = "woodpecker: {server: https://ci.example.lan}\n"
	r := l.json(t)
	if c := r.check("route"); c.Status != passed || !strings.Contains(c.Detail, "through the proxy 127.0.0.1:") {
		t.Errorf("route: %v", c)
	}
	if c := r.check("dns"); c.Status != skipped || !strings.Contains(c.Detail, "proxy") {
		t.Errorf("dns: %v", c)
	}
	if c := r.check("tcp"); c.Status != failed || !strings.Contains(c.Detail, "refused") || strings.Contains(r.String(), "canary") {
		t.Errorf("\n%s", r)
	}
	l.serve(t, host)
	if r = l.json(t, "--repo", "ada/app"); r.ExitCode != 0 || !strings.Contains(r.check("route").Detail, "past DNS and any proxy") {
		t.Errorf("\n%s", r)
	}
}

// hanging answers nothing for as long as somebody asks.
func hanging(t *testing.T, l *lab) {
	l.pointTo(t, l.ca.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), host))
}

// The whole is bounded, and what was not found out is said.
func TestTimeUp(t *testing.T) {
	t.Parallel()
	l := newLab(t, "3.17.0")
	hanging(t, l)
	began := time.Now()
	r := l.json(t, "--timeout", "300ms")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	if r.ExitCode != 8 || r.Verdict != "timeout" || r.check("token").Status != passed || r.check("user").Status != skipped {
		t.Errorf("\n%s", r)
	}
}

// A signal ends it at once, with a result.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		l := newLab(t, "3.17.0")
		hanging(t, l)
		l.ctx = func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			t.Cleanup(func() { cancel(nil) })
			time.AfterFunc(100*time.Millisecond, func() { cancel(&fault.Signal{Signal: sig}) })
			return ctx
		}
		began := time.Now()
		r := l.json(t)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		if r.ExitCode != code || r.Verdict != "interrupted" || !strings.Contains(r.Reason, "of 17 had ended") ||
			r.check("version").Detail != "not known: interrupted" || r.check("user").Detail != "not known: interrupted" {
			t.Errorf("\n%s", r)
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"x"},
		{"--repo", "app"},
		{"--repo", "a/../b"},
		{"--repo", "0"},
		{"--repo", ""},
		{"--timeout", "-1s"},
		{"--server", ""},
	} {
		l := newLab(t, "3.17.0")
		out, _, err := l.run(t, args...)
		if fault.KindOf(err) != fault.Usage || out != "" || len(l.sim.Requests()) > 0 {
			t.Errorf("%v: %v, %q", args, err, out)
		}
	}
	l := newLab(t, "3.17.0")
	l.serve(t, host)
	for _, args := range [][]string{{"--repo", "2"}, {"--repo", "ADA/App"}} {
		if r := l.json(t, args...); r.ExitCode != 0 || !strings.Contains(r.check("repository").Detail, "ada/app, id 2") {
			t.Errorf("%v:\n%s", args, r)
		}
	}
}

// A failure in text, on a pipe and on a terminal, and as events.
func TestFailureIsTold(t *testing.T) {
	t.Parallel()
	l := newLab(t, "3.13.0")
	l.serve(t, host)
	delete(l.env, "WOODPECKER_TOKEN")
	out, story, err := l.run(t)
	var end *verb.Exit
	if !errors.As(err, &end) || end.Kind != fault.Denied {
		t.Errorf("got %v", err)
	}
	golden.CompareString(t, "denied-pipe", l.same(out))
	golden.CompareString(t, "denied-story", l.same(story))
	out, _, _ = l.run(t, "--jsonl")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(checks())+1 || !strings.HasPrefix(lines[0], `{"type":"check",`) || !strings.Contains(lines[0], `"name":"config"`) ||
		!strings.HasPrefix(lines[len(lines)-1], `{"type":"result",`) {
		t.Errorf("events:\n%s", out)
	}
}
