package run

import (
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/notify"
)

// inform lets those be told who want to know what becomes of the watch. One on
// standby tells nobody: the one at work does.
func (l *loop) inform() {
	if l.teller != nil && l.standby == nil {
		l.teller.See(l.facts())
	}
}

func (l *loop) facts() notify.Facts {
	f := notify.Facts{
		Now: l.now(), Name: l.o.Config.Name, Run: l.o.Config.Run, From: l.o.From, To: l.o.To, State: l.s, Next: l.o.Advise,
	}
	if l.broken != nil {
		f.Stuck = l.broken.err.Error()
	}
	return f
}

// delivery tells how it goes with those who are told. It may be called from
// anywhere.
func (l *loop) delivery(trouble bool, text string) {
	t := artifact.RecoveredEvent
	if trouble {
		t = artifact.TroubleEvent
	}
	l.hub.publish(Event{Type: t, Time: l.now(), Text: text})
}
