package ui

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"homelab/pkg/fault"
)

// Mode is the form of the result on stdout.
type Mode int

// The forms: lines for people, one object at the end, one event per line.
const (
	Text Mode = iota
	JSON
	JSONL
)

// Script is how scripts are served that were written for another tool, which
// told everything on stdout.
type Script int

// The ways.
const (
	NoScript    Script = iota // the story is on stderr, the result on stdout
	ScriptStory               // the story and "Error: ..." are on stdout, the result's line is on stderr
	ScriptLook                // as ScriptStory, but the story stays on stderr: stdout is what was asked for
)

// Settings is what flags and environment say about output. The zero value is
// text, colour where a terminal is, no -v.
type Settings struct {
	Mode    Mode
	Quiet   bool   // no story; errors, -v lines and the result remain
	Verbose bool   // -v lines
	Color   string // "auto" (also ""), "always" or "never"
	NoColor bool   // NO_COLOR is set: no colour unless Color is "always"; the live view stays
	Dumb    bool   // TERM=dumb: a terminal that obeys no sequence
	CI      bool   // CI is set: no live view, whatever stderr is
	ASCII   bool   // the locale's encoding is known and is not UTF-8
	Script  Script // story lines have no time then, and there is no live view
}

// Streams are a run's input and output. Its methods are safe for concurrent
// use; its fields are set before the first of them is called.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	InTTY    bool
	OutTTY   bool
	ErrTTY   bool
	Now      func() time.Time  // nil: time.Now
	Size     func() (w, h int) // of the terminal; nil, or 0 for either: 80x24

	mu       sync.Mutex // serialises all output; never held while a caller's func runs, redact excepted
	set      Settings
	start    time.Time
	redact   func(string) string
	story    *Story    // the last one started, nil before
	printed  time.Time // when a reader last got anything
	finished bool
	last     Result // what Finish has printed
	told     bool   // Error has told something
	answered bool   // the result of a look said on stdout what there is, or is not
	outErr   error  // first failure to write to Out, told by Finish
	raw      []byte // raw payload without its line end yet
}

// NewStreams returns the streams of a process. Whether each is a terminal is
// looked at once, here; the size whenever it is needed.
func NewStreams(in, out, err *os.File) *Streams {
	tty := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	s := &Streams{
		In: in, Out: out, Err: err,
		InTTY: tty(in), OutTTY: tty(out), ErrTTY: tty(err),
		Now: time.Now,
	}
	s.Size = func() (w, h int) {
		for _, f := range []*os.File{err, out} {
			if w, h, e := term.GetSize(int(f.Fd())); e == nil && w > 0 && h > 0 {
				return w, h
			}
		}
		return 0, 0
	}
	s.start = s.Now()
	return s
}

// Test returns streams that are no terminals, with what is written to Out and
// Err. in is what there is to read.
func Test(in string) (s *Streams, out, err *bytes.Buffer) {
	out, err = new(bytes.Buffer), new(bytes.Buffer)
	s = &Streams{In: bytes.NewBufferString(in), Out: out, Err: err, Now: time.Now}
	s.start = s.Now()
	return s, out, err
}

// Configure applies the settings once flags are parsed. The error is a
// *fault.Error of kind Usage. What was printed before is not repeated.
func (s *Streams) Configure(set Settings) error {
	switch set.Color {
	case "", "auto", "always", "never":
	default:
		return fault.Usagef("", "--color is auto, always or never, not %s", Quote(Clean(set.Color)))
	}
	switch set.Mode {
	case Text, JSON, JSONL:
	default:
		return fault.New(fault.Bug, fmt.Sprintf("output mode %d does not exist", set.Mode), "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = set
	return nil
}

// Settings returns what Configure was given.
func (s *Streams) Settings() Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set
}

// Redact sets the func every text passes on its way to Out and Err. It must
// be safe for concurrent use and must not write to the streams. It sees whole
// lines, and each string of JSON for itself; nil redacts nothing.
func (s *Streams) Redact(f func(string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.redact = f
}

// Interactive reports whether someone can be asked: both stdin and stderr are
// terminals and no CI runs us.
func (s *Streams) Interactive() bool { return s.InTTY && s.ErrTTY && !s.Settings().CI }

// Color reports whether what is written to stdout may be coloured.
func (s *Streams) Color() bool { return s.colored(s.OutTTY, s.Settings()) }

// Width returns the columns of stdout; 0, which cuts nothing, when it is no
// terminal.
func (s *Streams) Width() int {
	if !s.OutTTY {
		return 0
	}
	w, _ := s.size()
	return w
}

// Elapsed returns the time since the streams were made.
func (s *Streams) Elapsed() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.elapsed()
}

func (s *Streams) elapsed() time.Duration {
	if s.start.IsZero() {
		s.start = s.now()
	}
	return s.now().Sub(s.start)
}

func (s *Streams) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

func (s *Streams) size() (w, h int) {
	if s.Size != nil {
		w, h = s.Size()
	}
	if w <= 0 || h <= 0 {
		return 80, 24
	}
	return w, h
}

func (s *Streams) colored(tty bool, set Settings) bool {
	switch set.Color {
	case "always":
		return true
	case "never":
		return false
	}
	return tty && !set.NoColor && !set.Dumb
}

// ascii reports how a terminal's text must be reduced: our own signs only, or
// everything beyond ASCII. What is no terminal gets UTF-8.
func (s *Streams) ascii(tty bool) (reduce, glyphsOnly bool) {
	return tty && (s.set.Dumb || s.set.ASCII), !s.set.ASCII
}

// prepare makes l fit for a stream: redacted as a whole, before anything is
// cut off, and reduced to ASCII where needed.
func (s *Streams) prepare(l Line, tty bool) Line {
	l = s.redactLine(l)
	if reduce, glyphsOnly := s.ascii(tty); reduce {
		l = l.ascii(glyphsOnly)
	}
	return l
}

// redactLine redacts each span, so that styles stay, and gives the styles up
// when only the joined text shows a secret.
func (s *Streams) redactLine(l Line) Line {
	if s.redact == nil {
		return l
	}
	out := make(Line, len(l))
	for i, sp := range l {
		out[i] = Span{s.redact(sp.Text), sp.Style}
	}
	whole := out.Text()
	if r := s.redact(whole); r != whole {
		return Line{{Text: r}}
	}
	return out
}

func (s *Streams) redactText(t string) string {
	if s.redact == nil {
		return t
	}
	return s.redact(t)
}

// writeErr writes permanent lines to stderr, above the live view if there is
// one. s.mu is held.
func (s *Streams) writeErr(lines ...Line) {
	var b bytes.Buffer
	tty := s.ErrTTY
	if s.set.Script == ScriptStory {
		tty = s.OutTTY
	}
	color := s.colored(tty, s.set)
	for _, l := range lines {
		b.WriteString(s.prepare(l, tty).Render(0, color))
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return
	}
	s.printed = s.now()
	if s.set.Script == ScriptStory {
		_ = s.writeOut(b.Bytes()) // kept for Finish
		return
	}
	if s.story != nil && s.story.shown() {
		s.story.insert(b.String())
		return
	}
	_, _ = s.Err.Write(b.Bytes()) // nobody is left to tell
}

// writeOut writes to stdout. When a live view is on the same terminal it makes
// room first. The first error is kept for Finish. s.mu is held.
func (s *Streams) writeOut(p []byte) error {
	if len(p) == 0 {
		return s.outErr
	}
	if s.set.Mode == JSONL {
		s.printed = s.now()
	}
	live := s.OutTTY && s.story != nil && s.story.shown()
	if live {
		s.story.erase()
	}
	_, err := s.Out.Write(p)
	if live {
		s.story.restore()
	}
	if err != nil && s.outErr == nil {
		s.outErr = fmt.Errorf("stdout: %w", err)
	}
	return s.outErr
}

// Verbosef prints a line on stderr under -v, above the live view.
func (s *Streams) Verbosef(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.set.Verbose {
		return
	}
	s.toErr(s.timed(Line{T(Dim, fmt.Sprintf(format, args...))}))
}

// toErr writes permanent lines to stderr, whoever reads the story. s.mu is
// held.
func (s *Streams) toErr(lines ...Line) {
	was := s.set.Script
	if was == ScriptStory {
		s.set.Script = ScriptLook
	}
	s.writeErr(lines...)
	s.set.Script = was
}

// timed puts the elapsed time before l; scripts get the line alone.
func (s *Streams) timed(l Line) Line {
	if s.set.Script != NoScript {
		return l
	}
	return append(Line{{Text: Elapsed(s.elapsed()) + " "}}, l...)
}

// Error tells of a failure in at most three lines on stderr, also under Quiet.
// nil tells nothing. Scripts get one line on stdout.
func (s *Streams) Error(e *fault.Error) {
	if e == nil {
		return
	}
	if s.Settings().Script != NoScript {
		s.scriptError(e)
		return
	}
	lines := []Line{L("homelab: " + e.What)}
	if why := Clean(e.Why); why != "" {
		lines = append(lines, Line{{Text: "  why:  " + why}})
	}
	if next := Clean(e.Next); next != "" {
		lines = append(lines, Line{{Text: "  next: " + next}})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeErr(lines...)
}

// scriptError tells of a failure as scripts look for it.
func (s *Streams) scriptError(e *fault.Error) {
	text := Clean(e.What)
	if why := Clean(e.Why); why != "" {
		text += ": " + why
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = true
	if s.answered {
		return // "no pods" is what was asked for, and the verdict has its line
	}
	_ = s.flushRaw(true) // writeOut tells of its failure too
	line := s.prepare(L("Error: "+text), s.OutTTY).Render(0, s.colored(s.OutTTY, s.set))
	_ = s.writeOut([]byte(line + "\n")) // kept for Finish
}

// Told reports whether Error has told something to a script, and which result
// was printed; nil before.
func (s *Streams) Told() (bool, Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told, s.last
}
