package work

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/landing"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

const statusKind = "work.status"

type statusOptions struct {
	Deps
	landing.StatusOptions
	timeout time.Duration
}

// taskJSON is one task. ahead, behind and landed are absent while the base is
// not known here.
type taskJSON struct {
	Topic       string         `json:"topic"`
	Branch      string         `json:"branch"`
	Path        string         `json:"path"`
	Missing     bool           `json:"missing"` // the work tree is gone
	Base        string         `json:"base"`
	Remote      string         `json:"remote"`
	Commit      *sha           `json:"commit"` // null: the branch is gone
	Created     time.Time      `json:"created"`
	Changed     int            `json:"changed"`
	Untracked   int            `json:"untracked"`
	Ignored     int            `json:"ignored"`
	Ahead       *int           `json:"ahead,omitempty"`
	Behind      *int           `json:"behind,omitempty"`
	StackedOn   *string        `json:"stacked_on"`
	Pushed      bool           `json:"pushed"`
	PullRequest *pullJSON      `json:"pull_request"`
	Landed      landing.State  `json:"landed,omitempty"`
	Landing     *unsettledJSON `json:"landing"`
}

// unsettledJSON is a landing that is not done.
type unsettledJSON struct {
	ID       string        `json:"id"`
	Branch   string        `json:"branch"`
	Phase    landing.Phase `json:"phase"`
	UnderWay bool          `json:"under_way"`
	Next     string        `json:"next"`
}

type trashJSON struct {
	TrashID string    `json:"trash_id"`
	Topic   string    `json:"topic"`
	Branch  string    `json:"branch"`
	Path    string    `json:"path"` // where it was
	Deleted time.Time `json:"deleted"`
	Expires time.Time `json:"expires"`
}

type strayJSON struct {
	Remote string `json:"remote"`
	Branch string `json:"branch"`
}

// statusResult is what work status ends in. Its text is the rows themselves.
type statusResult struct {
	ui.Header
	Tasks    []taskJSON      `json:"tasks"`
	Trash    []trashJSON     `json:"trash"`
	Landings []unsettledJSON `json:"landings"` // of branches that are no task's
	Staging  []strayJSON     `json:"staging"`  // branches earlier landings left on a remote
	Warnings []string        `json:"warnings"`
	rows     int
}

func (r *statusResult) Text(int, bool) []string {
	if r.ExitCode == 0 && r.rows > 0 {
		return nil // the rows were the result
	}
	return []string{verb.Line(&r.Header, "")}
}

func newStatus(d Deps) *cobra.Command {
	o := &statusOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "status", Short: "See how the tasks of this clone stand",
		Long: `See every task of this clone: what is uncommitted in it, how far it is from its
base, whether it is pushed and whether its work has landed; landings that were
broken off, with the command that goes on; and what is in the trash.

Landed is "merged", "content" (the base has the same content), "squashed" (one
commit of the base is the whole branch), "reverted" or "no". Without --fetch
nothing is asked, and the base is what was last known of it.`,
		Example: `  homelab work status
  homelab work status --fetch --json`,
		Tier: verb.Read, Kind: statusKind, Args: verb.NoArgs,
		Codes: []fault.Kind{fault.OK, fault.Timeout},
	}, func(c *cobra.Command, _ []string) error {
		ctx, cancel := verb.Bound(c.Context(), o.timeout)
		defer cancel()
		return runStatus(ctx, c, o)
	})
	c.Flags().BoolVar(&o.Fetch, "fetch", false, "fetch the bases first")
	addTimeout(c, &o.timeout)
	return c
}

func runStatus(ctx context.Context, c *cobra.Command, o *statusOptions) error {
	var all landing.Overview
	desk, err := o.desk(ctx, c, o.timeout)
	if err == nil {
		var failed *fault.Error
		if all, failed = desk.Status(ctx, o.StatusOptions); failed != nil {
			err = failed
		}
	}
	r := &statusResult{Tasks: []taskJSON{}, Trash: []trashJSON{}, Landings: []unsettledJSON{}, Staging: []strayJSON{}, Warnings: []string{}}
	if err != nil {
		e := wrong(ctx, err)
		r.Header = ended(statusKind, e)
		return verb.Finish(o.IO, r, e.Kind, e)
	}
	for _, w := range all.Warnings {
		r.Warnings = append(r.Warnings, ui.Clean(w))
		o.tell(landing.Warned{Text: w})
	}
	r.Header = ui.Header{Kind: statusKind, Verdict: "ok", Reason: fmt.Sprintf("%d task(s), %d in the trash", len(all.Tasks), len(all.Trash))}
	if len(all.Tasks) == 0 {
		r.Next = ui.NextCommand("homelab work start TOPIC")
	}
	r.fill(all)
	lines := statusRows(r, o.IO.Width())
	r.rows = len(lines)
	if err := o.IO.Payload(lines...); err != nil {
		return verb.Fault(err)
	}
	return verb.Finish(o.IO, r, fault.OK, nil)
}

func (r *statusResult) fill(all landing.Overview) {
	for _, t := range all.Tasks {
		j := taskJSON{
			Topic: t.Topic, Branch: t.Branch, Path: t.Path, Missing: t.Missing, Base: t.Task.Base, Remote: t.Remote, Created: t.Created,
			Changed: len(t.Changed), Untracked: len(t.Untracked), Ignored: len(t.Ignored), Pushed: t.Pushed,
		}
		tip := sha(t.Tip)
		j.Commit = &tip
		if t.Counted {
			j.Ahead, j.Behind = &t.Ahead, &t.Behind
		}
		if t.Base != "" {
			j.Landed = t.Landed
		}
		if t.StackedOn != "" {
			j.StackedOn = &t.StackedOn
		}
		if p := t.Pull; p != nil {
			j.PullRequest = &pullJSON{ui.Clean(p.URL), p.Number, p.State}
		}
		if t.Landing != nil {
			u := viewUnsettled(*t.Landing)
			j.Landing = &u
		}
		r.Tasks = append(r.Tasks, j)
	}
	for _, u := range all.Landings {
		r.Landings = append(r.Landings, viewUnsettled(u))
	}
	for _, t := range all.Trash {
		r.Trash = append(r.Trash, viewTrash(t))
	}
	for _, s := range all.Strays {
		r.Staging = append(r.Staging, strayJSON{s.Remote, s.Branch})
	}
}

func viewUnsettled(u landing.Unsettled) unsettledJSON {
	return unsettledJSON{ID: u.ID, Branch: u.Branch, Phase: u.Phase, UnderWay: u.UnderWay, Next: u.Next}
}

func viewTrash(t landing.Trashed) trashJSON {
	return trashJSON{TrashID: t.ID, Topic: t.Task.Topic, Branch: t.Task.Branch, Path: t.Task.Path, Deleted: t.Deleted, Expires: t.Expires()}
}

// taskRows are the lines of the tasks. Where one is wider than the terminal (0:
// there is none) the directories stand on lines of their own: what is cut off
// cannot be pasted.
func taskRows(tasks []taskJSON, width int) []ui.Line {
	var wide, narrow [][]ui.Span
	for _, t := range tasks {
		row := []ui.Span{
			ui.T(ui.Strong, t.Topic), ui.T(ui.Plain, t.Branch), ui.T(ui.Plain, landedWords(t)), ui.T(ui.Plain, distance(t)),
			ui.T(ui.Plain, filesWords(t)),
		}
		narrow = append(narrow, row)
		wide = append(wide, append(slices.Clip(row), ui.T(ui.Dim, t.Path)))
	}
	lines := ui.Table(wide)
	if width == 0 || !slices.ContainsFunc(lines, func(l ui.Line) bool { return l.Width() > width }) {
		return lines
	}
	lines = nil
	rows := ui.Table(narrow)
	for i, t := range tasks {
		lines = append(lines, rows[i], ui.Line{ui.T(ui.Plain, "  "), ui.T(ui.Dim, t.Path)})
	}
	return lines
}

// statusRows are the lines of text mode.
func statusRows(r *statusResult, width int) []ui.Line {
	lines := taskRows(r.Tasks, width)
	for _, t := range r.Tasks {
		if t.Landing != nil {
			lines = append(lines, landingRow(*t.Landing))
		}
	}
	for _, u := range r.Landings {
		lines = append(lines, landingRow(u))
	}
	for _, s := range r.Staging {
		lines = append(lines, ui.L(fmt.Sprintf("left on %s: %s", s.Remote, s.Branch)))
	}
	for _, t := range r.Trash {
		lines = append(lines, trashRow(t))
	}
	return lines
}

func landingRow(u unsettledJSON) ui.Line {
	state := "unfinished"
	if u.UnderWay {
		state = "under way"
	}
	return ui.L(fmt.Sprintf("landing %s of %s is %s (%s); next: %s", u.ID, u.Branch, state, u.Phase, u.Next))
}

func trashRow(t trashJSON) ui.Line {
	return ui.L(fmt.Sprintf("trash %s: %s (%s), kept until %s; next: %s", t.TrashID, t.Topic, t.Branch,
		t.Expires.Format(time.DateOnly), ui.Command("homelab", "work", "restore", t.TrashID)))
}

func landedWords(t taskJSON) string {
	words := "base unknown"
	switch t.Landed {
	case landing.StateMerged, landing.StateContent, landing.StateSquashed:
		words = "landed (" + string(t.Landed) + ")"
	case landing.StateReverted:
		words = "reverted"
	case landing.StateNo:
		words = "not landed"
	}
	if t.PullRequest != nil {
		words += fmt.Sprintf(", pull request %d", t.PullRequest.Number)
	}
	if t.StackedOn != nil {
		words += ", on " + *t.StackedOn
	}
	return words
}

func distance(t taskJSON) string {
	if t.Ahead == nil {
		return "-"
	}
	s := fmt.Sprintf("%d ahead, %d behind %s", *t.Ahead, *t.Behind, t.Base)
	if *t.Ahead > 0 && !t.Pushed {
		s += ", not pushed"
	}
	return s
}

func filesWords(t taskJSON) string {
	if t.Missing {
		return "work tree gone"
	}
	var words []string
	for _, c := range []struct {
		n    int
		what string
	}{{t.Changed, "changed"}, {t.Untracked, "untracked"}, {t.Ignored, "ignored"}} {
		if c.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if len(words) == 0 {
		return "clean"
	}
	return strings.Join(words, ", ")
}
