package ci

import (
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// The JSON shapes below are public: names do not change, golden files pin
// them. A field that is absent is unknown; null means there is none.

type repoJSON struct {
	ID       woodpecker.RepoID `json:"id"`
	FullName string            `json:"full_name"`
}

type messageJSON struct {
	Type      string `json:"type"`
	Message   string `json:"message"`
	IsWarning bool   `json:"is_warning"`
}

type stepJSON struct {
	ID       int64             `json:"id"`
	PID      int               `json:"pid"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	State    woodpecker.Status `json:"state"`
	ExitCode *int              `json:"exit_code"` // null until it has ended
	Ignored  bool              `json:"ignored"`
	Started  *time.Time        `json:"started"`
	Finished *time.Time        `json:"finished"`
}

type workflowJSON struct {
	ID       int64             `json:"id"`
	Name     string            `json:"name"`
	State    woodpecker.Status `json:"state"`
	Environ  map[string]string `json:"environ"`
	Started  *time.Time        `json:"started"`
	Finished *time.Time        `json:"finished"`
	Steps    []stepJSON        `json:"steps"`
}

type pipelineJSON struct {
	ID        int64             `json:"id"`
	Number    int64             `json:"number"`
	Parent    *int64            `json:"parent"`
	Event     woodpecker.Event  `json:"event"`
	Status    woodpecker.Status `json:"status"`
	Branch    string            `json:"branch"`
	Ref       string            `json:"ref"`
	Commit    string            `json:"commit"`
	URL       string            `json:"url"`
	Created   *time.Time        `json:"created"`
	Started   *time.Time        `json:"started"`
	Finished  *time.Time        `json:"finished"`
	Errors    []messageJSON     `json:"errors"`
	Workflows []workflowJSON    `json:"workflows"`
}

type otherJSON struct {
	Number int64             `json:"number"`
	Event  woodpecker.Event  `json:"event"`
	Status woodpecker.Status `json:"status"`
	URL    string            `json:"url"`
}

type failedJSON struct {
	Workflow string   `json:"workflow"`
	Step     string   `json:"step"`
	ExitCode int      `json:"exit_code"`
	Error    string   `json:"error"`
	LogTail  []string `json:"log_tail"`
	LogNote  string   `json:"log_note,omitempty"`
}

// Result is what ci status and ci watch end in.
type Result struct {
	ui.Header
	Repo        *repoJSON     `json:"repo,omitempty"`
	Commit      string        `json:"commit,omitempty"`
	Pipeline    *pipelineJSON `json:"pipeline"`
	Others      []otherJSON   `json:"others"`
	FailedSteps []failedJSON  `json:"failed_steps"`

	subject string
}

// Text returns the one line of text mode.
func (r *Result) Text(int, bool) []string {
	subject := r.subject
	if r.Verdict != string(pipeline.Success) && r.Pipeline != nil && r.Pipeline.Finished != nil && r.Pipeline.Started != nil {
		subject += " " + ui.Duration(r.Pipeline.Finished.Sub(*r.Pipeline.Started))
	}
	next := ""
	if r.Next != nil {
		next = *r.Next
	}
	return []string{ui.ResultLine(r.Verdict, subject, r.Reason, next)}
}

// page gives a pipeline's web address.
type page func(number int64) string

func pageOf(s *session) page {
	return func(number int64) string {
		if s == nil || s.conn == nil || s.target.Repo.ID == 0 {
			return ""
		}
		return s.conn.Client.PageURL(s.target.Repo.ID, number, 0)
	}
}

func viewRow(row woodpecker.Pipeline, url page) *pipelineJSON {
	out := &pipelineJSON{
		ID: row.ID, Number: row.Number, Event: row.Event, Status: row.Status,
		Branch: row.Branch, Ref: row.Ref, Commit: row.Commit, URL: url(row.Number),
		Created: ui.Timestamp(row.Created), Started: ui.Timestamp(row.Started), Finished: ui.Timestamp(row.Finished),
		Errors: []messageJSON{}, Workflows: []workflowJSON{},
	}
	if row.Parent > 0 {
		out.Parent = &row.Parent
	}
	for _, e := range row.Errors {
		out.Errors = append(out.Errors, messageJSON(e))
	}
	for _, w := range row.Workflows {
		out.Workflows = append(out.Workflows, viewWorkflow(w))
	}
	return out
}

func viewWorkflow(w woodpecker.Workflow) workflowJSON {
	environ := w.Environ
	if environ == nil {
		environ = map[string]string{}
	}
	out := workflowJSON{
		ID: w.ID, Name: w.Name, State: w.State, Environ: environ,
		Started: ui.Timestamp(w.Started), Finished: ui.Timestamp(w.Finished), Steps: []stepJSON{},
	}
	for _, s := range w.Steps {
		out.Steps = append(out.Steps, viewStep(w, s))
	}
	return out
}

func viewStep(w woodpecker.Workflow, s woodpecker.Step) stepJSON {
	out := stepJSON{
		ID: s.ID, PID: s.PID, Name: s.Name, Type: s.Type, State: s.State,
		Ignored: pipeline.Ignored(w, s),
		Started: ui.Timestamp(s.Started), Finished: ui.Timestamp(s.Finished),
	}
	if s.State.Ended() && s.State != woodpecker.Skipped && s.State != woodpecker.Canceled {
		out.ExitCode = &s.ExitCode
	}
	return out
}

func viewFailed(steps []pipeline.FailedStep) []failedJSON {
	out := []failedJSON{}
	for _, f := range steps {
		tail := f.LogTail
		if tail == nil {
			tail = []string{}
		}
		out = append(out, failedJSON{
			Workflow: f.Workflow, Step: f.Step, ExitCode: f.ExitCode, Error: f.Error, LogTail: tail, LogNote: f.LogNote,
		})
	}
	return out
}

// viewOutcome returns the result of a look or a watch.
func viewOutcome(kind string, o pipeline.Outcome, s *session, next string) *Result {
	r := &Result{
		Header: ui.Header{Kind: kind, Verdict: string(o.Verdict), Reason: o.Reason, Next: ui.NextCommand(next)},
		Commit: o.Target.Commit, Others: []otherJSON{}, FailedSteps: viewFailed(o.Failed),
	}
	url := pageOf(s)
	if o.Target.Repo.ID != 0 {
		r.Repo = &repoJSON{o.Target.Repo.ID, o.Target.Repo.FullName}
		r.subject = o.Target.Repo.FullName
	}
	if o.Row != nil {
		r.Pipeline = viewRow(*o.Row, url)
		if r.Commit == "" || o.Target.Prefix {
			r.Commit = o.Row.Commit
		}
	}
	r.subject = subject(r.subject, o.Row, r.Commit)
	for _, other := range o.Others {
		r.Others = append(r.Others, otherJSON{other.Number, other.Event, other.Status, url(other.Number)})
	}
	return r
}

// View returns the result object of a watch that another verb made, as ci
// watch would have printed it; client may be nil.
func View(o pipeline.Outcome, client *woodpecker.Client) *Result {
	s := &session{target: o.Target}
	if client != nil {
		s.conn = &Conn{Client: client}
	}
	none := func() string { return "" }
	p := phrase{page: pageOf(s), upstream: none, push: none, resume: func(number int64) string {
		return ui.Command("homelab", "ci", "watch", "--number", itoa(number))
	}}
	if o.Target.Repo.FullName != "" {
		p.carry = []string{"--repo", o.Target.Repo.FullName}
	}
	r := viewOutcome(watchKind, o, s, p.next(o))
	r.ExitCode = kindOf(o).Code()
	return r
}

// subject names what a result speaks of: "ada/app #57 (41bdff3)".
func subject(repo string, row *woodpecker.Pipeline, commit string) string {
	if repo == "" && row == nil {
		if commit == "" {
			return ""
		}
		return "commit " + pipeline.Short(commit)
	}
	out := repo
	if row != nil {
		out += " #" + itoa(row.Number)
	}
	if commit != "" {
		out += " (" + pipeline.Short(commit) + ")"
	}
	return trim(out)
}

// failure returns the result of a run that ended before a look was possible.
func failure(kind string, e *fault.Error, s *session, target pipeline.Target) *Result {
	r := &Result{
		Header: verbHeader(kind, e), Commit: target.Commit, Others: []otherJSON{}, FailedSteps: []failedJSON{},
	}
	if s != nil && s.target.Repo.ID != 0 {
		r.Repo = &repoJSON{s.target.Repo.ID, s.target.Repo.FullName}
		r.subject = s.target.Repo.FullName
	}
	r.subject = subject(r.subject, nil, target.Commit)
	return r
}
