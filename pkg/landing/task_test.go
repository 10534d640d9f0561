package landing

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// bench is a remote and a clone of it whose tasks are tested.
type bench struct {
	t      *testing.T
	base   string
	origin *gittest.Repo // a work tree that others push from; its bare twin is the remote
	bare   *gittest.Repo
	clone  *gittest.Repo
	first  string
	env    []string
	told   []string
	now    time.Time
}

func newBench(t *testing.T, base string) *bench {
	t.Helper()
	m, err := model("bench "+base, func() (modelled, error) { return newBenchModel(base) })
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, base: base, env: gittest.Env(t), first: m.first, now: time.Date(2026, 11, 20, 16, 30, 0, 0, time.UTC)}
	dir := t.TempDir()
	b.bare = m.copied(t, "bare", filepath.Join(dir, "bare"), "")
	b.origin = m.copied(t, "origin", filepath.Join(dir, "origin"), b.bare.Dir)
	b.clone = m.copied(t, "clone", filepath.Join(dir, "clone"), b.bare.Dir)
	return b
}

// newBenchModel makes the repositories of a bench.
func newBenchModel(base string) (m modelled, err error) {
	files := map[string]string{"f": "1\n2\n3\n4\n5\n6\n7\n8\n9\n", ".gitignore": "*.env\n"}
	if m, err = begin(base, files); err != nil {
		return m, err
	}
	m.remote = filepath.Join(m.dir, "bare")
	return m, m.git(
		[]string{"clone", "--quiet", "--bare", "file://" + filepath.Join(m.dir, "origin"), m.remote},
		[]string{"-C", m.remote, "remote", "remove", "origin"},
		[]string{"remote", "add", "origin", "file://" + m.remote},
		[]string{"clone", "--quiet", "file://" + m.remote, filepath.Join(m.dir, "clone")},
	)
}

// others commits on the base and pushes that.
func (b *bench) others(name, content string) string {
	b.t.Helper()
	b.origin.Write(name, content)
	c := b.origin.Commit("others " + name)
	b.origin.Git("push", "--quiet", "origin", b.base)
	return c
}

func (b *bench) desk(dir string) *Desk {
	b.t.Helper()
	r, err := git.Open(b.t.Context(), dir, b.env)
	if err != nil {
		b.t.Fatal(err)
	}
	return &Desk{Dir: dir, User: "anna", Now: func() time.Time { return b.now }, Deps: Deps{
		Repo: r, Env: b.env, File: ".homelab.yaml",
		Rules: func(_ string, data []byte) (Rules, error) {
			base, _ := strings.CutPrefix(strings.TrimSpace(string(data)), "base: ")
			return Rules{Base: base}, nil
		},
		Tell: func(u Update) {
			switch u := u.(type) {
			case Told:
				b.told = append(b.told, u.Text)
			case Warned:
				b.told = append(b.told, "warning: "+u.Text)
			}
		},
	}}
}

func (b *bench) start(topic string) *gittest.Repo {
	b.t.Helper()
	s, err := b.desk(b.clone.Dir).Start(b.t.Context(), StartOptions{Topic: topic})
	if err != nil {
		b.t.Fatalf("start %s: %v", topic, err)
	}
	return gittest.At(b.t, s.Path)
}

// state is all that a failed start must not change.
func (b *bench) state() string {
	refs := b.clone.Git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/remotes", "refs/homelab/land", "refs/homelab/trash")
	files, _ := filepath.Glob(filepath.Join(b.clone.Dir, ".worktrees", "*"))
	records, _ := filepath.Glob(filepath.Join(b.clone.Dir, ".git", "homelab", "tasks", "*.json"))
	return strings.Join(append(append([]string{refs, b.clone.Git("worktree", "list", "--porcelain"), b.clone.Git("status", "--porcelain")}, files...), records...), "\n")
}

func TestStart(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"main", "master", "trunk"} {
		b := newBench(t, base)
		tip := b.others("g", "x")
		d := b.desk(b.clone.Dir)
		s, err := d.Start(t.Context(), StartOptions{Topic: "fan-curve"})
		if err != nil {
			t.Fatal(err)
		}
		want := filepath.Join(b.clone.Dir, ".worktrees", "fan-curve")
		if s.Path != want || s.Branch != "anna/fan-curve" || s.Base != base || s.Remote != "origin" || s.Named || s.Existing || string(s.BaseSHA) != tip {
			t.Errorf("%+v", s)
		}
		w := gittest.At(t, s.Path)
		if got := w.Git("rev-parse", "HEAD"); got != tip {
			t.Errorf("begins at %s, want the live tip %s", got, tip)
		}
		if w.Git("symbolic-ref", "HEAD") != "refs/heads/anna/fan-curve" || w.Git("status", "--porcelain") != "" || b.clone.Git("status", "--porcelain") != "" {
			t.Errorf("%q %q", w.Git("status", "--porcelain"), b.clone.Git("status", "--porcelain"))
		}
		if got := b.clone.Git("config", "--list"); strings.Contains(got, "anna/fan-curve") {
			t.Errorf("the branch follows something: %s", got)
		}
		if got := b.clone.Git("rev-parse", "refs/remotes/origin/"+base); got != b.first {
			t.Error("the user's tracking ref moved")
		}
		if got := b.clone.Git("for-each-ref", "refs/homelab/land"); got != "" {
			t.Errorf("left: %s", got)
		}

		// The same again, from inside the new work tree: the same path.
		again, err := b.desk(s.Path).Start(t.Context(), StartOptions{Topic: "fan-curve"})
		if err != nil || !again.Existing || again.Task != s.Task {
			t.Errorf("%+v, %v", again, err)
		}
		// Another from there lies beside it, not in it, and the line is there once.
		other, err := b.desk(s.Path).Start(t.Context(), StartOptions{Topic: "other", Base: base, From: "HEAD~1"})
		if err != nil || other.Path != filepath.Join(b.clone.Dir, ".worktrees", "other") || !other.Named || string(other.Start) != b.first {
			t.Errorf("%+v, %v", other, err)
		}
		data, _ := os.ReadFile(filepath.Join(b.clone.Dir, ".git", "info", "exclude"))
		if n := strings.Count(string(data), "/.worktrees/\n"); n != 1 {
			t.Errorf("%d lines in:\n%s", n, data)
		}
	}
}

func TestStartNeedsNoNetworkForWhatExists(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	b.start("x")
	b.clone.Git("remote", "set-url", "origin", "file:///nowhere")
	if s, err := b.desk(b.clone.Dir).Start(t.Context(), StartOptions{Topic: "x"}); err != nil || !s.Existing {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestStartRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		o     StartOptions
		setup func(b *bench)
		kind  fault.Kind
		says  string
	}{
		{"two dots", StartOptions{Topic: "a..b"}, nil, fault.Usage, "cannot be a topic"},
		{"lock", StartOptions{Topic: "a.lock"}, nil, fault.Usage, "cannot be a topic"},
		{"final dot", StartOptions{Topic: "a."}, nil, fault.Usage, "cannot be a topic"},
		{"slash", StartOptions{Topic: "a/b"}, nil, fault.Usage, "cannot be a topic"},
		{"option", StartOptions{Topic: "-a"}, nil, fault.Usage, "cannot be a topic"},
		{"long", StartOptions{Topic: strings.Repeat("a", 65)}, nil, fault.Usage, "cannot be a topic"},
		{"no such base", StartOptions{Topic: "a", Base: "gone"}, nil, fault.Usage, "origin has no branch gone"},
		{"no such remote", StartOptions{Topic: "a", Remote: "gone"}, nil, fault.Usage, "does not have"},
		{"no such commit", StartOptions{Topic: "a", From: "gone"}, nil, fault.Usage, "--from"},
		{"no user", StartOptions{Topic: "a"}, func(*bench) {}, fault.Usage, "USER is not set"},
		{"path taken", StartOptions{Topic: "a"}, func(b *bench) { b.clone.Write(".worktrees/a/file", "x") }, fault.Usage, "is no work tree"},
		{"other work tree there", StartOptions{Topic: "a"}, func(b *bench) { b.clone.Git("worktree", "add", "-q", "-b", "mine", ".worktrees/a") }, fault.Usage, "with mine checked out"},
		{"checked out elsewhere", StartOptions{Topic: "a"}, func(b *bench) {
			b.clone.Git("worktree", "add", "-q", "-b", "anna/a", filepath.Join(b.t.TempDir(), "else"))
		}, fault.Usage, "anna/a is checked out at"},
		{"a branch in the way", StartOptions{Topic: "a"}, func(b *bench) { b.clone.Git("branch", "anna") }, fault.Usage, "there is a branch anna"},
		{"branches below", StartOptions{Topic: "a"}, func(b *bench) { b.clone.Git("branch", "anna/a/b") }, fault.Usage, "there is a branch anna/a/b"},
		{"another base", StartOptions{Topic: "a", Base: "dev"}, func(b *bench) { b.start("a") }, fault.Usage, "its base is main, not dev"},
		{"no remote", StartOptions{Topic: "a"}, func(b *bench) { b.clone.Git("remote", "remove", "origin") }, fault.Usage, "no remote"},
		{"remote gone", StartOptions{Topic: "a"}, func(b *bench) { b.clone.Git("remote", "set-url", "origin", "file:///nowhere") }, fault.Denied, "origin refuses access"},
		{"checkout fails", StartOptions{Topic: "a"}, func(b *bench) {
			b.others(".gitattributes", "f filter=broken\n")
			b.clone.Git("config", "filter.broken.smudge", "false")
			b.clone.Git("config", "filter.broken.required", "true")
		}, fault.Bug, "did not work"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "main")
			if tc.setup != nil {
				tc.setup(b)
			}
			d := b.desk(b.clone.Dir)
			if tc.name == "no user" {
				d.User = ""
			}
			before := b.state()
			_, err := d.Start(t.Context(), tc.o)
			if err == nil || err.Kind != tc.kind || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v (%+v), want %s with %q", err, err, tc.kind, tc.says)
			}
			if after := b.state(); after != before {
				t.Errorf("changed:\n%s\nto:\n%s", before, after)
			}
		})
	}
}

func TestStartAttaches(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	b.clone.Git("branch", "anna/a")
	w := b.start("a")
	if w.Git("symbolic-ref", "HEAD") != "refs/heads/anna/a" || w.Git("status", "--porcelain") != "" {
		t.Error(w.Git("status"))
	}
	c := w.Commit("work")
	// Someone removed the directory: the branch comes back with its commits.
	_ = os.RemoveAll(w.Dir)
	if again := b.start("a"); again.Dir != w.Dir || again.Git("rev-parse", "HEAD") != c || again.Git("status", "--porcelain") != "" {
		t.Error("not as it was")
	}
	// A work tree made by hand gets a record.
	b.clone.Git("worktree", "add", "-q", "-b", "anna/hand", ".worktrees/hand")
	if s, err := b.desk(b.clone.Dir).Start(t.Context(), StartOptions{Topic: "hand"}); err != nil || !s.Existing || s.Base != "main" {
		t.Errorf("%+v, %v", s, err)
	}
}

// A run that was killed between making the work tree and its files.
func TestStartGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	w := b.start("a")
	d := b.desk(b.clone.Dir)
	record, _, err := d.record("a")
	if err != nil {
		t.Fatal(err)
	}
	record.Making = true
	if err := d.keep(record); err != nil {
		t.Fatal(err)
	}
	admin := filepath.Join(b.clone.Dir, ".git", "worktrees", "a")
	_ = os.Remove(filepath.Join(admin, "index"))
	_ = os.WriteFile(filepath.Join(admin, "index.lock"), nil, 0o600)
	_ = os.Remove(filepath.Join(w.Dir, "f"))
	b.start("a")
	if w.Git("status", "--porcelain") != "" {
		t.Error(w.Git("status"))
	}
	if again, _, _ := d.record("a"); again.Making {
		t.Error("still being made")
	}
}

func TestStartHosts(t *testing.T) {
	t.Parallel()
	b := newBench(t, "trunk")
	holder := t.TempDir()
	for _, tc := range []struct{ name, host, want string }{
		{"bare", filepath.Join(holder, "a", ".bare"), filepath.Join(holder, "a", ".worktrees", "x")},
		{"bare .git", filepath.Join(holder, "b", ".git"), filepath.Join(holder, "b", ".worktrees", "x")},
	} {
		b.clone.Git("clone", "--quiet", "--bare", "file://"+b.bare.Dir, tc.host)
		s, err := b.desk(tc.host).Start(t.Context(), StartOptions{Topic: "x"})
		if err != nil || s.Path != tc.want {
			t.Fatalf("%s: %+v, %v", tc.name, s, err)
		}
		// From the linked work tree of a bare host as well.
		if s, err = b.desk(tc.want).Start(t.Context(), StartOptions{Topic: "y"}); err != nil || s.Path != filepath.Join(filepath.Dir(tc.want), "y") {
			t.Errorf("%s: %+v, %v", tc.name, s, err)
		}
	}
	apart := filepath.Join(holder, "apart")
	b.clone.Git("clone", "--quiet", "--separate-git-dir="+filepath.Join(holder, "elsewhere.git"), "file://"+b.bare.Dir, apart)
	if s, err := b.desk(apart).Start(t.Context(), StartOptions{Topic: "x"}); err != nil || s.Path != filepath.Join(apart, ".worktrees", "x") {
		t.Errorf("separate: %+v, %v", s, err)
	}
}

// In a clone that git-crypt unlocked a plain "git worktree add" dies in the
// smudge filter, which looks for keys in the work tree's own git directory.
func TestStartUnlocked(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	b.others(".gitattributes", "secret filter=git-crypt\n")
	b.others("secret", "hidden\n")
	b.clone.Git("config", "filter.git-crypt.smudge", `test -e "$(git rev-parse --git-dir)/git-crypt/keys/default" && cat`)
	b.clone.Git("config", "filter.git-crypt.clean", "cat")
	b.clone.Git("config", "filter.git-crypt.required", "true")
	b.clone.Write(".git/git-crypt/keys/default", "k")
	w := b.start("a")
	if data, _ := os.ReadFile(filepath.Join(w.Dir, "secret")); string(data) != "hidden\n" || w.Git("status", "--porcelain") != "" {
		t.Errorf("%q", data)
	}
	// And it survives being put away and brought back.
	items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}})
	if err != nil || !items[0].Done {
		t.Fatalf("%+v, %v", items, err)
	}
	item, err := b.desk(b.clone.Dir).Restore(t.Context(), items[0].TrashID)
	if err != nil || !item.Done || w.Git("status", "--porcelain") != "" {
		t.Errorf("%+v, %v", item, err)
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	identity := []string{"-c", "user.name=A", "-c", "user.email=a@x"}
	landMerge := func(b *bench, w *gittest.Repo) string {
		b.origin.Git("fetch", "--quiet", w.Dir, "HEAD")
		b.origin.Git("merge", "--quiet", "--no-ff", "-m", "Land it", "FETCH_HEAD")
		b.origin.Git("push", "--quiet", "origin", b.base)
		return b.origin.Git("rev-parse", "HEAD")
	}
	revert := func(b *bench, c string) string {
		b.origin.Git("revert", "--no-edit", "--no-commit", "-m", "1", c)
		x := b.origin.Commit("Revert it\n\nHomelab-Reverts: " + c + "\n")
		b.origin.Git("push", "--quiet", "origin", b.base)
		return x
	}
	two := func(w *gittest.Repo) {
		w.Write("a", "1\n")
		w.Commit("one")
		w.Write("a", "1\n2\n")
		w.Write("bin", "\x00\x01")
		w.Commit("two")
	}
	for _, tc := range []struct {
		name string
		do   func(b *bench, w *gittest.Repo)
		want State
	}{
		{"nothing done yet", func(*bench, *gittest.Repo) {}, StateNo},
		{"base went on", func(b *bench, _ *gittest.Repo) { b.others("g", "x") }, StateNo},
		{"work", func(_ *bench, w *gittest.Repo) { two(w) }, StateNo},
		{"merged", func(b *bench, w *gittest.Repo) { two(w); landMerge(b, w) }, StateMerged},
		{"fast-forward", func(_ *bench, w *gittest.Repo) { two(w); w.Git("push", "--quiet", "origin", "HEAD:main") }, StateMerged},
		{"content", func(b *bench, w *gittest.Repo) {
			two(w)
			b.others("a", "1\n2\n")
			b.others("bin", "\x00\x01")
		}, StateContent},
		{"squashed, edited later", func(b *bench, w *gittest.Repo) {
			two(w)
			b.origin.Write("bin", "\x00\x01")
			b.others("a", "1\n2\n")
			b.others("a", "1\n2 changed\n")
		}, StateSquashed},
		{"another binary", func(b *bench, w *gittest.Repo) {
			two(w)
			b.origin.Write("bin", "\x00\x02")
			b.others("a", "1\n2\n")
			b.others("a", "1\n2 changed\n")
		}, StateNo},
		{"part of a larger commit", func(b *bench, w *gittest.Repo) {
			two(w)
			b.origin.Write("bin", "\x00\x01")
			b.origin.Write("more", "x")
			b.others("a", "1\n2\n")
			b.others("a", "1\n2 changed\n")
		}, StateNo},
		{"reverted", func(b *bench, w *gittest.Repo) { two(w); revert(b, landMerge(b, w)) }, StateReverted},
		{"reverted, and work since", func(b *bench, w *gittest.Repo) {
			two(w)
			revert(b, landMerge(b, w))
			w.Write("more", "x")
			w.Commit("more")
		}, StateReverted},
		{"reverted through a pull request", func(b *bench, w *gittest.Repo) {
			two(w)
			c := landMerge(b, w)
			b.origin.Git("checkout", "--quiet", "-b", "undo")
			b.origin.Git("revert", "--no-edit", "--no-commit", "-m", "1", c)
			b.origin.Commit("Revert it\n\nHomelab-Reverts: " + c + "\n")
			b.origin.Git("checkout", "--quiet", b.base)
			b.origin.Git(append(identity, "merge", "--quiet", "--no-ff", "-m", "Merge #8", "undo")...)
			b.origin.Git("push", "--quiet", "origin", b.base)
		}, StateReverted},
		{"reverted and restored", func(b *bench, w *gittest.Repo) {
			two(w)
			x := revert(b, landMerge(b, w))
			b.origin.Git(append(identity, "revert", "--no-edit", "--no-commit", x)...)
			b.origin.Commit("Land again\n\nHomelab-Restores: " + x + "\n")
			b.origin.Git("push", "--quiet", "origin", b.base)
		}, StateMerged},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "main")
			w := b.start("a")
			tc.do(b, w)
			o, err := b.desk(b.clone.Dir).Status(t.Context(), StatusOptions{Fetch: true})
			if err != nil || len(o.Tasks) != 1 || o.Tasks[0].Landed != tc.want || len(o.Warnings) > 0 {
				t.Errorf("%+v, %v; want %s", o, err, tc.want)
			}
		})
	}
}

// A task that was begun when another's landing was on the base, and is not
// undone by the undoing of that.
func TestStateOfAnothersRevert(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	b.origin.Git("checkout", "--quiet", "-b", "side")
	b.origin.Write("side", "x")
	b.origin.Commit("side")
	b.origin.Git("checkout", "--quiet", "main")
	b.origin.Git("merge", "--quiet", "--no-ff", "-m", "Land side", "side")
	c := b.origin.Git("rev-parse", "HEAD")
	b.origin.Git("push", "--quiet", "origin", "main")
	w := b.start("a")
	w.Write("a", "x")
	w.Commit("a")
	b.origin.Git("revert", "--no-commit", "-m", "1", c)
	b.origin.Commit("Revert\n\nHomelab-Reverts: " + c + "\n")
	b.origin.Git("push", "--quiet", "origin", "main")
	o, err := b.desk(b.clone.Dir).Status(t.Context(), StatusOptions{Fetch: true})
	if err != nil || o.Tasks[0].Landed != StateNo {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	w := b.start("a")
	w.Write("a", "1")
	w.Commit("a")
	s, err := b.desk(w.Dir).Start(t.Context(), StartOptions{Topic: "on-top", From: "HEAD"})
	if err != nil {
		t.Fatal(err)
	}
	top := gittest.At(t, s.Path)
	top.Write("b", "1")
	top.Commit("b")
	top.Git("push", "--quiet", "origin", "HEAD")
	w.Write("f", "changed")
	w.Write("new", "x")
	w.Write("secret.env", "x")
	tip := b.others("g", "x")
	records := []Record{
		{ID: "20261120T163000Z-0001", Phase: Proposed, Branch: "anna/a", Base: "main", Remote: "origin", Pull: &PullRequest{URL: "u", Number: 7, State: "open"}},
		{ID: "20261120T163000Z-0002", Phase: Staged, Branch: "other", Base: "main", Remote: "origin", Stagings: []Staging{{Ref: "refs/heads/homelab/land/20261120T163000Z-0002"}}},
		{ID: "20261120T163000Z-0003", Phase: Done, Branch: "anna/on-top", Base: "main", Remote: "origin"},
	}
	for _, r := range records {
		j, err := openJournal(t.Context(), filepath.Join(b.clone.Dir, ".git"), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.write(r); err != nil {
			t.Fatal(err)
		}
		j.close()
	}
	b.bare.Git("update-ref", "refs/heads/homelab/land/stray", tip)

	index, _ := os.ReadFile(filepath.Join(b.clone.Dir, ".git/worktrees/a/index"))
	offline, failed := b.desk(b.clone.Dir).Status(t.Context(), StatusOptions{})
	if failed != nil || len(offline.Tasks) != 2 || offline.Tasks[0].Behind != 0 || len(offline.Strays) != 1 {
		t.Fatalf("%+v, %v", offline, failed)
	}
	o, failed := b.desk(b.clone.Dir).Status(t.Context(), StatusOptions{Fetch: true})
	if failed != nil || len(o.Tasks) != 2 || len(o.Warnings) > 0 {
		t.Fatalf("%+v, %v", o, failed)
	}
	a, on := o.Tasks[0], o.Tasks[1]
	if !slices.Equal(a.Changed, []string{"f"}) || !slices.Equal(a.Untracked, []string{"new"}) || !slices.Equal(a.Ignored, []string{"secret.env"}) ||
		a.Ahead != 1 || a.Behind != 1 || a.StackedOn != "" || !a.Pushed || a.Landed != StateNo || a.Missing || string(a.Base) != tip {
		t.Errorf("%+v", a)
	}
	if a.Landing == nil || a.Landing.ID != records[0].ID || a.Landing.UnderWay || a.Landing.Next != "cd "+w.Dir+" && homelab work land" || a.Pull.Number != 7 {
		t.Errorf("%+v %+v", a.Landing, a.Pull)
	}
	if on.Ahead != 2 || on.StackedOn != "a" || !on.Pushed || on.Landing != nil {
		t.Errorf("%+v", on)
	}
	if len(o.Landings) != 1 || o.Landings[0].Branch != "other" || len(o.Strays) != 2 || o.Strays[1].Branch != "homelab/land/stray" {
		t.Errorf("%+v %+v", o.Landings, o.Strays)
	}
	if now, _ := os.ReadFile(filepath.Join(b.clone.Dir, ".git/worktrees/a/index")); string(now) != string(index) {
		t.Error("looking changed the index")
	}
	// Without the remote, what is known is told, with a warning.
	b.clone.Git("remote", "set-url", "origin", "file:///nowhere")
	o, failed = b.desk(b.clone.Dir).Status(t.Context(), StatusOptions{Fetch: true})
	if failed != nil || len(o.Tasks) != 2 || o.Tasks[0].Behind != 1 || len(o.Warnings) == 0 {
		t.Errorf("%+v, %v", o, failed)
	}
}

// tree reads every file of a directory but .git.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == ".git" {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCleanAndRestore(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	w := b.start("a")
	w.Write("a", "1")
	c := w.Commit("a")
	w.Write("f", "staged\n")
	w.Git("add", "f")
	w.Write("f", "changed\n")
	w.Write("new", "untracked")
	w.Write("prod.env", "PASSWORD=x")
	before := tree(t, w.Dir)

	items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}})
	if err != nil || len(items) != 1 || items[0].Done || items[0].TrashID != "" || len(items[0].Reasons) != 3 {
		t.Fatalf("%+v, %v", items, err)
	}
	for i, want := range []string{"1 changed file(s): f", "untracked: new", "1 commit on no remote and not landed"} {
		if items[0].Reasons[i] != want {
			t.Errorf("%q, want %q", items[0].Reasons[i], want)
		}
	}
	items, err = b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}, Force: true})
	if err != nil || !items[0].Done || len(items[0].Reasons) > 0 {
		t.Fatalf("%+v, %v", items, err)
	}
	id := items[0].TrashID
	if _, err := os.Stat(w.Dir); !os.IsNotExist(err) {
		t.Error("the directory is still there")
	}
	if got := b.clone.Git("for-each-ref", "--format=%(refname)", "refs/heads"); got != "refs/heads/main" {
		t.Errorf("branches: %s", got)
	}
	if got := b.clone.Git("worktree", "list", "--porcelain"); strings.Contains(got, "a") && strings.Count(got, "worktree ") != 1 {
		t.Errorf("still listed: %s", got)
	}
	if b.clone.Git("status", "--porcelain") != "" {
		t.Error("the trash shows in the status")
	}
	b.clone.Git("gc", "--quiet", "--prune=now")
	if got := b.clone.Git("show", "refs/homelab/trash/"+id+"/stash^2:f"); got != "staged" {
		t.Errorf("the index was not kept: %q", got)
	}
	list, err := b.desk(b.clone.Dir).Trash(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != id || list[0].Task.Topic != "a" || string(list[0].Tip) != c {
		t.Errorf("%+v, %v", list, err)
	}

	item, err := b.desk(b.clone.Dir).Restore(t.Context(), id)
	if err != nil || !item.Done || item.Branch != "anna/a" || item.Path != w.Dir {
		t.Fatalf("%+v, %v", item, err)
	}
	after := tree(t, w.Dir)
	if len(after) != len(before) {
		t.Errorf("%v, want %v", after, before)
	}
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s is %q, was %q", name, after[name], content)
		}
	}
	if got := w.Git("status", "--porcelain"); got != " M f\n?? new" || w.Git("rev-parse", "HEAD") != c {
		t.Errorf("%q", got)
	}
	if list, _ := b.desk(b.clone.Dir).Trash(t.Context()); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if s, err := b.desk(b.clone.Dir).Start(t.Context(), StartOptions{Topic: "a"}); err != nil || !s.Existing {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestCleanRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		setup func(b *bench, w *gittest.Repo)
		dir   func(b *bench, w *gittest.Repo) string // where the caller is
		says  string
	}{
		{"caller inside", nil, func(_ *bench, w *gittest.Repo) string { return w.Dir }, "this command runs inside it"},
		{"merging", func(_ *bench, w *gittest.Repo) { w.Write("../../.git/worktrees/a/MERGE_HEAD", "x") }, nil, "a merge is in progress"},
		{"other branch", func(_ *bench, w *gittest.Repo) { w.Git("checkout", "-q", "-b", "else") }, nil, "else is checked out there, not anna/a"},
		{"detached", func(_ *bench, w *gittest.Repo) { w.Git("checkout", "-q", "--detach") }, nil, "no branch is checked out there"},
		{"locked", func(b *bench, w *gittest.Repo) { b.clone.Git("worktree", "lock", w.Dir) }, nil, "locked"},
		{"nested", func(_ *bench, w *gittest.Repo) { w.Git("worktree", "add", "-q", "-b", "n", "inner") }, nil, "lies in it"},
		{"no longer a work tree", func(b *bench, w *gittest.Repo) {
			b.clone.Git("worktree", "remove", "--force", w.Dir)
			w.Write("precious", "x")
		}, nil, "is no work tree of this clone any more"},
		{"landing", func(b *bench, _ *gittest.Repo) {
			j, err := openJournal(t.Context(), filepath.Join(b.clone.Dir, ".git"), "20261120T163000Z-0001")
			if err != nil {
				b.t.Fatal(err)
			}
			b.t.Cleanup(j.close)
			if err := j.write(Record{ID: "20261120T163000Z-0001", Phase: Pushing, Branch: "anna/a", PID: 4711}); err != nil {
				b.t.Fatal(err)
			}
		}, nil, "process 4711 is landing it"},
		{"process inside", func(b *bench, w *gittest.Repo) {
			cmd := exec.Command("sleep", "60")
			cmd.Dir = w.Dir
			if err := cmd.Start(); err != nil {
				b.t.Fatal(err)
			}
			b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		}, nil, "in use by process"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat("/proc/self/cwd"); err != nil && tc.name == "process inside" {
				t.Skip("no /proc")
			}
			b := newBench(t, "main")
			w := b.start("a")
			if tc.setup != nil {
				tc.setup(b, w)
			}
			dir := b.clone.Dir
			if tc.dir != nil {
				dir = tc.dir(b, w)
			}
			before, files := b.state(), tree(t, w.Dir)
			items, err := b.desk(dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}, Force: true})
			if err != nil || items[0].Done || !strings.Contains(strings.Join(items[0].Reasons, "; "), tc.says) {
				t.Errorf("%+v, %v; want %q", items, err, tc.says)
			}
			if after := b.state(); after != before {
				t.Errorf("changed:\n%s\nto:\n%s", before, after)
			}
			if now := tree(t, w.Dir); len(now) != len(files) {
				t.Errorf("files: %v, were %v", now, files)
			}
		})
	}
}

func TestCleanLanded(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	fresh := b.start("fresh")
	open := b.start("open")
	open.Write("o", "1")
	open.Commit("o")
	done := b.start("done")
	done.Write("d", "1")
	done.Commit("d")
	done.Write("keep.env", "SECRET")
	done.Git("push", "--quiet", "-u", "origin", "HEAD")
	done.Git("push", "--quiet", "origin", "HEAD:main")
	dirty := b.start("dirty")
	dirty.Write("x", "1")
	dirty.Commit("x")
	dirty.Git("push", "--quiet", "origin", "HEAD:main")
	dirty.Write("x", "2")

	items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Landed: true})
	if err != nil || len(items) != 2 || items[0].Topic != "dirty" || items[0].Done || items[1].Topic != "done" || !items[1].Done {
		t.Fatalf("%+v, %v", items, err)
	}
	for _, w := range []*gittest.Repo{fresh, open, dirty} {
		if w.Git("status", "--porcelain") == "?" {
			t.Error(w.Dir)
		}
	}
	if got := b.bare.Git("for-each-ref", "--format=%(refname)", "refs/heads"); got != "refs/heads/main" {
		t.Errorf("on the remote: %s", got)
	}
	saved := filepath.Join(b.clone.Dir, ".worktrees", ".trash", items[1].TrashID, "keep.env")
	if data, _ := os.ReadFile(saved); string(data) != "SECRET" {
		t.Errorf("%s: %q", saved, data)
	}
	// After a month it is gone for good.
	b.now = b.now.Add(31 * 24 * time.Hour)
	b.start("later")
	if _, err := os.Stat(filepath.Dir(saved)); !os.IsNotExist(err) || b.clone.Git("for-each-ref", "refs/homelab/trash") != "" {
		t.Errorf("still there: %v", err)
	}
}

// A branch on the remote that someone else pushed to is not deleted.
func TestCleanLeavesOthersCommits(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	w := b.start("a")
	w.Write("d", "1")
	w.Commit("d")
	w.Git("push", "--quiet", "origin", "HEAD", "HEAD:main")
	b.origin.Git("fetch", "--quiet")
	b.origin.Git("checkout", "--quiet", "anna/a")
	theirs := b.origin.Commit("theirs")
	b.origin.Git("push", "--quiet", "origin", "anna/a")
	items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}})
	if err != nil || !items[0].Done || b.bare.Git("rev-parse", "anna/a") != theirs {
		t.Errorf("%+v, %v", items, err)
	}
}

// The directory was removed by hand: the branch is kept all the same.
func TestCleanStale(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	w := b.start("a")
	w.Write("a", "1")
	c := w.Commit("a")
	_ = os.RemoveAll(w.Dir)
	items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}})
	if err != nil || items[0].Done {
		t.Fatalf("%+v, %v", items, err)
	}
	items, err = b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}, Force: true})
	if err != nil || !items[0].Done {
		t.Fatalf("%+v, %v", items, err)
	}
	item, err := b.desk(b.clone.Dir).Restore(t.Context(), items[0].TrashID)
	if err != nil || !item.Done || w.Git("rev-parse", "HEAD") != c || w.Git("status", "--porcelain") != "" {
		t.Errorf("%+v, %v", item, err)
	}
	b.clone.Git("worktree", "remove", "--force", w.Dir)
	b.clone.Git("branch", "-D", "anna/a")
	items, err = b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}})
	if err != nil || !items[0].Done || items[0].TrashID != "" {
		t.Errorf("%+v, %v", items, err)
	}
	if _, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}}); err == nil || err.Kind != fault.Usage {
		t.Errorf("no such task: %v", err)
	}
}

func TestRestoreBesideWhatIsThere(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	w := b.start("a")
	w.Write("x.env", "first")
	items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}})
	if err != nil || !items[0].Done {
		t.Fatalf("%+v, %v", items, err)
	}
	id := items[0].TrashID
	// The topic is in use again.
	b.start("a").Commit("second")
	item, err := b.desk(b.clone.Dir).Restore(t.Context(), id)
	if err != nil || item.Done || len(item.Reasons) != 2 {
		t.Fatalf("%+v, %v", item, err)
	}
	if items, err = b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}, Force: true}); err != nil || !items[0].Done {
		t.Fatalf("%+v, %v", items, err)
	}
	// Only the branch's name is.
	b.clone.Git("branch", "anna/a", "main")
	b.clone.Git("branch", "-f", "anna/a", "refs/homelab/trash/"+items[0].TrashID+"/branch")
	item, err = b.desk(b.clone.Dir).Restore(t.Context(), id)
	if err != nil || !item.Done || item.Branch != "anna/a-restored-1" {
		t.Fatalf("%+v, %v", item, err)
	}
	if data, _ := os.ReadFile(filepath.Join(w.Dir, "x.env")); string(data) != "first" {
		t.Errorf("%q", data)
	}
	if _, err := b.desk(b.clone.Dir).Restore(t.Context(), "nothing"); err == nil || err.Kind != fault.Usage {
		t.Errorf("%v", err)
	}
}

// A run that was killed while it moved the files: the next one goes on.
func TestRestoreGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	w := b.start("a")
	w.Write("x.env", "x")
	items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}})
	if err != nil || !items[0].Done {
		t.Fatalf("%+v, %v", items, err)
	}
	d := b.desk(b.clone.Dir)
	list, _ := d.trash()
	where, failed := d.survey(t.Context())
	if failed != nil {
		t.Fatal(failed)
	}
	r := &restorer{Desk: d, where: where, t: list[0]}
	if err := r.begin(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	_ = os.Rename(filepath.Join(list[0].Saved, "f"), filepath.Join(w.Dir, "f"))
	item, err := b.desk(b.clone.Dir).Restore(t.Context(), items[0].TrashID)
	if err != nil || !item.Done || w.Git("status", "--porcelain") != "" {
		t.Fatalf("%+v, %v", item, err)
	}
	if data, _ := os.ReadFile(filepath.Join(w.Dir, "x.env")); string(data) != "x" {
		t.Errorf("%q", data)
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	const id = "20261120T163000Z-0001"
	staging := "refs/heads/homelab/land/" + id
	for _, tc := range []struct {
		name   string
		record Record
		setup  func(b *bench, c string)
		kind   fault.Kind
		landed bool
		left   bool // the journal
	}{
		{"verified", Record{Phase: Verified}, nil, fault.OK, false, false},
		{"staged", Record{Phase: Staged, Stagings: []Staging{{Ref: staging}}}, func(b *bench, c string) { b.clone.Git("push", "-q", "origin", c+":"+staging) }, fault.OK, false, false},
		{"staged twice", Record{Phase: Staged, Stagings: []Staging{{Ref: staging}, {Ref: staging + "-2"}}}, func(b *bench, c string) {
			b.clone.Git("push", "-q", "origin", c+":"+staging, c+":"+staging+"-2")
		}, fault.OK, false, false},
		{"not pushed", Record{Phase: Pushing}, nil, fault.OK, false, false},
		{"pushed", Record{Phase: Pushing}, func(b *bench, c string) { b.clone.Git("push", "-q", "origin", c+":refs/heads/main") }, fault.OK, true, true},
		{"pushed, and the base went on", Record{Phase: Pushing}, func(b *bench, c string) {
			b.clone.Git("push", "-q", "origin", c+":refs/heads/main")
			b.origin.Git("pull", "-q", "origin", "main")
			b.others("g", "x")
		}, fault.OK, true, true},
		{"in doubt", Record{Phase: Pushing}, func(b *bench, _ string) { b.clone.Git("remote", "set-url", "origin", "file:///nowhere") }, fault.Denied, false, true},
		{"pull request", Record{Phase: Proposed, Pull: &PullRequest{URL: "u", Number: 7, State: "open"}}, nil, fault.OK, false, false},
		{"watching", Record{Phase: OnBase}, nil, fault.OK, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "main")
			w := b.start("a")
			w.Write("a", "1")
			c := w.Commit("a")
			r := tc.record
			r.ID, r.Branch, r.Base, r.Remote, r.Candidate, r.Tried = id, "anna/a", "main", "origin", git.Commit(c), []git.Commit{git.Commit(c)}
			for i := range r.Stagings {
				r.Stagings[i].Commit = git.Commit(c)
			}
			j, err := openJournal(t.Context(), filepath.Join(b.clone.Dir, ".git"), id)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.write(r); err != nil {
				t.Fatal(err)
			}
			if _, err := b.desk(b.clone.Dir).Abort(t.Context(), "a"); err == nil || err.Kind != fault.Held {
				t.Errorf("while it is under way: %v", err)
			}
			j.close()
			b.clone.Git("update-ref", "refs/homelab/land/"+id+"/candidate", c)
			b.clone.Git("update-ref", "refs/homelab/backup/"+id, c)
			if tc.setup != nil {
				tc.setup(b, c)
			}
			base := b.bare.Git("rev-parse", "main")

			out, failed := b.desk(w.Dir).Abort(t.Context(), "") // of the branch here
			kind := fault.OK
			if failed != nil {
				kind = failed.Kind
			}
			if kind != tc.kind || (out.Landed != "") != tc.landed || !out.Found || out.Topic != "a" || out.Unknown != (tc.name == "in doubt") || out.Pull != r.Pull && out.Pull.Number != 7 {
				t.Errorf("%+v, %v", out, failed)
			}
			left, _ := Unfinished(filepath.Join(b.clone.Dir, ".git"), "anna/a")
			if len(left) > 0 != tc.left {
				t.Errorf("journals: %+v", left)
			}
			if tc.name == "pushed" && (len(left) == 0 || left[0].Phase != OnBase) {
				t.Errorf("journal: %+v", left)
			}
			if !tc.left {
				if got := b.clone.Git("for-each-ref", "refs/homelab/land"); got != "" {
					t.Errorf("left: %s", got)
				}
				if again, failed := b.desk(w.Dir).Abort(t.Context(), "a"); failed != nil || again.Found {
					t.Errorf("again: %+v, %v", again, failed)
				}
			}
			if b.bare.Git("rev-parse", "main") != base || b.bare.Git("for-each-ref", "refs/heads/homelab") != "" {
				t.Error("the base moved, or the staging branch is still there")
			}
			if w.Git("rev-parse", "HEAD") != c || w.Git("status", "--porcelain") != "" || b.clone.Git("rev-parse", "refs/homelab/backup/"+id) != c {
				t.Error("the branch changed")
			}
		})
	}
}
