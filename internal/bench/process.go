package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"homelab/internal/woodsim"
)

// startUp measures the binary that does nothing, beside two others.
func startUp(ctx context.Context, b *bench) ([]row, error) {
	truth, err := exec.LookPath("true")
	if err != nil {
		return nil, err
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, err
	}
	all := []struct {
		name string
		argv []string
		took sample
	}{
		{name: "homelab version", argv: []string{b.program("homelab"), "version"}},
		{name: "true", argv: []string{truth}},
		{name: "git --version", argv: []string{git, "--version"}},
	}
	home := b.t.TempDir()
	for i := range pick(b, 40, 200) + 3 {
		for j := range all {
			cmd := exec.CommandContext(ctx, all[j].argv[0], all[j].argv[1:]...)
			cmd.Dir, cmd.Env = home, []string{"HOME=" + home}
			began := time.Now()
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("%s: %w", all[j].name, err)
			}
			if i >= 3 { // the first find the files on the disk
				all[j].took.add(time.Since(began))
			}
		}
	}
	v := map[string]float64{}
	var beside []string
	for _, x := range all {
		x.took.values(strings.ReplaceAll(x.name, " ", "_")+"_", v)
		if x.name != all[0].name {
			beside = append(beside, fmt.Sprintf("%s p50 %s", x.name, seconds(x.took.p50())))
		}
	}
	own := all[0].took
	return []row{{
		Name: "start-up", What: "homelab version, from start to exit", Target: "p50 <= 25 ms",
		Measured: own.String(), Verdict: judged(own.p50() <= 0.025), Values: v, Beside: strings.Join(beside, "; "),
	}}, nil
}

const memoryLimit = 40 << 20

// memory measures the largest resident size of whole runs.
func memory(ctx context.Context, b *bench) ([]row, error) {
	const lines, width = 800_000, 64 // 50 MiB with line breaks, 100 MiB as the server sends it
	s := open(ctx, b, "3.17.0")
	watched, watchedName := s.repo(four(5*time.Second), four(6*time.Second))
	big, bigName := s.repo()
	s.now()
	huge := four(2 * time.Second)
	st := &huge.Workflows[0].Steps[2]
	st.Exit = 3
	st.Log = woodsim.HugeLog(0, lines, width).Workflows[0].Steps[0].Log
	runs := []struct {
		row  string
		what string
		code int
		args []string
	}{
		{"memory-watch", "VmHWM of a watch of a green pipeline, 8 s", 0, []string{"ci", "watch", woodsim.SHA(watchedName), "--repo", watchedName}},
		{"memory-red-50MiB", "VmHWM of a watch whose failing step has written 50 MiB", 1, []string{"ci", "watch", woodsim.SHA(bigName), "--repo", bigName}},
		{"memory-logs-50MiB", "VmHWM of ci logs printing these 50 MiB", 0, []string{"ci", "logs", "--number", "1", "--repo", bigName, "--step", "test"}},
	}
	watched.Push(woodsim.Commit{SHA: woodsim.SHA(watchedName)}, four(8*time.Second))
	big.Push(woodsim.Commit{SHA: woodsim.SHA(bigName)}, huge)
	var rows []row
	for _, r := range runs {
		count := &counter{}
		began := time.Now()
		p, err := b.homelab(ctx, s, func(c *exec.Cmd) { c.Stdout = count }, r.args...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.row, err)
		}
		if p.code != r.code {
			return nil, fmt.Errorf("%s: exit code %d: %s", r.row, p.code, p.err.String())
		}
		if r.row == "memory-logs-50MiB" && count.lines != lines {
			return nil, fmt.Errorf("%s: %d lines of %d were printed", r.row, count.lines, lines)
		}
		mib := float64(p.peak) / (1 << 20)
		row := row{
			Name: r.row, What: fmt.Sprintf("%s (%.1f s)", r.what, p.exited.Sub(began).Seconds()), Target: "<= 40 MiB",
			Measured: fmt.Sprintf("%.1f MiB", mib), Verdict: judged(p.peak > 0 && p.peak <= memoryLimit), Values: map[string]float64{"mib": mib},
		}
		if p.peak == 0 {
			row.Measured, row.Verdict = "not told by this system", free
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// counter counts lines and forgets them.
type counter struct{ lines int }

func (c *counter) Write(p []byte) (int, error) {
	c.lines += strings.Count(string(p), "\n")
	return len(p), nil
}

// simulated runs the tests that measure in simulated time and takes the rows
// they write.
func simulated(ctx context.Context, b *bench) ([]row, error) {
	// A target that is missed fails a test, but is a row like any other here.
	file := filepath.Join(b.t.TempDir(), "rows.jsonl")
	args := []string{"-test.run", "^TestSimulated", "-test.v", "-rows", file, "-seed", fmt.Sprint(b.seed)}
	if !b.quick {
		args = append(args, "-long")
	}
	cmd := exec.CommandContext(ctx, b.program("simulated"), args...)
	out, runErr := cmd.CombinedOutput()
	rows, err := readRows(file)
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("%w\n%s", errors.Join(runErr, err), out)
	}
	return rows, nil
}
