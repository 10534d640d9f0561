package directory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/flock"
	"homelab/pkg/stack/file"
)

// Held is a directory's lock, held by this process. Release gives it back.
type Held struct {
	l *flock.Lock
}

// Holder is who has a lock.
type Holder struct {
	PID  int // 0: it could not be told
	Verb string
}

func (h Holder) String() string {
	if h.PID == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d (%s)", h.PID, h.Verb)
}

const lockEvery = 100 * time.Millisecond

// LockPath is the file whose lock is a directory's.
func LockPath(dir string) string { return filepath.Join(dir, file.StateDir, "lock") }

// Lock waits for the lock of a deployment directory, which every verb that
// writes to it holds. waiting is told once who has it; it may be nil. When ctx
// ends first the error names the holder: Timeout when its time was up, the
// cause otherwise. The kernel gives the lock back when this process ends,
// however it ends.
func Lock(ctx context.Context, dir, verb string, waiting func(Holder)) (*Held, error) {
	home := filepath.Join(dir, file.StateDir)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fault.Usagef("", "%s cannot be locked", dir).Because(reason(err)).From(err)
	}
	l, err := flock.Open(LockPath(dir))
	if err != nil {
		return nil, fault.Usagef("", "%s cannot be locked", dir).Because(reason(err)).From(err)
	}
	var holder Holder
	told := false
	err = l.Wait(ctx, lockEvery, func() {
		holder = readHolder(l.Read())
		if !told && waiting != nil {
			waiting(holder)
		}
		told = true
	})
	var broken *fs.PathError
	switch {
	case err == nil:
		l.Sign(fmt.Sprintf("%d %s\n", os.Getpid(), verb))
		return &Held{l: l}, nil
	case errors.As(err, &broken):
		err = fault.Usagef("", "%s cannot be locked", dir).Because(reason(err)).From(err)
	case errors.Is(err, fault.ErrTimeUp) || errors.Is(context.Cause(ctx), fault.ErrTimeUp):
		err = fault.New(fault.Timeout, dir+" is locked by "+holder.String(), "").
			Because("time is up").From(fault.ErrTimeUp)
	}
	_ = l.Release()
	return nil, err
}

// Release gives the lock back. A second call does nothing.
func (h *Held) Release() {
	if h == nil || h.l == nil {
		return
	}
	h.l.Sign("")
	_ = h.l.Release() // what the kernel does not take now it takes with the process
	h.l = nil
}

// HolderOf reads who signed the lock of a directory. It says nothing of whether
// it is held.
func HolderOf(dir string) Holder {
	data, err := os.ReadFile(LockPath(dir))
	if err != nil {
		return Holder{}
	}
	return readHolder(string(data))
}

func readHolder(text string) Holder {
	pid, verb, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.Atoi(pid)
	if err != nil {
		return Holder{}
	}
	return Holder{PID: n, Verb: verb}
}
