package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"homelab/internal/rig"
	"homelab/internal/woodsim"
)

const token = "bench-token" // the simulated server's only one

// site is a simulated server within reach of processes.
type site struct {
	*rig.Site
	ci     *woodsim.Server
	behind atomic.Int64 // what the server's clock lags behind the real one
	repos  atomic.Int64
}

// open starts a server of that version whose plans happen on time although
// nobody looks.
func open(ctx context.Context, b *bench, version string) *site {
	s := &site{}
	s.behind.Store(int64(24 * time.Hour))
	s.ci = woodsim.New(woodsim.Options{Version: version, Seed: b.seed, Now: func() time.Time {
		return time.Now().Add(-time.Duration(s.behind.Load()))
	}})
	s.ci.AddUser(woodsim.User{Login: "ada", Token: token})
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		for ctx.Err() == nil {
			s.ci.Streams() // looks at the clock
			time.Sleep(time.Millisecond)
		}
	})
	b.t.Cleanup(func() { cancel(); wait.Wait() })
	s.Site = rig.Open(b.t, s.ci)
	return s
}

// repo adds a private repository where each of the plans has run before, at
// some time in the last day; call now when all are added.
func (s *site) repo(before ...woodsim.Plan) (*woodsim.Repo, string) {
	name := fmt.Sprintf("bench/app-%d", s.repos.Add(1))
	r := s.ci.AddRepo(woodsim.RepoOptions{FullName: name, Visibility: "private"})
	r.Allow("ada", woodsim.Perm{Pull: true, Push: true})
	for i, p := range before {
		r.Push(woodsim.Commit{SHA: woodsim.SHA(fmt.Sprint(name, "before", i))}, p)
		s.ci.Settle()
	}
	return r, name
}

// now brings the server's clock to the present.
func (s *site) now() { s.behind.Store(0) }

// four is a green pipeline of four steps that takes d.
func four(d time.Duration) woodsim.Plan {
	p := woodsim.Plan{Configure: 20 * time.Millisecond, Gap: 5 * time.Millisecond, Forge: 30 * time.Millisecond}
	w := woodsim.Workflow{NoClone: true}
	for _, x := range []struct {
		name  string
		share float64
	}{{"deps", 0.1}, {"build", 0.3}, {"test", 0.4}, {"image", 0.2}} {
		w.Steps = append(w.Steps, woodsim.Step{
			Name: x.name, Takes: time.Duration(float64(d) * x.share),
			Log: woodsim.Log{Lines: []string{"+ make " + x.name, "ok"}},
		})
	}
	p.Workflows = []woodsim.Workflow{w}
	return p
}

// failing lets the last but one of four steps fail; its last lines are found a
// while after that, as usual.
func failing(d time.Duration) woodsim.Plan {
	p := four(d)
	st := &p.Workflows[0].Steps[2]
	st.Exit, st.Log.Delay = 3, 600*time.Millisecond
	st.Log.Lines = []string{"+ make test", "--- FAIL: TestCacheKey (0.02s)", "FAIL"}
	return p
}

// ended waits for the row's end and returns when it was written.
func ended(p *woodsim.Pipeline) (time.Time, bool) {
	t := p.Truth()
	if !t.Ended || len(t.History) == 0 {
		return time.Time{}, false
	}
	return t.History[len(t.History)-1].Time, true
}

// process is what a run of a program came to.
type process struct {
	code   int
	exited time.Time
	peak   int64 // VmHWM in bytes; 0 unknown
	out    bytes.Buffer
	err    bytes.Buffer
}

// homelab runs the shipped binary outside of any checkout.
func (b *bench) homelab(ctx context.Context, s *site, tune func(*exec.Cmd), args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, b.program("homelab"), args...)
	cmd.Dir, cmd.Env = s.Home, s.Env(token)
	return finish(ctx, cmd, tune)
}

// finish runs a command to its end and keeps what it printed.
func finish(ctx context.Context, cmd *exec.Cmd, tune func(*exec.Cmd)) (*process, error) {
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	p := &process{}
	cmd.Stdout, cmd.Stderr = &p.out, &p.err
	if tune != nil {
		tune(cmd)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() { p.peak = peakMemory(cmd.Process.Pid, done) })
	err := cmd.Wait()
	p.exited = time.Now()
	close(done)
	wait.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return nil, err
	}
	p.code = cmd.ProcessState.ExitCode()
	return p, nil
}

// peakMemory watches the process's own record of its largest resident size.
// What wait reports instead includes the size of the parent at the fork.
func peakMemory(pid int, done <-chan struct{}) int64 {
	name, peak := fmt.Sprintf("/proc/%d/status", pid), int64(0)
	for {
		data, err := os.ReadFile(name)
		if err != nil {
			return peak
		}
		if _, rest, ok := bytes.Cut(data, []byte("VmHWM:")); ok {
			var kib int64
			if _, err := fmt.Sscan(string(rest), &kib); err == nil {
				peak = max(peak, kib<<10)
			}
		}
		select {
		case <-done:
			return peak
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// naive asks for the pipeline every 5 s until it has ended, as a loop of curl
// and sleep would that knows its number. It returns when it noticed, and how
// often it asked.
func (s *site) naive(ctx context.Context, repo *woodsim.Repo, number int64) (time.Time, int, error) {
	c := s.Client(0)
	defer c.CloseIdleConnections()
	url := fmt.Sprintf("https://%s/api/repos/%d/pipelines/%d", rig.Host, repo.ID(), number)
	for n := 1; ; n++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return time.Time{}, n, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := c.Do(req)
		if err != nil {
			return time.Time{}, n, err
		}
		var row struct{ Status string }
		err = json.NewDecoder(res.Body).Decode(&row)
		_ = res.Body.Close()
		if err != nil {
			return time.Time{}, n, err
		}
		if row.Status == "success" || row.Status == "failure" {
			return time.Now(), n, nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, n, context.Cause(ctx)
		case <-time.After(naivePause):
		}
	}
}

const naivePause = 5 * time.Second

// between draws a duration.
func between(dice *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(dice.Int64N(int64(high-low)+1))
}
