package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/fault"
)

// firstLooks is over what time the first looks of several watches are spread.
const firstLooks = 5 * time.Second

// Fleet is several watches in one process. Each keeps a lock, a journal, a
// socket and a loop of its own; they share the listener, the service manager
// and the signals.
type Fleet struct {
	// Watches have no Listen, Notify, Signals and Reload of their own: those are
	// not read. Their Events are called one at a time.
	Watches []Options
	Listen  *Listen           // nil: no HTTP
	Notify  Notify            // zero: no service manager. READY when all are, WATCHDOG while all turn
	Signals <-chan fault.Kind // as in Options, for each of them
	Reload  <-chan []Options  // what the watches file says now: one for each watch, in their order; nil: never
}

// Member is how one of several watches ended.
type Member struct {
	Name   string
	Result Result
	Err    error // instead
	// Alone: it came to an end by itself, which took the others along.
	Alone bool
}

// Distinct refuses watches that would be in each other's way in one process:
// the same name, target or lease. The error is of kind Usage and names both.
func Distinct(watches []Options) error {
	type taken struct{ what, of string }
	seen := map[taken]string{}
	for _, o := range watches {
		for _, t := range []taken{{"name", o.Place.Name}, {"target", ground(o.To)}} {
			first, ok := seen[t]
			if ok && t.what == "name" {
				return fault.Usagef("", "watch %q is named twice", o.Place.Name)
			}
			if ok {
				return fault.Usagef("", "watches %q and %q have the same target", first, o.Place.Name).
					Because(o.To + ": each would take the other's work for somebody else's")
			}
			seen[t] = o.Place.Name
		}
	}
	return nil
}

// ground is what a target changes: of a file, whatever is done afterwards.
func ground(to string) string {
	if strings.HasPrefix(to, "file:") {
		to, _, _ = strings.Cut(to, "?")
	}
	return to
}

// member is a watch at work.
type member struct {
	*loop
	began   time.Time
	signals chan fault.Kind
	ways    *control
	unheard func() // ends the story
	out     Member
}

// fleet is all of them.
type fleet struct {
	members []*member
	chorus  *chorus
	front   *front

	mu      sync.Mutex
	stopped bool // by a signal, or because one of them ended by itself
}

// Daemons is Daemon for several watches, until a signal ends them. Usage errors
// and a lock that another process holds are found before anything begins. A
// watch that ends by itself, because of a bug or because another process took
// it over, brings the others to an end as a signal would: a process that does
// half of its work must not look well. The error is of kind Usage or Conflict,
// or of a file system that cannot be used, and then nothing was begun; how each
// watch ended is in Member.
func Daemons(ctx context.Context, f Fleet) ([]Member, error) {
	if err := Distinct(f.Watches); err != nil {
		return nil, err
	}
	for _, o := range f.Watches {
		if held, err := journal.Locked(o.Place.Dir()); err == nil && held {
			return nil, inUse(o.Place)
		}
	}
	t := &fleet{}
	if err := t.open(ctx, f); err != nil {
		t.close()
		return nil, err
	}
	n, err := newNotifier(ctx, f.Notify, time.Now)
	if err != nil {
		t.members[0].note("the service manager cannot be told: " + err.Error())
		n = &notifier{}
	}
	defer n.close()
	t.chorus = newChorus(n)
	for _, m := range t.members {
		m.notify = t.chorus.join()
	}
	t.serve(ctx, f, n)
	out := make([]Member, len(t.members))
	for i, m := range t.members {
		out[i] = m.out
	}
	return out, nil
}

// open takes every lock and opens every way in.
func (t *fleet) open(ctx context.Context, f Fleet) error {
	events := oneAtATime()
	for i, o := range f.Watches {
		o = spread(o, i, len(f.Watches))
		o.Events = events(o.Events)
		o.Listen, o.Notify, o.Reload = nil, Notify{}, nil
		m := &member{signals: make(chan fault.Kind, 2)}
		o.Signals = m.signals
		var err error
		if m.loop, err = open(ctx, o, daemon); errors.Is(err, journal.ErrLocked) {
			return inUse(o.Place)
		}
		if err != nil {
			return err
		}
		m.began, m.unheard, m.out.Name = m.now(), m.sink(), o.Place.Name
		t.members = append(t.members, m)
	}
	loops := make([]*loop, len(t.members))
	for i, m := range t.members {
		loops[i] = m.loop
		var err error
		if m.ways, err = m.control(ctx); err != nil {
			return onDisk(fmt.Sprintf("the control socket of watch %q cannot be made", m.out.Name), err)
		}
	}
	if f.Listen != nil {
		var err error
		if t.front, err = openFront(ctx, *f.Listen, loops); err != nil {
			return err
		}
	}
	return nil
}

// close gives back what was opened for nothing.
func (t *fleet) close() {
	for _, m := range t.members {
		if m.ways != nil {
			m.ways.close()
		}
		m.box.close()
		m.unheard()
		m.close()
	}
}

// spread gives each of n watches its moment for a first look.
func spread(o Options, i, n int) Options {
	o.Config.FirstLook = firstLooks * time.Duration(i) / time.Duration(n)
	return o
}

// oneAtATime makes several stories one.
func oneAtATime() func(func(Event)) func(Event) {
	var mu sync.Mutex
	return func(to func(Event)) func(Event) {
		if to == nil {
			return nil
		}
		return func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			to(e)
		}
	}
}

// serve turns all loops until the last one has ended.
func (t *fleet) serve(ctx context.Context, f Fleet, n *notifier) {
	over, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var all, helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, t.stop)()
	helpers.Go(func() {
		relay(over, f.Signals, func(k fault.Kind) {
			t.stop()
			for _, m := range t.members {
				m.signal(k)
			}
		})
	})
	helpers.Go(func() {
		relay(over, f.Reload, func(next []Options) {
			for i, m := range t.members {
				o := spread(next[i], i, len(next))
				m.box.post(func() { m.reload = &o })
			}
		})
	})
	for _, m := range t.members {
		all.Go(func() {
			t.turn(ctx, m)
			n.stoppingOnce()
		})
	}
	all.Wait()
	if t.front != nil {
		t.front.close()
	}
}

func (t *fleet) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
}

// signal hands a signal on; two are enough.
func (m *member) signal(k fault.Kind) {
	select {
	case m.signals <- k:
	default:
	}
}

// turn is one watch from its first look to its end.
func (t *fleet) turn(ctx context.Context, m *member) {
	bug := guarded(m.out.Name, func() { m.run(ctx, nil) })
	if bug != nil {
		m.err = bug
	}
	if ended := m.ended; m.err != nil || ended == nil || ended.Kind == fault.Conflict {
		t.fell(m)
	}
	m.farewells()
	m.ways.close()
	if bug != nil { // its state is not to be trusted
		m.cancel()
		m.box.close()
		m.hub.close()
		m.close()
		m.out.Err = bug
	} else {
		m.out.Result, m.out.Err = m.finish(m.began)
	}
	m.unheard()
	t.chorus.leave(m.notify)
}

// fell is of a watch that ended by itself: the others are told and stopped.
func (t *fleet) fell(m *member) {
	why := "it ended"
	switch {
	case m.err != nil:
		why = m.err.Error()
	case m.ended != nil:
		why = m.ended.Reason
	}
	m.hub.publish(Event{Type: artifact.TroubleEvent, Time: m.now(), Text: "this watch has ended: " + why})
	t.mu.Lock()
	first := !t.stopped
	t.stopped = true
	t.mu.Unlock()
	if !first {
		return
	}
	m.out.Alone = true
	for _, o := range t.members {
		if o != m {
			o.note("stopping, because watch " + m.out.Name + " has ended by itself")
			o.signal(fault.Terminated)
		}
	}
}

// guarded makes a panic in f an error: that of one watch is not the end of the
// process before the others have come to theirs.
func guarded(name string, f func()) (bug error) {
	defer func() {
		if p := recover(); p != nil {
			bug = fault.New(fault.Bug, fmt.Sprintf("watch %q: %v", name, p), "").Because(string(debug.Stack()))
		}
	}()
	f()
	return nil
}

// Onces is Once for each of several watches at the same time. signals are
// handed to each of them.
func Onces(ctx context.Context, watches []Options, signals <-chan fault.Kind, req artifact.Request) []Member {
	return each(ctx, watches, signals, func(ctx context.Context, o Options) (Result, error) { return Once(ctx, o, req) })
}

// Checks is Check for each of several watches at the same time.
func Checks(ctx context.Context, watches []Options) []Member {
	return each(ctx, watches, nil, func(ctx context.Context, o Options) (Result, error) {
		return Check(ctx, o, artifact.Expectation{})
	})
}

func each(ctx context.Context, watches []Options, signals <-chan fault.Kind, do func(context.Context, Options) (Result, error)) []Member {
	out := make([]Member, len(watches))
	given := make([]chan fault.Kind, len(watches))
	for i := range given {
		given[i] = make(chan fault.Kind, 2)
	}
	over, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var all, helper sync.WaitGroup
	helper.Go(func() {
		relay(over, signals, func(k fault.Kind) {
			for _, c := range given {
				select {
				case c <- k:
				default:
				}
			}
		})
	})
	events := oneAtATime()
	for i, o := range watches {
		all.Go(func() {
			o.Events, o.Signals = events(o.Events), given[i]
			m := &out[i]
			m.Name = o.Place.Name
			if bug := guarded(m.Name, func() { m.Result, m.Err = do(ctx, o) }); bug != nil {
				m.Err = bug
			}
		})
	}
	all.Wait()
	cancel()
	helper.Wait()
	return out
}
