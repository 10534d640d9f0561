package woodsim_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/tlstest"
	"homelab/internal/woodsim"
)

// keys are the top-level keys of a JSON object.
func keys(t *testing.T, g got) []string {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(g.body), &m); err != nil {
		t.Fatalf("%v in %q", err, g.body)
	}
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		version       string
		has, hasNot   []string
		pendingCancel string
		canceledQuery int
		metadataQuery int
	}{
		{"3.0.0", nil, []string{"event_reason", "cancel_info", "version", "rerun_count"}, "killed", 400, 400},
		{"3.13.0", []string{"event_reason"}, []string{"cancel_info", "version", "rerun_count"}, "killed", 400, 200},
		{"3.14.0", []string{"event_reason", "cancel_info", "version"}, []string{"rerun_count"}, "canceled", 200, 200},
		{"3.17.0", []string{"event_reason", "cancel_info", "version", "rerun_count"}, nil, "canceled", 200, 200},
		{"dev", []string{"event_reason", "cancel_info", "version", "rerun_count"}, nil, "canceled", 200, 200},
		{"next-0b5eef7d1e", []string{"cancel_info", "rerun_count"}, nil, "canceled", 200, 200},
	} {
		t.Run(c.version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, woodsim.Options{Version: c.version})
				p := l.repo.Push(woodsim.Commit{}, woodsim.Plan{Queue: time.Hour, Workflows: woodsim.Green(time.Second).Workflows})
				l.do("POST", "/api/repos/1/pipelines/1/cancel", "")
				g := l.get("/api/repos/1/pipelines/1")
				for _, k := range c.has {
					if !slices.Contains(keys(t, g), k) {
						t.Errorf("lacks %s", k)
					}
				}
				for _, k := range c.hasNot {
					if slices.Contains(keys(t, g), k) {
						t.Errorf("has %s", k)
					}
				}
				if p.Status() != c.pendingCancel {
					t.Errorf("cancelled while pending: %s, want %s", p.Status(), c.pendingCancel)
				}
				if g := l.get("/api/repos/1/pipelines?status=canceled"); g.status != c.canceledQuery {
					t.Errorf("filter: %d, want %d", g.status, c.canceledQuery)
				}
				if g := l.get("/api/repos/1/pipelines?event=push,pull_request_metadata"); g.status != c.metadataQuery {
					t.Errorf("event filter: %d, want %d", g.status, c.metadataQuery)
				}
				if v := decode[map[string]string](t, l.get("/version"))["version"]; v != c.version || g.header.Get("X-Woodpecker-Version") != c.version {
					t.Errorf("version %q, header %q", v, g.header.Get("X-Woodpecker-Version"))
				}
			})
		})
	}
}

func TestPermissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{RootPath: "/ci/"})
		private := l.AddRepo(woodsim.RepoOptions{FullName: "ada/secret", Visibility: "private", RenamedFrom: []string{"ada/hidden"}})
		private.Allow("bob", woodsim.Perm{Pull: true, Push: true, Unsynced: true})
		internal := l.AddRepo(woodsim.RepoOptions{FullName: "group/sub/intern", Visibility: "internal"})
		l.repo.Push(woodsim.Commit{}, woodsim.Green(0))
		private.Push(woodsim.Commit{}, woodsim.Green(0))
		_ = internal
		for _, c := range []struct {
			token, method, path string
			status              int
			body                string // "": not compared; "-": empty
		}{
			{"t-bob", "GET", "/ci/api/repos/1/pipelines/1", 200, ""},
			{"bad", "GET", "/ci/api/repos/1/pipelines/1", 200, ""}, // a guest may read
			{"", "GET", "/ci/api/repos/1/pipelines/1", 200, ""},
			{"bad", "GET", "/ci/api/user", 401, "User not authorized"},
			{"t-eve", "GET", "/ci/api/repos/2/pipelines", 404, "-"},
			{"bad", "GET", "/ci/api/repos/2/pipelines", 401, "-"},
			{"t-ada", "GET", "/ci/api/repos/2/pipelines", 200, ""}, // an administrator sees all
			{"t-eve", "GET", "/ci/api/repos/3", 200, ""},
			{"", "GET", "/ci/api/repos/3", 401, "-"},
			{"t-eve", "GET", "/ci/api/repos/lookup/group%2Fsub%2Fintern", 200, ""},
			{"t-bob", "GET", "/ci/api/repos/lookup/ADA/Hidden", 200, ""},
			{"t-eve", "GET", "/ci/api/repos/lookup/ada/hidden", 404, "-"},
			{"t-eve", "POST", "/ci/api/repos/1/pipelines/1", 404, "-"}, // no push
			{"bad", "POST", "/ci/api/repos/1/pipelines/1", 401, "-"},
			{"t-bob", "GET", "/ci/api/queue/info", 403, "User not authorized"},
			{"t-ada", "GET", "/ci/api/repos/1/pipelines/9", 404, "-"},
			{"t-ada", "GET", "/ci/api/repos/1/pipelines/x", 400, "-"},
			{"t-ada", "GET", "/ci/api/repos/x", 400, "-"},
			{"t-ada", "GET", "/ci/api/repos/1/logs/1/999", 404, "-"},
			{"t-ada", "PUT", "/ci/api/repos/1/pipelines/1", 200, "<!doctype html><title>wp</title><div id=app></div>\n"},
			{"t-ada", "GET", "/api/user", 200, "<!doctype html><title>wp</title><div id=app></div>\n"}, // beside the root path
			{"t-eve", "GET", "/ci/api/repos/2/permissions", 200, `{"pull":false,"push":false,"admin":false,"synced":0,"created":0,"updated":0}`},
		} {
			l.as = c.token
			g := l.do(c.method, c.path, "")
			if want := strings.TrimPrefix(c.body, "-"); g.status != c.status || c.body != "" && g.body != want {
				t.Errorf("%q %s %s: %d %q, want %d %q", c.token, c.method, c.path, g.status, g.body, c.status, want)
			}
			if g.header.Get("X-Woodpecker-Version") != "3.17.0" {
				t.Errorf("%s: no version header", c.path)
			}
		}
		if u := l.Unexpected(); len(u) != 2 || u[0].Method != "PUT" {
			t.Errorf("unexpected: %+v", u)
		}
		if len(l.Writes()) != 0 {
			t.Errorf("writes: %+v", l.Writes())
		}
		if n := l.Count("GET", "/api/repos/1/pipelines/1"); n != 3 || l.Requests()[0].Authorization() != "Bearer t-bob" {
			t.Errorf("%d requests, first by %q", n, l.Requests()[0].Authorization())
		}
	})
}

func TestOwnReposAndSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		other := l.AddRepo(woodsim.RepoOptions{FullName: "bob/app", ForgeURL: "https://forge.two/bob/app"})
		other.Allow("bob", woodsim.Perm{Pull: true, Push: true, Unsynced: true})
		l.as = "t-bob"
		names := func() string {
			var out []string
			for _, r := range decode[[]struct {
				FullName string `json:"full_name"`
			}](t, l.get("/api/user/repos?name=app")) {
				out = append(out, r.FullName)
			}
			return strings.Join(out, " ")
		}
		if got := names(); got != "ada/app" {
			t.Errorf("before the lookup: %q", got)
		}
		l.get("/api/repos/lookup/bob/app")
		if got := names(); got != "ada/app bob/app" {
			t.Errorf("after it: %q", got)
		}
		other.SetActive(false)
		if got := names(); got != "ada/app" {
			t.Errorf("disabled: %q", got)
		}
	})
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		for i := range 60 {
			l.repo.Push(woodsim.Commit{Message: fmt.Sprint(i)}, woodsim.Green(0))
			time.Sleep(time.Second)
		}
		l.repo.Tag("v1", woodsim.Commit{}, woodsim.Green(0))
		l.repo.Cron("nightly", woodsim.Commit{Branch: "dev"}, woodsim.Red("x", 1))
		l.repo.PR(7, woodsim.Commit{Source: "topic"}, woodsim.Green(0))
		time.Sleep(time.Minute)
		when := url.QueryEscape(time.Now().Add(-90 * time.Second).Format(time.RFC3339))
		for query, want := range map[string]string{
			"":                               "63 .. 14 (50)",
			"?perPage=5":                     "63 .. 59 (5)",
			"?perPage=5&page=2":              "58 .. 54 (5)",
			"?page=2":                        "13 .. 1 (13)",
			"?page=9":                        "(0)",
			"?perPage=0":                     "63 .. 14 (50)",
			"?perPage=51":                    "63 .. 14 (50)",
			"?per_page=2":                    "63 .. 14 (50)",
			"?event=tag,cron":                "62 .. 61 (2)",
			"?branch=dev":                    "62 .. 62 (1)",
			"?branch=main&page=2":            "11 .. 1 (11)",
			"?ref=tags":                      "61 .. 61 (1)",
			"?status=failure":                "62 .. 62 (1)",
			"?commit=none":                   "63 .. 14 (50)",
			"?before=" + when:                "30 .. 1 (30)",
			"?after=" + when + "&event=push": "60 .. 32 (29)",
			"?status=odd":                    "400",
			"?event=odd":                     "400",
			"?before=odd":                    "400",
		} {
			g := l.get("/api/repos/1/pipelines" + query)
			got := fmt.Sprint(g.status)
			if g.status == 200 {
				list := decode[[]pipelineJSON](t, g)
				got = fmt.Sprintf("(%d)", len(list))
				if len(list) > 0 {
					got = fmt.Sprintf("%d .. %d (%d)", list[0].Number, list[len(list)-1].Number, len(list))
				}
			}
			if got != want {
				t.Errorf("%q: %s, want %s", query, got, want)
			}
		}
		if strings.Contains(l.get("/api/repos/1/pipelines").body, "workflows") {
			t.Error("list rows never carry workflows")
		}
	})
}

func TestSupersede(t *testing.T) {
	for version, want := range map[string]bool{"3.13.0": false, "3.17.0": true} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, woodsim.Options{Version: version})
			one := l.repo.Push(woodsim.Commit{Message: "one"}, woodsim.Running(time.Hour))
			other := l.repo.Push(woodsim.Commit{Message: "x", Branch: "dev"}, woodsim.Running(time.Hour))
			tag := l.repo.Tag("v1", woodsim.Commit{Message: "one"}, woodsim.Running(time.Hour))
			two := l.repo.Push(woodsim.Commit{Message: "two"}, woodsim.Green(time.Second))
			d := l.detail("1")
			if one.Status() != "killed" || (d.CancelInfo["superseded_by"] == float64(two.Number())) != want {
				t.Errorf("%s: %s, %v", version, one.Status(), d.CancelInfo)
			}
			if tree(d) != "killed woodpecker=running clone=success build=running" {
				t.Errorf("the steps stop later: %s", tree(d))
			}
			time.Sleep(time.Second)
			if tree(l.detail("1")) != "killed woodpecker=killed clone=success build=killed" {
				t.Errorf("stopped: %s", tree(l.detail("1")))
			}
			if other.Status() != "running" || tag.Status() != "running" || two.Status() != "success" {
				t.Errorf("others: %s %s %s", other.Status(), tag.Status(), two.Status())
			}
			if one.Truth().Superseded != two.Number() {
				t.Errorf("truth: %+v", one.Truth())
			}
		})
	}
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		plan := woodsim.Blocked(woodsim.Running(time.Hour))
		plan.Variables = map[string]string{"SECRET": "canary"}
		plan.Rerun = &woodsim.Plan{Workflows: woodsim.Green(time.Second).Workflows}
		l.repo.Push(woodsim.Commit{}, plan)
		if g := l.do("POST", "/api/repos/1/pipelines/1", ""); g.status != 400 || g.body != "cannot restart a pipeline with status blocked" {
			t.Errorf("blocked: %+v", g)
		}
		l.do("POST", "/api/repos/1/pipelines/1/approve", "")
		l.do("POST", "/api/repos/1/pipelines/1/cancel", "")
		if g := l.do("POST", "/api/repos/1/pipelines/1/cancel", ""); g.status != 400 || g.body != "Cannot cancel a non-running or non-pending or non-blocked pipeline" {
			t.Errorf("second cancel: %+v", g)
		}
		n := decode[pipelineJSON](t, l.do("POST", "/api/repos/1/pipelines/1", ""))
		if n.Parent != 1 || n.Number != 2 || n.CancelInfo["canceled_by_user"] != "ada" || n.ReviewedBy != "ada" || n.Variables["SECRET"] != "canary" {
			t.Errorf("a restart copies the old row: %+v", n)
		}
		time.Sleep(time.Second)
		if d := l.detail("2"); d.Status != "success" {
			t.Errorf("restart ended as %s", d.Status)
		}

		l.repo.Push(woodsim.Commit{Message: "u"}, woodsim.Plan{Unstored: true})
		u := decode[pipelineJSON](t, l.do("POST", "/api/repos/1/pipelines/3", ""))
		if u.Status != "error" || u.Errors[0]["message"] != "pipeline definition not found" {
			t.Errorf("without a stored configuration: %+v", u)
		}
		l.repo.Push(woodsim.Commit{Message: "b"}, woodsim.Plan{RerunBroken: true})
		if g := l.do("POST", "/api/repos/1/pipelines/5", ""); g.status != 500 || g.body != "" {
			t.Errorf("does not compile: %+v", g)
		}
		if d := l.detail("6"); d.Status != "error" || d.Parent != 5 {
			t.Errorf("an error row is left: %+v", d)
		}
		var kinds []string
		for _, w := range l.Writes() {
			kinds = append(kinds, fmt.Sprint(w.Kind, w.Number, "-", w.Row))
		}
		if got := strings.Join(kinds, " "); got != "approve1-1 cancel1-1 restart1-2 restart3-4 restart5-6" {
			t.Errorf("writes: %s", got)
		}
	})
}

func TestManualAndDecline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		l.as = "t-bob"
		if g := l.do("POST", "/api/repos/1/pipelines", `{"branch":"main"}`); g.status != 500 || g.body != "" {
			t.Errorf("unknown branch: %+v", g)
		}
		if g := l.do("POST", "/api/repos/1/pipelines", `{`); g.status != 400 {
			t.Errorf("no JSON: %+v", g)
		}
		l.repo.SetHead("main", woodsim.Commit{SHA: "c0ffee"})
		l.repo.PlanNext(woodsim.Filtered(0), woodsim.Plan{FetchError: "503"}, woodsim.Blocked(woodsim.Green(time.Second)))
		if g := l.do("POST", "/api/repos/1/pipelines", `{"branch":"main"}`); g.status != 204 || g.header.Get("Pipeline-Filtered") != "true" {
			t.Errorf("filtered: %+v", g)
		}
		if g := l.do("POST", "/api/repos/1/pipelines", `{"branch":"main"}`); g.status != 204 || g.header.Get("Pipeline-Filtered") != "" || l.detail("1").Status != "error" {
			t.Errorf("configuration not fetched: %+v", g)
		}
		n := decode[pipelineJSON](t, l.do("POST", "/api/repos/1/pipelines", `{"branch":"main","variables":{"A":"b"}}`))
		if n.Status != "blocked" || n.Commit != "c0ffee" || n.Variables["A"] != "b" || n.Message != "MANUAL PIPELINE @ main" {
			t.Errorf("row: %+v", n)
		}
		d := decode[pipelineJSON](t, l.do("POST", "/api/repos/1/pipelines/2/decline", ""))
		if d.Status != "declined" || d.ReviewedBy != "bob" || d.Workflows[0].State != "declined" {
			t.Errorf("declined: %+v", d)
		}
		if g := l.do("POST", "/api/repos/1/pipelines/2/decline", ""); g.status != 500 || g.body != "" {
			t.Errorf("again: %+v", g)
		}
		if g := l.do("POST", "/api/repos/1/pipelines/2/approve", ""); g.status != 400 || g.body != "cannot approve a pipeline with status declined" {
			t.Errorf("approve: %+v", g)
		}
		if n := len(l.Writes()); n != 4 {
			t.Errorf("%d writes: %+v", n, l.Writes())
		}
	})
}

func TestOddLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{Version: "3.12.0"})
		row := func(message string, p woodsim.Plan) *woodsim.Pipeline {
			return l.repo.Push(woodsim.Commit{Message: message, Branch: message}, p)
		}
		stuck := woodsim.Green(time.Second)
		stuck.Stuck = true
		flip := woodsim.Running(time.Hour)
		flip.Flip, flip.FlipAfter = "success", 4*time.Second
		cancels := woodsim.Running(time.Hour)
		cancels.Workflows[0].Steps = append([]woodsim.Step{{Name: "check", Takes: time.Second, Exit: 2, Cancel: true}}, cancels.Workflows[0].Steps...)
		warned := woodsim.Green(0)
		warned.Errors = []woodsim.Notice{{Message: "careful", Warning: true}}

		s, f, c, w := row("stuck", stuck), row("flip", flip), row("cancels", cancels), row("warned", warned)
		u := row("unknown", woodsim.Running(time.Hour))
		g := row("ignored", woodsim.Ignored("lint", 1, 0))
		e := l.repo.Event("moon_phase", woodsim.Commit{}, woodsim.Green(0))
		lost := row("lost", woodsim.Running(time.Hour))
		time.Sleep(2 * time.Second)
		f.Cancel("bob")
		u.SetStatus("paused")
		lost.Lose()
		if f.Status() != "killed" {
			t.Errorf("cancelled: %s", f.Status())
		}
		time.Sleep(time.Minute)
		for _, x := range []struct {
			p    *woodsim.Pipeline
			want string
		}{
			{s, "running woodpecker=success clone=success build=success test=success"},
			{f, "success woodpecker=killed clone=success build=killed"},
			{c, "killed woodpecker=killed clone=success check=failure build=skipped"},
			{w, "success woodpecker=success clone=success build=success test=success"},
			{u, "paused woodpecker=running clone=success build=running"},
			{g, "success woodpecker=success clone=success build=success lint=failure test=success"},
			{e, "success woodpecker=success clone=success build=success test=success"},
			{lost, "killed woodpecker=killed clone=success build=killed"},
		} {
			if got := tree(l.detail(fmt.Sprint(x.p.Number()))); got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
		}
		if e := l.detail(fmt.Sprint(w.Number())).Errors; len(e) != 1 || e[0]["is_warning"] != true {
			t.Errorf("warnings %v", e)
		}
		u.Delete()
		if g := l.get(fmt.Sprintf("/api/repos/1/pipelines/%d", u.Truth().Number)); g.status != 404 {
			t.Errorf("deleted: %+v", g)
		}
	})
}

func TestTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		p := l.repo.Push(woodsim.Commit{}, woodsim.Green(0))
		log := fmt.Sprintf("/api/repos/1/logs/1/%d", p.StepID("test"))
		for _, c := range []struct {
			trouble woodsim.Trouble
			path    string
			status  int
		}{
			{woodsim.Trouble{Repo: true}, "/api/repos/1/pipelines", 404},
			{woodsim.Trouble{Repo: true}, "/api/repos/lookup/ada/app", 404},
			{woodsim.Trouble{Row: true}, "/api/repos/1/pipelines/1", 404},
			{woodsim.Trouble{Step: true}, log, 404},
			{woodsim.Trouble{Logs: true}, log, 500},
			{woodsim.Trouble{List: true}, "/api/repos/1/pipelines", 500},
			{woodsim.Trouble{User: true}, "/api/user", 401},
			{woodsim.Trouble{User: true}, "/api/repos/1/pipelines", 200},
			{woodsim.Trouble{Health: true}, "/healthz", 500},
		} {
			l.TroubleNext(1, c.trouble)
			g := l.get(c.path)
			if g.status != c.status || c.status != 200 && c.path != "/healthz" && c.path != "/api/user" && g.body != "" {
				t.Errorf("%+v %s: %d %q, want %d", c.trouble, c.path, g.status, g.body, c.status)
			}
			if g := l.get(c.path); g.status >= 400 {
				t.Errorf("%s stays in trouble: %d", c.path, g.status)
			}
		}
		l.TroubleFor(10*time.Second, woodsim.AllTrouble())
		if g := l.get("/api/repos/1/pipelines"); g.status != 401 {
			t.Errorf("everything broken: %d", g.status)
		}
		time.Sleep(10 * time.Second)
		if g := l.get("/api/repos/1/pipelines"); g.status != 200 {
			t.Errorf("ten seconds later: %d", g.status)
		}
	})
}

func TestLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		var lines []string
		for i := range 20 {
			lines = append(lines, fmt.Sprint("line ", i))
		}
		plan := woodsim.Plan{Workflows: []woodsim.Workflow{{NoClone: true, Steps: []woodsim.Step{
			{Name: "late", Takes: time.Second, Log: woodsim.Log{Lines: lines, Delay: time.Second, Shuffled: true}},
			{Name: "odd", Log: woodsim.Log{Exact: []woodsim.Line{{Data: "b", Delay: time.Second}, {Data: "a"}, {Null: true}}}},
			{Name: "silent"},
		}}}}
		p := l.repo.Push(woodsim.Commit{}, plan)
		read := func(step string) (out []int) {
			for _, e := range decode[[]struct{ Line int }](t, l.get(fmt.Sprintf("/api/repos/1/logs/1/%d", p.StepID(step)))) {
				out = append(out, e.Line)
			}
			return out
		}
		time.Sleep(time.Second)
		if n := len(read("late")); n != 1 {
			t.Errorf("after a second: %d lines", n)
		}
		if got := read("odd"); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("the first line is late: %v", got)
		}
		time.Sleep(time.Second)
		got := read("late")
		if slices.IsSorted(got) || len(got) != 20 {
			t.Errorf("shuffled: %v", got)
		}
		if got := read("odd"); !slices.Equal(got, []int{0, 1, 2}) {
			t.Errorf("all there: %v", got)
		}
		if g := l.get(fmt.Sprintf("/api/repos/1/logs/1/%d", p.StepID("silent"))); g.body != "null" {
			t.Errorf("no output: %q", g.body)
		}
	})
}

// A log of tens of megabytes is sent without being held.
func TestHugeLog(t *testing.T) {
	l := newLab(t, woodsim.Options{})
	p := l.repo.Push(woodsim.Commit{}, woodsim.HugeLog(0, 400_000, 64))
	srv := httptest.NewServer(l)
	defer srv.Close()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("%s/api/repos/1/logs/1/%d", srv.URL, p.StepID("build")), nil)
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil || n < 50<<20 || res.ContentLength != -1 {
		t.Errorf("%d bytes, length %d, %v", n, res.ContentLength, err)
	}
}

// Who stops reading a long answer does not leave the server hanging: a bubble
// ends only when all its goroutines have.
func TestHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		p := l.repo.Push(woodsim.Commit{}, woodsim.HugeLog(0, 400_000, 64))
		req, _ := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("http://ci.test/api/repos/1/logs/1/%d", p.StepID("build")), nil)
		res, err := l.Client().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil || n != 1<<20 {
			t.Errorf("%d bytes, %v", n, err)
		}
		res.Body.Close()
		if _, err := res.Body.Read(make([]byte, 1)); err == nil {
			t.Error("read after close")
		}
	})
}

// events opens a stream, does what is to be seen and gives all lines.
func (l *lab) events(during func()) []string {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://ci.test/api/stream/events", nil)
	if l.as != "" {
		req.Header.Set("Authorization", "Bearer "+l.as)
	}
	res, err := l.Client().RoundTrip(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	var lines []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		sc := bufio.NewScanner(res.Body)
		sc.Buffer(nil, 4<<20)
		for sc.Scan() {
			if sc.Text() != "" {
				lines = append(lines, sc.Text())
			}
		}
	}()
	synctest.Wait()
	during()
	synctest.Wait()
	l.DropStreams()
	<-done
	return lines
}

func TestStreamHazards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{SubscribeDelay: 50 * time.Millisecond})
		private := l.AddRepo(woodsim.RepoOptions{FullName: "ada/secret", Visibility: "private"})
		private.Allow("bob", woodsim.Perm{Pull: true, Unsynced: true})
		run := func() {
			time.Sleep(time.Second)
			l.repo.Push(woodsim.Commit{}, woodsim.Green(0))
		}

		early := l.events(func() { l.repo.Push(woodsim.Commit{}, woodsim.Green(0)); time.Sleep(time.Second) })
		if len(early) != 1 {
			t.Errorf("what happens between ping and subscription is lost: %d lines", len(early))
		}
		l.as = "t-bob"
		secret := func() { time.Sleep(time.Second); private.Push(woodsim.Commit{}, woodsim.Green(0)) }
		if n := len(l.events(secret)); n != 1 {
			t.Errorf("before any request about the repository: %d lines", n)
		}
		l.get("/api/repos/lookup/ada/secret")
		if n := len(l.events(secret)); n < 5 {
			t.Errorf("after the lookup: %d lines", n)
		}
		l.as = "bad"
		if n := len(l.events(secret)); n != 1 {
			t.Errorf("bad token: %d lines", n)
		}

		all := l.events(run)
		if n := len(l.events(func() { l.SetStreamFaults(woodsim.StreamFaults{Lose: 2}); run() })); n != len(all)-2 {
			t.Errorf("two lost: %d of %d", n, len(all))
		}
		if n := len(l.events(func() { l.SetStreamFaults(woodsim.StreamFaults{Lose: -1}); run() })); n != 1 {
			t.Errorf("all lost: %d", n)
		}
		l.SetStreamFaults(woodsim.StreamFaults{Reorder: time.Second, Pad: 100_000})
		mixed := l.events(func() { run(); time.Sleep(time.Second) })
		trees := eventTrees(t, mixed)
		sorted := eventTrees(t, all)
		if len(trees) != len(sorted) || slices.Equal(trees, sorted) {
			t.Errorf("not reordered: %d and %d events", len(trees), len(sorted))
		}
		if len(mixed[1]) < 100_000 {
			t.Errorf("event of %d bytes", len(mixed[1]))
		}
		l.SetStreamFaults(woodsim.StreamFaults{})

		stalled := l.events(func() {
			l.StallStreams(2 * time.Minute)
			run()
			time.Sleep(90 * time.Second)
		})
		if len(stalled) != 1 {
			t.Errorf("stalled: %d lines, no pings either", len(stalled))
		}
		l.StallStreams(0)
		pings := l.events(func() { time.Sleep(95 * time.Second) })
		if len(pings) != 4 {
			t.Errorf("pings every 30 s of silence: %q", pings)
		}
		if l.Streams() != 0 {
			t.Errorf("%d streams left", l.Streams())
		}
	})
}

// The same over a real listener: TLS, HTTP/2, real time.
func TestOverTLS(t *testing.T) {
	l := newLab(t, woodsim.Options{})
	ca := tlstest.NewCA(t)
	srv := ca.Serve(t, l, "127.0.0.1")
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}}
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL("127.0.0.1")+"/api/stream/events", nil)
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	eventually(t, "subscription", func() bool { return l.Streams() == 1 })
	l.repo.Push(woodsim.Commit{}, woodsim.Green(50*time.Millisecond))
	var last string
	for sc := bufio.NewScanner(res.Body); sc.Scan() && !strings.Contains(last, `"status":"success"`); {
		last = sc.Text()
	}
	if res.ProtoMajor != 2 || !strings.Contains(last, `"status":"success"`) {
		t.Errorf("%s, last line %.200q", res.Proto, last)
	}
}

func TestLogStreamErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		l.repo.Push(woodsim.Commit{}, woodsim.Running(time.Minute))
		for path, want := range map[string]string{
			"/api/stream/logs/1/9/1": "pipeline not found",
			"/api/stream/logs/1/x/1": "pipeline number invalid",
			"/api/stream/logs/1/1/9": "process not found",
			"/api/stream/logs/1/1/x": "step id invalid",
		} {
			if g := l.get(path); g.status != 200 || g.body != ": ping\n\nevent: error\ndata: "+want+"\n\n" {
				t.Errorf("%s: %d %q", path, g.status, g.body)
			}
		}
	})
}

func TestQueueInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		l.repo.Push(woodsim.Commit{}, woodsim.Plan{Queue: time.Hour, Workflows: woodsim.Green(0).Workflows})
		l.repo.Tag("v1", woodsim.Commit{}, woodsim.Running(time.Hour))
		l.SetPaused(true, 0)
		q := decode[struct {
			Pending, Running []struct {
				PipelineID int64 `json:"pipeline_id"`
			}
			Paused bool
			Stats  struct {
				Workers int `json:"worker_count"`
			}
		}](t, l.get("/api/queue/info"))
		if len(q.Pending) != 1 || q.Pending[0].PipelineID != 1 || len(q.Running) != 1 || !q.Paused || q.Stats.Workers != 0 {
			t.Errorf("%+v", q)
		}
	})
}

func TestScenariosEnd(t *testing.T) {
	for _, name := range woodsim.ScenarioNames() {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, woodsim.Options{})
			plan, ok := woodsim.Scenario(name)
			p := l.repo.Push(woodsim.Commit{}, plan)
			l.Settle()
			want := map[string]string{
				"red": "failure", "blocked": "blocked", "config-error": "error", "fetch-error": "error",
				"stuck": "running", "unstored": "failure", "two-one-red": "failure", "late-log": "failure", "filtered": "created",
			}[name]
			if want == "" {
				want = "success"
			}
			if tr := p.Truth(); !ok || tr.Status != want || tr.Deleted != (name == "filtered") {
				t.Errorf("%s: %s, deleted %v", name, tr.Status, tr.Deleted)
			}
		})
	}
}

// A hook that is slow, and one that is lost because the repository is off.
func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		p := l.repo.Push(woodsim.Commit{}, woodsim.Plan{Delay: time.Minute})
		if g := l.get("/api/repos/1/pipelines"); g.body != "[]" {
			t.Errorf("too early: %s", g.body)
		}
		time.Sleep(time.Minute)
		if p.Number() != 1 {
			t.Errorf("number %d", p.Number())
		}
		l.repo.SetActive(false)
		if off := l.repo.Push(woodsim.Commit{}, woodsim.Green(0)); off.ID() != 0 {
			t.Errorf("a disabled repository made row %d", off.ID())
		}
	})
}
