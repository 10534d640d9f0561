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

func newApprove(d Deps) *cobra.Command {
	return newAct(d, verb.Spec{
		Use: "approve [COMMITISH|#N]", Short: "Let a commit's blocked pipeline run",
		Long: `Approve the blocked pipeline of a commit (default: HEAD). One that was approved
already is 0; one in another state is 1, and says which.`,
		Example: `  homelab ci approve --number 57
  homelab ci approve --watch`,
		Kind:  "ci.approve",
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Replaced, fault.Unreachable, fault.Timeout},
	}, func(ctx context.Context, _ *actOptions, s *session, out pipeline.Outcome) (done, error) {
		row, err := blockedRow(out)
		if err != nil {
			return done{}, err
		}
		if row == nil {
			was := *out.Row
			if was.ReviewedBy != "" && was.Status != woodpecker.Declined {
				return done{was, verdictUnchanged, fmt.Sprintf("#%d was approved already, by %s; it is %s now", was.Number, was.ReviewedBy, was.Status)}, nil
			}
			return done{}, notBlocked("approved", was)
		}
		after, err := pipeline.ApproveRow(ctx, s.conn.Client, s.target.Repo.ID, *row)
		if err != nil {
			return done{}, err
		}
		return done{after, verdictDone, fmt.Sprintf("#%d is approved; it is %s now", row.Number, after.Status)}, nil
	})
}

// blockedRow returns the one row of the outcome's commit that waits for
// approval; nil when none does, and a usage error when several do.
func blockedRow(out pipeline.Outcome) (*woodpecker.Pipeline, error) {
	rows := []woodpecker.Pipeline{*out.Row}
	if out.Target.Number == 0 {
		rows = append(rows, out.Others...)
	}
	var blocked []woodpecker.Pipeline
	for _, r := range rows {
		if r.Status == woodpecker.Blocked {
			blocked = append(blocked, r)
		}
	}
	switch len(blocked) {
	case 0:
		return nil, nil //nolint:nilnil // none is an answer
	case 1:
		return &blocked[0], nil
	}
	return nil, fault.Usagef("", "several pipelines of the commit wait for approval").Because("name one: " + numbers(blocked))
}

func notBlocked(verbed string, row woodpecker.Pipeline) error {
	return fault.New(fault.Failed, fmt.Sprintf("pipeline %d cannot be %s: it is %s and does not wait for approval", row.Number, verbed, row.Status), "")
}
