package artifact

import (
	"strings"
	"testing"
	"time"

	"homelab/pkg/fault"
)

func expect(s string) Expectation { return Expectation{ByID, id(s).Hex()} }

// TestOnce has every situation a single run can end in, and its code.
func TestOnce(t *testing.T) {
	wait := Request{Expect: expect("b"), Wait: time.Minute}
	tests := []struct {
		name      string
		do        func(*world)
		r         Request
		code      int
		reason    string
		phase     Phase
		activated string // letters
		runs      string
	}{
		{name: "live", do: func(w *world) { w.candidate("b", 2) }, code: 0, phase: Live, activated: "b", runs: "b"},
		{name: "nothing newer", code: 0, phase: Live, runs: "a", reason: "nothing newer"},
		{name: "rebuilt identically", do: func(w *world) {
			w.answer = func(Query) (Look, error) { c := cand("a", 5); return Look{Candidate: &c, Rebuilt: true}, nil }
		}, code: 0, phase: Live, runs: "a"},
		{
			name: "the rebuild is expected under its own name", do: func(w *world) {
				w.answer = func(Query) (Look, error) {
					c := cand("a", 5)
					c.Meta.UUID = "00000000-0000-0000-0000-0000000000ff"
					return Look{Candidate: &c, Rebuilt: true}, nil
				}
			}, r: Request{Expect: Expectation{ByUUID, "00000000-0000-0000-0000-0000000000ff"}, Wait: time.Minute},
			code: 0, phase: Live, runs: "a", reason: "already",
		},
		{name: "refused while fetched", do: func(w *world) {
			w.candidate("b", 2)
			w.fetch = func() error { return fails(Refused, "") }
		}, code: 1, phase: Live, runs: "a", reason: "refused"},
		{name: "hash wrong before use", do: func(w *world) {
			w.candidate("b", 2)
			w.verify = func() error { return fails(Refused, "") }
		}, code: 1, phase: Live, runs: "a"},
		{name: "the offer contradicts itself", do: func(w *world) { w.lookErr = fails(Refused, "") }, code: 1, runs: "a", phase: Live},
		{name: "activate failed, the old one runs", do: func(w *world) {
			w.candidate("b", 2)
			w.activates = func(ID) error { return fails(Failed, "") }
		}, code: 1, phase: Live, activated: "b", runs: "a", reason: "nothing was changed"},
		{name: "activate lied", do: func(w *world) {
			w.candidate("b", 2)
			w.activates = func(ID) error { return nil }
		}, code: 1, phase: Live, activated: "b", runs: "a", reason: "still runs"},
		{name: "activate failed, the new one runs and is well", do: func(w *world) {
			w.candidate("b", 2)
			w.activates = func(to ID) error { w.runs = to; return fails(Failed, "") }
		}, code: 0, phase: Live, activated: "b", runs: "b"},
		{name: "activate failed, something else runs", do: func(w *world) {
			w.candidate("b", 2)
			w.activates = func(ID) error { w.runs = id("x"); return fails(Failed, "") }
		}, code: 1, phase: RolledBack, activated: "b", runs: "a"},
		{name: "activate failed, nothing runs", do: func(w *world) {
			w.candidate("b", 2)
			w.activates = func(ID) error { w.runs = ""; return fails(Failed, "") }
		}, code: 1, phase: RolledBack, activated: "b", runs: "a"},
		{name: "probes fail", do: func(w *world) { w.candidate("b", 2); w.bad[id("b")] = true }, code: 1, phase: RolledBack, activated: "b", runs: "a", reason: "rolled back"},
		{name: "rollout fails", do: func(w *world) {
			w.candidate("b", 2)
			w.ready = func(i ID) Readiness {
				if i == id("b") {
					return Readiness{State: NotReady, Reason: "CrashLoopBackOff"}
				}
				return Readiness{State: IsReady}
			}
		}, code: 1, phase: RolledBack, activated: "b", runs: "a", reason: "CrashLoopBackOff"},
		{name: "the expected build failed", do: func(w *world) {
			w.answer = func(Query) (Look, error) { return Look{Expected: Broken, Reason: "tests failed"}, nil }
		}, r: wait, code: 1, phase: Live, runs: "a", reason: "tests failed"},
		{name: "the expected runs and is well", r: Request{Expect: expect("a"), Wait: time.Minute}, code: 0, phase: Live, runs: "a"},
		{name: "the expected runs and fails its probes", do: func(w *world) { w.bad[id("a")] = true }, r: Request{Expect: expect("a"), Wait: time.Minute}, code: 1, phase: Live, runs: "a", reason: "not well"},
		{name: "never there", do: func(w *world) {
			w.s, w.lines = New(Memory{}), nil
			w.lookErr = fails(Absent, "")
		}, code: 3, phase: Idle, runs: "a"},
		{name: "gone later is no change", do: func(w *world) { w.lookErr = fails(Absent, ""); w.seed(Line{Op: OpAsked}) }, code: 0, phase: Live, runs: "a"},
		{name: "not there with an expectation", do: func(w *world) { w.lookErr = fails(Absent, "") }, r: wait, code: 8, phase: Live, runs: "a"},
		{name: "workload gone", do: func(w *world) {
			w.observe = func() (Observation, error) { return Observation{}, fails(Absent, "") }
		}, code: 3, phase: Live, runs: "a"},
		{name: "workload deleted in mid-rollout", do: func(w *world) {
			w.candidate("b", 2)
			w.ready = func(ID) Readiness { return Readiness{State: Gone, Reason: "deleted"} }
		}, code: 3, phase: Live, activated: "b", runs: "b"},
		{name: "source refuses", do: func(w *world) { w.lookErr = fails(Denied, "") }, code: 4, phase: Live, runs: "a"},
		{name: "source refuses, with an expectation", do: func(w *world) { w.lookErr = fails(Denied, "") }, r: wait, code: 4, phase: Live, runs: "a"},
		{name: "registry refuses the fetch", do: func(w *world) {
			w.candidate("b", 2)
			w.fetch = func() error { return fails(Denied, "") }
		}, code: 4, phase: Live, runs: "a"},
		{name: "cluster refuses the preflight", do: func(w *world) {
			w.candidate("b", 2)
			w.stage = func() error { return fails(Denied, "") }
		}, code: 4, phase: Live, runs: "a"},
		{name: "cluster refuses the write", do: func(w *world) {
			w.candidate("b", 2)
			w.activates = func(ID) error { return fails(Denied, "") }
		}, code: 4, phase: Live, activated: "b", runs: "a"},
		{name: "cluster refuses to be looked at", do: func(w *world) {
			w.observe = func() (Observation, error) { return Observation{}, fails(Denied, "") }
		}, code: 4, phase: Live, runs: "a"},
		{name: "paused", do: func(w *world) {
			w.candidate("b", 2)
			w.seed(Line{Op: OpPause, Pause: &Pause{At: noon(), Reason: "holiday"}})
		}, code: 5, phase: Live, runs: "a", reason: "holiday"},
		{name: "paused, expected", do: func(w *world) {
			w.candidate("b", 2)
			w.seed(Line{Op: OpPause, Pause: &Pause{At: noon()}})
		}, r: wait, code: 5, phase: Live, runs: "a"},
		{name: "quarantined", do: func(w *world) {
			w.candidate("b", 2)
			w.seed(Line{Op: OpQuarantine, ID: id("b"), Reason: "it was bad"})
		}, code: 5, phase: Live, runs: "a", reason: "it was bad"},
		{name: "quarantined, expected", do: func(w *world) {
			w.candidate("b", 2)
			w.seed(Line{Op: OpQuarantine, ID: id("b"), Reason: "it was bad"})
		}, r: wait, code: 5, phase: Live, runs: "a", reason: "it was bad"},
		{name: "outside the window", do: func(w *world) {
			w.candidate("b", 2)
			h, _ := ParseHours("Mon-Fri 13:00-14:00 UTC")
			w.c.Windows = []Hours{h}
		}, code: 5, phase: Live, runs: "a", reason: "window"},
		{name: "too young", do: func(w *world) {
			c := cand("b", 2)
			c.Made = noon().Add(-10*time.Minute + time.Second)
			w.offer, w.c.MinAge = &c, 10*time.Minute
		}, code: 5, phase: Live, runs: "a", reason: "old; wanted"},
		{name: "just old enough", do: func(w *world) {
			c := cand("b", 2)
			c.Made = noon().Add(-10 * time.Minute)
			w.offer, w.c.MinAge = &c, 10*time.Minute
		}, code: 0, phase: Live, activated: "b", runs: "b"},
		{name: "too old", do: func(w *world) {
			c := cand("b", 2)
			c.Made = noon().Add(-10*time.Minute - time.Second)
			w.offer, w.c.MaxAge = &c, 10*time.Minute
		}, code: 5, phase: Live, runs: "a", reason: "allowed"},
		{name: "just young enough", do: func(w *world) {
			c := cand("b", 2)
			c.Made = noon().Add(-10 * time.Minute)
			w.offer, w.c.MaxAge = &c, 10*time.Minute
		}, code: 0, phase: Live, activated: "b", runs: "b"},
		{name: "older by order", do: func(w *world) {
			w.candidate("b", 2)
			w.seed(Line{Op: OpOrder, Order: 3})
		}, code: 5, phase: Live, runs: "a", reason: "older than"},
		{name: "older without an order", do: func(w *world) {
			w.candidate("z", 0)
			w.seed(Line{Op: OpIntent, State: Fetching, ID: id("z"), Try: &Attempt{Candidate: cand("z", 0)}})
			w.seed(Line{Op: OpIntent, State: Switching, ID: id("z"), Observation: &Observation{Sight: Nothing}})
			w.seed(Line{Op: OpDone, State: Idle})
		}, code: 5, phase: Live, runs: "a", reason: "went back"},
		{name: "drifted", do: func(w *world) { w.candidate("b", 2); w.runs = id("x") }, code: 5, phase: Live, runs: "x", reason: "drifted"},
		{name: "drifted with nothing newer", do: func(w *world) { w.runs = id("x") }, code: 5, phase: Live, runs: "x", reason: "drifted"},
		{name: "the target was emptied", do: func(w *world) { w.runs = "" }, code: 5, phase: Live, reason: "drifted"},
		{name: "workload paused", do: func(w *world) {
			w.candidate("b", 2)
			w.stage = func() error { return fails(Hold, WorkloadHeld) }
		}, code: 5, phase: Live, runs: "a"},
		{name: "workload paused after the switch", do: func(w *world) {
			w.candidate("b", 2)
			w.ready = func(ID) Readiness { return Readiness{State: Suspended} }
		}, code: 5, phase: Probing, activated: "b", runs: "b"},
		{name: "disk full", do: func(w *world) {
			w.candidate("b", 2)
			w.fetch = func() error { return fails(Hold, DiskFull) }
		}, code: 5, phase: Live, runs: "a"},
		{name: "other repository", do: func(w *world) {
			w.candidate("b", 2)
			w.stage = func() error { return fails(Hold, Repository) }
		}, code: 5, phase: Live, runs: "a"},
		{name: "no way back", do: func(w *world) {
			w.candidate("b", 2)
			w.stage = func() error { return fails(Hold, NoWayBack) }
		}, code: 5, phase: Live, runs: "a"},
		{name: "first start undecided", do: func(w *world) {
			w.s, w.lines = New(Memory{}), nil
			w.candidate("b", 0)
		}, code: 5, phase: Idle, runs: "a", reason: "first start"},
		{name: "first start, told to deploy", do: func(w *world) {
			w.s, w.lines = New(Memory{}), nil
			w.candidate("b", 0)
			w.c.Initial = DeployFirst
		}, code: 0, phase: Live, activated: "b", runs: "b"},
		{name: "first start, expected", do: func(w *world) {
			w.s, w.lines = New(Memory{}), nil
			w.candidate("b", 0)
		}, r: wait, code: 0, phase: Live, activated: "b", runs: "b"},
		{name: "first start, newer by order", do: func(w *world) {
			w.s, w.lines = New(Memory{}), nil
			w.answer = func(Query) (Look, error) { c := cand("b", 2); return Look{Candidate: &c, RunningOrder: 1}, nil }
		}, code: 0, phase: Live, activated: "b", runs: "b"},
		{name: "first start, older by order", do: func(w *world) {
			w.s, w.lines = New(Memory{}), nil
			w.answer = func(Query) (Look, error) { c := cand("b", 2); return Look{Candidate: &c, RunningOrder: 3}, nil }
		}, code: 5, phase: Idle, runs: "a", reason: "older"},
		{name: "first start, nothing runs", do: func(w *world) {
			w.s, w.lines, w.runs = New(Memory{}), nil, ""
			w.candidate("b", 0)
		}, code: 0, phase: Live, activated: "b", runs: "b"},
		{name: "the source moved past it", do: func(w *world) {
			w.answer = func(Query) (Look, error) { c := cand("c", 3); return Look{Candidate: &c, Expected: Passed}, nil }
			w.seed(Line{Op: OpPause, Pause: &Pause{At: noon()}})
		}, r: wait, code: 6, phase: Live, runs: "a", reason: "overtaken"},
		{name: "overtaken while fetched", do: func(w *world) {
			w.candidate("b", 2)
			w.fetch = func() error { w.candidate("c", 3); return fails(Transient, "") }
		}, r: wait, code: 6, phase: Fetching, runs: "a"},
		{name: "source not askable", do: func(w *world) { w.lookErr = fails(Transient, "") }, code: 7, phase: Live, runs: "a"},
		{name: "source not askable, expected", do: func(w *world) { w.lookErr = fails(Transient, "") }, r: wait, code: 7, phase: Live, runs: "a"},
		{name: "cluster not askable", do: func(w *world) {
			w.observe = func() (Observation, error) { return Observation{}, fails(Transient, "") }
		}, code: 7, phase: Live, runs: "a"},
		{name: "cluster not askable after the switch", do: func(w *world) {
			w.candidate("b", 2)
			w.ready = func(ID) Readiness { return Readiness{State: NotAsked, Reason: "no route"} }
		}, code: 7, phase: Probing, activated: "b", runs: "b", reason: "next start probes"},
		{name: "fetch cut short again and again", do: func(w *world) {
			w.candidate("b", 2)
			w.fetch = func() error { return fails(Transient, "") }
		}, code: 7, phase: Fetching, runs: "a"},
		{name: "never offered", r: wait, code: 8, phase: Live, runs: "a", reason: "not on offer within 1m0s"},
		{name: "never offered, one look", r: Request{Expect: expect("b")}, code: 8, phase: Live, runs: "a"},
		{name: "artifact missing", do: func(w *world) {
			w.answer = func(Query) (Look, error) { return Look{Missing: true, Hot: "pipeline 5"}, nil }
		}, code: 8, phase: Live, runs: "a", reason: "not there yet"},
		{name: "hook says later", do: func(w *world) {
			w.candidate("b", 2)
			w.activates = func(ID) error { return fails(Later, "") }
		}, code: 8, phase: Staged, activated: "b", runs: "a"},
		{name: "field owned", do: func(w *world) {
			w.candidate("b", 2)
			w.stage = func() error { return &Failure{Class: Owned, Owner: "helm", What: "helm owns the image"} }
		}, code: 9, phase: Live, runs: "a", reason: "helm"},
		{name: "field owned, found at the write", do: func(w *world) {
			w.candidate("b", 2)
			w.activates = func(ID) error { return &Failure{Class: Owned, Owner: "helm", What: "helm owns the image"} }
		}, code: 9, phase: Live, activated: "b", runs: "a", reason: "helm"},
		{name: "fought over within the soak", do: func(w *world) {
			w.candidate("b", 2)
			w.ready = func(ID) Readiness {
				if w.s.Memory.Phase == Soaking {
					return Readiness{State: Superseded, Owner: "argocd"}
				}
				return Readiness{State: IsReady}
			}
		}, code: 9, phase: Live, activated: "b", runs: "b", reason: "argocd"},
		{name: "contended from before", do: func(w *world) { w.candidate("b", 2); w.seed(Line{Op: OpContended, Reason: "helm"}) }, code: 9, phase: Live, runs: "a"},
		{name: "rollback fails", do: func(w *world) {
			w.candidate("b", 2)
			w.bad[id("b")] = true
			w.backs = func(ID) error { return fails(Failed, "") }
		}, code: 11, phase: Halted, activated: "b", runs: "b"},
		{name: "rolled back, and its probes fail", do: func(w *world) {
			w.candidate("b", 2)
			w.bad[id("b")] = true
			w.backs = func(to ID) error { w.bad[id("a")] = true; w.runs = to; return nil }
		}, code: 11, phase: Halted, activated: "b", runs: "a"},
		{name: "first version fails", do: func(w *world) {
			w.s, w.lines, w.runs = New(Memory{}), nil, ""
			w.candidate("b", 2)
			w.bad[id("b")] = true
		}, code: 11, phase: Halted, activated: "b", runs: "b", reason: "no version to go back to"},
		{name: "failed with a failing baseline", do: func(w *world) {
			w.candidate("b", 2)
			w.bad[id("a")], w.bad[id("b")] = true, true
		}, code: 11, phase: Halted, activated: "b", runs: "b", reason: "not rolled back"},
		{name: "a fix for a failing service", do: func(w *world) { w.candidate("b", 2); w.bad[id("a")] = true }, code: 0, phase: Live, activated: "b", runs: "b"},
		{name: "failed without rollback", do: func(w *world) { w.candidate("b", 2); w.bad[id("b")] = true; w.c.NoRollback = true }, code: 11, phase: Halted, activated: "b", runs: "b"},
		{name: "halted from before", do: func(w *world) {
			w.candidate("c", 3)
			w.seed(Line{Op: OpIntent, State: Fetching, ID: id("b"), Try: &Attempt{Candidate: cand("b", 2)}})
			w.seed(Line{Op: OpDone, State: Halted, ID: id("b"), Reason: "it went wrong"})
		}, code: 11, phase: Halted, runs: "a", reason: "it went wrong"},
		{name: "time up before the switch", do: func(w *world) {
			w.candidate("b", 2)
			w.took[DoFetch], w.c.Timeout = time.Minute, 30*time.Second
		}, code: 8, phase: Fetching, runs: "a", reason: "nothing was changed"},
		{name: "time up while probing", do: func(w *world) {
			w.candidate("b", 2)
			w.bad[id("b")] = true
			w.c.Timeout = 30 * time.Second
		}, code: 1, phase: RolledBack, activated: "b", runs: "a", reason: "time was up"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t).settled()
			if tt.do != nil {
				tt.do(w)
			}
			o := w.once(tt.r)
			if o.Kind.Code() != tt.code || !strings.Contains(o.Reason, tt.reason) {
				t.Errorf("code %d (%s), want %d with %q\n%s", o.Kind.Code(), o.Reason, tt.code, tt.reason, w.story())
			}
			if got := w.s.Memory.Phase; got != tt.phase && tt.phase != "" {
				t.Errorf("phase %s, want %s\n%s", got, tt.phase, w.story())
			}
			var did string
			seen := map[ID]bool{}
			for _, i := range w.activated {
				if !seen[i] {
					did += string(rune(hexByte(i)))
				}
				seen[i] = true
			}
			if did != tt.activated {
				t.Errorf("activated %q, want %q", did, tt.activated)
			}
			if want := tt.runs; want != "" && w.runs != id(want) || want == "" && w.runs != "" {
				t.Errorf("runs %s, want %s", w.runs, want)
			}
			if want := map[bool]Verdict{true: o.Verdict, false: Verdict(o.Kind.Name())}[o.Kind == fault.OK]; o.Verdict != want {
				t.Errorf("verdict %s", o.Verdict)
			}
			if _, out := w.s.Memory.quarantined(id("b")); tt.code == 1 && tt.activated == "b" && !out {
				t.Errorf("b is not quarantined")
			}
		})
	}
}

func hexByte(i ID) byte {
	h := i.Hex()[:2]
	var b byte
	for _, c := range h {
		b = b<<4 | byte(strings.IndexRune("0123456789abcdef", c))
	}
	return b
}

// seed adds a line to what the watch remembers.
func (w *world) seed(l Line) {
	l.Seq, l.Time = w.s.Memory.Seq+1, noon().Add(-time.Minute)
	w.lines = append(w.lines, l)
	w.s = New(w.s.Memory.Apply(l))
}
