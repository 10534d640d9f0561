package artifact

import (
	"time"

	"homelab/pkg/fault"
)

// Health is what probes said of what runs. "unknown" without any.
type Health string

// What can be known of health.
const (
	HealthUnknown Health = "unknown"
	Healthy       Health = "healthy"
	Unhealthy     Health = "unhealthy"
)

// Verdict is the word a result ends in: live, current or ready where all is
// well, else the name of the exit code.
type Verdict string

// The verdicts of a good end.
const (
	VerdictLive    Verdict = "live"    // this run brought it and proved it
	VerdictCurrent Verdict = "current" // nothing newer, or the expected runs
	VerdictReady   Verdict = "ready"   // a deployment would be possible
)

// Outcome is how a request, or a deployment, ended.
type Outcome struct {
	Kind    fault.Kind `json:"-"`
	Verdict Verdict    `json:"verdict"`
	Reason  string     `json:"reason"`        // a sentence
	Why     Why        `json:"why,omitempty"` // what holds, if something does

	State        string        `json:"state"`
	Attempt      int           `json:"attempt,omitempty"` // 0: nothing was activated
	By           Cause         `json:"by,omitempty"`
	Expected     string        `json:"expected,omitempty"`
	Candidate    *Candidate    `json:"candidate,omitempty"`
	Running      *Version      `json:"running,omitempty"`
	Previous     *Version      `json:"previous,omitempty"`
	Verified     *Proofs       `json:"verified,omitempty"` // of Candidate, before it was activated
	Health       Health        `json:"health,omitempty"`
	Probes       []ProbeResult `json:"probes,omitempty"`
	Rollback     *Rollback     `json:"rollback,omitempty"`
	SupersededBy ID            `json:"superseded_by,omitempty"`
	Owner        string        `json:"owner,omitempty"`
	Warnings     []string      `json:"warnings,omitempty"`
	Evidence     []string      `json:"evidence,omitempty"`
	Started      time.Time     `json:"started,omitzero"`
	Ended        time.Time     `json:"ended,omitzero"`
}

// Rollback is what was done about a failure.
type Rollback struct {
	Done   bool   `json:"done"`
	To     ID     `json:"to,omitempty"`
	Reason string `json:"reason"` // why it was done, or was not
}
