package ui

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"homelab/internal/ptytest"
)

// onTerminal runs f with streams on a terminal and returns that when f has
// ended; steer acts from outside meanwhile.
func onTerminal(t *testing.T, w, h int, f func(*Streams), steer func(*ptytest.Term)) *ptytest.Term {
	t.Helper()
	term, err := ptytest.Run(w, h, func(tty *os.File) {
		s := NewStreams(tty, tty, tty)
		if !s.InTTY || !s.OutTTY || !s.ErrTTY {
			t.Error("the terminal is not recognised")
		}
		f(s)
	})
	if err != nil {
		t.Fatal(err)
	}
	if steer != nil {
		steer(term)
	}
	if _, err := term.Wait(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	return term
}

func numbered(n int) []Line {
	lines := make([]Line, n)
	for i := range lines {
		lines[i] = L(fmt.Sprintf("row %d of %d", i+1, n))
	}
	return lines
}

func TestShrinkingFrameLeavesNothing(t *testing.T) {
	t.Parallel()
	var rows atomic.Int64
	rows.Store(8)
	sizes := make(chan int64)
	term := onTerminal(t, 40, 10, func(s *Streams) {
		fmt.Fprint(s.Err, "$ homelab\n")
		st := s.Story(t.Context(), func(int, int, time.Duration) []Line { return numbered(int(rows.Load())) })
		for n := range sizes {
			rows.Store(n)
			st.Update()
		}
		st.Close()
		fmt.Fprint(s.Out, "result\n")
	}, func(term *ptytest.Term) {
		for _, n := range []int64{8, 3, 9, 1} {
			sizes <- n
			if err := term.Contains(fmt.Sprintf("row 1 of %d", n), 5*time.Second); err != nil {
				t.Error(err)
			}
		}
		close(sizes)
	})
	if got, want := term.Screen(), "row 1 of 1\nresult"; !strings.HasSuffix("\n"+got, "\n"+want) || strings.Count(got, "row") != 1 {
		t.Errorf("screen:\n%s", got)
	}
	for i, f := range term.Frames() {
		seen := strings.Count(f, "row ")
		var n int
		if at := strings.Index(f, "row 1 of "); at >= 0 {
			if _, err := fmt.Sscanf(f[at:], "row 1 of %d", &n); err != nil {
				t.Fatal(err)
			}
		}
		if seen != n {
			t.Errorf("frame %d shows %d rows, want %d:\n%s", i, seen, n, f)
		}
	}
	if _, _, visible := term.Cursor(); !visible {
		t.Error("the cursor stays hidden")
	}
}

func TestResize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		w, h int
	}{
		{"narrower", 30, 10}, {"wider", 100, 10}, {"lower", 40, 5}, {"higher", 40, 20}, {"smaller", 20, 4}, {"larger", 80, 24},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			end := make(chan struct{})
			frame := func(w, h int, _ time.Duration) []Line {
				lines := []Line{L(fmt.Sprintf("%dx%d", w, h))}
				for range h - 3 {
					lines = append(lines, L(strings.Repeat("=", w+5)))
				}
				return append(lines, L("bottom"))
			}
			term := onTerminal(t, 40, 10, func(s *Streams) {
				st := s.Story(t.Context(), frame)
				<-end
				st.Close()
			}, func(term *ptytest.Term) {
				if err := term.Contains("40x10", 5*time.Second); err != nil {
					t.Error(err)
				}
				if err := term.Resize(tt.w, tt.h); err != nil {
					t.Error(err)
				}
				if err := term.Contains(fmt.Sprintf("%dx%d", tt.w, tt.h), 5*time.Second); err != nil {
					t.Error(err)
				}
				close(end)
			})
			want := []string{fmt.Sprintf("%dx%d", tt.w, tt.h)}
			for range tt.h - 3 {
				want = append(want, strings.Repeat("=", tt.w-1)+"…")
			}
			want = append(want, "bottom")
			if got := term.Screen(); got != strings.Join(want, "\n") {
				t.Errorf("screen:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}

// A view as high as the screen allows, begun at the bottom: what was there
// scrolls up once and nothing is drawn twice.
func TestViewAtTheBottom(t *testing.T) {
	t.Parallel()
	var changes atomic.Int64
	term := onTerminal(t, 20, 6, func(s *Streams) {
		fmt.Fprint(s.Err, "1\n2\n3\n4\n5\n")
		st := s.Story(t.Context(), func(_, h int, _ time.Duration) []Line {
			return append(numbered(h-2), L(fmt.Sprint("change ", changes.Load())))
		})
		time.Sleep(150 * time.Millisecond)
		for range 3 {
			changes.Add(1)
			st.Update()
			time.Sleep(150 * time.Millisecond)
		}
		st.Note(L("a note"))
		st.Close()
	}, nil)
	want := "row 1 of 4\nrow 2 of 4\nrow 3 of 4\nrow 4 of 4\nchange 3"
	if got := term.Screen(); got != want {
		t.Errorf("screen:\n%s", got)
	}
	var notes int
	for _, f := range term.Frames() {
		if strings.Count(f, "row 1") > 1 || strings.Count(f, "change") > 1 {
			t.Errorf("drawn twice:\n%s", f)
		}
		notes += strings.Count(f, "a note")
	}
	if notes != 0 { // five rows of view and the cursor's own: the note scrolls off at once
		t.Errorf("the note stands inside the view %d times", notes)
	}
	if !strings.Contains(string(term.Raw()), "a note") {
		t.Error("the note was never printed")
	}
}

func TestNotesStayAboveInOrder(t *testing.T) {
	t.Parallel()
	term := onTerminal(t, 40, 12, func(s *Streams) {
		if err := s.Configure(Settings{Verbose: true}); err != nil {
			t.Error(err)
		}
		st := s.Story(t.Context(), func(int, int, time.Duration) []Line { return numbered(2) })
		time.Sleep(150 * time.Millisecond)
		st.Note(L("first " + strings.Repeat("long ", 10)))
		s.Verbosef("second")
		st.Continue(L("tail"))
		st.Close()
		if err := s.Payload(L("payload")); err != nil {
			t.Error(err)
		}
	}, nil)
	want := "00:00 first long long long long long lon\ng long long long long\n00:00 second\n" +
		"row 1 of 2\nrow 2 of 2\n      tail\npayload"
	if got := term.Screen(); got != want {
		t.Errorf("screen:\n%s\nwant:\n%s", got, want)
	}
}

// A terminal made so low that the view's first row is its last must keep the
// row above.
func TestResizeKeepsWhatIsAbove(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	term := onTerminal(t, 40, 10, func(s *Streams) {
		fmt.Fprint(s.Err, "1\n2\n3\n4\n5\n6\n")
		st := s.Story(t.Context(), func(_, h int, _ time.Duration) []Line {
			return append(numbered(2), L(fmt.Sprint("height ", h)))
		})
		<-end
		st.Close()
	}, func(term *ptytest.Term) {
		if err := term.Contains("height 10", 5*time.Second); err != nil {
			t.Error(err)
		}
		if err := term.Resize(40, 5); err != nil {
			t.Error(err)
		}
		if err := term.Contains("height 5", 5*time.Second); err != nil {
			t.Error(err)
		}
		close(end)
	})
	if got, want := term.Screen(), "6\nrow 1 of 2\nrow 2 of 2\nheight 5"; got != want {
		t.Errorf("screen:\n%s\nwant:\n%s", got, want)
	}
}
