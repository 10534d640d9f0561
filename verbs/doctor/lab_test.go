package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"homelab/internal/tlstest"
	"homelab/internal/woodsim"
	"homelab/pkg/config"
	"homelab/pkg/git"
	"homelab/pkg/kube"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
	"homelab/pkg/vault"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

const (
	host     = "ci.example.lan"
	goodWord = "canary-token-of-ada"
)

// lab is a machine with a configuration, and a server in its reach.
type lab struct {
	ca   *tlstest.CA
	home string
	sim  *woodsim.Server
	repo *woodsim.Repo

	env      map[string]string
	file     string // the user's file; "" none
	now      time.Time
	resolve  func(context.Context, string) ([]netip.Addr, error)
	checkout func(context.Context) (*git.Repo, error)
	version  func(context.Context) (git.Version, error)
	tty      bool

	kubeconfig []string
	ctx        func(context.Context) context.Context
}

// newLab returns one in which everything is well: a server of the version, a
// token, a repository ada may do anything with.
func newLab(t *testing.T, version string) *lab {
	t.Helper()
	l := &lab{
		ca: tlstest.NewCA(t), home: t.TempDir(), sim: woodsim.New(woodsim.Options{Version: version}),
		now:      time.Now().Add(-30 * 24 * time.Hour), // test certificates last a day
		checkout: func(context.Context) (*git.Repo, error) { return nil, nil },
		version:  func(context.Context) (git.Version, error) { return git.Version{Major: 2, Minor: 47, Patch: 1}, nil },
		resolve: func(context.Context, string) ([]netip.Addr, error) {
			t.Error("DNS was asked")
			return nil, nil
		},
	}
	l.sim.AddUser(woodsim.User{Login: "ada", Token: goodWord})
	l.repo = l.sim.AddRepo(woodsim.RepoOptions{FullName: "ada/app", ID: 2})
	l.repo.Allow("ada", woodsim.Perm{Pull: true, Push: true, Admin: true})
	l.env = map[string]string{"HOME": l.home, "WOODPECKER_TOKEN": goodWord}
	return l
}

// serve starts the server with a certificate for the names and points the
// configuration to it.
func (l *lab) serve(t *testing.T, names ...string) *tlstest.Server {
	t.Helper()
	s := l.ca.Serve(t, l.sim, names...)
	l.pointTo(t, s)
	return s
}

func (l *lab) pointTo(t *testing.T, s *tlstest.Server) {
	t.Helper()
	l.file = "woodpecker:\n  server: https://" + host + "\n  dial: " + s.Addr.String() + "\n  ca-file: " + l.ca.File(t) + "\n"
}

func (l *lab) deps(io *ui.Streams, flags *verb.Flags, given func(string) *string) Deps {
	env := config.FromMap(l.env)
	var redact transport.Redactor
	io.Redact(redact.String)
	server := func(e *config.Effective, token TokenFunc) (*Server, error) {
		stack, err := transport.New(transport.Options{
			Base: e.Server.V, Pin: e.Pin.Ptr(), CAFile: e.CAFile.V, Proxy: e.Proxy, InsecureHTTP: e.InsecureHTTP.V, Token: token, Redact: &redact,
		})
		if err != nil {
			return nil, err
		}
		client := woodpecker.New(woodpecker.Options{Base: e.Server.V, Transport: stack, CloseIdle: stack.CloseIdleConnections, Exact: true})
		return &Server{Transport: stack, Client: client, Close: stack.CloseIdleConnections}, nil
	}
	return Deps{
		IO: io, Flags: flags, Now: func() time.Time { return l.now },
		Load: func(context.Context) (*config.Effective, error) {
			return config.Load(config.Options{Env: env, Flags: config.Flags{
				Config: given("config"), Server: given("server"), Dial: given("dial"), InsecureHTTP: flags.InsecureHTTP,
			}})
		},
		Git: l.version, Checkout: l.checkout, Resolve: l.resolve, Server: server,
		Cluster: func(_ *config.Effective, namespace string) (*kube.Cluster, error) {
			return kube.Connect(kube.Options{Kubeconfig: l.kubeconfig, Namespace: namespace})
		},
		Token: func(e *config.Effective) (TokenFunc, error) {
			if missing := e.MissingToken(); missing != nil {
				return nil, missing
			}
			if e.Token.Set {
				return func(context.Context) (transport.Secret, error) { return e.Token.Secret, nil }, e.Token.Err
			}
			source, err := vault.New(vault.Options{
				Address: e.Vault.Address.V, Token: e.Vault.Token.Secret, CAFile: e.Vault.CACert.V, Pin: e.Vault.Pin.Ptr(),
				Path: e.TokenVault.V.Path, Field: e.TokenVault.V.Field, Redact: &redact,
			})
			if err != nil {
				return nil, err
			}
			return source.Read, nil
		},
		Vault: func(e *config.Effective) (*Server, error) {
			stack, err := transport.New(transport.Options{Base: e.Vault.Address.V, Pin: e.Vault.Pin.Ptr(), CAFile: e.Vault.CACert.V})
			if err != nil {
				return nil, err
			}
			return &Server{Transport: stack, Close: stack.CloseIdleConnections}, nil
		},
	}
}

// run executes "homelab doctor args" the way cmd does.
func (l *lab) run(t *testing.T, args ...string) (out, story string, err error) {
	t.Helper()
	if l.file != "" {
		dir := filepath.Join(l.home, ".config", "homelab")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(l.file), 0o600)); err != nil {
			t.Error(err)
		}
	}
	io, o, e := ui.Test("")
	io.OutTTY = l.tty
	flags := &verb.Flags{}
	root := &cobra.Command{Use: "homelab", SilenceErrors: true, SilenceUsage: true}
	flags.Output(root.PersistentFlags())
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		mode, err := flags.Mode()
		if err != nil {
			return err
		}
		return io.Configure(ui.Settings{Mode: mode, Color: flags.Color, Quiet: flags.Quiet})
	}
	var c *cobra.Command
	c = New(l.deps(io, flags, func(name string) *string {
		f := c.Flags().Lookup(name)
		if f == nil || !f.Changed {
			return nil
		}
		v := f.Value.String()
		return &v
	}))
	root.AddCommand(c)
	root.SetArgs(append([]string{"doctor"}, args...))
	ctx := t.Context()
	if l.ctx != nil {
		ctx = l.ctx(ctx)
	}
	err = root.ExecuteContext(ctx)
	if all := o.String() + e.String(); strings.Contains(all, goodWord) {
		t.Errorf("the token is shown:\n%s", all)
	}
	return o.String(), e.String(), err
}

// told is doctor's JSON.
type told struct {
	Kind     string   `json:"kind"`
	Verdict  string   `json:"verdict"`
	ExitCode int      `json:"exit_code"`
	Reason   string   `json:"reason"`
	Next     *string  `json:"next"`
	Checks   []report `json:"checks"`
}

func (l *lab) json(t *testing.T, args ...string) told {
	t.Helper()
	out, _, _ := l.run(t, append(args, "--json")...)
	var r told
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Errorf("%v: %q", err, out)
		return r
	}
	if len(r.Checks) != len(checks()) {
		t.Errorf("%d checks are told", len(r.Checks))
	}
	return r
}

func (r told) check(name string) report {
	i := slices.IndexFunc(r.Checks, func(c report) bool { return c.Name == name })
	if i < 0 {
		return report{}
	}
	return r.Checks[i]
}

func (r told) String() string {
	var b strings.Builder
	for _, c := range r.Checks {
		fix := ""
		if c.Fix != nil {
			fix = "; fix: " + *c.Fix
		}
		b.WriteString(string(c.Status) + " " + c.Name + ": " + c.Detail + fix + "\n")
	}
	return b.String() + r.Verdict + ": " + r.Reason
}

// same replaces what differs between two runs.
func (l *lab) same(s string) string {
	s = strings.ReplaceAll(s, l.home, "/home/ada")
	s = regexp.MustCompile(`/\S+/ca\.pem`).ReplaceAllString(s, "/etc/ssl/lab.pem")
	s = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(s, "127.0.0.1:8443")
	s = regexp.MustCompile(`\d{4}-\d\d-\d\d`).ReplaceAllString(s, "2026-12-24")
	return regexp.MustCompile(`(?m)^\d\d:\d\d `).ReplaceAllString(s, "00:00 ")
}

// indent makes a golden file of one object.
func indent(t *testing.T, s string) string {
	t.Helper()
	if strings.Count(s, "\n") != 1 {
		t.Fatalf("not one line: %q", s)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(s), "", "  "); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, `  "elapsed"`) }), "\n")
}
