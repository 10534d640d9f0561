package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"homelab/internal/buildersim"
	"homelab/internal/tlstest"
)

const (
	fleetSize     = 100
	fleetArtifact = 1_000_000
	fleetInterval = 10 * time.Second
)

// fleet measures a hundred watches of a hundred jobs in one process: after
// their first looks, which make each of them fetch and switch, and while
// nothing is new.
func fleet(ctx context.Context, b *bench) ([]row, error) {
	web := buildersim.NewBuilder()
	ca := tlstest.NewCA(b.t)
	server := ca.Serve(b.t, web, "builds.example.lan")
	home := b.t.TempDir()
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	listen := at.Addr().String()
	if err := at.Close(); err != nil {
		return nil, err
	}
	authority := ca.File(b.t) // one for all: they reach the server in one way
	var file strings.Builder
	fmt.Fprintf(&file, "state-dir: %s\nlisten: %s\nwatches:\n", filepath.Join(home, "state"), listen)
	args := []string{"deploy", "watch", "-f", filepath.Join(home, "watches.yaml")}
	for i := range fleetSize {
		name := fmt.Sprintf("job%d", i)
		web.AddJob(name)
		body := make([]byte, fleetArtifact)
		for i := range body {
			body[i] = byte(rand.Uint32())
		}
		web.Add(buildersim.Build{Job: name, Start: time.Date(2026, 7, 1, 12, 0, i, 0, time.UTC), Bytes: body})
		fmt.Fprintf(&file, "  %s: {from: \"builder-web+https://builds.example.lan/job/%s\", from-dial: %q, from-ca-file: %q, to: \"file:%s\", interval: %s, soak: 100ms}\n",
			name, name, server.Addr.String(), authority, filepath.Join(home, name+".hvt"), fleetInterval)
		args = append(args, name)
	}
	if err := os.WriteFile(filepath.Join(home, "watches.yaml"), []byte(file.String()), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, b.program("homelab"), args...)
	cmd.Dir, cmd.Env = home, []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	var story bytes.Buffer
	cmd.Stderr = &story
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its end is looked at where it was not asked for
		close(ended)
	}()
	b.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	client := http.Client{Timeout: 10 * time.Second}
	live := func(name string) bool {
		resp, err := client.Get("http://" + listen + "/watches/" + name + "/status")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var v struct{ State string }
		return json.NewDecoder(resp.Body).Decode(&v) == nil && v.State == "live"
	}
	for i := 0; i < fleetSize; {
		switch {
		case live(fmt.Sprintf("job%d", i)):
			i++
			continue
		case time.Since(began) > 2*time.Minute:
			return nil, fmt.Errorf("job%d does not come to rest", i)
		}
		select {
		case <-ended:
			return nil, fmt.Errorf("the watches ended: %s", story.String())
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	up := time.Since(began)
	time.Sleep(time.Second)
	before := len(web.Requests())
	idle := pick(b, 2, 6)
	time.Sleep(time.Duration(idle) * fleetInterval)
	asked := len(web.Requests()) - before
	rss, peak, files := memoryOf(cmd.Process.Pid)
	per := float64(asked) / float64(idle) / fleetSize
	const mib = 1 << 20
	r := row{
		Name: "watch-memory-100", What: fmt.Sprintf("resident memory of one process with %d watches, each of which has fetched, switched and looked again", fleetSize),
		Target: "<= 50 MiB", Measured: fmt.Sprintf("%.1f MiB", float64(rss)/mib), Verdict: judged(rss > 0 && rss <= watchMemory),
		Beside: fmt.Sprintf("%.1f MiB of it are the program's own file; at most it was %.1f MiB; all live after %.1f s", float64(files)/mib, float64(peak)/mib, up.Seconds()),
		Values: map[string]float64{"mib": float64(rss) / mib, "peak_mib": float64(peak) / mib, "file_mib": float64(files) / mib, "live_s": up.Seconds()},
	}
	if rss == 0 {
		r.Measured, r.Verdict = "not told by this system", free
	}
	return []row{r, {
		Name: "watch-idle-100", What: fmt.Sprintf("requests per interval and source when nothing is new, over %d intervals", idle), Target: "<= 1 (and one for the edges)",
		Measured: fmt.Sprintf("%.2f", per), Verdict: judged(asked <= (idle+1)*fleetSize), Values: map[string]float64{"per_interval": per},
	}}, nil
}

// watchDay measures what a watch has grown by in a day, in simulated time.
func watchDay(ctx context.Context, b *bench) ([]row, error) {
	file := filepath.Join(b.t.TempDir(), "rows.jsonl")
	// A missed target fails the test, but is a row like any other here.
	out, runErr := exec.CommandContext(ctx, b.program("day"), "-test.run", "^TestADay$", "-measured", file).CombinedOutput()
	rows, err := readRows(file)
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("%w\n%s", errors.Join(runErr, err), out)
	}
	return rows, nil
}

// memoryOf is what a process has in memory now, what it had at most, and how
// much of the former is mapped files: all 0 where the system does not tell.
func memoryOf(pid int) (rss, peak, files int64) {
	status, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	if err != nil {
		return 0, 0, 0
	}
	for line := range strings.Lines(string(status)) {
		for name, to := range map[string]*int64{"VmRSS:": &rss, "VmHWM:": &peak, "RssFile:": &files} {
			if kib, ok := strings.CutPrefix(line, name); ok {
				_, _ = fmt.Sscan(kib, to) // 0: not told
				*to <<= 10
			}
		}
	}
	return rss, peak, files
}
