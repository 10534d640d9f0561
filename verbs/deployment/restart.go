package deployment

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

func newRestart(g *group) *cobra.Command {
	w := &common{g: g}
	var o stack.RestartOptions
	expected := ""
	c := verb.New(verb.Spec{
		Use: "restart", Short: "Bring a stack to what git says now, and see it up",
		Long: `Pull the stack's and the operator's repositories, bring the deployment
directory to what they say, then its cluster, and wait until the stack is up.

The tracked spec decides: it is never made anew. New files are judged whole
before one is replaced, and the cluster is asked before anything is written.
Without a difference nothing is written and nothing restarts.

Hosts that the spec adds to http-proxy must resolve, to --expected-ip if that is
given; --force goes on without asking.

With maintenance-service in the spec the Ingress leads to that page while the
other Deployments are taken down and up; it is pointed back however that ends.`,
		Example: `  homelab deployment restart --dir shop
  homelab deployment restart --dir shop --spec-file deployment/spec.yml
  homelab deployment restart --dir shop --no-pull --dry-run`,
		Tier: verb.Write, Kind: "deployment.restart", Codes: codes(),
	}, func(c *cobra.Command, _ []string) error {
		return g.do(c, "restart", func(ctx context.Context) (action, error) {
			all, err := w.options(ctx, c, "restart")
			o.Options = all
			if err == nil && expected != "" {
				if o.ExpectedIP, err = netip.ParseAddr(expected); err != nil || o.ExpectedIP.Zone() != "" {
					err = fault.Usagef(c.CommandPath()+" --help", "--expected-ip is an IP address, not %s", ui.Clean(expected))
				}
				o.ExpectedIP = o.ExpectedIP.Unmap()
			}
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
	f.BoolVar(&w.o.Force, "force", false, "go on although a new host does not resolve, and bring back even what a rollback has left")
	f.StringVar(&expected, "expected-ip", "", "the `ADDRESS` that new hosts of http-proxy must resolve to")
	f.BoolVar(&w.o.WaitJobs, "wait-jobs", false, "also wait for Jobs to end")
	f.BoolVar(&w.o.NoLoadImages, "no-load-images", false, "leave local images out of the kind cluster")
	return c
}
