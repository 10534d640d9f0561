package rollout

import (
	"maps"
	"slices"
	"time"
)

// Memory is what one look has to know of the looks before. The zero value
// knows nothing. It is a value: Remember returns a new one and leaves the old
// one as it was.
type Memory struct {
	UID        string // of the target first seen
	Generation int64  // the highest seen under UID
	// Matches are the templates that passed the gate, oldest first.
	Matches []Matched
	// Repos are the repositories of containers that ever matched.
	Repos []string
	// Before is the image the gate was judged on before the first match; "" when
	// the first look matched.
	Before string
	// Newer is the commit that is followed instead of the expected one; "" none.
	Newer string
	// Seen holds when each condition that a grace counts from was first true. A
	// condition that is no longer true is forgotten.
	Seen map[string]Sighting
	// Restarts are the restart counts at first sight, by pod UID and container.
	Restarts map[string]int32
	// Digests are the running image ids at first sight, by container.
	Digests map[string]string
	// Relapses counts how often a complete rollout became incomplete again.
	Relapses int
}

// Matched is one template that passed the gate.
type Matched struct {
	Image      string
	By         string
	Generation int64
	Containers []string
	At         time.Time
}

// Sighting is since when a condition is true.
type Sighting struct {
	Since time.Time // by the server's timestamp where there is one, else First
	First time.Time // when it was first looked at
	Note  string    // what was read then, where later looks show less
}

// Remember returns what the looks after s have to know. It is to be called for
// every snapshot, before Assess, so that first sights are dated by the look
// that had them.
func Remember(m Memory, s Snapshot, c Config, now time.Time) Memory {
	s.Memory, s.Ended = m, Going
	a := look(s, c, now)
	if a.t == nil || a.t.Terminating() {
		return m
	}
	if m.UID != "" && m.UID != a.t.UID {
		if !c.FollowRecreate {
			return m
		}
		m = Memory{}
	}
	if a.t.Generation < m.Generation {
		return m // an old copy teaches nothing
	}
	// A complete rollout that is not complete any more, of the same template.
	if _, was := m.Seen[keyComplete]; was && !a.full && m.Generation == a.t.Generation && a.gate.say == yes {
		m.Relapses++
	}
	m.UID, m.Generation, m.Seen = a.t.UID, a.t.Generation, a.seen
	m.Restarts, m.Digests = maps.Clone(m.Restarts), maps.Clone(m.Digests)
	if m.Restarts == nil {
		m.Restarts, m.Digests = map[string]int32{}, map[string]string{}
	}
	present := map[string]bool{}
	for _, p := range s.Pods {
		for _, k := range p.Containers {
			key := p.UID + "/" + k.Name
			present[key] = true
			if _, known := m.Restarts[key]; !known && k.Seen {
				m.Restarts[key] = k.Restarts
			}
		}
	}
	if s.PodSight == Seen {
		maps.DeleteFunc(m.Restarts, func(key string, _ int32) bool { return !present[key] })
	}
	for _, p := range a.pods.target {
		for _, k := range p.Containers {
			if _, known := m.Digests[k.Name]; !known && k.ImageID != "" {
				m.Digests[k.Name] = k.ImageID
			}
		}
	}
	for _, repo := range a.gate.repos {
		if !slices.Contains(m.Repos, repo) {
			m.Repos = append(slices.Clone(m.Repos), repo)
		}
	}
	if a.gate.say != yes {
		if len(m.Matches) == 0 {
			m.Before = a.gate.image
		}
		return m
	}
	if c.NoGate {
		return m
	}
	g := a.gate
	if g.newer {
		m.Newer = g.expected.Commit
	}
	if n := len(m.Matches); n == 0 || m.Matches[n-1].Image != g.image || m.Matches[n-1].By != g.by {
		m.Matches = append(slices.Clone(m.Matches), Matched{Image: g.image, By: g.by, Generation: a.t.Generation, Containers: g.containers, At: now})
	}
	return m
}
