package woodsim_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"homelab/internal/woodsim"
)

// clone is a checkout with a bare repository behind it.
type clone struct {
	t         *testing.T
	dir, bare string
}

func newClone(t *testing.T) *clone {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	base := t.TempDir()
	c := &clone{t, filepath.Join(base, "work"), filepath.Join(base, "app.git")}
	c.in(base, "init", "-q", "--bare", "-b", "main", c.bare)
	c.in(base, "init", "-q", "-b", "main", c.dir)
	c.in(c.dir, "remote", "add", "origin", c.bare)
	return c
}

func (c *clone) in(dir string, args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=ada", "GIT_AUTHOR_EMAIL=a@b.c", "GIT_COMMITTER_NAME=ada", "GIT_COMMITTER_EMAIL=a@b.c")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes the files ("" removes one), commits and pushes them.
func (c *clone) commit(message string, files map[string]string) string {
	c.t.Helper()
	for name, text := range files {
		full := filepath.Join(c.dir, name)
		if text == "" {
			_ = os.Remove(full)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	c.in(c.dir, "add", "-A")
	c.in(c.dir, "commit", "-q", "--allow-empty", "-m", message)
	c.in(c.dir, "push", "-q", "origin", "HEAD:main")
	return c.in(c.dir, "rev-parse", "HEAD")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

func logText(t *testing.T, l *lab, number int64, step int64) string {
	var out []string
	for _, e := range decode[[]struct{ Data string }](t, l.get(fmt.Sprintf("/api/repos/1/logs/%d/%d", number, step))) {
		b, err := base64.StdEncoding.DecodeString(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return strings.Join(out, "\n")
}

func TestRunner(t *testing.T) {
	l, c := newLab(t, woodsim.Options{}), newClone(t)
	run, err := woodsim.NewRunner(l.repo, woodsim.RunnerOptions{Env: []string{"GREETING=hello"}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(run.Close)
	if err := run.Watch(c.bare); err != nil {
		t.Fatal(err)
	}
	row := func(n int64) *woodsim.Pipeline {
		t.Helper()
		var p *woodsim.Pipeline
		eventually(t, fmt.Sprintf("row %d", n), func() bool { p = l.repo.Pipeline(n); return p != nil })
		return p
	}

	sha := c.commit("one", map[string]string{"hello.txt": "from the commit\n", ".woodpecker.yml": `
steps:
  - name: build
    image: alpine
    commands:
      - echo "$GREETING on $CI_COMMIT_BRANCH"
      - cat hello.txt
  - name: lint
    commands: exit 4
    failure: ignore
  - name: only-tags
    commands: ["false"]
    when: {event: tag}
  - name: test
    environment: {WORD: seen}
    commands: |
      echo $WORD
      exit 3
  - name: publish
    commands: [echo never]
`})
	p := row(1)
	eventually(t, "failure", func() bool { return p.Status() == "failure" })
	if p.Commit() != sha {
		t.Errorf("commit %s, want %s", p.Commit(), sha)
	}
	if got, want := tree(l.detail("1")), "failure woodpecker=failure clone=success build=success lint=failure test=failure publish=skipped"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := logText(t, l, 1, p.StepID("build")), "+ echo \"$GREETING on $CI_COMMIT_BRANCH\"\nhello on main\n+ cat hello.txt\nfrom the commit"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
	if got := logText(t, l, 1, p.StepID("test")); !strings.HasSuffix(got, "\nseen") {
		t.Errorf("log %q", got)
	}
	if d := l.detail("1"); d.Workflows[0].Children[3].ExitCode != 3 || d.Workflows[0].Children[2].ExitCode != 4 {
		t.Errorf("exit codes %+v", d.Workflows[0].Children)
	}

	// Two files in the directory; one does not want pushes. The other sleeps
	// until it is cancelled, and its child must die.
	mark := filepath.Join(t.TempDir(), "alive")
	c.commit("two", map[string]string{
		".woodpecker/slow.yml":   "steps:\n  wait:\n    commands:\n      - sleep 0.4 && touch " + mark + "\n",
		".woodpecker/other.yaml": "when:\n  - event: cron\nsteps:\n  x:\n    commands: [true]\n",
	})
	p = row(2)
	eventually(t, "running", func() bool {
		return strings.Contains(tree(l.detail("2")), "wait=running")
	})
	if g := l.do("POST", "/api/repos/1/pipelines/2/cancel", ""); g.status != 204 {
		t.Fatalf("cancel: %+v", g)
	}
	cancelled := time.Now()
	eventually(t, "killed", func() bool {
		return tree(l.detail("2")) == "killed slow=killed clone=success wait=killed"
	})

	// No pipeline file: the row vanishes and its number is used again.
	c.commit("three", map[string]string{".woodpecker/slow.yml": "", ".woodpecker/other.yaml": "", ".woodpecker.yml": ""})
	p = row(3)
	eventually(t, "the filtered row vanishes", func() bool { return p.Truth().Deleted })
	c.commit("four [skip ci]", map[string]string{".woodpecker.yml": "steps:\n  a:\n    commands: [true]\n"})
	c.commit("five", map[string]string{".woodpecker.yml": "steps:\n  a:\n    commands: [echo five]\n"})
	p = row(3)
	eventually(t, "success", func() bool { return p.Status() == "success" })

	// A manual run and a restart are executed too.
	if g := l.do("POST", "/api/repos/1/pipelines", `{"branch":"main"}`); g.status != 200 {
		t.Fatalf("run: %+v", g)
	}
	if g := l.do("POST", "/api/repos/1/pipelines/1", ""); g.status != 200 {
		t.Fatalf("restart: %+v", g)
	}
	manual, again := row(4), row(5)
	eventually(t, "both end", func() bool { return manual.Status() == "success" && again.Status() == "failure" })

	c.commit("broken", map[string]string{".woodpecker.yml": "steps: [\n"})
	p = row(6)
	eventually(t, "error", func() bool { return p.Status() == "error" })

	time.Sleep(time.Until(cancelled.Add(500 * time.Millisecond)))
	if _, err := os.Stat(mark); err == nil {
		t.Error("a cancelled step's child went on")
	}
}
