package landing

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
)

const (
	cipher   = "\x00GITCRYPT\x00cipher"
	sealKeys = "*.key filter=git-crypt diff=git-crypt\n"
)

// Plaintext in any commit that would be published is refused, also where the
// attribute is neither in the base nor in the branch's tip.
func TestGuardEveryCommit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		base  string // the base's .gitattributes
		set   func(w *world, c *gittest.Repo)
		where string // "" lands
	}{
		{"asked for in between only", "", func(_ *world, c *gittest.Repo) {
			c.Write(".gitattributes", sealKeys)
			c.Write("a.key", "plain")
			c.Commit("asks")
			c.Write(".gitattributes", "")
			c.Write("a.key", "other")
			c.Commit("asks no more")
		}, "a.key is plaintext in commit"},
		{"asked for by a nested file that went", "", func(_ *world, c *gittest.Repo) {
			c.Write("deep/.gitattributes", sealKeys)
			c.Commit("asks")
			c.Write("deep/a.key", "plain")
			c.Commit("oops")
			c.Git("rm", "-rq", "deep")
			c.Commit("away with it")
		}, "deep/a.key is plaintext in commit"},
		{"dropped on the base and on the branch", sealKeys, func(w *world, c *gittest.Repo) {
			c.Write("a.key", "plain")
			c.Commit("oops")
			c.Git("rm", "-q", ".gitattributes")
			c.Commit("asks no more")
			x := w.fresh()
			x.Git("rm", "-q", ".gitattributes")
			x.Commit("asks no more")
			x.Git("push", "-q", "origin", "HEAD:main")
			w.note(x.Git("rev-parse", "HEAD^{tree}"))
		}, "a.key is plaintext in commit"},
		{"plaintext before it was asked for", "", func(_ *world, c *gittest.Repo) {
			c.Write("a.key", "plain")
			c.Commit("oops")
			c.Write(".gitattributes", sealKeys)
			c.Write("a.key", cipher)
			c.Commit("asks, and seals")
		}, "a.key is plaintext in commit"},
		{"put in by a merge", sealKeys, func(_ *world, c *gittest.Repo) {
			c.Git("checkout", "-q", "-b", "side", "main")
			c.Write("side", "x")
			c.Commit("side")
			c.Git("checkout", "-q", "anna/fan")
			c.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "-q", "--no-commit", "--no-ff", "side")
			c.Write("a.key", "plain")
			c.Commit("merged, and more")
			c.Write("a.key", cipher)
			c.Commit("sealed")
		}, "a.key is plaintext in commit"},
		{"a macro", "[attr]hide filter=git-crypt\n*.key hide\n", func(_ *world, c *gittest.Repo) {
			c.Write("a.key", "plain")
			c.Commit("oops")
		}, "a.key is plaintext in commit"},
		{"another key's filter", "*.key filter=git-crypt-lab\n", func(_ *world, c *gittest.Repo) {
			c.Write("a.key", "plain")
			c.Commit("oops")
		}, "a.key is plaintext in commit"},
		{"sealed throughout", sealKeys, func(_ *world, c *gittest.Repo) {
			c.Write("a.key", cipher)
			c.Write("empty.key", "")
			c.Commit("sealed")
			c.Git("rm", "-q", "a.key")
			c.Commit("removed")
		}, ""},
		{"not asked for", "", func(_ *world, c *gittest.Repo) {
			c.Write("a.key", "plain")
			c.Commit("public")
		}, ""},
		// What the base itself has in plain text is published; this landing did not do it.
		{"merged in from the base", sealKeys, func(w *world, c *gittest.Repo) {
			w.someone("theirs.key", "plain")
			c.Git("fetch", "-q")
			c.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "-q", "-m", "merge main", "origin/main")
			w.someone("more.key", "plain")
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			if tc.base != "" {
				w.someone(".gitattributes", tc.base)
			}
			c := w.clone("anna/fan", "fan")
			tc.set(w, c)
			if tc.where == "" {
				r, s := w.land(c, Options{})
				wants(t, r, s, fault.OK, Landed)
				w.sound()
				return
			}
			w.unchanged(c, func() {
				r, s := w.land(c, Options{})
				wants(t, r, s, fault.Failed, "")
				if !strings.Contains(r.Reason, tc.where) {
					t.Error(r.Reason)
				}
			})
		})
	}
}

// A merge driver may write what no commit had: the merge is looked at too.
func TestGuardTheMergeItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.someone(".gitattributes", "*.key filter=git-crypt merge=open\n")
	w.someone("a.key", cipher+"1")
	c := w.clone("anna/fan", "fan")
	c.Git("config", "merge.open.driver", "echo opened > %A")
	c.Write("a.key", cipher+"2")
	c.Commit("mine")
	w.someone("a.key", cipher+"3")
	w.unchanged(c, func() {
		info, err := os.Stat(c.Dir)
		if err != nil {
			t.Fatal(err)
		}
		r, s := w.land(c, Options{})
		// Git keeps a driver's files in the directory while it runs.
		if err := os.Chtimes(c.Dir, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		wants(t, r, s, fault.Failed, "")
		if !strings.Contains(r.Reason, "a.key is plaintext in the merge with main") {
			t.Error(r.Reason)
		}
	})
}

// What the user's own files ask for holds, wherever git reads them from.
func TestGuardUsersAttributes(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"attributes", ".config/git/attributes", "xdg/git/attributes", "info"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			c.Write("a.key", "plain")
			c.Commit("oops")
			home := t.TempDir()
			name, xdg := filepath.Join(home, place), ""
			switch place {
			case "attributes":
				c.Git("config", "core.attributesFile", name)
			case "info":
				name = filepath.Join(c.Dir, ".git", "info", "attributes")
			case "xdg/git/attributes":
				xdg = filepath.Join(home, "xdg")
			}
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(sealKeys), 0o600); err != nil {
				t.Fatal(err)
			}
			r, s := w.land(c, Options{}, func(d *Deps) {
				d.Env = append(w.env(), "HOME="+home, "XDG_CONFIG_HOME="+xdg)
				repo, err := git.Open(t.Context(), c.Dir, d.Env)
				if err != nil {
					t.Fatal(err)
				}
				d.Repo = repo
			})
			wants(t, r, s, fault.Failed, "")
			if !strings.Contains(r.Reason, "a.key is plaintext in commit") {
				t.Error(r.Reason)
			}
		})
	}
}

// The branch that a pull request shows is published as well.
func TestGuardBeforeThePullRequestFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.someone(".gitattributes", sealKeys)
	c := w.clone("anna/fan", "fan")
	hook(t, w.origin, "update", "case $1 in refs/heads/main) echo 'GH006: Protected branch'; exit 1;; esac\n")
	forge := &fakeForge{pull: PullRequest{URL: "https://git.example.lan/a/b/pulls/7", Number: 7, State: "open"}, state: Merged{Open: true}}
	use := func(d *Deps) { d.Forge = forge }
	r, s := w.land(c, Options{}, use)
	wants(t, r, s, fault.Held, "")
	first := w.origin.Git("rev-parse", "anna/fan")
	c.Write("a.key", "plain")
	plain := git.Commit(c.Commit("oops"))
	r, s = w.land(c, Options{}, use)
	wants(t, r, s, fault.Failed, "")
	if got := w.origin.Git("rev-parse", "anna/fan"); got != first || !strings.Contains(r.Reason, "a.key is plaintext in commit "+plain.Short()) {
		t.Errorf("the branch is at %s: %s", got, r.Reason)
	}
}

// In a clone without file contents the attributes are fetched, not taken for
// none.
func TestGuardPartialClone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.origin.Git("config", "uploadpack.allowFilter", "true")
	w.origin.Git("config", "uploadpack.allowAnySHA1InWant", "true")
	c := w.origin.Clone("--filter=blob:none")
	c.Git("checkout", "-q", "-b", "anna/fan")
	c.Write("a.key", "plain")
	c.Commit("oops")
	w.someone(".gitattributes", sealKeys)
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Failed, "")
	if !strings.Contains(r.Reason, "a.key is plaintext") {
		t.Error(r.Reason)
	}
}

// git-crypt itself, as far as its filter goes: keys lie in the work tree's own
// git directory, without them its filters fail.
func fakeCrypt(t *testing.T, c *gittest.Repo) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "git-crypt")
	script := `#!/bin/sh
test -e "$(git rev-parse --git-dir)/git-crypt/keys/default" || { echo "git-crypt: no key" >&2; exit 1; }
case $1 in
clean) printf '\000GITCRYPT\000'; tr a-z n-za-m ;;
smudge) tail -c +11 | tr a-z n-za-m ;;
esac
`
	if err := os.WriteFile(bin, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	c.Write(".git/git-crypt/keys/default", "k")
	c.Git("config", "filter.git-crypt.clean", "'"+bin+"' clean")
	c.Git("config", "filter.git-crypt.smudge", "'"+bin+"' smudge")
	c.Git("config", "filter.git-crypt.required", "true")
}

// Unlocked, the verification sees the secret and the remote never does.
func TestCryptUnlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.someone(".gitattributes", sealKeys)
	c := w.clone("anna/fan", "fan")
	fakeCrypt(t, c)
	c.Write("a.key", "secret\n")
	c.Commit("hidden")
	w.someone("other", "x")
	r, s := w.land(c, Options{VerifyCmd: w.verify() + " && grep -qx secret a.key && test -z \"$(git status --porcelain)\""})
	wants(t, r, s, fault.OK, Landed)
	if got := w.origin.Git("show", "main:a.key"); !strings.HasPrefix(got, "\x00GITCRYPT\x00") || strings.Contains(got, "secret") {
		t.Errorf("%q", got)
	}
	if data, err := os.ReadFile(filepath.Join(c.Dir, "a.key")); err != nil || string(data) != "secret\n" || c.Git("status", "--porcelain") != "" {
		t.Errorf("%q, %v", data, err)
	}
	w.sound()

	// Locked, the same repository lands as well; what is verified is ciphertext.
	l := w.clone("bob/fan", "locked")
	l.Git("mv", "a.key", "b.key")
	l.Commit("renamed without the key")
	r, s = w.land(l, Options{VerifyCmd: w.verify() + " && ! grep -q secret b.key"})
	wants(t, r, s, fault.OK, Landed)
	w.sound()

	// Committed with the filter switched off: plaintext.
	c.Git("pull", "-q", "--ff-only", "origin", "main")
	c.Write("c.key", "secret\n")
	c.Git("-c", "filter.git-crypt.clean=cat", "add", "c.key")
	c.Git("-c", "filter.git-crypt.clean=cat", "-c", "user.name=A", "-c", "user.email=a@x", "commit", "-qm", "oops")
	c.Git("-c", "filter.git-crypt.clean=cat", "status")
	r, s = w.land(c, Options{})
	if r.Kind != fault.Failed && r.Kind != fault.Usage || r.Landed != "" {
		t.Errorf("%s %s\n%s", r.Kind, r.Reason, s)
	}
	if strings.Contains(w.origin.Git("log", "--all", "-p", "--text"), "secret\n") {
		t.Error("the secret is on the remote")
	}
}

// Pointers go with the files they point at, or not at all.
func TestLFS(t *testing.T) {
	t.Parallel()
	const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0000000000000000000000000000000000000000000000000000000000000001\nsize 1\n"
	setUp := func(t *testing.T) (*world, *gittest.Repo) {
		w := newWorld(t, "main")
		w.someone(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
		w.someone("old.bin", pointer)
		c := w.clone("anna/fan", "fan")
		return w, c
	}
	t.Run("no hook", func(t *testing.T) {
		t.Parallel()
		w, c := setUp(t)
		c.Write("a.bin", pointer)
		c.Commit("a large file")
		for _, set := range []func(){
			func() {},
			func() { c.Git("config", "core.hooksPath", "/dev/null") },
			func() { c.Git("config", "core.hooksPath", "hooks-that-are-not-there") },
		} {
			set()
			w.unchanged(c, func() {
				r, s := w.land(c, Options{})
				wants(t, r, s, fault.Usage, "")
				if r.Next != "git lfs install" || !strings.Contains(r.Reason, "no pre-push hook would upload them") {
					t.Errorf("%+v", r)
				}
			})
		}
	})
	t.Run("no LFS file changes", func(t *testing.T) {
		t.Parallel()
		w, c := setUp(t)
		c.Git("rm", "-q", "old.bin")
		c.Commit("removed")
		w.someone("their.bin", pointer)
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.OK, Landed)
		w.sound()
	})
	t.Run("uploaded", func(t *testing.T) {
		t.Parallel()
		w, c := setUp(t)
		c.Write("a.bin", pointer)
		c.Commit("a large file")
		// In the home directory, as a shared set of hooks is configured.
		env := w.env()
		home := ""
		for _, kv := range env {
			if v, ok := strings.CutPrefix(kv, "HOME="); ok {
				home = v
			}
		}
		at := gittest.At(t, home)
		log := filepath.Join(home, "log")
		at.Write("hooks/pre-push", "#!/bin/sh\n# git lfs pre-push\necho \"$1\" >> "+log+"; cat >> "+log+"\n")
		if err := os.Chmod(filepath.Join(home, "hooks/pre-push"), 0o755); err != nil {
			t.Fatal(err)
		}
		c.Git("config", "core.hooksPath", "~/hooks")
		r, s := w.land(c, Options{}, func(d *Deps) {
			d.Env = env
			repo, err := git.Open(t.Context(), c.Dir, env)
			if err != nil {
				t.Fatal(err)
			}
			d.Repo = repo
		})
		wants(t, r, s, fault.OK, Landed)
		if data, err := os.ReadFile(log); err != nil || !strings.Contains(string(data), "origin") || !strings.Contains(string(data), string(r.Landed)+" refs/heads/main") {
			t.Errorf("%q, %v", data, err)
		}
		if strings.Contains(s.String(), "does not mention LFS") {
			t.Error(s)
		}
		w.sound()
	})
	t.Run("a hook for something else", func(t *testing.T) {
		t.Parallel()
		w, c := setUp(t)
		c.Write("a.bin", pointer)
		c.Commit("a large file")
		hook(t, c, "pre-push", "exit 0\n")
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.OK, Landed)
		if !strings.Contains(s.String(), "does not mention LFS") {
			t.Error(s)
		}
	})
	// The upload fails: the hook says no, and no pointer is published.
	t.Run("upload fails", func(t *testing.T) {
		t.Parallel()
		w, c := setUp(t)
		c.Write("a.bin", pointer)
		c.Commit("a large file")
		hook(t, c, "pre-push", "# git lfs pre-push\necho 'batch request: no such host' >&2; exit 2\n")
		w.unchanged(c, func() {
			r, s := w.land(c, Options{})
			if r.Kind != fault.Failed || !strings.Contains(r.Reason, "pre-push") {
				t.Errorf("%s %s\n%s", r.Kind, r.Reason, s)
			}
		})
	})
}
