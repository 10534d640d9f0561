package artifact

import (
	"time"

	"homelab/pkg/fault"
)

// What is what happened.
type What string

// Everything that can happen to a watch.
const (
	// Begin is the first input of a process: memory has been read, the lock is
	// held.
	Begin What = "begin"
	// Tick is time passing: due at State.Wake, harmless at any other time.
	Tick What = "tick"
	// Result is the end of an effect that carried Op; Do and Op repeat its.
	Result What = "result"
	// Saw is an observation the target made by itself (a watch on its objects).
	Saw What = "saw"
	// Ask is a hint or an operator's verb: Request.
	Ask What = "ask"
	// Left: whoever made Request.ID no longer waits. It undoes nothing.
	Left What = "left"
	// Stop is a signal: Kind is fault.Interrupted or fault.Terminated.
	Stop What = "stop"
	// LostLock: the lock or lease is somebody else's.
	LostLock What = "lost_lock"
)

// Input is one thing that happened. Only the fields its What and Do name are
// read.
type Input struct {
	What What
	// Dice is a random number in [0, 1) that spreads delays; 0.5 is the middle.
	Dice float64

	Do  Do    // Result
	Op  int64 // Result
	Err error // Result: nil it worked

	Look        Look          // of DoLook
	Age         time.Duration // of DoLook: how long ago another watch was told this; 0: just now
	Observation Observation   // of DoObserve, and Saw
	Stage       Stage         // of DoStage
	Proofs      Proofs        // of DoVerify; the hash needs no saying
	Ready       Readiness     // of DoProbe and DoCheck
	Probes      []ProbeResult // of DoProbe, DoCheck and DoBaseline
	Evidence    []string      // of DoActivate and DoRollback: the hook's last output

	Request Request    // Ask, Left
	Kind    fault.Kind // Stop
}

// Verb is what a request wants.
type Verb string

// The verbs.
const (
	Hint          Verb = "hint" // look now: hint, poke, single run
	PauseVerb     Verb = "pause"
	ResumeVerb    Verb = "resume"
	RetryVerb     Verb = "retry"
	RollbackVerb  Verb = "rollback"
	VerbNoRequest Verb = "" // the zero Request
)

// Request is what somebody asked of a watch. It has no say in what is
// deployed: Expect is what to look out for.
type Request struct {
	ID   int64 // the runner's, unique; from 1
	Verb Verb

	Expect Expectation
	// Wait is how long to wait for Expect to be offered, or without one for
	// anything newer; 0: one look decides.
	Wait time.Duration
	// Detached: nobody waits for a Reply. The expectation still makes the watch
	// look often, for ten minutes.
	Detached bool
	// UntilSoak: the reply is given when soaking begins.
	UntilSoak bool

	Until  time.Time // of a pause; zero: until resume
	Reason string    // of a pause
	Target ID        // of retry and rollback; "": the obvious one

	// What the watch notes of it.
	at       time.Time
	since    int64 // looks with a higher number count
	looked   bool  // a look that counts succeeded
	offered  bool  // the expected artifact was on offer
	halfway  bool  // half of the wait was told to the source
	ended    bool  // the end of the wait was told to the source
	follows  int   // the attempt whose outcome is the reply; 0 none
	standing Standing
	reason   string
	by       ID
	checks   int // 0 the probes were not asked; else 1 + failures in a row
}

// Do is what is to be done.
type Do string

// Everything a watch can want done. The first group runs beside the loop and
// ends in a Result; the second is done at once, in order, before anything of
// the first group that follows it: a Write is on disk before the side effect it
// announces begins.
const (
	DoLook     Do = "look"     // Source.Look(Query)
	DoObserve  Do = "observe"  // Target.Observe(Known)
	DoFetch    Do = "fetch"    // Source.Fetch(Switch.To) into the store
	DoVerify   Do = "verify"   // hash Switch.To's stored file again; with Prove, further proofs
	DoStage    Do = "stage"    // Target.Stage(Switch), and the way back is hashed
	DoBaseline Do = "baseline" // Prober.Probe(what runs, baseline)
	// Right before DoActivate and DoRollback touch a file, the stored Switch.To is
	// hashed once more; if it is wrong, they have Failed.
	DoActivate Do = "activate" // Target.Activate(Switch)
	DoProbe    Do = "probe"    // Target.Ready(Switch), then Prober.Probe(Switch.To)
	DoCheck    Do = "check"    // the same of what runs already; nothing changes
	DoRollback Do = "rollback" // Target.Rollback(Switch)

	Write   Do = "write"   // append Line, fsync; then state.json from Memory
	Tell    Do = "tell"    // Event
	Reply   Do = "reply"   // Outcome to Request
	Cancel  Do = "cancel"  // end effect Op, and wait for its end before the next of its group
	Discard Do = "discard" // delete ID's file from the store: it is not what it was said to be
	Prune   Do = "prune"   // delete all but Keep from the store
	After   Do = "after"   // run --after-rollback; nothing waits for it but End
	End     Do = "end"     // the loop ends with Outcome
)

// Effect is one thing to be done. Only the fields its Do names are set.
type Effect struct {
	Do Do
	Op int64 // to repeat in the Result; 0 there is none

	Query  Query
	Known  []ID
	Switch Switch
	Prove  bool // of DoVerify: it is new here; what was live before was proved then

	Line    Line
	Event   Event
	Request int64
	Outcome Outcome
	ID      ID
	Keep    []ID
}

// EventType is the type of an event of the story.
type EventType string

// The types of events.
const (
	SourceEvent    EventType = "source"
	CandidateEvent EventType = "candidate"
	StateEvent     EventType = "state"
	FetchEvent     EventType = "fetch"
	VerifyEvent    EventType = "verify"
	HookEvent      EventType = "hook"
	ProbeEvent     EventType = "probe"
	HeldEvent      EventType = "held"
	SkippedEvent   EventType = "skipped"
	RollbackEvent  EventType = "rollback"
	TroubleEvent   EventType = "trouble"
	RecoveredEvent EventType = "recovered"
	HeartbeatEvent EventType = "heartbeat"
	NoteEvent      EventType = "note"
	OutcomeEvent   EventType = "outcome"
	ResultEvent    EventType = "result"
)

// Event is one line of the story.
type Event struct {
	Seq     int64
	Time    time.Time
	Type    EventType
	State   Phase
	ID      ID
	Text    string // one line for people
	Warning bool   // belongs into the result's warnings
	Outcome *Outcome
	Probes  []ProbeResult
}
