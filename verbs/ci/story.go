package ci

import (
	"context"
	"fmt"
	"sync"
	"time"

	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// teller tells a watch's updates: as a live view, as plain lines and as
// events. It is fed by one goroutine and drawn by another.
type teller struct {
	io    *ui.Streams
	story *ui.Story
	s     *session

	mu       sync.Mutex
	view     view
	lastMove time.Time
}

func newTeller(io *ui.Streams) *teller { return &teller{io: io, lastMove: time.Now()} }

// reporter is what the connection tells, from before the story begins.
func (t *teller) reporter() Reporter {
	return Reporter{
		Trouble: func(err error) {
			words := serverWords(err)
			t.io.Event("trouble", map[string]string{"error": ui.Clean(words)})
			t.say("trouble: " + words + "; asking again")
		},
		Recovered: func(after time.Duration) {
			t.io.Event("recovered", map[string]float64{"after": after.Seconds()})
			text := "recovered"
			if after >= time.Second {
				text += " after " + ui.Duration(after)
			}
			t.say(text)
		},
	}
}

// say tells something that is no change, before, during and after the story.
func (t *teller) say(text string) { t.io.Note(ui.L(text)) }

func (t *teller) note(text string) {
	t.io.Event("note", map[string]string{"text": ui.Clean(text)})
	t.say("note: " + text)
}

// quietNote tells a warning of a verb that has no story of its own.
func (t *teller) quietNote(text string) {
	if text != "" {
		t.note(text)
	}
}

// begin starts the story.
func (t *teller) begin(ctx context.Context, s *session, heartbeat time.Duration) {
	t.mu.Lock()
	t.s = s
	t.view.repo, t.view.commit = s.target.Repo.FullName, s.target.Commit
	t.mu.Unlock()
	story := t.io.Story(ctx, func(w, h int, _ time.Duration) []ui.Line {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.view.lines(w, h, t.now())
	})
	t.mu.Lock()
	t.story = story
	t.mu.Unlock()
	story.Heartbeat(heartbeat, t.beat)
}

func (t *teller) close() {
	if t.story != nil {
		t.story.Close()
	}
}

// now is the server's clock, by which rows are dated.
func (t *teller) now() time.Time {
	if t.s == nil || t.s.conn == nil {
		return time.Now()
	}
	return t.s.conn.Client.Now()
}

const quietLong = 10 * time.Minute // without a change is worth saying

// beat says what is going on when nothing has happened for a while.
func (t *teller) beat() ui.Line {
	t.mu.Lock()
	row, found := t.view.row, t.view.found
	idle := time.Since(t.lastMove)
	t.mu.Unlock()
	text := "still waiting for a pipeline"
	running := []map[string]any{}
	if found {
		text = "still " + string(row.Status)
		sep := ": "
		for _, w := range row.Workflows {
			for _, s := range w.Steps {
				if s.State != woodpecker.Running || s.Type == "service" {
					continue
				}
				d := t.now().Sub(woodpecker.Moment(s.Started))
				text += fmt.Sprintf("%s%s/%s %s", sep, w.Name, s.Name, ui.Duration(d))
				sep = ", "
				running = append(running, map[string]any{"workflow": w.Name, "step": s.Name, "seconds": d.Truncate(time.Second).Seconds()})
			}
		}
		if idle >= quietLong {
			text += "; no change for " + ui.Duration(idle)
		}
	}
	t.io.Event("heartbeat", map[string]any{"text": ui.Clean(text), "running": running})
	return ui.L(text)
}

// update tells one update.
func (t *teller) update(u pipeline.Update) {
	url := pageOf(t.s)
	t.mu.Lock()
	t.lastMove = time.Now()
	switch u := u.(type) {
	case pipeline.Found:
		t.view.row, t.view.found, t.view.url = u.Row, true, url(u.Row.Number)
	case pipeline.Changed:
		t.view.row = u.Row
	}
	t.mu.Unlock()
	switch u := u.(type) {
	case pipeline.Found:
		t.io.Event("found", map[string]any{"pipeline": viewRow(u.Row, url), "reason": orNull(u.Why)})
		if u.Why != "" {
			t.story.Note(ui.L(u.Why))
		}
		t.story.Line(foundLine(t.view.repo, u.Row, url(u.Row.Number)))
		t.flows(u.Row.Workflows) // none when the row comes from a list
	case pipeline.Changed:
		t.changed(u)
	case pipeline.Followed:
		t.io.Event("followed", map[string]any{"from": u.From, "to": u.To, "reason": u.Why})
		t.story.Note(ui.L(u.Why + "; following #" + itoa(u.To)))
	case pipeline.Note:
		t.note(u.Text)
	case pipeline.Detail:
		t.io.Verbosef("%s", u.Text)
	case pipeline.Tails:
		t.tails(u.Steps)
	}
	t.story.Update()
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (t *teller) changed(u pipeline.Changed) {
	if u.Status {
		t.io.Event("pipeline", map[string]any{"number": u.Row.Number, "status": u.Row.Status})
		t.story.Line(ui.Line{ui.T(ui.Plain, "#"+itoa(u.Row.Number)+" "), ui.T(style(u.Row.Status), string(u.Row.Status))})
	}
	for _, s := range u.Steps {
		t.io.Event("step", map[string]any{"workflow": s.Workflow.Name, "workflow_id": s.Workflow.ID, "step": viewStep(s.Workflow, s.Step)})
	}
	for _, w := range u.Workflows {
		event := viewWorkflow(w)
		t.io.Event("workflow", map[string]any{"workflow": event.Name, "id": event.ID, "state": event.State, "environ": event.Environ, "started": event.Started, "finished": event.Finished})
	}
	t.flows(u.Workflows)
}

// flows tells where workflows stand; those that wait are no news.
func (t *teller) flows(flows []woodpecker.Workflow) {
	for _, w := range flows {
		if w.State != woodpecker.Pending && w.State != woodpecker.Created {
			t.story.Line(workflowLine(w))
		}
	}
}

func (t *teller) tails(steps []pipeline.FailedStep) {
	for _, s := range steps {
		name := s.Workflow + "/" + s.Step
		t.io.Event("log", map[string]any{"workflow": s.Workflow, "step": s.Step, "lines": nonNil(s.LogTail), "note": orNull(s.LogNote)})
		prefix := ui.T(ui.Dim, name+" | ")
		if s.LogNote != "" {
			t.story.Continue(ui.Line{prefix, ui.T(ui.Dim, "("+s.LogNote+")")})
		}
		for _, l := range s.LogTail {
			t.story.Continue(ui.Line{prefix, ui.T(ui.Plain, l)})
		}
	}
}

func nonNil(lines []string) []string {
	if lines == nil {
		return []string{}
	}
	return lines
}
