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

// review is an answer to a pipeline that waits for approval.
type review struct {
	verbed  string // "approved"
	write   func(context.Context, pipeline.Control, woodpecker.RepoID, woodpecker.Pipeline) (woodpecker.Pipeline, error)
	already func(was woodpecker.Pipeline) string   // what one is told that had this answer; "": it had not
	said    func(after woodpecker.Pipeline) string // that it has it now
}

// newReview declares a verb that gives the answer r.
func newReview(d Deps, s verb.Spec, r review) *cobra.Command {
	return newAct(d, s, func(ctx context.Context, _ *actOptions, s *session, out pipeline.Outcome) (done, error) {
		row, err := blockedRow(out)
		if err != nil {
			return done{}, err
		}
		if row == nil {
			was := *out.Row
			if reason := r.already(was); reason != "" {
				return done{was, verdictUnchanged, reason}, nil
			}
			return done{}, fault.New(fault.Failed,
				fmt.Sprintf("pipeline %d cannot be %s: it is %s and does not wait for approval", was.Number, r.verbed, was.Status), "")
		}
		after, err := r.write(ctx, s.conn.Client, s.target.Repo.ID, *row)
		if err != nil {
			return done{}, err
		}
		return done{after, verdictDone, r.said(after)}, nil
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
