package landing

import (
	"context"
	"fmt"

	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// dryRun goes as far as integrating and leaves nothing.
func (l *lander) dryRun(ctx context.Context) error {
	defer l.forgetRefs(context.WithoutCancel(ctx), l.out.ID)
	if len(l.list) > 0 {
		if err := l.integrate(ctx); err != nil {
			return err
		}
	}
	if len(l.list) == 0 || l.plan.nothing {
		l.out.Good, l.out.Reason = Nothing, fmt.Sprintf("%s has nothing that %s has not", l.out.Branch, l.out.Base)
		l.out.Next = "homelab work clean " + ui.Command(l.topic())
		return nil
	}
	if err := l.guard(ctx); err != nil {
		return err
	}
	if err := l.ready(ctx); err != nil {
		return err
	}
	p := &Plan{Commits: l.list, Parents: []git.Commit{l.out.BaseBefore, l.out.Head}, Fast: l.plan.fast, Verify: named(l.commands), Gate: "local"}
	if p.Fast && len(l.list) > 0 {
		p.Parents = l.list[0].Parents
	}
	if l.gated {
		p.Gate = "ci"
	}
	if p.Verify == "" {
		p.Verify = "none"
	}
	l.out.Plan, l.out.Good = p, Ready
	l.out.Reason = fmt.Sprintf("%s onto %s %s, candidate %s; verify: %s; gate: %s",
		plural(len(p.Commits), "commit"), l.out.Base, l.out.BaseBefore.Short(), l.plan.candidate.Short(), p.Verify, p.Gate)
	l.out.Next = "homelab work land"
	return nil
}
