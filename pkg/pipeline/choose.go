package pipeline

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"homelab/pkg/woodpecker"
)

// rank orders events by how well they speak for a commit: its push first, so
// that a green cron never hides a red push. Events that are not named come
// last.
func rank(e woodpecker.Event) int {
	order := []woodpecker.Event{
		woodpecker.Push, woodpecker.Manual, woodpecker.PullRequest, woodpecker.Tag,
		woodpecker.Deployment, woodpecker.Cron, woodpecker.Release,
	}
	if i := slices.Index(order, e); i >= 0 {
		return i
	}
	return len(order)
}

// choice is which row speaks for a commit.
type choice struct {
	row      *woodpecker.Pipeline  // nil: none
	others   []woodpecker.Pipeline // the commit's other rows, newest first
	excluded []woodpecker.Pipeline // rows of the commit that the wanted event leaves out
	unsure   bool                  // a push row may still come: nothing here is older than 10 s
	distinct []string              // more than one: a prefix fits several commits
}

const youngRow = 10 * time.Second

// choose picks among rows the one that speaks for t: by event, and within one
// event the highest id, so that a restart replaces its origin. now is the
// server's.
func choose(rows []woodpecker.Pipeline, t Target, now time.Time) choice {
	var c choice
	var fit []woodpecker.Pipeline
	for _, r := range rows {
		if !t.matches(r.Commit) {
			continue
		}
		if !slices.Contains(c.distinct, r.Commit) {
			c.distinct = append(c.distinct, r.Commit)
		}
		if t.Event != "" && r.Event != t.Event {
			c.excluded = append(c.excluded, r)
			continue
		}
		fit = append(fit, r)
	}
	newest := func(a, b woodpecker.Pipeline) int { return cmp.Compare(b.ID, a.ID) }
	slices.SortFunc(c.excluded, newest)
	if len(fit) == 0 {
		c.others = c.excluded
		return c
	}
	best := slices.MinFunc(fit, func(a, b woodpecker.Pipeline) int {
		return cmp.Or(cmp.Compare(rank(a.Event), rank(b.Event)), newest(a, b))
	})
	c.row = &best
	for _, r := range fit {
		if r.ID != best.ID {
			c.others = append(c.others, r)
		}
	}
	c.others = append(c.others, c.excluded...)
	slices.SortFunc(c.others, newest)
	if t.Event == "" && best.Event != woodpecker.Push {
		c.unsure = !slices.ContainsFunc(fit, func(r woodpecker.Pipeline) bool {
			return now.Sub(woodpecker.Moment(r.Created)) > youngRow
		})
	}
	return c
}

// matches says whether a row of that commit is one of the target's.
func (t Target) matches(commit string) bool {
	if t.Prefix {
		return t.Commit != "" && strings.HasPrefix(strings.ToLower(commit), t.Commit)
	}
	return strings.EqualFold(commit, t.Commit)
}

// covering returns the push row with the lowest id among those whose commit
// descends from the target's, as contains says, and the rows of which that
// could not be told.
func covering(rows []woodpecker.Pipeline, t Target, contains func(commit string) ancestry) (best *woodpecker.Pipeline, unproven []woodpecker.Pipeline) {
	for _, r := range rows {
		if r.Event != woodpecker.Push || t.matches(r.Commit) {
			continue
		}
		switch contains(r.Commit) {
		case proven:
			if best == nil || r.ID < best.ID {
				best = &r
			}
		case unknown:
			unproven = append(unproven, r)
		case refuted:
		}
	}
	return best, unproven
}

// ancestry is what is known of "this commit is contained in that one".
type ancestry int

const (
	unknown ancestry = iota
	proven
	refuted
)
