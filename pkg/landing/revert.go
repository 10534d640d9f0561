package landing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// A revert is a landing of its own, of one commit that takes everything the
// red one brought off the base again: with its own record, a part of the red
// one's, and the same gate, push, race and settling. Whatever becomes of it,
// the landing was red and its end stays that; only a signal's is its own.

// leave says why a red landing stays on the base.
func (l *lander) leave(why string) {
	l.out.Revert = &Reverted{Reason: "not reverted: " + why}
	l.out.Reason += "; " + l.out.Revert.Reason
	l.say("revert", "%s", l.out.Revert.Reason)
}

// revertOnRed takes the landing off the base again if everything speaks for
// it. The pipeline that failed is the result's.
func (l *lander) revertOnRed(ctx context.Context) error {
	l.out.Revert = &Reverted{Reason: "not reverted yet"}
	err := l.reverting(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && fault.KindOf(context.Cause(ctx)) != fault.Timeout {
		return context.Cause(ctx)
	}
	why := err.Error()
	l.out.Next = "homelab work land"
	said := (*fault.Error)(nil)
	switch {
	case ctx.Err() != nil:
		why = "time is up"
	case errors.As(err, &said):
		l.out.Next = said.Next
		if said.Kind == fault.Bug {
			return err
		}
	}
	switch out := l.out.Revert; {
	case out.Done:
		out.Reason += "; " + why
	case out.Unknown:
		out.Reason += ": " + why
	default:
		out.Reason = "not reverted: " + why
	}
	l.out.Reason += "; " + l.out.Revert.Reason
	l.say("revert", "%s", l.out.Revert.Reason)
	return nil
}

// reverting is the revert, step by step. An error is why it was not made.
func (l *lander) reverting(ctx context.Context) error {
	v := l.reversal()
	if err := v.find(ctx); err != nil {
		return err
	}
	c, err := l.redCase(ctx, v.out.BaseBefore)
	if err != nil {
		return err
	}
	step, why := c.judge()
	if step == restartCI {
		if err := l.restart(ctx, &c); err != nil {
			return err
		}
		if err := v.find(ctx); err != nil { // it took its time
			return err
		}
		if err := l.onTop(ctx, &c, v.out.BaseBefore); err != nil {
			return err
		}
		step, why = c.judge()
	}
	if step == leaveIt {
		l.leave(why)
		return nil
	}
	if err := l.relock(ctx); err != nil {
		return err
	}
	v.lock = l.lock
	defer func() { l.lock = v.lock; l.lock.release() }()
	landed, err := v.undoing(ctx, &c)
	out := l.out.Revert
	out.Commit, out.Unknown = v.plan.candidate, v.out.Unknown
	switch {
	case v.out.Unknown:
		out.Reason = "whether it was reverted is not known"
	case v.out.Landed != "":
		out.Commit, out.Done, out.Reason = v.out.Landed, true, "reverted by "+v.out.Landed.Short()
		l.out.BaseAfter = v.out.BaseAfter
		if v.rec.Phase != OnBase { // the server has said so, and then there was no time
			err = errors.Join(err, v.write(OnBase))
		}
	case v.rec.Phase == Proposed:
		return l.afterRevert(ctx)
	case err != nil && v.rec.Phase != "":
		err = errors.Join(err, v.write(Begun)) // the next run starts anew
	}
	if len(v.rec.Stagings) > 0 && ctx.Err() == nil {
		err = errors.Join(err, v.unstage(ctx))
	}
	if err != nil {
		return err
	}
	if !landed {
		out.Commit = ""
		_, why := c.judge()
		l.leave(why)
		return nil
	}
	v.lock.release()
	return l.afterRevert(ctx)
}

// reversal makes the landing that reverts this one. What an earlier run tried
// is still looked for.
func (l *lander) reversal() *lander {
	v := &lander{Deps: l.Deps, o: l.o, cfg: l.cfg, endpoint: l.endpoint, url: l.url, rules: l.rules, of: l}
	v.Tell = func(u Update) {
		switch u := u.(type) {
		case Told:
			if u.Phase == "push" {
				u.Phase = "revert"
			}
			l.Tell(u)
			return
		case Arrived: // it is of what was landed
			return
		case Line, Raced, Warned, Watched:
		}
		l.Tell(u)
	}
	v.out = Result{ID: l.rec.ID, Branch: "homelab/revert/" + l.rec.ID, Base: l.out.Base, Remote: l.out.Remote}
	v.rec = Record{ID: l.rec.ID, Branch: v.out.Branch, Remote: l.out.Remote, Base: l.out.Base, PID: os.Getpid(), Started: time.Now().UTC()}
	if before := l.rec.Revert; before != nil {
		v.rec.Tried, v.rec.Review = before.Tried, before.Review
	}
	return v
}

// find reads the base's present tip.
func (l *lander) find(ctx context.Context) error {
	tip, err := l.lookAgain(ctx)
	if err != nil {
		return err
	}
	if tip == "" {
		return stop(fault.Usage, ui.Command("git", "ls-remote", "--heads", l.out.Remote), "%s has no branch %s any more", l.out.Remote, l.out.Base)
	}
	l.out.BaseBefore = tip
	return nil
}

// redCase gathers what speaks for and against the revert.
func (l *lander) redCase(ctx context.Context, tip git.Commit) (redCase, error) {
	c := redCase{Landed: l.out.Landed, Base: l.rec.Before, Verdict: l.out.CI.Verdict, Before: pipeline.Absent}
	if row := l.out.CI.Row; row != nil {
		c.Number, c.Of = row.Number, git.Commit(row.Commit)
	}
	if l.rec.Pull != nil {
		c.Pull = l.rec.Pull.Number
	}
	list, err := l.Repo.Commits(ctx, c.Base, c.Landed)
	if err != nil {
		return c, err
	}
	// What the record says must be so: the landing stands on what the base was.
	c.Pushed = slices.Contains(l.rec.Tried, c.Landed) && firstParents(list, c.Base, c.Landed)
	if !c.Pushed || c.Verdict != pipeline.Failure || c.Of != c.Landed {
		return c, nil
	}
	if c.Reverts, err = l.isRevert(ctx, c.Base, c.Landed); err != nil {
		return c, err
	}
	if l.before == nil {
		o, err := l.look(ctx, c.Base)
		if err != nil {
			return c, err
		}
		l.before = &o
	}
	if c.Before = l.before.Verdict; l.before.Row == nil || git.Commit(l.before.Row.Commit) != c.Base {
		if c.Before == pipeline.Success {
			c.Before = pipeline.Absent // it is another's that is green
		}
	}
	// Once restarted, by this run or by one that was broken off, what failed now
	// is the restart.
	if l.rec.Red > 0 && l.rec.Red < c.Number {
		c.Again, c.AgainNumber, c.Number = c.Verdict, c.Number, l.rec.Red
	}
	return c, l.onTop(ctx, &c, tip)
}

const saysReverts = "This reverts commit "

// isRevert returns a commit of a landing that undoes what the base had; "" for
// none. One that undoes another commit of the same landing is its own matter.
func (l *lander) isRevert(ctx context.Context, base, landed git.Commit) (git.Commit, error) {
	_, order, err := l.Repo.Messages(ctx, base, landed, trailerReverts+": ", false)
	if err != nil {
		return "", err
	}
	if len(order) > 0 {
		return order[0], nil
	}
	messages, order, err := l.Repo.Messages(ctx, base, landed, saysReverts, false)
	if err != nil {
		return "", err
	}
	for _, x := range order {
		own, err := l.among(ctx, undoneBy(messages[x]), base, landed)
		if err != nil {
			return "", err
		}
		if !own {
			return x, nil
		}
	}
	return "", nil
}

// among says whether c is one of the commits that landed brought; "" is none.
func (l *lander) among(ctx context.Context, c, base, landed git.Commit) (bool, error) {
	if c == "" {
		return false, nil
	}
	in, err := l.Repo.IsAncestor(ctx, c, landed)
	if err != nil || in != git.Yes {
		return false, err
	}
	had, err := l.Repo.IsAncestor(ctx, c, base)
	return had == git.No, err
}

// undoneBy returns the commit that git's own words in a message say is
// reverted; "" for none.
func undoneBy(message string) git.Commit {
	_, after, _ := strings.Cut(message, saysReverts)
	id, _, _ := strings.Cut(after, ",") // "..., reversing changes made to ..."
	c, err := git.ParseCommit(strings.TrimRight(strings.TrimSpace(strings.SplitN(id, "\n", 2)[0]), "."))
	if err != nil {
		return ""
	}
	return c
}

// onTop looks at what the base got since: whether something there undid the
// landing, or is green with it.
func (l *lander) onTop(ctx context.Context, c *redCase, tip git.Commit) error {
	c.Undone, c.Green, c.Unproven = "", "", ""
	in, err := l.Repo.IsAncestor(ctx, c.Landed, tip)
	if err != nil {
		return err
	}
	if in != git.Yes {
		return stop(fault.LandedRed, "git log "+ui.Command(l.out.Remote+"/"+l.out.Base), "%s does not have %s any more", l.out.Base, c.Landed.Short())
	}
	if tip != c.Landed {
		if c.Undone, err = l.undoneSince(ctx, c.Base, c.Landed, tip); err != nil || c.Undone != "" {
			return err
		}
	}
	if c.Green, err = l.greenSince(ctx, c); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.Unproven = err.Error()
	}
	return nil
}

// undoneSince returns a commit of tip that undid the landing, or a part of it;
// "" for none.
func (l *lander) undoneSince(ctx context.Context, base, landed, tip git.Commit) (git.Commit, error) {
	messages, order, err := l.Repo.Messages(ctx, landed, tip, trailerReverts+": ", false)
	if err != nil {
		return "", err
	}
	for _, x := range order {
		if slices.Contains(trailers(messages[x], trailerReverts), landed) {
			return x, nil
		}
	}
	messages, order, err = l.Repo.Messages(ctx, landed, tip, saysReverts, false)
	if err != nil {
		return "", err
	}
	for _, x := range order {
		own, err := l.among(ctx, undoneBy(messages[x]), base, landed)
		if err != nil || own {
			return x, err
		}
	}
	return "", nil
}

// mayBeLate is how far below the landing's the number of a later push's
// pipeline is looked for: what tells the server of two pushes may overtake.
const mayBeLate = 20

var errElsewhere = errors.New("a pipeline is green of a commit that is not here")

// greenSince returns a commit that contains the landing and is green; "" for
// none. The error is why that is not known.
func (l *lander) greenSince(ctx context.Context, c *redCase) (git.Commit, error) {
	rows, err := l.Restarts.Newer(ctx, l.baseName(), c.Number-mayBeLate)
	if err != nil {
		return "", err
	}
	seen := map[git.Commit]bool{c.Landed: true, c.Base: true}
	for _, r := range rows {
		d := git.Commit(r.Commit)
		// Where only some workflows count, they may be green in any pipeline.
		if seen[d] || r.Status != woodpecker.Success && len(l.rules.Workflows) == 0 {
			continue
		}
		seen[d] = true
		in, err := l.Repo.IsAncestor(ctx, c.Landed, d)
		switch {
		case err != nil:
			return "", err
		case in == git.Unproven:
			return "", fmt.Errorf("%s: %w", d.Short(), errElsewhere)
		case in == git.No:
			continue
		}
		o, err := l.look(ctx, d)
		if err != nil {
			return "", err
		}
		switch o.Verdict {
		case pipeline.Success:
			if o.Row != nil && git.Commit(o.Row.Commit) == d {
				return d, nil
			}
		case pipeline.Denied, pipeline.Unreachable, pipeline.Timeout, pipeline.Interrupted:
			return "", fmt.Errorf("%s: %s", d.Short(), o.Reason)
		case pipeline.Failure, pipeline.Errored, pipeline.Declined, pipeline.Blocked, pipeline.Canceled, pipeline.Superseded,
			pipeline.Absent, pipeline.Pending, pipeline.Running:
		}
	}
	return "", nil
}

// restart starts the failed pipeline anew, once, and waits for its end.
func (l *lander) restart(ctx context.Context, c *redCase) error {
	l.rec.Red = c.Number
	if err := l.write(l.rec.Phase); err != nil {
		return err
	}
	l.say("revert", "starting #%d anew, once", c.Number)
	made, err := l.Restarts.Restart(ctx, *l.out.CI.Row)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.NoRestart = err.Error()
		return nil
	}
	w := l.wanted(l.out.Landed, l.baseName())
	w.Row = &made
	o, err := l.CI.Watch(ctx, w, func(u pipeline.Update) { l.Tell(Watched{u}) })
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.Again, c.AgainNumber = o.Verdict, made.Number
	switch o.Verdict {
	case pipeline.Failure:
		l.out.CI = &o
		l.out.Reason += fmt.Sprintf("; #%d, the same started anew, failed too", made.Number)
	case pipeline.Success, pipeline.Pending, pipeline.Running, pipeline.Timeout, pipeline.Unreachable:
		l.out.Next = "homelab work land" // it looks again
	case pipeline.Errored, pipeline.Declined, pipeline.Blocked, pipeline.Canceled, pipeline.Superseded, pipeline.Absent,
		pipeline.Denied, pipeline.Interrupted:
	}
	return nil
}

// undoing makes the commit that undoes the landing c speaks of, and brings it
// onto the base. false: what came meanwhile speaks against it.
func (l *lander) undoing(ctx context.Context, c *redCase) (bool, error) {
	if err := l.find(ctx); err != nil {
		return false, err
	}
	for {
		// The base may have moved since it was looked at.
		if got, err := l.arrived(ctx, l.out.BaseBefore); err != nil {
			return false, err
		} else if got != "" {
			l.plan.candidate = got
			l.landed(got, l.out.BaseBefore)
			return true, l.write(OnBase)
		}
		if err := l.of.onTop(ctx, c, l.out.BaseBefore); err != nil {
			return false, err
		}
		if step, _ := c.judge(); step != undoIt {
			return false, nil
		}
		if err := l.readRules(ctx); err != nil {
			return false, err
		}
		l.gated = l.o.GateCI || l.rules.GateCI
		if err := l.inverse(ctx, c); err != nil {
			return false, err
		}
		if err := l.guard(ctx); err != nil {
			return false, err
		}
		if l.out.BaseBefore != c.Landed { // else it is what CI has seen green
			if err := l.verify(ctx); err != nil {
				return false, err
			}
			if l.gated {
				if err := l.gate(ctx); err != nil {
					return false, err
				}
			}
		}
		again, err := l.publish(ctx)
		if err != nil {
			return false, err
		}
		if again {
			if err := l.lost(ctx); err != nil {
				return false, err
			}
		}
		if l.out.Landed != "" {
			l.plan.candidate = l.out.Landed
			return true, l.write(OnBase)
		}
	}
}

// inverse makes the commit: the base's tip without what the landing changed.
func (l *lander) inverse(ctx context.Context, c *redCase) error {
	tip := l.out.BaseBefore
	l.plan = integration{fast: true} // one parent
	before, err := l.Repo.Tree(ctx, string(c.Base))
	if err != nil {
		return err
	}
	// A commit on the landing with the tree before it: the merge base with what
	// came after is the landing, so only what it changed is taken back. (A merge
	// base cannot be named before git 2.40.)
	undo, err := l.Repo.CommitTree(ctx, git.NewCommit{Tree: before, Parents: []git.Commit{c.Landed}, Message: "undo\n"})
	if err != nil {
		return err
	}
	m, err := l.Repo.MergeTree(ctx, tip, undo)
	if err != nil {
		return err
	}
	if !m.Clean {
		return stop(fault.Conflict, l.byHand(c), "undoing it conflicts with what landed since, in %s", listed(m.Conflicts))
	}
	if tip == c.Landed && m.Tree != before {
		return stop(fault.Bug, "", "undoing %s makes another tree than %s had; nothing more was pushed", c.Landed.Short(), c.Base.Short())
	}
	l.plan.tree = m.Tree
	if l.plan.changed, err = l.Repo.Changed(ctx, string(tip)+"^{tree}", m.Tree); err != nil {
		return err
	}
	if len(l.plan.changed) == 0 {
		return stop(fault.LandedRed, "git show "+c.Landed.Short(), "%s has nothing of it any more", l.out.Base)
	}
	verify := ""
	if tip != c.Landed {
		if err := l.choose(ctx); err != nil {
			return err
		}
		if verify = named(l.commands); verify == "" {
			verify = "none"
		}
	}
	said, err := l.Repo.Message(ctx, l.of.rec.Head)
	if err != nil {
		return err
	}
	subject, _, _ := strings.Cut(said, "\n")
	why := fmt.Sprintf("Its pipeline #%d failed, and #%d, the same started anew, failed too.\nWhat it landed on, %s, was green.", c.Number, c.AgainNumber, c.Base.Short())
	l.plan.candidate, err = l.Repo.CommitTree(ctx, git.NewCommit{
		Tree: m.Tree, Parents: []git.Commit{tip}, Sign: l.cfg.Bool("commit.gpgsign"),
		Message: revertMessage(l.of.topic(), subject, l.out.ID, why, verify, c.Landed),
	})
	if err != nil {
		return err
	}
	l.out.Head, l.rec.Head = l.plan.candidate, l.plan.candidate
	l.list = []git.Entry{{Commit: l.plan.candidate, Parents: []git.Commit{tip}, Subject: "Revert " + l.of.topic() + ": " + subject}}
	l.say("revert", "undoing %s on %s, commit %s", c.Landed.Short(), tip.Short(), l.plan.candidate.Short())
	if err := l.Repo.UpdateRefs(ctx, git.RefChange{Name: l.candidateRef(), New: l.plan.candidate, Whatever: true}); err != nil {
		return err
	}
	l.rec.Before, l.rec.Candidate, l.rec.Commands = tip, l.plan.candidate, l.commands
	return l.write(Integrated)
}

// byHand is how a person begins the same.
func (l *lander) byHand(c *redCase) string {
	what := []string{"git", "revert", string(c.Base) + ".." + string(c.Landed)}
	if c.Landed != l.of.rec.Head { // a merge
		what = []string{"git", "revert", "-m", "1", string(c.Landed)}
	}
	return ui.Command("git", "fetch", l.out.Remote) + " && " +
		ui.Command("git", "switch", "--no-track", "-c", "revert-"+l.of.topic(), l.out.Remote+"/"+l.out.Base) + " && " + ui.Command(what...)
}

// afterRevert is what follows once the base has the revert, or a pull request
// would bring it. The landing's end is red in any case.
func (l *lander) afterRevert(ctx context.Context) error {
	rv := l.rec.Revert
	l.out.Kind, l.out.Good = fault.LandedRed, ""
	if l.out.CI == nil && !l.o.NoWatch && l.CI != nil { // an earlier run saw it
		if o, err := l.look(ctx, l.out.Landed); err == nil {
			l.out.CI = &o
		}
	}
	out := &Reverted{Commit: rv.Candidate}
	l.out.Revert = out
	if rv.Phase == Proposed {
		out.Reason = fmt.Sprintf("not reverted yet: %s takes pull requests only, and #%d of %s is open at %s", l.out.Base, rv.Pull.Number, rv.Candidate.Short(), rv.Pull.URL)
		l.out.Pull, l.out.Next = rv.Pull, "homelab work land"
		l.out.Reason += "; " + out.Reason
		return nil
	}
	out.Done = true
	out.Reason = "reverted by " + rv.Candidate.Short()
	l.out.Next = "homelab ci logs --failed " + string(l.out.Landed)
	v := l.reversal()
	v.rec = *rv
	v.out.Landed, v.out.BaseAfter, v.out.BaseBefore = rv.Candidate, l.out.BaseAfter, rv.Before
	if err := v.settling(ctx); err != nil {
		l.warn("the clone could not be brought up to date: %v", err)
	}
	err := l.watchRevert(ctx, out)
	l.out.Reason += "; " + out.Reason
	return err
}

// watchRevert says what CI makes of the revert. Known to be good, it ends the
// landing; else the next run looks again.
func (l *lander) watchRevert(ctx context.Context, out *Reverted) error {
	if l.o.NoWatch || l.CI == nil {
		l.over = true
		return nil
	}
	o, err := l.CI.Watch(ctx, l.wanted(out.Commit, l.baseName()), func(u pipeline.Update) { l.Tell(Watched{u}) })
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		out.Reason += "; what CI says of it is not known: " + err.Error()
		l.out.Next = "homelab work land"
		return nil
	}
	out.Reason += "; " + ciWords(&o)
	end, _ := endOfWatch(o, l.o.RequireCI)
	switch end {
	case fault.OK:
		l.over = true
		return nil
	case fault.LandedRed:
		l.out.Next = "homelab ci logs --failed " + string(out.Commit)
	case fault.Held:
		if o.Row != nil {
			l.out.Next = fmt.Sprintf("homelab ci approve --number %d", o.Row.Number)
		}
	case fault.Interrupted, fault.Terminated:
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	case fault.Failed, fault.Absent, fault.Denied, fault.Replaced, fault.Unreachable, fault.Timeout, fault.Conflict, fault.Unsafe,
		fault.Usage, fault.Bug:
		l.out.Next = "homelab ci watch " + string(out.Commit)
	}
	out.Reason += ": " + o.Reason
	return nil
}

// settleRevert finds out what became of an earlier run's revert of r. done:
// this run has its end by that.
func (l *lander) settleRevert(ctx context.Context, r *Record, fresh bool) (done bool, err error) {
	rv := *r.Revert
	for _, c := range slices.Backward(rv.Tried) {
		in, err := l.Repo.IsAncestor(ctx, c, l.out.BaseBefore)
		if err != nil {
			return false, err
		}
		if in == git.Yes {
			rv.Phase, rv.Candidate = OnBase, c
			break
		}
	}
	if rv.Phase == Proposed && !fresh {
		if err := l.mergedRevert(ctx, &rv); err != nil {
			return false, err
		}
	}
	switch {
	case rv.Phase == OnBase:
		l.say("revert", "landing %s was reverted by %s", r.ID, rv.Candidate.Short())
	case rv.Phase != Proposed:
		rv.Phase = Begun // nothing of it arrived: start anew
	}
	r.Revert = &rv
	switch {
	case fresh:
		return false, l.close(ctx, *r)
	case rv.Phase == OnBase, rv.Phase == Proposed:
		return true, l.goOn(ctx, *r)
	}
	return false, nil
}

// mergedRevert looks at the pull request of a revert.
func (l *lander) mergedRevert(ctx context.Context, rv *Record) error {
	if l.Forge == nil || rv.Pull == nil {
		return nil
	}
	pull, state, err := l.Forge.Look(ctx, l.url, rv.Pull.Number)
	if err != nil {
		return err
	}
	rv.Pull = &pull
	switch {
	case state.Open:
	case !state.Merged:
		l.say("revert", "the pull request #%d was closed", pull.Number)
		rv.Phase, rv.Pull = Begun, nil
	case state.Commit != "":
		in, err := l.Repo.IsAncestor(ctx, state.Commit, l.out.BaseBefore)
		if err != nil {
			return err
		}
		if in == git.Yes {
			rv.Phase, rv.Candidate = OnBase, state.Commit
		}
	}
	return nil
}
