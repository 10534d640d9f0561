package artifact

import (
	"testing"
	"time"

	"homelab/pkg/fault"
)

// halted is a watch whose way back from b to a did not work.
func halted(t *testing.T) *world {
	t.Helper()
	w := newWorld(t).settled()
	w.candidate("b", 2)
	w.bad[id("b")] = true
	w.backs = func(ID) error { return nil }
	w.input(Input{What: Begin})
	w.run(10 * time.Minute)
	if w.s.Memory.Phase != Halted {
		t.Fatalf("%v\n%s", w.s.Shown(), w.story())
	}
	w.backs = nil
	return w
}

// A halted watch is gone back from by hand, in the process that halted and in
// one of its own; and only what proves itself lifts the halt.
func TestRollbackOfWhatHalted(t *testing.T) {
	for _, alone := range []bool{false, true} {
		w := halted(t)
		rollback := func() Outcome {
			if alone {
				w.restart()
				w.c.Once = true
				defer func() { w.c.Once = false }()
			}
			n := w.ask(Request{Verb: RollbackVerb})
			w.run(10 * time.Minute)
			return w.replies[n]
		}
		w.verify = func() error { return fails(Refused, "") }
		if o := rollback(); o.Kind != fault.Held || o.Why != NoWayBack || w.s.Memory.Halt == "" || w.s.Kind() != fault.Unsafe {
			t.Errorf("alone %v, the way back is damaged: %+v, %v", alone, o, w.s.Shown())
		}
		w.verify = nil
		w.activates = func(ID) error { return fails(Failed, "") }
		if o := rollback(); o.Kind != fault.Failed || w.s.Memory.Phase != Halted {
			t.Errorf("alone %v, it cannot be activated: %+v, %v", alone, o, w.s.Shown())
		}
		w.activates = nil
		w.seed(Line{Op: OpPermit, ID: id("a")}) // that failure kept it out
		w.seed(Line{Op: OpDone, State: Halted, Reason: "still"})
		if o := rollback(); o.Kind != fault.OK || w.runs != id("a") || w.s.Memory.Halt != "" || w.s.Memory.Pin != id("a") {
			t.Errorf("alone %v: %+v, %s runs, halt %q\n%s", alone, o, w.runs, w.s.Memory.Halt, w.story())
		}
		w.check()
	}
}

// What halted is what this watch left running, and nobody else's: after retry
// something newer comes by itself.
func TestNewerAfterHalt(t *testing.T) {
	for _, first := range []bool{true, false} {
		w := newWorld(t)
		if !first {
			w = halted(t)
		} else {
			w.candidate("b", 2)
			w.bad[id("b")] = true
			w.input(Input{What: Begin})
			w.run(10 * time.Minute)
		}
		if w.s.Memory.Phase != Halted || w.runs != id("b") {
			t.Fatalf("%v, %s runs\n%s", w.s.Shown(), w.runs, w.story())
		}
		w.candidate("c", 3)
		w.run(time.Hour)
		w.seed(Line{Op: OpPermit, ID: id("b")}) // retry without a daemon, and c is on offer
		w.restart()
		w.run(10 * time.Minute)
		if w.runs != id("c") || w.s.Memory.Phase != Live || w.s.Memory.Left != "" {
			t.Errorf("first %v: %v, %s runs\n%s", first, w.s.Shown(), w.runs, w.story())
		}
		w.check()
	}
}

// Who joins in the soak is answered at once; who asks for anything newer, when
// there is something newer, by that.
func TestJoinsSoak(t *testing.T) {
	b := Expectation{Form: ByID, Value: id("b").Hex()}
	for _, tc := range []struct {
		name  string
		e     Expectation
		newer bool
		want  ID
	}{{"look", Expectation{}, false, id("b")}, {"expected", b, false, id("b")}, {"newer", Expectation{}, true, id("c")}} {
		w := newWorld(t).settled()
		w.c.Soak = 10 * time.Minute
		w.candidate("b", 2)
		w.input(Input{What: Begin})
		w.run(time.Minute)
		if w.s.Memory.Phase != Soaking {
			t.Fatal(w.s.Memory.Phase)
		}
		if tc.newer {
			w.candidate("c", 3)
		}
		n := w.ask(Request{Verb: Hint, Expect: tc.e, UntilSoak: true})
		w.run(10 * time.Second)
		o, told := w.replies[n]
		if told == tc.newer {
			t.Errorf("%s: told %v %+v", tc.name, told, o)
		}
		w.run(20 * time.Minute)
		if o = w.replies[n]; o.Kind != fault.OK || o.Verdict != VerdictLive || o.Running.ID != tc.want {
			t.Errorf("%s: %+v", tc.name, o)
		}
		w.check()
	}
}

// What failed stays out whatever may be older.
func TestDowngradeIsNoRetry(t *testing.T) {
	w := newWorld(t).settled()
	w.candidate("b", 2)
	w.seed(Line{Op: OpQuarantine, ID: id("b"), Reason: "bad"})
	w.c.AllowDowngrade = true
	if o := w.once(Request{}); o.Kind != fault.Held || o.Why != Quarantined || len(w.activated) > 0 {
		t.Errorf("%+v", o)
	}
}

// What ran before and is gone is not called older.
func TestNothingLeft(t *testing.T) {
	w := newWorld(t).settled()
	w.runs = ""
	w.input(Input{What: Begin})
	w.run(time.Minute)
	w.ask(Request{Verb: ResumeVerb})
	w.run(time.Minute)
	if h := w.s.Hold; h == nil || h.Why != Repeated || w.s.Memory.Phase != Idle || w.s.Kind() != fault.Held {
		t.Errorf("%v, %+v, %s", w.s.Shown(), h, w.s.Kind())
	}
	n := w.ask(Request{Verb: RetryVerb})
	w.run(5 * time.Minute)
	if w.runs != id("a") || w.replies[n].Kind != fault.OK {
		t.Errorf("retry: %s runs, %+v", w.runs, w.replies[n])
	}
	w.check()
}
