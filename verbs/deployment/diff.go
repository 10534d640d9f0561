package deployment

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/verbs/verb"
)

const lookTimeout = time.Minute

func newDiff(g *group) *cobra.Command {
	w := &common{g: g}
	code := false
	c := verb.New(verb.Spec{
		Use: "diff", Short: "Show what update would change",
		Long: `Compare what the files of a deployment directory say with what its cluster
holds, field by field. Nothing is written; values of Secrets are never shown.`,
		Example: `  homelab deployment diff --dir shop
  homelab deployment diff --dir shop --exit-code --json`,
		Tier: verb.Read, Kind: "deployment.diff",
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Unreachable, fault.Timeout, fault.Conflict},
	}, func(c *cobra.Command, _ []string) error {
		return g.do(c, "diff", func(ctx context.Context) (action, error) {
			o, err := w.options(ctx, c, "diff")
			return func(ctx context.Context, x *stack.World) (*stack.Outcome, error) {
				out, err := x.Diff(ctx, o)
				if err == nil && code && out.Verdict == "changes" {
					out.Kind = fault.Failed
				}
				return out, err
			}, err
		})
	})
	g.Flags.Network(c, lookTimeout)
	f := c.Flags()
	f.BoolVar(&code, "exit-code", false, "end with 1 when something would change")
	f.BoolVar(&w.o.Strict, "strict", false, "refuse what has no, or another, effect here")
	f.StringToStringVar(&w.o.Images, "image", nil, "run `CONTAINER=REFERENCE` instead of what the files say")
	f.StringSliceVar(&w.o.AcceptVolumes, "accept-volume", nil, "the data of this `VOLUME` was moved: its objects may be replaced")
	f.BoolVar(&w.o.AdoptNamespace, "adopt-namespace", false, "the directory was moved: take its namespace over")
	return c
}
