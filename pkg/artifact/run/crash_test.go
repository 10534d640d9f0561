package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/fault"
)

// disk is a target on disk, as a hook is: what it runs outlives the process
// that is killed, and each activation leaves a line.
type disk struct {
	host
	dir  string
	kill string // the process dies within an activation: "begun", "done"
}

func (d *disk) Observe(context.Context, []artifact.ID) (artifact.Observation, error) {
	data, err := os.ReadFile(filepath.Join(d.dir, "runs"))
	if errors.Is(err, os.ErrNotExist) {
		return artifact.Observation{Sight: artifact.Nothing}, nil
	}
	return artifact.Observation{Sight: artifact.Runs, ID: artifact.ID(data)}, err
}

func (d *disk) put(id artifact.ID, did string) error {
	f, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	fmt.Fprintf(f, "%s %s\n", did, id)
	d.die("begun")
	next := filepath.Join(d.dir, "next")
	err = errors.Join(f.Close(), os.WriteFile(next, []byte(id), 0o600), os.Rename(next, filepath.Join(d.dir, "runs")))
	d.die("done")
	return err
}

func (d *disk) die(at string) {
	if d.kill == at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it does not get further
	}
}

func (d *disk) Activate(_ context.Context, s artifact.Switch) error {
	if data, err := os.ReadFile(s.ToPath); err != nil || artifact.NewID(sum(data)) != s.To.ID {
		return fmt.Errorf("a torn file: %q %w", data, err)
	}
	return d.put(s.To.ID, "activate")
}

func (d *disk) Rollback(_ context.Context, s artifact.Switch) error {
	return d.put(s.To.ID, "rollback")
}

func (d *disk) Probe(ctx context.Context, c artifact.Candidate, _ bool) []artifact.ProbeResult {
	o, err := d.Observe(ctx, nil)
	return []artifact.ProbeResult{{Probe: "http:x", OK: err == nil && o.Is(c.ID) && !d.bad[c.ID]}}
}

// plan is what a child does.
type plan struct {
	Root, Dir  string
	Offer      string
	Idempotent bool
	Bad        bool // the offer fails its probes
	Kill       int  // after so many lines; 0 never
	Within     string
}

// TestCrashChild is the process that is killed.
func TestCrashChild(t *testing.T) {
	var p plan
	if text := os.Getenv("RUN_CRASH_PLAN"); text == "" {
		t.Skip("only as a child of TestCrashes")
	} else if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := artifact.Defaults()
		c.Kind, c.Idempotent = artifact.File, p.Idempotent
		source, target := &shelf{}, &disk{dir: p.Dir, kill: p.Within}
		target.bad = map[artifact.ID]bool{idOf(p.Offer): p.Bad}
		source.put(p.Offer, int64(len(p.Offer)))
		lines := 0
		o := Options{
			Place: Place{p.Root, "www"}, Config: c, Source: source, Target: target, Prober: target, From: "s", To: "t",
			wrote: func(artifact.Line) {
				if lines++; lines == p.Kill {
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {} // it does not get further
				}
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		l, err := open(ctx, o, daemon)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			l.run(ctx, nil)
			_, _ = l.finish(l.now())
			close(done)
		}()
		time.Sleep(20 * time.Minute)
		cancel()
		<-done
		t.Logf("lines %d", lines)
	})
}

// child runs one to its end and reports whether it was killed.
func child(t *testing.T, p plan) (killed bool) {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
	c.Env = append(os.Environ(), "RUN_CRASH_PLAN="+string(data))
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit) && exit.ExitCode() == -1:
		return true
	}
	t.Fatalf("child %+v: %v\n%s", p, err, out)
	return false
}

// Killed after each line of the journal and started again: a hook activates
// at most once, and the end is what it should be.
func TestCrashes(t *testing.T) {
	for _, tc := range []struct {
		name            string
		idempotent, bad bool
	}{{"file", true, false}, {"exec", false, false}, {"file that fails", true, true}, {"exec that fails", false, true}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			first := t.TempDir()
			base := plan{Root: filepath.Join(first, "state"), Dir: first, Offer: "a", Idempotent: tc.idempotent}
			if child(t, base) {
				t.Fatal("killed without a reason")
			}
			var mu sync.Mutex
			reached := 0
			var all sync.WaitGroup
			slots := make(chan bool, 3)
			for kill := 1; kill <= 14; kill++ {
				slots <- true
				all.Go(func() {
					defer func() { <-slots }()
					p := plan{Offer: "bb", Idempotent: tc.idempotent, Bad: tc.bad, Kill: kill}
					if kill > 12 {
						p.Kill, p.Within = 0, []string{"begun", "done"}[kill-13]
					}
					if crash(t, first, p) {
						mu.Lock()
						reached++
						mu.Unlock()
					}
				})
			}
			all.Wait()
			if reached < 8 {
				t.Errorf("only %d lines are written in a deployment", reached)
			}
		})
	}
}

// crash kills one deployment of b over a and reports whether it got that far.
func crash(t *testing.T, from string, p plan) bool {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Error(err)
		return false
	}
	at := fmt.Sprintf("killed after line %d %s", p.Kill, p.Within)
	within, idempotent, bad := p.Within, p.Idempotent, p.Bad
	p.Root, p.Dir = filepath.Join(dir, "state"), dir
	killed := child(t, p)
	place := Place{p.Root, "www"}
	_ = os.WriteFile(filepath.Join(place.store(), ".tmp-left"), []byte("half"), 0o600) // as a download leaves
	p.Kill, p.Within = 0, ""
	if child(t, p) {
		t.Error("killed without a reason")
		return killed
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Error(err)
	}
	activations := strings.Count(string(log), "activate "+string(idOf("bb")))
	m, rep, err := journal.Read(place.Dir())
	if err != nil || rep.Lost != "" || m.Attempt != nil {
		t.Errorf("%s: %+v %+v %v", at, m.Attempt, rep, err)
	}
	runs, err := os.ReadFile(filepath.Join(dir, "runs"))
	if err != nil {
		t.Error(err)
	}
	quarantined := len(m.Quarantine) == 1 && m.Quarantine[0].ID == idOf("bb")
	live := string(runs) == string(idOf("bb")) && m.Phase == artifact.Live && m.Running.ID == idOf("bb") && !quarantined
	back := string(runs) == string(idOf("a")) && m.Running.ID == idOf("a") && quarantined
	switch {
	case within == "begun" && idempotent && activations == 2: // the same attempt, finished
		if bad && !back || !bad && !live {
			t.Errorf("%s: %s runs, %s %+v", at, runs, m.Phase, m.Quarantine)
		}
	case within != "" && !killed:
		t.Errorf("%s: it was not killed", at)
	case activations > 1:
		t.Errorf("%s: activated %d times\n%s", at, activations, log)
	case bad && !back:
		t.Errorf("%s: not back: %s runs, %s %+v\n%s", at, runs, m.Phase, m.Quarantine, log)
	case !bad && idempotent && !live:
		t.Errorf("%s: not live: %s runs, %s %+v", at, runs, m.Phase, m.Quarantine)
	case !bad && !live && !back:
		t.Errorf("%s: neither live nor as before: %s runs, %s %+v", at, runs, m.Phase, m.Quarantine)
	}
	for _, f := range files(t, place.store()) {
		data, err := os.ReadFile(filepath.Join(place.store(), f))
		if err != nil || strings.HasPrefix(f, ".tmp") || artifact.NewID(sum(data)).Hex() != filepath.Base(f) {
			t.Errorf("%s: %s is left in the store: %v", at, f, err)
		}
	}
	return killed
}

// Two processes are never one watch, and the second one says so.
func TestTwoProcesses(t *testing.T) {
	w := newWorld(t)
	w.source.put("a", 1)
	l, err := open(t.Context(), w.o, daemon)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Daemon(t.Context(), w.o)
	if fault.KindOf(err) != fault.Conflict || !errors.Is(err, journal.ErrLocked) {
		t.Errorf("%v", err)
	}
	began := time.Now()
	_, err = Once(t.Context(), w.o, artifact.Request{})
	if fault.KindOf(err) != fault.Conflict || time.Since(began) > 3*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if res, err := Check(t.Context(), w.o, artifact.Expectation{}); err != nil || res.Outcome.Verdict != artifact.VerdictReady {
		t.Errorf("a check beside it: %+v %v", res.Outcome, err)
	}
	l.close()
	if n := w.source.count(); n != 1 {
		t.Errorf("%d looks, the check's is the only one", n)
	}
}
