package landing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"homelab/pkg/poll"
)

// lock is held by the one landing of a clone that may change its refs. The
// kernel drops it with the process, however that ends.
type lock struct{ f *os.File }

// acquire waits for the clone's lock; waiting is told the holder, once.
func acquire(ctx context.Context, common, who string, waiting func(holder string)) (*lock, error) {
	dir := filepath.Join(common, "homelab")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "land.lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the clone's git directory
	if err != nil {
		return nil, err
	}
	told := false
	err = poll.Until(ctx, poll.Steps(50*time.Millisecond), func(context.Context) (poll.State, error) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return poll.Done, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return poll.NotYet, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !told {
			told = true
			holder, _ := os.ReadFile(f.Name()) // without it the wait is only less well explained
			waiting(strings.TrimSpace(string(holder)))
		}
		return poll.NotYet, nil
	})
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	// Only for those who wait to read.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(who+"\n"), 0)
	}
	return &lock{f: f}, nil
}

func (l *lock) release() {
	if l != nil && l.f != nil {
		_ = l.f.Close()
		l.f = nil
	}
}
