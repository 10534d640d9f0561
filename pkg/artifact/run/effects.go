package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/artifact/share"
	"homelab/pkg/artifact/store"
	"homelab/pkg/fault"
)

// How long an effect may take. Sources and targets have limits of their own
// for single requests; these are for what has none.
const (
	lookLimit    = 3 * time.Minute
	observeLimit = time.Minute
	fetchLimit   = time.Hour
	verifyLimit  = 10 * time.Minute
	stageLimit   = 5 * time.Minute
	probeLimit   = 2 * time.Minute
	// A hook is told to end at its deadline and is killed a while later; both
	// are its target's business.
	hookSlack = 15 * time.Second
)

// errSlow is the cause of the context of an effect that took too long.
var errSlow = errors.New("it took too long")

// task is an effect that runs.
type task struct {
	do     artifact.Do
	cancel context.CancelFunc
}

// touches reports whether the target may be changing.
func (t *task) touches() bool { return t.do == artifact.DoActivate || t.do == artifact.DoRollback }

func (l *loop) sideEffect() bool {
	for _, t := range l.running {
		if t.touches() {
			return true
		}
	}
	return false
}

// works is what an effect works with, as it was when it began.
type works struct {
	o     Options
	store *store.Store
	dry   bool
	lost  artifact.ID
}

// start runs an effect beside the loop, after the one before it in its group
// has ended, and posts its end.
func (l *loop) start(e artifact.Effect) {
	look := e.Do == artifact.DoLook
	before, done, gen := l.lanes[look], make(chan struct{}), l.gen
	l.lanes[look] = done
	ctx, cancel := context.WithCancel(l.base)
	t := &task{e.Do, cancel}
	l.running[e.Op] = t
	w := works{l.o, l.store, l.mode == dry, l.lost}
	if e.Switch.Back {
		l.back = e.Switch
	}
	l.effects.Go(func() {
		defer close(done)
		defer cancel()
		if before != nil {
			<-before
		}
		in, lost, bug := w.result(ctx, e)
		l.box.post(func() { l.done(gen, e, in, lost, bug) })
	})
}

// done takes the end of an effect.
func (l *loop) done(gen int, e artifact.Effect, in artifact.Input, lost artifact.ID, bug error) {
	if bug != nil {
		l.err = bug
		return
	}
	if lost != "" {
		l.lost = lost
	}
	if gen != l.gen {
		return
	}
	delete(l.running, e.Op)
	if e.Do == artifact.DoObserve && !l.observed {
		if l.firstSight(in); l.err != nil {
			return
		}
	}
	l.feed(in)
	if l.observed {
		l.notify.ready()
	}
}

// firstSight looks at the first answer of the target.
func (l *loop) firstSight(in artifact.Input) {
	l.observed = true
	o := in.Observation
	if in.Err != nil || o.Sight == artifact.Nothing || o.Sight == artifact.Runs && o.ID != "" {
		return
	}
	why := "the target cannot tell what it runs"
	if o.Why != "" {
		why += ": " + o.Why
	}
	m := l.s.Memory
	switch {
	case l.o.NeedObserve && l.mode == daemon && !m.Known && m.Attempt == nil:
		l.err = fault.Usagef("", "watch %q has a target without a working observe", l.o.Config.Name).
			Because(why + "; a daemon needs to be told, a single run with --once goes on without")
	case l.o.Config.Blind:
		l.warn(why)
	}
}

// result performs an effect. A panic in a source or target is a bug of ours,
// which ends the watch in its own words and not with a status of Go's.
func (w works) result(ctx context.Context, e artifact.Effect) (in artifact.Input, lost artifact.ID, bug error) {
	defer func() {
		if p := recover(); p != nil {
			bug = fault.New(fault.Bug, fmt.Sprintf("watch %q: %s: %v", w.o.Config.Name, e.Do, p), "").Because(string(debug.Stack()))
		}
	}()
	in = artifact.Input{What: artifact.Result, Do: e.Do, Op: e.Op}
	if ctx.Err() != nil { // cancelled before it began
		in.Err = context.Cause(ctx)
		return in, "", nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.limit(e.Do), errSlow)
	defer cancel()
	switch e.Do {
	case artifact.DoLook:
		sat, sitting := share.Sit(ctx, e.Query.Since)
		in.Look, in.Err = w.o.Source.Look(sat, e.Query)
		in.Age, in.Dice = sitting.Told()
	case artifact.DoObserve:
		in.Observation, in.Err = w.o.Target.Observe(ctx, e.Known)
	case artifact.DoFetch:
		in.Err = w.fetch(ctx, e.Switch.To)
	case artifact.DoVerify:
		in.Proofs, in.Err = w.verify(ctx, e.Switch.To, e.Prove)
	case artifact.DoStage:
		in.Stage, lost, in.Err = w.stage(ctx, w.paths(e.Switch))
	case artifact.DoBaseline:
		if from := e.Switch.From; from != nil {
			in.Probes = w.o.Prober.Probe(ctx, from.Candidate, true)
		}
	case artifact.DoActivate:
		in.Evidence, in.Err = w.touch(ctx, e.Switch, w.o.Target.Activate)
	case artifact.DoRollback:
		in.Evidence, in.Err = w.touch(ctx, e.Switch, w.o.Target.Rollback)
	case artifact.DoProbe, artifact.DoCheck:
		in.Ready, in.Err = w.o.Target.Ready(ctx, w.paths(e.Switch))
		if in.Err == nil && in.Ready.State == artifact.IsReady {
			in.Probes = w.o.Prober.Probe(ctx, e.Switch.To, false)
		}
	case artifact.Write, artifact.Tell, artifact.Reply, artifact.Cancel, artifact.Discard, artifact.Prune,
		artifact.After, artifact.End:
	}
	return in, lost, nil
}

func (w works) limit(do artifact.Do) time.Duration {
	switch do {
	case artifact.DoLook:
		return lookLimit
	case artifact.DoObserve:
		return observeLimit
	case artifact.DoFetch:
		return fetchLimit
	case artifact.DoVerify:
		return verifyLimit
	case artifact.DoStage:
		return stageLimit
	case artifact.DoActivate, artifact.DoRollback:
		return w.o.Config.ActivateTimeout + hookSlack
	case artifact.DoBaseline, artifact.DoProbe, artifact.DoCheck, artifact.Write, artifact.Tell, artifact.Reply,
		artifact.Cancel, artifact.Discard, artifact.Prune, artifact.After, artifact.End:
	}
	return probeLimit
}

// paths fills in where files are.
func (w works) paths(s artifact.Switch) artifact.Switch {
	if s.To.Kind == artifact.File {
		s.ToPath = w.store.Path(s.To.ID)
	}
	if s.From != nil && w.has(s.From.ID) {
		s.FromPath = w.store.Path(s.From.ID)
	}
	return s
}

func (w works) has(id artifact.ID) bool { return w.o.Desk.would(id) || w.store.Has(id) }

// fetch puts a file into the store; a check only asks for the room.
func (w works) fetch(ctx context.Context, c artifact.Candidate) error {
	switch {
	case c.Kind != artifact.File:
		return nil
	case w.dry:
		return w.store.Room(c.Size)
	}
	return w.store.Fetch(ctx, w.o.Config.Run, c, func(ctx context.Context, to io.Writer) error {
		return w.o.Source.Fetch(ctx, c, to)
	})
}

func (w works) verify(ctx context.Context, c artifact.Candidate, prove bool) (artifact.Proofs, error) {
	if c.Kind != artifact.File {
		return artifact.Proofs{}, nil
	}
	path := w.store.Path(c.ID)
	if w.dry && !w.store.Has(c.ID) {
		path = ""
	} else if err := w.store.Verify(ctx, c.ID); err != nil {
		return artifact.Proofs{}, err
	}
	if !prove || w.o.Prover == nil {
		return artifact.Proofs{}, nil
	}
	return w.o.Prover.Prove(ctx, c, path)
}

// stage is the target's preflight, and then the way back: a file target may
// have stored it just now.
func (w works) stage(ctx context.Context, s artifact.Switch) (st artifact.Stage, lost artifact.ID, err error) {
	st, err = w.o.Target.Stage(ctx, s)
	from := s.From
	if err != nil || from == nil || s.To.Kind != artifact.File || s.NoRollback || from.ID == s.To.ID || w.o.Desk.would(from.ID) {
		return st, "", err
	}
	err = w.store.Verify(ctx, from.ID)
	if f := artifact.FailureOf(err, artifact.Transient); f != nil && f.Class == artifact.Absent &&
		w.lost != from.ID && !w.dry {
		// It was found running and never fetched. Its source may still have it,
		// and its hash says whether that is it.
		if c, known := w.offered(from.Candidate); known {
			err = w.fetch(ctx, c)
		}
		if err != nil {
			lost = from.ID
		}
	}
	if err != nil && ctx.Err() == nil {
		err = &artifact.Failure{Class: artifact.Hold, Why: artifact.NoWayBack, What: "no way back: " + err.Error(), Err: err}
	}
	return st, lost, err
}

// offered is where the source had c, if the journal still knows.
func (w works) offered(c artifact.Candidate) (artifact.Candidate, bool) {
	if c.Location != "" {
		return c, true
	}
	lines, err := journal.History(w.o.Place.Dir())
	if err != nil {
		return c, false
	}
	for _, l := range slices.Backward(lines) {
		if l.Candidate != nil && l.Candidate.ID == c.ID && l.Candidate.Location != "" {
			return *l.Candidate, true
		}
	}
	return c, false
}

// touch changes what runs, with a file that was hashed just before.
func (w works) touch(ctx context.Context, s artifact.Switch, f func(context.Context, artifact.Switch) error) ([]string, error) {
	if s.To.Kind == artifact.File {
		if err := w.store.Verify(ctx, s.To.ID); err != nil {
			return nil, &artifact.Failure{Class: artifact.Failed, What: "it was not touched: " + err.Error(), Err: err}
		}
	}
	if w.o.Lease != nil {
		if err := w.o.Lease.Sure(ctx); err != nil {
			return nil, err
		}
	}
	s = w.paths(s)
	s.Deadline = w.o.Now().Add(w.o.Config.ActivateTimeout)
	w.o.Desk.fresh()
	err := f(ctx, s)
	if e, ok := w.o.Target.(interface{ Evidence() []string }); ok {
		return e.Evidence(), err
	}
	return w.o.Desk.evidence(), err
}

// afterRollback tells whoever wants to know.
func (l *loop) afterRollback() {
	run := l.o.AfterRollback
	if run == nil || l.mode == dry {
		return
	}
	s := l.back
	if a := l.s.Memory.Attempt; s.To.ID == "" && a != nil && a.Previous != nil {
		s = artifact.Switch{Attempt: a.N, To: a.Previous.Candidate, From: &artifact.Version{Candidate: a.Candidate}, Back: true}
	}
	s.Watch, s.Run = l.o.Config.Name, l.o.Config.Run
	limit := l.o.Config.ActivateTimeout
	s.Deadline = l.now().Add(limit)
	s = works{o: l.o, store: l.store}.paths(s)
	l.last.Go(func() {
		ctx, cancel := context.WithTimeoutCause(l.base, limit+hookSlack, errSlow)
		defer cancel()
		if err := run(ctx, s); err != nil {
			l.note("after the rollback: " + err.Error())
		}
	})
}
