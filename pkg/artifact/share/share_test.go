package share

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
)

// oracle is a host that answers with the number of the question, after a
// second.
type oracle struct {
	mu    sync.Mutex
	asked int
	busy  int
	most  int
	err   error
}

func (o *oracle) ask(ctx context.Context) (int, error) {
	o.mu.Lock()
	o.asked++
	n, err := o.asked, o.err
	o.busy++
	o.most = max(o.most, o.busy)
	o.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	o.mu.Lock()
	o.busy--
	o.mu.Unlock()
	return n, err
}

func (o *oracle) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

func never(error) (time.Duration, bool) { return 0, false }

// look asks key of h once, content with what was asked since.
func look(ctx context.Context, h *Host, o *oracle, key string, since time.Time) (int, *Sitting, error) {
	ctx, s := Sit(ctx, since)
	n, err := Ask(ctx, h, key, never, o.ask)
	return n, s, err
}

func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, o := New().Host("a:443"), &oracle{}
		began := time.Now()
		var all sync.WaitGroup
		for range 20 { // at once
			all.Go(func() {
				if n, s, err := look(t.Context(), h, o, "k", began); n != 1 || err != nil {
					t.Error(n, s, err)
				}
			})
		}
		all.Wait()
		time.Sleep(10 * time.Second)
		n, s, err := look(t.Context(), h, o, "k", began) // a while later
		age, dice := s.Told()
		if n != 1 || err != nil || age != 10*time.Second || dice <= 0 || dice >= 1 {
			t.Error(n, err, age, dice)
		}
		if n, s, _ := look(t.Context(), h, o, "other", began); n != 2 {
			t.Error("another question", n, s)
		}
		// What is asked for anew is asked anew, and does for others.
		now := time.Now()
		if n, s, _ := look(t.Context(), h, o, "k", now); n != 3 {
			t.Error(n, s)
		} else if age, again := s.Told(); age != 0 || again == dice {
			t.Error(age, again)
		}
		if n, _, _ := look(t.Context(), h, o, "k", now); n != 3 {
			t.Error(n)
		}
		// Whoever asks twice in one look wants to know whether it changed.
		ctx, _ := Sit(t.Context(), began)
		for want := 3; want < 6; want++ {
			if n, err := Ask(ctx, h, "k", never, o.ask); n != want || err != nil {
				t.Error(n, err)
			}
		}
		// Outside of a look, without a key and without a host nothing is shared.
		for _, ask := range []func() (int, error){
			func() (int, error) { return Ask(t.Context(), h, "k", never, o.ask) },
			func() (int, error) { return Ask(ctx, h, "", never, o.ask) },
			func() (int, error) { return Ask[int](ctx, nil, "k", never, o.ask) },
		} {
			before := o.count()
			if n, err := ask(); n != before+1 || err != nil {
				t.Error(n, err)
			}
		}
	})
}

// A hint that comes while a request is under way is not answered by it: the
// server may have been asked before what is hinted at was there.
func TestUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, o := New().Host("a:443"), &oracle{}
		var all sync.WaitGroup
		all.Go(func() { _, _, _ = look(t.Context(), h, o, "k", time.Now()) })
		time.Sleep(time.Millisecond)
		all.Go(func() { // a poll is content with it
			if n, _, _ := look(t.Context(), h, o, "k", time.Now().Add(-time.Second)); n != 1 {
				t.Error(n)
			}
		})
		synctest.Wait()
		for range 5 { // those of one moment are one
			all.Go(func() {
				if n, _, _ := look(t.Context(), h, o, "k", time.Now()); n != 2 {
					t.Error(n)
				}
			})
		}
		all.Wait()
		if o.count() != 2 {
			t.Error(o.count())
		}
	})
}

// Whoever asked first may leave; the others get their answer. When nobody
// waits any more it is not gone on with, and nobody gets what is left of it.
func TestLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, o := New().Host("a:443"), &oracle{}
		began := time.Now()
		first, leave := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		var all sync.WaitGroup
		all.Go(func() {
			if _, _, err := look(first, h, o, "k", began); !errors.Is(err, gone) {
				t.Error(err)
			}
		})
		time.Sleep(time.Millisecond)
		all.Go(func() {
			if n, _, err := look(t.Context(), h, o, "k", began); n != 1 || err != nil {
				t.Error(n, err)
			}
		})
		time.Sleep(time.Millisecond)
		leave(gone)
		all.Wait()

		short, end := context.WithTimeoutCause(t.Context(), time.Millisecond, gone)
		defer end()
		if _, _, err := look(short, h, o, "x", began); !errors.Is(err, gone) {
			t.Error(err)
		}
		if n, _, err := look(t.Context(), h, o, "x", began); n != 3 || err != nil {
			t.Error(n, err)
		}
	})
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, o := New().Host("a:443"), &oracle{}
		began := time.Now()
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() { _, _, _ = look(t.Context(), h, o, fmt.Sprint(i), began) })
		}
		all.Wait()
		if o.most != MostConns || time.Since(began) != 3*time.Second {
			t.Error(o.most, time.Since(began))
		}
		// What takes its time leaves a turn for the rest.
		var leaves []func()
		for range mostBulk {
			leave, err := h.Enter(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leave)
		}
		short, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		if _, err := h.Enter(short, true); err == nil {
			t.Error("one too many")
		}
		leave, err := h.Enter(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		leave()
		leave() // once is enough
		for _, l := range leaves {
			l()
		}
		if len(h.conns)+len(h.bulk) != 0 {
			t.Error(len(h.conns), len(h.bulk))
		}
	})
}

// One 429 silences the host for all, at least a minute, and others not.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, o := New(), &oracle{err: errors.New("429")}
		h := p.Host("a:443")
		counts := func(error) (time.Duration, bool) { return 10 * time.Second, true }
		ctx, _ := Sit(t.Context(), time.Now())
		if _, err := Ask(ctx, h, "k", counts, o.ask); !errors.Is(err, o.err) {
			t.Error(err)
		}
		asked := o.count()
		for _, left := range []time.Duration{time.Minute, 35 * time.Second, time.Second} {
			time.Sleep(time.Until(h.held) - left)
			_, _, err := look(t.Context(), h, o, "k", time.Now())
			f, _ := errors.AsType[*artifact.Failure](err)
			if f == nil || f.Class != artifact.Transient || !f.Limited || !f.Shared || f.RetryAfter != left {
				t.Errorf("%s: %#v", left, err)
			}
			if _, err := h.Enter(t.Context(), true); err == nil {
				t.Error("a body was fetched")
			}
		}
		if o.count() != asked {
			t.Error("it was asked")
		}
		if n, _, err := look(t.Context(), p.Host("b:443"), &oracle{}, "k", time.Now()); n != 1 || err != nil {
			t.Error(n, err)
		}
		o.err = nil
		time.Sleep(time.Second)
		if n, _, err := look(t.Context(), h, o, "k", time.Now()); n != asked+1 || err != nil {
			t.Error(n, err)
		}
		// Whoever waits for a turn meanwhile is told, too.
		var leaves []func()
		for range MostConns {
			leave, _ := h.Enter(t.Context(), false)
			leaves = append(leaves, leave)
		}
		told := make(chan error, 1)
		go func() { _, err := h.Enter(t.Context(), false); told <- err }()
		synctest.Wait()
		h.Hold(2 * time.Hour)
		leaves[0]()
		if f, _ := errors.AsType[*artifact.Failure](<-told); f == nil || f.RetryAfter != mostHold {
			t.Error(f)
		}
	})
}

// A bug in a source is told by whoever asked, in its own goroutine.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if p := recover(); p != "oops" {
				t.Error(p)
			}
		}()
		ctx, _ := Sit(t.Context(), time.Now())
		_, _ = Ask(ctx, New().Host("a:443"), "k", never, func(context.Context) (int, error) { panic("oops") })
		t.Error("it went on")
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New().Host("a:443")
		began := time.Now()
		quick := func(context.Context) (int, error) { return 1, nil }
		for i := range 3 * mostKept {
			ctx, _ := Sit(t.Context(), began)
			_, _ = Ask(ctx, h, fmt.Sprint(i), never, quick)
			time.Sleep(time.Millisecond)
		}
		if n := len(h.answers); n > mostKept {
			t.Error(n)
		}
		time.Sleep(keepFor + time.Second)
		ctx, _ := Sit(t.Context(), began)
		_, _ = Ask(ctx, h, "k", never, quick)
		if n := len(h.answers); n != 1 {
			t.Error(n)
		}
	})
}
