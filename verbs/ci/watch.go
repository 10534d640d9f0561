package ci

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// watchOptions is what watching takes, also for verbs that watch what they
// started.
type watchOptions struct {
	Deps
	arg       string
	target    targetFlags
	appear    time.Duration
	failFast  bool
	only      []string
	ignore    []string
	logLines  int
	heartbeat time.Duration
}

const (
	watchTimeout = time.Hour
	watchKind    = "ci.watch"
)

// watchEnds is how a watch can end.
func watchEnds() []fault.Kind {
	return []fault.Kind{
		fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Held, fault.Replaced,
		fault.Unreachable, fault.Timeout,
	}
}

// addWatch adds the flags of a watch.
func (o *watchOptions) addWatch(c *cobra.Command) {
	f := c.Flags()
	f.DurationVar(&o.appear, "appear-timeout", 90*time.Second, "wait `DUR` for a pipeline to appear")
	f.BoolVar(&o.failFast, "fail-fast", false, "end as soon as a workflow that counts has failed")
	f.StringArrayVar(&o.only, "workflow", nil, "only the workflow `NAME` counts (repeatable)")
	f.StringArrayVar(&o.ignore, "ignore-workflow", nil, "the workflow `NAME` does not count (repeatable)")
	f.IntVar(&o.logLines, "log-lines", 30, "show the last `N` log lines of each failing step; 0: none")
	f.DurationVar(&o.heartbeat, "heartbeat", time.Minute, "off a terminal, say what runs when nothing happened for `DUR`; 0: never")
}

func (o *watchOptions) check(c *cobra.Command) error {
	help := c.CommandPath() + " --help"
	switch {
	case o.appear <= 0:
		return fault.Usagef(help, "--appear-timeout must be positive")
	case o.logLines < 0 || o.logLines > 10000:
		return fault.Usagef(help, "--log-lines must be between 0 and 10000")
	case o.heartbeat < 0:
		return fault.Usagef(help, "--heartbeat must not be negative")
	}
	if slices.Contains(o.only, "") || slices.Contains(o.ignore, "") {
		return fault.Usagef(help, "a workflow's name is empty")
	}
	return nil
}

func newWatch(d Deps) *cobra.Command {
	o := &watchOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "watch [COMMITISH|#N]", Short: "Follow a commit's pipeline to its verdict",
		Long: `Find the pipeline of a commit (default: HEAD) and follow it to its end.

A terminal gets a live tree, everything else one line per change. On failure
the last log lines of the failing steps follow. If a newer push supersedes the
pipeline, the watch goes on with the new one when that contains the commit, and
says so. A pipeline that waits for approval is held (5), never green.`,
		Example: `  homelab ci watch
  homelab ci watch v1.4.0 --event tag
  homelab ci watch --number 57 --repo ada/app
  homelab ci watch --workflow build --workflow test --fail-fast --json`,
		Tier: verb.Read, Kind: watchKind, Codes: watchEnds(), Args: verb.AtMost(1),
	}, func(c *cobra.Command, args []string) error {
		o.arg = verb.Arg(args, 0, "")
		ctx, cancel := verb.Bound(c.Context(), d.Flags.Timeout)
		defer cancel()
		return runWatch(ctx, c, o)
	})
	d.Flags.Network(c, watchTimeout)
	o.target.add(c)
	o.addWatch(c)
	completeTargets(d, c)
	return c
}

func runWatch(ctx context.Context, c *cobra.Command, o *watchOptions) error {
	if err := o.check(c); err != nil {
		return o.refuse(err, nil, watchKind)
	}
	tell := newTeller(o.IO)
	s, err := o.open(ctx, c, o.arg, o.target, false, tell.reporter())
	if err != nil {
		return o.refuse(ended(ctx, c, s, err), s, watchKind)
	}
	return o.follow(ctx, c, s, tell, watchKind)
}

// follow watches s's target and ends the run with the watch's result.
func (o *watchOptions) follow(ctx context.Context, c *cobra.Command, s *session, tell *teller, kind string) error {
	tell.begin(ctx, s, o.heartbeat)
	defer tell.close()
	if s.warning != "" {
		tell.note(s.warning)
	}
	out, err := pipeline.Await(ctx, s.conn.Client, s.target, pipeline.Limits{
		Appear: o.appear, Gate: pipeline.Gate{Only: o.only, Ignore: o.ignore},
		FailFast: o.failFast, LogLines: o.logLines, Renew: s.conn.Renew,
	}, tell.update)
	if err != nil {
		return o.refuse(err, s, kind)
	}
	p := o.phrase(c, s)
	p.resume = func(number int64) string { return o.resume(c, s, number) }
	next := p.next(out)
	k := kindOf(out)
	return verb.Finish(o.IO, viewOutcome(kind, out, s, next), k, told(k, out, next))
}

// resume returns the command that goes on with this watch, pinned to the row
// where there is one, with every flag that matters (ADR 0022).
func (o *watchOptions) resume(c *cobra.Command, s *session, number int64) string {
	words := []string{"homelab", "ci", "watch"}
	switch {
	case number > 0:
		words = append(words, "--number", itoa(number))
	case s.target.Commit != "":
		words = append(words, s.target.Commit)
		if o.target.event != "" {
			words = append(words, "--event", o.target.event)
		}
	}
	words = append(words, o.carry(c, s)...)
	if o.failFast {
		words = append(words, "--fail-fast")
	}
	for _, n := range o.only {
		words = append(words, "--workflow", n)
	}
	for _, n := range o.ignore {
		words = append(words, "--ignore-workflow", n)
	}
	for _, name := range []string{"timeout", "appear-timeout", "log-lines", "heartbeat"} {
		if fl := c.Flags().Lookup(name); fl != nil && fl.Changed {
			words = append(words, "--"+name, fl.Value.String())
		}
	}
	return ui.Command(words...)
}

// carry returns the flags that every printed command needs to speak of the
// same repository on the same server.
func (d Deps) carry(c *cobra.Command, s *session) []string {
	var out []string
	switch {
	case s != nil && s.target.Repo.FullName != "":
		out = []string{"--repo", s.target.Repo.FullName}
	case d.Flags.Repo != "":
		out = []string{"--repo", d.Flags.Repo}
	}
	return append(out, d.Flags.Carried(c)...)
}

func (d Deps) phrase(c *cobra.Command, s *session) phrase {
	return phrase{
		carry: d.carry(c, s), page: pageOf(s),
		resume: func(number int64) string {
			return ui.Command(append([]string{"homelab", "ci", "watch", "--number", itoa(number)}, d.carry(c, s)...)...)
		},
	}
}

// refuse ends a run that could not look at a pipeline.
func (d Deps) refuse(err error, s *session, kind string) error {
	e := explain(err, d.Flags.Repo)
	var t pipeline.Target
	if s != nil {
		t = s.target
	}
	return verb.Finish(d.IO, failure(kind, e, s, t), e.Kind, e)
}
