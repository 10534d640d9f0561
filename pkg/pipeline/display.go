package pipeline

import "homelab/pkg/woodpecker"

// stage orders states along a run's life. An unknown state counts as running:
// it is neither a beginning nor an end.
func stage(s woodpecker.Status) int {
	switch s {
	case woodpecker.Created:
		return 0
	case woodpecker.Blocked:
		return 1
	case woodpecker.Pending, "":
		return 2
	case woodpecker.Running:
		return 3
	case woodpecker.Success, woodpecker.Failure, woodpecker.Error, woodpecker.Killed,
		woodpecker.Canceled, woodpecker.Declined, woodpecker.Skipped:
		return 4
	}
	return 3
}

// merge moves the display from old to what a newer telling of the same row
// says. Events are unordered, so a state that is shown never goes back; a tree
// with new ids (after an approval) replaces the old one, and a telling without
// a tree keeps it.
func merge(old, told woodpecker.Pipeline) woodpecker.Pipeline {
	if old.ID != told.ID {
		return told
	}
	out := told
	late := stage(told.Status) < stage(old.Status) ||
		told.Status.Ended() && old.Status.Ended() && told.Updated < old.Updated
	if late {
		out = old
	}
	if len(told.Workflows) == 0 || late && !sameTree(old, told) {
		out.Workflows = old.Workflows
		return out
	}
	was := make(map[int64]woodpecker.Workflow, len(old.Workflows))
	steps := map[int64]woodpecker.Step{}
	for _, w := range old.Workflows {
		was[w.ID] = w
		for _, s := range w.Steps {
			steps[s.ID] = s
		}
	}
	out.Workflows = make([]woodpecker.Workflow, len(told.Workflows))
	for i, w := range told.Workflows {
		if before, ok := was[w.ID]; ok && stage(w.State) < stage(before.State) {
			w.State, w.Started, w.Finished = before.State, before.Started, before.Finished
		}
		w.Steps = append([]woodpecker.Step(nil), w.Steps...)
		for j, s := range w.Steps {
			if before, ok := steps[s.ID]; ok && stage(s.State) < stage(before.State) {
				w.Steps[j] = before
			}
		}
		out.Workflows[i] = w
	}
	return out
}

// sameTree says whether two tellings speak of the same workflows.
func sameTree(a, b woodpecker.Pipeline) bool {
	if len(a.Workflows) == 0 {
		return true
	}
	for _, x := range a.Workflows {
		for _, y := range b.Workflows {
			if x.ID == y.ID {
				return true
			}
		}
	}
	return false
}

// diff names what differs between two displays of one row; ok is false when
// nothing does.
func diff(old, cur woodpecker.Pipeline) (c Changed, ok bool) {
	c.Row = cur
	c.Status = old.ID != cur.ID || old.Status != cur.Status
	was := map[int64]woodpecker.Workflow{}
	steps := map[int64]woodpecker.Step{}
	for _, w := range old.Workflows {
		was[w.ID] = w
		for _, s := range w.Steps {
			steps[s.ID] = s
		}
	}
	for _, w := range cur.Workflows {
		if before, seen := was[w.ID]; !seen || before.State != w.State {
			c.Workflows = append(c.Workflows, w)
		}
		for _, s := range w.Steps {
			if before, seen := steps[s.ID]; !seen || before.State != s.State {
				c.Steps = append(c.Steps, ChangedStep{Workflow: w, Step: s})
			}
		}
	}
	return c, c.Status || len(c.Workflows) > 0 || len(c.Steps) > 0
}
