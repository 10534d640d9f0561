package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"homelab/pkg/artifact"
)

func id(n int) artifact.ID { return artifact.ID(fmt.Sprintf("sha256:%064x", n)) }

// keeper is a journal with the memory it should have.
type keeper struct {
	t   *testing.T
	dir string
	j   *Journal
	m   artifact.Memory
}

func open(t *testing.T, dir string) (*keeper, Report) {
	t.Helper()
	j, m, rep, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return &keeper{t, dir, j, m}, rep
}

func (k *keeper) add(l artifact.Line) {
	k.t.Helper()
	l.Seq, l.Time = k.m.Seq+1, time.Unix(1000+k.m.Seq, 0).UTC()
	k.m = k.m.Apply(l)
	if err := k.j.Append(l, k.m); err != nil {
		k.t.Fatal(err)
	}
}

// life is a watch's: found a, then b was made live.
func (k *keeper) life() {
	a := artifact.Version{Candidate: artifact.Candidate{ID: id(1), Kind: artifact.File, Order: 1}}
	b := artifact.Candidate{ID: id(2), Kind: artifact.File, Order: 2, Made: time.Unix(5, 0).UTC()}
	try := artifact.Attempt{N: 1, By: artifact.ByItself, Candidate: b, Previous: &a, Before: artifact.Observation{Sight: artifact.Runs, ID: a.ID}}
	k.add(artifact.Line{Op: artifact.OpRuns, Version: &a})
	k.add(artifact.Line{Op: artifact.OpOffer, ID: b.ID, Candidate: &b, Seen: "etag"})
	k.add(artifact.Line{Op: artifact.OpIntent, State: artifact.Fetching, ID: b.ID, Attempt: 1, Try: &try})
	k.add(artifact.Line{Op: artifact.OpIntent, State: artifact.Switching, ID: b.ID, Attempt: 1, Observation: &try.Before})
	k.add(artifact.Line{Op: artifact.OpDone, State: artifact.Live, ID: b.ID, Attempt: 1})
}

func (k *keeper) same(m artifact.Memory) {
	k.t.Helper()
	if !reflect.DeepEqual(m, k.m) {
		k.t.Errorf("memory is\n%+v\nwant\n%+v", m, k.m)
	}
}

func TestReopen(t *testing.T) {
	path := func(k *keeper, name string) string { return filepath.Join(k.dir, name) }
	cut := func(t *testing.T, name string, by int64) {
		info, err := os.Stat(name)
		if err == nil {
			err = os.Truncate(name, info.Size()-by)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		harm func(t *testing.T, k *keeper)
		rep  Report
		lost bool // memory is that of a first start
	}{
		{"nothing happened", func(*testing.T, *keeper) {}, Report{}, false},
		{"state.json is half written", func(t *testing.T, k *keeper) { cut(t, path(k, stateFile), 40) }, Report{Rebuilt: true}, false},
		{"state.json is empty", func(_ *testing.T, k *keeper) { _ = os.Truncate(path(k, stateFile), 0) }, Report{Rebuilt: true}, false},
		{"state.json is gone", func(_ *testing.T, k *keeper) { _ = os.Remove(path(k, stateFile)) }, Report{}, false},
		{"the journal is gone", func(_ *testing.T, k *keeper) { _ = os.Remove(path(k, linesFile)) }, Report{}, false},
		{"a line was torn", func(t *testing.T, k *keeper) {
			f, err := os.OpenFile(path(k, linesFile), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteString(`{"seq":6,"op":"intent","state":"switching","id":"sha`)
			f.Close()
		}, Report{Torn: true}, false},
		{"a line was torn into zeros", func(t *testing.T, k *keeper) {
			f, err := os.OpenFile(path(k, linesFile), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.Write(make([]byte, 512))
			f.Close()
		}, Report{Torn: true}, false},
		{"damaged in the middle", func(t *testing.T, k *keeper) { scratch(t, path(k, linesFile)) }, Report{Lost: "journal.jsonl: line 3 is damaged"}, false},
		{"damaged in the middle, and no state.json", func(t *testing.T, k *keeper) {
			scratch(t, path(k, linesFile))
			_ = os.Truncate(path(k, stateFile), 1)
		}, Report{Rebuilt: true, Lost: "journal.jsonl: line 3 is damaged"}, true},
		{"nothing is readable", func(_ *testing.T, k *keeper) {
			_ = os.Truncate(path(k, stateFile), 1)
			_ = os.Remove(path(k, linesFile))
		}, Report{Rebuilt: true, Lost: "neither state.json nor the journal can be read"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, _ := open(t, filepath.Join(t.TempDir(), "www"))
			k.life()
			k.j.Close()
			tt.harm(t, k)
			again, rep := open(t, k.dir)
			if rep != tt.rep {
				t.Errorf("report %+v, want %+v", rep, tt.rep)
			}
			if tt.lost {
				k.m = artifact.Memory{}
			}
			k.same(again.m)
			// And it goes on: what is written now is found by the next start,
			// also without state.json.
			again.add(artifact.Line{Op: artifact.OpPause, Pause: &artifact.Pause{Reason: "x"}})
			again.j.Close()
			_ = os.Remove(path(k, stateFile))
			third, rep := open(t, k.dir)
			again.same(third.m)
			if rep != (Report{}) {
				t.Errorf("afterwards %+v", rep)
			}
		})
	}
}

// scratch makes the third line unreadable.
func scratch(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	lines[2] = "{" + lines[2]
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBehind: a crash between the line and state.json.
func TestBehind(t *testing.T) {
	k, _ := open(t, t.TempDir())
	k.life()
	old, err := os.ReadFile(filepath.Join(k.dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	k.add(artifact.Line{Op: artifact.OpQuarantine, ID: id(3), Reason: "bad"})
	k.j.Close()
	if err := os.WriteFile(filepath.Join(k.dir, stateFile), old, 0o600); err != nil {
		t.Fatal(err)
	}
	again, _ := open(t, k.dir)
	k.same(again.m)
}

func TestRotation(t *testing.T) {
	k, _ := open(t, t.TempDir())
	k.life()
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(k.dir, name))
		if err != nil {
			return -1
		}
		return info.Size()
	}
	long := strings.Repeat("x", 100<<10)
	n := 0
	for ; size(olderFile) < 0 && n < 20; n++ {
		k.add(artifact.Line{Op: artifact.OpPause, Pause: &artifact.Pause{Reason: fmt.Sprint(n, long)}})
	}
	if n < 10 || n > 11 {
		t.Errorf("rotated after %d lines of 100 KiB, want at 1 MiB", n)
	}
	k.add(artifact.Line{Op: artifact.OpQuarantine, ID: id(9), Reason: "after"})
	for range 40 {
		k.add(artifact.Line{Op: artifact.OpPause, Pause: &artifact.Pause{Reason: long}})
		if a, b := size(olderFile), size(linesFile); a > 2*rotateAt || b > 2*rotateAt {
			t.Fatalf("it grows: %d and %d bytes", a, b)
		}
	}
	k.j.Close()
	if files, _ := os.ReadDir(k.dir); len(files) != 4 {
		t.Errorf("files: %v", files)
	}
	_ = os.Remove(filepath.Join(k.dir, stateFile))
	again, rep := open(t, k.dir)
	k.same(again.m)
	if rep != (Report{}) {
		t.Errorf("%+v", rep)
	}
	// A crash between the two renames of a rotation.
	again.j.Close()
	_ = os.Rename(filepath.Join(k.dir, linesFile), filepath.Join(k.dir, olderFile))
	_ = os.WriteFile(filepath.Join(k.dir, newFile), []byte("half"), 0o600)
	_ = os.Remove(filepath.Join(k.dir, stateFile))
	third, _ := open(t, k.dir)
	k.same(third.m)
	if size(newFile) >= 0 {
		t.Error("the half-made file is still there")
	}
}

func TestLockAndReaders(t *testing.T) {
	dir := t.TempDir()
	if held, err := Locked(dir); held || err != nil {
		t.Errorf("locked before: %v %v", held, err)
	}
	k, _ := open(t, dir)
	k.life()
	if _, _, _, err := Open(t.Context(), dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	if held, err := Locked(dir); !held || err != nil {
		t.Errorf("locked: %v %v", held, err)
	}
	m, _, err := Read(dir)
	if err != nil {
		t.Error(err)
	}
	k.same(m)
	if err := k.j.Status(map[string]string{"state": "live"}); err != nil {
		t.Error(err)
	}
	var st map[string]string
	if err := Status(dir, &st); err != nil || st["state"] != "live" {
		t.Errorf("status %v %v", st, err)
	}
	lines, err := History(dir)
	if err != nil || len(lines) != 5 || lines[4].State != artifact.Live {
		t.Errorf("history: %d lines, %v", len(lines), err)
	}
	k.j.Close()
	if held, _ := Locked(dir); held {
		t.Error("still locked")
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o711 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
	if _, _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown watch: %v", err)
	}
}

// TestLinks: what is written goes to the watch's own files, never through a
// link to another's.
func TestLinks(t *testing.T) {
	for _, name := range []string{linesFile, newFile, stateFile + ".tmp"} {
		dir := t.TempDir()
		k, _ := open(t, dir)
		k.life()
		k.j.Close()
		victim := filepath.Join(t.TempDir(), "victim")
		at := filepath.Join(dir, name)
		if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, at); err != nil {
			t.Fatal(err)
		}
		if j, m, _, err := Open(t.Context(), dir); err == nil {
			k.j, k.m = j, m
			k.life()
			j.Close()
		}
		if got, err := os.ReadFile(victim); err != nil || string(got) != "mine" {
			t.Errorf("%s: the file behind the link is %q, %v", name, got, err)
		}
	}
}

// TestBroken: after a failed write nothing more is accepted.
func TestBroken(t *testing.T) {
	k, _ := open(t, t.TempDir())
	k.life()
	k.j.file.Close()
	l := artifact.Line{Seq: 99, Op: artifact.OpResume}
	if err := k.j.Append(l, k.m); err == nil {
		t.Error("a closed file took a line")
	}
	k.j.file, _ = os.OpenFile(filepath.Join(k.dir, linesFile), os.O_APPEND|os.O_RDWR, 0)
	if err := k.j.Append(l, k.m); err == nil {
		t.Error("it went on after a failed write")
	}
}
