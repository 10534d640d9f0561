package doctor

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"homelab/pkg/ui"
)

// board is the state that the story shows while checks run. Where the result's
// table follows on the same screen, the view ends empty: the same lines twice
// would help nobody.
type board struct {
	io    *ui.Streams
	story *ui.Story

	mu    sync.Mutex
	rows  []boardRow
	index map[string]int
	ended bool
}

type boardRow struct {
	name    string
	running bool
	f       finding
}

func newBoard(io *ui.Streams, all []check) *board {
	b := &board{io: io, index: map[string]int{}}
	for i, c := range all {
		b.rows = append(b.rows, boardRow{name: c.name})
		b.index[c.name] = i
	}
	return b
}

func (b *board) change(name string, f func(*boardRow)) {
	b.mu.Lock()
	f(&b.rows[b.index[name]])
	b.mu.Unlock()
	b.story.Update()
}

func (b *board) started(name string) { b.change(name, func(r *boardRow) { r.running = true }) }

func (b *board) found(name string, f finding) { b.change(name, func(r *boardRow) { r.f = f }) }

// tell is called for each check in order: a line of the story, an event.
func (b *board) tell(name string, f finding) {
	b.story.Line(ui.Line{ui.T(look(f.status), ui.Glyph(look(f.status))+" "+name+" "+string(f.status))})
	b.io.Event("check", newReport(name, f))
}

func (b *board) end() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
}

// frame draws the live view: a line for each check.
func (b *board) frame(int, int, time.Duration) []ui.Line {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended && b.io.OutTTY && b.io.Settings().Mode == ui.Text {
		return nil
	}
	rows := make([][]ui.Span, 0, len(b.rows))
	for _, r := range b.rows {
		style, word := look(r.f.status), string(r.f.status)
		switch {
		case r.f.status != "":
		case r.running:
			style, word = ui.Running, "running"
		default:
			style, word = ui.Dim, "waiting"
		}
		rows = append(rows, []ui.Span{ui.T(style, ui.Glyph(style)+" "+r.name), ui.T(style, word), ui.T(ui.Plain, r.f.detail())})
	}
	return ui.Table(rows)
}

func look(s status) ui.Style {
	switch s {
	case passed:
		return ui.OK
	case warned:
		return ui.Waiting
	case failed:
		return ui.Bad
	case skipped:
		return ui.Dim
	}
	return ui.Plain
}

// count says n things in words.
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// wrap breaks text at spaces into lines of at most width columns. A word that
// is longer stays whole: an address that is cut in two helps nobody.
func wrap(text string, width int) []string {
	var out []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case ui.Width(line)+1+ui.Width(word) <= width:
			line += " " + word
		default:
			out = append(out, line)
			line = word
		}
	}
	return append(out, line)
}
