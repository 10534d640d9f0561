package ci

import (
	"context"
	"time"

	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// localBranch answers what the checkout's current branch is, for commands
// that are printed. It is asked at most once per run, at its end.
type localBranch struct {
	ctx context.Context //nolint:containedctx // of the run; a signal must not keep the advice from being whole
	s   *session
}

const branchWithin = 500 * time.Millisecond

func (l localBranch) repo() (*git.Repo, context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), branchWithin)
	if l.s == nil {
		return nil, ctx, cancel
	}
	repo, ok := l.s.target.Local.(*git.Repo)
	if !ok {
		return nil, ctx, cancel
	}
	return repo, ctx, cancel
}

// upstream returns the branch that the current one follows on its remote.
func (l localBranch) upstream() string {
	repo, ctx, cancel := l.repo()
	defer cancel()
	if repo == nil {
		return ""
	}
	if _, branch, ok, err := repo.Upstream(ctx); err == nil && ok {
		return branch
	}
	return ""
}

// push returns the command that publishes the current branch.
func (l localBranch) push() string {
	repo, ctx, cancel := l.repo()
	defer cancel()
	if repo == nil {
		return ""
	}
	if _, _, ok, err := repo.Upstream(ctx); err == nil && ok {
		return "git push"
	}
	if name, on, err := repo.CurrentBranch(ctx); err == nil && on {
		return ui.Command("git", "push", "-u", "origin", name)
	}
	return ""
}
