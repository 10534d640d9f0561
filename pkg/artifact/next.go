package artifact

import (
	"slices"
	"time"

	"homelab/pkg/fault"
)

// take notes what happened; advance acts on it.
func (k *core) take(in Input) {
	s := &k.s
	if s.began.IsZero() {
		s.began, s.nextLook, s.nextObserve = k.now, k.now.Add(k.c.FirstLook), k.now
		s.tokens, s.tokensAt = hintBurst, k.now
		if k.m().Attempt != nil {
			s.step, s.window = stepRecover, k.now
		}
		if held, ok := k.standing(); ok {
			k.tell(HeldEvent, "", "this watch deploys nothing for now: %s", held.Text)
		}
	}
	if o := &in.Observation; o.Sight != Nothing && (o.Sight != Runs || o.ID == "") {
		o.Sight, o.ID = Unknown, "" // something without a name is not known
	}
	switch in.What {
	case Begin, Tick:
	case Result:
		k.result(in)
	case Saw:
		k.saw(in.Observation)
	case Ask:
		k.ask(in.Request)
	case Left:
		s.requests = slices.DeleteFunc(s.requests, func(r Request) bool { return r.ID == in.Request.ID })
	case Stop:
		k.stop(in.Kind)
	case LostLock:
		k.end(Outcome{Kind: fault.Conflict, Reason: "another process took over this watch; nothing more is done here"})
	}
}

// stop ends the process. A side effect that runs is given its grace, because
// its end decides what the next start finds; everything else the journal knows.
func (k *core) stop(kind fault.Kind) {
	if kind == "" {
		kind = fault.Interrupted
	}
	running := k.s.work.op != 0 && (k.s.work.do == DoActivate || k.s.work.do == DoRollback)
	if running && k.s.stopped == "" && k.c.Grace > 0 {
		k.s.stopped, k.s.stopAt = kind, k.now.Add(k.c.Grace)
		k.tell(NoteEvent, "", "stopping: what was begun has %s to end. %s", k.c.Grace, NextStart(k.s.Memory, *k.c))
		return
	}
	k.end(Outcome{Kind: kind, Reason: "stopped. " + NextStart(k.s.Memory, *k.c)})
}

// end answers everybody and ends the loop.
func (k *core) end(o Outcome) {
	if k.s.Over {
		return
	}
	o = k.fill(o)
	for _, r := range k.s.requests {
		if !r.Detached {
			k.out = append(k.out, Effect{Do: Reply, Request: r.ID, Outcome: o})
		}
	}
	k.s.requests = nil
	k.cancel(&k.s.work)
	k.cancel(&k.s.look)
	k.out = append(k.out, Effect{Do: End, Outcome: o})
	k.s.Over = true
}

func (k *core) cancel(sl *slot) {
	if sl.op != 0 {
		k.out = append(k.out, Effect{Do: Cancel, Op: sl.op})
		*sl = slot{}
	}
}

func (k *core) result(in Input) {
	switch in.Op {
	case 0:
	case k.s.look.op:
		k.s.look = slot{}
		k.looked(in)
	case k.s.work.op:
		do := k.s.work.do
		k.s.work = slot{}
		k.worked(do, in)
	}
}

// advance does the first thing that is due and reports whether there was one.
func (k *core) advance() bool {
	s, m := &k.s, k.m()
	if s.stopped != "" {
		if s.work.op == 0 || k.due(s.stopAt) {
			k.end(Outcome{Kind: s.stopped, Reason: "stopped. " + NextStart(s.Memory, *k.c)})
		}
		return false
	}
	if k.c.Timeout > 0 && k.due(s.began.Add(k.c.Timeout)) && k.timeUp() {
		return true
	}
	if p := m.Pause; p != nil && !p.Until.IsZero() && !k.now.Round(0).Before(p.Until) {
		k.write(Line{Op: OpPause, Reason: "the pause is over"})
		k.tell(NoteEvent, "", "the pause is over")
		return true
	}
	k.alarms()
	if s.work.op == 0 {
		if m.Attempt != nil {
			if k.overtaken() || k.act() {
				return true
			}
		} else if k.consider() {
			return true
		}
	}
	if k.answer() {
		return true
	}
	if s.work.op == 0 && m.Attempt == nil && k.due(s.nextObserve) {
		k.observe()
		return true
	}
	return k.lookNow()
}

// timeUp acts on --timeout: nothing was changed, or it counts as a failed probe.
func (k *core) timeUp() bool {
	p := k.m().Phase
	if !p.Begun() {
		k.end(Outcome{Kind: fault.Timeout, Reason: "time is up; nothing was changed"})
		return true
	}
	if (p == Probing || p == Soaking) && k.s.step != stepRecover && k.m().Attempt != nil {
		k.cancel(&k.s.work)
		k.fail("time was up before it had proved itself")
		return true
	}
	return false // a side effect runs, or the way back is being taken
}

// alarms says once that the source cannot be asked, and since when. Between
// looks it may have come back, so the last word has a look of that time.
func (k *core) alarms() {
	s := &k.s
	k.unheard()
	if !s.Troubled && s.fails >= troubleLooks && k.lastWord(s.failing.Add(troubleAfter)) {
		s.Troubled = true
		k.tell(TroubleEvent, "", "the source cannot be asked: %s", s.lookErr.Error())
	}
	if !s.Stale && k.c.StaleAfter > 0 && k.lastWord(k.staleAt()) {
		s.Stale = true
		k.tell(TroubleEvent, "", "no answer from the source for %s", k.c.StaleAfter)
	}
}

// unheard says at the start, when somebody may be looking on, whom nothing was
// heard of yet. Later a failure or two are no news.
func (k *core) unheard() {
	s := &k.s
	if k.m().Attempt != nil {
		return // what is in progress says so itself
	}
	switch waiting := s.work.do == DoObserve && k.due(s.began.Add(unheardAfter)); {
	case s.targetMute == heard || !s.ObservedAt.IsZero():
		s.targetMute = heard
	case s.observeFail >= 2 && s.targetMute != refusing:
		s.targetMute = refusing
		k.tell(TroubleEvent, "", "the target cannot be asked: %s", s.observeErr.Error())
	case s.observeFail == 0 && waiting && s.targetMute == unheardOf:
		s.targetMute = waitedFor
		k.tell(NoteEvent, "", "the target has not answered yet")
	}
	switch waiting := s.look.op != 0 && k.due(s.lookAt.Add(unheardAfter)); {
	case s.sourceMute == heard || s.lookErr != nil && s.lookErr.Class == Refused:
	case s.fails >= 2 && s.sourceMute != refusing:
		s.sourceMute = refusing
		k.tell(TroubleEvent, "", "the source cannot be asked: %s", s.lookErr.Error())
	case s.fails == 0 && waiting && s.sourceMute == unheardOf:
		s.sourceMute = waitedFor
		k.tell(NoteEvent, "", "the source has not answered yet")
	}
}

// lastWord reports whether t has come and the source has had its chance since:
// a look that failed, or none because it allows none.
func (k *core) lastWord(t time.Time) bool {
	s := &k.s
	switch {
	case !k.due(t):
		return false
	case !s.failedAt.Before(t), !k.due(s.limited):
		return true
	case s.look.op == 0 && k.mayLook():
		s.nextLook = k.now
	}
	return false
}

// staleAt is when the last good look is too long ago. A source that is asked
// seldom, because each question costs a whole artifact, is given two.
func (k *core) staleAt() time.Time {
	after := k.c.StaleAfter
	if k.s.blind {
		after = max(after, 2*blindInterval)
	}
	return k.freshest().Add(after)
}

// observe asks what the target runs.
func (k *core) observe() { k.start(Effect{Do: DoObserve, Known: k.known()}) }

// known is every id the target could be found to run.
func (k *core) known() []ID {
	m := k.m()
	var ids []ID
	add := func(id ID) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if m.Attempt != nil {
		add(m.Attempt.Candidate.ID)
	}
	for _, v := range []*Version{m.Running, m.Previous} {
		if v != nil {
			add(v.ID)
		}
	}
	if m.Offered != nil {
		add(m.Offered.ID)
	}
	for _, v := range m.Kept {
		add(v.ID)
	}
	return ids
}

// backoff is the delay after failure n in a row, from 1: a single one is
// repeated soon; then full jitter, doubling from base to a quarter of an hour.
func (k *core) backoff(n int, base time.Duration) time.Duration {
	if n <= 1 {
		return retryOnce
	}
	most := max(base, retryOnce)
	for range n - 2 {
		if most >= backoffMost {
			break
		}
		most *= 2
	}
	return max(retryOnce, time.Duration(k.dice*float64(min(most, backoffMost))))
}

// saw is an observation nobody asked for.
func (k *core) saw(o Observation) {
	m := k.m()
	switch {
	case k.s.work.do == DoObserve, k.s.step == stepRecover:
		// The one that was asked for decides.
	case m.Attempt == nil:
		k.observed(o)
	case m.Phase == Soaking && o.Sight != Unknown && !o.Is(m.Attempt.Candidate.ID):
		k.cancel(&k.s.work)
		k.displaced(o)
	}
}

// observed judges what the target runs while nothing is in progress.
func (k *core) observed(o Observation) {
	s, m := &k.s, k.m()
	s.observeErr = nil
	if o.Sight == Unknown && !k.c.Blind {
		s.observeFail++
		s.nextObserve = k.now.Add(k.backoff(s.observeFail, k.c.Interval))
		s.observeErr = &Failure{Class: Transient, What: "the target cannot tell what it runs"}
		if o.Why != "" {
			s.observeErr.What += ": " + o.Why
		}
		return
	}
	s.observeFail, s.nextObserve = 0, k.now.Add(observeEvery)
	s.Observed, s.ObservedAt = o, k.now
	if s.targetMute == refusing {
		k.tell(RecoveredEvent, "", "the target answers")
	}
	s.targetMute = heard
	switch {
	case o.Sight == Unknown || m.Halt != "" || m.Contended != "" || m.Offered != nil && m.Permit == m.Offered.ID:
		// Memory is all there is, or a person has the matter in hand.
	case !m.Known:
		k.adopt(o, "found running")
		if m.Running == nil {
			k.tell(NoteEvent, "", "nothing runs yet: the first version will have no way back")
		}
	case m.Running != nil && o.Is(m.Running.ID) || m.Running == nil && o.Sight == Nothing || o.Is(m.Left):
		if m.Drift != nil {
			k.write(Line{Op: OpDrift})
			k.tell(RecoveredEvent, o.ID, "the target runs %s again", o)
		}
	default:
		k.drifted(o)
	}
}

// adopt takes what runs for right.
func (k *core) adopt(o Observation, how string) {
	m := k.m()
	if o.Sight != Runs {
		k.write(Line{Op: OpRuns})
		return
	}
	v := Version{Candidate: Candidate{ID: o.ID, Kind: k.c.Kind, Ref: o.Ref, Meta: Meta{Commit: o.Commit}}, Since: k.now.Round(0)}
	if m.Offered != nil && m.Offered.ID == o.ID {
		v.Candidate = *m.Offered
	}
	for _, old := range m.Kept {
		if old.ID == o.ID {
			v.Candidate = old.Candidate
		}
	}
	k.write(Line{Op: OpRuns, ID: o.ID, Version: &v})
	k.tell(NoteEvent, o.ID, "%s: %s", how, o)
}

// drifted acts on somebody else's change.
func (k *core) drifted(o Observation) {
	m := k.m()
	if m.Drift != nil && *m.Drift == o && k.c.OnDrift == HoldDrift {
		return
	}
	ran := "nothing"
	if m.Running != nil {
		ran = m.Running.ID.Short()
	}
	switch k.c.OnDrift {
	case AdoptDrift:
		k.adopt(o, "somebody changed what runs, adopted")
		return
	case EnforceDrift:
		switch {
		case m.Enforced >= 2:
			who := o.Owner
			if who == "" {
				who = "somebody"
			}
			k.write(Line{Op: OpContended, Reason: who + " changes what runs again and again"})
			k.tell(TroubleEvent, o.ID, "contended: %s", k.m().Contended)
			return
		case m.Running != nil && m.Pause == nil:
			k.tell(NoteEvent, o.ID, "somebody made the target run %s; going back to %s", o, ran)
			k.begin(m.Running.Candidate, ByEnforce)
			return
		}
	case HoldDrift:
	}
	if m.Drift == nil || *m.Drift != o {
		k.write(Line{Op: OpDrift, ID: o.ID, Observation: &o})
		k.tell(HeldEvent, o.ID, "drifted: the target runs %s and not %s; somebody acted", o, ran)
	}
}
