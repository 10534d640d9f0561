package rollout

import "time"

// Outcome is what a look at a workload says.
type Outcome string

// Every outcome. Pending is the only one that is no end.
const (
	Pending     Outcome = "pending"
	Ready       Outcome = "ready"
	Failed      Outcome = "failed"
	Superseded  Outcome = "superseded"
	Paused      Outcome = "paused"
	Absent      Outcome = "absent"
	Denied      Outcome = "denied"
	Unreachable Outcome = "unreachable"
	Timeout     Outcome = "timeout"
	Interrupted Outcome = "interrupted"
)

// Phase says which part of the conjunction is missing. It is a label: no
// decision rests on it.
type Phase string

// The phases in the order a rollout passes them.
const (
	PhaseImage   Phase = "image"
	PhaseRollout Phase = "rollout"
	PhaseSettle  Phase = "settle"
	PhaseDone    Phase = "done"
)

// Class sorts causes by what they are good for: some end a wait after their
// grace, some never do.
type Class string

// The classes.
const (
	ClassPermanent  Class = "permanent"
	ClassImage      Class = "image"
	ClassConfig     Class = "config"
	ClassAdmission  Class = "admission"
	ClassVolume     Class = "volume"
	ClassCrash      Class = "crash"
	ClassReadiness  Class = "readiness"
	ClassTransient  Class = "transient"
	ClassScheduling Class = "scheduling"
	ClassQuota      Class = "quota"
	ClassController Class = "controller"
	ClassGate       Class = "gate"
)

// Cause is why a rollout is not done: the reason that decided, and the first
// bad container under it.
type Cause struct {
	Class     Class
	Reason    string
	Message   string // as the server has it, cleaned
	Pod       string // "" when no pod is to blame
	Container string
	Node      string
	ExitCode  *int32 // nil when nothing has exited
	Restarts  int32
	LogTail   []string // what the snapshot has of it
}

// Counts are the pods of a workload.
type Counts struct {
	Desired, Updated, Ready, Available int32
	Old                                int32  // of other revisions, not being deleted
	Terminating                        *int32 // nil: unknown
}

// Serving is the image that answers requests now, and on how many pods.
type Serving struct {
	Image string
	Ready int32
	Of    int32  // pods of that revision
	Owner string // its ReplicaSet or revision; "" when unknown
	Old   bool   // it is not the target revision
}

// Writer is who last wrote an image field.
type Writer struct {
	Manager string
	Time    time.Time
}

// WantKind is a kind of thing a verdict would be better with.
type WantKind string

// What a verdict may ask for.
const (
	WantTarget    WantKind = "target"    // one live read, to confirm an end
	WantEvents    WantKind = "events"    // of UID
	WantLog       WantKind = "log"       // of Pod and Container
	WantImage     WantKind = "image"     // what the registry has under Reference
	WantAncestry  WantKind = "ancestry"  // whether Reference names a descendant of the wanted commit
	WantNamespace WantKind = "namespace" // the target's
	WantNode      WantKind = "node"      // called Name
	WantClaim     WantKind = "claim"     // the PersistentVolumeClaim called Name
	WantRevisions WantKind = "revisions" // the target's ControllerRevisions
	WantRemote    WantKind = "remote"    // whether a remote has the wanted commit
)

// Want is one thing to fetch. It is comparable, so that a watcher can keep it
// in a set; only the fields its kind names are set.
type Want struct {
	Kind      WantKind
	UID       string
	Name      string
	Pod       string
	Container string
	Previous  bool // the log of the instance before
	Reference string
}

// Verdict is the answer to one look.
type Verdict struct {
	Outcome  Outcome
	Phase    Phase
	Sentence string   // one line, without the target's name
	Why      []string // what else a reader needs; empty for ready
	Next     string   // one command; "" when there is none, or see Repeat
	// Repeat, when not nil, says that the next command is the user's own, with
	// these flags added.
	Repeat   []string
	Cause    *Cause   // nil when nothing is wrong
	Expected Expected // as asked for, or the newer commit that was followed

	MatchedBy  string   // "" while unmatched
	Containers []string // the gated containers, in template order
	Image      string   // of the first gated container
	Verified   bool     // the running containers were seen to be the expected ones
	Counts     Counts
	Serving    *Serving // nil when unknown
	Writer     *Writer  // nil when unknown
	Warnings   []string // each once

	Fetch []Want
	// Wake is the next instant at which time alone may change the verdict; zero
	// when only news can.
	Wake time.Time
	// Confirmed is true for an end that was judged on a live read of the target.
	// An end that is not confirmed asks for one and is not to be believed yet.
	Confirmed bool
}

// Final reports whether the outcome is an end.
func (v Verdict) Final() bool { return v.Outcome != Pending && v.Outcome != "" }
