package artifact

import (
	"fmt"
	"slices"
	"time"
)

// standing is a hold that no candidate has to be there for.
func (k *core) standing() (Held, bool) {
	m := k.m()
	switch {
	case m.Halt != "":
		return Held{Why: HaltedWhy, Text: "halted: " + m.Halt}, true
	case m.Contended != "":
		return Held{Why: Contended, Text: "contended: " + m.Contended}, true
	case m.Pin != "":
		return Held{Why: Pinned, Text: "pinned to " + m.Pin.Short() + " by a rollback by hand, until resume"}, true
	case m.Pause != nil:
		text := "paused"
		if m.Pause.Reason != "" {
			text += " (" + m.Pause.Reason + ")"
		}
		if !m.Pause.Until.IsZero() {
			text += " until " + m.Pause.Until.Format(time.RFC3339)
		}
		return Held{Why: Paused, Text: text, Until: m.Pause.Until}, true
	}
	return Held{}, false
}

// relation is how a candidate stands to what runs.
type relation int

const (
	same  relation = iota // it runs
	newer                 // it may be deployed
	held                  // it is not the running one, and may not
)

// judge decides whether c may be deployed now. The order is that in which a
// person would want to be told.
func (k *core) judge(c Candidate) (relation, Held) {
	m := k.m()
	no := func(w Why, until time.Time, format string, args ...any) (relation, Held) {
		return held, Held{Why: w, Text: fmt.Sprintf(format, args...), Until: until}
	}
	if m.Halt != "" {
		h, _ := k.standing()
		return held, h
	}
	permitted := m.Permit == c.ID
	if _, out := m.quarantined(c.ID); !out && k.c.AllowDowngrade && !slices.Contains(k.s.downs, c.ID) {
		permitted = true // what is older, not what failed
	}
	if m.Contended != "" {
		h, _ := k.standing()
		return held, h
	}
	if m.Drift != nil && m.Permit != c.ID {
		return no(Drifted, time.Time{}, "drifted: somebody made the target run %s", m.Drift)
	}
	if m.Running != nil && m.Running.ID == c.ID && m.Drift == nil {
		return same, Held{}
	}
	if h, standing := k.standing(); standing {
		return held, h
	}
	if !permitted {
		if h, why := k.older(c); why {
			return held, h
		}
	}
	if open, at := k.openHours(); !open {
		return no(Window, at, "outside the window")
	}
	made := c.Made
	if made.IsZero() {
		made = m.OfferedAt
	}
	age := k.now.Round(0).Sub(made)
	if k.c.MinAge > 0 && age < k.c.MinAge {
		return no(TooYoung, k.now.Add(k.c.MinAge-age), "only %s old; wanted are %s", age.Round(time.Second), k.c.MinAge)
	}
	if k.c.MaxAge > 0 && age > k.c.MaxAge {
		return no(TooOld, time.Time{}, "%s old; allowed are %s", age.Round(time.Second), k.c.MaxAge)
	}
	return newer, Held{}
}

// openHours does not look for the next opening again while it is known.
func (k *core) openHours() (bool, time.Time) {
	if h := k.s.Hold; h != nil && h.Why == Window && h.Until.After(k.now.Round(0)) && h.Until.Sub(k.now.Round(0)) < 8*24*time.Hour {
		return false, h.Until
	}
	return open(k.c.Windows, k.now.Round(0))
}

// older reports what keeps c out for good, or until a person says otherwise.
func (k *core) older(c Candidate) (Held, bool) {
	m := k.m()
	no := func(w Why, format string, args ...any) (Held, bool) {
		return Held{Why: w, Text: fmt.Sprintf(format, args...)}, true
	}
	if q, out := m.quarantined(c.ID); out {
		return no(Quarantined, "quarantined: %s", q.Reason)
	}
	ordered := m.Running != nil && m.Running.Order != 0 && c.Order != 0
	if slices.Contains(m.Tried, c.ID) {
		if m.Running == nil {
			return no(Repeated, "nothing runs, and it was activated before; once is all that happens by itself")
		}
		if ordered && c.Order > m.Running.Order {
			return no(Repeated, "it was activated before; once is all that happens by itself")
		}
		return no(Regressed, "the source went back to a version that was replaced")
	}
	if ordered && c.Order < m.Running.Order {
		return no(Regressed, "the source went back: older than %s, which runs", m.Running.ID.Short())
	}
	if m.Running != nil && !m.Deployed && !ordered && c.ID == m.First &&
		k.c.Initial != DeployFirst && !k.expected(c) {
		return no(FirstStart, "first start: whether it is newer than %s, which runs, is not known", m.Running.ID.Short())
	}
	return Held{}, false
}

// expected reports whether somebody waits for c.
func (k *core) expected(c Candidate) bool {
	return slices.ContainsFunc(k.s.requests, func(r Request) bool { return r.Expect.Is(c) })
}

// hold notes, and says once, why nothing is done.
func (k *core) hold(id ID, h Held) {
	if old := k.s.Hold; old == nil || old.Why != h.Why {
		t := HeldEvent
		if h.Why == Quarantined || h.Why == Repeated {
			t = SkippedEvent
		}
		k.tell(t, id, "held: %s", h.Text)
	}
	k.s.Hold = &h
}
