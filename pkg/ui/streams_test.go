package ui

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
)

func TestConfigureRefusesUnknownColor(t *testing.T) {
	s, _, _ := Test("")
	err := s.Configure(Settings{Color: "sometimes"})
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != fault.Usage {
		t.Fatalf("got %v, want a usage error", err)
	}
}

func TestColorPolicy(t *testing.T) {
	for _, tt := range []struct {
		name string
		tty  bool
		set  Settings
		want bool
	}{
		{"terminal", true, Settings{}, true},
		{"terminal in CI", true, Settings{CI: true}, true},
		{"pipe", false, Settings{}, false},
		{"NO_COLOR", true, Settings{NoColor: true}, false},
		{"dumb", true, Settings{Dumb: true}, false},
		{"never", true, Settings{Color: "never"}, false},
		{"always in a pipe", false, Settings{Color: "always"}, true},
		{"always beats NO_COLOR", true, Settings{Color: "always", NoColor: true}, true},
		{"auto", true, Settings{Color: "auto"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _, errb := Test("")
			s.OutTTY, s.ErrTTY = tt.tty, tt.tty
			if err := s.Configure(tt.set); err != nil {
				t.Fatal(err)
			}
			if got := s.Color(); got != tt.want {
				t.Errorf("Color() = %t, want %t", got, tt.want)
			}
			st := s.Story(t.Context(), nil)
			st.Line(Line{T(OK, "✓ done")})
			st.Close()
			if got := strings.Contains(errb.String(), "\x1b["); got != tt.want {
				t.Errorf("stderr %q: coloured %t, want %t", errb, got, tt.want)
			}
		})
	}
}

func TestQuietAndVerbose(t *testing.T) {
	for _, tt := range []struct {
		set  Settings
		want string
	}{
		{Settings{}, "00:00 line\n      more\n00:00 note\nhomelab: what\n"},
		{Settings{Verbose: true}, "00:00 GET x\n00:00 line\n      more\n00:00 note\nhomelab: what\n"},
		{Settings{Quiet: true}, "homelab: what\n"},
		{Settings{Quiet: true, Verbose: true}, "00:00 GET x\nhomelab: what\n"},
		{Settings{Mode: JSON}, "00:00 line\n      more\n00:00 note\nhomelab: what\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, out, errb := Test("")
			if err := s.Configure(tt.set); err != nil {
				t.Fatal(err)
			}
			s.Verbosef("GET %s", "x")
			st := s.Story(t.Context(), func(int, int, time.Duration) []Line { return nil })
			st.Line(L("line"))
			st.Continue(L("more"))
			st.Note(L("note"))
			st.Close()
			s.Error(fault.New(fault.Failed, "what", ""))
			if diff := cmp.Diff(tt.want, errb.String()); diff != "" {
				t.Errorf("%+v: %s", tt.set, diff)
			}
			if out.Len() > 0 {
				t.Errorf("stdout has %q", out)
			}
		})
	}
}

func TestError(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  *fault.Error
		want string
	}{
		{"nothing", nil, ""},
		{"what", fault.New(fault.Failed, "pipeline 57 failed", ""), "homelab: pipeline 57 failed\n"},
		{
			"all three, one line each",
			fault.New(fault.Failed, "pipeline 57\nwas not approved", "homelab ci status --number 57").
				Because("woodpecker 400:\x1b[31m cannot\r\napprove"),
			"homelab: pipeline 57 was not approved\n  why:  woodpecker 400: cannot approve\n  next: homelab ci status --number 57\n",
		},
		{"why of controls only", fault.New(fault.Failed, "x", "").Because("\x1b[0m\n"), "homelab: x\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _, errb := Test("")
			s.Error(tt.err)
			if diff := cmp.Diff(tt.want, errb.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInteractive(t *testing.T) {
	for _, tt := range []struct{ in, err, ci, want bool }{
		{true, true, false, true},
		{true, true, true, false},
		{true, false, false, false},
		{false, true, false, false},
	} {
		s, _, _ := Test("")
		s.InTTY, s.ErrTTY = tt.in, tt.err
		if err := s.Configure(Settings{CI: tt.ci}); err != nil {
			t.Fatal(err)
		}
		if got := s.Interactive(); got != tt.want {
			t.Errorf("%+v: got %t", tt, got)
		}
	}
}

func redactCanary(s string) string { return strings.ReplaceAll(s, canary, "[redacted]") }

const canary = `ca"na\ry`

func TestRedaction(t *testing.T) {
	for _, mode := range []Mode{Text, JSON, JSONL} {
		for _, tty := range []bool{false, true} {
			t.Run(fmt.Sprintf("mode %d terminal %t", mode, tty), func(t *testing.T) {
				s, out, errb := Test("")
				s.OutTTY, s.ErrTTY = tty, tty
				s.Size = func() (int, int) { return 30, 10 } // cuts the canary in two
				if err := s.Configure(Settings{Mode: mode, Verbose: true}); err != nil {
					t.Fatal(err)
				}
				s.Redact(redactCanary)
				s.Verbosef("token %s", canary)
				st := s.Story(t.Context(), func(int, int, time.Duration) []Line {
					return []Line{L("a frame with a secret:   " + canary), {T(OK, canary[:3]), T(Bad, canary[3:])}}
				})
				st.Line(L(canary))
				st.Line(Line{T(OK, canary[:3]), T(Bad, canary[3:])})
				st.Continue(L(canary))
				st.Note(L(canary))
				s.Event("note", map[string]any{"text": canary, canary: []string{canary}})
				if err := s.Payload(L(canary), L("x")); err != nil {
					t.Fatal(err)
				}
				if err := s.PayloadTable(L("a table with a secret:   " + canary)); err != nil {
					t.Fatal(err)
				}
				raw := s.Raw()
				for _, b := range []byte("raw " + canary + " end\nlast " + canary) {
					if _, err := raw.Write([]byte{b}); err != nil {
						t.Fatal(err)
					}
				}
				s.Error(fault.New(fault.Failed, canary, canary).Because(canary))
				if err := s.Finish(&result{Header: Header{Kind: "test", Reason: canary, Next: NextCommand(canary)}}); err != nil {
					t.Fatal(err)
				}
				all := out.String() + errb.String()
				if !strings.Contains(all, "[redacted]") {
					t.Error("nothing is redacted")
				}
				for _, part := range []string{canary, canary[3:], `ca\"na\\ry`, "ca\x1b[m", `ca"na`} {
					if strings.Contains(all, part) {
						t.Errorf("%q leaks:\nout %q\nerr %q", part, out, errb)
					}
				}
			})
		}
	}
}

func TestRawPassesBytes(t *testing.T) {
	s, out, _ := Test("")
	s.Redact(redactCanary)
	raw := s.Raw()
	write := func(p string) {
		t.Helper()
		if n, err := raw.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	write("\x1b[31mred\xff\x00\nrest")
	if got, want := out.String(), "\x1b[31mred\xff\x00\n"; got != want {
		t.Errorf("complete lines: %q, want %q", got, want)
	}
	if err := s.Finish(&result{}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "\x1b[31mred\xff\x00\nrestdone\n"; got != want {
		t.Errorf("at the end: %q, want %q", got, want)
	}
}

// An endless line must not be kept in memory, and a secret in it must not be
// cut in two wherever the limit falls.
func TestRawEndlessLine(t *testing.T) {
	s, out, _ := Test("")
	s.Redact(redactCanary)
	raw := s.Raw()
	piece := strings.Repeat("x", 4096-len(canary)-3) + canary + "yyy"
	for range 100 {
		if _, err := raw.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
		if len(s.raw) > rawMost+len(piece) {
			t.Fatalf("%d bytes are kept", len(s.raw))
		}
	}
	if err := s.Finish(&result{}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), redactCanary(strings.Repeat(piece, 100))+"done\n"; got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}
