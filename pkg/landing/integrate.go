package landing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// integration is what one round makes of the base and the branch.
type integration struct {
	fast      bool   // the candidate is the head
	nothing   bool   // the base has all of it
	tree      string // its id, or a name of it
	candidate git.Commit
	changed   []string // paths in which the candidate differs from the base
}

// begin writes the landing down and keeps its objects.
func (l *lander) begin(ctx context.Context) error {
	var err error
	if l.book, err = openJournal(l.Repo.CommonDir(), l.out.ID); err != nil {
		return err
	}
	l.rec = Record{
		ID: l.out.ID, Branch: l.out.Branch, Head: l.out.Head, Remote: l.endpointName(), Base: l.out.Base, Before: l.out.BaseBefore,
		NoWatch: l.o.NoWatch, RequireCI: l.o.RequireCI, Deploy: l.targets(), Named: len(l.o.Targets) > 0, Workflows: l.rules.Workflows,
		PID: os.Getpid(), Started: time.Now().UTC(), Tried: l.doubtful,
	}
	if err := l.write(Begun); err != nil {
		return err
	}
	l.out.BackupRef = "refs/homelab/backup/" + l.out.ID
	if err := l.Repo.UpdateRefs(ctx, git.RefChange{Name: l.out.BackupRef, New: l.out.Head}); err != nil {
		return err
	}
	stamp := filepath.Join(l.Repo.CommonDir(), "homelab", "expired")
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()) < 24*time.Hour {
		return nil
	}
	if err := l.expire(ctx); err != nil {
		return err
	}
	return os.WriteFile(stamp, nil, 0o600)
}

func (l *lander) endpointName() string { return l.out.Remote }

// write puts the record down, in a phase. That of a revert is a part of the
// record of the landing that it reverts.
func (l *lander) write(p Phase) error {
	l.rec.Phase = p
	whole, book := l.rec, l.book
	if l.of != nil {
		part := l.rec
		l.of.rec.Revert = &part
		whole, book = l.of.rec, l.of.book
	}
	if err := book.write(whole); err != nil {
		return fmt.Errorf("journal of %s: %w", whole.ID, err)
	}
	if l.Wrote != nil {
		l.Wrote(p)
	}
	return nil
}

// expire forgets what is older than a month, journals and backup refs, and
// what a run that was killed before it began has left.
func (l *lander) expire(ctx context.Context) error {
	common := l.Repo.CommonDir()
	expire(common, time.Now())
	refs, err := l.Repo.Refs(ctx, "refs/homelab/backup/", "refs/homelab/land/")
	if err != nil {
		return err
	}
	var changes []git.RefChange
	for _, r := range refs {
		if rest, scratch := strings.CutPrefix(r.Name, "refs/homelab/land/"); scratch {
			id, _, _ := strings.Cut(rest, "/")
			if known, err := exists(landings(common) + "/" + id); err == nil && !known {
				changes = append(changes, git.RefChange{Name: r.Name, Old: r.Commit})
			}
			continue
		}
		stamp, _, _ := strings.Cut(strings.TrimPrefix(r.Name, "refs/homelab/backup/"), "-")
		if at, err := time.Parse("20060102T150405Z", stamp); err == nil && time.Since(at) > keepFor {
			changes = append(changes, git.RefChange{Name: r.Name, Old: r.Commit})
		}
	}
	return l.Repo.UpdateRefs(ctx, changes...)
}

// integrate computes the candidate, beside the work tree.
func (l *lander) integrate(ctx context.Context) error {
	base, head := l.out.BaseBefore, l.out.Head
	l.plan = integration{}
	var err error
	fast := len(l.reverted) == 0 && firstParents(l.list, base, head)
	if fast {
		l.plan.tree = string(head) + "^{tree}"
	} else if l.plan.tree, err = l.merged(ctx); err != nil {
		return err
	}
	if l.plan.changed, err = l.Repo.Changed(ctx, string(base)+"^{tree}", l.plan.tree); err != nil {
		return err
	}
	if len(l.plan.changed) == 0 {
		l.plan.nothing = true
		return nil
	}
	if slices.Contains(l.plan.changed, l.File) {
		l.say("land", "%s changes here; what it says on %s decides this landing", l.File, l.out.Base)
	}
	if err := l.choose(ctx); err != nil {
		return err
	}
	l.plan.fast, l.plan.candidate = fast, head
	how := "fast-forward"
	if !fast {
		how = "no conflict"
		l.plan.candidate, err = l.Repo.CommitTree(ctx, git.NewCommit{
			Tree: l.plan.tree, Parents: []git.Commit{base, head}, Sign: l.cfg.Bool("commit.gpgsign"),
			Message: message(l.topic(), l.out.ID, named(l.commands), l.list, l.reverted),
		})
		if err != nil {
			return err
		}
	}
	l.say("merge", "%s onto %s, candidate %s, %s", plural(len(l.list), "commit"), base.Short(), l.plan.candidate.Short(), how)
	if l.book == nil {
		return nil
	}
	l.refs = append(l.refs, l.candidateRef())
	if err := l.Repo.UpdateRefs(ctx, git.RefChange{Name: l.candidateRef(), New: l.plan.candidate, Whatever: true}); err != nil {
		return err
	}
	l.rec.Before, l.rec.Candidate, l.rec.Commands = base, l.plan.candidate, l.commands
	return l.write(Integrated)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// merged returns the tree of the base with the branch merged into it.
func (l *lander) merged(ctx context.Context) (string, error) {
	ours := l.out.BaseBefore
	for _, x := range l.reverted { // newest first, as each was made on top of the ones before
		var err error
		if ours, err = l.withUndone(ctx, ours, x); err != nil {
			return "", err
		}
	}
	m, err := l.Repo.MergeTree(ctx, ours, l.out.Head)
	if errors.Is(err, git.ErrUnrelated) {
		return "", stop(fault.Usage, "git log --oneline --graph HEAD "+ours.Short(), "%s and %s have no commit in common", l.out.Branch, l.out.Base)
	} else if err != nil {
		return "", err
	}
	if !m.Clean {
		verb := "conflicts"
		if len(m.Conflicts) > 1 {
			verb = "conflict"
		}
		return "", stop(fault.Conflict, "git fetch "+ui.Command(l.out.Remote)+" && git merge "+ui.Command(l.out.Remote+"/"+l.out.Base),
			"%s %s with %s %s", listed(m.Conflicts), verb, l.out.Base, l.out.BaseBefore.Short())
	}
	return m.Tree, nil
}

// compare reads what the base and the branch have that the other has not.
func (l *lander) compare(ctx context.Context) (err error) {
	l.theirs, l.list, err = l.Repo.Sides(ctx, l.out.BaseBefore, l.out.Head, trailerReverts)
	if err != nil {
		return err
	}
	if l.reverted, err = l.undone(ctx); err != nil {
		return err
	}
	return l.undoneByHand(ctx)
}

// undoneByHand warns of a person's revert of commits this branch still has: a
// merge takes them for landed, and they stay undone. What the person meant is
// theirs to say.
func (l *lander) undoneByHand(ctx context.Context) error {
	if !slices.ContainsFunc(l.theirs, func(e git.Entry) bool { return strings.HasPrefix(e.Subject, "Revert \"") }) {
		return nil
	}
	messages, order, err := l.Repo.Messages(ctx, l.out.Head, l.out.BaseBefore, saysReverts, false)
	if err != nil {
		return err
	}
	for _, x := range order {
		if len(trailers(messages[x], trailerReverts)) > 0 {
			continue
		}
		undone := undoneBy(messages[x])
		if undone == "" {
			continue
		}
		side, err := l.sideOf(ctx, undone)
		if err != nil || side == "" {
			continue // not here, so not this branch's
		}
		in, err := l.Repo.IsAncestor(ctx, side, l.out.Head)
		if err != nil {
			return err
		}
		if in == git.Yes {
			l.warn("%s on %s undid %s, which this branch has: its changes stay undone unless you revert the revert", x.Short(), l.out.Base, undone.Short())
		}
	}
	return nil
}

// undone returns the commits of the base that undid earlier landings of this
// branch and have not been undone themselves, newest first. A merge would take
// the branch's old commits for landed and silently leave them out. All that the
// base has is looked at, not its first parents only: a revert may have come
// through a pull request.
func (l *lander) undone(ctx context.Context) ([]git.Commit, error) {
	var out []git.Commit
	for _, e := range l.theirs {
		for _, landed := range hashes(e.Trailer) {
			ours, err := l.undid(ctx, e.Commit, landed)
			if err != nil {
				return nil, err
			}
			if ours && !slices.Contains(out, e.Commit) {
				out = append(out, e.Commit)
			}
		}
	}
	return out, nil
}

// undid says whether x, which names landed as the landing it reverts, undid a
// landing of this branch and nothing has brought it back.
func (l *lander) undid(ctx context.Context, x, landed git.Commit) (bool, error) {
	side, err := l.sideOf(ctx, landed)
	if err != nil || side == "" {
		return false, nil //nolint:nilerr // a commit that is not here is none of this branch
	}
	part, err := l.Repo.IsAncestor(ctx, side, l.out.Head)
	if err != nil || part != git.Yes {
		return false, err
	}
	own, err := l.landedHere(landed)
	if err != nil {
		return false, err
	}
	if !own {
		l.warn("%s on %s undid %s, which this branch contains; it stays undone, as nothing here shows that this branch landed it", x.Short(), l.out.Base, landed.Short())
		return false, nil
	}
	back, err := restored(ctx, l.Repo, x, l.out.BaseBefore)
	return !back, err
}

// restored says whether a commit of base says that it brings back what x undid.
func restored(ctx context.Context, r *git.Repo, x, base git.Commit) (bool, error) {
	_, order, err := r.Messages(ctx, x, base, trailerRestores+": "+string(x), false)
	return len(order) > 0, err
}

// landedHere says whether this clone's own record shows that this branch
// landed c. Topology cannot: a branch begun between a landing and its revert
// contains it just the same.
func (l *lander) landedHere(c git.Commit) (bool, error) {
	records, err := Records(l.Repo.CommonDir())
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(records, func(r Record) bool {
		return r.Branch == l.out.Branch && (r.Candidate == c || slices.Contains(r.Tried, c))
	}), nil
}

// sideOf returns the branch's tip in a landing: the merged side, or the commit
// itself for a fast-forward.
func (l *lander) sideOf(ctx context.Context, landed git.Commit) (git.Commit, error) {
	side, err := l.Repo.Resolve(ctx, string(landed)+"^2")
	if unknown := (*git.UnknownError)(nil); errors.As(err, &unknown) {
		have, err := l.Repo.Exists(ctx, landed)
		if err != nil || !have {
			return "", err
		}
		return landed, nil
	}
	return side, err
}

// withUndone returns a commit on top of base, in no ref, whose tree is base's
// without what the commit x changed; what came after x stays.
func (l *lander) withUndone(ctx context.Context, base, x git.Commit) (git.Commit, error) {
	before, err := l.Repo.Tree(ctx, string(x)+"^1")
	if err != nil {
		return "", err
	}
	// A commit on x with the tree before it: the merge base with what came
	// after is x. (A merge base cannot be named before git 2.40.)
	undo, err := l.Repo.CommitTree(ctx, git.NewCommit{Tree: before, Parents: []git.Commit{x}, Message: "undo\n"})
	if err != nil {
		return "", err
	}
	m, err := l.Repo.MergeTree(ctx, base, undo)
	if err != nil {
		return "", err
	}
	if !m.Clean {
		return "", stop(fault.Conflict, "git revert "+x.Short(), "%s undid this branch on %s, and undoing that conflicts in %s", x.Short(), l.out.Base, listed(m.Conflicts))
	}
	return l.Repo.CommitTree(ctx, git.NewCommit{Tree: m.Tree, Parents: []git.Commit{base}, Message: "base without " + string(x) + "\n"})
}
