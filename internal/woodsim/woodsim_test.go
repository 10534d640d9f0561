package woodsim_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/woodsim"
)

// lab is a server with one public repository and the users ada (admin), bob
// (push) and eve (nothing).
type lab struct {
	*woodsim.Server
	t    *testing.T
	repo *woodsim.Repo
	as   string // token
}

func newLab(t *testing.T, o woodsim.Options) *lab {
	s := woodsim.New(o)
	s.AddUser(woodsim.User{Login: "ada", Token: "t-ada", Admin: true})
	s.AddUser(woodsim.User{Login: "bob", Token: "t-bob"})
	s.AddUser(woodsim.User{Login: "eve", Token: "t-eve"})
	r := s.AddRepo(woodsim.RepoOptions{FullName: "ada/app"})
	r.Allow("ada", woodsim.Perm{Pull: true, Push: true, Admin: true})
	r.Allow("bob", woodsim.Perm{Pull: true, Push: true})
	return &lab{Server: s, t: t, repo: r, as: "t-ada"}
}

type got struct {
	status int
	body   string
	header http.Header
}

func (l *lab) do(method, path, body string) got {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, "http://ci.test"+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if l.as != "" {
		req.Header.Set("Authorization", "Bearer "+l.as)
	}
	res, err := l.Client().RoundTrip(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return got{res.StatusCode, string(b), res.Header}
}

func (l *lab) get(path string) got { l.t.Helper(); return l.do("GET", path, "") }

type pipelineJSON struct {
	ID, Number, Parent             int64
	Status, Commit, Event, Message string
	Started, Finished              int64
	ReviewedBy                     string         `json:"reviewed_by"`
	CancelInfo                     map[string]any `json:"cancel_info"`
	Variables                      map[string]string
	Errors                         []map[string]any
	Workflows                      []struct {
		ID       int64
		State    string
		Name     string
		Children []struct {
			ID       int64
			Name     string
			State    string
			ExitCode int `json:"exit_code"`
		}
	}
}

func decode[T any](t *testing.T, g got) T {
	t.Helper()
	var v T
	if g.status != 200 {
		t.Fatalf("status %d, body %q", g.status, g.body)
	}
	if err := json.Unmarshal([]byte(g.body), &v); err != nil {
		t.Fatalf("%v in %q", err, g.body)
	}
	return v
}

func (l *lab) detail(number string) pipelineJSON {
	l.t.Helper()
	return decode[pipelineJSON](l.t, l.get("/api/repos/1/pipelines/"+number))
}

func tree(p pipelineJSON) string {
	var b strings.Builder
	b.WriteString(p.Status)
	for _, w := range p.Workflows {
		b.WriteString(" " + w.Name + "=" + w.State)
		for _, c := range w.Children {
			b.WriteString(" " + c.Name + "=" + c.State)
		}
	}
	return b.String()
}

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		plan := woodsim.Red("test", 3)
		plan.Configure, plan.Queue, plan.Gap = time.Second, 2*time.Second, 500*time.Millisecond
		p := l.repo.Push(woodsim.Commit{Message: "one"}, plan)
		steps := []struct {
			after time.Duration
			want  string
		}{
			{0, "created"},
			{999 * time.Millisecond, "created"},
			{time.Second, "pending woodpecker=pending clone=pending build=pending test=pending publish=pending"},
			{3 * time.Second, "running woodpecker=running clone=success build=running test=pending publish=pending"},
			{4 * time.Second, "running woodpecker=running clone=success build=success test=running publish=pending"},
			{5 * time.Second, "running woodpecker=failure clone=success build=success test=failure publish=skipped"},
			{5500 * time.Millisecond, "failure woodpecker=failure clone=success build=success test=failure publish=skipped"},
		}
		begin := time.Now()
		for _, st := range steps {
			time.Sleep(st.after - time.Since(begin))
			if got := tree(l.detail("1")); got != st.want {
				t.Errorf("after %v: %s\nwant %s", st.after, got, st.want)
			}
		}
		tr := p.Truth()
		if tr.Status != "failure" || !tr.Ended || len(tr.History) != 4 {
			t.Errorf("truth: %+v", tr)
		}
		log := decode[[]map[string]any](t, l.get("/api/repos/1/logs/1/3"))
		text, err := base64.StdEncoding.DecodeString(log[1]["data"].(string))
		if err != nil || string(text) != "--- FAIL: TestCacheKey (0.02s)" {
			t.Errorf("log line %q, %v", text, err)
		}
		if g := l.get("/api/repos/1/logs/1/4"); g.body != "null" {
			t.Errorf("log of a step that never started: %q", g.body)
		}
	})
}

func TestEventStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, woodsim.Options{})
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://ci.test/api/stream/events", nil)
		res, err := l.Client().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		done := make(chan struct{})
		begin := time.Now()
		var last time.Duration
		go func() {
			defer close(done)
			sc := bufio.NewScanner(res.Body)
			for sc.Scan() {
				if sc.Text() != "" {
					lines = append(lines, sc.Text())
					last = time.Since(begin)
				}
			}
		}()
		synctest.Wait()
		plan := woodsim.Green(4 * time.Second)
		plan.Forge = 300 * time.Millisecond
		l.repo.Push(woodsim.Commit{}, plan)
		time.Sleep(33 * time.Second)
		l.DropStreams()
		<-done
		res.Body.Close()
		if lines[0] != ": ping" || !strings.Contains(lines[len(lines)-1], `"status":"success"`) {
			t.Errorf("first %q, last %.300q", lines[0], lines[len(lines)-1])
		}
		if want := 4*time.Second + 300*time.Millisecond; last != want {
			t.Errorf("last event after %v, want %v: the forge comes first", last, want)
		}
		if n := len(lines); n < 10 {
			t.Errorf("%d lines", n)
		}
	})
}
