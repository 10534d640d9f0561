// Package run turns the decisions of package artifact into deeds. One goroutine
// decides: it hands what happened to artifact.Next, puts each line on disk,
// and starts what is to be done beside itself, with a deadline. It decides
// nothing of its own but this: where a line cannot be written nothing after it
// begins.
//
// Around that loop stand the ways to reach a watch: the socket in its state
// directory, which steers it; the HTTP listener, where anyone may say "look
// now" and follow what happens; and the service manager.
package run

import (
	"context"
	"net"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/notify"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

// Options is one watch and what it works with. Nothing is opened or contacted
// before Daemon, Once or Check is called.
type Options struct {
	Place  Place
	Config artifact.Config // Once is set by the call; Probes and Baseline by Prober, if 0
	Source artifact.Source
	Target artifact.Target // may be a Seer too
	Prober artifact.Prober // nil: no probes
	Desk   *Desk           // nil: the target needs nothing of its watch
	Prover Prover          // nil: a hash is proof enough

	// From, To and Policy tell whether two processes mean the same watch: the
	// canonical source, target and everything else that decides. They are
	// compared byte for byte.
	From, To, Policy string

	// Lease keeps processes on other machines from acting at the same time; nil:
	// the lock in the state directory is all.
	Lease Lease

	MaxSize int64 // bytes of an artifact that announces none; 0: 2 GiB

	// Events gets the story, in order, from one goroutine. One that blocks
	// misses events; it never holds the watch up. nil: nobody listens.
	Events func(Event)
	// Heartbeat is the longest silence, after which an event says so; 0 any.
	Heartbeat time.Duration
	// Advise is the next command for an outcome, "" none; nil: none ever.
	Advise func(artifact.Outcome) string
	// AfterRollback is told of a rollback that succeeded; nil: nobody is.
	AfterRollback func(ctx context.Context, s artifact.Switch) error

	// Receivers are told what becomes of the watch. None of them holds it up.
	Receivers []notify.Receiver

	// NeedObserve: a daemon whose target cannot tell what it runs, the very
	// first time it is asked, is a usage error.
	NeedObserve bool

	Listen *Listen // nil: no HTTP. Daemon only
	Notify Notify  // zero: no service manager. Daemon only

	// Signals delivers each further signal; the end of the call's context is
	// one too. The first ends what has not begun and leaves a running hook its
	// grace, the second ends everything. nil: the context alone.
	Signals <-chan fault.Kind
	// Reload delivers what a watches file says now. All but Place, Config.Name,
	// Config.Run, Events, Heartbeat, Lease, Listen, Notify and the channels is taken
	// over, as soon as no deployment is in progress. Daemon only; nil: never.
	Reload <-chan Options

	Now  func() time.Time // nil: time.Now
	Dice func() float64   // in [0, 1); nil: random

	wrote func(artifact.Line) // each line that is on disk; for tests that crash
}

// Prover proves more of a new file than its hash. path is where its bytes are,
// "" if they were not fetched, as in a check. Errors are as those of a source;
// Hold with artifact.Unreproduced waits for as long as Config.ReproduceWait.
type Prover interface {
	Prove(ctx context.Context, c artifact.Candidate, path string) (artifact.Proofs, error)
}

// Listen is where hints come in and the story goes out.
type Listen struct {
	Addr     string           // HOST:PORT
	Listener net.Listener     // used instead of Addr, if set
	Token    transport.Secret // asked for beyond loopback, for all but plain hints
}

// Notify is the service manager's socket.
type Notify struct {
	Socket   string        // a path, or "@" and an abstract name; "" there is none
	Watchdog time.Duration // it wants a sign of life this often; 0 never
}

// Seer is a target that notices by itself when what runs changes. Watch
// returns when ctx ends; if it does before, it is called again after a while,
// unless the error is an *artifact.Failure with Denied.
type Seer interface {
	Watch(ctx context.Context, saw func(artifact.Observation)) error
}

// Result is how a call ended.
type Result struct {
	Outcome artifact.Outcome // its Kind is the exit code
	Report  artifact.Report
	Handed  bool // a daemon did it
	Elapsed time.Duration
}
