package artifact

import (
	"slices"
	"time"
)

// mayLook reports whether the source is looked at in the present phase: not
// while the target changes. What comes meanwhile is looked at afterwards.
func (k *core) mayLook() bool {
	switch k.m().Phase {
	case Switching, Probing, RollingBack:
		return false
	case Idle, Offered, Fetching, Verified, Staged, Soaking, Live, RolledBack, Halted:
	}
	// What runs belongs into the first question.
	return k.s.stopped == "" && (!k.s.ObservedAt.IsZero() || k.s.observeFail > 0 || k.m().Attempt != nil)
}

// lookNow begins a look that is due.
func (k *core) lookNow() bool {
	s, m := &k.s, k.m()
	if s.look.op != 0 || !k.mayLook() || !k.due(s.nextLook) || !k.due(s.limited) {
		return false
	}
	q := Query{Seen: m.Seen, Offered: m.Offered, Running: m.Running}
	if n := k.asking(); n >= 0 {
		r := &s.requests[n]
		q.Expect = r.Expect
		if r.Wait > 0 && !r.Detached {
			q.Half = !r.halfway && k.due(r.at.Add(r.Wait/2))
			q.End = !r.ended && k.due(r.deadline())
			r.halfway = r.halfway || q.Half
			if q.End {
				r.ended = true
				r.since = s.op // this look, and no earlier one, is its last
			}
		}
	}
	q.Since = k.since(q.End)
	s.op++
	s.look, s.lookAt = slot{DoLook, s.op}, k.now
	s.asked = q.Expect
	k.out = append(k.out, Effect{Do: DoLook, Op: s.op, Query: q})
	return true
}

// since is how old an answer may be that another watch got: of the second half
// of the wait that ends now, and not older than whoever asked for this look.
func (k *core) since(end bool) time.Time {
	s := &k.s
	if end {
		return k.now
	}
	at := k.now.Add(-firstAge)
	if !s.lookedAt.IsZero() {
		at = k.now.Add(-min(k.now.Sub(s.lookedAt), k.c.Interval) / 2)
	}
	at = later2(at, s.hinted)
	for _, r := range s.requests {
		if !r.looked && r.follows == 0 {
			at = later2(at, r.at)
		}
	}
	return at
}

// asking is which request's expectation the next look names: one at the end
// of its wait first, else each in turn.
func (k *core) asking() int {
	s := &k.s
	var open []int
	for i, r := range s.requests {
		if r.Expect.IsZero() || r.follows != 0 {
			continue
		}
		if !r.Detached && r.Wait > 0 && !r.ended && k.due(r.deadline()) {
			return i
		}
		open = append(open, i)
	}
	if len(open) == 0 {
		return -1
	}
	return open[s.Looks%len(open)]
}

// looked takes what the source answered.
func (k *core) looked(in Input) {
	s, m := &k.s, k.m()
	s.Looks++
	s.lookedOp, s.lookedAt = in.Op, k.now.Add(-in.Age)
	f := FailureOf(in.Err, Transient)
	if f == nil && in.Look.Candidate != nil {
		f = k.unfit(*in.Look.Candidate)
	}
	if f != nil {
		k.notLooked(f)
		return
	}
	k.answers()
	s.fails, s.lookErr, s.Troubled, s.Stale = 0, nil, false, false
	s.LastGood = k.now
	l := in.Look
	s.blind, s.compare = l.Blind, l.Compare
	if l.Missing && !s.missing {
		k.tell(SourceEvent, "", "the build is green, its artifact is not there yet")
	}
	s.missing = l.Missing
	if l.Failing != "" && l.Failing != s.Failing {
		k.tell(SourceEvent, "", "upstream fails: %s", l.Failing)
	}
	s.Failing = l.Failing
	k.offer(l)
	k.warm(l.Hot)
	for i := range s.requests {
		r := &s.requests[i]
		if r.since >= in.Op {
			continue
		}
		r.looked = true
		if r.Expect == s.asked && !r.Expect.IsZero() {
			r.standing, r.reason, r.by = l.Expected, l.Reason, l.By
		}
	}
	if !m.Asked {
		k.write(Line{Op: OpAsked})
	}
	k.schedule(l.Limit)
	k.onceMore()
}

// answers ends what was said of a source that did not.
func (k *core) answers() {
	s := &k.s
	switch {
	case s.Troubled || s.Stale:
		k.tell(RecoveredEvent, "", "the source answers again")
	case s.sourceMute == refusing:
		k.tell(RecoveredEvent, "", "the source answers")
	}
	s.sourceMute = heard
}

// onceMore looks again for a hint that came while the source was being looked
// at: the answer may be older than the hint.
func (k *core) onceMore() {
	if k.s.again && k.mayLook() {
		k.s.again, k.s.nextLook = false, later2(k.now, k.s.hintAt)
	}
}

// unfit is what a source must not offer.
func (k *core) unfit(c Candidate) *Failure {
	if _, err := ParseID(string(c.ID)); err != nil {
		return &Failure{Class: Refused, What: "the source offers " + err.Error(), Err: err}
	}
	if k.c.Kind != "" && c.Kind != k.c.Kind {
		return &Failure{Class: Refused, What: "the source offers a " + string(c.Kind) + ", the target takes a " + string(k.c.Kind)}
	}
	return nil
}

// offer keeps what is on offer. Absence is no change: what was offered stays.
func (k *core) offer(l Look) {
	m := k.m()
	c := l.Candidate
	if m.Running != nil {
		order := max(l.RunningOrder, 0)
		if c != nil && c.ID == m.Running.ID {
			order = max(order, c.Order)
		}
		if order > m.Running.Order {
			k.write(Line{Op: OpOrder, ID: m.Running.ID, Order: order})
		}
	}
	if c == nil || l.Unchanged {
		if l.Seen != m.Seen {
			k.write(Line{Op: OpOffer, Seen: l.Seen})
		}
		return
	}
	if m.Offered != nil && sameOffer(*m.Offered, *c) && l.Seen == m.Seen {
		return
	}
	if m.Offered == nil || m.Offered.ID != c.ID {
		k.tell(SourceEvent, c.ID, "the source offers %s%s", c.ID.Short(), about(*c))
	} else if l.Rebuilt {
		k.tell(NoteEvent, c.ID, "rebuilt identically%s: nothing is restarted", about(*c))
	}
	k.write(Line{Op: OpOffer, ID: c.ID, Candidate: c, Seen: l.Seen})
}

func sameOffer(a, b Candidate) bool {
	made := a.Made.Equal(b.Made)
	a.Made, b.Made = time.Time{}, time.Time{}
	return made && a == b
}

// notLooked takes a look that failed.
func (k *core) notLooked(f *Failure) {
	s := &k.s
	s.Failures++
	if f.Class == Absent {
		// An answer, and believed: nothing is there, which changes nothing.
		if s.lookErr == nil || s.lookErr.Class != Absent {
			k.tell(SourceEvent, "", "%s", f.Error())
		}
		k.answers()
		s.lookErr, s.fails, s.LastGood, s.Stale, s.Troubled = f, 0, k.now, false, false
		k.schedule(f.RetryAfter)
		k.onceMore()
		return
	}
	if f.Class == Refused {
		k.tell(VerifyEvent, "", "refused: %s", f.Error())
	}
	if s.fails++; s.fails == 1 {
		s.failing = k.now
	}
	s.lookErr, s.failedAt = f, k.now
	d := max(k.backoff(s.fails, k.c.Interval), f.RetryAfter)
	if f.Limited {
		if d = max(d, limitedLeast); f.Shared {
			d = f.RetryAfter + time.Duration(k.dice*float64(limitedSpread))
		}
		s.limited = k.now.Add(d)
	} else if soon := k.soon(); soon > 0 && f.RetryAfter == 0 {
		d = min(d, max(soon, retryOnce))
	}
	s.nextLook = k.now.Add(d)
	k.onceMore()
}

// warm notes why looks should be frequent.
func (k *core) warm(cause string) {
	s := &k.s
	found := false
	for i := range s.hot {
		s.hot[i].now = s.hot[i].cause == cause
		found = found || s.hot[i].now
	}
	if cause != "" && !found {
		s.hot = append(s.hot, heat{cause, k.now, true})
		s.hot = s.hot[max(0, len(s.hot)-16):]
	}
}

// hotDelay is how long after since the next frequent look comes; 0: no more.
func (k *core) hotDelay(since time.Time) time.Duration {
	switch d := k.now.Sub(since); {
	case d < hotBrief:
		return hotFirst
	case d < hotMost:
		return hotThen
	}
	return 0
}

// soon is how soon somebody wants the next look; 0 nobody does.
func (k *core) soon() time.Duration {
	var soonest time.Duration
	add := func(d time.Duration) {
		if d > 0 && (soonest == 0 || d < soonest) {
			soonest = d
		}
	}
	for _, h := range k.s.hot {
		if h.now {
			add(k.hotDelay(h.since))
		}
	}
	for _, r := range k.s.requests {
		switch {
		case r.follows != 0 || r.Verb != Hint:
		case r.Detached || r.Expect.IsZero():
			if r.Detached || r.Wait > 0 {
				add(k.hotDelay(r.at))
			}
		case r.Wait == 0 || r.ended:
		case k.now.Sub(r.at) < expectBrief:
			add(expectFirst)
		default:
			add(expectThen)
		}
	}
	return soonest
}

// schedule sets the next look after one that was answered.
func (k *core) schedule(limit time.Duration) {
	s := &k.s
	every := k.c.Interval
	if s.blind {
		every = max(every, blindInterval)
	}
	d := time.Duration(float64(every) * (0.95 + 0.1*k.dice))
	if soon := k.soon(); soon > 0 && !s.blind {
		d = min(d, soon)
	}
	// Watches that share an answer stay together.
	s.nextLook = s.lookedAt.Add(max(d, limit))
	for _, r := range s.requests {
		// The end of a wait has a look of its own.
		if end := r.deadline(); !r.Detached && r.Wait > 0 && !r.Expect.IsZero() && !r.ended && r.follows == 0 && end.Before(s.nextLook) {
			s.nextLook = later2(end, k.now.Add(limit))
		}
	}
}

// hint asks for a look: at once for the first few, then one every two seconds.
// While the target changes it is kept, and looked once afterwards.
func (k *core) hint() {
	s := &k.s
	s.hinted = k.now
	if !k.mayLook() {
		// One that is due already begins after this hint, and answers it.
		s.again = s.again || s.look.op != 0 || !k.due(s.nextLook)
		if s.ObservedAt.IsZero() && k.m().Attempt == nil {
			s.nextObserve = k.now
		}
		return
	}
	if s.hintAt.After(k.now) || s.look.op != 0 && s.again {
		return // a look is coming that answers this one too
	}
	s.tokens = min(hintBurst, s.tokens+float64(k.now.Sub(s.tokensAt))/float64(hintEvery)) - 1
	s.tokensAt, s.hintAt = k.now, k.now
	if s.tokens < 0 {
		s.hintAt = k.now.Add(time.Duration(-s.tokens * float64(hintEvery)))
	}
	if s.look.op != 0 {
		s.again = true // the look under way may have missed it
	} else if s.nextLook.IsZero() || s.hintAt.Before(s.nextLook) {
		s.nextLook = s.hintAt
	}
}

// drop forgets requests.
func (k *core) drop(gone func(Request) bool) {
	k.s.requests = slices.DeleteFunc(k.s.requests, gone)
}
