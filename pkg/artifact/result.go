package artifact

import (
	"strconv"
	"strings"
	"time"

	"homelab/pkg/fault"
)

// Report is the public shape of an outcome, beside the fields every result
// has. Absent means unknown, null means none.
type Report struct {
	Watch        string        `json:"watch"`
	Run          string        `json:"run"`
	From         string        `json:"from"`
	To           string        `json:"to"`
	State        string        `json:"state"`
	Expected     *string       `json:"expected"`
	Candidate    *Offer        `json:"candidate"`
	Running      *Named        `json:"running"`
	Previous     *Named        `json:"previous"`
	Verified     *Proofs       `json:"verified"` // of what was activated; null: nothing was
	Health       Health        `json:"health"`
	Probes       []ProbeResult `json:"probes"`
	Rollback     *Rollback     `json:"rollback"`
	Quarantined  []ID          `json:"quarantined"`
	SupersededBy *ID           `json:"superseded_by"`
	Owner        *string       `json:"owner"`
	Warnings     []string      `json:"warnings"`
}

// Offer is a candidate as results show it.
type Offer struct {
	ID     ID     `json:"id"`
	Order  int64  `json:"order,omitempty"`
	Size   int64  `json:"size,omitempty"` // bytes
	UUID   string `json:"uuid,omitempty"`
	Commit string `json:"commit,omitempty"`
	URL    string `json:"url,omitempty"`
}

// Proofs are what a version was proved by before it was activated.
type Proofs struct {
	Hash       bool    `json:"hash"`
	Signature  *string `json:"signature"`  // the key's id; null: none is asked for
	Reproduced *int    `json:"reproduced"` // independent builds; null: none are asked for
}

// more is what proves it beside the hash, for people.
func (p Proofs) more() string {
	var all []string
	if p.Signature != nil {
		all = append(all, "signed by "+*p.Signature)
	}
	if p.Reproduced != nil {
		all = append(all, "rebuilt by "+strconv.Itoa(*p.Reproduced)+" others")
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, ", ") + ")"
}

// Named is a version as results show it.
type Named struct {
	ID ID `json:"id"`
}

// Show shapes o for the watch c, which runs from a source to a target and has
// memory m.
func Show(o Outcome, c Config, m Memory, from, to string) Report {
	r := Report{
		Watch: c.Name, Run: c.Run, From: from, To: to, State: o.State, Health: o.Health,
		Probes: o.Probes, Rollback: o.Rollback, Warnings: o.Warnings, Quarantined: []ID{},
		Candidate: offerOf(o.Candidate), Running: named(o.Running), Previous: named(o.Previous),
		Expected: orNull(o.Expected), SupersededBy: orNull(o.SupersededBy), Owner: orNull(o.Owner), Verified: o.Verified,
	}
	if r.Probes == nil {
		r.Probes = []ProbeResult{}
	}
	if r.Warnings == nil {
		r.Warnings = []string{}
	}
	for _, q := range m.Quarantine {
		r.Quarantined = append(r.Quarantined, q.ID)
	}
	return r
}

func orNull[T ~string](v T) *T {
	if v == "" {
		return nil
	}
	return &v
}

func named(v *Version) *Named {
	if v == nil {
		return nil
	}
	return &Named{v.ID}
}

func offerOf(c *Candidate) *Offer {
	if c == nil {
		return nil
	}
	return &Offer{ID: c.ID, Order: c.Order, Size: c.Size, UUID: c.Meta.UUID, Commit: c.Meta.Commit, URL: c.Meta.URL}
}

// Status is what status.json and the status verb tell of a watch.
type Status struct {
	Watch      string       `json:"watch"`
	State      Phase        `json:"state"`
	States     []string     `json:"states"` // the phase, and what stands beside it
	Kind       fault.Kind   `json:"verdict"`
	Held       string       `json:"held,omitempty"`
	Running    *Named       `json:"running"`
	Previous   *Named       `json:"previous"`
	Candidate  *Offer       `json:"candidate"`
	Quarantine []Quarantine `json:"quarantine"`
	Looks      int          `json:"looks"`
	Failures   int          `json:"failures"`
	Trouble    string       `json:"trouble,omitempty"` // why the source cannot be asked
	Failing    string       `json:"failing,omitempty"` // its newest build, which is bad
	LastGood   time.Time    `json:"last_good,omitzero"`
	Last       *Outcome     `json:"last,omitempty"`
}

// StatusOf tells what s is, for the watch named watch.
func StatusOf(s State, watch string) Status {
	m := &s.Memory
	st := Status{
		Watch: watch, State: m.Phase, States: s.Shown(), Kind: s.Kind(),
		Running: named(s.Running()), Previous: named(m.Previous), Candidate: offerOf(m.Offered),
		Quarantine: m.Quarantine, Looks: s.Looks, Failures: s.Failures, LastGood: s.LastGood, Last: m.Last,
	}
	k := core{s: s}
	if h, is := k.standing(); is {
		st.Held = h.Text
	} else if s.Hold != nil {
		st.Held = s.Hold.Text
	}
	if s.lookErr != nil && s.lookErr.Class != Absent && s.fails >= 2 {
		st.Trouble = s.lookErr.Error()
	}
	st.Failing = s.Failing
	if st.Quarantine == nil {
		st.Quarantine = []Quarantine{}
	}
	return st
}

// Running is what the target runs, as far as is known: the last good version,
// but where somebody has put something else there, or a way back did not lead to
// it, what was seen last.
func (s State) Running() *Version {
	m := &s.Memory
	seen := s.Observed
	switch {
	case m.Halt == "" && m.Drift == nil:
		return m.Running
	case m.Drift != nil:
		seen = *m.Drift
	case seen.Sight == "" && m.Last != nil: // by the files of a watch that does not run
		return m.Last.Running
	}
	switch {
	case seen.Sight == Nothing:
		return nil
	case seen.Sight != Runs, m.Running != nil && seen.Is(m.Running.ID):
		return m.Running
	}
	return &Version{Candidate: Candidate{ID: seen.ID}}
}

// Kind is the state of a watch as an exit code: live, or why not.
func (s State) Kind() fault.Kind {
	m := &s.Memory
	switch {
	case m.Halt != "":
		return fault.Unsafe
	case m.Contended != "":
		return fault.Conflict
	case m.Phase.Working():
		return fault.Timeout
	case m.Pause != nil, m.Pin != "", m.Drift != nil:
		return fault.Held
	case s.Hold != nil:
		return s.Hold.Why.Kind()
	case s.lookErr != nil && s.fails >= 2, s.observeErr != nil && s.observeFail >= 2:
		return fault.Unreachable
	case m.Running == nil:
		return fault.Timeout
	}
	return fault.OK
}
