package deploy

import (
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
)

// The JSON shapes below are public: names do not change, golden files pin
// them. A field that is absent is unknown; null means there is none.

type targetJSON struct {
	Context   string       `json:"context"`
	Kind      rollout.Kind `json:"kind"`
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
}

type expectedJSON struct {
	SHA    *string `json:"sha"`
	Image  *string `json:"image"`
	Digest *string `json:"digest"`
}

type replicasJSON struct {
	Desired     int32  `json:"desired"`
	Updated     int32  `json:"updated"`
	Ready       int32  `json:"ready"`
	Available   int32  `json:"available"`
	Old         int32  `json:"old"`
	Terminating *int32 `json:"terminating,omitempty"`
}

type servingJSON struct {
	Image string `json:"image"`
	Ready int32  `json:"ready"`
}

type causeJSON struct {
	Class     rollout.Class `json:"class"`
	Reason    string        `json:"reason"`
	Message   string        `json:"message"`
	Pod       *string       `json:"pod"`
	Container *string       `json:"container"`
	ExitCode  *int32        `json:"exit_code"`
	Restarts  int32         `json:"restarts"`
	LogTail   []string      `json:"log_tail"`
}

type writerJSON struct {
	Manager string     `json:"manager"`
	Time    *time.Time `json:"time"`
}

type outcomeJSON struct {
	Target      targetJSON      `json:"target"`
	Verdict     rollout.Outcome `json:"verdict"`
	ExitCode    int             `json:"exit_code"`
	Reason      string          `json:"reason"`
	Next        *string         `json:"next"`
	Expected    *expectedJSON   `json:"expected"`
	MatchedBy   *string         `json:"matched_by"`
	Phase       rollout.Phase   `json:"phase"`
	Verified    bool            `json:"verified"`
	Replicas    *replicasJSON   `json:"replicas,omitempty"`
	Image       *string         `json:"image"`
	Serving     *servingJSON    `json:"serving,omitempty"`
	Cause       *causeJSON      `json:"cause"`
	ImageWriter *writerJSON     `json:"image_writer"`
	Warnings    []string        `json:"warnings"`

	took time.Duration
}

// Result is what deploy wait ends in.
type Result struct {
	ui.Header
	Targets []outcomeJSON `json:"targets"`
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
		name := ref{t.Target.Kind, t.Target.Namespace, t.Target.Name}.String()
		reason := t.Reason + " (" + ui.Duration(t.took) + ")"
		if t.Verdict == rollout.Ready {
			out = append(out, ui.ResultLine(string(t.Verdict), "", name+" "+reason, next))
			continue
		}
		out = append(out, ui.ResultLine(string(t.Verdict), name, reason, next))
	}
	return out
}

// kindFor maps an outcome to how the run ends. cause tells the signals apart.
func kindFor(o rollout.Outcome, cause error) fault.Kind {
	switch o {
	case rollout.Ready:
		return fault.OK
	case rollout.Failed:
		return fault.Failed
	case rollout.Absent:
		return fault.Absent
	case rollout.Denied:
		return fault.Denied
	case rollout.Paused:
		return fault.Held
	case rollout.Superseded:
		return fault.Replaced
	case rollout.Unreachable:
		return fault.Unreachable
	case rollout.Timeout:
		return fault.Timeout
	case rollout.Interrupted:
		if k := fault.KindOf(cause); k == fault.Terminated {
			return k
		}
		return fault.Interrupted
	case rollout.Pending:
	}
	return fault.Bug
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	s = ui.Clean(s)
	return &s
}

func viewExpected(e rollout.Expected) *expectedJSON {
	if e.Empty() {
		return nil
	}
	sha := e.Commit
	if sha == "" {
		sha = e.Build
	}
	return &expectedJSON{SHA: orNull(sha), Image: orNull(e.Image), Digest: orNull(e.Digest)}
}

// view returns a target's verdict as JSON shows it.
func view(context string, t ref, v rollout.Verdict, kind fault.Kind, next string, took time.Duration) outcomeJSON {
	out := outcomeJSON{
		Target:  targetJSON{context, t.Kind, t.Namespace, t.Name},
		Verdict: v.Outcome, ExitCode: kind.Code(), Reason: ui.Clean(v.Sentence), Next: ui.NextCommand(next),
		Expected: viewExpected(v.Expected), MatchedBy: orNull(v.MatchedBy), Phase: v.Phase, Verified: v.Verified,
		Image: orNull(v.Image), Warnings: []string{}, took: took,
	}
	for _, w := range v.Warnings {
		out.Warnings = append(out.Warnings, ui.Clean(w))
	}
	switch v.Outcome {
	case rollout.Denied, rollout.Unreachable, rollout.Absent: // nothing was counted
	case rollout.Pending, rollout.Ready, rollout.Failed, rollout.Superseded, rollout.Paused, rollout.Timeout, rollout.Interrupted:
		c := v.Counts
		out.Replicas = &replicasJSON{c.Desired, c.Updated, c.Ready, c.Available, c.Old, c.Terminating}
	}
	if v.Serving != nil {
		out.Serving = &servingJSON{ui.Clean(v.Serving.Image), v.Serving.Ready}
	}
	if c := v.Cause; c != nil {
		tail := []string{}
		for _, l := range c.LogTail {
			tail = append(tail, ui.Clean(l))
		}
		out.Cause = &causeJSON{
			Class: c.Class, Reason: ui.Clean(c.Reason), Message: ui.Clean(c.Message), Pod: orNull(c.Pod),
			Container: orNull(c.Container), ExitCode: c.ExitCode, Restarts: c.Restarts, LogTail: tail,
		}
	}
	if w := v.Writer; w != nil {
		out.ImageWriter = &writerJSON{Manager: ui.Clean(w.Manager)}
		if !w.Time.IsZero() {
			at := w.Time.UTC()
			out.ImageWriter.Time = &at
		}
	}
	return out
}
