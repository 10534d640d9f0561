package pipeline

import (
	"context"
	"time"

	"homelab/pkg/git"
	"homelab/pkg/transport"
	"homelab/pkg/woodpecker"
)

// Verdict is how a look or a watch ended.
type Verdict string

// Every verdict. None of the last four says anything about the commit.
const (
	Success     Verdict = "success"
	Failure     Verdict = "failure"
	Errored     Verdict = "error"
	Declined    Verdict = "declined"
	Blocked     Verdict = "blocked"
	Canceled    Verdict = "canceled"
	Superseded  Verdict = "superseded"
	Absent      Verdict = "absent"
	Pending     Verdict = "pending" // one look only
	Running     Verdict = "running" // one look only
	Denied      Verdict = "denied"
	Unreachable Verdict = "unreachable"
	Timeout     Verdict = "timeout"
	Interrupted Verdict = "interrupted"
)

// Advice is the kind of command that helps next; verbs phrase it.
type Advice string

// Every advice. Number and Branch of the Outcome's Hint complete it.
const (
	NoAdvice   Advice = ""
	SeeLogs    Advice = "logs"
	WatchRow   Advice = "watch"
	Rerun      Advice = "rerun"
	RunBranch  Advice = "run"
	Approve    Advice = "approve"
	PushCommit Advice = "push"
	SeePage    Advice = "page"
	SeeDoctor  Advice = "doctor"
	FetchFirst Advice = "fetch"
	Resume     Advice = "resume" // the same command again, pinned to the row
	TryStatus  Advice = "status"
	AskUsage   Advice = "usage"
)

// Hint is an advice with what it speaks of.
type Hint struct {
	Advice Advice
	Number int64  // a pipeline number; 0: the outcome's own
	Step   string // for SeeLogs: a step's pid or name; "" all
	Branch string // for RunBranch
}

// Target is what is looked for.
type Target struct {
	Repo   woodpecker.Repo
	Commit string           // full id in lower case, or a prefix where Prefix is set; "" when Number names a row
	Prefix bool             // Commit is not complete: no checkout could resolve it
	Number int64            // > 0: exactly this row, whatever its commit
	ID     int64            // > 0: and its id is known already
	Event  woodpecker.Event // "": push first
	Local  Local            // what a checkout knows of the commit; nil outside one
}

// Local is what a checkout knows about commits. *git.Repo is one.
type Local interface {
	IsAncestor(ctx context.Context, ancestor, descendant git.Commit) (git.Answer, error)
	Message(ctx context.Context, c git.Commit) (string, error)
	TreeFiles(ctx context.Context, c git.Commit) ([]string, error)
	OnRemote(ctx context.Context, c git.Commit) (bool, error)
}

// Reader reads rows and logs. *woodpecker.Client is one.
type Reader interface {
	Pipelines(ctx context.Context, id woodpecker.RepoID, o woodpecker.ListOptions) ([]woodpecker.Pipeline, error)
	Pipeline(ctx context.Context, id woodpecker.RepoID, number int64) (woodpecker.Pipeline, error)
	Log(ctx context.Context, id woodpecker.RepoID, number, step int64, f func(woodpecker.LogEntry) error) error
	LogStream(ctx context.Context, id woodpecker.RepoID, number, step int64, f func(woodpecker.LogEntry) error) error
}

// Hints tells when a read is worth while and why nothing moves.
type Hints interface {
	Events(ctx context.Context, f func(woodpecker.StreamEvent) error) error
	Permissions(ctx context.Context, id woodpecker.RepoID) (woodpecker.Permissions, error)
	Queue(ctx context.Context) (woodpecker.Queue, error)
}

// Contact is how things stand with the server.
type Contact interface {
	Now() time.Time              // the server's clock
	Version() woodpecker.Version // "" before any answer
	Health() transport.Health
}

// Source is all a watch needs of a server. *woodpecker.Client is one.
type Source interface {
	Reader
	Hints
	Contact
}

// Limits bounds a watch and says what counts.
type Limits struct {
	Appear   time.Duration // how long a row may take to appear
	Once     bool          // one look: two lists at most, one detail, no waiting for an end
	Gate     Gate          // which workflows count
	FailFast bool          // end when a counting workflow has ended badly
	LogLines int           // lines of each failing step's tail; 0: none

	// Renew is asked when the server refuses the token in mid-watch, once until
	// something has been answered again: true means a new token is in use. Its
	// error ends the watch. nil: there is none to be had.
	Renew func(context.Context) (bool, error)
}

// FailedStep is one reason for a red verdict.
type FailedStep struct {
	Workflow string
	Step     string
	PID      int
	ExitCode int
	Error    string
	LogTail  []string // cleaned; empty: nothing was printed, or it could not be read (LogNote)
	LogNote  string   // why the tail is missing or cut; "" nothing to say

	id     int64
	killed bool // it did not fail by itself
}

// Outcome is all that is known at the end of a look or a watch.
type Outcome struct {
	Target   Target
	Verdict  Verdict
	Reason   string
	Hint     Hint
	Row      *woodpecker.Pipeline // last reading; nil: there is no row
	Others   []woodpecker.Pipeline
	Failed   []FailedStep
	Followed []int64 // numbers of the rows the watch left, in order
	// Confirmed: the server will make no pipeline for this commit, which is
	// more than that none was seen.
	Confirmed bool
	Err       error // behind denied, unreachable, timeout and interrupted; else nil
}

// Update is something a watch saw. The concrete types below are all there are.
type Update interface{ update() }

// Found is the row that is watched from now on.
type Found struct {
	Row woodpecker.Pipeline
	Why string // "" for the commit's own row
}

// Changed says that the display moved. Row is the whole state; the lists name what
// changed in it, in the tree's order.
type Changed struct {
	Row       woodpecker.Pipeline
	Status    bool
	Workflows []woodpecker.Workflow
	Steps     []ChangedStep
}

// ChangedStep is a step with the workflow it belongs to.
type ChangedStep struct {
	Workflow woodpecker.Workflow
	Step     woodpecker.Step
}

// Followed says that the watch left one row for another.
type Followed struct {
	From, To int64
	Why      string
}

// Note is something worth knowing that is no change: why nothing moves, an
// unknown status.
type Note struct{ Text string }

// Detail is something that only --verbose shows.
type Detail struct{ Text string }

// Tails says that the failing steps' logs have been read.
type Tails struct{ Steps []FailedStep }

func (Found) update()    {}
func (Changed) update()  {}
func (Followed) update() {}
func (Note) update()     {}
func (Detail) update()   {}
func (Tails) update()    {}
