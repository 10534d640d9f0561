// Package workload is how verbs show what a wait for workloads came to: as a
// live view, as plain lines, and as the JSON that every such result has.
package workload

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

// Target is one workload's end, as JSON shows it.
type Target struct {
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

	Took time.Duration `json:"-"`
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

// View returns a target's verdict as JSON shows it.
func View(context string, t Ref, v rollout.Verdict, kind fault.Kind, next string, took time.Duration) Target {
	out := Target{
		Target:  targetJSON{context, t.Kind, t.Namespace, t.Name},
		Verdict: v.Outcome, ExitCode: kind.Code(), Reason: ui.Clean(v.Sentence), Next: ui.NextCommand(next),
		Expected: viewExpected(v.Expected), MatchedBy: orNull(v.MatchedBy), Phase: v.Phase, Verified: v.Verified,
		Image: orNull(v.Image), Warnings: []string{}, Took: took,
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
