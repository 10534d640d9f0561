// Package chaos follows made-up commits through a simulated server while most
// answers are spoiled, and compares what a watch says with what really
// happened. One seed is one commit: its server, its pipeline's life, its faults.
//
// Run takes as long as the pipeline lives, by the time package's clock: inside
// a testing/synctest bubble that is nothing.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/woodsim"
	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

// Result is what became of one seed.
type Result struct {
	Seed     uint64
	Scenario string
	Version  string
	Verdict  pipeline.Verdict // "" for a write that was not watched
	Reason   string
	Requests int // that the client made
	Faults   int // that befell them
	Took     time.Duration
	Problem  string   // what is wrong with it; "" nothing
	Log      []string // what the watch told
}

func (r Result) String() string {
	s := fmt.Sprintf("seed %d: %s on %s: %s (%s) after %s, %d of %d answers spoiled", r.Seed, r.Scenario, r.Version, r.Verdict, r.Reason, r.Took, r.Faults, r.Requests)
	if r.Problem != "" {
		s += "\n  WRONG: " + r.Problem + "\n  " + strings.Join(r.Log, "\n  ")
	}
	return s
}

const longest = 2 * time.Hour // no life here takes as long

// world is one seed's server and client.
type world struct {
	r      *rand.Rand
	sim    *woodsim.Server
	repo   *woodsim.Repo
	lb     *faultlb.Balancer
	client *woodpecker.Client
	known  map[string]git.Answer // which commits contain the target
	others bool                  // the commit has rows of other events
	result *Result
}

var commit = woodsim.Commit{Message: "target"}

// scenario is a life with the verdicts that are right for it.
type scenario struct {
	name  string
	life  func(w *world)
	right func(w *world, out pipeline.Outcome) string // "" right, else what is wrong
}

// Run plays the life that seed stands for. It ends early when ctx ends.
func Run(ctx context.Context, seed uint64) Result {
	r := rand.New(rand.NewPCG(seed, 7))
	res := Result{Seed: seed, Version: pick(r, "3.0.1", "3.11.0", "3.13.0", "3.14.0", "3.17.0", "3.17.0", "dev")}
	w := &world{r: r, known: map[string]git.Answer{}, result: &res}
	w.sim = woodsim.New(woodsim.Options{Version: res.Version, Seed: seed, SubscribeDelay: pick(r, 0, 0, time.Second)})
	w.sim.AddUser(woodsim.User{Login: "ada", Token: "t-ada"})
	w.repo = w.sim.AddRepo(woodsim.RepoOptions{FullName: "ada/app", Visibility: pick(r, "public", "private")})
	w.repo.Allow("ada", woodsim.Perm{Pull: true, Push: true})
	w.sim.SetStreamFaults(woodsim.StreamFaults{Lose: pick(r, 0, 0, 3, -1), Reorder: pick(r, 0, 0, 2*time.Second)})
	kinds := append(faultlb.Transient(), faultlb.Delay, faultlb.BufferBody, faultlb.DropStream)
	if r.IntN(4) == 0 {
		kinds = append(kinds, faultlb.Hang)
	}
	w.lb = faultlb.Transport(w.sim.Client(), faultlb.Options{
		Seed: seed, Rate: 0.7 + 0.25*r.Float64(), Kinds: kinds, MaxConsecutive: 2,
		Version: pick(r, "", res.Version), DropAfter: pick(r, time.Second, 20*time.Second),
	})
	defer w.lb.Close()
	base, err := url.Parse("https://ci.example")
	if err != nil {
		panic(err) // a constant
	}
	w.client = woodpecker.New(woodpecker.Options{Base: base, Transport: w})

	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, longest, fault.ErrTimeUp)
	defer cancel()
	if r.IntN(4) == 0 {
		w.write(ctx)
	} else {
		w.watch(ctx)
	}
	stats := w.lb.Stats()
	res.Took, res.Requests, res.Faults = time.Since(start), stats.Requests, stats.Injected()
	if bad := w.sim.Unexpected(); len(bad) > 0 && res.Problem == "" {
		res.Problem = fmt.Sprintf("asked for %s %s", bad[0].Method, bad[0].Path)
	}
	return res
}

// RoundTrip attaches the token and passes the request to the balancer.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer t-ada")
	return w.lb.RoundTrip(r)
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// upTo returns a random duration.
func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.r.Int64N(int64(d)))
}

// after does f in the life of the server.
func (w *world) after(d time.Duration, f func()) { time.AfterFunc(d, f) }

func (w *world) wrong(format string, args ...any) {
	if w.result.Problem == "" {
		w.result.Problem = fmt.Sprintf(format, args...)
	}
}

// watch finds the repository and follows the commit.
func (w *world) watch(ctx context.Context) {
	s := pick(w.r, scenarios()...)
	w.result.Scenario = s.name
	at, err := pipeline.Locate(ctx, w.client, []pipeline.Candidate{{Origin: "--repo", Name: "ada/app"}}, false)
	if err != nil {
		w.wrong("the repository was not found: %v", err)
		return
	}
	w.traffic()
	s.life(w)
	out, err := w.await(ctx, pipeline.Target{Repo: at.Repo, Commit: woodsim.SHA("target"), Local: w})
	if err != nil {
		w.wrong("%v", err)
		return
	}
	if why := s.right(w, out); why != "" {
		w.wrong("%s", why)
	}
}

func (w *world) await(ctx context.Context, t pipeline.Target) (pipeline.Outcome, error) {
	start := time.Now()
	out, err := pipeline.Await(ctx, w.client, t, pipeline.Limits{Appear: 3 * time.Minute, LogLines: 30}, func(u pipeline.Update) {
		w.result.Log = append(w.result.Log, fmt.Sprintf("%8s %s", time.Since(start).Round(time.Millisecond), describe(u)))
	})
	w.result.Verdict, w.result.Reason = out.Verdict, out.Reason
	return out, err
}

// traffic is what else goes on: other commits, other events, a database in
// trouble, streams that break.
func (w *world) traffic() {
	for range w.r.IntN(30) {
		w.repo.Cron("old", woodsim.Commit{Message: "old"}, woodsim.Green(time.Second))
	}
	w.others = w.r.IntN(2) == 0 // whose rows speak for it while its push's is not there
	if w.others {
		w.repo.Tag("v1", commit, woodsim.Green(w.upTo(time.Minute)+time.Second))
	}
	for range w.r.IntN(4) {
		d := w.upTo(5 * time.Minute)
		if w.others {
			w.after(d, func() { w.repo.Cron("nightly", commit, woodsim.Green(time.Second)) })
		}
	}
	for range w.r.IntN(4) {
		t := woodsim.Trouble{Row: w.r.IntN(2) == 0, List: w.r.IntN(2) == 0, Repo: w.r.IntN(2) == 0, Step: w.r.IntN(2) == 0, Logs: w.r.IntN(2) == 0}
		t.Health = t.Repo // who cannot load a repository has no healthy database
		d, at := w.upTo(10*time.Second), w.upTo(5*time.Minute)
		w.after(20*time.Second+at, func() { w.sim.TroubleFor(d, t) })
	}
	for range w.r.IntN(3) {
		w.after(w.upTo(5*time.Minute), w.sim.DropStreams)
	}
	if w.r.IntN(4) == 0 {
		d, at := w.upTo(3*time.Minute), w.upTo(5*time.Minute)
		w.after(at, func() { w.sim.StallStreams(d) })
	}
}

// What the checkout knows. IsAncestor goes by what the life has said.
func (w *world) IsAncestor(_ context.Context, _, descendant git.Commit) (git.Answer, error) {
	if a, ok := w.known[string(descendant)]; ok {
		return a, nil
	}
	return git.No, nil
}

// Message is of a commit that nobody asked to skip.
func (w *world) Message(context.Context, git.Commit) (string, error) { return "target", nil }

// TreeFiles has a pipeline file.
func (w *world) TreeFiles(context.Context, git.Commit) ([]string, error) {
	return []string{".woodpecker.yml"}, nil
}

// OnRemote says that the commit is pushed.
func (w *world) OnRemote(context.Context, git.Commit) (bool, error) { return true, nil }

// plan is a life of random length and delays around the given workflows.
func (w *world) plan(flows ...woodsim.Workflow) woodsim.Plan {
	p := woodsim.Plan{
		Workflows: flows,
		Delay:     pick(w.r, 0, 0, w.upTo(20*time.Second)),
		Configure: pick(w.r, 0, time.Second, w.upTo(8*time.Second)),
		Queue:     pick(w.r, 0, time.Second, w.upTo(5*time.Minute)),
		Gap:       pick(w.r, 0, 0, w.upTo(5*time.Second)),
		Forge:     pick(w.r, 0, w.upTo(20*time.Second)),
	}
	if w.others {
		p.Delay = 0
	}
	return p
}

// flow is a workflow of a few steps; exit is the last but one's.
func (w *world) flow(name string, exit int) woodsim.Workflow {
	f := woodsim.Workflow{Name: name, Start: w.upTo(3 * time.Second), Gap: pick(w.r, 0, w.upTo(time.Second))}
	n := 2 + w.r.IntN(3)
	for i := range n {
		s := woodsim.Step{
			Name: fmt.Sprintf("step%d", i), Takes: w.upTo(3 * time.Minute),
			Log: woodsim.Log{Lines: []string{"one", "two", "three"}, Shuffled: w.r.IntN(2) == 0},
		}
		if i == n-2 {
			s.Exit = exit
		}
		f.Steps = append(f.Steps, s)
	}
	return f
}

func (w *world) green() woodsim.Plan {
	p := w.plan(w.flow("lint", 0), w.flow("test", 0))
	if w.r.IntN(3) == 0 {
		p.Workflows[0].Steps[0].Exit, p.Workflows[0].Steps[0].Ignore = 1, true
	}
	return p
}

func (w *world) red() woodsim.Plan { return w.plan(w.flow("lint", 0), w.flow("test", 3)) }

func (w *world) endless() woodsim.Plan {
	p := w.green()
	p.Workflows[1].Steps[0].Takes = 3 * time.Hour
	p.Delay = 0
	return p
}

// verdicts accepts any of these, about a row of the target or of a commit that
// contains it.
func verdicts(of ...pipeline.Verdict) func(*world, pipeline.Outcome) string {
	return func(w *world, out pipeline.Outcome) string {
		if !slices.Contains(of, out.Verdict) {
			return fmt.Sprintf("want one of %v", of)
		}
		return w.truth(out)
	}
}

// truth compares the outcome with what the server really had.
func (w *world) truth(out pipeline.Outcome) string {
	if out.Row == nil {
		return ""
	}
	t, ok := w.sim.Truth(w.repo.ID(), out.Row.ID)
	switch {
	case !ok:
		return fmt.Sprintf("there never was a row %d", out.Row.ID)
	case t.Commit != woodsim.SHA("target") && w.known[t.Commit] != git.Yes:
		return fmt.Sprintf("row %d is of %s, which does not contain the target", t.ID, t.Commit)
	case out.Verdict == pipeline.Success || out.Verdict == pipeline.Failure:
		if t.Event != "push" {
			return fmt.Sprintf("judged by a %s row", t.Event)
		}
	}
	red := ""
	for _, f := range t.Workflows {
		if f.State != "success" && f.State != "skipped" {
			red = f.Name + " is " + f.State
		}
	}
	switch {
	case out.Verdict == pipeline.Success && red != "":
		return "green, and " + red
	case out.Verdict == pipeline.Success && t.Status != "success" && t.Status != "running" && t.Status != "pending":
		return "green, and the pipeline is " + t.Status
	case out.Verdict == pipeline.Failure && red == "":
		return "red, and no workflow is"
	}
	for _, s := range out.Failed {
		all := strings.Join(s.LogTail, " ")
		if s.LogNote == "" && all != "one two three" && (s.Error != "Canceled" || !strings.HasPrefix("one two three", all)) {
			return fmt.Sprintf("the log of %s is %q", s.Address(), s.LogTail)
		}
	}
	return ""
}

func scenarios() []scenario {
	descendant := woodsim.Commit{Message: "descendant"}
	sha := woodsim.SHA("descendant")
	return []scenario{
		{"green", func(w *world) { w.repo.Push(commit, w.green()) }, verdicts(pipeline.Success)},
		{"red", func(w *world) { w.repo.Push(commit, w.red()) }, verdicts(pipeline.Failure)},
		{"blocked", func(w *world) {
			p := w.green()
			p.Blocked = true
			w.repo.Push(commit, p)
		}, verdicts(pipeline.Blocked)},
		{"declined", func(w *world) {
			p := w.green()
			p.Blocked, p.Delay, p.Configure = true, 0, 0
			w.repo.Push(commit, p).Decline("bob")
		}, verdicts(pipeline.Declined)},
		{"bad file", func(w *world) {
			p := w.plan()
			p.Errors = []woodsim.Notice{{Message: "bad yaml"}}
			w.repo.Push(commit, p)
		}, verdicts(pipeline.Errored)},
		{"filtered, its number reused", func(w *world) {
			d := w.upTo(30 * time.Second)
			w.repo.Push(commit, woodsim.Plan{Configure: d, Filtered: true})
			w.after(d, func() { w.repo.Push(woodsim.Commit{Message: "stranger"}, woodsim.Green(time.Second)) })
		}, func(w *world, out pipeline.Outcome) string {
			// A tag's or a cron's row may speak for the commit when the push
			// row was never seen; otherwise it is told as filtered out.
			if out.Row != nil {
				if t, ok := w.sim.Truth(w.repo.ID(), out.Row.ID); !ok || t.Commit != woodsim.SHA("target") || t.Event == "push" {
					return fmt.Sprintf("judged by row %d", out.Row.ID)
				}
				return ""
			}
			if out.Verdict != pipeline.Absent {
				return "want absent"
			}
			return ""
		}},
		{"cancelled", func(w *world) {
			x := w.repo.Push(commit, w.endless())
			w.after(20*time.Second+w.upTo(10*time.Minute), func() { x.Cancel("eve") })
		}, verdicts(pipeline.Canceled)},
		{"cancelled, and flipped", func(w *world) {
			p := w.endless()
			p.Flip, p.FlipAfter = pick(w.r, "success", "failure"), w.upTo(9*time.Second)
			p.KillDelay, p.Queue = p.FlipAfter, 0 // something has begun
			x := w.repo.Push(commit, p)
			w.after(20*time.Second+w.upTo(10*time.Minute), func() { x.Cancel("eve") })
		}, verdicts(pipeline.Canceled, pipeline.Failure)},
		{"superseded by a descendant", func(w *world) {
			w.known[sha] = git.Yes
			w.repo.Push(commit, w.endless())
			p := w.green()
			p.Delay, p.Configure = 0, 0
			w.after(20*time.Second+w.upTo(5*time.Minute), func() { w.repo.Push(descendant, p) })
		}, verdicts(pipeline.Success)},
		{"superseded by a red descendant", func(w *world) {
			w.known[sha] = git.Yes
			w.repo.Push(commit, w.endless())
			p := w.red()
			p.Delay, p.Configure = 0, 0
			w.after(20*time.Second+w.upTo(5*time.Minute), func() { w.repo.Push(descendant, p) })
		}, verdicts(pipeline.Failure)},
		{"superseded by a stranger", func(w *world) {
			w.known[sha] = pick(w.r, git.No, git.Unproven)
			w.repo.Push(commit, w.endless())
			p := w.green()
			p.Delay, p.Configure = 0, 0
			w.after(20*time.Second+w.upTo(5*time.Minute), func() { w.repo.Push(descendant, p) })
		}, verdicts(pipeline.Superseded)},
		{"covered by a descendant", func(w *world) {
			w.known[sha] = git.Yes
			p := w.green()
			p.Delay = 0
			w.repo.Push(descendant, p)
		}, func(w *world, out pipeline.Outcome) string {
			if out.Row != nil && out.Row.Commit == woodsim.SHA("target") {
				return "" // a tag's or a cron's own row
			}
			return verdicts(pipeline.Success)(w, out)
		}},
		{"red, restarted to green", func(w *world) {
			p := w.red()
			again := w.green()
			p.Rerun, p.Delay = &again, 0
			x := w.repo.Push(commit, p)
			w.after(20*time.Second+w.upTo(3*time.Minute), func() {
				if x.Truth().Ended {
					w.repo.Restart(x.Number(), nil)
				}
			})
		}, verdicts(pipeline.Success, pipeline.Failure)},
		{"never closed", func(w *world) {
			p := w.green()
			p.Stuck = true
			w.repo.Push(commit, p)
		}, verdicts(pipeline.Success)},
		{"success contradicted by a workflow", func(w *world) {
			p := w.red()
			p.Status = "success"
			w.repo.Push(commit, p)
		}, verdicts(pipeline.Failure)},
		{"deleted while it runs", func(w *world) {
			x := w.repo.Push(commit, w.endless())
			w.after(30*time.Second+w.upTo(3*time.Minute), func() {
				x.Delete()
				w.repo.Push(woodsim.Commit{Message: "stranger"}, woodsim.Green(time.Second))
			})
		}, verdicts(pipeline.Absent)},
		{"a status nobody knows", func(w *world) {
			x := w.repo.Push(commit, w.endless())
			w.after(30*time.Second, func() {
				x.Stop()
				x.SetWorkflow("lint", "success")
				x.SetWorkflow("test", "success")
				x.SetStatus("meditating")
			})
		}, verdicts(pipeline.Timeout)},
	}
}

// write does one write and checks that it happened once at most, and that it
// is known whether it did.
func (w *world) write(ctx context.Context) {
	at, err := pipeline.Locate(ctx, w.client, []pipeline.Candidate{{Origin: "--repo", Name: "ada/app"}}, true)
	if err != nil {
		w.wrong("the repository was not found: %v", err)
		return
	}
	id := at.Repo.ID
	kind := pick(w.r, "restart", "run", "cancel", "approve", "decline")
	w.result.Scenario = "write: " + kind
	var row woodpecker.Pipeline
	plan := w.plan(w.flow("test", 0))
	plan.Delay, plan.Configure = 0, 0
	begin := func(p woodsim.Plan) {
		x := w.repo.Push(commit, p)
		row = woodpecker.Pipeline{ID: x.ID(), Number: x.Number(), Status: woodpecker.Status(x.Status()), Commit: x.Commit()}
	}
	var got woodpecker.Pipeline
	switch kind {
	case "restart":
		plan.Rerun = &woodsim.Plan{Workflows: plan.Workflows}
		plan.Errors = []woodsim.Notice{{Message: "bad yaml"}} // ended at once
		begin(plan)
		got, err = pipeline.RestartRow(ctx, w.client, id, row)
	case "run":
		w.repo.SetHead("main", commit)
		w.repo.PlanNext(plan)
		got, err = pipeline.StartBranch(ctx, w.client, id, "main")
	case "cancel":
		begin(w.endless())
		time.Sleep(10 * time.Second)
		got, err = pipeline.CancelRow(ctx, w.client, id, row)
	case "approve":
		plan.Blocked = true
		begin(plan)
		got, err = pipeline.ApproveRow(ctx, w.client, id, row)
	case "decline":
		plan.Blocked = true
		begin(plan)
		got, err = pipeline.DeclineRow(ctx, w.client, id, row)
	}
	effects := len(w.sim.Writes())
	var unclear *pipeline.WriteError
	switch {
	case effects > 1:
		w.wrong("effective %d times", effects)
	case err == nil && effects != 1:
		w.wrong("told as done, and it was not")
	case err == nil && got.ID == 0:
		w.wrong("done, and no row came back")
	case err == nil, errors.As(err, &unclear) && unclear.Why == pipeline.Unclear,
		unclear != nil && unclear.Why == pipeline.NoBranch && effects == 0: // what two 500s look like
		w.result.Reason = fmt.Sprint(err)
	default:
		w.wrong("%v", err)
	}
	if err != nil || kind != "run" {
		return
	}
	if out, err := w.await(ctx, pipeline.Target{Repo: at.Repo, Number: got.Number, ID: got.ID}); err != nil || out.Verdict != pipeline.Success {
		w.wrong("the run that was started is %s: %s %v", out.Verdict, out.Reason, err)
	}
}

// describe words what a watch tells.
func describe(u pipeline.Update) string {
	switch u := u.(type) {
	case pipeline.Found:
		return fmt.Sprintf("found #%d (%d) %s %s", u.Row.Number, u.Row.ID, u.Row.Event, u.Row.Status)
	case pipeline.Changed:
		return fmt.Sprintf("changed #%d %s", u.Row.Number, u.Row.Status)
	case pipeline.Followed:
		return fmt.Sprintf("followed #%d to #%d: %s", u.From, u.To, u.Why)
	case pipeline.Note:
		return "note " + u.Text
	case pipeline.Detail:
		return "detail " + u.Text
	case pipeline.Tails:
		return fmt.Sprintf("%d tails", len(u.Steps))
	}
	return ""
}
