package pipeline

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"homelab/pkg/poll"
	"homelab/pkg/woodpecker"
)

// watch is the state of one look or watch. The loop around it is thin: it
// reads, tells what changed, asks decide, and waits.
type watch struct {
	src    Source
	target Target
	limits Limits
	emit   func(Update)
	ears   *listener // nil: no stream
	start  time.Time

	out      Outcome
	history  []woodpecker.Pipeline // rows of the first look, for the usual duration
	newest   int64                 // highest id of any list
	ancestry map[string]ancestry
	local    *facts // what the checkout knows; nil: not asked yet

	row      woodpecker.Pipeline  // the last complete answer
	have     *woodpecker.Pipeline // a complete answer about row that has not been judged yet
	shown    woodpecker.Pipeline  // the display: row, moved forward by events
	covers   bool                 // row is not the target's own
	lastRead time.Time
	known    bool      // some row has been read completely
	misses   int       // readings in a row that did not show the row although a list does
	began    time.Time // when the watch of this row began
	against  string    // what stood against an end in the last reading; "": nothing special
	closing  time.Time // when every step was first seen ended while the pipeline was not; zero: not so
	closed   int       // readings since then
	cadence  cadence
	hearing  bool // the stream was healthy when it was last heard
	renewed  bool // the token has been renewed, and nothing was answered since
	queued   bool // the queue has been asked
	noted    map[string]bool
}

const (
	patience   = 5 * time.Minute   // of failure, once the row has been read
	safety     = 150 * time.Second // between reads while the stream is healthy
	afterPing  = 2 * time.Second   // the ping precedes the subscription
	stuckAfter = 2 * time.Minute   // pending this long is worth a question
)

// Await finds the row that speaks for t and follows it to its end, or looks
// once (Limits.Once). It tells what it sees through emit, from the calling
// goroutine, and always returns an Outcome with a verdict; only *AmbiguousError
// comes as an error, for a commit that was not named clearly enough.
func Await(ctx context.Context, src Source, t Target, limits Limits, emit func(Update)) (Outcome, error) {
	w := &watch{
		src: src, target: t, limits: limits, emit: emit, start: time.Now(),
		ancestry: map[string]ancestry{}, noted: map[string]bool{},
	}
	w.out.Target = t
	if !limits.Once {
		w.ears = w.openEars(ctx)
		defer w.ears.close()
	}
	hit, none, err := w.find(ctx)
	var ambiguous *AmbiguousError
	switch {
	case errors.As(err, &ambiguous):
		return w.out, err
	case err != nil:
		return w.fail(ctx, err), nil
	case none != nil:
		w.out.Verdict, w.out.Reason, w.out.Hint, w.out.Confirmed = Absent, none.reason, none.hint, none.confirmed
		return w.out, nil
	}
	w.out.Others = hit.others
	w.pin(*hit)
	return w.run(ctx), nil
}

// openEars opens the event stream where the server is known to bear it.
func (w *watch) openEars(ctx context.Context) *listener {
	if !w.src.Version().StreamSafe() {
		return nil
	}
	return listen(ctx, w.src, w.target.Repo)
}

// pin makes hit's row the one that is watched.
func (w *watch) pin(hit found) {
	w.row, w.shown, w.covers, w.have = hit.row, hit.row, hit.covers, nil
	if hit.whole {
		w.have = &hit.row
	}
	w.began, w.lastRead, w.misses = time.Now(), time.Time{}, 0
	w.cadence = newCadence(w.began)
	w.count(false)
	w.emit(Found{Row: hit.row, Why: hit.why})
}

// run watches the pinned row, and those that take over from it, to a verdict.
func (w *watch) run(ctx context.Context) Outcome {
	var m memory
	for {
		before := w.shown
		safetyRead := w.ears.state().healthy && !w.lastRead.IsZero() && time.Since(w.lastRead) >= safety
		row, err := w.reading(ctx)
		switch {
		case err == nil && row.ID == w.row.ID && row.Commit == w.row.Commit:
		case err == nil, refusedAs(err, http.StatusNotFound):
			gone, goneErr := w.gone(ctx)
			if goneErr != nil {
				return w.fail(ctx, goneErr)
			}
			if gone {
				return w.outGone(ctx)
			}
			continue
		default:
			return w.fail(ctx, err)
		}
		w.lastRead, w.row, w.known, w.misses = time.Now(), row, true, 0
		if w.show(row) && safetyRead && before.ID == row.ID {
			w.ears.doubt()
		}
		w.count(true)
		m = remember(m, row, time.Now())
		d := decide(reading{
			row: row, gate: w.limits.Gate, failFast: w.limits.FailFast, once: w.limits.Once,
			version: w.src.Version(), timeout: time.Duration(w.target.Repo.Timeout) * time.Minute,
			memory: m, now: time.Now(), server: w.src.Now(),
		})
		w.against = ""
		if !d.final {
			w.against = d.reason
		}
		if w.limits.Once && !d.final {
			d = w.asItIs(d)
		}
		if d.final {
			next := w.end(ctx, d)
			if next == nil {
				return w.out
			}
			w.pin(*next)
			m = memory{}
			continue
		}
		w.note(d.note)
		if err := w.wait(ctx, d.again); err != nil {
			return w.fail(ctx, err)
		}
	}
}

// reading returns a complete answer about the pinned row's number. The
// server's 404 comes at once: gone finds out what it means.
func (w *watch) reading(ctx context.Context) (woodpecker.Pipeline, error) {
	if w.have != nil {
		row := *w.have
		w.have = nil
		return row, nil
	}
	return w.read(woodpecker.Unconfirmed(w.patient(ctx)), w.row.Number)
}

// asItIs words a reading that is no end for a single look.
func (w *watch) asItIs(d decision) decision {
	v := Running
	if w.row.Status == woodpecker.Pending || w.row.Status == woodpecker.Created {
		v = Pending
	}
	reason := d.reason
	if reason == "" {
		reason = d.note
	}
	if reason == "" {
		reason = unsettled(w.row)
	}
	return final(v, reason, Hint{Advice: WatchRow})
}

// unsettled words an end that cannot be believed yet.
func unsettled(row woodpecker.Pipeline) string {
	return "the server says " + string(row.Status) + ", which is not settled yet"
}

// patient bounds uninterrupted failure: the usual budget, and much more once a
// row has been read, since there is something to lose then.
func (w *watch) patient(ctx context.Context) context.Context {
	if !w.known || w.limits.Once {
		return ctx
	}
	return woodpecker.WithPatience(ctx, patience)
}

func refusedAs(err error, status int) bool {
	var api *woodpecker.APIError
	return errors.As(err, &api) && api.Class == woodpecker.Refused && api.Status == status
}

func (w *watch) read(ctx context.Context, number int64) (woodpecker.Pipeline, error) {
	var row woodpecker.Pipeline
	err := w.asking(ctx, func() (err error) {
		row, err = w.src.Pipeline(ctx, w.target.Repo.ID, number)
		return err
	})
	if err != nil {
		return row, err
	}
	return cleaned(row), nil
}

// asking asks, and once more with a new token when the server refuses the one
// in use and another is to be had.
func (w *watch) asking(ctx context.Context, ask func() error) error {
	err := ask()
	if refusedAs(err, http.StatusUnauthorized) && w.limits.Renew != nil && !w.renewed {
		w.renewed = true
		fresh, renewErr := w.limits.Renew(ctx)
		if renewErr != nil {
			return renewErr
		}
		if fresh {
			err = ask()
		}
	}
	if err == nil {
		w.renewed = false
	}
	return err
}

// show moves the display and tells what changed.
func (w *watch) show(told woodpecker.Pipeline) bool {
	cur := merge(w.shown, told)
	c, changed := diff(w.shown, cur)
	w.shown = cur
	if changed {
		w.emit(c)
	}
	return changed
}

// hear takes what the stream told since the last time, and says whether it
// makes a read urgent.
func (w *watch) hear() (urgent bool) {
	h := w.ears.take()
	urgent = h.blind
	for _, n := range h.notes {
		w.emit(Detail{n})
	}
	for _, told := range h.told {
		if told.ID != w.row.ID {
			urgent = urgent || w.row.ID == 0 && told.ID > w.newest
			continue
		}
		w.show(told)
		w.count(false)
		end := told.Status.Ended() || told.Status == woodpecker.Blocked
		if end && told.Status != w.row.Status || w.newlyBad(told) || w.newlyDone(told) {
			urgent = true
		}
	}
	if w.row.ID > 0 {
		lost := w.hearing && !h.healthy // what happened while it died was not heard
		if h.healthy && h.pinged.After(w.lastRead) || lost && time.Since(w.lastRead) >= soon {
			urgent = true
		}
	}
	w.hearing = h.healthy
	return urgent
}

// newlyBad says whether told shows the bad end of a workflow that counts and
// that no reading has shown.
func (w *watch) newlyBad(told woodpecker.Pipeline) bool {
	for _, b := range bad(w.limits.Gate.gated(told.Workflows)) {
		if !slices.ContainsFunc(w.row.Workflows, func(f woodpecker.Workflow) bool { return f.ID == b.ID && f.State.Bad() }) {
			return true
		}
	}
	return false
}

// newlyDone says whether told shows that all of the workflows a narrowed gate
// counts have ended, and no reading has shown that.
func (w *watch) newlyDone(told woodpecker.Pipeline) bool {
	g := w.limits.Gate
	return g.Named() && allEnded(g.gated(told.Workflows)) && !allEnded(g.gated(w.row.Workflows))
}

// wait waits for the next read: again when decide named a time, else by the
// stream or the usual schedule.
func (w *watch) wait(ctx context.Context, again time.Duration) error {
	if again > 0 {
		err := poll.Sleep(ctx, again)
		w.hear()
		return err
	}
	var polled time.Time // when polling alone would read; zero: not asked yet
	for {
		if w.hear() {
			return nil
		}
		due := w.due(&polled)
		if !due.After(time.Now()) {
			return nil
		}
		if ask := w.began.Add(stuckAfter); !w.queued && w.shown.Status == woodpecker.Pending && ask.Before(due) {
			if !ask.After(time.Now()) {
				w.askQueue(ctx)
				continue
			}
			due = ask
		}
		if _, err := poll.Wait(ctx, time.Until(due), w.ears.channel()); err != nil {
			return err
		}
	}
}

// due says when to read next if nothing urgent is heard.
func (w *watch) due(polled *time.Time) time.Time {
	if !w.closing.IsZero() {
		from := w.closing
		if w.lastRead.After(from) {
			from = w.lastRead
		}
		return from.Add(closing(w.closed))
	}
	// A row that vanishes while it is created sends no event.
	if s := w.ears.state(); s.healthy && w.shown.Status != woodpecker.Created {
		if again := s.pinged.Add(afterPing); w.lastRead.Before(again) {
			return again
		}
		return w.lastRead.Add(safety)
	}
	if polled.IsZero() {
		now := time.Now()
		var running time.Duration
		if w.row.Started > 0 {
			running = w.src.Now().Sub(woodpecker.Moment(w.row.Started))
		}
		var d time.Duration
		d, w.cadence = w.cadence.next(now, w.began, w.shown, medianRun(w.history, w.row), running)
		*polled = now.Add(jitter(d))
	}
	return *polled
}

// jitter varies d by ±10 %, so that many watches of one push do not read in
// step.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // spreading load is no secret
}

// count keeps how many readings found every step ended and the pipeline not.
func (w *watch) count(read bool) {
	switch ended := allStepsEnded(w.shown.Workflows) && !w.shown.Status.Ended(); {
	case !ended:
		w.closing, w.closed = time.Time{}, 0
	case w.closing.IsZero():
		w.closing, w.closed = time.Now(), 0
	case read:
		w.closed++
	}
}

// note tells something once.
func (w *watch) note(text string) {
	if text != "" && !w.noted[text] {
		w.noted[text] = true
		w.emit(Note{text})
	}
}

// askQueue asks once why a pipeline has been pending for two minutes. Only
// administrators get an answer; whatever comes, it is no verdict.
func (w *watch) askQueue(ctx context.Context) {
	w.queued = true
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	q, err := w.src.Queue(asking)
	if ctx.Err() == nil {
		w.note(stuck(q, err == nil))
	}
}

// stuck words why a pipeline stays pending, as far as the queue tells.
func stuck(q woodpecker.Queue, known bool) string {
	const head = "pending for 2 min: "
	switch {
	case !known:
		return head + "no agent has taken it, as far as can be told"
	case q.Paused:
		return head + "the server's queue is paused"
	case q.Stats.Workers == 0:
		return head + "no agent is connected"
	case len(q.Pending) > 1:
		return head + count(len(q.Pending)-1, "task") + " ahead or beside it in the queue"
	}
	return head + "no agent has taken it"
}
