package landing

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

// fakeCI answers by ref: what it says of the base, and of a candidate.
type fakeCI struct {
	mu         sync.Mutex
	configured error
	ready      error
	base, gate pipeline.Outcome
	onGate     func(Wanted)
	asked      []Wanted
}

func (f *fakeCI) Configured(context.Context) error    { return f.configured }
func (f *fakeCI) Ready(context.Context, string) error { return f.ready }

func (f *fakeCI) Watch(_ context.Context, w Wanted, _ func(pipeline.Update)) (pipeline.Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, w)
	if strings.HasPrefix(w.Ref, "refs/heads/homelab/land/") {
		if f.onGate != nil {
			f.onGate(w)
		}
		return f.gate, nil
	}
	return f.base, nil
}

func (f *fakeCI) Look(context.Context, Wanted) (pipeline.Outcome, error) {
	return pipeline.Outcome{Verdict: pipeline.Absent}, nil
}

func with(ci CI) func(*Deps) { return func(d *Deps) { d.CI = ci } }

func green() pipeline.Outcome {
	return pipeline.Outcome{Verdict: pipeline.Success, Row: &woodpecker.Pipeline{Number: 7}}
}

func (w *world) branches() string {
	return strings.ReplaceAll(w.origin.Git("for-each-ref", "--format=%(refname:short)", "refs/heads"), "\n", " ")
}

// CI tests the very commit before the base moves.
func TestGateCI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	w.someone("other", "x")
	before := w.tip()
	ci := &fakeCI{base: green(), gate: green()}
	ci.onGate = func(x Wanted) {
		if w.tip() != before || w.origin.Git("rev-parse", x.Ref) != string(x.Commit) {
			t.Errorf("the base is %s while the gate runs", w.tip())
		}
	}
	r, s := w.land(c, Options{GateCI: true}, with(ci))
	wants(t, r, s, fault.OK, Landed)
	if len(ci.asked) != 2 || ci.asked[0].Commit != r.Landed || ci.asked[1].Commit != r.Landed || ci.asked[1].Ref != "refs/heads/main" {
		t.Errorf("%+v", ci.asked)
	}
	if w.branches() != "main" {
		t.Errorf("branches %s", w.branches())
	}
	w.sound()
}

func TestGateCIRefuses(t *testing.T) {
	t.Parallel()
	for v, want := range map[pipeline.Verdict]fault.Kind{
		pipeline.Failure: fault.Failed, pipeline.Errored: fault.Failed, pipeline.Canceled: fault.Replaced, pipeline.Blocked: fault.Held,
		pipeline.Absent: fault.Absent, pipeline.Unreachable: fault.Unreachable, pipeline.Timeout: fault.Timeout, pipeline.Denied: fault.Denied,
	} {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			w.unchanged(c, func() {
				r, s := w.land(c, Options{GateCI: true}, with(&fakeCI{base: green(), gate: pipeline.Outcome{Verdict: v, Confirmed: true}}))
				wants(t, r, s, want, "")
				if r.Landed != "" || r.Unknown || r.Attempts != 0 {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// A race lost after the gate: the next candidate is gated too.
func TestGateCIRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	ci := &fakeCI{base: green(), gate: green()}
	n := 0
	ci.onGate = func(Wanted) {
		if n++; n == 1 {
			w.someone("other", "x")
		}
	}
	r, s := w.land(c, Options{GateCI: true}, with(ci))
	wants(t, r, s, fault.OK, Landed)
	if n != 2 || ci.asked[1].Commit != r.Landed || ci.asked[0].Commit == r.Landed || w.branches() != "main" {
		t.Errorf("%d gates, branches %s, %+v", n, w.branches(), r)
	}
	w.sound()
}

// A gate that was killed leaves a branch; the next landing deletes it.
func TestGateCILeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	ctx, cancel := context.WithCancelCause(t.Context())
	ci := &fakeCI{base: green(), gate: pipeline.Outcome{Verdict: pipeline.Interrupted}}
	ci.onGate = func(Wanted) { cancel(&fault.Signal{}) }
	r, s := w.landIn(ctx, c, Options{GateCI: true}, with(ci))
	wants(t, r, s, fault.Interrupted, "")
	if w.branches() == "main" {
		t.Fatal("nothing was left: the test tests nothing")
	}
	r, s = w.land(c, Options{}, with(&fakeCI{base: green()}))
	wants(t, r, s, fault.OK, Landed)
	if w.branches() != "main" {
		t.Errorf("branches %s", w.branches())
	}
}

// What CI says after the landing, and what is left to resume.
func TestAfterLanding(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		o      pipeline.Outcome
		kind   fault.Kind
		resume bool
	}{
		{green(), fault.OK, false},
		{pipeline.Outcome{Verdict: pipeline.Failure}, fault.LandedRed, true},
		{pipeline.Outcome{Verdict: pipeline.Canceled}, fault.LandedRed, true},
		{pipeline.Outcome{Verdict: pipeline.Blocked}, fault.Held, true},
		{pipeline.Outcome{Verdict: pipeline.Absent}, fault.Absent, true},
		{pipeline.Outcome{Verdict: pipeline.Absent, Confirmed: true}, fault.OK, false},
		{pipeline.Outcome{Verdict: pipeline.Unreachable}, fault.Unreachable, true},
		{pipeline.Outcome{Verdict: pipeline.Timeout}, fault.Timeout, true},
		{pipeline.Outcome{Verdict: pipeline.Denied}, fault.Denied, true},
	} {
		t.Run(string(tc.o.Verdict), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			w.someone("other", "x")
			r, s := w.land(c, Options{}, with(&fakeCI{base: tc.o}))
			if r.Kind != tc.kind || r.Landed != w.tip() || r.CI == nil || r.Reason == "" {
				t.Fatalf("%+v\n%s", r, s)
			}
			landed := r.Landed
			// A re-run does not turn red into "nothing to do".
			ci := &fakeCI{base: tc.o}
			r, _ = w.land(c, Options{}, with(ci))
			switch {
			case tc.resume && (r.Kind != tc.kind || r.Landed != landed || r.Attempts != 1):
				t.Errorf("%+v", r)
			case !tc.resume && (r.Good != Nothing || len(ci.asked) > 0):
				t.Errorf("%+v", r)
			}
			// New commits are landed, whatever became of the old.
			c.Write("more", "x")
			c.Commit("more")
			r, s = w.land(c, Options{}, with(&fakeCI{base: green()}))
			wants(t, r, s, fault.OK, Landed)
			if left, err := Unfinished(c.Dir+"/.git", ""); err != nil || len(left) > 0 {
				t.Errorf("%+v, %v", left, err)
			}
			w.sound()
		})
	}
}

// While one run still watches, another of the same branch waits for its end
// instead of finding nothing to do; with new commits it lands those.
func TestTwoRunsOfOneBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	landed, red := make(chan struct{}), make(chan struct{})
	first := &blockingCI{fakeCI: fakeCI{base: pipeline.Outcome{Verdict: pipeline.Failure}}, began: landed, wait: red}
	one := make(chan Result)
	d := w.deps(c.Dir)
	d.CI = first
	go func() { one <- Land(t.Context(), d, Options{}) }()
	<-landed
	second, s := make(chan Result), &story{}
	d2 := w.deps(c.Dir)
	d2.CI, d2.Tell = &fakeCI{base: pipeline.Outcome{Verdict: pipeline.Failure}}, s.tell
	go func() { second <- Land(t.Context(), d2, Options{}) }()
	for !strings.Contains(s.String(), "waiting for landing") {
		select {
		case r := <-second:
			t.Fatalf("it did not wait: %+v", r)
		case <-time.After(10 * time.Millisecond):
		}
	}
	close(red)
	if r := <-one; r.Kind != fault.LandedRed {
		t.Errorf("%+v", r)
	}
	if r := <-second; r.Kind != fault.LandedRed || r.Landed != w.tip() || r.Attempts != 1 {
		t.Errorf("%+v", r)
	}
}

// blockingCI says when it is asked to watch, and waits with the answer.
type blockingCI struct {
	fakeCI
	began, wait chan struct{}
}

func (b *blockingCI) Watch(ctx context.Context, w Wanted, emit func(pipeline.Update)) (pipeline.Outcome, error) {
	close(b.began)
	<-b.wait
	return b.fakeCI.Watch(ctx, w, emit)
}

// What stands in the way of watching is known before the push.
func TestNotReady(t *testing.T) {
	t.Parallel()
	no := func(k fault.Kind) error { return fault.New(k, "no", "") }
	for _, tc := range []struct {
		name   string
		ci     *fakeCI
		o      Options
		kind   fault.Kind
		landed bool
	}{
		{"no server", &fakeCI{configured: no(fault.Usage)}, Options{}, fault.Usage, false},
		{"no server, not asked", &fakeCI{configured: no(fault.Usage)}, Options{NoWatch: true}, fault.OK, true},
		{"refused", &fakeCI{ready: no(fault.Denied)}, Options{}, fault.Denied, false},
		{"unreachable", &fakeCI{ready: no(fault.Unreachable), base: green()}, Options{}, fault.OK, true},
		{"unreachable and required", &fakeCI{ready: no(fault.Unreachable)}, Options{RequireCI: true}, fault.Unreachable, false},
		{"unreachable gate", &fakeCI{ready: no(fault.Unreachable)}, Options{GateCI: true}, fault.Unreachable, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			r, s := w.land(c, tc.o, with(tc.ci))
			if r.Kind != tc.kind || (r.Landed != "") != tc.landed || w.has("fan") != tc.landed {
				t.Errorf("%+v\n%s", r, s)
			}
		})
	}
}

// fakeDeploy says what the cluster says.
type fakeDeploy struct {
	d     Deployed
	asked []string
}

func (f *fakeDeploy) Ready(context.Context) error { return nil }
func (f *fakeDeploy) Wait(_ context.Context, targets []string, _ git.Commit) Deployed {
	f.asked = append(f.asked, targets...)
	return f.d
}

func TestWaitDeploy(t *testing.T) {
	t.Parallel()
	none := pipeline.Outcome{Verdict: pipeline.Absent, Confirmed: true}
	for _, tc := range []struct {
		name  string
		ci    pipeline.Outcome
		flag  []string
		says  fault.Kind
		kind  fault.Kind
		asked string
	}{
		{"rolled out", green(), []string{"home/web"}, fault.OK, fault.OK, "home/web"},
		{"the file's", green(), nil, fault.OK, fault.OK, "lab/file"},
		{"failed", green(), nil, fault.Failed, fault.LandedRed, "lab/file"},
		{"rolled back", green(), nil, fault.Replaced, fault.LandedRed, "lab/file"},
		{"paused", green(), nil, fault.Held, fault.Held, "lab/file"},
		{"no time", green(), nil, fault.Timeout, fault.Timeout, "lab/file"},
		{"red", pipeline.Outcome{Verdict: pipeline.Failure}, nil, fault.OK, fault.LandedRed, ""},
		{"no pipeline, so no image", none, nil, fault.OK, fault.OK, ""},
		{"asked for all the same", none, []string{"home/web"}, fault.OK, fault.Absent, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			seed := w.fresh()
			w.rules(seed, Rules{Verify: []Command{{Run: w.verify()}}, Deploy: []string{"lab/file"}})
			seed.Commit("deploys")
			seed.Git("push", "--quiet", "origin", "HEAD:main")
			w.note(seed.Git("rev-parse", "HEAD^{tree}"))
			c := w.clone("anna/fan", "fan")
			deploy := &fakeDeploy{d: Deployed{Kind: tc.says, Reason: "says the cluster"}}
			r, s := w.land(c, Options{Targets: tc.flag}, with(&fakeCI{base: tc.ci}), func(d *Deps) { d.Deploy = deploy })
			if r.Kind != tc.kind || r.Landed == "" || strings.Join(deploy.asked, " ") != tc.asked {
				t.Errorf("%+v, asked %v\n%s", r, deploy.asked, s)
			}
		})
	}
}

// rows is a server's list.
type rows struct {
	pipeline.Source
	rows []woodpecker.Pipeline
}

func (r rows) Pipelines(context.Context, woodpecker.RepoID, woodpecker.ListOptions) ([]woodpecker.Pipeline, error) {
	return append([]woodpecker.Pipeline(nil), r.rows...), nil
}

// Other refs' pipelines of the same commit prove nothing.
func TestOnRef(t *testing.T) {
	t.Parallel()
	in := []woodpecker.Pipeline{
		{ID: 1, Commit: "c", Event: woodpecker.Push, Ref: "refs/heads/main"},
		{ID: 2, Commit: "c", Event: woodpecker.Push, Ref: "refs/heads/anna/fan"},
		{ID: 3, Commit: "c", Event: woodpecker.Manual, Ref: "refs/heads/main"},
		{ID: 4, Commit: "d", Event: woodpecker.Push, Ref: "refs/heads/main"},
	}
	got, err := onRef{Source: rows{rows: in}, ref: "refs/heads/main"}.Pipelines(t.Context(), 1, woodpecker.ListOptions{})
	if err != nil || len(got) != 4 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, r := range got {
		counts := r.Event == woodpecker.Push && strings.Trim(r.Commit, "0") != ""
		if want := i == 0 || i == 3; counts != want || r.ID != in[i].ID {
			t.Errorf("row %d: %+v", r.ID, r)
		}
	}
}

// A protected base: the branch is published for a pull request, and the next
// run goes on once that is merged.
func TestPullRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	protect := func(r *gittest.Repo, on bool) {
		script := "exit 0\n"
		if on {
			script = "case $1 in refs/heads/main) echo 'Forgejo: Not allowed to push to protected branch main'; exit 1;; esac\n"
		}
		hook(t, r, "update", script)
	}
	protect(w.origin, true)
	forge := &fakeForge{pull: PullRequest{URL: "https://git.example.lan/a/b/pulls/7", Number: 7, State: "open"}, state: Merged{Open: true}}
	use := func(d *Deps) { d.Forge = forge }
	r, s := w.land(c, Options{}, use)
	wants(t, r, s, fault.Held, "")
	if r.Pull == nil || r.Pull.Number != 7 || w.origin.Git("rev-parse", "anna/fan") != string(r.Head) || r.Landed != "" || string(w.tip()) != w.first {
		t.Errorf("%+v", r)
	}
	// Not merged yet, and with another commit: its head follows.
	c.Write("more", "x")
	c.Commit("more")
	r, s = w.land(c, Options{}, use)
	wants(t, r, s, fault.Held, "")
	if w.origin.Git("rev-parse", "anna/fan") != string(r.Head) || forge.opened != 1 {
		t.Errorf("opened %d times: %+v", forge.opened, r)
	}
	// Merged, says the forge, and the base does not have it: never landed.
	forge.state = Merged{Merged: true, Commit: git.Commit(strings.Repeat("1", 40))}
	r, s = w.land(c, Options{}, use)
	wants(t, r, s, fault.Unreachable, "")
	// Merged.
	protect(w.origin, false)
	m := w.fresh()
	m.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "--quiet", "--no-ff", "-m", "Merge #7", "origin/anna/fan")
	m.Git("push", "--quiet", "origin", "HEAD:main")
	forge.state = Merged{Merged: true, Commit: w.tip()}
	r, s = w.land(c, Options{}, use)
	wants(t, r, s, fault.OK, Landed)
	if r.Landed != w.tip() || forge.opened != 1 {
		t.Errorf("%+v", r)
	}
}

type fakeForge struct {
	pull   PullRequest
	state  Merged
	opened int
}

func (f *fakeForge) Check(context.Context, string) (Access, error) {
	return Access{Kind: "forgejo", Token: true}, nil
}

func (f *fakeForge) Closed(context.Context, string) string { return "" }
func (f *fakeForge) Open(context.Context, Proposal) (PullRequest, error) {
	f.opened++
	return f.pull, nil
}

func (f *fakeForge) Look(context.Context, string, int64) (PullRequest, Merged, error) {
	return f.pull, f.state, nil
}

// What this clone pushed for a pull request it may replace, after an amend.
func TestReviewBranchAmended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	hook(t, w.origin, "update", "case $1 in refs/heads/main) echo 'GH006: Protected branch'; exit 1;; esac\n")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Held, "")
	c.Git("reset", "--quiet", "--soft", "HEAD~1")
	c.Write("fan", "better")
	head := c.Commit("a better fan")
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.Held, "")
	if got := w.origin.Git("rev-parse", "anna/fan"); got != head {
		t.Errorf("the branch is at %s, want %s", got, head)
	}
}

// A branch on the remote that somebody else pushed to is left alone.
func TestReviewBranchOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	hook(t, w.origin, "update", "case $1 in refs/heads/main) echo 'GH006: Protected branch'; exit 1;; esac\n")
	other := w.fresh()
	other.Write("x", "x")
	theirs := other.Commit("theirs")
	other.Git("push", "--quiet", "origin", "HEAD:refs/heads/anna/fan")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Conflict, "")
	if w.origin.Git("rev-parse", "anna/fan") != theirs {
		t.Error("someone else's branch was moved")
	}
}
