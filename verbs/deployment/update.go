package deployment

import (
	"context"

	"github.com/spf13/cobra"

	"homelab/pkg/stack"
	"homelab/verbs/verb"
)

func newUpdate(g *group) *cobra.Command {
	w := &common{g: g}
	c := verb.New(verb.Spec{
		Use: "update", Short: "Make the cluster hold what the directory says now",
		Long: `Apply what the files of a deployment directory say now, and see it up.

Nothing is pulled from git and no file is written; "restart" does that.`,
		Example: `  homelab deployment update --dir shop
  homelab deployment update --dir shop --image web=reg.example.lan/web:3f9c2ab`,
		Tier: verb.Write, Kind: "deployment.update", Codes: codes(),
	}, func(c *cobra.Command, _ []string) error {
		return g.do(c, "update", func(ctx context.Context) (action, error) {
			o, err := w.options(ctx, c, "update")
			return func(ctx context.Context, x *stack.World) (*stack.Outcome, error) { return x.Update(ctx, o) }, err
		})
	})
	g.Flags.Network(c, writeTimeout)
	w.flags(c.Flags())
	c.Flags().BoolVar(&w.o.WaitJobs, "wait-jobs", false, "also wait for Jobs to end")
	c.Flags().BoolVar(&w.o.NoLoadImages, "no-load-images", false, "leave local images out of the kind cluster")
	return c
}
