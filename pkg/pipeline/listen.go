package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"homelab/pkg/poll"
	"homelab/pkg/woodpecker"
)

// listener keeps the server's event stream open beside a watch. All it ever
// does is wake the watch and hand it what was told; when in doubt it says so
// and the watch polls.
type listener struct {
	src    Hints
	repo   woodpecker.Repo
	wake   chan struct{} // one pending wake-up is enough
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	healthy bool
	pinged  time.Time             // first ping of the connection in use
	told    []woodpecker.Pipeline // since they were last taken
	blind   bool                  // something was told that could not be kept, since it was last taken
	notes   []string              // for --verbose, since they were last taken
	hangUp  context.CancelFunc    // ends the connection in use
	doubted bool                  // it was ended because it kept something to itself
	sent    bool                  // the server sends this repository's events to this user
}

const mostTold = 64 // events that wait for a watch that is busy reading

var (
	errBadEvent  = errors.New("an event that cannot be read")
	errClosed    = errors.New("the server closed it")
	errSilent    = errors.New("it did not tell what a reading showed")
	errNotSynced = errors.New("no permission of this user is stored for it")
)

// listen opens the stream in the background. Close it.
func listen(ctx context.Context, src Hints, repo woodpecker.Repo) *listener {
	ctx, cancel := context.WithCancel(ctx)
	l := &listener{src: src, repo: repo, wake: make(chan struct{}, 1), cancel: cancel}
	l.done.Go(func() { l.run(ctx) })
	return l
}

// run connects, and again 5, 20 and 60 s after it lost the connection; then
// the watch polls to its end. A private repository's events go only to users
// whose permission the server has stored, so that is asked first.
func (l *listener) run(ctx context.Context) {
	waits := []time.Duration{5 * time.Second, 20 * time.Second, 60 * time.Second}
	for i := 0; ; i++ {
		err := l.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, io.EOF) {
			err = errClosed
		}
		if i == len(waits) || errors.Is(err, errNotSynced) {
			l.say("event stream: %s; polling from now on", words(err))
			return
		}
		l.say("event stream: %s; polling, again in %s", words(err), span(waits[i]))
		if poll.Sleep(ctx, waits[i]) != nil {
			return
		}
	}
}

func (l *listener) connect(ctx context.Context) error {
	if !l.sent && !l.repo.Public() {
		p, err := l.src.Permissions(ctx, l.repo.ID)
		if err != nil {
			return err
		}
		if p.Synced == 0 {
			return errNotSynced
		}
	}
	l.sent = true
	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	l.mu.Lock()
	l.hangUp = hangUp
	l.mu.Unlock()
	err := l.src.Events(ctx, l.hear)
	l.mu.Lock()
	l.healthy, l.pinged, l.hangUp = false, time.Time{}, nil
	if l.doubted {
		err, l.doubted = errSilent, false
	}
	l.mu.Unlock()
	l.nudge()
	return err
}

// hear takes one event. The first ping says that the connection lives; it
// comes before the subscription, so a read is due shortly after it as well.
func (l *listener) hear(e woodpecker.StreamEvent) error {
	switch {
	case e.Ping:
		l.mu.Lock()
		first := l.pinged.IsZero()
		if first {
			l.pinged, l.healthy = time.Now(), true
		}
		l.mu.Unlock()
		if first {
			l.nudge()
		}
	case e.TooLong:
		l.mu.Lock()
		l.blind = true
		l.mu.Unlock()
		l.nudge()
	case e.Pipeline == nil:
		return errBadEvent
	case e.RepoID == l.repo.ID:
		l.mu.Lock()
		if len(l.told) == mostTold {
			l.told, l.blind = l.told[1:], true
		}
		l.told = append(l.told, cleaned(*e.Pipeline))
		l.mu.Unlock()
		l.nudge()
	}
	return nil
}

func (l *listener) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *listener) say(format string, args ...any) {
	l.mu.Lock()
	l.notes = append(l.notes, fmt.Sprintf(format, args...))
	l.mu.Unlock()
	l.nudge()
}

// heard is what a listener has to tell at one moment.
type heard struct {
	healthy bool
	pinged  time.Time
	told    []woodpecker.Pipeline
	blind   bool // more was told than told holds
	notes   []string
}

// take returns what was told since the last take. A nil listener tells
// nothing.
func (l *listener) take() heard {
	if l == nil {
		return heard{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := heard{healthy: l.healthy, pinged: l.pinged, told: l.told, blind: l.blind, notes: l.notes}
	l.told, l.blind, l.notes = nil, false, nil
	return h
}

// state says how the stream stands, without taking what it told.
func (l *listener) state() heard {
	if l == nil {
		return heard{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return heard{healthy: l.healthy, pinged: l.pinged}
}

// doubt ends the connection in use: a reading showed what no event told.
func (l *listener) doubt() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.healthy = false
	if l.hangUp != nil {
		l.doubted = true
		l.hangUp()
	}
}

// channel returns what wakes the watch; nil for a nil listener.
func (l *listener) channel() <-chan struct{} {
	if l == nil {
		return nil
	}
	return l.wake
}

func (l *listener) close() {
	if l == nil {
		return
	}
	l.cancel()
	l.done.Wait()
}
