package ui

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestClean(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"plain", "ok  	homelab/pkg/ui 0.3s", "ok  	homelab/pkg/ui 0.3s"},
		{"colour", "\x1b[1;31mFAIL\x1b[0m x", "FAIL x"},
		{"cursor", "a\x1b[2J\x1b[Hb\x1b[?25lc", "abc"},
		{"colon parameters", "\x1b[38:2::255:0:0mred", "red"},
		{"title with BEL", "\x1b]0;owned\aok", "ok"},
		{"title with ST", "\x1b]0;owned\x1b\\ok", "ok"},
		{"link", "\x1b]8;;https://x\x1b\\text\x1b]8;;\x1b\\", "text"},
		{"DCS", "a\x1bP1;2q#0~\x1b\\b", "ab"},
		{"APC", "a\x1b_Gf=100;AAAA\x1b\\b", "ab"},
		{"PM", "a\x1b^secret\x1b\\b", "ab"},
		{"SOS", "a\x1bXsecret\x1b\\b", "ab"},
		{"BEL ends OSC only", "a\x1bPx\ay\x1b\\b", "ab"},
		{"eight bit CSI", "a\u009b31mb", "ab"},
		{"eight bit OSC", "a\u009d0;t\u009cb", "ab"},
		{"raw eight bit CSI is invalid UTF-8", "a\x9b31mb", "a\ufffd31mb"},
		{"string without end keeps its text", "a\x1b]0;the error", "a0;the error"},
		{"string cut off by another sequence", "\x1b]0;t\x1b[31mred", "0;tred"},
		{"CSI without end", "a\x1b[31", "a"},
		{"CSI broken off", "a\x1b[31é", "aé"},
		{"ESC at the end", "a\x1b", "a"},
		{"ESC ESC", "a\x1b\x1b[1mb", "ab"},
		{"charset", "a\x1b(0b", "ab"},
		{"reset", "a\x1bcb", "ab"},
		{"C0, DEL, C1", "a\x00\x07\x08b\x7fc\u0085d", "abcd"},
		{"bidi", "user\u202e\u2066txt.exe\u2069\u200f", "usertxt.exe"},
		{"progress bar", "10%\r50%\r100%\r", "100%"},
		{"progress bar that erases itself", "10%\r100%\r\x1b[2K", "100%"},
		{"windows line", "line\r\n", "line"},
		{"several lines", "Fix it\n\nBecause.\n", "Fix it Because."},
		{"line separator", "a\u2028b", "a b"},
		{"invalid UTF-8", "a\xff\xfeb", "a\ufffdb"},
		{"replacement character", "a\ufffdb", "a\ufffdb"},
		{"emoji with joiner", "👩\u200d🚀", "👩\u200d🚀"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Clean(tt.in); got != tt.want {
				t.Errorf("Clean(%q) = %q, want %q", tt.in, got, tt.want)
			}
			if got := Clean(tt.want); got != tt.want {
				t.Errorf("not idempotent: Clean(%q) = %q", tt.want, got)
			}
		})
	}
}

func TestCleanLines(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"a", []string{"a"}},
		{"a\n", []string{"a"}},
		{"a\r\n\n\x1b[1mb\x1b[m\n\n", []string{"a", "", "b", ""}},
	} {
		if got := CleanLines(tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("CleanLines(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "a\x1b[31mb", "\x1b]0;x\a", "\xff\u009b\r\n", "\u202e\x1b\x1b\\\x18"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range append(CleanLines(s), Clean(s)) {
			if !utf8.ValidString(got) {
				t.Fatalf("%q: invalid UTF-8 in %q", s, got)
			}
			for _, r := range got {
				if r != '\t' && unwanted(r) {
					t.Fatalf("%q: %U left in %q", s, r, got)
				}
			}
			if again := Clean(got); again != got {
				t.Fatalf("%q: not idempotent: %q, then %q", s, got, again)
			}
		}
	})
}

func TestLineWriter(t *testing.T) {
	for _, tt := range []struct {
		name   string
		most   int
		chunks []string
		want   []string
	}{
		{"lines", 0, []string{"a\nb\n"}, []string{"a", "b"}},
		{"split anywhere", 0, []string{"a\x1b[3", "1mb", "é\n"[:1], "é\n"[1:], "c"}, []string{"abé", "c"}},
		{"empty lines", 0, []string{"\n", "\n"}, []string{"", ""}},
		{"nothing", 0, nil, nil},
		{"long", 4, []string{"abcdefgh\n"}, []string{"abcd…"}},
		{"cut between characters", 4, []string{"abcé\n"}, []string{"abc…"}},
		{"endless", 4, []string{strings.Repeat("x", 1<<16), "y\nz\n"}, []string{"xxxx…", "z"}},
		{"endless progress bar", 4, []string{strings.Repeat("10%\r", 1000), "99%\r", "100%\n"}, []string{"100%"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			w := NewLineWriter(tt.most, func(l string) { got = append(got, l) })
			for _, c := range tt.chunks {
				if n, err := w.Write([]byte(c)); n != len(c) || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
				if cap(w.part) > 1<<12 {
					t.Fatalf("keeps %d bytes", cap(w.part))
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
