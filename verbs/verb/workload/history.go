package workload

import (
	"context"

	"homelab/pkg/git"
	"homelab/pkg/rollout"
)

// History answers what the checkout's git knows of commits.
type History struct {
	Repo   *git.Repo
	Commit git.Commit // the wanted one
}

var _ rollout.History = (*History)(nil)

// Descent says whether revision, as an image names it, descends from the
// wanted commit. What this checkout does not know is unproven.
func (h *History) Descent(ctx context.Context, revision string) rollout.Descent {
	found, err := h.Repo.Resolve(ctx, revision)
	if err != nil {
		return rollout.Descent{}
	}
	out := rollout.Descent{Commit: string(found)}
	answer, err := h.Repo.IsAncestor(ctx, h.Commit, found)
	switch {
	case err != nil:
	case answer == git.Yes:
		out.Answer = rollout.Yes
	case answer == git.No:
		out.Answer = rollout.No
	}
	return out
}

// Remote says whether any remote has the wanted commit. Remote-tracking refs
// prove that it has; that none has it is certain only where each tip the
// remotes advertise is a known commit that does not contain it.
func (h *History) Remote(ctx context.Context) rollout.RemoteAnswer {
	out := rollout.RemoteAnswer{Where: "any remote"}
	if on, err := h.Repo.OnRemote(ctx, h.Commit); err == nil && on {
		out.Answer = rollout.Yes
		return out
	}
	tips, err := h.Repo.AdvertisedTips(ctx)
	if err != nil || len(tips) == 0 {
		return out
	}
	for _, tip := range tips {
		answer, err := h.Repo.IsAncestor(ctx, h.Commit, tip)
		switch {
		case err != nil || answer == git.Unproven:
			return out
		case answer == git.Yes:
			out.Answer = rollout.Yes
			return out
		}
	}
	out.Answer = rollout.No
	return out
}
