package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
)

func full() InitAnswers {
	return InitAnswers{
		Server: "https://ci.example.lan", Dial: "[fd00::5]:8443", CAFile: "/etc/ssl/lab's ca.pem",
		VaultPath: "secret/ci/global", VaultField: "woodpecker_api_token",
		VaultAddress: "https://vault.example.lan", Context: "homelab",
	}
}

func TestInitTemplateGolden(t *testing.T) {
	for name, a := range map[string]InitAnswers{"full": full(), "empty": {}, "server": {Server: "https://ci.example.lan"}} {
		got, err := InitTemplate(a)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata", "TestInitTemplate-"+name+".golden"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestInitTemplateIsReadBack(t *testing.T) {
	data, err := InitTemplate(full())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"woodpecker.server = https://ci.example.lan",
		"woodpecker.dial = [fd00::5]:8443",
		"woodpecker.ca-file = /etc/ssl/lab's ca.pem",
		"woodpecker.token-vault = secret/ci/global (field woodpecker_api_token)",
		"vault.address = https://vault.example.lan",
		"kubernetes.context = homelab",
	}
	if diff := cmp.Diff(want, values(parseWhole(t, string(data)))); diff != "" {
		t.Error(diff)
	}
}

// Whoever removes the "# " before examples gets a valid file that uses every
// known key or section.
func TestInitTemplateExamples(t *testing.T) {
	example := regexp.MustCompile(`(?m)^( *)# ( *(?:[a-z-]+:(?: \S.*)?|- \{.*\}))$`)
	for name, a := range map[string]InitAnswers{"full": full(), "empty": {}, "server": {Server: "https://ci.example.lan"}} {
		data, err := InitTemplate(a)
		if err != nil {
			t.Fatal(err)
		}
		text := example.ReplaceAllString(string(data), "$1$2")
		got := values(parseWhole(t, text))
		if len(got) != 10 {
			t.Errorf("%s: %d values of\n%s\n%q", name, len(got), text, got)
		}
	}
}

func TestInitTemplateRefuses(t *testing.T) {
	tests := []struct {
		change func(*InitAnswers)
		want   string
	}{
		{func(a *InitAnswers) { a.Server = "ci" }, "--server has no scheme; write https:// before the host"},
		{func(a *InitAnswers) { a.VaultAddress = "v" }, "--vault-address has no scheme; write https:// before the host"},
		{func(a *InitAnswers) { a.CAFile = "~bob/x" }, "--ca-file names another user's home; write the whole path"},
		{func(a *InitAnswers) { a.VaultPath = "secret" }, "--vault-path names only a mount; write MOUNT/PATH such as secret/ci/global"},
		{func(a *InitAnswers) { a.VaultField = "" }, "--vault-path and --vault-field go together"},
		{func(a *InitAnswers) { a.VaultPath = "" }, "--vault-path and --vault-field go together"},
		{func(a *InitAnswers) { a.Server = "" }, "--vault-path needs --server: the token is for that server only"},
		{func(a *InitAnswers) { a.Context = "a\nserver: b" }, "--context is empty or contains a control character"},
		{func(a *InitAnswers) { a.CAFile = "/a\nb" }, "an answer contains a control character"},
	}
	for _, tt := range tests {
		a := full()
		tt.change(&a)
		data, err := InitTemplate(a)
		if err == nil || err.Error() != tt.want {
			t.Errorf("got %v\n%s\nwant %s", err, data, tt.want)
			continue
		}
		checkFault(t, err, fault.Usage, "homelab config init --help")
	}
	a := full()
	a.Dial = "ci.example.lan"
	if _, err := InitTemplate(a); err == nil || !strings.HasPrefix(err.Error(), "--dial is not an address to dial: ") {
		t.Error(err)
	}
}

func FuzzInitTemplate(f *testing.F) {
	f.Add("https://ci.example.lan", "10.0.0.1", "/a b#c", "a/b", "c: d", "null")
	f.Add("http://a", "fe80::1%e", "~/'", "a/'", "- x", "~")
	f.Fuzz(func(t *testing.T, server, dial, ca, path, field, context string) {
		data, err := InitTemplate(InitAnswers{Server: server, Dial: dial, CAFile: ca, VaultPath: path, VaultField: field, Context: context})
		if err == nil {
			u := parseWhole(t, string(data))
			if u.Context.V != strings.TrimSpace(context) || u.TokenVault.V.Field != strings.TrimSpace(field) {
				t.Fatalf("%q, %q arrive as %q, %q", context, field, u.Context.V, u.TokenVault.V.Field)
			}
			return
		}
		if fault.KindOf(err) != fault.Usage || strings.Contains(err.Error(), "not valid:") {
			t.Fatal(err)
		}
	})
}

func TestWriteInit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "homelab", "config.yaml")
	if err := WriteInit(path, []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	check := func(p, content string, mode fs.FileMode) {
		t.Helper()
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, want %v", p, st.Mode().Perm(), mode)
		}
		if st.IsDir() {
			return
		}
		if data, err := os.ReadFile(p); err != nil || string(data) != content {
			t.Errorf("%s holds %q, %v", p, data, err)
		}
	}
	check(path, "one", 0o600)
	check(filepath.Dir(path), "", 0o700)
	check(filepath.Dir(filepath.Dir(path)), "", 0o700)

	err := WriteInit(path, []byte("two"), false)
	if err == nil || err.Error() != path+" already exists: it is replaced only with --force" {
		t.Fatal(err)
	}
	checkFault(t, err, fault.Usage, "homelab config init --force --config "+path)
	check(path, "one", 0o600)

	if err := WriteInit(path, []byte("two"), true); err != nil {
		t.Fatal(err)
	}
	check(path, "two", 0o600)

	// Configurations are often links into a repository of dot files.
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteInit(link, []byte("three"), true); err != nil {
		t.Fatal(err)
	}
	check(path, "three", 0o600)
	if st, err := os.Lstat(link); err != nil || st.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", st, err)
	}
	dangling := filepath.Join(dir, "dangling.yaml")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	if err := WriteInit(dangling, []byte("x"), false); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Error(err)
	}
	if err := WriteInit(dir, []byte("x"), true); err == nil || err.Error() != dir+" is a directory" {
		t.Error(err)
	}
	if err := WriteInit(filepath.Join(path, "below"), []byte("x"), false); err == nil || !strings.Contains(err.Error(), "cannot be written: not a directory") {
		t.Error(err)
	}
	if err := WriteInit("", nil, false); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "new", "homelab", ".config-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestWriteInitOnlyOneWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			err := WriteInit(path, []byte("x: y\n"), false)
			if err == nil {
				won.Add(1)
			} else if fe, ok := errors.AsType[*fault.Error](err); !ok || !strings.Contains(fe.What, "already exists") {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d writers succeeded", won.Load())
	}
}
