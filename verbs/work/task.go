package work

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/landing"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// taskTimeout bounds the verbs about tasks: a fetch may be large, and nothing
// else takes long.
const taskTimeout = 15 * time.Minute

// addTimeout adds --timeout; these verbs ask no CI server.
func addTimeout(c *cobra.Command, timeout *time.Duration) {
	c.Flags().DurationVar(timeout, "timeout", taskTimeout, "end after `DUR`, the remote included; 0 means never")
}

// desk opens the place where tasks are kept.
func (d Deps) desk(ctx context.Context, c *cobra.Command, timeout time.Duration) (*landing.Desk, error) {
	if timeout < 0 {
		return nil, fault.Usagef(c.CommandPath()+" --help", "--timeout must not be negative")
	}
	if err := d.Flags.Check(c); err != nil {
		return nil, err
	}
	repo, err := d.Checkout(ctx)
	if own, ok := errors.AsType[*git.OwnershipError](err); ok {
		return nil, fault.Usagef(own.Advice(), "%v", own)
	} else if err != nil {
		return nil, err
	}
	if repo == nil {
		return nil, fault.Usagef("git status", "this is no git checkout, or git is not installed")
	}
	return &landing.Desk{
		Dir: d.Dir, User: d.User,
		Deps: landing.Deps{Repo: repo, Env: d.Child, Rules: d.Rules, File: d.File, Tell: d.tell},
	}, nil
}

// tell puts what happens into the story.
func (d Deps) tell(u landing.Update) {
	switch u := u.(type) {
	case landing.Told:
		d.IO.Note(ui.L(u.Text))
		d.IO.Event("phase", map[string]string{"phase": u.Phase, "text": ui.Clean(u.Text)})
	case landing.Warned:
		d.IO.Note(ui.L("warning: " + u.Text))
		d.IO.Event("warning", map[string]string{"text": ui.Clean(u.Text)})
	}
}

// wrong is what ended a run early, ready to be told.
func wrong(ctx context.Context, err error) *fault.Error {
	if _, said := errors.AsType[*fault.Error](err); !said && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return verb.Fault(err)
}

// ended is the header of a run that e ended.
func ended(kind string, e *fault.Error) ui.Header {
	return ui.Header{Kind: kind, Verdict: e.Kind.Name(), Reason: ui.Clean(e.Error()), Next: ui.NextCommand(ui.Clean(e.Next))}
}

// itemJSON is one task that was, or was not, put away or brought back.
type itemJSON struct {
	Topic   string   `json:"topic"`
	Branch  string   `json:"branch"`
	Path    string   `json:"path"`
	TrashID *string  `json:"trash_id"`
	Done    bool     `json:"done"`
	Reasons []string `json:"reasons"`
}

func viewItem(i landing.Item) itemJSON {
	out := itemJSON{Topic: i.Topic, Branch: i.Branch, Path: i.Path, Done: i.Done, Reasons: []string{}}
	if i.TrashID != "" {
		out.TrashID = &i.TrashID
	}
	for _, r := range i.Reasons {
		out.Reasons = append(out.Reasons, ui.Clean(r))
	}
	return out
}

// itemsResult is what work clean and work restore end in. Its text has one
// line for each item.
type itemsResult struct {
	ui.Header
	Items []itemJSON `json:"items"`
	lines []string
}

func (r *itemsResult) Text(int, bool) []string {
	if len(r.lines) > 0 {
		return r.lines
	}
	return []string{verb.Line(&r.Header, "")}
}
