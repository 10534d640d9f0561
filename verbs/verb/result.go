package verb

import (
	"homelab/pkg/fault"
	"homelab/pkg/ui"
)

// Failure is the result of a run that ended before its verb had one of its
// own: wrong usage, a bug.
type Failure struct {
	ui.Header
}

// NewFailure returns the result that tells e.
func NewFailure(kind string, e *fault.Error) *Failure {
	return &Failure{ui.Header{
		Kind: kind, Verdict: e.Kind.Name(), ExitCode: e.Kind.Code(),
		Reason: ui.Clean(e.Error()), Next: ui.NextCommand(ui.Clean(e.Next)),
	}}
}

// Text returns the one line of text mode.
func (f *Failure) Text(int, bool) []string { return []string{f.Line("")} }

// Line returns the header as the one line a run ends in, about subject.
func Line(h *ui.Header, subject string) string {
	next := ""
	if h.Next != nil {
		next = *h.Next
	}
	return ui.ResultLine(h.Verdict, subject, h.Reason, next)
}

// Line is Line of f's header.
func (f *Failure) Line(subject string) string { return Line(&f.Header, subject) }

// Exit ends a run with a result that was printed already: it carries the exit
// code and nothing to tell.
type Exit struct{ Kind fault.Kind } //nolint:errname // it is an error in form only

func (e *Exit) Error() string { return "exit " + string(e.Kind) }

// Finish prints r, tells e on stderr when there is something to tell, and
// returns what decides the exit code. Where stdout and stderr are one
// terminal, the result line says it all and the error is not told twice
// (ADR 0021).
func Finish(io *ui.Streams, r ui.Result, kind fault.Kind, e *fault.Error) error {
	r.Head().ExitCode = kind.Code()
	if e != nil && (!io.OutTTY || !io.ErrTTY || io.Settings().Mode != ui.Text) && !repeats(io, r) {
		defer io.Error(e)
	}
	if err := io.Finish(r); err != nil {
		return fault.New(fault.Bug, "the result could not be printed", "").Because(err.Error()).From(err)
	}
	if kind == fault.OK {
		return nil
	}
	return &Exit{Kind: kind}
}

// repeats says whether the line of r stands on stderr as well, so that it says
// all there is to tell.
func repeats(io *ui.Streams, r ui.Result) bool {
	set := io.Settings()
	a, ok := r.(ui.Asider)
	return ok && a.Aside() && set.Mode == ui.Text && set.Script == ui.NoScript
}
