package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"homelab/internal/golden"
	settings "homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// lab is one machine: its environment, its files.
type lab struct {
	home string
	env  map[string]string
	repo string // .homelab.yaml of the checkout; "" none
	tty  bool
}

func newLab(t *testing.T) *lab {
	home := t.TempDir()
	return &lab{home: home, env: map[string]string{"HOME": home}}
}

func (l *lab) path() string { return filepath.Join(l.home, ".config", "homelab", "config.yaml") }

// run executes a command line the way cmd does, and returns both streams.
func (l *lab) run(t *testing.T, args ...string) (out, story string, err error) {
	t.Helper()
	io, o, e := ui.Test("")
	io.OutTTY = l.tty
	env := settings.FromMap(l.env)
	flags := &verb.Flags{}
	root := &cobra.Command{Use: "homelab", SilenceErrors: true, SilenceUsage: true}
	flags.Output(root.PersistentFlags())
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		mode, err := flags.Mode()
		if err != nil {
			return err
		}
		return io.Configure(ui.Settings{Mode: mode, Color: flags.Color})
	}
	file := func() *string {
		if flags.Config == "" {
			return nil
		}
		return &flags.Config
	}
	root.AddCommand(New(Deps{
		IO: io, Flags: flags,
		Load: func(context.Context) (*settings.Effective, error) {
			o := settings.Options{Env: env, Flags: settings.Flags{Config: file()}}
			if l.repo != "" {
				o.Repo = []byte(l.repo)
			}
			return settings.Load(o)
		},
		Path: func() (settings.Value[string], error) { return settings.Path(env, file()) },
	}))
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

// plain replaces what differs between two machines.
func (l *lab) plain(s string) string { return strings.ReplaceAll(s, l.home, "/home/ada") }

func TestInit(t *testing.T) {
	full := []string{
		"config", "init", "--server", "https://ci.example.lan", "--dial", "10.0.20.203", "--ca-file", "/etc/ssl/lab.pem",
		"--vault-path", "secret/ci/global", "--vault-field", "token", "--vault-address", "https://vault.example.lan", "--context", "lab",
	}
	tests := []struct {
		name string
		args []string
		env  map[string]string
		was  string // the file that is there
		kind fault.Kind
		what string // in the error
		next string // in the error
		text string
	}{
		{name: "bare", args: full[:2], text: "written: /home/ada/.config/homelab/config.yaml: a commented example, nothing filled in yet; next: homelab doctor\n"},
		{name: "full", args: full, text: "written: /home/ada/.config/homelab/config.yaml: sets woodpecker.server, woodpecker.dial, woodpecker.ca-file, woodpecker.token-vault, vault.address, kubernetes.context; next: homelab doctor\n"},
		{name: "there", args: full[:4], was: "old", kind: fault.Usage, what: "already exists", next: "homelab config init --force --config "},
		{name: "force", args: append(full[:4:4], "--force"), was: "old", text: "written: /home/ada/.config/homelab/config.yaml: sets woodpecker.server; the file that was there is replaced; next: homelab doctor\n"},
		{name: "XDG", args: full[:2], env: map[string]string{"XDG_CONFIG_HOME": "/home/ada/x"}, text: "written: /home/ada/x/homelab/config.yaml: a commented example, nothing filled in yet; next: homelab doctor\n"},
		{name: "variable", args: full[:2], env: map[string]string{"HOMELAB_CONFIG": "/home/ada/my.yaml"}, text: "written: /home/ada/my.yaml: a commented example, nothing filled in yet; next: homelab doctor\n"},
		{
			name: "flag", args: append(full[:2:2], "--config", "/home/ada/a b.yaml"),
			text: "written: /home/ada/a b.yaml: a commented example, nothing filled in yet; next: homelab doctor --config '/home/ada/a b.yaml'\n",
		},
		{name: "bad server", args: []string{"config", "init", "--server", "ci.example.lan"}, kind: fault.Usage, what: "--server"},
		{name: "bad pin", args: []string{"config", "init", "--dial", "ci"}, kind: fault.Usage, what: "--dial"},
		{name: "half a vault", args: []string{"config", "init", "--server", "https://ci", "--vault-path", "a/b"}, kind: fault.Usage, what: "go together"},
		{name: "empty flag", args: []string{"config", "init", "--server", ""}, kind: fault.Usage, what: "--server is empty", next: "homelab config init --help"},
		{name: "argument", args: []string{"config", "init", "x"}, kind: fault.Usage, what: "takes no arguments"},
		{name: "no place", args: full[:2], env: map[string]string{"HOME": ""}, kind: fault.Usage, what: "no place"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			for k, v := range tt.env {
				l.env[k] = strings.ReplaceAll(v, "/home/ada", l.home)
			}
			args := slices.Clone(tt.args)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "/home/ada", l.home)
			}
			if tt.was != "" {
				if err := errors.Join(os.MkdirAll(filepath.Dir(l.path()), 0o700), os.WriteFile(l.path(), []byte(tt.was), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			out, story, err := l.run(t, args...)
			if tt.kind != "" {
				var e *fault.Error
				if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Error(), tt.what) || !strings.Contains(e.Next, tt.next) {
					t.Fatalf("got %v (next %q), want %s %q", err, nextOf(err), tt.kind, tt.what)
				}
				if got, err := os.ReadFile(l.path()); tt.was != "" && (err != nil || string(got) != tt.was) {
					t.Errorf("the file is %q, %v", got, err)
				} else if _, err := os.Stat(l.path()); tt.was == "" && err == nil {
					t.Error("a file was written")
				}
				return
			}
			if err != nil || l.plain(out) != tt.text || story != "" {
				t.Errorf("got %v\n%s%s", err, out, story)
			}
		})
	}
}

func nextOf(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Next
	}
	return ""
}

// What init writes is what show then tells, and the file is nobody else's.
func TestInitThenShow(t *testing.T) {
	l := newLab(t)
	out, _, err := l.run(t, "config", "init", "--json", "--server", "https://ci.example.lan", "--dial", "10.0.20.203:8443",
		"--vault-path", "secret/ci/global", "--vault-field", "woodpecker_api_token")
	if err != nil {
		t.Fatal(err)
	}
	golden.CompareString(t, "init-json", indent(t, l.plain(out)))
	if st, err := os.Stat(l.path()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	out, _, err = l.run(t, "config", "show", "--json")
	for _, want := range []string{
		`"woodpecker.server","value":"https://ci.example.lan","source":"/home/ada/.config/homelab/config.yaml:7"`,
		`"woodpecker.dial","value":"10.0.20.203:8443"`,
		`"woodpecker.token-vault","value":"secret/ci/global (field woodpecker_api_token)"`,
	} {
		if err != nil || !strings.Contains(l.plain(out), want) {
			t.Errorf("%s is missing, %v:\n%s", want, err, out)
		}
	}
}

// machine is one on which every level says something, and not all of it holds.
func machine(t *testing.T) *lab {
	l := newLab(t)
	l.env["WOODPECKER_SERVER"] = "https://other.example.lan"
	l.env["WOODPECKER_TOKEN"] = "canary-token"
	l.env["VAULT_TOKEN"] = "canary vault"
	l.env["HTTPS_PROXY"] = "http://ada:canary-proxy@proxy.example.lan:3128"
	l.env["HTTP_PROXY"] = "ftp://proxy.example.lan"
	l.repo = "base: main\nverify: make check\n"
	// Names of one length on every machine.
	t.Chdir(l.home)
	l.env["HOME"], l.env["HOMELAB_CONFIG"] = "/home/ada", "lab/config.yaml"
	data := "woodpecker:\n  server: https://ci.example.lan\n  dial: 10.0.20.203\n  token-vault: {path: secret/ci/global, field: token}\n" +
		"kubernetes: {context: homelab}\nforge:\n  - {host: git.example.lan, kind: forgejo}\n"
	if err := errors.Join(os.Mkdir("lab", 0o700), os.WriteFile("lab/config.yaml", []byte(data), 0o600), os.Chmod("lab/config.yaml", 0o602)); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestShow(t *testing.T) {
	for _, tt := range []struct {
		name string
		tty  bool
		args []string
	}{
		{"pipe", false, nil},
		{"tty", true, []string{"--color", "never"}},
		{"color", true, nil},
		{"json", false, []string{"--json"}},
	} {
		var out string
		t.Run(tt.name, func(t *testing.T) { // in a directory of its own
			l := machine(t)
			l.tty = tt.tty
			var story string
			var err error
			out, story, err = l.run(t, append([]string{"config", "show"}, tt.args...)...)
			if err != nil || story != "" {
				t.Fatal(err, story)
			}
			if strings.Contains(out, "canary") {
				t.Errorf("a secret is shown:\n%s", out)
			}
		})
		if tt.name == "json" {
			out = indent(t, out)
		}
		golden.CompareString(t, "show-"+tt.name, out)
	}
}

func TestShowBroken(t *testing.T) {
	l := newLab(t)
	if err := errors.Join(os.MkdirAll(filepath.Dir(l.path()), 0o700), os.WriteFile(l.path(), []byte("woodpecker:\n  sever: https://ci\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	out, _, err := l.run(t, "config", "show")
	if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "config.yaml:2") || !strings.Contains(err.Error(), "server") || out != "" {
		t.Errorf("got %v, %q", err, out)
	}
}

// indent makes a golden file of one object, without what differs between two
// runs.
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
