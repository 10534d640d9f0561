package pipeline

import (
	"cmp"
	"slices"
	"time"

	"homelab/pkg/woodpecker"
)

// cadence says how long to wait before the next reading when no event stream
// helps: often while an end is likely, seldom otherwise, with a bucket that
// keeps the average low whatever happens. It is a value; next returns the
// wait and the cadence after it.
type cadence struct {
	tokens float64   // readings that may be spent
	at     time.Time // when tokens was counted
}

const (
	soon       = 2 * time.Second
	later      = 10 * time.Second
	refill     = 7 * time.Second // one more reading every so often
	firstReads = 25
	mostReads  = 60
	watchStart = 30 * time.Second // an end is likely this long after the start
)

func newCadence(now time.Time) cadence { return cadence{tokens: firstReads, at: now} }

// next spends a reading. started is when the watch of this row began, median
// the usual duration of such runs (0: unknown), ran the time this one has been
// running.
func (c cadence) next(now, started time.Time, row woodpecker.Pipeline, median, ran time.Duration) (time.Duration, cadence) {
	c.tokens = min(mostReads, c.tokens+float64(now.Sub(c.at))/float64(refill))
	c.at = now
	c.tokens--
	likely := now.Sub(started) < watchStart || nothingWaits(row) || usual(median, ran)
	switch {
	case !likely:
		return later, c
	case c.tokens < 0:
		return refill, c // what it waits for is spent already
	}
	return soon, c
}

// usual says whether runs like this one tend to end about now.
func usual(median, ran time.Duration) bool {
	return median > 0 && float64(ran) >= 0.8*float64(median) && float64(ran) <= 1.25*float64(median)
}

// nothingWaits says whether all that is left of a tree is running already.
func nothingWaits(row woodpecker.Pipeline) bool {
	if len(row.Workflows) == 0 {
		return false
	}
	for _, w := range row.Workflows {
		if !w.State.Ended() && w.State != woodpecker.Running {
			return false
		}
		for _, s := range w.Steps {
			if !w.State.Ended() && !s.State.Ended() && s.State != woodpecker.Running {
				return false
			}
		}
	}
	return true
}

// medianRun returns the median duration of up to five green rows of that event
// and branch; 0 when there are none.
func medianRun(rows []woodpecker.Pipeline, like woodpecker.Pipeline) time.Duration {
	var all []time.Duration
	for _, r := range rows {
		if r.Status == woodpecker.Success && r.Event == like.Event && r.Branch == like.Branch && ran(r) > 0 && len(all) < 5 {
			all = append(all, ran(r))
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.SortFunc(all, cmp.Compare[time.Duration])
	return all[len(all)/2]
}

// closing is how soon to read once every step has ended but the pipeline has
// not: the server still tells the forge. After these the usual wait holds.
func closing(i int) time.Duration {
	waits := []time.Duration{150 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, later}
	return waits[min(i, len(waits)-1)]
}
