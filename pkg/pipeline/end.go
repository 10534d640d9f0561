package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// end takes a final decision: it finds out whether another row carries on, and
// completes the outcome when none does. The result is what is to be watched
// instead, nil for nothing.
func (w *watch) end(ctx context.Context, d decision) *found {
	row := w.row
	w.out.Row = &row
	w.out.Verdict, w.out.Reason, w.out.Hint = d.verdict, d.reason, d.hint
	if d.ended {
		next, err := w.successor(ctx, d)
		if next != nil {
			w.out.Followed = append(w.out.Followed, row.Number)
			w.out.Row, w.out.Verdict, w.out.Reason, w.out.Hint = nil, "", "", Hint{}
			return next
		}
		if err != nil {
			w.fail(ctx, err)
			return nil
		}
	}
	if w.out.Verdict == Success && w.target.Number == 0 && !w.target.matches(row.Commit) {
		w.out.Reason = fmt.Sprintf("%s, in %s, which contains it", d.reason, describe(row))
	}
	if len(d.failed) > 0 {
		w.out.Failed = failing(d.failed, mostTails)
		if w.limits.LogLines > 0 && len(w.out.Failed) > 0 {
			w.tails(ctx)
			w.emit(Tails{Steps: w.out.Failed})
			w.cutShort(ctx)
		}
	}
	return nil
}

// cutShort turns a red verdict into interrupted when a signal ended the reading
// of its logs: the code then says who ended the command, and the reason what is
// known. A deadline leaves the verdict: nothing more was to be found out.
func (w *watch) cutShort(ctx context.Context) {
	cause := context.Cause(ctx)
	var sig *fault.Signal
	if !errors.As(cause, &sig) && !errors.Is(cause, context.Canceled) {
		return
	}
	w.out.Reason = fmt.Sprintf("interrupted while reading logs; #%d %s: %s", w.row.Number, ended(w.out.Verdict), w.out.Reason)
	w.out.Verdict, w.out.Hint, w.out.Err = Interrupted, Hint{Advice: Resume}, cause
}

// ended words a red verdict as a verb.
func ended(v Verdict) string {
	if v == Failure {
		return "failed"
	}
	return "ended as " + string(v)
}

const mostTails = 10 // failing steps whose logs are shown

// successor returns the row that carries on after a bad end: the one that
// superseded it if that contains the commit, or a restart that exists already.
// A row that was named by its number is watched as itself (ADR 0022); what
// replaced it goes into the hint. The error says that it could not be found out although
// the verdict depends on it.
func (w *watch) successor(ctx context.Context, d decision) (*found, error) {
	row := w.row
	byCommit := w.target.Number == 0 && !w.limits.Once
	inherits := func(heir woodpecker.Pipeline) bool {
		return byCommit && len(w.out.Followed) < maxHops && w.contains(ctx, heir.Commit) == proven
	}
	var heir *woodpecker.Pipeline
	probably := ""
	if d.verdict == Superseded {
		by := supersededBy(row)
		m, err := w.read(w.patient(ctx), by)
		switch {
		case err == nil && inherits(m):
			w.emit(Followed{From: row.Number, To: by, Why: "superseded by " + describe(m) + ", which contains the commit"})
			return &found{row: m, whole: true}, nil
		case err == nil:
			heir = &m
		case !refusedAs(err, http.StatusNotFound):
			return nil, err
		default:
			w.out.Reason = fmt.Sprintf("superseded by #%d, which the server does not show", by)
			w.out.Hint = Hint{Advice: SeePage}
		}
	}
	if !w.limits.Once {
		rows, err := w.list(w.patientFor(ctx, d.verdict), 1, lookPage)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case d.verdict == Canceled:
			return nil, err // before 3.14 only the list shows what took over
		}
		if r := restarted(rows, row); r != nil {
			if byCommit && len(w.out.Followed) < maxHops {
				w.emit(Followed{From: row.Number, To: r.Number, Why: fmt.Sprintf("#%d was restarted as #%d", row.Number, r.Number)})
				return &found{row: *r}, nil
			}
			w.out.Hint = Hint{Advice: WatchRow, Number: r.Number}
			return nil, nil //nolint:nilnil // nothing takes over, and that is known
		}
		unsaid := row.Cancel == nil && w.src.Version().Before("3.14.0")
		if d.verdict == Canceled && row.Status == woodpecker.Killed && unsaid {
			heir, probably = probableSuccessor(rows, row), "probably "
		}
		if heir != nil && probably != "" && inherits(*heir) {
			w.emit(Followed{From: row.Number, To: heir.Number, Why: "probably superseded by " + describe(*heir) + ", which contains the commit"})
			return &found{row: *heir}, nil
		}
	}
	if heir == nil {
		return nil, nil //nolint:nilnil // see above
	}
	w.out.Verdict = Superseded
	w.out.Hint = Hint{Advice: WatchRow, Number: heir.Number}
	w.out.Reason = fmt.Sprintf("%ssuperseded by %s", probably, describe(*heir))
	if w.target.Number > 0 || w.limits.Once {
		return nil, nil //nolint:nilnil // see above
	}
	switch w.contains(ctx, heir.Commit) {
	case proven:
		w.out.Reason += fmt.Sprintf(", after %d runs that were followed", maxHops)
	case refuted:
		w.out.Reason += ", which does not contain the commit"
	case unknown:
		w.out.Reason += ", which cannot be shown to contain the commit"
		w.out.Hint.Advice = FetchFirst
	}
	return nil, nil //nolint:nilnil // see above
}

// patientFor is patient where the verdict depends on the answer; a run that
// failed has failed, whether or not it was restarted.
func (w *watch) patientFor(ctx context.Context, v Verdict) context.Context {
	if v == Canceled {
		return w.patient(ctx)
	}
	return ctx
}

// gone finds out whether the pinned row was deleted, after the server would
// not show it or showed another under its number. Two lists that lack it are
// proof; a list that has it means a passing fault.
func (w *watch) gone(ctx context.Context) (bool, error) {
	id := w.row.ID
	listed, err := w.listed(ctx, w.row.Number, func(r woodpecker.Pipeline) bool { return r.ID == id })
	if err != nil || !listed {
		return err == nil, err
	}
	return false, w.missed(ctx, w.row.Number)
}

// outGone words the end of a watch whose row was deleted. The row that took
// over its number is another run and is never followed.
func (w *watch) outGone(ctx context.Context) Outcome {
	row := w.row
	w.out.Row, w.out.Verdict = nil, Absent
	switch {
	case !unstarted(row, !w.lastRead.IsZero()):
		m := deleted(row)
		w.out.Reason, w.out.Hint, w.out.Confirmed = m.reason, m.hint, m.confirmed
	case w.covers:
		w.out.Reason = fmt.Sprintf("%s has no pipeline of its own, and %s, which covered it, was filtered out", Short(w.target.Commit), describe(row))
	default:
		f := w.facts(ctx, nil, nil, true)
		m := absence(facts{vanished: true, noFile: f.noFile}, Short(row.Commit), w.limits.Appear)
		w.out.Reason, w.out.Hint, w.out.Confirmed = m.reason, m.hint, m.confirmed
	}
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
	case errors.Is(context.Cause(ctx), context.Canceled):
		return Interrupted, "given up; " + w.last(), resume
	case ctx.Err() != nil:
		return w.timeUp()
	case errors.As(err, &said) && said.Kind == fault.Denied:
		return Denied, ui.Clean(said.Error()), Hint{Advice: SeeDoctor}
	case errors.As(err, &api) && api.Class == woodpecker.Refused:
		return Denied, refusal(api, w.target.Repo.FullName), Hint{Advice: SeeDoctor}
	case errors.As(err, &api):
		return Unreachable, ui.Clean(api.Error()) + "; " + w.last(), w.again()
	}
	return Unreachable, ui.Clean(err.Error()) + "; " + w.last(), w.again()
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
	after := " after " + span(now.Sub(w.start))
	switch {
	case w.against != "":
		return Timeout, "the time was up" + after + ": " + w.against, Hint{Advice: Resume}
	case w.shown.Status.Ended():
		return Timeout, "the time was up" + after + ": " + unsettled(w.shown), Hint{Advice: Resume}
	}
	return Timeout, "the time was up: still " + string(w.shown.Status) + after, Hint{Advice: Resume}
}

func words(err error) string {
	if api, ok := errors.AsType[*woodpecker.APIError](err); ok {
		return ui.Clean(api.Words())
	}
	return ui.Clean(err.Error())
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
