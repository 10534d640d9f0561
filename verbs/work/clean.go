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

const cleanKind = "work.clean"

type cleanOptions struct {
	Deps
	landing.CleanOptions
	timeout time.Duration
}

func newClean(d Deps) *cobra.Command {
	o := &cleanOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "clean TOPIC... | --landed", Short: "Put tasks away that are done; nothing is lost",
		Long: `Put tasks away: the work tree's directory with every file in it, ignored ones
included, goes to a trash that is kept for 30 days, and so does the branch. The
branch is deleted here, and on the remote if its work has landed and the remote
has nothing more. "homelab work restore" brings a task back.

A task is refused, with the reasons, while it has uncommitted files, commits
that are neither on a remote nor landed, or an unfinished landing; --force
overrides these three. It is always refused while it is in use.`,
		Example: `  homelab work clean fan-curve
  homelab work clean --landed
  homelab work clean experiment --force`,
		Tier: verb.Write, Kind: cleanKind, Args: func([]string) error { return nil },
		Codes: []fault.Kind{fault.OK, fault.Held, fault.Timeout},
	}, func(c *cobra.Command, args []string) error {
		o.Topics = args
		ctx, cancel := verb.Bound(c.Context(), o.timeout)
		defer cancel()
		return runClean(ctx, c, o)
	})
	c.Flags().BoolVar(&o.Landed, "landed", false, "every task whose work is on its base")
	c.Flags().BoolVar(&o.Force, "force", false, "despite uncommitted files, unpublished commits or an unfinished landing")
	addTimeout(c, &o.timeout)
	return c
}

func runClean(ctx context.Context, c *cobra.Command, o *cleanOptions) error {
	items, err := o.clean(ctx, c)
	r := &itemsResult{Items: []itemJSON{}}
	kind, put := fault.OK, 0
	for _, i := range items {
		r.Items = append(r.Items, viewItem(i))
		if i.Done {
			put++
		} else {
			kind = fault.Held
		}
	}
	if err != nil {
		e := wrong(ctx, err)
		r.Header = ended(cleanKind, e)
		return verb.Finish(o.IO, r, e.Kind, e)
	}
	r.Header = ui.Header{Kind: cleanKind, Verdict: "cleaned", Reason: fmt.Sprintf("%d of %d task(s) put away", put, len(items))}
	switch {
	case len(items) == 0:
		r.Verdict, r.Reason, r.Next = "nothing", "no task's work has landed", ui.NextCommand("homelab work status --fetch")
	case kind == fault.Held:
		r.Verdict, r.Next = fault.Held.Name(), ui.NextCommand("homelab work status")
		if len(items) == 1 {
			r.Next = ui.NextCommand(heldNext(items[0]))
		}
	case len(items) == 1 && items[0].TrashID != "":
		r.Next = ui.NextCommand(ui.Command("homelab", "work", "restore", items[0].TrashID))
	}
	for _, i := range items {
		r.lines = append(r.lines, cleanLine(i))
	}
	return verb.Finish(o.IO, r, kind, nil)
}

// cleanLine is the line of one task.
func cleanLine(i landing.Item) string {
	if !i.Done {
		return ui.ResultLine(fault.Held.Name(), i.Topic, strings.Join(i.Reasons, "; "), heldNext(i))
	}
	if i.TrashID == "" {
		return ui.ResultLine("cleaned", i.Topic, strings.Join(i.Did, "; "), "")
	}
	// What was done in detail is in the story.
	return ui.ResultLine("cleaned", i.Topic, "in the trash for 30 days", ui.Command("homelab", "work", "restore", i.TrashID))
}

// heldNext is the command that helps with a task that was refused.
func heldNext(i landing.Item) string {
	if i.Next != "" && len(i.Reasons) == 1 {
		return i.Next
	}
	return "homelab work status"
}

func (o *cleanOptions) clean(ctx context.Context, c *cobra.Command) ([]landing.Item, error) {
	help := c.CommandPath() + " --help"
	switch {
	case o.Landed && len(o.Topics) > 0:
		return nil, fault.Usagef(help, "name topics or say --landed, not both")
	case !o.Landed && len(o.Topics) == 0:
		return nil, fault.Usagef(help, "name a topic, or say --landed")
	}
	desk, err := o.desk(ctx, c, o.timeout)
	if err != nil {
		return nil, err
	}
	items, failed := desk.Clean(ctx, o.CleanOptions)
	if failed != nil {
		return items, failed
	}
	return items, nil
}
