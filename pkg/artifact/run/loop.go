package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/artifact/notify"
	"homelab/pkg/artifact/store"
	"homelab/pkg/fault"
	"homelab/pkg/poll"
)

// mode is what a loop is for.
type mode int

const (
	daemon mode = iota
	single
	dry // nothing is written, and where a switch would begin it ends
)

const (
	turnEvery    = time.Minute // the wall clock may be set: windows are looked at anew
	spinGuard    = 100 * time.Millisecond
	statusEvery  = time.Minute // status.json, when only the counters changed
	reopenFirst  = time.Second
	reopenMost   = time.Minute
	seeAgain     = 30 * time.Second
	hurry        = 300 * time.Millisecond // for what was cancelled, after a second signal
	hasten       = 400 * time.Millisecond // after a first one
	farewell     = 5 * time.Second        // at any other end
	hookFarewell = 12 * time.Second       // a hook gets TERM, and 10 s later KILL
	lastWords    = 2 * time.Second        // for what is still to be notified; the rest is left to the next process
)

// mailbox is the way into the loop: what is posted runs on its goroutine, in
// order.
type mailbox struct {
	bell   chan struct{}
	mu     sync.Mutex
	queue  []func()
	closed bool
}

// post reports whether f will be looked at; a loop that has ended takes nothing.
func (b *mailbox) post(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.queue = append(b.queue, f)
	select {
	case b.bell <- struct{}{}:
	default:
	}
	return true
}

func (b *mailbox) take() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.queue
	b.queue = nil
	return all
}

func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.queue = true, nil
}

// waiter is somebody who asked and waits for the answer.
type waiter struct {
	request artifact.Request
	at      time.Time
	sub     *sub
}

// breakage is a journal that cannot be written.
type breakage struct {
	err   error
	again time.Time // when it is tried anew
	delay time.Duration
}

// loop is one watch at work. Only its own goroutine touches it, but for what
// says otherwise.
type loop struct {
	o       Options
	mode    mode
	base    context.Context //nolint:containedctx // of the effects; it lives as long as the one call
	journal *journal.Journal
	store   *store.Store
	box     *mailbox // safe
	hub     *hub     // safe
	latest  atomic.Pointer[View]
	options atomic.Pointer[Options] // o, safe
	now     func() time.Time        // safe
	notify  *notifier
	teller  *notify.Teller // safe; nil: a check tells nobody

	s       artifact.State
	gen     int // of s: results of an earlier one mean nothing
	running map[int64]*task
	lanes   map[bool]chan struct{} // end of the last look, and of the last other effect
	effects sync.WaitGroup
	last    sync.WaitGroup // of --after-rollback
	cancel  context.CancelFunc
	lost    artifact.ID // a way back that its source no longer has
	back    artifact.Switch
	unsee   context.CancelFunc // ends the target's own watch

	standby  *Tenure              // the lease is not held; nil: it is, or there is none
	heirloom []artifact.Attempted // of others, not taken over yet
	heir     string
	unkeep   func(idle bool) // gives the lease up

	waiting  map[int64]*waiter
	first    *artifact.Request // of a single run
	lastID   int64
	stops    int
	observed bool
	warnings []string
	found    journal.Report // what reading the journal found amiss; not told yet
	broken   *breakage
	broke    breakage // the last one
	reload   *Options
	shown    []byte // of status.json
	shownAt  time.Time
	statusOK bool
	ended    *artifact.Outcome
	err      error // instead
}

// open makes a loop of o, under the watch's lock if it is to do anything.
func open(ctx context.Context, o Options, m mode) (*loop, error) {
	if err := o.complete(m); err != nil {
		return nil, err
	}
	l := &loop{
		o: o, mode: m, now: o.Now, box: &mailbox{bell: make(chan struct{}, 1)}, hub: newHub(o.Config.Name, o.Config.Run),
		running: map[int64]*task{}, lanes: map[bool]chan struct{}{}, waiting: map[int64]*waiter{}, notify: &notifier{}, statusOK: true,
	}
	l.base, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	var memory artifact.Memory
	var rep journal.Report
	var err error
	if m == dry {
		if memory, rep, err = journal.Read(o.Place.Dir()); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		l.store = store.At(o.Place.store(), store.Options{MaxSize: o.MaxSize})
	} else {
		l.journal, memory, rep, err = journal.Open(l.base, o.Place.Dir())
		if err == nil {
			if l.store, err = store.Open(o.Place.store(), store.Options{MaxSize: o.MaxSize}); err != nil {
				_ = l.journal.Close()
			}
		}
	}
	if err != nil {
		l.cancel()
		if errors.Is(err, journal.ErrLocked) {
			return nil, err
		}
		return nil, onDisk(fmt.Sprintf("the state of watch %q cannot be used", o.Config.Name), err)
	}
	if o.Lease != nil && m != dry {
		l.standby = &Tenure{Kind: fault.Unreachable, Why: "the lease was not asked for yet", Soon: true}
	}
	memory, err = l.moved(memory, journalled(o.Place).From)
	if err != nil {
		l.close()
		return nil, onDisk(fmt.Sprintf("the journal of watch %q cannot be written", o.Config.Name), err)
	}
	l.s = artifact.New(memory)
	l.hub.phase = l.s.Memory.Phase
	o.Desk.open(l.store, m == dry, l.hookLine)
	l.found = rep
	if m != dry {
		l.teller = notify.Open(l.base, notify.Options{Dir: o.Place.Dir(), Receivers: o.Receivers, Say: l.delivery, Now: o.Now, Dice: rand.Float64}, l.facts())
	}
	v := l.view()
	l.latest.Store(&v)
	l.options.Store(&o)
	return l, nil
}

// complete fills what was left out.
func (o *Options) complete(m mode) error {
	if err := CheckName(o.Place.Name); err != nil {
		return err
	}
	o.Config.Name = o.Place.Name
	o.Config.Once = m != daemon
	if m == dry {
		o.Config.ReproduceWait = 0 // it tells what is, and waits for nobody
	}
	if o.Config.Run == "" {
		o.Config.Run = FreshRun()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dice == nil {
		o.Dice = rand.Float64
	}
	if o.Prober == nil {
		o.Prober = noProbes{}
	}
	if o.Config.Probes == 0 {
		o.Config.Probes, o.Config.Baseline = o.Prober.Count(false), o.Prober.Count(true)
	}
	return nil
}

// noProbes is a watch without any.
type noProbes struct{}

func (noProbes) Count(bool) int { return 0 }

func (noProbes) Probe(context.Context, artifact.Candidate, bool) []artifact.ProbeResult { return nil }

// moved forgets what another source told: its validators and its offer mean
// something else now.
func (l *loop) moved(m artifact.Memory, from string) (artifact.Memory, error) {
	if from == "" || from == l.o.From || m.Seen == "" && m.Offered == nil {
		return m, nil
	}
	line := artifact.Line{Seq: m.Seq + 1, Time: l.now().Round(0), Op: artifact.OpMoved, Reason: from + " was left for " + l.o.From}
	m = m.Apply(line)
	if l.journal == nil {
		return m, nil
	}
	return m, l.journal.Append(line, m)
}

// report tells what reading the journal found amiss.
func (l *loop) report(rep journal.Report) {
	switch {
	case rep.Lost != "":
		l.warn("the state could not be read, this is a first start: " + rep.Lost)
	case rep.Rebuilt:
		l.note("state.json could not be read; the state is made from the journal")
	}
}

// note tells something that the core does not know of.
func (l *loop) note(text string) {
	l.hub.publish(Event{Type: artifact.NoteEvent, Time: l.now(), Text: text})
}

func (l *loop) warn(text string) {
	l.warnings = append(l.warnings, text)
	l.hub.publish(Event{Type: artifact.NoteEvent, Time: l.now(), Text: text, Warning: true})
}

// hookLine may be called from anywhere.
func (l *loop) hookLine(text string) {
	l.hub.publish(Event{Type: artifact.HookEvent, Time: l.now(), Text: text})
}

// run turns until the watch ends.
func (l *loop) run(ctx context.Context, first *artifact.Request) {
	stop := context.AfterFunc(ctx, func() {
		kind := fault.Interrupted
		if sig, ok := errors.AsType[*fault.Signal](context.Cause(ctx)); ok {
			kind = sig.Kind()
		}
		l.box.post(func() { l.stop(kind) })
	})
	defer stop()
	over, cancel := context.WithCancel(l.base)
	defer cancel()
	go relay(over, l.o.Signals, func(k fault.Kind) { l.box.post(func() { l.stop(k) }) })
	go relay(over, l.o.Reload, func(o Options) { l.box.post(func() { l.reload = &o }) })
	l.report(l.found) // nobody listened before
	l.see()
	l.keep()
	l.feed(artifact.Input{What: artifact.Begin})
	if first != nil && l.ended == nil {
		l.lastID++
		r := *first
		r.ID = l.lastID
		l.first = &r
		l.feed(artifact.Input{What: artifact.Ask, Request: r})
	}
	idle := false
	for l.ended == nil && l.err == nil {
		d := l.patience(idle)
		woken, err := poll.Wait(l.base, d, l.box.bell)
		if err != nil {
			return // cannot be: the base ends after the loop
		}
		l.notify.alive()
		idle = l.turn(woken)
	}
}

// relay hands on what a channel delivers until ctx ends.
func relay[T any](ctx context.Context, from <-chan T, to func(T)) {
	if from == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case v, ok := <-from:
			if !ok {
				return
			}
			to(v)
		}
	}
}

// turn takes what was posted, and what is due. idle reports that something
// seems due and nothing came of it.
func (l *loop) turn(woken bool) (idle bool) {
	for _, f := range l.box.take() {
		if f(); l.ended != nil || l.err != nil {
			return false
		}
	}
	now := l.now()
	if l.broken != nil {
		l.reopen(now)
		return false
	}
	if l.standby != nil {
		l.heartbeat(now)
		return false
	}
	if due := !l.s.Wake.IsZero() && !now.Before(l.s.Wake); due || !woken {
		l.feed(artifact.Input{What: artifact.Tick})
		idle = due && !l.s.Wake.IsZero() && !l.s.Wake.After(now)
	}
	if l.ended == nil && l.err == nil {
		l.renew()
		l.heartbeat(now)
	}
	return idle
}

// patience is how long the loop may wait for something to happen.
func (l *loop) patience(idle bool) time.Duration {
	now := l.now()
	d := turnEvery
	if l.broken != nil {
		return max(min(d, l.broken.again.Sub(now)), spinGuard)
	}
	if !l.s.Wake.IsZero() && l.standby == nil {
		d = min(d, l.s.Wake.Sub(now))
	}
	if l.o.Heartbeat > 0 {
		told, _ := l.hub.latest()
		d = min(d, max(told.Add(l.o.Heartbeat).Sub(now), spinGuard))
	}
	if every := l.notify.every; every > 0 {
		d = min(d, every)
	}
	if idle {
		d = max(d, spinGuard)
	}
	return d
}

func (l *loop) heartbeat(now time.Time) {
	told, phase := l.hub.latest()
	if l.o.Heartbeat <= 0 || now.Sub(told) < l.o.Heartbeat {
		return
	}
	still := string(phase)
	if l.standby != nil {
		still = StandbyState + ": " + l.standby.Why
	}
	l.hub.publish(Event{Type: artifact.HeartbeatEvent, Time: now, Text: "still " + still})
}

// feed gives the core one input and does what it wants done.
func (l *loop) feed(in artifact.Input) {
	if l.broken != nil || l.standby != nil || l.ended != nil || l.err != nil {
		return
	}
	if in.Dice == 0 {
		in.Dice = l.o.Dice()
	}
	next, out := artifact.Next(l.s, in, l.o.Config, l.now())
	m := l.s.Memory
	for _, e := range out {
		if e.Do != artifact.Write {
			l.do(e, m)
			if l.err != nil || l.ended != nil {
				break
			}
			continue
		}
		after := m.Apply(e.Line)
		if l.journal != nil {
			if err := l.journal.Append(e.Line, after); err != nil {
				l.s.Memory = m
				l.breaks(err)
				return
			}
			if l.o.wrote != nil {
				l.o.wrote(e.Line)
			}
		}
		l.noted(m, e.Line)
		m = after
	}
	l.s = next
	l.inform()
	l.show()
}

// do begins or does one effect; m is memory as it is then.
func (l *loop) do(e artifact.Effect, m artifact.Memory) {
	switch e.Do {
	case artifact.Write: // done before
	case artifact.Tell:
		l.tell(e.Event, m)
	case artifact.Reply:
		l.reply(e.Request, e.Outcome, m)
	case artifact.Cancel:
		if t := l.running[e.Op]; t != nil {
			t.cancel()
		}
	case artifact.Discard:
		l.tidy(func() error { return l.store.Discard(e.ID) })
	case artifact.Prune:
		l.tidy(func() error { return l.store.Prune(e.Keep) })
	case artifact.After:
		l.afterRollback()
	case artifact.End:
		o := e.Outcome
		if l.stops > 0 {
			l.note(o.Reason) // at once; the result follows when all has ended
		}
		l.ended = &o
	case artifact.DoActivate, artifact.DoRollback:
		if l.mode == dry {
			l.wouldSwitch(e.Switch, m)
			return
		}
		l.start(e)
	case artifact.DoLook, artifact.DoObserve, artifact.DoFetch, artifact.DoVerify, artifact.DoStage,
		artifact.DoBaseline, artifact.DoProbe, artifact.DoCheck:
		l.start(e)
	}
}

// tidy does something to the store that nothing depends on.
func (l *loop) tidy(f func() error) {
	if l.mode == dry {
		return
	}
	if err := f(); err != nil {
		l.note("the store could not be tidied: " + err.Error())
	}
}

// wouldSwitch ends a check: all that comes before a switch went well.
func (l *loop) wouldSwitch(w artifact.Switch, m artifact.Memory) {
	running := "nothing"
	if m.Running != nil {
		running = m.Running.ID.Short()
	}
	c := w.To
	l.ended = &artifact.Outcome{
		Kind: fault.OK, Verdict: artifact.VerdictReady, Health: artifact.HealthUnknown,
		Reason: fmt.Sprintf("%s runs %s and would be switched to %s", l.o.Config.Name, running, c.ID.Short()),
		State:  string(artifact.Offered), Candidate: &c, Running: m.Running, Previous: m.Previous,
		Started: l.now().Round(0), Ended: l.now().Round(0),
	}
}

func (l *loop) tell(e artifact.Event, m artifact.Memory) {
	told := Event{
		Type: e.Type, Time: e.Time, Seq: e.Seq, State: e.State, ID: e.ID, Text: e.Text, Warning: e.Warning, Probes: e.Probes,
	}
	if e.Outcome != nil {
		ended := l.shape(*e.Outcome, m)
		told.Outcome = &ended
	}
	if e.Warning && l.mode == dry {
		l.warnings = append(l.warnings, e.Text)
	}
	l.hub.publish(told)
}

// shape makes an outcome public.
func (l *loop) shape(o artifact.Outcome, m artifact.Memory) Ended {
	return l.o.ended(o, m)
}

func (o *Options) ended(out artifact.Outcome, m artifact.Memory) Ended {
	e := Ended{
		Kind: "deploy.watch", Verdict: out.Verdict, ExitCode: out.Kind.Code(), Reason: out.Reason,
		Report: artifact.Show(out, o.Config, m, o.From, o.To),
	}
	if !out.Started.IsZero() {
		e.Elapsed = max(out.Ended.Sub(out.Started), 0).Seconds()
	}
	if o.Advise != nil {
		if next := o.Advise(out); next != "" {
			e.Next = &next
		}
	}
	return e
}

// ask gives the core a request whose answer and events go to sub; nil: nobody
// waits. It returns its number.
func (l *loop) ask(r artifact.Request, to *sub) int64 {
	l.lastID++
	r.ID = l.lastID
	if to != nil {
		l.waiting[r.ID] = &waiter{r, l.now(), to}
	}
	if l.broken != nil || l.standby != nil {
		l.reply(r.ID, l.refusal(), l.s.Memory)
		return r.ID
	}
	l.feed(artifact.Input{What: artifact.Ask, Request: r})
	return r.ID
}

// left forgets somebody who no longer waits.
func (l *loop) left(id int64) {
	if l.waiting[id] == nil {
		return
	}
	delete(l.waiting, id)
	l.feed(artifact.Input{What: artifact.Left, Request: artifact.Request{ID: id}})
}

func (l *loop) reply(id int64, o artifact.Outcome, m artifact.Memory) {
	w := l.waiting[id]
	if w == nil {
		return
	}
	delete(l.waiting, id)
	w.sub.settle(answer{o, l.shape(o, m)})
}

// stop takes a signal.
func (l *loop) stop(kind fault.Kind) {
	l.stops++
	if l.broken == nil && l.standby == nil {
		l.feed(artifact.Input{What: artifact.Stop, Kind: kind})
		return
	}
	if l.stops == 1 && l.sideEffect() && l.o.Config.Grace > 0 {
		l.note("stopping: what was begun has " + l.o.Config.Grace.String() + " to end. " + artifact.NextStart(l.s.Memory, l.o.Config))
	}
	l.endWith(artifact.Outcome{Kind: kind, Reason: "stopped. " + artifact.NextStart(l.s.Memory, l.o.Config)})
}

// endWith ends the loop without the core, whose journal cannot be written.
func (l *loop) endWith(o artifact.Outcome) {
	m := l.s.Memory
	if o.Verdict == "" {
		o.Verdict = artifact.Verdict(o.Kind.Name())
	}
	o.State, o.Running, o.Previous, o.Candidate = l.states()[0], l.s.Running(), m.Previous, m.Offered
	o.Health, o.Ended = artifact.HealthUnknown, l.now().Round(0)
	for id := range l.waiting {
		l.reply(id, o, m)
	}
	l.ended = &o
}

// breaks stops everything that would need the journal. What the target is in
// the middle of goes on: its end is found by asking the target.
func (l *loop) breaks(err error) {
	now := l.now()
	b := breakage{err: err, delay: reopenFirst}
	if l.broke.err != nil && now.Sub(l.broke.again) < 2*reopenMost {
		b.delay = min(2*l.broke.delay, reopenMost) // it did not get far
	}
	b.again = now.Add(b.delay)
	l.broken = &b
	for _, t := range l.running {
		if !t.touches() {
			t.cancel()
		}
	}
	l.hub.publish(Event{Type: artifact.TroubleEvent, Time: l.now(), Text: "nothing more is begun: " + err.Error()})
	l.inform()
	if l.mode != daemon {
		l.endWith(l.refusal())
		return
	}
	o := l.refusal()
	for id := range l.waiting {
		l.reply(id, o, l.s.Memory)
	}
	l.show()
}

// states is the watch's states, the most important one first.
func (l *loop) states() []string {
	states := l.s.Shown()
	if l.standby != nil {
		states = append([]string{StandbyState}, states...)
	}
	return states
}

// refusal is the answer while the journal cannot be written, or another holds
// the lease.
func (l *loop) refusal() artifact.Outcome {
	var kind fault.Kind
	var why artifact.Why
	var reason string
	if l.broken != nil {
		kind, why = diskKind(l.broken.err)
		reason = "nothing more is begun: " + l.broken.err.Error()
	} else {
		kind, reason = l.standby.Kind, "standby: "+l.standby.Why
	}
	m := l.s.Memory
	return artifact.Outcome{
		Kind: kind, Why: why, Verdict: artifact.Verdict(kind.Name()), State: l.states()[0], Health: artifact.HealthUnknown,
		Reason:  reason + ". " + artifact.NextStart(m, l.o.Config),
		Running: l.s.Running(), Previous: m.Previous, Candidate: m.Offered, Ended: l.now().Round(0),
	}
}

// reopen reads the journal anew, as a start would, once it can be written.
func (l *loop) reopen(now time.Time) {
	b := l.broken
	if now.Before(b.again) || len(l.running) > 0 {
		if !now.Before(b.again) {
			b.again = now.Add(reopenFirst)
		}
		return
	}
	if l.journal != nil {
		_ = l.journal.Close()
		l.journal = nil
	}
	j, m, rep, err := journal.Open(l.base, l.o.Place.Dir())
	switch {
	case errors.Is(err, journal.ErrLocked):
		l.endWith(artifact.Outcome{Kind: fault.Conflict, Reason: "another process took over this watch; nothing more is done here"})
		return
	case err != nil:
		b.err, b.delay = err, min(2*b.delay, reopenMost)
		b.again = now.Add(b.delay)
		return
	}
	l.journal, l.broke, l.broken = j, *b, nil
	l.hub.publish(Event{Type: artifact.RecoveredEvent, Time: now, Text: "the journal can be written again"})
	l.report(rep)
	l.restart(m)
}

// restart begins anew with m, in this process. Who waits goes on waiting.
func (l *loop) restart(m artifact.Memory) {
	for _, t := range l.running {
		t.cancel()
	}
	l.gen++
	l.running = map[int64]*task{}
	if l.standby == nil && len(l.heirloom) > 0 {
		var err error
		if m, err = l.inherit(m); err != nil {
			l.s = artifact.New(m)
			l.breaks(err)
			return
		}
	}
	l.s = artifact.New(m)
	l.feed(artifact.Input{What: artifact.Begin})
	if l.first != nil { // of a single run
		l.feed(artifact.Input{What: artifact.Ask, Request: *l.first})
	}
	for id, w := range l.waiting {
		r := w.request
		r.Wait = max(0, r.Wait-l.now().Sub(w.at))
		r.ID = id
		l.feed(artifact.Input{What: artifact.Ask, Request: r})
	}
}

// renew takes over what a watches file says now, when nothing is in progress.
func (l *loop) renew() {
	if l.reload == nil || l.s.Memory.Attempt != nil || l.standby != nil {
		return
	}
	for _, t := range l.running {
		if t.do != artifact.DoLook {
			return
		}
	}
	o := *l.reload
	l.reload = nil
	from := l.o.From
	o.Place, o.Config.Run, o.Events, o.Heartbeat = l.o.Place, l.o.Config.Run, l.o.Events, l.o.Heartbeat
	o.Lease, o.Listen, o.Notify, o.Signals, o.Reload, o.Now, o.Dice = l.o.Lease, l.o.Listen, l.o.Notify, l.o.Signals, l.o.Reload, l.o.Now, l.o.Dice
	if err := o.complete(daemon); err != nil {
		l.note("not reloaded: " + err.Error())
		return
	}
	l.o = o
	l.options.Store(&o)
	o.Desk.open(l.store, false, l.hookLine)
	m, err := l.moved(l.s.Memory, from)
	if err != nil {
		l.breaks(err)
		return
	}
	l.teller.Replace(o.Receivers, l.facts())
	l.note("reloaded")
	l.see()
	l.restart(m)
}

// see lets a target that can tell of changes by itself.
func (l *loop) see() {
	if l.unsee != nil {
		l.unsee()
		l.unsee = nil
	}
	seer, ok := l.o.Target.(Seer)
	if !ok || l.mode == dry {
		return
	}
	ctx, cancel := context.WithCancel(l.base)
	l.unsee = cancel
	saw := func(o artifact.Observation) {
		if ctx.Err() == nil {
			l.box.post(func() { l.feed(artifact.Input{What: artifact.Saw, Observation: o}) })
		}
	}
	l.effects.Go(func() {
		for {
			err := seer.Watch(ctx, saw)
			if f := artifact.FailureOf(err, artifact.Transient); f != nil && f.Class == artifact.Denied {
				return
			}
			if poll.Sleep(ctx, seeAgain) != nil {
				return
			}
		}
	})
}

// show keeps status.json, and what is answered without asking the loop.
func (l *loop) show() {
	v := l.view()
	l.latest.Store(&v)
	if l.journal == nil || l.broken != nil {
		return
	}
	key := v
	key.Looks, key.Failures, key.LastGood, key.Updated = 0, 0, time.Time{}, time.Time{}
	data, err := json.Marshal(key)
	if err == nil && bytes.Equal(data, l.shown) && v.Updated.Sub(l.shownAt).Abs() < statusEvery {
		return
	}
	l.shown, l.shownAt = data, v.Updated
	if err := l.journal.Status(v); err != nil && l.statusOK {
		l.note("status.json cannot be written: " + err.Error())
		l.statusOK = false
	} else if err == nil {
		l.statusOK = true
	}
}

func (l *loop) view() View {
	v := View{
		Status: artifact.StatusOf(l.s, l.o.Config.Name), From: l.o.From, To: l.o.To, Policy: l.o.Policy,
		Run: l.o.Config.Run, PID: os.Getpid(), Updated: l.now().Round(0), Next: artifact.NextStart(l.s.Memory, l.o.Config),
	}
	if l.teller != nil {
		v.Notify = l.teller.Status()
	}
	if l.broken != nil {
		kind, _ := diskKind(l.broken.err)
		v.Kind, v.Held = kind, "nothing more is begun: "+l.broken.err.Error()
	}
	if l.standby != nil {
		v.States, v.Kind, v.Held = l.states(), l.standby.Kind, "standby: "+l.standby.Why
	}
	return v
}

// close gives everything back.
func (l *loop) close() {
	if l.teller != nil {
		patience := lastWords
		if l.stops > 0 || l.err != nil {
			patience = hurry
		}
		l.teller.Close(patience)
	}
	l.cancel()
	if l.journal != nil {
		_ = l.journal.Close()
		l.journal = nil
	}
}

// finish ends what still runs, within limits, and shapes the result.
func (l *loop) finish(began time.Time) (Result, error) {
	if l.unsee != nil {
		l.unsee()
	}
	grace := l.stops == 1 && l.broken != nil
	if l.broken != nil && l.stops < 2 && l.sideEffect() {
		// Its end was not waited for by the core.
		limit := l.o.Config.ActivateTimeout + hookFarewell
		if grace {
			limit = l.o.Config.Grace
		}
		l.await(&l.effects, limit)
	}
	side := l.sideEffect()
	for _, t := range l.running {
		t.cancel()
	}
	l.cancelAfter(l.stops > 0)
	limit := farewell
	switch {
	case l.stops >= 2:
		limit = hurry
	case side:
		limit = hookFarewell
	case l.stops == 1:
		limit = hasten
	}
	if l.stops > 0 {
		l.cancel()
	}
	ended := l.await(&l.effects, limit)
	if l.unkeep != nil {
		l.unkeep(ended)
	}
	l.show()
	l.box.close()
	l.hub.close()
	l.close()
	if l.err != nil {
		return Result{}, l.err
	}
	o := *l.ended
	for _, w := range l.warnings {
		if !slices.Contains(o.Warnings, w) {
			o.Warnings = append(slices.Clone(o.Warnings), w)
		}
	}
	return Result{
		Outcome: o, Report: artifact.Show(o, l.o.Config, l.s.Memory, l.o.From, l.o.To), Elapsed: l.now().Sub(began),
	}, nil
}

// await waits for a group, at most limit, and reports whether it has ended.
func (l *loop) await(g *sync.WaitGroup, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.base), limit)
	defer cancel()
	done := make(chan struct{})
	go func() { g.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// cancelAfter waits for --after-rollback; after a signal it gets the grace of
// any hook.
func (l *loop) cancelAfter(signalled bool) {
	limit := l.o.Config.ActivateTimeout + hookFarewell
	switch {
	case l.stops >= 2:
		limit = hurry
	case signalled:
		limit = l.o.Config.Grace
	}
	l.await(&l.last, limit)
}
