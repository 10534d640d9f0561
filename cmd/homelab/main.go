// Command homelab carries a commit from "done on my branch" to "green in CI"
// to "running in the cluster", and says exactly where it stopped and why.
package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/poll"
	"homelab/pkg/ui"
)

// version is set when a release is built: -ldflags "-X main.version=1.2.3".
var version = "" // the linker writes it

func main() {
	streams := ui.NewStreams(os.Stdin, os.Stdout, os.Stderr)
	signals := &signals{}
	ctx, stop := withSignals(context.Background(), streams.ErrTTY, signals)
	dir, err := os.Getwd()
	if err != nil {
		dir = "."
	}
	env := config.FromOS()
	config.HideTokens()
	code := run(ctx, os.Args[1:], process{
		streams: streams,
		env:     env,
		dir:     dir,
		version: version,
		name:    os.Args[0],
		outlive: outlive,
		signals: signals,
	})
	stop()
	os.Exit(code)
}

// outlive turns the signal for a pipe without a reader into the error of the
// write. It is caught, not ignored: programs that are started inherit what is
// ignored, and their own pipes would no longer end them.
func outlive() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// withSignals returns a context that SIGINT and SIGTERM end, with the signal
// as its cause: 130 and 143 are told apart by it. A terminal that goes away
// (SIGHUP) interrupts too: what the process started would outlive it. The second signal ends the
// process at once, whatever still cleans up; on a terminal the cursor, which a
// live view may have hidden, comes back. A verb that took the signals over is
// sent them instead.
func withSignals(ctx context.Context, terminal bool, taken *signals) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() { //nolint:gosec // it answers signals for as long as the process lives
		for first := true; ; {
			got, ok := <-ch
			if !ok {
				return
			}
			sig := &fault.Signal{Signal: syscall.SIGINT}
			if s, is := got.(syscall.Signal); is {
				sig.Signal = s
			}
			over, wait := taken.send(sig)
			if over && sig.Signal == syscall.SIGHUP {
				continue
			}
			if !first {
				_ = poll.Sleep(context.Background(), grace) // never ends early
				leave(sig, terminal)
			}
			if !over {
				cancel(sig)
			}
			first = false
			go overdue(sig, terminal, wait)
		}
	}()
	return ctx, func() { signal.Stop(ch); close(ch); cancel(nil) }
}

// signals is where signals go that a verb takes over from the process. The
// zero value: none does, and they end the process's context.
type signals struct {
	mu       sync.Mutex
	stop     chan fault.Kind
	hangup   chan struct{}
	patience time.Duration
}

// take takes them over; the process is given patience to end after the first.
// From then on a hangup ends nothing.
func (s *signals) take(patience time.Duration) (stop <-chan fault.Kind, hangup <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patience = patience
	if s.stop == nil {
		s.stop, s.hangup = make(chan fault.Kind, 2), make(chan struct{}, 1)
	}
	return s.stop, s.hangup
}

// send sends sig to whoever took the signals, and says whether somebody did
// and how long the process may take to end.
func (s *signals) send(sig *fault.Signal) (taken bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		return false, patience
	}
	if sig.Signal == syscall.SIGHUP {
		select {
		case s.hangup <- struct{}{}:
		default: // one is waiting already
		}
		return true, s.patience
	}
	select {
	case s.stop <- sig.Kind():
	default: // two are enough
	}
	return true, s.patience
}

// patience is how long the process may take to end after a signal that no verb
// took over. What is left to do takes less; only output that nobody reads takes
// longer.
const patience = 1500 * time.Millisecond

// grace is what is left for printing the result after the second signal: two
// in a row often come from one impatient moment.
const grace = 200 * time.Millisecond

// overdue ends the process when the first signal has not: a reader that does
// not read must not keep it.
func overdue(sig *fault.Signal, terminal bool, wait time.Duration) {
	if poll.Sleep(context.Background(), wait) == nil {
		leave(sig, terminal)
	}
}

// leave ends the process at once. The cursor is given back beside it, as the
// terminal may be what does not take output.
func leave(sig *fault.Signal, terminal bool) {
	if terminal {
		go func() { _, _ = os.Stderr.WriteString("\x1b[?25h") }()
		_ = poll.Sleep(context.Background(), 10*time.Millisecond) // never ends early
	}
	os.Exit(sig.Kind().Code())
}
