package pipeline

import (
	"fmt"
	"strings"
	"time"

	"homelab/pkg/woodpecker"
)

// memory is what earlier readings of one row leave behind for the next
// decision. It is a value: remember returns the next one.
type memory struct {
	status     woodpecker.Status // of the last reading
	since      time.Time         // when it was first read with that status
	readings   int               // with that status
	endedSince time.Time         // when all workflows were first read as ended; zero: they are not
}

// remember adds a reading made at now.
func remember(m memory, row woodpecker.Pipeline, now time.Time) memory {
	if m.readings == 0 || m.status != row.Status {
		m.status, m.since, m.readings = row.Status, now, 0
	}
	m.readings++
	switch ended := allEnded(row.Workflows); {
	case !ended:
		m.endedSince = time.Time{}
	case m.endedSince.IsZero():
		m.endedSince = now
	}
	return m
}

// reading is one complete answer about the pinned row, with what it takes to
// judge it.
type reading struct {
	row      woodpecker.Pipeline
	gate     Gate
	failFast bool
	once     bool               // one look: say what is, without waiting for a settled state
	version  woodpecker.Version // of the server
	timeout  time.Duration      // the repository's limit; 0: unknown
	memory   memory             // this reading included
	now      time.Time          // by this machine's clock, as memory
	server   time.Time          // by the server's, which dates rows
}

// decision is what a reading means.
type decision struct {
	final   bool
	verdict Verdict
	reason  string
	hint    Hint
	failed  []woodpecker.Workflow // the workflows behind a red verdict
	again   time.Duration         // not final: read again after this; 0: by the usual schedule
	note    string                // not final: worth saying once; reason: what stands against an end
	// ended: not a pass, so a restart or a successor may carry on.
	ended bool
}

const (
	settleTime  = 10 * time.Second // how long a contradiction may last
	settlePause = time.Second      // between readings of it
	killedPause = 2 * time.Second  // a cancelled row is read again after this
	neverClosed = 60 * time.Second // all workflows ended, the pipeline not: the server forgot it
)

// decide says what a reading means. It is a function of its argument alone,
// and every status the server can write has its row here.
func decide(r reading) decision {
	switch r.row.Status {
	case woodpecker.Success, woodpecker.Failure:
		return decideEnded(r)
	case woodpecker.Error:
		return decideError(r)
	case woodpecker.Declined:
		by := "a person"
		if r.row.ReviewedBy != "" {
			by = r.row.ReviewedBy
		}
		d := final(Declined, "declined by "+by, Hint{})
		d.ended = true
		return d
	case woodpecker.Blocked:
		if len(r.row.Workflows) == 0 && r.memory.readings < 2 && !r.once {
			return decision{again: settlePause}
		}
		return final(Blocked, "waits for approval", Hint{Advice: Approve})
	case woodpecker.Killed, woodpecker.Canceled:
		return decideKilled(r)
	case woodpecker.Skipped:
		return final(Absent, "the server skipped it: nothing ran", Hint{Advice: RunBranch, Branch: r.row.Branch})
	case woodpecker.Created, woodpecker.Pending, woodpecker.Running:
		return decideActive(r)
	}
	return decision{note: fmt.Sprintf("the server calls the pipeline %q, a status this version does not know; waiting on", r.row.Status)}
}

func final(v Verdict, reason string, h Hint) decision {
	return decision{final: true, verdict: v, reason: reason, hint: h}
}

// settled says whether a contradictory reading has lasted long enough to be
// taken as it is.
func (r reading) settled() bool { return r.once || r.now.Sub(r.memory.since) >= settleTime }

// decideEnded judges success and failure: final when every workflow of the
// same answer has ended and none contradicts it. Where only some workflows
// count, those are enough.
func decideEnded(r reading) decision {
	flows, passed := r.row.Workflows, r.row.Status == woodpecker.Success
	gated := r.gate.gated(flows)
	red := bad(gated)
	if d, ok := gateMisfit(r); ok {
		return d
	}
	if !allEnded(flows) && (!r.gate.Named() || !allEnded(gated)) {
		switch {
		case !r.settled():
			return decision{again: settlePause}
		case len(flows) == 0 && r.gate.Named():
			return final(Absent, "the server lists no workflows, so none that counts ran", Hint{Advice: TryStatus})
		case len(flows) == 0 && passed:
			// A pass of nothing is none: the row waits for its workflows.
			return decision{
				verdict: Running,
				note:    "the server calls the pipeline success, but lists no workflows; waiting on",
				reason:  "the server says success, but lists no workflows",
			}
		case len(red) == 0 && (passed || r.gate.Named()):
			// Green only when every workflow that counts was seen to end. The
			// watch goes on; a verdict that never comes is told as unknown.
			return decision{
				verdict: Running,
				note:    fmt.Sprintf("the server calls the pipeline %s, but these have not ended: %s", r.row.Status, names(unended(gated, flows))),
				reason:  fmt.Sprintf("the server says %s, but %s has not ended", r.row.Status, names(unended(gated, flows))),
			}
		}
	}
	if passed {
		if len(red) == 0 {
			return green(r)
		}
		if !r.settled() {
			return decision{again: settlePause}
		}
		d := failed(r, red)
		d.reason = "the server says success, but " + d.reason
		return d
	}
	if r.gate.Named() && len(red) == 0 {
		if d, ok := skippedByFailure(r, gated); ok {
			return d
		}
		if others := bad(flows); len(others) > 0 {
			return final(Success, fmt.Sprintf("%s passed; others failed: %s", names(gated), names(others)), Hint{})
		}
		return final(Success, names(gated)+" passed; the server calls the whole pipeline failure", Hint{})
	}
	if len(red) == 0 && !r.settled() {
		return decision{again: settlePause}
	}
	return failed(r, red)
}

// skippedByFailure: a workflow that counts and was skipped in a pipeline that
// failed did not run because of that.
func skippedByFailure(r reading, gated []woodpecker.Workflow) (decision, bool) {
	skipped := skippedOf(gated)
	if len(skipped) == 0 {
		return decision{}, false
	}
	d := failed(r, bad(r.row.Workflows))
	d.reason = fmt.Sprintf("%s was skipped because the pipeline failed: %s", names(skipped), d.reason)
	return d, true
}

func unended(gated, all []woodpecker.Workflow) []woodpecker.Workflow {
	var out []woodpecker.Workflow
	for _, list := range [][]woodpecker.Workflow{gated, all} {
		for _, w := range list {
			if !over(w) {
				out = append(out, w)
			}
		}
		if len(out) > 0 {
			break
		}
	}
	return out
}

func skippedOf(flows []woodpecker.Workflow) []woodpecker.Workflow {
	var out []woodpecker.Workflow
	for _, w := range flows {
		if w.State == woodpecker.Skipped {
			out = append(out, w)
		}
	}
	return out
}

// gateMisfit judges a gate that the tree cannot satisfy: a name that is not in
// it, nothing left, or all of it skipped although the pipeline did not fail.
func gateMisfit(r reading) (decision, bool) {
	flows := r.row.Workflows
	if !r.gate.Named() || len(flows) == 0 {
		return decision{}, false
	}
	if missing := r.gate.unknownNames(flows); len(missing) > 0 {
		return final(Absent, fmt.Sprintf("no workflow is called %s; there are: %s", strings.Join(missing, ", "), names(flows)),
			Hint{Advice: TryStatus}), true
	}
	gated := r.gate.gated(flows)
	if len(gated) == 0 {
		return final(Absent, "no workflow is left to count; there are: "+names(flows), Hint{Advice: TryStatus}), true
	}
	if r.row.Status == woodpecker.Success && len(skippedOf(gated)) == len(gated) {
		return final(Absent, names(gated)+" was skipped: nothing that counts ran", Hint{Advice: TryStatus}), true
	}
	return decision{}, false
}

// green words a pass.
func green(r reading) decision {
	flows := r.gate.gated(r.row.Workflows)
	if len(flows) > 0 && len(skippedOf(flows)) == len(flows) {
		return final(Success, "passed, but nothing ran", Hint{})
	}
	parts := []string{"passed in " + took(r.row)}
	if n := ignored(flows); n > 0 {
		parts = append(parts, count(n, "ignored failure"))
	}
	n := 0
	for _, e := range r.row.Errors {
		if e.IsWarning {
			n++
		}
	}
	if n > 0 {
		parts = append(parts, count(n, "warning"))
	}
	if len(parts) == 1 {
		return final(Success, parts[0], Hint{})
	}
	return final(Success, parts[0]+"; "+strings.Join(parts[1:], ", "), Hint{})
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// failed words a red verdict of these workflows.
func failed(r reading, red []woodpecker.Workflow) decision {
	d := final(Failure, "the pipeline failed", Hint{Advice: SeeLogs})
	d.failed, d.ended = red, true
	steps := failing(red, 10)
	switch {
	case len(steps) > 0:
		s := steps[0]
		d.reason = fmt.Sprintf("step %s of workflow %s %s", s.Step, s.Workflow, s.cause())
		if len(steps) > 1 {
			d.reason += fmt.Sprintf(" (and %s)", count(len(steps)-1, "more failed step"))
		}
		d.hint.Step = s.Address()
	case len(red) > 0 && red[0].Error != "":
		d.reason = fmt.Sprintf("workflow %s failed: %s", red[0].Name, red[0].Error)
	case len(red) > 0:
		d.reason = fmt.Sprintf("workflow %s ended as %s", red[0].Name, red[0].State)
	default:
		if e := firstError(r.row); e != "" {
			d.reason = "the pipeline failed: " + e
		}
	}
	return d
}

// cause words how a step ended.
func (s FailedStep) cause() string {
	switch {
	case s.killed:
		return "was killed"
	case s.ExitCode != 0:
		return fmt.Sprintf("exited with %d", s.ExitCode)
	case s.Error != "":
		return "failed: " + s.Error
	}
	return "failed"
}

// Address names the step for "ci logs --step".
func (s FailedStep) Address() string { return s.Workflow + "/" + s.Step }

func firstError(row woodpecker.Pipeline) string {
	for _, e := range row.Errors {
		if !e.IsWarning {
			return e.Message
		}
	}
	return ""
}

func decideError(r reading) decision {
	first := firstError(r.row)
	if first == "" && r.memory.readings < 2 && !r.once {
		return decision{again: settlePause}
	}
	d := final(Errored, first, Hint{})
	d.ended = true
	switch {
	case strings.Contains(first, "could not load config from forge"):
		d.reason = "the server could not fetch the pipeline file from the forge, which is not the commit's fault: " + first
		d.hint = Hint{Advice: RunBranch, Branch: r.row.Branch}
	case strings.Contains(first, "pipeline definition not found"):
		d.reason = "a restart of a pipeline whose file the server never stored: " + first
		d.hint = Hint{Advice: RunBranch, Branch: r.row.Branch}
	case first == "":
		d.reason = "the server gives no reason"
		if red := bad(r.row.Workflows); len(red) > 0 {
			d.reason = failed(r, red).reason
		}
		d.hint = Hint{Advice: SeePage}
		d.failed = bad(r.row.Workflows)
	}
	return d
}

// decideKilled judges a cancelled row. Before 3.14 such a row could still turn
// into success or failure seconds later, and steps go on stopping anyway.
func decideKilled(r reading) decision {
	age := r.now.Sub(r.memory.since)
	if !r.once {
		if r.memory.readings < 2 || age < killedPause {
			return decision{again: killedPause}
		}
		if !r.version.AtLeast("3.14.0") && len(r.row.Workflows) > 0 && !allEnded(r.row.Workflows) && age < settleTime {
			return decision{again: killedPause}
		}
	}
	row := r.row
	d := final(Canceled, "", Hint{Advice: Rerun})
	d.ended = true
	switch c := row.Cancel; {
	case c != nil && supersededBy(row) > 0:
		d.verdict = Superseded
		d.reason = fmt.Sprintf("superseded by #%d", c.By)
		d.hint = Hint{Advice: WatchRow, Number: c.By}
	case c != nil && c.ByStep != "":
		d.reason = "cancelled by step " + c.ByStep
		for _, w := range row.Workflows {
			for _, s := range w.Steps {
				if s.Name == c.ByStep && (s.State == woodpecker.Failure || s.State == woodpecker.Error) {
					if !w.State.Bad() {
						w.State = woodpecker.Killed // it is on its way there
					}
					f := failed(r, []woodpecker.Workflow{w})
					f.verdict, f.reason = Failure, fmt.Sprintf("step %s of workflow %s failed and cancelled the rest", s.Name, w.Name)
					f.hint = Hint{Advice: SeeLogs, Step: w.Name + "/" + s.Name}
					return f
				}
			}
		}
	case c != nil && c.ByUser != "":
		d.reason = "cancelled by " + c.ByUser
	case row.Status == woodpecker.Killed && r.timeout > 0 && ran(row) >= r.timeout:
		d.reason = fmt.Sprintf("hit the repository's limit of %d min", int(r.timeout/time.Minute))
	case row.Status == woodpecker.Canceled:
		d.reason = "cancelled before it started"
	default:
		d.reason = "the agent was lost, or somebody cancelled it"
	}
	return d
}

// supersededBy returns the successor of a cancelled row, 0 for none. A restart
// inherits its origin's entry, which names a number below its own.
func supersededBy(row woodpecker.Pipeline) int64 {
	if row.Cancel == nil || row.Cancel.By <= row.Number {
		return 0
	}
	return row.Cancel.By
}

func decideActive(r reading) decision {
	flows := r.row.Workflows
	if d, ok := gateMisfit(r); ok {
		return d
	}
	gated := r.gate.gated(flows)
	red := bad(gated)
	if r.failFast && len(red) > 0 {
		d := failed(r, red)
		d.ended = false // the pipeline goes on: nothing has taken its place
		d.reason += "; the pipeline is still " + string(r.row.Status)
		return d
	}
	if r.gate.Named() && allEnded(gated) {
		skipped := skippedOf(gated)
		switch {
		case len(red) > 0:
			d := failed(r, red)
			d.ended = false
			return d
		case len(skipped) == 0:
			return final(Success, names(gated)+" passed; the pipeline is still "+string(r.row.Status), Hint{})
		}
		// Skipped because something failed, or because nothing was to be done:
		// only the pipeline's end tells.
	}
	if allEnded(flows) && !r.once && !r.memory.endedSince.IsZero() && r.now.Sub(r.memory.endedSince) >= neverClosed {
		closing := "; the server never closed the pipeline, this is what its workflows say"
		if len(red) > 0 {
			d := failed(r, red)
			d.reason += closing
			return d
		}
		if r.gate.Named() && len(bad(flows)) > 0 {
			if d, ok := skippedByFailure(r, gated); ok {
				d.reason += closing
				return d
			}
		}
		if r.gate.Named() && len(skippedOf(gated)) == len(gated) {
			return final(Absent, names(gated)+" was skipped"+closing, Hint{Advice: TryStatus})
		}
		d := green(r)
		d.reason += closing
		return d
	}
	if r.once {
		v := Running
		if r.row.Status != woodpecker.Running {
			v = Pending
		}
		return final(v, progress(r.row, r.server), Hint{Advice: WatchRow})
	}
	return decision{}
}

// progress words what an active row is doing.
func progress(row woodpecker.Pipeline, now time.Time) string {
	for _, w := range row.Workflows {
		for _, s := range w.Steps {
			if s.State == woodpecker.Running && s.Started > 0 {
				return fmt.Sprintf("step %s of workflow %s since %s", s.Name, w.Name, span(now.Sub(woodpecker.Moment(s.Started))))
			}
		}
	}
	switch {
	case row.Status == woodpecker.Running && row.Started > 0:
		return "running since " + span(now.Sub(woodpecker.Moment(row.Started)))
	case row.Created > 0:
		return fmt.Sprintf("%s since %s", row.Status, span(now.Sub(woodpecker.Moment(row.Created))))
	}
	return string(row.Status)
}

// ran is how long a row ran by the server's clock; 0 when it does not say.
func ran(row woodpecker.Pipeline) time.Duration {
	if row.Started == 0 || row.Finished < row.Started {
		return 0
	}
	return time.Duration(row.Finished-row.Started) * time.Second
}

func took(row woodpecker.Pipeline) string { return span(ran(row)) }
