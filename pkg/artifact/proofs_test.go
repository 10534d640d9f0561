package artifact

import (
	"slices"
	"testing"
	"time"

	"homelab/pkg/fault"
)

func lonely() error {
	return &Failure{Class: Hold, Why: Unreproduced, What: "0 of 1 others have built it"}
}

// A candidate that others have yet to build waits, and is held when its time is
// over; a single run is answered then.
func TestWaitsForRebuilds(t *testing.T) {
	const half = 30 * time.Minute
	for name, tc := range map[string]struct {
		wait, built time.Duration // built: after which the others have it; 0 never
		code        int
		after       time.Duration // when the run ends
		asked       int
	}{
		"at once":               {time.Hour, 1, 0, 0, 1},
		"in time":               {time.Hour, 10 * time.Minute, 0, 10 * time.Minute, 21},
		"at the last moment":    {half, half, 0, half, 61},
		"a moment too late":     {half, half + time.Second, 5, half, 61},
		"never":                 {half, 0, 5, half, 61},
		"without patience":      {0, 0, 5, 0, 1},
		"less than an interval": {time.Second, 0, 5, time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).settled()
			w.c.ReproduceWait, w.c.Soak = tc.wait, 0
			w.candidate("b", 2)
			began := w.now
			two := 2
			w.verify = func() error {
				if tc.built == 0 || tc.built > 1 && w.now.Sub(began) < tc.built {
					return lonely()
				}
				w.proofs.Reproduced = &two
				return nil
			}
			o := w.once(Request{})
			if o.Kind.Code() != tc.code {
				t.Fatalf("%s: %s\n%s", o.Kind, o.Reason, w.story())
			}
			if len(w.proves) != tc.asked || slices.Contains(w.proves, false) {
				t.Errorf("asked %d times, want %d", len(w.proves), tc.asked)
			}
			took := w.now.Sub(began)
			if took < tc.after || took > tc.after+10*time.Second {
				t.Errorf("it took %s, want %s", took, tc.after)
			}
			w.check()
			r := Show(o, w.c, w.s.Memory, "", "")
			if tc.code == 0 {
				if r.Verified == nil || !r.Verified.Hash || r.Verified.Signature != nil || r.Verified.Reproduced == nil || *r.Verified.Reproduced != 2 {
					t.Errorf("verified %+v", r.Verified)
				}
				return
			}
			if o.Why != Unreproduced || r.Verified != nil || len(w.activated) != 0 || len(w.s.Memory.Quarantine) != 0 {
				t.Errorf("%+v, verified %+v, quarantine %v", o, r.Verified, w.s.Memory.Quarantine)
			}
		})
	}
}

// The time of a candidate counts from its first sight, whatever happens to the
// process; when it is over the others are asked on, and their build lifts the
// hold.
func TestRebuildsCountFromFirstSight(t *testing.T) {
	w := newWorld(t).settled()
	w.c.ReproduceWait = time.Hour
	w.candidate("b", 2)
	w.verify = lonely
	w.input(Input{What: Begin})
	w.run(50 * time.Minute)
	if w.s.Hold != nil || w.s.Memory.Attempt == nil {
		t.Fatalf("it does not wait: %+v", w.s.Hold)
	}
	w.restart()
	w.run(9 * time.Minute)
	if w.s.Hold != nil {
		t.Fatalf("held after 59 minutes: %+v", w.s.Hold)
	}
	w.run(2 * time.Minute)
	if w.s.Hold == nil || w.s.Hold.Why != Unreproduced || w.s.Kind() != fault.Held {
		t.Fatalf("after 61 minutes: %+v\n%s", w.s.Hold, w.story())
	}
	w.run(time.Hour)
	asked := len(w.proves)
	w.run(time.Hour)
	if n := len(w.proves) - asked; n < 3 || n > 6 {
		t.Errorf("asked %d times in an hour of being held", n)
	}
	w.verify = nil
	w.run(20 * time.Minute)
	if w.runs != id("b") || w.s.Memory.Phase != Live {
		t.Errorf("%s runs, %s", w.runs, w.s.Memory.Phase)
	}
	w.check()
}

// Something newer does not wait behind what nobody rebuilds.
func TestOvertakenWhileWaiting(t *testing.T) {
	w := newWorld(t).settled()
	w.c.ReproduceWait = time.Hour
	w.candidate("b", 2)
	w.verify = lonely
	w.input(Input{What: Begin})
	w.run(5 * time.Minute)
	w.candidate("c", 3)
	w.verify = nil
	w.run(5 * time.Minute)
	if w.runs != id("c") || slices.Contains(w.activated, id("b")) {
		t.Errorf("%s runs after %v", w.runs, w.activated)
	}
	w.check()
}

// What was live before was proved before: the way back does not depend on who
// else can be asked now. A retry proves again.
func TestWhatIsProved(t *testing.T) {
	w := newWorld(t).settled()
	w.candidate("b", 2)
	if o := w.once(Request{}); o.Kind != fault.OK {
		t.Fatal(o.Reason)
	}
	w.c.Once = false
	w.restart()
	w.run(time.Minute)
	w.proves = nil
	w.ask(Request{Verb: RollbackVerb})
	w.run(5 * time.Minute)
	if w.runs != id("a") || !slices.Equal(w.proves, []bool{false}) {
		t.Errorf("%s runs, proofs asked for %v\n%s", w.runs, w.proves, w.story())
	}
}
