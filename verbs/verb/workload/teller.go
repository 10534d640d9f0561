package workload

import (
	"context"
	"fmt"
	"sync"
	"time"

	"homelab/pkg/rollout"
	"homelab/pkg/ui"
)

// Teller tells how the workloads stand: as a live view of a line each, as
// plain lines and as events.
type Teller struct {
	io      *ui.Streams
	story   *ui.Story
	targets []Ref
	began   time.Time

	mu       sync.Mutex
	verdicts []rollout.Verdict
	ended    []time.Duration // 0: not yet
	warned   map[string]bool
}

// NewTeller returns one that tells of targets, to which later calls refer by
// their index.
func NewTeller(io *ui.Streams, targets []Ref) *Teller {
	return &Teller{
		io: io, targets: targets, began: time.Now(), warned: map[string]bool{},
		verdicts: make([]rollout.Verdict, len(targets)), ended: make([]time.Duration, len(targets)),
	}
}

// Begin shows the view; off a terminal every heartbeat says what is open.
func (t *Teller) Begin(ctx context.Context, heartbeat time.Duration) {
	t.story = t.io.Story(ctx, func(_, h int, _ time.Duration) []ui.Line {
		t.mu.Lock()
		defer t.mu.Unlock()
		return lines(t.targets, t.verdicts, h)
	})
	t.story.Heartbeat(heartbeat, t.beat)
}

// Close leaves the view's last state behind. It may be called twice.
func (t *Teller) Close() {
	if t.story != nil {
		t.story.Close()
	}
}

// Warn tells a warning once.
func (t *Teller) Warn(text string) {
	if t.warned[text] {
		return
	}
	t.warned[text] = true
	t.io.Event("warning", map[string]string{"text": ui.Clean(text)})
	t.io.Note(ui.L("warning: " + text))
}

// Update tells a workload's new verdict. The last word of an end is the
// result's.
func (t *Teller) Update(i int, v rollout.Verdict) {
	t.mu.Lock()
	t.verdicts[i] = v
	if v.Final() && t.ended[i] == 0 {
		t.ended[i] = time.Since(t.began)
	}
	t.mu.Unlock()
	for _, w := range v.Warnings {
		t.Warn(t.targets[i].String() + ": " + w)
	}
	t.io.Event("target", map[string]any{
		"target": t.targets[i].String(), "verdict": v.Outcome, "phase": v.Phase, "reason": ui.Clean(v.Sentence),
	})
	t.story.Update()
	t.story.Line(plain(t.targets[i], v))
}

// Took is how long a workload's verdict took.
func (t *Teller) Took(i int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended[i] > 0 {
		return t.ended[i]
	}
	return time.Since(t.began)
}

// beat says how every open workload stands.
func (t *Teller) beat() ui.Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, sep := "still waiting: ", ""
	n := 0
	for i, v := range t.verdicts {
		if v.Final() {
			continue
		}
		if n++; n > 3 {
			continue
		}
		text += sep + t.targets[i].String() + " " + v.Sentence
		sep = "; "
	}
	if n > 3 {
		text += fmt.Sprintf("; and %d more", n-3)
	}
	t.io.Event("heartbeat", map[string]string{"text": ui.Clean(text)})
	return ui.L(text)
}

// style says what an outcome means to the eye.
func style(o rollout.Outcome) ui.Style {
	switch o {
	case rollout.Ready:
		return ui.OK
	case rollout.Failed, rollout.Superseded, rollout.Absent, rollout.Denied, rollout.Unreachable:
		return ui.Bad
	case rollout.Paused, rollout.Timeout, rollout.Interrupted:
		return ui.Waiting
	case rollout.Pending:
		return ui.Running
	}
	return ui.Plain
}

// Word is an outcome as the view words it: what is open shows its phase.
func Word(v rollout.Verdict) string {
	if v.Final() {
		return string(v.Outcome)
	}
	if v.Phase == "" {
		return "asking"
	}
	return string(v.Phase)
}

// lines draws the view: a row per workload. If they do not fit, those that are
// ready are counted instead of listed.
func lines(targets []Ref, verdicts []rollout.Verdict, h int) []ui.Line {
	var rows [][]ui.Line
	ready := 0
	room := max(h-2, 1)
	for i, v := range verdicts {
		if len(targets) > room && v.Outcome == rollout.Ready {
			ready++
			continue
		}
		st := style(v.Outcome)
		if v.Outcome == "" {
			st = ui.Waiting
		}
		rows = append(rows, []ui.Line{
			{ui.T(st, ui.Glyph(st)+" "+targets[i].String())}, {ui.T(st, Word(v))}, {ui.T(ui.Plain, v.Sentence)},
		})
	}
	out := ui.TableOf(rows)
	if ready > 0 {
		out = append(out, ui.Line{ui.T(ui.OK, fmt.Sprintf("%s %d more ready", ui.Glyph(ui.OK), ready))})
	}
	return out
}

// plain is a verdict as one line of a pipe.
func plain(t Ref, v rollout.Verdict) ui.Line {
	return ui.Line{ui.T(ui.Strong, t.String()+" "), ui.T(style(v.Outcome), fmt.Sprintf("%-8s", Word(v))), ui.T(ui.Plain, " "+v.Sentence)}
}

// Explain tells, below the story, why each workload that is not ready is not:
// what, why, the end of its log, and the next command.
func (t *Teller) Explain(verdicts []rollout.Verdict, shown []Target) {
	t.Close()
	for i, v := range verdicts {
		if v.Outcome == rollout.Ready || v.Outcome == rollout.Interrupted {
			continue
		}
		st := style(v.Outcome)
		t.io.Note(ui.Line{ui.T(st, ui.Glyph(st)+" "+string(v.Outcome)), ui.T(ui.Plain, "  "+t.targets[i].String()+": "+v.Sentence)})
		for _, w := range v.Why {
			t.story.Continue(ui.L("why:  " + w))
		}
		if v.Cause != nil {
			for _, l := range v.Cause.LogTail {
				t.story.Continue(ui.Line{ui.T(ui.Dim, v.Cause.Pod+"/"+v.Cause.Container+" | "), ui.T(ui.Plain, l)})
			}
		}
		if shown[i].Next != nil {
			t.story.Continue(ui.L("next: " + *shown[i].Next))
		}
	}
}
