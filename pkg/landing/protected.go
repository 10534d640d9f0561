package landing

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// Forge opens pull requests. Nil stands for none that may be asked.
type Forge interface {
	// Check asks for the repository with the user's token, if there is one. The
	// error is a *fault.Error; a confirmed refusal is fault.Denied.
	Check(ctx context.Context, remote string) (Access, error)
	// Open finds the open request for head and base, or makes one.
	Open(ctx context.Context, p Proposal) (PullRequest, error)
	// Look reads a request again. Without a right to see it Merged.Unknown is
	// set and the rest is not.
	Look(ctx context.Context, remote string, number int64) (PullRequest, Merged, error)
	// Closed says why the repository takes no pushes of the user's: "" if it
	// does, or if that is not known.
	Closed(ctx context.Context, remote string) string
}

// Access is what may be done at the forge of a remote. The zero value is a
// forge that nothing is known of.
type Access struct {
	Kind  string // "forgejo", "gitea", "github"; "" when the user did not list the host
	Token bool   // requests can be found and made
	Page  string // address of the repository's page; "" when it is not known
}

// agit says whether pushing to refs/for/BASE makes a request there. A forge
// that is not listed tells what it is in its refusal.
func (a Access) agit(words string) bool {
	switch a.Kind {
	case "forgejo", "gitea":
		return true
	case "":
		return strings.Contains(words, "Forgejo: ") || strings.Contains(words, "Gitea: ")
	}
	return false
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
	Unknown bool // it may not be asked for
	Open    bool
	Merged  bool
	Commit  git.Commit // the merge's, on the base; "" while it is not merged
}

// writable returns the one remote of several whose forge does not say that it
// takes no pushes. Without one, left are all of them, with what was said.
func (l *lander) writable(ctx context.Context, remotes []string) (name string, left []string) {
	var open []string
	for _, n := range remotes {
		why := ""
		if _, push, err := l.Repo.URLs(ctx, l.cfg, n); err == nil && len(push) == 1 && l.Forge != nil {
			why = l.Forge.Closed(ctx, push[0])
		}
		if why == "" {
			open, left = append(open, n), append(left, n)
		} else {
			left = append(left, n+" ("+why+")")
		}
	}
	if len(open) == 1 {
		return open[0], nil
	}
	// Those that do take pushes come first: the first is the one advised.
	slices.SortStableFunc(left, func(a, b string) int { return strings.Count(a, " (") - strings.Count(b, " (") })
	return "", left
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
	var access Access
	if l.Forge != nil {
		if access, err = l.Forge.Check(ctx, remote); err != nil {
			return err
		}
	}
	if !access.Token && access.agit(words) {
		if done, err := l.pushFor(ctx, access); done || err != nil {
			return err
		}
	}
	links, err := l.pushBranch(ctx, review)
	if err != nil {
		return err
	}
	if !access.Token {
		l.out.Pull = nil
		next := l.address(access, reviewURL)
		if len(links) > 0 {
			next = ui.Command(links[0]) // the server's own word for it
		}
		e := stop(fault.Held, next, "%s takes pull requests only; %s is pushed to %s, and a pull request has to be opened", l.out.Base, l.out.Branch, review)
		return e.Because(words)
	}
	p := Proposal{Remote: remote, Review: reviewURL, Branch: l.out.Branch, Base: l.out.Base, Title: l.title(), Body: l.body()}
	pull, err := l.Forge.Open(ctx, p)
	if err != nil {
		return err
	}
	return l.proposed(pull)
}

// proposed notes an open request and ends the landing until a person merges.
func (l *lander) proposed(pull PullRequest) error {
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
// has. The addresses are those the server printed.
func (l *lander) pushBranch(ctx context.Context, review string) (links []string, err error) {
	ref := "refs/heads/" + l.out.Branch
	e := git.Endpoint{Remote: review}
	var told git.Advertised
	if err := l.asking(ctx, func() (err error) { told, err = l.Repo.LsRemote(ctx, e, ref); return err }); err != nil {
		return nil, err
	}
	there := told.Refs[ref]
	if there == l.out.Head {
		return nil, nil
	}
	if told.Head == ref { // others land there, and what is to be pushed was not verified for it
		return nil, stop(fault.Usage, "git switch -c TOPIC", "%s is the default branch of %s: propose from a branch of its own; nothing was pushed", l.out.Branch, review)
	}
	if there != "" {
		forward, err := l.Repo.IsAncestor(ctx, there, l.out.Head)
		if err != nil {
			return nil, err
		}
		if forward != git.Yes && !l.ours(there) {
			return nil, stop(fault.Conflict, ui.Command("git", "fetch", review, ref), "%s on %s has commits that are not this clone's; the base is unchanged", l.out.Branch, review)
		}
	}
	if err := l.review(); err != nil {
		return nil, err
	}
	reply, err := l.Repo.Push(ctx, e, git.Push{Commit: l.out.Head, Ref: ref, Expect: there})
	if err != nil {
		return nil, err
	}
	if line, ok := reply.Line(ref); ok && reply.Exit == 0 && line.Flag != '!' {
		return reply.Links(), nil
	}
	why := strings.Join(reply.Words(), "; ")
	switch git.ClassifyPush(reply, ref) {
	case git.PushRace:
		return nil, stop(fault.Conflict, "homelab work land", "%s on %s moved meanwhile; the base is unchanged", l.out.Branch, review).Because(why)
	case git.PushHook, git.PushSubmodule:
		return nil, stop(fault.Failed, "homelab work land", "%s was not pushed to %s", l.out.Branch, review).Because(why)
	case git.PushConfig:
		return nil, stop(fault.Usage, "git config --show-origin --get-regexp '^(push|remote)[.]'", "as git is configured here, it cannot push to %s", review).Because(why)
	case git.PushUnknown:
		return nil, stop(fault.Unreachable, "homelab work land", "whether %s arrived on %s is not known; the base is unchanged", l.out.Branch, review).Because(why)
	case git.PushLanded, git.PushPolicy, git.PushProtected, git.PushRejected, git.PushDenied, git.PushImpossible:
	}
	return nil, stop(fault.Denied, "homelab work land", "%s refuses %s; the base is unchanged", review, l.out.Branch).Because(why)
}

// review writes down that the head is about to be published for a request.
func (l *lander) review() error {
	if old := l.rec.Review; old != "" && old != l.out.Head {
		l.rec.Reviewed = append(l.rec.Reviewed, old)
	}
	l.rec.Review = l.out.Head
	return l.write(l.rec.Phase)
}

// ours says whether this clone proposed that commit for the branch.
func (l *lander) ours(c git.Commit) bool {
	mine, _ := l.reviewed(func(r Record) bool { return r.Branch == l.out.Branch })
	return slices.Contains(mine, c)
}

// reviewed returns what this clone published for requests, by the records that
// match, and the latest request of them; nil without one.
func (l *lander) reviewed(match func(Record) bool) (mine []git.Commit, last *PullRequest) {
	all, _ := Records(l.Repo.CommonDir()) // what cannot be read proves nothing
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(a.ID, b.ID) })
	for _, r := range all {
		if !match(r) || r.Review == "" {
			continue
		}
		mine = append(append(mine, r.Reviewed...), r.Review)
		if r.Pull != nil {
			last = r.Pull
		}
	}
	return mine, last
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

// page is the repository's page at its forge; "" when none can be told.
func (l *lander) page(access Access, remote string) string {
	if access.Page != "" {
		return access.Page
	}
	r, err := git.ParseRemote(remote)
	if err != nil {
		return ""
	}
	u := url.URL{Scheme: "https", Host: r.Host, Path: "/" + r.Path}
	if r.Scheme == "http" || r.Scheme == "https" {
		u.Scheme = r.Scheme
		if r.Port != 0 {
			u.Host = fmt.Sprintf("%s:%d", r.Host, r.Port)
		}
	}
	return u.String()
}

// address is where a person opens the request.
func (l *lander) address(access Access, review string) string {
	page := l.page(access, l.url)
	if page == "" {
		return ui.Command("git", "request-pull", l.out.Base, l.out.Remote)
	}
	head := l.out.Branch
	if !sameURL(review, l.url) {
		if r, err := git.ParseRemote(review); err == nil {
			owner, _, _ := strings.Cut(r.Path, "/")
			head = owner + ":" + head
		}
	}
	return ui.Command(page + (&url.URL{Path: "/compare/" + l.out.Base + "..." + head}).EscapedPath())
}

// lookAt settles a landing that became a pull request.
func (l *lander) lookAt(ctx context.Context, r Record, fresh bool) (bool, error) {
	if r.Pull == nil {
		return false, l.drop(ctx, r)
	}
	pull, state := *r.Pull, Merged{Unknown: true}
	if l.Forge != nil {
		var err error
		if pull, state, err = l.Forge.Look(ctx, l.url, r.Pull.Number); err != nil {
			return false, err
		}
	}
	if state.Unknown {
		return l.judgeByBase(ctx, r, fresh)
	}
	switch {
	case state.Open && fresh:
		return true, l.update(ctx, r, pull)
	case state.Open:
		l.out.Pull = &pull
		return true, l.held(pull)
	case !state.Merged:
		l.say("land", "the pull request #%d was closed; starting anew", pull.Number)
		return false, l.close(ctx, r)
	}
	in := git.Unproven
	if state.Commit != "" {
		var err error
		if in, err = l.Repo.IsAncestor(ctx, state.Commit, l.out.BaseBefore); err != nil {
			return false, err
		}
		if in != git.Yes { // it may have been merged since the base was asked for
			tip, err := l.lookAgain(ctx)
			if err != nil {
				return false, err
			}
			if tip != "" {
				if in, err = l.Repo.IsAncestor(ctx, state.Commit, tip); err != nil {
					return false, err
				}
			}
			if in == git.Yes {
				l.out.BaseBefore = tip
				if err := l.compare(ctx); err != nil {
					return false, err
				}
			}
		}
	}
	if in != git.Yes {
		return false, stop(fault.Unreachable, "homelab work land", "the pull request #%d is merged, and %s does not have it yet", pull.Number, l.out.Base)
	}
	return l.mergedAs(ctx, r, pull, state.Commit, fresh)
}

// mergedAs goes on with a request whose merge the base has.
func (l *lander) mergedAs(ctx context.Context, r Record, pull PullRequest, c git.Commit, fresh bool) (bool, error) {
	l.out.Pull = &pull
	if fresh && len(l.list) > 0 {
		return false, l.close(ctx, r)
	}
	r.Candidate, r.Pull = c, &pull
	return true, l.goOn(ctx, r)
}

// judgeByBase settles a request that may not be looked at: what the base has
// is merged, and nothing else is known of it.
func (l *lander) judgeByBase(ctx context.Context, r Record, fresh bool) (bool, error) {
	in, err := l.Repo.IsAncestor(ctx, r.Head, l.out.BaseBefore)
	if err != nil {
		return false, err
	}
	if in != git.Yes {
		// The request is made again, which changes nothing if it is still open.
		return false, l.close(ctx, r)
	}
	c, err := l.Repo.Entered(ctx, r.Head, r.Before, l.out.BaseBefore)
	if err != nil {
		return false, err
	}
	pull := *r.Pull
	pull.State = "merged"
	return l.mergedAs(ctx, r, pull, c, fresh)
}

// update publishes the new head of a request that is still open.
func (l *lander) update(ctx context.Context, r Record, pull PullRequest) error {
	l.out.ID, l.rec = r.ID, r
	var err error
	if l.book, err = openJournal(l.Repo.CommonDir(), r.ID); err != nil {
		return err
	}
	if err := l.guard(ctx); err != nil {
		return err
	}
	if r.Topic != "" {
		access, err := l.Forge.Check(ctx, l.url)
		if err != nil {
			return err
		}
		l.rec.Head = l.out.Head
		done, err := l.pushFor(ctx, access)
		if !done && err == nil {
			err = stop(fault.Denied, "homelab work land", "%s no longer takes what updates #%d", l.out.Remote, pull.Number)
		}
		return err
	}
	if _, err := l.pushBranch(ctx, l.reviewRemote()); err != nil {
		return err
	}
	l.rec.Head = l.out.Head
	return l.proposed(pull)
}
