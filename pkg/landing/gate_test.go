package landing

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
)

// keepStaging lets a server refuse to delete the branches that CI tested.
func keepStaging(w *world, on bool) {
	script := "exit 0\n"
	if on {
		script = "case $1:$3 in refs/heads/homelab/*:0000000000000000000000000000000000000000) echo 'no deletions today'; exit 1;; esac\n"
	}
	hook(w.t, w.origin, "update", script)
}

// A branch of the round before could not be deleted: the next round has a name
// of its own, and whoever comes next deletes them all.
func TestStagingOfEachRound(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"the next landing", "the next landing of another branch", "abort"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			keepStaging(w, true)
			ci := &fakeCI{base: green(), gate: green()}
			var refs []string
			ci.onGate = func(x Wanted) {
				if refs = append(refs, x.Ref); len(refs) < 3 {
					w.someone("other"+string(rune('0'+len(refs))), "x")
				}
			}
			r, s := w.land(c, Options{GateCI: true}, with(ci))
			wants(t, r, s, fault.OK, Landed)
			if len(refs) != 3 || refs[0] == refs[1] || refs[1] == refs[2] || refs[0] != "refs/heads/homelab/land/"+r.ID || !strings.HasPrefix(refs[2], refs[0]+"-") {
				t.Errorf("%v", refs)
			}
			if n := strings.Count(w.branches(), "homelab/land/"); n != 3 || !strings.Contains(s.String(), "is still on origin") {
				t.Fatalf("%d branches stay: %s\n%s", n, w.branches(), s)
			}
			keepStaging(w, false)
			switch how {
			case "abort":
				desk := &Desk{Deps: w.deps(c.Dir), Dir: c.Dir}
				if out, failed := desk.Abort(t.Context(), ""); failed != nil || len(out.Did) != 3 {
					t.Errorf("%+v, %v", out, failed)
				}
			case "the next landing of another branch":
				c.Git("checkout", "-q", "-b", "anna/other")
				fallthrough
			default:
				c.Write("more", "x")
				c.Commit("more")
				r, s := w.land(c, Options{}, with(&fakeCI{base: green()}))
				wants(t, r, s, fault.OK, Landed)
			}
			if w.branches() != "main" {
				t.Errorf("branches %s", w.branches())
			}
			w.sound()
		})
	}
}

// Another run's branch is being tested: nobody deletes it.
func TestStagingUnderWayStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	dir := filepath.Join(t.TempDir(), "other")
	c.Git("worktree", "add", "-q", "--no-track", "-b", "anna/other", dir, "origin/main")
	at := gittest.At(t, dir)
	at.Write("other", "x")
	at.Commit("other")
	ci := &fakeCI{base: green(), gate: green()}
	ci.onGate = func(x Wanted) {
		r, s := w.land(at, Options{}, with(&fakeCI{base: green()}))
		wants(t, r, s, fault.OK, Landed)
		if got := w.origin.Git("rev-parse", x.Ref); got != string(x.Commit) {
			t.Errorf("%s is %s", x.Ref, got)
		}
		ci.onGate = nil
	}
	r, s := w.land(c, Options{GateCI: true}, with(ci))
	wants(t, r, s, fault.OK, Landed)
	if w.branches() != "main" {
		t.Errorf("branches %s", w.branches())
	}
	w.sound()
}

// What the clone itself refuses to push is a no, not a matter of rights.
func TestStagingRefusedHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	hook(t, c, "pre-push", "echo not today >&2; exit 1\n")
	w.unchanged(c, func() {
		r, s := w.land(c, Options{GateCI: true}, with(&fakeCI{base: green(), gate: green()}))
		wants(t, r, s, fault.Failed, "")
		if !strings.Contains(r.Reason, "not today") {
			t.Error(r.Reason)
		}
	})
}

// The base begins to ask for CI's gate while a landing is under way: what was
// prepared without it does not pass.
func TestGateAskedForMeanwhile(t *testing.T) {
	t.Parallel()
	tighten := func(w *world) {
		x := w.fresh()
		w.rules(x, Rules{GateCI: true})
		x.Commit("CI decides")
		x.Git("push", "-q", "origin", "HEAD:main")
		w.note(x.Git("rev-parse", "HEAD^{tree}"))
	}
	t.Run("a race", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		n := 0
		var before string
		r, s := w.land(c, Options{}, with(&fakeCI{base: green(), gate: green()}), func(d *Deps) {
			d.Wrote = func(p Phase) {
				if p == Pushing {
					n++
					tighten(w)
					before = w.state(c)
				}
			}
		})
		wants(t, r, s, fault.Conflict, "")
		if n != 1 || r.Landed != "" || w.has("fan") || !strings.Contains(r.Reason, "main has begun to ask for CI before it moves") {
			t.Errorf("%d pushes: %+v", n, r)
		}
		// The scratch refs of that moment are gone; all else is as it was.
		after := w.state(c)
		for line := range strings.Lines(before) {
			if !strings.Contains(line, "refs/homelab/land/") && !strings.Contains(after, line) {
				t.Errorf("gone: %s", line)
			}
		}
		// Again, and the gate is asked.
		ci := &fakeCI{base: green(), gate: pipeline.Outcome{Verdict: pipeline.Failure}}
		r, s = w.land(c, Options{}, with(ci))
		wants(t, r, s, fault.Failed, "")
		if len(ci.asked) != 1 || w.has("fan") {
			t.Errorf("%+v", ci.asked)
		}
		w.sound()
	})
	t.Run("another run of the branch", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		first := &blockingCI{fakeCI: fakeCI{base: green(), gate: green()}, began: make(chan struct{}), wait: make(chan struct{})}
		d := w.deps(c.Dir)
		d.CI = first
		one := make(chan Result)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { one <- Land(ctx, d, Options{GateCI: true}) }()
		<-first.began
		// It waits for its gate; a second run of the branch waits for it, and
		// meanwhile the base tightens and the first is ended.
		two, s := make(chan Result), &story{}
		d2 := w.deps(c.Dir)
		d2.CI = &fakeCI{base: green(), gate: green()}
		d2.Tell = func(u Update) {
			s.tell(u)
			if told, ok := u.(Told); ok && strings.HasPrefix(told.Text, "waiting for landing") {
				tighten(w)
				cancel(&fault.Signal{})
				close(first.wait)
			}
		}
		go func() { two <- Land(t.Context(), d2, Options{}) }()
		<-one
		r := <-two
		wants(t, r, s, fault.Conflict, "")
		if w.has("fan") || r.Landed != "" {
			t.Errorf("%+v", r)
		}
		w.sound()
	})
	t.Run("asked for by both", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		ci := &fakeCI{base: green(), gate: green()}
		n := 0
		ci.onGate = func(Wanted) {
			if n++; n == 1 {
				tighten(w)
			}
		}
		r, s := w.land(c, Options{GateCI: true}, with(ci))
		wants(t, r, s, fault.OK, Landed)
		if n != 2 || ci.asked[1].Commit != r.Landed {
			t.Errorf("%d gates", n)
		}
		w.note(w.origin.Git("rev-parse", string(git.Commit(r.Landed))+"^{tree}")) // CI's gate is what verified it
		w.sound()
	})
}
