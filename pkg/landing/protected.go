package landing

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// Forge opens pull requests. Nil stands for none that may be asked.
type Forge interface {
	// Check asks for the repository with the user's token. The error is a
	// *fault.Error; a confirmed refusal is fault.Denied. ok is false when there
	// is no token or no such forge: then a person opens the request.
	Check(ctx context.Context, remote string) (ok bool, err error)
	// Open finds the open request for head and base, or makes one.
	Open(ctx context.Context, p Proposal) (PullRequest, error)
	// Look reads a request again.
	Look(ctx context.Context, remote string, number int64) (PullRequest, Merged, error)
}

// Proposal is a pull request to be made.
type Proposal struct {
	Remote string // URL of the repository with the base
	Review string // URL of the repository with the branch
	Branch string
	Base   string
	Title  string
	Body   string
}

// Merged is how a pull request ended.
type Merged struct {
	Open   bool
	Merged bool
	Commit git.Commit // the merge's, on the base; "" while it is not merged
}

// propose publishes the branch for a pull request, as only that may move the
// base. Proposed is the head, not the candidate: the forge merges itself.
func (l *lander) propose(ctx context.Context, words string) error {
	l.say("push", "%s is protected; a pull request is needed", l.out.Base)
	remote := l.url
	review := l.reviewRemote()
	reviewURL, err := l.Repo.RemoteURL(ctx, review)
	if err != nil {
		return err
	}
	able := false
	if l.Forge != nil {
		if able, err = l.Forge.Check(ctx, remote); err != nil {
			return err
		}
	}
	if err := l.pushBranch(ctx, review); err != nil {
		return err
	}
	if !able {
		l.out.Pull = nil
		e := stop(fault.Held, l.address(reviewURL), "%s takes pull requests only; %s is pushed to %s, and a pull request has to be opened", l.out.Base, l.out.Branch, review)
		return e.Because(words)
	}
	p := Proposal{Remote: remote, Review: reviewURL, Branch: l.out.Branch, Base: l.out.Base, Title: l.title(), Body: l.body()}
	pull, err := l.Forge.Open(ctx, p)
	if err != nil {
		return err
	}
	l.out.Pull, l.rec.Pull = &pull, &pull
	if err := l.write(Proposed); err != nil {
		return err
	}
	return l.held(pull)
}

func (l *lander) held(pull PullRequest) error {
	return stop(fault.Held, "homelab work land", "%s takes pull requests only: #%d is open at %s; land again once it is merged", l.out.Base, pull.Number, pull.URL)
}

func (l *lander) reviewRemote() string {
	for _, key := range []string{"branch." + l.out.Branch + ".pushRemote", "branch." + l.out.Branch + ".pushremote", "remote.pushdefault"} {
		if r := l.cfg.Get(key); r != "" {
			return r
		}
	}
	return l.out.Remote
}

// pushBranch publishes the head as the branch: a new one is only ever created,
// an existing one moves forward, or is replaced if this clone pushed what it
// has.
func (l *lander) pushBranch(ctx context.Context, review string) error {
	ref := "refs/heads/" + l.out.Branch
	e := git.Endpoint{Remote: review}
	var told git.Advertised
	if err := l.asking(ctx, func() (err error) { told, err = l.Repo.LsRemote(ctx, e, ref); return err }); err != nil {
		return err
	}
	there := told.Refs[ref]
	if there == l.out.Head {
		return nil
	}
	if there != "" {
		forward, err := l.Repo.IsAncestor(ctx, there, l.out.Head)
		if err != nil {
			return err
		}
		if forward != git.Yes && !l.ours(there) {
			return stop(fault.Conflict, "git fetch "+review+" "+ref, "%s on %s has commits that are not this clone's; the base is unchanged", l.out.Branch, review)
		}
	}
	l.rec.Review = l.out.Head
	if err := l.write(l.rec.Phase); err != nil {
		return err
	}
	reply, err := l.Repo.Push(ctx, e, git.Push{Commit: l.out.Head, Ref: ref, Expect: there})
	if err != nil {
		return err
	}
	if line, ok := reply.Line(ref); ok && reply.Exit == 0 && line.Flag != '!' {
		return nil
	}
	why := strings.Join(reply.Words(), "; ")
	switch git.ClassifyPush(reply, ref) {
	case git.PushRace:
		return stop(fault.Conflict, "homelab work land", "%s on %s moved meanwhile; the base is unchanged", l.out.Branch, review).Because(why)
	case git.PushHook, git.PushSubmodule:
		return stop(fault.Failed, "homelab work land", "%s was not pushed to %s", l.out.Branch, review).Because(why)
	case git.PushUnknown:
		return stop(fault.Unreachable, "homelab work land", "whether %s arrived on %s is not known; the base is unchanged", l.out.Branch, review).Because(why)
	case git.PushLanded, git.PushPolicy, git.PushProtected, git.PushRejected, git.PushDenied, git.PushImpossible:
	}
	return stop(fault.Denied, "homelab work land", "%s refuses %s; the base is unchanged", review, l.out.Branch).Because(why)
}

// ours says whether this clone proposed that commit for the branch.
func (l *lander) ours(c git.Commit) bool {
	all, _ := Records(l.Repo.CommonDir()) // what cannot be read proves nothing
	for _, r := range all {
		if r.Branch == l.out.Branch && r.Review == c {
			return true
		}
	}
	return false
}

func (l *lander) title() string {
	if len(l.list) == 0 {
		return l.out.Branch
	}
	return oneLine(l.list[0].Subject)
}

func (l *lander) body() string {
	var b strings.Builder
	for _, e := range l.list[:min(len(l.list), mostListed)] {
		fmt.Fprintf(&b, "* %s %s\n", e.Commit.Short(), oneLine(e.Subject))
	}
	if v := l.out.Verify; v != nil && v.Command != "" {
		fmt.Fprintf(&b, "\nVerified merged with %s %s: `%s` %s\n", l.out.Base, l.out.BaseBefore.Short(), v.Command, v.Status)
	}
	return b.String()
}

// address is where a person opens the request.
func (l *lander) address(remote string) string {
	r, err := git.ParseRemote(remote)
	if err != nil {
		return "git request-pull " + l.out.Base + " " + l.out.Remote
	}
	u := url.URL{Scheme: "https", Host: r.Host, Path: "/" + r.Path + "/compare/" + l.out.Base + "..." + l.out.Branch}
	if r.Scheme == "http" || r.Scheme == "https" {
		u.Scheme = r.Scheme
		if r.Port != 0 {
			u.Host = fmt.Sprintf("%s:%d", r.Host, r.Port)
		}
	}
	return u.String()
}

// lookAt settles a landing that became a pull request.
func (l *lander) lookAt(ctx context.Context, r Record, fresh bool) (bool, error) {
	if l.Forge == nil || r.Pull == nil {
		return false, l.drop(ctx, r)
	}
	pull, state, err := l.Forge.Look(ctx, l.url, r.Pull.Number)
	if err != nil {
		return false, err
	}
	switch {
	case state.Open && fresh:
		l.out.ID, l.rec = r.ID, r
		if l.book, err = openJournal(l.Repo.CommonDir(), r.ID); err != nil {
			return false, err
		}
		if err := l.guard(ctx); err != nil {
			return false, err
		}
		if err := l.pushBranch(ctx, l.reviewRemote()); err != nil {
			return false, err
		}
		l.rec.Head, l.rec.Pull, l.out.Pull = l.out.Head, &pull, &pull
		if err := l.write(Proposed); err != nil {
			return false, err
		}
		return true, l.held(pull)
	case state.Open:
		l.out.Pull = &pull
		return true, l.held(pull)
	case !state.Merged:
		return false, l.drop(ctx, r)
	}
	in := git.Unproven
	if state.Commit != "" {
		if in, err = l.Repo.IsAncestor(ctx, state.Commit, l.out.BaseBefore); err != nil {
			return false, err
		}
	}
	if in != git.Yes {
		return false, errors.Join(stop(fault.Unreachable, "homelab work land", "the pull request #%d is merged, and %s does not have it yet", pull.Number, l.out.Base))
	}
	l.out.Pull = &pull
	if fresh {
		return false, l.close(ctx, r)
	}
	r.Candidate = state.Commit
	return true, l.goOn(ctx, r)
}
