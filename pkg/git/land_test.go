package git_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"homelab/internal/gittest"
	"homelab/pkg/git"
)

func TestLsRemoteAndFetch(t *testing.T) {
	origin := gittest.New(t, "trunk")
	origin.Write("a", "1")
	one := git.Commit(origin.Commit("one"))
	origin.Git("update-ref", "refs/remotes/origin/HEAD", "HEAD") // matches the pattern HEAD too
	clone := origin.Clone()
	repo := open(t, clone)
	e := git.Endpoint{Remote: "origin"}
	origin.Write("a", "2")
	two := git.Commit(origin.Commit("two"))

	got, err := repo.LsRemote(t.Context(), e, "refs/heads/trunk", "refs/heads/none")
	if err != nil || got.Head != "refs/heads/trunk" || len(got.Refs) != 2 || got.Refs["refs/heads/trunk"] != two || got.Refs["HEAD"] != two {
		t.Fatalf("%+v, %v", got, err)
	}
	const private = "refs/homelab/land/x/base"
	if err := repo.Fetch(t.Context(), e, 0, "+refs/heads/trunk:"+private); err != nil {
		t.Fatal(err)
	}
	refs, err := repo.Refs(t.Context(), "refs/homelab/", "refs/remotes/origin/trunk")
	if err != nil || !slices.Equal(refs, []git.Ref{{private, two}, {"refs/remotes/origin/trunk", one}}) {
		t.Errorf("%v, %v: the tracking ref must stay", refs, err)
	}
	if _, err := os.Stat(filepath.Join(repo.GitDir(), "FETCH_HEAD")); err == nil {
		t.Error("FETCH_HEAD was written")
	}
	if err := repo.Fetch(t.Context(), e, 0, "+refs/heads/none:"+private); !errors.Is(err, git.ErrNoTip) {
		t.Errorf("a branch that is not there: %v", err)
	}
	_, err = repo.LsRemote(t.Context(), git.Endpoint{Remote: "file://" + t.TempDir() + "/gone"})
	if c, ok := errors.AsType[*git.ContactError](err); !ok || c.Contact != git.Refused {
		t.Errorf("a repository that is gone: %v", err)
	}
	_, err = repo.LsRemote(t.Context(), git.Endpoint{Remote: "http://127.0.0.1:1/a/b.git"})
	if c, ok := errors.AsType[*git.ContactError](err); !ok || c.Contact != git.Broken {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestUnattended(t *testing.T) {
	for _, tc := range []struct {
		name, config, env, want string
	}{
		{"nothing", "", "", "ssh -oBatchMode=yes -oConnectTimeout=10"},
		{"configured", "ssh -i ~/.ssh/lab", "", "ssh -i ~/.ssh/lab -oBatchMode=yes -oConnectTimeout=10"},
		{"environment wins", "ssh -i a", "GIT_SSH_COMMAND=ssh -i b", "ssh -i b -oBatchMode=yes -oConnectTimeout=10"},
		{"a program", "", "GIT_SSH=/opt/my ssh", "'/opt/my ssh' -oBatchMode=yes -oConnectTimeout=10"},
		{"putty", "plink.exe -batch", "", "plink.exe -batch"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := gittest.New(t, "main")
			if tc.config != "" {
				r.Git("config", "core.sshCommand", tc.config)
			}
			seen := filepath.Join(t.TempDir(), "seen")
			repo, err := git.Open(t.Context(), r.Dir, append(gittest.Env(t), tc.env))
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := repo.Config(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c := repo.Unattended(cfg).Network()
			c.Name, c.Args = "sh", []string{"-c", `printf %s "$GIT_SSH_COMMAND" > "$0"`, seen}
			if _, err := git.Run(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(seen); string(got) != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	r := gittest.New(t, "main")
	r.Git("config", "Branch.Fan.Remote", "x\ny")
	r.Git("config", "commit.gpgSign", "yes")
	r.Git("config", "a.off", "OFF")
	f, err := os.OpenFile(filepath.Join(r.Dir, ".git/config"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "[a]\n\timplied\n")
	f.Close()
	c, err := open(t, r).Config(t.Context())
	if err != nil || c.Get("branch.Fan.remote") != "x\ny" || !c.Bool("commit.gpgsign") || !c.Bool("a.implied") || c.Bool("a.off") || c.Bool("a.none") {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestUpdateRefs(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		r := gittest.New(t, "main", "--object-format="+format)
		one, two := git.Commit(r.Commit("one")), git.Commit(r.Commit("two"))
		repo := open(t, r)
		refs := func() string {
			return strings.ReplaceAll(r.Git("for-each-ref", "--format=%(refname)", "refs/homelab"), "\n", " ")
		}
		if err := repo.UpdateRefs(t.Context(), git.RefChange{Name: "refs/homelab/a", New: one}, git.RefChange{Name: "refs/homelab/b", New: two}); err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]git.RefChange{
			{{Name: "refs/homelab/c", New: one}, {Name: "refs/homelab/a", New: two, Old: two}},
			{{Name: "refs/homelab/c", New: one}, {Name: "refs/homelab/a", New: two}},
			{{Name: "refs/homelab/c", New: one}, {Name: "refs/homelab/b", Old: one}},
			{{Name: "refs/homelab/d", New: one, Old: one}},
		} {
			if err := repo.UpdateRefs(t.Context(), bad...); !errors.Is(err, git.ErrRefMoved) || refs() != "refs/homelab/a refs/homelab/b" {
				t.Errorf("%v: %v, %s", bad, err, refs())
			}
		}
		if err := repo.UpdateRefs(t.Context(), git.RefChange{Name: "refs/homelab/a", New: two, Whatever: true}, git.RefChange{Name: "refs/homelab/b", Old: two}); err != nil || refs() != "refs/homelab/a" {
			t.Errorf("%v, %s", err, refs())
		}
	}
}

func TestMergeTreeBesideTheWorkTree(t *testing.T) {
	r := gittest.New(t, "main")
	r.Write("f", "1\n2\n3\n")
	r.Write("notes", "a\n")
	r.Write(".gitattributes", "notes merge=union\n")
	base := git.Commit(r.Commit("base"))
	r.Write("f", "1\n2\nours\n")
	r.Write("notes", "a\nours\n")
	ours := git.Commit(r.Commit("ours"))
	r.Git("checkout", "--quiet", "-b", "topic", string(base))
	r.Write("f", "theirs\n2\n3\n")
	r.Write("notes", "a\ntheirs\n")
	theirs := git.Commit(r.Commit("theirs"))
	r.Write("f", "1\n2\nother\n")
	clash := git.Commit(r.Commit("clash"))
	repo := open(t, r)
	before := r.Git("status", "--porcelain=v2", "--branch")

	m, err := repo.MergeTree(t.Context(), ours, theirs)
	if err != nil || !m.Clean || len(m.Conflicts) > 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	if got := r.Git("show", m.Tree+":f"); got != "theirs\n2\nours" {
		t.Errorf("merged %q", got)
	}
	c, err := repo.CommitTree(t.Context(), git.NewCommit{Tree: m.Tree, Parents: []git.Commit{ours, theirs}, Message: "Land ünï\n\nX: y\n"})
	if err == nil {
		t.Errorf("without an identity a commit was made: %s", c)
	}
	withName, err := git.Open(t.Context(), r.Dir, append(gittest.Env(t), "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@x", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@x"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err = withName.CommitTree(t.Context(), git.NewCommit{Tree: m.Tree, Parents: []git.Commit{ours, theirs}, Message: "Land ünï\n\nX: y\n"}); err != nil {
		t.Fatal(err)
	}
	if got := r.Git("show", "-s", "--format=%P|%s", string(c)); got != string(ours)+" "+string(theirs)+"|Land ünï" {
		t.Error(got)
	}
	m, err = repo.MergeTree(t.Context(), ours, clash)
	if err != nil || m.Clean || !slices.Equal(m.Conflicts, []string{"f"}) || !strings.Contains(m.Messages, "CONFLICT (content)") {
		t.Errorf("%+v, %v", m, err)
	}
	if after := r.Git("status", "--porcelain=v2", "--branch"); after != before {
		t.Errorf("the work tree changed: %s", after)
	}
	r.Git("checkout", "--quiet", "--orphan", "alien")
	if _, err := repo.MergeTree(t.Context(), ours, git.Commit(r.Commit("alien"))); !errors.Is(err, git.ErrUnrelated) {
		t.Errorf("no common history: %v", err)
	}
}

func TestCommits(t *testing.T) {
	r := gittest.New(t, "main")
	base := git.Commit(r.Commit("base"))
	r.Git("checkout", "--quiet", "-b", "side")
	r.Write("s", "1")
	side := git.Commit(r.Commit("side"))
	r.Git("checkout", "--quiet", "main")
	r.Write("m", "1")
	on := git.Commit(r.Commit("on\nmain\n\nbody"))
	r.Git("merge", "--quiet", "--no-ff", "-m", "merged", "side")
	top := git.Commit(r.Git("rev-parse", "HEAD"))
	list, err := open(t, r).Commits(t.Context(), base, top)
	if err != nil || len(list) != 3 || list[0].Commit != top || !slices.Equal(list[0].Parents, []git.Commit{on, side}) || list[0].Subject != "merged" {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, e := range list[1:] {
		if e.Commit == on && e.Subject != "on main" || !slices.Equal(e.Parents, []git.Commit{base}) {
			t.Errorf("%+v", e)
		}
	}
	r.Git("checkout", "--quiet", "-b", "other", string(base))
	other := git.Commit(r.Commit("other\n\nHomelab-Reverts: " + string(on) + "\nX: y\n"))
	left, right, err := open(t, r).Sides(t.Context(), other, top, "Homelab-Reverts")
	if err != nil || len(left) != 1 || left[0].Commit != other || left[0].Trailer != string(on) || left[0].Subject != "other" ||
		len(right) != 3 || right[0].Commit != top || right[0].Trailer != "" || !slices.Equal(right[0].Parents, []git.Commit{on, side}) {
		t.Errorf("%+v, %+v, %v", left, right, err)
	}
	if list, err := open(t, r).Commits(t.Context(), top, base); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestWorktrees(t *testing.T) {
	r := gittest.New(t, "main")
	r.Write("f", "1")
	r.Write("sub/g", "1")
	one := git.Commit(r.Commit("one"))
	hook(t, r, "post-checkout", "touch ran\n")
	repo := open(t, r)
	odd := filepath.Join(t.TempDir(), "with\nbreak and space")
	if err := repo.AddWorktree(t.Context(), odd, "anna/x", one); err == nil {
		list, err := repo.Worktrees(t.Context())
		if err != nil || len(list) != 2 || list[1].Path != resolved(t, odd) {
			t.Errorf("%+v, %v", list, err)
		}
	}
	path := filepath.Join(t.TempDir(), "wt")
	if err := repo.AddWorktree(t.Context(), path, "", one); err != nil {
		t.Fatal(err)
	}
	wt, err := git.Open(t.Context(), path, gittest.Env(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := wt.CheckoutClean(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	at := gittest.At(t, path)
	at.Write(".gitignore", "cache\n")
	at.Write("cache", "warm")
	at.Write("new/file", "x")
	at.Write("f", "changed")
	r.Write("f", "2")
	r.Write(".gitignore", "cache\n")
	two := git.Commit(r.Commit("two"))
	if err := wt.CheckoutClean(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	st, err := wt.Status(t.Context(), true)
	if err != nil || st.Head != two || st.Branch != "" || len(st.Changed)+len(st.Untracked) != 0 || !slices.Equal(st.Ignored, []string{"cache"}) {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := os.Stat(filepath.Join(path, "ran")); err == nil {
		t.Error("a hook ran")
	}
	if err := repo.LockWorktree(t.Context(), path, "homelab verifies here"); err != nil {
		t.Fatal(err)
	}
	if err := repo.LockWorktree(t.Context(), path, "again"); err != nil {
		t.Fatal(err)
	}
	list, err := repo.Worktrees(t.Context())
	at2 := slices.IndexFunc(list, func(w git.Worktree) bool { return w.Path == resolved(t, path) })
	if err != nil || list[0].Path != resolved(t, r.Dir) || list[0].Branch != ref || at2 < 0 || !list[at2].Locked || list[at2].Head != two || list[at2].Branch != "" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestStatus(t *testing.T) {
	r := gittest.New(t, "main")
	repo := open(t, r)
	if st, err := repo.Status(t.Context(), false); err != nil || st.Head != "" || st.Branch != "main" {
		t.Errorf("unborn: %+v, %v", st, err)
	}
	for _, f := range []string{"staged file", "changed", "gone", "moved"} {
		r.Write(f, "some content that is long enough "+f)
	}
	r.Commit("one")
	r.Write("staged file", "2")
	r.Git("add", "staged file")
	r.Git("mv", "moved", "to")
	r.Write("changed", "2")
	r.Write("new dir/x", "2")
	if err := os.Remove(filepath.Join(r.Dir, "gone")); err != nil {
		t.Fatal(err)
	}
	st, err := repo.Status(t.Context(), false)
	slices.Sort(st.Changed)
	if err != nil || !slices.Equal(st.Changed, []string{"changed", "gone", "moved", "staged file", "to"}) || !slices.Equal(st.Untracked, []string{"new dir/"}) {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestInProgress(t *testing.T) {
	r := gittest.New(t, "main")
	r.Write("f", "1")
	base := r.Commit("base")
	r.Write("f", "2")
	r.Commit("two")
	r.Git("checkout", "--quiet", "-b", "topic", base)
	r.Write("f", "3")
	r.Commit("three")
	repo := open(t, r)
	for _, tc := range []struct{ want, start, end string }{
		{"merge", "git merge main", "git merge --abort"},
		{"rebase", "git rebase main", "git rebase --abort"},
		{"cherry-pick", "git cherry-pick main", "git cherry-pick --abort"},
		{"revert", "git revert main", "git revert --abort"},
		{"bisect", "git bisect start", "git bisect reset"},
		{"", "true", "true"},
	} {
		run := func(script string) {
			_, _ = git.Run(t.Context(), git.Command{Dir: r.Dir, Name: "sh", Args: []string{"-c", script}, Env: append(gittest.Env(t),
				"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@x", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@x")})
		}
		run(tc.start)
		if got := repo.InProgress(); got != tc.want {
			t.Errorf("%s: %q", tc.start, got)
		}
		run(tc.end)
	}
}

func TestCheckAttrAndBlobs(t *testing.T) {
	r := gittest.New(t, "main")
	r.Write("plain", "x")
	base := git.Commit(r.Commit("base"))
	r.Write("deep/.gitattributes", "*.key filter=git-crypt diff=git-crypt\n")
	r.Write("deep/a.key", "secret")
	r.Write("deep/empty.key", "")
	mid := git.Commit(r.Commit("mid"))
	r.Write("deep/a.key", "\x00GITCRYPT\x00cipher\nand\nmore")
	tip := git.Commit(r.Commit("tip"))
	r.Git("rm", "--quiet", "deep/.gitattributes")
	r.Commit("the work tree has none any more")
	repo := open(t, r)

	if yes, err := repo.Attributed(t.Context(), []string{string(base), string(tip)}, "lfs", "git-crypt"); err != nil || !yes {
		t.Errorf("%v, %v", yes, err)
	}
	if yes, err := repo.Attributed(t.Context(), []string{string(base)}, "lfs", "git-crypt"); err != nil || yes {
		t.Errorf("%v, %v", yes, err)
	}
	got, err := repo.CheckAttr(t.Context(), string(tip), "filter", []string{"plain", "deep/a.key", "deep/b c.key"})
	if err != nil || len(got) != 2 || got["deep/a.key"] != "git-crypt" || got["deep/b c.key"] != "git-crypt" {
		t.Errorf("%v, %v", got, err)
	}
	blobs, err := repo.Blobs(t.Context(), base, tip)
	var keys []string
	ids := map[string]string{}
	for _, b := range blobs {
		if strings.HasSuffix(b.Path, ".key") {
			keys = append(keys, b.Commit.Short()+" "+b.Path)
			ids[b.Commit.Short()+" "+b.Path] = b.ID
		}
	}
	want := []string{tip.Short() + " deep/a.key", mid.Short() + " deep/a.key", mid.Short() + " deep/empty.key"}
	if err != nil || !slices.Equal(keys, want) {
		t.Fatalf("%v, %v, want %v", keys, err, want)
	}
	heads, err := repo.Heads(t.Context(), []string{ids[want[0]], ids[want[1]], ids[want[2]]}, 10)
	if err != nil || string(heads[ids[want[0]]]) != "\x00GITCRYPT\x00" || string(heads[ids[want[1]]]) != "secret" || len(heads[ids[want[2]]]) != 0 {
		t.Errorf("%q, %v", heads, err)
	}
}

func TestPatchIDs(t *testing.T) {
	r := gittest.New(t, "main")
	r.Write("f", "1\n")
	base := r.Commit("base")
	r.Git("checkout", "--quiet", "-b", "topic")
	r.Write("f", "1\n2\n")
	r.Commit("a")
	r.Write("f", "1\n2\n3\n")
	tip := r.Commit("b")
	r.Git("checkout", "--quiet", "main")
	r.Write("other", "x\n")
	r.Commit("other")
	r.Write("f", "1\n2\n3\n")
	squash := r.Commit("squash")
	repo := open(t, r)
	branch, err := repo.PatchIDs(t.Context(), "diff", base, tip)
	if err != nil || len(branch) != 1 {
		t.Fatalf("%v, %v", branch, err)
	}
	log, err := repo.PatchIDs(t.Context(), "log", "-p", "--no-merges", base+"..main")
	if err != nil || len(log) != 2 {
		t.Fatalf("%v, %v", log, err)
	}
	for id := range branch {
		if log[id] != git.Commit(squash) {
			t.Errorf("%v does not contain %s", log, id)
		}
	}
}

func TestStashCreate(t *testing.T) {
	r := gittest.New(t, "main")
	r.Write("f", "1")
	r.Commit("one")
	repo, err := git.Open(t.Context(), r.Dir, append(gittest.Env(t), "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@x", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@x"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := repo.StashCreate(t.Context()); c != "" || err != nil {
		t.Errorf("%s, %v", c, err)
	}
	r.Write("f", "2")
	c, err := repo.StashCreate(t.Context())
	if err != nil || r.Git("show", string(c)+":f") != "2" || r.Git("stash", "list") != "" {
		t.Errorf("%s, %v", c, err)
	}
}
