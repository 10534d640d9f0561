package artifact

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// id makes an id out of a letter.
func id(s string) ID { return ID("sha256:" + strings.Repeat(fmt.Sprintf("%x", s[0]), 32)) }

func cand(s string, order int64) Candidate {
	return Candidate{ID: id(s), Kind: File, Order: order, Size: 10, Meta: Meta{UUID: "00000000-0000-0000-0000-0000000000" + fmt.Sprintf("%x", s[0])}}
}

func noon() time.Time { return time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC) }

// world is a source, a target, probes and a disk, and a clock that jumps from
// one thing that is due to the next.
type world struct {
	tb   testing.TB
	c    Config
	s    State
	now  time.Time
	dice func() float64

	// The source.
	offer   *Candidate
	lookErr error
	answer  func(Query) (Look, error) // instead
	// The target.
	runs      ID // "" nothing
	observe   func() (Observation, error)
	fetch     func() error
	verify    func() error
	proofs    Proofs
	stage     func() error
	activates func(to ID) error // default: runs = to
	backs     func(to ID) error // default: runs = to
	ready     func(ID) Readiness
	bad       map[ID]bool // probes fail
	took      map[Do]time.Duration

	pending   []pending
	lines     []Line
	events    []Event
	replies   map[int64]Outcome
	ended     *Outcome
	activated []ID // by the target, in order
	probedIDs []ID
	proves    []bool // of each verification: whether further proofs were asked for
	looks     []time.Time
	probes    []time.Time
	queries   []Query
	steps     int
	broken    []string // invariants
	nextID    int64
	torn      func(Line) bool // crash right after this line
	crashed   bool
	fast      bool   // for long runs: Next's argument is not compared
	model     *model // watches the invariants of long runs; nil: none
}

type pending struct {
	at time.Time
	e  Effect
}

func newWorld(tb testing.TB) *world {
	c := Defaults()
	c.Name, c.Kind, c.Probes, c.Baseline = "www", File, 1, 1
	c.Idempotent = true
	w := &world{
		tb: tb, c: c, now: noon(), dice: func() float64 { return 0.5 }, bad: map[ID]bool{},
		took: map[Do]time.Duration{}, replies: map[int64]Outcome{},
	}
	w.s = New(Memory{})
	return w
}

// with sets the memory of a watch that has been running a, order 1.
func (w *world) settled() *world {
	a := cand("a", 1)
	w.runs = a.ID
	w.offer = &a
	m := Memory{}
	seq := int64(0)
	line := func(l Line) {
		seq++
		l.Seq, l.Time = seq, w.now.Add(-time.Hour)
		w.lines = append(w.lines, l)
		m = m.Apply(l)
	}
	line(Line{Op: OpRuns, Version: nil})
	try := Attempt{N: 1, By: ByItself, Candidate: a, Before: Observation{Sight: Nothing}}
	line(Line{Op: OpOffer, ID: a.ID, Candidate: &a})
	line(Line{Op: OpIntent, State: Fetching, ID: a.ID, Attempt: 1, Try: &try})
	line(Line{Op: OpIntent, State: Switching, ID: a.ID, Attempt: 1, Observation: &try.Before})
	line(Line{Op: OpDone, State: Live, ID: a.ID, Attempt: 1})
	w.s = New(m)
	return w
}

func (w *world) candidate(name string, order int64) { c := cand(name, order); w.offer = &c }

func (w *world) input(in Input) {
	in.Dice = w.dice()
	before := w.s
	var frozen []byte
	if w.model == nil && !w.fast {
		frozen, _ = json.Marshal(before.Memory)
	}
	var out []Effect
	w.s, out = Next(before, in, w.c, w.now)
	if w.model == nil && !w.fast {
		if after, _ := json.Marshal(before.Memory); string(after) != string(frozen) {
			w.tb.Fatalf("Next changed its argument:\n%s\n%s", frozen, after)
		}
	}
	w.steps++
	if !w.s.Wake.IsZero() && !w.s.Wake.After(w.now) && len(out) == 0 && in.What == Tick {
		w.breaks("a tick at %s does nothing and wants another at %s (%s, step %d)", w.now, w.s.Wake, w.s.Memory.Phase, w.s.step)
	}
	for _, e := range out {
		if w.crashed {
			return
		}
		w.effect(e)
	}
}

func (w *world) breaks(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

func (w *world) effect(e Effect) {
	if w.model != nil {
		w.model.effect(e)
	}
	switch e.Do {
	case Write:
		w.lines = append(w.lines, e.Line)
		if w.torn != nil && w.torn(e.Line) {
			w.crashed = true
		}
	case Tell:
		w.events = append(w.events, e.Event)
	case Reply:
		if _, twice := w.replies[e.Request]; twice {
			w.breaks("request %d answered twice", e.Request)
		}
		w.replies[e.Request] = e.Outcome
	case Cancel:
		w.pending = slices.DeleteFunc(w.pending, func(p pending) bool { return p.e.Op == e.Op })
	case End:
		w.ended = &e.Outcome
	case Discard, Prune, After:
	case DoLook:
		w.looks = append(w.looks, w.now)
		w.queries = append(w.queries, e.Query)
		w.begin(e)
	case DoObserve, DoFetch, DoVerify, DoStage, DoBaseline, DoActivate, DoProbe, DoCheck, DoRollback:
		if e.Do == DoProbe {
			w.probes = append(w.probes, w.now)
		}
		w.invariants(e)
		w.begin(e)
	}
}

func (w *world) begin(e Effect) {
	w.pending = append(w.pending, pending{w.now.Add(w.took[e.Do]), e})
}

// invariants looks at each side effect as it begins.
func (w *world) invariants(e Effect) {
	m := &w.s.Memory
	if e.Do != DoActivate && e.Do != DoRollback {
		return
	}
	intent := Line{}
	for _, l := range w.lines {
		if l.Op == OpIntent {
			intent = l
		}
	}
	want := Switching
	if e.Do == DoRollback {
		want = RollingBack
	}
	if intent.State != want {
		w.breaks("%s without its intent in the journal, but %s", e.Do, intent.State)
	}
	if m.Attempt == nil || m.Attempt.Candidate.ID != intent.ID {
		w.breaks("%s of something else than the intent", e.Do)
	}
}

// end computes what an effect came to.
func (w *world) result(e Effect) Input {
	in := Input{What: Result, Do: e.Do, Op: e.Op}
	switch e.Do {
	case DoLook:
		if w.answer != nil {
			in.Look, in.Err = w.answer(e.Query)
			return in
		}
		in.Err = w.lookErr
		if w.lookErr == nil && w.offer != nil {
			c := *w.offer
			in.Look.Candidate = &c
		}
	case DoObserve:
		if w.observe != nil {
			in.Observation, in.Err = w.observe()
			return in
		}
		in.Observation = Observation{Sight: Runs, ID: w.runs}
		if w.runs == "" {
			in.Observation = Observation{Sight: Nothing}
		}
	case DoFetch:
		in.Err = call(w.fetch)
	case DoVerify:
		in.Err, in.Proofs = call(w.verify), w.proofs
		w.proves = append(w.proves, e.Prove)
	case DoStage:
		in.Err = call(w.stage)
	case DoActivate:
		w.activated = append(w.activated, e.Switch.To.ID)
		if w.activates != nil {
			in.Err = w.activates(e.Switch.To.ID)
			return in
		}
		w.runs = e.Switch.To.ID
	case DoRollback:
		if w.backs != nil {
			in.Err = w.backs(e.Switch.To.ID)
			return in
		}
		w.runs = e.Switch.To.ID
	case DoProbe, DoCheck, DoBaseline:
		in.Ready = Readiness{State: IsReady}
		if w.ready != nil {
			in.Ready = w.ready(e.Switch.To.ID)
		}
		about := e.Switch.To.ID
		if e.Do == DoBaseline {
			about = w.runs
		}
		if w.c.Probes > 0 {
			ok := w.runs == about && !w.bad[about]
			in.Probes = []ProbeResult{{Probe: "http:x", OK: ok, Detail: "200"}}
		}
		w.probedIDs = append(w.probedIDs, about)
	case Write, Tell, Reply, Cancel, Discard, Prune, After, End: // have no result
	}
	return in
}

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

// step does what is due first and reports whether there was anything before
// end.
func (w *world) step(end time.Time) bool {
	if w.s.Over || w.crashed {
		return false
	}
	i := -1
	for j := range w.pending {
		if i < 0 || w.pending[j].at.Before(w.pending[i].at) {
			i = j
		}
	}
	if i >= 0 && (w.s.Wake.IsZero() || !w.s.Wake.Before(w.pending[i].at)) {
		p := w.pending[i]
		if p.at.After(end) {
			return false
		}
		w.pending = slices.Delete(w.pending, i, i+1)
		w.now = later2(w.now, p.at)
		in := w.result(p.e)
		if w.model != nil {
			w.model.result(p.e, in)
		}
		w.input(in)
		return true
	}
	if w.s.Wake.IsZero() || w.s.Wake.After(end) {
		return false
	}
	w.now = later2(w.now, w.s.Wake)
	w.input(Input{What: Tick})
	return true
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for n := 0; w.step(end); n++ {
		if n > 200000 {
			w.tb.Fatalf("it spins: %s step %d at %s, wake %s\n%s", w.s.Memory.Phase, w.s.step, w.now, w.s.Wake, w.story()[:3000])
		}
	}
	if !w.s.Over {
		w.now = later2(w.now, end)
	}
}

func (w *world) ask(r Request) int64 {
	w.nextID++
	r.ID = w.nextID
	w.input(Input{What: Ask, Request: r})
	return r.ID
}

// once is a single run to its end.
func (w *world) once(r Request) Outcome {
	w.c.Once = true
	w.c.Soak = OnceSoak
	if r.Verb == "" {
		r.Verb = Hint
	}
	w.input(Input{What: Begin})
	w.ask(r)
	w.run(time.Hour)
	if w.ended == nil {
		w.tb.Fatalf("it has no end: %v, step %d, hold %+v, requests %+v", w.s.Shown(), w.s.step, w.s.Hold, w.s.requests)
	}
	w.check()
	return *w.ended
}

// restart reads the journal and begins anew.
func (w *world) restart() {
	var m Memory
	for _, l := range w.lines {
		m = m.Apply(l)
	}
	w.s = New(m)
	w.pending, w.crashed, w.ended, w.torn = nil, false, nil, nil
	w.input(Input{What: Begin})
}

// check fails on a broken invariant, and on a journal that is not memory.
func (w *world) check() {
	w.tb.Helper()
	var m Memory
	for _, l := range w.lines {
		m = m.Apply(l)
	}
	if !w.crashed && !reflect.DeepEqual(m, w.s.Memory) {
		a, _ := json.Marshal(m)
		b, _ := json.Marshal(w.s.Memory)
		w.breaks("the journal is not memory:\n%s\n%s", a, b)
	}
	for _, b := range w.broken {
		w.tb.Error(b)
	}
}

func (w *world) story() string {
	var b strings.Builder
	for _, e := range w.events {
		fmt.Fprintf(&b, "%6.1fs %-12s %-9s %s\n", e.Time.Sub(noon()).Seconds(), e.State, e.Type, e.Text)
	}
	return b.String()
}

func fails(c Class, why Why) error { return &Failure{Class: c, Why: why, What: string(c)} }
