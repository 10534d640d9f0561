package deploy

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"homelab/pkg/git"
	"homelab/pkg/rollout"
)

// history answers what the checkout's git knows of commits.
type history struct {
	repo   *git.Repo
	commit git.Commit
}

var _ rollout.History = (*history)(nil)

// Descent says whether revision, as an image names it, descends from the
// wanted commit. What this checkout does not know is unproven.
func (h *history) Descent(ctx context.Context, revision string) rollout.Descent {
	found, err := h.repo.Resolve(ctx, revision)
	if err != nil {
		return rollout.Descent{}
	}
	out := rollout.Descent{Commit: string(found)}
	answer, err := h.repo.IsAncestor(ctx, h.commit, found)
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
func (h *history) Remote(ctx context.Context) rollout.RemoteAnswer {
	out := rollout.RemoteAnswer{Where: "any remote"}
	if on, err := h.repo.OnRemote(ctx, h.commit); err == nil && on {
		out.Answer = rollout.Yes
		return out
	}
	tips, err := h.repo.AdvertisedTips(ctx)
	if err != nil || len(tips) == 0 {
		return out
	}
	for _, tip := range tips {
		answer, err := h.repo.IsAncestor(ctx, h.commit, tip)
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

// flagNames lists a command's flags in their order.
func flagNames(c *cobra.Command) []string {
	var out []string
	c.Flags().VisitAll(func(f *pflag.Flag) { out = append(out, f.Name) })
	return out
}
