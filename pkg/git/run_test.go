package git_test

import (
	"bytes"
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

	"homelab/internal/gittest"
	"homelab/pkg/git"
)

func sh(t *testing.T, script string) git.Command {
	t.Helper()
	return git.Command{Dir: t.TempDir(), Name: "sh", Args: []string{"-c", script}, Env: gittest.Env(t)}
}

func TestRunEnds(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		code         int
		signal, why  string
	}{
		{"ok", "echo out; echo err >&2", 0, "", ""},
		{"exit", "echo 'warning: x' >&2; echo 'fatal: no luck' >&2; echo 'hint: try y' >&2; exit 3", 3, "", "no luck"},
		{"plain words", "echo one >&2; echo two >&2; exit 1", 1, "", "two"},
		{"silent", "exit 1", 1, "", ""},
		{"signal", "kill -KILL $$", -1, "killed", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := git.Run(t.Context(), sh(t, tc.script))
			if res.ExitCode != tc.code {
				t.Errorf("exit code %d, want %d", res.ExitCode, tc.code)
			}
			if tc.code == 0 {
				if err != nil || string(res.Stdout) != "out\n" || string(res.Stderr) != "err\n" {
					t.Errorf("%q, %q, %v", res.Stdout, res.Stderr, err)
				}
				return
			}
			var failed *git.CommandError
			if !errors.As(err, &failed) {
				t.Fatalf("error %v", err)
			}
			if failed.ExitCode != tc.code || failed.Signal != tc.signal || failed.Why() != tc.why {
				t.Errorf("%+v, why %q", failed, failed.Why())
			}
		})
	}
}

func TestRunDoesNotStart(t *testing.T) {
	c := sh(t, "")
	c.Name = "no-such-program"
	if _, err := git.Run(t.Context(), c); !errors.Is(err, git.ErrNoProgram) {
		t.Errorf("unknown program: %v", err)
	}
	// A checkout cannot supply programs: neither by its directory nor by a
	// relative entry in PATH.
	c = sh(t, "")
	if err := os.WriteFile(filepath.Join(c.Dir, "tool"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.Env = []string{"PATH=.:"}
	for _, name := range []string{"tool", "./tool", ""} {
		c.Name = name
		if _, err := git.Run(t.Context(), c); !errors.Is(err, git.ErrNoProgram) {
			t.Errorf("%q: %v", name, err)
		}
	}
	c = sh(t, "true")
	c.Dir = filepath.Join(c.Dir, "gone")
	if _, err := git.Run(t.Context(), c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	c.Dir = "."
	if _, err := git.Run(t.Context(), c); err == nil {
		t.Error("a relative directory was accepted")
	}
	// What never ran can be told from what ran and failed.
	c = sh(t, "")
	c.Name, c.Args = filepath.Join(c.Dir, "plain"), nil
	if err := os.WriteFile(c.Name, []byte("echo ran >ran\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var start *git.StartError
	if _, err := git.Run(t.Context(), c); !errors.As(err, &start) || !errors.Is(err, os.ErrPermission) {
		t.Errorf("not executable: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	cancel(cause)
	c = sh(t, "echo ran > ran")
	if _, err := git.Run(ctx, c); !errors.Is(err, cause) {
		t.Errorf("cancelled before: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "ran")); err == nil {
		t.Error("it ran all the same")
	}
}

func TestRunEnvironment(t *testing.T) {
	c := sh(t, "env; pwd")
	c.Env = append(c.Env,
		"GIT_DIR=/elsewhere/.git", "GIT_INDEX_FILE=/elsewhere/index", "GIT_WORK_TREE=/elsewhere",
		"GIT_OBJECT_DIRECTORY=/x", "GIT_ALTERNATE_OBJECT_DIRECTORIES=/x", "GIT_COMMON_DIR=/x", "GIT_PREFIX=x/",
		"GIT_NAMESPACE=x", "GIT_SHALLOW_FILE=/x", "GIT_QUARANTINE_PATH=/x",
		"GIT_LITERAL_PATHSPECS=/x", "GIT_GLOB_PATHSPECS=/x", "GIT_NOGLOB_PATHSPECS=/x", "GIT_ICASE_PATHSPECS=/x", "GIT_ATTR_SOURCE=/x",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=a.b", "GIT_CONFIG_VALUE_0=c", "GIT_ASKPASS=ask", "GIT_AUTHOR_NAME=Anna",
		"TWICE=1", "TWICE=2", "PWD=/elsewhere", "not a variable")
	res, err := git.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(res.Stdout), "\n")
	for _, want := range []string{
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=a.b", "GIT_CONFIG_VALUE_0=c", "GIT_ASKPASS=ask",
		"GIT_AUTHOR_NAME=Anna", "TWICE=2", "PWD=" + c.Dir, c.Dir,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is missing in:\n%s", want, res.Stdout)
		}
	}
	for _, line := range lines {
		if strings.Contains(line, "elsewhere") || strings.HasSuffix(line, "=/x") || strings.HasPrefix(line, "GIT_NAMESPACE") ||
			strings.HasPrefix(line, "GIT_PREFIX") || line == "TWICE=1" {
			t.Errorf("%s got through", line)
		}
	}
}

// A process that would ask on the terminal finds none, and fails at once.
func TestRunHasNoTerminal(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	res, err := git.Run(t.Context(), sh(t, `read -r stat </proc/$$/stat; set -- ${stat##*) }; echo "$$ $4"`))
	pid, session, _ := strings.Cut(strings.TrimSpace(string(res.Stdout)), " ")
	if err != nil || pid != session {
		t.Errorf("%q, %v", res.Stdout, err)
	}
}

func TestRunOutput(t *testing.T) {
	c := sh(t, "head -c 5000 /dev/zero")
	c.MaxOutput = 1000
	res, err := git.Run(t.Context(), c)
	var large *git.TooLargeError
	if !errors.As(err, &large) || large.Limit != 1000 || len(res.Stdout) != 1000 {
		t.Errorf("stdout: %d bytes, %v", len(res.Stdout), err)
	}
	res, err = git.Run(t.Context(), sh(t, "echo first >&2; head -c 200000 /dev/zero >&2; echo last >&2"))
	if err != nil || len(res.Stderr) > 66<<10 || !bytes.HasPrefix(res.Stderr, []byte("first\n")) || !bytes.HasSuffix(res.Stderr, []byte("last\n")) {
		t.Errorf("stderr: %d bytes, %v", len(res.Stderr), err)
	}
	// One writer for both streams keeps their order.
	var both bytes.Buffer
	c = sh(t, "echo 1; echo 2 >&2; echo 3")
	c.Stdout, c.Stderr = &both, &both
	if _, err := git.Run(t.Context(), c); err != nil || both.String() != "1\n2\n3\n" {
		t.Errorf("both: %q, %v", both.String(), err)
	}
	// A writer that fails neither stops nor blocks the child.
	c = sh(t, "head -c 300000 /dev/zero; echo done > done")
	c.Stdout = failing{}
	if _, err := git.Run(t.Context(), c); !errors.Is(err, errWriter) {
		t.Errorf("failing writer: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "done")); err != nil {
		t.Error(err)
	}
	c = sh(t, "cat")
	c.Stdin = strings.NewReader("in")
	if res, err := git.Run(t.Context(), c); err != nil || string(res.Stdout) != "in" {
		t.Errorf("stdin: %q, %v", res.Stdout, err)
	}
	if res, err := git.Run(t.Context(), sh(t, "cat; echo end")); err != nil || string(res.Stdout) != "end\n" {
		t.Errorf("no stdin: %q, %v", res.Stdout, err)
	}
}

var errWriter = errors.New("the writer's error")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errWriter }

func TestRunRedacts(t *testing.T) {
	c := sh(t, "echo 'fatal: unable to access https://anna:s3cret@git.example.lan/a/b' >&2; exit 128")
	c.Args = append(c.Args, "https://anna:s3/cret@git.example.lan/a/b", "http.https://x/.extraHeader=Authorization: s3cret")
	_, err := git.Run(t.Context(), c)
	var failed *git.CommandError
	if !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%v %+v", err, *failed); strings.Contains(s, "s3") || strings.Contains(s, "anna") {
		t.Errorf("the error shows a secret: %s", s)
	}
	if !strings.Contains(failed.Stderr, "https://git.example.lan/a/b") {
		t.Errorf("nothing is left of the URL: %s", failed.Stderr)
	}
}

// children runs script, which has to write its pids to ready and rename it to
// pids, cancels once it has, and returns how long Run took from then on.
func cancelled(t *testing.T, script string, grace time.Duration) (pids []int, took time.Duration, err error) {
	t.Helper()
	c := sh(t, script)
	c.Grace = grace
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() {
		_, err := git.Run(ctx, c)
		ended <- err
	}()
	file := filepath.Join(c.Dir, "pids")
	for range 2000 {
		if data, err := os.ReadFile(file); err == nil {
			for word := range strings.FieldsSeq(string(data)) {
				pid, err := strconv.Atoi(word)
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, pid)
			}
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if len(pids) == 0 {
		t.Fatal("the children did not start")
	}
	start := time.Now()
	cancel(errCause)
	err = <-ended
	return pids, time.Since(start), err
}

var errCause = errors.New("the cause")

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

func TestRunCancelEndsTheGroup(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		grace        time.Duration
		atLeast      time.Duration
	}{
		{"at once", "sleep 60 & echo $$ $! > r; mv r pids; wait", 5 * time.Second, 0},
		{"child ignores TERM", "(trap '' TERM; sleep 60) & echo $$ $! > r; mv r pids; wait", 100 * time.Millisecond, 90 * time.Millisecond},
		{"all ignore TERM", "trap '' TERM; sleep 60 & echo $$ $! > r; mv r pids; wait; wait; sleep 60", 100 * time.Millisecond, 90 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pids, took, err := cancelled(t, tc.script, tc.grace)
			if !errors.Is(err, errCause) {
				t.Errorf("error %v", err)
			}
			if took > 3*time.Second || took < tc.atLeast {
				t.Errorf("it took %v", took)
			}
			for _, pid := range pids {
				if alive(pid) {
					t.Errorf("process %d is alive", pid)
				}
			}
		})
	}
}

// What a command leaves behind must not keep its caller waiting, and is ended
// if that was asked for.
func TestRunLeftBehind(t *testing.T) {
	for _, tc := range []struct {
		name               string
		sweep, sweepFailed bool
		exit               int
		ended              bool
	}{
		{"git", false, false, 0, false},
		{"sweep", true, false, 0, true},
		{"what succeeded may leave something", false, true, 0, false},
		{"what failed may not", false, true, 75, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := sh(t, fmt.Sprintf("sleep 60 & echo $!; exit %d", tc.exit))
			c.Sweep, c.SweepFailed = tc.sweep, tc.sweepFailed
			start := time.Now()
			res, err := git.Run(t.Context(), c)
			if res.ExitCode != tc.exit || time.Since(start) > 5*time.Second {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(res.Stdout)))
			if err != nil {
				t.Fatal(err)
			}
			if tc.ended {
				if alive(pid) {
					t.Error("it was not ended")
				}
				return
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("it was ended without being asked to: %v", err)
			}
		})
	}
}
