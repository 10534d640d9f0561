package rollout

import "time"

// Memory is what one look has to know of the looks before. The zero value
// knows nothing. It is a value: Remember returns a new one and leaves the old
// one as it was.
type Memory struct {
	UID        string // of the target first seen
	Generation int64  // the highest seen under UID
	// Versions of the template that matched, oldest first.
	Matches []Matched
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
	Repos      []string // repositories of the gated containers
	At         time.Time
}

// Sighting is since when a condition is true.
type Sighting struct {
	Since time.Time // by the server's timestamp where there is one, else First
	First time.Time // when it was first looked at
	Note  string    // what was read then, where later looks show less
}
