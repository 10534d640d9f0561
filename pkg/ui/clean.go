package ui

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Control characters with a role in cleaning. The C1 ones reach a terminal as
// two bytes of UTF-8 and are obeyed by some.
const (
	bel    = '\a'
	esc    = '\x1b'
	c1DCS  = '\u0090'
	c1SOS  = '\u0098'
	c1CSI  = '\u009b'
	c1ST   = '\u009c'
	c1OSC  = '\u009d'
	c1PM   = '\u009e'
	c1APC  = '\u009f'
	cancel = '\x18' // aborts a sequence, as does substitute
	subst  = '\x1a'
)

// Clean makes foreign text safe for one line of a terminal: CSI, OSC, DCS,
// APC, PM and SOS sequences, C0 controls except tab, DEL, C1 controls and bidi
// controls are removed. Of a line with carriage returns the last part that is
// not empty stays, as a terminal would show of a progress bar. Several lines
// become one, joined by spaces. Invalid UTF-8 is replaced. A string sequence
// without its end loses its introducer only: what follows may be the message.
// Clean is idempotent.
func Clean(s string) string {
	if isClean(s) {
		return s
	}
	var kept []string
	for _, line := range splitLines(s) {
		if c := cleanLine(line); c != "" {
			kept = append(kept, c)
		}
	}
	return strings.Join(kept, " ")
}

// CleanLines splits s into lines and cleans each. Empty lines stay; an end of
// line at the end of s starts no further line. Nothing gives no lines.
func CleanLines(s string) []string {
	lines := splitLines(s)
	if len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	for i, l := range lines {
		lines[i] = cleanLine(l)
	}
	return lines
}

// isClean is the cheap answer for the text that is nearly always given.
func isClean(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || (r != '\t' && unwanted(r)) {
			return false
		}
	}
	return true
}

// splitLines splits at line feeds and at the Unicode characters some
// terminals and all browsers take for one.
func splitLines(s string) []string {
	s = strings.NewReplacer("\u2028", "\n", "\u2029", "\n", "\v", "\n", "\f", "\n").Replace(s)
	return strings.Split(s, "\n")
}

func unwanted(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f:
		return true
	case r == '\u2028', r == '\u2029':
		return true
	}
	return bidi(r)
}

// bidi reports the controls that reorder a line's text, so that it reads as
// something it is not.
func bidi(r rune) bool {
	switch {
	case r == '\u061c', r == '\u200e', r == '\u200f':
		return true
	case r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
		return true
	}
	return false
}

// cleanLine cleans what stands between two line feeds.
func cleanLine(s string) string {
	in := []rune(strings.ToValidUTF8(s, string(utf8.RuneError)))
	var last string
	var part strings.Builder
	for i := 0; i < len(in); {
		r := in[i]
		switch {
		case r == esc || (r >= c1DCS && r <= c1APC):
			i += sequence(in[i:])
			continue
		case r == '\r':
			if part.Len() > 0 {
				last = part.String()
				part.Reset()
			}
		case r == '\t' || !unwanted(r):
			part.WriteRune(r)
		}
		i++
	}
	if part.Len() > 0 {
		return part.String()
	}
	return last
}

// sequence returns how many runes at the start of in belong to the escape
// sequence that in[0] introduces: at least 1.
func sequence(in []rune) int {
	kind, at := in[0], 1
	if kind == esc {
		if len(in) == 1 {
			return 1
		}
		kind, at = in[1], 2
		switch kind {
		case '[':
			kind = c1CSI
		case ']':
			kind = c1OSC
		case 'P':
			kind = c1DCS
		case 'X':
			kind = c1SOS
		case '^':
			kind = c1PM
		case '_':
			kind = c1APC
		default:
			return shortSequence(in)
		}
	}
	switch kind {
	case c1CSI:
		for at < len(in) && in[at] >= 0x20 && in[at] <= 0x3f {
			at++
		}
		if at < len(in) && in[at] >= 0x40 && in[at] <= 0x7e {
			at++
		}
		return at
	case c1OSC, c1DCS, c1SOS, c1PM, c1APC:
		return at + stringLength(in[at:], kind == c1OSC)
	}
	return 1 // a C1 control that introduces nothing
}

// shortSequence measures ESC, intermediates, final: charset choices, resets.
func shortSequence(in []rune) int {
	at := 1
	for at < len(in) && in[at] >= 0x20 && in[at] <= 0x2f {
		at++
	}
	if at < len(in) && in[at] >= 0x30 && in[at] <= 0x7e {
		return at + 1
	}
	return at
}

// stringLength measures a string sequence's content and terminator; 0 when the
// terminator is missing.
func stringLength(in []rune, belEnds bool) int {
	for i, r := range in {
		switch {
		case r == c1ST, belEnds && r == bel:
			return i + 1
		case r == esc:
			if i+1 < len(in) && in[i+1] == '\\' {
				return i + 2
			}
			return 0 // another sequence: this one was never closed
		case r == cancel, r == subst:
			return i + 1
		}
	}
	return 0
}

// LineWriter turns chunks of foreign output into cleaned lines. The zero value
// is not usable: see [NewLineWriter].
type LineWriter struct {
	most int
	emit func(line string)
	part []byte
	cut  bool
}

var _ io.WriteCloser = (*LineWriter)(nil)

// NewLineWriter returns a writer that calls emit with each complete line,
// cleaned and without its end. A line longer than most bytes is cut there and
// marked with an ellipsis; most of 0 or less means 4096. Close emits an
// unfinished last line. It is not safe for concurrent use.
func NewLineWriter(most int, emit func(line string)) *LineWriter {
	if most <= 0 {
		most = 4096
	}
	return &LineWriter{most: most, emit: emit}
}

// Write never fails.
func (w *LineWriter) Write(p []byte) (int, error) {
	for text := string(p); text != ""; {
		line, rest, found := strings.Cut(text, "\n")
		w.add(line)
		if !found {
			break
		}
		w.flush()
		text = rest
	}
	return len(p), nil
}

// Close emits what no line end followed. It never fails.
func (w *LineWriter) Close() error {
	if len(w.part) > 0 {
		w.flush()
	}
	return nil
}

// add keeps at most twice the limit, so that a progress bar's last state
// survives while an endless line costs no memory.
func (w *LineWriter) add(s string) {
	for s != "" {
		room := max(2*w.most-len(w.part), 0)
		if room == 0 {
			// Everything before the last carriage return is overwritten anyway.
			if at := strings.LastIndexByte(string(w.part), '\r'); at > 0 {
				w.part = w.part[at:]
				continue
			}
			w.cut = true
			if at := strings.IndexByte(s, '\r'); at >= 0 {
				w.part, w.cut = w.part[:0], false
				s = s[at+1:]
				continue
			}
			return
		}
		n := min(room, len(s))
		w.part = append(w.part, s[:n]...)
		s = s[n:]
	}
}

func (w *LineWriter) flush() {
	line := cleanLine(string(w.part))
	if len(line) > w.most {
		line = strings.ToValidUTF8(line[:w.most], "")
		w.cut = true
	}
	if w.cut {
		line += ellipsis
	}
	w.part, w.cut = w.part[:0], false
	w.emit(line)
}
