package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"homelab/internal/composesim"
	"homelab/internal/dockersim"
	"homelab/internal/tlstest"
	"homelab/verbs/legacy"
)

// The scripts in testdata/script run this program as users do: a process of
// its own with its own signals, exit code and streams, in a real checkout,
// against a server behind TLS that only the pinned dial reaches. Scripts wait
// far more than they compute, so many run at once.
const scriptsAtOnce = "20"

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"homelab": main, legacy.Name: main, "dockersim": dockersim.Main, "composesim": composesim.Main})
}

// suite prepares what all scripts share.
type suite struct{ m *testing.M }

func (s suite) Run() int {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", scriptsAtOnce) // it exists and takes a number
	}
	dir, err := os.MkdirTemp("", "homelab-scripts-")
	if err != nil {
		panic(err)
	}
	templates = dir
	code := s.m.Run()
	_ = os.RemoveAll(dir)
	return code
}

// templates is where what is made once and copied for each script lies.
var templates string

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   filepath.Join("testdata", "script"),
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"lab": cmdLab, "kube": cmdKube, "docker": cmdDocker, "registry": cmdRegistry, "vault": cmdVault, "recorder": cmdRecorder, "proxy": cmdProxy, "builds": cmdBuilds, "watches": cmdWatches, "hooks": cmdHooks,
			"commit": cmdCommit, "page": cmdPage, "exits": cmdExits, "verdict": cmdVerdict,
			"subset": cmdSubset, "jsonl": cmdJSONL, "shape": cmdShape, "ttyframe": cmdTTYFrame,
			"ttyplain": cmdTTYPlain, "ttyfits": cmdTTYFits, "screen": cmdScreen, "capture": cmdCapture, "ttyheight": cmdTTYHeight,
		},
		Condition: func(c string) (bool, error) {
			if c == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("no condition %q", c)
		},
		RequireUniqueNames: true,
	})
}

var authority = sync.OnceValue(func() *tlstest.CA { return tlstest.NewCA(fatal{}) })

// fatal is a test that is over: what it makes belongs to all of them.
type fatal struct{}

func (fatal) Helper()               {}
func (fatal) Fatal(args ...any)     { panic(args) }
func (fatal) Errorf(string, ...any) {}
func (fatal) Cleanup(func())        {}
func (fatal) TempDir() string       { return templates }

// gitEnv lets nothing of this machine's user reach git, and makes commits the
// same in every run.
func gitEnv(home string) map[string]string {
	return map[string]string{
		"HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, ".config"), "XDG_CACHE_HOME": filepath.Join(home, ".cache"),
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CEILING_DIRECTORIES": filepath.Dir(home),
		"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.lan", "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.lan", "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z",
	}
}

// checkout makes, once, a repository of two pushed commits with a pipeline
// file and a branch that follows origin's.
var checkout = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(templates, "app")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	git := func(args ...string) {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		for k, v := range gitEnv(filepath.Join(templates, "home")) {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			panic("git " + strings.Join(args, " ") + ": " + string(out))
		}
	}
	file := "when: {event: push}\nsteps: [{name: make, image: alpine, commands: [make]}]\n"
	if err := os.WriteFile(filepath.Join(dir, ".woodpecker.yml"), []byte(file), 0o644); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main", "--template="},
		{"remote", "add", "origin", "https://git.example.lan/ada/app.git"},
		{"config", "branch.main.remote", "origin"},
		{"config", "branch.main.merge", "refs/heads/main"},
		{"add", "--all"},
		{"commit", "--quiet", "-m", "Add the app"},
		{"commit", "--quiet", "--allow-empty", "-m", "Fix the cache key"},
		{"update-ref", "refs/remotes/origin/main", "HEAD"},
	} {
		git(args...)
	}
	return dir, nil
})
