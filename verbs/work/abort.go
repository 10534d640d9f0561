package work

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/landing"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

const abortKind = "work.abort"

type abortOptions struct {
	Deps
	topic   string
	timeout time.Duration
}

// abortResult is what work abort ends in. landed is absent when it is not
// known.
type abortResult struct {
	ui.Header
	Topic       *string   `json:"topic"`
	Landed      *sha      `json:"landed,omitempty"`
	PullRequest *pullJSON `json:"pull_request"`
	branch      string
}

func (r *abortResult) Text(int, bool) []string { return []string{verb.Line(&r.Header, r.branch)} }

func newAbort(d Deps) *cobra.Command {
	o := &abortOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "abort [TOPIC]", Short: "Give up a landing that was broken off",
		Long: `Give up the unfinished landing of a task, or of the branch that is checked out:
its branch for CI's tests, its refs and its journal go. Your branch, your files
and a pull request stay, and no base is ever touched.

If a push was in doubt, the remote is asked first: a landing that arrived is
told (0), and "homelab work land" goes on with it. If the remote cannot be
asked nothing is given up (7).`,
		Example: `  homelab work abort
  homelab work abort fan-curve --json`,
		Tier: verb.Write, Kind: abortKind, Args: verb.AtMost(1),
		Codes: []fault.Kind{fault.OK, fault.Denied, fault.Held, fault.Unreachable, fault.Timeout},
	}, func(c *cobra.Command, args []string) error {
		o.topic = verb.Arg(args, 0, "")
		ctx, cancel := verb.Bound(c.Context(), o.timeout)
		defer cancel()
		return runAbort(ctx, c, o)
	})
	addTimeout(c, &o.timeout)
	return c
}

func runAbort(ctx context.Context, c *cobra.Command, o *abortOptions) error {
	a := landing.Aborted{Topic: o.topic}
	desk, err := o.desk(ctx, c, o.timeout)
	if err == nil {
		var failed *fault.Error
		if a, failed = desk.Abort(ctx, o.topic); failed != nil {
			err = failed
		}
	}
	r := &abortResult{branch: a.Branch}
	if a.Topic != "" {
		r.Topic = &a.Topic
	}
	if !a.Unknown {
		landed := sha(a.Landed)
		r.Landed = &landed
	}
	if p := a.Pull; p != nil {
		r.PullRequest = &pullJSON{ui.Clean(p.URL), p.Number, p.State}
	}
	if err != nil {
		e := wrong(ctx, err)
		r.Header = ended(abortKind, e)
		return verb.Finish(o.IO, r, e.Kind, e)
	}
	r.Header = ui.Header{Kind: abortKind, Verdict: "aborted", Reason: ui.Clean(strings.Join(a.Did, "; "))}
	switch {
	case !a.Found:
		r.Verdict, r.Reason = "nothing", "no landing is unfinished"
	case a.Landed != "":
		r.Verdict, r.Next = "landed", ui.NextCommand("homelab work land")
		r.Reason = fmt.Sprintf("%s is on %s, so there is nothing to give up", a.Landed.Short(), a.Base)
	case a.Pull != nil:
		r.Reason += ui.Clean(fmt.Sprintf("; the pull request %d stays: %s", a.Pull.Number, a.Pull.URL))
	}
	return verb.Finish(o.IO, r, fault.OK, nil)
}
