package hook

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
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

func put(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func idOf(body string) artifact.ID { return artifact.NewID(sha256.Sum256([]byte(body))) }

// hook is a target whose program is a script. No test runs beside another: a
// program that is written while a process is started cannot be run for a moment.
func hook(t *testing.T, s Spec, text string) (*Target, *[]string) {
	t.Helper()
	s.Path = put(t, filepath.Join(t.TempDir(), "hook"), "#!/bin/sh\n"+text, 0o755)
	var told []string
	target, err := New(s, Deps{
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=/h", "LANG=C", "CANARY=canary", "WANTED=w"},
		Dir: filepath.Join(t.TempDir(), "work"), Watch: "www", Run: "r1",
		Tell: func(l string) { told = append(told, l) }, Grace: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return target, &told
}

// change is a switch from old to new, both in a store.
func change(t *testing.T) artifact.Switch {
	t.Helper()
	dir := t.TempDir()
	of := func(body string) artifact.Candidate {
		return artifact.Candidate{ID: idOf(body), Kind: artifact.File, Size: int64(len(body))}
	}
	return artifact.Switch{
		Watch: "www", Run: "r1", Attempt: 2, Deadline: time.Now().Add(time.Minute),
		To: of("new"), ToPath: put(t, filepath.Join(dir, "new"), "new", 0o444),
		From: &artifact.Version{Candidate: of("old")}, FromPath: put(t, filepath.Join(dir, "old"), "old", 0o444),
	}
}

func class(err error) artifact.Class {
	if err == nil {
		return ""
	}
	return artifact.FailureOf(err, "unclassed").Class
}

func TestObserve(t *testing.T) {
	id := string(idOf("x"))
	for _, tc := range []struct {
		name, text string
		sight      artifact.Sight
		why        string
	}{
		{"an id", "echo " + id, artifact.Runs, ""},
		{"without an end of line", "printf " + id, artifact.Runs, ""},
		{"chatter on the other stream", "echo thinking >&2; echo " + id, artifact.Runs, ""},
		{"none", "echo none", artifact.Nothing, ""},
		{"nothing", "", artifact.Unknown, `it wrote ""`},
		{"two lines", "echo " + id + "; echo " + id, artifact.Unknown, "want one line"},
		{"two ends", "echo " + id + "; echo", artifact.Unknown, "want one line"},
		{"upper case", "echo sha256:" + strings.ToUpper(id[7:]), artifact.Unknown, "want one line"},
		{"no form", "echo " + id[7:], artifact.Unknown, "want one line"},
		{"a blank before", "echo ' " + id + "'", artifact.Unknown, "want one line"},
		{"another end of line", `printf '` + id + `\r\n'`, artifact.Unknown, "want one line"},
		{"a commit", "echo commit:" + id[7:], artifact.Unknown, "want one line"},
		{"a flood", "head -c 5000000 /dev/zero", artifact.Unknown, "more than one line"},
		{"an id and not 0", "echo " + id + "; exit 1", artifact.Unknown, "exit status 1"},
		{"75", "echo no idea >&2; exit 75", artifact.Unknown, "exit status 75: no idea"},
		{"hangs", "exec sleep 60", artifact.Unknown, "time was up"},
		{"ignores TERM", "trap '' TERM; sleep 60 & wait; wait; sleep 60", artifact.Unknown, "time was up"},
		{"a signal", "kill -9 $$", artifact.Unknown, "killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, _ := hook(t, Spec{}, `[ "$HOMELAB_ACTION $HOMELAB_WATCH $HOMELAB_RUN_ID $#" = "observe www r1 0" ] || exit 9`+"\n"+tc.text)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if strings.Contains(tc.text, "sleep") {
				ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
			}
			defer cancel()
			o, err := h.Observe(ctx, nil)
			if err != nil || o.Sight != tc.sight || !strings.Contains(o.Why, tc.why) || tc.sight == artifact.Runs && string(o.ID) != id {
				t.Errorf("%+v, %v", o, err)
			}
		})
	}
	// A hook that was deleted can tell nothing; a watch that ends does not blame
	// the hook.
	h, _ := hook(t, Spec{}, "sleep 60")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if o, err := h.Observe(ctx, nil); !errors.Is(err, cause) {
		t.Errorf("cancelled: %+v, %v", o, err)
	}
	if err := os.Remove(h.s.Path); err != nil {
		t.Fatal(err)
	}
	if o, err := h.Observe(t.Context(), nil); err != nil || o.Sight != artifact.Unknown || !strings.Contains(o.Why, "could not be started") {
		t.Errorf("deleted: %+v, %v", o, err)
	}
}

func TestActivateAndRollback(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       artifact.Class
		what       string
	}{
		{"done", "exit 0", "", ""},
		{"not now", "echo the queue is full; exit 75", artifact.Later, "exit status 75: the queue is full"},
		{"failed", "echo 'no such domain' >&2; exit 3", artifact.Failed, "exit status 3: no such domain"},
		{"crashed", "kill -SEGV $$", artifact.Failed, "signal"},
		{"hangs", "sleep 60", artifact.Failed, "its time was up"},
		{"ignores TERM", "trap 'echo never' TERM; while :; do sleep 0.05; done", artifact.Failed, "its time was up"},
		{"says 75 when it is told to end", "trap 'exit 75' TERM; sleep 60 & wait", artifact.Failed, "its time was up"},
		{"not a program", "", artifact.Hold, "could not be started"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, _ := hook(t, Spec{}, tc.text)
			if tc.want == artifact.Hold {
				put(t, h.s.Path, "no program", 0o755)
			}
			for action, do := range map[string]func(context.Context, artifact.Switch) error{"activate": h.Activate, "rollback": h.Rollback} {
				s := change(t)
				if strings.Contains(tc.text, "sleep") {
					s.Deadline = time.Now().Add(100 * time.Millisecond)
				}
				began := time.Now()
				err := do(t.Context(), s)
				if class(err) != tc.want || err != nil && (!strings.HasPrefix(err.Error(), action+": ") || !strings.Contains(err.Error(), tc.what)) {
					t.Errorf("%s: %v", action, err)
				}
				if time.Since(began) > 5*time.Second {
					t.Errorf("%s took %s", action, time.Since(began))
				}
			}
		})
	}
	h, _ := hook(t, Spec{}, "echo still here; sleep 60")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := &fault.Signal{Signal: syscall.SIGTERM}
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if err := h.Activate(ctx, change(t)); !errors.Is(err, cause) {
		t.Errorf("a signal: %v", err)
	}
	if !slices.Equal(h.Evidence(), []string{"still here"}) {
		t.Errorf("evidence %q", h.Evidence())
	}
}

// What a hook is told: exactly this and nothing else of the environment, no
// argument but its own, no terminal, no input, a directory of its own.
func TestWhatAHookIsTold(t *testing.T) {
	h, told := hook(t, Spec{Args: []string{"$(id)", "two words", ""}, Env: []string{"WANTED", "NOT_THERE"}},
		`env | grep -v '^PWD=\|^_=\|^SHLVL=\|^OLDPWD=' | sort; for a; do echo "<$a>"; done; pwd; cat; read -r stat </proc/$$/stat; set -- ${stat##*) }; [ "$3 $4" = "$$ $$" ] || echo "group $3, session $4 of $$"`)
	s := change(t)
	s.Deadline = time.Now().Add(time.Minute).Truncate(time.Second)
	s.To.Meta = artifact.Meta{UUID: "$(reboot)", Platform: "debian-12"}
	s.Back = true
	if err := h.Rollback(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"HOME=/h",
		"HOMELAB_ACTION=rollback",
		"HOMELAB_ARTIFACT_PATH=" + s.ToPath, "HOMELAB_ARTIFACT_SHA256=" + s.To.ID.Hex(), "HOMELAB_ARTIFACT_SIZE=3",
		"HOMELAB_ATTEMPT=2",
		"HOMELAB_DEADLINE=" + s.Deadline.UTC().Format(time.RFC3339),
		"HOMELAB_PLATFORM=debian-12",
		"HOMELAB_PREVIOUS_PATH=" + s.FromPath, "HOMELAB_PREVIOUS_SHA256=" + s.From.ID.Hex(),
		"HOMELAB_RUN_ID=r1", "HOMELAB_WATCH=www", "LANG=C", "PATH=" + os.Getenv("PATH"), "WANTED=w",
		"<$(id)>", "<two words>", "<>", h.d.Dir,
	}
	if !slices.Equal(*told, want) {
		t.Errorf("told:\n%s\nwant:\n%s", strings.Join(*told, "\n"), strings.Join(want, "\n"))
	}
}

// What a hook that succeeds starts may go on; a killed one leaves nothing.
func TestWhatAHookLeaves(t *testing.T) {
	for name, tc := range map[string]struct {
		text  string
		stays bool
	}{
		"succeeds": {"sleep 60 & echo $!", true},
		"fails":    {"sleep 60 & echo $!; exit 1", false},
		"killed":   {"trap '' TERM; sleep 60 & echo $!; wait; wait; sleep 60", false},
	} {
		t.Run(name, func(t *testing.T) {
			h, told := hook(t, Spec{}, tc.text)
			s := change(t)
			if name == "killed" {
				s.Deadline = time.Now().Add(200 * time.Millisecond)
			}
			err := h.Activate(t.Context(), s)
			if (err == nil) != tc.stays || len(*told) != 1 {
				t.Fatalf("%v, told %q", err, *told)
			}
			pid, err := strconv.Atoi((*told)[0])
			if err != nil {
				t.Fatal(err)
			}
			if stays := alive(pid); stays != tc.stays {
				t.Errorf("it is alive: %v", stays)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
		})
	}
}

func alive(pid int) bool {
	for range 50 { // the system may take a moment to bury it
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, after, ok := strings.Cut(string(stat), ") "); err != nil || ok && strings.HasPrefix(after, "Z") {
			return false
		}
		time.Sleep(2 * time.Millisecond)
	}
	return true
}

func TestReady(t *testing.T) {
	h, _ := hook(t, Spec{}, "exit 1")
	if r, err := h.Ready(t.Context(), change(t)); err != nil || r.State != artifact.IsReady || r.Proof {
		t.Errorf("not asked: %+v, %v", r, err)
	}
	for _, tc := range []struct {
		name, text string
		state      artifact.ReadyState
		proof      bool
	}{
		{"ready", `[ "$HOMELAB_ACTION" = ready ]`, artifact.IsReady, true},
		{"not yet", "exit 75", artifact.NotYet, true},
		{"failed", "echo it crashed; exit 1", artifact.NotReady, true},
		{"hangs", "sleep 60", artifact.NotYet, true},
		{"gone", "", artifact.NotAsked, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, _ := hook(t, Spec{Ready: true}, tc.text)
			if tc.state == artifact.NotAsked {
				if err := os.Remove(h.s.Path); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if tc.name == "hangs" {
				ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
			}
			defer cancel()
			r, err := h.Ready(ctx, change(t))
			if err != nil || r.State != tc.state || r.Proof != tc.proof || (r.State == artifact.NotReady) != slices.Equal(r.Evidence, []string{"it crashed"}) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestStage(t *testing.T) {
	image := func(s *artifact.Switch) {
		s.To.Kind, s.To.Ref, s.ToPath = artifact.Image, "reg.example.lan/web:1@"+string(s.To.ID), ""
		s.From.Kind, s.FromPath = artifact.Image, ""
	}
	for _, tc := range []struct {
		name     string
		set      func(h *Target, s *artifact.Switch)
		class    artifact.Class
		why      artifact.Why
		warnings int
	}{
		{"good", func(*Target, *artifact.Switch) {}, "", "", 0},
		{"the first version", func(_ *Target, s *artifact.Switch) { s.From, s.FromPath = nil, "" }, "", "", 0},
		{"what is not stored is for the store", func(_ *Target, s *artifact.Switch) { s.FromPath, s.ToPath = "", "" }, "", "", 0},
		{"hook deleted", func(h *Target, _ *artifact.Switch) { h.s.Path += "x" }, artifact.Hold, artifact.Preflight, 0},
		{"images", func(_ *Target, s *artifact.Switch) { image(s); s.From.Ref = s.To.Ref }, "", "", 0},
		{"an image that was found", func(_ *Target, s *artifact.Switch) { image(s) }, "", "", 1},
		{"an image from nowhere, and none is wanted", func(_ *Target, s *artifact.Switch) { image(s); s.To.Ref, s.NoRollback = "", true }, "", "", 0},
		{"an image from nowhere", func(_ *Target, s *artifact.Switch) { image(s); s.To.Ref = "" }, artifact.Hold, artifact.NoWayBack, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, told := hook(t, Spec{}, "echo ran")
			s := change(t)
			tc.set(h, &s)
			st, err := h.Stage(t.Context(), s)
			if f := artifact.FailureOf(err, "unclassed"); class(err) != tc.class || f != nil && f.Why != tc.why || len(st.Warnings) != tc.warnings {
				t.Errorf("%+v, %v", st, err)
			}
			if len(*told) > 0 {
				t.Error("the hook was run")
			}
		})
	}
}

func TestAfterRollback(t *testing.T) {
	for _, code := range []int{0, 1} {
		h, told := hook(t, Spec{}, fmt.Sprintf("echo $HOMELAB_ACTION $HOMELAB_WATCH $HOMELAB_ARTIFACT_SHA256 $HOMELAB_PREVIOUS_SHA256; exit %d", code))
		a, err := NewAfter(h.s.Path, h.d)
		if err != nil {
			t.Fatal(err)
		}
		s := change(t)
		s.Watch, s.Run = "", ""
		if err := a.Run(t.Context(), s); (err == nil) != (code == 0) {
			t.Errorf("exit %d: %v", code, err)
		}
		if want := []string{"after-rollback www " + s.To.ID.Hex() + " " + s.From.ID.Hex()}; !slices.Equal(*told, want) {
			t.Errorf("told %q", *told)
		}
	}
	for _, path := range []string{"", "relative", "/no/such/program"} {
		if _, err := NewAfter(path, Deps{}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "--after-rollback") {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		rest  string
		flags Spec
		want  string // String of the Spec, or a part of the error
		bad   bool
	}{
		{"/usr/local/bin/www", Spec{}, "exec:/usr/local/bin/www", false},
		{"/usr//bin/../bin/www", Spec{Args: []string{"a b", "-x"}, Env: []string{"A", "B"}, Ready: true, Idempotent: true}, `exec:/usr/bin/www --arg "a b" --arg "-x" --env A --env B --ready-hook --idempotent`, false},
		{"/opt/my hook?x=%20", Spec{}, "exec:/opt/my hook?x=%20", false},
		{"", Spec{}, "names no program", true},
		{"www", Spec{}, "want an absolute path", true},
		{"./www", Spec{}, "want an absolute path", true},
		{"/opt/", Spec{}, "this is a directory", true},
		{"/a\x00b", Spec{}, "NUL", true},
		{"/a", Spec{Args: []string{"a\x00"}}, "NUL", true},
		{"/a", Spec{Env: []string{"TOKEN=s3cret"}}, "only a name", true},
		{"/a", Spec{Env: []string{"HOMELAB_ACTION"}}, "told by the watch", true},
	} {
		s, err := Parse(tc.rest, tc.flags)
		if tc.bad {
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Kind != fault.Usage || e.Next == "" || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%q: %v", tc.rest, err)
			}
			continue
		}
		if err != nil || s.String() != tc.want {
			t.Errorf("%q: %s, %v", tc.rest, s, err)
		}
	}
	if _, err := New(Spec{Path: "/no/such/hook"}, Deps{}); fault.KindOf(err) != fault.Usage {
		t.Errorf("no such hook: %v", err)
	}
}

// A hook whose watch was killed does not go on beside the next one.
func TestLeftover(t *testing.T) {
	target, told := hook(t, Spec{}, `[ "$HOMELAB_ACTION" = observe ] && echo none; exit 0`)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	start := func(script string) *exec.Cmd {
		c := exec.Command("sh", "-c", script)
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill() })
		return c
	}
	born := func(pid int) string {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Skip("no /proc here")
		}
		boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
		return strings.TrimSpace(string(boot)) + "/" + strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19]
	}
	note := func(pid int, birth string, parent int, parentBirth string) {
		put(t, target.d.mark(), fmt.Sprintf("%d %s %d %s", pid, birth, parent, parentBirth), 0o600)
	}
	alive := func(c *exec.Cmd) bool {
		done := make(chan struct{})
		go func() { _ = c.Wait(); close(done) }()
		select {
		case <-done:
			return false
		case <-time.After(300 * time.Millisecond):
			return true
		}
	}
	observe := func() {
		t.Helper()
		if o, err := target.Observe(t.Context(), nil); err != nil || o.Sight != artifact.Nothing {
			t.Errorf("%+v, %v", o, err)
		}
	}

	stubborn := start(`trap "" TERM; while :; do sleep 1; done`)
	note(stubborn.Process.Pid, born(stubborn.Process.Pid), dead.Process.Pid, "boot/1")
	gone := make(chan struct{})
	go func() { _ = stubborn.Wait(); close(gone) }() // as init does
	observe()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("it goes on")
	}
	if !slices.Contains(*told, "a hook of an earlier process still ran; it was ended") {
		t.Errorf("told: %q", *told)
	}
	if _, err := os.Stat(target.d.mark()); err == nil {
		t.Error("the mark stays")
	}

	// Another process with its number is not touched, nor one that is looked after.
	other := start("sleep 60")
	note(other.Process.Pid, "boot/1", dead.Process.Pid, "boot/1")
	observe()
	own := os.Getpid()
	note(other.Process.Pid, born(other.Process.Pid), own, born(own))
	observe()
	if !alive(other) {
		t.Error("a process that is none of ours was ended")
	}
	for _, text := range []string{"", "1 a 2 b", "x y z", "-5 a 2 b"} {
		put(t, target.d.mark(), text, 0o600)
		observe()
	}

	// While it runs the mark names it, and only then.
	target.s.Path = put(t, filepath.Join(t.TempDir(), "slow"), "#!/bin/sh\nsleep 0.2; cat \"$PWD.pid\"\n", 0o755)
	*told = nil
	if err := target.Activate(t.Context(), change(t)); err != nil {
		t.Fatal(err)
	}
	if f := strings.Fields(strings.Join(*told, " ")); len(f) != 4 || f[2] != strconv.Itoa(own) || f[3] != born(own) {
		t.Errorf("the mark was %q", *told)
	}
	if _, err := os.Stat(target.d.mark()); err == nil {
		t.Error("the mark stays")
	}
}
