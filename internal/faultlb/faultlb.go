// Package faultlb is a load balancer that lies, breaks and dawdles on purpose:
// by seed, by count, by time and by request. It stands in front of any handler
// on a real listener, or of any RoundTripper inside a synctest bubble.
package faultlb

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind is a fault.
type Kind int

// The faults. Those of streams befall only requests for a path with /stream/.
const (
	None        Kind = iota
	Refuse           // no connection
	ResetBefore      // the connection breaks before the request has any effect
	ResetAfter       // the request takes effect, then the connection breaks
	Delay            // the answer comes Options.Delay late
	Hang             // no answer until the client gives up
	Cut              // the body ends after Options.CutAt bytes, or half of it
	Empty200         // the status without a body; the request has no effect
	Empty401
	Empty404
	Empty500
	Empty502
	Empty503
	HTML        // a page of the proxy itself: 200, no version header
	Redirect    // 302 to Options.Location
	TooMany     // 429 with Retry-After: Options.RetryAfter
	BadCert     // a certificate that does not fit; see Certificate
	BufferBody  // a stream's bytes are held back until Options.CutAt have come, or the end
	DropStream  // a stream ends after Options.DropAfter
	kindsNumber // not a fault
)

var kindNames = [kindsNumber]string{
	"none", "refuse", "reset-before", "reset-after", "delay", "hang", "cut", "empty-200", "empty-401", "empty-404",
	"empty-500", "empty-502", "empty-503", "html", "redirect", "too-many", "bad-cert", "buffer-stream", "drop-stream",
}

func (k Kind) String() string {
	if k < 0 || k >= kindsNumber {
		return "unknown"
	}
	return kindNames[k]
}

// Parse is the inverse of String.
func Parse(name string) (Kind, bool) {
	i := slices.Index(kindNames[:], name)
	return Kind(max(i, 0)), i >= 0
}

// All lists every fault.
func All() []Kind {
	var out []Kind
	for k := None + 1; k < kindsNumber; k++ {
		out = append(out, k)
	}
	return out
}

// Transient lists the faults after which a repeated request may well succeed,
// without those that take long (Delay, Hang) and those of streams.
func Transient() []Kind {
	return []Kind{
		Refuse, ResetBefore, ResetAfter, Cut, Empty200, Empty401, Empty404,
		Empty500, Empty502, Empty503, HTML, Redirect, TooMany, BadCert,
	}
}

// Options configure a balancer. The zero value injects nothing by itself.
type Options struct {
	Seed  uint64
	Rate  float64                  // share of the matching requests that get a random fault
	Kinds []Kind                   // what the random ones are taken from; nil means Transient()
	Match func(*http.Request) bool // requests that faults may befall; nil means all

	// MaxConsecutive limits the random faults in a row per method and path, so
	// that a budget of retries is known to suffice; 0 means 3.
	MaxConsecutive int

	Now        func() time.Time // nil means time.Now
	Delay      time.Duration    // 0 means 2 s
	CutAt      int              // bytes; 0 means half of the body, or 64 KiB for BufferBody
	DropAfter  time.Duration    // 0 means 1 s
	RetryAfter string           // "" means "1"
	Location   string           // "" means "https://login.invalid/"
	Version    string           // X-Woodpecker-Version of the empty answers; "" sends none, as a proxy would
}

// Balancer injects faults. It is an http.Handler and an http.RoundTripper;
// both may be used at once.
type Balancer struct {
	o       Options
	handler http.Handler
	trip    http.RoundTripper
	closed  chan struct{}

	mu      sync.Mutex
	rand    *rand.Rand
	ordered []order
	inARow  map[string]int
	stats   Stats
	precede Kind
	cert    bool // the next handshake gets the bad certificate
}

type order struct {
	kind  Kind
	left  int // by count, else by time
	until time.Time
	match func(*http.Request) bool
}

// Stats says what has happened so far.
type Stats struct {
	Requests  int // all that arrived
	Forwarded int // that reached the server behind
	Faults    map[Kind]int
	Longest   int // most faults in a row for one method and path
}

// Injected is the sum of all faults.
func (s Stats) Injected() int {
	n := 0
	for _, c := range s.Faults {
		n += c
	}
	return n
}

// New stands in front of a handler.
func New(next http.Handler, o Options) *Balancer {
	b := newBalancer(o)
	b.handler, b.trip = next, inProcess(next)
	return b
}

// Transport stands in front of a RoundTripper.
func Transport(next http.RoundTripper, o Options) *Balancer {
	b := newBalancer(o)
	b.handler, b.trip = forward(next), next
	return b
}

func newBalancer(o Options) *Balancer {
	if o.Kinds == nil {
		o.Kinds = Transient()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.MaxConsecutive = cmp.Or(o.MaxConsecutive, 3)
	o.Delay = cmp.Or(o.Delay, 2*time.Second)
	o.DropAfter = cmp.Or(o.DropAfter, time.Second)
	o.RetryAfter = cmp.Or(o.RetryAfter, "1")
	o.Location = cmp.Or(o.Location, "https://login.invalid/")
	return &Balancer{
		o: o, closed: make(chan struct{}), rand: rand.New(rand.NewPCG(o.Seed, 2)),
		inARow: map[string]int{}, stats: Stats{Faults: map[Kind]int{}},
	}
}

// Next lets the fault befall the next n matching requests. Several orders are
// carried out one after the other.
func (b *Balancer) Next(n int, k Kind) { b.NextMatch(n, k, nil) }

// NextMatch is Next for requests of which match holds too.
func (b *Balancer) NextMatch(n int, k Kind, match func(*http.Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > 0 {
		b.ordered = append(b.ordered, order{kind: k, left: n, match: match})
	}
}

// During lets the fault befall all matching requests for d.
func (b *Balancer) During(d time.Duration, k Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ordered = append(b.ordered, order{kind: k, until: b.o.Now().Add(d)})
}

// Precede lets every matching request that is passed on be preceded by one
// that meets the fault: each answer needs exactly two attempts. None ends it.
func (b *Balancer) Precede(k Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.precede = k
}

// SetRate changes the share of random faults; 0 ends them.
func (b *Balancer) SetRate(rate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.o.Rate = rate
}

// Clear forgets all orders and ends the random faults.
func (b *Balancer) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ordered, b.o.Rate, b.cert, b.precede = nil, 0, false, None
}

// Stats says what has happened so far.
func (b *Balancer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Faults = maps.Clone(b.stats.Faults)
	return s
}

// Close lets go of the requests that hang.
func (b *Balancer) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.closed:
	default:
		close(b.closed)
	}
}

// Match makes a condition for Options.Match and NextMatch: the method ("" any)
// and a part of the path.
func Match(method, part string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return (method == "" || r.Method == method) && strings.Contains(r.URL.Path, part)
	}
}

// decide picks the request's fault and counts it.
func (b *Balancer) decide(r *http.Request) Kind {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Requests++
	key := r.Method + " " + r.URL.Path
	k := b.pick(r, key)
	if k == None {
		b.inARow[key] = 0
		return None
	}
	b.inARow[key]++
	b.stats.Longest = max(b.stats.Longest, b.inARow[key])
	b.stats.Faults[k]++
	return k
}

func (b *Balancer) pick(r *http.Request, key string) Kind {
	if b.o.Match != nil && !b.o.Match(r) {
		return None
	}
	now := b.o.Now()
	b.ordered = slices.DeleteFunc(b.ordered, func(o order) bool { return o.left == 0 && !o.until.After(now) })
	for i := range b.ordered {
		o := &b.ordered[i]
		if o.match != nil && !o.match(r) || !fits(o.kind, r) {
			continue
		}
		if o.left > 0 {
			o.left--
		}
		return o.kind
	}
	if b.precede != None {
		if b.inARow[key] > 0 || !fits(b.precede, r) {
			return None
		}
		return b.precede
	}
	// The dice fall the same way whatever the limit says, so that a seed stands
	// for one sequence.
	dice, which := b.rand.Float64(), b.rand.IntN(max(len(b.o.Kinds), 1))
	if dice >= b.o.Rate || len(b.o.Kinds) == 0 || b.inARow[key] >= b.o.MaxConsecutive || !fits(b.o.Kinds[which], r) {
		return None
	}
	return b.o.Kinds[which]
}

func fits(k Kind, r *http.Request) bool {
	return k != BufferBody && k != DropStream || isStream(r)
}

func isStream(r *http.Request) bool { return strings.Contains(r.URL.Path, "/stream/") }

func (b *Balancer) forwarded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Forwarded++
}
