package artifact

import "time"

// Config is what a watch was told, by flags or a watches file. Build one from
// Defaults: a zero duration is not a default but zero.
type Config struct {
	Name string
	Run  string // of this process; for events and hooks
	Kind Kind   // what the source offers and the target takes

	Once bool // end with the first request's answer
	// Timeout ends everything before the switch, and fails the probes after it;
	// 0 never. Counted from the first input.
	Timeout time.Duration

	Interval   time.Duration // between looks
	FirstLook  time.Duration // before the first one: many watches do not look at once
	StaleAfter time.Duration // alarm without a good look; 0 never

	Initial Initial
	OnDrift OnDrift
	// AllowDowngrade lets each id through once more in this invocation, even if
	// it is older or was activated before.
	AllowDowngrade bool
	// NoRollback: no way back is needed, and none is taken.
	NoRollback            bool
	TakeOwnership         bool
	AllowRepositoryChange bool
	// Idempotent: activating the same id again after an interruption is right.
	Idempotent bool
	// Blind: the target cannot be observed and a single run goes on without.
	Blind bool

	Windows []Hours       // when switches may begin; none: always
	MinAge  time.Duration // 0 none
	MaxAge  time.Duration // 0 none
	// ReproduceWait is how long after its first sight a candidate may wait for
	// others to rebuild it, before it is held.
	ReproduceWait time.Duration

	ActivateTimeout time.Duration
	ReadyTimeout    time.Duration // probes must have passed by then
	Soak            time.Duration
	Grace           time.Duration // for a running hook after a signal

	Probes   int // configured; 0: health stays unknown unless the target proves it
	Baseline int // of them without placeholders
	Keep     int // versions kept in the store
}

// Initial is what a first start does with what runs already.
type Initial string

// What a first start can do.
const (
	AdoptFirst  Initial = "adopt"
	DeployFirst Initial = "deploy"
)

// OnDrift is what is done when somebody else changed what runs.
type OnDrift string

// What can be done about drift.
const (
	HoldDrift    OnDrift = "hold"
	AdoptDrift   OnDrift = "adopt"
	EnforceDrift OnDrift = "enforce"
)

// Defaults returns the defaults of every flag. The soak of a single run
// without a daemon is OnceSoak instead.
func Defaults() Config {
	return Config{
		Interval: 30 * time.Second, StaleAfter: time.Hour,
		Initial: AdoptFirst, OnDrift: HoldDrift,
		ActivateTimeout: 120 * time.Second, ReadyTimeout: 120 * time.Second,
		Soak: 60 * time.Second, Grace: 30 * time.Second,
		Keep: 3,
	}
}

// OnceSoak is the soak of a single run that has no daemon to soak on.
const OnceSoak = 5 * time.Second

// The times nobody can set.
const (
	observeEvery   = 5 * time.Minute
	blindInterval  = 5 * time.Minute // without validators
	soakEvery      = 5 * time.Second
	hotFirst       = 2 * time.Second // for hotBrief, then hotThen, at most hotMost per cause
	hotThen        = 5 * time.Second
	hotBrief       = time.Minute
	hotMost        = 10 * time.Minute
	expectFirst    = time.Second // a single run that waits for an artifact; for expectBrief
	expectThen     = 5 * time.Second
	expectBrief    = 30 * time.Second
	retryOnce      = time.Second
	backoffMost    = 15 * time.Minute
	limitedLeast   = time.Minute     // after a 429
	limitedSpread  = 5 * time.Second // over which the watches of a host come back after one
	firstAge       = 5 * time.Second // of an answer that does for a first look
	hintBurst      = 3
	hintEvery      = 2 * time.Second
	unheardAfter   = 2 * time.Second  // at the start
	troubleAfter   = 10 * time.Minute // and troubleLooks failures
	troubleLooks   = 3
	probeFirst     = time.Second
	passesNeeded   = 3
	failsAllowed   = 2               // in a row while soaking
	liarGrace      = 5 * time.Second // a target that took an artifact still shows the old one
	heldAgain      = time.Minute     // a hold of the target's is asked about again
	mostRequests   = 32
	mostTried      = 2000
	mostQuarantine = 500
	mostEvidence   = 5       // quarantine entries that keep their evidence
	evidenceSize   = 4 << 10 // bytes each
	evidenceItems  = 16
)

// probeDelay is how long after probe n (from 0, the activation itself) the next
// is due: 1, 1, 1, 2, 3, 3, 4, 5, 5 … seconds.
func probeDelay(n int) time.Duration {
	steps := [...]int{1, 1, 1, 2, 3, 3, 4, 5}
	return time.Duration(steps[min(n, len(steps)-1)]) * time.Second
}
