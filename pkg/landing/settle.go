package landing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"homelab/pkg/git"
)

// settle brings the clone up to what the base has now. What cannot move is
// named; the landing has succeeded whatever happens here.
func (l *lander) settle(ctx context.Context) {
	if err := l.write(OnBase); err != nil {
		l.warn("%v", err)
	}
	if err := l.settling(ctx); err != nil {
		l.warn("the clone could not be brought up to date: %v", err)
	}
}

func (l *lander) settling(ctx context.Context) error {
	landed := l.out.Landed
	tracking := "refs/remotes/" + l.out.Remote + "/" + l.out.Base
	local := l.baseName()
	mine := "refs/heads/" + l.out.Branch
	refs, err := l.Repo.Refs(ctx, tracking, local, mine)
	if err != nil {
		return err
	}
	at := map[string]git.Commit{}
	for _, r := range refs {
		at[r.Name] = r.Commit
	}
	trees, err := l.Repo.Worktrees(ctx)
	if err != nil {
		return err
	}
	if old, ok := at[tracking]; ok && old != l.out.BaseAfter {
		if err := l.moveRef(ctx, tracking, old, l.out.BaseAfter); err != nil {
			return err
		}
	}
	switch now := at[mine]; {
	case now == l.out.Head && now != landed:
		l.moveBranch(ctx, trees, mine, now, landed)
	case now != "" && !l.onBase(ctx, now):
		l.warn("%s has moved on to %s meanwhile; what it got since is not landed", l.out.Branch, now.Short())
	}
	if old, ok := at[local]; ok && old != l.out.BaseAfter {
		l.moveBranch(ctx, trees, local, old, l.out.BaseAfter)
	}
	return nil
}

func (l *lander) onBase(ctx context.Context, c git.Commit) bool {
	in, err := l.Repo.IsAncestor(ctx, c, l.out.BaseAfter)
	return err == nil && in == git.Yes
}

// moveRef moves a ref forward; one that is elsewhere already stays.
func (l *lander) moveRef(ctx context.Context, name string, old, to git.Commit) error {
	if !seen(old, l.out.BaseBefore, l.theirs) { // those are in what landed
		forward, err := l.Repo.IsAncestor(ctx, old, to)
		if err != nil || forward != git.Yes {
			return err
		}
	}
	err := l.Repo.UpdateRefs(ctx, git.RefChange{Name: name, New: to, Old: old})
	if errors.Is(err, git.ErrRefMoved) {
		return nil // someone else fetched
	}
	return err
}

// seen says whether c is base or one of list's commits or of their parents.
func seen(c, base git.Commit, list []git.Entry) bool {
	return c == base || slices.ContainsFunc(list, func(e git.Entry) bool {
		return e.Commit == c || slices.Contains(e.Parents, c)
	})
}

// moveBranch moves a local branch forward, with its work tree if it has one.
func (l *lander) moveBranch(ctx context.Context, trees []git.Worktree, ref string, old, to git.Commit) {
	name := strings.TrimPrefix(ref, "refs/heads/")
	stays := func(why string) { l.warn("%s stays at %s: %s", name, old.Short(), why) }
	forward, err := git.Yes, error(nil)
	if merged := old == l.rec.Head && to == l.out.Landed && l.rec.Pull == nil; !merged && !seen(old, l.rec.Before, l.theirs) {
		forward, err = l.Repo.IsAncestor(ctx, old, to)
	}
	if err != nil || forward != git.Yes {
		stays("it has commits of its own")
		return
	}
	for _, w := range trees {
		if w.Branch != ref {
			continue
		}
		if w.Prunable {
			stays(w.Path + " is gone; see git worktree prune")
			return
		}
		if err := l.moveTree(ctx, w.Path, name, old, to); err != nil {
			stays(err.Error())
		}
		return
	}
	if err := l.Repo.UpdateRefs(ctx, git.RefChange{Name: ref, New: to, Old: old}); err != nil {
		stays(err.Error())
	}
}

func (l *lander) moveTree(ctx context.Context, dir, name string, old, to git.Commit) error {
	repo := l.Repo
	if dir != repo.Root() {
		var err error
		if repo, err = git.Open(ctx, dir, l.Env); err != nil {
			return err
		}
		repo = repo.Unattended(l.cfg)
	}
	if doing := repo.InProgress(); doing != "" {
		return fmt.Errorf("a %s is in progress in %s", doing, dir)
	}
	st, err := repo.Tracked(ctx)
	if err != nil {
		return err
	}
	switch {
	case st.Branch != name || st.Head != old:
		return fmt.Errorf("it has moved in %s", dir)
	case len(st.Changed) > 0:
		return fmt.Errorf("files are changed in %s", dir)
	}
	err = repo.FastForward(ctx, to)
	if failed, ok := errors.AsType[*git.CommandError](err); ok {
		return errors.New(failed.Why() + " in " + dir)
	}
	return err
}
