package run

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/artifact/notify"
	"homelab/pkg/fault"
)

// View is what is told of a watch: by its daemon, and in status.json.
type View struct {
	artifact.Status
	From    string    `json:"from"`
	To      string    `json:"to"`
	Policy  string    `json:"policy,omitempty"`
	Run     string    `json:"run"`
	PID     int       `json:"pid"` // of the process that wrote it
	Updated time.Time `json:"updated"`
	// Daemon: it answered just now. Never so in the file.
	Daemon bool   `json:"daemon"`
	Next   string `json:"next_start"` // what the next start does, for people
	// Notify is how those stand who are told; none is configured, or no process
	// has told since.
	Notify []notify.Status `json:"notify,omitempty"`
}

// journalled is the view in status.json; the zero View if there is none.
func journalled(p Place) View {
	var v View
	if err := journal.Status(p.Dir(), &v); err != nil {
		return View{}
	}
	v.Daemon = false
	return v
}

// Status asks the daemon, else reads what it left. The error of a watch that
// has never been here is Absent.
func Status(ctx context.Context, p Place) (View, error) {
	if !p.Exists() {
		return View{}, p.unknown()
	}
	if v, err := p.view(ctx); err == nil {
		v.Daemon = true
		return v, nil
	} else if ctx.Err() != nil {
		return View{}, context.Cause(ctx)
	}
	m, _, err := journal.Read(p.Dir())
	if err != nil {
		return View{}, onDisk("the state of watch "+p.Name+" cannot be read", err)
	}
	return offline(p, m), nil
}

// offline is the view of a watch that no daemon is: what the last one left,
// with the candidate that it held, as long as nothing happened since.
func offline(p Place, m artifact.Memory) View {
	left, v := journalled(p), settled(p, m)
	same := left.State == v.State && sameID(left.Candidate, v.Candidate) && len(left.Quarantine) == len(v.Quarantine) &&
		slices.Equal(lasting(left.States), lasting(v.States))
	if same && v.Held == "" && left.Held != "" && (left.Kind == fault.Held || left.Kind == fault.Conflict) {
		v.Kind, v.Held, v.States = left.Kind, left.Held, left.States
	}
	return v
}

// lasting are the states that memory has, of those that are shown.
func lasting(states []string) []string {
	return slices.DeleteFunc(slices.Clone(states), func(s string) bool {
		return slices.Contains([]string{"held", "source_regressed", "stale", "upstream_failing"}, s)
	})
}

func sameID(a, b *artifact.Offer) bool {
	return a == nil && b == nil || a != nil && b != nil && a.ID == b.ID
}

// settled is the view of a watch with memory m that nothing holds but what is
// in there.
func settled(p Place, m artifact.Memory) View {
	v := journalled(p)
	st := artifact.StatusOf(artifact.New(m), p.Name)
	// What only a process knows is as old as the file.
	st.Looks, st.Failures, st.LastGood = v.Looks, v.Failures, v.LastGood
	v.Status, v.Next = st, artifact.NextStart(m, artifact.Config{Name: p.Name})
	return v
}

// History is the journal of a watch, oldest line first, without snapshots. The
// error of a watch that has never been here is Absent.
func History(p Place) ([]artifact.Line, error) {
	if !p.Exists() {
		return nil, p.unknown()
	}
	lines, err := journal.History(p.Dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, onDisk("the journal of watch "+p.Name+" cannot be read", err)
	}
	return lines, nil
}
