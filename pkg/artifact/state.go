package artifact

import (
	"fmt"
	"slices"
	"time"

	"homelab/pkg/fault"
)

// State is what a watch knows. New makes one, Next makes the next one; a State
// is a value, and Next leaves the old one as it was.
type State struct {
	Memory Memory

	// Wake is when a Tick is due; zero: only an input can change anything.
	Wake time.Time
	// Over: End was given out, and nothing is taken any more.
	Over bool
	// Hold is why the candidate is not deployed; nil: there is none, or it is.
	Hold *Held
	// Observed is what the target was last seen to run, and when; a zero time:
	// not in this process.
	Observed   Observation
	ObservedAt time.Time
	// Stale, Troubled and Failing stand beside the phase. Failing is upstream's
	// newest build, which ended badly.
	Stale, Troubled bool
	Failing         string
	LastGood        time.Time // the last look that was answered; zero: none
	Looks, Failures int       // of the source, in this process

	began   time.Time
	seq, op int64

	// The source.
	look     slot
	lookAt   time.Time   // since when it runs
	asked    Expectation // named in the look under way, or in the last one
	nextLook time.Time
	lookedOp int64     // number of the last look that ended
	lookedAt time.Time // when its answer was given
	hinted   time.Time // the last hint
	fails    int       // in a row
	failing  time.Time // since when
	failedAt time.Time // the last one
	lookErr  *Failure
	limited  time.Time // no request before
	blind    bool
	missing  bool
	compare  string
	hot      []heat
	tokens   float64 // hints that may look at once
	tokensAt time.Time
	hintAt   time.Time // of the last look that a hint was given
	again    bool      // a hint came while nothing could be looked at

	sourceMute, targetMute mute

	// The target.
	nextObserve time.Time
	observeFail int
	observeErr  *Failure

	// The deployment.
	work      slot
	step      step
	stepAt    time.Time // not before
	stepFails int
	stepErr   *Failure
	window    time.Time // probes count from here
	rounds    int
	passes    int
	misses    int
	blankFrom time.Time // nothing could be asked since
	awaited   string    // of whom a candidate waits for, as it was told
	refusals  int       // activations that changed nothing, in this attempt
	activated *Failure  // how Activate or Rollback ended
	evidence  []string
	probes    []ProbeResult
	attempts  map[string]int // rounds per probe; replaced, never changed
	proof     bool
	warnings  []string
	blocked   *block
	downs     []ID // let through by AllowDowngrade

	checkAt  time.Time // the probes are not asked about what runs before
	requests []Request
	stopped  fault.Kind
	stopAt   time.Time
}

// mute is what was said of somebody who is asked for the first time.
type mute int

const (
	unheardOf mute = iota // nothing
	waitedFor             // that there is no answer yet
	refusing              // that there is none to be had
	heard                 // no more is said: it has answered
)

// slot is one place for an effect that runs.
type slot struct {
	do Do
	op int64 // 0: free
}

// heat is a cause to look often.
type heat struct {
	cause string
	since time.Time
	now   bool // given by the last look
}

// block is a candidate that its target or store would not take.
type block struct {
	id    ID
	fail  *Failure
	times int
	until time.Time
}

// Held is why a candidate is not deployed.
type Held struct {
	Why   Why
	Text  string
	Until time.Time // when it is judged anew; zero: when something happens
}

// step is what a deployment does next, more finely than its phase.
type step int

const (
	stepNone step = iota
	stepRecover
	stepFetch
	stepVerify
	stepStage
	stepBefore
	stepBaseline
	stepActivate
	stepAfter
	stepProbe
	stepSoak
	stepSoakEnd
	stepBack
	stepAfterBack
	stepProbeBack
)

// New returns the state of a process that has read m from its journal.
func New(m Memory) State {
	if m.Phase == "" {
		m.Phase = Idle
	}
	// Events share the journal's numbers, and those told after the last line
	// were not kept: none is given twice.
	return State{Memory: m, seq: m.Seq + 1<<10 - m.Seq%(1<<10)}
}

// Shown is every state of section "state" that holds, the phase first.
func (s State) Shown() []string {
	m := &s.Memory
	shown := []string{string(m.Phase)}
	if !m.Phase.Working() && s.Hold != nil && m.Phase != Halted {
		shown = append(shown, "held")
	}
	flag := func(on bool, name string) {
		if on {
			shown = append(shown, name)
		}
	}
	flag(m.Pause != nil, "paused")
	flag(m.Pin != "", "pinned")
	flag(m.Drift != nil, "drifted")
	flag(m.Contended != "", "contended")
	flag(s.Hold != nil && s.Hold.Why == Regressed, "source_regressed")
	flag(s.Stale, "stale")
	flag(s.Failing != "", "upstream_failing")
	return shown
}

// core is one step of Next.
type core struct {
	s    State
	c    *Config
	now  time.Time
	dice float64
	out  []Effect
}

// Next takes one input. It is a function of its arguments: the same ones give
// the same state and effects, and it changes none of them. Differences of now
// are taken by its monotonic reading where it has one, so that a clock that is
// set moves no deadline; windows, ages and pauses go by the wall.
func Next(s State, in Input, c Config, now time.Time) (State, []Effect) {
	if s.Over {
		return s, nil
	}
	k := &core{s: s, c: &c, now: now, dice: min(max(in.Dice, 0), 0.999)}
	k.s.hot = slices.Clone(s.hot)
	k.s.requests = slices.Clone(s.requests)
	k.s.warnings = slices.Clone(s.warnings)
	k.take(in)
	for range 64 {
		if k.s.Over || !k.advance() {
			break
		}
	}
	k.s.Wake = k.wake()
	return k.s, k.out
}

func (k *core) m() *Memory { return &k.s.Memory }

// write applies a line to memory and has it written.
func (k *core) write(l Line) {
	k.s.seq++
	l.Seq, l.Time = k.s.seq, k.now.Round(0)
	k.s.Memory = k.s.Memory.Apply(l)
	k.out = append(k.out, Effect{Do: Write, Line: l})
}

func (k *core) tell(t EventType, id ID, format string, args ...any) {
	k.say(Event{Type: t, ID: id, Text: fmt.Sprintf(format, args...)})
}

func (k *core) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if slices.Contains(k.s.warnings, text) {
		return
	}
	if len(k.s.warnings) < 32 {
		k.s.warnings = append(k.s.warnings, text)
	}
	k.say(Event{Type: NoteEvent, Text: text, Warning: true})
}

func (k *core) say(e Event) {
	k.s.seq++
	e.Seq, e.Time, e.State = k.s.seq, k.now, k.m().Phase
	k.out = append(k.out, Effect{Do: Tell, Event: e})
}

// start begins an effect that ends in a Result and holds the work slot.
func (k *core) start(e Effect) {
	k.s.op++
	e.Op = k.s.op
	k.s.work = slot{e.Do, e.Op}
	k.out = append(k.out, e)
}

// due reports whether t has come; the zero time has.
func (k *core) due(t time.Time) bool { return !k.now.Before(t) }

// wake is the earliest time at which something is due.
func (k *core) wake() time.Time {
	if k.s.Over {
		return time.Time{}
	}
	var at time.Time
	add := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	later := func(t time.Time) {
		if t.After(k.now) {
			add(t)
		}
	}
	s, m := &k.s, k.m()
	if s.stopped != "" {
		add(s.stopAt)
		return at
	}
	if s.began.IsZero() {
		return at
	}
	if k.mayLook() && s.look.op == 0 {
		add(later2(s.nextLook, s.limited))
	}
	if s.work.op == 0 {
		if m.Attempt != nil {
			add(s.stepAt)
		} else {
			add(s.nextObserve)
			later(s.checkAt)
			if s.Hold != nil {
				later(s.Hold.Until)
			}
			if s.blocked != nil {
				later(s.blocked.until)
			}
		}
	}
	switch s.step {
	case stepProbe, stepProbeBack, stepAfter, stepAfterBack:
		later(s.window.Add(k.c.ReadyTimeout))
	case stepNone, stepSoak, stepRecover, stepFetch, stepVerify, stepStage, stepBefore, stepBaseline, stepActivate, stepSoakEnd, stepBack:
	}
	if m.Pause != nil && !m.Pause.Until.IsZero() {
		later(k.now.Add(m.Pause.Until.Sub(k.now.Round(0))))
	}
	if k.c.Timeout > 0 {
		later(s.began.Add(k.c.Timeout))
	}
	if k.c.StaleAfter > 0 && !s.Stale {
		later(k.staleAt())
	}
	if m.Attempt == nil && s.targetMute == unheardOf && s.work.do == DoObserve {
		later(s.began.Add(unheardAfter))
	}
	if m.Attempt == nil && s.sourceMute == unheardOf && s.look.op != 0 {
		later(s.lookAt.Add(unheardAfter))
	}
	if !s.Troubled && s.fails >= troubleLooks {
		later(s.failing.Add(troubleAfter))
	}
	for _, r := range s.requests {
		later(r.deadline())
		if r.Wait > 0 && !r.Expect.IsZero() {
			later(r.deadline().Add(endGrace))
		}
	}
	return at
}

func later2(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// freshest is when the source was last known to be there; at first the start.
func (k *core) freshest() time.Time {
	if k.s.LastGood.IsZero() {
		return k.s.began
	}
	return k.s.LastGood
}
