package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"homelab/pkg/poll"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// Writer changes things. *woodpecker.Client is one.
type Writer interface {
	Start(ctx context.Context, id woodpecker.RepoID, branch string) (*woodpecker.Pipeline, error)
	Restart(ctx context.Context, id woodpecker.RepoID, number int64) (*woodpecker.Pipeline, error)
	Cancel(ctx context.Context, id woodpecker.RepoID, number int64) error
	Approve(ctx context.Context, id woodpecker.RepoID, number int64) (*woodpecker.Pipeline, error)
	Decline(ctx context.Context, id woodpecker.RepoID, number int64) (*woodpecker.Pipeline, error)
}

// Owner tells whose token it is and what it may do. *woodpecker.Client is one.
type Owner interface {
	User(ctx context.Context) (woodpecker.User, error)
	Permissions(ctx context.Context, id woodpecker.RepoID) (woodpecker.Permissions, error)
}

// Control is all a write needs of a server.
type Control interface {
	Reader
	Writer
	Owner
	Version() woodpecker.Version // "": no answer has been seen to be the server's own
}

// WriteError is a write that did not happen, or may not have.
type WriteError struct {
	Op     string // "approve pipeline 57"
	Why    Refusal
	Row    *woodpecker.Pipeline // as read before or after; nil: not read
	Text   string               // the server's words
	Login  string               // the token's user, where it matters
	Branch string               // for NoBranch
	Err    error
}

// Refusal is why a write did not happen.
type Refusal string

// Every reason.
const (
	WrongState Refusal = "wrong-state" // the server refuses in the row's state
	NotAllowed Refusal = "not-allowed" // no push permission
	NotFound   Refusal = "not-found"   // the row does not exist
	Filtered   Refusal = "filtered"    // nothing was left to run
	NoBranch   Refusal = "no-branch"   // the forge does not know the branch, as far as can be told
	Unclear    Refusal = "unclear"     // it may or may not have taken effect
)

func (e *WriteError) Error() string {
	switch e.Why {
	case WrongState:
		return fmt.Sprintf("%s: %s", e.Op, e.Text)
	case NotAllowed:
		return fmt.Sprintf("%s: %s may not push to the repository", e.Op, e.Login)
	case NotFound:
		return e.Op + ": it does not exist"
	case Filtered:
		return e.Op + ": the conditions of the pipeline file leave nothing to run"
	case NoBranch:
		return fmt.Sprintf("%s: the server could not start it; is there a branch %s?", e.Op, e.Branch)
	case Unclear:
		return e.Op + ": it may or may not have taken effect"
	}
	return e.Op
}

func (e *WriteError) Unwrap() error { return e.Err }

const lookAgain = 2 * time.Second // between the looks after a doubtful write

// effect is what the server shows of a write whose answer is in doubt.
type effect int

const (
	notYet  effect = iota // the old state
	done                  // what was asked for
	another               // neither: something else happened to the row
)

// A POST is never blindly repeated: the server does not recognise a second
// one. What is there before it is noted, and after a doubtful answer the server
// is looked at, twice. Only when nothing has happened is it sent once more
// (ADR 0027).

// act sends one write. look says what is there of its effect; it is asked after
// a doubtful answer. A refusal is checked too, once, by allowed: when the row
// exists and the user may write, it was a passing fault.
func act(ctx context.Context, op string, send func(context.Context) error, look func(context.Context) (effect, error), allowed func(context.Context, error) error) error {
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return context.Cause(ctx) // nothing has been sent
		}
		err := send(ctx)
		if err != nil && ctx.Err() != nil {
			return &WriteError{Op: op, Why: Unclear, Text: "given up before the answer came", Err: context.Cause(ctx)}
		}
		var api *woodpecker.APIError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &api):
			return err
		case api.Class == woodpecker.Refused:
			if no := allowed(ctx, err); no != nil {
				return no
			}
		case api.Class != woodpecker.Doubtful:
			return err
		}
		seen := 0 // good looks that showed the old state
		for again := range 2 {
			if again > 0 {
				if err := poll.Sleep(ctx, lookAgain); err != nil {
					return &WriteError{Op: op, Why: Unclear, Err: err}
				}
			}
			is, lookErr := look(ctx)
			switch {
			case ctx.Err() != nil:
				return &WriteError{Op: op, Why: Unclear, Err: context.Cause(ctx)}
			case lookErr != nil:
			case is == done:
				return nil
			case is == another:
				return &WriteError{Op: op, Why: WrongState, Err: err}
			default:
				seen++
			}
		}
		if seen < 2 || try == 2 {
			return &WriteError{Op: op, Why: Unclear, Text: ui.Clean(api.Words()), Err: err}
		}
	}
}

// mayWrite returns why a refused write was refused, or nil when nothing speaks
// against it: the refusal is not repeated for confirmation, so what is really
// there is read.
func mayWrite(ctx context.Context, c Control, repo woodpecker.RepoID, op string, number int64, refused error) error {
	user, err := c.User(ctx)
	if err != nil {
		return err
	}
	p, err := c.Permissions(ctx, repo)
	if err != nil {
		return err
	}
	if !p.Push {
		return &WriteError{Op: op, Why: NotAllowed, Login: user.Login, Err: refused}
	}
	if number > 0 {
		if _, err := c.Pipeline(ctx, repo, number); refusedAs(err, http.StatusNotFound) {
			return &WriteError{Op: op, Why: NotFound, Err: refused}
		}
	}
	return nil
}

// rejected words what act returned: the server's no to a write in the row's
// state, with the row as it is.
func rejected(ctx context.Context, c Control, repo woodpecker.RepoID, op string, number int64, err error) error {
	var api *woodpecker.APIError
	var out *WriteError
	switch {
	case errors.As(err, &out):
	case errors.As(err, &api) && api.Class == woodpecker.Rejected:
		out = &WriteError{Op: op, Why: WrongState, Text: ui.Clean(cmp.Or(api.Text, api.Words())), Err: err}
	default:
		return err
	}
	if out.Why != WrongState || number == 0 {
		return out
	}
	if row, readErr := c.Pipeline(ctx, repo, number); readErr == nil {
		row = cleaned(row)
		out.Row = &row
		out.Text = cmp.Or(out.Text, fmt.Sprintf("pipeline %d is %s", number, row.Status))
	}
	out.Text = cmp.Or(out.Text, "its state has changed")
	return out
}

// top returns the highest row id of a repository's newest page.
func top(ctx context.Context, c Reader, repo woodpecker.RepoID) (int64, error) {
	rows, err := c.Pipelines(ctx, repo, woodpecker.ListOptions{PerPage: lookPage})
	var highest int64
	for _, r := range rows {
		highest = max(highest, r.ID)
	}
	return highest, err
}

// newer returns the newest row above id that fits; nil for none.
func newer(ctx context.Context, c Reader, repo woodpecker.RepoID, id int64, fits func(woodpecker.Pipeline) bool) (*woodpecker.Pipeline, error) {
	rows, err := c.Pipelines(ctx, repo, woodpecker.ListOptions{PerPage: lookPage})
	if err != nil {
		return nil, err
	}
	var best *woodpecker.Pipeline
	for _, r := range rows {
		if r.ID > id && fits(r) && (best == nil || r.ID > best.ID) {
			r = cleaned(r)
			best = &r
		}
	}
	return best, nil
}

// RestartRow starts row anew and returns the new row.
func RestartRow(ctx context.Context, c Control, repo woodpecker.RepoID, row woodpecker.Pipeline) (woodpecker.Pipeline, error) {
	op := fmt.Sprintf("restart of pipeline %d", row.Number)
	before, err := top(ctx, c, repo)
	if err != nil {
		return woodpecker.Pipeline{}, err
	}
	var made *woodpecker.Pipeline
	fits := func(r woodpecker.Pipeline) bool {
		return r.Parent == row.Number && (row.Commit == "" || r.Commit == row.Commit)
	}
	err = act(ctx, op,
		func(ctx context.Context) (err error) {
			made, err = c.Restart(ctx, repo, row.Number)
			return checkMade(op, &made, before, fits, err)
		},
		search(&made, func(ctx context.Context) (*woodpecker.Pipeline, error) {
			return newer(ctx, c, repo, before, fits)
		}),
		func(ctx context.Context, err error) error { return mayWrite(ctx, c, repo, op, row.Number, err) })
	if err != nil {
		return woodpecker.Pipeline{}, rejected(ctx, c, repo, op, row.Number, err)
	}
	return cleaned(*made), nil
}

// checkMade looks at the row that the answer to a write calls the new one. One
// that was there before, or was made by something else, is a doubtful answer:
// it says nothing about the write, and its verdict would be another run's.
func checkMade(op string, made **woodpecker.Pipeline, before int64, fits func(woodpecker.Pipeline) bool, err error) error {
	row := *made
	if err != nil || row == nil {
		return err
	}
	if r := cleaned(*row); row.ID > before && fits(r) {
		return nil
	}
	*made = nil
	return &woodpecker.APIError{
		Op: op, Class: woodpecker.Doubtful,
		Err: fmt.Errorf("the answer names #%d, which is not the new pipeline", row.Number),
	}
}

// search makes a look that finds the row that a write made.
func search(made **woodpecker.Pipeline, find func(context.Context) (*woodpecker.Pipeline, error)) func(context.Context) (effect, error) {
	return func(ctx context.Context) (effect, error) {
		row, err := find(ctx)
		if err != nil || row == nil {
			return notYet, err
		}
		*made = row
		return done, nil
	}
}

// StartBranch starts a manual pipeline of branch's head as the forge sees it
// and returns its row.
func StartBranch(ctx context.Context, c Control, repo woodpecker.RepoID, branch string) (woodpecker.Pipeline, error) {
	op := "manual pipeline of " + branch
	before, err := top(ctx, c, repo)
	if err != nil {
		return woodpecker.Pipeline{}, err
	}
	user, err := c.User(ctx)
	if err != nil {
		return woodpecker.Pipeline{}, err
	}
	fits := func(r woodpecker.Pipeline) bool { return r.Event == woodpecker.Manual && r.Branch == branch }
	filtered := false
	var made *woodpecker.Pipeline
	err = act(ctx, op,
		func(ctx context.Context) (err error) {
			made, err = c.Start(ctx, repo, branch)
			filtered = err == nil && made == nil
			return checkMade(op, &made, before, fits, err)
		},
		search(&made, func(ctx context.Context) (*woodpecker.Pipeline, error) {
			return newer(ctx, c, repo, before, func(r woodpecker.Pipeline) bool {
				return fits(r) && r.Author == user.Login
			})
		}),
		func(ctx context.Context, err error) error { return mayWrite(ctx, c, repo, op, 0, err) })
	if filtered {
		return woodpecker.Pipeline{}, &WriteError{Op: op, Why: Filtered}
	}
	var unclear *WriteError
	var api *woodpecker.APIError
	if errors.As(err, &unclear) && errors.As(err, &api) && api.Status == http.StatusInternalServerError {
		return woodpecker.Pipeline{}, &WriteError{Op: op, Why: NoBranch, Branch: branch, Text: api.Words(), Err: err}
	}
	if err != nil {
		return woodpecker.Pipeline{}, rejected(ctx, c, repo, op, 0, err)
	}
	return cleaned(*made), nil
}

// How long a write that the server took may need to show.
const (
	showPause = 500 * time.Millisecond
	showMost  = 3 * time.Second
)

// change sends a write that changes row's status and returns the row after it.
// became says what a status means for it; send returns the row where the
// answer has one. An answer is not the change itself: what the server shows
// afterwards counts, and where it goes on showing the old state, nobody can
// say that the write took effect. Only of a row that is still at work (moving)
// the server's own word is enough, since its end takes time.
func change(ctx context.Context, c Control, repo woodpecker.RepoID, op string, row woodpecker.Pipeline,
	became func(woodpecker.Status) effect, moving func(woodpecker.Status) bool, send func(context.Context) (*woodpecker.Pipeline, error),
) (woodpecker.Pipeline, error) {
	after, read := row, false
	take := func(r woodpecker.Pipeline, err error) (effect, error) {
		switch {
		case err != nil:
			return notYet, err
		case r.ID != row.ID:
			return notYet, fmt.Errorf("%s: its number belongs to another run now", op)
		}
		after = cleaned(r)
		return became(after.Status), nil
	}
	look := func(ctx context.Context) (effect, error) {
		is, err := take(c.Pipeline(ctx, repo, row.Number))
		read = read || err == nil
		return is, err
	}
	allowed := func(ctx context.Context, err error) error { return mayWrite(ctx, c, repo, op, row.Number, err) }
	err := act(ctx, op, func(ctx context.Context) error {
		read = false // what was seen before the answer is not its effect
		r, err := send(ctx)
		if err != nil || r == nil {
			return err
		}
		if _, err := take(*r, nil); err != nil {
			return &woodpecker.APIError{Op: op, Class: woodpecker.Doubtful, Err: err}
		}
		return nil
	}, look, allowed)
	if err != nil {
		return row, rejected(ctx, c, repo, op, row.Number, err)
	}
	if read && became(after.Status) == done {
		return after, nil
	}
	for start := time.Now(); ; {
		is, _ := look(ctx) // what cannot be read shows nothing
		if is != notYet || time.Since(start)+showPause > showMost || poll.Sleep(ctx, showPause) != nil {
			break
		}
	}
	switch is := became(after.Status); {
	case is == done:
		return after, nil
	case is == another:
		return row, &WriteError{Op: op, Why: WrongState, Row: &after, Text: fmt.Sprintf("pipeline %d is %s", row.Number, after.Status)}
	case c.Version() != "" && moving(after.Status):
		return after, nil
	}
	return row, &WriteError{
		Op: op, Why: Unclear, Row: &after,
		Text: fmt.Sprintf("the server took it, and pipeline %d is still %s", row.Number, after.Status),
		Err:  context.Cause(ctx),
	}
}

// CancelRow ends an active row and returns it as it is then.
func CancelRow(ctx context.Context, c Control, repo woodpecker.RepoID, row woodpecker.Pipeline) (woodpecker.Pipeline, error) {
	became := func(s woodpecker.Status) effect {
		switch {
		case s == woodpecker.Killed || s == woodpecker.Canceled:
			return done
		case s.Ended():
			return another
		}
		return notYet
	}
	return change(ctx, c, repo, fmt.Sprintf("cancel pipeline %d", row.Number), row, became,
		func(s woodpecker.Status) bool { return s == woodpecker.Pending || s == woodpecker.Running },
		func(ctx context.Context) (*woodpecker.Pipeline, error) { return nil, c.Cancel(ctx, repo, row.Number) })
}

// still is the moving of a row that waits for a person: it does not move.
func still(woodpecker.Status) bool { return false }

// answered is what a status says of the answer to a blocked row: a declined
// one has declined, and one of any other status was let run.
func answered(declined, ran effect) func(woodpecker.Status) effect {
	return func(s woodpecker.Status) effect {
		switch s {
		case woodpecker.Blocked, woodpecker.Created:
			return notYet
		case woodpecker.Declined:
			return declined
		case woodpecker.Pending, woodpecker.Running, woodpecker.Success, woodpecker.Failure, woodpecker.Error,
			woodpecker.Killed, woodpecker.Canceled, woodpecker.Skipped:
		}
		return ran
	}
}

// ApproveRow lets a blocked row run and returns it as it is then.
func ApproveRow(ctx context.Context, c Control, repo woodpecker.RepoID, row woodpecker.Pipeline) (woodpecker.Pipeline, error) {
	return change(ctx, c, repo, fmt.Sprintf("approve pipeline %d", row.Number), row, answered(another, done), still,
		func(ctx context.Context) (*woodpecker.Pipeline, error) { return c.Approve(ctx, repo, row.Number) })
}

// DeclineRow ends a blocked row and returns it as it is then.
func DeclineRow(ctx context.Context, c Control, repo woodpecker.RepoID, row woodpecker.Pipeline) (woodpecker.Pipeline, error) {
	return change(ctx, c, repo, fmt.Sprintf("decline pipeline %d", row.Number), row, answered(done, another), still,
		func(ctx context.Context) (*woodpecker.Pipeline, error) { return c.Decline(ctx, repo, row.Number) })
}
