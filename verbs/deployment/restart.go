package deployment

import (
	"context"

	"github.com/spf13/cobra"

	"homelab/pkg/stack"
	"homelab/verbs/verb"
)

func newRestart(g *group) *cobra.Command {
	w := &common{g: g}
	var o stack.RestartOptions
	c := verb.New(verb.Spec{
		Use: "restart", Short: "Bring a stack to what git says now, and see it up",
		Long: `Pull the stack's and the operator's repositories, bring the deployment
directory to what they say, then its cluster, and wait until the stack is up.

The tracked spec decides: it is never made anew. New files are judged whole
before one is replaced, and the cluster is asked before anything is written.
Without a difference nothing is written and nothing restarts.`,
		Example: `  homelab deployment restart --dir shop
  homelab deployment restart --dir shop --spec-file deployment/spec.yml
  homelab deployment restart --dir shop --no-pull --dry-run`,
		Tier: verb.Write, Kind: "deployment.restart", Codes: codes(),
	}, func(c *cobra.Command, _ []string) error {
		return g.do(c, "restart", func(ctx context.Context) (action, error) {
			all, err := w.options(ctx, c, "restart")
			o.Options = all
			return func(ctx context.Context, x *stack.World) (*stack.Outcome, error) { return x.Restart(ctx, o) }, err
		})
	})
	g.Flags.Network(c, writeTimeout)
	f := c.Flags()
	w.flags(f)
	f.StringVar(&o.StackPath, "stack-path", "", "the stack's `DIRECTORY`, if it is not where it was")
	f.StringVar(&o.SpecFile, "spec-file", "", "the tracked spec `FILE`; relative to the stack's repository")
	f.BoolVar(&o.NoPull, "no-pull", false, "take the checkouts as they are")
	f.BoolVar(&w.o.Recreate, "recreate", false, "restart the pods even if nothing differs")
	f.BoolVar(&w.o.Force, "force", false, "bring back even what a rollback has left")
	f.BoolVar(&w.o.WaitJobs, "wait-jobs", false, "also wait for Jobs to end")
	f.BoolVar(&w.o.NoLoadImages, "no-load-images", false, "leave local images out of the kind cluster")
	return c
}
