// Package poll holds the only loops with a clock. Retry delays, redraws,
// heartbeats and watches all wait through it, so that cancellation is handled
// once and tests drive every schedule with a fake clock (ADR 0006). It decides
// nothing about what is looked at.
package poll

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Sleep waits d or until ctx ends. The error is ctx's cause. A d of zero or
// less only checks ctx.
func Sleep(ctx context.Context, d time.Duration) error {
	_, err := Wait(ctx, d, nil)
	return err
}

// Wait waits d, or until wake delivers, or until ctx ends, and says whether it
// was woken early. A nil wake never delivers; a closed one wakes at once. The
// error is ctx's cause.
func Wait(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken bool, err error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if d <= 0 {
		return false, nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-wake:
		return true, nil
	case <-t.C:
		return false, nil
	}
}

// Schedule says how long to wait before the next look. It is stateful: one
// per wait.
type Schedule interface {
	Next() time.Duration
	Reset()
}

// Exponential returns a schedule that starts at first, doubles up to most and
// varies each wait by ±jitter (0.25 is ±25 %). It never gives up: the context
// or the caller's budget does.
func Exponential(first, most time.Duration, jitter float64) Schedule {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(first),
		backoff.WithMaxInterval(most),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(jitter),
		backoff.WithMaxElapsedTime(0),
	)
	return exponential{b}
}

type exponential struct{ b *backoff.ExponentialBackOff }

func (e exponential) Next() time.Duration { return e.b.NextBackOff() }
func (e exponential) Reset()              { e.b.Reset() }

// Steps returns a schedule of exactly these waits, the last one repeating.
func Steps(steps ...time.Duration) Schedule { return &fixed{steps: steps} }

type fixed struct {
	steps []time.Duration
	at    int
}

func (f *fixed) Next() time.Duration {
	d := f.steps[min(f.at, len(f.steps)-1)]
	f.at++
	return d
}

func (f *fixed) Reset() { f.at = 0 }

// State is what one look found.
type State int

// What a look can find. Unknown is not progress and not an end: the loop goes
// on, and success still needs a fresh observation.
const (
	NotYet State = iota
	Done
	Unknown
)

// Until looks, then waits by s and looks again, until look returns Done or an
// error, or ctx ends. The error is look's or ctx's cause.
func Until(ctx context.Context, s Schedule, look func(context.Context) (State, error)) error {
	for {
		state, err := look(ctx)
		if err != nil || state == Done {
			return err
		}
		if err := Sleep(ctx, s.Next()); err != nil {
			return err
		}
	}
}

// Every calls f each d from a goroutine of its own until ctx ends or stop is
// called. stop returns when the last f has returned; it may be called twice.
func Every(ctx context.Context, d time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for Sleep(ctx, d) == nil {
			f()
		}
	})
	return func() { cancel(); done.Wait() }
}

// ErrIdle is the cause of a context that a Watchdog ended.
var ErrIdle = errors.New("nothing arrived in time")

// Watchdog returns a context that ends with ErrIdle when feed has not been
// called for d. stop releases it.
func Watchdog(ctx context.Context, d time.Duration) (guarded context.Context, feed, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(d, func() { cancel(ErrIdle) })
	return ctx, func() { t.Reset(d) }, func() { t.Stop(); cancel(nil) }
}
