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

func newCancel(d Deps) *cobra.Command {
	return newAct(d, verb.Spec{
		Use: "cancel [COMMITISH|#N]", Short: "Cancel a commit's pipeline if it is active",
		Long: `Cancel the pipeline of a commit (default: HEAD) if it has not ended. One that is
cancelled already is 0; one that ended otherwise is 1, with its status.`,
		Example: `  homelab ci cancel
  homelab ci cancel --number 57 --repo ada/app`,
		Kind:  "ci.cancel",
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Replaced, fault.Unreachable, fault.Timeout},
	}, func(ctx context.Context, _ *actOptions, s *session, out pipeline.Outcome) (done, error) {
		row := *out.Row
		switch row.Status {
		case woodpecker.Killed, woodpecker.Canceled:
			return done{row, verdictUnchanged, fmt.Sprintf("#%d is cancelled already", row.Number)}, nil
		case woodpecker.Success, woodpecker.Failure, woodpecker.Error, woodpecker.Declined, woodpecker.Skipped:
			return done{}, fault.New(fault.Failed, fmt.Sprintf("pipeline %d cannot be cancelled: it ended as %s", row.Number, row.Status), "")
		case woodpecker.Created, woodpecker.Pending, woodpecker.Running, woodpecker.Blocked:
		}
		after, err := pipeline.CancelRow(ctx, s.conn.Client, s.target.Repo.ID, row)
		if err != nil {
			return done{}, err
		}
		return done{after, verdictDone, fmt.Sprintf("#%d is being cancelled; it is %s now", row.Number, after.Status)}, nil
	})
}
