// Package ptytest runs a command or a function on a pseudo terminal and shows
// what a person would see: the screen as text, every distinct frame, and the
// raw bytes. The emulator knows no reflow and gives each character, also a
// wide one, one cell.
package ptytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
)

// orphans is how long a terminal that outlives its command is read.
const orphans = 2 * time.Second

// Term is a pseudo terminal with an emulator behind it.
type Term struct {
	master *os.File
	cmd    *exec.Cmd     // nil for a function
	ended  chan struct{} // everything has been read
	err    error         // of the command, once ended

	mu      sync.Mutex
	vt      vt10x.Terminal
	raw     []byte
	partial []byte // of a character or sequence, for the next read
	inSync  bool
	frames  []string
	changed chan struct{} // closed at the next change
}

// Start runs cmd on a terminal of w columns and h rows: stdin, stdout and
// stderr that cmd has not set are that terminal, which is also its
// controlling one, so that Interrupt reaches it.
func Start(cmd *exec.Cmd, w, h int) (*Term, error) {
	master, tty, err := open(w, h)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tty.Close() }()
	ctty := 0
	if cmd.Stdin == nil {
		cmd.Stdin = tty
	}
	if cmd.Stdout == nil {
		cmd.Stdout, ctty = tty, 1
	}
	if cmd.Stderr == nil {
		cmd.Stderr, ctty = tty, 2
	}
	if cmd.Stdin == tty {
		ctty = 0
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: ctty}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, master.Close())
	}
	t := newTerm(master, w, h)
	t.cmd = cmd
	read := make(chan struct{})
	go func() { defer close(read); t.read() }()
	go func() {
		defer close(t.ended)
		t.err = cmd.Wait()
		select {
		case <-read:
			_ = t.master.Close()
		case <-time.After(orphans): // a child of cmd's still has the terminal
		}
	}()
	return t, nil
}

// Run runs f with the terminal's file, which it must not keep. Interrupt
// reaches no function: there is no process to signal.
func Run(w, h int, f func(tty *os.File)) (*Term, error) {
	master, tty, err := open(w, h)
	if err != nil {
		return nil, err
	}
	t := newTerm(master, w, h)
	read := make(chan struct{})
	go func() { defer close(read); t.read() }()
	go func() {
		defer close(t.ended)
		f(tty)
		_ = tty.Close()
		<-read
		_ = t.master.Close()
	}()
	return t, nil
}

func open(w, h int) (master, tty *os.File, err error) {
	master, tty, err = pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("opening a pseudo terminal: %w", err)
	}
	if err := pty.Setsize(master, size(w, h)); err != nil {
		return nil, nil, errors.Join(err, master.Close(), tty.Close())
	}
	return master, tty, nil
}

func size(w, h int) *pty.Winsize { return &pty.Winsize{Cols: uint16(w), Rows: uint16(h)} }

func newTerm(master *os.File, w, h int) *Term {
	return &Term{
		master: master, ended: make(chan struct{}), changed: make(chan struct{}),
		vt: vt10x.New(vt10x.WithSize(w, h), vt10x.WithWriter(master)),
	}
}

// read feeds the emulator until the other side is closed by everyone.
func (t *Term) read() {
	buf := make([]byte, 32<<10)
	for {
		n, err := t.master.Read(buf)
		if n > 0 {
			t.feed(buf[:n])
		}
		if err != nil {
			return // EIO: nobody has the terminal open any more
		}
	}
}

const (
	syncBegin = "\x1b[?2026h"
	syncEnd   = "\x1b[?2026l"
)

// feed hands p to the emulator and keeps the screens a person could see: what
// stands there when a read ends, and at each end of a synchronised update,
// nothing between its begin and end.
func (t *Term) feed(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.raw = append(t.raw, p...)
	p = append(t.partial, p...)
	keep := incomplete(p)
	t.partial = bytes.Clone(p[len(p)-keep:])
	p = p[:len(p)-keep]
	for len(p) > 0 {
		mark := syncBegin
		if t.inSync {
			mark = syncEnd
		}
		part, rest, found := bytes.Cut(p, []byte(mark))
		_, _ = t.vt.Write(part)
		if found {
			_, _ = t.vt.Write([]byte(mark))
			t.inSync = !t.inSync
		}
		if (found && !t.inSync) || (!t.inSync && len(rest) == 0) {
			t.snapshot()
		}
		p = rest
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// incomplete returns how many bytes at p's end start a character or a
// sequence that the next read completes.
func incomplete(p []byte) int {
	if at := bytes.LastIndexByte(p, 0x1b); at >= 0 && len(p)-at < 16 {
		rest := p[at+1:]
		if len(rest) == 0 || (rest[0] == '[' && !slices.ContainsFunc(rest[1:], func(b byte) bool { return b >= 0x40 })) {
			return len(p) - at
		}
	}
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if r := p[len(p)-n:]; utf8.RuneStart(r[0]) {
			if !utf8.FullRune(r) {
				return n
			}
			break
		}
	}
	return 0
}

func (t *Term) snapshot() {
	s := t.screen()
	if len(t.frames) == 0 || t.frames[len(t.frames)-1] != s {
		t.frames = append(t.frames, s)
	}
}

// screen returns the text without trailing spaces and empty rows.
func (t *Term) screen() string {
	rows := strings.Split(t.vt.String(), "\n")
	for i, r := range rows {
		rows[i] = strings.TrimRight(strings.ReplaceAll(r, "\x00", " "), " ")
	}
	return strings.TrimRight(strings.Join(rows, "\n"), "\n")
}

// Screen returns what stands on the screen: rows without trailing spaces, no
// empty rows at the end. What has scrolled off is gone.
func (t *Term) Screen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen()
}

// Raw returns all bytes written to the terminal, line ends as it made them.
func (t *Term) Raw() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.raw)
}

// Frames returns the screens there were, each different from the one before.
func (t *Term) Frames() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.frames)
}

// Cursor returns the cursor's column and row from 0, and whether it is shown.
func (t *Term) Cursor() (x, y int, visible bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.vt.Cursor()
	return c.X, c.Y, t.vt.CursorVisible()
}

// Resize changes the terminal's size; the program gets SIGWINCH.
func (t *Term) Resize(w, h int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.vt.Resize(w, h)
	return pty.Setsize(t.master, size(w, h))
}

// Type writes keys to the terminal.
func (t *Term) Type(keys string) error {
	_, err := t.master.WriteString(keys)
	return err
}

// Interrupt presses Ctrl-C.
func (t *Term) Interrupt() error { return t.Type("\x03") }

// Signal sends a signal to the command.
func (t *Term) Signal(sig os.Signal) error {
	if t.cmd == nil {
		return errors.New("a function has no process")
	}
	return t.cmd.Process.Signal(sig)
}

// Until waits until ok holds for the screen. The error is ctx's, or says that
// the program ended without; it shows the screen.
func (t *Term) Until(ctx context.Context, ok func(screen string) bool) error {
	for {
		t.mu.Lock()
		screen, changed := t.screen(), t.changed
		t.mu.Unlock()
		if ok(screen) {
			return nil
		}
		select {
		case <-changed:
		case <-t.ended:
			if ok(t.Screen()) {
				return nil
			}
			return fmt.Errorf("the program ended with the screen\n%s", t.Screen())
		case <-ctx.Done():
			return fmt.Errorf("%w with the screen\n%s", context.Cause(ctx), t.Screen())
		}
	}
}

// Contains waits up to within until text stands on the screen.
func (t *Term) Contains(text string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := t.Until(ctx, func(screen string) bool { return strings.Contains(screen, text) }); err != nil {
		return fmt.Errorf("waiting for %q: %w", text, err)
	}
	return nil
}

// Wait waits up to within for the program's end and returns its exit status:
// 0 for a function, -1 when a signal ended it. A command that goes on is
// killed.
func (t *Term) Wait(within time.Duration) (int, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-t.ended:
	case <-timer.C:
		if t.cmd != nil {
			_ = t.cmd.Process.Kill()
			<-t.ended
		}
		return -1, fmt.Errorf("still running after %s with the screen\n%s", within, t.Screen())
	}
	var exit *exec.ExitError
	switch {
	case errors.As(t.err, &exit):
		return exit.ExitCode(), nil
	case t.err != nil:
		return -1, t.err
	}
	return 0, nil
}
