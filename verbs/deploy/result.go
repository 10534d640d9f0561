package deploy

import (
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
	"homelab/verbs/verb/workload"
)

// Result is what deploy wait ends in.
type Result struct {
	ui.Header
	Targets []workload.Target `json:"targets"`
}

// Text returns a line per target; one line when the run ended before there
// was any.
func (r *Result) Text(int, bool) []string {
	if len(r.Targets) == 0 {
		next := ""
		if r.Next != nil {
			next = *r.Next
		}
		return []string{ui.ResultLine(r.Verdict, "", r.Reason, next)}
	}
	var out []string
	for _, t := range r.Targets {
		next := ""
		if t.Next != nil {
			next = *t.Next
		}
		name := workload.Ref{Kind: t.Target.Kind, Namespace: t.Target.Namespace, Name: t.Target.Name}.String()
		reason := t.Reason + " (" + ui.Duration(t.Took) + ")"
		if t.Verdict == rollout.Ready {
			out = append(out, ui.ResultLine(string(t.Verdict), "", name+" "+reason, next))
			continue
		}
		out = append(out, ui.ResultLine(string(t.Verdict), name, reason, next))
	}
	return out
}
