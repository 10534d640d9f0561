package ui

import (
	"fmt"
	"strings"
	"time"
)

// Duration returns d for people, cut to whole seconds: 12s, 1m04s, 1h02m.
// Negative ones count as none.
func Duration(d time.Duration) string {
	s := max(int64(d/time.Second), 0)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
}

// Elapsed returns d as a clock: 00:16, 1:00:16. Negative ones count as none.
func Elapsed(d time.Duration) string {
	s := max(int64(d/time.Second), 0)
	if s < 3600 {
		return fmt.Sprintf("%02d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// Timestamp returns a server's Unix seconds as a UTC time, nil for 0: a time
// of 0 means "not yet" and is null in JSON.
func Timestamp(sec int64) *time.Time {
	if sec == 0 {
		return nil
	}
	t := time.Unix(sec, 0).UTC()
	return &t
}

// Quote returns arg as one word of a POSIX shell, so that a printed command
// survives pasting: "#57" would start a comment and becomes '#57'.
func Quote(arg string) string {
	const safe = "@%+=:,./-_"
	odd := func(r rune) bool {
		alnum := (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9')
		return !alnum && !strings.ContainsRune(safe, r)
	}
	// A leading = is expanded by zsh.
	if arg != "" && arg[0] != '=' && strings.IndexFunc(arg, odd) < 0 {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// Command returns a command line of quoted words.
func Command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Quote(w)
	}
	return strings.Join(quoted, " ")
}

// ResultLine returns the one line a run ends in:
//
//	VERDICT: SUBJECT: REASON; next: NEXT
//
// Empty parts are left out. subject and reason are cleaned.
func ResultLine(verdict, subject, reason, next string) string {
	parts := []string{verdict}
	for _, p := range []string{Clean(subject), Clean(reason)} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	line := strings.Join(parts, ": ")
	if next != "" {
		line += "; next: " + Clean(next)
	}
	return line
}
