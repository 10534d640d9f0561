package git

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A mark names a process that must not outlive the one that started it, and
// that one: "PID BIRTH PID BIRTH". A birth is when a process began, in ticks
// since the boot it names; so a number that was given anew is another process.

// birth is when process pid began; "" if there is none, or the system has no
// /proc to tell.
func birth(pid int) string {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// The name in parentheses may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	const begun = 19 // of those behind the name
	if err != nil || len(fields) <= begun || fields[0] == "Z" {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[begun]
}

// mark writes down that this process started pid. A failure costs only that
// a leftover is not found.
func mark(name string, pid int) {
	own := os.Getpid()
	text := strings.Join([]string{strconv.Itoa(pid), birth(pid), strconv.Itoa(own), birth(own)}, " ")
	_ = os.WriteFile(name, []byte(text), 0o600)
}

// EndLeftover ends the process group that a mark names, if its leader lives and
// the process that started it does not: TERM, and KILL after the grace. It says
// whether there was one. Source: Command.Mark of an earlier process.
func EndLeftover(ctx context.Context, name string, grace time.Duration) (bool, error) {
	text, err := os.ReadFile(name) //nolint:gosec // the caller's own state
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	f := strings.Fields(string(text))
	if len(f) != 4 {
		return false, os.Remove(name) // it died before it could write
	}
	pid, err1 := strconv.Atoi(f[0])
	parent, err2 := strconv.Atoi(f[2])
	if err1 != nil || err2 != nil || pid <= 1 {
		return false, os.Remove(name)
	}
	if birth(parent) == f[3] {
		return false, nil // who started it looks after it
	}
	if birth(pid) != f[1] {
		return false, os.Remove(name)
	}
	if err := signalGroup(pid, syscall.SIGTERM); err == nil && !groupEnds(ctx, pid, grace) {
		_ = signalGroup(pid, syscall.SIGKILL)
		_ = groupEnds(ctx, pid, min(grace, time.Second)) // one in the kernel's hands ends when it can
	}
	return true, os.Remove(name)
}
