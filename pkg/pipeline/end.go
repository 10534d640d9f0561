package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/poll"
	"homelab/pkg/woodpecker"
)

// end takes a final decision: it finds out whether another row carries on, and
// completes the outcome when none does. done is false when next is to be
// watched instead.
func (w *watch) end(ctx context.Context, d decision) (next woodpecker.Pipeline, done bool) {
	row := w.row
	w.out.Row = &row
	w.out.Verdict, w.out.Reason, w.out.Hint = d.verdict, d.reason, d.hint
	if d.ended {
		if next, ok := w.successor(ctx, d); ok {
			w.out.Followed = append(w.out.Followed, row.Number)
			w.out.Row, w.out.Verdict, w.out.Reason, w.out.Hint = nil, "", "", Hint{}
			return next, false
		}
		if ctx.Err() != nil {
			w.fail(ctx, context.Cause(ctx))
			return woodpecker.Pipeline{}, true
		}
	}
	if w.out.Verdict == Success && w.target.Number == 0 && !w.target.matches(row.Commit) {
		w.out.Reason = fmt.Sprintf("%s, in #%d of %s, which contains it", d.reason, row.Number, Short(row.Commit))
	}
	if len(d.failed) > 0 {
		w.out.Failed = failing(d.failed, 10)
		if w.limits.LogLines > 0 {
			w.tails(ctx)
			w.emit(Tails{Steps: w.out.Failed})
		}
	}
	return woodpecker.Pipeline{}, true
}

// successor returns the row that carries on after a bad end: the one that
// superseded it if that contains the commit, or a restart that exists already.
// A row that was named by its number is watched as itself; what replaced it
// goes into the hint.
func (w *watch) successor(ctx context.Context, d decision) (woodpecker.Pipeline, bool) {
	row := w.row
	byCommit := w.target.Number == 0 && !w.limits.Once && len(w.out.Followed) < maxHops
	var heir *woodpecker.Pipeline
	probably := ""
	if d.verdict == Superseded {
		m, err := w.read(ctx, supersededBy(row))
		if err != nil {
			w.out.Reason = fmt.Sprintf("superseded by #%d, which could not be read", supersededBy(row))
			return woodpecker.Pipeline{}, false
		}
		heir = &m
	}
	if heir == nil && w.limits.Once {
		return woodpecker.Pipeline{}, false
	}
	if heir == nil {
		rows, err := w.list(ctx, 1, lookPage)
		if err != nil {
			return woodpecker.Pipeline{}, false
		}
		if r := restarted(rows, row); r != nil {
			if byCommit {
				w.emit(Followed{From: row.Number, To: r.Number, Why: fmt.Sprintf("#%d was restarted as #%d", row.Number, r.Number)})
				return *r, true
			}
			w.out.Hint = Hint{Advice: WatchRow, Number: r.Number}
			return woodpecker.Pipeline{}, false
		}
		unsaid := row.Cancel == nil && w.src.Version().Before("3.14.0")
		if d.verdict != Canceled || row.Status != woodpecker.Killed || !unsaid {
			return woodpecker.Pipeline{}, false
		}
		if heir = probableSuccessor(rows, row); heir == nil {
			return woodpecker.Pipeline{}, false
		}
		probably = "probably "
	}
	w.out.Verdict = Superseded
	w.out.Hint = Hint{Advice: WatchRow, Number: heir.Number}
	w.out.Reason = fmt.Sprintf("%ssuperseded by %s", probably, describe(*heir))
	if w.target.Number > 0 || w.limits.Once {
		return woodpecker.Pipeline{}, false
	}
	switch w.contains(ctx, heir.Commit) {
	case proven:
		if !byCommit {
			w.out.Reason += fmt.Sprintf(", the last of %d runs this watch was led through", maxHops)
			return woodpecker.Pipeline{}, false
		}
		w.emit(Followed{From: row.Number, To: heir.Number, Why: w.out.Reason + ", which contains the commit"})
		return *heir, true
	case refuted:
		w.out.Reason += ", which does not contain the commit"
	case unknown:
		w.out.Reason += ", which cannot be shown to contain the commit"
		w.out.Hint.Advice = FetchFirst
	}
	return woodpecker.Pipeline{}, false
}

// gone finds out whether the pinned row was deleted, after the server would
// not show it (err) or showed another under its number. Two lists that lack
// it, a second apart, are proof; a list that has it means a passing fault.
func (w *watch) gone(ctx context.Context, err error) (bool, error) {
	for i := range 2 {
		if i > 0 {
			if err := poll.Sleep(ctx, time.Second); err != nil {
				return false, err
			}
		}
		rows, listErr := w.rowsDownTo(ctx, w.row.Number)
		if listErr != nil {
			return false, listErr
		}
		for _, r := range rows {
			if r.ID != w.row.ID {
				continue
			}
			last := w.lastRead
			if last.IsZero() {
				last = w.began
			}
			if err != nil && time.Since(last) > patience {
				return false, err
			}
			return false, poll.Sleep(ctx, time.Second)
		}
	}
	return true, nil
}

// outGone words the end of a watch whose row was deleted. The row that took
// over its number is another run and is never followed.
func (w *watch) outGone(ctx context.Context) Outcome {
	row := w.row
	w.out.Row, w.out.Verdict = nil, Absent
	unstarted := row.Status == woodpecker.Created || row.Status == woodpecker.Blocked && len(row.Workflows) == 0
	if !unstarted {
		w.out.Reason = fmt.Sprintf("#%d was deleted on the server", row.Number)
		w.out.Hint = Hint{Advice: RunBranch, Branch: row.Branch}
		return w.out
	}
	f := w.facts(ctx, nil, nil, true)
	m := absence(facts{vanished: true, noFile: f.noFile}, Short(row.Commit), w.limits.Appear)
	w.out.Reason, w.out.Hint, w.out.Confirmed = m.reason, m.hint, m.confirmed
	return w.out
}

// fail completes the outcome of a watch that ended without a verdict of the
// server's: refused, out of reach, out of time, or interrupted.
func (w *watch) fail(ctx context.Context, err error) Outcome {
	if w.row.ID > 0 {
		row := w.shown
		w.out.Row = &row
	}
	w.out.Err = err
	w.out.Verdict, w.out.Reason, w.out.Hint = w.unknown(ctx, err)
	return w.out
}

func (w *watch) unknown(ctx context.Context, err error) (Verdict, string, Hint) {
	resume := Hint{Advice: Resume}
	var sig *fault.Signal
	var api *woodpecker.APIError
	var said *fault.Error // a token source's
	switch {
	case errors.As(context.Cause(ctx), &sig), errors.As(err, &sig):
		reason := "interrupted; " + w.last()
		if w.row.ID > 0 && !w.shown.Status.Ended() {
			reason += ", and goes on"
		}
		return Interrupted, reason, resume
	case ctx.Err() != nil:
		return w.timeUp()
	case errors.As(err, &said) && said.Kind == fault.Denied:
		return Denied, said.Error(), Hint{Advice: SeeDoctor}
	case errors.As(err, &api) && api.Class == woodpecker.Refused:
		return Denied, refusal(api, w.target.Repo.FullName), Hint{Advice: SeeDoctor}
	case errors.As(err, &api):
		return Unreachable, api.Error() + "; " + w.last(), w.again()
	}
	return Unreachable, err.Error() + "; " + w.last(), w.again()
}

func (w *watch) again() Hint {
	if w.row.ID > 0 {
		return Hint{Advice: Resume}
	}
	return Hint{Advice: SeeDoctor}
}

// refusal words a confirmed 401, 403 or 404.
func refusal(api *woodpecker.APIError, repo string) string {
	what := fmt.Sprintf("%s: refused with %d, %d times", api.Op, api.Status, max(api.Tries, 1))
	if api.Status == http.StatusUnauthorized {
		return what + ": the token is missing, expired or not accepted"
	}
	return what + ": the token's user may not see it in " + repo
}

// timeUp words the end of the time given: in progress while the last contact
// was good, unreachable when there was none or not for half a minute.
func (w *watch) timeUp() (Verdict, string, Hint) {
	h := w.src.Health()
	now := time.Now()
	if !h.AnyGood || !h.FailingSince.IsZero() && now.Sub(h.FailingSince) >= 30*time.Second {
		reason := "time is up and the server did not answer"
		if h.Last != nil {
			reason += ": " + words(h.Last)
		}
		return Unreachable, reason + "; " + w.last(), w.again()
	}
	if w.row.ID == 0 {
		return Timeout, "the time was up, and no pipeline has appeared yet", Hint{Advice: Resume}
	}
	return Timeout, "the time was up: still " + string(w.shown.Status) + " after " + span(now.Sub(w.start)), Hint{Advice: Resume}
}

func words(err error) string {
	var api *woodpecker.APIError
	if errors.As(err, &api) {
		return api.Words()
	}
	return err.Error()
}

// last words the last thing known of the row, and how old that is.
func (w *watch) last() string {
	switch {
	case w.row.ID == 0:
		return "no pipeline has been seen"
	case w.lastRead.IsZero():
		return fmt.Sprintf("#%d was %s", w.row.Number, w.shown.Status)
	}
	return fmt.Sprintf("#%d was %s %s ago", w.row.Number, w.shown.Status, span(time.Since(w.lastRead)))
}
