package deployment

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/verbs/verb"
)

const stopTimeout = 2 * time.Minute

func newStop(g *group) *cobra.Command {
	w := &common{g: g}
	var o stack.StopOptions
	preserve := true
	c := verb.New(verb.Spec{
		Use: "stop", Short: "Take a stack down; its volumes stay",
		Long: `Take the stack of a deployment directory down and wait until it is gone.

Volumes, claims and generated secrets stay, unless --delete-volumes says
otherwise; even then only those of this very deployment go, and what lies on a
host is never deleted. The result names each volume and where it is.`,
		Example: `  homelab deployment stop --dir shop
  homelab deployment stop --dir shop --delete-volumes`,
		Tier: verb.Write, Kind: "deployment.stop",
		Codes: []fault.Kind{fault.OK, fault.Denied, fault.Unreachable, fault.Timeout, fault.Conflict, fault.Unsafe},
	}, func(c *cobra.Command, _ []string) error {
		return g.do(c, "stop", func(ctx context.Context) (action, error) {
			all, err := w.options(ctx, c, "stop")
			if err == nil && c.Flags().Changed("preserve-volumes") && preserve == o.Volumes {
				err = fault.Usagef(c.CommandPath()+" --help", "--preserve-volumes and --delete-volumes contradict each other")
			}
			o.Options = all
			return func(ctx context.Context, x *stack.World) (*stack.Outcome, error) { return x.Stop(ctx, o) }, err
		})
	})
	g.Flags.Network(c, stopTimeout)
	f := c.Flags()
	w.plain(f)
	w.cluster(f)
	f.BoolVar(&preserve, "preserve-volumes", true, "keep volumes, as is the default")
	f.BoolVar(&o.Volumes, "delete-volumes", false, "delete this deployment's claims, volumes and generated secrets")
	f.BoolVar(&o.Namespace, "delete-namespace", false, "delete the namespace as well, if this deployment made it")
	f.BoolVar(&w.o.Force, "force", false, "delete the kind cluster although others use it or nobody knows whose it is")
	return c
}
