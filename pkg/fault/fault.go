// Package fault names the ways a run can end and owns the one table that maps
// them to exit codes. Domain packages state what happened with their own
// types; verbs translate that into an *Error here (what, why, next); cmd turns
// its kind into the process's status. No other place knows a number (ADR 0007).
package fault

import (
	"errors"
	"fmt"
	"syscall"
)

// Kind is a way a run can end. The zero value is not a kind.
type Kind string

// Every way a run can end. Table gives each its exit code and meaning.
const (
	OK          Kind = "ok"
	Failed      Kind = "failed"
	Absent      Kind = "absent"
	Denied      Kind = "denied"
	Held        Kind = "held"
	Replaced    Kind = "replaced"
	Unreachable Kind = "unreachable"
	Timeout     Kind = "timeout"
	Conflict    Kind = "conflict"
	LandedRed   Kind = "landed-red"
	Unsafe      Kind = "unsafe"
	Usage       Kind = "usage"
	Bug         Kind = "bug"
	Interrupted Kind = "interrupted"
	Terminated  Kind = "terminated"
)

// Row is one line of the exit code table.
type Row struct {
	Code    int    // the process's exit status
	Kind    Kind   // how code names it
	Name    string // how documents name it; both signals share "interrupted"
	Meaning string // one sentence for help, README and manifest
}

// Table returns the exit codes in ascending order. It is the only source of
// the numbers: "help exit-codes", the README's table and the manifest are
// generated from it. Code 2 is never returned: a Go panic returns it.
func Table() []Row {
	return []Row{
		{0, OK, "ok", "what was asked for was observed: green; rolled out; landed (and green, unless opted out)"},
		{1, Failed, "failed", "the verdict is no: pipeline failed, errored or declined; rollout failed; verification failed (nothing was pushed)"},
		{3, Absent, "absent", "nothing there: no pipeline exists or will come for the commit (the reason is given); the workload does not exist or was deleted"},
		{4, Denied, "denied", "credentials missing, refused or not permitted, confirmed by asking again"},
		{5, Held, "held", "a person must act: pipeline blocked for approval, deployment paused, pull request open and not merged"},
		{6, Replaced, "replaced", "cancelled, superseded by a run or image that does not contain the commit, or rolled back meanwhile"},
		{7, Unreachable, "unreachable", "the server could not be asked; the verdict is unknown"},
		{8, Timeout, "timeout", "still in progress when the time was up; the verdict is unknown; the command to resume is printed"},
		{9, Conflict, "conflict", "landing: merge conflict, or the base kept moving; nothing was pushed"},
		{10, LandedRed, "landed-red", "the commit is on the base and then CI or the deploy failed"},
		{11, Unsafe, "unsafe", "a change is half in place: a rollback failed; a person must look now"},
		{64, Usage, "usage", "flags, arguments or configuration wrong; nothing was contacted"},
		{70, Bug, "bug", "an internal error; the stack is in --verbose"},
		{130, Interrupted, "interrupted", "SIGINT; state and resume command printed within a second"},
		{143, Terminated, "interrupted", "SIGTERM; state and resume command printed within a second"},
	}
}

// Code returns the exit status of k; a kind that is not in Table is a bug (70).
func (k Kind) Code() int {
	for _, r := range Table() {
		if r.Kind == k {
			return r.Code
		}
	}
	return 70
}

// Name returns the word documents and results use for k.
func (k Kind) Name() string {
	for _, r := range Table() {
		if r.Kind == k {
			return r.Name
		}
	}
	return string(Bug)
}

// Worst returns the kind that decides a run over several targets, in the
// contract's order 1, 6, 3, 5, 4, 7, 8, 0. A signal, a usage error or a bug
// ends the whole run and outranks them all. Worst of nothing is OK.
func Worst(kinds ...Kind) Kind {
	order := []Kind{
		Bug, Interrupted, Terminated, Usage, Unsafe, LandedRed, Conflict,
		Failed, Replaced, Absent, Held, Denied, Unreachable, Timeout, OK,
	}
	worst, rank := OK, len(order)
	for _, k := range kinds {
		r := 0 // an unknown kind counts as a bug
		for i, o := range order {
			if o == k {
				r = i
				break
			}
		}
		if r < rank {
			worst, rank = order[r], r
		}
	}
	return worst
}

// Error is a failure ready to be told: what happened on which object, why in
// the words of whoever refused, and one command that helps.
type Error struct {
	Kind Kind
	What string // lower case, names its object, no trailing period
	Why  string // may be empty
	Next string // one command that survives pasting; may be empty
	Err  error  // cause for errors.Is and errors.As; may be nil
}

// New returns an *Error of kind with what happened and the next command.
func New(kind Kind, what, next string) *Error {
	return &Error{Kind: kind, What: what, Next: next}
}

// Usagef returns a usage error; nothing has been contacted when it is made.
func Usagef(next, format string, args ...any) *Error {
	return &Error{Kind: Usage, What: fmt.Sprintf(format, args...), Next: next}
}

// Because adds why and returns e, so that constructors chain.
func (e *Error) Because(why string) *Error { e.Why = why; return e }

// From records the cause and returns e.
func (e *Error) From(err error) *Error { e.Err = err; return e }

func (e *Error) Error() string {
	if e.Why != "" {
		return e.What + ": " + e.Why
	}
	return e.What
}

func (e *Error) Unwrap() error { return e.Err }

// Signal is the cause of a context that a signal cancelled.
type Signal struct{ Signal syscall.Signal } //nolint:errname // a signal is a cause, not a failure

func (s *Signal) Error() string { return "interrupted by " + s.Signal.String() }

// Kind returns Terminated for SIGTERM, Interrupted for any other signal.
func (s *Signal) Kind() Kind {
	if s.Signal == syscall.SIGTERM {
		return Terminated
	}
	return Interrupted
}

// ErrTimeUp is the cause of a context whose --timeout ran out.
var ErrTimeUp = errors.New("time is up")

// KindOf returns the kind err carries: nil is OK, an *Error its own, a
// *Signal its signal's, ErrTimeUp Timeout, anything else is a Bug.
func KindOf(err error) Kind {
	if err == nil {
		return OK
	}
	var sig *Signal
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.As(err, &sig):
		return sig.Kind()
	case errors.Is(err, ErrTimeUp):
		return Timeout
	}
	return Bug
}
