package config

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

const showKind = "config.show"

// entry is one setting. Value and source are null when nobody set it.
type entry struct {
	Key    string  `json:"key"`
	Value  *string `json:"value"`
	Source *string `json:"source"`
	Secret bool    `json:"secret"` // the value is masked
	Note   *string `json:"note"`   // why a value is not used or not usable
}

// showResult is what config show ends in.
type showResult struct {
	ui.Header
	Entries []entry  `json:"entries"`
	Notes   []string `json:"notes"` // of no single entry
	file    string
}

func newShow(d Deps) *cobra.Command {
	return verb.New(verb.Spec{
		Use: "show", Short: "Show the effective configuration and where each value comes from",
		Long: `Show every setting in force with its source: a flag, a variable, or a file and
its line. Tokens are masked. What is set somewhere and not used says why. The
names of what nobody set follow in one line; with --json they are entries
without a value.`,
		Example: "  homelab config show\n  homelab config show --json",
		Tier:    verb.Read, Kind: showKind, Args: verb.NoArgs, Codes: []fault.Kind{fault.OK},
	}, func(c *cobra.Command, _ []string) error { return runShow(c.Context(), d) })
}

func runShow(ctx context.Context, d Deps) error {
	e, err := d.Load(ctx)
	if err != nil {
		return err
	}
	r := &showResult{
		Header:  ui.Header{Kind: showKind, Verdict: "ok", Reason: "the effective configuration"},
		Entries: []entry{}, Notes: []string{}, file: e.File.V,
	}
	for _, en := range e.Entries() {
		r.Entries = append(r.Entries, entry{
			Key: en.Key, Value: orNull(en.Value), Source: orNull(en.Source), Secret: en.Secret, Note: orNull(en.Note),
		})
	}
	for _, n := range e.Notes {
		told := slices.ContainsFunc(r.Entries, func(en entry) bool { return en.Note != nil && strings.Contains(*en.Note, n) })
		if !told {
			r.Notes = append(r.Notes, n)
		}
	}
	return verb.Finish(d.IO, r, fault.OK, nil)
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Text returns the table. Nothing is cut: a value is worth nothing without its
// end. On a terminal a source in the user's file, which the first line names
// whole, is shortened, and what is still too long goes into a line of its own.
func (r *showResult) Text(width int, color bool) []string {
	var rows [][]ui.Span
	var notes []string // of each row
	var unset []string
	for _, en := range r.Entries {
		value, note := orEmpty(en.Value), orEmpty(en.Note)
		style := ui.Plain
		if value == "" && note == "" {
			unset = append(unset, en.Key)
			continue
		}
		if value == "" {
			value, style = "(not set)", ui.Dim
		}
		rows = append(rows, []ui.Span{ui.T(ui.Strong, en.Key), ui.T(style, value), ui.T(ui.Dim, r.source(orEmpty(en.Source), width))})
		notes = append(notes, note)
	}
	var out []string
	for i, lines := range layout(rows, width) {
		for _, line := range lines {
			out = append(out, line.Render(0, color))
		}
		if notes[i] != "" {
			out = append(out, "    "+styled(ui.Waiting, "note: "+notes[i], color))
		}
	}
	for _, n := range r.Notes {
		out = append(out, styled(ui.Waiting, "note: "+n, color))
	}
	if len(unset) > 0 {
		out = append(out, styled(ui.Dim, "not set: "+strings.Join(unset, ", "), color))
	}
	return out
}

// layout aligns keys, values and sources. Where a value leaves no room for the
// longest source, its own source goes below it, so that one long value does
// not push all others out of the screen.
func layout(rows [][]ui.Span, width int) [][]ui.Line {
	var key, source int
	for _, r := range rows {
		key, source = max(key, ui.Width(r[0].Text)), max(source, ui.Width(r[2].Text))
	}
	room := width - key - source - 4
	var short [][]ui.Span
	for _, r := range rows {
		if width == 0 || ui.Width(r[1].Text) <= room {
			short = append(short, r)
		} else {
			short = append(short, []ui.Span{{Text: strings.Repeat(" ", key)}}) // keeps the column, and its place
		}
	}
	out := make([][]ui.Line, len(rows))
	for i, line := range ui.Table(short) {
		if r := rows[i]; len(short[i]) == 1 {
			gap := ui.Span{Text: strings.Repeat(" ", key+2-ui.Width(r[0].Text))}
			out[i] = append(out[i], ui.Line{r[0], gap, r[1]})
			if r[2].Text != "" {
				out[i] = append(out[i], ui.Line{{Text: strings.Repeat(" ", key+2)}, r[2]})
			}
			continue
		}
		out[i] = []ui.Line{line}
	}
	return out
}

func styled(style ui.Style, text string, color bool) string {
	return ui.Line{ui.T(style, text)}.Render(0, color)
}

// source shortens a source in the user's file on a terminal.
func (r *showResult) source(s string, width int) string {
	if rest, ok := strings.CutPrefix(s, r.file+":"); ok && width > 0 && r.file != "" {
		return filepath.Base(r.file) + ":" + rest
	}
	return s
}
