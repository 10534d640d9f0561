package deploy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/run"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

const watchKind = "deploy.watch"

// watchResult is what everything that looks, deploys or steers ends in.
type watchResult struct {
	ui.Header
	artifact.Report

	subject string
	took    time.Duration // 0: not worth telling
}

// Text returns the one line of the result.
func (r *watchResult) Text(int, bool) []string {
	reason := r.Reason
	if r.took > 0 {
		reason += " (" + ui.Duration(r.took) + ")"
	}
	next := ""
	if r.Next != nil {
		next = *r.Next
	}
	return []string{ui.ResultLine(r.Verdict, r.subject, reason, next)}
}

// newWatchResult shows how a call ended. Everything foreign was cleaned where
// it came in; it is cleaned again here, as nothing else stands between it and
// a terminal.
func newWatchResult(kind string, o artifact.Outcome, rep artifact.Report, next string) *watchResult {
	r := &watchResult{Report: cleanReport(rep)}
	r.Header = ui.Header{
		Kind: kind, Verdict: string(o.Verdict), ExitCode: o.Kind.Code(), Reason: ui.Clean(o.Reason), Next: ui.NextCommand(ui.Clean(next)),
	}
	if r.Verdict == "" {
		r.Verdict = o.Kind.Name()
	}
	if !strings.HasPrefix(r.Reason, rep.Watch+" ") {
		r.subject = ui.Clean(rep.Watch)
	}
	return r
}

func cleanReport(r artifact.Report) artifact.Report {
	r.From, r.To = ui.Clean(r.From), ui.Clean(r.To)
	clean := func(p *string) *string {
		if p == nil {
			return nil
		}
		c := ui.Clean(*p)
		return &c
	}
	r.Expected, r.Owner = clean(r.Expected), clean(r.Owner)
	r.Probes = append([]artifact.ProbeResult{}, r.Probes...)
	for i := range r.Probes {
		p := &r.Probes[i]
		p.Probe, p.Detail = ui.Clean(p.Probe), ui.Clean(p.Detail)
	}
	r.Warnings = append([]string{}, r.Warnings...)
	for i, w := range r.Warnings {
		r.Warnings[i] = ui.Clean(w)
	}
	r.Quarantined = append([]artifact.ID{}, r.Quarantined...)
	if r.Rollback != nil {
		b := *r.Rollback
		b.Reason = ui.Clean(b.Reason)
		r.Rollback = &b
	}
	if r.Candidate != nil {
		c := *r.Candidate
		c.URL, c.UUID, c.Commit = ui.Clean(c.URL), ui.Clean(c.UUID), ui.Clean(c.Commit)
		r.Candidate = &c
	}
	return r
}

// advice says which command helps after an outcome of the watch name; "" none.
// again is the command that was given, carry what its like must repeat.
func advice(o artifact.Outcome, name, again string, carry []string) string {
	steer := func(words ...string) string {
		return ui.Command(append(append([]string{"homelab", "deploy", "watch"}, words...), carry...)...)
	}
	with := func(flag string) string {
		if again == "" {
			return steer("status", name)
		}
		return again + " " + flag
	}
	switch o.Why {
	case artifact.Paused, artifact.Pinned, artifact.Contended, artifact.Drifted:
		return steer("resume", name)
	case artifact.Quarantined, artifact.Repeated:
		if o.Candidate != nil {
			return steer("retry", name, string(o.Candidate.ID))
		}
		return steer("retry", name)
	case artifact.FirstStart:
		return with("--initial deploy")
	case artifact.Regressed:
		return with("--allow-downgrade")
	case artifact.NoWayBack:
		return with("--no-rollback")
	case artifact.Repository:
		return with("--allow-repository-change")
	case artifact.Owner:
		return with("--take-ownership")
	case artifact.HaltedWhy:
		return steer("history", name)
	case artifact.Window, artifact.TooYoung, artifact.TooOld, artifact.DiskFull, artifact.WorkloadHeld, artifact.Preflight,
		artifact.Unreproduced:
		return steer("status", name)
	}
	switch o.Kind {
	case fault.OK, fault.Usage, fault.Bug, fault.LandedRed:
		return ""
	case fault.Failed, fault.Unsafe:
		return steer("history", name)
	case fault.Absent, fault.Denied, fault.Held, fault.Replaced, fault.Conflict:
		return steer("status", name)
	case fault.Unreachable, fault.Timeout, fault.Interrupted, fault.Terminated:
		return again
	}
	return ""
}

// elsewhere is the next command where that of advice cannot be given: a daemon
// goes by its own flags, and the verbs beside a watch have none of them. ""
// leaves it.
func elsewhere(o artifact.Outcome, name string, carry []string) string {
	words := []string{"homelab", "deploy", "watch"}
	switch o.Why {
	case artifact.FirstStart, artifact.Regressed:
		words = append(words, "retry", name)
		if o.Candidate != nil {
			words = append(words, string(o.Candidate.ID))
		}
	case artifact.NoWayBack, artifact.Repository, artifact.Owner:
		words = append(words, "history", name)
	case artifact.Paused, artifact.Pinned, artifact.Contended, artifact.Drifted, artifact.Quarantined, artifact.Repeated,
		artifact.HaltedWhy, artifact.Window, artifact.TooYoung, artifact.TooOld, artifact.DiskFull, artifact.WorkloadHeld,
		artifact.Preflight, artifact.Unreproduced:
		return ""
	default:
		return ""
	}
	return ui.Command(append(words, carry...)...)
}

// watchStatus is what status ends in: one watch, or all of them.
type watchStatus struct {
	ui.Header
	Watches []run.View `json:"watches"`
}

// Text returns a row for each of several watches, then the line of the result.
func (r *watchStatus) Text(int, bool) []string {
	var out []string
	if len(r.Watches) > 1 {
		var rows [][]ui.Span
		for _, v := range r.Watches {
			rows = append(rows, []ui.Span{ui.T(ui.Strong, v.Watch), ui.T(ui.Plain, stateWord(v.Kind)), ui.T(ui.Plain, sentence(v))})
		}
		for _, l := range ui.Table(rows) {
			out = append(out, "  "+l.Text())
		}
	}
	return append(out, verb.Line(&r.Header, ""))
}

// stateWord is the verdict of a watch that is looked at.
func stateWord(k fault.Kind) string {
	if k == fault.OK {
		return string(artifact.VerdictLive)
	}
	return k.Name()
}

// sentence says how a watch stands.
func sentence(v run.View) string {
	text := "runs nothing"
	if v.Running != nil {
		text = "runs " + v.Running.ID.Short()
	}
	text += ", " + strings.Join(v.States, ", ")
	if v.Candidate != nil && (v.Running == nil || v.Candidate.ID != v.Running.ID) {
		text += "; on offer " + v.Candidate.ID.Short()
	}
	if v.Held != "" && v.Kind != fault.OK {
		text += "; " + v.Held
	}
	text += beside(v)
	if !v.Daemon {
		text += "; no daemon answers"
	}
	return text
}

// worstWatch is the state that decides for several watches: what is unsafe,
// failed or contended before the contract's order.
func worstWatch(kinds []fault.Kind) fault.Kind {
	for _, k := range []fault.Kind{fault.Unsafe, fault.Failed, fault.Conflict} {
		if slices.Contains(kinds, k) {
			return k
		}
	}
	return fault.Worst(kinds...)
}

// watchHistory is what history ends in; its text is the rows themselves.
type watchHistory struct {
	ui.Header
	Watch   string          `json:"watch"`
	Entries []artifact.Line `json:"entries"` // oldest first
}

// Text returns a row for each line, then the line of the result.
func (r *watchHistory) Text(int, bool) []string {
	var out []string
	for _, l := range r.Entries {
		row := fmt.Sprintf("%6d  %s  %-10s  %-12s  %-8s  %s", l.Seq, l.Time.UTC().Format(time.RFC3339), l.Op, l.State, l.ID.Short(), reasonOf(l))
		out = append(out, ui.Clean(strings.TrimRight(row, " ")))
		for _, e := range l.Evidence {
			for _, line := range ui.CleanLines(e) {
				out = append(out, "          | "+line)
			}
		}
	}
	return append(out, verb.Line(&r.Header, r.Watch))
}

func reasonOf(l artifact.Line) string {
	switch {
	case l.Reason != "":
		return l.Reason
	case l.Outcome != nil:
		return string(l.Outcome.Verdict) + ": " + l.Outcome.Reason
	case l.Pause != nil:
		return l.Pause.Reason
	case l.Observation != nil:
		return l.Observation.String()
	case l.Candidate != nil && l.ID == "":
		return "offers " + l.Candidate.ID.Short()
	case l.Version != nil:
		return "runs " + l.Version.ID.Short()
	}
	return ""
}
