package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/poll"
	"homelab/pkg/stack/file"
)

// Held is a directory's lock, held by this process. Release gives it back.
type Held struct {
	f *os.File
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
	path := filepath.Join(home, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own file
	if err != nil {
		return nil, fault.Usagef("", "%s cannot be locked", dir).Because(reason(err)).From(err)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fault.Usagef("", "%s cannot be locked", dir).Because(err.Error()).From(err)
		}
		holder := readHolder(f)
		if !told && waiting != nil {
			waiting(holder)
		}
		if err := poll.Sleep(ctx, lockEvery); err != nil {
			_ = f.Close()
			if errors.Is(err, fault.ErrTimeUp) || errors.Is(context.Cause(ctx), fault.ErrTimeUp) {
				return nil, fault.New(fault.Timeout, dir+" is locked by "+holder.String(), "").
					Because("time is up").From(fault.ErrTimeUp)
			}
			return nil, err
		}
	}
	h := &Held{f: f}
	h.sign(fmt.Sprintf("%d %s\n", os.Getpid(), verb))
	return h, nil
}

func (h *Held) sign(text string) {
	// A lock without a name on it still locks.
	_ = h.f.Truncate(0)
	_, _ = h.f.WriteAt([]byte(text), 0)
}

// Release gives the lock back. A second call does nothing.
func (h *Held) Release() {
	if h == nil || h.f == nil {
		return
	}
	h.sign("")
	_ = h.f.Close()
	h.f = nil
}

func readHolder(f *os.File) Holder {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 200))
	if err != nil {
		return Holder{}
	}
	pid, verb, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	n, err := strconv.Atoi(pid)
	if err != nil {
		return Holder{}
	}
	return Holder{PID: n, Verb: verb}
}
