package landing

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/poll"
	"homelab/pkg/ui"
)

// resume settles what earlier landings of this branch left. done: this run has
// its end by that, or goes on from where an earlier one stopped.
func (l *lander) resume(ctx context.Context) (done bool, err error) {
	records, err := Unfinished(l.Repo.CommonDir(), "")
	if err != nil {
		l.warn("%v", err)
	}
	var others []Record
	records, others = divide(records, l.out.Branch)
	if err := l.renamed(ctx, others); err != nil {
		return false, err
	}
	for _, r := range records {
		if UnderWay(l.Repo.CommonDir(), r.ID) {
			if r.Phase == OnBase && len(l.list) > 0 {
				continue // it only watches, and there is more to land
			}
			// Its end is this one's: to say "nothing to do" while it may still
			// turn red would be wrong.
			if err := l.outlast(ctx, r); err != nil {
				return false, err
			}
			if r, err = l.reread(r.ID); err != nil {
				return false, err
			}
			if r.Phase == Done {
				continue
			}
		}
		if r.Remote != l.out.Remote || r.Base != l.out.Base {
			if resumeStep(r.Phase, false) == startAnew {
				if err := l.drop(ctx, r); err != nil {
					return false, err
				}
			} else {
				l.warn("landing %s of this branch onto %s at %s is not settled; land there to settle it", r.ID, r.Base, r.Remote)
			}
			continue
		}
		done, err := l.settleRecord(ctx, r)
		if done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// divide parts the records of branch from the others.
func divide(all []Record, branch string) (its, others []Record) {
	for _, r := range all {
		if r.Branch == branch {
			its = append(its, r)
		} else {
			others = append(others, r)
		}
	}
	return its, others
}

// renamed tells of landings that may have reached the remote and whose branch is
// gone while this one has their commits: a landing is known by its branch's
// name, so that nobody would settle them under a new one. What is on the base
// every branch has; then only the very same commit speaks for a new name.
func (l *lander) renamed(ctx context.Context, others []Record) error {
	for _, r := range others {
		if resumeStep(r.Phase, false) == startAnew || UnderWay(l.Repo.CommonDir(), r.ID) {
			continue
		}
		tip, err := l.Repo.Tip(ctx, "refs/heads/"+r.Branch)
		if err != nil {
			return err
		}
		if tip != "" {
			continue
		}
		ours, err := l.Repo.IsAncestor(ctx, r.Head, l.out.Head)
		if err != nil {
			return err
		}
		landed, err := l.Repo.IsAncestor(ctx, r.Head, l.out.BaseBefore)
		if err != nil {
			return err
		}
		if r.Head == l.out.Head || ours == git.Yes && landed == git.No {
			l.warn("landing %s of %s is not settled, and this branch has its commits: if it was renamed, \"%s\" and land again to settle it",
				r.ID, r.Branch, ui.Command("git", "branch", "-m", r.Branch))
		}
	}
	return nil
}

func (l *lander) reread(id string) (Record, error) {
	all, err := Records(l.Repo.CommonDir())
	for _, r := range all {
		if r.ID == id {
			return r, nil
		}
	}
	return Record{ID: id, Phase: Done}, err
}

// outlast waits for another run's landing of this branch.
func (l *lander) outlast(ctx context.Context, r Record) error {
	l.say("land", "waiting for landing %s of this branch (process %d)", r.ID, r.PID)
	l.lock.release()
	err := poll.Until(ctx, poll.Steps(200*time.Millisecond), func(context.Context) (poll.State, error) {
		if UnderWay(l.Repo.CommonDir(), r.ID) {
			return poll.NotYet, nil
		}
		return poll.Done, nil
	})
	if err != nil {
		return err
	}
	if err := l.relock(ctx); err != nil {
		return err
	}
	// The base has moved, if that landing went well.
	tip, err := l.lookAgain(ctx)
	if err != nil {
		return err
	}
	if tip == "" {
		return stop(fault.Usage, ui.Command("git", "ls-remote", "--heads", l.out.Remote), "%s has no branch %s any more; nothing was pushed", l.out.Remote, l.out.Base)
	}
	l.out.BaseBefore = tip
	if err := l.readRules(ctx); err != nil {
		return err
	}
	if err := l.tightened(); err != nil {
		return err
	}
	return l.compare(ctx)
}

func (l *lander) relock(ctx context.Context) (err error) {
	l.lock, err = acquire(ctx, l.Repo.CommonDir(), l.out.Branch, func(holder string) {
		l.say("land", "waiting for the landing of %s in this clone", holder)
	})
	return err
}

// settleRecord does what resumeStep says about one record.
func (l *lander) settleRecord(ctx context.Context, r Record) (done bool, err error) {
	fresh := len(l.list) > 0
	if r.Revert != nil && r.Phase == OnBase {
		if done, err := l.settleRevert(ctx, &r, fresh); done || fresh || err != nil {
			return done, err
		}
	}
	switch resumeStep(r.Phase, fresh) {
	case startAnew:
		return false, l.drop(ctx, r)
	case askRemote:
		return l.askFor(ctx, r, fresh)
	case lookAtPull:
		return l.lookAt(ctx, r, r.Head != l.out.Head)
	case landTheRest, nothingToDo:
		return false, l.close(ctx, r)
	case watchAgain:
		if err := l.taken(ctx, r); err != nil {
			return true, err
		}
		return true, l.goOn(ctx, r)
	}
	return false, nil
}

// askFor finds out whether the push an earlier run left in doubt has arrived.
// The base's tip is present: it was just asked for.
func (l *lander) askFor(ctx context.Context, r Record, fresh bool) (bool, error) {
	for _, c := range r.Tried {
		in, err := l.Repo.IsAncestor(ctx, c, l.out.BaseBefore)
		if err != nil {
			return false, err
		}
		if in != git.Yes {
			continue
		}
		r.Candidate = c
		if fresh {
			l.say("push", "landing %s had arrived as %s; landing what came since", r.ID, c.Short())
			return false, l.close(ctx, r)
		}
		l.say("push", "landing %s had arrived as %s", r.ID, c.Short())
		if err := l.taken(ctx, r); err != nil {
			return true, err
		}
		return true, l.goOn(ctx, r)
	}
	if r.Head == l.out.Head {
		// A server that is still busy with that push may yet take it. It is this
		// landing then, and not a race that was lost.
		l.doubtful = append(l.doubtful, r.Tried...)
	}
	return false, l.drop(ctx, r)
}

// taken ends a landing that was taken off the base again while nobody watched:
// its pipeline may be green, and its work is not there.
func (l *lander) taken(ctx context.Context, r Record) error {
	for _, e := range l.theirs {
		if !slices.Contains(hashes(e.Trailer), r.Candidate) {
			continue
		}
		back, err := restored(ctx, l.Repo, e.Commit, l.out.BaseBefore)
		if err != nil {
			return err
		}
		if back {
			continue
		}
		if err := l.close(ctx, r); err != nil {
			return err
		}
		l.out.Landed = r.Candidate
		return stop(fault.LandedRed, "git show "+e.Commit.Short(), "%s had landed on %s and was reverted by %s", r.Candidate.Short(), l.out.Base, e.Commit.Short())
	}
	return nil
}

// goOn takes over an earlier run's landing after the push.
func (l *lander) goOn(ctx context.Context, r Record) error {
	own := l.out.ID
	book, err := openJournal(ctx, l.Repo.CommonDir(), r.ID)
	if err != nil {
		return err
	}
	l.book, l.rec = book, r
	l.out.ID, l.out.Attempts = r.ID, r.Attempts
	l.out.BackupRef = "refs/homelab/backup/" + r.ID
	l.rec.PID = os.Getpid()
	tip := l.out.BaseBefore
	l.out.BaseBefore = r.Before
	l.forgetRefs(ctx, own)
	l.rules.Workflows = r.Workflows
	l.o.RequireCI = l.o.RequireCI || r.RequireCI
	if r.Named && len(l.o.Targets) == 0 {
		l.o.Targets = r.Deploy
	}
	l.out.Landed, l.out.BaseAfter, l.out.Unknown = r.Candidate, tip, false
	if err := l.ready(ctx); err != nil && !l.o.NoWatch {
		l.out.BaseAfter = tip
		return err
	}
	return l.after(ctx)
}

// drop forgets a landing that has published nothing on the base.
func (l *lander) drop(ctx context.Context, r Record) error {
	r.Stagings = l.remove(ctx, r.Stagings)
	l.forgetRefs(ctx, r.ID)
	book, err := openJournal(ctx, l.Repo.CommonDir(), r.ID)
	if err != nil {
		return err
	}
	if r.Review != "" || len(r.Stagings) > 0 { // it tells whose the commits of a pull request are, and what is still to be deleted
		defer book.close()
		r.Phase = Done
		return book.write(r)
	}
	return book.remove()
}

// close marks an earlier landing as done: it is on the base, and new commits
// take its place.
func (l *lander) close(ctx context.Context, r Record) error {
	book, err := openJournal(ctx, l.Repo.CommonDir(), r.ID)
	if err != nil {
		return err
	}
	defer book.close()
	r.Stagings = l.remove(ctx, r.Stagings)
	if rv := r.Revert; rv != nil {
		r.Stagings = append(r.Stagings, l.remove(ctx, rv.Stagings)...)
		rv.Stagings = nil
	}
	r.Phase = Done
	l.forgetRefs(ctx, r.ID)
	return book.write(r)
}

// forgetOwn deletes the refs this run made, which it knows without asking. One
// that was never made after all is no reason to keep the other.
func (l *lander) forgetOwn(ctx context.Context, id string) {
	var changes []git.RefChange
	for _, name := range l.refs {
		if !slices.ContainsFunc(changes, func(c git.RefChange) bool { return c.Name == name }) {
			changes = append(changes, git.RefChange{Name: name, Whatever: true})
		}
	}
	if err := l.Repo.UpdateRefs(ctx, changes...); err != nil {
		l.refs = nil
		l.forgetRefs(ctx, id)
	}
	l.refs = nil
}

func (l *lander) forgetRefs(ctx context.Context, id string) {
	prefix := "refs/homelab/land/" + id + "/"
	if len(l.refs) > 0 && strings.HasPrefix(l.refs[0], prefix) {
		l.forgetOwn(ctx, id)
		return
	}
	refs, err := l.Repo.Refs(ctx, prefix)
	var changes []git.RefChange
	for _, r := range refs {
		changes = append(changes, git.RefChange{Name: r.Name, Old: r.Commit, Whatever: true})
	}
	if err = errors.Join(err, l.Repo.UpdateRefs(ctx, changes...)); err != nil {
		l.warn("%s stays: %v", prefix, err)
	}
}

// forget ends a landing that had nothing to do: its record goes, and with the
// rest of what only it needed, its refs.
func (l *lander) forget() error {
	l.rec.Phase = Done
	return l.book.remove()
}

// tidy removes what the landing needed only while it ran. A record that a
// re-run needs stays.
func (l *lander) tidy(ctx context.Context) {
	defer l.book.close()
	switch l.rec.Phase {
	case Begun, Integrated, Verified, Staged:
		if len(l.rec.Stagings) > 0 {
			return // the next run deletes it
		}
		l.forgetRefs(ctx, l.out.ID)
		// The log of a failed verification is worth keeping; the record is not.
		l.rec.Phase = Done
		if err := l.book.write(l.rec); err != nil {
			l.warn("%v", err)
		}
	case Pushing:
		if l.out.Unknown {
			return
		}
		if l.out.Landed != "" {
			// The server has said that it took it, and then there was no time: the
			// next run goes on from there.
			l.rec.Phase = OnBase
			if err := l.book.write(l.rec); err != nil {
				l.warn("%v", err)
			}
			return
		}
		l.forgetRefs(ctx, l.out.ID)
		l.rec.Phase = Done
		if err := l.book.write(l.rec); err != nil {
			l.warn("%v", err)
		}
	case Proposed:
	case OnBase:
		l.forgetRefs(ctx, l.out.ID)
		if l.out.Kind == fault.OK || l.over {
			l.rec.Phase = Done
			if err := l.book.write(l.rec); err != nil {
				l.warn("%v", err)
			}
		}
	case Done:
		l.forgetRefs(ctx, l.out.ID)
	}
}
