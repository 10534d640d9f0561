package woodsim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// entry is one log line with the moments it becomes visible.
type entry struct {
	line    int
	offset  time.Duration // after the log began
	data    []byte        // nil is null
	kind    int
	written time.Time // by the step
	stored  time.Time // found by REST from then on
	sent    time.Time // on the stream from then on
}

// logbook is a step's log. The zero logbook is empty.
type logbook struct {
	n        int
	at       func(i int) entry
	stopped  time.Time // nothing is written from then on; zero: never
	shuffled bool
	lossy    int
	live     bool // still grows, so it is read under the lock only
}

func (l *logbook) stop(t time.Time) { l.stopped = t }

// plannedLog makes a log whose lines are a function of their number, so that a
// huge one costs nothing.
func plannedLog(st *step, p Log, began time.Time, takes time.Duration) logbook {
	l := logbook{shuffled: p.Shuffled, lossy: p.Lossy}
	switch {
	case len(p.Exact) > 0:
		l.n = len(p.Exact)
		l.at = func(i int) entry {
			x := p.Exact[i]
			e := entry{line: i, offset: x.At, kind: x.Type}
			if !x.Null {
				e.data = []byte(x.Data)
			}
			e.written = began.Add(x.At)
			e.stored = began.Add(x.At + p.Delay + x.Delay)
			e.sent = began.Add(x.At + p.Lag + x.Delay)
			return e
		}
	default:
		text := p.Line
		l.n = max(p.Count, 0)
		switch {
		case l.n == 0:
			l.n = len(p.Lines)
			text = func(i int) string { return p.Lines[i] }
		case text == nil:
			text = func(i int) string { return fmt.Sprintf("line %d of step %s", i, st.plan.Name) }
		}
		n := l.n
		l.at = func(i int) entry {
			at := time.Duration(float64(takes) * float64(i) / float64(n))
			return entry{
				line: i, offset: at, data: []byte(text(i)),
				written: began.Add(at), stored: began.Add(at + p.Delay), sent: began.Add(at + p.Lag),
			}
		}
	}
	return l
}

// each goes through the lines the step has written, as far as a stop allows.
func (l *logbook) each(yield func(entry) bool) {
	for i := range l.n {
		e := l.at(i)
		if !l.stopped.IsZero() && e.written.After(l.stopped) {
			return
		}
		if !yield(e) {
			return
		}
	}
}

// found gives the entries that REST shows now, in the order of the answer.
func (l *logbook) found(now time.Time, r *rand.Rand, yield func(entry) bool) {
	if !l.shuffled {
		l.each(func(e entry) bool { return e.stored.After(now) || yield(e) })
		return
	}
	var all []entry
	l.each(func(e entry) bool {
		if !e.stored.After(now) {
			all = append(all, e)
		}
		return true
	})
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, e := range all {
		if !yield(e) {
			return
		}
	}
}

// wire is an entry as sent; id is 0 on the stream.
func (e entry) wire(id, stepID int64) []byte {
	b := fmt.Appendf(nil, `{"id":%d,"step_id":%d,"time":%d,"line":%d,"data":`, id, stepID, int64(e.offset/time.Second), e.line)
	if e.data == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, e.data)
		b = append(b, '"')
	}
	return fmt.Appendf(b, `,"type":%d}`, e.kind)
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("woodsim: %v", err)) // only our own plain types come here
	}
	return b
}
