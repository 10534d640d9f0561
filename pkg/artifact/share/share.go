// Package share is what the watches of one process have in common when they
// ask: a server is asked by at most a few of them at a time, by nobody while it
// counts requests, and once for all who put the same question.
//
// A question is shared as it is sent, with its validators: watches that run
// other things ask for other things. An answer does for somebody if its request
// was sent at a time with which he is content; so nobody who was told "look
// now" gets an answer from before. Who asks the same thing twice in one look
// wants to know whether it has changed, and is asked anew.
package share

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"homelab/pkg/artifact"
)

// MostConns is how many connections there are to one host at a time.
const MostConns = 4

const (
	mostBulk  = 3 // of them for bodies that take their time
	leastHold = time.Minute
	mostHold  = time.Hour // no server silences its watches for good
	mostKept  = 1024      // answers of one host
	keepFor   = 5 * time.Minute
)

// Pool is the hosts of a process. It is safe for concurrent use.
type Pool struct {
	mu    sync.Mutex
	hosts map[string]*Host
}

// New returns a pool without hosts.
func New() *Pool { return &Pool{hosts: map[string]*Host{}} }

// Host is the server of that name, with its port if it has one.
func (p *Pool) Host(name string) *Host {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[name]
	if h == nil {
		h = &Host{
			name: name, conns: make(chan struct{}, MostConns), bulk: make(chan struct{}, mostBulk), answers: map[string]*answer{},
		}
		p.hosts[name] = h
	}
	return h
}

// Host is one server.
type Host struct {
	name  string
	conns chan struct{}
	bulk  chan struct{}

	mu      sync.Mutex
	held    time.Time // nothing is asked before
	answers map[string]*answer
}

// answer is one exchange. All but done is guarded by the host's mu; what it
// came to is settled once done is closed.
type answer struct {
	done    chan struct{}
	cancel  context.CancelFunc
	began   time.Time // zero: it waits for its turn
	ended   time.Time // zero: it is under way
	waiting int
	left    bool // nobody joins it any more
	dice    float64

	value any
	err   error
	panic any
}

// Large is an answer that may be too long to be kept for whoever comes next.
type Large interface{ Large() bool }

// Hold has nobody ask the host for at least a minute, or as long as it said, up
// to an hour.
func (h *Host) Hold(said time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if until := time.Now().Add(min(max(said, leastHold), mostHold)); until.After(h.held) {
		h.held = until
	}
}

// silence is the failure of whoever would ask a host that counts requests; nil
// it does not.
func (h *Host) silence() error {
	h.mu.Lock()
	left := time.Until(h.held)
	h.mu.Unlock()
	if left <= 0 {
		return nil
	}
	return &artifact.Failure{
		Class: artifact.Transient, Limited: true, Shared: true, RetryAfter: left,
		What: h.name + " counts requests (429): nothing is asked there for " + left.Round(time.Second).String(),
	}
}

// Enter waits for a turn at the host. bulk is for what takes its time: it
// never takes all turns. leave gives the turn back; it may be called twice. The
// error is *artifact.Failure while the host is held, or ctx's cause. A nil Host
// has turns for everybody.
func (h *Host) Enter(ctx context.Context, bulk bool) (leave func(), err error) {
	if h == nil {
		return func() {}, nil
	}
	if err := h.silence(); err != nil {
		return nil, err
	}
	gates := []chan struct{}{h.conns}
	if bulk {
		gates = []chan struct{}{h.bulk, h.conns}
	}
	back := func(n int) {
		for _, g := range gates[:n] {
			<-g
		}
	}
	for i, g := range gates {
		select {
		case g <- struct{}{}:
		case <-ctx.Done():
			back(i)
			return nil, context.Cause(ctx)
		}
	}
	if err := h.silence(); err != nil { // it was told in the meantime
		back(len(gates))
		return nil, err
	}
	return sync.OnceFunc(func() { back(len(gates)) }), nil
}

// Sitting is one look of one watch.
type Sitting struct {
	since time.Time

	mu    sync.Mutex
	asked map[string]bool
	age   time.Duration // of the oldest answer that was not its own
	dice  float64       // of the first answer
}

type sittingKey struct{}

// Sit returns a context for one look, which is content with what was asked
// since then.
func Sit(ctx context.Context, since time.Time) (context.Context, *Sitting) {
	s := &Sitting{since: since, asked: map[string]bool{}}
	return context.WithValue(ctx, sittingKey{}, s), s
}

// Told is how long ago the oldest answer was given that another watch had asked
// for, and a number in (0, 1) that all have who got the first answer; 0 nothing
// could be shared.
func (s *Sitting) Told() (age time.Duration, dice float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.age, s.dice
}

// from is when an answer must have been asked for to do for this look.
func (s *Sitting) from(key string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked[key] {
		return time.Now()
	}
	s.asked[key] = true
	return s.since
}

func (s *Sitting) took(a *answer, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age = max(s.age, now.Sub(a.ended))
	if s.dice == 0 {
		s.dice = a.dice
	}
}

// Ask puts the question to the host, or returns what it told another watch.
// key is all that the answer depends on. ask is called from a goroutine of its
// own and must not touch what belongs to one watch; its context ends when
// nobody waits any more. Values and errors are shared: nobody changes them.
// Outside of a look, and with key "", it is not shared. limited says whether an
// error means that the host counts requests, and what it said how long. The
// errors are ask's, Enter's, or ctx's cause.
func Ask[T any](ctx context.Context, h *Host, key string, limited func(error) (time.Duration, bool), ask func(context.Context) (T, error)) (T, error) {
	var none T
	if h == nil {
		return ask(ctx)
	}
	whole := func(ctx context.Context, began func()) (T, error) {
		leave, err := h.Enter(ctx, false)
		if err != nil {
			return none, err
		}
		defer leave()
		began()
		v, err := ask(ctx)
		if err != nil {
			if said, yes := limited(err); yes {
				h.Hold(said)
			}
		}
		return v, err
	}
	s, _ := ctx.Value(sittingKey{}).(*Sitting)
	if s == nil || key == "" {
		return whole(ctx, func() {})
	}
	a, err := h.share(ctx, s, key, func(ctx context.Context, began func()) (any, error) { return whole(ctx, began) })
	if err != nil {
		return none, err
	}
	if a.panic != nil {
		panic(a.panic) // where whoever asked can tell it
	}
	v, _ := a.value.(T)
	return v, a.err
}

// share finds or begins the exchange and waits for its end.
func (h *Host) share(ctx context.Context, s *Sitting, key string, ask func(context.Context, func()) (any, error)) (*answer, error) {
	since := s.from(key)
	h.mu.Lock()
	a := h.answers[key]
	if a == nil || a.left || !a.began.IsZero() && a.began.Before(since) {
		a = h.begin(ctx, key, ask)
	}
	a.waiting++
	h.mu.Unlock()
	select {
	case <-a.done:
		s.took(a, time.Now())
		return a, nil
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.waiting--; a.waiting == 0 && a.ended.IsZero() {
		a.left = true
		a.cancel()
	}
	return nil, context.Cause(ctx)
}

// begin starts an exchange. It goes on as long as anybody waits for it,
// whoever asked first.
func (h *Host) begin(ctx context.Context, key string, ask func(context.Context, func()) (any, error)) *answer {
	dice := rand.Float64() //nolint:gosec // it spreads looks
	a := &answer{done: make(chan struct{}), dice: min(max(dice, 1e-9), 1-1e-9)}
	h.forget()
	h.answers[key] = a
	ctx, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer a.cancel()
		defer close(a.done)
		defer func() {
			p := recover()
			h.mu.Lock()
			defer h.mu.Unlock()
			a.panic, a.ended = p, time.Now()
			large, ok := a.value.(Large)
			// Nothing was asked; or it is too much to be kept.
			a.left = a.left || a.began.IsZero() || ok && large.Large()
		}()
		a.value, a.err = ask(ctx, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			a.began = time.Now()
		})
	}()
	return a
}

// forget drops what nobody will want any more.
func (h *Host) forget() {
	now := time.Now()
	for key, a := range h.answers {
		if !a.ended.IsZero() && now.Sub(a.ended) > keepFor {
			delete(h.answers, key)
		}
	}
	if len(h.answers) < mostKept {
		return
	}
	var ended []time.Time
	for _, a := range h.answers {
		if !a.ended.IsZero() {
			ended = append(ended, a.ended)
		}
	}
	if len(ended) == 0 {
		return
	}
	slices.SortFunc(ended, time.Time.Compare)
	middle := ended[len(ended)/2]
	for key, a := range h.answers {
		if !a.ended.IsZero() && !a.ended.After(middle) {
			delete(h.answers, key)
		}
	}
}
