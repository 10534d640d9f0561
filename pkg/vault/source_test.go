package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/tlstest"
	"homelab/internal/vaultsim"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

const (
	vaultToken = "hvs.canary-vault-token"
	ciToken    = "cAnary-ci-t0ken"
	host       = "vault.homelab.test" // no such name: only a pin reaches it
)

func secret(t testing.TB, v string) transport.Secret {
	t.Helper()
	s, err := transport.NewSecret(v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lab is a Vault with a mount of each version.
func lab() *vaultsim.Vault {
	v := vaultsim.New()
	for _, ns := range []string{"", "team"} {
		v.Mount(ns, "secret", 2)
		v.Mount(ns, "kv1", 1)
		v.Mount(ns, "deep/er/kv", 2)
	}
	v.Put("", "secret/ci/global", map[string]any{"woodpecker_api_token": "old", "other": "x"})
	v.Put("", "secret/ci/global", map[string]any{
		"woodpecker_api_token": " " + ciToken + "\n", "other": "x", "number": 12345, "list": []int{1}, "torn": "a\nb", "empty": "",
	})
	v.Put("", "kv1/ci/global", map[string]any{"woodpecker_api_token": ciToken})
	v.Put("", "kv1/bare", nil)
	v.Put("", "deep/er/kv/ci", map[string]any{"woodpecker_api_token": ciToken})
	v.Put("", "secret/deleted", map[string]any{"x": "y"})
	v.Delete("", "secret/deleted", false)
	v.Put("", "secret/destroyed", map[string]any{"x": "y"})
	v.Delete("", "secret/destroyed", true)
	v.Put("team", "secret/ci/global", map[string]any{"woodpecker_api_token": "the-teams"})
	v.Token(vaultToken, vaultsim.Token{Policies: []string{"default", "root"}})
	return v
}

// serve starts v and returns options that reach it through a pin.
func serve(t *testing.T, v *vaultsim.Vault) Options {
	t.Helper()
	ca := tlstest.NewCA(t)
	s := v.Serve(t, ca, host)
	address, err := url.Parse("https://" + host)
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Address: address, Pin: &transport.Pin{Addr: s.Addr.Addr(), Port: s.Addr.Port()}, CAFile: ca.File(t),
		Token: secret(t, vaultToken), Path: "secret/ci/global", Field: "woodpecker_api_token",
		UserAgent: "homelab/test", Redact: &transport.Redactor{},
	}
}

func source(t *testing.T, o Options) *Source {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantFault checks kind, texts and that no secret is in the error.
func wantFault(t *testing.T, err error, kind fault.Kind, next string, texts ...string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("ended with %#v (%v), want a fault", err, err)
	}
	if f.Kind != kind || f.Next != next {
		t.Errorf("%v: kind %s, next %q; want %s, %q", err, f.Kind, f.Next, kind, next)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
	if all := fmt.Sprintf("%+v", *f); strings.Contains(all, vaultToken) || strings.Contains(all, ciToken) {
		t.Errorf("a secret is in %s", all)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	v := lab()
	base := serve(t, v)
	limited := func(read ...string) vaultsim.Token {
		return vaultsim.Token{Read: read, NoMounts: true, Policies: []string{"ci"}}
	}
	tests := []struct {
		name  string
		o     func(*Options)
		token vaultsim.Token
		want  string
		next  string
		err   []string // nil: want is read
		usage bool     // the configuration is wrong, as only Vault shows
	}{
		{name: "version 2", want: ciToken},
		{name: "slashes around the path", o: func(o *Options) { o.Path = "/secret/ci/global/" }, want: ciToken},
		{name: "version 1", o: func(o *Options) { o.Path = "kv1/ci/global" }, want: ciToken},
		{name: "a mount with slashes", o: func(o *Options) { o.Path = "deep/er/kv/ci" }, want: ciToken},
		{name: "a number", o: func(o *Options) { o.Field = "number" }, want: "12345"},
		{name: "a namespace", o: func(o *Options) { o.Namespace = "team" }, want: "the-teams"},
		{name: "version 2 without the mount", token: limited("secret/data/ci/global"), want: ciToken},
		{name: "version 1 without the mount", o: func(o *Options) { o.Path = "kv1/ci/global" }, token: limited("kv1/ci/global"), want: ciToken},
		{name: "version 1 without the mount, all paths", o: func(o *Options) { o.Path = "kv1/ci/global" }, token: limited("*"), want: ciToken},

		{
			name: "missing field", o: func(o *Options) { o.Field = "token" }, next: "homelab config show",
			err: []string{"secret/ci/global has no field token", "it has empty, list, number, other, torn, woodpecker_api_token"},
		},
		{name: "no fields", o: func(o *Options) { o.Path = "kv1/bare" }, next: "vault kv list kv1", err: []string{"nothing at kv1/bare"}},
		{name: "a list", o: func(o *Options) { o.Field = "list" }, next: "homelab config show", err: []string{"field list", "not text"}},
		{name: "two lines", o: func(o *Options) { o.Field = "torn" }, next: "homelab config show", err: []string{"field torn", "control character"}},
		{name: "an empty field", o: func(o *Options) { o.Field = "empty" }, next: "homelab config show", err: []string{"field empty", "is empty"}},
		{
			name: "missing path", o: func(o *Options) { o.Path = "secret/ci/gone" }, next: "vault kv list secret/ci",
			err: []string{"nothing at secret/ci/gone", "asked for secret/data/ci/gone"},
		},
		{name: "missing path, version 1", o: func(o *Options) { o.Path = "kv1/it's gone/x" }, next: `vault kv list 'kv1/it'\''s gone'`, err: []string{"nothing at kv1/it's gone/x"}},
		{name: "missing path without the mount", o: func(o *Options) { o.Path = "secret/ci/gone" }, token: limited("secret/data/*"), next: "vault kv list secret/ci", err: []string{"nothing at secret/ci/gone"}},
		{name: "missing path in a namespace", o: func(o *Options) { o.Path, o.Namespace = "secret/x/y", "team" }, next: "vault kv list secret/x", err: []string{"namespace team"}},
		{
			name: "the API's path instead of the command's", o: func(o *Options) { o.Path = "secret/data/ci/global" }, next: "vault kv list secret/data/ci",
			err: []string{"perhaps the path should be secret/ci/global"},
		},
		{
			name: "deleted", o: func(o *Options) { o.Path = "secret/deleted" }, next: "vault kv undelete -versions=1 secret/deleted",
			err: []string{"version (1) of the Vault secret secret/deleted was deleted at 2026-05-01"},
		},
		{name: "deleted, without the mount", o: func(o *Options) { o.Path = "secret/deleted" }, token: limited("*"), next: "vault kv undelete -versions=1 secret/deleted", err: []string{"was deleted"}},
		{name: "destroyed", o: func(o *Options) { o.Path = "secret/destroyed" }, next: "vault kv metadata get secret/destroyed", err: []string{"version (1)", "was destroyed"}},
		{name: "a mount as path", o: func(o *Options) { o.Path = "deep/er/kv" }, next: "homelab config show", err: []string{"deep/er/kv is a mount"}, usage: true},

		{name: "expired", token: vaultsim.Token{Expired: true}, next: "vault login", err: []string{"invalid or has expired", "https://" + host}},
		{name: "another namespace's", o: func(o *Options) { o.Namespace = "team" }, token: vaultsim.Token{Namespace: "other"}, next: "vault login", err: []string{"invalid or has expired", "namespace team"}},
		{
			name: "no policy", token: vaultsim.Token{Read: []string{}, Policies: []string{"default", "dev"}}, next: "vault token capabilities secret/data/ci/global",
			err: []string{"may not read secret/data/ci/global", "(default, dev)"},
		},
		{name: "no policy, version 1", o: func(o *Options) { o.Path = "kv1/ci/global" }, token: vaultsim.Token{Read: []string{}}, next: "vault token capabilities kv1/ci/global", err: []string{"may not read kv1/ci/global"}},
		{name: "no policy, no mount", token: limited("x"), next: "vault token capabilities secret/data/ci/global", err: []string{"may not read secret/data/ci/global"}},
		{name: "no such mount", o: func(o *Options) { o.Path = "nowhere/ci" }, next: "vault kv list nowhere", err: []string{"nothing at nowhere/ci"}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := base
			token := fmt.Sprintf("hvs.token-%d", i)
			v.Token(token, tt.token)
			o.Token = secret(t, token)
			if tt.o != nil {
				tt.o(&o)
			}
			got, err := source(t, o).Read(t.Context())
			if tt.err != nil {
				kind := fault.Denied
				if tt.usage {
					kind = fault.Usage
				}
				wantFault(t, err, kind, tt.next, tt.err...)
				return
			}
			if err != nil || got.Reveal() != tt.want {
				t.Fatalf("read %q, %v; want %q", got.Reveal(), err, tt.want)
			}
			if o.Redact.String(got.Reveal()+token) != "[redacted][redacted]" {
				t.Error("the redactor did not learn both tokens")
			}
		})
	}
	for _, r := range v.Requests() {
		if r.UserAgent != "homelab/test" || !strings.HasPrefix(r.Token, "hvs.token-") || r.Header.Get("X-Vault-Request") != "true" {
			t.Errorf("arrived: %+v", r)
		}
	}
}

func TestTokenSources(t *testing.T) {
	t.Parallel()
	v := lab()
	base := serve(t, v)
	tests := []struct {
		name  string
		token string
		files map[string]string
		want  string // the token that arrives
		next  string
		err   []string
	}{
		{name: "configured", token: vaultToken, files: map[string]string{".vault-token": "hvs.other"}, want: vaultToken},
		{name: "of vault login", files: map[string]string{".vault-token": vaultToken + "\n"}, want: vaultToken},
		{name: "none", next: "vault login", err: []string{"no Vault token", "VAULT_TOKEN and ~/.vault-token"}},
		{name: "empty", files: map[string]string{".vault-token": "\n"}, next: "vault login", err: []string{"no Vault token"}},
		{name: "torn", files: map[string]string{".vault-token": vaultToken + "\nx"}, next: "vault login", err: []string{"cannot be used", "control character"}},
		{name: "unreadable", files: map[string]string{".vault-token/x": ""}, next: "vault login", err: []string{"cannot be read"}},
		{
			name: "a helper program", files: map[string]string{".vault": "# mine\ntoken_helper = \"/usr/bin/pass-vault\"\n"}, next: "vault login",
			err: []string{"/usr/bin/pass-vault", "is not started", "set VAULT_TOKEN"},
		},
		{name: "a helper in JSON", files: map[string]string{".vault": `{"token_helper": "/x/y"}`}, next: "vault login", err: []string{"/x/y named in ~/.vault is not started"}},
		{name: "no helper", files: map[string]string{".vault": "# token_helper = \"/x\"\n"}, next: "vault login", err: []string{"no Vault token"}},
		{
			name: "stale beside a helper", files: map[string]string{".vault-token": "hvs.stale", ".vault": `token_helper = "/x/y"`}, next: "vault login",
			err: []string{"invalid or has expired", "/x/y named in ~/.vault is not started"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := base
			o.Token, o.Home = transport.Secret{}, t.TempDir()
			if tt.token != "" {
				o.Token = secret(t, tt.token)
			}
			for name, text := range tt.files {
				file := filepath.Join(o.Home, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := source(t, o).Read(t.Context())
			if tt.err != nil {
				wantFault(t, err, fault.Denied, tt.next, tt.err...)
				if tt.name == "no helper" && strings.Contains(err.Error(), "helper") {
					t.Errorf("a commented helper is named: %v", err)
				}
				return
			}
			if err != nil || got.Reveal() != ciToken {
				t.Errorf("read %v, %v", got, err)
			}
			if all := v.Requests(); all[len(all)-1].Token != tt.want {
				t.Errorf("arrived with another token")
			}
		})
	}
	before := len(v.Requests())
	o := base
	o.Token = transport.Secret{}
	if _, err := source(t, o).Read(t.Context()); err == nil || len(v.Requests()) != before {
		t.Errorf("without a home: %v, %d requests", err, len(v.Requests())-before)
	}
}

// Nothing of the process's VAULT_* reaches a request, and a malformed one does
// no harm. Not parallel: it changes the environment.
func TestEnvironmentHasNoEffect(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	good := map[string]string{
		"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_AGENT_ADDR": "https://127.0.0.1:2", "VAULT_TOKEN": "hvs.from-environment",
		"VAULT_NAMESPACE": "elsewhere", "VAULT_HEADERS": `{"X-Evil": "1"}`, "VAULT_WRAP_TTL": "60s", "VAULT_SKIP_VERIFY": "true",
		"VAULT_HTTP_PROXY": "http://127.0.0.1:3", "VAULT_PROXY_ADDR": "http://127.0.0.1:3", "VAULT_SRV_LOOKUP": "true",
		"VAULT_CLIENT_TIMEOUT": "1ns", "VAULT_MAX_RETRIES": "9", "VAULT_RATE_LIMIT": "0.0001:0", "VAULT_MFA": "x:1",
		"VAULT_TLS_SERVER_NAME": "evil.test", "VAULT_DISABLE_REDIRECTS": "false",
	}
	bad := []map[string]string{
		{"VAULT_SKIP_VERIFY": "maybe"},
		{"VAULT_CACERT": missing},
		{"VAULT_CAPATH": missing},
		{"VAULT_CLIENT_CERT": missing},
		{"VAULT_CLIENT_TIMEOUT": "soon"},
		{"VAULT_MAX_RETRIES": "-1"},
		{"VAULT_RATE_LIMIT": "fast"},
		{"VAULT_HEADERS": "{"},
		{"VAULT_HEADERS": `{"X-Vault-Token": "x"}`},
		{"VAULT_PROXY_ADDR": "http://[::1"},
		{"VAULT_SRV_LOOKUP": "?", "VAULT_DISABLE_REDIRECTS": "?", "VAULT_TOKEN": "hvs.from-environment", "VAULT_NAMESPACE": "elsewhere"},
	}
	v := lab()
	o := serve(t, v)
	for _, vars := range append(bad, good) {
		t.Run(fmt.Sprint(vars), func(t *testing.T) {
			for name, value := range vars {
				t.Setenv(name, value)
			}
			got, err := source(t, o).Read(t.Context())
			if err != nil || got.Reveal() != ciToken {
				t.Errorf("read %v, %v", got, err)
			}
			for name, value := range vars {
				if os.Getenv(name) != value {
					t.Errorf("%s is now %q", name, os.Getenv(name))
				}
			}
		})
	}
	t.Run("in parallel", func(t *testing.T) {
		t.Setenv("VAULT_SKIP_VERIFY", "maybe")
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := New(o); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
	for _, r := range v.Requests() {
		if r.Token != vaultToken || r.Namespace != "" || r.Header.Get("X-Evil") != "" || r.Header.Get("X-Vault-Wrap-Ttl") != "" || r.Header.Get("X-Vault-Mfa") != "" {
			t.Errorf("arrived: %+v", r)
		}
	}
	// VAULT_SKIP_VERIFY must not weaken trust.
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	o.CAFile = ""
	_, err := source(t, o).Read(t.Context())
	wantFault(t, err, fault.Unreachable, "homelab doctor", "cannot be trusted", host)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	parse := func(s string) *url.URL { u, _ := url.Parse(s); return u }
	base := Options{Address: parse("https://" + host), Path: "secret/ci/global", Field: "f"}
	for name, tt := range map[string]struct {
		change func(*Options)
		err    string
	}{
		"no address":    {func(o *Options) { o.Address = nil }, "set vault.address or VAULT_ADDR"},
		"no path":       {func(o *Options) { o.Path = "" }, "not MOUNT/PATH"},
		"a mount only":  {func(o *Options) { o.Path = "secret/" }, "not MOUNT/PATH"},
		"dots":          {func(o *Options) { o.Path = "secret/../sys" }, "not MOUNT/PATH"},
		"a hole":        {func(o *Options) { o.Path = "secret//ci" }, "not MOUNT/PATH"},
		"no field":      {func(o *Options) { o.Field = "" }, "no field"},
		"plain http":    {func(o *Options) { o.Address = parse("http://" + host) }, "plain http"},
		"no CA file":    {func(o *Options) { o.CAFile = "/nonexistent/ca.pem" }, "vault: the CA file"},
		"a bad address": {func(o *Options) { o.Address = parse("vault.lan") }, "no scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			o := base
			tt.change(&o)
			_, err := New(o)
			wantFault(t, err, fault.Usage, "homelab config show", tt.err)
		})
	}
}

// The token stays with its server: a standby's redirect is not followed.
func TestRedirects(t *testing.T) {
	t.Parallel()
	v, active := lab(), lab()
	o := serve(t, v)
	other := httptest.NewServer(active)
	t.Cleanup(other.Close)
	v.Become(vaultsim.Standby, other.URL)
	_, err := source(t, o).Read(t.Context())
	wantFault(t, err, fault.Unreachable, "homelab config show", "redirects to "+strings.TrimPrefix(other.URL, "http://"), "the token is not sent there")
	if n := len(active.Requests()); n != 0 {
		t.Errorf("%d requests followed", n)
	}
	// A load balancer's standby names the balancer itself: that is the same origin.
	hops := 0
	v.Become(vaultsim.Active, "")
	v.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if hops++; hops%2 == 1 {
			http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	if got, err := source(t, o).Read(t.Context()); err != nil || got.Reveal() != ciToken {
		t.Errorf("through a redirecting balancer: %v, %v", got, err)
	}
}

// inMemory is a source whose Vault needs no socket, so that its time can be a
// bubble's.
func inMemory(t *testing.T, v *vaultsim.Vault) *Source {
	t.Helper()
	address, err := url.Parse("https://" + host)
	if err != nil {
		t.Fatal(err)
	}
	s := source(t, Options{Address: address, Token: secret(t, vaultToken), Path: "secret/ci/global", Field: "woodpecker_api_token"})
	if err := s.connect(&direct{v, s}, func() {}, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

type direct struct {
	v *vaultsim.Vault
	s *Source
}

func (d *direct) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := d.s.token()
	if err != nil {
		return nil, &transport.TokenError{Err: err}
	}
	req = req.Clone(req.Context())
	req.Header.Set("X-Vault-Token", token.Reveal())
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }() // a handler that cuts its answer
		d.v.ServeHTTP(w, req)
	}()
	<-done
	if req.Context().Err() != nil {
		return nil, req.Context().Err()
	}
	if w.Body.Len() == 0 && w.Code == http.StatusOK {
		return nil, errors.New("connection reset")
	}
	resp := w.Result()
	resp.Request = req
	return resp, nil
}

// What Vault's states and faults become, and how long that takes.
func TestUnwell(t *testing.T) {
	plain := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	broken := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	always := 1 << 30
	tests := []struct {
		name   string
		state  vaultsim.State
		times  int // requests answered by with
		with   http.HandlerFunc
		health bool // with answers sys/health too
		took   time.Duration
		next   string
		err    []string // nil: the token is read
	}{
		{name: "well", state: vaultsim.Active, took: 0},
		{name: "412, then well", state: vaultsim.Active, times: 2, with: plain(412, "application/json", `{"errors":["required index state not present"]}`), took: 750 * time.Millisecond},
		{name: "500, then well", state: vaultsim.Active, times: 1, with: plain(500, "application/json", `{"errors":["internal error"]}`), took: 250 * time.Millisecond},
		{name: "reset, then well", state: vaultsim.Active, times: 1, with: broken, took: 250 * time.Millisecond},
		{name: "a proxy's page, then well", state: vaultsim.Active, times: 1, with: plain(200, "text/html", `<html>login</html>`), took: 250 * time.Millisecond},
		{name: "a proxy's 404, then well", state: vaultsim.Active, times: 1, with: plain(404, "text/html", `<html>no backend</html>`), took: 250 * time.Millisecond},
		{name: "a proxy's 403, then well", state: vaultsim.Active, times: 1, with: plain(403, "text/html", `<html>forbidden</html>`), took: 250 * time.Millisecond},
		{name: "cut JSON, then well", state: vaultsim.Active, times: 1, with: plain(200, "application/json", `{"data":{"path":"sec`), took: 250 * time.Millisecond},
		{name: "503 while a leader is elected, then well", state: vaultsim.Active, times: 3, with: plain(503, "application/json", `{"errors":["Vault is sealed"]}`), took: 1750 * time.Millisecond},
		{name: "a hanging request, then well", state: vaultsim.Active, times: 1, with: hang, took: 10*time.Second + 250*time.Millisecond},

		{name: "sealed", state: vaultsim.Sealed, took: 3 * time.Second, next: "vault status", err: []string{"https://" + host + " is sealed", "503"}},
		{name: "not initialised", state: vaultsim.Uninitialised, took: 3 * time.Second, next: "vault status", err: []string{"is not initialised"}},
		{
			name: "not initialised, told by 501", state: vaultsim.Uninitialised, times: always, with: plain(501, "application/json", `{"errors":["not initialized"]}`),
			took: 3 * time.Second, next: "vault status", err: []string{"is not initialised", "501: not initialized"},
		},
		{name: "no active node", state: vaultsim.Standby, took: 15 * time.Second, next: "vault status", err: []string{"standby node that finds no active one", "500: local node not active"}},
		{name: "500 for ever", state: vaultsim.Active, times: always, with: plain(500, "application/json", `{"errors":["disk full"]}`), took: 15 * time.Second, next: "vault status", err: []string{"calls itself healthy", "disk full"}},
		{name: "503 for ever, though healthy", state: vaultsim.Active, times: always, with: plain(503, "application/json", `{"errors":["odd"]}`), took: 15 * time.Second, next: "vault status", err: []string{"calls itself healthy", "503: odd"}},
		{name: "nobody there", state: vaultsim.Active, times: always, with: broken, health: true, took: 15 * time.Second, next: "homelab doctor", err: []string{"cannot be reached", "connection reset"}},
		{name: "a proxy for ever", state: vaultsim.Active, times: always, with: plain(200, "text/html", "<html>"), health: true, took: 15 * time.Second, next: "homelab doctor", err: []string{"cannot be reached", "a proxy answers"}},
		{name: "hanging for ever", state: vaultsim.Active, times: always, with: hang, health: true, took: 20 * time.Second, next: "homelab doctor", err: []string{"cannot be reached", "no complete answer within 10s", "no answer within 20s"}},
		{name: "an answer of no kind", state: vaultsim.Active, times: always, with: plain(400, "application/json", `{"errors":["bad request"]}`), next: "homelab doctor", err: []string{"does not understand", "400", "bad request"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := lab()
				v.Become(tt.state, "")
				n := 0
				v.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == "/v1/sys/health" && !tt.health || n >= tt.times {
						return false
					}
					n++
					tt.with(w, r)
					return true
				})
				s := inMemory(t, v)
				began := time.Now()
				got, err := s.Read(t.Context())
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %s, want %s", took, tt.took)
				}
				if tt.err != nil {
					wantFault(t, err, fault.Unreachable, tt.next, tt.err...)
				} else if err != nil || got.Reveal() != ciToken {
					t.Errorf("read %v, %v", got, err)
				}
			})
		})
	}
}

func TestCallersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := lab()
		v.Intercept(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
		why := errors.New("interrupted")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, why)
		defer cancel()
		began := time.Now()
		_, err := inMemory(t, v).Read(ctx)
		if took := time.Since(began); err != why || took != 3*time.Second { //nolint:errorlint // the cause itself
			t.Errorf("ended with %v after %s", err, took)
		}
	})
}

// A refused read whose token cannot be looked up says both.
func TestLookupFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := lab()
		v.Token(vaultToken, vaultsim.Token{Read: []string{}})
		v.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "lookup-self") {
				http.Error(w, `{"errors":["oops"]}`, http.StatusInternalServerError)
				return true
			}
			return false
		})
		_, err := inMemory(t, v).Read(t.Context())
		wantFault(t, err, fault.Denied, "vault token capabilities secret/data/ci/global", "may not read", "could not be asked", "oops")
	})
}

// A rotated secret is seen by the next Read.
func TestReadIsFresh(t *testing.T) {
	t.Parallel()
	v := lab()
	s := source(t, serve(t, v))
	for _, want := range []string{ciToken, "rotated"} {
		if want != ciToken {
			v.Put("", "secret/ci/global", map[string]any{"woodpecker_api_token": want})
		}
		if got, err := s.Read(t.Context()); err != nil || got.Reveal() != want {
			t.Errorf("read %q, %v; want %q", got.Reveal(), err, want)
		}
	}
}

func TestLogHidesTokens(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log strings.Builder
	o := serve(t, lab())
	o.Log = func(f string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&log, f+"\n", a...)
	}
	if _, err := source(t, o).Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); !strings.Contains(got, "GET https://"+host+"/v1/secret/data/ci/global: HTTP/2.0 200 OK") ||
		strings.Contains(got, vaultToken) || strings.Contains(got, ciToken) {
		t.Errorf("logged:\n%s", got)
	}
}
