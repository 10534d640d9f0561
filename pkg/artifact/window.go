package artifact

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Hours are the times of a week in which switches may begin: on Days from From
// to To, by the clock of Zone. With To at or before From they end on the
// following day, and belong to the day on which they began.
type Hours struct {
	Days     [7]bool // by time.Weekday
	From, To int     // minutes since midnight, by the wall; To up to 1440
	Zone     *time.Location
}

var errHours = errors.New(`want "Mon-Fri 08:00-18:00 Europe/London"`)

// ParseHours reads "DAYS HH:MM-HH:MM [ZONE]"; DAYS is a day, a range or a list
// of both by commas, or daily. Without ZONE the host's.
func ParseHours(s string) (Hours, error) {
	fields := strings.Fields(s)
	if len(fields) != 2 && len(fields) != 3 {
		return Hours{}, fmt.Errorf("window %q: %w", s, errHours)
	}
	h := Hours{Zone: time.Local}
	if !h.days(fields[0]) {
		return Hours{}, fmt.Errorf("window %q: day %q: %w", s, fields[0], errHours)
	}
	from, to, _ := strings.Cut(fields[1], "-")
	var ok1, ok2 bool
	h.From, ok1 = minutes(from)
	h.To, ok2 = minutes(to)
	if !ok1 || !ok2 || h.From == 24*60 || h.From == h.To {
		return Hours{}, fmt.Errorf("window %q: hours %q: %w", s, fields[1], errHours)
	}
	if len(fields) == 3 {
		zone, err := time.LoadLocation(fields[2])
		if err != nil {
			return Hours{}, fmt.Errorf("window %q: %w", s, err)
		}
		h.Zone = zone
	}
	return h, nil
}

func (h *Hours) days(s string) bool {
	if strings.EqualFold(s, "daily") {
		h.Days = [7]bool{true, true, true, true, true, true, true}
		return true
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		a, b := weekday(from), weekday(to)
		if a < 0 || b < 0 {
			return false
		}
		for d := a; ; d = (d + 1) % 7 {
			h.Days[d] = true
			if d == b {
				break
			}
		}
	}
	return true
}

func weekday(s string) int {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(s, d.String()[:3]) {
			return int(d)
		}
	}
	return -1
}

func minutes(s string) (int, bool) {
	t, err := time.Parse("15:04", s)
	if s == "24:00" {
		return 24 * 60, true
	}
	return t.Hour()*60 + t.Minute(), err == nil && len(s) == 5
}

// Open reports whether t is within h, by the wall clock.
func (h Hours) Open(t time.Time) bool {
	t = t.In(h.Zone)
	m, d := t.Hour()*60+t.Minute(), t.Weekday()
	if h.From < h.To {
		return h.Days[d] && m >= h.From && m < h.To
	}
	return h.Days[d] && m >= h.From || h.Days[(d+6)%7] && m < h.To
}

// open reports whether t is within one of them; of none it always is. Otherwise
// it returns when the next one opens.
func open(all []Hours, t time.Time) (bool, time.Time) {
	if len(all) == 0 {
		return true, time.Time{}
	}
	for _, h := range all {
		if h.Open(t) {
			return true, time.Time{}
		}
	}
	// Windows begin at whole minutes of the wall clock, which no zone shifts by
	// less than a minute: a week of minutes is looked through, coarsely first.
	at := t.Truncate(time.Minute)
	for range 8 * 24 * 60 {
		at = at.Add(time.Minute)
		for _, h := range all {
			if h.Open(at) {
				return false, at
			}
		}
	}
	return false, time.Time{}
}
