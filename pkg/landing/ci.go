package landing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// CI is asked about pipelines.
type CI interface {
	// Configured says whether there is a server to ask; nothing is dialled. The
	// error is a *fault.Error.
	Configured(ctx context.Context) error
	// Ready finds the server, the token and the repository that the remote's
	// URL names. The error is a *fault.Error. It may be asked again.
	Ready(ctx context.Context, remote string) error
	// Watch follows the pipeline of w to its end.
	Watch(ctx context.Context, w Wanted, emit func(pipeline.Update)) (pipeline.Outcome, error)
	// Look sees how a pipeline stands.
	Look(ctx context.Context, w Wanted) (pipeline.Outcome, error)
}

// Restarts starts pipelines anew, and lists what else ran on a branch.
type Restarts interface {
	// Restart starts row's pipeline anew and returns the new row. It is sent
	// once and then looked for; the error is worded for people.
	Restart(ctx context.Context, row woodpecker.Pipeline) (woodpecker.Pipeline, error)
	// Newer returns the pipelines of pushes to ref whose number is above
	// number, newest first. An incomplete list is an error.
	Newer(ctx context.Context, ref string, number int64) ([]woodpecker.Pipeline, error)
}

// Wanted is the one pipeline that counts: of exactly this commit, by a push to
// exactly this ref.
type Wanted struct {
	Commit    git.Commit
	Row       *woodpecker.Pipeline // exactly this one of them; nil: the one that speaks for Commit
	Ref       string               // full
	Local     pipeline.Local
	Workflows []string // that count; none means all
	Appear    time.Duration
}

// Contact is a CI server that can be asked about the repository.
type Contact struct {
	Source  pipeline.Source
	Control pipeline.Control // nil: nothing can be restarted
	Repo    woodpecker.Repo
	Renew   func(context.Context) (bool, error)
}

// Server is a CI of what connects to one; errors of its funcs are
// *fault.Error. It must not be copied.
type Server struct {
	Check    func(context.Context) error // of the configuration
	Connect  func(ctx context.Context, remote string) (Contact, error)
	LogLines int // of each failing step

	mu      sync.Mutex
	remote  string
	contact *Contact
}

var (
	_ CI       = (*Server)(nil)
	_ Restarts = (*Server)(nil)
)

// Configured asks Check.
func (s *Server) Configured(ctx context.Context) error { return s.Check(ctx) }

// Ready connects, once.
func (s *Server) Ready(ctx context.Context, remote string) error {
	s.mu.Lock()
	s.remote = remote
	s.mu.Unlock()
	_, err := s.reach(ctx)
	return err
}

func (s *Server) reach(ctx context.Context) (Contact, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.contact != nil {
		return *s.contact, nil
	}
	c, err := s.Connect(ctx, s.remote)
	if err != nil {
		return Contact{}, err
	}
	s.contact = &c
	return c, nil
}

// Watch follows a pipeline.
func (s *Server) Watch(ctx context.Context, w Wanted, emit func(pipeline.Update)) (pipeline.Outcome, error) {
	return s.await(ctx, w, false, emit)
}

// Look sees how one stands.
func (s *Server) Look(ctx context.Context, w Wanted) (pipeline.Outcome, error) {
	return s.await(ctx, w, true, func(pipeline.Update) {})
}

func (s *Server) await(ctx context.Context, w Wanted, once bool, emit func(pipeline.Update)) (pipeline.Outcome, error) {
	c, err := s.reach(ctx)
	if err != nil {
		return pipeline.Outcome{}, err
	}
	target := pipeline.Target{Repo: c.Repo, Commit: string(w.Commit), Event: woodpecker.Push, Local: w.Local}
	if w.Row != nil {
		target = pipeline.Target{Repo: c.Repo, Number: w.Row.Number, ID: w.Row.ID, Local: w.Local}
	}
	return pipeline.Await(ctx, onRef{Source: c.Source, ref: w.Ref}, target, pipeline.Limits{
		Appear: w.Appear, Once: once, Gate: pipeline.Gate{Only: w.Workflows}, LogLines: s.LogLines, Renew: c.Renew,
	}, emit)
}

var errNoControl = errors.New("the server's pipelines can only be read")

// Restart starts a pipeline anew, as ci rerun does.
func (s *Server) Restart(ctx context.Context, row woodpecker.Pipeline) (woodpecker.Pipeline, error) {
	c, err := s.reach(ctx)
	if err == nil && c.Control == nil {
		err = errNoControl
	}
	if err != nil {
		return woodpecker.Pipeline{}, err
	}
	return pipeline.RestartRow(ctx, c.Control, c.Repo.ID, row)
}

const (
	rowsPerPage = 50
	mostPages   = 20 // of the list that are read for what came after a landing
)

var errTooMany = errors.New("too many pipelines have run since")

// Newer reads the list down to number.
func (s *Server) Newer(ctx context.Context, ref string, number int64) ([]woodpecker.Pipeline, error) {
	c, err := s.reach(ctx)
	if err != nil {
		return nil, err
	}
	var out []woodpecker.Pipeline
	for page := 1; page <= mostPages; page++ {
		rows, err := c.Source.Pipelines(ctx, c.Repo.ID, woodpecker.ListOptions{Page: page, PerPage: rowsPerPage})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.Number <= number {
				return out, nil
			}
			if r.Ref == ref && r.Event == woodpecker.Push {
				out = append(out, r)
			}
		}
		if len(rows) < rowsPerPage {
			return out, nil
		}
	}
	return nil, errTooMany
}

// onRef hides what other refs' pipelines say: those of the same commit on a
// feature or staging branch prove nothing about the base, where other
// workflows may run.
type onRef struct {
	pipeline.Source
	ref string
}

const elsewhere woodpecker.Event = "elsewhere"

// Pipelines keeps every row in its place, as the pages of a list are counted,
// but those of other refs are made to belong to no commit.
func (o onRef) Pipelines(ctx context.Context, id woodpecker.RepoID, opts woodpecker.ListOptions) ([]woodpecker.Pipeline, error) {
	rows, err := o.Source.Pipelines(ctx, id, opts)
	for i := range rows {
		if rows[i].Ref != o.ref || rows[i].Event != woodpecker.Push {
			rows[i].Commit, rows[i].Event = strings.Repeat("0", 40), elsewhere
		}
	}
	return rows, err
}

// known is what the clone knows after a landing: that the commit is on the
// base, and, by fetching, what came after it.
type known struct {
	*git.Repo
	landed  git.Commit
	refresh func(context.Context) error
	mu      sync.Mutex
	last    time.Time
}

const refreshEvery = 10 * time.Second

// OnRemote knows of the landing also where no tracking ref followed.
func (k *known) OnRemote(ctx context.Context, c git.Commit) (bool, error) {
	if c == k.landed {
		return true, nil
	}
	return k.Repo.OnRemote(ctx, c)
}

// IsAncestor fetches the base when a commit is missing: a pipeline that took
// over is of somebody else's push.
func (k *known) IsAncestor(ctx context.Context, a, b git.Commit) (git.Answer, error) {
	answer, err := k.Repo.IsAncestor(ctx, a, b)
	if answer != git.Unproven || err != nil || strings.Trim(string(b), "0") == "" {
		return answer, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.last) < refreshEvery {
		return answer, nil
	}
	k.last = time.Now()
	if err := k.refresh(ctx); err != nil {
		return git.Unproven, nil // not known, as before
	}
	return k.Repo.IsAncestor(ctx, a, b)
}

func (l *lander) wanted(c git.Commit, ref string) Wanted {
	return Wanted{
		Commit: c, Ref: ref, Workflows: l.rules.Workflows, Appear: l.o.Appear,
		Local: &known{Repo: l.Repo, landed: c, refresh: func(ctx context.Context) error {
			return l.Repo.Fetch(ctx, l.endpoint, 0, "+"+l.baseName()+":"+l.baseRef())
		}},
	}
}

// watch says what CI, and then the deploy, make of the landing.
func (l *lander) watch(ctx context.Context) error {
	l.out.Good = Landed
	summary := fmt.Sprintf("%s on %s", l.out.Landed.Short(), l.out.Base)
	if l.out.Attempts > 1 {
		summary += fmt.Sprintf(" in %d attempts", l.out.Attempts)
	}
	l.out.Reason = summary
	l.out.Next = "homelab work clean " + ui.Command(l.topic())
	if rv := l.rec.Revert; rv != nil && (rv.Phase == OnBase || rv.Phase == Proposed) {
		return l.afterRevert(ctx)
	}
	deployable := true
	if !l.o.NoWatch && l.CI != nil {
		kind, ok, err := l.watchCI(ctx)
		if err != nil {
			return err
		}
		deployable = ok
		if kind == fault.LandedRed && l.o.RevertOnRed {
			return l.revertOnRed(ctx)
		}
		if kind != fault.OK {
			return nil
		}
		l.out.Reason = summary + "; " + ciWords(l.out.CI)
		if l.out.CI.Verdict != pipeline.Success {
			l.out.Reason = summary + "; no pipeline: " + l.out.CI.Reason
			l.warn("no pipeline: %s", l.out.CI.Reason)
		} else if l.out.CI.Row != nil && l.out.CI.Row.Commit != string(l.out.Landed) {
			l.out.Reason += ": " + l.out.CI.Reason
		}
	}
	err := l.deploy(ctx, deployable)
	if l.out.Kind == fault.LandedRed && l.o.RevertOnRed {
		l.leave("only a failed pipeline is reverted, and it is the deploy that failed")
	}
	return err
}

// watchCI follows the pipeline of the landing.
func (l *lander) watchCI(ctx context.Context) (kind fault.Kind, deployable bool, err error) {
	o, err := l.CI.Watch(ctx, l.wanted(l.out.Landed, l.baseName()), func(u pipeline.Update) { l.Tell(Watched{u}) })
	if err != nil {
		if ctx.Err() != nil {
			return "", false, context.Cause(ctx)
		}
		return "", false, err
	}
	l.out.CI = &o
	kind, deployable = endOfWatch(o, l.o.RequireCI)
	if o.Row != nil {
		l.rec.Pipeline = o.Row.Number
	}
	if kind == fault.OK {
		return kind, deployable, nil
	}
	l.out.Kind, l.out.Good = kind, ""
	l.out.Reason = fmt.Sprintf("%s is on %s; %s: %s", l.out.Landed.Short(), l.out.Base, ciWords(&o), o.Reason)
	if kind == fault.LandedRed && o.Row != nil && o.Row.Commit != string(l.out.Landed) {
		l.out.Reason += fmt.Sprintf(" (the pipeline is of %s, which contains it)", pipeline.Short(o.Row.Commit))
	}
	l.out.Next = l.nextAfter(o, kind)
	if kind == fault.LandedRed {
		l.wasRed(ctx)
	}
	return kind, deployable, nil
}

// nextAfter is the command that helps after a landing that is not green.
func (l *lander) nextAfter(o pipeline.Outcome, kind fault.Kind) string {
	c := string(l.out.Landed)
	switch kind {
	case fault.LandedRed:
		return "homelab ci logs --failed " + c
	case fault.Absent:
		return "homelab ci watch " + c
	case fault.Held:
		if o.Row != nil {
			return fmt.Sprintf("homelab ci approve --number %d", o.Row.Number)
		}
	case fault.Denied:
		return "homelab doctor"
	case fault.OK, fault.Failed, fault.Replaced, fault.Unreachable, fault.Timeout, fault.Conflict, fault.Unsafe,
		fault.Usage, fault.Bug, fault.Interrupted, fault.Terminated:
	}
	return "homelab work land"
}

// wasRed tells whether the base was red before: then this landing may not be
// what broke it.
func (l *lander) wasRed(ctx context.Context) {
	o, err := l.look(ctx, l.out.BaseBefore)
	if err != nil {
		return
	}
	l.before = &o
	switch end, _ := endOfWatch(o, true); end {
	case fault.LandedRed:
		l.out.Reason += fmt.Sprintf("; %s was red before (%s)", l.out.BaseBefore.Short(), ciWords(&o))
	case fault.OK:
		l.out.Reason += fmt.Sprintf("; %s was green before", l.out.BaseBefore.Short())
	case fault.Failed, fault.Absent, fault.Denied, fault.Held, fault.Replaced, fault.Unreachable, fault.Timeout, fault.Conflict,
		fault.Unsafe, fault.Usage, fault.Bug, fault.Interrupted, fault.Terminated:
	}
}

// look sees how a commit of the base stands, if the server tells soon.
func (l *lander) look(ctx context.Context, c git.Commit) (pipeline.Outcome, error) {
	soon, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("no time"))
	defer cancel()
	return l.CI.Look(soon, l.wanted(c, l.baseName()))
}

// deploy waits until the targets serve the landing.
func (l *lander) deploy(ctx context.Context, deployable bool) error {
	targets := l.targets()
	if len(targets) == 0 || l.Deploy == nil {
		return nil
	}
	if !deployable {
		if len(l.o.Targets) == 0 {
			l.warn("no pipeline, so no image: not waiting for %s", strings.Join(targets, ", "))
			return nil
		}
		l.out.Kind, l.out.Good = fault.Absent, ""
		l.out.Reason += fmt.Sprintf("; no pipeline, so no image for %s", strings.Join(targets, ", "))
		l.out.Next = "homelab ci watch " + string(l.out.Landed)
		return nil
	}
	l.say("deploy", "waiting for %s", strings.Join(targets, ", "))
	d := l.Deploy.Wait(ctx, targets, l.out.Landed)
	l.out.Deploy = &d
	if kind := endOfDeploy(d.Kind); kind != fault.OK {
		l.out.Kind, l.out.Good = kind, ""
		l.out.Reason += "; " + d.Reason
		l.out.Next = d.Next
		return nil
	}
	l.out.Reason += "; " + d.Reason
	return nil
}
