package ci

import (
	"fmt"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

func newDecline(d Deps) *cobra.Command {
	return newReview(d, verb.Spec{
		Use: "decline [COMMITISH|#N]", Short: "Refuse a commit's blocked pipeline",
		Long: `Decline the blocked pipeline of a commit (default: HEAD). One that was declined
already is 0; one in another state is 1, and says which.`,
		Example: `  homelab ci decline --number 57
  homelab ci decline --repo ada/app --number 57 --json`,
		Kind:  "ci.decline",
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Unreachable, fault.Timeout},
	}, review{
		verbed: "declined",
		write:  pipeline.DeclineRow,
		already: func(was woodpecker.Pipeline) string {
			if was.Status != woodpecker.Declined {
				return ""
			}
			return fmt.Sprintf("#%d is declined already", was.Number)
		},
		said: func(after woodpecker.Pipeline) string { return fmt.Sprintf("#%d is declined", after.Number) },
	})
}
