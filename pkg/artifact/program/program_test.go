package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/fault"
)

// script writes a program. No test here runs beside another: a program that is
// written while another process is started cannot be run for a moment.
func script(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func of(t *testing.T, text string) (Program, *[]string) {
	t.Helper()
	var told []string
	return Program{
		Path: script(t, text), Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: filepath.Join(t.TempDir(), "made", "here"),
		Grace: 100 * time.Millisecond, Tell: func(l string) { told = append(told, l) },
	}, &told
}

func TestEnds(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       End
		shown      string
	}{
		{"good", "echo fine", End{How: Exited}, "exit status 0: fine"},
		{"bad", "echo one; echo two >&2; exit 75", End{How: Exited, Code: 75}, "exit status 75: two"},
		{"silent", "exit 1", End{How: Exited, Code: 1}, "exit status 1"},
		{"signal", "kill -9 $$", End{How: Signalled, Signal: "killed"}, "ended by signal killed"},
		{"no stdin", "cat; echo end", End{How: Exited}, "exit status 0: end"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, _ := of(t, tc.text)
			got := Run(t.Context(), p)
			if got.How != tc.want.How || got.How == Exited && got.Code != tc.want.Code || got.Signal != tc.want.Signal || got.String() != tc.shown {
				t.Errorf("%+v, shown as %q", got, got)
			}
		})
	}
}

// The directory is the user's own; others pass through what it lies in.
func TestDir(t *testing.T) {
	p, _ := of(t, "pwd")
	if got := Run(t.Context(), p); got.Last() != p.Dir {
		t.Errorf("%+v", got)
	}
	for dir, want := range map[string]os.FileMode{p.Dir: 0o700, filepath.Dir(p.Dir): 0o711} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm()&^want != 0 || st.Mode().Perm()&0o700 != 0o700 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
}

func TestNotStarted(t *testing.T) {
	p, _ := of(t, "")
	for name, path := range map[string]string{"gone": p.Path + "x", "not in PATH": "no-such-program", "a directory": t.TempDir()} {
		q := p
		q.Path = path
		if got := Run(t.Context(), q); got.How != NotStarted || got.Err == nil || !strings.HasPrefix(got.String(), "it could not be started: ") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	q := p
	q.Dir = filepath.Join(file, "below")
	if got := Run(t.Context(), q); got.How != NotStarted {
		t.Errorf("no directory: %+v", got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	cancel(cause)
	if got := Run(ctx, p); got.How != NotStarted || !errors.Is(got.Err, cause) {
		t.Errorf("ctx was over: %+v", got)
	}
}

func TestAnswer(t *testing.T) {
	p, told := of(t, "echo thinking >&2; echo answer")
	p.Answer = true
	if got := Run(t.Context(), p); string(got.Answer) != "answer\n" || got.Long || !slices.Equal(*told, []string{"thinking"}) {
		t.Errorf("%+v, told %q", got, *told)
	}
	p, _ = of(t, "head -c 5000 /dev/zero")
	p.Answer = true
	if got := Run(t.Context(), p); !got.OK() || !got.Long || len(got.Answer) != 4096 {
		t.Errorf("%+v", got)
	}
}

// What a program prints can neither write to a terminal nor fill a journal, and
// its end is kept.
func TestOutput(t *testing.T) {
	p, told := of(t, `printf 'a\033[31mred\033[0m\007\n\n  \n\302\233xy\n\377\nprogress 1\rprogress 2\nsecret s3cret\nno end'`)
	p.Redact = func(s string) string { return strings.ReplaceAll(s, "s3cret", "[redacted]") }
	want := []string{"ared", "y", "\ufffd", "progress 2", "secret [redacted]", "no end"}
	if got := Run(t.Context(), p); !slices.Equal(*told, want) || !slices.Equal(got.Said, []string{strings.Join(want, "\n")}) {
		t.Errorf("told %q, kept %q", *told, got.Said)
	}

	p, told = of(t, "i=0; while [ $i -lt 1500 ]; do echo line $i; i=$((i+1)); done")
	got := Run(t.Context(), p)
	if n := len(*told); n != 1101 || (*told)[999] != "line 999" || (*told)[1000] != "(400 lines are left out)" || (*told)[1100] != "line 1499" || got.Last() != "line 1499" {
		t.Errorf("%d lines were told, last %q", n, (*told)[n-1])
	}

	// Megabytes: of lines, of one line, of nothing but ends of lines.
	p, told = of(t, "head -c 3000000 /dev/zero | tr '\\0' '\\n'; head -c 3000000 /dev/zero | tr '\\0' x; echo; yes 'many words' | head -c 3000000; echo; echo the end")
	began := time.Now()
	got = Run(t.Context(), p)
	kept := 0
	for _, s := range got.Said {
		if len(s) > 4<<10 {
			t.Errorf("a piece of %d bytes", len(s))
		}
		kept += len(s)
	}
	if len(got.Said) > 16 || kept < 60<<10 || kept > 64<<10 || got.Last() != "the end" || len((*told)[0]) > 4100 || !strings.HasSuffix((*told)[0], "…") {
		t.Errorf("%d pieces with %d bytes, last %q", len(got.Said), kept, got.Last())
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func alive(pid int) bool {
	for range 200 { // the system may take a moment to bury it
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return false
		}
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			if _, after, ok := strings.Cut(string(stat), ") "); ok && strings.HasPrefix(after, "Z") {
				return false // nobody here waits for a grandchild
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return true
}

// pids are what the script wrote to the file pids in its directory.
func pids(t *testing.T, dir string) []int {
	t.Helper()
	var all []int
	for range 2000 {
		raw, err := os.ReadFile(filepath.Join(dir, "pids"))
		if err != nil {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		for word := range strings.FieldsSeq(string(raw)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, pid)
		}
		return all
	}
	t.Fatal("the program did not start")
	return nil
}

// Whatever a program does against its end, it leaves no process.
func TestStopped(t *testing.T) {
	for _, tc := range []struct{ name, text string }{
		{"hangs", "sleep 60 & echo $$ $! >r; mv r pids; wait"},
		{"ignores TERM", "trap '' TERM; sleep 60 & echo $$ $! >r; mv r pids; wait; sleep 60"},
		{"says 75 when it is told to end", "trap 'exit 75' TERM; sleep 60 & echo $$ $! >r; mv r pids; wait"},
		{"fails and leaves a child", "sleep 60 & echo $! >r; mv r pids; exit 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, _ := of(t, tc.text)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			cause := errors.New("the cause")
			ended := make(chan End, 1)
			go func() { ended <- Run(ctx, p) }()
			all := pids(t, p.Dir)
			fails := strings.HasPrefix(tc.name, "fails")
			if !fails {
				cancel(cause)
			}
			select {
			case got := <-ended:
				if fails && got.Code != 1 || !fails && (got.How != Stopped || !errors.Is(got.Err, cause)) {
					t.Errorf("%+v", got)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it goes on")
			}
			for _, pid := range all {
				if alive(pid) {
					t.Errorf("process %d is alive", pid)
				}
			}
		})
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "it's plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	good := script(t, "")
	for _, tc := range []struct{ path, why, next string }{
		{good, "", ""},
		{plain, "it is not executable", "chmod +x '" + dir + `/it'\''s plain'`},
		{dir, "it is not a file", "homelab deploy watch --help"},
		{filepath.Join(dir, "none"), "there is no such file", "homelab deploy watch --help"},
		{filepath.Join(plain, "x"), "not a directory", "homelab deploy watch --help"},
	} {
		err := Check("--to exec:", tc.path)
		e, ok := errors.AsType[*fault.Error](err)
		if tc.why == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if !ok || e.Kind != fault.Usage || !strings.Contains(e.Why, tc.why) || e.Next != tc.next {
			t.Errorf("%s: %+v", tc.path, e)
		}
	}
}

var (
	digits = strings.Repeat("0123456789abcdef", 4)
	id     = artifact.ID("sha256:" + digits)
)

const aUUID = "1b8e77d2-0000-4000-8000-00000000000a"

func TestEnviron(t *testing.T) {
	env := []string{"PATH=/bin", "HOME=/h", "TOKEN=secret", "LANG=C", "LANG=de", "EXTRA=e", "HOMELAB_COMMIT=old"}
	full := Variables{
		Action: "activate", Watch: "www", Run: "r1", Attempt: 3, Deadline: time.Date(2026, 7, 1, 12, 0, 0, 5, time.FixedZone("", 3600)),
		To: &artifact.Candidate{ID: id, Kind: artifact.File, Size: 12, Meta: artifact.Meta{
			UUID: aUUID, Commit: digits[:40], URL: "https://builds.example.org/b/1", Platform: "debian-12",
		}},
		ToPath: "/store/a",
		From:   &artifact.Candidate{ID: id, Kind: artifact.File, Meta: artifact.Meta{UUID: aUUID}}, FromPath: "/store/b",
		Compare: "http://builds.example.org/compare/1/2",
	}
	image := func(ref string) *artifact.Candidate {
		return &artifact.Candidate{ID: id, Kind: artifact.Image, Ref: ref}
	}
	hostile := &artifact.Candidate{ID: "sha256:x", Kind: artifact.File, Size: -1, Meta: artifact.Meta{
		UUID: "$(reboot)", Commit: "abc\nPATH=/evil", URL: "file:///etc/passwd", Platform: "a b;c",
	}}
	for _, tc := range []struct {
		name  string
		v     Variables
		names []string
		want  []string
	}{
		{"everything", full, []string{"EXTRA", "NOT_SET", "PATH"}, []string{
			"PATH=/bin", "HOME=/h", "LANG=de", "EXTRA=e",
			"HOMELAB_ACTION=activate", "HOMELAB_WATCH=www", "HOMELAB_RUN_ID=r1", "HOMELAB_ATTEMPT=3", "HOMELAB_DEADLINE=2026-07-01T11:00:00Z",
			"HOMELAB_COMMIT=" + digits[:40], "HOMELAB_PLATFORM=debian-12", "HOMELAB_BUILD_UUID=" + aUUID, "HOMELAB_BUILD_URL=https://builds.example.org/b/1",
			"HOMELAB_ARTIFACT_PATH=/store/a", "HOMELAB_ARTIFACT_SHA256=" + digits, "HOMELAB_ARTIFACT_SIZE=12",
			"HOMELAB_COMPARE_URL=http://builds.example.org/compare/1/2",
			"HOMELAB_PREVIOUS_PATH=/store/b", "HOMELAB_PREVIOUS_SHA256=" + digits, "HOMELAB_PREVIOUS_UUID=" + aUUID,
		}},
		{"nothing", Variables{Action: "observe"}, nil, []string{"PATH=/bin", "HOME=/h", "LANG=de", "HOMELAB_ACTION=observe"}},
		{"images", Variables{To: image("reg.example.lan:5000/shop/web:main-1@sha256:" + digits), From: image("")}, nil, []string{
			"PATH=/bin", "HOME=/h", "LANG=de", "HOMELAB_ARTIFACT_SHA256=" + digits, "HOMELAB_ARTIFACT_REF=reg.example.lan:5000/shop/web@sha256:" + digits,
			"HOMELAB_PREVIOUS_SHA256=" + digits, "HOMELAB_PREVIOUS_REF=reg.example.lan:5000/shop/web@sha256:" + digits,
		}},
		{"a commit", Variables{To: &artifact.Candidate{ID: artifact.ID("commit:" + digits[:40]), Kind: artifact.Commit}}, nil, []string{
			"PATH=/bin", "HOME=/h", "LANG=de", "HOMELAB_COMMIT=" + digits[:40],
		}},
		{"hostile", Variables{To: hostile, ToPath: "relative", Compare: "https://a:b@c/"}, nil, []string{"PATH=/bin", "HOME=/h", "LANG=de"}},
		{"hostile too", Variables{To: image("-x $(id)@sha256:" + digits), Compare: "https://a/\x1b[31m"}, nil, []string{
			"PATH=/bin", "HOME=/h", "LANG=de", "HOMELAB_ARTIFACT_SHA256=" + digits,
		}},
	} {
		if got := tc.v.Environ(env, tc.names...); !slices.Equal(got, tc.want) {
			t.Errorf("%s:\n%s\nwant\n%s", tc.name, strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
		}
	}
}

func TestName(t *testing.T) {
	for name, good := range map[string]bool{"A": true, "_a1": true, "A=b": false, "": false, "1A": false, "A-B": false, "HOMELAB_X": false, "A\x00": false} {
		if (Name(name) == "") != good {
			t.Errorf("%q: %q", name, Name(name))
		}
	}
}

func TestPlaceholders(t *testing.T) {
	c := artifact.Candidate{ID: id, Kind: artifact.File, Meta: artifact.Meta{Commit: digits[:40]}}
	for _, tc := range []struct {
		text, filled, missing, wrong string
		has                          bool
	}{
		{"plain", "plain", "", "", false},
		{"v={sha256:12}.", "v=0123456789ab.", "", "", true},
		{"{sha256}{commit}", digits + digits[:40], "", "", true},
		{"{sha256:64}", digits, "", "", true},
		{"{uuid} {commit}", " " + digits[:40], "{uuid}", "", true},
		{`{"ok":true} {}`, `{"ok":true} {}`, "", "", false},
		{"{sha265}", "{sha265}", "", "{sha265}", false},
		{"{sha256:0}", "{sha256:0}", "", "{sha256:0}", false},
		{"{sha256:65}", "{sha256:65}", "", "{sha256:65}", false},
		{"{commit:8}", "{commit:8}", "", "{commit:8}", false},
	} {
		filled, missing := Fill(tc.text, c)
		has, wrong := Placeholders(tc.text)
		if filled != tc.filled || missing != tc.missing || has != tc.has || wrong != tc.wrong {
			t.Errorf("%q: %q, missing %q, has %v, wrong %q", tc.text, filled, missing, has, wrong)
		}
	}
}
