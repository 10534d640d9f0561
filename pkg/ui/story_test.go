package ui

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"homelab/internal/golden"
	"homelab/pkg/fault"
)

// writes records each write for itself, with the time it came.
type writes struct {
	mu   sync.Mutex
	now  func() time.Time
	all  []string
	when []time.Time
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, string(p))
	w.when = append(w.when, w.now())
	return len(p), nil
}

func (w *writes) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.all, "")
}

// seen returns what has been written so far, and when.
func (w *writes) seen() (all []string, when []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all), slices.Clone(w.when)
}

func (w *writes) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

// terminal returns streams whose stderr is a terminal of w by h.
func terminal(w, h int) (*Streams, *writes, *bytes.Buffer) {
	s, out, _ := Test("")
	rec := &writes{now: time.Now}
	s.Err, s.ErrTTY = rec, true
	s.Size = func() (int, int) { return w, h }
	return s, rec, out
}

// watchFrame is a view like a watch's.
func watchFrame(_, _ int, elapsed time.Duration) []Line {
	lines := []Line{
		{T(Strong, "ada/app #57"), T(Plain, " push main 41bdff3  Fix the cache key of the 日本語 pages")},
		{T(Dim, "https://ci.example/repos/2/pipeline/57")},
	}
	rows := [][]Span{
		{T(OK, Glyph(OK)+" lint"), T(OK, "passed"), T(Plain, "12s")},
		{T(Bad, Glyph(Bad)+" test"), T(Bad, "failed"), T(Plain, "1m04s"), T(Plain, "unit: exit code 3")},
		{T(Running, Glyph(Running)+" publish"), T(Running, "running"), T(Plain, Duration(elapsed)), T(OK, Glyph(OK)+" clone")},
	}
	for i := range 8 {
		rows = append(rows, []Span{T(Waiting, fmt.Sprintf("%s wait%d", Glyph(Waiting), i)), T(Waiting, "pending")})
	}
	return append(lines, Table(rows)...)
}

func TestFrames(t *testing.T) {
	for _, size := range []struct{ w, h int }{{80, 24}, {40, 10}, {120, 40}} {
		t.Run(fmt.Sprintf("%dx%d", size.w, size.h), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, rec, _ := terminal(size.w, size.h)
				st := s.Story(t.Context(), watchFrame)
				time.Sleep(1500 * time.Millisecond)
				st.Note(L("woodpecker answers 502; trying again"))
				st.Continue(L("test/unit | --- FAIL: TestCacheKey (0.02s)"))
				st.Close()
				golden.Compare(t, "", []byte(strings.Join(rec.all, "\n<write>\n")))
			})
		})
	}
}

func TestFramesWithoutColorOrUTF8(t *testing.T) {
	for name, set := range map[string]Settings{"no-color": {NoColor: true}, "ascii": {ASCII: true, NoColor: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, rec, _ := terminal(40, 10)
				if err := s.Configure(set); err != nil {
					t.Fatal(err)
				}
				st := s.Story(t.Context(), watchFrame)
				st.Close()
				golden.CompareString(t, "", rec.String())
			})
		})
	}
}

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, out, errb := Test("")
		st := s.Story(t.Context(), watchFrame)
		time.Sleep(time.Second)
		st.Update()
		st.Line(L("ada/app #57 push main 41bdff3 pending https://ci.example/repos/2/pipeline/57"))
		time.Sleep(15 * time.Second)
		st.Line(Line{T(Plain, "lint "), T(OK, "success"), T(Plain, " 12s")})
		time.Sleep(64 * time.Second)
		st.Note(L("woodpecker answers 502; trying again"))
		st.Line(L("test failure 1m04s: unit exit code 3"))
		st.Continue(L("test/unit | --- FAIL: TestCacheKey (0.02s)"))
		st.Close()
		time.Sleep(time.Hour)
		st.Line(L("told after the end"))
		st.Close()
		golden.Compare(t, "", errb.Bytes())
		if out.Len() > 0 {
			t.Errorf("stdout has %q", out)
		}
	})
}

// No sequence reaches a terminal that obeys none, nor a CI's log.
func TestPlainOnTerminal(t *testing.T) {
	for name, set := range map[string]Settings{"dumb": {Dumb: true}, "ci": {CI: true, NoColor: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, rec, _ := terminal(80, 24)
				if err := s.Configure(set); err != nil {
					t.Fatal(err)
				}
				st := s.Story(t.Context(), watchFrame)
				st.Update()
				time.Sleep(time.Minute)
				st.Line(L("test failure"))
				st.Close()
				if got, want := rec.String(), "01:00 test failure\n"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		})
	}
}

func TestRedrawIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec, _ := terminal(80, 24)
		var mu sync.Mutex
		n, frames := 0, 0
		st := s.Story(t.Context(), func(int, int, time.Duration) []Line {
			mu.Lock()
			defer mu.Unlock()
			frames++
			return []Line{L(fmt.Sprint("change ", n))}
		})
		for range 10_000 { // 10 s of a change each millisecond
			time.Sleep(time.Millisecond)
			mu.Lock()
			n++
			mu.Unlock()
			st.Update()
		}
		if got := rec.count(); got < 90 || got > 100 {
			t.Errorf("%d writes in 10 s of constant change, want about 10 per second", got)
		}
		_, when := rec.seen()
		for i := 1; i < len(when); i++ {
			if gap := when[i].Sub(when[i-1]); gap < redrawEvery {
				t.Fatalf("write %d came %s after the one before", i, gap)
			}
		}

		mu.Lock()
		before, drawn := rec.count(), frames
		mu.Unlock()
		time.Sleep(10 * time.Second)
		if got := rec.count() - before; got > 1 {
			t.Errorf("%d writes in 10 s without a change, want at most the last change", got)
		}
		st.Close()
		if got := frames - drawn; got > 12 {
			t.Errorf("%d frames in 10 s without a change, want one per second for running clocks", got)
		}
	})
}

func TestClockRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec, _ := terminal(80, 24)
		st := s.Story(t.Context(), func(_, _ int, elapsed time.Duration) []Line { return []Line{L(Elapsed(elapsed))} })
		time.Sleep(5*time.Second + 500*time.Millisecond)
		st.Close()
		for i := range 6 {
			if !strings.Contains(rec.String(), fmt.Sprintf("00:%02d", i)) {
				t.Errorf("second %d never shows", i)
			}
		}
		// Each second once, and the last once more with the cursor below.
		if got := rec.count(); got != 7 {
			t.Errorf("%d writes: %q", got, rec.all)
		}
		for _, w := range rec.all[:6] {
			if !strings.HasPrefix(w, syncBegin) || !strings.HasSuffix(w, syncEnd) || strings.Count(w, syncBegin) != 1 {
				t.Errorf("a redraw is not one synchronised write: %q", w)
			}
		}
	})
}

// A quiet ten minutes in a pipe are never silent, and a talkative minute has
// no heartbeat.
func TestHeartbeat(t *testing.T) {
	for _, mode := range []Mode{Text, JSON} {
		synctest.Test(t, func(t *testing.T) {
			s, out, _ := Test("")
			rec := &writes{now: time.Now}
			s.Err = rec
			if err := s.Configure(Settings{Mode: mode}); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			st := s.Story(t.Context(), watchFrame)
			st.Heartbeat(time.Minute, func() Line { return L("still running: test/unit") })
			for range 6 {
				time.Sleep(10 * time.Second)
				st.Line(L("change"))
			}
			if strings.Contains(rec.String(), "still") {
				t.Errorf("a heartbeat among changes:\n%s", rec)
			}
			time.Sleep(10 * time.Minute)
			last := begin
			_, when := rec.seen()
			for _, at := range append(when, time.Now()) {
				if gap := at.Sub(last); gap > time.Minute+time.Second {
					t.Errorf("silent for %s until %s", gap, at.Sub(begin))
				}
				last = at
			}
			st.Close()
			said := rec.String()
			if got := strings.Count(said, "still running: test/unit\n"); got != 10 {
				t.Errorf("%d heartbeats in ten minutes:\n%s", got, said)
			}
			if !strings.Contains(said, "02:00 still running") {
				t.Errorf("no elapsed time:\n%s", said)
			}
			time.Sleep(10 * time.Minute)
			if rec.String() != said || out.Len() > 0 {
				t.Error("it goes on after Close, or on stdout")
			}
		})
	}
}

func TestHeartbeatOff(t *testing.T) {
	beats := func(tty bool, set Settings, every time.Duration) (n int, stderr string) {
		synctest.Test(t, func(t *testing.T) {
			s, rec, _ := terminal(80, 24)
			s.ErrTTY = tty
			if err := s.Configure(set); err != nil {
				t.Fatal(err)
			}
			st := s.Story(t.Context(), func(int, int, time.Duration) []Line { return nil })
			st.Heartbeat(every, func() Line {
				n++
				s.Event("heartbeat", nil)
				return L("still running")
			})
			time.Sleep(10*time.Minute + time.Second)
			st.Close()
			stderr = rec.String()
		})
		return n, stderr
	}
	for _, tt := range []struct {
		name   string
		tty    bool
		set    Settings
		every  time.Duration
		beats  int
		silent bool
	}{
		{"pipe", false, Settings{}, time.Minute, 10, false},
		{"off", false, Settings{}, 0, 0, true},
		{"live view", true, Settings{}, time.Minute, 0, true},
		{"quiet", false, Settings{Quiet: true}, time.Minute, 0, true},
		{"dumb terminal", true, Settings{Dumb: true}, time.Minute, 10, false},
		{"events, quiet", false, Settings{Quiet: true, Mode: JSONL}, time.Minute, 10, true},
		{"events, live view", true, Settings{Mode: JSONL}, time.Minute, 10, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, stderr := beats(tt.tty, tt.set, tt.every)
			if n != tt.beats || (stderr == "") != tt.silent {
				t.Errorf("%d beats, want %d; stderr %q", n, tt.beats, stderr)
			}
		})
	}
}

func TestPermanentLinesGoAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec, out := terminal(80, 24)
		s.OutTTY = true
		if err := s.Configure(Settings{Mode: JSONL, Verbose: true, NoColor: true}); err != nil {
			t.Fatal(err)
		}
		st := s.Story(t.Context(), func(int, int, time.Duration) []Line { return []Line{L("view")} })
		s.Verbosef("before the first frame")
		time.Sleep(time.Second - time.Millisecond)
		st.Line(L("a live view shows changes itself"))
		st.Note(L("note"))
		s.Verbosef("GET x")
		s.Error(fault.New(fault.Failed, "broke", ""))
		n := rec.count()
		s.Event("note", nil)
		if out.Len() == 0 {
			t.Error("no event")
		}
		all, _ := rec.seen()
		if got := all[n:]; len(got) != 2 || got[0] != eraseView || !strings.Contains(got[1], "view") {
			t.Errorf("an event on the same terminal needs room, then the view again: %q", got)
		}
		want := []string{
			"00:00 before the first frame\n",
			syncBegin + hideCursor + "\r" + wrapOff + "view\x1b[K\r\n" + eraseBelow + wrapOn + "\x1b[1A" + syncEnd,
		}
		for _, l := range []string{"00:00 note", "00:00 GET x", "homelab: broke"} {
			want = append(want, syncBegin+eraseView+l+"\r\n\r"+wrapOff+"view\x1b[K\r\n"+eraseBelow+wrapOn+"\x1b[1A"+syncEnd)
		}
		if diff := cmp.Diff(want, all[:n]); diff != "" {
			t.Error(diff)
		}
		st.Close()
		if got := rec.all[len(rec.all)-1]; got != syncBegin+eraseView+"\r"+wrapOff+"view\x1b[K\r\n"+eraseBelow+wrapOn+syncEnd+showCursor {
			t.Errorf("at the end: %q", got)
		}
	})
}

// Interrupt is answered within a second, whatever the view is doing.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec, _ := terminal(80, 24)
		release := make(chan struct{})
		calls := 0
		st := s.Story(t.Context(), func(int, int, time.Duration) []Line {
			if calls++; calls > 1 {
				<-release
				return []Line{L("late")}
			}
			return []Line{L("view")}
		})
		time.Sleep(time.Second + 50*time.Millisecond) // the second frame hangs
		begin := time.Now()
		st.Close()
		if took := time.Since(begin); took > closeWithin {
			t.Errorf("Close took %s", took)
		}
		if !strings.HasSuffix(rec.String(), "view\x1b[K\r\n"+eraseBelow+wrapOn+syncEnd+showCursor) {
			t.Errorf("the cursor is not back: %q", rec)
		}
		n := rec.count()
		close(release)
		synctest.Wait()
		st.Close()
		if got := rec.count(); got != n {
			t.Errorf("the late frame was drawn: %q", rec.all[n:])
		}
	})
}

func TestSecondStoryClosesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec, _ := terminal(80, 24)
		view := func(text string) Frame {
			return func(int, int, time.Duration) []Line { return []Line{L(text)} }
		}
		first := s.Story(t.Context(), view("first"))
		time.Sleep(time.Second)
		second := s.Story(t.Context(), view("second"))
		time.Sleep(time.Second)
		first.Close()
		second.Close()
		got := rec.String()
		if strings.Count(got, showCursor) != 2 || strings.LastIndex(got, "first") > strings.Index(got, "second") {
			t.Errorf("got %q", got)
		}
	})
}

// The frame func gets the size; one that ignores it must not scroll the
// screen, however small that is.
func TestFrameTallerThanScreen(t *testing.T) {
	lines := make([]Line, 30)
	for i := range lines {
		lines[i] = L(fmt.Sprint("row ", i))
	}
	for _, tt := range []struct {
		h    int
		want []string
	}{
		{1, nil},
		{2, []string{"… 30 more lines"}},
		{4, []string{"row 0", "row 1", "… 28 more lines"}},
		{30, append(rowNames(28), "… 2 more lines")},
		{31, rowNames(30)},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, rec, _ := terminal(80, tt.h)
			if err := s.Configure(Settings{NoColor: true}); err != nil {
				t.Fatal(err)
			}
			st := s.Story(t.Context(), func(int, int, time.Duration) []Line { return lines })
			st.Close()
			var got []string
			for row := range strings.SplitSeq(rec.String(), "\r\n") {
				if text := Clean(row); text != "" {
					got = append(got, text)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("height %d: %s", tt.h, diff)
			}
		})
	}
	if lines[2].Text() != "row 2" {
		t.Error("clipping wrote into the caller's lines")
	}
}

func rowNames(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("row ", i))
	}
	return names
}
