// Command homelab carries a commit from "done on my branch" to "green in CI"
// to "running in the cluster", and says exactly where it stopped and why.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
)

// version is set when a release is built: -ldflags "-X main.version=1.2.3".
var version = "" // the linker writes it

func main() {
	streams := ui.NewStreams(os.Stdin, os.Stdout, os.Stderr)
	ctx, stop := withSignals(context.Background(), streams.ErrTTY)
	dir, err := os.Getwd()
	if err != nil {
		dir = "."
	}
	code := run(ctx, os.Args[1:], process{
		streams: streams,
		env:     config.FromOS(),
		dir:     dir,
		version: version,
	})
	stop()
	os.Exit(code)
}

// withSignals returns a context that SIGINT and SIGTERM end, with the signal
// as its cause: 130 and 143 are told apart by it. The second signal ends the
// process at once, whatever still cleans up; on a terminal the cursor, which a
// live view may have hidden, comes back.
func withSignals(ctx context.Context, terminal bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for first := true; ; first = false {
			got, ok := <-ch
			if !ok {
				return
			}
			sig := &fault.Signal{Signal: syscall.SIGINT}
			if s, is := got.(syscall.Signal); is {
				sig.Signal = s
			}
			if !first {
				if terminal {
					_, _ = os.Stderr.WriteString("\x1b[?25h")
				}
				os.Exit(sig.Kind().Code())
			}
			cancel(sig)
		}
	}()
	return ctx, func() { signal.Stop(ch); close(ch); cancel(nil) }
}
