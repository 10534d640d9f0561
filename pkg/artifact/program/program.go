// Package program runs what a person named to be run for a watch: hooks,
// probes, systemctl, what follows a rollback. It says what such a program is
// told (its environment, never a command line of foreign text), what becomes of
// its output, and how it ended. What an end means is for its callers.
//
// No shell is involved. A program has a process group, a session and a working
// directory of its own, and nothing on its standard input. When its time is up
// its whole group gets TERM, and KILL if something of it is left after the
// grace.
package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// Grace is how long a program whose time is up may take to end by itself.
const Grace = 10 * time.Second

const (
	mostTold   = 1000     // lines of one run as they come
	lastTold   = 100      // of the others, at the end
	mostKept   = 64 << 10 // bytes of one run: its last
	pieceSize  = 4 << 10
	lineSize   = 4000 // with a mark where it was cut it still fits a piece
	answerSize = 4 << 10
)

// Program is one program to run.
type Program struct {
	Path string   // absolute, or a name that is looked up in Env's PATH
	Args []string // without the program's name
	Env  []string // the whole environment
	Dir  string   // absolute; made, for the user alone, if it is not there
	// Answer: its standard output is an answer of at most 4 KiB, for End.Answer,
	// and only its standard error is told.
	Answer bool
	// Sweep ends what it leaves running in its process group when it ends by
	// itself: for questions, which leave nothing. What is left by a program that
	// failed is always ended, so that it cannot go on changing things.
	Sweep bool
	Grace time.Duration // 0: Grace
	// Mark is a file that names the program while it runs, for Leftover; "" none.
	Mark string
	// Tell gets each line of output that is not empty, cleaned, as it comes, from
	// another goroutine. Of more than 1000 lines it gets the first 1000, and the
	// last 100 at the end. nil: nobody.
	Tell func(line string)
	// Redact is applied to each line before it is told or kept; nil: nothing.
	Redact func(string) string
}

// How is how a program ended.
type How string

// How a program can end.
const (
	Exited     How = "exited"    // by itself: Code
	Signalled  How = "signalled" // by a signal that did not come from here: Signal
	Stopped    How = "stopped"   // because ctx ended
	NotStarted How = "not started"
)

// End is what a program left.
type End struct {
	How    How
	Code   int    // with Exited
	Signal string // with Signalled
	Err    error  // with NotStarted: why; with Stopped: ctx's cause
	Answer []byte // with Program.Answer
	Long   bool   // the answer was longer than 4 KiB
	Said   []string
}

// OK reports whether it exited with 0.
func (e End) OK() bool { return e.How == Exited && e.Code == 0 }

// String is how it ended and the last it said, for people.
func (e End) String() string {
	s := string(e.How)
	switch e.How {
	case Exited:
		s = "exit status " + itoa(int64(e.Code))
	case Signalled:
		s = "ended by signal " + e.Signal
	case Stopped:
		s = "its time was up and it was ended"
	case NotStarted:
		return "it could not be started: " + ui.Clean(e.Err.Error())
	}
	if last := e.Last(); last != "" {
		s += ": " + last
	}
	return s
}

// Last is the last line it said; "" none.
func (e End) Last() string {
	if len(e.Said) == 0 {
		return ""
	}
	s := e.Said[len(e.Said)-1]
	s = s[strings.LastIndexByte(s, '\n')+1:]
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// Leftover ends what an earlier process, which was killed, left running under
// this mark, and says whether there was something: two programs must not change
// one thing at once, and nothing may be observed while one still does.
func Leftover(ctx context.Context, mark string, grace time.Duration) (bool, error) {
	if grace <= 0 {
		grace = Grace
	}
	return git.EndLeftover(ctx, mark, grace)
}

// Run runs p to its end, or to ctx's. It returns when nothing of its process
// group is left that should not be.
func Run(ctx context.Context, p Program) End {
	err := os.MkdirAll(filepath.Dir(p.Dir), 0o711) //nolint:gosec // others pass through it to the store
	if err == nil {
		err = os.MkdirAll(p.Dir, 0o700)
	}
	if err != nil {
		return End{How: NotStarted, Err: err}
	}
	if ctx.Err() != nil {
		return End{How: NotStarted, Err: context.Cause(ctx)}
	}
	grace := p.Grace
	if grace <= 0 {
		grace = Grace
	}
	kept := &tail{tell: p.Tell, redact: p.Redact}
	lines := ui.NewLineWriter(lineSize, kept.add)
	c := git.Command{
		Dir: p.Dir, Name: p.Path, Args: p.Args, Env: p.Env, Grace: grace,
		Stdout: lines, Stderr: lines, Sweep: p.Sweep, SweepFailed: true, Mark: p.Mark,
	}
	if p.Answer {
		c.Stdout, c.MaxOutput = nil, answerSize
	}
	res, err := git.Run(ctx, c)
	_ = lines.Close() // it never fails
	kept.end()
	end := End{How: Exited, Code: res.ExitCode, Answer: res.Stdout, Said: pieces(kept.lines)}
	if start, ok := errors.AsType[*git.StartError](err); ok || errors.Is(err, git.ErrNoProgram) {
		if ok {
			err = start.Err
		}
		return End{How: NotStarted, Err: err}
	}
	_, tooLong := errors.AsType[*git.TooLargeError](err)
	exit, failed := errors.AsType[*git.CommandError](err)
	switch {
	case err == nil:
	case tooLong:
		end.Long = true
	case failed && exit.Signal != "":
		end.How, end.Signal = Signalled, exit.Signal
	case failed:
	default:
		end.How, end.Err = Stopped, err
		if ctx.Err() != nil {
			end.Err = context.Cause(ctx)
		}
	}
	return end
}

// tail keeps the end of what a program says.
type tail struct {
	tell   func(string)
	redact func(string) string
	said   int // lines
	lines  []string
	size   int
}

func (t *tail) add(line string) {
	if t.redact != nil {
		line = t.redact(line)
	}
	if strings.TrimSpace(line) == "" {
		return
	}
	if len(line) >= pieceSize {
		line = strings.ToValidUTF8(line[:lineSize], "") + "…"
	}
	if t.said++; t.tell != nil && t.said <= mostTold {
		t.tell(line)
	}
	t.lines = append(t.lines, line)
	for t.size += len(line) + 1; t.size > mostKept; t.lines = t.lines[1:] {
		t.size -= len(t.lines[0]) + 1
	}
}

// end tells the last lines of more than are told as they come.
func (t *tail) end() {
	last := t.lines[max(0, len(t.lines)-min(lastTold, max(0, t.said-mostTold))):]
	if t.tell == nil || len(last) == 0 {
		return
	}
	if out := t.said - mostTold - len(last); out > 0 {
		t.tell(fmt.Sprintf("(%d lines are left out)", out))
	}
	for _, l := range last {
		t.tell(l)
	}
}

// pieces joins lines to texts of at most 4 KiB, which is how evidence is kept.
func pieces(lines []string) []string {
	var out []string
	for end := len(lines); end > 0 && len(out) < mostKept/pieceSize; {
		start := end
		for size := 0; start > 0 && size+len(lines[start-1]) < pieceSize; start-- {
			size += len(lines[start-1]) + 1
		}
		out = append(out, strings.Join(lines[start:end], "\n"))
		end = start
	}
	slices.Reverse(out)
	return out
}
