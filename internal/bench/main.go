// Command bench measures what the program promises and says for each promise
// whether it was kept: the shipped binary as a process, over TLS on the
// loopback and with the pinned address, against the simulated servers, with
// named alternatives measured in the same run. A missed target is a row like any
// other and no failure; a measurement that could not be made is one. What takes
// hours is measured in simulated time by the tests of this package, which
// scripts/bench builds, too.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"homelab/internal/rig"
)

// bench is what the measurements share.
type bench struct {
	t     *rig.T
	dir   string
	quick bool
	seed  uint64
	out   io.Writer
}

func (b *bench) program(name string) string { return filepath.Join(b.dir, "bin", name) }

// pick takes the number for short or for long runs.
func pick[N any](b *bench, quick, long N) N {
	if b.quick {
		return quick
	}
	return long
}

// measurement makes some of the rows. Its names are those of the rows.
type measurement struct {
	names []string
	make  func(context.Context, *bench) ([]row, error)
}

func measurements() []measurement {
	return []measurement{
		{[]string{"start-up"}, startUp},
		{[]string{"appear"}, appear},
		{[]string{"lag-stream", "red-stream"}, lagByStream},
		{[]string{"lag-poll", "red-poll"}, lagByPolling},
		{[]string{"deploy-start"}, deployStart},
		{[]string{"deploy-ready", "deploy-replaced", "deploy-failed"}, deployLag},
		{[]string{"deploy-memory", "deploy-requests"}, deployMany},
		{[]string{"land-time", "land-line", "land-processes"}, landing},
		{[]string{"stack-render", "stack-restart", "stack-writes", "stack-memory"}, stacks},
		{[]string{"watch-hint", "watch-poll", "watch-idle", "watch-memory"}, watching},
		{[]string{"watch-memory-100", "watch-idle-100"}, fleet},
		{[]string{"watch-day"}, watchDay},
		{[]string{"memory-watch", "memory-red-50MiB", "memory-logs-50MiB"}, memory},
		{[]string{"requests-stream", "requests-poll", "requests-poll-new", "lag-poll-long", "day-stream", "day-poll", "chaos"}, simulated},
	}
}

// report is what --json writes.
type report struct {
	Time    time.Time `json:"time"`
	Elapsed float64   `json:"elapsed"`
	Quick   bool      `json:"quick"`
	Seed    uint64    `json:"seed"`
	Machine machine   `json:"machine"`
	Rows    []row     `json:"rows"`
}

type machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	CPU    string `json:"cpu,omitempty"`
	Cores  int    `json:"cores"`
	Go     string `json:"go"`
	Binary int64  `json:"binary_bytes"`
}

func main() {
	dir := flag.String("dir", "", "the folder with the programs; it is removed in the end")
	quick := flag.Bool("quick", false, "fewer and shorter runs: about three minutes")
	only := flag.String("only", "", "only the measurements with a row of this name (a regular expression)")
	file := flag.String("json", "", "write the results to this file, too")
	list := flag.Bool("list", false, "list the rows and end")
	seed := flag.Uint64("seed", 1, "decides durations and faults")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "run it with scripts/bench [--quick] [--only REGEXP] [--json FILE] [--list]")
		os.Exit(64)
	}
	want, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(64)
	}
	os.Exit(rig.Main(*dir, 20*time.Minute, func(ctx context.Context, t *rig.T) error {
		out, err := rig.Stdout()
		if err != nil {
			return err
		}
		if *list {
			for _, m := range measurements() {
				fmt.Fprintln(out, strings.Join(m.names, "  "))
			}
			return nil
		}
		b := &bench{t: t, dir: *dir, quick: *quick, seed: *seed, out: out}
		return b.run(ctx, want, *file)
	}))
}

func (b *bench) run(ctx context.Context, want *regexp.Regexp, file string) error {
	r := report{Time: time.Now().UTC().Truncate(time.Second), Quick: b.quick, Seed: b.seed, Machine: b.machine(), Rows: []row{}}
	m := r.Machine
	fmt.Fprintf(b.out, "%s/%s, %d cores%s, %s, binary %.1f MiB\n", m.OS, m.Arch, m.Cores, comma(m.CPU), m.Go, float64(m.Binary)/(1<<20))
	missed := 0
	var failed []error
	for _, x := range measurements() {
		names := strings.Join(x.names, " ")
		if !slices.ContainsFunc(x.names, want.MatchString) {
			continue
		}
		began := time.Now()
		rows, err := x.make(ctx, b)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil { // the others are worth having all the same
			failed = append(failed, fmt.Errorf("%s: %w", names, err))
		}
		for _, row := range rows {
			if want.MatchString(row.Name) {
				r.Rows = append(r.Rows, row)
				if row.Verdict == miss {
					missed++
				}
			}
		}
		fmt.Fprintf(os.Stderr, "bench: %s: %.0f s\n", names, time.Since(began).Seconds())
	}
	r.Elapsed = time.Since(r.Time).Seconds()
	if _, err := fmt.Fprintf(b.out, "\n%s\n%d rows, %d missed, %.0f s, seed %d\n", table(r.Rows), len(r.Rows), missed, r.Elapsed, b.seed); err != nil {
		return err
	}
	if file == "" {
		return errors.Join(failed...)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(append(failed, os.WriteFile(file, append(data, '\n'), 0o644))...)
}

func comma(s string) string {
	if s == "" {
		return ""
	}
	return " of " + s
}

func (b *bench) machine() machine {
	m := machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()}
	if info, err := os.Stat(b.program("homelab")); err == nil {
		m.Binary = info.Size()
	}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}
