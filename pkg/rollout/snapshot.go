package rollout

import "time"

// Sight says how far something could be read. The zero value is "not yet".
type Sight int

// The sights.
const (
	Unread    Sight = iota // not listed yet: wait for it
	Seen                   // listed; the slice may be empty
	Forbidden              // not permitted, or given up: it stays unknown
)

// Snapshot is all that is known at one moment. Slices and maps are only read.
type Snapshot struct {
	Target *Target // nil while unseen or gone
	// Live says that Target was read from the server for this very look, to
	// confirm the end that the look before announced.
	Live bool
	// Missing says why there is no target; nil while that is not known.
	Missing *Missing
	// Refused says that the target may not be read, confirmed by asking again.
	Refused *Refusal

	ReplicaSets     []ReplicaSet
	ReplicaSetSight Sight
	Revisions       []Revision // of DaemonSets; of StatefulSets when asked for
	RevisionSight   Sight
	Pods            []Pod
	PodSight        Sight

	Events    map[string]Events      // by the UID of the involved object
	Nodes     map[string]NodeAnswer  // by name
	Claims    map[string]ClaimAnswer // by name
	Namespace *NamespaceAnswer       // nil while unread
	Logs      map[Want]LogTail       // by the want that asked
	Images    map[string]ImageAnswer // by the reference that was asked for
	Ancestry  map[string]Descent     // by the revision that was asked for
	Remote    *RemoteAnswer          // nil while unknown
	Pipeline  *PipelineFact          // the commit's pipeline, where one is known
	Trouble   Trouble                // with the API server
	Ended     Ended                  // the watch is over, whatever the state
	Memory    Memory
}

// Missing is a confirmed absence of the target.
type Missing struct {
	Deleted   bool   // it was seen before; false: it was never there
	Namespace bool   // the namespace itself does not exist
	NewUID    string // of an object of the same name that replaced it
	// Suggestions name what may have been meant, as NS/KIND/NAME.
	Suggestions []string
}

// Refusal is a confirmed 401 or 403 on the target.
type Refusal struct {
	Code    int    // HTTP status
	Message string // the server's words
	Verb    string // get, list or watch
	// Resource is the plural with its group, such as deployments.apps.
	Resource string
}

// Events is what is known of one object's events. A Forbidden sight means they
// cannot be had.
type Events struct {
	Sight Sight
	Items []Event
	At    time.Time // when they were listed
}

// NodeAnswer is a node as far as it could be read; Sight is never Unread.
type NodeAnswer struct {
	Sight Sight
	Node  Node
	Gone  bool // there is no such node
}

// ClaimAnswer is a claim as far as it could be read; Sight is never Unread.
type ClaimAnswer struct {
	Sight Sight
	Claim Claim
	Gone  bool
}

// NamespaceAnswer is the namespace as far as it could be read.
type NamespaceAnswer struct {
	Sight     Sight
	Namespace Namespace
}

// LogTail is the end of a container's log; Err says why there is none.
type LogTail struct {
	Lines []string
	Err   string
}

// ImageAnswer is what a registry says about one reference. Err is set when it
// could not be asked or refused; then nothing else is known.
type ImageAnswer struct {
	Err       string
	Digest    string   // what the reference resolves to, sha256:...
	Closure   []string // that digest, its children's and their configurations'
	Revisions []string // commits in labels, annotations and attestations; a node's own platform first
}

// Answer is the answer to a question git may not be able to answer.
type Answer int

// The answers. The zero value proves nothing.
const (
	Unproven Answer = iota
	Yes
	No
)

// Descent says whether a revision found on an image descends from the commit
// first asked for; Commit is its full id when git knows it.
type Descent struct {
	Answer Answer
	Commit string
}

// RemoteAnswer says whether the expected commit is anywhere an image could be
// built from. No is given only when it is certain.
type RemoteAnswer struct {
	Answer Answer
	Where  string // such as "any remote" or "origin/main"
}

// PipelineFact is the state of the commit's pipeline.
type PipelineFact struct {
	Number int64
	Failed bool
	Status string
}

// Trouble is the state of the connection to the API server; the zero value is
// none.
type Trouble struct {
	Never        bool      // there has been no good answer yet
	FailingSince time.Time // zero while it answers
	Last         string    // the last error
}

// Ended says why a watch is over.
type Ended int

// The ends of a watch.
const (
	Going Ended = iota
	TimeUp
	BySignal
)

// Match is a way to recognise the expected image.
type Match string

// The ways. MatchAuto tries the others in this order.
const (
	MatchAuto       Match = "auto"
	MatchTag        Match = "tag"
	MatchAnnotation Match = "annotation"
	MatchLabel      Match = "label"
	MatchDigest     Match = "digest"
)

// Expected is what the workload should run. Of Commit and Build either
// will do where both are set, as for a git tag; Image and Digest stand alone or
// add to them.
type Expected struct {
	Commit string // lower-case hex, 4 to 64 digits: full when git knows it
	Typed  int    // digits the user typed; 0 means all of Commit
	Build  string // a build id: a text that is no commit
	Image  string // a reference
	Digest string // sha256:...
	Head   bool   // nobody named the commit: it is the checkout's HEAD
}

// Empty reports whether nothing is expected.
func (e Expected) Empty() bool {
	return e.Commit == "" && e.Build == "" && e.Image == "" && e.Digest == ""
}

// OnDeletePolicy says what an OnDelete strategy with old pods means.
type OnDeletePolicy string

// The policies; the zero value is OnDeleteFail.
const (
	OnDeleteFail OnDeletePolicy = "fail"
	OnDeleteWait OnDeletePolicy = "wait"
)

// Config is what the user asked for. Durations of zero mean the default that
// their comment names.
type Config struct {
	Kind      Kind
	Namespace string
	Name      string

	Expected   Expected
	NoGate     bool // nothing is expected, on purpose
	Match      Match
	Key        string // annotation or label, for MatchAnnotation; "" the usual ones
	Containers []string
	// Images is what each container's template must say, character by character;
	// it is for whoever wrote the template. Nil asks for nothing.
	Images map[string]string
	// ChangedSince gates on a restart or another digest since this instant; zero
	// does not.
	ChangedSince time.Time

	AcceptNewer            bool
	WaitCreate             bool
	FollowRecreate         bool
	RequireRunning         bool
	WaitTerminated         bool
	IgnoreProgressDeadline bool
	IgnoreNotReadyNodes    bool
	OnDelete               OnDeletePolicy
	AllowPartition         bool
	AllowZero              bool
	AllowUnmatchable       bool

	Settle             *time.Duration // nil: 3 s, or 10 s where a gated container has no readiness probe
	ImagePullGrace     time.Duration  // 0: 60 s
	ReadinessGrace     time.Duration  // 0: never fails for it
	UnschedulableGrace time.Duration  // 0: never fails for it
	MaxRestarts        int32          // 0: 3

	Deadline time.Time // when the watch ends; zero never
	// WithPipelines says that a CI server is configured, so that its verbs can
	// be recommended.
	WithPipelines bool
}
