package landing

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// surrounded opens the clone's repository again with more in the environment.
func surrounded(t *testing.T, dir string, more ...string) func(*Deps) {
	return func(d *Deps) {
		t.Helper()
		d.Env = append(d.Env, more...)
		repo, err := git.Open(t.Context(), dir, d.Env)
		if err != nil {
			t.Fatal(err)
		}
		d.Repo = repo
	}
}

// A submodule that people asked not to see changes all the same: its new
// commit is no "nothing".
func TestIgnoredSubmoduleLands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/sub", "x")
	if err := os.Mkdir(filepath.Join(c.Dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.Write(".gitmodules", "[submodule \"sub\"]\n\tpath = sub\n\turl = ../sub\n\tignore = all\n")
	c.Git("add", ".gitmodules")
	for _, digit := range []string{"1", "2"} {
		id := strings.Repeat(digit, 40)
		c.Git("update-index", "--add", "--cacheinfo", "160000,"+id+",sub")
		c.Git("-c", "user.name=A", "-c", "user.email=a@x", "commit", "-qm", "sub", "--allow-empty")
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.OK, Landed)
		if got := w.origin.Git("rev-parse", "main:sub"); got != id {
			t.Error(got)
		}
	}
	w.sound()
}

// No setting of the user's and nothing a calling git leaves behind hides
// plaintext.
func TestGuardWhateverIsConfigured(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{
		"GIT_LITERAL_PATHSPECS=1", "GIT_NOGLOB_PATHSPECS=1", "GIT_ATTR_SOURCE=HEAD~",
		"log.diffMerges=first-parent", "log.diffMerges=combined", "log.diffMerges=off", "diff.orderFile=/nonexistent",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			w.someone(".gitattributes", sealKeys)
			c := w.clone("anna/fan", "fan")
			c.Git("checkout", "-q", "-b", "side", "main")
			c.Write("side", "x")
			c.Commit("side")
			c.Git("checkout", "-q", "anna/fan")
			c.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "-q", "--no-commit", "--no-ff", "side")
			c.Write("a.key", "plain")
			c.Commit("merged, and more")
			key, value, _ := strings.Cut(setting, "=")
			change := surrounded(t, c.Dir)
			if strings.HasPrefix(key, "GIT_") {
				change = surrounded(t, c.Dir, setting)
			} else {
				c.Git("config", key, value)
			}
			r, s := w.land(c, Options{}, change)
			wants(t, r, s, fault.Failed, "")
			if !strings.Contains(r.Reason, "a.key is plaintext") || w.has("a.key") {
				t.Error(r.Reason)
			}
		})
	}
}

// What one verification hid from the index of the work tree it ran in does not
// stand in for a later candidate's file.
func TestVerificationHidesNothingFromTheNext(t *testing.T) {
	t.Parallel()
	for _, bit := range []string{"--skip-worktree", "--assume-unchanged"} {
		t.Run(bit, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			w.someone("gate.sh", "test ! -e broken\n")
			c := w.clone("anna/one", "one")
			r, s := w.land(c, Options{VerifyCmd: w.verify() + " && git update-index " + bit + " gate.sh && echo exit 0 > gate.sh"})
			wants(t, r, s, fault.OK, Landed)
			c.Git("checkout", "-q", "-b", "anna/two")
			c.Write("broken", "x")
			c.Commit("broken")
			r, s = w.land(c, Options{VerifyCmd: "sh ./gate.sh"})
			wants(t, r, s, fault.Failed, "")
			w.sound()
		})
	}
}
