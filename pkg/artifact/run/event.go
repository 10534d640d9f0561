package run

import (
	"slices"
	"sync"
	"time"

	"homelab/pkg/artifact"
)

// Event is one line of the story, in its public shape.
type Event struct {
	Type artifact.EventType `json:"type"`
	Time time.Time          `json:"time"`
	// Seq grows, across restarts too, and shares its numbers with the journal;
	// 0: what a hook said, and heartbeats, have none.
	Seq     int64                  `json:"seq,omitempty"`
	Watch   string                 `json:"watch"`
	Run     string                 `json:"run"`
	State   artifact.Phase         `json:"state,omitempty"`
	ID      artifact.ID            `json:"id,omitempty"`
	Text    string                 `json:"text,omitempty"`
	Warning bool                   `json:"warning,omitempty"`
	Probes  []artifact.ProbeResult `json:"probes,omitempty"`
	Outcome *Ended                 `json:"outcome,omitempty"` // of an outcome
}

// Ended is what an outcome carries: the fields every result has, and the report.
type Ended struct {
	Kind     string           `json:"kind"`
	Verdict  artifact.Verdict `json:"verdict"`
	ExitCode int              `json:"exit_code"`
	Reason   string           `json:"reason"`
	Next     *string          `json:"next"`
	Elapsed  float64          `json:"elapsed"` // seconds
	artifact.Report
}

const (
	keptEvents  = 512  // for who comes back
	sinkQueue   = 4096 // events a caller may be behind
	streamQueue = 256  // and a stream
)

// hub hands events on to whoever listens, and keeps the last ones. It waits
// for nobody.
type hub struct {
	mu     sync.Mutex
	watch  string
	run    string
	subs   map[*sub]bool
	kept   []Event // numbered ones
	seq    int64   // of the last numbered one
	phase  artifact.Phase
	told   time.Time // of the last one
	closed bool
}

func newHub(watch, run string) *hub {
	return &hub{watch: watch, run: run, subs: map[*sub]bool{}}
}

// publish completes e and hands it on.
func (h *hub) publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Watch, e.Run = h.watch, h.run; e.State == "" {
		e.State = h.phase
	}
	h.phase, h.told = e.State, e.Time
	if e.Seq > 0 {
		h.seq = e.Seq
		h.kept = append(h.kept, e)
		if n := len(h.kept) - keptEvents; n > 0 {
			h.kept = slices.Delete(h.kept, 0, n)
		}
	}
	for s := range h.subs {
		s.put(e)
	}
}

// latest is when the last event was, and the phase it left.
func (h *hub) latest() (time.Time, artifact.Phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told, h.phase
}

// join adds a listener. With after of 0 or more it gets the kept events after
// that number first; before is the number of the first of them, 0 there is
// none: older ones are in the journal only.
func (h *hub) join(s *sub, after int64) (before int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if after > h.seq {
		after = 0 // numbers of a watch that was here before
	}
	if after >= 0 {
		for _, e := range h.kept {
			if e.Seq > after {
				s.put(e)
			}
		}
	}
	if len(h.kept) > 0 {
		before = h.kept[0].Seq
	}
	if h.closed {
		s.end()
		return before
	}
	h.subs[s] = true
	return before
}

func (h *hub) leave(s *sub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
}

// close ends every listener, after what it has not read yet.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subs {
		s.end()
	}
	clear(h.subs)
}

// answer is what somebody who asked is told in the end.
type answer struct {
	outcome artifact.Outcome
	ended   Ended
}

// sub is one listener.
type sub struct {
	most   int
	patchy bool          // it misses events rather than being dropped
	bell   chan struct{} // rings when there is something to take

	mu     sync.Mutex
	queue  []Event
	answer *answer
	lost   bool // it was too slow
	gone   bool // the watch ended
}

func newSub(most int, patchy bool) *sub {
	return &sub{most: most, patchy: patchy, bell: make(chan struct{}, 1)}
}

func (s *sub) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

func (s *sub) put(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= s.most {
		if !s.patchy {
			s.lost, s.queue = true, nil
			s.ring()
			return
		}
		s.queue = slices.Delete(s.queue, 0, 1)
	}
	s.queue = append(s.queue, e)
	s.ring()
}

// settle gives the answer, after the events before it.
func (s *sub) settle(a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = &a
	s.ring()
}

func (s *sub) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	s.ring()
}

// taken is what a listener found.
type taken struct {
	events []Event
	answer *answer
	lost   bool
	gone   bool
}

func (s *sub) take() taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := taken{s.queue, s.answer, s.lost, s.gone}
	s.queue = nil
	return t
}

// past shapes a line of the journal as an event, for who was away when it was
// told. Lines that nobody would be told of are left out.
func past(l artifact.Line) (Event, bool) {
	e := Event{Seq: l.Seq, Time: l.Time, State: l.State, ID: l.ID, Text: l.Reason, Type: artifact.NoteEvent}
	say := func(t artifact.EventType, text string) {
		e.Type = t
		if e.Text != "" {
			text += ": " + e.Text
		}
		e.Text = text
	}
	switch l.Op {
	case artifact.OpIntent, artifact.OpDone:
		say(artifact.StateEvent, string(l.State))
	case artifact.OpOutcome:
		if l.Outcome == nil {
			return e, false
		}
		e.Type, e.Text = artifact.OutcomeEvent, l.Outcome.Reason
		if l.Outcome.Candidate != nil {
			e.ID = l.Outcome.Candidate.ID
		}
	case artifact.OpOffer:
		if l.Candidate == nil {
			return e, false
		}
		say(artifact.SourceEvent, "the source offers "+l.ID.Short())
	case artifact.OpLater:
		say(artifact.HookEvent, "not now, nothing was changed")
	case artifact.OpRuns:
		say(artifact.NoteEvent, "taken for right: "+l.ID.Short())
	case artifact.OpQuarantine:
		say(artifact.SkippedEvent, "quarantined")
	case artifact.OpPermit:
		say(artifact.NoteEvent, "it may be activated once more")
	case artifact.OpPause:
		say(artifact.NoteEvent, map[bool]string{true: "paused", false: "the pause is over"}[l.Pause != nil])
	case artifact.OpResume:
		say(artifact.NoteEvent, "resumed")
	case artifact.OpDrift:
		if l.Observation == nil {
			return e, false
		}
		say(artifact.HeldEvent, "drifted: the target runs "+l.Observation.String())
	case artifact.OpContended:
		say(artifact.TroubleEvent, "contended")
	case artifact.OpDisarm:
		say(artifact.NoteEvent, "a failure is not rolled back")
	case artifact.OpMoved:
		say(artifact.NoteEvent, "the watch has another source now")
	case artifact.OpAsked, artifact.OpOrder, artifact.OpSnapshot:
		return e, false
	}
	return e, true
}
