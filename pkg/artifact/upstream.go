package artifact

import "time"

// Upstream is how the source was found, for whoever tells people.
type Upstream struct {
	// Answers: the last look of this process was answered. An absent artifact is
	// an answer too.
	Answers bool
	// Trouble is why the source cannot be asked, once that has lasted.
	Trouble string
	// Late is what a green build has not brought although time was given; "" nothing.
	Late string
	// Busy: something is on its way there, so that it is not told yet whether the
	// newest build is good.
	Busy bool
}

// Upstream tells how the source was found.
func (s State) Upstream(now time.Time) Upstream {
	u := Upstream{Answers: s.Looks > 0 && (s.lookErr == nil || s.lookErr.Class == Absent)}
	if s.Troubled {
		u.Trouble = "no answer"
		if s.lookErr != nil {
			u.Trouble = s.lookErr.Error()
		}
	}
	for _, h := range s.hot {
		if !h.now {
			continue
		}
		u.Busy = true
		if s.missing && now.Sub(h.since) >= hotMost {
			u.Late = h.cause
		}
	}
	return u
}
