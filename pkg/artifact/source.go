package artifact

import (
	"context"
	"io"
	"time"
)

// Source is where artifacts appear. Implementations repeat nothing on their
// own beyond one exchange: the watch looks again. They are called from one
// goroutine per watch, but Look and Fetch may run at the same time. Every text
// they return is foreign: validated, or cleaned, before it is returned.
type Source interface {
	// Look asks what is on offer, with a conditional request where the source
	// has one. The error is *Failure (Transient, Absent, Denied, or Refused for
	// an offer that contradicts itself) or ctx's cause.
	Look(ctx context.Context, q Query) (Look, error)
	// Fetch writes the candidate's bytes to w, which counts and hashes them and
	// refuses more than was announced. A body cut short is Transient; one that
	// disagrees with what its source announced (length, ETag) is Refused. Never
	// called for an Image.
	Fetch(ctx context.Context, c Candidate, w io.Writer) error
	// Answers reports whether expectations of this form can be answered; one
	// that cannot is a usage error before anything is contacted.
	Answers(f Form) bool
}

// Query is what a source is told for one look.
type Query struct {
	// Seen is what the last look returned as Seen, also across restarts; "" none.
	Seen string
	// Offered is the candidate of the last good look; nil none. Unchanged in the
	// answer means this one.
	Offered *Candidate
	// Running is what the target runs; nil nothing or unknown. With it a source
	// can tell a rebuild with the same bytes, and the order of what runs.
	Running *Version
	// Expect is what somebody waits for; zero nobody does.
	Expect Expectation
	// Since is how old an answer may be that another watch of this process was
	// given to the same question; zero: as old as any.
	Since time.Time
	// Half and End say that half of, or all, the wait for Expect is over: the
	// times to ask whether its build failed.
	Half, End bool
}

// Look is what a source answered. The zero value: it answered, and offers
// nothing it could name.
type Look struct {
	// Candidate is the newest on offer; nil: none (yet), or Unchanged.
	Candidate *Candidate
	// Unchanged: the same as Query.Offered, which need not be built again.
	Unchanged bool
	// Seen is the source's own memory for the next look: validators, a number.
	Seen string
	// Rebuilt: a newer build was found and has the very bytes that run; nothing
	// is restarted. Candidate then is that build, with the running id.
	Rebuilt bool
	// RunningOrder is the order of Query.Running, if the source can tell; 0 not.
	RunningOrder int64
	// Expected is how it stands with Query.Expect; "" nothing is known.
	Expected Standing
	// Reason belongs to Expected (which build failed, what came instead).
	Reason string
	// By is what the source offers instead of a Passed expectation; "" unknown.
	By ID
	// Hot is why the next look should come soon: a pipeline that runs, an
	// artifact that is missing. One text per cause: the time in which looks are
	// frequent counts per text. "" no reason.
	Hot string
	// Missing: the build is green and its artifact is not there yet.
	Missing bool
	// Failing is the newest build if it ended badly; "" it did not.
	Failing string
	// Compare is a page that shows what changed since Running; "" none.
	Compare string
	// Blind: the source gave no validators; it is looked at every 5 minutes.
	Blind bool
	// Limit is how soon the server wants the next request; 0 it does not say.
	Limit time.Duration
}

// Standing is how it stands with an expected artifact at its source.
type Standing string

// How an expectation can stand. "" is: not offered, and nothing else known.
const (
	Awaited Standing = ""
	Passed  Standing = "passed" // it exists and something newer is on offer
	Broken  Standing = "failed" // its build failed: it will not come
)
