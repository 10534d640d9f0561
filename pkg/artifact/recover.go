package artifact

import (
	"fmt"
	"time"

	"homelab/pkg/fault"
)

// Resume is what a start does with an attempt it finds in the journal.
type Resume string

// What a start can do.
const (
	GoOn       Resume = "go on"       // nothing was touched: files are hashed again
	ProbeNow   Resume = "probe"       // the new version runs: its window begins again
	Finish     Resume = "finish"      // the same attempt once more
	Interrupts Resume = "interrupted" // nothing changed; quarantined
	GoBack     Resume = "go back"
	StopHere   Resume = "halt"
	OldRuns    Resume = "quarantine" // it was put back: quarantined
	OtherRuns  Resume = "drifted"    // quarantined, and somebody acted
	ProbeBack  Resume = "probe back" // the rollback took: the probes decide
	AskAgain   Resume = "ask again"
)

// Recover decides how an attempt that a crash or a stop cut short goes on,
// from the phase the journal ends in and what the target runs now. Halted
// stays, whatever runs; without an attempt there is nothing to decide.
func Recover(m Memory, o Observation, c Config) Resume {
	a := m.Attempt
	if a == nil {
		return GoOn
	}
	isNew := o.Is(a.Candidate.ID)
	isOld := a.Previous != nil && o.Is(a.Previous.ID) || o.Sight != Unknown && o.Sight == a.Before.Sight && o.ID == a.Before.ID
	switch m.Phase {
	case Switching:
		switch {
		case isNew:
			return ProbeNow
		case isOld && c.Idempotent:
			return Finish
		case isOld:
			return Interrupts
		case o.Sight == Unknown:
			return StopHere
		}
		return GoBack
	case Probing, Soaking:
		switch {
		case isNew:
			return ProbeNow
		case isOld:
			return OldRuns
		case o.Sight == Unknown:
			return AskAgain
		}
		return OtherRuns
	case RollingBack:
		switch {
		case a.Previous != nil && o.Is(a.Previous.ID):
			return ProbeBack
		case a.Previous != nil && a.Backs < 2:
			return GoBack
		}
		return StopHere
	case Idle, Offered, Fetching, Verified, Staged, Live, RolledBack, Halted:
	}
	return GoOn
}

// recovered acts on the first observation after a restart in mid-attempt.
func (k *core) recovered(o Observation, f *Failure) {
	s, m := &k.s, k.m()
	a := *m.Attempt
	if f != nil {
		if m.Phase.Begun() {
			k.blank(f)
			return
		}
		k.again(f, k.c.Interval)
		return
	}
	s.blankFrom, s.rounds = time.Time{}, 0
	s.Observed, s.ObservedAt = o, k.now
	id := a.Candidate.ID
	how := Recover(*m, o, *k.c)
	if how != GoOn {
		k.tell(NoteEvent, id, "found %s of %s interrupted, the target runs %s: %s", m.Phase, id.Short(), o, how)
	}
	switch how {
	case GoOn:
		switch {
		case o.Sight != a.Before.Sight || o.ID != a.Before.ID:
			k.giveUp(Line{Reason: "somebody changed what runs meanwhile"})
			k.observed(o)
		case m.Phase == Fetching && a.Candidate.Kind == File && (a.By == ByItself || a.By == ByRetry):
			k.next(stepFetch)
		default:
			k.next(stepVerify)
		}
	case ProbeNow:
		k.begunProbing()
	case Finish:
		k.next(stepActivate)
		if k.disarmed() == "" && a.Previous == nil && !k.c.NoRollback {
			k.tell(NoteEvent, id, "there is no version to go back to")
		}
	case Interrupts:
		k.finish(Line{State: Idle, ID: id, Reason: "interrupted"},
			Outcome{Kind: fault.Failed, Reason: id.Short() + " was interrupted while it was activated; nothing was changed, and it is not tried again by itself"})
	case GoBack:
		if m.Phase == RollingBack {
			k.goBack(a.Reason, a.Evidence)
			return
		}
		k.fail(fmt.Sprintf("interrupted while it was activated, and the target runs %s", o))
	case StopHere:
		why := "interrupted, and what the target runs cannot be told"
		if m.Phase == RollingBack {
			why = fmt.Sprintf("after rolling back twice the target runs %s", o)
		}
		k.halt(why)
	case OldRuns:
		k.finish(Line{State: Idle, ID: id, Reason: "somebody put the previous version back"},
			Outcome{Kind: fault.Failed, Reason: id.Short() + " was replaced by the previous version while the watch was away"})
	case OtherRuns:
		k.displaced(Observation{Sight: o.Sight, ID: o.ID})
	case ProbeBack:
		k.probeFrom(stepProbeBack)
	case AskAgain:
		k.blank(&Failure{Class: Transient, What: "the target cannot tell what it runs"})
	}
}

// NextStart is what the next start of the watch will do, for people.
func NextStart(m Memory, c Config) string {
	a := m.Attempt
	if a == nil {
		return "the next start looks again"
	}
	id := a.Candidate.ID.Short()
	switch m.Phase {
	case Switching:
		if c.Idempotent {
			return "the next start asks the target what it runs and finishes activating " + id
		}
		return "the next start asks the target what it runs: if " + id + " runs, it is probed"
	case Probing, Soaking:
		return "the next start probes " + id + " again"
	case RollingBack:
		return "the next start finishes the way back to " + idOf(a.Previous).Short()
	case Idle, Offered, Fetching, Verified, Staged, Live, RolledBack, Halted:
	}
	return "nothing was changed; the next start goes on with " + id
}
