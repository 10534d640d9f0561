package artifact

import (
	"errors"
	"time"

	"homelab/pkg/fault"
)

// Class is what a failure of a source or target means for the watch.
type Class string

// The classes of failures. An error that is no *Failure counts as Transient
// from a source and from looking at a target, and as Failed from Activate.
const (
	// Transient: could not be asked, or answered nonsense. Repeated with backoff.
	Transient Class = "transient"
	// Absent: the job, tag, path or workload is not there, confirmed.
	Absent Class = "absent"
	// Denied: refused, confirmed by asking again.
	Denied Class = "denied"
	// Refused: the artifact is not what was announced (size, hash, row,
	// signature). Quarantines the candidate.
	Refused Class = "refused"
	// Hold: a person or time must act; nothing was changed. Why says what.
	Hold Class = "hold"
	// Later: the target says not now (exit 75); nothing was changed, and no
	// attempt is used.
	Later Class = "later"
	// Owned: somebody else owns what would be changed; nothing was written.
	Owned Class = "owned"
	// Failed: it was tried and went wrong; what the target runs must be asked.
	Failed Class = "failed"
)

// Failure is the one error type that sources and targets return on purpose.
type Failure struct { //nolint:errname // it is data as much as an error, and travels as both
	Class Class
	Why   Why    // with Hold: which hold
	What  string // one sentence, cleaned of foreign control characters
	Owner string // with Owned: who
	// RetryAfter is what the server asked for; 0 nothing.
	RetryAfter time.Duration
	// Limited: the server counts requests (429). At least a minute of silence,
	// which no hint breaks.
	Limited bool
	// Shared: another watch of this process was told so, and RetryAfter is what is
	// left of it; nothing was asked.
	Shared bool
	Err    error // cause; may be nil
}

func (f *Failure) Error() string {
	if f.What == "" && f.Err != nil {
		return f.Err.Error()
	}
	return f.What
}

func (f *Failure) Unwrap() error { return f.Err }

// FailureOf returns err's *Failure, or one of class other around err; nil of
// nil.
func FailureOf(err error, other Class) *Failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return &Failure{Class: other, What: err.Error(), Err: err}
}

// Why is a reason not to deploy a candidate now.
type Why string

// The reasons to hold.
const (
	Paused       Why = "paused"
	Pinned       Why = "pinned"
	Quarantined  Why = "quarantined"
	Repeated     Why = "activated_before" // live once, then replaced, now offered as newer
	Window       Why = "outside_window"
	TooYoung     Why = "min_age"
	TooOld       Why = "max_age"
	Regressed    Why = "source_regressed"
	Drifted      Why = "drifted"
	FirstStart   Why = "first_start"
	DiskFull     Why = "disk_full"
	NoWayBack    Why = "no_way_back"
	Repository   Why = "repository_differs"
	WorkloadHeld Why = "workload_paused"
	Preflight    Why = "preflight" // anything else a target finds before it is touched
	Contended    Why = "contended"
	Owner        Why = "owned"
	HaltedWhy    Why = "halted"
	Unreproduced Why = "not_reproduced" // too few others have built it so far
)

// Kind is how a single run that is held ends.
func (w Why) Kind() fault.Kind {
	switch w {
	case Contended, Owner:
		return fault.Conflict
	case HaltedWhy:
		return fault.Unsafe
	case Paused, Pinned, Quarantined, Repeated, Window, TooYoung, TooOld, Regressed, Drifted, FirstStart,
		DiskFull, NoWayBack, Repository, WorkloadHeld, Preflight, Unreproduced:
	}
	return fault.Held
}
