package arch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestArrows(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if mod, err := os.ReadFile(filepath.Join(root, "go.mod")); err != nil || !strings.HasPrefix(string(mod), "module "+Module+"\n") {
		t.Fatalf("%s is not the root of module %s: %v", root, Module, err)
	}
	files, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		seen[f.Dir] = true
		for _, v := range Check(f) {
			t.Error(v)
		}
	}
	for _, dir := range []string{"pkg/fault", "pkg/git", "internal/arch"} {
		if !seen[dir] {
			t.Errorf("%s was not read: the walk goes wrong", dir)
		}
	}
}

// Each rule is broken once, and kept once where that is easily confused.
func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		file, src string
		want      string // in the one violation; "": none
	}{
		// Layers.
		{"pkg/pipeline/a.go", `import _ "homelab/pkg/woodpecker"`, ""},
		{"pkg/woodpecker/a.go", `import _ "homelab/pkg/pipeline"`, "never back"},
		{"pkg/woodpecker/a_test.go", `import _ "homelab/pkg/pipeline"`, "never back"},
		{"pkg/poll/a.go", `import _ "homelab/pkg/git"`, "never back"},
		{"pkg/rollout/a.go", `import _ "homelab/verbs/deploy"`, "never back"},
		{"pkg/rollout/a.go", `import _ "homelab/cmd/homelab"`, "nothing imports cmd"},
		{"internal/woodsim/a.go", `import _ "homelab/cmd/homelab"`, "nothing imports cmd"},
		{"internal/woodsim/a.go", `import _ "homelab/verbs/ci"`, "below the verbs"},
		{"cmd/homelab/a.go", `import _ "homelab/verbs/ci"`, ""},
		{"cmd/homelab/a.go", `import _ "homelab/pkg/config"`, ""},
		// Sideways.
		{"pkg/woodpecker/a.go", `import _ "homelab/pkg/git"`, "does not import this client"},
		{"pkg/woodpecker/a_test.go", `import _ "homelab/pkg/git"`, ""},
		{"pkg/kube/a.go", `import _ "homelab/pkg/registry"`, "does not import this client"},
		{"pkg/git/a_test.go", `import _ "homelab/pkg/git"`, ""},
		{"pkg/fault/a.go", `import _ "homelab/pkg/ui"`, "does not import this leaf"},
		{"pkg/ui/a.go", `import _ "homelab/pkg/poll"`, ""},
		{"pkg/ui/a.go", `import _ "homelab/pkg/transport"`, "does not import this leaf"},
		{"pkg/landing/a.go", `import _ "homelab/pkg/pipeline"`, ""},
		{"pkg/landing/a.go", `import _ "homelab/pkg/rollout"`, ""},
		{"pkg/landing/a.go", `import _ "homelab/pkg/stack"`, "does not import this workflow"},
		{"pkg/pipeline/a.go", `import _ "homelab/pkg/landing"`, "does not import this workflow"},
		{"pkg/stack/a.go", `import _ "homelab/pkg/rollout"`, ""},
		{"pkg/artifact/a.go", `import _ "homelab/pkg/stack"`, ""},
		{"pkg/rollout/a.go", `import _ "homelab/pkg/stack"`, "does not import this workflow"},
		{"verbs/ci/a.go", `import _ "homelab/verbs/deploy"`, "each other"},
		{"verbs/ci/a.go", `import _ "homelab/verbs/verb"`, ""},
		{"verbs/ci/a.go", `import _ "homelab/verbs/ci/sub"`, ""},
		{"verbs/verb/a.go", `import _ "homelab/verbs/ci"`, "each other"},
		// Configuration is handed on as values.
		{"pkg/pipeline/a.go", `import _ "homelab/pkg/config"`, "take the value"},
		{"pkg/vault/a_test.go", `import _ "homelab/pkg/config"`, "take the value"},
		{"verbs/settings/a.go", `import _ "homelab/pkg/config"`, ""},
		// Test support.
		{"pkg/git/a.go", `import _ "homelab/internal/gittest"`, "test support"},
		{"pkg/git/a_test.go", `import _ "homelab/internal/gittest"`, ""},
		{"cmd/homelab/a.go", `import _ "homelab/internal/woodsim"`, "test support"},
		{"internal/faultlb/a.go", `import _ "homelab/internal/woodsim"`, ""},
		{"internal/faultlb/a.go", `import _ "homelab/pkg/transport"`, ""},
		// What no table names.
		{"pkg/util/a.go", ``, "pkg/util is in no table: add it"},
		{"tools/a.go", ``, "is in no table"},
		{"cmd/other/a.go", ``, "is in no table"},
		{"main.go", ``, "is in no table"},
		{"pkg/git/a.go", `import _ "homelab/pkg/util"`, "in no table"},
		{"pkg/git/a.go", `import _ "github.com/nobody/knows"`, "no table names this library"},
		{"pkg/git/a_test.go", `import _ "github.com/nobody/knows"`, "no table names this library"},
		// Libraries.
		{"verbs/ci/a.go", `import _ "github.com/spf13/cobra"`, ""},
		{"pkg/pipeline/a.go", `import _ "github.com/spf13/cobra"`, "only in cmd, verbs"},
		{"pkg/ui/a.go", `import _ "charm.land/lipgloss/v2"`, ""},
		{"verbs/ci/a.go", `import _ "charm.land/lipgloss/v2"`, "only in pkg/ui"},
		{"cmd/homelab/a.go", `import _ "github.com/charmbracelet/x/ansi"`, "only in pkg/ui"},
		{"pkg/vault/a.go", `import _ "github.com/hashicorp/vault/api"`, ""},
		{"pkg/transport/a.go", `import _ "github.com/hashicorp/vault/api"`, "only in pkg/vault"},
		{"pkg/rollout/a.go", `import _ "k8s.io/client-go/tools/cache"`, ""},
		{"pkg/artifact/a.go", `import _ "k8s.io/client-go/tools/cache"`, "only in pkg/kube"},
		{"pkg/transport/a.go", `import _ "github.com/cenkalti/backoff/v4"`, ""},
		{"pkg/woodpecker/a.go", `import _ "github.com/cenkalti/backoff/v4"`, "only in pkg/poll"},
		{"pkg/ui/a.go", `import _ "github.com/google/go-cmp/cmp"`, "only for tests"},
		{"pkg/ui/a_test.go", `import _ "github.com/google/go-cmp/cmp"`, ""},
		{"internal/golden/a.go", `import _ "github.com/google/go-cmp/cmp"`, ""},
		{"pkg/woodpecker/a.go", `import _ "golang.org/x/net/http/httpproxy"`, "only in pkg/config"},
		{"pkg/git/a.go", `import "C"`, "not in this program"},
		{"pkg/git/a.go", `import _ "unsafe"`, "not in this program"},
		// Calls.
		{"pkg/config/a.go", "import \"os\"\nvar _ = os.Getenv", ""},
		{"pkg/vault/a.go", "import \"os\"\nvar _ = os.Getenv(\"X\")", "pkg/vault/a.go:3: os.Getenv: only config"},
		{"cmd/homelab/a.go", "import sys \"os\"\nvar _ = sys.Environ", "only config"},
		{"verbs/ci/a.go", "import \"os\"\nvar _ = os.UserHomeDir", "only config"},
		{"pkg/vault/a_test.go", "import \"os\"\nvar _ = os.Getenv", ""},
		{"internal/gittest/a.go", "import \"os\"\nvar _ = os.Getenv", ""},
		{"pkg/vault/a.go", "import \"os\"\nvar _ = os.ReadFile", ""},
		{"pkg/vault/a.go", "type o struct{ Getenv int }\nfunc f(os o) int { return os.Getenv }", ""},
		{"pkg/transport/a.go", "import \"net/http\"\nvar _ = http.ProxyFromEnvironment", "only config"},
		{"pkg/git/a.go", "import \"os/exec\"\nvar _ = exec.Command", ""},
		{"pkg/landing/a.go", "import _ \"os/exec\"", "only git starts processes"},
		{"pkg/landing/a_test.go", "import \"os/exec\"\nvar _ = exec.Command", ""},
		{"pkg/landing/a.go", "import \"os\"\nvar _ = os.StartProcess", "only git starts processes"},
		{"pkg/landing/a.go", "import \"syscall\"\nvar _ = syscall.Exec", "only git starts processes"},
		{"pkg/poll/a.go", "import \"time\"\nvar _ = time.NewTimer", ""},
		{"pkg/transport/a.go", "import \"time\"\nvar _ = time.After", "only poll waits"},
		{"pkg/ui/a.go", "import \"time\"\nvar _ = time.NewTicker", "only poll waits"},
		{"pkg/transport/a.go", "import \"time\"\nvar _ = time.Now", ""},
		{"pkg/transport/a_test.go", "import \"time\"\nvar _ = time.Sleep", ""},
		{"internal/woodsim/a.go", "import \"time\"\nvar _ = time.Sleep", ""},
		// TLS.
		{"pkg/transport/a.go", "import \"crypto/tls\"\nvar _ = tls.Config{InsecureSkipVerify: true}", "always verified"},
		{"internal/faultlb/a.go", "import \"crypto/tls\"\nvar _ = tls.Config{InsecureSkipVerify: true}", "always verified"},
		{"pkg/transport/a.go", "import \"crypto/tls\"\nfunc f(c *tls.Config) bool { return c.InsecureSkipVerify }", "always verified"},
		{"pkg/transport/a_test.go", "import \"crypto/tls\"\nvar _ = tls.Config{InsecureSkipVerify: true}", ""},
		{"pkg/vault/a.go", "import \"crypto/tls\"\nvar _ = tls.Config{ServerName: \"x\"}", "always the URL's"},
		{"pkg/vault/a.go", "import \"crypto/tls\"\nfunc f(c *tls.Config) { c.ServerName = \"x\" }", "always the URL's"},
		{"pkg/vault/a.go", "import \"crypto/tls\"\nfunc f(c *tls.Config) string { return c.ServerName }", ""},
		{"pkg/vault/a_test.go", "import \"crypto/tls\"\nvar _ = tls.Config{ServerName: \"x\"}", ""},
	} {
		f, err := Parse(tc.file, []byte("package a\n"+tc.src+"\n"))
		if err != nil {
			t.Fatalf("%s: %v", tc.src, err)
		}
		got := Check(f)
		switch {
		case tc.want == "" && len(got) > 0:
			t.Errorf("%s: %s\nis right, but: %q", tc.file, tc.src, got)
		case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
			t.Errorf("%s: %s\ngives %q, want one violation with %q", tc.file, tc.src, got, tc.want)
		}
	}
}

func TestParseRefusesDotImports(t *testing.T) {
	if _, err := Parse("pkg/git/a.go", []byte("package a\nimport . \"os\"\n")); err == nil {
		t.Error("a dot import was accepted")
	}
}

// The tables must not contradict each other.
func TestTables(t *testing.T) {
	for from, to := range sideways() {
		for _, name := range to {
			if packages()[from] == unknown || packages()[from] != packages()[name] {
				t.Errorf("sideways: %s -> %s is not inside one layer", from, name)
			}
			for _, back := range sideways()[name] {
				if back == from {
					t.Errorf("sideways: %s and %s import each other", from, name)
				}
			}
		}
	}
	for lib, dirs := range libraries() {
		for _, dir := range dirs {
			if l, _ := place(dir); l == unknown && dir != "cmd" && dir != "verbs" && dir != "pkg" {
				t.Errorf("libraries: %s names %s, which is no package", lib, dir)
			}
		}
	}
}
