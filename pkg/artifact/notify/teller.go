package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"homelab/pkg/poll"
)

// How long, how often and how many.
const (
	retryFirst  = 5 * time.Second
	retryMost   = 15 * time.Minute
	mostAge     = 6 * time.Hour // what is older is tried once, and given up
	mostRefused = 5             // tries of what is refused
	mostQueued  = 64            // notifications of one receiver
	troubleAt   = 3             // failed tries in a row that are told
	idle        = time.Hour     // between looks at nothing
	fileName    = "notify.json"
)

// Options of Open.
type Options struct {
	Dir       string // of the watch's state
	Receivers []Receiver
	// Say tells the story of the receivers: trouble (once, until it is over), what
	// was lost, recovery. It may be called from anywhere, and must not block.
	Say  func(trouble bool, text string)
	Now  func() time.Time // nil: time.Now
	Dice func() float64   // in [0, 1), safe for concurrent use; nil: no jitter
}

// Status is how a receiver stands.
type Status struct {
	To      string `json:"to"`
	Waiting int    `json:"waiting"`           // notifications
	Lost    int    `json:"lost"`              // by this process
	Trouble string `json:"trouble,omitempty"` // why the last one was not taken
}

// Teller decides what is told, remembers it and delivers it. See never waits:
// not for a receiver, nor for a disk.
type Teller struct {
	o      Options
	ctx    context.Context //nolint:containedctx // of its goroutines; it lives as long as it is open
	cancel context.CancelFunc
	all    sync.WaitGroup
	bell   chan struct{} // there is something to keep

	mu      sync.Mutex
	told    Told
	queues  []*queue
	keptTo  int64 // number of the last notification that is on disk
	keeping bool  // the keeper runs
	closed  bool
	dirty   bool
	unkept  bool // it was said that nothing can be kept
	quiet   chan struct{}
}

// queue is what one receiver has still to be told, oldest first.
type queue struct {
	r       Receiver
	items   []item
	bell    chan struct{}
	cancel  context.CancelFunc
	sending bool      // the first one
	fails   int       // in a row
	again   time.Time // no try before
	lost    int
	gone    int // of lost, since the last one that was taken
	trouble string
	said    bool // that there is trouble
	saidOff bool // that something was lost
}

// item is one notification that waits.
type item struct {
	N     Notification `json:"notification"`
	Since time.Time    `json:"since"`

	No int64 `json:"n"` // of all that were told

	tries int // in this process
}

// kept is what is on disk.
type kept struct {
	Told  Told              `json:"told"`
	Queue map[string][]item `json:"queue,omitempty"` // by receiver
}

// Open reads what was told before and goes on delivering what was not. f is how
// the watch stands; where nothing was told before, how its last deployment
// ended is no news. Trouble with the disk is told and harms nothing else.
func Open(ctx context.Context, o Options, f Facts) *Teller {
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Teller{o: o, bell: make(chan struct{}, 1)}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if len(o.Receivers) == 0 {
		// What is told by nobody would be old when there is somebody again.
		_ = os.Remove(t.path())
		return t
	}
	k, err := read(t.path())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			o.Say(true, "what was notified before cannot be read: "+err.Error())
		}
		k = kept{Told: First(f)}
	}
	t.begin(k) //nolint:contextcheck // what it starts ends with Close, not with ctx
	return t
}

// begin takes k over, and has it on disk before anything is decided: what is
// decided next must find it after a crash.
func (t *Teller) begin(k kept) {
	t.mu.Lock()
	t.told, t.dirty = k.Told, true
	for _, r := range t.o.Receivers {
		t.add(r, k.Queue[r.Key])
	}
	start := !t.keeping
	t.keeping = true
	t.mu.Unlock()
	t.keep()
	if start {
		t.all.Go(t.keeper)
	}
}

func (t *Teller) add(r Receiver, items []item) {
	q := &queue{r: r, items: items, bell: make(chan struct{}, 1)}
	var ctx context.Context
	ctx, q.cancel = context.WithCancel(t.ctx)
	t.queues = append(t.queues, q)
	t.all.Go(func() { t.deliver(ctx, q) })
}

func (t *Teller) path() string { return filepath.Join(t.o.Dir, fileName) }

// See is called whenever something may have changed.
func (t *Teller) See(f Facts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queues) == 0 || t.closed {
		return
	}
	news, told := Decide(t.told, f)
	if len(news) == 0 && same(told, t.told) {
		return
	}
	first := t.told.N
	t.told, t.dirty = told, true
	for i, n := range news {
		for _, q := range t.queues {
			if Selects(q.r.On, n.Event) {
				t.push(q, item{N: n, Since: f.Now.Round(0), No: first + int64(i) + 1})
			}
		}
	}
	ring(t.bell)
}

func same(a, b Told) bool {
	if a.N != b.N || a.Last != b.Last || a.HeldID != b.HeldID || len(a.Held) != len(b.Held) || len(a.Open) != len(b.Open) {
		return false
	}
	for n := range a.Open {
		if _, ok := b.Open[n]; !ok {
			return false
		}
	}
	return true // what else changed had a notification
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// push appends i. Of too many the oldest goes: the newest is how it stands.
func (t *Teller) push(q *queue, i item) {
	q.items = append(q.items, i)
	if len(q.items) <= mostQueued {
		return
	}
	first := 0
	if q.sending {
		first = 1
	}
	q.items = slices.Delete(q.items, first, first+1)
	t.lose(q, fmt.Sprintf("more than %d wait", mostQueued))
}

// lose counts one that is given up, and says so once.
func (t *Teller) lose(q *queue, why string) {
	q.lost++
	q.gone++
	if !q.saidOff {
		q.said, q.saidOff = true, true
		t.o.Say(true, "notifications to "+q.r.To+" are lost: "+why)
	}
}

// Replace takes other receivers over. What waits for one that stays is kept.
func (t *Teller) Replace(receivers []Receiver, f Facts) {
	t.mu.Lock()
	before := t.queues
	t.queues, t.o.Receivers = nil, receivers
	if len(before) == 0 && len(receivers) > 0 {
		t.mu.Unlock()
		t.begin(kept{Told: First(f)})
		return
	}
	for _, r := range receivers {
		i := slices.IndexFunc(before, func(q *queue) bool { return q.r.Key == r.Key })
		if i < 0 {
			t.add(r, nil)
			continue
		}
		before[i].r = r
		t.queues = append(t.queues, before[i])
	}
	for _, q := range before {
		if !slices.Contains(t.queues, q) {
			q.cancel()
		}
	}
	t.dirty = len(receivers) > 0
	if !t.dirty {
		_ = os.Remove(t.path())
	}
	t.mu.Unlock()
	ring(t.bell)
}

// Status is how the receivers stand; nil there are none.
func (t *Teller) Status() []Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Status
	for _, q := range t.queues {
		all = append(all, Status{To: q.r.To, Waiting: len(q.items), Lost: q.lost, Trouble: q.trouble})
	}
	return all
}

// Close lets what waits be delivered for at most patience, and keeps the rest
// for the next process.
func (t *Teller) Close(patience time.Duration) {
	quiet := make(chan struct{}, 1)
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.closed, t.quiet = true, quiet
	if t.settled() {
		ring(quiet)
	}
	t.mu.Unlock()
	_, _ = poll.Wait(t.ctx, patience, quiet)
	t.cancel()
	t.all.Wait()
	t.keep()
}

// settled reports whether nothing is left that could be delivered soon.
func (t *Teller) settled() bool {
	for _, q := range t.queues {
		if len(q.items) > 0 && q.fails == 0 {
			return false
		}
	}
	return !t.dirty
}

// hush tells Close when there is nothing left to wait for.
func (t *Teller) hush() {
	if t.quiet != nil && t.settled() {
		ring(t.quiet)
	}
}

// keeper puts on disk what was decided, and only then has it delivered: what is
// told was remembered, so it is not told again.
func (t *Teller) keeper() {
	for {
		t.keep()
		if _, err := poll.Wait(t.ctx, idle, t.bell); err != nil {
			return
		}
	}
}

// keep writes the file, if it is not as it should be.
func (t *Teller) keep() {
	t.mu.Lock()
	if !t.dirty || len(t.queues) == 0 {
		t.mu.Unlock()
		return
	}
	t.dirty = false
	k := kept{Told: t.told, Queue: map[string][]item{}}
	for _, q := range t.queues {
		if len(q.items) > 0 {
			k.Queue[q.r.Key] = slices.Clone(q.items)
		}
	}
	upTo := t.told.N
	t.mu.Unlock()
	err := write(t.path(), k)
	t.mu.Lock()
	defer t.mu.Unlock()
	// A full disk is what people have to be told of: it is delivered all the same.
	if err != nil && !t.unkept {
		t.o.Say(true, "what is notified cannot be kept, and a restart may repeat it: "+err.Error())
	}
	t.unkept = err != nil
	t.keptTo = max(t.keptTo, upTo)
	for _, q := range t.queues {
		ring(q.bell)
	}
	t.hush()
}

// deliver tells one receiver one after the other.
func (t *Teller) deliver(ctx context.Context, q *queue) {
	for {
		wait := t.next(ctx, q)
		if _, err := poll.Wait(ctx, wait, q.bell); err != nil {
			return
		}
	}
}

// next delivers what can be, and returns how long to wait for the next try.
func (t *Teller) next(ctx context.Context, q *queue) time.Duration {
	for ctx.Err() == nil {
		t.mu.Lock()
		if len(q.items) == 0 || q.items[0].No > t.keptTo {
			t.mu.Unlock()
			return idle
		}
		if wait := q.again.Sub(t.o.Now()); wait > 0 {
			t.mu.Unlock()
			return wait // something else came; that is no reason to hurry
		}
		q.sending = true
		n, send := q.items[0].N, q.r.Send
		t.mu.Unlock()

		once, cancel := context.WithTimeoutCause(ctx, sendLimit, errSlow)
		err := send(once, n)
		var e *SendError
		if err != nil {
			e = problem(once, err)
		}
		cancel()
		if e != nil && ctx.Err() != nil {
			return idle // it was not given the time
		}
		t.sent(q, e)
	}
	return idle
}

var errSlow = errors.New("no answer in " + sendLimit.String())

// sent takes the end of one try.
func (t *Teller) sent(q *queue, e *SendError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q.sending = false
	done := func() {
		q.items = slices.Delete(q.items, 0, 1)
		t.dirty = true
		ring(t.bell)
	}
	if e == nil {
		if q.said {
			text := "notifications to " + q.r.To + " arrive again"
			if q.gone > 0 {
				text += fmt.Sprintf("; %d were lost", q.gone)
			}
			t.o.Say(false, text)
		}
		q.fails, q.gone, q.trouble, q.said, q.saidOff = 0, 0, "", false, false
		done()
		return
	}
	i := &q.items[0]
	i.tries++
	q.fails++
	q.trouble = e.What
	defer t.hush()
	switch {
	case e.Refused && i.tries >= mostRefused, t.o.Now().Sub(i.Since) >= mostAge:
		t.lose(q, e.What)
		done()
		return
	case q.fails == troubleAt && !q.said:
		q.said = true
		t.o.Say(true, "notifications to "+q.r.To+" are not taken: "+e.What)
	}
	q.again = t.o.Now().Add(max(t.backoff(i.tries), e.RetryAfter))
}

// backoff is the wait after try n, from 1.
func (t *Teller) backoff(n int) time.Duration {
	d := retryFirst
	for range n - 1 {
		if d >= retryMost {
			break
		}
		d *= 2
	}
	d = min(d, retryMost)
	if t.o.Dice != nil {
		d = time.Duration(float64(d) * (0.75 + 0.5*t.o.Dice()))
	}
	return d
}

func read(path string) (kept, error) {
	var k kept
	data, err := os.ReadFile(path) //nolint:gosec // in the watch's own directory
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return kept{}, err
	}
	return k, nil
}

// write replaces the file: a reader, and the next process, finds the old or the
// new one whole.
func write(path string, k kept) error {
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // in the watch's own directory
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
