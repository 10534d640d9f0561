package woodsim

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options configure a server. The zero value is the newest release at the root
// path with the real clock.
type Options struct {
	Version  string           // "" means "3.17.0"; decides fields and behaviour
	RootPath string           // "/ci"; "" none
	Now      func() time.Time // nil means time.Now

	ForgeURL       string        // "" means "https://git.example"
	SubscribeDelay time.Duration // first ping of an event stream → events reach it
	Seed           uint64        // shuffles logs and reorders events
}

// Server is the simulated server. Make it with New, inside the bubble where it
// is to be used. All methods are safe for concurrent use.
type Server struct {
	o Options
	v release

	mu    sync.Mutex
	clock time.Time // of what is being carried out
	queue actions
	seq   int64
	rand  *rand.Rand
	wake  chan struct{} // closed and renewed when waiting streams must look
	dirty bool

	users []*account
	repos []*Repo
	subs  map[*subscriber]struct{}
	grave []*row

	lastRow, lastWorkflow, lastStep, lastRepo int64

	faults   streamFaults
	troubles []trouble
	paused   bool
	workers  int

	requests   []Request
	unexpected []Request
	writes     []Write
	stopped    int // raised by DropStreams
}

// New returns a server without users and repositories.
func New(o Options) *Server {
	o.Version = cmp.Or(o.Version, "3.17.0")
	o.ForgeURL = cmp.Or(o.ForgeURL, "https://git.example")
	o.RootPath = strings.TrimRight(o.RootPath, "/")
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{
		o: o, v: parseRelease(o.Version), clock: o.Now(),
		rand: rand.New(rand.NewPCG(o.Seed, 1)),
		wake: make(chan struct{}), subs: map[*subscriber]struct{}{}, workers: 8,
	}
}

// release is a version as far as behaviour depends on it.
type release struct{ major, minor int }

func parseRelease(v string) release {
	major, rest, ok := strings.Cut(strings.TrimPrefix(v, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if !ok || err1 != nil || err2 != nil {
		return release{3, 999} // dev and next builds: the newest there is
	}
	return release{a, b}
}

func (r release) atLeast(minor int) bool { return r.major > 3 || r.major == 3 && r.minor >= minor }

// action is something that happens at a time.
type action struct {
	at  time.Time
	seq int64
	do  func()
}

type actions []action

func (a actions) Len() int { return len(a) }
func (a actions) Less(i, j int) bool {
	if !a[i].at.Equal(a[j].at) {
		return a[i].at.Before(a[j].at)
	}
	return a[i].seq < a[j].seq
}
func (a actions) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *actions) Push(x any)   { *a = append(*a, x.(action)) }
func (a *actions) Pop() any {
	old := *a
	x := old[len(old)-1]
	old[len(old)-1] = action{}
	*a = old[:len(old)-1]
	return x
}

// lock enters the server and brings it up to now.
func (s *Server) lock() {
	s.mu.Lock()
	s.advance(s.o.Now())
}

// unlock carries out what has become due by the operation itself and wakes the
// streams if anything changed.
func (s *Server) unlock() {
	s.advance(s.clock)
	if s.dirty {
		s.dirty = false
		close(s.wake)
		s.wake = make(chan struct{})
	}
	s.mu.Unlock()
}

func (s *Server) advance(now time.Time) {
	for len(s.queue) > 0 && !s.queue[0].at.After(now) {
		a := heap.Pop(&s.queue).(action)
		if a.at.After(s.clock) {
			s.clock = a.at
		}
		a.do()
		s.dirty = true
	}
	if now.After(s.clock) {
		s.clock = now
	}
}

// after plans f, d after the present moment of the simulation.
func (s *Server) after(d time.Duration, f func()) { s.plan(s.clock.Add(d), f) }

func (s *Server) plan(at time.Time, f func()) {
	s.seq++
	heap.Push(&s.queue, action{at, s.seq, f})
	s.dirty = true
}

// Settle carries out everything that is planned, as if all its time had
// passed: what a pipeline would have come to.
func (s *Server) Settle() {
	s.lock()
	defer s.unlock()
	for len(s.queue) > 0 {
		s.advance(s.queue[0].at)
	}
}

// tick carries out what has become due.
func (s *Server) tick() {
	s.lock()
	defer s.unlock()
}

// Poke makes waiting streams look at the clock; needed only when Options.Now
// is set by hand.
func (s *Server) Poke() {
	s.lock()
	s.dirty = true
	s.unlock()
}

func (s *Server) unix() int64 { return s.clock.Unix() }

// ulid gives a step identifier of the usual look.
func (s *Server) ulid(n int64) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	b := []byte(fmt.Sprintf("01M7W%021d", n))
	x := uint64(n)*0x9E3779B97F4A7C15 + s.o.Seed
	for i := 10; i < len(b); i++ {
		b[i] = digits[x&31]
		x = x>>5 | x<<59
	}
	return string(b)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
