// Package notify tells people what became of a watch: one notification for each
// transition, and none for what only flickers. Decide is a pure function from
// how the watch stands, and what was told before, to what is to be told now; a
// Teller keeps that on disk, so that a restart repeats nothing, and delivers it
// by webhook, ntfy or a program.
//
// A notification never holds a deployment up and never fails one: it waits in a
// queue with an end, is tried again for some hours, and what is given up is said
// once in the story.
package notify

import (
	"slices"
	"time"

	"homelab/pkg/artifact"
)

// Name is what a notification is about.
type Name string

// The names, which are those a receiver can select.
const (
	Live       Name = "live"        // a new version runs and has proved itself
	Failed     Name = "failed"      // a version was refused or could not be activated; what ran before still runs
	RolledBack Name = "rolled_back" // a version failed, and what ran before runs again
	Halted     Name = "halted"      // a person must look now
	Held       Name = "held"        // a version waits for a person, or for its time
	Regressed  Name = "source_regressed"
	Paused     Name = "paused"
	Pinned     Name = "pinned"  // gone back by hand, and staying there
	Resumed    Name = "resumed" // paused or pinned no more
	Drifted    Name = "drifted"
	Contended  Name = "contended"
	// Unreachable: the source could not be asked, three times and for ten minutes.
	Unreachable Name = "unreachable"
	Stale       Name = "stale" // no good look for --stale-after
	// UpstreamFailing: the source answers, and its newest build is bad.
	UpstreamFailing Name = "upstream_failing"
	ArtifactMissing Name = "artifact_missing" // green, and without its artifact for ten minutes
	Stuck           Name = "stuck"            // the state cannot be written, so nothing is begun
	Recovered       Name = "recovered"        // from what Of names
)

// Names returns all of them, in the order in which they are documented.
func Names() []Name {
	return []Name{
		Live, Failed, RolledBack, Halted, Held, Regressed, Paused, Pinned, Resumed, Drifted, Contended,
		Unreachable, Stale, UpstreamFailing, ArtifactMissing, Stuck, Recovered,
	}
}

// look is how a notification looks where that can be chosen: ntfy's priority, 1
// to 5, and its tag.
func (n Name) look() (priority int, tag string) {
	switch n {
	case Live:
		return 3, "white_check_mark"
	case Failed:
		return 4, "x"
	case RolledBack:
		return 4, "leftwards_arrow_with_hook"
	case Halted:
		return 5, "rotating_light"
	case Stuck:
		return 5, "floppy_disk"
	case Held:
		return 3, "raised_hand"
	case Regressed, Drifted, Contended:
		return 4, "warning"
	case Paused:
		return 2, "pause_button"
	case Pinned:
		return 2, "pushpin"
	case Resumed:
		return 2, "arrow_forward"
	case Unreachable:
		return 4, "electric_plug"
	case Stale:
		return 4, "hourglass"
	case UpstreamFailing:
		return 3, "construction"
	case ArtifactMissing:
		return 3, "mag"
	case Recovered:
		return 3, "green_circle"
	}
	return 3, "loudspeaker"
}

// Notification is one, in its public shape.
type Notification struct {
	Kind string `json:"kind"` // "deploy.watch.notification"
	// ID is the same however often it is delivered: a process that dies right
	// after a delivery delivers it once more.
	ID        string          `json:"id"`
	Event     Name            `json:"event"`
	Of        []Name          `json:"of,omitempty"` // with recovered and resumed: what is over
	Time      time.Time       `json:"time"`
	Watch     string          `json:"watch"`
	Run       string          `json:"run"`
	From      string          `json:"from"`
	To        string          `json:"to"`
	Title     string          `json:"title"`
	Text      string          `json:"text"`
	Next      *string         `json:"next"`     // a command that helps
	Priority  int             `json:"priority"` // 1 to 5, as ntfy has it
	State     string          `json:"state"`
	Candidate *artifact.Offer `json:"candidate"`
	Running   *artifact.Named `json:"running"`
	Previous  *artifact.Named `json:"previous"`
}

// Selects reports whether a list of names has n; an empty one has all.
func Selects(on []Name, n Name) bool { return len(on) == 0 || slices.Contains(on, n) }
