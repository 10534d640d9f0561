package run

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/fault"
)

// turns is a lease that the test gives and takes.
type turns struct {
	mu       sync.Mutex
	me       string
	fates    []artifact.Attempted
	changed  func(Tenure)
	sure     []string // what was open when it was asked
	unsure   bool
	released int
}

func (g *turns) Keep(ctx context.Context, changed func(Tenure)) {
	g.mu.Lock()
	g.changed = changed
	g.mu.Unlock()
	<-ctx.Done()
}

func (g *turns) Sure(ctx context.Context) error {
	g.mu.Lock()
	unsure := g.unsure
	if n := len(g.fates); n > 0 {
		g.sure = append(g.sure, g.fates[n-1].Outcome)
	}
	g.mu.Unlock()
	if unsure {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

func (g *turns) asked() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.sure, " ")
}

func (g *turns) Note(fates []artifact.Attempted) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range fates {
		e.By = g.me
		g.fates = artifact.Recall(g.fates, e)
	}
}

func (g *turns) Release(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.released++
	return nil
}

func (g *turns) Look(context.Context) Tenure { return held("another") }

func held(by string) Tenure {
	return Tenure{Kind: fault.Conflict, Why: "lease shop/w is held by " + by}
}

func (g *turns) tell(t Tenure) {
	time.Sleep(time.Millisecond) // until it is at work
	g.mu.Lock()
	if t.Held {
		t.Me, t.Attempted = g.me, slices.Clone(g.fates)
	}
	changed := g.changed
	g.mu.Unlock()
	changed(t)
	time.Sleep(time.Millisecond)
}

func (w *world) leased(me string) *turns {
	g := &turns{me: me}
	w.o.Lease = g
	return g
}

func TestStandbyDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.o.Config.Initial = artifact.DeployFirst
		g := w.leased("one")
		w.source.put("a", 1)
		l, end := w.turning(t.Context())
		g.tell(held("two"))
		time.Sleep(10 * time.Minute)
		v := *l.latest.Load()
		if w.source.count() > 0 || w.host.running() != "" || v.Kind != fault.Conflict || v.States[0] != StandbyState || !strings.Contains(v.Held, "held by two") {
			t.Fatalf("%d looks, %+v", w.source.count(), v)
		}
		s := newSub(8, true)
		l.box.post(func() { l.ask(artifact.Request{Verb: artifact.Hint}, s) })
		synctest.Wait()
		if a := s.take().answer; a == nil || a.outcome.Kind != fault.Conflict || a.outcome.State != StandbyState {
			t.Errorf("%+v", a)
		}
		g.tell(Tenure{Held: true})
		time.Sleep(2 * time.Minute)
		if v := *l.latest.Load(); v.Kind != fault.OK || w.host.running() != idOf("a") || slices.Contains(v.States, StandbyState) {
			t.Errorf("%+v", v)
		}
		if got := g.asked(); got != "switching" {
			t.Errorf("sure of it when the last thing noted was: %s", got)
		}
		if end(); g.released != 1 {
			t.Errorf("released %d times", g.released)
		}
		if n := strings.Count(w.story(), "standby: "); n != 1 {
			t.Errorf("told %d times:\n%s", n, w.story())
		}
	})
}

// Lost in mid-switch: what was begun is ended, nothing more is begun, and the
// state waits; had again, the same attempt is finished.
func TestLeaseLostWhileSwitching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		g := w.leased("one")
		w.source.put("b", 2)
		calls := 0
		w.host.activate = func(ctx context.Context, _ artifact.Switch) error {
			if calls++; calls == 1 {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		}
		l, end := w.turning(t.Context())
		g.tell(Tenure{Held: true})
		time.Sleep(5 * time.Second)
		if p := l.latest.Load().State; p != artifact.Switching {
			t.Fatalf("%s\n%s", p, w.story())
		}
		g.tell(Tenure{Kind: fault.Unreachable, Why: "no answer"})
		probed := w.host.probed
		time.Sleep(10 * time.Minute)
		v := *l.latest.Load()
		if calls != 1 || w.host.probed != probed || w.host.running() != idOf("a") || v.State != artifact.Switching || v.Kind != fault.Unreachable {
			t.Fatalf("%d activations, %+v\n%s", calls, v, w.story())
		}
		g.tell(Tenure{Held: true})
		time.Sleep(time.Minute)
		if w.host.running() != idOf("b") || calls != 2 || l.latest.Load().State != artifact.Live {
			t.Errorf("%d activations\n%s", calls, w.story())
		}
		end()
	})
}

// Nothing is activated as long as it is not sure.
func TestLeaseNotSure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		g := w.leased("one")
		g.unsure = true
		w.source.put("b", 2)
		l, end := w.turning(t.Context())
		g.tell(Tenure{Held: true})
		time.Sleep(time.Minute)
		if len(w.host.activated) != 1 || l.latest.Load().State != artifact.Switching {
			t.Errorf("%v\n%s", w.host.activated, w.story())
		}
		g.tell(held("two"))
		end()
		if len(w.host.activated) != 1 {
			t.Errorf("%v\n%s", w.host.activated, w.story())
		}
	})
}

func TestOnceOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		g := w.leased("one")
		w.source.put("a", 1)
		go func() {
			g.tell(Tenure{Kind: fault.Conflict, Why: "held by two, who is silent", Soon: true})
			time.Sleep(time.Second)
			g.tell(held("two"))
		}()
		res, err := w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Kind != fault.Conflict || res.Outcome.State != StandbyState || !strings.Contains(res.Outcome.Reason, "held by two") {
			t.Errorf("%+v %v", res.Outcome, err)
		}
		if w.source.count() > 0 {
			t.Error("it looked")
		}
		res, err = Check(t.Context(), w.o, artifact.Expectation{})
		if err != nil || res.Outcome.Kind != fault.Conflict || w.source.count() > 0 {
			t.Errorf("%+v %v", res.Outcome, err)
		}
		go func() { g.tell(Tenure{Held: true}) }()
		if res, err = w.once(t.Context(), artifact.Request{}); err != nil || res.Outcome.Verdict != artifact.VerdictLive {
			t.Errorf("%+v %v\n%s", res.Outcome, err, w.story())
		}
	})
}

// images is a world without a store: what ran can be gone back to anywhere.
func images(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.o.Config.Kind = artifact.Image
	w.offer("a", 1)
	if res, err := w.once(t.Context(), artifact.Request{}); err != nil || res.Outcome.Verdict != artifact.VerdictLive {
		t.Fatalf("%+v %v\n%s", res.Outcome, err, w.story())
	}
	return w
}

func (w *world) offer(name string, order int64) {
	c := cand(name, order)
	c.Kind = artifact.Image
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	w.source.offer = &c
}

// Another machine takes over, with a state of its own: nothing is activated
// twice, and what was left open goes on to its end.
func TestTakeover(t *testing.T) {
	for name, c := range map[string]struct {
		bad   bool // b is, with whoever had it first
		cut   bool // it is killed while b proves itself
		runs  string
		state artifact.Phase
	}{
		"after it went live":      {runs: "b", state: artifact.Live},
		"after it was taken back": {bad: true, runs: "a"},
		"while it was probed":     {cut: true, runs: "b", state: artifact.Live},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one := images(t)
				g := one.leased("one")
				two := newWorld(t)
				two.o.Config.Kind = artifact.Image
				two.source, two.host = one.source, one.host
				two.o.Source, two.o.Target, two.o.Prober = one.source, one.host, one.host
				h := two.leased("two")
				other, end2 := two.turning(t.Context())
				h.tell(held("one"))

				one.host.bad[idOf("b")] = c.bad || c.cut
				one.offer("b", 2)
				_, end := one.turning(t.Context())
				g.tell(Tenure{Held: true})
				if c.cut {
					time.Sleep(10 * time.Second)
				} else {
					time.Sleep(10 * time.Minute)
				}
				end()
				before := len(one.host.activated)
				one.host.bad[idOf("b")] = c.bad
				h.fates = g.fates
				h.tell(Tenure{Held: true})
				time.Sleep(10 * time.Minute)
				v := *other.latest.Load()
				if one.host.running() != idOf(c.runs) || len(one.host.activated) != before || c.state != "" && v.State != c.state {
					t.Errorf("%d activations more, runs %s, %+v\n%s", len(one.host.activated)-before, one.host.running().Short(), v, two.story())
				}
				if v.Held != "" && !c.bad || c.bad && v.Kind != fault.Held {
					t.Errorf("%s %q", v.Kind, v.Held)
				}
				one.offer("c", 3)
				time.Sleep(5 * time.Minute)
				if one.host.running() != idOf("c") {
					t.Errorf("nothing newer comes:\n%s", two.story())
				}
				end2()
			})
		})
	}
}
