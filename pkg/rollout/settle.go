package rollout

import (
	"fmt"
	"time"
)

// Graces that no flag changes.
const (
	imageGrace      = 60 * time.Second // three attempts of a kubelet: tags replicate late
	configGrace     = 30 * time.Second
	volumeGrace     = 60 * time.Second
	crashGrace      = 45 * time.Second // since the first crash, once the kubelet backs off
	crashForgotten  = 10 * time.Minute // a container that ran so long has its back-off reset
	podRefused      = 10 * time.Second // a controller that may not create pods
	revisionRefused = 15 * time.Second // a controller that may not create the ReplicaSet
	quotaRefused    = 30 * time.Second
	pausedGrace     = 10 * time.Second
	onDeleteGrace   = 10 * time.Second
	noNodesGrace    = 10 * time.Second
	stuckGrace      = 20 * time.Second
	stuckUnready    = 60 * time.Second
	onlyOneGrace    = 120 * time.Second // one bad pod among good ones: at least so long
	controllerQuiet = 30 * time.Second  // after which a controller may not be running
	namespaceQuiet  = 10 * time.Second  // after which the namespace may be going away
	troubleQuiet    = 3 * time.Second   // of failed requests before a word is said
	troubleFatal    = 15 * time.Second  // of failed requests before the end: unreachable
	overdueDeletion = 30 * time.Second  // beyond its grace period
	explainAfter    = 5 * time.Second   // before an event list is worth its request
	eventPace       = 5 * time.Second   // between two event lists
	revisionLag     = 10 * time.Second  // for a revision to show up as its template

	settleShort = 3 * time.Second
	settleLong  = 10 * time.Second // where a container is available as soon as it runs
)

const defaultMaxRestarts = 3

// settleFor is how long a complete rollout is watched, and why.
func (a *assessor) settleFor() time.Duration {
	if a.c.Settle != nil {
		return *a.c.Settle
	}
	for _, name := range a.gate.containers {
		if c, ok := a.t.Template.Container(name); ok && c.Readiness == nil && (!c.Init || c.Sidecar) {
			return settleLong
		}
	}
	return settleShort
}

// completeSince is when the rollout became complete, by the latest sign of it
// that a server has dated: a pod that became ready, a container that started.
// Without pods it is when it was first seen to be.
func (a *assessor) completeSince() time.Time {
	var latest time.Time
	later := func(t time.Time) {
		if t.After(latest) {
			latest = t
		}
	}
	for _, p := range a.pods.target {
		if !p.Active() || !p.Ready() {
			continue // it was left out when the rollout was found complete
		}
		if c, ok := p.Condition("Ready"); ok {
			later(c.Transition)
		}
		for _, c := range p.Containers {
			if c.State.Is == Running {
				later(c.State.Started)
			}
		}
	}
	a.held(keyComplete, time.Time{})
	// A kubelet's clock may be ahead; a sign counts from when it was first seen
	// at the latest.
	seen := a.held(keyComplete+"/"+latest.UTC().Format(time.RFC3339), time.Time{})
	// Servers date in whole seconds, cut off: what is dated 12:00:05 may have
	// happened a second later.
	latest = latest.Add(time.Second)
	if latest.Year() <= 1 || latest.After(seen.First) {
		return seen.First
	}
	return latest
}

// settled reports whether the window is over; before, it sets the sentence.
func (a *assessor) settled() bool {
	window := a.settleFor()
	since := a.completeSince()
	over := since.Add(window)
	if !a.now.Before(over) {
		return true
	}
	a.wake(over)
	a.v.Phase = PhaseSettle
	a.v.Sentence = fmt.Sprintf("%d/%d available, watching for %s", a.v.Counts.Available, a.v.Counts.Desired, short(window))
	if window == settleLong && a.c.Settle == nil {
		a.v.Sentence += ": no readiness probe"
	}
	return false
}
