package deployment

import (
	"context"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/verbs/verb"
)

func newPushImages(g *group) *cobra.Command {
	w := &common{g: g}
	c := verb.New(verb.Spec{
		Use: "push-images", Short: "Push images that were built here to the spec's registry",
		Long: `Push every image tagged :local that the deployment's containers run to the
image-registry of the spec, under the very name that its pods pull.

Docker does it, with its own login. No cluster is asked; nothing is pushed unless
all of the images are on this machine.`,
		Example: `  homelab deployment push-images --dir shop --dry-run
  homelab deployment push-images --dir shop`,
		Tier: verb.Write, Kind: "deployment.push-images",
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Unreachable, fault.Timeout},
	}, func(c *cobra.Command, _ []string) error {
		return g.do(c, "push-images", func(ctx context.Context) (action, error) {
			o, err := w.options(ctx, c, "push-images")
			return func(ctx context.Context, x *stack.World) (*stack.Outcome, error) { return x.PushImages(ctx, o) }, err
		})
	})
	g.Flags.Network(c, writeTimeout)
	f := c.Flags()
	f.BoolVar(&w.o.DryRun, "dry-run", false, "show what would be pushed and change nothing")
	f.BoolVar(&w.o.Strict, "strict", false, "refuse what has no, or another, effect here")
	return c
}
