package ui

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"homelab/pkg/poll"
)

// Frame draws the state a verb has: the lines of a screen of w columns and h
// rows, of which h-1 can be used, elapsed after the run began. It is called
// from a goroutine of its own and must be a pure function of these and the
// state; it may take the caller's lock.
type Frame func(w, h int, elapsed time.Duration) []Line

// How often the screen may change, how often idle time is looked at, and how
// long Close waits for a terminal that takes no output.
const (
	redrawEvery = 100 * time.Millisecond
	beatEvery   = time.Second
	closeWithin = time.Second
)

// Escape sequences of the live view.
const (
	syncBegin  = "\x1b[?2026h" // until syncEnd the terminal shows nothing of what it gets
	syncEnd    = "\x1b[?2026l"
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	wrapOff    = "\x1b[?7l" // our idea of a character's width and the terminal's may differ
	wrapOn     = "\x1b[?7h"
	eraseLine  = "\x1b[K" // from the cursor on
	eraseBelow = "\x1b[J"

	// eraseView erases all rows from the cursor's on and leaves it in column 0.
	// The first row is erased for itself: told to erase everything below the
	// screen's first cell, tmux takes that for clearing the screen and keeps
	// what was there in its history, where it would stay for ever. The position
	// is saved, as the row may have become the screen's last.
	eraseView = "\r\x1b7" + eraseLine + "\x1b[1B" + eraseBelow + "\x1b8"
)

// Story tells on stderr what is going on while it goes on. On a terminal it is
// a live view that is redrawn in place, elsewhere (also on TERM=dumb and in
// CI) one plain line per change; under Quiet nothing. Its methods are safe for
// concurrent use, but Close must not be called with a lock held that the frame
// func takes.
type Story struct {
	s     *Streams
	frame Frame
	live  bool // a view is redrawn
	plain bool // lines are printed

	every func(d time.Duration, f func()) (stop func())
	wait  func(d time.Duration, done <-chan struct{}) // until done or d is over

	closing sync.Mutex // makes a second Close wait for the first

	// The rest is guarded by s.mu.
	stops  []func()
	closed bool
	dirty  bool
	second int64    // of the elapsed time that the view shows
	rows   []string // of the view, as they stand on the screen
	w, h   int      // of the screen when it was last drawn
	hidden bool     // the cursor is
	after  []Line   // for below the last frame
	beat   func() Line
}

// Story starts telling. frame draws the live view; without one a terminal gets
// the plain lines too. When ctx ends the view stands still; Close draws it
// once more. A story that still runs is closed first.
func (s *Streams) Story(ctx context.Context, frame Frame) *Story {
	s.mu.Lock()
	previous := s.story
	s.mu.Unlock()
	if previous != nil {
		previous.Close()
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	st := &Story{s: s, frame: frame, second: -1, dirty: true}
	st.live = !s.set.Quiet && s.ErrTTY && !s.set.Dumb && !s.set.CI && s.set.Script == NoScript && frame != nil
	st.plain = !s.set.Quiet && !st.live
	st.every = func(d time.Duration, f func()) func() { return poll.Every(ctx, d, f) }
	st.wait = func(d time.Duration, done <-chan struct{}) {
		_, _ = poll.Wait(context.WithoutCancel(ctx), d, done) // either is an end
	}
	s.story = st
	s.printed = s.now()
	if st.live {
		st.stops = append(st.stops, st.every(redrawEvery, st.tick))
	}
	return st
}

// Live reports whether the story is a view that is redrawn in place.
func (st *Story) Live() bool { return st.live }

// Update says that the state behind the frame has changed. The view follows
// within a tenth of a second; elsewhere nothing happens.
func (st *Story) Update() {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.dirty = true
}

// Line prints a change with the elapsed time before it; a live view shows
// changes itself and prints nothing.
func (st *Story) Line(l Line) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.plain {
		st.s.writeErr(st.s.timed(l))
	}
}

// Continue prints a line that belongs to the one before it, indented and
// without a time: a log's tail. With a live view it waits for Close and is
// printed below the last frame.
func (st *Story) Continue(l Line) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	l = append(Line{{Text: "      "}}, l...)
	switch {
	case st.plain, st.live && st.closed:
		st.s.writeErr(l)
	case st.live:
		st.after = append(st.after, l)
	}
}

// Note prints what is worth keeping when no story is under way, and as
// [Story.Note] does while one is.
func (s *Streams) Note(l Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.set.Quiet {
		s.writeErr(s.timed(l))
	}
}

// Note prints what is worth keeping, with the elapsed time before it: trouble,
// recovery, a hint. It stays above a live view.
func (st *Story) Note(l Line) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.plain || st.live {
		st.s.writeErr(st.s.timed(l))
	}
}

// Heartbeat calls f whenever nothing was printed for every, and prints the
// line it returns as Line does; none if that is empty. A live view needs no
// heartbeat, a quiet story has none; under --jsonl f is called in any case, so
// that it can send an event. every of 0 is off. f is called from a goroutine
// of its own and may call the story and the streams. A second Heartbeat takes
// the place of the first.
func (st *Story) Heartbeat(every time.Duration, f func() Line) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if every <= 0 || st.closed || (!st.plain && s.set.Mode != JSONL) {
		return
	}
	first := st.beat == nil
	st.beat = f
	if !first {
		return
	}
	st.stops = append(st.stops, st.every(min(every, beatEvery), func() { st.pulse(every) }))
}

// pulse beats if nothing was printed for every.
func (st *Story) pulse(every time.Duration) {
	s := st.s
	s.mu.Lock()
	due := !st.closed && s.now().Sub(s.printed) >= every
	f := st.beat
	s.mu.Unlock()
	if !due {
		return
	}
	l := f()
	s.mu.Lock()
	if len(l) > 0 || s.set.Mode == JSONL {
		s.printed = s.now()
	}
	s.mu.Unlock()
	if len(l) > 0 {
		st.Line(l)
	}
}

// Close ends the story: the view is drawn once more and left behind, with the
// cursor visible below it, and what Continue kept follows. It may be called
// again. It waits for a frame being drawn, but not longer than a second; then it
// gives back the cursor and goes.
func (st *Story) Close() {
	st.closing.Lock()
	defer st.closing.Unlock()
	s := st.s
	s.mu.Lock()
	stops, was := st.stops, st.closed
	st.stops = nil
	s.mu.Unlock()
	if was {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, stop := range stops {
			stop()
		}
		st.last()
	}()
	st.wait(closeWithin, done)
	select {
	case <-done:
	default:
		st.abandon()
	}
}

// abandon gives back the cursor although the last frame does not come. A
// terminal that takes no output holds the lock; then there is nothing to do.
func (st *Story) abandon() {
	if !st.s.mu.TryLock() {
		return
	}
	defer st.s.mu.Unlock()
	if !st.closed {
		st.closed = true
		st.leave(st.rows)
	}
}

// last draws the last frame.
func (st *Story) last() {
	var lines []Line
	var w, h int
	if st.live {
		w, h = st.s.size()
		lines = st.frame(w, h, st.s.Elapsed())
	}
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.closed {
		return // it came too late
	}
	if st.live {
		st.leave(st.fit(lines, w, h))
	}
	st.closed = true
	after := st.after
	st.after = nil
	s.writeErr(after...)
}

// tick redraws the view if there is something new to see.
func (st *Story) tick() {
	s := st.s
	w, h := s.size()
	s.mu.Lock()
	elapsed := s.elapsed()
	second := int64(elapsed / time.Second)
	if st.closed || (!st.dirty && second == st.second && w == st.w && h == st.h) {
		s.mu.Unlock()
		return
	}
	st.dirty, st.second = false, second
	s.mu.Unlock()

	lines := st.frame(w, h, elapsed)

	s.mu.Lock()
	defer s.mu.Unlock()
	if !st.closed { // Close does not wait for ever
		st.show(lines, w, h)
	}
}

// shown reports whether a view stands on the screen with the cursor above it.
func (st *Story) shown() bool { return st.live && !st.closed && len(st.rows) > 0 }

// fit renders lines for a screen of w by h: cut to its width, and to a row
// less than its height, as the cursor needs one of its own.
func (st *Story) fit(lines []Line, w, h int) []string {
	most := max(h-1, 0)
	if len(lines) > most {
		hidden := len(lines) - most + 1
		lines = lines[:max(most-1, 0)]
		if most > 0 {
			lines = append(slices.Clip(lines), Line{{fmt.Sprintf("… %d more lines", hidden), Dim}})
		}
	}
	color := st.s.colored(true, st.s.set)
	reduce, glyphsOnly := st.s.ascii(true)
	rows := make([]string, len(lines))
	for i, l := range lines {
		l = st.s.redactLine(l).truncate(w)
		if reduce {
			l = l.ascii(glyphsOnly)
		}
		rows[i] = l.Render(0, color)
		if l.Width() >= w {
			// Erasing behind a row that fills the screen would take its last
			// character along: erase before instead.
			rows[i] = eraseLine + rows[i]
		} else {
			rows[i] += eraseLine
		}
	}
	return rows
}

// show puts lines on the screen, in one write, unless they stand there.
//
// Between two writes the cursor rests at the start of the view's first row. A
// terminal that is made narrower may wrap the old rows anew, and others do
// not; either way the cursor stays with its text, so that the view begins
// where the cursor is, and nobody has to know how many rows the old one takes.
// What wrapping anew has pushed into the scrollback is out of anyone's reach.
func (st *Story) show(lines []Line, w, h int) {
	rows := st.fit(lines, w, h)
	if w == st.w && h == st.h && slices.Equal(rows, st.rows) {
		return
	}
	before, resized := st.rows, w != st.w || h != st.h
	st.rows, st.w, st.h = rows, w, h
	if len(rows) == 0 && len(before) == 0 {
		return
	}
	text := syncBegin
	if resized && len(before) > 0 {
		// Rows that were wrapped anew stay marked as one line when they are
		// overwritten; the next resize would join what we drew. Erased ones do
		// not.
		text += eraseView
	}
	st.write(text + st.drawn(rows) + up(len(rows)) + syncEnd)
}

// drawn returns what writes rows from the cursor on and erases what is below
// them. The cursor ends in the row after the last.
func (st *Story) drawn(rows []string) string {
	if len(rows) == 0 {
		return eraseView
	}
	var b strings.Builder
	if !st.hidden {
		b.WriteString(hideCursor)
		st.hidden = true
	}
	b.WriteString("\r" + wrapOff)
	for _, r := range rows {
		b.WriteString(r + "\r\n")
	}
	b.WriteString(eraseBelow + wrapOn)
	return b.String()
}

// up returns what moves the cursor up by n rows.
func up(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA", n)
}

// leave puts the last frame on the screen and the cursor below it. It is drawn
// even if it stands there: a Ctrl-C has left its echo in it.
func (st *Story) leave(rows []string) {
	if len(rows) == 0 && len(st.rows) == 0 && !st.hidden {
		return
	}
	text := syncBegin
	if len(st.rows) > 0 {
		text += eraseView
	}
	text += st.drawn(rows) + syncEnd
	if st.hidden {
		text += showCursor
		st.hidden = false
	}
	st.write(text)
}

// insert puts permanent lines above the view, in one write.
func (st *Story) insert(text string) {
	st.write(syncBegin + eraseView + strings.ReplaceAll(text, "\n", "\r\n") +
		st.drawn(st.rows) + up(len(st.rows)) + syncEnd)
}

// erase takes the view from the screen, for output of somebody else.
func (st *Story) erase() { st.write(eraseView) }

// restore puts it back.
func (st *Story) restore() {
	st.write(syncBegin + st.drawn(st.rows) + up(len(st.rows)) + syncEnd)
}

// write hands text to the terminal. Nothing can be done about a failure.
func (st *Story) write(text string) { _, _ = st.s.Err.Write([]byte(text)) }
