package ui

import (
	"strings"

	"github.com/clipperhouse/displaywidth"
)

// Span is text of one style. Its text has been cleaned: make one with [T].
type Span struct {
	Text  string
	Style Style
}

// Line is one line of output, without its end.
type Line []Span

// T returns a span of text, cleaned, so that nothing foreign reaches a
// terminal as a command.
func T(style Style, text string) Span { return Span{Text: Clean(text), Style: style} }

// L returns a line of one plain span.
func L(text string) Line { return Line{T(Plain, text)} }

// Text returns the line without styles.
func (l Line) Text() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.Text)
	}
	return b.String()
}

// Width returns how many columns the line takes on a terminal.
func (l Line) Width() int {
	w := 0
	for _, s := range l.expanded() {
		w += Width(s.Text)
	}
	return w
}

// Width returns how many columns s takes on a terminal: wide characters and
// emoji two, combining marks none. s has no tabs in it.
func Width(s string) int { return displaywidth.String(s) }

// Render returns the line as text. A width above 0 cuts it to that many
// columns, marking the cut with an ellipsis; 0 cuts nothing, and is right
// wherever the output is not a terminal. With color the styles are painted.
func (l Line) Render(width int, color bool) string {
	if width > 0 {
		l = l.truncate(width)
	}
	if !color {
		return l.Text()
	}
	var b strings.Builder
	for _, s := range l {
		b.WriteString(paint(s.Style, s.Text))
	}
	return b.String()
}

// truncate returns at most width columns of the line, tabs made spaces. A
// character is never cut in two: where half of a wide one would fit the line
// is a column shorter.
func (l Line) truncate(width int) Line {
	l = l.expanded()
	if l.Width() <= width {
		return l
	}
	room := width - Width(ellipsis)
	var out Line
	for _, s := range l {
		g := displaywidth.StringGraphemes(s.Text)
		end := 0
		for g.Next() {
			if g.Width() > room {
				return append(out, Span{s.Text[:end], s.Style}, Span{ellipsis, s.Style})
			}
			room -= g.Width()
			end += len(g.Value())
		}
		out = append(out, s)
	}
	return out
}

// expanded replaces tabs by spaces up to the next multiple of eight columns: a
// tab has no width of its own, and in a live view it would skip over old text
// instead of erasing it.
func (l Line) expanded() Line {
	if !strings.Contains(l.Text(), "\t") {
		return l
	}
	out := make(Line, 0, len(l))
	col := 0
	for _, s := range l {
		var b strings.Builder
		for i, part := range strings.Split(s.Text, "\t") {
			if i > 0 {
				n := 8 - col%8
				b.WriteString(strings.Repeat(" ", n))
				col += n
			}
			b.WriteString(part)
			col += Width(part)
		}
		out = append(out, Span{b.String(), s.Style})
	}
	return out
}

// ascii returns the line for a terminal without UTF-8. glyphsOnly replaces our
// own signs and leaves other text alone.
func (l Line) ascii(glyphsOnly bool) Line {
	out := make(Line, len(l))
	for i, s := range l {
		out[i] = Span{asciiText(s.Text, glyphsOnly), s.Style}
	}
	return out
}

func asciiText(s string, glyphsOnly bool) string {
	return strings.Map(func(r rune) rune {
		switch g := asciiGlyph(r); {
		case g != 0:
			return g
		case r < 0x80 || glyphsOnly:
			return r
		}
		return '?'
	}, s)
}

// Table aligns the columns of rows by display width, two spaces apart. The
// columns named in right are aligned to the right. A row's last cell is not
// padded, and rows may differ in length. An empty span makes an empty cell.
func Table(rows [][]Span, right ...int) []Line {
	cells := make([][]Line, len(rows))
	for i, row := range rows {
		for _, s := range row {
			cells[i] = append(cells[i], Line{s})
		}
	}
	return TableOf(cells, right...)
}

// TableOf is Table for cells of several styles.
func TableOf(rows [][]Line, right ...int) []Line {
	var widths []int
	for _, row := range rows {
		for c, cell := range row {
			if c == len(widths) {
				widths = append(widths, 0)
			}
			widths[c] = max(widths[c], cell.Width())
		}
	}
	out := make([]Line, len(rows))
	for i, row := range rows {
		out[i] = tableRow(row, widths, right)
	}
	return out
}

func tableRow(row []Line, widths, right []int) Line {
	for len(row) > 0 && row[len(row)-1].Text() == "" {
		row = row[:len(row)-1]
	}
	var out Line
	pad := 0 // columns owed before the next text
	owe := func() {
		if pad > 0 {
			out = append(out, Span{Text: strings.Repeat(" ", pad)})
			pad = 0
		}
	}
	for c, cell := range row {
		free := widths[c] - cell.Width()
		before, after := 0, free
		for _, r := range right {
			if r == c {
				before, after = free, 0
			}
		}
		pad += before
		if cell.Text() != "" {
			owe()
			out = append(out, cell.expanded()...)
		}
		pad += after + 2
	}
	return out
}
