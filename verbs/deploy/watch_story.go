package deploy

import (
	"context"
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
	last run.Event
}

// begin starts telling about the watch name.
func beginWatch(ctx context.Context, io *ui.Streams, name string) *watchStory {
	t := &watchStory{io: io, last: run.Event{Watch: name, Text: "starting"}}
	t.story = io.Story(ctx, func(_, _ int, elapsed time.Duration) []ui.Line {
		t.mu.Lock()
		defer t.mu.Unlock()
		return []ui.Line{{ui.T(ui.Dim, ui.Elapsed(elapsed)+" "), ui.T(ui.Strong, t.last.Watch+"  "), ui.T(styleOf(t.last), t.last.Text)}}
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
	t.last = e
	t.mu.Unlock()
	text := e.Text
	if e.Warning {
		text = "warning: " + text
	}
	line := ui.Line{ui.T(ui.Plain, e.Watch+"  "), ui.T(styleOf(e), text)}
	t.story.Update()
	if e.Warning || e.Type == artifact.OutcomeEvent {
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

// evidence tells what is left of a failure, below the story.
func (t *watchStory) evidence(o artifact.Outcome) {
	for _, e := range o.Evidence {
		for _, line := range ui.CleanLines(e) {
			t.story.Continue(ui.Line{ui.T(ui.Dim, line)})
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
