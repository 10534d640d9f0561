package pipeline

import (
	"cmp"
	"slices"
	"strings"

	"homelab/pkg/woodpecker"
)

// Gate says which workflows count, by exact name, all matrix variants of it.
// The zero Gate counts all.
type Gate struct {
	Only   []string // when not empty, only these
	Ignore []string // and never these
}

// Named says whether the gate was narrowed at all.
func (g Gate) Named() bool { return len(g.Only)+len(g.Ignore) > 0 }

// Counts says whether workflows of that name count.
func (g Gate) Counts(name string) bool {
	if slices.Contains(g.Ignore, name) {
		return false
	}
	return len(g.Only) == 0 || slices.Contains(g.Only, name)
}

// gated returns the workflows that count.
func (g Gate) gated(flows []woodpecker.Workflow) []woodpecker.Workflow {
	var out []woodpecker.Workflow
	for _, w := range flows {
		if g.Counts(w.Name) {
			out = append(out, w)
		}
	}
	return out
}

// unknownNames returns the names of the gate that no workflow has.
func (g Gate) unknownNames(flows []woodpecker.Workflow) []string {
	var out []string
	for _, name := range slices.Concat(g.Only, g.Ignore) {
		if !slices.ContainsFunc(flows, func(w woodpecker.Workflow) bool { return w.Name == name }) {
			out = append(out, name)
		}
	}
	return out
}

// names lists the workflows' names once each, in order.
func names(flows []woodpecker.Workflow) string {
	var out []string
	for _, w := range flows {
		if !slices.Contains(out, w.Name) {
			out = append(out, w.Name)
		}
	}
	return strings.Join(out, ", ")
}

// bad returns the workflows that ended without passing.
func bad(flows []woodpecker.Workflow) []woodpecker.Workflow {
	return slices.DeleteFunc(slices.Clone(flows), func(w woodpecker.Workflow) bool { return !w.State.Bad() })
}

// allEnded says whether there are workflows and each has ended.
func allEnded(flows []woodpecker.Workflow) bool {
	return len(flows) > 0 && !slices.ContainsFunc(flows, func(w woodpecker.Workflow) bool { return !over(w) })
}

// over says whether w has ended. One that is called a pass while a step of it
// is not seen to have ended contradicts itself, so it has not. Services are
// stopped when the rest is done and do not count.
func over(w woodpecker.Workflow) bool {
	return w.State.Ended() && (w.State != woodpecker.Success || !slices.ContainsFunc(w.Steps, func(s woodpecker.Step) bool {
		return s.Type != "service" && !s.State.Ended()
	}))
}

// allStepsEnded says whether there are steps and each has ended: the pipeline
// is about to.
func allStepsEnded(flows []woodpecker.Workflow) bool {
	some := false
	for _, w := range flows {
		if len(w.Steps) == 0 && !w.State.Ended() {
			return false
		}
		for _, s := range w.Steps {
			some = true
			if !s.State.Ended() {
				return false
			}
		}
	}
	return some
}

// failing returns the failing steps of gated workflows, earliest end first, at
// most limit. A failed step of a workflow that passed was told to be ignored:
// the server does not say so otherwise.
func failing(flows []woodpecker.Workflow, limit int) []FailedStep {
	type failed struct {
		FailedStep
		end int64
	}
	collect := func(states ...woodpecker.Status) []failed {
		var out []failed
		for _, w := range flows {
			if !w.State.Bad() {
				continue
			}
			for _, s := range w.Steps {
				if slices.Contains(states, s.State) && (s.Type != "service" || s.State != woodpecker.Killed) {
					out = append(out, failed{FailedStep{
						Workflow: w.Name, Step: s.Name, PID: s.PID, ExitCode: s.ExitCode, Error: s.Error,
						id: s.ID, killed: s.State == woodpecker.Killed,
					}, s.Finished})
				}
			}
		}
		return out
	}
	all := collect(woodpecker.Failure, woodpecker.Error)
	if len(all) == 0 {
		all = collect(woodpecker.Killed) // nothing failed by itself: what was cut off is all there is to show
	}
	slices.SortStableFunc(all, func(a, b failed) int { return cmp.Compare(a.end, b.end) })
	out := make([]FailedStep, 0, min(len(all), limit))
	for _, f := range all[:min(len(all), limit)] {
		out = append(out, f.FailedStep)
	}
	return out
}

// ignored counts failed steps in workflows that passed.
func ignored(flows []woodpecker.Workflow) int {
	n := 0
	for _, w := range flows {
		if w.State != woodpecker.Success {
			continue
		}
		for _, s := range w.Steps {
			if s.State == woodpecker.Failure {
				n++
			}
		}
	}
	return n
}

// Ignored says whether the server let a failed step of w pass.
func Ignored(w woodpecker.Workflow, s woodpecker.Step) bool {
	return w.State == woodpecker.Success && s.State == woodpecker.Failure
}
