package woodsim_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/recording"
	"homelab/internal/woodsim"
)

// masked are the keys whose values differ from run to run; only their JSON
// type and whether they are zero is compared.
var masked = []string{
	"id", "uuid", "pipeline_id", "created", "updated", "started", "finished", "timestamp", "reviewed", "synced",
	"avatar_url", "author_avatar", "email", "author_email", "org_id", "forge_remote_id", "step_id", "data",
	"clone_url_ssh", "commit", "time",
}

// shape renders JSON with its keys in their order, one per line, and masks
// what differs from run to run.
func shape(t *testing.T, text string) []string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var out []string
	var value func(path, key string)
	value = func(path, key string) {
		tok, err := dec.Token()
		if err != nil {
			t.Fatalf("%v in %.200q", err, text)
		}
		switch v := tok.(type) {
		case json.Delim:
			out = append(out, path+" "+v.String())
			for i := 0; dec.More(); i++ {
				if v == '[' {
					value(fmt.Sprintf("%s[%d]", path, i), key)
					continue
				}
				k, _ := dec.Token()
				value(path+"."+k.(string), k.(string))
			}
			_, _ = dec.Token()
		default:
			shown := fmt.Sprintf("%T %v", v, v)
			if slices.Contains(masked, key) {
				zero := v == nil || v == json.Number("0") || v == ""
				shown = fmt.Sprintf("%T zero=%v", v, zero)
				if key == "time" {
					shown = fmt.Sprintf("%T", v)
				}
			}
			out = append(out, path+" "+shown)
		}
	}
	value("", "")
	return out
}

func sameShape(t *testing.T, what, got, want string) {
	t.Helper()
	g, w := shape(t, got), shape(t, want)
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			t.Errorf("%s differs from the recording at\n  got  %s\n  want %s", what, a, b)
			return
		}
	}
}

var answerHeaders = []string{"Content-Type", "Cache-Control", "X-Woodpecker-Version", "X-Accel-Buffering"}

func sameAnswer(t *testing.T, g got, e recording.Exchange) {
	t.Helper()
	what := e.Method + " " + e.Path + " (" + e.Auth + ")"
	if g.status != e.Status {
		t.Errorf("%s: status %d, want %d", what, g.status, e.Status)
	}
	for _, h := range answerHeaders {
		if g.header.Get(h) != e.Headers[h] {
			t.Errorf("%s: %s %q, want %q", what, h, g.header.Get(h), e.Headers[h])
		}
	}
	if (g.body == "") != (e.Body == "") {
		t.Errorf("%s: body %q, want %q", what, g.body, e.Body)
		return
	}
	if strings.Contains(e.Headers["Content-Type"], "json") {
		sameShape(t, what, g.body, e.Body)
	} else if g.body != e.Body {
		t.Errorf("%s: body %q, want %q", what, g.body, e.Body)
	}
}

// recorded is the simulator set up like the server of a recording, with
// earlier repositories and rows left out.
type recorded struct {
	*lab
	rec  recording.Recording
	base string // path of the repository in the recording
}

func newRecorded(t *testing.T, name string) *recorded {
	rec := recording.Load(t, name)
	r := &recorded{rec: rec}
	var id int64
	full := "ada/" + name
	for _, e := range rec.Exchanges {
		if _, err := fmt.Sscanf(e.Path, "/api/repos/%d/", &id); err == nil {
			break
		}
	}
	if name == "restart" || name == "manual" || name == "tag_same_commit" {
		full = "ada/success"
	}
	r.lab = &lab{Server: woodsim.New(woodsim.Options{Version: "dev"}), t: t, as: "t-ada"}
	r.AddUser(woodsim.User{Login: "ada", Token: "t-ada", Email: "v@example.com", Admin: true})
	r.repo = r.AddRepo(woodsim.RepoOptions{FullName: full, ID: id, Approval: name == "blocked_approve"})
	r.repo.Allow("ada", woodsim.Perm{Pull: true, Push: true, Admin: true})
	r.base = fmt.Sprintf("/api/repos/%d", id)
	return r
}

// last is the last recorded answer whose body contains all the words.
func (r *recorded) last(method, path string, words ...string) recording.Exchange {
	r.t.Helper()
	var found recording.Exchange
	for _, e := range r.rec.Exchanges {
		bare, _, _ := strings.Cut(e.Path, "?")
		ok := e.Method == method && bare == r.base+path
		for _, w := range words {
			ok = ok && strings.Contains(e.Body, w)
		}
		if ok {
			found = e
		}
	}
	if found.Method == "" {
		r.t.Fatalf("%s has no answer to %s %s with %q", r.rec.Name, method, path, words)
	}
	return found
}

// like compares the present answer with the last recorded one.
func (r *recorded) like(method, path, body string, words ...string) {
	r.t.Helper()
	e := r.last(method, path, words...)
	sameAnswer(r.t, r.do(method, r.base+path, body), e)
}

func (r *recorded) status(s string) string { return `"status":"` + s + `"` }

// listen opens the event stream and returns a function that gives the trees
// of all events so far.
func (r *recorded) listen() func() []string {
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", "http://ci.test/api/stream/events", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.Client().RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	var lines []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		sc := bufio.NewScanner(res.Body)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			lines = append(lines, sc.Text())
		}
	}()
	synctest.Wait()
	return func() []string {
		r.DropStreams()
		<-done
		res.Body.Close()
		return eventTrees(r.t, lines)
	}
}

func eventTrees(t *testing.T, lines []string) []string {
	var out []string
	for _, l := range lines {
		if data, ok := strings.CutPrefix(l, "data: "); ok {
			var ev struct{ Pipeline pipelineJSON }
			if err := json.Unmarshal([]byte(data), &ev); err != nil {
				t.Fatal(err)
			}
			out = append(out, tree(ev.Pipeline))
		}
	}
	return out
}

func (r *recorded) sameEvents(got []string) {
	r.t.Helper()
	var lines []string
	for _, l := range r.rec.Streams[0].Lines {
		lines = append(lines, l.Line)
	}
	want := eventTrees(r.t, lines)
	if !slices.Equal(got, want) {
		r.t.Errorf("events of %s:\n%s\nwant\n%s", r.rec.Name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func twoSteps() woodsim.Plan {
	return woodsim.Plan{Workflows: []woodsim.Workflow{{Steps: []woodsim.Step{
		{Name: "build", Takes: 2 * time.Second}, {Name: "test", Takes: 2 * time.Second},
	}}}}
}

// The lines the recorded agent wrote, without the identifier of the step.
func recordedLog(name, kind, command string) woodsim.Log {
	return woodsim.Log{Exact: []woodsim.Line{
		{Data: "StepName: " + name},
		{Data: "StepType: " + kind},
		{Data: "StepUUID: X"},
		{Data: "StepCommands:"},
		{Data: "------------------"},
		{Data: command, Null: command == ""},
		{Data: "------------------"},
	}}
}

func TestRecordedSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t, "success")
		lookup := r.rec.Exchanges[0]
		sameAnswer(t, r.get(lookup.Path), lookup)
		sameAnswer(t, r.get(r.base+"/pipelines?perPage=25"), r.rec.Exchanges[1])
		events := r.listen()
		plan := twoSteps()
		plan.Configure = time.Second
		plan.Workflows[0].Steps = append([]woodsim.Step{{Name: "clone", Type: "clone", Log: recordedLog("clone", "clone", "")}}, plan.Workflows[0].Steps...)
		r.repo.Push(woodsim.Commit{SHA: r.rec.Commit}, plan)
		for _, s := range []struct {
			after  time.Duration
			status string
			words  []string
		}{
			{0, "created", nil},
			{1500 * time.Millisecond, "running", []string{`"name":"build","state":"running"`}},
			{2 * time.Second, "running", []string{`"name":"test","state":"running"`}},
			{2 * time.Second, "success", nil},
		} {
			time.Sleep(s.after)
			r.like("GET", "/pipelines", "", r.status(s.status))
			r.like("GET", "/pipelines/1", "", append(s.words, r.status(s.status))...)
		}
		r.like("GET", "/logs/1/1", "")
		r.sameEvents(events())
	})
}

func TestRecordedFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t, "failure")
		events := r.listen()
		p := r.repo.Push(woodsim.Commit{SHA: r.rec.Commit}, woodsim.Red("test", 3))
		time.Sleep(time.Minute)
		r.like("GET", "/pipelines", "", r.status("failure"))
		r.like("GET", "/pipelines/1", "", r.status("failure"))
		g := r.get(fmt.Sprintf("%s/logs/1/%d", r.base, p.StepID("publish")))
		sameAnswer(t, g, r.last("GET", "/logs/1/22"))
		r.sameEvents(events())
	})
}

func TestRecordedNoConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t, "no_config")
		events := r.listen()
		plan := woodsim.Filtered(500 * time.Millisecond)
		plan.ChangedFiles = []string{"README.md"}
		p := r.repo.Push(woodsim.Commit{SHA: r.rec.Commit}, plan)
		r.like("GET", "/pipelines", "", r.status("created"))
		r.like("GET", "/pipelines/1", "", r.status("created"))
		time.Sleep(time.Second)
		r.like("GET", "/pipelines", "")
		r.like("GET", "/pipelines/1", "")
		r.sameEvents(events())
		next := r.repo.Push(woodsim.Commit{Message: "next"}, woodsim.Green(0))
		if next.Number() != 1 || next.ID() == p.ID() {
			t.Errorf("the number must be used again, the id not: #%d, id %d after %d", next.Number(), next.ID(), p.ID())
		}
		if tr, ok := r.Truth(r.repo.ID(), p.ID()); !ok || !tr.Deleted || tr.Status != "created" {
			t.Errorf("truth of the deleted row: %+v %v", tr, ok)
		}
	})
}

func TestRecordedConfigError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t, "config_error")
		events := r.listen()
		r.repo.Push(woodsim.Commit{SHA: r.rec.Commit}, woodsim.ConfigError(
			"go-yaml load error in parser (while parsing a flow node) at L2.C1: did not find expected node content"))
		r.like("GET", "/pipelines/1", "")
		r.like("GET", "/pipelines", "", "did not find")
		r.sameEvents(events())
	})
}

func TestRecordedApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t, "blocked_approve")
		events := r.listen()
		plan := woodsim.Plan{Queue: time.Second, Workflows: []woodsim.Workflow{{Steps: []woodsim.Step{{Name: "build", Takes: time.Second}}}}}
		p := r.repo.Push(woodsim.Commit{SHA: "0a3a39e15ee2c0b1077591f55a1b0c5cdbb7b751", Message: "Gated\n"}, plan)
		r.like("GET", "/pipelines/1", "", r.status("blocked"))
		r.like("GET", "/pipelines", "", r.status("blocked"))
		before := p.StepID("build")
		r.like("POST", "/pipelines/1/approve", "", r.status("pending"))
		if after := p.StepID("build"); after == before {
			t.Error("the approval must make new steps")
		}
		r.like("GET", "/pipelines/1", "", r.status("pending"))
		time.Sleep(1500 * time.Millisecond)
		r.like("GET", "/pipelines/1", "", r.status("running"))
		time.Sleep(time.Second)
		r.like("GET", "/pipelines/1", "", r.status("success"))
		r.like("POST", "/pipelines/1/approve", "", "cannot approve")
		r.sameEvents(events())
		if w := r.Writes(); len(w) != 1 || w[0].Kind != "approve" {
			t.Errorf("writes %+v", w)
		}
	})
}

func TestRecordedCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t, "canceled")
		events := r.listen()
		r.repo.Push(woodsim.Commit{SHA: r.rec.Commit}, woodsim.Running(time.Hour))
		time.Sleep(time.Second)
		r.like("GET", "/pipelines/1", "", r.status("running"))
		r.like("POST", "/pipelines/1/cancel", "")
		time.Sleep(time.Second)
		r.like("GET", "/pipelines", "", r.status("killed"))
		r.like("GET", "/pipelines/1", "", r.status("killed"))
		r.sameEvents(events())
	})
}

func TestRecordedSeveralRowsOfOneCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sha = "41bdff312f9a1cda8ce36ac6460980e9534032a8"
		slow := twoSteps()
		slow.Queue = time.Second

		r := newRecorded(t, "restart")
		r.repo.Push(woodsim.Commit{SHA: sha}, slow)
		time.Sleep(time.Minute)
		r.like("POST", "/pipelines/1", "")
		r.like("GET", "/pipelines/2", "", r.status("pending"))
		time.Sleep(time.Minute)
		r.like("GET", "/pipelines/2", "", r.status("success"))
		r.like("GET", "/pipelines", "", `"number":2`, `"finished":1795191448`)

		tag := newRecorded(t, "tag_same_commit")
		for range 2 {
			tag.repo.Push(woodsim.Commit{SHA: sha}, woodsim.Green(0))
		}
		tag.repo.Tag("v1.0", woodsim.Commit{SHA: sha}, slow)
		tag.like("GET", "/pipelines/3", "", tag.status("pending"))
		time.Sleep(time.Minute)
		tag.like("GET", "/pipelines/3", "", tag.status("success"))

		m := newRecorded(t, "manual")
		for range 3 {
			m.repo.Push(woodsim.Commit{SHA: sha}, woodsim.Green(0))
		}
		m.repo.PlanNext(slow)
		m.like("POST", "/pipelines", `{"branch":"main","variables":{}}`)
		time.Sleep(time.Minute)
		m.like("GET", "/pipelines/4", "", m.status("success"))
	})
}

func TestRecordedLogStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t, "log_stream")
		plan := woodsim.Running(3 * time.Second)
		plan.Workflows[0].Steps[0].Log = recordedLog("build", "commands", "make build")
		p := r.repo.Push(woodsim.Commit{}, plan)
		begin := time.Now()
		g := r.get(fmt.Sprintf("/api/stream/logs/17/1/%d", p.StepID("build")))
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("eof after %v", d)
		}
		var want []string
		for _, l := range r.rec.Streams[0].Lines {
			if l.Line != "<connection closed>" {
				want = append(want, l.Line)
			}
		}
		lines := strings.Split(strings.TrimSuffix(g.body, "\n"), "\n")
		if len(lines) != len(want) {
			t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), g.body)
		}
		for i := range want {
			a, isA := strings.CutPrefix(lines[i], "data: {")
			b, isB := strings.CutPrefix(want[i], "data: {")
			if isA != isB || !isA && lines[i] != want[i] {
				t.Errorf("line %d: %q, want %q", i, lines[i], want[i])
			} else if isA {
				sameShape(t, fmt.Sprintf("line %d", i), "{"+a, "{"+b)
			}
		}
		g = r.get(fmt.Sprintf("/api/stream/logs/17/1/%d", p.StepID("build")))
		if g.body != ": ping\n\nevent: error\ndata: step not running (anymore)\n\n" {
			t.Errorf("stream of an ended step: %q", g.body)
		}
	})
}

// Every exchange of the recorded refusals, in order.
func TestRecordedErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := woodsim.New(woodsim.Options{Version: "dev"})
		l := &lab{Server: s, t: t}
		s.AddUser(woodsim.User{Login: "ada", Token: "t-ada", Email: "v@example.com", Admin: true})
		s.AddRepo(woodsim.RepoOptions{FullName: "ada/seed", ID: 1})
		private := s.AddRepo(woodsim.RepoOptions{FullName: "ada/private", ID: 18, Visibility: "private"})
		private.Allow("ada", woodsim.Perm{Pull: true, Push: true, Admin: true})
		var p *woodsim.Pipeline
		for _, e := range recording.Load(t, "errors").Exchanges {
			switch {
			case p == nil && strings.HasPrefix(e.Path, "/api/repos/18/pipelines"):
				p = private.Push(woodsim.Commit{SHA: "1a131986a04e7d28e1f1404e445ddeb62d726d99", Message: "P\n"}, woodsim.Plan{Configure: time.Second, Queue: time.Hour, Workflows: woodsim.Green(time.Second).Workflows})
			case strings.HasSuffix(e.Path, "perPage=500"):
				time.Sleep(2 * time.Second)
			}
			l.as = map[string]string{"valid": "t-ada", "invalid": "bad"}[e.Auth]
			g := l.do(e.Method, e.Path, "")
			sameAnswer(t, g, e)
		}
		if u := s.Unexpected(); len(u) != 1 || u[0].Path != "/api/no/such/path" {
			t.Errorf("unexpected requests %+v", u)
		}
		if p.Status() != "canceled" {
			t.Errorf("cancelled while pending: %s", p.Status())
		}
	})
}

func TestSkipMarkerMakesNoRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t, "skip_ci")
		events := r.listen()
		p := r.repo.Push(woodsim.Commit{SHA: r.rec.Commit, Message: "Docs [CI SKIP]\n"}, woodsim.Green(0))
		time.Sleep(time.Minute)
		r.like("GET", "/pipelines", "")
		r.sameEvents(events())
		if p.ID() != 0 {
			t.Errorf("id %d", p.ID())
		}
	})
}
