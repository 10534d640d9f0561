package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"homelab/pkg/poll"
	"homelab/pkg/woodpecker"
)

// Writer changes things. *woodpecker.Client is one.
type Writer interface {
	Start(ctx context.Context, id woodpecker.RepoID, branch string) (*woodpecker.Pipeline, error)
	Restart(ctx context.Context, id woodpecker.RepoID, number int64) (*woodpecker.Pipeline, error)
	Cancel(ctx context.Context, id woodpecker.RepoID, number int64) error
	Approve(ctx context.Context, id woodpecker.RepoID, number int64) error
	Decline(ctx context.Context, id woodpecker.RepoID, number int64) error
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

// A POST is never blindly repeated: the server does not recognise a second
// one. What is there before it is noted, and after a doubtful answer the server
// is looked at, twice. Only when nothing has happened is it sent once more.

// act sends one write. done says whether its effect is there already; it is
// asked after a doubtful answer.
func act(ctx context.Context, op string, send func(context.Context) error, done func(context.Context) (bool, error)) error {
	for try := 1; ; try++ {
		err := send(ctx)
		var api *woodpecker.APIError
		if !errors.As(err, &api) || api.Class != woodpecker.Doubtful {
			return err
		}
		seen := 0 // good looks that showed the old state
		for look := range 2 {
			if look > 0 {
				if err := poll.Sleep(ctx, lookAgain); err != nil {
					return &WriteError{Op: op, Why: Unclear, Err: err}
				}
			}
			happened, lookErr := done(ctx)
			switch {
			case happened:
				return nil
			case lookErr == nil:
				seen++
			}
		}
		if seen < 2 || try == 2 {
			return &WriteError{Op: op, Why: Unclear, Text: api.Words(), Err: err}
		}
	}
}

// refusedWrite words a write that the server refused: it is not repeated for
// confirmation, so what is really there is read.
func refusedWrite(ctx context.Context, c Control, repo woodpecker.RepoID, op string, number int64, err error) error {
	var api *woodpecker.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch api.Class {
	case woodpecker.Rejected:
		out := &WriteError{Op: op, Why: WrongState, Text: api.Text, Err: err}
		if row, readErr := c.Pipeline(ctx, repo, number); number > 0 && readErr == nil {
			row = cleaned(row)
			out.Row = &row
		}
		if out.Text == "" {
			out.Text = api.Words()
		}
		return out
	case woodpecker.Refused:
		user, userErr := c.User(ctx)
		if userErr != nil {
			return userErr
		}
		p, permErr := c.Permissions(ctx, repo)
		if permErr != nil {
			return permErr
		}
		if !p.Push {
			return &WriteError{Op: op, Why: NotAllowed, Login: user.Login, Err: err}
		}
		if number > 0 {
			if _, readErr := c.Pipeline(ctx, repo, number); refusedAs(readErr, http.StatusNotFound) {
				return &WriteError{Op: op, Why: NotFound, Err: err}
			}
		}
		return &WriteError{Op: op, Why: Unclear, Text: api.Words(), Err: err}
	case woodpecker.WrongPath, woodpecker.Misdirected, woodpecker.Untrusted, woodpecker.Exhausted, woodpecker.Doubtful:
	}
	return err
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
	err = act(ctx, op,
		func(ctx context.Context) (err error) {
			made, err = c.Restart(ctx, repo, row.Number)
			return err
		},
		func(ctx context.Context) (bool, error) {
			var err error
			made, err = newer(ctx, c, repo, before, func(r woodpecker.Pipeline) bool { return r.Parent == row.Number })
			return made != nil, err
		})
	return result(ctx, c, repo, op, row.Number, made, err)
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
	filtered := false
	var made *woodpecker.Pipeline
	err = act(ctx, op,
		func(ctx context.Context) (err error) {
			made, err = c.Start(ctx, repo, branch)
			filtered = err == nil && made == nil
			return err
		},
		func(ctx context.Context) (bool, error) {
			var err error
			made, err = newer(ctx, c, repo, before, func(r woodpecker.Pipeline) bool {
				return r.Event == woodpecker.Manual && r.Branch == branch && r.Author == user.Login
			})
			return made != nil, err
		})
	if filtered {
		return woodpecker.Pipeline{}, &WriteError{Op: op, Why: Filtered}
	}
	var unclear *WriteError
	var api *woodpecker.APIError
	if errors.As(err, &unclear) && errors.As(err, &api) && api.Status == http.StatusInternalServerError {
		return woodpecker.Pipeline{}, &WriteError{Op: op, Why: NoBranch, Branch: branch, Text: api.Words(), Err: err}
	}
	return result(ctx, c, repo, op, 0, made, err)
}

func result(ctx context.Context, c Control, repo woodpecker.RepoID, op string, number int64, made *woodpecker.Pipeline, err error) (woodpecker.Pipeline, error) {
	if err != nil {
		return woodpecker.Pipeline{}, refusedWrite(ctx, c, repo, op, number, err)
	}
	return cleaned(*made), nil
}

// change sends a write that changes row's status and returns the row after it.
func change(ctx context.Context, c Control, repo woodpecker.RepoID, op string, row woodpecker.Pipeline, done func(woodpecker.Status) bool, send func(context.Context) error) (woodpecker.Pipeline, error) {
	after := row
	look := func(ctx context.Context) (bool, error) {
		r, err := c.Pipeline(ctx, repo, row.Number)
		if err != nil || r.ID != row.ID {
			return false, err
		}
		after = cleaned(r)
		return done(after.Status), nil
	}
	if err := act(ctx, op, send, look); err != nil {
		return row, refusedWrite(ctx, c, repo, op, row.Number, err)
	}
	if !done(after.Status) {
		// Taken: what it looks like now is good to know, and no more than that.
		if _, err := look(ctx); err != nil && ctx.Err() != nil {
			return row, nil //nolint:nilerr // the write itself succeeded
		}
	}
	return after, nil
}

// CancelRow ends an active row and returns it as it is then.
func CancelRow(ctx context.Context, c Control, repo woodpecker.RepoID, row woodpecker.Pipeline) (woodpecker.Pipeline, error) {
	return change(ctx, c, repo, fmt.Sprintf("cancel pipeline %d", row.Number), row, woodpecker.Status.Ended,
		func(ctx context.Context) error { return c.Cancel(ctx, repo, row.Number) })
}

// ApproveRow lets a blocked row run and returns it as it is then.
func ApproveRow(ctx context.Context, c Control, repo woodpecker.RepoID, row woodpecker.Pipeline) (woodpecker.Pipeline, error) {
	return change(ctx, c, repo, fmt.Sprintf("approve pipeline %d", row.Number), row, func(s woodpecker.Status) bool { return s != woodpecker.Blocked },
		func(ctx context.Context) error { return c.Approve(ctx, repo, row.Number) })
}

// DeclineRow ends a blocked row and returns it as it is then.
func DeclineRow(ctx context.Context, c Control, repo woodpecker.RepoID, row woodpecker.Pipeline) (woodpecker.Pipeline, error) {
	return change(ctx, c, repo, fmt.Sprintf("decline pipeline %d", row.Number), row, func(s woodpecker.Status) bool { return s == woodpecker.Declined },
		func(ctx context.Context) error { return c.Decline(ctx, repo, row.Number) })
}
