package landing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

// court is a CI that calls landings red: what somebody else pushed and what
// reverts is green unless a test says otherwise. Its memory is a file, so that
// it outlives a process that is killed.
type court struct {
	Dir    string // of a clone
	Marker string // has a line for each restart
	Deadly bool   // this process dies once it has restarted

	mu       sync.Mutex
	verdicts map[string]pipeline.Verdict // by subject
	again    pipeline.Verdict            // of a restart; "" failure
	of       git.Commit                  // whose pipeline answers for the landing; "" its own
	rows     []woodpecker.Pipeline
	newer    error
	restart  error
	during   func() // a restart
	asked    []Wanted
}

// The numbers of its pipelines.
const (
	numberBefore = 50
	numberRed    = 100
	numberAgain  = 101
	numberAfter  = 150
)

func (w *world) court(c *gittest.Repo) *court {
	return &court{Dir: c.Dir, Marker: filepath.Join(w.home, "restarts")}
}

func (k *court) use(d *Deps) { d.CI, d.Restarts = k, k }

func (k *court) Configured(context.Context) error    { return nil }
func (k *court) Ready(context.Context, string) error { return nil }

func (k *court) restarts() int {
	data, _ := os.ReadFile(k.Marker)
	return strings.Count(string(data), "\n")
}

func (k *court) verdict(w Wanted) (pipeline.Outcome, error) {
	out, err := exec.Command("git", "-C", k.Dir, "show", "-s", "--format=%B", string(w.Commit)).Output()
	if err != nil {
		return pipeline.Outcome{}, err
	}
	subject, _, _ := strings.Cut(string(out), "\n")
	row := woodpecker.Pipeline{Number: numberBefore, Commit: string(w.Commit)}
	v, said := k.verdicts[subject]
	reverts := strings.HasPrefix(subject, "Revert fan: ") && len(trailers(string(out), trailerReverts)) > 0
	switch theirs := subject == "first" || strings.HasPrefix(subject, "someone "); {
	case said && (theirs || reverts):
	case theirs:
		v = pipeline.Success
	case reverts:
		v, row.Number = pipeline.Success, numberAfter
	default:
		row.Number = numberRed
		if k.restarts() > 0 {
			row.Number, row.Parent = numberAgain, numberRed
		}
		if k.of != "" {
			row.Commit = string(k.of)
		}
		if !said {
			v = pipeline.Failure
		}
		if w.Row != nil && k.again != "" {
			v = k.again
		}
	}
	if v == pipeline.Absent {
		return pipeline.Outcome{Verdict: v, Confirmed: true}, nil
	}
	return pipeline.Outcome{Verdict: v, Row: &row, Reason: "says the court"}, nil
}

func (k *court) Watch(_ context.Context, w Wanted, _ func(pipeline.Update)) (pipeline.Outcome, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, w)
	if strings.HasPrefix(w.Ref, "refs/heads/homelab/land/") {
		return green(), nil
	}
	return k.verdict(w)
}

func (k *court) Look(_ context.Context, w Wanted) (pipeline.Outcome, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.verdict(w)
}

func (k *court) Restart(_ context.Context, row woodpecker.Pipeline) (woodpecker.Pipeline, error) {
	if k.restart != nil {
		return woodpecker.Pipeline{}, k.restart
	}
	f, err := os.OpenFile(k.Marker, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(strconv.FormatInt(row.Number, 10) + "\n")
		err = errors.Join(err, f.Close())
	}
	if k.Deadly {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if k.during != nil {
		k.during()
	}
	return woodpecker.Pipeline{Number: numberAgain, ID: numberAgain, Parent: row.Number, Commit: row.Commit}, err
}

func (k *court) Newer(context.Context, string, int64) ([]woodpecker.Pipeline, error) {
	return k.rows, k.newer
}

var _, _ = CI(&court{}), Restarts(&court{})

// Every condition, alone, and what is asked first.
func TestRedCase(t *testing.T) {
	t.Parallel()
	c, b, d := git.Commit(strings.Repeat("c", 40)), git.Commit(strings.Repeat("b", 40)), git.Commit(strings.Repeat("d", 40))
	good := redCase{Landed: c, Base: b, Pushed: true, Verdict: pipeline.Failure, Number: 3, Of: c, Before: pipeline.Success, Again: pipeline.Failure, AgainNumber: 4}
	if step, why := good.judge(); step != undoIt || why != "" {
		t.Fatalf("%s: %s", step, why)
	}
	fresh := good
	fresh.Again, fresh.AgainNumber = "", 0
	if step, why := fresh.judge(); step != restartCI || why != "" {
		t.Fatalf("%s: %s", step, why)
	}
	type change struct {
		name string
		with func(*redCase)
		want string
	}
	cases := []change{
		{"another's pipeline", func(r *redCase) { r.Of = d }, "the pipeline that failed is of ddddddd, which contains it"},
		{"no pipeline at all", func(r *redCase) { r.Of = "" }, "the pipeline that failed is of"},
		{"a pull request", func(r *redCase) { r.Pull = 7; r.Pushed = false }, "it was merged as pull request #7 and not pushed from here"},
		{"not pushed here", func(r *redCase) { r.Pushed = false }, "nothing here shows that it was pushed from here"},
		{"a revert", func(r *redCase) { r.Reverts = d }, "its commit ddddddd is a revert itself"},
		{"undone already", func(r *redCase) { r.Undone = d }, "ddddddd undid it already"},
		{"nothing before", func(r *redCase) { r.Before = pipeline.Absent }, "bbbbbbb before it has no pipeline of its own"},
		{"red before", func(r *redCase) { r.Before = pipeline.Failure }, "the pipeline of bbbbbbb before it is not green (failure)"},
		{"not known before", func(r *redCase) { r.Before = pipeline.Unreachable }, "the pipeline of bbbbbbb before it is not green (unreachable)"},
		{"running before", func(r *redCase) { r.Before = pipeline.Running }, "is not green (running)"},
		{"green on top", func(r *redCase) { r.Green = d }, "ddddddd, which contains it, is green"},
		{"not known on top", func(r *redCase) { r.Unproven = "no list" }, "whether a commit on top of it is green is not known: no list"},
		{"no restart", func(r *redCase) { r.NoRestart = "no right"; r.Again = "" }, "#3 could not be restarted: no right"},
	}
	for _, v := range []pipeline.Verdict{
		pipeline.Errored, pipeline.Declined, pipeline.Canceled, pipeline.Superseded, pipeline.Blocked, pipeline.Absent,
		pipeline.Denied, pipeline.Unreachable, pipeline.Timeout, pipeline.Running, pipeline.Pending, pipeline.Interrupted, pipeline.Success, "",
	} {
		cases = append(cases, change{"its pipeline " + string(v), func(r *redCase) { r.Verdict = v }, "its pipeline ended as " + string(v) + ", and only a failure is reverted"})
		switch v {
		case pipeline.Success:
			cases = append(cases, change{"a green restart", func(r *redCase) { r.Again, r.AgainNumber = v, 4 }, "#3, started anew as #4, is green"})
		case "":
		case pipeline.Errored, pipeline.Declined, pipeline.Canceled, pipeline.Superseded, pipeline.Blocked, pipeline.Absent, pipeline.Failure,
			pipeline.Denied, pipeline.Unreachable, pipeline.Timeout, pipeline.Running, pipeline.Pending, pipeline.Interrupted:
			cases = append(cases, change{"its restart " + string(v), func(r *redCase) { r.Again, r.AgainNumber = v, 4 }, "#3, started anew as #4, ended as " + string(v)})
		}
	}
	for _, tc := range cases {
		for _, from := range []redCase{good, fresh} {
			r := from
			tc.with(&r)
			step, why := r.judge()
			if step != leaveIt || !strings.HasPrefix(why, tc.want) && !strings.HasSuffix(why, tc.want) {
				t.Errorf("%s: %s: %q, want %q", tc.name, step, why, tc.want)
			}
		}
	}
}

// reverted checks that the base is as it was before a landing, by one commit.
func (w *world) reverted(r Result, s *story, before git.Commit) {
	w.t.Helper()
	wants(w.t, r, s, fault.LandedRed, "")
	if r.Revert == nil || !r.Revert.Done || r.Revert.Unknown || r.Revert.Commit != w.tip() {
		w.t.Fatalf("revert %+v of %+v\n%s", r.Revert, r, s)
	}
	if got, want := w.origin.Git("rev-parse", "main^{tree}"), w.origin.Git("rev-parse", string(before)+"^{tree}"); got != want {
		w.t.Errorf("the tree is %s, want %s", got, want)
	}
	if n := w.reverts(); n != 1 {
		w.t.Errorf("reverted %d times", n)
	}
}

// reverts counts the base's commits that revert something.
func (w *world) reverts() int {
	w.t.Helper()
	return len(strings.Fields(w.origin.Git("log", "--format=%H", "--grep", "^"+trailerReverts+": ", "main")))
}

// A red landing is taken off again, by one commit whatever it consisted of;
// its branch keeps its work, and lands it anew with the next commit.
func TestRevertOnRed(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"fast-forward", "merge"} {
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		c.Write("light", "x")
		c.Commit("add light [skip ci]")
		if how == "merge" {
			w.someone("other", "x")
		}
		before := w.tip()
		ci := w.court(c)
		r, s := w.land(c, Options{RevertOnRed: true}, ci.use)
		w.reverted(r, s, before)
		v := r.Revert.Commit
		if got := w.origin.Git("show", "-s", "--format=%P", string(v)); got != string(r.Landed) || r.BaseAfter != v || r.BaseBefore != before {
			t.Errorf("its parents are %s: %+v", got, r)
		}
		m := w.message(v)
		if !slices.Equal(trailers(m, trailerReverts), []git.Commit{r.Landed}) || trailer(m, trailerLanding) != r.ID ||
			!strings.HasPrefix(m, "Revert fan: add light (skip ci)\n") || strings.Contains(m, trailerVerify) {
			t.Error(m)
		}
		if ci.restarts() != 1 || len(ci.asked) != 3 || ci.asked[1].Row == nil || ci.asked[1].Row.Number != numberAgain || ci.asked[2].Commit != v {
			t.Errorf("%d restarts, asked %+v", ci.restarts(), ci.asked)
		}
		if c.Git("rev-parse", "main") != string(v) || c.Git("rev-parse", "origin/main") != string(v) || c.Git("rev-parse", "HEAD") != string(r.Landed) || c.Git("status", "--porcelain") != "" {
			t.Error("the clone did not follow, or the branch did")
		}
		for _, want := range []string{"CI #100 failure: says the court; ", "was green before; #101, the same started anew, failed too; reverted by " + v.Short() + "; CI #150 green"} {
			if !strings.Contains(r.Reason, want) {
				t.Errorf("%q is missing: %s", want, r.Reason)
			}
		}
		if r.Next != "homelab ci logs --failed "+string(r.Landed) || r.Revert.Reason != "reverted by "+v.Short()+"; CI #150 green" {
			t.Errorf("%+v, next %s", r.Revert, r.Next)
		}
		if !strings.Contains(s.String(), "revert: starting #100 anew, once") || !strings.Contains(s.String(), "revert: landed "+v.Short()) {
			t.Error(s)
		}
		if left := c.Git("for-each-ref", "refs/homelab/land"); left != "" {
			t.Errorf("left: %s", left)
		}
		bareRepetition(t, w, c, v)
		c.Write("fix", "x")
		c.Commit("fix it")
		r, s = w.land(c, Options{RevertOnRed: true}, with(&fakeCI{base: green()}), func(d *Deps) { d.Restarts = ci })
		wants(t, r, s, fault.OK, Landed)
		if !w.has("fan") || !w.has("light") || !w.has("fix") || !slices.Equal(trailers(w.message(r.Landed), trailerRestores), []git.Commit{v}) {
			t.Errorf("%s: it did not come back: %s", how, w.message(r.Landed))
		}
		w.note(w.origin.Git("rev-parse", string(v)+"^{tree}"))
		w.sound()
	}
}

// Reverted, repaired, red once more: that landing is reverted too.
func TestRevertTwoLandings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	ci := w.court(c)
	one, s := w.land(c, Options{RevertOnRed: true}, ci.use)
	w.reverted(one, s, git.Commit(w.first))
	c.Write("fix", "x")
	c.Commit("fix it")
	two, s := w.land(c, Options{RevertOnRed: true}, ci.use)
	wants(t, two, s, fault.LandedRed, "")
	if two.Revert == nil || !two.Revert.Done || w.has("fan") || w.has("fix") || w.reverts() != 2 || two.Landed == one.Landed {
		t.Fatalf("%+v %+v", two, two.Revert)
	}
	c.Write("fix2", "x")
	c.Commit("fix it again")
	r, s := w.land(c, Options{}, with(&fakeCI{base: green()}))
	wants(t, r, s, fault.OK, Landed)
	if got := trailers(w.message(r.Landed), trailerRestores); !w.has("fan") || !w.has("fix2") || !slices.Equal(got, []git.Commit{two.Revert.Commit}) {
		t.Errorf("it restores %v", got)
	}
}

// What landed since survives, and what comes of it is verified first.
func TestRevertKeepsWhatCameAfter(t *testing.T) {
	t.Parallel()
	for _, gate := range []bool{false, true} {
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		ci := w.court(c)
		ci.during = func() { w.someone("later", "x") }
		r, s := w.land(c, Options{RevertOnRed: true, GateCI: gate}, ci.use)
		wants(t, r, s, fault.LandedRed, "")
		if !r.Revert.Done || w.has("fan") || !w.has("later") || w.reverts() != 1 || w.branches() != "main" {
			t.Fatalf("%+v, branches %s\n%s", r.Revert, w.branches(), s)
		}
		gated := slices.ContainsFunc(ci.asked, func(x Wanted) bool {
			return x.Commit == r.Revert.Commit && strings.HasPrefix(x.Ref, "refs/heads/homelab/land/"+r.ID)
		})
		if gated != gate || !strings.HasPrefix(trailer(w.message(r.Revert.Commit), trailerVerify), "git rev-parse") {
			t.Errorf("gated %v: %s", gated, w.message(r.Revert.Commit))
		}
		w.sound()
	}
}

// Whatever speaks against the revert: nothing is pushed, the landing is red
// all the same, and the one reason is named.
func TestNotReverted(t *testing.T) {
	t.Parallel()
	type at struct {
		w  *world
		c  *gittest.Repo
		ci *court
	}
	later := func(a at) git.Commit { return a.w.someone("later", "x") }
	for _, tc := range []struct {
		name, why, next string
		restarts        int
		set             func(a at)
	}{
		{"an error", "its pipeline ended as error", "ci logs", 0, func(a at) { a.ci.verdicts = map[string]pipeline.Verdict{"add fan": pipeline.Errored} }},
		{"cancelled", "its pipeline ended as canceled", "ci logs", 0, func(a at) { a.ci.verdicts = map[string]pipeline.Verdict{"add fan": pipeline.Canceled} }},
		{"another's pipeline", "the pipeline that failed is of 1111111", "ci logs", 0, func(a at) { a.ci.of = git.Commit(strings.Repeat("1", 40)) }},
		{"red before", "is not green (failure)", "ci logs", 0, func(a at) { a.ci.verdicts = map[string]pipeline.Verdict{"first": pipeline.Failure} }},
		{"no pipeline before", "has no pipeline of its own", "ci logs", 0, func(a at) { a.ci.verdicts = map[string]pipeline.Verdict{"first": pipeline.Absent} }},
		{"a green restart", "#100, started anew as #101, is green", "homelab work land", 1, func(a at) { a.ci.again = pipeline.Success }},
		{"a cancelled restart", "#100, started anew as #101, ended as canceled", "ci logs", 1, func(a at) { a.ci.again = pipeline.Canceled }},
		{"no restart", "#100 could not be restarted: no right", "ci logs", 0, func(a at) { a.ci.restart = errors.New("no right") }},
		{"no list", "is not known: no list", "ci logs", 0, func(a at) { a.ci.newer = errors.New("no list") }},
		{"green on top", "which contains it, is green", "ci logs", 1, func(a at) {
			a.ci.during = func() {
				a.ci.rows = []woodpecker.Pipeline{{Commit: string(later(a)), Status: woodpecker.Success}}
			}
		}},
		{"green elsewhere", "is not known: 2222222: a pipeline is green of a commit that is not here", "ci logs", 0, func(a at) {
			a.ci.rows = []woodpecker.Pipeline{{Commit: strings.Repeat("2", 40), Status: woodpecker.Success}}
		}},
		{"undone meanwhile", "undid it already", "ci logs", 1, func(a at) { a.ci.during = func() { a.w.undo(a.w.tip(), false) } }},
		{"undone meanwhile, merged", "undid it already", "ci logs", 1, func(a at) { a.ci.during = func() { a.w.undo(a.w.tip(), true) } }},
		{"undone by hand", "undid it already", "ci logs", 1, func(a at) {
			a.ci.during = func() {
				x := a.w.fresh()
				x.Git("-c", "user.name=A", "-c", "user.email=a@x", "revert", "--no-edit", "HEAD")
				x.Git("push", "--quiet", "origin", "HEAD:main")
				a.w.note(x.Git("rev-parse", "HEAD^{tree}"))
			}
		}},
		{"a revert itself", "is a revert itself", "ci logs", 0, func(a at) {
			a.c.Write("go.txt", "")
			a.c.Commit("Revert \"first\"\n\nThis reverts commit " + a.w.first + ".")
		}},
		{"a revert of ours", "is a revert itself", "ci logs", 0, func(a at) {
			a.c.Write("go.txt", "")
			a.c.Commit("Undo\n\nHomelab-Reverts: " + a.w.first)
		}},
		{"conflict", "undoing it conflicts with what landed since, in fan", "git fetch origin && git switch --no-track -c revert-fan origin/main && git revert ", 1, func(a at) {
			a.ci.during = func() { a.w.someone("fan", "changed\n") }
		}},
		{"broken together", "failed (exit 1) on the candidate", "homelab work land", 1, func(a at) {
			a.c.Git("rm", "--quiet", "left")
			a.c.Commit("no left")
			a.ci.during = func() { a.w.someone("right", "x") }
		}},
		{"a hook", "does not accept the commits", "homelab work land", 1, func(a at) {
			a.ci.during = func() { hook(t, a.w.origin, "pre-receive", "echo no reverts, please; exit 1\n") }
		}},
		{"taken off", "main does not have", "git log", 1, func(a at) {
			a.ci.during = func() { a.w.origin.Git("update-ref", "refs/heads/main", a.w.first) }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			if tc.name == "broken together" {
				w.first = string(w.someone("left", "x"))
				w.origin.Git("reflog", "expire", "--expire=all", "--all")
			}
			c := w.clone("anna/fan", "fan")
			ci := w.court(c)
			tc.set(at{w, c, ci})
			tip := git.Commit("")
			if during := ci.during; during != nil {
				ci.during = func() { during(); tip = w.tip() }
			}
			r, s := w.land(c, Options{RevertOnRed: true}, ci.use)
			wants(t, r, s, fault.LandedRed, "")
			if tip == "" {
				tip = r.Landed
			}
			if r.Revert == nil || r.Revert.Done || r.Revert.Unknown || !strings.Contains(r.Revert.Reason, tc.why) || !strings.Contains(r.Reason, r.Revert.Reason) {
				t.Errorf("%+v: %s", r.Revert, r.Reason)
			}
			if w.tip() != tip || ci.restarts() != tc.restarts || !strings.Contains(r.Next, tc.next) || r.Landed == "" {
				t.Errorf("the tip is %s, not %s; %d restarts; next %s", w.tip(), tip, ci.restarts(), r.Next)
			}
			if left := c.Git("for-each-ref", "refs/homelab/land"); left != "" {
				t.Errorf("left: %s", left)
			}
		})
	}
}

// Own reverts within a landing are its own matter.
func TestRevertOfAnOwnRevert(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	c.Write("light", "x")
	light := c.Commit("add light")
	c.Git("-c", "user.name=A", "-c", "user.email=a@x", "revert", "--no-edit", light)
	r, s := w.land(c, Options{RevertOnRed: true}, w.court(c).use)
	w.reverted(r, s, git.Commit(w.first))
}

// Without the flag, or without CI's verdict, nothing is reverted.
func TestRevertOnRedAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	for _, change := range []func(*Deps){func(d *Deps) { d.CI = w.court(c) }, func(d *Deps) { d.Restarts = w.court(c) }} {
		r, s := w.land(c, Options{RevertOnRed: true}, change)
		wants(t, r, s, fault.Usage, "")
	}
	ci := w.court(c)
	r, s := w.land(c, Options{}, ci.use)
	wants(t, r, s, fault.LandedRed, "")
	if r.Revert != nil || ci.restarts() != 0 || !w.has("fan") {
		t.Errorf("%+v", r.Revert)
	}
	// Asked for later, it is that landing that is reverted.
	landed := r.Landed
	r, s = w.land(c, Options{RevertOnRed: true}, ci.use)
	w.reverted(r, s, git.Commit(w.first))
	if r.Landed != landed {
		t.Errorf("%+v", r)
	}
	// A deploy that fails is no failed pipeline.
	c.Write("more", "x")
	c.Commit("more")
	deploy := &fakeDeploy{d: Deployed{Kind: fault.Failed, Reason: "it does not start"}}
	r, s = w.land(c, Options{RevertOnRed: true, Targets: []string{"lab/fan"}}, with(&fakeCI{base: green()}), func(d *Deps) { d.Restarts, d.Deploy = ci, deploy })
	wants(t, r, s, fault.LandedRed, "")
	if r.Revert == nil || r.Revert.Done || r.Revert.Commit != "" || !strings.Contains(r.Reason, "it is the deploy that failed") || !w.has("more") {
		t.Errorf("%+v: %s", r.Revert, r.Reason)
	}
}

// A landing that a pull request merged was not pushed from here.
func TestNoRevertOfAPullRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	hook(t, w.origin, "update", "case $1 in refs/heads/main) echo 'GH006: Protected branch'; exit 1;; esac\n")
	forge := &fakeForge{pull: PullRequest{URL: "https://git.example.lan/a/b/pulls/7", Number: 7, State: "open"}, state: Merged{Open: true}}
	ci := w.court(c)
	use := func(d *Deps) { ci.use(d); d.Forge = forge }
	r, s := w.land(c, Options{RevertOnRed: true}, use)
	wants(t, r, s, fault.Held, "")
	hook(t, w.origin, "update", "exit 0\n")
	m := w.fresh()
	m.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "--quiet", "--no-ff", "-m", "Merge #7", "origin/anna/fan")
	m.Git("push", "--quiet", "origin", "HEAD:main")
	forge.state = Merged{Merged: true, Commit: w.tip()}
	r, s = w.land(c, Options{RevertOnRed: true}, use)
	wants(t, r, s, fault.LandedRed, "")
	if r.Revert == nil || r.Revert.Done || !strings.Contains(r.Revert.Reason, "merged as pull request #7") || ci.restarts() != 0 || w.reverts() != 0 {
		t.Errorf("%+v", r.Revert)
	}
}

// The base began to take pull requests only: the revert is proposed, and the
// landing goes on once that is merged.
func TestRevertByPullRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	forge := &fakeForge{pull: PullRequest{URL: "https://git.example.lan/a/b/pulls/8", Number: 8, State: "open"}, state: Merged{Open: true}}
	ci := w.court(c)
	ci.during = func() {
		hook(t, w.origin, "update", "case $1 in refs/heads/main) echo 'GH006: Protected branch'; exit 1;; esac\n")
	}
	use := func(d *Deps) { ci.use(d); d.Forge = forge }
	for range 2 { // the next run says the same
		r, s := w.land(c, Options{RevertOnRed: true}, use)
		wants(t, r, s, fault.LandedRed, "")
		branch := "homelab/revert/" + r.ID
		if r.Revert == nil || r.Revert.Done || r.Pull == nil || r.Pull.Number != 8 || r.Next != "homelab work land" || w.reverts() != 0 ||
			w.origin.Git("rev-parse", branch) != string(r.Revert.Commit) || !strings.Contains(r.Revert.Reason, "#8 of "+r.Revert.Commit.Short()+" is open") {
			t.Fatalf("%+v: %+v\n%s", r, r.Revert, s)
		}
		if forge.opened != 1 || ci.restarts() != 1 {
			t.Errorf("opened %d, restarted %d times", forge.opened, ci.restarts())
		}
	}
	hook(t, w.origin, "update", "exit 0\n")
	m := w.fresh()
	m.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "--quiet", "--squash", "origin/"+strings.Fields(w.branches())[0])
	m.Commit("someone squashed #8")
	m.Git("push", "--quiet", "origin", "HEAD:main")
	forge.state = Merged{Merged: true, Commit: w.tip()}
	r, s := w.land(c, Options{}, use) // the flag is not needed for what is done
	wants(t, r, s, fault.LandedRed, "")
	if r.Revert == nil || !r.Revert.Done || r.Revert.Commit != w.tip() || w.has("fan") {
		t.Fatalf("%+v: %+v\n%s", r, r.Revert, s)
	}
	if left, err := Unfinished(filepath.Join(c.Dir, ".git"), ""); err != nil || len(left) > 0 {
		t.Errorf("%+v, %v", left, err)
	}
}

// Someone else's push wins while the revert is made: it is made anew on top.
func TestRevertRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	ci := w.court(c)
	pushes := 0
	r, s := w.land(c, Options{RevertOnRed: true}, ci.use, func(d *Deps) {
		d.Wrote = func(p Phase) {
			if p != Pushing {
				return
			}
			if pushes++; pushes == 2 {
				w.someone("between", "x")
			}
		}
	})
	wants(t, r, s, fault.LandedRed, "")
	if !r.Revert.Done || pushes != 3 || w.has("fan") || !w.has("between") || w.reverts() != 1 || r.Attempts != 1 {
		t.Errorf("%+v: %+v, %d pushes\n%s", r, r.Revert, pushes, s)
	}
	w.sound()
}

// Green came meanwhile: the round after a lost race asks again.
func TestRevertRaceAgainstGreen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	ci := w.court(c)
	pushes := 0
	r, s := w.land(c, Options{RevertOnRed: true}, ci.use, func(d *Deps) {
		d.Wrote = func(p Phase) {
			if p != Pushing {
				return
			}
			if pushes++; pushes == 2 {
				ci.rows = []woodpecker.Pipeline{{Commit: string(w.someone("repair", "x")), Status: woodpecker.Success}}
			}
		}
	})
	wants(t, r, s, fault.LandedRed, "")
	if r.Revert.Done || r.Revert.Commit != "" || !strings.Contains(r.Revert.Reason, "is green") || !w.has("fan") || w.reverts() != 0 || pushes != 2 {
		t.Errorf("%+v: %+v, %d pushes\n%s", r, r.Revert, pushes, s)
	}
}

// The reply to the revert's push is lost: asked, and not pushed again.
func TestRevertReplyLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	ci := w.court(c)
	ci.during = func() { hook(t, w.origin, "post-receive", "kill -KILL $PPID\n") }
	r, s := w.land(c, Options{RevertOnRed: true}, ci.use)
	w.reverted(r, s, git.Commit(w.first))
	if !strings.Contains(s.String(), "the reply was lost") {
		t.Error(s)
	}
}

// Nor can it be asked: the revert is not known, and said to be; the next run,
// without the flag even, finds it.
func TestRevertNotKnown(t *testing.T) {
	t.Parallel()
	for _, arrived := range []bool{true, false} {
		t.Run(fmt.Sprintf("arrived %v", arrived), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			ci := w.court(c)
			away := w.origin.Dir + ".away"
			ci.during = func() {
				if arrived {
					hook(t, w.origin, "post-receive", "kill -KILL $PPID\n")
				} else {
					hook(t, w.origin, "pre-receive", "kill -KILL $PPID; exit 1\n")
				}
			}
			r, s := w.land(c, Options{RevertOnRed: true}, ci.use, func(d *Deps) {
				d.Patience = 10 * time.Millisecond
				tell := d.Tell
				d.Tell = func(u Update) {
					if told, ok := u.(Told); ok && strings.Contains(told.Text, "the reply was lost") {
						if err := os.Rename(w.origin.Dir, away); err != nil {
							t.Error(err)
						}
					}
					tell(u)
				}
			})
			if err := os.Rename(away, w.origin.Dir); err != nil {
				t.Fatal(err)
			}
			wants(t, r, s, fault.LandedRed, "")
			if r.Revert == nil || r.Revert.Done || !r.Revert.Unknown || r.Revert.Commit == "" || r.Landed == "" || !strings.Contains(r.Reason, "whether it was reverted is not known") {
				t.Fatalf("%+v: %+v\n%s", r, r.Revert, s)
			}
			for _, h := range []string{"pre-receive", "post-receive"} {
				hook(t, w.origin, h, "exit 0\n")
			}
			made := r.Revert.Commit
			if arrived != (w.tip() == made) {
				t.Fatalf("the tip is %s", w.tip())
			}
			r, s = w.land(c, Options{RevertOnRed: !arrived}, ci.use)
			w.reverted(r, s, git.Commit(w.first))
			if arrived && r.Revert.Commit != made || ci.restarts() != 1 {
				t.Errorf("%+v, %d restarts", r.Revert, ci.restarts())
			}
		})
	}
}

// A push that arrives late, after a run that could not ask has ended, is found
// by the next one's: it never reverts twice.
func TestRevertArrivesLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	ci := w.court(c)
	made := git.Commit("")
	ctx, cancel := context.WithCancelCause(t.Context())
	n := 0
	r, s := w.landIn(ctx, c, Options{RevertOnRed: true}, ci.use, func(d *Deps) {
		d.Wrote = func(p Phase) {
			if p == Pushing {
				if n++; n == 2 {
					cancel(&fault.Signal{Signal: syscall.SIGTERM})
				}
			}
		}
	})
	wants(t, r, s, fault.Terminated, "")
	left, err := Unfinished(filepath.Join(c.Dir, ".git"), "")
	if err != nil || len(left) != 1 || left[0].Revert == nil || len(left[0].Revert.Tried) != 1 {
		t.Fatalf("%+v, %v", left, err)
	}
	made = left[0].Revert.Tried[0]
	r, s = w.land(c, Options{RevertOnRed: true}, ci.use, func(d *Deps) {
		d.Env = append(d.Env, "GIT_COMMITTER_DATE=2030-01-01T00:00:00Z") // what this run makes is another commit
		repo, err := git.Open(t.Context(), c.Dir, d.Env)
		if err != nil {
			t.Fatal(err)
		}
		d.Repo = repo
		d.Wrote = func(p Phase) {
			if p == Pushing && made != "" {
				c.Git("push", "--quiet", "origin", string(made)+":refs/heads/main")
			}
		}
	})
	w.reverted(r, s, git.Commit(w.first))
	if r.Revert.Commit != made || ci.restarts() != 1 {
		t.Errorf("%+v, %d restarts", r.Revert, ci.restarts())
	}
}

// A process that is killed after any write of the journal: in the end it has
// landed once and was reverted once.
func TestRevertKilledAtEachWrite(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		w.someone("other", "x")
		before := w.tip()
		ci := w.court(c)
		code, out := w.asChild(childSpec{Dir: c.Dir, DieAt: n, Options: Options{RevertOnRed: true}, Court: ci})
		if code == fault.LandedRed.Code() {
			if n < 9 {
				t.Errorf("the journal was written %d times only", n-1)
			}
			break
		}
		if code != -1 {
			t.Fatalf("write %d: exit %d: %s", n, code, out)
		}
		r, s := w.land(c, Options{RevertOnRed: true}, ci.use)
		if r.Kind != fault.LandedRed || r.Revert == nil || !r.Revert.Done {
			t.Fatalf("write %d: %+v %+v\n%s", n, r, r.Revert, s)
		}
		w.reverted(r, s, before)
		if got := strings.Count(w.origin.Git("log", "--first-parent", "--format=%s", "main"), "Land fan"); got != 1 || ci.restarts() != 1 {
			t.Errorf("write %d: landed %d times, restarted %d times", n, got, ci.restarts())
		}
		if left, err := Unfinished(filepath.Join(c.Dir, ".git"), ""); err != nil || len(left) > 0 {
			t.Errorf("write %d: unfinished: %+v, %v", n, left, err)
		}
		if left := c.Git("for-each-ref", "refs/homelab/land"); left != "" {
			t.Errorf("write %d: left: %s", n, left)
		}
	}
}

// Killed while the server accepts the revert, before anything could be noted.
func TestRevertKilledWhileTheServerAccepts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	pid := filepath.Join(t.TempDir(), "pid")
	hook(t, w.origin, "post-receive", "case $(git log -1 --format=%B main) in *Homelab-Reverts*) kill -KILL $(cat "+pid+");; esac\n")
	ci := w.court(c)
	if code, out := w.asChild(childSpec{Dir: c.Dir, PIDFile: pid, Options: Options{RevertOnRed: true}, Court: ci}); code != -1 {
		t.Fatalf("exit %d: %s", code, out)
	}
	tip := w.tip()
	for _, o := range []Options{{RevertOnRed: true}} {
		r, s := w.land(c, o, ci.use)
		w.reverted(r, s, git.Commit(w.first))
		if r.Revert.Commit != tip || ci.restarts() != 1 || r.CI == nil {
			t.Errorf("%+v, %d restarts", r.Revert, ci.restarts())
		}
	}
	bareRepetition(t, w, c, tip)
}

// Killed once the server has restarted the pipeline, before the answer came:
// that was the one restart.
func TestRevertKilledWhileRestarting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	ci := w.court(c)
	ci.Deadly = true
	if code, out := w.asChild(childSpec{Dir: c.Dir, Options: Options{RevertOnRed: true}, Court: ci}); code != -1 || ci.restarts() != 1 {
		t.Fatalf("exit %d: %s", code, out)
	}
	ci.Deadly = false
	r, s := w.land(c, Options{RevertOnRed: true}, ci.use)
	w.reverted(r, s, git.Commit(w.first))
	if ci.restarts() != 1 || !strings.Contains(w.message(r.Revert.Commit), "#100 failed, and #101") {
		t.Errorf("%d restarts: %s", ci.restarts(), w.message(r.Revert.Commit))
	}
}

// The server has said that it took the revert, and then a signal leaves no
// time: that holds, and the next run only watches it.
func TestSignalAfterTheServerAcceptedTheRevert(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	dir := t.TempDir()
	said, armed := filepath.Join(dir, "said"), filepath.Join(dir, "armed")
	program := strings.TrimSpace(mustOutput(t, "which", "git"))
	script := "#!/bin/sh\n" + program + " \"$@\" || exit\ntest ! -e " + armed + " || case \" $* \" in *' push '*) : > " + said + "; exec sleep 30;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	ci := w.court(c)
	ci.during = func() {
		if err := os.WriteFile(armed, nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
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
	r, s := w.landIn(ctx, c, Options{RevertOnRed: true}, ci.use, func(d *Deps) {
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
	if r.Revert == nil || !r.Revert.Done || r.Revert.Commit != w.tip() || r.Landed == "" || r.BaseAfter != w.tip() || !strings.Contains(r.Reason, "reverted by "+w.tip().Short()) {
		t.Fatalf("%+v %+v", r, r.Revert)
	}
	left, err := Unfinished(filepath.Join(c.Dir, ".git"), "")
	if err != nil || len(left) != 1 || left[0].Phase != OnBase || left[0].Revert == nil || left[0].Revert.Phase != OnBase {
		t.Fatalf("%+v, %v", left, err)
	}
	r, s = w.land(c, Options{}, ci.use)
	w.reverted(r, s, git.Commit(w.first))
	if ci.restarts() != 1 {
		t.Errorf("%d restarts", ci.restarts())
	}
}

// To give up a landing whose revert is in doubt says what became of it, and
// loses nothing that the next run needs.
func TestAbortARevertInDoubt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	pid := filepath.Join(t.TempDir(), "pid")
	hook(t, w.origin, "post-receive", "case $(git log -1 --format=%B main) in *Homelab-Reverts*) kill -KILL $(cat "+pid+");; esac\n")
	ci := w.court(c)
	if code, out := w.asChild(childSpec{Dir: c.Dir, PIDFile: pid, Options: Options{RevertOnRed: true}, Court: ci}); code != -1 {
		t.Fatalf("exit %d: %s", code, out)
	}
	tip := w.tip()
	a, err := (&Desk{Deps: w.deps(c.Dir), Dir: c.Dir}).Abort(t.Context(), "")
	if err != nil || !a.Found || a.Landed != git.Commit(c.Git("rev-parse", "HEAD")) || !strings.Contains(strings.Join(a.Did, "; "), "was reverted by "+tip.Short()) || w.tip() != tip {
		t.Fatalf("%+v, %v", a, err)
	}
	r, s := w.land(c, Options{}, ci.use)
	w.reverted(r, s, git.Commit(w.first))
}

// New commits go on from a revert that was left in doubt.
func TestRevertInDoubtAndNewWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	pid := filepath.Join(t.TempDir(), "pid")
	hook(t, w.origin, "post-receive", "case $(git log -1 --format=%B main) in *Homelab-Reverts*) kill -KILL $(cat "+pid+");; esac\n")
	ci := w.court(c)
	if code, out := w.asChild(childSpec{Dir: c.Dir, PIDFile: pid, Options: Options{RevertOnRed: true}, Court: ci}); code != -1 {
		t.Fatalf("exit %d: %s", code, out)
	}
	v := w.tip()
	c.Write("fix", "x")
	c.Commit("fix it")
	hook(t, w.origin, "post-receive", "exit 0\n")
	r, s := w.land(c, Options{}, with(&fakeCI{base: green()}))
	wants(t, r, s, fault.OK, Landed)
	if got := trailers(w.message(r.Landed), trailerRestores); !w.has("fan") || !w.has("fix") || !slices.Equal(got, []git.Commit{v}) {
		t.Errorf("it restores %v\n%s", got, s)
	}
	if left, err := Unfinished(filepath.Join(c.Dir, ".git"), ""); err != nil || len(left) > 0 {
		t.Errorf("%+v, %v", left, err)
	}
}

// CI's word about the revert itself: the end stays red, and the next run goes
// on until it is known to be good.
func TestRevertWatched(t *testing.T) {
	t.Parallel()
	for v, next := range map[pipeline.Verdict]string{
		pipeline.Failure: "homelab ci logs --failed ", pipeline.Timeout: "homelab ci watch ", pipeline.Blocked: "homelab ci approve --number 50",
		pipeline.Absent: "homelab ci logs --failed ",
	} {
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		ci := w.court(c)
		ci.verdicts = map[string]pipeline.Verdict{"Revert fan: add fan": v}
		for range 2 {
			r, s := w.land(c, Options{RevertOnRed: true}, ci.use)
			if v == pipeline.Absent && r.Good == Nothing {
				break // confirmed that none comes: known
			}
			w.reverted(r, s, git.Commit(w.first))
			if !strings.HasPrefix(r.Next, next) || ci.restarts() != 1 || !strings.Contains(r.Revert.Reason, "; CI") {
				t.Errorf("%s: next %s, %+v", v, r.Next, r.Revert)
			}
		}
		ci.verdicts = nil
		if v == pipeline.Absent {
			continue
		}
		r, s := w.land(c, Options{}, ci.use)
		w.reverted(r, s, git.Commit(w.first))
		if left, err := Unfinished(filepath.Join(c.Dir, ".git"), ""); err != nil || len(left) > 0 {
			t.Errorf("%+v, %v", left, err)
		}
	}
}

// Time is up before the revert: the landing is known to be red, and that is
// its end; the next run reverts.
func TestRevertTimeUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	ci := w.court(c)
	ctx, cancel := context.WithCancelCause(t.Context())
	ci.during = func() { cancel(fault.ErrTimeUp) }
	r, s := w.landIn(ctx, c, Options{RevertOnRed: true}, ci.use)
	wants(t, r, s, fault.LandedRed, "")
	if r.Revert == nil || r.Revert.Done || r.Revert.Reason != "not reverted: time is up" || r.Next != "homelab work land" {
		t.Errorf("%+v, next %s", r.Revert, r.Next)
	}
	r, s = w.land(c, Options{RevertOnRed: true}, ci.use)
	w.reverted(r, s, git.Commit(w.first))
	if ci.restarts() != 1 {
		t.Errorf("%d restarts", ci.restarts())
	}
}
