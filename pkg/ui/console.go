package ui

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"homelab/pkg/poll"
)

// Asider is a result whose line goes to stderr in text mode, because stdout
// belongs to what was asked for: the output of a program, lines for scripts.
type Asider interface {
	Result
	Aside() bool
}

// sided says whether the line of r goes to stderr.
func sided(r Result) bool {
	a, ok := r.(Asider)
	return ok && a.Aside()
}

// Foreign returns stdout and stderr for a program that runs elsewhere and whose
// bytes belong to whoever called it: they are written at once and as they are,
// neither cleaned nor redacted.
func (s *Streams) Foreign() (out, err io.Writer) {
	return foreign{s, func(p []byte) error { return s.writeOut(p) }}, foreign{s, func(p []byte) error {
		_, err := s.Err.Write(p)
		return err
	}}
}

type foreign struct {
	s     *Streams
	write func([]byte) error
}

func (f foreign) Write(p []byte) (int, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// resizeCheck is how often the size of a terminal is looked at: signals are
// not for libraries.
const resizeCheck = 250 * time.Millisecond

// Terminal hands the terminal over to a program that runs elsewhere, if stdin
// and stdout are one: keys are passed on as they are typed, Ctrl-C too. size
// returns its size, at first at once, then whenever it has changed; false when
// ctx has ended or restore was called. restore gives the terminal back and may
// be called more than once. Without a terminal size is nil.
func (s *Streams) Terminal(ctx context.Context) (size func() (w, h uint16, ok bool), restore func()) {
	in, ok := s.In.(*os.File)
	if !ok || !s.InTTY || !s.OutTTY {
		return nil, func() {}
	}
	was, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	restore = sync.OnceFunc(func() {
		cancel()
		_ = term.Restore(int(in.Fd()), was)
	})
	lastW, lastH := 0, 0
	return func() (uint16, uint16, bool) {
		for ctx.Err() == nil {
			if w, h := s.size(); w != lastW || h != lastH {
				lastW, lastH = w, h
				return uint16(w), uint16(h), true //nolint:gosec // the size of a terminal
			}
			if poll.Sleep(ctx, resizeCheck) != nil {
				break
			}
		}
		return 0, 0, false
	}, restore
}
