// Package flock keeps a lock file: one process at a time holds it, and the
// kernel takes it back when that process ends, however it ends.
//
// The lock belongs to the open file, not to the process: a program that this
// process is just starting has a copy of it between fork and exec. So a lock is
// given back by saying so, not only by closing the file; and a look at whether
// somebody holds it is a lock of its own for an instant, which is why Brief
// tries for a moment before it believes that the file is taken.
package flock

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"homelab/pkg/poll"
)

// ErrHeld says that another process, or another part of this one, has the lock.
var ErrHeld = errors.New("locked by another process")

const (
	briefly    = 500 * time.Millisecond
	brieflyGap = 10 * time.Millisecond
)

// Lock is an open lock file, held or not.
type Lock struct{ f *os.File }

// Open opens the lock file at path, made with mode 0600 when missing. Nothing
// is locked yet.
func Open(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the callers' own state directories
	if err != nil {
		return nil, err
	}
	return &Lock{f: f}, nil
}

// Try takes the lock if it is free, and returns ErrHeld if not.
func (l *Lock) Try() error { return l.flock(syscall.LOCK_EX) }

// Brief is Try for those who do not wait: it allows for the instant in which
// somebody only looks.
func (l *Lock) Brief(ctx context.Context) error {
	for end := time.Now().Add(briefly); ; {
		err := l.Try()
		if !errors.Is(err, ErrHeld) || time.Now().After(end) {
			return err
		}
		if err := poll.Sleep(ctx, brieflyGap); err != nil {
			return err
		}
	}
}

// Wait takes the lock, asking for it again every so often until ctx ends; then
// the error is ctx's cause. busy is called after each try that failed.
func (l *Lock) Wait(ctx context.Context, every time.Duration, busy func()) error {
	for {
		err := l.Try()
		if !errors.Is(err, ErrHeld) {
			return err
		}
		busy()
		if err := poll.Sleep(ctx, every); err != nil {
			return err
		}
	}
}

// Read returns the first bytes of the file, at most 200: what Sign wrote.
func (l *Lock) Read() string {
	b := make([]byte, 200)
	n, _ := l.f.ReadAt(b, 0) // what could be read is shown; nothing hangs on it
	return string(b[:n])
}

// Sign replaces the content of the file by text, for those who wait to read.
// A lock without a name on it still locks, so a failure is none.
func (l *Lock) Sign(text string) {
	if l.f.Truncate(0) == nil {
		_, _ = l.f.WriteAt([]byte(text), 0)
	}
}

// Release gives the lock back and closes the file. On nil, and the second time,
// it does nothing.
func (l *Lock) Release() error {
	if l == nil || l.f == nil {
		return nil
	}
	err := errors.Join(l.flock(syscall.LOCK_UN), l.f.Close())
	l.f = nil
	return err
}

// Held reports whether somebody holds the lock file at path. A file that is not
// there is held by nobody.
func Held(path string) (bool, error) {
	f, err := os.Open(path) //nolint:gosec // the callers' own state directories
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l := Lock{f: f}
	err = l.flock(syscall.LOCK_SH)
	if errors.Is(err, ErrHeld) {
		return true, f.Close()
	}
	return false, errors.Join(err, l.Release())
}

func (l *Lock) flock(how int) error {
	for {
		err := syscall.Flock(int(l.f.Fd()), how|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrHeld
		case err != nil:
			return &fs.PathError{Op: "lock", Path: l.f.Name(), Err: err}
		default:
			return nil
		}
	}
}
