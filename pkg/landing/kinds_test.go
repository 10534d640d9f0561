package landing

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// also adds to the environment of a landing and of all it starts.
func also(t *testing.T, c *gittest.Repo, kv ...string) func(*Deps) {
	return func(d *Deps) {
		d.Env = append(d.Env, kv...)
		repo, err := git.Open(t.Context(), c.Dir, d.Env)
		if err != nil {
			t.Fatal(err)
		}
		d.Repo = repo
	}
}

func executable(t *testing.T, name, script string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// nested is a world with a submodule at sub, and a clone of it on a branch
// with the submodule checked out.
func nested(t *testing.T, w *world) (sub, c, inner *gittest.Repo) {
	t.Helper()
	sub = gittest.New(t, "main", "--bare")
	seed := sub.Clone()
	seed.Write("s", "1")
	seed.Commit("s")
	seed.Git("push", "-q", "origin", "HEAD:main")
	x := w.fresh()
	x.Git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "file://"+sub.Dir, "sub")
	x.Commit("sub")
	x.Git("push", "-q", "origin", "HEAD:"+w.base)
	w.note(x.Git("rev-parse", "HEAD^{tree}"))
	c = w.clone("anna/fan", "fan")
	c.Git("-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init")
	inner = gittest.At(t, filepath.Join(c.Dir, "sub"))
	return sub, c, inner
}

const fileURLs = "GIT_ALLOW_PROTOCOL=file"

func TestSubmodules(t *testing.T) {
	t.Parallel()
	t.Run("pushed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "main")
		sub, c, inner := nested(t, w)
		inner.Git("checkout", "-q", "main")
		inner.Write("s", "2")
		inner.Commit("s2")
		inner.Git("push", "-q", "origin", "main")
		inner.Write("build/out", "x") // not tracked there: no change of ours
		c.Git("commit", "-qam", "use s2", "--author=A <a@x>")
		w.someone("other", "x")
		r, s := w.land(c, Options{VerifyCmd: w.verify() + " && grep -qx 2 sub/s && echo x > sub/made"}, also(t, c, fileURLs))
		wants(t, r, s, fault.OK, Landed)
		if got := w.origin.Git("rev-parse", "main:sub"); got != sub.Git("rev-parse", "main") || strings.Contains(s.String(), "not checked out") {
			t.Errorf("%s\n%s", got, s)
		}
		if data, err := os.ReadFile(filepath.Join(inner.Dir, "build/out")); err != nil || string(data) != "x" || inner.Git("symbolic-ref", "HEAD") != "refs/heads/main" {
			t.Errorf("%q, %v", data, err)
		}
		w.sound()
	})
	for _, verify := range []bool{true, false} {
		t.Run(fmt.Sprintf("not pushed, verify %v", verify), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			sub, c, inner := nested(t, w)
			c.Git("config", "push.recurseSubmodules", "on-demand")
			c.Git("config", "submodule.recurse", "true")
			inner.Git("checkout", "-q", "main")
			inner.Write("s", "2")
			inner.Commit("s2")
			c.Git("commit", "-qam", "use s2")
			was := sub.Git("rev-parse", "main")
			w.unchanged(c, func() {
				r, s := w.land(c, Options{NoVerify: !verify}, also(t, c, fileURLs))
				wants(t, r, s, fault.Failed, "")
				if !strings.Contains(r.Reason, "a submodule's commit is on no remote") {
					t.Error(r.Reason)
				}
			})
			if got := sub.Git("rev-parse", "main"); got != was {
				t.Error("another repository was pushed to")
			}
			// Pushed, it lands.
			inner.Git("push", "-q", "origin", "main")
			r, s := w.land(c, Options{NoVerify: !verify}, also(t, c, fileURLs))
			wants(t, r, s, fault.OK, Landed)
		})
	}
	t.Run("not checked out", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "main")
		nested(t, w)
		c := w.clone("bob/fan", "bob")
		c.Git("update-index", "--cacheinfo", "160000,1111111111111111111111111111111111111111,sub")
		c.Git("commit", "-qm", "use what nobody here has")
		c.Write("more", "x") // Commit adds all, and with it what is not there
		c.Git("add", "more")
		c.Git("commit", "-qm", "more")
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.OK, Landed)
		if !strings.Contains(s.String(), "not checked out, so nobody looks whether their commits are on a remote: sub") {
			t.Error(s)
		}
		w.sound()
	})
	t.Run("changed inside", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "main")
		_, c, inner := nested(t, w)
		inner.Write("s", "changed")
		w.unchanged(c, func() {
			r, s := w.land(c, Options{}, also(t, c, fileURLs))
			wants(t, r, s, fault.Usage, "")
			if !strings.Contains(r.Reason, "not committed: sub") {
				t.Error(r.Reason)
			}
		})
	})
}

// What is kept in LFS is there when it is verified, if the filter is.
func TestLFSSmudge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	store := t.TempDir()
	lfs := executable(t, filepath.Join(t.TempDir(), "git-lfs"), `
case $1 in
clean) f=$(mktemp) && cat > "$f" && oid=$(sha256sum < "$f" | cut -d' ' -f1) && mv "$f" `+store+`/$oid && printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\n' $oid ;;
smudge) cat `+store+`/$(sed -n 's/^oid sha256://p') ;;
pre-push) cat >> `+store+`/pushed ;;
esac
`)
	c.Git("config", "filter.lfs.clean", "'"+lfs+"' clean")
	c.Git("config", "filter.lfs.smudge", "'"+lfs+"' smudge")
	c.Git("config", "filter.lfs.required", "true")
	hook(t, c, "pre-push", "exec '"+lfs+"' pre-push \"$@\"\n")
	c.Write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
	c.Write("a.bin", "large\n")
	c.Commit("a large file")
	w.someone("other", "x")
	r, s := w.land(c, Options{VerifyCmd: w.verify() + " && grep -qx large a.bin"})
	wants(t, r, s, fault.OK, Landed)
	pushed, err := os.ReadFile(filepath.Join(store, "pushed"))
	if err != nil || !strings.Contains(string(pushed), string(r.Landed)) || !strings.HasPrefix(w.origin.Git("show", "main:a.bin"), "version https://git-lfs") {
		t.Errorf("%q, %v", pushed, err)
	}
	if data, err := os.ReadFile(filepath.Join(c.Dir, "a.bin")); err != nil || string(data) != "large\n" || c.Git("status", "--porcelain") != "" {
		t.Errorf("%q, %v", data, err)
	}
	w.sound()
}

// commit.gpgSign: what the tool commits is signed as well, or nothing lands.
func TestSigned(t *testing.T) {
	t.Parallel()
	t.Run("ssh", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		w.someone("other", "x")
		key := filepath.Join(t.TempDir(), "key")
		mustOutput(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna", "-f", key)
		public, err := os.ReadFile(key + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		allowed := filepath.Join(t.TempDir(), "allowed")
		if err := os.WriteFile(allowed, append([]byte("anna@x "), public...), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Git("config", "gpg.format", "ssh")
		c.Git("config", "user.signingKey", key)
		c.Git("config", "commit.gpgSign", "true")
		c.Git("config", "log.showSignature", "true")
		c.Git("config", "gpg.ssh.allowedSignersFile", allowed)
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.OK, Landed)
		if r.Landed == r.Head {
			t.Fatal("no commit of ours")
		}
		c.Git("verify-commit", string(r.Landed)) // fails the test if it is not signed
		w.sound()
	})
	for _, tc := range []struct{ name, program, why string }{
		{"refuses", "echo 'gpg: signing failed: No secret key' >&2; exit 2\n", "could not be signed"},
		{"is not there", "", "could not be signed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			w.someone("other", "x")
			program := filepath.Join(t.TempDir(), "gpg")
			if tc.program != "" {
				executable(t, program, tc.program)
			}
			c.Git("config", "gpg.program", program)
			c.Git("config", "commit.gpgSign", "true")
			w.unchanged(c, func() {
				r, s := w.land(c, Options{})
				wants(t, r, s, fault.Usage, "")
				if !strings.Contains(r.Reason, tc.why) || !strings.Contains(r.Reason, "nothing was pushed") {
					t.Error(r.Reason)
				}
			})
			// A fast-forward needs no commit of ours.
			c.Git("fetch", "-q")
			c.Git("-c", "user.name=A", "-c", "user.email=a@x", "-c", "commit.gpgSign=false", "rebase", "-q", "origin/main")
			r, s := w.land(c, Options{})
			wants(t, r, s, fault.OK, Landed)
			w.sound()
		})
	}
}

// Hooks for a person's commits and merges do not run; those of a push do.
func TestHooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("other", "x")
	log := filepath.Join(t.TempDir(), "log")
	all := []string{
		"pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "pre-merge-commit", "post-merge", "post-checkout", "post-rewrite",
		"pre-rebase", "post-index-change", "applypatch-msg", "pre-auto-gc",
	}
	for _, h := range all {
		hook(t, c, h, "echo "+h+" >> "+log+"; exit 1\n")
	}
	for _, h := range []string{"pre-push", "reference-transaction"} {
		hook(t, c, h, "echo "+h+" $1 >> "+log+"; cat > /dev/null\n")
	}
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if strings.Contains(string(data), h+"\n") {
			t.Errorf("%s ran", h)
		}
	}
	if n := strings.Count(string(data), "pre-push origin"); n != 1 || !strings.Contains(string(data), "reference-transaction committed") {
		t.Errorf("pre-push ran %d times:\n%s", n, data)
	}
	if got := c.Git("rev-parse", "HEAD"); got != string(r.Landed) {
		t.Errorf("HEAD is %s\n%s", got, s)
	}
	w.sound()
}

// A hook that forbids what a landing needs ends it before anything is pushed;
// one that forbids what follows it is told.
func TestReferenceTransactionHookRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		refs   string
		landed bool
	}{{"refs/homelab/backup/", false}, {"/base", false}, {"refs/remotes/origin/main", true}} {
		t.Run(tc.refs, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			w.someone("other", "x")
			hook(t, c, "reference-transaction", "test \"$1\" != prepared || ! grep -q '"+tc.refs+"'\n")
			if tc.landed {
				r, s := w.land(c, Options{})
				wants(t, r, s, fault.OK, Landed)
				if !strings.Contains(s.String(), "warning: ") || w.tip() != r.Landed {
					t.Error(s)
				}
				w.sound()
				return
			}
			w.unchanged(c, func() {
				r, s := w.land(c, Options{})
				wants(t, r, s, fault.Failed, "")
				if !strings.Contains(r.Reason, "the reference-transaction hook of this clone refuses") || strings.Contains(s.String(), "pushed") {
					t.Errorf("%s\n%s", r.Reason, s)
				}
			})
		})
	}
}

// A sparse work tree stays one; what is verified is whole.
func TestSparse(t *testing.T) {
	t.Parallel()
	for _, index := range []string{"", "--sparse-index"} {
		t.Run("sparse"+index, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			w.someone("far/away", "x")
			c := w.clone("anna/fan", "near/fan")
			args := []string{"sparse-checkout", "set", "--cone"}
			if index != "" {
				args = append(args, index)
			}
			c.Git(append(args, "near")...)
			if _, err := os.Stat(filepath.Join(c.Dir, "far")); err == nil {
				t.Fatal("it is not sparse")
			}
			w.someone("far/other", "x")
			check := w.verify() + " && test -e far/away && test -e far/other && test -z \"$(git status --porcelain)\" && git checkout -q -- . && test -e far/away"
			for n := range 2 { // a new scratch work tree, and a used one
				r, s := w.land(c, Options{VerifyCmd: check})
				wants(t, r, s, fault.OK, Landed)
				if _, err := os.Stat(filepath.Join(c.Dir, "far")); err == nil || c.Git("status", "--porcelain") != "" || c.Git("config", "core.sparseCheckout") != "true" ||
					c.Git("rev-parse", "HEAD") != string(r.Landed) || !strings.Contains(c.Git("sparse-checkout", "list"), "near") {
					t.Errorf("the work tree is not what it was: %s", s)
				}
				c.Write("near/more", fmt.Sprint(n))
				c.Git("add", "near/more")
				c.Git("commit", "-qm", "more")
			}
			w.unchanged(c, func() {
				r, s := w.land(c, Options{VerifyCmd: "false"})
				wants(t, r, s, fault.Failed, "")
			})
			w.sound()
		})
	}
}

// A clone whose history is cut between the branch and the base is deepened,
// never cut shorter.
func TestShallowBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	x := w.clone("anna/fan", "fan")
	for i := range 4 {
		x.Commit(fmt.Sprintf("step %d", i))
	}
	x.Git("push", "-q", "origin", "anna/fan")
	for i := range 3 {
		w.someone(fmt.Sprintf("new%d", i), "x")
	}
	for _, depth := range []string{"1", "3"} {
		c := w.origin.Clone("--depth="+depth, "--branch=anna/fan", "--single-branch")
		c.Write("by"+depth, "x")
		c.Commit("by " + depth)
		before := c.Git("rev-list", "HEAD")
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.OK, Landed)
		for id := range strings.FieldsSeq(before) {
			if !slices.Contains(strings.Fields(c.Git("rev-list", string(r.Head))), id) {
				t.Errorf("%s is not known any more", id)
			}
		}
		if got := w.origin.Git("rev-list", "--count", "main"); !w.has("by"+depth) || got == "1" {
			t.Errorf("%s commits", got)
		}
		w.sound()
	}
	// No history in common, however deep.
	c := w.origin.Clone("--depth=1")
	c.Git("checkout", "-q", "--orphan", "alien")
	c.Commit("alien")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Usage, "")
	if !strings.Contains(r.Reason, "have no commit in common") {
		t.Error(r.Reason)
	}
}

// Ignored files stay, also one that the base begins to track.
func TestIgnoredFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	c.Write("ignored", "a key")
	c.Write("sub/ignored", "another")
	x := w.fresh()
	x.Write("ignored", "theirs")
	x.Git("add", "-f", "ignored")
	x.Git("commit", "-qm", "tracked from now on")
	x.Git("push", "-q", "origin", "HEAD:main")
	w.note(x.Git("rev-parse", "HEAD^{tree}"))
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	for name, want := range map[string]string{"ignored": "a key", "sub/ignored": "another"} {
		if data, err := os.ReadFile(filepath.Join(c.Dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if !strings.Contains(s.String(), "anna/fan stays at") || c.Git("rev-parse", "HEAD") != string(r.Head) || c.Git("status", "--porcelain") != "" {
		t.Error(s)
	}
	w.sound()
}

// Merges go as they would in the user's work tree.
func TestMergeDrivers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	seed := w.fresh()
	seed.Write(".gitattributes", "CHANGES merge=union\n*.lock merge=ours-wins\n")
	seed.Write("CHANGES", "one\n")
	seed.Write("x.lock", "0\n")
	seed.Commit("attributes")
	seed.Git("push", "-q", "origin", "HEAD:main")
	w.note(seed.Git("rev-parse", "HEAD^{tree}"))
	c := w.clone("anna/fan", "fan")
	c.Git("config", "merge.ours-wins.driver", "cp %B %A; echo both >> %A")
	c.Write("CHANGES", "one\nmine\n")
	c.Write("x.lock", "1\n")
	c.Commit("mine")
	w.someone("CHANGES", "one\ntheirs\n")
	w.someone("x.lock", "2\n")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if got := w.origin.Git("show", "main:CHANGES"); !strings.Contains(got, "mine") || !strings.Contains(got, "theirs") || strings.Contains(got, "<<<") {
		t.Errorf("%q", got)
	}
	if got := w.origin.Git("show", "main:x.lock"); got != "1\nboth" {
		t.Errorf("%q", got)
	}
	w.sound()
	// A driver that gives up is a conflict.
	c.Git("config", "merge.ours-wins.driver", "false")
	c.Write("x.lock", "3\n")
	c.Commit("mine again")
	w.someone("x.lock", "4\n")
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.Conflict, "")
	if !strings.Contains(r.Reason, "x.lock conflicts with main") || c.Git("status", "--porcelain") != "" {
		t.Error(r.Reason)
	}
}

// Line ends are the work tree's own business.
func TestLineEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.someone(".gitattributes", "*.txt text eol=crlf\n")
	c := w.fresh()
	c.Git("checkout", "-q", "-b", "anna/fan")
	c.Git("config", "core.autocrlf", "true")
	c.Write("fan.txt", "1\r\n2\r\n")
	c.Git("add", "fan.txt")
	c.Git("commit", "-qm", "fan")
	w.someone("other", "x")
	r, s := w.land(c, Options{VerifyCmd: w.verify() + " && grep -q \"$(printf '\\r')\" fan.txt"})
	wants(t, r, s, fault.OK, Landed)
	if got := w.origin.Git("cat-file", "blob", "main:fan.txt"); got != "1\n2" {
		t.Errorf("%q", got)
	}
	if data, err := os.ReadFile(filepath.Join(c.Dir, "fan.txt")); err != nil || string(data) != "1\r\n2\r\n" || c.Git("status", "--porcelain") != "" {
		t.Errorf("%q, %v", data, err)
	}
	w.sound()
}

// Files that look changed as soon as they are checked out are no work of the
// verification's.
func TestVerifyDoesNotBlameWhatLookedChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	x := w.fresh()
	x.Write("odd.txt", "a\r\nb\r\n")
	x.Commit("stored with CRLF")
	x.Write(".gitattributes", "*.txt text\n")
	x.Git("add", ".gitattributes")
	x.Git("commit", "-qm", "attributes")
	x.Git("push", "-q", "origin", "HEAD:main")
	w.note(x.Git("rev-parse", "HEAD^{tree}"))
	c := w.fresh()
	c.Git("checkout", "-q", "-b", "anna/fan")
	c.Write("fan", "x")
	c.Git("add", "fan")
	c.Git("commit", "-qm", "fan")
	c.Git("update-index", "--assume-unchanged", "odd.txt", "go.txt")
	check := w.verify() + " && touch odd.txt go.txt"
	w.unchanged(c, func() {
		r, s := w.land(c, Options{VerifyCmd: check + " && echo x >> .gitignore"})
		wants(t, r, s, fault.Failed, "")
		if !strings.Contains(r.Reason, "changed .gitignore:") {
			t.Error(r.Reason)
		}
	})
	r, s := w.land(c, Options{VerifyCmd: check})
	wants(t, r, s, fault.OK, Landed)
	w.sound()
}

// A bare repository with work trees beside it, whatever the base is called.
func TestBareWithWorktrees(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"main", "master", "trunk"} {
		t.Run(base, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, base)
			holder := t.TempDir()
			bare := filepath.Join(holder, "lab.git")
			w.origin.Git("clone", "-q", "--bare", "file://"+w.origin.Dir, bare)
			store := gittest.At(t, bare)
			store.Git("worktree", "add", "-q", "-b", "anna/fan", filepath.Join(holder, "fan"), base)
			c := gittest.At(t, filepath.Join(holder, "fan"))
			c.Write("fan", "x")
			c.Commit("fan")
			w.someone("other", "x")
			w.unchanged(c, func() {
				r, s := w.land(c, Options{VerifyCmd: "false"})
				wants(t, r, s, fault.Failed, "")
			})
			r, s := w.land(c, Options{})
			wants(t, r, s, fault.OK, Landed)
			if r.Base != base || c.Git("rev-parse", "HEAD") != string(r.Landed) || store.Git("rev-parse", "refs/heads/"+base) != string(r.Landed) || c.Git("status", "--porcelain") != "" {
				t.Errorf("%+v\n%s", r, s)
			}
			w.sound()
			// The bare repository itself is no place to land from.
			r, s = w.land(store, Options{})
			wants(t, r, s, fault.Usage, "")
			if !strings.Contains(r.Reason, "bare repository") {
				t.Error(r.Reason)
			}
			w.sound()
		})
	}
}
