package deploy

import (
	"context"
	"strings"
	"sync"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/run"
	"homelab/pkg/ui"
)

// watchStory tells what a watch does: on a terminal one line that is redrawn,
// elsewhere a line per event, under --jsonl an event per line on stdout.
type watchStory struct {
	io    *ui.Streams
	story *ui.Story

	mu   sync.Mutex
	last []run.Event // of each watch
}

// beginWatch starts telling about the watches of these names.
func beginWatch(ctx context.Context, io *ui.Streams, names ...string) *watchStory {
	t := &watchStory{io: io}
	width := 0
	for _, name := range names {
		t.last = append(t.last, run.Event{Watch: name, Text: "starting"})
		width = max(width, len(name))
	}
	t.story = io.Story(ctx, func(_, _ int, elapsed time.Duration) []ui.Line {
		t.mu.Lock()
		defer t.mu.Unlock()
		var lines []ui.Line
		for _, e := range t.last {
			name := e.Watch + strings.Repeat(" ", width-len(e.Watch))
			lines = append(lines, ui.Line{ui.T(ui.Dim, ui.Elapsed(elapsed)+" "), ui.T(ui.Strong, name+"  "), ui.T(styleOf(e), e.Text)})
		}
		return lines
	})
	return t
}

// tell takes one event. A reader that went away stops nothing: the streams
// remember it for the end.
func (t *watchStory) tell(e run.Event) {
	e = cleanEvent(e)
	t.io.Event(string(e.Type), e)
	if e.Type == artifact.OutcomeEvent && e.Outcome != nil {
		e.Text = string(e.Outcome.Verdict) + ": " + e.Outcome.Reason
	}
	if e.Text == "" {
		return
	}
	t.mu.Lock()
	for i := range t.last {
		if t.last[i].Watch == e.Watch {
			t.last[i] = e
		}
	}
	t.mu.Unlock()
	text := e.Text
	if e.Warning {
		text = "warning: " + text
	}
	line := ui.Line{ui.T(ui.Plain, e.Watch+"  "), ui.T(styleOf(e), text)}
	if e.Watch == "" { // of all of them: no line of the view is its own
		line = line[1:]
	}
	t.story.Update()
	if e.Warning || e.Watch == "" || e.Type == artifact.OutcomeEvent {
		t.story.Note(line)
		return
	}
	t.story.Line(line)
}

// look is tell for a look that changes nothing: what only would be done is not
// told as if it were.
func (t *watchStory) look(e run.Event) {
	switch e.Type {
	case artifact.StateEvent, artifact.FetchEvent, artifact.VerifyEvent, artifact.OutcomeEvent:
		return
	case artifact.SourceEvent, artifact.CandidateEvent, artifact.HookEvent, artifact.ProbeEvent, artifact.HeldEvent, artifact.SkippedEvent,
		artifact.RollbackEvent, artifact.TroubleEvent, artifact.RecoveredEvent, artifact.HeartbeatEvent, artifact.NoteEvent, artifact.ResultEvent:
	}
	t.tell(e)
}

// evidence tells what is left of a failure, below the story. of stands before
// each line.
func (t *watchStory) evidence(o artifact.Outcome, of string) {
	for _, e := range o.Evidence {
		for _, line := range ui.CleanLines(e) {
			t.story.Continue(ui.Line{ui.T(ui.Plain, of), ui.T(ui.Dim, line)})
		}
	}
}

func (t *watchStory) close() { t.story.Close() }

func styleOf(e run.Event) ui.Style {
	switch e.Type {
	case artifact.TroubleEvent, artifact.RollbackEvent:
		return ui.Bad
	case artifact.HeldEvent:
		return ui.Waiting
	case artifact.RecoveredEvent:
		return ui.OK
	case artifact.OutcomeEvent:
		if e.Outcome != nil && e.Outcome.ExitCode == 0 {
			return ui.OK
		}
		return ui.Bad
	case artifact.HeartbeatEvent, artifact.SkippedEvent:
		return ui.Dim
	case artifact.SourceEvent, artifact.CandidateEvent, artifact.StateEvent, artifact.FetchEvent, artifact.VerifyEvent,
		artifact.HookEvent, artifact.ProbeEvent, artifact.NoteEvent, artifact.ResultEvent:
	}
	return ui.Plain
}

func cleanEvent(e run.Event) run.Event {
	e.Text = ui.Clean(e.Text)
	if e.Probes != nil {
		e.Probes = append([]artifact.ProbeResult{}, e.Probes...)
		for i := range e.Probes {
			p := &e.Probes[i]
			p.Probe, p.Detail = ui.Clean(p.Probe), ui.Clean(p.Detail)
		}
	}
	if e.Outcome != nil {
		o := *e.Outcome
		o.Reason, o.Report = ui.Clean(o.Reason), cleanReport(o.Report)
		e.Outcome = &o
	}
	return e
}
