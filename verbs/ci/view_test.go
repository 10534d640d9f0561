package ci

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"homelab/internal/golden"
	"homelab/pkg/woodpecker"
)

// The live view is a function of the state, the screen and the time; golden
// files pin it.
func TestView(t *testing.T) {
	const start = 1_770_000_000
	now := time.Unix(start+91, 0)
	step := func(name string, state woodpecker.Status, from, to int64, exit int) woodpecker.Step {
		return woodpecker.Step{Name: name, State: state, Started: from, Finished: to, ExitCode: exit}
	}
	flow := func(name string, state woodpecker.Status, from, to int64, steps ...woodpecker.Step) woodpecker.Workflow {
		return woodpecker.Workflow{ID: int64(len(name)) + from + to, Name: name, State: state, Started: from, Finished: to, Steps: steps}
	}
	usual := woodpecker.Pipeline{
		Number: 57, Event: "push", Branch: "main", Commit: "41bdff3aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Status: woodpecker.Running,
		Started: start, Message: "Fix the cache key",
		Workflows: []woodpecker.Workflow{
			flow("lint", woodpecker.Success, start, start+12),
			flow("test", woodpecker.Failure, start, start+64, step("unit", woodpecker.Failure, start+2, start+64, 3), step("race", woodpecker.Error, start+2, start+64, 0)),
			flow("publish", woodpecker.Running, start+60, 0, step("clone", woodpecker.Success, start+60, start+62, 0), step("image", woodpecker.Running, start+62, 0, 0), step("push", woodpecker.Pending, 0, 0, 0)),
			flow("deploy", woodpecker.Pending, 0, 0),
			{ID: 7, Name: "matrix", State: woodpecker.Killed, Environ: map[string]string{"os": "linux", "arch": "arm64"}, Error: "Canceled"},
			flow("odd", "hibernating", start, 0),
		},
	}
	crowd := usual
	crowd.Workflows = nil
	for i := range 40 {
		state := []woodpecker.Status{woodpecker.Success, woodpecker.Pending, woodpecker.Skipped, woodpecker.Success, woodpecker.Success}[i%5]
		w := flow(fmt.Sprintf("w%02d", i), state, 0, 0)
		w.ID = int64(i + 1)
		crowd.Workflows = append(crowd.Workflows, w)
	}
	for i, state := range []woodpecker.Status{woodpecker.Running, woodpecker.Failure, woodpecker.Running} {
		w := flow(strings.Repeat("a-long-name-", 10)+fmt.Sprint(i), state, start, 0, step("only", state, start, 0, 1))
		w.ID = int64(100 + i)
		crowd.Workflows = append(crowd.Workflows, w)
	}
	hostile := usual
	hostile.Message, hostile.Branch = "\x1b]0;pwned\x07title\nnext", "ma\x1b[2Jin"
	hostile.Workflows = []woodpecker.Workflow{flow("a\x1b[31mb\u009b1m", "o\x1b[1Adder", start, 0, step("s\r\n", woodpecker.Running, start, 0, 0))}

	for name, row := range map[string]woodpecker.Pipeline{"usual": usual, "crowd": crowd, "hostile": hostile} {
		for _, size := range [][2]int{{80, 24}, {40, 10}, {120, 40}} {
			v := view{repo: "ada/app", found: true, row: row, url: "https://ci.example.lan/repos/2/pipeline/57"}
			var b strings.Builder
			lines := v.lines(size[0], size[1], now)
			for _, l := range lines {
				text := l.Render(size[0], false)
				if strings.ContainsAny(text, "\x1b\r\n\u009b") {
					t.Errorf("%s: %q acts on a terminal", name, text)
				}
				b.WriteString(text + "\n")
			}
			if len(lines) > size[1]-1 {
				t.Errorf("%s: %d lines on a screen of %d", name, len(lines), size[1])
			}
			golden.CompareString(t, fmt.Sprintf("view-%s-%dx%d", name, size[0], size[1]), b.String())
		}
	}
	waiting := view{repo: "ada/app", commit: usual.Commit}
	golden.CompareString(t, "view-waiting", waiting.lines(80, 24, now)[0].Render(80, false)+"\n")
}
