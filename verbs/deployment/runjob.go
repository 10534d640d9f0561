package deployment

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

func newRunJob(g *group) *cobra.Command {
	w := &common{g: g}
	var o stack.JobOptions
	c := verb.New(verb.Spec{
		Use: "run-job NAME", Short: "Run a job of the stack once, and end as it ends",
		Long: `Run a job of the stack once, beside whatever ran before, tell what it prints, and
end as it ends. When the time is up, or with --no-wait, the Job goes on.`,
		Example: `  homelab deployment run-job migrate --dir shop
  homelab deployment run-job backup --dir shop --env TARGET=/backup/today`,
		Tier: verb.Write, Kind: "deployment.run-job", Args: verb.AtMost(1),
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Unreachable, fault.Timeout, fault.Conflict, fault.Unsafe},
	}, func(c *cobra.Command, args []string) error {
		return g.do(c, "run-job", func(ctx context.Context) (action, error) {
			all, err := w.options(ctx, c, "run-job")
			o.Options = all
			if err == nil && len(args) == 0 {
				err = fault.Usagef(c.CommandPath()+" --help", "which job?")
			}
			for name := range o.Env {
				if err == nil && (name == "" || strings.ContainsAny(name, " =\t\r\n")) {
					err = fault.Usagef(c.CommandPath()+" --help", "%q is no name of a variable", ui.Clean(name))
				}
			}
			return func(ctx context.Context, x *stack.World) (*stack.Outcome, error) {
				o.Name = args[0]
				return x.RunJob(ctx, o)
			}, err
		})
	})
	g.Flags.Network(c, writeTimeout)
	f := c.Flags()
	f.StringToStringVar(&o.Env, "env", nil, "set the variable `NAME=VALUE` over what the files say")
	f.BoolVar(&w.o.NoWait, "no-wait", false, "end when the Job is made")
	f.StringToStringVar(&w.o.Images, "image", nil, "run `CONTAINER=REFERENCE` instead of what the files say")
	return c
}
