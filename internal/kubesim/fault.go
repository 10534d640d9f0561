package kubesim

import (
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

// What can go wrong with a request.
const (
	Status      FaultKind = "status"       // a Kubernetes Status with Code, RetryAfter
	StatusEvent FaultKind = "status event" // of a watch: 200, then an ERROR event with Code
	HTML        FaultKind = "html"         // a proxy's page with Code
	Refuse      FaultKind = "refuse"       // the connection is cut without an answer
	Cut         FaultKind = "cut"          // the answer is cut off half way
	Empty       FaultKind = "empty"        // 200 without a body; of a watch: its regular end
	Silent      FaultKind = "silent"       // no answer at all, for ever
	Mute        FaultKind = "mute"         // of a watch: headers, then nothing for ever
	Bookmarks   FaultKind = "bookmarks"    // of a watch: bookmarks only
	Stale       FaultKind = "stale"        // a get or list as of Behind versions ago
)

// Fault strikes the requests it matches. The first that matches wins.
type Fault struct {
	Kind       FaultKind
	Verb       string // get, list, watch; "" any
	Resource   string // plural; "" any
	Times      int    // requests struck; 0 all
	Code       int    // 410, 429, 500, 504, ...
	RetryAfter int    // seconds, in header and details
	Behind     int    // Stale: how many versions

	struck int
}

// Inject adds a fault and returns what takes it away.
func (s *Sim) Inject(f Fault) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &f
	s.faults = append(s.faults, p)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range s.faults {
			if s.faults[i] == p {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
				return
			}
		}
	}
}

// Down cuts every request and all watches for d from now.
func (s *Sim) Down(d time.Duration) {
	s.mu.Lock()
	s.down = time.Now().Add(d)
	s.mu.Unlock()
	s.DropWatches()
}

// IgnoreSelectors makes the server answer as if there were no selectors.
func (s *Sim) IgnoreSelectors(ignore bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.careless = ignore
}

// Warn adds an API warning to every answer; "" none.
func (s *Sim) Warn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warning = text
}

// Compact makes every version before the newest too old to watch from.
func (s *Sim) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldest = s.rv
}

// EndWatches ends all running watches regularly, as at their time limit.
func (s *Sim) EndWatches() { s.each(func(w *watch) { w.finish(false) }) }

// DropWatches cuts the connections of all running watches.
func (s *Sim) DropWatches() { s.each(func(w *watch) { w.finish(true) }) }

// Deafen makes all running watches silent for ever, as behind a half-open
// connection. New ones are not affected.
func (s *Sim) Deafen() { s.each(func(w *watch) { w.deafen() }) }

// FailWatches ends all running watches with an ERROR event.
func (s *Sim) FailWatches(code, retryAfter int) {
	s.each(func(w *watch) { w.fail(code, retryAfter) })
}

func (s *Sim) each(f func(*watch)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watches {
		f(w)
	}
}

// strike returns the fault for a request, or nil; s.mu is held.
func (s *Sim) strike(q *Request) *Fault {
	for _, f := range s.faults {
		if (f.Verb == "" || f.Verb == q.Verb) && (f.Resource == "" || f.Resource == q.Resource) &&
			(f.Times == 0 || f.struck < f.Times) {
			f.struck++
			return f
		}
	}
	return nil
}
