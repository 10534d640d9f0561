package artifact

import (
	"fmt"
	"slices"
	"time"

	"homelab/pkg/fault"
)

// endGrace is how long a look at the end of a wait may take.
const endGrace = 5 * time.Second

// deadline is the end of a request's wait.
func (r Request) deadline() time.Time {
	if r.Detached {
		return r.at.Add(hotMost)
	}
	return r.at.Add(r.Wait)
}

// ask takes a hint or a verb.
func (k *core) ask(r Request) {
	s, m := &k.s, k.m()
	if len(s.requests) >= mostRequests {
		i := slices.IndexFunc(s.requests, func(o Request) bool { return o.Detached })
		if i < 0 {
			k.reply(r, Outcome{Kind: fault.Conflict, Reason: "too many wait for this watch already"})
			return
		}
		s.requests = slices.Delete(s.requests, i, i+1)
	}
	r.at, r.since = k.now, s.op
	switch r.Verb {
	case Hint:
		if !r.Expect.IsZero() {
			k.tell(NoteEvent, "", "hint: expect %s", r.Expect.Short())
		}
		if !r.Detached || !r.Expect.IsZero() {
			s.requests = append(s.requests, r)
		}
		k.hint()
	case PauseVerb:
		k.write(Line{Op: OpPause, Pause: &Pause{At: k.now.Round(0), Until: r.Until.Round(0), Reason: r.Reason}})
		k.tell(NoteEvent, "", "paused")
		k.reply(r, Outcome{Kind: fault.OK, Verdict: VerdictCurrent, Reason: "paused; a switch that has begun goes on"})
	case ResumeVerb:
		k.write(Line{Op: OpResume})
		if d := m.Drift; d != nil && m.Attempt == nil {
			k.adopt(*d, "resumed, what runs is taken for right")
		}
		s.blocked, s.Hold, s.nextObserve = nil, nil, k.now
		k.tell(NoteEvent, "", "resumed")
		o := Outcome{Kind: fault.OK, Verdict: VerdictCurrent, Reason: "resumed"}
		if m.Halt != "" {
			o = Outcome{Kind: fault.Unsafe, Reason: "still halted, retry or rollback lift that: " + m.Halt}
		}
		k.reply(r, o)
		k.hint()
	case RetryVerb:
		k.retry(r)
	case RollbackVerb:
		k.rollback(r)
	case VerbNoRequest:
	}
}

// retry lifts what keeps an id out for one more attempt.
func (k *core) retry(r Request) {
	s, m := &k.s, k.m()
	if r.Target == "" && m.Offered != nil {
		r.Target = m.Offered.ID
	}
	switch {
	case r.Target == "":
		k.reply(r, Outcome{Kind: fault.Absent, Reason: "the source has offered nothing yet"})
		return
	case m.Attempt != nil && m.Attempt.Candidate.ID == r.Target:
	case m.Halt == "" && m.Drift == nil && m.Running != nil && m.Running.ID == r.Target:
		k.reply(r, Outcome{Kind: fault.OK, Verdict: VerdictCurrent, Reason: r.Target.Short() + " runs already"})
		return
	default:
		k.write(Line{Op: OpPermit, ID: r.Target})
		s.blocked, s.Hold = nil, nil
		k.tell(NoteEvent, r.Target, "%s may be activated once more", r.Target.Short())
		if m.Offered == nil || m.Offered.ID != r.Target {
			k.reply(r, Outcome{Kind: fault.Held, Why: Quarantined, Reason: r.Target.Short() + " may be activated once more, as soon as the source offers it"})
			return
		}
	}
	s.requests = append(s.requests, r)
	k.hint()
}

// rollback goes back by hand, to what ran before or to a given version that
// was live, and stays there until resume.
func (k *core) rollback(r Request) {
	s, m := &k.s, k.m()
	if m.Phase.Begun() {
		k.reply(r, Outcome{Kind: fault.Timeout, Reason: fmt.Sprintf("%s is at work (%s): ask again when it has ended", k.c.Name, m.Phase)})
		return
	}
	v := k.backTo(r.Target)
	if v == nil {
		k.reply(r, Outcome{Kind: fault.Absent, Reason: "there is no version to go back to"})
		return
	}
	if m.Attempt != nil {
		k.giveUp(Line{Reason: "a rollback by hand"})
	}
	r.Target = v.ID
	s.requests = append(s.requests, r)
}

// backTo is the version a rollback by hand goes to; nil there is none.
func (k *core) backTo(id ID) *Version {
	m := k.m()
	var all []Version
	lost := m.Halt != "" || m.Running == nil || k.s.Observed.Sight == Runs && !k.s.Observed.Is(m.Running.ID)
	if m.Running != nil && (lost || id == m.Running.ID) {
		all = append(all, *m.Running)
	}
	if m.Previous != nil {
		all = append(all, *m.Previous)
	}
	all = append(all, m.Kept...)
	for _, v := range all {
		if id == v.ID {
			return &v
		}
		_, out := m.quarantined(v.ID)
		if id == "" && !out && (lost || v.ID != m.Running.ID) {
			return &v
		}
	}
	return nil
}

// backByHand begins a rollback that was asked for, once the target is known.
func (k *core) backByHand() bool {
	s := &k.s
	for _, r := range s.requests {
		if r.Verb != RollbackVerb || r.follows != 0 {
			continue
		}
		if v := k.backTo(r.Target); v != nil {
			k.begin(v.Candidate, ByRollback) // what halted stays so until it has proved itself
			return true
		}
	}
	return false
}

// refuseVerb answers a rollback that could not begin.
func (k *core) refuseVerb(f *Failure) {
	k.replyAll(func(r Request) bool { return r.Verb == RollbackVerb }, Outcome{
		Kind: kindOf(f), Why: f.Why, Owner: f.Owner, Reason: "nothing was changed: " + f.Error(),
	})
}

// kindOf is how a single run ends on a failure that changed nothing.
func kindOf(f *Failure) fault.Kind {
	switch f.Class {
	case Absent:
		return fault.Absent
	case Denied:
		return fault.Denied
	case Refused, Failed:
		return fault.Failed
	case Hold:
		return f.Why.Kind()
	case Later:
		return fault.Timeout
	case Owned:
		return fault.Conflict
	case Transient:
	}
	return fault.Unreachable
}

// fill completes an outcome with what the watch knows.
func (k *core) fill(o Outcome) Outcome {
	m := k.m()
	if o.Verdict == "" {
		o.Verdict = Verdict(o.Kind.Name())
	}
	o.State = k.s.Shown()[0]
	o.Running, o.Previous = k.s.Running(), m.Previous
	if a := m.Attempt; a != nil && o.Verdict == VerdictLive {
		// Answered when soaking begins: it runs already, and is the attempt's.
		o.Running, o.Previous, o.Attempt, o.By, o.Probes = &Version{Candidate: a.Candidate}, a.Previous, a.N, a.By, k.s.probes
	}
	if o.Candidate == nil {
		o.Candidate = m.Offered
	}
	if o.Health == "" && m.Running != nil && o.Attempt == 0 {
		o.Health = m.Health
	}
	if o.Health == "" {
		o.Health = HealthUnknown
	}
	o.Warnings = append(slices.Clone(o.Warnings), k.s.warnings...)
	o.Ended = k.now.Round(0)
	return o
}

// reply answers one request, which is not in the list (any more).
func (k *core) reply(r Request, o Outcome) {
	if !r.Detached {
		if o.Expected == "" {
			o.Expected = r.Expect.String()
		}
		o = k.fill(o)
		k.out = append(k.out, Effect{Do: Reply, Request: r.ID, Outcome: o})
		if k.c.Once {
			k.end(o)
		}
	}
}

// replyAll answers and forgets every request that which names.
func (k *core) replyAll(which func(Request) bool, o Outcome) {
	var told []Request
	for _, r := range k.s.requests {
		if which(r) {
			told = append(told, r)
		}
	}
	k.drop(which)
	for _, r := range told {
		k.reply(r, o)
	}
}

// answer answers the first request that can be answered, and reports whether
// there was one.
func (k *core) answer() bool {
	for i := range k.s.requests {
		r := k.s.requests[i]
		if r.follows == 0 && k.follow(i) {
			return true
		}
		o, ok := k.answerTo(&k.s.requests[i])
		if k.s.work.do == DoCheck && r.checks != k.s.requests[i].checks {
			return true
		}
		if ok {
			r = k.s.requests[i]
			k.drop(func(o Request) bool { return o.ID == r.ID })
			k.reply(r, o)
			return true
		}
	}
	return false
}

// follow ties a request to the attempt whose outcome is its answer.
func (k *core) follow(i int) bool {
	s, m := &k.s, k.m()
	a, r := m.Attempt, &s.requests[i]
	if a == nil {
		return false
	}
	switch r.Verb {
	case Hint:
		if r.Expect.IsZero() && a.By == ByRollback || !r.Expect.IsZero() && !r.Expect.Is(a.Candidate) {
			return false
		}
		if r.Expect.IsZero() && k.soaking() && (s.lookedOp <= r.since || m.Offered != nil && m.Offered.ID != a.Candidate.ID) {
			return false // something newer may follow, and is what it asks for
		}
	case RetryVerb:
		if a.Candidate.ID != r.Target {
			return false
		}
	case RollbackVerb:
		if a.By != ByRollback || a.Candidate.ID != r.Target {
			return false
		}
	case PauseVerb, ResumeVerb, VerbNoRequest:
		return false
	}
	r.follows, r.offered = a.N, true
	return true
}

// answerTo decides what can be answered now.
func (k *core) answerTo(r *Request) (Outcome, bool) {
	s, m := &k.s, k.m()
	if r.Detached {
		done := k.due(r.deadline()) || k.runsAlready(r.Expect)
		return Outcome{}, done
	}
	over := k.due(r.deadline())
	if r.follows != 0 {
		return k.followed(r, over)
	}
	if m.Halt != "" && r.Verb != RollbackVerb {
		return Outcome{Kind: fault.Unsafe, Why: HaltedWhy, Reason: "halted: " + m.Halt}, true
	}
	if f := s.observeErr; f != nil && m.Attempt == nil {
		switch {
		case f.Class != Transient:
			return Outcome{Kind: kindOf(f), Reason: "the target: " + f.Error()}, true
		case s.observeFail >= 2 && over:
			return Outcome{Kind: fault.Unreachable, Reason: "the target cannot be asked: " + f.Error()}, true
		}
		return Outcome{}, false
	}
	if s.ObservedAt.IsZero() || m.Attempt != nil && m.Phase.Begun() {
		return Outcome{}, false // first what is in progress
	}
	if r.Verb != Hint {
		if s.Hold != nil && m.Attempt == nil {
			return k.heldOutcome(*s.Hold), true
		}
		return k.verbOutcome(r)
	}
	if f := s.lookErr; f != nil && s.lookedOp > r.since {
		switch {
		case f.Class == Denied:
			return Outcome{Kind: fault.Denied, Reason: "the source: " + f.Error()}, true
		case f.Class == Refused && over:
			return Outcome{Kind: fault.Failed, Reason: "the source: " + f.Error()}, true
		case f.Class == Absent && !m.Asked && r.Expect.IsZero() && over:
			return Outcome{Kind: fault.Absent, Reason: f.Error()}, true
		case f.Class != Absent && over && s.fails >= 2:
			return Outcome{Kind: fault.Unreachable, Reason: "the source cannot be asked: " + f.Error()}, true
		}
	}
	if r.Expect.IsZero() {
		return k.restOutcome(r, over)
	}
	return k.expectOutcome(r, over)
}

// verbOutcome answers a retry or rollback that found nothing to do.
func (k *core) verbOutcome(r *Request) (Outcome, bool) {
	m := k.m()
	switch {
	case m.Attempt != nil:
		return Outcome{}, false
	case r.Verb == RollbackVerb:
		return Outcome{Kind: fault.Absent, Reason: "there is no version to go back to any more"}, k.backTo(r.Target) == nil
	case m.Running != nil && m.Running.ID == r.Target && m.Drift == nil:
		return Outcome{Kind: fault.OK, Verdict: VerdictCurrent, Reason: r.Target.Short() + " runs already"}, true
	case m.Offered == nil || m.Offered.ID != r.Target:
		return Outcome{Kind: fault.Held, Why: Quarantined, Reason: "the source does not offer " + r.Target.Short() + " any more"}, true
	}
	return Outcome{}, false
}

// soaking reports whether the attempt has proved itself and soaks, in this
// process.
func (k *core) soaking() bool {
	return (k.s.step == stepSoak || k.s.step == stepSoakEnd) && k.m().Phase == Soaking
}

// soaks is the answer to who waits until soaking begins.
func (k *core) soaks() Outcome {
	return Outcome{
		Kind: fault.OK, Verdict: VerdictLive, Health: k.health(),
		Reason: fmt.Sprintf("%s runs %s; soaking", k.c.Name, k.m().Attempt.Candidate.ID.Short()),
	}
}

// followed is the answer to somebody who waits for an attempt that cannot even
// begin; the others are answered by its end.
func (k *core) followed(r *Request, over bool) (Outcome, bool) {
	s := &k.s
	if r.UntilSoak && k.soaking() && s.misses == 0 {
		return k.soaks(), true
	}
	if k.m().Phase.Begun() || s.stepErr == nil || !over {
		return Outcome{}, false
	}
	f := s.stepErr
	if f.Class == Transient && s.stepFails < 2 {
		return Outcome{}, false
	}
	o := Outcome{Kind: kindOf(f), Reason: "nothing was changed yet: " + f.Error()}
	if f.Class == Absent {
		o.Kind = fault.Timeout // it was on offer a moment ago
	}
	return o, true
}

// heldOutcome is the answer where a person or time must act.
func (k *core) heldOutcome(h Held) Outcome {
	o := Outcome{Kind: h.Why.Kind(), Why: h.Why, Reason: h.Text + "; nothing was changed"}
	if b := k.s.blocked; b != nil && b.until.Equal(h.Until) {
		o.Kind, o.Owner = kindOf(b.fail), b.fail.Owner
	}
	return o
}

// restOutcome answers who asked for a look only.
func (k *core) restOutcome(r *Request, over bool) (Outcome, bool) {
	s, m := &k.s, k.m()
	absent := s.lookErr != nil && s.lookErr.Class == Absent && s.lookedOp > r.since
	if !r.looked && !absent || m.Attempt != nil {
		return Outcome{}, false
	}
	if m.Drift != nil {
		return k.heldOutcome(Held{Why: Drifted, Text: fmt.Sprintf("drifted: somebody made the target run %s", m.Drift)}), true
	}
	if m.Contended != "" {
		h, _ := k.standing()
		return k.heldOutcome(h), true
	}
	if s.Hold != nil && m.Offered != nil {
		return k.heldOutcome(*s.Hold), true
	}
	if !over {
		return Outcome{}, false
	}
	switch {
	case s.missing:
		return Outcome{Kind: fault.Timeout, Reason: "the build is green and its artifact is not there yet"}, true
	case m.Offered == nil && m.Running == nil:
		return Outcome{Kind: fault.Absent, Reason: "the source has nothing on offer yet"}, true
	case m.Running == nil:
		return Outcome{}, false
	}
	o := Outcome{Kind: fault.OK, Verdict: VerdictCurrent, Reason: fmt.Sprintf("%s runs %s; nothing newer is on offer", k.c.Name, m.Running.ID.Short())}
	if absent {
		o.Warnings = []string{"the source has nothing on offer any more: " + s.lookErr.Error()}
	}
	return o, true
}

// runsAlready reports whether what is expected runs, under whichever name: a
// later build with the very same bytes has another uuid.
func (k *core) runsAlready(e Expectation) bool {
	m := k.m()
	return m.Running != nil && (e.Is(m.Running.Candidate) || m.Offered != nil && m.Offered.ID == m.Running.ID && e.Is(*m.Offered))
}

// expectOutcome answers who waits for an artifact.
func (k *core) expectOutcome(r *Request, over bool) (Outcome, bool) {
	s, m := &k.s, k.m()
	if k.runsAlready(r.Expect) && m.Attempt == nil {
		if m.Drift != nil {
			return k.heldOutcome(Held{Why: Drifted, Text: fmt.Sprintf("drifted: somebody made the target run %s", m.Drift)}), true
		}
		k.check(r)
		return Outcome{}, false
	}
	if m.Offered != nil && r.Expect.Is(*m.Offered) && (r.looked || r.offered) {
		r.offered = true
		if s.Hold != nil && m.Attempt == nil {
			return k.heldOutcome(*s.Hold), true
		}
		if m.Attempt == nil {
			return Outcome{}, false // begun at once, or the target is being asked
		}
	}
	past := func(by ID, why string) (Outcome, bool) {
		if by == "" && m.Offered != nil {
			by = m.Offered.ID
		}
		if by != "" && why == "" {
			why = "the source moved on to " + by.Short()
		}
		return Outcome{Kind: fault.Replaced, SupersededBy: by, Reason: r.Expect.Short() + " was overtaken: " + why}, true
	}
	if r.offered && m.Offered != nil && !r.Expect.Is(*m.Offered) {
		return past("", "")
	}
	switch r.standing {
	case Passed:
		return past(r.by, r.reason)
	case Broken:
		return Outcome{Kind: fault.Failed, Reason: r.Expect.Short() + " will not come: " + or(r.reason, "its build failed")}, true
	case Awaited:
	}
	if r.looked && m.Offered != nil {
		for _, q := range m.Quarantine {
			if r.Expect.Form == ByID && q.ID == ID(r.Expect.String()) {
				return k.heldOutcome(Held{Why: Quarantined, Text: "quarantined: " + q.Reason}), true
			}
		}
		if r.Expect.Form == ByID && !r.Expect.Is(*m.Offered) && slices.Contains(m.Tried, ID(r.Expect.String())) {
			return past("", "")
		}
	}
	if !over {
		return Outcome{}, false
	}
	if s.lookErr != nil && s.lookErr.Class != Absent && s.lookedOp > r.since && s.fails >= 2 {
		return Outcome{Kind: fault.Unreachable, Reason: "the source cannot be asked: " + s.lookErr.Error()}, true
	}
	ended := r.Wait == 0 && (r.looked || s.lookErr != nil && s.lookErr.Class == Absent && s.lookedOp > r.since) ||
		r.ended && s.lookedOp > r.since || k.due(r.deadline().Add(endGrace)) && r.Wait > 0
	if !ended {
		if !r.ended && s.look.op == 0 && k.mayLook() {
			s.nextLook = k.now
		}
		return Outcome{}, false
	}
	reason := r.Expect.Short() + " was not on offer"
	if r.Wait > 0 {
		reason += " within " + r.Wait.String()
	}
	if r.reason != "" {
		reason += ": " + r.reason
	}
	return Outcome{Kind: fault.Timeout, Reason: reason}, true
}

// check asks the probes about what runs already.
func (k *core) check(r *Request) {
	s := &k.s
	if s.work.op != 0 || !k.due(s.checkAt) {
		return
	}
	if r.checks == 0 {
		r.checks = 1
	}
	v := k.m().Running
	k.start(Effect{Do: DoCheck, Switch: Switch{Watch: k.c.Name, Run: k.c.Run, To: v.Candidate, Deadline: k.now.Add(k.c.ActivateTimeout)}})
}

// checked is what they said: once is enough for a yes, a no is asked again.
func (k *core) checked(in Input) {
	s, m := &k.s, k.m()
	if m.Running == nil {
		return
	}
	ok := in.Err == nil && in.Ready.State == IsReady
	why := in.Ready.Reason
	probes := slices.Clone(in.Probes)
	for i := range probes {
		probes[i].Attempts = 1
		if !probes[i].OK {
			ok, why = false, probes[i].Probe+" "+probes[i].Detail
		}
	}
	if in.Err != nil {
		why = in.Err.Error()
	}
	expected := func(r Request) bool { return r.checks > 0 && k.runsAlready(r.Expect) }
	o := Outcome{Probes: probes, Health: HealthUnknown}
	if len(probes) > 0 || in.Ready.Proof {
		o.Health = Healthy
	}
	if ok {
		o.Kind, o.Verdict = fault.OK, VerdictCurrent
		o.Reason = fmt.Sprintf("%s runs %s already", k.c.Name, m.Running.ID.Short())
		k.replyAll(expected, o)
		return
	}
	s.checkAt = k.now.Add(time.Second)
	kind := fault.Failed
	switch in.Ready.State {
	case NotAsked:
		kind = fault.Unreachable
	case Forbidden:
		kind = fault.Denied
	case Gone:
		kind = fault.Absent
	case Suspended:
		kind = fault.Held
	case IsReady, NotYet, NotReady, Superseded:
	}
	if in.Err != nil {
		kind = kindOf(FailureOf(in.Err, Transient))
	}
	for i := range s.requests {
		if r := &s.requests[i]; expected(*r) {
			r.checks++
		}
	}
	o.Kind, o.Health = kind, Unhealthy
	if kind != fault.Failed {
		o.Health = HealthUnknown
	}
	o.Reason = fmt.Sprintf("%s runs %s already, and it is not well: %s", k.c.Name, m.Running.ID.Short(), why)
	k.replyAll(func(r Request) bool { return expected(r) && r.checks > failsAllowed }, o)
}
