package artifact

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/pkg/fault"
)

// gaps are the times between things, in seconds.
func gaps(times []time.Time) []float64 {
	var all []float64
	for i := 1; i < len(times); i++ {
		all = append(all, times[i].Sub(times[i-1]).Seconds())
	}
	return all
}

// TestLookSchedules pins when the source is looked at.
func TestLookSchedules(t *testing.T) {
	answers := func(l Look) func(*world) {
		return func(w *world) { w.answer = func(Query) (Look, error) { return l, nil } }
	}
	fail := func(f Failure) func(*world) {
		return func(w *world) { w.answer = func(Query) (Look, error) { return Look{}, &f } }
	}
	tests := []struct {
		name string
		do   func(*world)
		dice float64
		ask  []Request
		want []float64 // the first gaps
	}{
		{"idle", answers(Look{}), 0.5, nil, []float64{30, 30, 30}},
		{"idle, low dice", answers(Look{}), 0, nil, []float64{28.5, 28.5}},
		{"without validators", answers(Look{Blind: true}), 0.5, nil, []float64{300, 300}},
		{"the server wants more time", answers(Look{Limit: 90 * time.Second}), 0.5, nil, []float64{90, 90}},
		{"a pipeline runs", answers(Look{Hot: "pipeline 5"}), 0.5, nil, slices.Concat(
			slices.Repeat([]float64{2}, 30), slices.Repeat([]float64{5}, 108), []float64{30, 30})},
		// After ten minutes a look of its own decides whether it is told.
		{"failures", fail(Failure{Class: Transient}), 0.5, nil, []float64{1, 15, 30, 60, 120, 240, 134, 450}},
		{"failures, low dice", fail(Failure{Class: Transient}), 0, nil, []float64{1, 1, 1, 1}},
		{"retry-after", fail(Failure{Class: Transient, RetryAfter: 100 * time.Second}), 0, nil, []float64{100, 100}},
		{"counted requests", fail(Failure{Class: Transient, Limited: true}), 0, nil, []float64{60, 60, 60}},
		{"not there", fail(Failure{Class: Absent}), 0.5, nil, []float64{30, 30}},
		{"somebody waits", answers(Look{}), 0.5, []Request{{Verb: Hint, Expect: expect("b"), Wait: 43 * time.Second}}, slices.Concat(
			[]float64{0}, slices.Repeat([]float64{1}, 30), []float64{5, 5, 3, 30})},
		{"somebody left a hint", answers(Look{}), 0.5, []Request{{Verb: Hint, Expect: expect("b"), Detached: true}}, slices.Concat(
			[]float64{0}, slices.Repeat([]float64{2}, 30), slices.Repeat([]float64{5}, 108), []float64{30})},
		{"a flood of hints", answers(Look{}), 0.5, slices.Repeat([]Request{{Verb: Hint, Detached: true}}, 50), []float64{0, 0, 30}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t).settled()
			w.dice = func() float64 { return tt.dice }
			tt.do(w)
			w.input(Input{What: Begin})
			w.run(0)
			for _, r := range tt.ask {
				w.ask(r)
			}
			w.run(time.Hour)
			w.check()
			got := gaps(w.looks)
			got = got[:min(len(got), len(tt.want))]
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("gaps %v\nwant %v", got, tt.want)
			}
		})
	}
}

// TestHints: three at once, then one in two seconds; none breaks a 429.
func TestHints(t *testing.T) {
	w := newWorld(t).settled()
	w.input(Input{What: Begin})
	w.run(10 * time.Second)
	n := len(w.looks)
	start := w.now
	for range 100 {
		w.ask(Request{Verb: Hint, Detached: true})
		w.run(100 * time.Millisecond)
	}
	if got := len(w.looks) - n; got < 7 || got > 8 {
		t.Errorf("%d looks in %s of hints, want 3 and one each 2 s", got, w.now.Sub(start))
	}
	w.answer = func(Query) (Look, error) { return Look{}, &Failure{Class: Transient, Limited: true} }
	w.run(time.Minute)
	n = len(w.looks)
	for range 20 {
		w.ask(Request{Verb: Hint, Detached: true})
		w.run(time.Second)
	}
	if got := len(w.looks) - n; got > 1 {
		t.Errorf("%d looks within 20 s of a 429", got)
	}
}

// TestHintDuringSwitch is looked after once, at its end.
func TestHintDuringSwitch(t *testing.T) {
	w := newWorld(t).settled()
	w.candidate("b", 2)
	w.took[DoActivate] = 20 * time.Second
	w.input(Input{What: Begin})
	w.run(10 * time.Second)
	n := len(w.looks)
	for range 5 {
		w.ask(Request{Verb: Hint, Detached: true})
	}
	w.run(11 * time.Second)
	if len(w.looks) != n || w.s.Memory.Phase != Probing {
		t.Errorf("%d looks while %s", len(w.looks)-n, w.s.Memory.Phase)
	}
	w.run(5 * time.Minute)
	if w.s.Memory.Phase != Live || len(w.looks) == n {
		t.Errorf("%s, %d looks", w.s.Memory.Phase, len(w.looks)-n)
	}
}

// TestProbeSchedule pins when the probes are asked, and the soak.
func TestProbeSchedule(t *testing.T) {
	w := newWorld(t).settled()
	w.candidate("b", 2)
	w.bad[id("b")] = true
	w.input(Input{What: Begin})
	w.run(36 * time.Second)
	if got, want := fmt.Sprint(gaps(w.probes)), fmt.Sprint([]float64{1, 1, 2, 3, 3, 4, 5, 5, 5, 5}); got != want {
		t.Errorf("probes %s, want %s", got, want)
	}
	w.bad[id("b")] = false
	w.probes = nil
	w.run(80 * time.Second)
	if got, want := fmt.Sprint(gaps(w.probes)), fmt.Sprint(slices.Concat([]float64{5, 5}, slices.Repeat([]float64{5}, 12))); got != want || w.s.Memory.Phase != Live {
		t.Errorf("soak %s, want %s; %s", got, want, w.s.Memory.Phase)
	}
}

// TestLimits looks just before and just after each time limit.
func TestLimits(t *testing.T) {
	const ms = time.Millisecond
	phase := func(want Phase) func(*world) bool { return func(w *world) bool { return w.s.Memory.Phase == want } }
	failing := func(w *world) { w.candidate("b", 2); w.bad[id("b")] = true }
	tests := []struct {
		name  string
		do    func(*world)
		limit time.Duration // after the start
		is    func(*world) bool
	}{
		{"probes must have passed", failing, 120 * time.Second, phase(RolledBack)},
		{"the soak is over", func(w *world) { w.candidate("b", 2) }, 63 * time.Second, phase(Live)},
		{"a lie is believed for five seconds", func(w *world) {
			w.candidate("b", 2)
			w.activates = func(ID) error { return nil }
		}, 6 * time.Second, func(w *world) bool { return len(w.s.Memory.Quarantine) == 1 }},
		{"stale", func(w *world) { w.lookErr = fails(Transient, "") }, time.Hour, func(w *world) bool { return w.s.Stale }},
		{"trouble is told after ten minutes", func(w *world) { w.lookErr = fails(Transient, "") }, 10 * time.Minute, func(w *world) bool { return w.s.Troubled }},
		{"a pause ends", func(w *world) {
			w.candidate("b", 2)
			w.seed(Line{Op: OpPause, Pause: &Pause{Until: noon().Add(20 * time.Minute)}})
			w.c.Soak = time.Hour
		}, 20 * time.Minute, func(w *world) bool { return len(w.activated) == 1 }},
		{"the window opens", func(w *world) {
			w.candidate("b", 2)
			h, _ := ParseHours("Mon-Fri 12:45-14:00 UTC")
			w.c.Windows = []Hours{h}
		}, 45 * time.Minute, func(w *world) bool { return len(w.activated) == 1 }},
		{"old enough", func(w *world) {
			c := cand("b", 2)
			c.Made = noon().Add(-5 * time.Minute)
			w.offer, w.c.MinAge = &c, 10*time.Minute
		}, 5 * time.Minute, func(w *world) bool { return len(w.activated) == 1 }},
		{"old enough since it was first seen", func(w *world) {
			w.candidate("b", 2)
			w.c.MinAge = 10 * time.Minute
		}, 10 * time.Minute, func(w *world) bool { return len(w.activated) == 1 }},
		{"time is up", func(w *world) { w.c.Timeout = 90 * time.Second }, 90 * time.Second, func(w *world) bool { return w.s.Over }},
		{"the target is asked every five minutes", func(w *world) {
			old := w.runs
			w.observe = func() (Observation, error) {
				if w.now.After(noon()) {
					return Observation{Sight: Runs, ID: id("x")}, nil
				}
				return Observation{Sight: Runs, ID: old}, nil
			}
		}, 5 * time.Minute, func(w *world) bool { return w.s.Memory.Drift != nil }},
		{"a hold of the target is asked about again", func(w *world) {
			w.candidate("b", 2)
			w.stage = func() error {
				if w.now.After(noon()) {
					return nil
				}
				return fails(Hold, WorkloadHeld)
			}
		}, time.Minute, func(w *world) bool { return len(w.activated) == 1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t).settled()
			tt.do(w)
			w.input(Input{What: Begin})
			w.run(tt.limit - ms)
			if tt.is(w) {
				t.Errorf("already at %s\n%s", w.now.Sub(noon()), w.story())
			}
			w.run(5 * time.Second) // a rollback takes its probes
			if !tt.is(w) {
				t.Errorf("not yet at %s: %v\n%s", w.now.Sub(noon()), w.s.Shown(), w.story())
			}
			w.check()
		})
	}
}

// TestWait: the reply comes at the end of the wait, after one last look.
func TestWait(t *testing.T) {
	w := newWorld(t).settled()
	w.input(Input{What: Begin})
	w.run(time.Second)
	n := w.ask(Request{Verb: Hint, Expect: expect("b"), Wait: time.Minute})
	w.run(time.Minute - time.Millisecond)
	if o, early := w.replies[n]; early {
		t.Fatalf("answered early: %+v", o)
	}
	w.run(time.Millisecond)
	if o := w.replies[n]; o.Kind != fault.Timeout {
		t.Errorf("%+v", o)
	}
	halves, ends := 0, 0
	for _, q := range w.queries {
		if q.Half {
			halves++
		}
		if q.End {
			ends++
		}
	}
	if halves != 1 || ends != 1 {
		t.Errorf("half was told %d times, the end %d times", halves, ends)
	}
	// And one that comes in the last second is still deployed.
	n = w.ask(Request{Verb: Hint, Expect: expect("b"), Wait: time.Minute, UntilSoak: true})
	w.run(59 * time.Second)
	w.candidate("b", 2)
	w.run(10 * time.Second)
	if o := w.replies[n]; o.Kind != fault.OK || o.State != string(Soaking) || o.Verdict != VerdictLive {
		t.Errorf("%+v", o)
	}
}

// TestNewerWhileSoaking: what has begun is finished, then the newest follows
// and those between are skipped.
func TestNewerWhileSoaking(t *testing.T) {
	w := newWorld(t).settled()
	w.candidate("b", 2)
	w.input(Input{What: Begin})
	w.run(20 * time.Second)
	for i, name := range []string{"c", "d", "e"} {
		w.candidate(name, int64(3+i))
		w.ask(Request{Verb: Hint, Detached: true})
		w.run(5 * time.Second)
	}
	if w.s.Memory.Phase != Soaking || len(w.activated) != 1 {
		t.Fatalf("%s, %d activations", w.s.Memory.Phase, len(w.activated))
	}
	w.run(5 * time.Minute)
	if want := []ID{id("b"), id("e")}; !slices.Equal(w.activated, want) || w.s.Memory.Previous.ID != id("b") {
		t.Errorf("activated %v, want %v\n%s", w.activated, want, w.story())
	}
	w.check()
}

// TestDrift: what each policy does about somebody else's change.
func TestDrift(t *testing.T) {
	for policy, want := range map[OnDrift]string{HoldDrift: "x drifted", AdoptDrift: "x", EnforceDrift: "a"} {
		w := newWorld(t).settled()
		w.c.OnDrift = policy
		w.input(Input{What: Begin})
		w.run(time.Minute)
		w.runs = id("x")
		w.run(10 * time.Minute)
		got := string(rune(hexByte(w.runs)))
		if w.s.Memory.Drift != nil {
			got += " drifted"
		}
		if got != want {
			t.Errorf("%s: %s, want %s\n%s", policy, got, want, w.story())
		}
		if st := StatusOf(w.s, "w"); st.Running == nil || st.Running.ID != w.runs {
			t.Errorf("%s: %s runs, the status says %+v", policy, w.runs, st.Running)
		}
		w.check()
	}
	// Twice after enforcing: no more writes.
	w := newWorld(t).settled()
	w.c.OnDrift = EnforceDrift
	w.input(Input{What: Begin})
	for range 5 {
		w.runs = id("x")
		w.run(10 * time.Minute)
	}
	if len(w.activated) != 2 || w.s.Memory.Contended == "" {
		t.Errorf("enforced %d times, contended %q\n%s", len(w.activated), w.s.Memory.Contended, w.story())
	}
}

// TestSignals: what a signal does to each phase.
func TestSignals(t *testing.T) {
	for _, tt := range []struct {
		at    time.Duration
		ends  time.Duration // after the signal
		phase Phase
		said  string
	}{
		{1 * time.Second, 0, Fetching, "nothing was changed"},
		{8 * time.Second, 7 * time.Second, Switching, "asks the target"},
		{15*time.Second + time.Millisecond, 0, Switching, ""},
		{18 * time.Second, 0, Probing, "probes 62626262 again"},
		{25 * time.Second, 0, Soaking, "again"},
	} {
		w := newWorld(t).settled()
		w.candidate("b", 2)
		w.took[DoFetch], w.took[DoActivate], w.took[DoObserve] = 5*time.Second, 10*time.Second, 0
		w.input(Input{What: Begin})
		w.run(tt.at)
		w.input(Input{What: Stop, Kind: fault.Terminated})
		begun := w.now
		w.run(time.Minute)
		if w.ended == nil {
			t.Fatalf("at %s: it goes on", tt.at)
		}
		took := w.now.Sub(begun)
		if took != tt.ends || w.ended.Kind != fault.Terminated || !strings.Contains(w.ended.Reason, tt.said) {
			t.Errorf("at %s in %s: ended after %s (want %s): %s", tt.at, w.s.Memory.Phase, took, tt.ends, w.ended.Reason)
		}
		w.check()
		w.restart()
		w.run(5 * time.Minute)
		if w.s.Memory.Phase != Live || len(w.activated) != 1 {
			t.Errorf("at %s: the next start ends in %s after %d activations", tt.at, w.s.Memory.Phase, len(w.activated))
		}
	}
	// A hook that hangs has its grace; a second signal ends at once.
	for _, twice := range []bool{false, true} {
		w := newWorld(t).settled()
		w.candidate("b", 2)
		w.took[DoActivate] = time.Hour
		w.input(Input{What: Begin})
		w.run(time.Second)
		w.input(Input{What: Stop, Kind: fault.Interrupted})
		want := 30 * time.Second
		if twice {
			want = time.Second
			w.run(want)
			w.input(Input{What: Stop, Kind: fault.Interrupted})
		}
		w.run(time.Hour)
		if got := w.now.Sub(noon().Add(time.Second)); got != want || w.ended == nil {
			t.Errorf("twice %v: ended after %s", twice, got)
		}
	}
}

// TestByHand walks the verbs: pause, resume, rollback and its pin, retry.
func TestByHand(t *testing.T) {
	w := newWorld(t).settled()
	w.input(Input{What: Begin})
	w.run(time.Minute)
	w.ask(Request{Verb: PauseVerb, Reason: "holiday"})
	w.candidate("b", 2)
	w.run(time.Hour)
	if len(w.activated) != 0 || !slices.Contains(w.s.Shown(), "paused") {
		t.Fatalf("paused: %v", w.s.Shown())
	}
	w.ask(Request{Verb: ResumeVerb})
	w.run(5 * time.Minute)
	if w.runs != id("b") {
		t.Fatalf("resumed: %s runs", w.runs)
	}
	n := w.ask(Request{Verb: RollbackVerb})
	w.run(5 * time.Minute)
	if w.replies[n].Kind != fault.OK || w.runs != id("a") || w.s.Memory.Pin != id("a") {
		t.Fatalf("rollback: %+v, %s runs, pin %q\n%s", w.replies[n], w.runs, w.s.Memory.Pin, w.story())
	}
	w.candidate("c", 3)
	w.run(time.Hour)
	if w.runs != id("a") {
		t.Error("something came in spite of the pin")
	}
	w.candidate("b", 2)
	w.ask(Request{Verb: ResumeVerb})
	w.run(time.Hour)
	if w.runs != id("a") {
		t.Error("what was rolled back by hand came again by itself")
	}
	n = w.ask(Request{Verb: RetryVerb})
	w.run(5 * time.Minute)
	if w.runs != id("b") || w.replies[n].Kind != fault.OK {
		t.Errorf("retry: %s runs, %+v", w.runs, w.replies[n])
	}
	w.check()
}

// TestFirstStartMoves: a source that moves after the first look offers
// something newer.
func TestFirstStartMoves(t *testing.T) {
	w := newWorld(t)
	w.runs = id("a")
	w.candidate("b", 0)
	w.input(Input{What: Begin})
	w.run(time.Hour)
	if len(w.activated) != 0 || w.s.Hold.Why != FirstStart {
		t.Fatalf("%d, %+v", len(w.activated), w.s.Hold)
	}
	w.candidate("c", 0)
	w.run(5 * time.Minute)
	if w.runs != id("c") {
		t.Errorf("%s runs\n%s", w.runs, w.story())
	}
}

// TestDay is a day of a watch whose source fails now and then and offers
// something new every half hour: nothing grows.
func TestDay(t *testing.T) {
	w := newWorld(t).settled()
	w.fast = true
	w.c.Soak = 10 * time.Second
	size := func() int {
		w.lines, w.events, w.looks, w.probes, w.queries, w.probedIDs = nil, nil, nil, nil, nil, nil
		w.replies = map[int64]Outcome{}
		data, err := json.Marshal(w.s.Memory)
		if err != nil {
			t.Fatal(err)
		}
		return len(data) + 100*(len(w.s.requests)+len(w.s.hot)+len(w.s.warnings)+len(w.pending))
	}
	w.input(Input{What: Begin})
	names := 0
	half := func(i int) {
		names++
		c := Candidate{ID: ID(fmt.Sprintf("sha256:%064x", names)), Kind: File, Size: 1}
		w.offer = &c
		w.bad[c.ID] = i%5 == 0
		w.lookErr = nil
		w.ask(Request{Verb: Hint, Expect: expect("f"), Detached: true})
		w.run(20 * time.Minute)
		w.lookErr = fails(Transient, "")
		w.run(10 * time.Minute)
	}
	idle := newWorld(t).settled()
	idle.fast = true
	idle.answer = func(Query) (Look, error) { return Look{}, nil }
	idle.input(Input{What: Begin})
	idle.run(24 * time.Hour)
	if n := len(idle.looks); n > 2881 || n < 2800 {
		t.Errorf("%d looks in an idle day", n)
	}
	if n := len(idle.lines); n > 12 {
		t.Errorf("an idle day wrote %d lines", n)
	}
	var before, after runtime.MemStats
	for i := range mostTried + 100 { // until every list is full
		m := w.s.Memory
		m.Tried = with(m.Tried, ID(fmt.Sprintf("sha256:f%063x", i)))
		m.quarantine(Line{Reason: "old"}, ID(fmt.Sprintf("sha256:f%063x", i)))
		w.s.Memory = m
	}
	for i := range 10 {
		half(i)
	}
	first := size()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 48 {
		half(i)
		w.lines, w.events, w.looks = nil, nil, nil
	}
	last := size()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if last > first+first/20 || last > 1<<20 {
		t.Errorf("memory grew from %d to %d bytes", first, last)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if len(w.activated) < 40 {
		t.Errorf("only %d deployments", len(w.activated))
	}
}
