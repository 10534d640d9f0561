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
	if strings.HasPrefix(l.out.Branch, "homelab/revert/") {
		ref += "-revert" // beside that of the landing it reverts
	}
	if l.out.Attempts > 0 {
		// An earlier round's branch may still be there.
		ref += fmt.Sprintf("-%d", l.out.Attempts+1)
	}
	l.rec.Stagings, l.rec.Candidate = append(l.rec.Stagings, Staging{ref, c}), c
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
		switch git.ClassifyPush(reply, ref) {
		case git.PushUnknown:
			kind = fault.Unreachable
		case git.PushHook, git.PushSubmodule:
			kind = fault.Failed
		case git.PushConfig:
			kind = fault.Usage
		case git.PushLanded, git.PushPolicy, git.PushProtected, git.PushRace, git.PushRejected, git.PushDenied, git.PushImpossible:
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

// Staging is a branch that was pushed for CI to test a candidate.
type Staging struct {
	Ref    string     `json:"ref"` // full name
	Commit git.Commit `json:"commit"`
}

// unstage deletes the branches that CI tested. What stays is told and kept in
// the record: the next landing tries again.
func (l *lander) unstage(ctx context.Context) error {
	if ctx.Err() != nil && len(l.rec.Stagings) > 0 {
		return context.Cause(ctx)
	}
	l.rec.Stagings = l.remove(ctx, l.rec.Stagings)
	return nil
}

// remove deletes staging branches and returns those that are still there.
func (l *lander) remove(ctx context.Context, all []Staging) []Staging {
	var left []Staging
	for _, s := range all {
		if err := l.deleteStaging(ctx, s.Ref, s.Commit); err != nil {
			l.warn("%s is still on %s: %v", strings.TrimPrefix(s.Ref, "refs/heads/"), l.out.Remote, err)
			left = append(left, s)
		}
	}
	return left
}

// sweep deletes the staging branches that ended or killed landings of this
// clone have left, of whatever branch.
func (l *lander) sweep(ctx context.Context) error {
	records, _ := Records(l.Repo.CommonDir()) // what cannot be read was told already
	for _, r := range records {
		if len(r.Stagings) == 0 || r.Remote != l.out.Remote {
			continue
		}
		book, err := openJournal(l.Repo.CommonDir(), r.ID)
		if err != nil {
			continue // it is under way, and its branch is being tested
		}
		if r, err = l.reread(r.ID); err == nil {
			if r.Stagings = l.remove(ctx, r.Stagings); len(r.Branch) > 0 {
				err = book.write(r)
			}
		}
		book.close()
		if err != nil {
			return err
		}
	}
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
