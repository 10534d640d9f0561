package ci

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/verbs/verb"
)

const (
	statusKind    = "ci.status"
	lookTimeout   = 2 * time.Minute // of verbs that look or act once
	statusAppears = 90 * time.Second
)

type statusOptions struct {
	Deps
	arg    string
	target targetFlags
	only   []string
	ignore []string
}

func newStatus(d Deps) *cobra.Command {
	o := &statusOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "status [COMMITISH|#N]", Short: "Look once at a commit's pipelines: one verdict",
		Long: `Look once at the pipelines of a commit (default: HEAD) and give one verdict.

A pipeline that has not ended is "pending" or "running" and ends with 8: that
is no verdict about the commit. Follow it with ci watch.`,
		Example: `  homelab ci status
  homelab ci status HEAD~1 --json
  homelab ci status --number 57 --repo ada/app`,
		Tier: verb.Read, Kind: statusKind, Args: verb.AtMost(1),
		Codes: []fault.Kind{
			fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Held, fault.Replaced,
			fault.Unreachable, fault.Timeout,
		},
	}, func(c *cobra.Command, args []string) error {
		o.arg = verb.Arg(args, 0, "")
		ctx, cancel := verb.Bound(c.Context(), d.Flags.Timeout)
		defer cancel()
		return runStatus(ctx, c, o)
	})
	d.Flags.Network(c, lookTimeout)
	o.target.add(c)
	c.Flags().StringArrayVar(&o.only, "workflow", nil, "only the workflow `NAME` counts (repeatable)")
	c.Flags().StringArrayVar(&o.ignore, "ignore-workflow", nil, "the workflow `NAME` does not count (repeatable)")
	completeTargets(d, c)
	return c
}

func runStatus(ctx context.Context, c *cobra.Command, o *statusOptions) error {
	tell := newTeller(o.IO)
	s, err := o.open(ctx, c, o.arg, o.target, false, tell.reporter())
	if err != nil {
		return o.refuse(ended(ctx, c, s, err), s, statusKind)
	}
	out, err := o.look(ctx, s, pipeline.Gate{Only: o.only, Ignore: o.ignore})
	if err != nil {
		return o.refuse(ended(ctx, c, s, err), s, statusKind)
	}
	tell.quietNote(s.warning)
	p := o.phrase(c, s)
	p.resume = func(int64) string { return verb.Again(c) }
	next := p.next(out)
	k := kindOf(out)
	return verb.Finish(o.IO, viewOutcome(statusKind, out, s, next), k, told(k, out, next))
}

// look finds the target's row and reads it once.
func (d Deps) look(ctx context.Context, s *session, gate pipeline.Gate) (pipeline.Outcome, error) {
	return pipeline.Await(ctx, s.conn.Client, s.target,
		pipeline.Limits{Appear: statusAppears, Once: true, Gate: gate, Renew: s.conn.Renew},
		func(pipeline.Update) {})
}
