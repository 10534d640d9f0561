package landing

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
)

// Options is what one landing was asked for.
type Options struct {
	Base      string // "" not named
	Remote    string
	VerifyCmd string
	NoVerify  bool
	NoWatch   bool // do not wait for CI after landing
	RequireCI bool // a commit that gets no pipeline is not enough
	GateCI    bool // CI tests the candidate before the base moves
	Targets   []string
	Appear    time.Duration // how long a pipeline may take to appear
	DryRun    bool

	// RevertOnRed takes the landing off the base again when its pipeline fails,
	// as far as that is proven to help. It needs CI and Restarts.
	RevertOnRed bool
}

// Rules is what the base's own configuration file says.
type Rules struct {
	Base      string
	Remote    string
	Verify    []Command
	GateCI    bool
	Deploy    []string
	Workflows []string // those that count; none means all
}

// Command is one verification command.
type Command struct {
	Run     string        `json:"run"`
	Dir     string        `json:"dir,omitempty"` // below the root, slash-separated
	Paths   []string      `json:"paths,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Deploy waits until targets serve a commit.
type Deploy interface {
	// Ready says whether there is a cluster to ask; the error is a *fault.Error.
	Ready(ctx context.Context) error
	Wait(ctx context.Context, targets []string, c git.Commit) Deployed
}

// Deployed is what waiting for a deploy came to.
type Deployed struct {
	Kind   fault.Kind
	Reason string
	Next   string
	View   any // what results show of it
}

// Deps is what a landing needs of the world.
type Deps struct {
	Repo  *git.Repo
	Env   []string // of the verification command: the user's without tokens
	Cache string   // directory for the tool's caches; absolute
	// Rules reads the configuration file of a base.
	Rules func(name string, data []byte) (Rules, error)
	File  string // its name
	CI    CI     // nil: results of CI are never waited for
	// Restarts starts pipelines anew; nil: nothing is reverted.
	Restarts Restarts
	Deploy   Deploy // nil: deploys are never waited for
	Forge    Forge  // nil: pull requests are opened by hand
	Tell     func(Update)
	// Wrote is told after each write of the journal; may be nil.
	Wrote func(Phase)
	// Patience is how long a remote that cannot be reached is asked again; 0
	// means a minute.
	Patience time.Duration
	// Jitter returns a wait between 0 and d; nil: a random one.
	Jitter func(d time.Duration) time.Duration
}

// PullRequest is one on a forge.
type PullRequest struct {
	URL    string `json:"url"`
	Number int64  `json:"number"`
	State  string `json:"state"`
}

// Verification is what became of the verification command.
type Verification struct {
	Command string
	Status  VerifyStatus
	Elapsed time.Duration
}

// VerifyStatus is how a verification ended.
type VerifyStatus string

// Every status.
const (
	VerifyPassed     VerifyStatus = "passed"
	VerifyRemembered VerifyStatus = "remembered"
	VerifyFailed     VerifyStatus = "failed"
	VerifyTimeout    VerifyStatus = "timeout"
	VerifySkipped    VerifyStatus = "skipped"
)

// Good is a way to end well.
type Good string

// The good ends; "" for all others.
const (
	Landed  Good = "landed"
	Nothing Good = "nothing"
	Ready   Good = "ready"
)

// Result is all that is known at the end.
type Result struct {
	Kind    fault.Kind
	Good    Good // for fault.OK
	Reason  string
	Next    string
	Trouble *fault.Error // the error behind Kind; nil when a verdict of CI or of the deploy is

	ID         string
	Branch     string
	Head       git.Commit
	Base       string
	Remote     string
	BaseBefore git.Commit
	BaseAfter  git.Commit
	Landed     git.Commit
	Unknown    bool // whether it landed is not known
	Attempts   int
	Verify     *Verification
	CI         *pipeline.Outcome
	Deploy     *Deployed
	BackupRef  string
	Pull       *PullRequest
	Plan       *Plan // of a dry run
	Revert     *Reverted
}

// Reverted is what became of taking a red landing off the base again.
type Reverted struct {
	Commit  git.Commit // what undoes it; "" when there is none
	Done    bool       // the base has it
	Unknown bool       // whether the base has it is not known
	Reason  string
}

// Plan is what a landing would do.
type Plan struct {
	Commits []git.Entry
	Parents []git.Commit // of the candidate
	Fast    bool         // the candidate is the head itself
	Verify  string
	Gate    string // "local" or "ci"
}

// Update is something worth telling while it happens.
type Update interface{ update() }

// Told is a line of the story.
type Told struct {
	Phase string // "land", "merge", "verify", "push", "ci", "revert", "deploy"
	Text  string
}

// Line is a line of the verification's output.
type Line struct{ Text string }

// Raced says that someone else's push won.
type Raced struct {
	Tip     git.Commit
	Attempt int // the next one
}

// Warned is something that does not stop a landing.
type Warned struct{ Text string }

// Arrived says that the base has the commit.
type Arrived struct{ Commit git.Commit }

// Watched is news of the pipeline.
type Watched struct{ Update pipeline.Update }

func (Told) update()    {}
func (Line) update()    {}
func (Raced) update()   {}
func (Warned) update()  {}
func (Arrived) update() {}
func (Watched) update() {}

// lander is the state of one landing.
type lander struct {
	Deps
	o    Options
	cfg  git.Config
	out  Result
	rec  Record
	book *journal // nil in a dry run

	lock     *lock
	endpoint git.Endpoint
	url      string // of the landing remote
	failing  string // what the server said to a push it did not judge, if the last one was
	task     task
	rules    Rules
	list     []git.Entry // base..head, newest first
	theirs   []git.Entry // head..base
	refs     []string    // scratch refs this run made
	plan     integration
	commands []Command
	detected bool
	reverted []git.Commit // commits of the base that undid this branch, newest first
	ciReady  *pending
	ciGiveUp context.CancelFunc
	gated    bool
	before   *pipeline.Outcome // of the commit that was landed on; nil: not looked at
	of       *lander           // the landing that this one reverts; nil: this is none
	over     bool              // it is reverted, and all about that is known
	doubtful []git.Commit      // candidates of this head that an earlier run pushed; a slow server may still take one

	filters       *pending // whether the head's attributes name a filter that guard looks at
	filtersGiveUp context.CancelFunc
	headFiltered  bool // once filters has answered
}

// Land lands the branch that is checked out. It always returns a result.
func Land(ctx context.Context, d Deps, o Options) Result {
	l := &lander{Deps: d, o: o}
	if l.Tell == nil {
		l.Tell = func(Update) {}
	}
	if l.Jitter == nil {
		l.Jitter = func(d time.Duration) time.Duration { return rand.N(d + 1) } //nolint:gosec // it spreads waits, no secret
	}
	err := l.run(ctx)
	l.finish(ctx, err)
	return l.out
}

// run is the landing, step by step.
func (l *lander) run(ctx context.Context) error {
	if l.o.RevertOnRed && (l.o.NoWatch || l.CI == nil || l.Restarts == nil) {
		return stop(fault.Usage, "homelab work land", "only CI can say that a landing is to be reverted, and it is not watched")
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	if l.o.DryRun {
		return l.dryRun(ctx)
	}
	if done, err := l.resume(ctx); done || err != nil {
		return err
	}
	if err := l.sweep(ctx); err != nil {
		return err
	}
	if len(l.list) == 0 {
		// What was reverted comes back with new work on top, not by repeating the
		// command.
		l.out.Good, l.out.Reason = Nothing, fmt.Sprintf("%s is on %s already", l.out.Head.Short(), l.out.Base)
		if len(l.reverted) > 0 {
			l.out.Reason += ", and " + l.reverted[0].Short() + " undid it there; a new commit lands it again"
		}
		l.out.Next = "homelab work clean " + ui.Command(l.topic())
		return nil
	}
	if err := l.begin(ctx); err != nil {
		return err
	}
	return l.rounds(ctx)
}

// rounds integrates, verifies and publishes until the base has it.
func (l *lander) rounds(ctx context.Context) error {
	for {
		if err := l.integrate(ctx); err != nil {
			return err
		}
		if l.plan.nothing {
			l.out.Good, l.out.Reason = Nothing, "its content is on "+l.out.Base+" already"
			l.out.Next = "homelab work clean " + ui.Command(l.topic())
			return l.forget()
		}
		if err := l.guard(ctx); err != nil {
			return err
		}
		if l.ciReady.here() { // a refusal need not wait for the tests
			if err := l.ready(ctx); err != nil {
				return err
			}
		}
		if err := l.verify(ctx); err != nil {
			return err
		}
		if err := l.ready(ctx); err != nil {
			return err
		}
		if l.gated {
			if err := l.gate(ctx); err != nil {
				return err
			}
		}
		again, err := l.publish(ctx)
		if err != nil {
			return err
		}
		if again {
			if err := l.nextRound(ctx); err != nil {
				return err
			}
			if l.out.Landed == "" {
				continue
			}
		}
		return l.after(ctx)
	}
}

// after is what follows once the base has the commit.
func (l *lander) after(ctx context.Context) error {
	l.settle(ctx)
	if err := l.unstage(ctx); err != nil {
		return err
	}
	l.lock.release()
	return l.watch(ctx)
}

// stop makes the error that ends a landing.
func stop(kind fault.Kind, next, format string, args ...any) *fault.Error {
	return fault.New(kind, fmt.Sprintf(format, args...), next)
}

// finish turns what ended the run into the result, and tidies up.
func (l *lander) finish(ctx context.Context, err error) {
	if l.ciGiveUp != nil {
		l.ciGiveUp()
		_ = l.ciReady.answer() // nobody asks any more
	}
	if l.filtersGiveUp != nil {
		l.filtersGiveUp()
		_ = l.filters.answer() // no process outlives this
	}
	if ctx.Err() == nil && l.book != nil && len(l.rec.Stagings) > 0 {
		end, cancel := context.WithTimeoutCause(ctx, 30*time.Second, git.ErrDeadline)
		defer cancel()
		if err := l.unstage(end); err != nil {
			l.warn("%v", err)
		}
	}
	quick, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 700*time.Millisecond, errors.New("tidying up took too long"))
	defer cancel()
	switch {
	case err == nil && l.out.Kind == "":
		l.out.Kind = fault.OK
	case err != nil:
		l.out.Trouble = l.explain(ctx, err)
		l.out.Kind, l.out.Reason, l.out.Next, l.out.Good = l.out.Trouble.Kind, l.out.Trouble.Error(), l.out.Trouble.Next, ""
	}
	switch {
	case l.book != nil:
		l.tidy(quick)
	case l.out.ID != "":
		l.forgetRefs(quick, l.out.ID)
	}
	l.lock.release()
	if l.out.Landed != "" && l.out.BaseAfter == "" {
		l.out.BaseAfter = l.out.Landed
	}
}

// explain gives err a kind. Git's own trouble is a bug of ours until known
// better.
func (l *lander) explain(ctx context.Context, err error) *fault.Error {
	again := "homelab work land"
	var contact *git.ContactError
	var said *fault.Error
	switch {
	case ctx.Err() != nil:
		kind := fault.KindOf(context.Cause(ctx))
		switch kind {
		case fault.Interrupted, fault.Terminated:
			return stop(kind, again, "interrupted; %s", l.standing()).From(err)
		case fault.Timeout:
			if errors.As(err, &said) && said.Kind == fault.Timeout {
				return said
			}
			return stop(kind, again, "time is up; %s", l.standing()).Because(lastContact(err)).From(err)
		case fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Held, fault.Replaced, fault.Unreachable, fault.Conflict,
			fault.LandedRed, fault.Unsafe, fault.Usage, fault.Bug:
		}
		return stop(fault.Interrupted, again, "given up; %s", l.standing()).From(err)
	case errors.As(err, &said):
		return said
	case errors.Is(err, git.ErrSign):
		return stop(fault.Usage, "git config --get-regexp ^(commit|gpg|user)\\.", "commit.gpgSign asks for signed commits, and the candidate could not be signed; %s", l.standing()).Because(err.Error()).From(err)
	case errors.Is(err, git.ErrHook):
		return stop(fault.Failed, again, "the reference-transaction hook of this clone refuses; %s", l.standing()).Because(err.Error()).From(err)
	case errors.As(err, &contact) && contact.Contact == git.Refused:
		return stop(fault.Denied, "homelab doctor", "%s refuses access, asked three times", l.remoteName()).Because(contact.Text).From(err)
	case errors.As(err, &contact):
		return stop(fault.Unreachable, again, "%s could not be reached", l.remoteName()).Because(contact.Text).From(err)
	}
	if kind, why := machineTrouble(err); kind != "" {
		return stop(kind, again, "this machine is in the way; %s", l.standing()).Because(why).From(err)
	}
	return stop(fault.Bug, "", "%s", l.standing()).Because(err.Error()).From(err)
}

// machineTrouble tells what is wrong with the machine itself when git or a file
// operation failed of that: no space is a person's to make, a file system that
// refuses is a refusal. Otherwise the kind is "".
func machineTrouble(err error) (fault.Kind, string) {
	text := err.Error()
	if failed, ok := errors.AsType[*git.CommandError](err); ok {
		text = failed.Stderr
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.Contains(line, "No space left on device"), strings.Contains(line, "Disk quota exceeded"),
			strings.Contains(line, "no space left on device"), strings.Contains(line, "disk quota exceeded"):
			return fault.Held, line
		case strings.Contains(line, "Read-only file system"), strings.Contains(line, "read-only file system"),
			strings.HasSuffix(line, "Permission denied"), strings.HasSuffix(line, "permission denied"):
			return fault.Denied, line
		}
	}
	return "", ""
}

// lastContact is why the remote did not answer until the time was up; "" when
// that was not it.
func lastContact(err error) string {
	if contact, ok := errors.AsType[*git.ContactError](err); ok {
		return contact.Text
	}
	return ""
}

// standing says what is known of the base, for ends in mid-way.
func (l *lander) standing() string {
	switch {
	case l.out.Landed != "" && l.out.Revert != nil && l.out.Revert.Reason != "":
		return fmt.Sprintf("%s is on %s; %s", l.out.Landed.Short(), l.out.Base, l.out.Revert.Reason)
	case l.out.Landed != "":
		return fmt.Sprintf("%s is on %s", l.out.Landed.Short(), l.out.Base)
	case l.out.Unknown:
		return "whether the push arrived is not known"
	}
	return "nothing was pushed"
}

func (l *lander) remoteName() string {
	if l.out.Remote == "" {
		return "the remote"
	}
	return l.out.Remote
}

func (l *lander) topic() string {
	if l.task.Topic != "" {
		return l.task.Topic
	}
	if i := strings.LastIndexByte(l.out.Branch, '/'); i >= 0 {
		return l.out.Branch[i+1:]
	}
	return l.out.Branch
}

func (l *lander) say(phase, format string, args ...any) {
	l.Tell(Told{Phase: phase, Text: fmt.Sprintf(format, args...)})
}

func (l *lander) warn(format string, args ...any) { l.Tell(Warned{Text: fmt.Sprintf(format, args...)}) }

// pending is a question that is asked while git works.
type pending struct {
	done chan struct{}
	err  error
}

func ask(f func() error) *pending {
	p := &pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = f()
	}()
	return p
}

// here says whether there is an answer already.
func (p *pending) here() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *pending) answer() error {
	if p == nil {
		return nil
	}
	<-p.done
	return p.err
}
