package landing

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
)

// undo reverts a landing on the base as this tool words it, from elsewhere;
// through a merge, as a pull request would, if asked.
func (w *world) undo(c git.Commit, merged bool) git.Commit {
	w.t.Helper()
	at := w.fresh()
	if merged {
		at.Git("checkout", "--quiet", "-b", "undo")
	}
	revert := []string{"-c", "user.name=A", "-c", "user.email=a@x", "revert", "--no-commit"}
	if len(strings.Fields(at.Git("show", "-s", "--format=%P", string(c)))) > 1 {
		revert = append(revert, "-m", "1")
	}
	at.Git(append(revert, string(c))...)
	x := at.Commit("Undo it\n\nHomelab-Reverts: " + string(c) + "\n")
	if merged {
		at.Git("checkout", "--quiet", w.base)
		at.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "--quiet", "--no-ff", "-m", "Merge #8", "undo")
	}
	at.Git("push", "--quiet", "origin", "HEAD:"+w.base)
	w.note(at.Git("rev-parse", "HEAD^{tree}"))
	return git.Commit(x)
}

func (w *world) message(c git.Commit) string {
	w.t.Helper()
	return w.origin.Git("show", "-s", "--format=%B", string(c))
}

// Several landings of one branch were undone, in whatever order: all of them
// come back, and each is named.
func TestAfterSeveralReverts(t *testing.T) {
	t.Parallel()
	for _, newestFirst := range []bool{true, false} {
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		w.someone("other", "x")
		one, s := w.land(c, Options{})
		wants(t, one, s, fault.OK, Landed)
		c.Write("light", "x")
		c.Commit("add light")
		w.someone("other2", "x")
		two, s := w.land(c, Options{})
		wants(t, two, s, fault.OK, Landed)
		order := []git.Commit{one.Landed, two.Landed}
		if newestFirst {
			slices.Reverse(order)
		}
		first, second := w.undo(order[0], false), w.undo(order[1], false)
		if w.has("fan") || w.has("light") {
			t.Fatal("they are still there")
		}
		c.Write("fix", "x")
		c.Commit("fix both")
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.OK, Landed)
		if !w.has("fan") || !w.has("light") || !w.has("fix") || !w.has("other2") {
			t.Errorf("%s", w.origin.Git("ls-tree", "--name-only", "main"))
		}
		if got := trailers(w.message(r.Landed), trailerRestores); !slices.Equal(got, []git.Commit{second, first}) {
			t.Errorf("it restores %v", got)
		}
		// Only once.
		c.Write("more", "x")
		c.Commit("more")
		r, s = w.land(c, Options{})
		wants(t, r, s, fault.OK, Landed)
		if got := trailers(w.message(r.Landed), trailerRestores); len(got) > 0 {
			t.Errorf("it restores %v again", got)
		}
		w.sound()
	}
}

// A revert that came through a merged pull request is not on the base's chain
// of first parents.
func TestAfterAMergedRevert(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	x := w.undo(r.Landed, true)
	if w.has("fan") {
		t.Fatal("it is still there")
	}
	c.Write("fix", "x")
	c.Commit("fix it")
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if got := trailers(w.message(r.Landed), trailerRestores); !w.has("fan") || !w.has("fix") || !slices.Equal(got, []git.Commit{x}) {
		t.Errorf("it restores %v, not %s:\n%s", got, x, w.origin.Git("ls-tree", "--name-only", "main"))
	}
	c.Write("more", "x")
	c.Commit("more")
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	if got := trailers(w.message(r.Landed), trailerRestores); len(got) > 0 {
		t.Errorf("it restores %v again", got)
	}
	w.sound()
}

// A branch that was begun between a landing and its revert contains that
// landing as its own would be. Only this clone's record tells them apart:
// without one the other's work stays undone.
func TestAfterAnothersRevert(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"another clone", "another branch of this clone"} {
		w := newWorld(t, "main")
		bob := w.clone("bob/fan", "fan")
		r, s := w.land(bob, Options{})
		wants(t, r, s, fault.OK, Landed)
		landed, anna := r.Landed, bob
		if how == "another clone" {
			anna = w.fresh()
		}
		anna.Git("checkout", "--quiet", "-b", "anna/light", "origin/main")
		anna.Write("light", "x")
		anna.Commit("add light")
		x := w.undo(landed, false)
		r, s = w.land(anna, Options{})
		wants(t, r, s, fault.OK, Landed)
		if w.has("fan") || !w.has("light") || len(trailers(w.message(r.Landed), trailerRestores)) > 0 {
			t.Errorf("%s: someone else's revert was undone:\n%s", how, w.message(r.Landed))
		}
		if want := x.Short() + " on main undid " + landed.Short() + ", which this branch contains; it stays undone"; !strings.Contains(s.String(), want) {
			t.Errorf("%s: %q is missing:\n%s", how, want, s)
		}
		w.sound()
	}
}

// A landing that was reverted while nobody watched: its pipeline may be green,
// and its work is not there. Told once; then there is nothing to do.
func TestTakenOff(t *testing.T) {
	t.Parallel()
	for _, merged := range []bool{false, true} {
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		r, s := w.land(c, Options{}, with(&fakeCI{base: pipeline.Outcome{Verdict: pipeline.Timeout}}))
		wants(t, r, s, fault.Timeout, "")
		landed := r.Landed
		x := w.undo(landed, merged)
		ci := &fakeCI{base: green()}
		r, s = w.land(c, Options{}, with(ci))
		wants(t, r, s, fault.LandedRed, "")
		if r.Landed != landed || len(ci.asked) > 0 || !strings.Contains(r.Reason, "had landed on main and was reverted by "+x.Short()) {
			t.Errorf("%+v, asked %v", r, ci.asked)
		}
		if left, err := Unfinished(filepath.Join(c.Dir, ".git"), ""); err != nil || len(left) > 0 {
			t.Errorf("%+v, %v", left, err)
		}
		bareRepetition(t, w, c, x)
	}
}

// A revert that was itself undone, through a pull request even, does not count.
func TestTakenOffAndBroughtBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	r, s := w.land(c, Options{}, with(&fakeCI{base: pipeline.Outcome{Verdict: pipeline.Timeout}}))
	wants(t, r, s, fault.Timeout, "")
	x := w.undo(r.Landed, false)
	at := w.fresh()
	at.Git("checkout", "--quiet", "-b", "again")
	at.Git("-c", "user.name=A", "-c", "user.email=a@x", "revert", "--no-commit", string(x))
	at.Commit("Again\n\nHomelab-Restores: " + string(x) + "\n")
	at.Git("checkout", "--quiet", "main")
	at.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "--quiet", "--no-ff", "-m", "Merge #9", "again")
	at.Git("push", "--quiet", "origin", "HEAD:main")
	ci := &fakeCI{base: green()}
	r, s = w.land(c, Options{}, with(ci))
	wants(t, r, s, fault.OK, Landed)
	if len(ci.asked) != 1 {
		t.Errorf("%+v", ci.asked)
	}
}

// bareRepetition lands once more without a new commit, after x undid it all:
// nothing happens, and it says why.
func bareRepetition(t *testing.T, w *world, c *gittest.Repo, x git.Commit) {
	t.Helper()
	before := w.tip()
	for _, o := range []Options{{}, {DryRun: true}} {
		r, s := w.land(c, o, with(&fakeCI{base: green()}))
		wants(t, r, s, fault.OK, Nothing)
		if w.tip() != before || r.Landed != "" || r.Attempts != 0 {
			t.Errorf("%+v", r)
		}
		if !o.DryRun && !strings.Contains(r.Reason, x.Short()+" undid it there; a new commit lands it again") {
			t.Error(r.Reason)
		}
	}
}

// The repetition of the command alone brings nothing back, in a branch that
// has nothing new.
func TestBareRepetitionAfterARevert(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("other", "x")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	bareRepetition(t, w, c, w.undo(r.Landed, false))
	w.sound()
}

// The server has said that it took the commit, and then a signal leaves no
// time: what it said holds, for the result and for the next run.
func TestSignalAfterTheServerAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	dir := t.TempDir()
	said := filepath.Join(dir, "said")
	program := strings.TrimSpace(mustOutput(t, "which", "git"))
	script := "#!/bin/sh\n" + program + " \"$@\" || exit\ncase \" $* \" in *' push '*) : > " + said + "; exec sleep 30;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if _, err := os.Stat(said); err == nil {
				cancel(&fault.Signal{Signal: syscall.SIGTERM})
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	ci := func(d *Deps) { d.CI = &fakeCI{base: pipeline.Outcome{Verdict: pipeline.Failure}} }
	r, s := w.landIn(ctx, c, Options{}, ci, func(d *Deps) {
		d.Env = append(d.Env, "PATH="+dir+":"+os.Getenv("PATH"))
		repo, err := git.Open(t.Context(), c.Dir, d.Env)
		if err != nil {
			t.Fatal(err)
		}
		d.Repo = repo
	})
	cancel(nil)
	<-ended
	wants(t, r, s, fault.Terminated, "")
	if r.Unknown || r.Landed == "" || r.Landed != w.tip() {
		t.Fatalf("%+v", r)
	}
	left, err := Unfinished(filepath.Join(c.Dir, ".git"), "")
	if err != nil || len(left) != 1 || left[0].Phase != OnBase || left[0].Candidate != r.Landed {
		t.Fatalf("%+v, %v", left, err)
	}
	// The next run is about the landing's CI, and not "nothing to do".
	landed := r.Landed
	r, s = w.land(c, Options{}, ci)
	wants(t, r, s, fault.LandedRed, "")
	if r.Landed != landed || r.Attempts != 1 {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, ".git", "MERGE_HEAD")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	w.sound()
}
