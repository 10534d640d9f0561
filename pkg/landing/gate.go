package landing

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
)

// gate lets CI test the candidate on a branch of its own before the base
// moves. Only green goes on.
func (l *lander) gate(ctx context.Context) error {
	c := l.plan.candidate
	ref := "refs/heads/homelab/land/" + l.out.ID
	l.rec.Staging, l.rec.Candidate = ref, c
	if err := l.write(Staged); err != nil {
		return err
	}
	reply, err := l.push(ctx, git.Push{Commit: c, Ref: ref})
	if err != nil {
		return err
	}
	if line, ok := reply.Line(ref); !ok || reply.Exit != 0 || line.Flag == '!' {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		kind := fault.Denied
		if git.ClassifyPush(reply, ref) == git.PushUnknown {
			kind = fault.Unreachable
		}
		return stop(kind, "homelab work land", "the candidate could not be pushed for CI to test; %s is unchanged", l.out.Base).
			Because(strings.Join(reply.Words(), "; "))
	}
	l.say("ci", "testing candidate %s on %s", c.Short(), strings.TrimPrefix(ref, "refs/heads/"))
	l.lock.release()
	o, err := l.CI.Watch(ctx, l.wanted(c, ref), func(u pipeline.Update) { l.Tell(Watched{u}) })
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	l.out.CI = &o
	switch kind := endOfGate(o); kind {
	case fault.OK:
	case fault.Absent:
		return stop(kind, "homelab ci status "+string(c), "the gate cannot run: %s; CI must run for pushes to homelab/land/*; nothing was landed", o.Reason)
	case fault.Held:
		next := "homelab ci status " + string(c)
		if o.Row != nil {
			next = fmt.Sprintf("homelab ci approve --number %d", o.Row.Number)
		}
		return stop(kind, next, "the candidate's pipeline is held: %s; nothing was landed", o.Reason)
	case fault.Failed, fault.Denied, fault.Replaced, fault.Unreachable, fault.Timeout, fault.Conflict, fault.LandedRed,
		fault.Unsafe, fault.Usage, fault.Bug, fault.Interrupted, fault.Terminated:
		next := "homelab work land"
		if kind == fault.Failed && o.Row != nil {
			next = fmt.Sprintf("homelab ci logs --number %d --failed", o.Row.Number)
		}
		return stop(kind, next, "the gate is not green, %s: %s; nothing was landed", ciWords(&o), o.Reason)
	}
	return l.relock(ctx)
}

// unstage deletes the candidate's branch, if there is one.
func (l *lander) unstage(ctx context.Context) error {
	if l.rec.Staging == "" {
		return nil
	}
	if err := l.deleteStaging(ctx, l.rec.Staging, l.rec.Candidate); err != nil {
		l.warn("%s is still on %s: %v", l.rec.Staging, l.out.Remote, err)
		return nil // the next round needs another name, and the record keeps this one until then
	}
	l.rec.Staging = ""
	return nil
}

var errStaging = errors.New("the remote did not delete it")

// deleteStaging deletes a staging branch if it is still what was pushed.
func (l *lander) deleteStaging(ctx context.Context, ref string, c git.Commit) error {
	reply, err := l.Repo.Push(ctx, l.endpoint, git.Push{Ref: ref, Expect: c})
	if err != nil {
		return err
	}
	if line, ok := reply.Line(ref); ok && line.Flag == '-' {
		return nil
	}
	var told git.Advertised
	if told, err = l.Repo.LsRemote(ctx, l.endpoint, ref); err == nil && told.Refs[ref] == "" {
		return nil
	}
	return errors.Join(errStaging, err)
}
