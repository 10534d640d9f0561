package git_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"homelab/internal/gittest"
	"homelab/pkg/git"
)

func open(t *testing.T, r *gittest.Repo) *git.Repo {
	t.Helper()
	repo, err := git.Open(t.Context(), r.Dir, gittest.Env(t))
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// resolved returns dir without symbolic links, as git says it.
func resolved(t *testing.T, dir string) string {
	t.Helper()
	p, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOpen(t *testing.T) {
	env := gittest.Env(t)
	main := gittest.New(t, "main")
	main.Write("sub/deep/f", "x")
	main.Commit("one")
	linked := filepath.Join(t.TempDir(), "linked")
	main.Git("worktree", "add", "--quiet", "-b", "topic", linked)
	bare := gittest.New(t, "trunk", "--bare")
	top, dot := resolved(t, main.Dir), filepath.Join(resolved(t, main.Dir), ".git")

	for _, tc := range []struct {
		name, dir            string
		root, gitDir, common string
		bare                 bool
	}{
		{"top", main.Dir, top, dot, dot, false},
		{"below", filepath.Join(main.Dir, "sub/deep"), top, dot, dot, false},
		{"linked", linked, resolved(t, linked), filepath.Join(dot, "worktrees/linked"), dot, false},
		{"inside .git", filepath.Join(main.Dir, ".git"), dot, dot, dot, false},
		{"bare", bare.Dir, resolved(t, bare.Dir), resolved(t, bare.Dir), resolved(t, bare.Dir), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := git.Open(t.Context(), tc.dir, env)
			if err != nil {
				t.Fatal(err)
			}
			if r.Root() != tc.root || r.GitDir() != tc.gitDir || r.CommonDir() != tc.common || r.Bare() != tc.bare {
				t.Errorf("root %s, git dir %s, common dir %s, bare %v", r.Root(), r.GitDir(), r.CommonDir(), r.Bare())
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	env := gittest.Env(t)
	plain := t.TempDir()
	orphan := t.TempDir()
	if err := os.WriteFile(filepath.Join(orphan, ".git"), []byte("gitdir: /gone/.git/worktrees/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{plain, orphan} {
		if _, err := git.Open(t.Context(), dir, env); !errors.Is(err, git.ErrNotRepo) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if _, err := git.Open(t.Context(), filepath.Join(plain, "gone"), env); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	if _, err := git.Open(t.Context(), plain, []string{"PATH=" + plain}); !errors.Is(err, git.ErrNoGit) {
		t.Errorf("no git: %v", err)
	}
	broken := gittest.New(t, "main")
	if err := os.WriteFile(filepath.Join(broken.Dir, ".git/config"), []byte("[core\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var failed *git.CommandError
	if _, err := git.Open(t.Context(), broken.Dir, env); !errors.As(err, &failed) || errors.Is(err, git.ErrNotRepo) {
		t.Errorf("broken configuration: %v", err)
	}
	r := gittest.New(t, "main")
	_, err := git.Open(t.Context(), r.Dir, append(env, "GIT_TEST_ASSUME_DIFFERENT_OWNER=1"))
	var owned *git.OwnershipError
	if !errors.As(err, &owned) || owned.Dir != resolved(t, r.Dir) {
		t.Fatalf("another owner: %v", err)
	}
	if want := "git config --global --add safe.directory " + owned.Dir; owned.Advice() != want {
		t.Errorf("advice %q, want %q", owned.Advice(), want)
	}
	if got := (&git.OwnershipError{Dir: "/a b/it's"}).Advice(); !strings.HasSuffix(got, ` '/a b/it'\''s'`) {
		t.Errorf("advice %q does not survive pasting", got)
	}
}

// Inside a hook git names its own repository in the environment.
func TestOpenInsideAHook(t *testing.T) {
	other, mine := gittest.New(t, "main"), gittest.New(t, "main")
	other.Commit("theirs")
	want := mine.Commit("mine")
	env := append(gittest.Env(t), "GIT_DIR="+filepath.Join(other.Dir, ".git"), "GIT_INDEX_FILE=/nowhere/index", "GIT_WORK_TREE="+other.Dir)
	r, err := git.Open(t.Context(), mine.Dir, env)
	if err != nil {
		t.Fatal(err)
	}
	if r.Root() != resolved(t, mine.Dir) {
		t.Errorf("root %s", r.Root())
	}
	if c, err := r.Resolve(t.Context(), "HEAD"); string(c) != want {
		t.Errorf("HEAD is %s, %v; want %s", c, err, want)
	}
}

func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		branch string
		args   []string
	}{{"main", nil}, {"master", nil}, {"trunk", []string{"--object-format=sha256"}}} {
		t.Run(tc.branch, func(t *testing.T) {
			g := gittest.New(t, tc.branch, tc.args...)
			g.Write("f", "x")
			one := g.Commit("one")
			two := g.Commit("two")
			g.Git("tag", "light", one)
			g.Git("tag", "-a", "-m", "annotated", "v1.0.0", one)
			g.Git("branch", "side", one)
			g.Git("tag", "same", two)
			g.Git("branch", "same", two)
			r := open(t, g)
			for rev, want := range map[string]string{
				"HEAD": two, "HEAD~1": one, "@": two, "@~": one, tc.branch: two, "side": one, "light": one, "v1.0.0": one,
				"heads/side": one, "refs/tags/v1.0.0": one, one: one, one[:7]: one, strings.ToUpper(one): one, ":/one": one,
				"HEAD^{/one}": one, tc.branch + "@{1}": one, "same": two,
			} {
				got, err := r.Resolve(t.Context(), rev)
				// ":/text" takes everything that follows for the text.
				if rev == ":/one" {
					if _, ok := errors.AsType[*git.UnknownError](err); !ok {
						t.Errorf("%s: %s, %v", rev, got, err)
					}
					continue
				}
				if err != nil || string(got) != want {
					t.Errorf("%s is %s, %v; want %s", rev, got, err, want)
				}
			}
			for _, rev := range []string{
				"", "nope", "HEAD~7", "^HEAD", "HEAD..side", "HEAD:f", "HEAD^{tree}", "-n", "--all", "--help",
				"HEAD\nx", "HEAD\x00", "HEAD@{99}", "@{upstream}", strings.Repeat("1", len(one)), "abc", "1234567",
			} {
				var unknown *git.UnknownError
				if got, err := r.Resolve(t.Context(), rev); !errors.As(err, &unknown) || unknown.Rev != rev {
					t.Errorf("%q is %s, %v; want an *UnknownError", rev, got, err)
				}
			}
		})
	}
}

func TestResolveSaysWhy(t *testing.T) {
	g := gittest.New(t, "main")
	g.Write("f", "x")
	g.Commit("one")
	g.Git("branch", "anna/fan-curve")
	g.Git("branch", "release")
	g.Git("tag", "v1.2.3")
	g.Git("update-ref", "refs/remotes/origin/far-away", "HEAD")
	r := open(t, g)
	for _, tc := range []struct{ rev, near, why string }{
		{"relaese", "release", ""},
		{"Release~1", "release", ""},
		{"fan-curve", "anna/fan-curve", ""},
		{"v1.2.4", "v1.2.3", ""},
		{"far-awy", "origin/far-away", ""},
		{"mian^2", "main", ""},
		{"utterly-different", "", ""},
		{"@{upstream}", "", "no upstream configured"},
		{"HEAD@{99}", "", "only has"},
		{"HEAD^{tree}", "", "expected commit type"},
		{"HEAD:f", "", ""},
	} {
		_, err := r.Resolve(t.Context(), tc.rev)
		var unknown *git.UnknownError
		if !errors.As(err, &unknown) {
			t.Errorf("%s: %v", tc.rev, err)
			continue
		}
		if tc.near == "" && len(unknown.Near) > 0 || tc.near != "" && !slices.Contains(unknown.Near, tc.near) {
			t.Errorf("%s: near %q, want %q", tc.rev, unknown.Near, tc.near)
		}
		if tc.why == "" && tc.rev != "HEAD:f" && unknown.Why != "" || !strings.Contains(unknown.Why, tc.why) {
			t.Errorf("%s: why %q, want %q", tc.rev, unknown.Why, tc.why)
		}
	}
}

func TestResolveAmbiguousHash(t *testing.T) {
	g := gittest.New(t, "main")
	// With fixed dates the messages decide the hashes: among 700 commits two
	// share their first four digits.
	var script strings.Builder
	for i := range 700 {
		script.WriteString("commit refs/heads/n" + string(rune('a'+i%26)) + "\n")
		script.WriteString("committer A <a@example.lan> 1767225600 +0000\ndata <<E\nsubject " + strings.Repeat("i", i) + "\nE\n\n")
	}
	g.Input(script.String(), "fast-import", "--quiet", "--force")
	all := strings.Fields(g.Git("rev-list", "--all"))
	slices.Sort(all)
	var prefix string
	var want []string
	for i := 1; i < len(all); i++ {
		if all[i][:4] == all[i-1][:4] {
			prefix, want = all[i][:4], all[i-1:i+1]
			break
		}
	}
	if prefix == "" {
		t.Fatal("no two hashes share four digits")
	}
	for _, rev := range []string{prefix, strings.ToUpper(prefix), prefix + "~0"} {
		_, err := open(t, g).Resolve(t.Context(), rev)
		var ambiguous *git.AmbiguousError
		if !errors.As(err, &ambiguous) || ambiguous.Rev != rev {
			t.Fatalf("%s: %v", rev, err)
		}
		var got []string
		for _, c := range ambiguous.Candidates {
			got = append(got, string(c.Commit))
			if !strings.HasPrefix(c.Subject, "subject ") {
				t.Errorf("subject %q", c.Subject)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", rev, got, want)
		}
	}
}

// Git would take the tag, or the branch, and only warn.
func TestResolveTwoMeanings(t *testing.T) {
	g := gittest.New(t, "main")
	one := g.Commit("one")
	two := g.Commit("two")
	g.Git("tag", "v1", one)
	g.Git("branch", "v1", two)
	g.Git("branch", one[:7], two)
	g.Git("config", "core.warnAmbiguousRefs", "false")
	r := open(t, g)
	for rev, refs := range map[string][]string{
		"v1":      {"refs/tags/v1", "refs/heads/v1"},
		"v1~0":    {"refs/tags/v1", "refs/heads/v1"},
		one[:7]:   {"refs/heads/" + one[:7], ""},
		"tags/v1": nil,
	} {
		got, err := r.Resolve(t.Context(), rev)
		if refs == nil {
			if err != nil || string(got) != one {
				t.Errorf("%s: %s, %v", rev, got, err)
			}
			continue
		}
		var ambiguous *git.AmbiguousError
		if !errors.As(err, &ambiguous) || len(ambiguous.Candidates) != 2 {
			t.Errorf("%s: %s, %v", rev, got, err)
			continue
		}
		for i, c := range ambiguous.Candidates {
			if c.Ref != refs[i] {
				t.Errorf("%s: candidate %d is %q, want %q", rev, i, c.Ref, refs[i])
			}
		}
	}
}

func TestUnborn(t *testing.T) {
	g := gittest.New(t, "trunk")
	r := open(t, g)
	for _, rev := range []string{"HEAD", "@", "HEAD~1", "@{0}"} {
		if c, err := r.Resolve(t.Context(), rev); !errors.Is(err, git.ErrUnborn) && rev != "@{0}" || err == nil {
			t.Errorf("%s: %s, %v", rev, c, err)
		}
	}
	var unknown *git.UnknownError
	if _, err := r.Resolve(t.Context(), "trunk"); !errors.As(err, &unknown) {
		t.Errorf("trunk: %v", err)
	}
	if name, ok, err := r.CurrentBranch(t.Context()); name != "trunk" || !ok || err != nil {
		t.Errorf("branch %q, %v, %v", name, ok, err)
	}
}

func TestIsAncestor(t *testing.T) {
	g := gittest.New(t, "main")
	one := git.Commit(g.Commit("one"))
	two := git.Commit(g.Commit("two"))
	three := git.Commit(g.Commit("three"))
	g.Git("checkout", "--quiet", "-b", "side", string(one))
	side := git.Commit(g.Commit("side"))
	g.Git("checkout", "--quiet", "main")
	absent := git.Commit(strings.Repeat("1", 40))
	check := func(t *testing.T, r *git.Repo, a, d git.Commit, want git.Answer) {
		t.Helper()
		if got, err := r.IsAncestor(t.Context(), a, d); got != want || err != nil {
			t.Errorf("IsAncestor(%s, %s) = %v, %v; want %v", a.Short(), d.Short(), got, err, want)
		}
	}
	r := open(t, g)
	check(t, r, one, two, git.Yes)
	check(t, r, two, two, git.Yes)
	check(t, r, two, one, git.No)
	check(t, r, side, two, git.No)
	check(t, r, absent, two, git.Unproven)
	check(t, r, two, absent, git.Unproven)
	check(t, r, two, git.Commit(strings.Repeat("1", 64)), git.Unproven)
	for _, bad := range []git.Commit{"", "HEAD", "--all", git.Commit(one.Short())} {
		if got, err := r.IsAncestor(t.Context(), bad, two); got != git.Unproven || !errors.Is(err, git.ErrCommit) {
			t.Errorf("IsAncestor(%q) = %v, %v", bad, got, err)
		}
	}

	t.Run("shallow", func(t *testing.T) {
		s := g.Clone("--depth=2", "--no-single-branch")
		r := open(t, s)
		check(t, r, two, three, git.Yes)
		check(t, r, three, two, git.No)        // the other way round is proof
		check(t, r, side, three, git.Unproven) // who knows what lies behind the cut
		s.Git("fetch", "--quiet", "--unshallow")
		check(t, r, side, three, git.No)
		check(t, r, one, three, git.Yes)
	})
	t.Run("replaced", func(t *testing.T) {
		// The server does not know this checkout's replacements.
		s := open(t, g.Clone())
		if _, err := git.Run(t.Context(), s.Local("replace", "--graft", string(three), string(side))); err == nil {
			check(t, s, two, three, git.Yes)
			check(t, s, side, three, git.No)
		} else {
			t.Error(err)
		}
	})
	t.Run("object lost", func(t *testing.T) {
		s := gittest.New(t, "main")
		first := git.Commit(s.Commit("one"))
		lost := s.Commit("two")
		last := git.Commit(s.Commit("three"))
		other := git.Commit(s.Git("commit-tree", "-m", "other", "HEAD^{tree}"))
		if err := os.Remove(filepath.Join(s.Dir, ".git/objects", lost[:2], lost[2:])); err != nil {
			t.Fatal(err)
		}
		r := open(t, s)
		check(t, r, first, last, git.Unproven)
		check(t, r, other, last, git.Unproven)
	})
}

// A partial clone must answer from what it has: a download might hang.
func TestPartialClone(t *testing.T) {
	g := gittest.New(t, "main")
	g.Git("config", "uploadpack.allowFilter", "true")
	g.Git("config", "uploadpack.allowAnySHA1InWant", "true")
	g.Write("f", "content")
	g.Write(".woodpecker/a.yaml", "steps: []")
	one := git.Commit(g.Commit("one"))
	for _, filter := range []string{"blob:none", "tree:0"} {
		t.Run(filter, func(t *testing.T) {
			p := g.Clone("--no-checkout", "--filter="+filter)
			r := open(t, p)
			count := func() string { return p.Git("count-objects", "-v") }
			before := count()
			if _, err := r.File(t.Context(), "HEAD", "f"); !errors.Is(err, git.ErrMissing) {
				t.Errorf("File: %v", err)
			}
			files, err := r.TreeFiles(t.Context(), one)
			if filter == "tree:0" && !errors.Is(err, git.ErrMissing) || filter == "blob:none" && (err != nil || len(files) != 2) {
				t.Errorf("TreeFiles: %q, %v", files, err)
			}
			if m, err := r.Message(t.Context(), one); m != "one" || err != nil {
				t.Errorf("Message: %q, %v", m, err)
			}
			absent := git.Commit(strings.Repeat("1", 40))
			if got, err := r.IsAncestor(t.Context(), absent, one); got != git.Unproven || err != nil {
				t.Errorf("IsAncestor: %v, %v", got, err)
			}
			if after := count(); after != before {
				t.Errorf("objects were fetched:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func TestMessage(t *testing.T) {
	g := gittest.New(t, "main")
	text := "ci: naïve subject [skip ci]\n\nBody with \x1b[31mcolour\n\nTrailer: x"
	c := git.Commit(g.Commit(text + "\n\n"))
	empty := git.Commit(g.Git("commit-tree", "-m", "", "HEAD^{tree}"))
	r := open(t, g)
	if got, err := r.Message(t.Context(), c); got != text || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := r.Message(t.Context(), empty); got != "" || err != nil {
		t.Errorf("empty: %q, %v", got, err)
	}
	if _, err := r.Message(t.Context(), git.Commit(strings.Repeat("1", 40))); !errors.Is(err, git.ErrMissing) {
		t.Errorf("absent: %v", err)
	}
	if _, err := r.Message(t.Context(), "--all"); !errors.Is(err, git.ErrCommit) {
		t.Errorf("no hash: %v", err)
	}
}

func TestTreeFiles(t *testing.T) {
	g := gittest.New(t, "main")
	g.Write("README.md", "x")
	g.Write("odd\tname\n", "x")
	g.Write("dir/f", "x")
	g.Write(".woodpecker/build.yaml", "x")
	g.Write(".woodpecker/deep/test.yaml", "x")
	if err := os.Symlink("README.md", filepath.Join(g.Dir, ".woodpecker.yml")); err != nil {
		t.Fatal(err)
	}
	c := git.Commit(g.Commit("one"))
	g.Git("rm", "-r", "--quiet", ".woodpecker", ".woodpecker.yml")
	g.Write(".woodpecker", "a file, for once")
	d := git.Commit(g.Commit("two"))
	r := open(t, g)
	for c, want := range map[git.Commit][]string{
		c: {".woodpecker.yml", ".woodpecker/build.yaml", "README.md", "odd\tname\n"},
		d: {".woodpecker", "README.md", "odd\tname\n"},
	} {
		got, err := r.TreeFiles(t.Context(), c)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if _, err := r.TreeFiles(t.Context(), git.Commit(strings.Repeat("1", 40))); !errors.Is(err, git.ErrMissing) {
		t.Errorf("absent: %v", err)
	}
}

func TestFile(t *testing.T) {
	g := gittest.New(t, "main")
	g.Write(".homelab.yaml", "base: main\n")
	g.Write("dir/f", "deep")
	if err := os.Symlink("/etc/passwd", filepath.Join(g.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	g.Commit("one")
	g.Write(".homelab.yaml", "verify: rm -rf /\n") // not committed: must not be read
	r := open(t, g)
	for name, want := range map[string]string{".homelab.yaml": "base: main\n", "dir/f": "deep"} {
		if got, err := r.File(t.Context(), "main", name); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"gone", "dir/gone", "gone/f"} {
		if got, err := r.File(t.Context(), "main", name); !errors.Is(err, git.ErrNoFile) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", ".", "..", "../f", "/f", "dir/", "dir", "link", "./dir/f"} {
		if got, err := r.File(t.Context(), "main", name); err == nil || errors.Is(err, git.ErrNoFile) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	var unknown *git.UnknownError
	if _, err := r.File(t.Context(), "nope", "f"); !errors.As(err, &unknown) {
		t.Errorf("unknown revision: %v", err)
	}
}

func TestOnRemote(t *testing.T) {
	g := gittest.New(t, "main")
	one := git.Commit(g.Commit("one"))
	c := g.Clone()
	two := git.Commit(c.Commit("two"))
	r := open(t, c)
	for commit, want := range map[git.Commit]bool{one: true, two: false} {
		if got, err := r.OnRemote(t.Context(), commit); got != want || err != nil {
			t.Errorf("%s: %v, %v", commit.Short(), got, err)
		}
	}
	if _, err := r.OnRemote(t.Context(), git.Commit(strings.Repeat("1", 40))); !errors.Is(err, git.ErrMissing) {
		t.Errorf("absent: %v", err)
	}
}

func TestRemotes(t *testing.T) {
	g := gittest.New(t, "main")
	r := open(t, g)
	if got, err := r.Remotes(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	g.Git("remote", "add", "origin", "lab:acme/site")
	g.Git("remote", "add", "mirror", "https://anna:s3cret@git.example.lan/acme/site")
	g.Git("config", "url.ssh://git@git.example.lan:2222/.insteadOf", "lab:")
	if got, err := r.Remotes(t.Context()); !slices.Equal(got, []string{"mirror", "origin"}) || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := r.RemoteURL(t.Context(), "origin"); got != "ssh://git@git.example.lan:2222/acme/site" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{"gone", "", "--all", "https://git.example.lan/acme/site"} {
		if got, err := r.RemoteURL(t.Context(), name); !errors.Is(err, git.ErrRemote) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

func TestUpstream(t *testing.T) {
	g := gittest.New(t, "main")
	g.Commit("one")
	r := open(t, g)
	set := func(branch, remote, merge string) {
		g.Git("config", "branch."+branch+".remote", remote)
		g.Git("config", "branch."+branch+".merge", merge)
	}
	check := func(t *testing.T, wantRemote, wantBranch string) {
		t.Helper()
		remote, branch, ok, err := r.Upstream(t.Context())
		if remote != wantRemote || branch != wantBranch || ok != (wantRemote != "") || err != nil {
			t.Errorf("%q, %q, %v, %v; want %q, %q", remote, branch, ok, err, wantRemote, wantBranch)
		}
	}
	check(t, "", "")
	set("main", "up", "refs/heads/trunk")
	set("other", "wrong", "refs/heads/wrong")
	check(t, "up", "trunk")
	set("main", ".", "refs/heads/other")
	check(t, "", "")
	set("main", "https://git.example.lan/acme/site", "refs/heads/main")
	check(t, "", "")
	set("a.b+c", "x", "refs/heads/y")
	g.Git("symbolic-ref", "HEAD", "refs/heads/a.b+c") // unborn, and special in a pattern
	check(t, "x", "y")
	g.Git("checkout", "--quiet", "--detach", "main")
	check(t, "", "")
}

func TestCurrentBranch(t *testing.T) {
	g := gittest.New(t, "main")
	g.Commit("one")
	g.Git("tag", "anna/x")
	g.Git("checkout", "--quiet", "-b", "anna/x")
	r := open(t, g)
	if name, ok, err := r.CurrentBranch(t.Context()); name != "anna/x" || !ok || err != nil {
		t.Errorf("beside a tag of that name: %q, %v, %v", name, ok, err)
	}
	g.Git("checkout", "--quiet", "--detach")
	if name, ok, err := r.CurrentBranch(t.Context()); name != "" || ok || err != nil {
		t.Errorf("detached: %q, %v, %v", name, ok, err)
	}
}

func TestInstalled(t *testing.T) {
	v, err := git.Installed(t.Context(), t.TempDir(), gittest.Env(t))
	if err != nil || !v.AtLeast(2, 30) || v.AtLeast(3, 1000) {
		t.Errorf("%s, %v", v, err)
	}
	if _, err := git.Installed(t.Context(), t.TempDir(), nil); !errors.Is(err, git.ErrNoGit) {
		t.Errorf("without PATH: %v", err)
	}
}

// The cause travels through every question.
func TestCause(t *testing.T) {
	g := gittest.New(t, "main")
	one := git.Commit(g.Commit("one"))
	r := open(t, g)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	_, resolve := r.Resolve(ctx, "HEAD")
	_, ancestor := r.IsAncestor(ctx, one, one)
	_, message := r.Message(ctx, one)
	_, _, _, upstream := r.Upstream(ctx)
	_, opening := git.Open(ctx, g.Dir, gittest.Env(t))
	for _, err := range []error{resolve, ancestor, message, upstream, opening} {
		if !errors.Is(err, errCause) {
			t.Errorf("%v", err)
		}
	}
}
