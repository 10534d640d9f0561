package ui

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

// look returns the parameters of the sequence (SGR) that paints style. Only
// the terminal's own sixteen colours are used, as the user chose them to be
// readable on the user's background. Bright ones, white and black vanish on
// one of light and dark, blue is close to black in older palettes and yellow
// and cyan close to white: none of these is used, and what runs is set off by
// weight instead.
//
// No styling library: importing lipgloss v2 inspects the environment and,
// inside tmux, starts a process that inherits all of it, the token included
// (ADR 0017).
func look(style Style) string {
	switch style {
	case Plain:
	case OK:
		return "32" // green
	case Bad:
		return "1;31" // bold red
	case Waiting:
		return "35" // magenta
	case Running, Strong:
		return "1" // bold
	case Dim:
		return "2" // faint
	}
	return ""
}

// paint wraps text in style's escape sequences; text has no line end in it.
func paint(style Style, text string) string {
	sgr := look(style)
	if sgr == "" || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[m"
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
