package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
)

// setup writes a user's file ("" writes none) and returns options that find it.
func setup(t *testing.T, file string, env map[string]string) Options {
	t.Helper()
	home := t.TempDir()
	vars := map[string]string{"HOME": home}
	maps.Copy(vars, env)
	if file != "" {
		dir := filepath.Join(home, ".config", "homelab")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Options{Env: FromMap(vars)}
}

func load(t *testing.T, o Options) *Effective {
	t.Helper()
	e, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// shown returns an entry as "value <source> note", with the home directory as ~.
func shown(t *testing.T, e *Effective, key string) string {
	t.Helper()
	for _, en := range e.Entries() {
		if en.Key == key {
			s := en.Value
			if en.Source != "" {
				s += " <" + en.Source + ">"
			}
			if en.Note != "" {
				s += " note: " + en.Note
			}
			if e.Env.Home() != "" {
				s = strings.ReplaceAll(s, e.Env.Home(), "~")
			}
			return s
		}
	}
	t.Fatalf("no entry %s", key)
	return ""
}

const (
	fileName = "~/.config/homelab/config.yaml"
	small    = "woodpecker:\n  server: https://ci.file\n  dial: 10.0.0.1\n"
)

// Every value at every level that can give it: the strongest one wins.
func TestPrecedence(t *testing.T) {
	repo := "base: main\nremote: origin\nverify: make\ngate: ci\ndeploy: [a/b]\nci: {workflows: [w]}\n"
	file := whole
	tests := []struct {
		key  string
		env  map[string]string
		flag func(*Flags)
		want []string // by level: nothing, file or repository, + environment, + flag; "-" is skipped
	}{
		{
			"woodpecker.server",
			map[string]string{EnvServer: "https://ci.env/"},
			func(f *Flags) { f.Server = new("https://ci.flag") },
			[]string{"", "https://ci.example.lan/root <" + fileName + ":3>", "https://ci.env <WOODPECKER_SERVER>", "https://ci.flag <flag --server>"},
		},
		{
			"woodpecker.dial",
			map[string]string{EnvDial: "10.0.0.2"},
			func(f *Flags) { f.Dial = new("10.0.0.3:1") },
			[]string{"", "10.0.20.203 <" + fileName + ":4>", "10.0.0.2 <HOMELAB_WOODPECKER_DIAL>", "10.0.0.3:1 <flag --dial>"},
		},
		{"woodpecker.ca-file", nil, nil, []string{"", "~/.config/homelab/lab-ca.pem <" + fileName + ":5>", "-", "-"}},
		{
			"woodpecker.token",
			map[string]string{EnvToken: " tok "},
			nil,
			[]string{"", "", "set <WOODPECKER_TOKEN>", "-"},
		},
		{"woodpecker.token-vault", nil, nil, []string{"", "secret/ci/global (field woodpecker_api_token) <" + fileName + ":6>", "-", "-"}},
		{
			"vault.address",
			map[string]string{EnvVaultAddr: "https://vault.example.lan:443"},
			nil,
			[]string{"", "https://vault.example.lan <" + fileName + ":10>", "https://vault.example.lan:443 <VAULT_ADDR>", "-"},
		},
		{"vault.dial", nil, nil, []string{"", "10.0.20.203:8200 <" + fileName + ":11>", "-", "-"}},
		{"vault.ca-cert", map[string]string{EnvVaultCACert: "/ca"}, nil, []string{"", "", "/ca <VAULT_CACERT>", "-"}},
		{"vault.namespace", map[string]string{EnvVaultNamespace: "ns"}, nil, []string{"", "", "ns <VAULT_NAMESPACE>", "-"}},
		{"vault.token", map[string]string{EnvVaultToken: "tok"}, nil, []string{"", "", "set <VAULT_TOKEN>", "-"}},
		{
			"kubernetes.kubeconfig",
			map[string]string{EnvKubeconfig: "/a::/b"},
			func(f *Flags) { f.Kubeconfig = new("/c") },
			[]string{"~/.kube/config <default>", "~/.kube/config <default>", "/a, /b <KUBECONFIG>", "/c <flag --kubeconfig>"},
		},
		{
			"kubernetes.context", nil, func(f *Flags) { f.Context = new("flagged") },
			[]string{"", "homelab <" + fileName + ":13>", "-", "flagged <flag --context>"},
		},
		{"forge.token.forgejo", map[string]string{EnvForgejoToken: "a"}, nil, []string{"", "", "set <FORGEJO_TOKEN>", "-"}},
		{"forge.token.gitea", map[string]string{EnvGiteaToken: "a"}, nil, []string{"", "", "set <GITEA_TOKEN>", "-"}},
		{"forge.token.github", map[string]string{EnvGHToken: "a"}, nil, []string{"", "", "set <GH_TOKEN>", "-"}},
		{"forge.token.github", map[string]string{EnvGHToken: "a", EnvGitHubToken: "b"}, nil, []string{"", "", "set <GITHUB_TOKEN>", "-"}},
		{"proxy.https", map[string]string{"HTTPS_PROXY": "http://u:pass@p:1/x"}, nil, []string{"", "", "http://[redacted]@p:1 <HTTPS_PROXY>", "-"}},
		{"proxy.http", map[string]string{"http_proxy": "p:1"}, nil, []string{"", "", "http://p:1 <http_proxy>", "-"}},
		{"proxy.no", map[string]string{"NO_PROXY": "a,b"}, nil, []string{"", "", "a,b <NO_PROXY>", "-"}},
		{"insecure-http", nil, func(f *Flags) { f.InsecureHTTP = true }, []string{"false <default>", "false <default>", "-", "true <flag --insecure-http>"}},
		{"repository.base", nil, nil, []string{"", "main <.homelab.yaml:1>", "-", "-"}},
		{"repository.remote", nil, nil, []string{"", "origin <.homelab.yaml:2>", "-", "-"}},
		{"repository.verify", nil, nil, []string{"", "make <.homelab.yaml:3>", "-", "-"}},
		{"repository.gate", nil, nil, []string{"", "ci <.homelab.yaml:4>", "-", "-"}},
		{"repository.deploy", nil, nil, []string{"", "a/b <.homelab.yaml:5>", "-", "-"}},
		{"repository.ci.workflows", nil, nil, []string{"", "w <.homelab.yaml:6>", "-", "-"}},
	}
	for _, tt := range tests {
		for level, want := range tt.want {
			if want == "-" {
				continue
			}
			o := setup(t, "", nil)
			if level > 0 {
				o = setup(t, file, nil)
				o.Repo = []byte(repo)
			}
			if level > 1 {
				o = setup(t, file, tt.env)
			}
			if level > 2 {
				tt.flag(&o.Flags)
			}
			if got := shown(t, load(t, o), tt.key); got != want {
				t.Errorf("%s, level %d: got %q, want %q", tt.key, level, got, want)
			}
		}
	}
}

// Which file is read, and what happens when it is not there.
func TestFileLocation(t *testing.T) {
	o := setup(t, small, nil)
	home := o.Env.Home()
	other := filepath.Join(home, "other file.yaml")
	if err := os.WriteFile(other, []byte("woodpecker: {server: https://ci.other}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		env  map[string]string
		flag *string
		want string // the server, or the error
		next string
	}{
		{"default", map[string]string{"HOME": home}, nil, "https://ci.file", ""},
		{"none there", map[string]string{"HOME": t.TempDir()}, nil, "", ""},
		{"no home", nil, nil, "", ""},
		{"xdg", map[string]string{"XDG_CONFIG_HOME": filepath.Join(home, ".config")}, nil, "https://ci.file", ""},
		{"xdg without", map[string]string{"HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, "nowhere")}, nil, "", ""},
		{"environment", map[string]string{"HOME": home, EnvConfig: other}, nil, "https://ci.other", ""},
		{"environment with tilde", map[string]string{"HOME": home, EnvConfig: "~/other file.yaml"}, nil, "https://ci.other", ""},
		{"flag", map[string]string{"HOME": home, EnvConfig: "/nowhere"}, &other, "https://ci.other", ""},
		{"flag to nothing", map[string]string{"HOME": home}, new("/dev/null"), "", ""},
		{"flag empty", map[string]string{"HOME": home}, new(""), "--config is empty; give a value or leave it out", "homelab config show"},
		{"environment missing", map[string]string{"HOME": home, EnvConfig: "/no where"}, nil, "/no where, named by HOMELAB_CONFIG, does not exist", "homelab config init --config '/no where'"},
		{"flag missing", map[string]string{"HOME": home}, new("/nowhere"), "/nowhere, named by flag --config, does not exist", "homelab config init --config /nowhere"},
		{"directory", map[string]string{"HOME": home}, new("/"), "configuration file / cannot be read: is a directory", "ls -ld /"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := Load(Options{Env: FromMap(tt.env), Flags: Flags{Config: tt.flag}})
			if tt.next != "" {
				if err == nil || err.Error() != tt.want {
					t.Fatalf("got %v, want %s", err, tt.want)
				}
				checkFault(t, err, fault.Usage, tt.next)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if e.Server.Set {
				got = e.Server.V.String()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFileErrorsStopTheRun(t *testing.T) {
	o := setup(t, "woodpecker:\n  sever: x\n", nil)
	_, err := Load(o)
	want := filepath.Join(o.Env.Home(), ".config/homelab/config.yaml") + `:2: unknown key "sever" in woodpecker; nearest known key: "server"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	o = setup(t, small, nil)
	o.Repo, o.RepoName = []byte("dial: 10.0.0.1\n"), "origin/main:.homelab.yaml"
	if _, err = Load(o); err == nil || !strings.HasPrefix(err.Error(), `origin/main:.homelab.yaml:1: "dial" is not allowed here`) {
		t.Errorf("got %v", err)
	}
}

// What describes one server is not used for another one.
func TestBinding(t *testing.T) {
	const file = "woodpecker:\n  server: https://ci.file\n  dial: 10.0.0.1\n  ca-file: /ca\n  token-vault: {path: a/b, field: c}\n" +
		"vault:\n  address: https://v.file\n  dial: 10.0.0.9\n"
	const noServer = "woodpecker:\n  dial: 10.0.0.1\n  ca-file: /ca\n  token-vault: {path: a/b, field: c}\n"
	all := func(dial string) map[string]string {
		return map[string]string{
			"woodpecker.dial":        dial,
			"woodpecker.ca-file":     "/ca <" + fileName + ":4>",
			"woodpecker.token-vault": "a/b (field c) <" + fileName + ":5>",
		}
	}
	not := func(what string, line int, server, source string) string {
		return fmt.Sprintf(" note: %s (%s:%d) not used: it belongs to https://ci.file (%s:2), and the server is %s (%s)", what, fileName, line, fileName, server, source)
	}
	notAll := func(server, source string) map[string]string {
		return map[string]string{
			"woodpecker.dial":        not("dial", 3, server, source),
			"woodpecker.ca-file":     not("ca-file", 4, server, source),
			"woodpecker.token-vault": not("token-vault", 5, server, source),
		}
	}
	own := all("10.0.0.1 <" + fileName + ":3>")
	with := func(m map[string]string, k, v string) map[string]string {
		m = maps.Clone(m)
		m[k] = v
		return m
	}
	const vaultNote = " note: token-vault (" + fileName + ":4) not used: it stands for woodpecker.server of the same file, and that is not set"
	tests := []struct {
		name, file string
		env        map[string]string
		server     *string
		dial       *string
		want       map[string]string
		notes      int
	}{
		{"file alone", file, nil, nil, nil, own, 0},
		{"same origin by flag", file, nil, new("HTTPS://CI.file.:443/other/root"), nil, own, 0},
		{"same origin by environment", file, map[string]string{EnvServer: "https://ci.file/x"}, nil, nil, own, 0},
		{"other host by flag", file, nil, new("https://ci.flag"), nil, notAll("https://ci.flag", "flag --server"), 3},
		{"other host by environment", file, map[string]string{EnvServer: "https://ci.env"}, nil, nil, notAll("https://ci.env", "WOODPECKER_SERVER"), 3},
		{"other port", file, nil, new("https://ci.file:8443"), nil, notAll("https://ci.file:8443", "flag --server"), 3},
		{"other scheme", file, nil, new("http://ci.file"), nil, notAll("http://ci.file", "flag --server"), 3},
		{
			"flag back to the file's server", file,
			map[string]string{EnvServer: "https://ci.env"},
			new("https://ci.file"), nil,
			own, 0,
		},
		{
			"own dial for another server", file, nil, new("https://ci.flag"), new("10.0.0.3"),
			with(notAll("https://ci.flag", "flag --server"), "woodpecker.dial", "10.0.0.3 <flag --dial>"), 2,
		},
		{
			"environment's pair", file,
			map[string]string{EnvServer: "https://ci.env", EnvDial: "10.0.0.2"},
			nil, nil,
			with(notAll("https://ci.env", "WOODPECKER_SERVER"), "woodpecker.dial", "10.0.0.2 <HOMELAB_WOODPECKER_DIAL>"), 2,
		},
		{
			"environment's dial for the file's server", file,
			map[string]string{EnvDial: "10.0.0.2"},
			nil, nil,
			all("10.0.0.2 <HOMELAB_WOODPECKER_DIAL>"), 0,
		},
		{
			"environment's dial is not for a flag's other server", file,
			map[string]string{EnvServer: "https://ci.env", EnvDial: "10.0.0.2"},
			new("https://ci.file"), nil,
			own, 1,
		},
		{
			"environment's dial, no server but the flag's", "",
			map[string]string{EnvDial: "10.0.0.2"},
			new("https://ci.flag"), nil,
			map[string]string{"woodpecker.dial": "10.0.0.2 <HOMELAB_WOODPECKER_DIAL>"},
			0,
		},
		{
			"file without a server", noServer,
			map[string]string{EnvServer: "https://ci.env"},
			nil, nil,
			map[string]string{
				"woodpecker.dial":        "10.0.0.1 <" + fileName + ":2>",
				"woodpecker.ca-file":     "/ca <" + fileName + ":3>",
				"woodpecker.token-vault": vaultNote,
			},
			1,
		},
		{
			"same Vault", file,
			map[string]string{EnvVaultAddr: "https://v.file/"},
			nil, nil,
			map[string]string{"vault.address": "https://v.file <VAULT_ADDR>", "vault.dial": "10.0.0.9 <" + fileName + ":8>"},
			0,
		},
		{
			"other Vault", file,
			map[string]string{EnvVaultAddr: "https://v.env"},
			nil, nil,
			map[string]string{
				"vault.address": "https://v.env <VAULT_ADDR> note: vault.address https://v.file (" + fileName + ":7) not used: VAULT_ADDR is set",
				"vault.dial":    " note: dial (" + fileName + ":8) not used: it belongs to https://v.file (" + fileName + ":7), and the Vault address is https://v.env (VAULT_ADDR)",
			},
			2,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := setup(t, tt.file, tt.env)
			o.Flags.Server, o.Flags.Dial = tt.server, tt.dial
			e := load(t, o)
			for _, key := range slices.Sorted(maps.Keys(tt.want)) {
				if tt.name == "environment's dial is not for a flag's other server" && key == "woodpecker.dial" {
					// The file's address is in force, the environment's is told.
					if got := shown(t, e, key); !strings.HasPrefix(got, tt.want[key]) || !strings.Contains(got, "it belongs to https://ci.env (WOODPECKER_SERVER)") {
						t.Errorf("%s: got %q", key, got)
					}
					continue
				}
				if got := shown(t, e, key); got != tt.want[key] {
					t.Errorf("%s:\ngot  %q\nwant %q", key, got, tt.want[key])
				}
			}
			if len(e.Notes) != tt.notes {
				t.Errorf("%d notes, want %d: %q", len(e.Notes), tt.notes, e.Notes)
			}
		})
	}
}

func TestBadFlagsAndEnvironment(t *testing.T) {
	tests := []struct {
		name  string
		env   map[string]string
		flags Flags
		want  string
		next  string
	}{
		{"server", nil, Flags{Server: new("ci.example.lan")}, "--server has no scheme; write https:// before the host", "homelab config show"},
		{"server empty", nil, Flags{Server: new(" ")}, "--server is empty; give a value or leave it out", "homelab config show"},
		{"dial empty", nil, Flags{Dial: new("")}, "--dial is empty; give a value or leave it out", "homelab config show"},
		{"context empty", nil, Flags{Context: new("")}, "--context is empty; give a value or leave it out", "homelab config show"},
		{"kubeconfig empty", nil, Flags{Kubeconfig: new("")}, "--kubeconfig is empty; give a value or leave it out", "homelab config show"},
		{"env server", map[string]string{EnvServer: "https://u:hunter2@ci"}, Flags{}, "WOODPECKER_SERVER contains user info; remove what stands before the @", "unset WOODPECKER_SERVER"},
		{"env server though a flag names one", map[string]string{EnvServer: "x"}, Flags{Server: new("https://a")}, "WOODPECKER_SERVER has no scheme; write https:// before the host", "unset WOODPECKER_SERVER"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := setup(t, "", tt.env)
			o.Flags = tt.flags
			_, err := Load(o)
			if err == nil || err.Error() != tt.want {
				t.Fatalf("got %v\nwant %s", err, tt.want)
			}
			checkFault(t, err, fault.Usage, tt.next)
		})
	}
	for _, o := range []Options{
		{Flags: Flags{Dial: new("ci.example.lan")}},
		{Env: FromMap(map[string]string{EnvDial: "10.0.0.1:0"})},
	} {
		if _, err := Load(o); err == nil || !strings.Contains(err.Error(), "is not an address to dial: ") || fault.KindOf(err) != fault.Usage {
			t.Errorf("got %v", err)
		}
	}
}

func TestMissingServer(t *testing.T) {
	o := setup(t, "", nil)
	e := load(t, o)
	err := e.MissingServer()
	if err == nil {
		t.Fatal("nil")
	}
	want := "no Woodpecker server is configured: set it with --server URL, with WOODPECKER_SERVER=URL, or as woodpecker.server in " +
		filepath.Join(o.Env.Home(), ".config/homelab/config.yaml")
	if err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	checkFault(t, err, fault.Usage, "homelab config init --server https://ci.example.lan")

	o = setup(t, "vault: {}\n", nil)
	checkFault(t, load(t, o).MissingServer(), fault.Usage, "homelab config show")
	if err := load(t, setup(t, small, nil)).MissingServer(); err != nil {
		t.Error(err)
	}
	if err := load(t, Options{}).MissingServer(); err == nil || !strings.HasSuffix(err.Error(), "in the configuration file") {
		t.Errorf("without HOME: %v", err)
	}
}

func TestMissingToken(t *testing.T) {
	const file = "woodpecker: {server: 'https://ci.file', token-vault: {path: a/b, field: c}}\nvault: {address: 'https://v'}\n"
	tests := []struct {
		name, file string
		env        map[string]string
		server     *string
		want       string
	}{
		{"environment", small, map[string]string{EnvToken: "t"}, nil, ""},
		{"doubtful is a source", small, map[string]string{EnvToken: "a b"}, nil, ""},
		{"vault", file, nil, nil, ""},
		{"neither", small, nil, nil, "no token for ci.file: set WOODPECKER_TOKEN for ci.file: it is not set, and woodpecker.token-vault is not set in " + fileName},
		{
			"vault of another server", file, nil, new("https://ci.flag:8443"),
			"no token for ci.flag:8443: set WOODPECKER_TOKEN for ci.flag:8443: it is not set, and token-vault (" + fileName +
				":1) not used: it belongs to https://ci.file (" + fileName + ":1), and the server is https://ci.flag:8443 (flag --server)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := setup(t, tt.file, tt.env)
			o.Flags.Server = tt.server
			err := load(t, o).MissingToken()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("nil")
			}
			if got := strings.ReplaceAll(err.Error(), o.Env.Home(), "~"); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
			checkFault(t, err, fault.Denied, "homelab config show")
		})
	}
}

func TestTokens(t *testing.T) {
	e := load(t, setup(t, "", map[string]string{EnvToken: "\n hunter2 \n"}))
	if e.Token.Err != nil || e.Token.Secret.Reveal() != "hunter2" {
		t.Errorf("%+v", e.Token)
	}
	for _, bad := range []string{"hunter2 x", "hunter2\x01", "hunter2\nhunter2", "  "} {
		e := load(t, setup(t, "", map[string]string{EnvToken: bad}))
		if !e.Token.Set || e.Token.Err == nil || !e.Token.Secret.IsZero() {
			t.Errorf("%q: %+v", bad, e.Token)
			continue
		}
		checkFault(t, e.Token.Err, fault.Usage, "unset WOODPECKER_TOKEN")
		if s := e.Token.Err.Error() + shown(t, e, "woodpecker.token"); strings.Contains(s, "hunter") || !strings.HasPrefix(s, "WOODPECKER_TOKEN is not usable: ") {
			t.Error(s)
		}
	}
}

func TestVaultReady(t *testing.T) {
	if err := load(t, setup(t, "vault: {address: 'https://v'}\n", nil)).Vault.Ready(); err != nil {
		t.Error(err)
	}
	o := setup(t, "", nil)
	v := load(t, o).Vault
	if v.TokenFile != filepath.Join(o.Env.Home(), ".vault-token") || v.Helper != filepath.Join(o.Env.Home(), ".vault") {
		t.Errorf("%+v", v)
	}
	err := v.Ready()
	if err == nil || !strings.Contains(err.Error(), "no Vault address is configured: set vault.address in ") {
		t.Fatal(err)
	}
	checkFault(t, err, fault.Usage, "homelab config show")

	// For other programs VAULT_ADDR may be what it likes: only asking matters.
	e := load(t, setup(t, "vault: {address: 'https://v'}\n", map[string]string{EnvVaultAddr: "unix:///run/vault"}))
	err = e.Vault.Ready()
	if err == nil || e.Vault.Address.Set || err.Error() != `VAULT_ADDR has scheme "unix"; it must be https, or http` {
		t.Errorf("%v, %v", err, e.Vault.Address)
	}
	if got := shown(t, e, "vault.address"); got != " note: "+err.Error() {
		t.Errorf("shown as %q", got)
	}
}

func TestForges(t *testing.T) {
	e := load(t, setup(t, whole, map[string]string{EnvForgejoToken: "fj", EnvGiteaToken: "gt", EnvGHToken: "gh"}))
	for host, want := range map[string]string{
		"git.example.lan":  "git.example.lan forgejo https://git.example.lan",
		"GIT.Example.lan.": "git.example.lan forgejo https://git.example.lan",
		"code.example.lan": "code.example.lan  https://code.example.lan",
		"github.com":       "github.com github https://github.com",
		"evil.lan":         "",
		"example.lan":      "",
	} {
		f, ok := e.ForgeFor(host)
		got := ""
		if ok {
			got = f.Host + " " + string(f.Kind) + " " + f.URL.String()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	for kind, want := range map[ForgeKind]string{Forgejo: "fj", Gitea: "gt", GitHub: "gh", "": ""} {
		c := e.ForgeToken(kind)
		if got := c.Secret.Reveal(); got != want || c.Set != (want != "") {
			t.Errorf("%s: %q", kind, got)
		}
	}
}

// No entry, no note and no error may show any part of a secret.
func TestShowMasksSecrets(t *testing.T) {
	env := map[string]string{"HTTPS_PROXY": "http://user9:hunter2@p:1"}
	for _, name := range tokenVars() {
		env[name] = "hunter2-" + name
	}
	e := load(t, setup(t, whole, env))
	text := fmt.Sprintf("%v %v %+v", e.Entries(), e.Notes, e.Token)
	if strings.Contains(text, "hunter2") || strings.Contains(text, "user9") {
		t.Error(text)
	}
	var revealed []string
	for _, s := range e.Secrets() {
		revealed = append(revealed, s.Reveal())
	}
	want := []string{
		"hunter2-WOODPECKER_TOKEN", "hunter2-VAULT_TOKEN", "hunter2-FORGEJO_TOKEN",
		"hunter2-GITEA_TOKEN", "hunter2-GITHUB_TOKEN", "hunter2-GH_TOKEN", "hunter2",
	}
	if diff := cmp.Diff(want, revealed); diff != "" {
		t.Error(diff)
	}
	masked := 0
	for _, en := range e.Entries() {
		if en.Secret {
			masked++
		}
	}
	if masked != 6 { // Woodpecker, Vault, three kinds of forge, the proxy's login
		t.Errorf("%d masked entries", masked)
	}
}

func TestShowOrder(t *testing.T) {
	keys := func(o Options) (out []string) {
		for _, en := range load(t, o).Entries() {
			out = append(out, en.Key)
		}
		return out
	}
	want := []string{
		"config", "woodpecker.server", "woodpecker.dial", "woodpecker.ca-file", "woodpecker.token", "woodpecker.token-vault",
		"vault.address", "vault.dial", "vault.ca-cert", "vault.namespace", "vault.token",
		"kubernetes.kubeconfig", "kubernetes.context", "stacks.roots", "stacks.repositories",
		"forge.token.forgejo", "forge.token.gitea", "forge.token.github",
		"proxy.https", "proxy.http", "proxy.no", "insecure-http",
		"repository.base", "repository.remote", "repository.verify", "repository.gate", "repository.deploy", "repository.ci.workflows",
	}
	if diff := cmp.Diff(want, keys(Options{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, keys(setup(t, small, nil))); diff != "" {
		t.Error(diff)
	}
	if got := shown(t, load(t, setup(t, "", nil)), "config"); got != fileName+" <default> note: does not exist; homelab config init writes one" {
		t.Error(got)
	}
	if got := shown(t, load(t, Options{}), "config"); got != " note: no place for it: HOME and XDG_CONFIG_HOME are not set" {
		t.Error(got)
	}
}

func TestNotes(t *testing.T) {
	o := setup(t, small, map[string]string{"HTTPS_PROXY": "ftp://p:1", "http_proxy": "http://a b"})
	if err := os.Chmod(filepath.Join(o.Env.Home(), ".config/homelab/config.yaml"), 0o666); err != nil {
		t.Fatal(err)
	}
	e := load(t, o)
	want := []string{
		filepath.Join(o.Env.Home(), ".config/homelab/config.yaml") + " can be written by every user of this machine; chmod o-w it",
		`HTTPS_PROXY has scheme "ftp"; http, https, socks5 and socks5h are known`,
		`http_proxy is not a proxy address such as http://proxy.example.lan:3128`,
	}
	if diff := cmp.Diff(want, e.Notes); diff != "" {
		t.Error(diff)
	}
}

func TestPick(t *testing.T) {
	def := Value[string]{V: "origin"}
	file := Value[string]{V: "lab", Set: true, Source: Source{LevelRepo, ".homelab.yaml:2"}}
	if got := Pick(Given("remote", new("up")), file, def); got.V != "up" || got.Source.String() != "flag --remote" {
		t.Errorf("%+v", got)
	}
	if got := Pick(Given[string]("remote", nil), file, def); got != file {
		t.Errorf("%+v", got)
	}
	if got := Pick(Given[string]("remote", nil), Value[string]{}, def); got.V != "origin" || got.Set || got.Source.String() != "default" || got.Ptr() != nil {
		t.Errorf("%+v", got)
	}
	if p := file.Ptr(); p == nil || *p != "lab" {
		t.Error(p)
	}
	if got := Pick[string](); got.Set {
		t.Errorf("%+v", got)
	}
}
