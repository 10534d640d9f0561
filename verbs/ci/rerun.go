package ci

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

func newRerun(d Deps) *cobra.Command {
	return newAct(d, verb.Spec{
		Use: "rerun [COMMITISH|#N]", Short: "Start a commit's pipeline anew",
		Long: `Start the pipeline of a commit (default: HEAD) anew, with the pipeline file the
server stored, and print the new number. It is sent once: after a doubtful
answer the server is looked at before anything is sent again.`,
		Example: `  homelab ci rerun
  homelab ci rerun --number 57 --watch`,
		Kind: "ci.rerun", Codes: actEnds(),
	}, func(ctx context.Context, o *actOptions, s *session, out pipeline.Outcome) (done, error) {
		row := *out.Row
		if row.Status == woodpecker.Blocked {
			return done{}, fault.New(fault.Held, fmt.Sprintf("pipeline %d waits for approval and cannot be restarted", row.Number),
				"homelab ci approve --number "+itoa(row.Number)+" --repo "+s.target.Repo.FullName)
		}
		if row.Status == woodpecker.Error && len(row.Workflows) == 0 {
			o.IO.Event("note", map[string]string{"text": noFileStored})
			o.IO.Note(ui.L("note: " + noFileStored))
		}
		made, err := pipeline.RestartRow(ctx, s.conn.Client, s.target.Repo.ID, row)
		if err != nil {
			return done{}, err
		}
		return done{made, verdictDone, fmt.Sprintf("#%d restarted as #%d", row.Number, made.Number)}, nil
	})
}

const noFileStored = "the server may not have stored this pipeline's file; if the restart ends as an error, use homelab ci run"
