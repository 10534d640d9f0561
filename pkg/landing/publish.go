package landing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/poll"
	"homelab/pkg/ui"
)

const mostAttempts = 10 // pushes to the base of one landing

// ready joins the questions that were asked while git worked. Whatever stands
// in the way of watching is better known before the push.
func (l *lander) ready(ctx context.Context) error {
	err := l.ciReady.answer()
	l.ciReady = nil
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if fault.KindOf(err) == fault.Unreachable && !l.o.RequireCI && !l.gated {
		l.warn("the CI server does not answer; landing all the same, and asking again then: %v", err)
		return nil
	}
	return err
}

// publish pushes the candidate to the base. again: the base has moved, and the
// round starts over with it.
func (l *lander) publish(ctx context.Context) (again bool, err error) {
	for {
		if l.out.Attempts >= mostAttempts {
			if l.failing != "" {
				return false, stop(fault.Unreachable, "homelab work land", "%s fails every push, and %s has not moved; nothing was pushed", l.out.Remote, l.out.Base).Because(l.failing)
			}
			return false, stop(fault.Conflict, "homelab work land", "the base kept moving: %d pushes lost the race; nothing was pushed", l.out.Attempts)
		}
		base, c := l.out.BaseBefore, l.plan.candidate
		// A lease that matches would also let a push through that throws away
		// what the base has.
		forward, err := l.Repo.IsAncestor(ctx, base, c)
		if err != nil {
			return false, err
		}
		if forward != git.Yes {
			return false, stop(fault.Bug, "", "candidate %s does not contain %s %s; nothing was pushed", c.Short(), l.out.Base, base.Short())
		}
		if !slices.Contains(l.rec.Tried, c) {
			l.rec.Tried = append(l.rec.Tried, c)
		}
		l.rec.Before, l.rec.Candidate = base, c
		l.out.Attempts++
		l.rec.Attempts = l.out.Attempts
		if err := l.write(Pushing); err != nil {
			return false, err
		}
		l.out.Unknown = true
		reply, err := l.push(ctx, git.Push{Commit: c, Ref: l.baseName(), Expect: base})
		if err != nil {
			l.out.Unknown = false // it did not start
			return false, err
		}
		again, repeat, err := l.judge(ctx, reply)
		if !repeat || err != nil {
			l.failing = ""
			return again, err
		}
		l.failing = strings.Join(reply.Words(), "; ")
	}
}

// push pushes, three times if credentials are refused.
func (l *lander) push(ctx context.Context, p git.Push) (git.PushReply, error) {
	for refused := 1; ; refused++ {
		reply, err := l.Repo.Push(ctx, l.endpoint, p)
		if err != nil || refused == 3 || git.ClassifyPush(reply, p.Ref) != git.PushDenied {
			return reply, err
		}
		if err := poll.Sleep(ctx, 2*time.Second); err != nil {
			return reply, nil //nolint:nilerr // what is known of the push counts, not how the wait ended
		}
	}
}

// judge decides what follows from a push to the base. repeat: the same
// candidate is pushed once more.
func (l *lander) judge(ctx context.Context, reply git.PushReply) (again, repeat bool, err error) {
	words := strings.Join(reply.Words(), "; ")
	class := git.ClassifyPush(reply, l.baseName())
	line, told := reply.Line(l.baseName())
	if ctx.Err() != nil {
		// There is no time to ask. What the server has said holds.
		switch {
		case told && (line.Flag == ' ' || line.Flag == '='):
			l.landed(l.plan.candidate, l.plan.candidate)
		case told && line.Flag == '!' && class != git.PushUnknown:
			l.out.Unknown = false
		}
		return false, false, context.Cause(ctx)
	}
	if class != git.PushUnknown && class != git.PushImpossible {
		l.out.Unknown = false
	}
	switch class {
	case git.PushLanded:
		l.landed(l.plan.candidate, l.plan.candidate)
		return false, false, nil
	case git.PushRace:
		return true, false, nil
	case git.PushRejected:
		tip, err := l.tip(ctx)
		if err != nil {
			return false, false, err
		}
		if tip != l.out.BaseBefore {
			return true, false, nil
		}
		return false, false, l.policy(words)
	case git.PushPolicy:
		return false, false, l.policy(words)
	case git.PushProtected:
		return false, false, l.propose(ctx, words)
	case git.PushHook:
		return false, false, stop(fault.Failed, "homelab work land", "the pre-push hook refused; nothing was pushed").Because(words)
	case git.PushSubmodule:
		return false, false, stop(fault.Failed, "git push --recurse-submodules=on-demand --dry-run", "a submodule's commit is on no remote; nothing was pushed").Because(words)
	case git.PushConfig:
		return false, false, stop(fault.Usage, "git config --show-origin --get-regexp '^(push|remote)[.]'",
			"as git is configured here, it cannot push to %s; nothing was pushed", l.out.Remote).Because(words)
	case git.PushDenied:
		return false, false, stop(fault.Denied, "homelab doctor", "%s refuses the push, asked three times; nothing was pushed", l.out.Remote).Because(words)
	case git.PushUnknown:
		again, repeat, err := l.askAfter(ctx, words)
		return again, repeat, err
	case git.PushImpossible:
		return false, false, stop(fault.Bug, ui.Command("git", "log", l.out.Remote+"/"+l.out.Base), "%s answered %q to a push that can only fast-forward", l.out.Remote, string(line.Flag)+" "+line.Summary)
	}
	return false, false, fmt.Errorf("push class %q", class)
}

func (l *lander) policy(words string) error {
	return stop(fault.Denied, "homelab work land", "%s does not accept the commits; nothing was pushed", l.out.Remote).Because(words)
}

// landed notes that the base has the commit; tip is the base's.
func (l *lander) landed(c, tip git.Commit) {
	l.out.Landed, l.out.BaseAfter, l.out.Unknown = c, tip, false
	l.rec.Candidate = c
	l.say("push", "landed %s", c.Short())
	l.Tell(Arrived{Commit: c})
}

// tip asks for the base's present tip; "" when the branch is gone.
func (l *lander) tip(ctx context.Context) (git.Commit, error) {
	var told git.Advertised
	err := l.asking(ctx, func() (err error) {
		told, err = l.Repo.LsRemote(ctx, l.endpoint, l.baseName())
		return err
	})
	return told.Refs[l.baseName()], err
}

// arrived says which of the commits this landing pushed the tip contains; ""
// for none. The tip must be present.
func (l *lander) arrived(ctx context.Context, tip git.Commit) (git.Commit, error) {
	for _, c := range slices.Backward(l.rec.Tried) {
		in, err := l.Repo.IsAncestor(ctx, c, tip)
		if err != nil {
			return "", err
		}
		if in == git.Yes {
			return c, nil
		}
	}
	return "", nil
}

// askAfter finds out what became of a push whose reply was lost. While the
// base stands where it was the same commit is pushed again: a server that
// still finishes the first push does no harm then.
func (l *lander) askAfter(ctx context.Context, words string) (again, repeat bool, err error) {
	l.say("push", "the reply was lost; asking what became of the push")
	tip, err := l.lookAgain(ctx)
	if err != nil {
		if _, contact := errors.AsType[*git.ContactError](err); contact {
			return false, false, stop(fault.Unreachable, "homelab work land",
				"whether %s arrived on %s is not known: %s does not answer", l.plan.candidate.Short(), l.out.Base, l.out.Remote).Because(words).From(err)
		}
		return false, false, err
	}
	l.out.Unknown = false
	if tip == "" {
		return true, false, nil
	}
	if c, err := l.arrived(ctx, tip); err != nil {
		return false, false, err
	} else if c != "" {
		l.landed(c, tip)
		return false, false, nil
	}
	if tip == l.rec.Before {
		return false, true, poll.Sleep(ctx, l.Jitter(time.Second))
	}
	return true, false, nil
}

// lookAgain fetches the base's tip and returns it; "" when the base is gone.
func (l *lander) lookAgain(ctx context.Context) (git.Commit, error) {
	err := l.asking(ctx, func() error {
		return l.Repo.Fetch(ctx, l.endpoint, 0, "+"+l.baseName()+":"+l.baseRef())
	})
	if errors.Is(err, git.ErrNoTip) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return l.Repo.Tip(ctx, l.baseRef())
}

// nextRound goes back to integrating after a lost race, or finds that an
// earlier push has landed all the same.
func (l *lander) nextRound(ctx context.Context) error {
	if err := l.lost(ctx); err != nil || l.out.Landed != "" {
		return err
	}
	if err := l.readRules(ctx); err != nil { // what verifies may have changed with the base
		return err
	}
	if err := l.tightened(); err != nil {
		return err
	}
	if err := l.complete(ctx); err != nil {
		return err
	}
	return l.compare(ctx)
}

// lost reads the base's new tip after a lost race and makes it the one to land
// on, or finds that an earlier push has landed all the same.
func (l *lander) lost(ctx context.Context) error {
	if err := l.unstage(ctx); err != nil {
		return err
	}
	if l.out.Attempts < mostAttempts {
		most := min(4*time.Second, 200*time.Millisecond<<min(l.out.Attempts, 10))
		if err := poll.Sleep(ctx, l.Jitter(most)); err != nil {
			return err
		}
	}
	tip, err := l.lookAgain(ctx)
	if err != nil {
		return err
	}
	if tip == "" {
		return stop(fault.Usage, ui.Command("git", "ls-remote", "--heads", l.out.Remote), "%s has no branch %s any more; nothing was pushed", l.out.Remote, l.out.Base)
	}
	if c, err := l.arrived(ctx, tip); err != nil {
		return err
	} else if c != "" {
		l.landed(c, tip)
		return nil
	}
	if l.out.Attempts >= mostAttempts {
		return stop(fault.Conflict, "homelab work land", "the base kept moving: %d pushes lost the race; nothing was pushed", l.out.Attempts)
	}
	l.out.BaseBefore = tip
	l.say("push", "lost the race: %s is now %s; attempt %d of %d", l.out.Base, tip.Short(), l.out.Attempts+1, mostAttempts)
	l.Tell(Raced{Tip: tip, Attempt: l.out.Attempts + 1})
	return nil
}

// tightened ends a landing whose base has begun to ask for CI's gate while it
// was under way: what was prepared does not pass it.
func (l *lander) tightened() error {
	if l.rules.GateCI && !l.gated {
		return stop(fault.Conflict, "homelab work land", "%s has begun to ask for CI before it moves; nothing was pushed", l.out.Base)
	}
	return nil
}
