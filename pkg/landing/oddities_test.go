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

// An earlier run's push that a slow server takes only after the next run has
// begun is that landing, and no lost race with "nothing" left to do.
func TestOldPushStillArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("other", "x")
	if code, out := w.inChild(c, 4, ""); code != -1 { // as it is about to push
		t.Fatalf("%d: %s", code, out)
	}
	records, err := Unfinished(filepath.Join(c.Dir, ".git"), "anna/fan")
	if err != nil || len(records) != 1 || len(records[0].Tried) != 1 {
		t.Fatalf("%+v, %v", records, err)
	}
	old := records[0].Tried[0]
	r, s := w.land(c, Options{}, func(d *Deps) {
		d.Wrote = func(p Phase) {
			if p == Pushing {
				c.Git("push", "--quiet", "origin", string(old)+":refs/heads/main")
			}
		}
	})
	wants(t, r, s, fault.OK, Landed)
	if r.Landed != old || w.tip() != old {
		t.Errorf("landed %s, the base is at %s, want %s", r.Landed, w.tip(), old)
	}
	w.sound()
}

// What is proposed is pushed to a branch of its own, never to the one that
// others land on.
func TestProposalFromTheDefaultBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.origin.Git("branch", "release", "main")
	hook(t, w.origin, "update", "case $1 in refs/heads/release) echo 'GH006: Protected branch'; exit 1;; esac\n")
	c := w.fresh()
	c.Write("fix", "x")
	c.Commit("fix")
	w.unchanged(c, func() {
		r, s := w.land(c, Options{Base: "release"})
		wants(t, r, s, fault.Usage, "")
		if !strings.Contains(r.Reason, "main is the default branch") || r.Next != "git switch -c TOPIC" {
			t.Errorf("%s; %s", r.Reason, r.Next)
		}
	})
}

// A push that this clone's own configuration makes impossible is not repeated,
// and no server's fault.
func TestConfigurationForbidsPush(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"push.gpgSign=true", "push.pushOption=x", "remote.origin.mirror=true"} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			w.origin.Git("config", "receive.advertisePushOptions", "false")
			c := w.clone("anna/fan", "fan")
			key, value, _ := strings.Cut(setting, "=")
			c.Git("config", key, value)
			w.unchanged(c, func() {
				r, s := w.land(c, Options{})
				wants(t, r, s, fault.Usage, "")
				if r.Attempts != 1 || !strings.Contains(r.Reason, "as git is configured here") {
					t.Errorf("%d: %s", r.Attempts, r.Reason)
				}
			})
		})
	}
}

// A push goes where git's own would go, also where insteadOf has another answer
// to the address that it came to.
func TestPushAddressIsRewrittenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	replica := gittest.New(t, "main", "--bare")
	w.origin.Git("push", "--quiet", "file://"+replica.Dir, "main")
	hook(t, replica, "pre-receive", "echo I am a replica; exit 1\n")
	c.Git("remote", "set-url", "origin", "web:lab")
	c.Git("config", "url.file://"+replica.Dir+".insteadOf", "web:lab")
	c.Git("config", "url.file://"+w.origin.Dir+".pushInsteadOf", "web:lab")
	c.Git("config", "--add", "url.file://"+replica.Dir+".insteadOf", "file://"+w.origin.Dir)
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	w.sound()
}

// Squashed elsewhere: nothing to do, and nothing more to say.
func TestNothingIsQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("fan", "fan\n")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Nothing)
	if strings.Contains(s.String(), "warning") {
		t.Error(s)
	}
	if refs := c.Git("for-each-ref", "refs/homelab/land"); refs != "" {
		t.Error(refs)
	}
}

// What a server prints is no command: pasted, it does nothing but fail.
func TestForeignAddressIsQuoted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	hook(t, w.origin, "update", "case $1 in refs/heads/main) echo 'GH006: Protected branch'; exit 1;; esac\n"+
		"echo 'https://x.invalid/a;touch${IFS}/tmp/x`id`' >&2\n")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Held, "")
	if r.Next != "'https://x.invalid/a;touch${IFS}/tmp/x`id`'" {
		t.Error(r.Next)
	}
}

// Lines of any length come through whole, however they are cut into writes.
func TestLineWriter(t *testing.T) {
	t.Parallel()
	text := "one\n\n" + strings.Repeat("x", 3*longLine+5) + "\n" + strings.Repeat("y\n", 2000) + "end"
	for _, size := range []int{1, 7, longLine, len(text)} {
		var got, log strings.Builder
		longest := 0
		w := &lineWriter{tell: func(s string) {
			got.WriteString(s)
			longest = max(longest, len(s))
		}, also: &log}
		for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
			if _, err := w.Write([]byte(rest[:min(size, len(rest))])); err != nil {
				t.Fatal(err)
			}
		}
		w.flush()
		if got.String() != strings.ReplaceAll(text, "\n", "") || log.String() != text || longest > longLine {
			t.Errorf("in writes of %d: %d bytes of lines, %d in the log, the longest line %d", size, got.Len(), log.Len(), longest)
		}
	}
}

// A landing is known by its branch's name: under a new one it is not settled,
// and that is said.
func TestRenamedBranch(t *testing.T) {
	t.Parallel()
	const says = `of anna/fan is not settled, and this branch has its commits: if it was renamed, "git branch -m anna/fan" and land again to settle it`
	for _, tc := range []struct {
		name  string
		write int // 4: as it is about to push; 5: when it has
		now   func(c *gittest.Repo)
		says  bool
	}{
		{"another branch on top of it", 4, func(c *gittest.Repo) { c.Git("checkout", "-q", "-b", "anna/more") }, false},
		{"renamed", 4, func(c *gittest.Repo) { c.Git("branch", "-m", "anna/more") }, true},
		{"renamed, and gone on", 4, func(c *gittest.Repo) {
			c.Git("branch", "-m", "anna/more")
			c.Write("yet", "x")
			c.Commit("yet more")
		}, true},
		{"renamed when it was on the base", 5, func(c *gittest.Repo) { c.Git("branch", "-m", "anna/more") }, true},
		{"on the base, deleted, and something new", 5, func(c *gittest.Repo) {
			c.Git("checkout", "-q", "-b", "anna/more")
			c.Git("branch", "-q", "-D", "anna/fan")
			c.Write("yet", "x")
			c.Commit("yet more")
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			if code, out := w.inChild(c, tc.write, ""); code != -1 {
				t.Fatalf("exit %d: %s", code, out)
			}
			tc.now(c)
			r, s := w.land(c, Options{})
			if r.Kind != fault.OK {
				t.Fatalf("%s: %s\n%s", r.Kind, r.Reason, s)
			}
			if strings.Contains(s.String(), says) != tc.says {
				t.Errorf("%s", s)
			}
			w.sound()
		})
	}
}
