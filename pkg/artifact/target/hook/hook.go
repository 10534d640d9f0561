// Package hook is the target that is a program of the person's own: it is
// asked what runs, and told to make something run.
//
// The program gets its orders in its environment (HOMELAB_ACTION and others,
// see package program), never in a command line, and answers with its exit
// status and, for observe, one line on its standard output:
//
//	action               exit 0         75                      other
//	observe              its answer     unknown                 unknown
//	activate, rollback   done           nothing changed, later  failed
//	ready                ready          not yet                 failed
//
// HOMELAB_ARTIFACT_* is always what is to run and HOMELAB_PREVIOUS_* what it
// replaces, in a rollback as well; so a hook that does not tell the two actions
// apart does the right thing.
//
// What a hook says of its success is not believed: the watch observes
// afterwards. What it leaves running when it succeeds may stay; what a failed
// or killed one leaves is ended with it.
package hook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/program"
)

// The actions.
const (
	observe       = "observe"
	activate      = "activate"
	ready         = "ready"
	rollback      = "rollback"
	afterRollback = "after-rollback"
)

// later is the exit status of "not now, nothing was changed" (EX_TEMPFAIL).
const later = 75

// askLimit bounds a question whose caller set no limit.
const askLimit = 30 * time.Second

// afterLimit bounds what follows a rollback likewise.
const afterLimit = 2 * time.Minute

// errLimit is the cause of a context that one of the limits above ended.
var errLimit = errors.New("its time was up")

// Deps is what a hook needs.
type Deps struct {
	// Env is the environment to take from, KEY=VALUE. A hook gets PATH, HOME,
	// LANG and what --env names.
	Env   []string
	Dir   string // where hooks run; absolute; made if it is not there, and kept
	Watch string // the watch's name
	Run   string // of this process
	// Tell gets each line of output, cleaned, one at a time; nil: nobody.
	Tell func(line string)
	// Redact is applied to each line first; nil: nothing.
	Redact func(string) string
	// Grace is between TERM and KILL; 0: 10 s.
	Grace time.Duration
}

// Target is a hook.
type Target struct {
	s    Spec
	d    Deps
	said []string
}

var _ artifact.Target = (*Target)(nil)

// New refuses, with a *fault.Error of kind Usage, what cannot be run. It starts
// nothing.
func New(s Spec, d Deps) (*Target, error) {
	if err := program.Check("--to exec:", s.Path); err != nil {
		return nil, err
	}
	return &Target{s: s, d: d}, nil
}

// run runs path for one action.
func run(ctx context.Context, path string, s Spec, d Deps, v program.Variables, question bool) program.End {
	if v.Deadline.IsZero() {
		v.Deadline, _ = ctx.Deadline()
	}
	p := program.Program{
		Path: path, Args: s.Args, Env: v.Environ(d.Env, s.Env...), Dir: d.Dir,
		Answer: v.Action == observe, Sweep: question, Grace: d.Grace, Tell: d.Tell, Redact: d.Redact,
	}
	if !question {
		p.Mark = d.mark()
	}
	// What a killed watch left changing things is ended before anything is asked
	// or changed.
	if was, err := program.Leftover(ctx, d.mark(), d.Grace); err != nil {
		return program.End{How: program.NotStarted, Err: err}
	} else if was && d.Tell != nil {
		d.Tell("a hook of an earlier process still ran; it was ended")
	}
	return program.Run(ctx, p)
}

// mark is the file that names the hook that is changing something.
func (d Deps) mark() string { return d.Dir + ".pid" }

// stopped is ctx's cause if ctx was cancelled, which is nobody's fault, and nil
// if it ran out of time or lives.
func stopped(ctx context.Context) error {
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return context.Cause(ctx)
}

// ask runs a question, whose time is limited whoever asks.
func (t *Target) ask(ctx context.Context, v program.Variables) program.End {
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, errLimit)
	defer cancel()
	return run(ctx, t.s.Path, t.s, t.d, v, true)
}

// Observe asks the hook what runs. Whatever it answers but one line
// "sha256:HEX" or "none" is Unknown: it never guesses.
func (t *Target) Observe(ctx context.Context, _ []artifact.ID) (artifact.Observation, error) {
	end := t.ask(ctx, program.Variables{Action: observe, Watch: t.d.Watch, Run: t.d.Run})
	if err := stopped(ctx); err != nil {
		return artifact.Observation{}, err
	}
	unknown := func(format string, args ...any) (artifact.Observation, error) {
		return artifact.Observation{Sight: artifact.Unknown, Why: "observe: " + fmt.Sprintf(format, args...)}, nil
	}
	if !end.OK() {
		return unknown("%s", end)
	}
	if end.Long {
		return unknown("it wrote more than one line")
	}
	line := strings.TrimSuffix(string(end.Answer), "\n")
	if line == "none" {
		return artifact.Observation{Sight: artifact.Nothing}, nil
	}
	id, err := artifact.ParseID(line)
	if err != nil || string(id) != line || !strings.HasPrefix(line, "sha256:") {
		return unknown("it wrote %.100q; want one line: sha256: and 64 hex digits in lower case, or none", line)
	}
	return artifact.Observation{Sight: artifact.Runs, ID: id}, nil
}

// Stage finds out whether the hook can be run, and whether what runs could be
// named to it again. Whether files are in the store, and whole, is for whoever
// has the store.
func (t *Target) Stage(_ context.Context, s artifact.Switch) (artifact.Stage, error) {
	var st artifact.Stage
	if why := program.Broken(t.s.Path); why != "" {
		return st, hold(artifact.Preflight, "hook "+t.s.Path+": "+why)
	}
	if s.From == nil || s.NoRollback || s.From.Kind != artifact.Image {
		return st, nil
	}
	ref := program.Reference(s.From.Candidate, &s.To)
	if ref == "" {
		return st, hold(artifact.NoWayBack, "of what runs, "+s.From.ID.Short()+", no repository is known: there would be no way back")
	}
	if s.From.Ref == "" {
		st.Warnings = append(st.Warnings, "the way back is taken to be "+ref)
	}
	return st, nil
}

func hold(why artifact.Why, what string) *artifact.Failure {
	return &artifact.Failure{Class: artifact.Hold, Why: why, What: what}
}

// Activate tells the hook to make s.To run.
func (t *Target) Activate(ctx context.Context, s artifact.Switch) error {
	return t.act(ctx, activate, s)
}

// Rollback tells it to make s.To, the version before, run again.
func (t *Target) Rollback(ctx context.Context, s artifact.Switch) error {
	return t.act(ctx, rollback, s)
}

func (t *Target) act(ctx context.Context, action string, s artifact.Switch) error {
	v := program.Of(s)
	v.Action = action
	inner := ctx
	if !s.Deadline.IsZero() {
		var cancel context.CancelFunc
		inner, cancel = context.WithDeadlineCause(ctx, s.Deadline, errLimit)
		defer cancel()
	}
	end := run(inner, t.s.Path, t.s, t.d, v, false)
	t.said = end.Said
	return verdict(ctx, action, end)
}

// verdict is what the end of a hook that was to change something means.
func verdict(ctx context.Context, action string, end program.End) error {
	switch {
	case end.OK():
		return nil
	case end.How == program.Exited && end.Code == later:
		return &artifact.Failure{Class: artifact.Later, What: action + ": " + end.String()}
	case end.How == program.NotStarted && ctx.Err() == nil:
		return &artifact.Failure{Class: artifact.Hold, Why: artifact.Preflight, What: action + ": " + end.String(), Err: end.Err}
	}
	if err := stopped(ctx); err != nil {
		return err
	}
	return &artifact.Failure{Class: artifact.Failed, What: action + ": " + end.String(), Err: end.Err}
}

// Ready asks the hook whether s.To is up, if it was said to know.
func (t *Target) Ready(ctx context.Context, s artifact.Switch) (artifact.Readiness, error) {
	if !t.s.Ready {
		return artifact.Readiness{State: artifact.IsReady}, nil
	}
	v := program.Of(s)
	v.Action, v.Deadline = ready, time.Time{}
	end := t.ask(ctx, v)
	if err := stopped(ctx); err != nil {
		return artifact.Readiness{}, err
	}
	r := artifact.Readiness{State: artifact.NotReady, Proof: true, Reason: "ready: " + end.String(), Evidence: end.Said}
	switch {
	case end.OK():
		return artifact.Readiness{State: artifact.IsReady, Proof: true}, nil
	case end.How == program.Exited && end.Code == later, end.How == program.Stopped:
		r.State = artifact.NotYet
	case end.How == program.NotStarted:
		r.State, r.Proof = artifact.NotAsked, false
	}
	return r, nil
}

// Evidence is the end of what the last Activate or Rollback printed, at most 16
// texts of at most 4 KiB.
func (t *Target) Evidence() []string { return t.said }

// After is the program that runs after a rollback that succeeded.
type After struct {
	path string
	d    Deps
}

// NewAfter is for --after-rollback. The error is a *fault.Error of kind Usage.
func NewAfter(path string, d Deps) (*After, error) {
	path, err := programPath("--after-rollback ", path)
	if err != nil {
		return nil, err
	}
	if err := program.Check("--after-rollback ", path); err != nil {
		return nil, err
	}
	return &After{path, d}, nil
}

// Run tells the program, with HOMELAB_ACTION=after-rollback, what runs again
// (s.To) and what failed (s.From). It changes no outcome; the error is for a
// note.
func (a *After) Run(ctx context.Context, s artifact.Switch) error {
	ctx, cancel := context.WithTimeoutCause(ctx, afterLimit, errLimit)
	defer cancel()
	v := program.Of(s)
	v.Action, v.Deadline = afterRollback, time.Time{}
	if v.Watch == "" {
		v.Watch = a.d.Watch
	}
	if v.Run == "" {
		v.Run = a.d.Run
	}
	if end := run(ctx, a.path, Spec{}, a.d, v, false); !end.OK() {
		return &artifact.Failure{Class: artifact.Failed, What: "after the rollback, " + a.path + ": " + end.String(), Err: end.Err}
	}
	return nil
}
