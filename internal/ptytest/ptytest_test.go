package ptytest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T, script string) *Term {
	t.Helper()
	term, err := Start(exec.Command("sh", "-c", script), 20, 5)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

func TestCommand(t *testing.T) {
	term := start(t, `test -t 0 && test -t 1 && test -t 2 && stty size && printf 'a\tb\033[1mc\n' && exit 3`)
	if code, err := term.Wait(10 * time.Second); code != 3 || err != nil {
		t.Fatalf("exit status %d, %v; screen:\n%s", code, err, term.Screen())
	}
	if got, want := term.Screen(), "5 20\na       bc"; got != want {
		t.Errorf("screen %q, want %q", got, want)
	}
	if got, want := string(term.Raw()), "5 20\r\na\tb\x1b[1mc\r\n"; got != want {
		t.Errorf("raw %q, want %q", got, want)
	}
}

func TestInterruptReachesTheCommand(t *testing.T) {
	term := start(t, `trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done`)
	if err := term.Contains("ready", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := term.Interrupt(); err != nil {
		t.Fatal(err)
	}
	if code, err := term.Wait(10 * time.Second); code != 7 || err != nil {
		t.Fatalf("exit status %d, %v", code, err)
	}
	if err := term.Contains("caught", time.Second); err != nil {
		t.Error(err)
	}
}

func TestSignalAndResize(t *testing.T) {
	term := start(t, `trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done`)
	if err := term.Contains("ready", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := term.Resize(30, 8); err != nil {
		t.Fatal(err)
	}
	if err := term.Contains("8 30", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := term.Signal(os.Interrupt); err != nil { // ends sh without a trap for it
		t.Fatal(err)
	}
	if code, err := term.Wait(10 * time.Second); code == 0 || err != nil {
		t.Fatalf("exit status %d, %v", code, err)
	}
}

func TestWaitKillsWhatGoesOn(t *testing.T) {
	term := start(t, `echo ready; exec sleep 60`)
	if err := term.Contains("ready", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := term.Contains("never", 10*time.Millisecond); err == nil {
		t.Error("text that is not there was found")
	}
	if _, err := term.Wait(10 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "ready") {
		t.Errorf("got %v, want an error that shows the screen", err)
	}
}

func TestFramesAreWhatCanBeSeen(t *testing.T) {
	term := newTerm(nil, 10, 3)
	for _, chunk := range []string{
		"one", "\r\x1b[K", "\x1b[?2026", "h\r\x1b[Khalf", "-done", "\x1b[?2026l", "\x1b[?2026h\rtwo\x1b[K\x1b[?2026l\x1b[?2026h\rthree\x1b[K\x1b[?2026l",
		"\r\x1b[K\xc3", "\xa9",
	} {
		term.feed([]byte(chunk))
	}
	want := []string{"one", "", "half-done", "two", "three", "", "é"}
	if got := term.Frames(); !slices.Equal(got, want) {
		t.Errorf("frames %q, want %q", got, want)
	}
	if got := term.Screen(); got != "é" {
		t.Errorf("screen %q", got)
	}
	if x, y, visible := term.Cursor(); x != 1 || y != 0 || !visible {
		t.Errorf("cursor %d,%d visible %t", x, y, visible)
	}
}

func TestFunction(t *testing.T) {
	term, err := Run(20, 5, func(tty *os.File) {
		buf := make([]byte, 10)
		n, err := tty.Read(buf)
		if err != nil {
			t.Error(err)
		}
		_, _ = tty.WriteString("got " + string(buf[:n]))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := term.Type("x\n"); err != nil {
		t.Fatal(err)
	}
	if code, err := term.Wait(10 * time.Second); code != 0 || err != nil {
		t.Fatalf("%d, %v", code, err)
	}
	if got, want := term.Screen(), "x\ngot x"; got != want {
		t.Errorf("screen %q, want %q", got, want)
	}
	if err := term.Signal(os.Interrupt); err == nil {
		t.Error("a function cannot be signalled")
	}
}
