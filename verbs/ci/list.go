package ci

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

const (
	listKind = "ci.list"
	listRows = 20
)

type listOptions struct {
	Deps
	branch string
	event  string
}

// listRow is one pipeline of a list: what a list shows of it.
type listRow struct {
	Number   int64             `json:"number"`
	ID       int64             `json:"id"`
	Event    woodpecker.Event  `json:"event"`
	Status   woodpecker.Status `json:"status"`
	Branch   string            `json:"branch"`
	Commit   string            `json:"commit"`
	Title    string            `json:"title"`
	URL      string            `json:"url"`
	Created  *time.Time        `json:"created"`
	Started  *time.Time        `json:"started"`
	Finished *time.Time        `json:"finished"`
}

// listResult is what ci list ends in. Its text is the rows themselves.
type listResult struct {
	ui.Header
	Repo      *repoJSON `json:"repo,omitempty"`
	Pipelines []listRow `json:"pipelines"`
}

func (r *listResult) Text(int, bool) []string {
	if r.ExitCode == 0 && len(r.Pipelines) > 0 {
		return nil // the rows were the result
	}
	name := ""
	if r.Repo != nil {
		name = r.Repo.FullName
	}
	return []string{verb.Line(&r.Header, name)}
}

func newList(d Deps) *cobra.Command {
	o := &listOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "list", Short: "List the newest pipelines of the repository",
		Long: "List the newest 20 pipelines of the repository, newest first.",
		Example: `  homelab ci list
  homelab ci list --branch main --event push
  homelab ci list --repo ada/app --json`,
		Tier: verb.Read, Kind: listKind, Args: verb.NoArgs,
		Codes: []fault.Kind{fault.OK, fault.Denied, fault.Unreachable, fault.Timeout},
	}, func(c *cobra.Command, _ []string) error {
		ctx, cancel := verb.Bound(c.Context(), d.Flags.Timeout)
		defer cancel()
		return runList(ctx, c, o)
	})
	d.Flags.Network(c, lookTimeout)
	c.Flags().StringVar(&o.branch, "branch", "", "only pipelines of this `BRANCH`")
	c.Flags().StringVar(&o.event, "event", "", "only pipelines of this `EVENT`")
	return c
}

func runList(ctx context.Context, c *cobra.Command, o *listOptions) error {
	tell := newTeller(o.IO)
	s, rows, err := o.fetch(ctx, c, tell)
	if err != nil {
		e := explain(ended(ctx, c, s, err), o.Flags.Repo)
		return verb.Finish(o.IO, &listResult{Header: verbHeader(listKind, e), Pipelines: []listRow{}}, e.Kind, e)
	}
	tell.quietNote(s.warning)
	url := pageOf(s)
	r := &listResult{
		Header:    ui.Header{Kind: listKind, Verdict: "ok", Reason: fmt.Sprintf("%d pipelines", len(rows))},
		Repo:      &repoJSON{s.target.Repo.ID, s.target.Repo.FullName},
		Pipelines: []listRow{},
	}
	switch len(rows) {
	case 0:
		r.Reason = "no pipelines"
	case 1:
		r.Reason = "1 pipeline"
	}
	now := s.conn.Client.Now()
	table := make([][]ui.Line, 0, len(rows))
	for _, p := range rows {
		r.Pipelines = append(r.Pipelines, listRow{
			Number: p.Number, ID: p.ID, Event: p.Event, Status: p.Status, Branch: p.Branch, Commit: p.Commit, Title: title(p), URL: url(p.Number),
			Created: ui.Timestamp(p.Created), Started: ui.Timestamp(p.Started), Finished: ui.Timestamp(p.Finished),
		})
		table = append(table, o.row(p, now))
	}
	if err := o.IO.PayloadTable(ui.TableOf(table, 0)...); err != nil {
		return verb.Fault(err)
	}
	return verb.Finish(o.IO, r, fault.OK, nil)
}

// row is one line of the text form. How long ago it was is for people; a pipe
// gets the time itself.
func (o *listOptions) row(p woodpecker.Pipeline, now time.Time) []ui.Line {
	when := woodpecker.Moment(p.Created).Format(time.RFC3339)
	if o.IO.OutTTY {
		when = ui.Duration(now.Sub(woodpecker.Moment(p.Created))) + " ago"
	}
	took := lasted(p.Started, p.Finished, now)
	if took == "" {
		took = "-"
	}
	return []ui.Line{
		{ui.T(ui.Strong, "#"+itoa(p.Number))},
		{ui.T(style(p.Status), glyph(p.Status)+" "+string(p.Status))},
		{ui.T(ui.Plain, string(p.Event))},
		{ui.T(ui.Plain, orDash(p.Branch))},
		{ui.T(ui.Plain, pipeline.Short(p.Commit))},
		{ui.T(ui.Plain, took)},
		{ui.T(ui.Dim, when)},
		{ui.T(ui.Plain, title(p))},
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func title(p woodpecker.Pipeline) string {
	if p.Message != "" {
		return p.Message
	}
	return p.Title
}

func (o *listOptions) fetch(ctx context.Context, c *cobra.Command, tell *teller) (*session, []woodpecker.Pipeline, error) {
	help := c.CommandPath() + " --help"
	if err := o.Flags.Check(c); err != nil {
		return nil, nil, err
	}
	var events []woodpecker.Event
	if o.event != "" {
		if !knownEvent(woodpecker.Event(o.event)) {
			return nil, nil, fault.Usagef(help, "there is no event %q", o.event).Because("events: " + eventNames())
		}
		events = []woodpecker.Event{woodpecker.Event(o.event)}
	}
	repo, err := o.checkout(ctx)
	if err != nil {
		return nil, nil, err
	}
	s := &session{}
	if err := o.locate(ctx, s, repo, asked{}, false, tell.reporter()); err != nil {
		return s, nil, err
	}
	rows, err := pipeline.Newest(ctx, s.conn.Client, s.target.Repo.ID, woodpecker.ListOptions{PerPage: listRows, Branch: o.branch, Events: events})
	return s, rows, err
}
