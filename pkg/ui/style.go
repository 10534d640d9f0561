package ui

import (
	"charm.land/lipgloss/v2"
)

// Style is what a piece of text means; how that looks is decided here alone.
type Style int

// The meanings. Plain, the zero value, has no look of its own.
const (
	Plain   Style = iota
	OK            // ended well
	Bad           // ended badly
	Waiting       // waits for its turn or for a person
	Running       // is at work
	Dim           // less important than its surroundings
	Strong        // more important than its surroundings
)

// look returns how style is painted. Only the terminal's own sixteen colours
// are used, as the user chose them to be readable on the user's background.
// Bright ones, white and black vanish on one of light and dark, blue is close
// to black in older palettes and yellow and cyan close to white: none of these
// is used, and what runs is set off by weight instead.
func look(style Style) lipgloss.Style {
	s := lipgloss.NewStyle()
	switch style {
	case Plain:
	case OK:
		s = s.Foreground(lipgloss.Green)
	case Bad:
		s = s.Bold(true).Foreground(lipgloss.Red)
	case Waiting:
		s = s.Foreground(lipgloss.Magenta)
	case Running, Strong:
		s = s.Bold(true)
	case Dim:
		s = s.Faint(true)
	}
	return s
}

// paint wraps text in style's escape sequences; text has no line end in it.
func paint(style Style, text string) string {
	if style == Plain || text == "" {
		return text
	}
	return look(style).Render(text)
}

// ellipsis marks what was cut.
const ellipsis = "…"

// Glyph returns the sign that goes before a word of that style: one column
// wide, empty for Plain and Strong. A glyph never stands without its word. On
// a terminal that cannot show it the streams write an ASCII sign instead.
func Glyph(style Style) string {
	switch style {
	case OK:
		return "✓"
	case Bad:
		return "✗"
	case Waiting:
		return "○"
	case Running:
		return "●"
	case Dim:
		return "·"
	case Plain, Strong:
	}
	return ""
}

// asciiGlyph is what stands for r where r cannot be shown; 0 when r is none of
// our own signs.
func asciiGlyph(r rune) rune {
	switch r {
	case '✓':
		return '+'
	case '✗':
		return 'x'
	case '○':
		return 'o'
	case '●':
		return '*'
	case '·':
		return '-'
	case '…':
		return '~'
	}
	return 0
}
