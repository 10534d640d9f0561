package notify

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
)

// Facts are how a watch stands.
type Facts struct {
	Now      time.Time
	Run      string
	From, To string
	State    artifact.State
	Name     string // of the watch
	Stuck    string // why nothing can be written; "" all can
	// Next is a command that helps after an outcome, "" none; nil: never.
	Next func(artifact.Outcome) string
}

// Told is what was told. It is kept across restarts.
type Told struct {
	N    int64         `json:"n"`              // notifications so far
	Last string        `json:"last,omitempty"` // the outcome that was told last
	Open map[Name]Mark `json:"open,omitempty"` // what holds, and was told
	// Held are the reasons for which HeldID was said to be held: they come and go
	// while it is tried again.
	HeldID artifact.ID    `json:"held_id,omitempty"`
	Held   []artifact.Why `json:"held,omitempty"`
}

// Mark is something told that still holds.
type Mark struct {
	Key   string    `json:"key,omitempty"`
	Since time.Time `json:"since"`
}

// First is what counts as told when a watch gets its first receiver: how its
// last deployment ended is no news. What is the matter now is.
func First(f Facts) Told { return Told{Last: outcomeKey(f.State.Memory.Last)} }

func outcomeKey(o *artifact.Outcome) string {
	if o == nil {
		return ""
	}
	return strconv.Itoa(o.Attempt) + " " + o.Ended.UTC().Format(time.RFC3339Nano)
}

const maxText = 1000 // bytes

// Decide returns what is to be told of f, given what was told, and what is told
// then. It changes neither argument.
func Decide(t Told, f Facts) ([]Notification, Told) {
	d := &decision{t: t, f: f, status: artifact.StatusOf(f.State, f.Name)}
	d.t.Open = make(map[Name]Mark, len(t.Open))
	maps.Copy(d.t.Open, t.Open)
	d.outcome()
	d.conditions()
	d.held()
	return d.out, d.t
}

type decision struct {
	t      Told
	f      Facts
	status artifact.Status
	out    []Notification
}

func clean(s string) string {
	s = ui.Clean(s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

func (d *decision) tell(n Name, of []Name, next, title, text string) {
	d.t.N++
	priority, _ := n.look()
	x := Notification{
		Kind: "deploy.watch.notification", ID: fmt.Sprintf("%s-%d", d.f.Run, d.t.N), Event: n, Of: of,
		Time: d.f.Now.UTC().Round(0), Watch: d.f.Name, Run: d.f.Run, From: d.f.From, To: d.f.To,
		Title: clean(d.f.Name + ": " + title), Text: clean(text), Priority: priority,
		State: string(d.status.State), Candidate: d.status.Candidate, Running: d.status.Running, Previous: d.status.Previous,
	}
	if next != "" {
		x.Next = &next
	}
	d.out = append(d.out, x)
}

func (d *decision) next(o artifact.Outcome) string {
	if d.f.Next == nil {
		return ""
	}
	return d.f.Next(o)
}

// outcome tells how a deployment ended, where no condition below says it better.
func (d *decision) outcome() {
	m := &d.f.State.Memory
	o := m.Last
	key := outcomeKey(o)
	if o == nil || key == d.t.Last {
		return
	}
	d.t.Last, d.t.HeldID, d.t.Held = key, "", nil
	id := "the version"
	if o.Candidate != nil {
		id = o.Candidate.ID.Short()
	}
	switch back := o.Rollback != nil && o.Rollback.Done; {
	case o.Verdict == artifact.VerdictLive && o.By == artifact.ByRollback: // pinned
	case o.Verdict == artifact.VerdictLive:
		d.tell(Live, nil, "", "live, "+id, o.Reason)
	case o.Verdict == "failed" && back:
		d.tell(RolledBack, nil, d.next(*o), id+" was rolled back", o.Reason)
	case o.Verdict == "failed":
		d.tell(Failed, nil, d.next(*o), id+" failed", o.Reason)
	case o.Verdict == "unsafe" && m.Halt == "": // somebody was quick
		d.tell(Halted, nil, d.next(*o), "halted", o.Reason)
	case m.Halt == "" && m.Contended == "" && m.Drift == nil:
		d.tell(Failed, nil, d.next(*o), id+" did not become live", o.Reason)
	}
}

// answer is what is known of a condition.
type answer int

const (
	unknown answer = iota
	yes
	no
)

func is(on bool) answer {
	if on {
		return yes
	}
	return no
}

// condition is something that holds or does not.
type condition struct {
	name        Name
	holds       answer
	key         string // another one is another transition
	title, text string
	next        string
	over        Name   // what its end is told as; "" it is not
	ended       string // and in which words
	source      bool   // ends together with others of the source
}

func (d *decision) conditions() {
	var source []Name
	var since time.Time
	for _, c := range d.all() {
		mark, was := d.t.Open[c.name]
		switch {
		case c.holds == yes && (!was || mark.Key != c.key):
			d.t.Open[c.name] = Mark{Key: c.key, Since: d.f.Now.UTC().Round(0)}
			d.tell(c.name, nil, c.next, c.title, c.text)
		case c.holds == no && was:
			delete(d.t.Open, c.name)
			switch {
			case c.source:
				source = append(source, c.name)
				if since.IsZero() || mark.Since.Before(since) {
					since = mark.Since
				}
			case c.over != "":
				d.tell(c.over, []Name{c.name}, "", c.ended, c.ended)
			}
		}
	}
	if source != nil {
		after := ""
		if took := d.f.Now.Round(0).Sub(since); took > 0 {
			after = ", " + ui.Duration(took) + " after it was told that it did not"
		}
		d.tell(Recovered, source, "", "the source answers again", "the source answers again"+after)
	}
}

// all are the conditions, each with what is known of it. What only a process
// knows, the next one does not know until it has looked.
func (d *decision) all() []condition {
	s, m, up := &d.f.State, &d.f.State.Memory, d.f.State.Upstream(d.f.Now)
	source := func(on bool) answer {
		switch {
		case on:
			return yes
		case up.Answers:
			return no
		}
		return unknown
	}
	// A build in progress says nothing about whether builds are good again.
	failing := source(s.Failing != "")
	if failing == no && up.Busy {
		failing = unknown
	}
	drift, driftKey, driftText := is(m.Drift != nil), "", ""
	switch ran := "nothing"; {
	case m.Drift != nil:
		if m.Running != nil {
			ran = m.Running.ID.Short()
		}
		driftKey, driftText = m.Drift.String(), fmt.Sprintf("the target runs %s and not %s", m.Drift, ran)
	case m.Phase.Working():
		drift = unknown // a deployment does away with it, or fails
	}
	pauseKey, pauseText := "", "paused"
	if p := m.Pause; p != nil {
		pauseKey = p.At.UTC().Format(time.RFC3339Nano)
		if p.Reason != "" {
			pauseText += ": " + p.Reason
		}
		if !p.Until.IsZero() {
			pauseText += ", until " + p.Until.Format(time.RFC3339)
		}
	}
	// A pin is set before the way back is gone.
	pinned := is(m.Pin != "")
	if pinned == yes && (m.Phase.Working() || m.Running == nil || m.Running.ID != m.Pin) {
		pinned = unknown
	}
	silent := "the source was not heard of"
	if !s.LastGood.IsZero() {
		silent += " since " + s.LastGood.UTC().Format(time.RFC3339)
	}
	return []condition{
		{
			name: Halted, holds: is(m.Halt != ""), key: m.Halt, title: "halted, a person must look now", text: m.Halt,
			next: d.next(artifact.Outcome{Kind: fault.Unsafe, Why: artifact.HaltedWhy}),
		},
		{
			name: Contended, holds: is(m.Contended != ""), key: m.Contended, title: "contended, nothing more is written", text: m.Contended,
			next: d.next(artifact.Outcome{Kind: fault.Conflict, Why: artifact.Contended}),
		},
		{
			name: Drifted, holds: drift, key: driftKey, title: "drifted, somebody changed what runs", text: driftText,
			next: d.next(artifact.Outcome{Kind: fault.Held, Why: artifact.Drifted}), over: Recovered, ended: "the target runs what it should",
		},
		{name: Paused, holds: is(m.Pause != nil), key: pauseKey, title: "paused", text: pauseText, over: Resumed, ended: "the pause is over"},
		{
			name: Pinned, holds: pinned, key: string(m.Pin), title: "gone back by hand to " + m.Pin.Short(), text: "nothing else comes until resume",
			next: d.next(artifact.Outcome{Kind: fault.Held, Why: artifact.Pinned}), over: Resumed, ended: "what is newer may come again",
		},
		{name: Unreachable, holds: source(up.Trouble != ""), title: "the source cannot be asked", text: up.Trouble, source: true},
		{name: Stale, holds: source(s.Stale), title: "stale, no good look for long", text: silent, source: true},
		{
			name: UpstreamFailing, holds: failing, title: "the newest build is bad", text: s.Failing,
			over: Recovered, ended: "the newest build is good again",
		},
		{
			name: ArtifactMissing, holds: source(up.Late != ""), title: "a green build has brought no artifact", text: up.Late,
			over: Recovered, ended: "the artifact is there",
		},
		{
			name: Stuck, holds: is(d.f.Stuck != ""), title: "nothing more is begun, the state cannot be written", text: d.f.Stuck,
			over: Recovered, ended: "the state can be written again",
		},
	}
}

// held tells once for each version, and each reason, that it waits.
func (d *decision) held() {
	s := &d.f.State
	h, c := s.Hold, s.Memory.Offered
	if h == nil || c == nil || s.Memory.Phase.Working() {
		return
	}
	name, title := Held, c.ID.Short()+" is held"
	switch h.Why {
	case artifact.Paused, artifact.Pinned, artifact.Drifted, artifact.Contended, artifact.HaltedWhy:
		return // told by themselves
	case artifact.Quarantined:
		return // told when it failed
	case artifact.Regressed:
		name, title = Regressed, "the source went back to "+c.ID.Short()
	case artifact.Repeated, artifact.Window, artifact.TooYoung, artifact.TooOld, artifact.FirstStart, artifact.DiskFull,
		artifact.NoWayBack, artifact.Repository, artifact.WorkloadHeld, artifact.Preflight, artifact.Owner, artifact.Unreproduced:
	}
	if d.t.HeldID != c.ID {
		d.t.HeldID, d.t.Held = c.ID, nil
	}
	if slices.Contains(d.t.Held, h.Why) {
		return
	}
	d.t.Held = append(slices.Clone(d.t.Held), h.Why)
	d.tell(name, nil, d.next(artifact.Outcome{Kind: h.Why.Kind(), Why: h.Why, Candidate: c}), title, h.Text)
}
