package ui

import (
	"os/exec"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for _, tt := range []struct {
		d              time.Duration
		words, elapsed string
	}{
		{-time.Second, "0s", "00:00"},
		{0, "0s", "00:00"},
		{999 * time.Millisecond, "0s", "00:00"},
		{16 * time.Second, "16s", "00:16"},
		{time.Minute - time.Millisecond, "59s", "00:59"},
		{time.Minute, "1m00s", "01:00"},
		{64 * time.Second, "1m04s", "01:04"},
		{time.Hour, "1h00m", "1:00:00"},
		{time.Hour + 2*time.Minute + 16*time.Second, "1h02m", "1:02:16"},
		{26 * time.Hour, "26h00m", "26:00:00"},
	} {
		if got := Duration(tt.d); got != tt.words {
			t.Errorf("Duration(%s) = %q, want %q", tt.d, got, tt.words)
		}
		if got := Elapsed(tt.d); got != tt.elapsed {
			t.Errorf("Elapsed(%s) = %q, want %q", tt.d, got, tt.elapsed)
		}
	}
}

func TestTimestamp(t *testing.T) {
	if Timestamp(0) != nil {
		t.Error("0 is not yet, which is nil")
	}
	if got := Timestamp(1700000000); got.Format(time.RFC3339) != "2023-11-14T22:13:20Z" {
		t.Errorf("got %s", got)
	}
}

func TestQuote(t *testing.T) {
	for arg, want := range map[string]string{
		"":                "''",
		"ada/app":         "ada/app",
		"--number=57":     "--number=57",
		"#57":             "'#57'",
		"57":              "57",
		"a b":             "'a b'",
		"it's":            `'it'\''s'`,
		"$(rm -rf /)":     "'$(rm -rf /)'",
		"HEAD~1":          "'HEAD~1'",
		"=ls":             "'=ls'",
		"*":               "'*'",
		"é":               "'é'",
		"!x":              "'!x'",
		"user@host:a/b.c": "user@host:a/b.c",
	} {
		if got := Quote(arg); got != want {
			t.Errorf("Quote(%q) = %s, want %s", arg, got, want)
		}
		out, err := exec.Command("sh", "-c", "printf %s "+Quote(arg)).Output()
		if err != nil || string(out) != arg {
			t.Errorf("a shell reads %s as %q (%v), want %q", Quote(arg), out, err, arg)
		}
	}
	if got, want := Command("homelab", "ci", "logs", "--step", "unit test"), "homelab ci logs --step 'unit test'"; got != want {
		t.Errorf("Command: %s, want %s", got, want)
	}
}

func TestResultLine(t *testing.T) {
	for _, tt := range []struct{ verdict, subject, reason, next, want string }{
		{
			"failure", "ada/app #57 (41bdff3) 1m20s", "step unit exited with 3", "homelab ci logs --number 57",
			"failure: ada/app #57 (41bdff3) 1m20s: step unit exited with 3; next: homelab ci logs --number 57",
		},
		{"success", "ada/app", "passed", "", "success: ada/app: passed"},
		{"usage", "", "no server", "homelab config init", "usage: no server; next: homelab config init"},
		{"error", "a\x1b[1m", "two\nlines", "", "error: a: two lines"},
		{"ready", "", "", "", "ready"},
	} {
		if got := ResultLine(tt.verdict, tt.subject, tt.reason, tt.next); got != tt.want {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
	}
}
