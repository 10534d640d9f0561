package run

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/artifact/notify"
	"homelab/pkg/fault"
)

// phone is somebody who is told.
type phone struct {
	mu    sync.Mutex
	got   []notify.Notification
	at    []time.Time
	err   error
	hangs bool
	tries int
}

func (p *phone) send(ctx context.Context, n notify.Notification) error {
	p.mu.Lock()
	p.tries++
	hangs, err := p.hangs, p.err
	if !hangs && err == nil {
		p.got, p.at = append(p.got, n), append(p.at, time.Now())
	}
	p.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return err
}

func (p *phone) set(err error, hangs bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.hangs = err, hangs
}

// told is what arrived, in words.
func (p *phone) told() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	words := make([]string, len(p.got))
	for i, n := range p.got {
		words[i] = string(n.Event)
	}
	return strings.Join(words, " ")
}

func (w *world) phone(on ...notify.Name) *phone {
	p := &phone{}
	w.o.Receivers = append(w.o.Receivers, notify.Receiver{Key: "phone", To: "webhook https://x", On: on, Send: p.send})
	return p
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Two hours without the source: one says that it cannot be asked, one that
// nothing good was seen for an hour, one that it answers again. A short failure
// and a quiet day say nothing.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		p := w.phone()
		_, end := w.turning(t.Context())
		pass(24 * time.Hour)
		for range 20 { // each too short
			w.source.fail(&artifact.Failure{Class: artifact.Transient, What: "503"})
			pass(9 * time.Minute)
			w.source.fail(nil)
			pass(20 * time.Minute)
		}
		if got := p.told(); got != "" {
			t.Errorf("told %q", got)
		}
		down := time.Now()
		w.source.fail(&artifact.Failure{Class: artifact.Transient, What: "503 from the source"})
		pass(2 * time.Hour)
		w.source.fail(nil)
		pass(24 * time.Hour)
		if got := p.told(); got != "unreachable stale recovered" {
			end()
			t.Fatalf("told %q", got)
		}
		for i, want := range []time.Duration{10 * time.Minute, time.Hour, 2 * time.Hour} {
			slack := time.Minute
			if i == 2 {
				slack = 15 * time.Minute // the wait between looks has grown
			}
			if late := p.at[i].Sub(down) - want; late < -time.Minute || late > slack {
				t.Errorf("%s was told %s after the beginning", p.got[i].Event, p.at[i].Sub(down))
			}
		}
		if n := p.got[0]; n.Text != "503 from the source" || n.Running == nil || n.Running.ID != idOf("a") {
			t.Errorf("%+v", n)
		}
		if n := p.got[2]; len(n.Of) != 2 || !strings.Contains(n.Text, "after it was told") {
			t.Errorf("%+v", n)
		}
		end()
		for _, want := range []string{"trouble live the source cannot be asked: 503", "trouble live no answer from the source for 1h0m0s", "recovered live the source answers again"} {
			if n := strings.Count(w.story(), want); n != 1 {
				t.Errorf("%d times %q in the story", n, want)
			}
		}
	})
}

// The process is restarted in the middle of an outage, as is the receiver's
// host: nothing is told twice, and nothing is missing.
func TestOutageAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		p := w.phone()
		_, end := w.turning(t.Context())
		pass(time.Minute)
		w.source.fail(&artifact.Failure{Class: artifact.Transient, What: "503"})
		pass(15 * time.Minute)
		p.set(errors.New("no route"), false)
		pass(50 * time.Minute)
		end() // stale waits
		if got := p.told(); got != "unreachable" {
			t.Fatalf("told %q", got)
		}
		p.set(nil, false)
		for range 3 {
			_, end = w.turning(t.Context())
			pass(30 * time.Minute)
			end()
		}
		if got := p.told(); got != "unreachable stale" {
			t.Fatalf("told %q", got)
		}
		w.source.fail(nil)
		_, end = w.turning(t.Context())
		pass(time.Hour)
		end()
		if got := p.told(); got != "unreachable stale recovered" {
			t.Errorf("told %q", got)
		}
	})
}

// A receiver that hangs, or only fails, changes nothing of a deployment.
func TestDeploysWhileNobodyListens(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		hangs bool
	}{"hangs": {nil, true}, "answers 500": {&notify.SendError{What: "the server answered 500"}, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.deployed(t.Context())
				p := w.phone()
				p.set(tc.err, tc.hangs)
				l, end := w.turning(t.Context())
				pass(time.Minute)
				w.host.bad[idOf("b")] = true
				began := time.Now()
				w.source.put("b", 2)
				for w.host.running() != idOf("b") {
					pass(time.Second)
				}
				for w.host.running() != idOf("a") {
					pass(time.Second)
				}
				pass(10 * time.Second)
				if took := time.Since(began); took > 4*time.Minute {
					t.Errorf("to be rolled back took %s", took)
				}
				w.source.put("c", 3)
				pass(2 * time.Minute)
				if w.host.running() != idOf("c") {
					t.Errorf("%s runs", w.host.running())
				}
				if st := l.latest.Load().Notify; len(st) != 1 || st[0].Waiting != 2 || p.tries < 2 {
					t.Errorf("%+v, %d tries", st, p.tries)
				}
				began = time.Now()
				end()
				if took := time.Since(began); took > time.Second {
					t.Errorf("the end took %s", took)
				}
				if n := strings.Count(w.story(), "notifications to webhook https://x are not taken"); n != 1 {
					t.Errorf("%d times in the story:\n%s", n, w.story())
				}
				// The next process delivers both, with what was decided then.
				p.set(nil, false)
				_, end = w.turning(t.Context())
				pass(time.Minute)
				end()
				if got := p.told(); got != "rolled_back live" {
					t.Fatalf("told %q", got)
				}
				if n := p.got[0]; n.State != "rolled_back" || !strings.Contains(n.Text, "rolled back to "+idOf("a").Short()) {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}

// A single run tells how it ended before it ends, and waits for nobody long.
func TestOnceTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.phone(notify.RolledBack, notify.Halted)
		w.deployed(t.Context()) // live is not selected
		w.host.bad[idOf("b")] = true
		w.source.put("b", 2)
		res, err := w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Kind != fault.Failed {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		if got := p.told(); got != "rolled_back" {
			t.Errorf("told %q", got)
		}
		p.set(nil, true)
		w.source.put("c", 3)
		w.host.bad[idOf("a")], w.host.bad[idOf("c")] = true, true
		res, err = w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Kind != fault.Unsafe {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		if p.tries != 2 {
			t.Errorf("%d tries", p.tries)
		}
		p.set(nil, false)
		if _, err = w.once(t.Context(), artifact.Request{}); err != nil {
			t.Fatal(err)
		}
		if got := p.told(); got != "rolled_back halted" {
			t.Errorf("told %q", got)
		}
	})
}

// A check tells nobody.
func TestCheckTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		p := w.phone()
		w.source.put("b", 2)
		if _, err := Check(t.Context(), w.o, artifact.Expectation{}); err != nil {
			t.Fatal(err)
		}
		if p.tries != 0 {
			t.Errorf("told %q", p.told())
		}
	})
}

// A journal that cannot be written is told, and that it can again.
func TestStuckTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		p := w.phone()
		l, end := w.turning(t.Context())
		pass(time.Minute)
		l.box.post(func() { l.breaks(errors.New("no space left on device")) })
		pass(time.Minute)
		if got := p.told(); got != "stuck recovered" || !strings.Contains(p.got[0].Text, "no space") {
			t.Errorf("told %q", got)
		}
		end()
	})
}

// What the watches file says now holds for who is told as well, and status has
// the state.
func TestReloadTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		reload := make(chan Options)
		w.o.Reload = reload
		before := w.o
		p := w.phone()
		with := w.o
		w.o = before
		_, end := w.turning(t.Context())
		pass(time.Minute)
		reload <- with
		pass(time.Minute)
		w.source.put("b", 2)
		pass(2 * time.Minute)
		if got := p.told(); got != "live" {
			t.Errorf("told %q", got)
		}
		reload <- before
		pass(time.Minute)
		w.source.put("c", 3)
		pass(2 * time.Minute)
		end()
		if got := p.told(); got != "live" || w.host.running() != idOf("c") {
			t.Errorf("told %q", got)
		}
	})
}

// No good look for as long as --stale-after says: in the story, in the status,
// and told once, whoever restarts.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		w.o.Config.StaleAfter = 5 * time.Minute
		p := w.phone(notify.Stale, notify.Recovered)
		l, end := w.turning(t.Context())
		pass(time.Minute)
		w.source.fail(&artifact.Failure{Class: artifact.Transient, What: "503"})
		good := l.latest.Load().LastGood
		pass(time.Until(good.Add(5*time.Minute - time.Second)))
		if got := p.told(); got != "" {
			t.Errorf("told %q", got)
		}
		pass(2 * time.Second)
		v := l.latest.Load()
		if got := strings.Join(v.States, " "); p.told() != "stale" || got != "live stale" || v.Kind != fault.Unreachable || v.Trouble != "503" {
			t.Errorf("told %q, states %q, %s, %q", p.told(), got, v.Kind, v.Trouble)
		}
		var onDisk View
		if err := journal.Status(w.o.Place.Dir(), &onDisk); err != nil || strings.Join(onDisk.States, " ") != "live stale" {
			t.Errorf("status.json: %v %v", onDisk.States, err)
		}
		end()
		if n := strings.Count(w.story(), "no answer from the source for 5m0s"); n != 1 {
			t.Errorf("%d times in the story:\n%s", n, w.story())
		}
		_, end = w.turning(t.Context())
		pass(time.Hour)
		w.source.fail(nil)
		pass(time.Hour)
		end()
		if got := p.told(); got != "stale recovered" {
			t.Errorf("told %q", got)
		}
		if _, err := os.Stat(w.o.Place.Dir() + "/notify.json"); err != nil {
			t.Error(err)
		}
	})
}
