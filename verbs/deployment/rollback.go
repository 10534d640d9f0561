package deployment

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/verbs/verb"
)

func newRollback(g *group) *cobra.Command {
	w := &common{g: g}
	c := verb.New(verb.Spec{
		Use: "rollback [REVISION]", Short: "Bring a revision back, and see it up",
		Long: `Bring a deployment back to a revision that "history" lists: its generated files
into the directory, what was applied to the cluster, and wait until it is up.
Without a number it is the last revision that was seen up and is not what the
directory says now.

Data, volumes and Secrets stay what they are, and no Job runs again. What the
directory held before is kept as FILE.bak. A "restart" does not bring back what
was left here until its sources have moved on, or --force says so.

An end with 11 means that it went half way: a person must look.`,
		Example: `  homelab deployment rollback --dir shop
  homelab deployment rollback 7 --dir shop --dry-run`,
		Tier: verb.Write, Kind: "deployment.rollback", Args: verb.AtMost(1),
		Codes: []fault.Kind{fault.OK, fault.Absent, fault.Denied, fault.Unreachable, fault.Timeout, fault.Conflict, fault.Unsafe},
	}, func(c *cobra.Command, args []string) error {
		return g.do(c, "rollback", func(ctx context.Context) (action, error) {
			o, err := w.options(ctx, c, "rollback")
			number := 0
			if err == nil && len(args) > 0 {
				if number, err = strconv.Atoi(args[0]); err != nil || number <= 0 {
					err = fault.Usagef(c.CommandPath()+" --help", "%q is no number of a revision", args[0]).
						Because("homelab deployment history lists them")
				}
			}
			return func(ctx context.Context, x *stack.World) (*stack.Outcome, error) { return x.Rollback(ctx, o, number) }, err
		})
	})
	g.Flags.Network(c, writeTimeout)
	f := c.Flags()
	f.BoolVar(&w.o.DryRun, "dry-run", false, "show the plan and change nothing")
	f.BoolVar(&w.o.NoWait, "no-wait", false, "end when everything is applied; nothing is verified then")
	f.BoolVar(&w.o.AdoptNamespace, "adopt-namespace", false, "the directory was moved: take its namespace over")
	return c
}
