package pipeline

import (
	"cmp"
	"slices"
	"time"

	"homelab/pkg/woodpecker"
)

const maxHops = 10 // rows a watch may be led through

// restarted returns the newest row among rows that restarts row for the same
// commit; nil for none.
func restarted(rows []woodpecker.Pipeline, row woodpecker.Pipeline) *woodpecker.Pipeline {
	var best *woodpecker.Pipeline
	for _, r := range rows {
		if r.Parent == row.Number && r.ID > row.ID && r.Commit == row.Commit && (best == nil || r.ID > best.ID) {
			best = &r
		}
	}
	return best
}

// probableSuccessor returns the row that most likely superseded a killed one
// on servers that do not say (before 3.14): the next row of the same event and
// branch, created within ten seconds before the end. nil for none.
func probableSuccessor(rows []woodpecker.Pipeline, row woodpecker.Pipeline) *woodpecker.Pipeline {
	end := woodpecker.Moment(row.Finished)
	if row.Finished == 0 {
		return nil
	}
	fit := slices.DeleteFunc(slices.Clone(rows), func(r woodpecker.Pipeline) bool {
		created := woodpecker.Moment(r.Created)
		return r.ID <= row.ID || r.Event != row.Event || r.Branch != row.Branch || r.Parent == row.Number ||
			created.After(end) || end.Sub(created) > 10*time.Second
	})
	if len(fit) == 0 {
		return nil
	}
	next := slices.MinFunc(fit, func(a, b woodpecker.Pipeline) int { return cmp.Compare(a.ID, b.ID) })
	return &next
}
