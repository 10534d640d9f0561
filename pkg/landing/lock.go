package landing

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"homelab/pkg/flock"
)

// lock is held by the one landing of a clone that may change its refs.
type lock struct{ l *flock.Lock }

// acquire waits for the clone's lock; waiting is told the holder, once.
func acquire(ctx context.Context, common, who string, waiting func(holder string)) (*lock, error) {
	dir := filepath.Join(common, "homelab")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := flock.Open(filepath.Join(dir, "land.lock"))
	if err != nil {
		return nil, err
	}
	told := false
	err = l.Wait(ctx, 50*time.Millisecond, func() {
		if !told {
			told = true
			waiting(strings.TrimSpace(l.Read()))
		}
	})
	if err != nil {
		_ = l.Release()
		return nil, err
	}
	l.Sign(who + "\n")
	return &lock{l: l}, nil
}

func (l *lock) release() {
	if l != nil {
		_ = l.l.Release() // what the kernel does not take now it takes with the process
	}
}
