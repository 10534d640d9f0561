package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
)

// phone is a receiver.
type phone struct {
	mu    sync.Mutex
	got   []Notification
	at    []time.Time // every try
	err   error
	hangs bool
}

func (p *phone) send(ctx context.Context, n Notification) error {
	p.mu.Lock()
	p.at = append(p.at, time.Now())
	hangs, err := p.hangs, p.err
	if !hangs && err == nil {
		p.got = append(p.got, n)
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

func (p *phone) events() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	words := make([]string, len(p.got))
	for i, n := range p.got {
		words[i] = string(n.Event)
	}
	return strings.Join(words, " ")
}

func (p *phone) when() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.at)
}

func (p *phone) all() []Notification {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

func (p *phone) tries() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.at)
}

// desk is where a teller works.
type desk struct {
	tb    testing.TB
	dir   string
	f     Facts
	phone *phone
	on    []Name
	mu    sync.Mutex
	story []string
	n     int
}

func newDesk(tb testing.TB) *desk {
	f := facts()
	f.Now = time.Now()
	return &desk{tb: tb, dir: tb.TempDir(), f: f, phone: &phone{}}
}

func (d *desk) receivers() []Receiver {
	return []Receiver{{Key: "phone", To: "webhook https://x", On: d.on, Send: d.phone.send}}
}

func (d *desk) open() *Teller {
	return Open(d.tb.Context(), Options{Dir: d.dir, Receivers: d.receivers(), Say: func(trouble bool, text string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.story = append(d.story, fmt.Sprintf("%v %s", trouble, text))
	}}, d.f)
}

func (d *desk) told() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.story)
}

// see has something new come to pass.
func (d *desk) see(t *Teller) {
	d.n++
	d.f.Now = time.Now()
	ended("live", string("0123456789"[d.n%10]), func(o *artifact.Outcome) { o.Attempt = d.n })(&d.f)
	t.See(d.f)
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		tell := d.open()
		d.see(tell)
		tell.See(d.f)
		synctest.Wait()
		if got := d.phone.events(); got != "live" {
			t.Errorf("told %q", got)
		}
		tell.Close(time.Second)
		tell.Close(time.Second)
		d.see(tell) // too late, and no harm
		// The next process tells nothing again, and what came meanwhile.
		tell = d.open()
		tell.See(d.f)
		synctest.Wait()
		if got := d.phone.events(); got != "live live" {
			t.Errorf("told %q", got)
		}
		tell.Close(time.Second)
		if s := d.told(); len(s) != 0 {
			t.Errorf("story %q", s)
		}
	})
}

func TestOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.on = []Name{RolledBack, Unreachable}
		tell := d.open()
		defer tell.Close(0)
		d.see(tell)
		d.f.State.Troubled = true
		d.see(tell)
		synctest.Wait()
		if got := d.phone.events(); got != "unreachable" {
			t.Errorf("told %q", got)
		}
	})
}

// Failures are tried again, ever more seldom, for hours; then it is given up,
// which is told once.
func TestTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.phone.set(&SendError{What: "the server answered 500"}, false)
		tell := d.open()
		defer tell.Close(0)
		began := time.Now()
		d.see(tell)
		d.see(tell)
		wait(20 * time.Second)
		if s := d.told(); len(s) != 1 || !strings.Contains(s[0], "true notifications to webhook https://x are not taken: the server answered 500") {
			t.Errorf("story %q", s)
		}
		if st := tell.Status(); st[0].Waiting != 2 || st[0].Lost != 0 || st[0].Trouble != "the server answered 500" {
			t.Errorf("%+v", st)
		}
		wait(30 * time.Minute)
		var gaps []time.Duration
		tried := d.phone.when()
		for i, at := range tried[1:] {
			gaps = append(gaps, at.Sub(tried[i]))
		}
		const s = time.Second
		if want := []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 320 * s, 640 * s}; !slices.Equal(gaps, want) {
			t.Errorf("waits %v", gaps)
		}
		wait(6 * time.Hour)
		if st := tell.Status(); st[0].Waiting != 0 || st[0].Lost != 2 {
			t.Errorf("%+v", st)
		}
		if n := d.phone.tries(); n > 40 {
			t.Errorf("%d tries in %s", n, time.Since(began))
		}
		d.see(tell)
		wait(time.Minute)
		if s := d.told(); len(s) != 2 || !strings.Contains(s[1], "are lost: the server answered 500") {
			t.Errorf("story %q", s)
		}
		d.phone.set(nil, false)
		wait(time.Hour)
		if s := d.told(); len(s) != 3 || s[2] != "false notifications to webhook https://x arrive again; 2 were lost" {
			t.Errorf("story %q", s)
		}
		if got := d.phone.events(); got != "live" {
			t.Errorf("told %q", got)
		}
	})
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.phone.set(&SendError{What: "the server answered 404", Refused: true}, false)
		tell := d.open()
		defer tell.Close(0)
		d.see(tell)
		wait(74 * time.Second)
		if n, st := d.phone.tries(), tell.Status(); n != mostRefused-1 || st[0].Lost != 0 {
			t.Errorf("%d tries, %+v", n, st)
		}
		wait(2 * time.Second)
		if n, st := d.phone.tries(), tell.Status(); n != mostRefused || st[0].Lost != 1 || st[0].Waiting != 0 {
			t.Errorf("%d tries, %+v", n, st)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.phone.set(&SendError{What: "429", RetryAfter: 10 * time.Minute}, false)
		tell := d.open()
		defer tell.Close(0)
		d.see(tell)
		wait(10*time.Minute - time.Second)
		if n := d.phone.tries(); n != 1 {
			t.Errorf("%d tries", n)
		}
		d.phone.set(nil, false)
		wait(2 * time.Second)
		if got := d.phone.events(); got != "live" {
			t.Errorf("told %q", got)
		}
	})
}

// Whoever hangs holds nobody up: neither who decides nor the others, and the
// queue has an end.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.phone.set(nil, true)
		other := &phone{}
		tell := Open(t.Context(), Options{Dir: d.dir, Receivers: append(d.receivers(), Receiver{Key: "other", To: "other", Send: other.send}), Say: func(_ bool, text string) {
			d.story = append(d.story, text)
		}}, d.f)
		began := time.Now()
		for range 100 {
			d.see(tell)
			synctest.Wait()
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("deciding took %s", took)
		}
		if n := len(strings.Fields(other.events())); n != 100 {
			t.Errorf("the other was told %d times", n)
		}
		st := tell.Status()
		if st[0].Waiting != mostQueued || st[0].Lost != 100-mostQueued {
			t.Errorf("%+v", st)
		}
		if len(d.story) != 1 || !strings.Contains(d.story[0], "lost: more than 64 wait") {
			t.Errorf("story %q", d.story)
		}
		wait(sendLimit)
		if st := tell.Status(); st[0].Trouble != "no answer in 30s" {
			t.Errorf("%+v", st)
		}
		// The end has patience with somebody who may answer, and no more.
		began = time.Now()
		tell.Close(2 * time.Second)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the end took %s", took)
		}
		// All of them are told by the next process, in order.
		d.phone.set(nil, false)
		tell = d.open()
		synctest.Wait()
		var ids []string
		for _, n := range d.phone.all() {
			ids = append(ids, n.ID)
		}
		if len(ids) != mostQueued || ids[0] != "run1-1" || ids[1] != "run1-38" || ids[63] != "run1-100" {
			t.Errorf("%d were told: %q", len(ids), ids)
		}
		tell.Close(0)
	})
}

// A process that dies: what it had delivered is not delivered again, what it
// had not is, and what it had decided is not decided again.
func TestDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		tell := d.open()
		d.see(tell)
		synctest.Wait()
		d.phone.set(errors.New("no route"), false)
		d.see(tell)
		synctest.Wait()
		tell.cancel() // without any end
		tell.all.Wait()
		d.f.Run = "run2"
		d.phone.set(nil, false)
		tell = d.open()
		tell.See(d.f)
		synctest.Wait()
		if got := d.phone.all(); len(got) != 2 || got[0].ID != "run1-1" || got[1].ID != "run1-2" {
			t.Errorf("%+v", got)
		}
		tell.Close(0)
	})
}

// The file can neither be read nor written: it is told all the same.
func TestDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		if err := os.WriteFile(filepath.Join(d.dir, fileName), []byte("{torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		tell := d.open()
		if s := d.told(); len(s) != 1 || !strings.Contains(s[0], "cannot be read") {
			t.Errorf("story %q", s)
		}
		if err := os.RemoveAll(d.dir); err != nil {
			t.Fatal(err)
		}
		d.see(tell)
		d.see(tell)
		synctest.Wait()
		if got := d.phone.events(); got != "live live" {
			t.Errorf("told %q", got)
		}
		tell.Close(0)
		if s := d.told(); len(s) != 2 || !strings.Contains(s[1], "cannot be kept") {
			t.Errorf("story %q", s)
		}
	})
}

func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		tell := d.open()
		d.phone.set(errors.New("no route"), false)
		d.see(tell)
		synctest.Wait()
		// One stays with what waits for it, one comes.
		other := &phone{}
		tell.Replace(append(d.receivers(), Receiver{Key: "other", To: "other", Send: other.send}), d.f)
		d.see(tell)
		d.phone.set(nil, false)
		wait(time.Minute)
		if a, b := d.phone.events(), other.events(); a != "live live" || b != "live" {
			t.Errorf("told %q and %q", a, b)
		}
		// Nobody, and somebody again, who is told nothing old.
		tell.Replace(nil, d.f)
		synctest.Wait()
		if _, err := os.Stat(filepath.Join(d.dir, fileName)); !errors.Is(err, os.ErrNotExist) || tell.Status() != nil {
			t.Errorf("%v %+v", err, tell.Status())
		}
		d.see(tell)
		tell.Replace(d.receivers(), d.f)
		tell.See(d.f)
		wait(time.Minute)
		if got := d.phone.events(); got != "live live" {
			t.Errorf("told %q", got)
		}
		d.see(tell)
		wait(time.Minute)
		if got := d.phone.events(); got != "live live live" {
			t.Errorf("told %q", got)
		}
		tell.Close(0)
	})
}
