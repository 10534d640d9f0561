package artifact

import (
	"fmt"
	"time"

	"homelab/pkg/fault"
)

// consider begins a deployment if there is one to begin.
func (k *core) consider() bool {
	s, m := &k.s, k.m()
	if s.ObservedAt.IsZero() {
		return false
	}
	if k.backByHand() {
		return true
	}
	if m.Offered == nil {
		return false
	}
	c := *m.Offered
	how, h := k.judge(c)
	switch how {
	case same:
		s.Hold = nil
		return false
	case held:
		k.hold(c.ID, h)
		return false
	case newer:
	}
	if b := s.blocked; b != nil && b.id == c.ID {
		if !k.due(b.until) {
			k.hold(c.ID, k.blockedBy(b))
			return false
		}
	}
	if s.LastGood.IsZero() {
		return false // it was offered to another process: whether it still is, and can be had, is not known
	}
	by := ByItself
	if m.Permit == c.ID {
		by = ByRetry
	}
	k.begin(c, by)
	return true
}

func (k *core) blockedBy(b *block) Held {
	h := Held{Why: b.fail.Why, Text: b.fail.Error(), Until: b.until}
	switch {
	case b.fail.Class == Owned:
		h.Why = Owner
	case h.Why == "":
		h.Why = Preflight
	}
	return h
}

// begin starts an attempt. It counts only once the switch is made.
func (k *core) begin(c Candidate, by Cause) {
	s, m := &k.s, k.m()
	s.Hold = nil
	a := Attempt{N: m.Attempts + 1, By: by, Candidate: c, Previous: m.Running, Before: s.Observed, Started: k.now.Round(0)}
	if m.Running != nil && m.Running.ID == c.ID {
		a.Previous = nil // nothing to go back to
	}
	for _, r := range s.requests {
		if r.Expect.Is(c) {
			a.Expected = r.Expect.String()
		}
	}
	l := Line{Op: OpIntent, State: Fetching, ID: c.ID, Attempt: a.N, Try: &a}
	if a.Previous != nil {
		l.Previous = a.Previous.ID
	}
	k.resetWork()
	s.warnings = nil
	k.write(l)
	running := "nothing"
	if s.Observed.Sight == Runs {
		running = s.Observed.ID.Short()
	}
	k.tell(CandidateEvent, c.ID, "candidate %s%s; running %s", c.ID.Short(), about(c), running)
	s.step = stepVerify
	if c.Kind == File && (by == ByItself || by == ByRetry) {
		s.step = stepFetch
	}
}

func about(c Candidate) string {
	switch {
	case c.Meta.UUID != "":
		return fmt.Sprintf(" (build %.8s)", c.Meta.UUID)
	case c.Meta.Pipeline != 0:
		return fmt.Sprintf(" (pipeline %d)", c.Meta.Pipeline)
	case c.Meta.Commit != "":
		return fmt.Sprintf(" (commit %.8s)", c.Meta.Commit)
	}
	return ""
}

func (k *core) resetWork() {
	s := &k.s
	s.step, s.stepAt, s.stepFails, s.stepErr = stepNone, time.Time{}, 0, nil
	s.window, s.rounds, s.passes, s.misses, s.blankFrom = time.Time{}, 0, 0, 0, time.Time{}
	s.awaited = ""
	s.refusals, s.activated, s.evidence, s.probes, s.attempts, s.proof = 0, nil, nil, nil, nil, false
}

// overtaken gives an attempt up, while nothing was touched, when the source no
// longer offers it: something newer is there, or it was withdrawn.
func (k *core) overtaken() bool {
	m := k.m()
	a := m.Attempt
	if m.Phase.Begun() || a.By == ByRollback || a.By == ByEnforce || m.Offered == nil || m.Offered.ID == a.Candidate.ID {
		return false
	}
	o := *m.Offered
	how := "overtaken by"
	if _, no := k.older(o); no || m.Running != nil && m.Running.ID == o.ID {
		how = "withdrawn for"
	}
	k.tell(SkippedEvent, a.Candidate.ID, "%s is %s %s", a.Candidate.ID.Short(), how, o.ID.Short())
	k.giveUp(Line{Reason: how + " " + string(o.ID)})
	return true
}

// giveUp ends an attempt before it touched anything.
func (k *core) giveUp(l Line) {
	k.cancel(&k.s.work)
	l.Op, l.State, l.Attempt = OpDone, Idle, k.m().Attempt.N
	k.write(l)
	k.resetWork()
	for i := range k.s.requests {
		k.s.requests[i].follows = 0
	}
}

// act does the next step of an attempt.
func (k *core) act() bool {
	s, m := &k.s, k.m()
	a := m.Attempt
	if !k.due(s.stepAt) {
		return k.outOfTime()
	}
	switch s.step {
	case stepNone, stepFetch:
		k.start(Effect{Do: DoFetch, Switch: k.swap(false)})
	case stepVerify:
		k.start(Effect{Do: DoVerify, Switch: k.swap(false), Prove: a.By == ByItself || a.By == ByRetry})
	case stepStage:
		k.start(Effect{Do: DoStage, Switch: k.swap(false)})
	case stepBaseline:
		if k.c.Baseline == 0 || a.Previous == nil || a.Before.Sight != Runs || k.disarmed() != "" {
			s.step = stepActivate
			return true
		}
		k.start(Effect{Do: DoBaseline, Switch: k.swap(false)})
	case stepActivate:
		return k.activate()
	case stepRecover, stepBefore, stepAfter, stepSoakEnd, stepAfterBack:
		k.observe()
	case stepProbe, stepSoak:
		if k.outOfTime() {
			return true
		}
		k.start(Effect{Do: DoProbe, Switch: k.swap(false)})
	case stepProbeBack:
		if k.outOfTime() {
			return true
		}
		k.start(Effect{Do: DoProbe, Switch: k.swap(true)})
	case stepBack:
		k.start(Effect{Do: DoRollback, Switch: k.swap(true)})
	}
	return true
}

// swap is the switch of the present attempt, or the way back from it.
func (k *core) swap(back bool) Switch {
	a := k.m().Attempt
	w := Switch{
		Watch: k.c.Name, Run: k.c.Run, Attempt: a.N, Deadline: k.now.Add(k.c.ActivateTimeout),
		To: a.Candidate, From: a.Previous, Back: back || a.By == ByRollback,
		TakeOwnership: k.c.TakeOwnership, AllowRepositoryChange: k.c.AllowRepositoryChange,
		NoRollback: k.c.NoRollback || a.By == ByRollback || a.By == ByEnforce, Compare: k.s.compare,
	}
	if a.Previous == nil && a.Before.Is(k.m().Left) {
		w.NoRollback = true // nobody wants that back
	}
	if a.Previous == nil && a.Before.Sight == Runs {
		w.From = &Version{Candidate: Candidate{ID: a.Before.ID, Kind: a.Candidate.Kind, Ref: a.Before.Ref}}
	}
	if back && a.Previous != nil {
		w.To, w.From = a.Previous.Candidate, &Version{Candidate: a.Candidate}
	}
	return w
}

// disarmed is why a failure of the present attempt is not rolled back.
func (k *core) disarmed() string {
	switch a := k.m().Attempt; {
	case a.Disarmed != "":
		return a.Disarmed
	case k.c.NoRollback:
		return "rollback is switched off"
	case a.By == ByRollback:
		return "it is a rollback by hand itself, and one step back is all"
	case a.By == ByEnforce:
		return "what somebody else put there is not kept"
	}
	return ""
}

// again repeats the present step later.
func (k *core) again(f *Failure, base time.Duration) {
	s := &k.s
	s.stepFails++
	s.stepErr = f
	d := k.backoff(s.stepFails, base)
	s.stepAt = k.now.Add(max(d, f.RetryAfter))
	if f.Limited && !f.Shared {
		s.stepAt = later2(s.stepAt, k.now.Add(limitedLeast))
	}
	if s.stepFails == 2 {
		k.tell(TroubleEvent, k.m().Attempt.Candidate.ID, "%s: %s", k.m().Phase, f.Error())
	}
}

// notTaken tries an activation again that changed nothing. What comes before
// it works, so that its failures are counted apart.
func (k *core) notTaken(f *Failure) {
	s := &k.s
	s.refusals++
	s.stepFails, s.stepErr = 1, f
	s.stepAt = k.now.Add(max(k.backoff(s.refusals, k.c.Interval), f.RetryAfter))
}

// next goes on to a step.
func (k *core) next(st step) {
	s := &k.s
	if s.stepFails >= 2 {
		k.tell(RecoveredEvent, "", "going on")
	}
	s.step, s.stepAt, s.stepFails, s.stepErr = st, time.Time{}, 0, nil
}

// block gives an attempt up because of something at the target or the store
// that may pass. Nothing was changed.
func (k *core) block(f *Failure) {
	s, id := &k.s, k.m().Attempt.Candidate.ID
	times := 1
	if s.blocked != nil && s.blocked.id == id {
		times = s.blocked.times + 1
	}
	wait := heldAgain
	for range min(times-1, 4) {
		wait *= 2
	}
	by := k.m().Attempt.By
	k.giveUp(Line{Reason: f.Error()})
	b := &block{id: id, fail: f, times: times, until: k.now.Add(max(min(wait, backoffMost), f.RetryAfter))}
	s.blocked = b
	k.hold(id, k.blockedBy(b))
	if by == ByRollback || by == ByEnforce {
		k.refuseVerb(f)
	}
}

// worked takes the end of a deployment's effect, or of an observation or a
// check while nothing is in progress.
func (k *core) worked(do Do, in Input) {
	a := k.m().Attempt
	switch do {
	case DoCheck:
		k.checked(in)
		return
	case DoObserve:
		if a == nil {
			if f := FailureOf(in.Err, Transient); f != nil {
				s := &k.s
				s.observeFail++
				s.observeErr = f
				s.nextObserve = k.now.Add(k.backoff(s.observeFail, k.c.Interval))
				return
			}
			k.observed(in.Observation)
			return
		}
	case DoFetch, DoVerify, DoStage, DoBaseline, DoActivate, DoProbe, DoRollback,
		DoLook, Write, Tell, Reply, Cancel, Discard, Prune, After, End:
	}
	if a == nil {
		return
	}
	switch k.s.step {
	case stepNone, stepFetch:
		k.fetched(FailureOf(in.Err, Transient))
	case stepVerify:
		k.verified(in.Proofs, FailureOf(in.Err, Refused))
	case stepStage:
		k.staged(in.Stage, FailureOf(in.Err, Transient))
	case stepBefore:
		k.before(in.Observation, FailureOf(in.Err, Transient))
	case stepBaseline:
		for _, p := range in.Probes {
			if !p.OK {
				k.write(Line{Op: OpDisarm, Reason: "the service was failing before the switch: " + p.Probe})
				k.warn("%s fails before the switch: a failure afterwards is not rolled back", p.Probe)
				break
			}
		}
		k.next(stepActivate)
	case stepActivate:
		k.s.evidence = capped(in.Evidence)
		k.taken(FailureOf(in.Err, Failed))
	case stepRecover:
		k.recovered(in.Observation, FailureOf(in.Err, Transient))
	case stepAfter:
		k.after(in.Observation, FailureOf(in.Err, Transient))
	case stepProbe, stepSoak:
		k.probed(in, FailureOf(in.Err, Transient))
	case stepSoakEnd:
		k.soakEnd(in.Observation, FailureOf(in.Err, Transient))
	case stepBack:
		if f := FailureOf(in.Err, Failed); f != nil {
			k.tell(RollbackEvent, "", "the way back reported: %s", f.Error())
		}
		k.s.activated = FailureOf(in.Err, Failed)
		k.s.evidence = capped(in.Evidence)
		k.next(stepAfterBack)
		k.s.window = k.now
	case stepAfterBack:
		k.afterBack(in.Observation, FailureOf(in.Err, Transient))
	case stepProbeBack:
		k.probedBack(in, FailureOf(in.Err, Transient))
	}
}

// capped keeps evidence from growing.
func capped(lines []string) []string {
	lines = lines[max(0, len(lines)-evidenceItems):]
	kept := make([]string, 0, len(lines))
	for _, l := range lines {
		kept = append(kept, l[max(0, len(l)-evidenceSize):])
	}
	return kept
}

func (k *core) fetched(f *Failure) {
	if f == nil {
		k.tell(FetchEvent, k.m().Attempt.Candidate.ID, "fetched")
		k.next(stepVerify)
		return
	}
	switch f.Class {
	case Transient, Absent, Failed, Later:
		// A body cut short, or an artifact that is not there any more: the next
		// look tells.
		k.again(f, k.c.Interval)
	case Refused:
		k.refuse(f)
	case Denied, Hold, Owned:
		k.block(f)
	}
}

func (k *core) verified(p Proofs, f *Failure) {
	a := k.m().Attempt
	if f == nil {
		p.Hash = true // nothing else is taken
		k.write(Line{Op: OpDone, State: Verified, ID: a.Candidate.ID, Attempt: a.N, Proofs: &p})
		k.tell(VerifyEvent, a.Candidate.ID, "verified%s", p.more())
		k.next(stepStage)
		return
	}
	switch f.Class {
	case Refused, Failed:
		if a.By == ByRollback || a.By == ByEnforce {
			k.block(&Failure{Class: Hold, Why: NoWayBack, What: a.Candidate.ID.Short() + " is not whole in the store: " + f.Error()})
			return
		}
		k.refuse(f)
	case Absent:
		if a.Candidate.Kind == File && (a.By == ByItself || a.By == ByRetry) {
			k.next(stepFetch)
			return
		}
		k.block(f)
	case Transient, Later:
		k.again(f, k.c.Interval)
	case Hold:
		if f.Why == Unreproduced {
			k.unreproduced(f)
			return
		}
		k.block(f)
	case Denied, Owned:
		k.block(f)
	}
}

// unreproduced waits for others to build the candidate too: they began when its
// source did, or later. When their time is over it is held, and asked about
// less often.
func (k *core) unreproduced(f *Failure) {
	s, m := &k.s, k.m()
	since := m.Attempt.Started
	if m.Offered != nil && m.Offered.ID == m.Attempt.Candidate.ID && !m.OfferedAt.IsZero() {
		since = m.OfferedAt
	}
	left := k.c.ReproduceWait - k.now.Round(0).Sub(since)
	if left <= 0 {
		k.block(f)
		return
	}
	if s.awaited != f.Error() {
		s.awaited = f.Error()
		k.tell(VerifyEvent, m.Attempt.Candidate.ID, "waiting until %s: %s", k.now.Round(0).Add(left).Format(time.RFC3339), f.Error())
	}
	s.stepAt = k.now.Add(min(left, k.c.Interval))
}

// refuse quarantines a candidate that is not what was announced. Nothing was
// touched.
func (k *core) refuse(f *Failure) {
	a := *k.m().Attempt
	k.tell(VerifyEvent, a.Candidate.ID, "refused: %s", f.Error())
	k.out = append(k.out, Effect{Do: Discard, ID: a.Candidate.ID})
	k.finish(Line{State: Idle, ID: a.Candidate.ID, Reason: f.Error()}, Outcome{Kind: fault.Failed, Reason: a.Candidate.ID.Short() + " was refused, nothing was changed: " + f.Error()})
}

func (k *core) staged(st Stage, f *Failure) {
	a := k.m().Attempt
	if f != nil {
		switch f.Class {
		case Transient, Later:
			k.again(f, k.c.Interval)
		case Refused:
			k.refuse(f)
		case Absent, Denied, Hold, Owned, Failed:
			k.block(f)
		}
		return
	}
	for _, w := range st.Warnings {
		k.warn("%s", w)
	}
	if st.Owner != "" {
		k.warn("%s owned it until now, and may take it back", st.Owner)
	}
	k.write(Line{Op: OpDone, State: Staged, ID: a.Candidate.ID, Attempt: a.N})
	k.s.blocked = nil
	k.next(stepBefore)
}

// before makes sure that what is replaced is what was decided about.
func (k *core) before(o Observation, f *Failure) {
	a := k.m().Attempt
	switch {
	case f != nil && (f.Class == Denied || f.Class == Absent):
		k.block(f)
	case f != nil:
		k.again(f, k.c.Interval)
	case k.c.Blind && o.Sight == Unknown:
		k.next(stepBaseline)
	case o.Sight == Unknown:
		k.again(&Failure{Class: Transient, What: "the target cannot tell what it runs"}, k.c.Interval)
	case o.Sight != a.Before.Sight || o.ID != a.Before.ID:
		k.giveUp(Line{Reason: "somebody changed what runs meanwhile"})
		k.observed(o)
	default:
		k.s.Observed, k.s.ObservedAt = o, k.now
		k.next(stepBaseline)
	}
}

// activate makes the switch, if it is still allowed.
func (k *core) activate() bool {
	s, m := &k.s, k.m()
	a := m.Attempt
	first := m.Phase != Switching // else the same attempt is finished
	if first && (a.By == ByItself || a.By == ByRetry) {
		if how, h := k.judge(a.Candidate); how != newer {
			k.giveUp(Line{Reason: h.Text})
			if how == held {
				k.hold(a.Candidate.ID, h)
			}
			return true
		}
	}
	if first && a.By == ByEnforce && m.Pause != nil {
		k.giveUp(Line{Reason: "paused"})
		return true
	}
	if first && k.c.AllowDowngrade {
		s.downs = with(s.downs, a.Candidate.ID)
	}
	before := a.Before
	l := Line{Op: OpIntent, State: Switching, ID: a.Candidate.ID, Attempt: a.N, Reason: k.disarmed(), Observation: &before}
	way := "no way back"
	if a.Previous != nil {
		l.Previous = a.Previous.ID
		way = a.Previous.ID.Short() + " kept as way back"
	}
	k.write(l)
	k.tell(StateEvent, a.Candidate.ID, "switching, %s", way)
	if first && s.Observed.Is(a.Candidate.ID) {
		// A retry of what runs already, after a halt: the probes decide.
		k.begunProbing()
		return true
	}
	k.start(Effect{Do: DoActivate, Switch: k.swap(false)})
	return true
}

// taken is the end of Activate.
func (k *core) taken(f *Failure) {
	a := k.m().Attempt
	if f != nil && (f.Class == Later || f.Class == Owned || f.Class == Hold || f.Class == Absent || f.Class == Denied) {
		k.write(Line{Op: OpLater, ID: a.Candidate.ID, Attempt: a.N, Reason: f.Error()})
		if f.Class != Later {
			k.block(f)
			return
		}
		k.tell(HookEvent, a.Candidate.ID, "not now, nothing was changed: %s", f.Error())
		k.s.step = stepVerify
		k.notTaken(f)
		return
	}
	if f != nil {
		k.tell(HookEvent, a.Candidate.ID, "activating reported: %s", f.Error())
	}
	k.next(stepAfter)
	k.s.activated, k.s.window, k.s.rounds, k.s.blankFrom = f, k.now, 0, time.Time{}
}
