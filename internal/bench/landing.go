package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	landFiles   = 50_000
	landCommits = 20_000
	landRatio   = 1.3
	landCalls   = 25
	landLine    = 0.1 // seconds to the first line of the story
	plainWords  = "git fetch -q origin && git merge -q --no-edit origin/main && git push -q origin HEAD:main"
)

// yard is a repository and a clone of it with work to be landed.
type yard struct {
	origin string
	clone  string
	env    []string
}

// landing measures a landing without verification and CI in a large
// repository, where somebody else has pushed meanwhile, beside the three
// commands that a person would type.
func landing(ctx context.Context, b *bench) ([]row, error) {
	dir := b.t.TempDir()
	plain := yard{origin: filepath.Join(dir, "plain.git"), clone: filepath.Join(dir, "plain")}
	tool := yard{origin: filepath.Join(dir, "tool.git"), clone: filepath.Join(dir, "tool")}
	env := []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C"}
	plain.env, tool.env = env, env
	if err := os.WriteFile(filepath.Join(dir, ".gitconfig"), []byte("[user]\n\tname = Ada\n\temail = ada@example.lan\n"), 0o600); err != nil {
		return nil, err
	}
	if err := plain.generate(ctx); err != nil {
		return nil, err
	}
	if err := tool.git(ctx, dir, "clone", "--quiet", "--bare", "file://"+plain.origin, tool.origin); err != nil {
		return nil, err
	}
	for _, y := range []yard{plain, tool} {
		if err := y.git(ctx, dir, "clone", "--quiet", "file://"+y.origin, y.clone); err != nil {
			return nil, err
		}
	}
	var typed, landed, first sample
	const warm = 2
	for i := range pick(b, 9, 31) + warm {
		for _, y := range []yard{plain, tool} {
			if err := y.change(ctx, i); err != nil {
				return nil, err
			}
		}
		var took [2]time.Duration
		var line time.Duration
		for _, j := range []int{i % 2, 1 - i%2} { // in turns, who is first
			var err error
			if j == 0 {
				took[0], err = plain.typed(ctx, "")
			} else {
				took[1], line, err = tool.land(ctx, b, "")
			}
			if err != nil {
				return nil, err
			}
		}
		if i >= warm {
			typed.add(took[0])
			landed.add(took[1])
			first.add(line)
		}
	}
	counted, err := countLanding(ctx, b, plain, tool)
	if err != nil {
		return nil, err
	}
	v := map[string]float64{}
	typed.values("plain_", v)
	landed.values("land_", v)
	ratio := landed.p50() / typed.p50()
	v["ratio"] = ratio
	lines := map[string]float64{}
	first.values("", lines)
	return append([]row{{
		Name: "land-time", What: "work land without verification and CI, 50,000 files, 20,000 commits, the base has moved",
		Target: fmt.Sprintf("<= %.1fx of plain git", landRatio), Measured: fmt.Sprintf("%.2fx: %s", ratio, landed), Verdict: judged(ratio <= landRatio),
		Beside: "git fetch, merge, push: " + typed.String(), Values: v,
	}, {
		Name: "land-line", What: "its start to the first line of its story", Target: "p95 <= 100 ms",
		Measured: first.String(), Verdict: judged(first.p95() <= landLine), Values: lines,
	}}, counted), nil
}

// countLanding counts the processes of one landing.
func countLanding(ctx context.Context, b *bench, plain, tool yard) (row, error) {
	for _, y := range []yard{plain, tool} {
		if err := y.change(ctx, 1000); err != nil {
			return row{}, err
		}
	}
	dirs := [2]string{b.t.TempDir(), b.t.TempDir()}
	if _, err := plain.typed(ctx, dirs[0]); err != nil {
		return row{}, err
	}
	if _, _, err := tool.land(ctx, b, dirs[1]); err != nil {
		return row{}, err
	}
	_, plainAll, err := traced(dirs[0])
	if err != nil {
		return row{}, err
	}
	calls, all, err := traced(dirs[1])
	if err != nil {
		return row{}, err
	}
	network := map[string]int{}
	for _, argv := range calls {
		for _, verb := range []string{"ls-remote", "fetch", "push"} {
			if slices.Contains(argv, verb) {
				network[verb]++
				break
			}
		}
	}
	ok := len(calls) <= landCalls && network["fetch"] == 1 && network["push"] == 1 && network["ls-remote"] <= 1
	return row{
		Name: "land-processes", What: "git processes it starts; those that go to the network: ls-remote, fetch, push", Target: fmt.Sprintf("<= %d; 1, 1, 1", landCalls),
		Measured: fmt.Sprintf("%d; %d, %d, %d", len(calls), network["ls-remote"], network["fetch"], network["push"]), Verdict: judged(ok),
		Beside: fmt.Sprintf("with those that git starts: %d; git fetch, merge, push: %d", all, plainAll),
		Values: map[string]float64{
			"processes": float64(len(calls)), "all": float64(all), "plain_all": float64(plainAll),
			"ls_remote": float64(network["ls-remote"]), "fetch": float64(network["fetch"]), "push": float64(network["push"]),
		},
	}, nil
}

// generate makes the repository: one large commit, then many small ones.
func (y yard) generate(ctx context.Context) error {
	if err := y.git(ctx, filepath.Dir(y.origin), "init", "--quiet", "--bare", "--initial-branch=main", y.origin); err != nil {
		return err
	}
	return y.imported(ctx, func(w io.Writer) {
		const begun = 1_700_000_000
		fmt.Fprintf(w, "commit refs/heads/main\ncommitter Ada <ada@example.lan> %d +0000\ndata 5\nBegin", begun)
		for i := range landFiles {
			fmt.Fprintf(w, "\n%s", modify(i, i))
		}
		for c := 1; c < landCommits; c++ {
			message := fmt.Sprintf("Change %d", c)
			fmt.Fprintf(w, "\ncommit refs/heads/main\ncommitter Ada <ada@example.lan> %d +0000\ndata %d\n%s\n%s", begun+60*c, len(message), message, modify(c*7919%landFiles, -c))
		}
		fmt.Fprintln(w)
	})
}

// modify is fast-import's line for new content of the n-th file.
func modify(n, content int) string {
	text := strings.Repeat(fmt.Sprintf("line %d\n", content), 20)
	return fmt.Sprintf("M 644 inline d%02d/d%02d/f%d\ndata %d\n%s", n%25, n/25%20, n, len(text), text)
}

func (y yard) imported(ctx context.Context, write func(io.Writer)) error {
	cmd := exec.CommandContext(ctx, "git", "-C", y.origin, "fast-import", "--quiet")
	cmd.Env = y.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w := bufio.NewWriterSize(in, 1<<20)
	write(w)
	err = errors.Join(w.Flush(), in.Close())
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return fmt.Errorf("git fast-import: %w: %s", err, out.String())
	}
	return nil
}

// change makes a branch with a commit, and a commit of somebody else on the
// base.
func (y yard) change(ctx context.Context, n int) error {
	name := filepath.Join(y.clone, "d01", "d01", fmt.Sprintf("new%d", n))
	if err := y.git(ctx, y.clone, "checkout", "--quiet", "-b", fmt.Sprintf("ada/change-%d", n)); err != nil {
		return err
	}
	if err := os.WriteFile(name, fmt.Appendf(nil, "%d\n", n), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{{"add", name}, {"commit", "--quiet", "-m", fmt.Sprintf("Add %d", n)}, {"status"}} {
		if err := y.git(ctx, y.clone, args...); err != nil {
			return err
		}
	}
	return y.imported(ctx, func(w io.Writer) {
		fmt.Fprintf(w, "commit refs/heads/main\ncommitter Bob <bob@example.lan> %d +0000\ndata 5\nOther\nfrom refs/heads/main^0\n%s\n", time.Now().Unix(), modify(n, n+landFiles))
	})
}

// typed lands the branch by hand.
func (y yard) typed(ctx context.Context, trace string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", plainWords)
	cmd.Dir, cmd.Env = y.clone, traceTo(y.env, trace)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", plainWords, err, out)
	}
	return took, nil
}

// land lands it with the program, and says when the first line came, too.
func (y yard) land(ctx context.Context, b *bench, trace string) (took, line time.Duration, err error) {
	cmd := exec.CommandContext(ctx, b.program("homelab"), "work", "land", "--no-verify", "--no-ci-watch")
	cmd.Dir, cmd.Env = y.clone, traceTo(y.env, trace)
	var out bytes.Buffer
	story := &stopwatch{}
	cmd.Stdout, cmd.Stderr = &out, story
	began := time.Now()
	err = cmd.Run()
	took = time.Since(began)
	if err != nil {
		return 0, 0, fmt.Errorf("homelab work land: %w: %s%s", err, story.text.String(), out.String())
	}
	if story.first.IsZero() || !strings.HasPrefix(out.String(), "landed ") {
		return 0, 0, fmt.Errorf("homelab work land said %q and %q", story.text.String(), out.String())
	}
	return took, story.first.Sub(began), nil
}

func traceTo(env []string, dir string) []string {
	if dir == "" {
		return env
	}
	return append(slices.Clip(env), "GIT_TRACE2_EVENT="+dir)
}

// stopwatch keeps text and when it began.
type stopwatch struct {
	first time.Time
	text  bytes.Buffer
}

func (s *stopwatch) Write(p []byte) (int, error) {
	if s.first.IsZero() {
		s.first = time.Now()
	}
	return s.text.Write(p)
}

// traced reads what git wrote down of its processes: the command lines of
// those that no other git started, and the number of all.
func traced(dir string) (calls [][]string, all int, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, 0, err
		}
		for line := range bytes.Lines(data) {
			var e struct {
				Event string   `json:"event"`
				SID   string   `json:"sid"`
				Argv  []string `json:"argv"`
			}
			if err := json.Unmarshal(line, &e); err != nil {
				return nil, 0, fmt.Errorf("%s: %w", f.Name(), err)
			}
			if e.Event != "start" {
				continue
			}
			all++
			if !strings.Contains(e.SID, "/") {
				calls = append(calls, e.Argv)
			}
		}
	}
	return calls, all, nil
}

func (y yard) git(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = dir, y.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
