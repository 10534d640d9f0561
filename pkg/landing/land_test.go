package landing

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
)

func TestLandFastForward(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"main", "master", "trunk"} {
		t.Run(base, func(t *testing.T) {
			w := newWorld(t, base)
			c := w.clone("anna/fan", "fan")
			head := git.Commit(c.Git("rev-parse", "HEAD"))
			r, s := w.land(c, Options{})
			wants(t, r, s, fault.OK, Landed)
			if r.Landed != head || w.tip() != head || r.Attempts != 1 || r.Base != base || r.Remote != "origin" ||
				r.Branch != "anna/fan" || r.BaseBefore != git.Commit(w.first) || r.BaseAfter != head || r.Verify.Status != VerifyPassed {
				t.Errorf("%+v", r)
			}
			if got := c.Git("rev-parse", "refs/remotes/origin/"+base); got != string(head) {
				t.Errorf("the tracking ref is at %s", got)
			}
			if got := c.Git("rev-parse", r.BackupRef); got != string(head) {
				t.Errorf("the backup is %s", got)
			}
			if got := c.Git("for-each-ref", "refs/homelab/land"); got != "" {
				t.Errorf("left: %s", got)
			}
			w.sound()

			// Once more: there is nothing to do, and nothing is done.
			r, s = w.land(c, Options{})
			wants(t, r, s, fault.OK, Nothing)
			if r.Landed != "" || r.Attempts != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestLandMerge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	c.Write("fan", "more\n")
	head := git.Commit(c.Commit("more [skip ci] of it"))
	other := w.someone("other", "x")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if got := w.origin.Git("show", "-s", "--format=%P", string(r.Landed)); got != string(other)+" "+string(head) {
		t.Errorf("parents %s, want %s %s", got, other, head)
	}
	m := w.origin.Git("show", "-s", "--format=%B", string(r.Landed))
	for _, want := range []string{"Land fan: more (skip ci) of it\n", "* " + head.Short() + " more (skip ci) of it\n", "Homelab-Landing: " + r.ID, "Homelab-Verify: git rev-parse"} {
		if !strings.Contains(m, want) {
			t.Errorf("%q is missing in:\n%s", want, m)
		}
	}
	if got := c.Git("rev-parse", "HEAD"); got != string(r.Landed) || c.Git("status", "--porcelain") != "" || !w.has("other") || !w.has("fan") {
		t.Errorf("the branch is at %s", got)
	}
	if c.Git("rev-parse", "main") != string(r.Landed) {
		t.Error("the local base did not follow")
	}
	w.sound()
}

// After "git merge origin/main" on the branch the branch's side comes first:
// to push that would hide what others landed.
func TestFoxtrotIsMerged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	other := w.someone("other", "x")
	c.Git("fetch", "--quiet")
	c.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "--quiet", "-m", "merge main", "origin/main")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if got := w.origin.Git("rev-parse", string(r.Landed)+"^1"); got != string(other) {
		t.Errorf("first parent %s, want %s", got, other)
	}
	w.sound()
}

func TestNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	// Someone squash-merged it.
	w.someone("fan", "fan\n")
	w.unchanged(c, func() {
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.OK, Nothing)
		if r.Landed != "" || !strings.Contains(r.Next, "work clean") {
			t.Errorf("%+v", r)
		}
	})
	w.sound()
}

func TestConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("fan", "someone's\n")
	c.Write("untracked", "x")
	w.unchanged(c, func() {
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.Conflict, "")
		if !strings.Contains(r.Reason, "fan conflicts with main") || r.Next != "git fetch origin && git merge origin/main" || r.BackupRef == "" {
			t.Errorf("%+v", r)
		}
		if !strings.Contains(s.String(), "untracked, so neither verified nor landed: untracked") {
			t.Error(s)
		}
	})
	w.sound()
}

func TestVerifyFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "broken")
	w.unchanged(c, func() {
		r, s := w.land(c, Options{VerifyCmd: "echo what is wrong; cat go.txt >&2; exit 3"})
		wants(t, r, s, fault.Failed, "")
		if r.Verify.Status != VerifyFailed || r.Landed != "" || r.Unknown || !strings.Contains(s.String(), "verify | what is wrong") || !strings.Contains(r.Reason, "exit 3") {
			t.Errorf("%+v\n%s", r, s)
		}
		log, err := os.ReadFile(filepath.Join(landings(filepath.Join(c.Dir, ".git")), r.ID, "verify.log"))
		if err != nil || string(log) != "what is wrong\n1\n2\n3\n4\n5\n" {
			t.Errorf("%q, %v", log, err)
		}
	})
	// A failure is not remembered: the same tree is tried again.
	c.Git("rm", "--quiet", "broken")
	c.Write("whole", "x")
	c.Commit("repaired")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	w.sound()
}

// What passes in the user's work tree is not what is pushed.
func TestVerifySeesTheCandidateOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	c.Write("ignored", "x")
	c.Write("untracked", "x")
	r, s := w.land(c, Options{VerifyCmd: w.verify() + " && test ! -e ignored && test ! -e untracked && test -e fan"})
	wants(t, r, s, fault.OK, Landed)
	w.sound()
}

func TestVerifyMustNotChangeFiles(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, cmd, why string }{
		{"generated", "echo x >> go.txt", "generated files are out of date"},
		{"moved HEAD", "git checkout -q HEAD~1", "moved HEAD"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			w.unchanged(c, func() {
				r, s := w.land(c, Options{VerifyCmd: tc.cmd})
				wants(t, r, s, fault.Failed, "")
				if !strings.Contains(r.Reason, tc.why) {
					t.Error(r.Reason)
				}
			})
		})
	}
}

func TestVerifyScratchIsReused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	r, s := w.land(c, Options{VerifyCmd: w.verify() + " && echo warm > ignored && echo left > untracked"})
	wants(t, r, s, fault.OK, Landed)
	c.Write("second", "x")
	c.Commit("second")
	r, s = w.land(c, Options{VerifyCmd: w.verify() + " && test -e ignored && test ! -e untracked"})
	wants(t, r, s, fault.OK, Landed)
	// Killed in the middle of a checkout: made anew.
	trees, err := w.deps(c.Dir).Repo.Worktrees(t.Context())
	if err != nil || len(trees) != 2 || !trees[1].Locked {
		t.Fatalf("%+v, %v", trees, err)
	}
	scratch := trees[1].Path
	if strings.HasPrefix(scratch, filepath.Join(w.home, "cache")) {
		if err := os.WriteFile(filepath.Join(scratch, ".git"), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
	} else {
		t.Fatalf("scratch %s", scratch)
	}
	c.Write("third", "x")
	c.Commit("third")
	r, s = w.land(c, Options{VerifyCmd: w.verify() + " && test ! -e ignored"})
	wants(t, r, s, fault.OK, Landed)
	w.sound()
}

func TestVerifyTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	left := filepath.Join(t.TempDir(), "left")
	w.unchanged(c, func() {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 1500*time.Millisecond, fault.ErrTimeUp)
		defer cancel()
		r, s := w.landIn(ctx, c, Options{VerifyCmd: "sleep 60 & echo $! > " + left + "; sleep 60"})
		wants(t, r, s, fault.Timeout, "")
		if r.Verify == nil || r.Verify.Status != VerifyTimeout || r.Next != "homelab work land" {
			t.Errorf("%+v", r)
		}
	})
	pid, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err != nil || !errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
		t.Errorf("process %s is still there (%v)", pid, err)
	}
}

func TestNoVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "broken")
	w.someone("x", "x")
	r, s := w.land(c, Options{NoVerify: true})
	wants(t, r, s, fault.OK, Landed)
	if r.Verify.Status != VerifySkipped || trailer(w.origin.Git("show", "-s", "--format=%B", string(r.Landed)), trailerVerify) != "none" {
		t.Errorf("%+v", r)
	}
}

// Rules come from the base: a branch cannot weaken its own gate.
func TestRulesOfTheBase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "broken")
	w.rules(c, Rules{Verify: []Command{{Run: "true"}}})
	c.Commit("weaken")
	w.unchanged(c, func() {
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.Failed, "")
		if !strings.Contains(s.String(), "decides this landing") {
			t.Error(s)
		}
	})
	w.sound()
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, why string
		set       func(w *world, c *gittest.Repo)
	}{
		{"dirty", "1 changed file(s) are not committed: go.txt", func(_ *world, c *gittest.Repo) { c.Write("go.txt", "x") }},
		{"staged", "not committed: new", func(_ *world, c *gittest.Repo) { c.Write("new", "x"); c.Git("add", "new") }},
		{"detached", "HEAD is detached", func(_ *world, c *gittest.Repo) { c.Git("checkout", "--quiet", "--detach") }},
		{"unborn", "has no commit yet", func(_ *world, c *gittest.Repo) {
			c.Git("checkout", "--quiet", "--orphan", "x")
			c.Git("rm", "-rfq", ".")
		}},
		{"bisect", "a bisect is in progress", func(_ *world, c *gittest.Repo) { c.Git("bisect", "start") }},
		{"on the base", "is the base itself", func(_ *world, c *gittest.Repo) { c.Git("checkout", "--quiet", "main") }},
		{"fixup", "wait to be squashed: fixup! add fan", func(_ *world, c *gittest.Repo) { c.Commit("fixup! add fan") }},
		{"no remote", "no remote to land on", func(_ *world, c *gittest.Repo) { c.Git("remote", "remove", "origin") }},
		{"two remotes", "several remotes", func(_ *world, c *gittest.Repo) {
			c.Git("remote", "add", "other", "https://git.example.lan/a/b.git")
			c.Git("config", "--unset", "branch.main.remote")
		}},
		{"two places", "pushes to 2 places", func(_ *world, c *gittest.Repo) {
			c.Git("remote", "set-url", "--add", "--push", "origin", "a")
			c.Git("remote", "set-url", "--add", "--push", "origin", "b")
		}},
		{"unrelated", "no commit in common", func(_ *world, c *gittest.Repo) {
			c.Git("checkout", "--quiet", "--orphan", "x")
			c.Commit("alien")
		}},
		{"bad rules", "invalid character", func(w *world, _ *gittest.Repo) { w.someone(rulesFile, "no") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			tc.set(w, c)
			w.unchanged(c, func() {
				r, s := w.land(c, Options{})
				wants(t, r, s, fault.Usage, "")
				if !strings.Contains(r.Reason, tc.why) || r.Landed != "" || r.Unknown {
					t.Errorf("%+v", r)
				}
			})
		})
	}
	t.Run("a base that is not there", func(t *testing.T) {
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		r, s := w.land(c, Options{Base: "master"})
		wants(t, r, s, fault.Usage, "")
		if refs := w.origin.Git("for-each-ref", "--format=%(refname)"); refs != "refs/heads/main" {
			t.Error(refs)
		}
	})
	t.Run("nothing to verify with", func(t *testing.T) {
		w := newWorld(t, "main")
		w.someone(rulesFile, "{}")
		c := w.clone("anna/fan", "fan")
		w.unchanged(c, func() {
			r, s := w.land(c, Options{})
			wants(t, r, s, fault.Usage, "")
			if !strings.Contains(r.Reason, "nothing says how to verify fan") {
				t.Error(r.Reason)
			}
		})
	})
}

// The default branch was renamed: the cached HEAD decides nothing.
func TestRenamedDefaultBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "master")
	c := w.clone("anna/fan", "fan")
	w.origin.Git("branch", "-m", "master", "main")
	w.origin.Git("symbolic-ref", "HEAD", "refs/heads/main")
	w.base = "main"
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if refs := w.origin.Git("for-each-ref", "--format=%(refname)"); refs != "refs/heads/main" || r.Base != "main" {
		t.Error(refs)
	}
}

// The file on the default branch names another base: rules are read there.
func TestBaseOfTheFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	seed := w.fresh()
	w.rules(seed, Rules{Base: "next", Verify: []Command{{Run: "exit 1"}}})
	seed.Commit("next decides")
	seed.Git("push", "--quiet", "origin", "HEAD:main", w.first+":refs/heads/next")
	c := w.fresh()
	c.Git("checkout", "--quiet", "-b", "fan", w.first)
	c.Write("fan", "x")
	c.Commit("fan")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if r.Base != "next" || w.origin.Git("rev-parse", "next") != string(r.Landed) {
		t.Errorf("%+v", r)
	}
}

func TestPushRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		kind      fault.Kind
		why       string
		set       func(w *world, c *gittest.Repo)
		unchanged bool
	}{
		{"server hook", fault.Denied, "no tabs, please", func(w *world, _ *gittest.Repo) {
			hook(w.t, w.origin, "pre-receive", "echo no tabs, please; exit 1\n")
		}, true},
		{"secret", fault.Denied, "Push cannot contain secrets", func(w *world, _ *gittest.Repo) {
			// Only the base is guarded: the secret must not go to another branch.
			hook(w.t, w.origin, "update", "test $1 != refs/heads/main || { echo 'error: GH013: Changes must be made through a pull request'; echo 'Push cannot contain secrets'; exit 1; }\n")
		}, true},
		{"pre-push", fault.Failed, "the pre-push hook refused", func(w *world, c *gittest.Repo) {
			hook(w.t, c, "pre-push", "echo not today >&2; exit 1\n")
		}, true},
		{"protected", fault.Held, "takes pull requests only", func(w *world, _ *gittest.Repo) {
			hook(w.t, w.origin, "update", "case $1 in refs/heads/main) echo 'Forgejo: Not allowed to push to protected branch main'; exit 1;; esac\n")
		}, false},
		{"no right", fault.Denied, "refuses the push", func(w *world, c *gittest.Repo) {
			hook(w.t, c, "pre-push", "echo \"fatal: Authentication failed for 'https://git.example.lan/'\" >&2; exit 1\n")
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			tc.set(w, c)
			before := w.state(c)
			r, s := w.land(c, Options{})
			wants(t, r, s, tc.kind, "")
			if !strings.Contains(r.Reason, tc.why) || r.Landed != "" || r.Unknown || string(w.tip()) != w.first {
				t.Errorf("%+v", r)
			}
			if tc.unchanged {
				if after := w.state(c); after != before {
					t.Errorf("something changed:\n%s\nbefore:\n%s", after, before)
				}
			} else if got := w.origin.Git("rev-parse", "anna/fan"); got != string(r.Head) || r.Pull != nil || r.Next == "" {
				t.Errorf("the branch on the remote is %s: %+v", got, r)
			}
			// The obstacle gone, the next run lands.
			for _, at := range []*gittest.Repo{w.origin, c} {
				for _, h := range []string{"pre-receive", "update", "pre-push"} {
					hook(t, at, h, "exit 0\n")
				}
			}
			r, s = w.land(c, Options{})
			wants(t, r, s, fault.OK, Landed)
			if r.Verify.Status != VerifyRemembered {
				t.Errorf("verify %s", r.Verify.Status)
			}
			w.sound()
		})
	}
}

// Someone else's push wins between verification and ours.
func TestRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	n := 0
	r, s := w.land(c, Options{}, func(d *Deps) {
		d.Wrote = func(p Phase) {
			if p == Pushing && n < 3 {
				n++
				w.someone(fmt.Sprintf("other%d", n), "x")
			}
		}
	})
	wants(t, r, s, fault.OK, Landed)
	if r.Attempts != 4 || !w.has("other3") || !w.has("fan") || strings.Count(s.String(), "lost the race") != 3 {
		t.Errorf("%+v\n%s", r, s)
	}
	w.sound()
}

// The round after a lost race is verified anew: it conflicts, or breaks.
func TestRaceSecondRoundFails(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, mine, theirs, content string
		kind                        fault.Kind
	}{
		{"conflict", "fan", "fan", "theirs\n", fault.Conflict},
		{"broken together", "left", "right", "x", fault.Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "main")
			c := w.clone("anna/fan", tc.mine)
			var theirs git.Commit
			r, s := w.land(c, Options{}, func(d *Deps) {
				d.Wrote = func(p Phase) {
					if p == Pushing && theirs == "" {
						theirs = w.someone(tc.theirs, tc.content)
					}
				}
			})
			wants(t, r, s, tc.kind, "")
			if w.tip() != theirs || r.Attempts != 1 || r.Landed != "" || r.Unknown {
				t.Errorf("%+v", r)
			}
			if c.Git("rev-parse", "HEAD") != string(r.Head) || c.Git("status", "--porcelain") != "" {
				t.Error("the work tree changed")
			}
			w.sound()
		})
	}
}

func TestTenRacesLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	n := 0
	r, s := w.land(c, Options{}, func(d *Deps) {
		d.Wrote = func(p Phase) {
			if p == Pushing {
				n++
				w.someone(fmt.Sprintf("other%d", n), "x")
			}
		}
		d.Jitter = func(time.Duration) time.Duration { return 0 }
	})
	wants(t, r, s, fault.Conflict, "")
	if r.Attempts != 10 || n != 10 || !strings.Contains(r.Reason, "the base kept moving") || w.has("fan") {
		t.Errorf("%d, %+v", n, r)
	}
	w.sound()
}

// The reply is lost after the server has accepted: it landed, once.
func TestReplyLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	hook(t, w.origin, "post-receive", "kill -KILL $PPID\n")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if r.Attempts != 1 || w.tip() != r.Landed || !strings.Contains(s.String(), "the reply was lost") {
		t.Errorf("%+v\n%s", r, s)
	}
	w.sound()
}

// The connection breaks before the server has accepted: pushed again, the same
// commit.
func TestPushCutBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	once := filepath.Join(t.TempDir(), "once")
	hook(t, w.origin, "pre-receive", "if test -e "+once+"; then exit 0; fi; : > "+once+"; kill -KILL $PPID; exit 1\n")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if r.Attempts != 2 || w.tip() != r.Landed {
		t.Errorf("%+v", r)
	}
	w.sound()
}

// The reply is lost, someone else lands on top: still once.
func TestReplyLostAndOvertaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	n := 0
	r, s := w.land(c, Options{}, func(d *Deps) {
		d.Wrote = func(p Phase) {
			if p == Pushing && n == 0 {
				n++
				hook(t, w.origin, "post-receive", "rm hooks/post-receive; kill -KILL $PPID\n")
			}
		}
		d.Tell = func(u Update) {
			if told, ok := u.(Told); ok && strings.Contains(told.Text, "the reply was lost") {
				w.someone("on top", "x")
			}
		}
	})
	wants(t, r, s, fault.OK, Landed)
	if r.Attempts != 1 || w.tip() == r.Landed || !w.has("fan") || r.BaseAfter != w.tip() {
		t.Errorf("%+v", r)
	}
	if n := strings.Count(w.origin.Git("log", "--format=%s", "main"), "add fan"); n != 1 {
		t.Errorf("landed %d times", n)
	}
	w.sound()
}

func TestSixLanders(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"clones", "work trees"} {
		t.Run(how, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, "main")
			var repos []*gittest.Repo
			shared := w.fresh()
			for i := range 6 {
				name := fmt.Sprintf("f%d", i)
				if how == "clones" {
					repos = append(repos, w.clone("anna/"+name, name))
					continue
				}
				dir := filepath.Join(t.TempDir(), name)
				shared.Git("worktree", "add", "--quiet", "--no-track", "-b", "anna/"+name, dir, "origin/main")
				at := gittest.At(t, dir)
				at.Write(name, name)
				at.Commit("add " + name)
				repos = append(repos, at)
			}
			results, stories := make([]Result, 6), make([]*story, 6)
			waits := make([]time.Duration, 60)
			for i := range waits {
				waits[i] = time.Duration(rng.Int64N(int64(300 * time.Millisecond)))
			}
			var wg sync.WaitGroup
			for i, c := range repos {
				d := w.deps(c.Dir)
				s := &story{}
				d.Tell, stories[i] = s.tell, s
				n := i * 10
				d.Jitter = func(most time.Duration) time.Duration { n++; return min(most, waits[(n-1)%60]) }
				wg.Go(func() { results[i] = Land(t.Context(), d, Options{NoWatch: true}) })
			}
			wg.Wait()
			for i, r := range results {
				wants(t, r, stories[i], fault.OK, Landed)
				if !w.has(fmt.Sprintf("f%d", i)) {
					t.Errorf("f%d is not there", i)
				}
			}
			w.sound()
		})
	}
}

// A process that is killed after any write of the journal: the next run lands
// once, and says so.
func TestKilledAtEachWrite(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		w.someone("other", "x")
		code, out := w.inChild(c, n, "")
		if code == 0 {
			if n < 5 {
				t.Errorf("the journal was written %d times only", n-1)
			}
			break
		}
		if code != -1 {
			t.Fatalf("write %d: exit %d: %s", n, code, out)
		}
		if w.origin.Git("rev-parse", "main") == w.first || c.Git("status", "--porcelain") != "" {
			t.Errorf("write %d: the work tree changed", n)
		}
		was := w.tip()
		r, s := w.land(c, Options{})
		if r.Kind != fault.OK || !w.has("fan") {
			t.Fatalf("write %d: %s %s: %s\n%s", n, r.Kind, r.Good, r.Reason, s)
		}
		if got := strings.Count(w.origin.Git("log", "--first-parent", "--format=%s", "main"), "Land fan"); got != 1 {
			t.Errorf("write %d: landed %d times (%s before)", n, got, was)
		}
		if left, err := Unfinished(filepath.Join(c.Dir, ".git"), ""); err != nil || len(left) > 0 {
			t.Errorf("write %d: unfinished: %+v, %v", n, left, err)
		}
		if left := c.Git("for-each-ref", "refs/homelab/land"); left != "" {
			t.Errorf("write %d: left: %s", n, left)
		}
		w.sound()
	}
}

// Killed after the server has accepted and before anything could be noted.
func TestKilledWhileTheServerAccepts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("other", "x")
	pid := filepath.Join(t.TempDir(), "pid")
	hook(t, w.origin, "post-receive", "kill -KILL $(cat "+pid+")\n")
	if code, out := w.inChild(c, 0, pid); code != -1 {
		t.Fatalf("exit %d: %s", code, out)
	}
	hook(t, w.origin, "post-receive", "exit 0\n")
	tip := w.tip()
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if r.Landed != tip || w.tip() != tip || r.Attempts != 1 || c.Git("rev-parse", "HEAD") != string(tip) {
		t.Errorf("%+v", r)
	}
	w.sound()
}

// The command of a landing that was killed does not go on below the next one's.
func TestKilledWhileVerifying(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	pid, left := filepath.Join(t.TempDir(), "pid"), filepath.Join(t.TempDir(), "left")
	marked := "until test -s " + filepath.Join(w.home, "cache", "verify") + "/*.process; do sleep 0.01; done"
	goesOn := "echo $$ > " + left + "; " + marked + "; kill -KILL $(cat " + pid + "); while :; do echo x > orphan; sleep 0.01; done"
	if code, out := w.asChild(childSpec{Dir: c.Dir, PIDFile: pid, Options: Options{NoWatch: true, VerifyCmd: goesOn}}); code != -1 {
		t.Fatalf("exit %d: %s", code, out)
	}
	data, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	leader, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-leader, syscall.SIGKILL) })
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc to tell processes apart by")
	}

	r, s := w.land(c, Options{VerifyCmd: w.verify() + " && sleep 0.2 && test ! -e orphan"})
	wants(t, r, s, fault.OK, Landed)
	if !strings.Contains(s.String(), "warning: the verification of a landing that was killed still ran; it was ended") {
		t.Errorf("%s", s)
	}
	w.sound()
}

// A signal in each phase: an end within a second, and what is said is true.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		phase   Phase
		verify  string
		server  string
		unknown bool
		landed  bool
	}{
		{Begun, "", "", false, false},
		{Integrated, "", "", false, false},
		{Integrated, "trap '' TERM; sleep 30", "", false, false},
		{Verified, "", "", false, false},
		{Pushing, "", "pre-receive sleep 30", true, false},
		{OnBase, "", "", false, true},
	} {
		t.Run(string(tc.phase)+" "+tc.verify, func(t *testing.T) {
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			if name, script, ok := strings.Cut(tc.server, " "); ok {
				hook(t, w.origin, name, script+"\n")
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var at time.Time
			end := func() {
				at = time.Now()
				cancel(&fault.Signal{Signal: syscall.SIGTERM})
			}
			o := Options{VerifyCmd: tc.verify}
			r, s := w.landIn(ctx, c, o, func(d *Deps) {
				d.Wrote = func(p Phase) {
					switch {
					case p != tc.phase || !at.IsZero():
					case tc.verify != "" || tc.server != "":
						time.AfterFunc(400*time.Millisecond, end)
					default:
						end()
					}
				}
			})
			if took := time.Since(at); took > 1200*time.Millisecond {
				t.Errorf("it took %s", took)
			}
			if tc.landed {
				if r.Landed != w.tip() || r.Unknown {
					t.Errorf("%+v", r)
				}
				return
			}
			wants(t, r, s, fault.Terminated, "")
			if r.Unknown != tc.unknown || r.Landed != "" {
				t.Errorf("%+v", r)
			}
			if left, err := Unfinished(filepath.Join(c.Dir, ".git"), ""); err != nil || (len(left) > 0) != tc.unknown {
				t.Errorf("unfinished: %+v, %v", left, err)
			}
			hook(t, w.origin, "pre-receive", "exit 0\n")
			r, s = w.land(c, Options{})
			wants(t, r, s, fault.OK, Landed)
			w.sound()
		})
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("other", "x")
	w.unchanged(c, func() {
		r, s := w.land(c, Options{DryRun: true})
		wants(t, r, s, fault.OK, Ready)
		if r.Plan == nil || len(r.Plan.Commits) != 1 || len(r.Plan.Parents) != 2 || r.Plan.Gate != "local" || r.BackupRef != "" || r.Attempts != 0 {
			t.Errorf("%+v, %+v", r, r.Plan)
		}
	})
	if refs := c.Git("for-each-ref", "refs/homelab"); refs != "" {
		t.Error(refs)
	}
	if _, err := os.Stat(landings(filepath.Join(c.Dir, ".git"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a journal: %v", err)
	}
	w.someone("fan", "clash")
	r, s := w.land(c, Options{DryRun: true})
	wants(t, r, s, fault.Conflict, "")
}

// What cannot follow is named; the landing has succeeded all the same.
func TestSettle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("other", "x")
	dir := filepath.Join(t.TempDir(), "base")
	c.Git("worktree", "add", "--quiet", dir, "main")
	at := gittest.At(t, dir)
	at.Write("go.txt", "changed\n")
	r, s := w.land(c, Options{}, func(d *Deps) {
		d.Wrote = func(p Phase) {
			if p == Pushing {
				c.Write("later", "x")
				c.Commit("later")
			}
		}
	})
	wants(t, r, s, fault.OK, Landed)
	for _, want := range []string{"main stays at", "files are changed in", "anna/fan has moved on to"} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("%q is missing:\n%s", want, s)
		}
	}
	if w.has("later") {
		t.Error("a commit made meanwhile landed unverified")
	}
	// Clean, it follows.
	at.Git("checkout", "--quiet", "--", "go.txt")
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if got := at.Git("rev-parse", "HEAD"); got != string(r.Landed) || at.Git("status", "--porcelain") != "" {
		t.Errorf("main is at %s, want %s", got, r.Landed)
	}
	w.sound()
}

// One landing at a time per clone.
func TestLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	held, err := acquire(t.Context(), filepath.Join(c.Dir, ".git"), "bob/x (process 1)", func(string) { t.Error("it waited") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 400*time.Millisecond, fault.ErrTimeUp)
	defer cancel()
	w.unchanged(c, func() {
		r, s := w.landIn(ctx, c, Options{})
		wants(t, r, s, fault.Timeout, "")
		if !strings.Contains(s.String(), "waiting for the landing of bob/x (process 1)") {
			t.Error(s)
		}
	})
	held.release()
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
}

func TestGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.someone(".gitattributes", "*.key filter=git-crypt diff=git-crypt\n")
	c := w.clone("anna/fan", "fan")
	c.Write("a.key", "plain")
	plain := git.Commit(c.Commit("oops"))
	c.Write("a.key", "\x00GITCRYPT\x00cipher")
	c.Commit("sealed")
	w.unchanged(c, func() {
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.Failed, "")
		if !strings.Contains(r.Reason, "a.key is plaintext in commit "+plain.Short()) {
			t.Error(r.Reason)
		}
	})
	// Taking the attribute away does not make the secret public.
	c.Write(".gitattributes", "")
	c.Commit("no attributes")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Failed, "")

	d := w.clone("anna/good", "good")
	d.Write("b.key", "\x00GITCRYPT\x00cipher")
	d.Write("empty.key", "")
	d.Commit("sealed")
	r, s = w.land(d, Options{})
	wants(t, r, s, fault.OK, Landed)
	w.sound()
}

func TestShallow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	for i := range 5 {
		w.someone(fmt.Sprintf("old%d", i), "x")
	}
	c := w.origin.Clone("--depth=1")
	c.Git("checkout", "--quiet", "-b", "fan")
	c.Write("fan", "x")
	c.Commit("fan")
	for i := range 3 {
		w.someone(fmt.Sprintf("new%d", i), "x")
	}
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	w.sound()
}

// A landing was undone on the base. Git would take the branch's commits for
// landed; here they come back.
func TestAfterARevert(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("other", "x")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	landed := r.Landed
	x := w.fresh()
	x.Git("-c", "user.name=A", "-c", "user.email=a@x", "revert", "--no-commit", "-m", "1", string(landed))
	reverts := x.Commit("Undo it\n\nHomelab-Reverts: " + string(landed) + "\n")
	x.Git("push", "--quiet", "origin", "HEAD:main")
	w.note(x.Git("rev-parse", "HEAD^{tree}"))
	w.someone("after", "x")
	if w.has("fan") {
		t.Fatal("it is still there")
	}
	c.Git("reset", "--quiet", "--hard", string(r.Head))
	c.Write("fix", "x")
	c.Commit("fix it")
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	m := w.origin.Git("show", "-s", "--format=%B", string(r.Landed))
	if !w.has("fan") || !w.has("fix") || !w.has("after") || trailer(m, trailerRestores) != reverts {
		t.Errorf("%s\n%s", w.origin.Git("ls-tree", "--name-only", "main"), m)
	}
	// Only once.
	c.Write("fix2", "x")
	c.Commit("fix again")
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if m := w.origin.Git("show", "-s", "--format=%B", string(r.Landed)); trailer(m, trailerRestores) != "" {
		t.Error(m)
	}
	w.sound()
}

// A person's revert is theirs: it stays, and is told.
func TestAfterARevertByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	x := w.fresh()
	x.Git("-c", "user.name=A", "-c", "user.email=a@x", "revert", "--no-edit", string(r.Landed))
	x.Git("push", "--quiet", "origin", "HEAD:main")
	w.note(x.Git("rev-parse", "HEAD^{tree}"))
	c.Write("more", "x")
	c.Commit("more")
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if w.has("fan") || !w.has("more") || !strings.Contains(s.String(), "stay undone unless you revert the revert") {
		t.Error(s)
	}
	w.sound()
}

// A landing takes at most so many processes, and asks the network three times.
func TestCost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("other", "x")
	// Once a day what is old is looked for, which costs one more.
	if err := os.MkdirAll(filepath.Join(c.Dir, ".git/homelab"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, ".git/homelab/expired"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	program := strings.TrimSpace(mustOutput(t, "which", "git"))
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte("#!/bin/sh\necho \"$*\" >> "+log+"\nexec "+program+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r, s := w.land(c, Options{NoVerify: true}, func(d *Deps) {
		d.Env = append(d.Env, "PATH="+dir+":"+os.Getenv("PATH"))
		repo, err := git.Open(t.Context(), c.Dir, d.Env)
		if err != nil {
			t.Fatal(err)
		}
		d.Repo = repo
	})
	wants(t, r, s, fault.OK, Landed)
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	calls := strings.Split(strings.TrimSpace(string(data)), "\n")
	network := 0
	for _, call := range calls {
		for word := range strings.FieldsSeq(call) {
			if slices.Contains([]string{"ls-remote", "fetch", "push"}, word) {
				network++
				break
			}
		}
	}
	if network != 3 {
		t.Errorf("%d calls to the network", network)
	}
	t.Logf("%d processes", len(calls))
	if len(calls) > 25 {
		t.Errorf("%d processes:\n%s", len(calls), data)
	}
}
