package artifact

import (
	"slices"
	"time"
)

// Memory is what outlives the process. It changes only by Apply, so that the
// journal alone can bring it back. What the target runs is always asked of the
// target: Running is what it should be found to run.
type Memory struct {
	Seq int64 `json:"seq"` // of the last line applied

	Phase Phase `json:"state"`
	// Known: the target was observed once, so Running nil means that nothing ran.
	Known    bool     `json:"known,omitempty"`
	Running  *Version `json:"running,omitempty"`  // the last good version
	Previous *Version `json:"previous,omitempty"` // what ran before it
	// Deployed: Running was brought by this watch, not found.
	Deployed bool   `json:"deployed,omitempty"`
	Health   Health `json:"health,omitempty"` // of Running, when it became live
	// Left is what was activated last and halted the watch. If the target runs
	// it, nobody else acted.
	Left ID `json:"left,omitempty"`

	Attempt  *Attempt `json:"attempt,omitempty"` // in progress
	Attempts int      `json:"attempts"`          // used so far

	Offered   *Candidate `json:"offered,omitempty"`
	OfferedAt time.Time  `json:"offered_at,omitzero"` // first sight
	Seen      string     `json:"seen,omitempty"`      // the source's
	Asked     bool       `json:"asked,omitempty"`     // the source was there once
	First     ID         `json:"first,omitempty"`     // the very first offer

	// Tried is every id that ran or was activated, oldest first: none of them
	// comes again by itself.
	Tried      []ID         `json:"tried,omitempty"`
	Quarantine []Quarantine `json:"quarantine,omitempty"` // oldest first
	Kept       []Version    `json:"kept,omitempty"`       // that were live, newest first
	Permit     ID           `json:"permit,omitempty"`     // may be activated once more

	Pin       ID           `json:"pin,omitempty"`
	Pause     *Pause       `json:"pause,omitempty"`
	Halt      string       `json:"halt,omitempty"`
	Drift     *Observation `json:"drift,omitempty"`
	Contended string       `json:"contended,omitempty"`
	Enforced  int          `json:"enforced,omitempty"` // times since the last deployment

	Last *Outcome `json:"last,omitempty"`
}

// Attempt is one deployment in progress.
type Attempt struct {
	N         int         `json:"n"`
	By        Cause       `json:"by"`
	Candidate Candidate   `json:"candidate"`
	Previous  *Version    `json:"previous,omitempty"` // the way back
	Before    Observation `json:"before"`             // what ran when it began
	// Disarmed is why a failure is not rolled back; "" it is.
	Disarmed string    `json:"disarmed,omitempty"`
	Backs    int       `json:"backs,omitempty"` // rollbacks begun
	Reason   string    `json:"reason,omitempty"`
	Started  time.Time `json:"started"`
	Evidence []string  `json:"evidence,omitempty"`
	Fresh    bool      `json:"fresh,omitempty"` // its id had never been activated
	Expected string    `json:"expected,omitempty"`
	Proofs   *Proofs   `json:"proofs,omitempty"` // once it is verified
}

// Cause is why an attempt was begun.
type Cause string

// The causes of attempts.
const (
	ByItself   Cause = "auto"
	ByRetry    Cause = "retry"
	ByRollback Cause = "rollback"
	ByEnforce  Cause = "enforce"
)

// Quarantine keeps an id out until retry or a different id.
type Quarantine struct {
	ID       ID        `json:"id"`
	At       time.Time `json:"at"`
	Attempt  int       `json:"attempt,omitempty"`
	Reason   string    `json:"reason"`
	Evidence []string  `json:"evidence,omitempty"`
}

// Pause is a person's.
type Pause struct {
	At     time.Time `json:"at"`
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// Op is what a journal line says.
type Op string

// The ops. Intent precedes a side effect and Done follows it; State then is
// the phase entered. The others are facts.
const (
	OpIntent     Op = "intent"
	OpDone       Op = "done"
	OpSnapshot   Op = "snapshot"   // Memory as it was before the next line
	OpOffer      Op = "offer"      // the source offers Candidate, Seen
	OpAsked      Op = "asked"      // the source answered, without an offer
	OpRuns       Op = "runs"       // Version was found to run and is taken for right
	OpOrder      Op = "order"      // what runs has this Order
	OpDisarm     Op = "disarm"     // Reason
	OpLater      Op = "later"      // nothing was changed, no attempt used
	OpQuarantine Op = "quarantine" // ID, Reason, Evidence
	OpPermit     Op = "permit"     // ID once more; lifts halt, contention, quarantine
	OpPause      Op = "pause"
	OpResume     Op = "resume"    // lifts pause, pin, contention
	OpDrift      Op = "drift"     // Observation; nil: gone
	OpContended  Op = "contended" // Reason
	OpOutcome    Op = "outcome"
	OpMoved      Op = "moved" // the watch has another source now
)

// Line is one line of the journal.
type Line struct {
	Seq      int64     `json:"seq"`
	Time     time.Time `json:"time"`
	Op       Op        `json:"op"`
	State    Phase     `json:"state,omitempty"`
	ID       ID        `json:"id,omitempty"`
	Previous ID        `json:"previous,omitempty"`
	Attempt  int       `json:"attempt,omitempty"`

	Reason      string       `json:"reason,omitempty"`
	Evidence    []string     `json:"evidence,omitempty"`
	Try         *Attempt     `json:"try,omitempty"` // of an intent to fetch
	Candidate   *Candidate   `json:"candidate,omitempty"`
	Version     *Version     `json:"version,omitempty"`
	Order       int64        `json:"order,omitempty"`
	Seen        string       `json:"seen,omitempty"`
	Pause       *Pause       `json:"pause,omitempty"`
	Observation *Observation `json:"observation,omitempty"`
	Health      Health       `json:"health,omitempty"`
	Proofs      *Proofs      `json:"proofs,omitempty"`    // of what is verified
	Contended   bool         `json:"contended,omitempty"` // a stranger ended the attempt
	Outcome     *Outcome     `json:"outcome,omitempty"`
	Memory      *Memory      `json:"memory,omitempty"`
}

// Apply returns m after l. m stays as it was. A line that was applied before
// changes nothing.
func (m Memory) Apply(l Line) Memory {
	if l.Op == OpSnapshot {
		if l.Memory != nil && l.Memory.Seq >= m.Seq {
			return *l.Memory
		}
		return m
	}
	if l.Seq <= m.Seq {
		return m
	}
	m.Seq = l.Seq
	if m.Phase == "" {
		m.Phase = Idle
	}
	switch l.Op {
	case OpIntent:
		m.intent(l)
	case OpDone:
		m.done(l)
	case OpDisarm:
		if m.Attempt != nil {
			a := *m.Attempt
			a.Disarmed = l.Reason
			m.Attempt = &a
		}
	case OpLater:
		m.Phase, m.Attempts = Staged, m.Attempts-1
		if a := m.Attempt; a != nil {
			if a.Fresh {
				m.Tried = without(m.Tried, l.ID)
			}
			if a.By == ByRetry {
				m.Permit = l.ID
			}
			if a.By == ByEnforce {
				m.Enforced--
			}
		}
	case OpOffer:
		if l.Candidate != nil {
			if m.Offered == nil || m.Offered.ID != l.Candidate.ID {
				m.OfferedAt = l.Time
			}
			if m.First == "" {
				m.First = l.Candidate.ID
			}
			m.Offered = l.Candidate
		}
		m.Seen, m.Asked = l.Seen, true
	case OpAsked:
		m.Asked = true
	case OpRuns:
		m.Known, m.Running, m.Drift, m.Deployed, m.Health, m.Left = true, l.Version, nil, false, "", ""
		if l.Version == nil && m.Phase == Live {
			m.Phase = Idle
		}
		if l.Version != nil {
			m.Tried = with(m.Tried, l.Version.ID)
		}
	case OpOrder:
		if m.Running != nil {
			r := *m.Running
			r.Order = l.Order
			m.Running = &r
		}
	case OpQuarantine:
		m.quarantine(l, l.ID)
	case OpPermit:
		m.Permit, m.Halt, m.Contended = l.ID, "", ""
		m.Quarantine = slices.DeleteFunc(slices.Clone(m.Quarantine), func(q Quarantine) bool { return q.ID == l.ID })
		if m.Phase == Halted {
			m.Phase = Idle
		}
	case OpPause:
		m.Pause = l.Pause
	case OpResume:
		m.Pause, m.Pin, m.Contended = nil, "", ""
	case OpDrift:
		m.Drift = l.Observation
	case OpContended:
		m.Contended = l.Reason
	case OpOutcome:
		m.Last = l.Outcome
	case OpMoved:
		m.moved()
	case OpSnapshot:
	}
	return m
}

// moved forgets what another source said: its validators, its offer, and its
// order, which is not this one's. Whether the new source's first offer is newer
// than what runs is as little known as at a first start.
func (m *Memory) moved() {
	m.Offered, m.OfferedAt, m.Seen, m.First, m.Asked, m.Deployed = nil, time.Time{}, "", "", false, false
	if m.Running != nil {
		r := *m.Running
		r.Order = 0
		m.Running = &r
	}
	if m.Attempt != nil && !m.Phase.Begun() {
		m.Attempt, m.Phase = nil, m.resting()
	}
}

func (m *Memory) intent(l Line) {
	m.Phase = l.State
	switch l.State {
	case Fetching:
		m.Attempt = l.Try
	case Switching:
		if m.Attempt != nil {
			a := *m.Attempt
			a.N, a.Disarmed, a.Before = l.Attempt, l.Reason, *l.Observation
			a.Fresh = a.Fresh || !slices.Contains(m.Tried, l.ID)
			m.Attempt = &a
			if a.By == ByRollback {
				m.Pin = l.ID
			}
			if a.By == ByEnforce && m.Attempts < l.Attempt {
				m.Enforced++
			}
		}
		m.Attempts = l.Attempt
		m.Tried = with(m.Tried, l.ID)
		if m.Permit == l.ID {
			m.Permit = ""
		}
		m.Drift = nil
	case RollingBack:
		if m.Attempt != nil {
			a := *m.Attempt
			a.Backs++
			a.Reason, a.Evidence = l.Reason, l.Evidence
			m.Attempt = &a
		}
	case Idle, Offered, Verified, Staged, Probing, Soaking, Live, RolledBack, Halted:
	}
}

func (m *Memory) done(l Line) {
	a := m.Attempt
	m.Phase = l.State
	switch l.State {
	case Live:
		if a == nil {
			return
		}
		if m.Running != nil && m.Running.ID != a.Candidate.ID {
			m.Previous = m.Running
			m.Tried = with(m.Tried, m.Running.ID)
			if a.By == ByRollback {
				m.quarantine(Line{Time: l.Time, Attempt: a.N, Reason: "rolled back by hand"}, m.Running.ID)
			}
		}
		v := Version{Candidate: a.Candidate, Since: l.Time}
		if a.By != ByEnforce {
			m.Enforced = 0
		}
		if a.By == ByRollback {
			m.Halt, m.Contended = "", ""
		}
		m.Running, m.Known, m.Deployed, m.Health, m.Left = &v, true, true, l.Health, ""
		m.Kept = slices.DeleteFunc(slices.Clone(m.Kept), func(o Version) bool { return o.ID == v.ID })
		m.Kept = slices.Insert(m.Kept, 0, v)
		m.Kept = m.Kept[:min(len(m.Kept), mostKept)]
		m.Attempt = nil
	case RolledBack:
		if a != nil {
			m.quarantine(l, a.Candidate.ID)
		}
		m.Attempt = nil
	case Halted:
		m.Halt = l.Reason
		if a != nil && a.By != ByEnforce {
			m.quarantine(l, a.Candidate.ID)
			m.Left = a.Candidate.ID
		}
		m.Attempt = nil
	case Idle: // an attempt was given up
		m.Phase = m.resting()
		if l.ID != "" && (a == nil || a.By != ByEnforce) { // after it had begun
			m.quarantine(l, l.ID)
		}
		if l.Contended {
			m.Contended = l.Reason
		}
		m.Attempt = nil
	case Verified:
		if a != nil {
			b := *a
			b.Proofs = l.Proofs
			m.Attempt = &b
		}
	case Offered, Fetching, Staged, Switching, Probing, Soaking, RollingBack:
	}
}

// mostKept bounds the versions that can be gone back to by hand.
const mostKept = 16

// resting is the phase of a watch with nothing in progress.
func (m *Memory) resting() Phase {
	switch {
	case m.Halt != "":
		return Halted
	case m.Running != nil && m.Deployed:
		return Live
	}
	return Idle
}

func (m *Memory) quarantine(l Line, id ID) {
	if m.Permit == id {
		m.Permit = "" // its one more attempt was had
	}
	all := slices.DeleteFunc(slices.Clone(m.Quarantine), func(q Quarantine) bool { return q.ID == id })
	all = append(all, Quarantine{ID: id, At: l.Time, Attempt: l.Attempt, Reason: l.Reason, Evidence: l.Evidence})
	if n := len(all) - mostQuarantine; n > 0 {
		all = all[n:]
	}
	if n := len(all) - mostEvidence; n > 0 {
		all[n-1].Evidence = nil
	}
	m.Quarantine = all
}

// Quarantined returns the entry of id.
func (m *Memory) quarantined(id ID) (Quarantine, bool) {
	for _, q := range m.Quarantine {
		if q.ID == id {
			return q, true
		}
	}
	return Quarantine{}, false
}

func with(ids []ID, id ID) []ID {
	if slices.Contains(ids, id) {
		return ids
	}
	ids = append(slices.Clone(ids), id)
	return ids[max(0, len(ids)-mostTried):]
}

func without(ids []ID, id ID) []ID {
	return slices.DeleteFunc(slices.Clone(ids), func(o ID) bool { return o == id })
}

// InStore is every id whose file must stay in the store: what runs, what ran,
// what is pinned or on its way, and the last n versions.
func (m *Memory) InStore(n int) []ID {
	var ids []ID
	add := func(id ID) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for _, v := range []*Version{m.Running, m.Previous} {
		if v != nil {
			add(v.ID)
		}
	}
	add(m.Pin)
	if m.Attempt != nil {
		add(m.Attempt.Candidate.ID)
		if m.Attempt.Previous != nil {
			add(m.Attempt.Previous.ID)
		}
	}
	for _, v := range m.Kept[:min(n, len(m.Kept))] {
		add(v.ID)
	}
	return ids
}
