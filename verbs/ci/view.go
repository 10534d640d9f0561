package ci

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// view is what the live view shows: a pure function of it, the screen's size
// and the server's time.
type view struct {
	repo   string
	commit string
	found  bool
	row    woodpecker.Pipeline
	url    string
}

// style says what a state means to the eye.
func style(s woodpecker.Status) ui.Style {
	switch s {
	case woodpecker.Success:
		return ui.OK
	case woodpecker.Failure, woodpecker.Error, woodpecker.Killed, woodpecker.Canceled, woodpecker.Declined:
		return ui.Bad
	case woodpecker.Blocked, woodpecker.Pending, woodpecker.Created:
		return ui.Waiting
	case woodpecker.Running:
		return ui.Running
	case woodpecker.Skipped:
		return ui.Dim
	}
	return ui.Plain
}

// word is a state as the view words it.
func word(s woodpecker.Status) string {
	switch s {
	case woodpecker.Success:
		return "passed"
	case woodpecker.Failure:
		return "failed"
	case woodpecker.Created, woodpecker.Pending, woodpecker.Running, woodpecker.Blocked, woodpecker.Error,
		woodpecker.Killed, woodpecker.Canceled, woodpecker.Declined, woodpecker.Skipped:
		return string(s)
	}
	return string(s)
}

// lines draws the view: the pipeline, its address, then a row per workflow. If
// they do not fit, those that passed, wait or were skipped are counted instead
// of listed, and what runs or failed stays.
func (v view) lines(_, h int, now time.Time) []ui.Line {
	if !v.found {
		what := v.repo
		if v.commit != "" {
			what += " (" + pipeline.Short(v.commit) + ")"
		}
		return []ui.Line{{ui.T(ui.Waiting, ui.Glyph(ui.Waiting)+" "), ui.T(ui.Plain, what+": waiting for a pipeline")}}
	}
	out := []ui.Line{v.title(now), {ui.T(ui.Dim, v.url)}}
	return append(out, v.tree(max(h-1-len(out), 1), now)...)
}

func (v view) title(now time.Time) ui.Line {
	r := v.row
	l := ui.Line{
		ui.T(style(r.Status), glyph(r.Status)+" "),
		ui.T(ui.Strong, fmt.Sprintf("%s #%d", v.repo, r.Number)),
		ui.T(ui.Plain, fmt.Sprintf(" %s %s %s ", r.Event, r.Branch, pipeline.Short(r.Commit))),
		ui.T(style(r.Status), word(r.Status)),
	}
	if d := lasted(r.Started, r.Finished, now); d != "" {
		l = append(l, ui.T(ui.Plain, " "+d))
	}
	title := r.Message
	if title == "" {
		title = r.Title
	}
	return append(l, ui.T(ui.Dim, "  "+title))
}

func glyph(s woodpecker.Status) string { return ui.Glyph(style(s)) }

// lasted words how long something has been going on or took; "" before it
// started.
func lasted(started, finished int64, now time.Time) string {
	if started == 0 {
		return ""
	}
	end := now
	if finished >= started {
		end = woodpecker.Moment(finished)
	}
	return ui.Duration(end.Sub(woodpecker.Moment(started)))
}

func (v view) tree(room int, now time.Time) []ui.Line {
	flows := v.row.Workflows
	listed := flows
	var counted []ui.Line
	if len(flows) > room {
		// What needs eyes comes first; the rest is counted.
		listed = nil
		for _, want := range []func(woodpecker.Status) bool{
			woodpecker.Status.Bad,
			func(s woodpecker.Status) bool { return s == woodpecker.Running || !s.Known() },
		} {
			for _, w := range flows {
				if want(w.State) {
					listed = append(listed, w)
				}
			}
		}
		counts := make(map[woodpecker.Status]int)
		for _, w := range flows {
			if !slices.ContainsFunc(listed, func(l woodpecker.Workflow) bool { return l.ID == w.ID }) {
				counts[w.State]++
			}
		}
		states := make([]string, 0, len(counts))
		for s := range counts {
			states = append(states, string(s))
		}
		sort.Strings(states)
		for _, s := range states {
			st := woodpecker.Status(s)
			counted = append(counted, ui.Line{ui.T(style(st), glyph(st)+" "), ui.T(ui.Plain, fmt.Sprintf("%d more %s", counts[st], word(st)))})
		}
		if most := max(room-len(counted), 0); len(listed) > most {
			hidden := listed[max(most-1, 0):]
			listed = listed[:max(most-1, 0)]
			counted = append([]ui.Line{{ui.T(ui.Plain, fmt.Sprintf("… %d more failed or running", len(hidden)))}}, counted...)
		}
	}
	rows := make([][]ui.Line, 0, len(listed))
	for _, w := range listed {
		rows = append(rows, []ui.Line{
			{ui.T(style(w.State), glyph(w.State)+" "+label(w))},
			{ui.T(style(w.State), word(w.State))},
			{ui.T(ui.Plain, lasted(w.Started, w.Finished, now))},
			steps(w, now),
		})
	}
	return append(ui.TableOf(rows), counted...)
}

// label names a workflow, a matrix variant by what sets it apart.
func label(w woodpecker.Workflow) string {
	if len(w.Environ) == 0 {
		return w.Name
	}
	var parts []string
	for k, val := range w.Environ {
		parts = append(parts, k+"="+val)
	}
	sort.Strings(parts)
	return w.Name + " (" + strings.Join(parts, " ") + ")"
}

// steps words what is worth seeing of a workflow's steps: why it failed, or
// what it is doing.
func steps(w woodpecker.Workflow, now time.Time) ui.Line {
	switch {
	case w.State.Bad():
		return ui.Line{ui.T(ui.Bad, strings.Join(causes(w), ", "))}
	case w.State == woodpecker.Running:
		var out ui.Line
		for _, s := range w.Steps {
			if s.State == woodpecker.Pending || s.State == woodpecker.Created || s.State == woodpecker.Skipped {
				continue
			}
			if len(out) > 0 {
				out = append(out, ui.T(ui.Plain, "  "))
			}
			text := s.Name
			if s.State == woodpecker.Running {
				text += " " + lasted(s.Started, 0, now)
			} else if s.State != woodpecker.Success {
				text += " " + word(s.State)
			}
			out = append(out, ui.T(style(s.State), glyph(s.State)+" "+text))
		}
		return out
	}
	return nil
}

// causes words why a workflow ended badly: "unit: exit code 3".
func causes(w woodpecker.Workflow) []string {
	var out []string
	for _, s := range w.Steps {
		switch {
		case s.State == woodpecker.Failure && s.ExitCode != 0:
			out = append(out, fmt.Sprintf("%s: exit code %d", s.Name, s.ExitCode))
		case (s.State == woodpecker.Failure || s.State == woodpecker.Error) && s.Error != "":
			out = append(out, s.Name+": "+s.Error)
		case s.State == woodpecker.Failure, s.State == woodpecker.Error:
			out = append(out, s.Name+" failed")
		}
	}
	if len(out) == 0 && w.Error != "" {
		out = append(out, w.Error)
	}
	return out
}

// foundLine is the plain line of the row that is watched from now on.
func foundLine(repo string, r woodpecker.Pipeline, url string) ui.Line {
	return ui.Line{
		ui.T(ui.Strong, fmt.Sprintf("%s #%d", repo, r.Number)),
		ui.T(ui.Plain, fmt.Sprintf(" %s %s %s ", r.Event, r.Branch, pipeline.Short(r.Commit))),
		ui.T(style(r.Status), string(r.Status)),
		ui.T(ui.Dim, " "+url),
	}
}

// workflowLine is the plain line of a workflow that changed.
func workflowLine(w woodpecker.Workflow) ui.Line {
	l := ui.Line{ui.T(ui.Plain, label(w)+" "), ui.T(style(w.State), string(w.State))}
	if w.State.Ended() && w.Finished >= w.Started && w.Started > 0 {
		l = append(l, ui.T(ui.Plain, " "+ui.Duration(time.Duration(w.Finished-w.Started)*time.Second)))
	}
	if w.State.Bad() {
		if c := causes(w); len(c) > 0 {
			l = append(l, ui.T(ui.Plain, ": "+strings.ReplaceAll(strings.Join(c, ", "), ": exit code", " exit code")))
		}
	}
	return l
}
