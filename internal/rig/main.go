package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// Main runs f as a program's work in dir, which it removes in the end, however
// that comes: f's return, the limit or a signal, both of which end f's context.
// It tells on stderr what went wrong and returns the exit status.
func Main(dir string, limit time.Duration, f func(context.Context, *T) error) int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %s", limit))
	defer cancel()
	err := Run(dir, func(t *T) error { return f(ctx, t) })
	cause := context.Cause(ctx)
	if gone := os.RemoveAll(dir); gone != nil {
		err = errors.Join(err, gone)
	}
	if err == nil {
		return 0
	}
	if cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	fmt.Fprintf(os.Stderr, "%s: failed: %v\n", filepath.Base(os.Args[0]), err)
	if got, ok := errors.AsType[*signalError](cause); ok {
		return 128 + int(got.Signal)
	}
	return 1
}

type signalError struct{ syscall.Signal }

func (e *signalError) Error() string { return e.String() }

// Stdout is the standard output under another number, so that a reader who has
// gone is an error of a write. On the numbers 1 and 2 it ends a Go program at
// once, and there is something to tidy up first.
func Stdout() (*os.File, error) {
	fd, err := syscall.Dup(syscall.Stdout)
	if err != nil {
		return nil, fmt.Errorf("standard output: %w", err)
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "standard output"), nil
}

// untilSignal returns a context that ends with a signal that would otherwise
// end the program.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if got, ok := (<-ch).(syscall.Signal); ok {
			cancel(&signalError{got})
		}
	}()
	return ctx, func() { signal.Stop(ch); close(ch); cancel(nil) }
}
