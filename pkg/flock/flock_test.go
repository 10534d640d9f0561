package flock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func open(t *testing.T, path string) *Lock {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Release() })
	return l
}

func held(t *testing.T, path string) bool {
	t.Helper()
	is, err := Held(path)
	if err != nil {
		t.Fatal(err)
	}
	return is
}

func TestOneHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if held(t, path) {
		t.Error("a file that is not there is held")
	}
	a, b := open(t, path), open(t, path)
	if held(t, path) {
		t.Error("held when only opened")
	}
	if err := a.Try(); err != nil {
		t.Fatal(err)
	}
	a.Sign("first, a long one\n")
	a.Sign("7 land\n")
	if err := b.Try(); !errors.Is(err, ErrHeld) {
		t.Errorf("a second holder: %v", err)
	}
	if err := b.Brief(t.Context()); !errors.Is(err, ErrHeld) {
		t.Errorf("a second holder after a moment: %v", err)
	}
	if got := b.Read(); got != "7 land\n" || !held(t, path) {
		t.Errorf("holder %q, held %v", got, held(t, path))
	}
	if err := errors.Join(a.Release(), a.Release()); err != nil {
		t.Error(err)
	}
	if err := b.Try(); err != nil {
		t.Errorf("given back, and not to be had: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A program that is being started has a copy of every open file.
func TestReleaseBesideACopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a := open(t, path)
	if err := a.Try(); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(a.f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := a.Release(); err != nil {
		t.Fatal(err)
	}
	if held(t, path) {
		t.Error("the copy keeps what was given back")
	}
}

func TestBriefOutlastsALook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	looking, l := open(t, path), open(t, path)
	if err := looking.flock(syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	time.AfterFunc(50*time.Millisecond, func() { over <- looking.Release() })
	if err := l.Brief(t.Context()); err != nil {
		t.Errorf("a look was taken for a holder: %v", err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b := open(t, path), open(t, path)
	if err := a.Try(); err != nil {
		t.Fatal(err)
	}
	over := errors.New("over")
	ctx, cancel := context.WithCancelCause(t.Context())
	tries := 0
	err := b.Wait(ctx, time.Millisecond, func() {
		if tries++; tries == 3 {
			cancel(over)
		}
	})
	if !errors.Is(err, over) || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
	if err := b.Wait(t.Context(), time.Millisecond, func() { _ = a.Release() }); err != nil {
		t.Error(err)
	}
}
