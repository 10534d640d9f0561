package run

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/fault"
	"homelab/pkg/poll"
)

// ErrNoDaemon is in the error of what only a daemon, or a run with all its
// flags, can do.
var ErrNoDaemon = errors.New("no daemon is this watch")

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// converse asks the daemon and hands each line of its answer to f until f
// returns false. ErrNoDaemon: nobody listens. errMute: nobody answers.
func (p Place) converse(ctx context.Context, q wireRequest, f func(wireAnswer) bool) error {
	var conn net.Conn
	d := net.Dialer{Timeout: answerIn}
	err := short(p.socket(), func(path string) (err error) {
		conn, err = d.DialContext(ctx, "unix", path)
		return err
	})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case noSocket(err):
		return ErrNoDaemon
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fault.New(fault.Denied, fmt.Sprintf("the daemon of watch %q is another user's", p.Name), "").Because(err.Error())
	default:
		return errMute
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	q.V = protocol
	data, err := json.Marshal(q)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(answerIn))
	if _, err := conn.Write(append(data, '\n')); err != nil {
		return ended(ctx, errMute)
	}
	r := bufio.NewReaderSize(conn, 64<<10)
	for first := true; ; first = false {
		a, err := readAnswer(r)
		if err != nil && first {
			return ended(ctx, errMute)
		}
		if err != nil {
			return ended(ctx, errGone)
		}
		if !f(a) {
			return nil
		}
		_ = conn.SetDeadline(time.Now().Add(aliveMissed))
	}
}

var (
	errMute = errors.New("the daemon does not answer")
	errGone = errors.New("the daemon went away")
)

func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func readAnswer(r *bufio.Reader) (wireAnswer, error) {
	var a wireAnswer
	var data []byte
	for {
		part, err := r.ReadSlice('\n')
		data = append(data, part...)
		if errors.Is(err, bufio.ErrBufferFull) && len(data) < mostAnswer {
			continue
		}
		if err != nil {
			return a, err
		}
		break
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return a, err
	}
	if a.V != protocol {
		return a, io.ErrUnexpectedEOF
	}
	return a, nil
}

// view asks for the status.
func (p Place) view(ctx context.Context) (View, error) {
	var v *View
	err := p.converse(ctx, wireRequest{Verb: "status"}, func(a wireAnswer) bool { v = a.View; return false })
	if err == nil && v == nil {
		err = errMute
	}
	if err != nil {
		return View{}, err
	}
	return *v, nil
}

// tell has the daemon do something and follows it to the answer. The end of
// ctx is an outcome too: nothing is undone by it.
func (p Place) tell(ctx context.Context, q wireRequest, follow func(Event)) (Result, error) {
	began := time.Now()
	var last wireAnswer
	var view *View
	err := p.converse(ctx, q, func(a wireAnswer) bool {
		switch a.Type {
		case "event":
			if follow != nil && a.Event != nil {
				follow(*a.Event)
			}
		case "accepted":
			view = a.View
		case "alive":
		default:
			last = a
			return false
		}
		return true
	})
	res := Result{Handed: true, Elapsed: time.Since(began)}
	switch {
	case errors.Is(err, ErrNoDaemon):
		return Result{}, err
	case err != nil && view == nil && ctx.Err() == nil:
		if f, ok := errors.AsType[*fault.Error](err); ok {
			return Result{}, f
		}
		return Result{}, fault.New(fault.Conflict, fmt.Sprintf("another process is watch %q and does not answer", p.Name), "").
			Because(err.Error()).From(err)
	case err != nil:
		res.Outcome = p.cutOff(ctx, err, view)
	case last.Type == "refused":
		return Result{}, fault.New(last.Kind, last.What, "").Because(last.Why)
	case last.Outcome == nil || last.Report == nil:
		res.Outcome = p.cutOff(ctx, errGone, view)
	default:
		res.Outcome, res.Report = *last.Outcome, *last.Report
		res.Outcome.Kind = last.Kind
		if last.Kind == fault.Interrupted || last.Kind == fault.Terminated {
			// It was the daemon that got the signal.
			res.Outcome.Kind, res.Outcome.Verdict = fault.Unreachable, artifact.Verdict(fault.Unreachable.Name())
			res.Outcome.Reason = "the daemon was " + res.Outcome.Reason
		}
		return res, nil
	}
	res.Report = artifact.Show(res.Outcome, artifact.Config{Name: p.Name}, artifact.Memory{}, q.from(), q.to())
	if view != nil {
		res.Report.Run = view.Run
	}
	return res, nil
}

func (q wireRequest) from() string {
	if q.Same == nil {
		return ""
	}
	return q.Same.From
}

func (q wireRequest) to() string {
	if q.Same == nil {
		return ""
	}
	return q.Same.To
}

// cutOff is the outcome of a conversation without an end.
func (p Place) cutOff(ctx context.Context, err error, view *View) artifact.Outcome {
	o := artifact.Outcome{Kind: fault.Unreachable, Health: artifact.HealthUnknown, Ended: time.Now().Round(0)}
	o.Reason = err.Error() + "; what it was doing is kept, and its next start goes on with it"
	if ctx.Err() != nil {
		o.Kind = fault.Interrupted
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, fault.ErrTimeUp):
			o.Kind = fault.Timeout
		default:
			if sig, ok := errors.AsType[*fault.Signal](cause); ok {
				o.Kind = sig.Kind()
			}
		}
		o.Reason = "no longer followed; the daemon goes on"
	}
	o.Verdict = artifact.Verdict(o.Kind.Name())
	if view != nil {
		o.State = string(view.State)
	}
	return o
}

// handOver gives a single run's request to the daemon, if it is of the same
// watch.
func (p Place) handOver(ctx context.Context, o *Options, r artifact.Request) (Result, error) {
	if o.Config.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Config.Timeout, fault.ErrTimeUp)
		defer cancel()
	}
	if o.Signals != nil {
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		go relay(ctx, o.Signals, func(k fault.Kind) { cancel(signalOf(k)) })
	}
	return p.tell(ctx, wireRequest{
		Verb: string(r.Verb), Expect: r.Expect.String(), Wait: r.Wait, UntilSoak: true, Target: r.Target,
		Same: &wireSame{o.From, o.To, o.Policy, only(o.Config)},
	}, o.Events)
}

func signalOf(k fault.Kind) error {
	if k == fault.Terminated {
		return &fault.Signal{Signal: syscall.SIGTERM}
	}
	return &fault.Signal{Signal: syscall.SIGINT}
}

// Steer gives a request to the daemon of a watch and follows it: hints until
// they are answered, what switches until it soaks. Without a daemon the state
// itself is changed where that is enough, under the watch's lock; else the
// error has ErrNoDaemon in it. Errors are *fault.Error: nothing is known of
// the watch (Absent), its daemon does not answer (Conflict).
func Steer(ctx context.Context, p Place, r artifact.Request, follow func(Event)) (Result, error) {
	if !p.Exists() {
		return Result{}, p.unknown()
	}
	began := time.Now()
	for {
		res, err := p.tell(ctx, wireRequest{
			Verb: string(r.Verb), Expect: r.Expect.String(), Wait: r.Wait, UntilSoak: true, Until: r.Until, Reason: r.Reason, Target: r.Target,
		}, follow)
		if !errors.Is(err, ErrNoDaemon) {
			return res, err
		}
		res, err = p.alone(ctx, r)
		if !errors.Is(err, journal.ErrLocked) {
			return res, err
		}
		if time.Since(began) >= answerIn {
			return Result{}, inUse(p).Because("it holds the lock and does not answer")
		}
		if err := poll.Sleep(ctx, dialPace); err != nil {
			return Result{}, err
		}
	}
}

// alone changes the state of a watch that no process is.
func (p Place) alone(ctx context.Context, r artifact.Request) (Result, error) {
	switch r.Verb {
	case artifact.PauseVerb, artifact.ResumeVerb, artifact.RetryVerb:
	case artifact.Hint, artifact.RollbackVerb, artifact.VerbNoRequest:
		if held, err := journal.Locked(p.Dir()); err == nil && held {
			return Result{}, journal.ErrLocked
		}
		return Result{}, fault.New(fault.Absent, fmt.Sprintf("no daemon is watch %q", p.Name), "").
			Because("without one this needs a run of its own").From(ErrNoDaemon)
	}
	began := time.Now()
	j, m, _, err := journal.Open(ctx, p.Dir())
	if errors.Is(err, journal.ErrLocked) {
		return Result{}, err
	}
	if err != nil {
		return Result{}, onDisk(fmt.Sprintf("the state of watch %q cannot be used", p.Name), err)
	}
	defer func() { _ = j.Close() }()
	r.ID = 1
	c := artifact.Defaults()
	c.Name = p.Name
	s, out := artifact.Next(artifact.New(m), artifact.Input{What: artifact.Ask, Request: r}, c, began)
	o := artifact.Outcome{
		Kind: fault.Held, Verdict: artifact.Verdict(fault.Held.Name()), Why: artifact.Quarantined, State: s.Shown()[0],
		Reason: "it may be activated once more; the next run does it", Health: artifact.HealthUnknown,
		Running: s.Running(), Previous: s.Memory.Previous, Candidate: s.Memory.Offered, Ended: began.Round(0),
	}
	for _, e := range out {
		switch e.Do {
		case artifact.Write:
			m = m.Apply(e.Line)
			if err := j.Append(e.Line, m); err != nil {
				return Result{}, onDisk(fmt.Sprintf("the journal of watch %q cannot be written", p.Name), err)
			}
		case artifact.Reply:
			o = e.Outcome
		case artifact.DoLook, artifact.DoObserve, artifact.DoFetch, artifact.DoVerify, artifact.DoStage, artifact.DoBaseline,
			artifact.DoActivate, artifact.DoProbe, artifact.DoCheck, artifact.DoRollback,
			artifact.Tell, artifact.Cancel, artifact.Discard, artifact.Prune, artifact.After, artifact.End:
			// There is nothing to do them with: the next run does.
		}
	}
	v := settled(p, m)
	v.Updated = began.Round(0)
	_ = j.Status(v) // the next run writes it anew
	return Result{
		Outcome: o, Report: artifact.Show(o, c, m, v.From, v.To), Elapsed: time.Since(began),
	}, nil
}
