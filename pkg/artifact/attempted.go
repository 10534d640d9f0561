package artifact

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Attempted is what became of an id, as processes that take turns at one watch
// tell each other: none of them has the others' journal.
type Attempted struct {
	ID ID `json:"id"`
	// Outcome is live, rolled_back, halted or failed; or, as long as it is open,
	// switching, probing, soaking or rolling_back.
	Outcome string    `json:"outcome"`
	At      time.Time `json:"at"`
	By      string    `json:"by"` // who acted then
	Reason  string    `json:"reason,omitempty"`
	Try     *Attempt  `json:"try,omitempty"`     // of one that is open
	Version *Version  `json:"version,omitempty"` // of one that is live
}

// What can become of an id, beside the phases of those names.
const (
	fateFailed    = "failed"
	fateForgotten = "" // it may come again
)

const (
	mostAttempted = 20
	mostFate      = 200 // bytes of a reason
)

// Fates returns what l, applied to m, makes of ids.
func Fates(m Memory, l Line) []Attempted {
	a := m.Apply(l).Attempt
	if a == nil {
		a = m.Attempt
	}
	e := Attempted{ID: l.ID, Outcome: string(l.State), At: l.Time, Reason: shortened(l.Reason)}
	switch l.Op {
	case OpPermit:
		e.Outcome, e.Reason = fateForgotten, ""
		if l.ID == "" {
			return nil
		}
		return []Attempted{e}
	case OpQuarantine:
		e.Outcome = fateFailed
		return []Attempted{e}
	case OpLater, OpIntent, OpDone:
	case OpSnapshot, OpOffer, OpAsked, OpRuns, OpOrder, OpDisarm, OpPause, OpResume, OpDrift, OpContended, OpOutcome, OpMoved:
		return nil
	}
	if a == nil || a.By == ByEnforce {
		return nil
	}
	e.ID = a.Candidate.ID
	if l.Op == OpLater {
		e.Outcome, e.Reason = fateForgotten, ""
		return []Attempted{e}
	}
	switch l.State {
	case Switching, Probing, Soaking, RollingBack:
		try := *a
		try.Evidence, try.Reason = nil, shortened(try.Reason)
		e.Try = &try
	case Live:
		e.Version = &Version{Candidate: a.Candidate, Since: l.Time}
		if r := m.Running; a.By == ByRollback && r != nil && r.ID != e.ID {
			return []Attempted{{ID: r.ID, Outcome: fateFailed, At: l.Time, Reason: "rolled back by hand"}, e}
		}
	case RolledBack, Halted:
	case Idle: // without an id nothing was touched, and no attempt was used
		if l.ID == "" {
			return nil
		}
		e.Outcome = fateFailed
	case Offered, Fetching, Verified, Staged:
		return nil
	}
	return []Attempted{e}
}

func shortened(s string) string { return s[:min(len(s), mostFate)] }

// Recall adds what became of ids to what is known of the last twenty.
func Recall(list []Attempted, more ...Attempted) []Attempted {
	list = slices.Clone(list)
	for _, e := range more {
		list = slices.DeleteFunc(list, func(o Attempted) bool { return o.ID == e.ID })
		if e.Outcome != fateForgotten {
			list = append(list, e)
		}
	}
	found := false
	for i := range slices.Backward(list) {
		if found {
			list[i].Version = nil // what went live after it replaced it
		}
		found = found || list[i].Version != nil
	}
	return list[max(0, len(list)-mostAttempted):]
}

// ParseAttempted reads what Recall's list was written as. "" is none.
func ParseAttempted(text string) ([]Attempted, error) {
	var list []Attempted
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, err
	}
	for i, e := range list {
		id, err := ParseID(string(e.ID))
		if err != nil {
			return nil, err
		}
		list[i].ID = id
		switch {
		case slices.Contains([]string{string(Live), string(RolledBack), string(Halted), fateFailed}, e.Outcome):
		case Phase(e.Outcome).Begun():
			if e.Try == nil || e.Try.Candidate.ID != id {
				return nil, fmt.Errorf("%s is open and its attempt is missing", id.Short())
			}
		default:
			return nil, errors.New("an outcome is unknown")
		}
	}
	return list, nil
}

// Inherit returns the lines that a process writes before it begins, when it
// takes over from whoever acted meanwhile: what failed with them is kept out
// here too, what they brought is not taken for a stranger's, and what they
// left open goes on. me is its name among them; what it did last itself is in
// its own journal, with all before that.
func Inherit(m Memory, list []Attempted, me string, now time.Time) []Line {
	var out []Line
	add := func(l Line) {
		l.Seq, l.Time = m.Seq+1, now.Round(0)
		m = m.Apply(l)
		out = append(out, l)
	}
	news := list
	for i, e := range slices.Backward(list) {
		if e.By == me {
			news = list[i+1:]
			break
		}
	}
	if a := m.Attempt; a != nil && len(news) > 0 {
		// Whoever took over went on with it.
		add(Line{Op: OpDone, State: Idle, Attempt: a.N, Reason: "taken over by " + news[len(news)-1].By})
	}
	for i, e := range news {
		why := fmt.Sprintf("%s at %s", strings.ReplaceAll(e.Outcome, "_", " "), cmp.Or(e.By, "another"))
		if e.Reason != "" {
			why += ": " + e.Reason
		}
		last := i == len(news)-1
		_, out := m.quarantined(e.ID)
		runs := m.Running != nil && m.Running.ID == e.ID
		switch Phase(e.Outcome) {
		case Live:
			if v := e.Version; v != nil && !runs {
				add(Line{Op: OpIntent, State: Fetching, ID: e.ID, Try: &Attempt{N: m.Attempts, By: ByItself, Candidate: v.Candidate, Previous: m.Running, Started: e.At}})
				add(Line{Op: OpDone, State: Live, ID: e.ID, Attempt: m.Attempts, Health: HealthUnknown, Reason: why})
			}
		case Halted:
			if !out {
				add(Line{Op: OpQuarantine, ID: e.ID, Reason: why})
			}
			if last && m.Halt == "" {
				add(Line{Op: OpDone, State: Halted, ID: e.ID, Reason: why})
			}
		case Switching, Probing, Soaking, RollingBack:
			if last && e.Try != nil {
				inheritOpen(&m, e, add)
			} else if !out {
				add(Line{Op: OpQuarantine, ID: e.ID, Reason: why})
			}
		case RolledBack, fateFailed:
			if !out {
				add(Line{Op: OpQuarantine, ID: e.ID, Reason: why})
			}
		case Idle, Offered, Fetching, Verified, Staged:
		}
	}
	return out
}

// inheritOpen goes on with an attempt as a restart would: what the target runs
// decides.
func inheritOpen(m *Memory, e Attempted, add func(Line)) {
	try := *e.Try
	n := m.Attempts + 1
	try.N, try.Fresh = n, false
	backs := try.Backs
	try.Backs = 0
	if p := try.Previous; p != nil && (m.Running == nil || m.Running.ID != p.ID) {
		add(Line{Op: OpRuns, ID: p.ID, Version: p})
	}
	before := try.Before
	add(Line{Op: OpIntent, State: Fetching, ID: e.ID, Attempt: n, Try: &try})
	add(Line{Op: OpIntent, State: Switching, ID: e.ID, Attempt: n, Observation: &before, Reason: try.Disarmed})
	switch Phase(e.Outcome) {
	case Probing, Soaking:
		add(Line{Op: OpDone, State: Probing, ID: e.ID, Attempt: n})
	case RollingBack:
		for range max(1, min(backs, 2)) {
			l := Line{Op: OpIntent, State: RollingBack, ID: e.ID, Attempt: n, Reason: try.Reason}
			if try.Previous != nil {
				l.Previous = try.Previous.ID
			}
			add(l)
		}
	case Switching, Idle, Offered, Fetching, Verified, Staged, Live, RolledBack, Halted:
	}
}
