package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"homelab/internal/golden"
)

type result struct {
	Header
	Title string     `json:"title"`
	Time  *time.Time `json:"time"`
	Bad   any        `json:"bad,omitempty"`
}

func (r *result) Text(width int, color bool) []string {
	return []string{Line{T(Plain, r.Title), T(OK, "done")}.Render(width, color)}
}

func TestFinish(t *testing.T) {
	for name, mode := range map[string]Mode{"text": Text, "json": JSON, "jsonl": JSONL} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, out, errb := Test("")
				if err := s.Configure(Settings{Mode: mode}); err != nil {
					t.Fatal(err)
				}
				s.Event("found", map[string]any{"number": 57, "time": "the event's own wins"})
				time.Sleep(1234567 * time.Microsecond)
				s.Event("note", "a text")
				s.Event("heartbeat", nil)
				s.Event("trouble", map[string]any{"bad": func() {}})
				if s.Finished() {
					t.Error("finished before Finish")
				}
				r := &result{
					Header: Header{
						Kind: "ci.watch", Verdict: "failure", ExitCode: 1,
						Reason: "a < b && c > d \u009b31m \x1b[1m \u202e \xff é", Next: NextCommand("homelab ci logs"),
					},
					Title: "ada/app: ",
				}
				if err := s.Finish(r); err != nil {
					t.Fatal(err)
				}
				if !s.Finished() {
					t.Error("not finished after Finish")
				}
				printed := out.String()
				s.Event("note", nil)
				if err := s.Payload(L("late")); err != nil {
					t.Error(err)
				}
				if err := s.Finish(r); err == nil || out.String() != printed {
					t.Errorf("a second result: error %v, stdout %q", err, out)
				}
				if errb.Len() > 0 {
					t.Errorf("stderr has %q", errb)
				}
				golden.Compare(t, "", out.Bytes())
				if mode != Text {
					for line := range bytes.Lines(out.Bytes()) {
						if !json.Valid(line) {
							t.Errorf("not JSON: %s", line)
						}
					}
				}
			})
		})
	}
}

// What cannot be encoded must not use up the one result.
func TestFinishCanBeTriedAgain(t *testing.T) {
	for _, mode := range []Mode{JSON, JSONL} {
		s, out, _ := Test("")
		if err := s.Configure(Settings{Mode: mode}); err != nil {
			t.Fatal(err)
		}
		if err := s.Finish(&result{Bad: func() {}}); err == nil || s.Finished() || out.Len() > 0 {
			t.Fatalf("error %v, finished %t, stdout %q", err, s.Finished(), out)
		}
		if err := s.Finish(&result{}); err != nil || strings.Count(out.String(), "\n") != 1 {
			t.Fatalf("error %v, stdout %q", err, out)
		}
	}
	s, _, _ := Test("")
	if err := s.Finish(nil); err == nil || s.Finished() {
		t.Errorf("no result: error %v, finished %t", err, s.Finished())
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func TestFinishTellsOfEarlierFailure(t *testing.T) {
	full := errors.New("no space left")
	s, out, _ := Test("")
	if err := s.Configure(Settings{Mode: JSONL}); err != nil {
		t.Fatal(err)
	}
	s.Out = broken{full}
	s.Event("note", nil)
	s.Out = out
	if err := s.Finish(&result{}); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
}

func TestFinishClosesTheStory(t *testing.T) {
	s, out, errb := Test("")
	s.ErrTTY, s.OutTTY = true, true
	st := s.Story(t.Context(), func(int, int, time.Duration) []Line { return []Line{L("state")} })
	if err := s.Finish(&result{}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(errb.String(), showCursor) {
		t.Errorf("the cursor is not back: %q", errb)
	}
	st.Close()
	if got, want := out.String(), "\x1b[32mdone\x1b[m\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
}

func TestResultInASCII(t *testing.T) {
	for _, tt := range []struct {
		set  Settings
		tty  bool
		want string
	}{
		{Settings{ASCII: true}, true, "+ na?ve \x1b[32mdone\x1b[m\n"},
		{Settings{Dumb: true}, true, "+ naïve done\n"},
		{Settings{ASCII: true, Dumb: true}, false, "✓ naïve done\n"},
	} {
		s, out, _ := Test("")
		s.OutTTY = tt.tty
		if err := s.Configure(tt.set); err != nil {
			t.Fatal(err)
		}
		if err := s.Finish(&result{Title: "✓ naïve "}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, out.String()); diff != "" {
			t.Errorf("%+v: %s", tt.set, diff)
		}
	}
}
