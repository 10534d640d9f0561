package doctor

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// report is a check as it is told.
type report struct {
	Name   string  `json:"name"`
	Status status  `json:"status"`
	Detail string  `json:"detail"`
	Fix    *string `json:"fix"` // a command; null: there is nothing to do, or no command does it
}

func newReport(name string, f finding) report {
	return report{Name: name, Status: f.status, Detail: ui.Clean(f.detail()), Fix: ui.NextCommand(ui.Clean(f.fix))}
}

// result is what doctor ends in: its text is the table of checks, then one
// line with the verdict.
type result struct {
	ui.Header
	Checks []report `json:"checks"`

	kind fault.Kind
	file string // the user's, which the first check names whole
}

// conclude makes the result. ended is why the run's context did, nil if not. A
// signal ends the run whatever was found by then.
func conclude(ended error, all []check, found []finding) *result {
	r := &result{Checks: []report{}, kind: fault.OK}
	n := map[status]int{passed: 0, warned: 0, failed: 0, skipped: 0}
	for i, f := range found {
		r.Checks = append(r.Checks, newReport(all[i].name, f))
		n[f.status]++
		if f.status == failed {
			r.kind = fault.Worst(r.kind, f.kind)
		}
	}
	r.Header = ui.Header{Kind: kind}
	if ended != nil && !errors.Is(ended, fault.ErrTimeUp) {
		r.kind = fault.Interrupted
		if sig, ok := errors.AsType[*fault.Signal](ended); ok {
			r.kind = sig.Kind()
		}
		r.Reason = fmt.Sprintf("%s of %d had ended", count(n[passed]+n[warned]+n[failed], "check"), len(all))
		r.Verdict = r.kind.Name()
		return r
	}
	r.Verdict = r.kind.Name()
	parts := []string{count(n[passed], "check") + " passed"}
	for _, p := range []struct {
		n    int
		text string
	}{{n[warned], count(n[warned], "warning")}, {n[skipped], fmt.Sprintf("%d skipped", n[skipped])}} {
		if p.n > 0 {
			parts = append(parts, p.text)
		}
	}
	r.Reason = strings.Join(parts, ", ")
	for _, f := range found {
		if f.status == failed && f.kind == r.kind {
			r.Reason, r.Next = ui.Clean(f.what), ui.NextCommand(ui.Clean(f.fix))
			break
		}
	}
	return r
}

// Columns of the text: glyph and name, word, detail. Below narrow the detail
// gets lines of its own.
const (
	wordColumn   = 15
	detailColumn = 24
	narrow       = 60
)

// Text returns a line for each check and the verdict's. On a terminal a detail
// is broken into lines and the fix has one of its own, which is never broken:
// it is there to be pasted.
func (r *result) Text(width int, color bool) []string {
	var out []string
	for _, c := range r.Checks {
		if width > 0 && r.file != "" {
			c.Detail = strings.ReplaceAll(c.Detail, r.file+":", filepath.Base(r.file)+":") // with a line's number
		}
		out = append(out, c.text(width, color)...)
	}
	return append(out, verb.Line(&r.Header, ""))
}

func (c report) text(width int, color bool) []string {
	style := look(c.Status)
	head := ui.Line{ui.T(style, ui.Glyph(style)+" "+c.Name)}
	head = pad(head, wordColumn)
	head = pad(append(head, ui.T(style, string(c.Status))), detailColumn)
	if width == 0 {
		text := c.Detail
		if c.Fix != nil {
			text += "; fix: " + *c.Fix
		}
		return []string{append(head, ui.T(ui.Plain, text)).Render(0, color)}
	}
	indent := detailColumn
	var lines []ui.Line
	if width < narrow {
		indent = 4
		lines = append(lines, head)
	}
	for _, part := range wrap(c.Detail, width-indent) {
		if len(lines) == 0 {
			lines = append(lines, append(head, ui.T(ui.Plain, part)))
			continue
		}
		lines = append(lines, append(pad(nil, indent), ui.T(ui.Plain, part)))
	}
	if c.Fix != nil {
		fix := ui.T(ui.Strong, "fix: "+*c.Fix)
		if indent+ui.Width(fix.Text) > width {
			indent = 4 // room to stay on one line, mostly
		}
		lines = append(lines, append(pad(nil, indent), fix))
	}
	var out []string
	for _, l := range lines {
		out = append(out, strings.TrimRight(l.Render(0, color), " "))
	}
	return out
}

// pad fills a line up to a column.
func pad(l ui.Line, column int) ui.Line {
	return append(l, ui.Span{Text: strings.Repeat(" ", max(column-l.Width(), 0))})
}
