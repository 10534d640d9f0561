package lab

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/woodsim"
)

// ParseOptions reads what "lab start" takes: --version V --root /ci --private
// --inactive --approval --read-only --no-permission --admin --http1
// --name OWNER/NAME --config-file F --forge URL --clone URL --ssh URL
// --limit MINUTES --seed N.
func ParseOptions(args []string) (Options, error) {
	w := read(args, "private", "inactive", "approval", "read-only", "no-permission", "admin", "http1")
	o := Options{
		Version: w.one("version", ""), RootPath: w.one("root", ""), Admin: w.has("admin"), HTTP1: w.has("http1"),
		Repo: w.repoOptions(),
	}
	o.Seed = uint64(w.numberOf("seed"))
	o.Perm = w.perm()
	return o, w.done()
}

func (w *words) repoOptions() woodsim.RepoOptions {
	r := woodsim.RepoOptions{
		FullName: w.one("name", FullName), Inactive: w.has("inactive"), Approval: w.has("approval"),
		ConfigFile: w.one("config-file", ""), ForgeURL: w.one("forge", ""), CloneURL: w.one("clone", ""), CloneSSH: w.one("ssh", ""),
		Timeout: int64(w.numberOf("limit")),
	}
	if w.has("private") {
		r.Visibility = "private"
	}
	return r
}

func (w *words) perm() woodsim.Perm {
	switch {
	case w.has("no-permission"):
		return woodsim.Perm{Never: true}
	case w.has("read-only"):
		return woodsim.Perm{Pull: true}
	}
	return woodsim.Perm{Pull: true, Push: true}
}

// Do carries out one line. The returned number is that of the row it made, 0
// if it made none.
func (l *Lab) Do(args ...string) (int64, error) {
	if len(args) == 0 {
		return 0, errors.New("lab: what?")
	}
	verb, args := args[0], args[1:]
	var number int64
	var err error
	switch verb {
	case "push", "tag", "cron", "manual", "pr", "event":
		number, err = l.row(verb, read(args, planSwitches()...))
	case "next":
		w := read(args, planSwitches()...)
		p := w.plan()
		if err = w.done(); err == nil {
			l.Repo.PlanNext(p)
		}
	default:
		err = l.other(verb, read(args, append(planSwitches(), "precede", "private", "inactive", "approval", "read-only", "no-permission")...))
	}
	if err != nil {
		return 0, fmt.Errorf("lab %s: %w", verb, err)
	}
	return number, nil
}

func planSwitches() []string {
	return []string{"blocked", "filtered", "unstored", "rerun-broken", "stuck", "ended", "fork"}
}

// plan reads the flags that say how a row lives: --flow (see parseFlow),
// --scenario NAME (see woodsim.Scenario), --log STEP=TEXT, --step-error
// STEP=TEXT, --workflow-error WORKFLOW=TEXT, --workflow-status
// WORKFLOW=STATUS, --error and --warning TEXT,
// --fetch-error TEXT, --configure --delay --queue --gap --forge-delay DUR,
// --ends STATUS, --blocked --filtered --unstored --rerun-broken --stuck.
func (w *words) plan() woodsim.Plan {
	p := woodsim.Plan{
		Delay: w.durationOf("delay"), Configure: w.durationOf("configure"), Queue: w.durationOf("queue"),
		Gap: w.durationOf("gap"), Forge: w.durationOf("forge-delay"), KillDelay: w.durationOf("kill-delay"),
		Blocked: w.has("blocked"), Filtered: w.has("filtered"), Unstored: w.has("unstored"),
		RerunBroken: w.has("rerun-broken"), Stuck: w.has("stuck"), FetchError: w.one("fetch-error", ""), Status: w.one("ends", ""),
		Variables: map[string]string{"SECRET": Variable},
	}
	if name := w.one("scenario", ""); name != "" {
		s, ok := woodsim.Scenario(name)
		if !ok {
			w.fail(fmt.Errorf("no scenario %q; there are: %s", name, strings.Join(woodsim.ScenarioNames(), " ")))
		}
		s.Variables = p.Variables
		p = s
	}
	for _, m := range w.all("error") {
		p.Errors = append(p.Errors, woodsim.Notice{Message: m})
	}
	for _, m := range w.all("warning") {
		p.Errors = append(p.Errors, woodsim.Notice{Type: "linter", Message: m, Warning: true})
	}
	for _, f := range w.raw("flow") {
		flow, err := parseFlow(f)
		if err != nil {
			w.fail(err)
		}
		p.Workflows = append(p.Workflows, flow)
	}
	w.each("log", func(name, text string) bool {
		return steps(p, name, func(s *woodsim.Step) { s.Log.Lines = strings.Split(text, "\n") })
	})
	w.each("log-delay", func(name, text string) bool {
		d, err := time.ParseDuration(text)
		return err == nil && steps(p, name, func(s *woodsim.Step) { s.Log.Delay = d })
	})
	w.each("step-error", func(name, text string) bool {
		return steps(p, name, func(s *woodsim.Step) { s.Error = text })
	})
	flow := func(set func(*woodsim.Workflow, string)) func(name, text string) bool {
		return func(name, text string) bool {
			hit := false
			for i := range p.Workflows {
				if p.Workflows[i].Name == name {
					set(&p.Workflows[i], text)
					hit = true
				}
			}
			return hit
		}
	}
	w.each("workflow-error", flow(func(f *woodsim.Workflow, text string) { f.Error = text }))
	w.each("workflow-status", flow(func(f *woodsim.Workflow, text string) { f.Status = text }))
	if len(p.Workflows) == 0 && !p.Filtered && p.FetchError == "" && len(p.Errors) == 0 {
		p.Workflows = []woodsim.Workflow{{Name: "build", Steps: []woodsim.Step{
			{Name: "make", Takes: defaultStep, Log: woodsim.Log{Lines: []string{"+ make", "ok"}}},
		}}}
	}
	return p
}

// each takes a flag of the form NAME=TEXT.
func (w *words) each(flag string, set func(name, text string) bool) {
	for _, v := range w.all(flag) {
		name, text, ok := strings.Cut(v, "=")
		if !ok || !set(name, text) {
			w.fail(fmt.Errorf("--%s %q fits nothing", flag, v))
		}
	}
}

func steps(p woodsim.Plan, name string, set func(*woodsim.Step)) bool {
	hit := false
	for _, w := range p.Workflows {
		for i := range w.Steps {
			if w.Steps[i].Name == name {
				set(&w.Steps[i])
				hit = true
			}
		}
	}
	return hit
}

// row delivers an event: push, manual, tag NAME, cron NAME, pr NUMBER, event
// NAME, each with --commit SHA --branch B --message M --author A --repo R and
// the flags of plan. --status S stops it where it stands with that status,
// --ended lets its life pass.
func (l *Lab) row(event string, w *words) (int64, error) {
	name := ""
	switch event {
	case "tag", "cron", "pr", "event":
		name = w.need("a name")
	}
	c := woodsim.Commit{
		SHA: w.one("commit", ""), Branch: w.one("branch", ""), Message: w.one("message", ""),
		Author: w.one("author", ""), Source: w.one("source", ""), Fork: w.has("fork"),
	}
	full, status, ended := w.one("repo", ""), w.one("status", ""), w.has("ended")
	p := w.plan()
	repo := l.Repo
	if full != "" {
		l.mu.Lock()
		repo = l.repos[full]
		l.mu.Unlock()
		if repo == nil {
			w.fail(fmt.Errorf("no repository %s", full))
		}
	}
	if err := w.done(); err != nil {
		return 0, err
	}
	var made *woodsim.Pipeline
	switch event {
	case "push":
		made = repo.Push(c, p)
	case "manual":
		made = repo.Manual(c, p)
	case "tag":
		made = repo.Tag(name, c, p)
	case "cron":
		made = repo.Cron(name, c, p)
	case "event":
		made = repo.Event(name, c, p)
	case "pr":
		n, err := strconv.Atoi(name)
		if err != nil {
			return 0, err
		}
		made = repo.PR(n, c, p)
	}
	if status != "" {
		made.Stop()
		made.SetStatus(status)
	}
	if ended {
		if err := l.outlive(made); err != nil {
			return 0, err
		}
	}
	return made.Number(), nil
}

// outlive lets time pass until the row has ended, and a quarter of a minute
// more, after which nobody expects another line in a log.
func (l *Lab) outlive(p *woodsim.Pipeline) error {
	for range 200 {
		if t := p.Truth(); t.Ended || t.Deleted {
			l.Advance(15 * time.Second)
			return nil
		}
		l.Advance(time.Second)
	}
	return fmt.Errorf("the row is still %s after 200 s", p.Status())
}

// other carries out what makes no row.
func (l *Lab) other(verb string, w *words) error {
	row := func() *woodsim.Pipeline {
		n := w.number("a pipeline's number")
		p := l.Repo.Pipeline(n)
		if p == nil {
			w.fail(fmt.Errorf("there is no pipeline %d", n))
		}
		return p
	}
	var do func() error
	simple := func(f func()) { do = func() error { f(); return nil } } //nolint:unparam // most words cannot fail, some can
	switch verb {
	case "advance":
		d := w.duration("a duration")
		simple(func() { l.Advance(d) })
	case "head":
		branch, sha := w.need("a branch"), w.need("a commit")
		simple(func() { l.Repo.SetHead(branch, woodsim.Commit{SHA: sha}) })
	case "status":
		p, status := row(), w.need("a status")
		simple(func() { p.Stop(); p.SetStatus(status) })
	case "step":
		p, name, state := row(), w.need("a step"), w.need("a state")
		simple(func() { p.SetStep(name, state) })
	case "workflow":
		p, name, state := row(), w.need("a workflow"), w.need("a state")
		simple(func() { p.SetWorkflow(name, state) })
	case "ended":
		p := row()
		do = func() error { return l.outlive(p) }
	case "cancel":
		p, who := row(), cmp.Or(w.next(), "eve")
		simple(func() { p.Cancel(who) })
	case "cancel-step":
		p, step := row(), w.need("a step")
		simple(func() { p.CancelByStep(step) })
	case "supersede":
		p, by := row(), w.number("the successor")
		simple(func() { p.Supersede(by) })
	case "lose":
		p := row()
		simple(p.Lose)
	case "approve":
		p := row()
		simple(func() { p.Approve("eve") })
	case "decline":
		p := row()
		simple(func() { p.Decline("eve") })
	case "block":
		p := row()
		simple(p.Block)
	case "delete":
		p := row()
		simple(p.Delete)
	case "restart":
		n := w.number("a pipeline's number")
		var p *woodsim.Plan
		if len(w.flags) > 0 {
			other := w.plan()
			p = &other
		}
		simple(func() { l.Repo.Restart(n, p) })
	case "rename":
		name := w.need("a full name")
		simple(func() { l.Repo.Rename(name) })
	case "repo":
		o, p := w.repoOptions(), w.perm()
		simple(func() { l.addRepo(o, p) })
	case "permission":
		p := woodsim.Perm{Pull: slices.Contains(w.pos, "pull"), Push: slices.Contains(w.pos, "push")}
		w.pos = nil
		simple(func() { l.Repo.Allow(Login, p) })
	case "token":
		token := w.need("a token")
		simple(func() {
			l.mu.Lock()
			l.tokens = append(l.tokens, token)
			l.mu.Unlock()
			l.Sim.SetToken(Login, token)
		})
	case "queue":
		paused, workers := w.one("paused", "false") == "true", w.numberOf("workers")
		simple(func() { l.Sim.SetPaused(paused, workers) })
	case "streams":
		if what := w.need("drop"); what != "drop" {
			w.fail(fmt.Errorf("streams %s?", what))
		}
		simple(l.Sim.DropStreams)
	case "redirect":
		to := w.need("a location")
		simple(func() { l.redirect.Store(&to) })
	case "down":
		simple(l.Close)
	case "fault":
		do = l.fault(w)
	case "trouble":
		do = l.trouble(w)
	case "writes":
		want := w.pos
		w.pos = nil
		do = func() error { return l.writes(want) }
	case "requests":
		method, path, count := w.need("a method"), w.need("a path"), w.need("a count")
		do = func() error { return l.requests(method, path, count) }
	case "await":
		method, path, count := w.need("a method"), w.need("a path"), w.need("a count")
		do = func() error { return l.await(func() error { return l.requests(method, path, count) }) }
	case "faulted":
		do = func() error {
			return l.await(func() error {
				if l.LB.Stats().Injected() <= int(l.injected.Load()) {
					return errors.New("no request has met a fault")
				}
				return nil
			})
		}
	default:
		return errors.New("there is no such word")
	}
	if err := w.done(); err != nil {
		return err
	}
	return do()
}

// fault orders one; "faulted" waits until the first request has met what was
// ordered last. It reads "KIND [--next N | --during DUR | --rate PERCENT | --precede]
// [--method M] [--path PART]", or "clear".
func (l *Lab) fault(w *words) func() error {
	name := w.need("a fault")
	next, during, precede := w.numberOf("next"), w.durationOf("during"), w.has("precede")
	rate := w.numberOf("rate")
	method, path := w.one("method", ""), w.one("path", "")
	kind, known := faultlb.Parse(name)
	return func() error {
		l.injected.Store(int64(l.LB.Stats().Injected()))
		switch {
		case name == "clear":
			l.LB.Clear()
		case name == "any":
			l.LB.SetRate(float64(rate) / 100)
		case !known:
			return fmt.Errorf("no fault %q", name)
		case next > 0:
			l.LB.NextMatch(next, kind, faultlb.Match(method, path))
		case during > 0:
			l.LB.During(during, kind)
		case precede:
			l.LB.Precede(kind)
		default:
			return errors.New("how long?")
		}
		return nil
	}
}

// trouble reads "repo row step user list logs health [--next N | --during
// DUR]": the server's own database fails.
func (l *Lab) trouble(w *words) func() error {
	var t woodsim.Trouble
	for _, what := range w.pos {
		switch what {
		case "repo":
			t.Repo = true
		case "row":
			t.Row = true
		case "step":
			t.Step = true
		case "user":
			t.User = true
		case "list":
			t.List = true
		case "logs":
			t.Logs = true
		case "health":
			t.Health = true
		default:
			w.fail(fmt.Errorf("trouble with %s?", what))
		}
	}
	w.pos = nil
	next, during := w.numberOf("next"), w.durationOf("during")
	return func() error {
		if next > 0 {
			l.Sim.TroubleNext(next, t)
		} else {
			l.Sim.TroubleFor(during, t)
		}
		return nil
	}
}

// writes compares what took effect with "restart:1", "run:0", ...
func (l *Lab) writes(want []string) error {
	got := []string{}
	for _, x := range l.Sim.Writes() {
		got = append(got, fmt.Sprintf("%s:%d", x.Kind, x.Number))
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("what took effect is %q, not %q", got, want)
	}
	return nil
}

// requests compares a count: "3", "0", ">=2" or "<=4". Method * is any.
func (l *Lab) requests(method, path, want string) error {
	if method == "*" {
		method = ""
	}
	n := l.Sim.Count(method, path)
	var ok bool
	switch {
	case strings.HasPrefix(want, ">="):
		m, err := strconv.Atoi(want[2:])
		ok = err == nil && n >= m
	case strings.HasPrefix(want, "<="):
		m, err := strconv.Atoi(want[2:])
		ok = err == nil && n <= m
	default:
		ok = want == strconv.Itoa(n)
	}
	if !ok {
		return fmt.Errorf("%d requests %s %s, not %s: %s", n, method, path, want, l.summary())
	}
	return nil
}

// await waits until ok holds, ten seconds at most.
func (l *Lab) await(ok func() error) error {
	var err error
	for range 1000 {
		if err = ok(); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// summary counts what arrived.
func (l *Lab) summary() string {
	counts := map[string]int{}
	for _, r := range l.Sim.Requests() {
		counts[fmt.Sprintf("%s %s %d", r.Method, r.Path, r.Status)]++
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%dx %s", counts[k], k))
	}
	return strings.Join(out, ", ")
}
