package ci

import (
	"fmt"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

func newApprove(d Deps) *cobra.Command {
	return newReview(d, verb.Spec{
		Use: "approve [COMMITISH|#N]", Short: "Let a commit's blocked pipeline run",
		Long: `Approve the blocked pipeline of a commit (default: HEAD). One that was approved
already is 0; one in another state is 1, and says which.`,
		Example: `  homelab ci approve --number 57
  homelab ci approve --watch`,
		Kind:  "ci.approve",
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Replaced, fault.Unreachable, fault.Timeout},
	}, review{
		verbed: "approved",
		write:  pipeline.ApproveRow,
		already: func(was woodpecker.Pipeline) string {
			if was.ReviewedBy == "" || was.Status == woodpecker.Declined {
				return ""
			}
			return fmt.Sprintf("#%d was approved already, by %s; it is %s now", was.Number, was.ReviewedBy, was.Status)
		},
		said: func(after woodpecker.Pipeline) string {
			return fmt.Sprintf("#%d is approved; it is %s now", after.Number, after.Status)
		},
	})
}
