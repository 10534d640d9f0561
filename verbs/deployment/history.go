package deployment

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
	"homelab/verbs/verb/stackview"
)

// revisionJSON is one state that was recorded.
type revisionJSON struct {
	Revision int               `json:"revision"`
	Time     time.Time         `json:"time"`
	Verb     string            `json:"verb"`
	Verdict  string            `json:"verdict"`
	Good     bool              `json:"good"`
	Reason   string            `json:"reason"`
	Restored *int              `json:"restored"` // the revision a rollback brought back; null for others
	Source   sourceJSON        `json:"source"`
	Images   map[string]string `json:"images"`
}

// historyResult is what history ends in; its text is the rows themselves.
type historyResult struct {
	ui.Header
	Deployment *stackview.Deployment `json:"deployment,omitempty"`
	Revisions  []revisionJSON        `json:"revisions"` // newest first

	subject string
}

// Text returns a row for each revision, then the line of the result. Where a
// row is wider than the terminal its images have lines of their own: what is
// cut off cannot be pasted.
func (r *historyResult) Text(width int, _ bool) []string {
	var out []string
	for _, x := range r.Revisions {
		out = append(out, x.lines(width)...)
	}
	return append(out, verb.Line(&r.Header, r.subject))
}

func (x revisionJSON) lines(width int) []string {
	commit := "-"
	if c := x.Source.Spec.Commit; c != nil {
		commit = (*c)[:min(7, len(*c))]
	}
	head := fmt.Sprintf("%6d  %s  %-8s  %-10s  %-7s", x.Revision, x.Time.Format(time.RFC3339), x.Verb, x.Verdict, commit)
	var images []string
	for _, c := range slices.Sorted(maps.Keys(x.Images)) {
		images = append(images, "  "+c+"="+x.Images[c])
	}
	again := ""
	if x.Restored != nil {
		again = fmt.Sprintf("  (revision %d again)", *x.Restored)
	}
	whole := ui.L(strings.TrimRight(head+strings.Join(images, "")+again, " "))
	if width == 0 || whole.Width() <= width {
		return []string{whole.Text()}
	}
	out := []string{ui.L(strings.TrimRight(head+again, " ")).Render(width, false)}
	for _, i := range images {
		out = append(out, ui.Clean("      "+i))
	}
	return out
}

func newHistory(g *group) *cobra.Command {
	return verb.New(verb.Spec{
		Use: "history", Short: "List the states a deployment was brought to",
		Long: `List the revisions of a deployment directory, newest first: when, by which verb,
from which commits, with which images, and what was seen. "rollback" goes back to
one of them. Nothing is contacted.

A state that did not change is no new revision. The last ten are kept, and the
last one that was seen up.`,
		Example: `  homelab deployment history --dir shop
  homelab deployment history --dir shop --json`,
		Tier: verb.Read, Kind: "deployment.history", Codes: []fault.Kind{fault.OK, fault.Unsafe},
	}, func(c *cobra.Command, _ []string) error { return g.history(c.Context(), c) })
}

func (g *group) history(ctx context.Context, c *cobra.Command) error {
	if err := given(c); err != nil {
		return err
	}
	tell := newTeller(ctx, g.IO)
	defer tell.close()
	w, err := g.World(ctx, tell)
	var id stack.Identity
	var all []stack.Revision
	if err == nil {
		id, all, err = w.Revisions(g.dir)
	}
	if err != nil {
		return g.finish(c, "deployment.history", &stack.Outcome{Deployment: id}, err, tell)
	}
	out := view("deployment.history", &stack.Outcome{Deployment: id})
	r := &historyResult{Deployment: out.Deployment, subject: out.subject, Revisions: []revisionJSON{}}
	for _, x := range all {
		r.Revisions = append(r.Revisions, viewRevision(x))
	}
	r.Header = ui.Header{Kind: "deployment.history", Verdict: "ok", Reason: fmt.Sprintf("%d revisions", len(all))}
	switch len(all) {
	case 0:
		r.Reason = "no revision was recorded yet"
	case 1:
		r.Reason = "1 revision"
	}
	return verb.Finish(g.IO, r, fault.OK, nil)
}

func viewRevision(x stack.Revision) revisionJSON {
	out := revisionJSON{
		Revision: x.Number, Time: x.Time, Verb: ui.Clean(x.Verb), Verdict: ui.Clean(x.Verdict), Good: x.Good, Reason: ui.Clean(x.Reason),
		Source: sourceJSON{
			Spec:  originJSON{ui.Clean(x.Spec.Path), orNull(string(x.Spec.Commit))},
			Stack: originJSON{ui.Clean(x.Stack.Path), orNull(string(x.Stack.Commit))},
		},
		Images: map[string]string{},
	}
	if x.Of > 0 {
		out.Restored = &x.Of
	}
	for k, v := range x.Images {
		out.Images[ui.Clean(k)] = ui.Clean(v)
	}
	return out
}
