package work

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/landing"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

const restoreKind = "work.restore"

type restoreOptions struct {
	Deps
	id      string
	timeout time.Duration
}

func newRestore(d Deps) *cobra.Command {
	o := &restoreOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "restore [ID]", Short: "Bring a task back from the trash",
		Long: `Bring back what "homelab work clean" put away: the branch where it was, and all
files as they were, ignored ones included. What was staged is an ordinary
change then. If the branch's name is taken, another is used and printed; if the
path is taken, nothing happens (5). Without an ID the trash is listed.`,
		Example: `  homelab work restore
  homelab work restore 20261120T163000Z-3f2a`,
		Tier: verb.Write, Kind: restoreKind, Args: verb.AtMost(1),
		Codes: []fault.Kind{fault.OK, fault.Held, fault.Timeout},
	}, func(c *cobra.Command, args []string) error {
		o.id = verb.Arg(args, 0, "")
		ctx, cancel := verb.Bound(c.Context(), o.timeout)
		defer cancel()
		return runRestore(ctx, c, o)
	})
	addTimeout(c, &o.timeout)
	return c
}

func runRestore(ctx context.Context, c *cobra.Command, o *restoreOptions) error {
	r := &itemsResult{Items: []itemJSON{}}
	desk, err := o.desk(ctx, c, o.timeout)
	switch {
	case err != nil:
	case o.id == "":
		err = o.list(ctx, desk, r)
	default:
		err = o.restore(ctx, desk, r)
	}
	if err != nil {
		e := wrong(ctx, err)
		r.Header, r.lines = ended(restoreKind, e), nil
		return verb.Finish(o.IO, r, e.Kind, e)
	}
	kind := fault.OK
	if r.Verdict == fault.Held.Name() {
		kind = fault.Held
	}
	return verb.Finish(o.IO, r, kind, nil)
}

func (o *restoreOptions) list(ctx context.Context, desk *landing.Desk, r *itemsResult) error {
	all, failed := desk.Trash(ctx)
	if failed != nil {
		return failed
	}
	r.Header = ui.Header{Kind: restoreKind, Verdict: "ok", Reason: "the trash is empty"}
	for _, t := range all {
		r.Items = append(r.Items, viewItem(landing.Item{Topic: t.Task.Topic, Branch: t.Task.Branch, Path: t.Task.Path, TrashID: t.ID}))
		r.lines = append(r.lines, trashRow(viewTrash(t)).Text())
	}
	if len(all) > 0 {
		r.Reason = "what can be restored"
		r.Next = ui.NextCommand(ui.Command("homelab", "work", "restore", all[len(all)-1].ID))
	}
	return nil
}

func (o *restoreOptions) restore(ctx context.Context, desk *landing.Desk, r *itemsResult) error {
	i, failed := desk.Restore(ctx, o.id)
	if failed != nil {
		return failed
	}
	r.Items = append(r.Items, viewItem(i))
	if !i.Done {
		r.Header = ui.Header{Kind: restoreKind, Verdict: fault.Held.Name(), Reason: ui.Clean(strings.Join(i.Reasons, "; ")), Next: ui.NextCommand("homelab work status")}
		r.lines = []string{verb.Line(&r.Header, i.Topic)}
		return nil
	}
	r.Header = ui.Header{Kind: restoreKind, Verdict: "restored", Reason: ui.Clean(strings.Join(i.Did, "; ")), Next: ui.NextCommand(ui.Command("cd", i.Path))}
	r.lines = []string{verb.Line(&r.Header, i.Topic)}
	return nil
}
