package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/fault"
	"homelab/pkg/poll"
)

const (
	answerIn = 2 * time.Second // a daemon
	dialPace = 100 * time.Millisecond
)

// Daemon is the watch until a signal ends it. Errors are *fault.Error: another
// process is the watch already (Conflict), its state directory or address
// cannot be used, its target cannot be observed (Usage).
func Daemon(ctx context.Context, o Options) (Result, error) {
	l, err := open(ctx, o, daemon)
	if errors.Is(err, journal.ErrLocked) {
		return Result{}, inUse(o.Place)
	}
	if err != nil {
		return Result{}, err
	}
	began := l.now()
	stop := l.sink()
	defer stop()
	if err := l.serve(ctx); err != nil {
		l.close()
		return Result{}, err
	}
	return l.finish(began)
}

func inUse(p Place) *fault.Error {
	return fault.New(fault.Conflict, fmt.Sprintf("another process is watch %q", p.Name), "").
		Because("it holds the lock in " + p.Dir()).From(journal.ErrLocked)
}

// serve opens the ways in, turns, and closes them.
func (l *loop) serve(ctx context.Context) error {
	n, err := newNotifier(ctx, l.o.Notify, l.now)
	if err != nil {
		l.note("the service manager cannot be told: " + err.Error())
		n = &notifier{}
	}
	l.notify = n
	defer n.close()
	c, err := l.control(ctx)
	if err != nil {
		return onDisk(fmt.Sprintf("the control socket of watch %q cannot be made", l.o.Config.Name), err)
	}
	defer c.close()
	if l.o.Listen != nil {
		w, err := l.listen(ctx, *l.o.Listen)
		if err != nil {
			return err
		}
		defer w.close()
	}
	l.run(ctx, nil)
	l.notify.stopping()
	l.farewells()
	return nil
}

// farewells lets those who wait read their last line before the ways in are
// closed.
func (l *loop) farewells() {
	if l.stops < 2 {
		l.hub.close()
	}
}

// sink hands the story to the caller. Its stop waits a moment for the last of
// it: a reader that does not read keeps nobody.
func (l *loop) sink() (stop func()) {
	told := l.o.Events
	if told == nil {
		return func() {}
	}
	s := newSub(sinkQueue, true)
	l.hub.join(s, 0)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.base))
	go func() {
		defer close(done)
		for {
			t := s.take()
			for _, e := range t.events {
				told(e)
			}
			if len(t.events) > 0 {
				continue
			}
			if t.gone {
				return
			}
			if _, err := poll.Wait(ctx, time.Hour, s.bell); err != nil {
				return
			}
		}
	}()
	return func() {
		l.hub.close()
		late, enough := context.WithTimeout(context.WithoutCancel(ctx), hasten)
		defer enough()
		select {
		case <-done:
		case <-late.Done():
		}
		cancel()
	}
}

// Once is one request from asking to its answer: a hint, with an expectation
// to wait for or without; a retry; a rollback. Where a daemon is the watch it
// is handed the request and followed until soaking begins. Errors are
// *fault.Error: an expectation that the source cannot answer (Usage); a daemon
// that watches something else or does not answer (Conflict).
func Once(ctx context.Context, o Options, req artifact.Request) (Result, error) {
	if req.Verb == artifact.VerbNoRequest {
		req.Verb = artifact.Hint
	}
	if err := answerable(o.Source, req.Expect); err != nil {
		return Result{}, err
	}
	began := time.Now()
	for {
		l, err := open(ctx, o, single)
		if err == nil {
			return l.single(ctx, req)
		}
		if !errors.Is(err, journal.ErrLocked) {
			return Result{}, err
		}
		res, err := o.Place.handOver(ctx, &o, req)
		if !errors.Is(err, ErrNoDaemon) {
			return res, err
		}
		// It may be about to listen, or to end.
		if time.Since(began) >= answerIn {
			return Result{}, inUse(o.Place).Because("it holds the lock and does not answer")
		}
		if err := poll.Sleep(ctx, dialPace); err != nil {
			return Result{}, err
		}
	}
}

// answerable refuses an expectation that the source cannot answer.
func answerable(s artifact.Source, e artifact.Expectation) error {
	if e.IsZero() || s.Answers(e.Form) {
		return nil
	}
	return fault.Usagef("", "this source cannot answer for %s", e.Short()).Because("it does not know artifacts by " + string(e.Form))
}

func (l *loop) single(ctx context.Context, req artifact.Request) (Result, error) {
	began := l.now()
	stop := l.sink()
	defer stop()
	l.run(ctx, &artifact.Request{Verb: req.Verb, Expect: req.Expect, Wait: req.Wait, Target: req.Target})
	return l.finish(began)
}

// Check looks whether a run would work, and changes nothing: it takes no lock
// and writes no file. The outcome is current or ready, or what a run would
// meet. It works beside a daemon.
func Check(ctx context.Context, o Options, e artifact.Expectation) (Result, error) {
	if err := answerable(o.Source, e); err != nil {
		return Result{}, err
	}
	l, err := open(ctx, o, dry)
	if err != nil {
		return Result{}, err
	}
	began := l.now()
	stop := l.sink()
	defer stop()
	if o.Lease != nil {
		if t := o.Lease.Look(ctx); !t.Held {
			l.standby = &t
			l.endWith(l.refusal())
			return l.finish(began)
		}
	}
	if a := l.s.Memory.Attempt; a != nil {
		busy, _ := journal.Locked(o.Place.Dir())
		why := "at work on " + a.Candidate.ID.Short() + " (" + string(l.s.Memory.Phase) + ")"
		if !busy {
			why = "interrupted: " + artifact.NextStart(l.s.Memory, l.o.Config)
		}
		l.endWith(artifact.Outcome{Kind: fault.Timeout, Reason: why})
		return l.finish(began)
	}
	l.run(ctx, &artifact.Request{Verb: artifact.Hint, Expect: e})
	return l.finish(began)
}
