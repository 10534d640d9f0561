package artifact

import (
	"context"
	"time"
)

// Target is what artifacts are deployed to. One call at a time; each may block
// up to its ctx, whose deadline is the runner's. Side effects happen in
// Activate and Rollback only. Errors are *Failure or ctx's cause.
type Target interface {
	// Observe asks what runs. known are the ids this watch deals with: a target
	// that recognises one of them under another name (the digest of an index
	// and of its child) answers with the known one. A rollout in progress runs
	// what it leads to. The error is Transient, Denied, or Absent for a workload
	// that does not exist; a target that answers "I cannot tell" is no error but
	// Unknown.
	Observe(ctx context.Context, known []ID) (Observation, error)
	// Stage is the preflight: it changes nothing that runs. It proves that
	// Activate would be permitted and that the way back is there and whole.
	// Hold with NoWayBack, Repository, WorkloadHeld or Preflight; Owned; Absent;
	// Denied; Transient.
	Stage(ctx context.Context, s Switch) (Stage, error)
	// Activate makes the target run s.To. It returns when the target has taken
	// it, not when it is healthy. Later, Owned, Hold, Absent and Denied promise
	// that nothing was changed. After anything else Observe decides.
	Activate(ctx context.Context, s Switch) error
	// Ready tells once, without waiting long, how s.To comes up. Before the
	// probes are asked it must say IsReady. A target without an opinion says
	// IsReady without Proof.
	Ready(ctx context.Context, s Switch) (Readiness, error)
	// Rollback makes the target run s.To again, which here is the version that
	// ran before and is stored; s.From is the one that failed.
	Rollback(ctx context.Context, s Switch) error
}

// Switch is one replacement of what runs.
type Switch struct {
	Watch    string
	Run      string // of this process
	Attempt  int    // from 1, counted per watch
	Deadline time.Time
	To       Candidate
	ToPath   string // To's file in the store; "" not a file
	From     *Version
	FromPath string // From's file in the store; "" none
	// Back is set in a rollback, automatic or by hand.
	Back bool
	// TakeOwnership, AllowRepositoryChange and NoRollback are the person's, for
	// this invocation. NoRollback: go on without a way back.
	TakeOwnership, AllowRepositoryChange, NoRollback bool
	Compare                                          string
}

// Stage is what a preflight found.
type Stage struct {
	Warnings []string
	// Owner is who loses the field with TakeOwnership; "" nobody.
	Owner string
}

// ReadyState is how a switched target comes up.
type ReadyState string

// What a target can say of it.
const (
	IsReady    ReadyState = "ready"
	NotYet     ReadyState = "not_yet"
	NotReady   ReadyState = "failed"     // and never will be: roll back
	Superseded ReadyState = "superseded" // somebody else replaced it: contended
	Suspended  ReadyState = "paused"     // the workload is paused: a person must act
	Gone       ReadyState = "gone"       // the workload was deleted
	Forbidden  ReadyState = "denied"
	NotAsked   ReadyState = "unreachable" // could not be asked: no verdict
)

// Readiness is one look at how s.To comes up.
type Readiness struct {
	State ReadyState
	// Proof: this was really observed (a rollout, a hook); it counts as a probe.
	Proof  bool
	Reason string // one sentence
	Owner  string // with Superseded
	// Evidence is what will be gone after a rollback: cause, log tail. Capped.
	Evidence []string
}

// Prober asks the configured probes, all of them, once.
type Prober interface {
	// Count is how many probes are configured; with baseline those without
	// placeholders.
	Count(baseline bool) int
	// Probe asks them about c, whose id, commit and uuid fill the placeholders.
	// With baseline, those without placeholders only. Its results are in the
	// configured order; a probe that could not be asked has failed.
	Probe(ctx context.Context, c Candidate, baseline bool) []ProbeResult
}

// ProbeResult is one answer of one probe.
type ProbeResult struct {
	Probe    string `json:"probe"` // as configured, for people
	OK       bool   `json:"ok"`
	Attempts int    `json:"attempts"` // filled by the watch
	Detail   string `json:"detail,omitempty"`
	// Answer is the start of what came back, at most 4 KiB, as evidence.
	Answer string `json:"-"`
}
