package ci

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

func newDecline(d Deps) *cobra.Command {
	return newAct(d, verb.Spec{
		Use: "decline [COMMITISH|#N]", Short: "Refuse a commit's blocked pipeline",
		Long: `Decline the blocked pipeline of a commit (default: HEAD). One that was declined
already is 0; one in another state is 1, and says which.`,
		Example: `  homelab ci decline --number 57
  homelab ci decline --repo ada/app --number 57 --json`,
		Kind:  "ci.decline",
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Unreachable, fault.Timeout},
	}, func(ctx context.Context, _ *actOptions, s *session, out pipeline.Outcome) (done, error) {
		row, err := blockedRow(out)
		if err != nil {
			return done{}, err
		}
		if row == nil {
			was := *out.Row
			if was.Status == woodpecker.Declined {
				return done{was, verdictUnchanged, fmt.Sprintf("#%d is declined already", was.Number)}, nil
			}
			return done{}, notBlocked("declined", was)
		}
		after, err := pipeline.DeclineRow(ctx, s.conn.Client, s.target.Repo.ID, *row)
		if err != nil {
			return done{}, err
		}
		return done{after, verdictDone, fmt.Sprintf("#%d is declined", row.Number)}, nil
	})
}
