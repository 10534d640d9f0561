package artifact

import (
	"fmt"
	"slices"
	"time"

	"homelab/pkg/fault"
)

// begunProbing enters probing: the target was seen to run the candidate.
func (k *core) begunProbing() {
	a := k.m().Attempt
	if k.m().Phase != Probing {
		k.write(Line{Op: OpDone, State: Probing, ID: a.Candidate.ID, Attempt: a.N})
	}
	k.s.Observed, k.s.ObservedAt = Observation{Sight: Runs, ID: a.Candidate.ID}, k.now
	k.probeFrom(stepProbe)
}

// probeFrom begins a window of probes.
func (k *core) probeFrom(st step) {
	k.next(st)
	s := &k.s
	s.window, s.rounds, s.passes, s.misses, s.blankFrom = k.now, 0, 0, 0, time.Time{}
	s.attempts, s.probes, s.proof = nil, nil, false
	s.stepAt = k.now.Add(probeFirst)
}

// after judges what the target runs after Activate.
func (k *core) after(o Observation, f *Failure) {
	s, a := &k.s, k.m().Attempt
	id := a.Candidate.ID
	if f != nil {
		k.blank(f)
		return
	}
	s.blankFrom = time.Time{}
	untouched := o.Sight == a.Before.Sight && o.ID == a.Before.ID && o.Sight != Unknown
	switch {
	case o.Is(id), o.Sight == Unknown && k.c.Blind && s.activated == nil:
		k.begunProbing()
	case untouched && s.activated != nil && s.activated.Class == Transient && k.c.Idempotent:
		// It was not taken: the same attempt once more.
		k.s.step = stepActivate
		k.notTaken(s.activated)
	case untouched && (s.activated != nil || k.due(s.window.Add(liarGrace))):
		why := "the target took it and still runs " + o.String()
		if s.activated != nil {
			why = s.activated.Error()
		}
		k.finish(Line{State: Idle, ID: id, Reason: why, Evidence: s.evidence},
			Outcome{Kind: fault.Failed, Reason: id.Short() + " could not be activated, nothing was changed: " + why})
	case o.Sight == Runs && o.Owner != "" && !untouched:
		k.displaced(o)
	case s.activated != nil:
		k.fail(fmt.Sprintf("activating failed (%s) and the target runs %s", s.activated.Error(), o))
	case o.Sight == Unknown && !k.due(s.window.Add(k.c.ReadyTimeout)), !k.due(s.window.Add(liarGrace)):
		s.rounds++
		s.stepAt = k.now.Add(probeDelay(s.rounds))
	default:
		k.fail(fmt.Sprintf("the target was to run %s and runs %s", id.Short(), o))
	}
}

// blank is a look after the switch that told nothing: it is repeated, and
// nothing is rolled back on an unknown. A single run ends when it has lasted
// as long as a start may; its state is kept.
func (k *core) blank(f *Failure) {
	s := &k.s
	s.rounds++
	s.stepAt = k.now.Add(max(probeDelay(s.rounds), f.RetryAfter))
	if s.blankFrom.IsZero() {
		s.blankFrom = k.now
	}
	s.stepErr = f
	switch f.Class {
	case Denied:
		k.park(fault.Denied, f)
	case Absent:
		k.gone(f.Error())
	case Transient, Refused, Hold, Later, Owned, Failed:
		if k.due(s.blankFrom.Add(k.c.ReadyTimeout)) {
			k.park(fault.Unreachable, f)
		}
	}
}

// park answers those who wait and goes on waiting itself; a single run ends,
// and the next start resumes.
func (k *core) park(kind fault.Kind, f *Failure) {
	k.replyAll(func(r Request) bool { return r.follows != 0 }, Outcome{
		Kind: kind, Reason: f.Error() + ". " + NextStart(k.s.Memory, *k.c),
	})
}

// gone ends an attempt whose workload was deleted.
func (k *core) gone(why string) {
	id := k.m().Attempt.Candidate.ID
	k.finish(Line{State: Idle, ID: id, Reason: why}, Outcome{Kind: fault.Absent, Reason: "the workload is gone: " + why})
	k.s.nextObserve = k.now
}

// displaced ends an attempt because somebody else replaced it. Nothing more is
// written.
func (k *core) displaced(o Observation) {
	a := *k.m().Attempt
	if o.Owner != "" {
		why := fmt.Sprintf("%s changed what runs to %s", o.Owner, o)
		k.finish(Line{State: Idle, ID: a.Candidate.ID, Reason: why, Contended: true},
			Outcome{Kind: fault.Conflict, Owner: o.Owner, Reason: "contended: " + why + "; nothing more is written"})
		return
	}
	k.write(Line{Op: OpDrift, ID: o.ID, Observation: &o})
	k.finish(Line{State: Idle, ID: a.Candidate.ID, Reason: "somebody else made the target run " + o.String()},
		Outcome{Kind: fault.Held, Why: Drifted, Reason: "drifted: somebody made the target run " + o.String() + "; it is left alone"})
	k.s.Observed, k.s.ObservedAt = o, k.now
}

// outOfTime ends a window of probes whose time is over.
func (k *core) outOfTime() bool {
	s := &k.s
	if !s.blankFrom.IsZero() || !k.due(s.window.Add(k.c.ReadyTimeout)) {
		return false
	}
	switch s.step {
	case stepProbe:
		k.fail("the probes did not pass three times in a row within " + k.c.ReadyTimeout.String() + k.lastBad())
		return true
	case stepProbeBack:
		k.halt("the version gone back to did not prove itself within " + k.c.ReadyTimeout.String() + k.lastBad())
		return true
	case stepNone, stepRecover, stepFetch, stepVerify, stepStage, stepBefore, stepBaseline, stepActivate,
		stepAfter, stepSoak, stepSoakEnd, stepBack, stepAfterBack:
	}
	return false
}

// lastBad is what the last failing probe said.
func (k *core) lastBad() string {
	for _, p := range k.s.probes {
		if !p.OK {
			return ": " + p.Probe + " " + p.Detail
		}
	}
	if k.s.stepErr != nil {
		return ": " + k.s.stepErr.Error()
	}
	return ""
}

// round notes one round of probes and reports whether it passed.
func (k *core) round(in Input) bool {
	s := &k.s
	s.rounds++
	s.probes = slices.Clone(in.Probes)
	counts := make(map[string]int, len(in.Probes))
	ok := in.Ready.State == IsReady
	for i := range s.probes {
		p := &s.probes[i]
		counts[p.Probe] = s.attempts[p.Probe] + 1
		p.Attempts = counts[p.Probe]
		ok = ok && p.OK
	}
	s.attempts = counts
	s.proof = s.proof || in.Ready.Proof
	s.stepErr = nil
	if in.Ready.State != IsReady {
		s.stepErr = &Failure{Class: Transient, What: in.Ready.Reason}
	}
	if len(in.Ready.Evidence) > 0 {
		s.evidence = capped(in.Ready.Evidence)
	}
	return ok
}

// answered takes what the target says of itself in a round of probes, and
// reports whether the round can be judged. It cannot if the target told
// nothing, or if what it told decides by itself: gone and dead end that.
func (k *core) answered(in Input, f *Failure, gone, dead func(reason string)) bool {
	s := &k.s
	if f == nil {
		switch in.Ready.State {
		case NotAsked:
			f = &Failure{Class: Transient, What: in.Ready.Reason}
		case Forbidden:
			f = &Failure{Class: Denied, What: in.Ready.Reason}
		case Gone:
			gone(in.Ready.Reason)
			return false
		case Superseded:
			k.displaced(Observation{Sight: Unknown, Owner: or(in.Ready.Owner, "somebody else")})
			return false
		case Suspended:
			k.blankOne()
			k.park(fault.Held, &Failure{Class: Hold, What: or(in.Ready.Reason, "the workload is paused")})
			return false
		case NotReady:
			k.round(in)
			dead(in.Ready.Reason)
			return false
		case IsReady, NotYet:
		}
	}
	if f != nil {
		k.blank(f)
		return false
	}
	if !s.blankFrom.IsZero() && s.step != stepSoak && k.due(s.window.Add(k.c.ReadyTimeout)) {
		// It could not be asked until now: it gets its time.
		s.window, s.rounds = k.now, 0
	}
	s.blankFrom = time.Time{}
	return true
}

// proven notes whether a round passed, and reports whether it was the last that
// was needed.
func (k *core) proven(ok bool) bool {
	s := &k.s
	s.stepAt = k.now.Add(probeDelay(s.rounds))
	if !ok {
		s.passes = 0
		k.outOfTime()
		return false
	}
	s.passes++
	return s.passes >= passesNeeded
}

// probed takes one round of probes of the new version.
func (k *core) probed(in Input, f *Failure) {
	s, m := &k.s, k.m()
	a := m.Attempt
	gone := func(reason string) { k.blank(&Failure{Class: Absent, What: reason}) }
	dead := func(reason string) { k.fail(or(reason, "the target says that it will not come up")) }
	if !k.answered(in, f, gone, dead) {
		return
	}
	ok := k.round(in)
	k.tellRound(a.Candidate.ID, ok)
	if s.step == stepSoak {
		s.stepAt = k.soakNext()
		if ok {
			s.misses = 0
			k.soaked()
			return
		}
		if s.misses++; s.misses >= failsAllowed {
			k.fail("it failed while soaking" + k.lastBad())
		}
		return
	}
	if !k.proven(ok) {
		return
	}
	k.write(Line{Op: OpDone, State: Soaking, ID: a.Candidate.ID, Attempt: a.N})
	k.tell(StateEvent, a.Candidate.ID, "soaking for %s", k.c.Soak)
	k.next(stepSoak)
	s.window, s.misses = k.now, 0
	s.stepAt = k.soakNext()
	k.replyAll(func(r Request) bool { return r.follows == a.N && r.UntilSoak }, k.soaks())
	k.soaked()
}

// blankOne is a round that says neither yes nor no.
func (k *core) blankOne() {
	s := &k.s
	s.rounds++
	if s.blankFrom.IsZero() {
		s.blankFrom = k.now
	}
	s.stepAt = k.now.Add(probeDelay(s.rounds))
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (k *core) tellRound(id ID, ok bool) {
	s := &k.s
	text, n := "ready", min(s.passes+1, passesNeeded)
	if !ok {
		text, n = "not yet"+k.lastBad(), 0
	}
	k.say(Event{Type: ProbeEvent, ID: id, Text: fmt.Sprintf("probing %d/%d: %s", n, passesNeeded, text), Probes: s.probes})
}

// soakNext is when the next round of a soak is due: its last one is at its end.
func (k *core) soakNext() time.Time {
	next, end := k.now.Add(soakEvery), k.s.window.Add(k.c.Soak)
	if end.After(k.now) && end.Before(next) {
		return end
	}
	return next
}

// soaked looks whether the soak is over: then the target is asked once more.
// The last round must have passed.
func (k *core) soaked() {
	s := &k.s
	if s.step != stepSoak || s.misses > 0 || !s.blankFrom.IsZero() || !k.due(s.window.Add(k.c.Soak)) {
		return
	}
	k.next(stepSoakEnd)
}

// soakEnd makes the version live if the target still runs it.
func (k *core) soakEnd(o Observation, f *Failure) {
	m := k.m()
	a := *m.Attempt
	switch {
	case f != nil:
		k.blank(f)
	case o.Is(a.Candidate.ID), o.Sight == Unknown && k.c.Blind:
		k.s.Observed, k.s.ObservedAt = o, k.now
		if o.Sight == Unknown {
			k.s.Observed = Observation{Sight: Runs, ID: a.Candidate.ID}
		}
		k.finish(Line{State: Live, ID: a.Candidate.ID, Health: k.health()}, Outcome{
			Kind: fault.OK, Verdict: VerdictLive, Health: k.health(), Reason: fmt.Sprintf("%s runs %s", k.c.Name, a.Candidate.ID.Short()),
		})
	case o.Sight == Unknown:
		k.blank(&Failure{Class: Transient, What: "the target cannot tell what it runs"})
	default:
		k.displaced(o)
	}
}

// health is what the probes of the present window said.
func (k *core) health() Health {
	if k.c.Probes > 0 || k.s.proof {
		return Healthy
	}
	return HealthUnknown
}

// evidenceNow is what will be gone after a rollback.
func (k *core) evidenceNow() []string {
	var all []string
	for _, p := range k.s.probes {
		line := p.Probe + ": " + p.Detail
		if p.Answer != "" {
			line += "\n" + p.Answer
		}
		all = append(all, line)
	}
	return capped(append(all, k.s.evidence...))
}

// fail takes the way back, once; without one a person must act.
func (k *core) fail(reason string) {
	a := k.m().Attempt
	evidence := k.evidenceNow()
	switch why := k.disarmed(); {
	case a.Previous == nil && why == "":
		k.haltWith(reason+"; there is no version to go back to", evidence, &Rollback{Reason: "there is no previous version"})
		return
	case why != "":
		k.haltWith(reason+"; it is not rolled back: "+why, evidence, &Rollback{Reason: why})
		return
	}
	k.goBack(reason, evidence)
}

// goBack begins the rollback, or its second and last try.
func (k *core) goBack(reason string, evidence []string) {
	k.cancel(&k.s.work)
	a := k.m().Attempt
	k.write(Line{
		Op: OpIntent, State: RollingBack, ID: a.Candidate.ID, Previous: a.Previous.ID, Attempt: a.N,
		Reason: reason, Evidence: evidence,
	})
	k.tell(RollbackEvent, a.Previous.ID, "rolling back to %s: %s", a.Previous.ID.Short(), reason)
	k.next(stepBack)
}

// afterBack judges what the target runs after the rollback.
func (k *core) afterBack(o Observation, f *Failure) {
	s, a := &k.s, k.m().Attempt
	if f == nil && o.Sight != Unknown {
		s.Observed, s.ObservedAt = o, k.now
	}
	switch {
	case f != nil && f.Class == Absent:
		k.halt("the workload is gone: " + f.Error())
	case f != nil:
		k.blank(f)
	case o.Is(a.Previous.ID), o.Sight == Unknown && k.c.Blind:
		k.s.Observed, k.s.ObservedAt = Observation{Sight: Runs, ID: a.Previous.ID}, k.now
		k.probeFrom(stepProbeBack)
	case !k.due(s.window.Add(liarGrace)):
		s.rounds++
		s.stepAt = k.now.Add(probeDelay(s.rounds))
	case o.Sight == Runs && o.Owner != "":
		k.displaced(o)
	case a.Backs < 2:
		k.goBack(a.Reason, a.Evidence)
	default:
		why := fmt.Sprintf("after rolling back twice the target runs %s instead of %s", o, a.Previous.ID.Short())
		if s.activated != nil {
			why += ": " + s.activated.Error()
		}
		k.halt(why)
	}
}

// probedBack takes one round of probes of the version gone back to.
func (k *core) probedBack(in Input, f *Failure) {
	a := *k.m().Attempt
	gone := func(reason string) { k.halt("the workload is gone: " + reason) }
	dead := func(reason string) { k.halt("the version gone back to does not come up: " + reason) }
	if !k.answered(in, f, gone, dead) {
		return
	}
	ok := k.round(in)
	k.tellRound(a.Previous.ID, ok)
	if !k.proven(ok) {
		return
	}
	k.out = append(k.out, Effect{Do: After})
	k.finish(Line{State: RolledBack, ID: a.Candidate.ID, Reason: a.Reason, Evidence: a.Evidence}, Outcome{
		Kind: fault.Failed, Health: k.health(), Evidence: a.Evidence,
		Reason:   fmt.Sprintf("%s failed and was rolled back to %s: %s", a.Candidate.ID.Short(), a.Previous.ID.Short(), a.Reason),
		Rollback: &Rollback{Done: true, To: a.Previous.ID, Reason: a.Reason},
	})
}

// halt stops the watch until a person acts: a rollback did not succeed.
func (k *core) halt(reason string) {
	a := k.m().Attempt
	k.haltWith(reason, append(slices.Clone(a.Evidence), k.evidenceNow()...), &Rollback{To: idOf(a.Previous), Reason: reason})
}

func (k *core) haltWith(reason string, evidence []string, back *Rollback) {
	k.cancel(&k.s.work)
	a := *k.m().Attempt
	k.finish(Line{State: Halted, ID: a.Candidate.ID, Reason: reason, Evidence: capped(evidence)}, Outcome{
		Kind: fault.Unsafe, Health: Unhealthy, Evidence: capped(evidence), Rollback: back, Why: HaltedWhy,
		Reason: "halted, a person must look now: " + reason,
	})
}

func idOf(v *Version) ID {
	if v == nil {
		return ""
	}
	return v.ID
}

// finish ends the present attempt: the line, the outcome, the replies.
func (k *core) finish(l Line, o Outcome) {
	s := &k.s
	k.cancel(&s.work)
	a := *k.m().Attempt
	o.Attempt, o.By, o.Candidate, o.Started, o.Probes = a.N, a.By, &a.Candidate, a.Started, s.probes
	o.Expected, o.Verified = a.Expected, a.Proofs
	if o.Health == "" {
		o.Health = HealthUnknown
	}
	if o.Evidence == nil {
		o.Evidence = l.Evidence
	}
	l.Op, l.Attempt = OpDone, a.N
	if a.Previous != nil {
		l.Previous = a.Previous.ID
	}
	k.write(l)
	if m := k.m(); a.By == ByEnforce && l.State == Idle && m.Drift == nil {
		before := a.Before
		k.write(Line{Op: OpDrift, ID: before.ID, Observation: &before})
	}
	o = k.fill(o)
	k.resetWork()
	s.blocked = nil
	last := o
	last.Evidence = nil // the quarantine has it
	k.write(Line{Op: OpOutcome, Outcome: &last})
	k.say(Event{Type: OutcomeEvent, ID: a.Candidate.ID, Text: o.Reason, Outcome: &o})
	k.out = append(k.out, Effect{Do: Prune, Keep: k.m().InStore(k.c.Keep)})
	s.warnings = nil
	s.nextObserve = k.now.Add(observeEvery)
	k.replyAll(func(r Request) bool { return r.follows == a.N || r.Detached && r.Expect.Is(a.Candidate) }, o)
	if l.State == Halted {
		// What was asked before nobody would ask now.
		k.replyAll(func(r Request) bool { return r.Verb == RetryVerb || r.Verb == RollbackVerb }, o)
	}
	if s.again {
		s.again, s.nextLook = false, k.now
	}
}
