package ui

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
)

// Header starts every result. Embed it as the first field of a struct; that
// struct's pointer then has Head.
type Header struct {
	Kind     string  `json:"kind"`      // "ci.watch"
	Verdict  string  `json:"verdict"`   // one of the kind's closed set of words
	ExitCode int     `json:"exit_code"` // what the process will return
	Reason   string  `json:"reason"`    // a sentence
	Next     *string `json:"next"`      // a command that survives pasting; nil is none
	Elapsed  float64 `json:"elapsed"`   // seconds since the run began; Finish fills it in
}

// Head returns h, so that embedding a Header satisfies half of [Result].
func (h *Header) Head() *Header { return h }

// NextCommand returns what goes into Header.Next; nil for "".
func NextCommand(cmd string) *string {
	if cmd == "" {
		return nil
	}
	return &cmd
}

// Result is what a run found, told on stdout exactly once: as text, as an
// object, or as the last event.
type Result interface {
	Head() *Header
	// Text returns the lines of text mode, foreign text in them cleaned. width
	// is 0 where nothing may be cut.
	Text(width int, color bool) []string
}

// errFinished says that a result was there already.
var errFinished = errors.New("the result has been printed already")

// Finish ends the story and prints the result. A second call prints nothing
// and is an error, as are a result that cannot be encoded (nothing is printed
// then, and another result may be) and a failure to write to stdout, now or
// earlier.
func (s *Streams) Finish(r Result) error {
	if r == nil || r.Head() == nil {
		return errors.New("no result to print")
	}
	s.mu.Lock()
	story := s.story
	s.mu.Unlock()
	if story != nil {
		story.Close()
	}
	width, color := s.Width(), s.Color()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return errFinished
	}
	r.Head().Elapsed = math.Round(s.elapsed().Seconds()*1000) / 1000
	var b []byte
	switch s.set.Mode {
	case Text:
		lines := r.Text(width, color)
		if s.set.Script != NoScript || sided(r) {
			lines = s.aside(r.Head(), lines)
			s.answered = s.set.Script == ScriptLook && len(lines) > 0
		}
		b = s.textLines(lines)
	case JSON:
		object, err := s.encode(r)
		if err != nil {
			return err
		}
		b = append(object, '\n')
	case JSONL:
		object, err := s.event("result", r)
		if err != nil {
			return err
		}
		b = append(object, '\n')
	}
	s.finished, s.last = true, r
	_ = s.flushRaw(true) // writeOut tells of its failure too
	return s.writeOut(b)
}

// aside puts the line of the verdict on stderr, where no script takes it for
// what it asked for, and returns the other lines. s.mu is held.
func (s *Streams) aside(h *Header, lines []string) []string {
	var rest []string
	for _, l := range lines {
		if strings.HasPrefix(l, h.Verdict+": ") {
			s.toErr(L(l))
			continue
		}
		rest = append(rest, l)
	}
	return rest
}

// Finished reports whether the result has been printed.
func (s *Streams) Finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finished
}

// Event prints one event under --jsonl and nothing otherwise, nor after the
// result: an object with type, time and then v's fields at its top level. A v
// that is no object goes into a field "value". What cannot be encoded is told
// as an event of the same type with a field "error".
func (s *Streams) Event(typ string, v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.Mode != JSONL || s.finished {
		return
	}
	object, err := s.event(typ, v)
	if err != nil {
		object, err = s.event(typ, map[string]string{"error": err.Error()})
	}
	if err == nil {
		_ = s.writeOut(append(object, '\n')) // kept for Finish
	}
}

// Payload prints lines that are themselves what was asked for: a log, a list.
// It does so in text mode only; elsewhere they belong into the result.
// Nothing is cut. The error is the first failure to write to stdout.
func (s *Streams) Payload(lines ...Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.Mode != Text || s.finished {
		return s.outErr
	}
	_ = s.flushRaw(true) // writeOut tells of its failure too
	color := s.colored(s.OutTTY, s.set)
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(s.prepare(l, s.OutTTY).Render(0, color))
		b.WriteByte('\n')
	}
	return s.writeOut(b.Bytes())
}

// PayloadTable is Payload for lines that are cut to the terminal's width.
func (s *Streams) PayloadTable(lines ...Line) error {
	width := s.Width()
	if width > 0 {
		s.mu.Lock()
		cut := make([]Line, len(lines))
		for i, l := range lines {
			cut[i] = s.redactLine(l).truncate(width)
		}
		s.mu.Unlock()
		lines = cut
	}
	return s.Payload(lines...)
}

// Raw returns a writer for a payload of bytes that are not cleaned, only
// redacted, in text mode only. What has no line end yet waits for it, so that
// a secret in two chunks is seen; Finish writes the rest.
func (s *Streams) Raw() io.Writer { return rawWriter{s} }

type rawWriter struct{ s *Streams }

func (w rawWriter) Write(p []byte) (int, error) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.Mode != Text || s.finished {
		return len(p), s.outErr
	}
	s.raw = append(s.raw, p...)
	if err := s.flushRaw(false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Limits of what waits for its line end. A secret is far shorter than rawKeep.
const (
	rawMost = 64 << 10
	rawKeep = 8 << 10
)

// flushRaw writes the complete lines that wait; all there is with last, and of
// an endless line all but its end. s.mu is held.
func (s *Streams) flushRaw(last bool) error {
	end := bytes.LastIndexByte(s.raw, '\n') + 1
	switch {
	case last:
		end = len(s.raw)
	case end == 0 && len(s.raw) > rawMost:
		end = s.safeCut(s.raw)
	}
	if end == 0 {
		return s.outErr
	}
	err := s.writeOut([]byte(s.redactText(string(s.raw[:end]))))
	s.raw = slices.Delete(s.raw, 0, end)
	return err
}

// safeCut returns where a line without end can be cut and no secret with it:
// redacting the two parts must be redacting the whole.
func (s *Streams) safeCut(p []byte) int {
	whole := s.redactText(string(p))
	for at := len(p) - rawKeep; at > 0; at -= rawKeep {
		if s.redactText(string(p[:at]))+s.redactText(string(p[at:])) == whole {
			return at
		}
	}
	return 0
}

// textLines ends, redacts and reduces the lines of a result.
func (s *Streams) textLines(lines []string) []byte {
	var b bytes.Buffer
	for _, l := range lines {
		l = s.redactText(l)
		if reduce, glyphsOnly := s.ascii(s.OutTTY); reduce {
			l = asciiText(l, glyphsOnly)
		}
		b.WriteString(l)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// timeLayout is RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

func (s *Streams) timestamp() string { return s.now().UTC().Format(timeLayout) }
