// Package gittest makes real git repositories for tests: in a temporary
// directory, with no configuration but their own, a fixed author and fixed
// dates, so that hashes are the same in every run.
package gittest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Repo is a repository of a test.
type Repo struct {
	Dir string // the work tree; for a bare repository the repository

	t     testing.TB
	count int // commits made, for the dates
}

// settings are git's for tests. Nothing that has to survive a crash of the
// machine is kept in them, and nothing needs tidying: syncing every ref and
// asking after every commit whether to collect garbage would be a good part of
// what a test takes.
const settings = "[core]\n\tfsync = none\n[maintenance]\n\tauto = false\n[gc]\n\tauto = 0\n[receive]\n\tautogc = false\n"

// homes are the HOMEs of running tests.
var homes sync.Map // testing.TB to string

// home returns the test's HOME, which holds only the settings.
func home(t testing.TB) string {
	t.Helper()
	if h, ok := homes.Load(t); ok {
		return h.(string)
	}
	h := t.TempDir()
	if err := os.WriteFile(filepath.Join(h, "settings"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	if other, found := homes.LoadOrStore(t, h); found {
		return other.(string)
	}
	t.Cleanup(func() { homes.Delete(t) })
	return h
}

// Env returns an environment for git that nothing of the machine's user
// reaches: no global or system configuration but the tests' own, a HOME of the
// test's.
func Env(t testing.TB) []string {
	t.Helper()
	home := home(t)
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"XDG_CONFIG_HOME=" + filepath.Join(home, ".config"),
		"GIT_CONFIG_GLOBAL=" + filepath.Join(home, "settings"),
		"GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CEILING_DIRECTORIES=" + filepath.Dir(home),
		"LC_ALL=C",
	}
}

// New makes a repository whose first branch is called branch; args go to git
// init (--bare, --object-format=sha256).
func New(t testing.TB, branch string, args ...string) *Repo {
	t.Helper()
	r := &Repo{Dir: t.TempDir(), t: t}
	r.Git(append([]string{"init", "--quiet", "--initial-branch=" + branch}, args...)...)
	return r
}

// At returns the repository at dir, which exists.
func At(t testing.TB, dir string) *Repo { return &Repo{Dir: dir, t: t} }

// Clone clones r with args into a new directory. The transport is git's file
// protocol, so that --depth and --filter work.
func (r *Repo) Clone(args ...string) *Repo {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "clone")
	r.Git(append(append([]string{"clone", "--quiet"}, args...), "file://"+r.Dir, dir)...)
	return At(r.t, dir)
}

// Git runs git in the repository and returns its output without the last line
// break. A failure fails the test.
func (r *Repo) Git(args ...string) string {
	r.t.Helper()
	return r.Input("", args...)
}

// Input is Git with a standard input.
func (r *Repo) Input(stdin string, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir = r.Dir
	// Each commit is a minute later than the one before.
	when := fmt.Sprintf("2026-01-02T03:%02d:00Z", r.count%60)
	cmd.Env = append(Env(r.t),
		"GIT_AUTHOR_NAME=Anna Lab", "GIT_AUTHOR_EMAIL=anna@example.lan", "GIT_AUTHOR_DATE="+when,
		"GIT_COMMITTER_NAME=Anna Lab", "GIT_COMMITTER_EMAIL=anna@example.lan", "GIT_COMMITTER_DATE="+when)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n")
}

// Write puts content into the file at name, a slash-separated path.
func (r *Repo) Write(name, content string) {
	r.t.Helper()
	p := filepath.Join(r.Dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// Commit commits everything in the work tree, also if that is nothing new, and
// returns the full hash.
func (r *Repo) Commit(message string) string {
	r.t.Helper()
	r.Git("add", "--all")
	r.count++
	r.Input(message, "commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "--file=-")
	return r.head()
}

// GitDirs returns where git keeps what is this work tree's and what all work
// trees of the repository share. r.Dir is the work tree's root or a bare
// repository.
func (r *Repo) GitDirs() (own, common string) {
	r.t.Helper()
	own = filepath.Join(r.Dir, ".git")
	switch st, err := os.Stat(own); {
	case err != nil:
		own = r.Dir
	case !st.IsDir():
		link, err := os.ReadFile(own)
		if err != nil {
			r.t.Fatal(err)
		}
		own = r.at(r.Dir, strings.TrimPrefix(string(link), "gitdir: "))
	}
	common = own
	if link, err := os.ReadFile(filepath.Join(own, "commondir")); err == nil {
		common = r.at(own, string(link))
	}
	return own, common
}

// at is the path that was read from a file in dir.
func (*Repo) at(dir, path string) string {
	path = strings.TrimSpace(path)
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return path
}

// head is the commit that was just made. To read it takes no process.
func (r *Repo) head() string {
	r.t.Helper()
	own, common := r.GitDirs()
	data, err := os.ReadFile(filepath.Join(own, "HEAD"))
	if ref, ok := strings.CutPrefix(string(data), "ref: "); err == nil && ok {
		data, err = os.ReadFile(filepath.Join(common, filepath.FromSlash(strings.TrimSpace(ref))))
	}
	if err != nil {
		return r.Git("rev-parse", "HEAD")
	}
	return strings.TrimSpace(string(data))
}
