package run

import (
	"context"
	"slices"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/fault"
)

// Lease says who acts where processes on several machines are the same watch.
// Whoever has not got it is standby: it looks at nothing and changes nothing.
type Lease interface {
	// Keep holds the lease, or waits for it, until ctx ends. changed is called
	// from one goroutine whenever it was had or lost, and why it is not had.
	Keep(ctx context.Context, changed func(Tenure))
	// Sure returns when all that was noted stands on the lease and it is held
	// for long enough to begin what changes the target. The error is ctx's cause.
	Sure(ctx context.Context) error
	// Note keeps what became of ids, for whoever takes over. It does not wait.
	Note(fates []artifact.Attempted)
	// Release gives the lease up, once Keep has returned.
	Release(ctx context.Context) error
	// Look only reads: for a check.
	Look(ctx context.Context) Tenure
}

// Tenure is whether the lease is held.
type Tenure struct {
	Held bool
	// Attempted is what all who held it did last, oldest first, and Me the name
	// under which this one did. With Held.
	Attempted []artifact.Attempted
	Me        string

	Kind fault.Kind // not Held: Conflict, Held by hand, Denied, Absent, Unreachable
	Why  string     // not Held: a clause
	Soon bool       // not Held: it may be had in a moment
}

const releaseIn = 2 * time.Second

// keep begins to hold the lease.
func (l *loop) keep() {
	if l.standby == nil {
		return
	}
	ctx, cancel := context.WithCancel(l.base)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.o.Lease.Keep(ctx, func(t Tenure) { l.box.post(func() { l.tenure(t) }) })
	}()
	l.unkeep = func(idle bool) {
		cancel()
		<-done
		if !idle { // what still runs has the rest of the term to end
			return
		}
		late, enough := context.WithTimeout(context.WithoutCancel(l.base), releaseIn)
		defer enough()
		if err := l.o.Lease.Release(late); err != nil {
			l.note("the lease could not be given up, it runs out: " + err.Error())
		}
	}
}

// tenure takes what became of the lease.
func (l *loop) tenure(t Tenure) {
	switch {
	case t.Held:
		l.heirloom, l.heir, l.standby = t.Attempted, t.Me, nil
		l.hub.publish(Event{Type: artifact.NoteEvent, Time: l.now(), Text: "the lease is held"})
		if l.broken == nil {
			l.restart(l.s.Memory)
		}
		return
	case l.standby == nil:
		// Nothing more is begun, and what was begun is ended. The journal knows
		// how far it came.
		for _, r := range l.running {
			r.cancel()
		}
	}
	same := l.standby != nil && l.standby.Kind == t.Kind && l.standby.Why == t.Why
	l.standby = &t
	if single := l.mode != daemon; single && t.Soon || !single && same {
		return
	}
	l.hub.publish(Event{Type: artifact.HeldEvent, Time: l.now(), Text: "standby: " + t.Why})
	if l.mode != daemon {
		l.endWith(l.refusal())
		return
	}
	o := l.refusal()
	for id := range l.waiting {
		l.reply(id, o, l.s.Memory)
	}
	l.notify.ready() // to stand by is to work
	l.show()
}

// inherit takes over what others did while they held the lease.
func (l *loop) inherit(m artifact.Memory) (artifact.Memory, error) {
	for _, line := range artifact.Inherit(m, l.heirloom, l.heir, l.now()) {
		after := m.Apply(line)
		if l.journal != nil {
			if err := l.journal.Append(line, after); err != nil {
				return m, err
			}
		}
		if opens(line) {
			l.o.Lease.Note(artifact.Fates(m, line))
		}
		m = after
		if e, ok := past(line); ok && !opens(line) && line.State != artifact.Fetching {
			e.Time = l.now()
			l.hub.publish(e)
		}
	}
	l.heirloom = nil
	return m, nil
}

// opens reports whether line is of an attempt that goes on here.
func opens(line artifact.Line) bool {
	return slices.Contains([]artifact.Phase{artifact.Switching, artifact.Probing, artifact.RollingBack}, line.State)
}

// noted tells whoever may take over what l made of m's ids.
func (l *loop) noted(m artifact.Memory, line artifact.Line) {
	if l.o.Lease == nil || l.mode == dry {
		return
	}
	if fates := artifact.Fates(m, line); len(fates) > 0 {
		l.o.Lease.Note(fates)
	}
}

// StandbyState stands beside the phase of a watch whose lease another holds.
const StandbyState = "standby"
