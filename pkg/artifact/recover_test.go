package artifact

import (
	"strings"
	"testing"
	"time"

	"homelab/pkg/fault"
)

// TestRecover is the table of what a start does with what the journal ends in.
func TestRecover(t *testing.T) {
	runs := func(s string) Observation { return Observation{Sight: Runs, ID: id(s)} }
	none, unknown := Observation{Sight: Nothing}, Observation{Sight: Unknown}
	tests := []struct {
		phase      Phase
		o          Observation
		idempotent bool
		backs      int
		first      bool // there was no version before
		want       Resume
	}{
		{phase: Fetching, o: runs("a"), want: GoOn},
		{phase: Verified, o: runs("a"), want: GoOn},
		{phase: Staged, o: runs("a"), want: GoOn},
		{phase: Staged, o: unknown, want: GoOn},
		{phase: Switching, o: runs("b"), want: ProbeNow},
		{phase: Switching, o: runs("b"), idempotent: true, want: ProbeNow},
		{phase: Switching, o: runs("a"), idempotent: true, want: Finish},
		{phase: Switching, o: runs("a"), want: Interrupts},
		{phase: Switching, o: runs("x"), want: GoBack},
		{phase: Switching, o: none, want: GoBack},
		{phase: Switching, o: none, first: true, want: Interrupts},
		{phase: Switching, o: none, first: true, idempotent: true, want: Finish},
		{phase: Switching, o: unknown, want: StopHere},
		{phase: Switching, o: unknown, idempotent: true, want: StopHere},
		{phase: Probing, o: runs("b"), want: ProbeNow},
		{phase: Probing, o: runs("a"), want: OldRuns},
		{phase: Probing, o: runs("x"), want: OtherRuns},
		{phase: Probing, o: none, want: OtherRuns},
		{phase: Probing, o: unknown, want: AskAgain},
		{phase: Soaking, o: runs("b"), want: ProbeNow},
		{phase: Soaking, o: runs("a"), want: OldRuns},
		{phase: Soaking, o: runs("x"), want: OtherRuns},
		{phase: RollingBack, o: runs("a"), backs: 1, want: ProbeBack},
		{phase: RollingBack, o: runs("a"), backs: 2, want: ProbeBack},
		{phase: RollingBack, o: runs("b"), backs: 1, want: GoBack},
		{phase: RollingBack, o: none, backs: 1, want: GoBack},
		{phase: RollingBack, o: unknown, backs: 1, want: GoBack},
		{phase: RollingBack, o: runs("b"), backs: 2, want: StopHere},
		{phase: Halted, o: runs("b"), want: GoOn},
	}
	for _, tt := range tests {
		a := &Attempt{N: 2, Candidate: cand("b", 2), Previous: &Version{Candidate: cand("a", 1)}, Before: runs("a"), Backs: tt.backs}
		if tt.first {
			a.Previous, a.Before = nil, none
		}
		m := Memory{Phase: tt.phase, Attempt: a}
		if got := Recover(m, tt.o, Config{Idempotent: tt.idempotent}); got != tt.want {
			t.Errorf("%s, the target runs %s, idempotent %v, %d rollbacks: %s, want %s", tt.phase, tt.o, tt.idempotent, tt.backs, got, tt.want)
		}
	}
}

// TestCrash kills the process after each line it writes, in a deployment that
// goes well and in one that is rolled back, and starts it again: the end is the
// same, and what is not safe to repeat is not repeated.
func TestCrash(t *testing.T) {
	for _, bad := range []bool{false, true} {
		for _, idempotent := range []bool{false, true} {
			for _, took := range []bool{false, true} { // the side effect happened before the crash
				for n := 1; ; n++ {
					w := newWorld(t).settled()
					w.c.Idempotent = idempotent
					w.candidate("b", 2)
					w.bad[id("b")] = bad
					count, last := 0, Line{}
					w.torn = func(l Line) bool { count++; last = l; return count == n }
					w.input(Input{What: Begin})
					w.run(10 * time.Minute)
					if !w.crashed {
						break // it ended before
					}
					if took && last.Op == OpIntent {
						if last.State == Switching {
							w.activated, w.runs = append(w.activated, id("b")), id("b")
						}
						if last.State == RollingBack {
							w.runs = id("a")
						}
					}
					w.restart()
					w.run(10 * time.Minute)
					w.check()
					name := string(last.Op) + " " + string(last.State)
					interrupted := !idempotent && !took && last.Op == OpIntent && last.State == Switching
					if len(w.activated) > 1 || len(w.activated) == 0 && !interrupted {
						t.Errorf("killed after %s: activated %d times\n%s", name, len(w.activated), w.story())
					}
					want, phase := id("b"), Live
					if bad {
						want, phase = id("a"), RolledBack
					}
					if interrupted {
						want, phase = id("a"), Live
						if q, _ := w.s.Memory.quarantined(id("b")); q.Reason != "interrupted" {
							t.Errorf("killed after %s: quarantine %+v", name, q)
						}
					}
					if w.runs != want || w.s.Memory.Phase != phase {
						t.Errorf("killed after %s (bad %v, idempotent %v, took %v): %s runs, %s\n%s", name, bad, idempotent, took, w.runs.Short(), w.s.Memory.Phase, w.story())
					}
				}
			}
		}
	}
}

// TestRestartIntoTrouble walks the other rows: what a start finds is not what
// was left.
func TestRestartIntoTrouble(t *testing.T) {
	at := func(p Phase) func(Line) bool {
		return func(l Line) bool { return l.State == p && (l.Op == OpIntent || l.Op == OpDone) }
	}
	unknown := func() (Observation, error) { return Observation{Sight: Unknown}, nil }
	tests := []struct {
		name  string
		crash Phase
		bad   bool
		found func(*world)
		code  int
		phase Phase
		shown string
	}{
		{"switching, something else runs", Switching, false, func(w *world) { w.runs = id("x") }, 1, RolledBack, ""},
		{"switching, nothing runs", Switching, false, func(w *world) { w.runs = "" }, 1, RolledBack, ""},
		{"switching, unknown", Switching, false, func(w *world) { w.observe = unknown }, 11, Halted, ""},
		{"switching, not askable", Switching, false, func(w *world) {
			w.observe = func() (Observation, error) { return Observation{}, fails(Transient, "") }
		}, 7, Switching, ""},
		{"probing, the old one runs", Probing, false, func(w *world) { w.runs = id("a") }, 1, Live, ""},
		{"probing, something else runs", Probing, false, func(w *world) { w.runs = id("x") }, 5, Live, "drifted"},
		{"soaking, something else runs", Soaking, false, func(w *world) { w.runs = id("x") }, 5, Live, "drifted"},
		{"rolling back, the new one still runs and stays", RollingBack, true, func(w *world) {
			w.backs = func(ID) error { return nil }
		}, 11, Halted, ""},
		{"rolling back, unknown", RollingBack, true, func(w *world) { w.observe = unknown }, 11, Halted, ""},
		{"before the switch, somebody acted", Staged, false, func(w *world) { w.runs = id("x") }, 5, Live, "drifted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t).settled()
			w.candidate("b", 2)
			w.bad[id("b")] = tt.bad
			w.torn = at(tt.crash)
			w.input(Input{What: Begin})
			w.run(10 * time.Minute)
			if !w.crashed {
				t.Fatalf("it never got to %s", tt.crash)
			}
			if tt.crash == Probing || tt.crash == Soaking {
				w.runs = id("b")
			}
			tt.found(w)
			w.c.Once, w.c.Soak = true, OnceSoak
			w.restart()
			w.ask(Request{Verb: Hint})
			w.run(30 * time.Minute)
			w.check()
			if w.ended == nil {
				t.Fatalf("no end\n%s", w.story())
			}
			if w.ended.Kind.Code() != tt.code || w.s.Memory.Phase != tt.phase || !strings.Contains(strings.Join(w.s.Shown(), " "), tt.shown) {
				t.Errorf("code %d (%s), %v; want %d, %s\n%s", w.ended.Kind.Code(), w.ended.Reason, w.s.Shown(), tt.code, tt.phase, w.story())
			}
			if _, out := w.s.Memory.quarantined(id("b")); !out && tt.code != 7 && tt.crash != Staged {
				t.Error("b is not quarantined")
			}
		})
	}
}

// TestHaltedStays: no start, offer or hint moves a halted watch, retry does.
func TestHaltedStays(t *testing.T) {
	w := newWorld(t).settled()
	w.candidate("b", 2)
	w.bad[id("b")] = true
	w.backs = func(ID) error { return nil }
	w.input(Input{What: Begin})
	w.run(10 * time.Minute)
	tells := func(when string) {
		st := StatusOf(w.s, "w")
		if last := w.s.Memory.Last; st.Running == nil || st.Running.ID != id("b") || last == nil || last.Running == nil || last.Running.ID != id("b") {
			t.Errorf("%s: b runs; status %+v, result %+v", when, st.Running, last)
		}
	}
	tells("halted")
	for range 3 {
		w.restart()
		tells("restarted")
		w.candidate("c", 3)
		w.run(time.Hour)
	}
	n := w.ask(Request{Verb: Hint})
	w.run(time.Minute)
	if w.s.Memory.Phase != Halted || len(w.activated) != 1 || w.replies[n].Kind != fault.Unsafe {
		t.Fatalf("%v, activated %d, reply %+v\n%s", w.s.Shown(), len(w.activated), w.replies[n], w.story())
	}
	w.candidate("b", 2)
	w.run(time.Minute)
	w.bad[id("b")] = false
	n = w.ask(Request{Verb: RetryVerb})
	w.run(10 * time.Minute)
	w.check()
	if w.s.Memory.Phase != Live || w.replies[n].Kind != fault.OK || len(w.activated) != 1 {
		t.Errorf("after retry: %v, reply %+v, activated %d\n%s", w.s.Shown(), w.replies[n], len(w.activated), w.story())
	}
}

// What was on offer to another process is not begun before the source has said
// again what it offers: what held it may be hidden by the very same outage.
func TestOfferedToAnotherProcess(t *testing.T) {
	w := newWorld(t).settled()
	w.candidate("b", 2)
	w.stage = func() error { return fails(Hold, NoWayBack) }
	if o := w.once(Request{}); o.Kind != fault.Held {
		t.Fatalf("%+v", o)
	}
	w.stage = nil
	again := func(lookErr error) Outcome {
		w.lookErr = lookErr
		w.restart()
		n := w.ask(Request{Verb: Hint})
		w.run(time.Hour)
		w.check()
		return w.replies[n]
	}
	if o := again(fails(Transient, "")); o.Kind != fault.Unreachable || len(w.activated) > 0 {
		t.Errorf("%+v, activated %v\n%s", o, w.activated, w.story())
	}
	if o := again(nil); o.Kind != fault.OK || w.runs != id("b") {
		t.Errorf("%+v, %s runs\n%s", o, w.runs, w.story())
	}
}
