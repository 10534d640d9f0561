package landing

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// Aborted is what became of a branch's unfinished landing.
type Aborted struct {
	Topic   string
	Branch  string
	Found   bool       // there was one
	Landed  git.Commit // it had landed after all; "" it had not
	Unknown bool       // whether it landed is not known
	Base    string
	Pull    *PullRequest // stays as it is
	Did     []string
}

// Abort gives up the unfinished landing of a task, or of the branch that is
// checked out for topic "". A push whose end is in doubt is settled first. No
// base is touched, nor the branch, its work tree or a pull request. The error
// is a *fault.Error.
func (d *Desk) Abort(ctx context.Context, topic string) (Aborted, *fault.Error) {
	a := &aborter{Desk: d}
	a.out.Topic = topic
	err := a.run(ctx)
	words := []string{"work", "abort"}
	if topic != "" {
		words = append(words, topic)
	}
	return a.out, explain(ctx, err, ui.Command(words...), a.remote)
}

type aborter struct {
	*Desk
	out    Aborted
	remote string
}

func (a *aborter) did(format string, args ...any) {
	a.out.Did = append(a.out.Did, fmt.Sprintf(format, args...))
	a.say("%s", a.out.Did[len(a.out.Did)-1])
}

func (a *aborter) run(ctx context.Context) error {
	if err := a.old(ctx); err != nil {
		return err
	}
	if err := a.find(ctx); err != nil {
		return err
	}
	records, err := Unfinished(a.Repo.CommonDir(), a.out.Branch)
	if err != nil {
		a.warn("%v", err)
	}
	for _, r := range records {
		a.out.Found = true
		a.remote = r.Remote
		if err := a.giveUp(ctx, r); err != nil {
			return err
		}
	}
	return a.sweep(ctx)
}

// find says which branch is meant.
func (a *aborter) find(ctx context.Context) error {
	if a.out.Topic != "" {
		t, ok, err := a.record(a.out.Topic)
		if err != nil {
			return err
		}
		if !ok {
			return stop(fault.Usage, "homelab work status", "there is no task %s", ui.Quote(ui.Clean(a.out.Topic)))
		}
		a.out.Branch = t.Branch
		return nil
	}
	branch, on, err := a.Repo.CurrentBranch(ctx)
	if err != nil {
		return err
	}
	if !on {
		return stop(fault.Usage, "homelab work status", "no branch is checked out here; name the task")
	}
	a.out.Branch = branch
	a.out.Topic = taskOf(a.Repo.CommonDir(), branch).Topic
	return nil
}

func (a *aborter) giveUp(ctx context.Context, r Record) error {
	a.out.Base = r.Base
	if UnderWay(a.Repo.CommonDir(), r.ID) {
		return stop(fault.Held, ui.Command("kill", fmt.Sprint(r.PID)), "process %d is landing %s right now; end that first", r.PID, r.Branch)
	}
	book, err := openJournal(a.Repo.CommonDir(), r.ID)
	if err != nil {
		return err
	}
	defer book.close()
	l, err := a.lander(ctx, Options{}, task{})
	if err != nil {
		return err
	}
	if l.endpoint, err = a.endpoint(ctx, r.Remote); err != nil {
		return err
	}
	l.rec, l.out.Remote, l.out.Base, l.out.ID = r, r.Remote, r.Base, r.ID
	if r.Pull != nil {
		a.out.Pull = r.Pull
	}
	switch resumeStep(r.Phase, false) {
	case askRemote:
		a.out.Unknown = true
		at, err := l.lookAgain(ctx)
		if err != nil {
			return err
		}
		c := git.Commit("")
		if at != "" {
			if c, err = l.arrived(ctx, at); err != nil {
				return err
			}
		}
		a.out.Unknown = false
		if c != "" {
			r.Phase, r.Candidate = OnBase, c
			if err := book.write(r); err != nil {
				return err
			}
			a.out.Landed = c
			_, err = a.unstage(ctx, l, r)
			return err
		}
	case watchAgain, landTheRest:
		// What is on the base stays; how CI finds it is still to be known.
		a.out.Landed = r.Candidate
		if r.Revert != nil {
			if err := a.revertOf(ctx, l, book, r); err != nil {
				return err
			}
		}
		_, err = a.unstage(ctx, l, r)
		return err
	case startAnew, lookAtPull, nothingToDo:
	}
	if _, err := a.unstage(ctx, l, r); err != nil {
		return err
	}
	l.forgetRefs(ctx, r.ID)
	if err := book.remove(); err != nil {
		return err
	}
	a.did("gave up landing %s of %s", r.ID, r.Branch)
	return nil
}

// revertOf settles what an earlier run began to take the landing off the base
// again. What arrived stays, and so does a pull request.
func (a *aborter) revertOf(ctx context.Context, l *lander, book *journal, r Record) error {
	rv := *r.Revert
	if rv.Phase != OnBase && len(rv.Tried) > 0 {
		at, err := l.lookAgain(ctx)
		if err != nil {
			return err
		}
		l.rec.Tried = rv.Tried
		c := git.Commit("")
		if at != "" {
			if c, err = l.arrived(ctx, at); err != nil {
				return err
			}
		}
		if c != "" {
			rv.Phase, rv.Candidate = OnBase, c
		}
	}
	if _, err := a.unstage(ctx, l, rv); err != nil {
		return err
	}
	rv.Stagings = nil
	switch rv.Phase {
	case OnBase:
		a.did("landing %s was reverted by %s", r.ID, rv.Candidate.Short())
	case Proposed:
		a.out.Pull = rv.Pull
	case Begun, Integrated, Verified, Staged, Pushing, Done:
		rv.Phase = Begun
	}
	r.Revert = &rv
	return book.write(r)
}

// unstage deletes the branches that CI tested, if they are what was pushed,
// and returns those that stay.
func (a *aborter) unstage(ctx context.Context, l *lander, r Record) ([]Staging, error) {
	for i, s := range r.Stagings {
		if err := a.unstageOne(ctx, l, r, s); err != nil {
			return r.Stagings[i:], err
		}
	}
	return nil, nil
}

func (a *aborter) unstageOne(ctx context.Context, l *lander, r Record, s Staging) error {
	var told git.Advertised
	if err := l.asking(ctx, func() (err error) { told, err = l.Repo.LsRemote(ctx, l.endpoint, s.Ref); return err }); err != nil {
		return err
	}
	name := strings.TrimPrefix(s.Ref, "refs/heads/")
	there := told.Refs[s.Ref]
	switch {
	case there == "":
		return nil
	case there != s.Commit:
		a.warn("%s on %s is not what was pushed and stays", name, r.Remote)
		return nil
	}
	reply, err := l.Repo.Push(ctx, l.endpoint, git.Push{Ref: s.Ref, Expect: there})
	if err != nil {
		return err
	}
	if line, ok := reply.Line(s.Ref); !ok || reply.Exit != 0 || line.Flag != '-' {
		return stop(fault.Denied, "homelab work abort", "%s was not deleted on %s", name, r.Remote).Because(strings.Join(reply.Words(), "; "))
	}
	a.did("deleted %s on %s", name, r.Remote)
	return nil
}

// sweep deletes what landings of the branch that are done have left for CI.
func (a *aborter) sweep(ctx context.Context) error {
	records, err := Records(a.Repo.CommonDir())
	if err != nil {
		a.warn("%v", err)
	}
	for _, r := range records {
		if r.Branch != a.out.Branch || r.Phase != Done || len(r.Stagings) == 0 || UnderWay(a.Repo.CommonDir(), r.ID) {
			continue
		}
		a.remote = r.Remote
		l, err := a.lander(ctx, Options{}, task{})
		if err != nil {
			return err
		}
		if l.endpoint, err = a.endpoint(ctx, r.Remote); err != nil {
			return err
		}
		book, err := openJournal(a.Repo.CommonDir(), r.ID)
		if err != nil {
			return err
		}
		r.Stagings, err = a.unstage(ctx, l, r)
		err = errors.Join(err, book.write(r))
		book.close()
		if err != nil {
			return err
		}
	}
	return nil
}
