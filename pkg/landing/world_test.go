package landing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// world is a bare origin and what landed on it.
type world struct {
	t      *testing.T
	base   string
	home   string
	origin *gittest.Repo
	seen   string // the trees the verification saw, one per line
	first  string // the base's first tip
	model  modelled
}

// parseRules reads the tests' own form of a configuration file: JSON of Rules.
func parseRules(name string, data []byte) (Rules, error) {
	var r Rules
	if err := json.Unmarshal(data, &r); err != nil {
		return r, stop(fault.Usage, "", "%s: %v", name, err)
	}
	return r, nil
}

const rulesFile = ".homelab.json"

func newWorld(t *testing.T, base string) *world {
	t.Helper()
	m, err := model(base, func() (modelled, error) { return newModel(base) })
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, base: base, home: t.TempDir(), first: m.first, model: m}
	w.seen = filepath.Join(w.home, "seen")
	w.origin = m.copied(t, "bare", filepath.Join(t.TempDir(), "origin"), "")
	return w
}

// models are what every world of a base begins as. To copy one takes no
// process, and to make one anew would take twenty.
var models sync.Map // name to func() (modelled, error)

type modelled struct{ dir, first, remote string }

func model(name string, build func() (modelled, error)) (modelled, error) {
	made, _ := models.LoadOrStore(name, sync.OnceValues(build))
	return made.(func() (modelled, error))()
}

// begin makes a work tree "origin" with one commit of the files.
func begin(base string, files map[string]string) (m modelled, err error) {
	if m.dir, err = os.MkdirTemp("", "homelab-model-"); err != nil {
		return m, err
	}
	if err := os.Mkdir(filepath.Join(m.dir, "origin"), 0o755); err != nil {
		return m, err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(m.dir, "origin", name), []byte(content), 0o644); err != nil {
			return m, err
		}
	}
	if err := m.git(
		[]string{"init", "--quiet", "--initial-branch=" + base},
		[]string{"add", "--all"},
		[]string{"-c", "user.name=Anna", "-c", "user.email=anna@x", "commit", "--quiet", "--message=first"},
	); err != nil {
		return m, err
	}
	first, err := os.ReadFile(filepath.Join(m.dir, "origin", ".git", "refs", "heads", base))
	m.first = strings.TrimSpace(string(first))
	return m, err
}

// git runs commands in the work tree.
func (m modelled) git(commands ...[]string) error {
	for _, args := range commands {
		cmd := exec.Command("git", args...)
		cmd.Dir = filepath.Join(m.dir, "origin")
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
			"GIT_AUTHOR_DATE=2026-01-02T03:00:00Z", "GIT_COMMITTER_DATE=2026-01-02T03:00:00Z",
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// newModel makes a bare origin and a clone of it.
func newModel(base string) (m modelled, err error) {
	rules, err := json.Marshal(Rules{Verify: []Command{{Run: verifies}}})
	if err != nil {
		return m, err
	}
	if m, err = begin(base, map[string]string{"go.txt": "1\n2\n3\n4\n5\n", ".gitignore": "ignored\n", rulesFile: string(rules)}); err != nil {
		return m, err
	}
	m.remote = filepath.Join(m.dir, "bare")
	return m, m.git(
		[]string{"init", "--quiet", "--bare", "--initial-branch=" + base, m.remote},
		[]string{"-C", m.remote, "config", "core.logAllRefUpdates", "always"},
		[]string{"push", "--quiet", "file://" + m.remote, base},
		[]string{"clone", "--quiet", "file://" + m.remote, filepath.Join(m.dir, "clone")},
	)
}

// copied copies one of the repositories. Where the model's has its remote the
// copy has the one that is named.
func (m modelled) copied(t *testing.T, name, dir, remote string) *gittest.Repo {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(m.dir, name))); err != nil {
		t.Fatal(err)
	}
	if remote != "" {
		config := filepath.Join(dir, ".git", "config")
		data, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.ReplaceAll(data, []byte("file://"+m.remote), []byte(`"file://`+remote+`"`)) // "#" begins a comment there
		if err := os.WriteFile(config, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return gittest.At(t, dir)
}

// forgetModels removes what the models took.
func forgetModels() {
	models.Range(func(_, made any) bool {
		if m, err := made.(func() (modelled, error))(); err == nil {
			_ = os.RemoveAll(m.dir)
		}
		return true
	})
}

// fresh makes a clone of the origin, which may have moved on.
func (w *world) fresh() *gittest.Repo {
	w.t.Helper()
	heads, err := os.ReadDir(filepath.Join(w.origin.Dir, "refs", "heads"))
	if err != nil {
		w.t.Fatal(err)
	}
	tags, err := os.ReadDir(filepath.Join(w.origin.Dir, "refs", "tags"))
	tip, readErr := os.ReadFile(filepath.Join(w.origin.Dir, "refs", "heads", w.base))
	_, packed := os.Stat(filepath.Join(w.origin.Dir, "packed-refs"))
	if err != nil || readErr != nil || packed == nil || len(heads) != 1 || len(tags) != 0 || strings.TrimSpace(string(tip)) != w.model.first {
		return w.origin.Clone()
	}
	return w.model.copied(w.t, "clone", filepath.Join(w.t.TempDir(), "clone"), w.origin.Dir)
}

func (w *world) rules(r *gittest.Repo, rules Rules) {
	w.t.Helper()
	data, err := json.Marshal(rules)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Write(rulesFile, string(data))
}

// verifies is a command that records the tree it saw and fails where a file
// "broken" is, or where both "left" and "right" are.
const verifies = "git rev-parse HEAD^{tree} >> \"$SEEN\"; test ! -e broken && ! { test -e left && test -e right; }"

func (w *world) verify() string { return verifies }

func (w *world) env() []string {
	return append(gittest.Env(w.t), "SEEN="+w.seen, "GIT_AUTHOR_NAME=Anna", "GIT_AUTHOR_EMAIL=anna@x", "GIT_COMMITTER_NAME=Anna", "GIT_COMMITTER_EMAIL=anna@x")
}

// clone makes a clone on a branch with one commit that adds file.
func (w *world) clone(branch, file string) *gittest.Repo {
	w.t.Helper()
	c := w.fresh()
	c.Git("checkout", "--quiet", "-b", branch)
	c.Write(file, file+"\n")
	c.Commit("add " + file)
	return c
}

// someone lands a commit on the base from elsewhere, unverified by us: its
// tree is noted as seen, as that someone's business.
func (w *world) someone(file, content string) git.Commit {
	w.t.Helper()
	message := "someone changed " + file
	w.origin.Input(fmt.Sprintf("commit refs/heads/%[1]s\ncommitter Someone <someone@x> %[2]d +0000\ndata %[3]d\n%[4]s\nfrom refs/heads/%[1]s^0\nM 100644 inline %[5]s\ndata %[6]d\n%[7]s\n",
		w.base, time.Now().Unix(), len(message), message, file, len(content), content), "fast-import", "--quiet")
	id, tree, _ := strings.Cut(w.origin.Git("rev-parse", "refs/heads/"+w.base, "refs/heads/"+w.base+"^{tree}"), "\n")
	w.note(tree)
	return git.Commit(id)
}

func (w *world) note(tree string) {
	w.t.Helper()
	f, err := os.OpenFile(w.seen, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, tree)
}

func (w *world) deps(dir string) Deps {
	w.t.Helper()
	env := w.env()
	repo, err := git.Open(w.t.Context(), dir, env)
	if err != nil {
		w.t.Fatal(err)
	}
	return Deps{
		Repo: repo, Env: env, Cache: filepath.Join(w.home, "cache"), Rules: parseRules, File: rulesFile,
		Jitter: func(d time.Duration) time.Duration { return min(d, 20*time.Millisecond) },
	}
}

// story keeps what a landing tells.
type story struct {
	mu    sync.Mutex
	lines []string
}

func (s *story) tell(u Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch u := u.(type) {
	case Told:
		s.lines = append(s.lines, u.Phase+": "+u.Text)
	case Warned:
		s.lines = append(s.lines, "warning: "+u.Text)
	case Line:
		s.lines = append(s.lines, "verify | "+u.Text)
	case Raced, Arrived, Watched:
	}
}

func (s *story) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func (w *world) land(c *gittest.Repo, o Options, change ...func(*Deps)) (Result, *story) {
	w.t.Helper()
	return w.landIn(w.t.Context(), c, o, change...)
}

func (w *world) landIn(ctx context.Context, c *gittest.Repo, o Options, change ...func(*Deps)) (Result, *story) {
	w.t.Helper()
	d := w.deps(c.Dir)
	s := &story{}
	d.Tell = s.tell
	for _, f := range change {
		f(&d)
	}
	if d.CI == nil {
		o.NoWatch = true
	}
	return Land(ctx, d, o), s
}

// wants fails the test unless a landing ended as expected.
func wants(t *testing.T, r Result, s *story, kind fault.Kind, good Good) {
	t.Helper()
	if r.Kind != kind || r.Good != good {
		t.Fatalf("%s %q: %s\n%v\n%s", r.Kind, r.Good, r.Reason, r.Trouble, s)
	}
}

// sound checks the invariants from outside: every tip the base ever had is one
// whose tree was verified, each has the one before on its first-parent chain,
// and the base only moved forward.
func (w *world) sound() {
	w.t.Helper()
	data, err := os.ReadFile(w.seen)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	seen := strings.Fields(string(data))
	moves := strings.Split(w.origin.Git("log", "--walk-reflogs", "--format=%H %T", "refs/heads/"+w.base), "\n")
	slices.Reverse(moves)
	if tip, _, _ := strings.Cut(moves[0], " "); tip != w.first {
		w.t.Fatalf("the base's first tip is %s, not %s", tip, w.first)
	}
	// Each has the one before on its chain if the last has all on its own, the
	// older behind the newer.
	chain := strings.Fields(w.origin.Git("rev-list", "--first-parent", "refs/heads/"+w.base))
	for _, move := range slices.Backward(moves) {
		tip, tree, _ := strings.Cut(move, " ")
		if tip != w.first && !slices.Contains(seen, tree) {
			w.t.Errorf("tip %s of the base has a tree that was never verified", tip)
		}
		at := slices.Index(chain, tip)
		if at < 0 {
			w.t.Errorf("tip %s is not on the first-parent chain of the tips after it", tip)
			continue
		}
		chain = chain[at:]
	}
}

func (w *world) tip() git.Commit {
	w.t.Helper()
	return git.Commit(w.origin.Git("rev-parse", "refs/heads/"+w.base))
}

// has says whether the base's tip has a file.
func (w *world) has(file string) bool {
	w.t.Helper()
	return slices.Contains(strings.Fields(w.origin.Git("ls-tree", "-r", "--name-only", w.base)), file)
}

// state is everything a failed landing must leave as it was.
func (w *world) state(c *gittest.Repo) string {
	w.t.Helper()
	var b bytes.Buffer
	err := filepath.WalkDir(c.Dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Name() == ".git" {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		content := []byte{}
		if info.Mode().IsRegular() {
			if content, err = os.ReadFile(p); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%s %s %d %q\n", p, info.Mode(), info.ModTime().UnixNano(), content)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	gitDir, common := c.GitDirs()
	for _, name := range []string{"index", "HEAD", "MERGE_HEAD", "FETCH_HEAD", "ORIG_HEAD"} {
		data, err := os.ReadFile(filepath.Join(gitDir, name))
		fmt.Fprintf(&b, "%s %x %v\n", name, data, errors.Is(err, fs.ErrNotExist))
	}
	for line := range strings.Lines(c.Git("for-each-ref")) {
		if !strings.Contains(line, "refs/homelab/backup/") {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	stash, err := os.ReadFile(filepath.Join(common, "logs", "refs", "stash"))
	fmt.Fprintf(&b, "stash %q %v\n", stash, errors.Is(err, fs.ErrNotExist))
	b.WriteString(w.origin.Git("for-each-ref"))
	return b.String()
}

// unchanged runs f and fails if it changed anything.
func (w *world) unchanged(c *gittest.Repo, f func()) {
	w.t.Helper()
	before := w.state(c)
	f()
	if after := w.state(c); after != before {
		w.t.Errorf("something changed:\n%s\nbefore:\n%s", after, before)
	}
}

func hook(t *testing.T, r *gittest.Repo, name, script string) {
	t.Helper()
	dir, _ := r.GitDirs()
	if err := os.MkdirAll(filepath.Join(dir, "hooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hooks", name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// The child of the crash tests: lands, and dies at a journal write.
func TestMain(m *testing.M) {
	if os.Getenv("HOMELAB_PROC_RECEIVE") != "" {
		os.Exit(procReceive())
	}
	if spec := os.Getenv("HOMELAB_LANDING_CHILD"); spec != "" {
		os.Exit(child(spec))
	}
	if spec := os.Getenv("HOMELAB_DESK_CHILD"); spec != "" {
		os.Exit(deskChild(spec))
	}
	code := m.Run()
	forgetModels()
	os.Exit(code)
}

type childSpec struct {
	Dir, Cache string
	Env        []string
	DieAt      int // at this write of the journal, counted from 1; 0: never
	PIDFile    string
	Options    Options
	Result     string // where the result goes
	Fixed      bool   // a context without signals
	Court      *court // nil: no CI
}

func child(spec string) int {
	var c childSpec
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return 99
	}
	if c.PIDFile != "" {
		if err := os.WriteFile(c.PIDFile, fmt.Append(nil, os.Getpid()), 0o600); err != nil {
			return 98
		}
	}
	repo, err := git.Open(context.Background(), c.Dir, c.Env)
	if err != nil {
		return 97
	}
	writes := 0
	d := Deps{
		Repo: repo, Env: c.Env, Cache: c.Cache, Rules: parseRules, File: rulesFile,
		Wrote: func(Phase) {
			if writes++; writes == c.DieAt {
				p, _ := os.FindProcess(os.Getpid())
				_ = p.Kill()
				select {}
			}
		},
	}
	if c.Court != nil {
		d.CI, d.Restarts = c.Court, c.Court
	}
	r := Land(context.Background(), d, c.Options)
	fmt.Fprintln(os.Stderr, r.Kind, r.Reason)
	return r.Kind.Code()
}

// inChild lands in a process of its own and returns its exit code, -1 if it
// was killed.
func (w *world) inChild(c *gittest.Repo, dieAt int, pidFile string) (int, string) {
	w.t.Helper()
	return w.asChild(childSpec{Dir: c.Dir, DieAt: dieAt, PIDFile: pidFile, Options: Options{NoWatch: true}})
}

func (w *world) asChild(s childSpec) (int, string) {
	w.t.Helper()
	s.Cache, s.Env = filepath.Join(w.home, "cache"), w.env()
	spec, err := json.Marshal(s)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HOMELAB_LANDING_CHILD="+string(spec))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
