package deployment

import (
	"context"

	"github.com/spf13/cobra"

	"homelab/pkg/stack"
	"homelab/verbs/verb"
)

func newStart(g *group) *cobra.Command {
	w := &common{g: g}
	c := verb.New(verb.Spec{
		Use: "start [SERVICE...]", Short: "Bring a stack up and see it up",
		Long: `Bring the stack of a deployment directory up, and wait until it is seen up.

For a kind cluster: the first start makes it, later ones use it; images of this
machine are brought into it. Then everything is applied, and each Deployment is
waited for until it runs exactly the images that were rendered. A second start
changes nothing.

With deploy-to: compose, "docker compose" brings the services up, and only those
that are named, with what they depend on.`,
		Example: `  homelab deployment start --dir shop
  homelab deployment --dir shop start --dry-run
  homelab deployment start --dir shop --image web=reg.example.lan/web:3f9c2ab --sha 3f9c2ab`,
		Tier: verb.Write, Kind: "deployment.start", Codes: codes(), Args: anyArgs,
	}, func(c *cobra.Command, args []string) error {
		return g.do(c, "start", func(ctx context.Context) (action, error) {
			o, err := w.options(ctx, c, "start")
			o.Services = args
			return func(ctx context.Context, x *stack.World) (*stack.Outcome, error) { return x.Start(ctx, o) }, err
		})
	})
	g.Flags.Network(c, writeTimeout)
	f := c.Flags()
	w.flags(f)
	w.cluster(f)
	f.BoolVar(&w.o.WaitJobs, "wait-jobs", false, "also wait for Jobs to end")
	f.BoolVar(&w.o.NoLoadImages, "no-load-images", false, "leave local images out of the kind cluster")
	return c
}

// anyArgs takes services, which only the files can judge.
func anyArgs([]string) error { return nil }
