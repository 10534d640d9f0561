package recording_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/recording"
)

func TestLoadAll(t *testing.T) {
	names := recording.Names()
	if len(names) != 12 || !slices.Contains(names, "success") {
		t.Fatalf("recordings: %q", names)
	}
	for _, n := range names {
		r := recording.Load(t, n)
		if r.Name != n || len(r.Exchanges) == 0 {
			t.Errorf("%s: name %q, %d exchanges", n, r.Name, len(r.Exchanges))
		}
		for _, e := range r.Exchanges {
			if e.Method == "" || e.Path == "" || e.Status == 0 || e.Auth == "" {
				t.Errorf("%s: incomplete exchange %+v", n, e)
			}
		}
		if n != "errors" && (len(r.Commit) != 40 && n != "blocked_approve" && n != "restart" && n != "manual" && n != "tag_same_commit" && n != "log_stream") {
			t.Errorf("%s: commit %q", n, r.Commit)
		}
	}
}

func ask(t *testing.T, p http.RoundTripper, method, path, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://ci.example"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestReplayByRequest(t *testing.T) {
	p := recording.Replay(t, "no_config")
	var seen []string
	for range 4 {
		status, body := ask(t, p, "GET", "/api/repos/9/pipelines?perPage=20", "x")
		if status != 200 {
			t.Fatal(status)
		}
		seen = append(seen, map[bool]string{true: "none", false: "created"}[body == "[]"])
	}
	if got := strings.Join(seen, " "); got != "none created none none" {
		t.Errorf("lists: %s", got)
	}
	if status, body := ask(t, p, "GET", "/api/nothing", "x"); status != 200 || !strings.HasPrefix(body, "<!doctype") {
		t.Errorf("unrecorded: %d %q", status, body)
	}
	if m := p.Missing(); len(m) != 1 || m[0] != "GET /api/nothing" {
		t.Errorf("missing %q", m)
	}
}

func TestReplayAuth(t *testing.T) {
	p := recording.Replay(t, "errors")
	for token, want := range map[string]int{"": 401, "invalid": 401, "x": 200} {
		if got, _ := ask(t, p, "GET", "/api/repos/18/pipelines", token); got != want {
			t.Errorf("token %q: %d, want %d", token, got, want)
		}
	}
}

func TestReplayByClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := recording.Replay(t, "blocked_approve").Clock(time.Now)
		status := func() string {
			_, body := ask(t, p, "GET", "/api/repos/15/pipelines/1", "x")
			_, rest, _ := strings.Cut(body, `"status":"`)
			s, _, _ := strings.Cut(rest, `"`)
			return s
		}
		time.Sleep(4180 * time.Millisecond)
		if s := status(); s != "blocked" {
			t.Errorf("at 4.18 s: %s", s)
		}
		time.Sleep(time.Millisecond)
		if code, _ := ask(t, p, "POST", "/api/repos/15/pipelines/1/approve", "x"); code != 200 {
			t.Errorf("approve: %d", code)
		}
		time.Sleep(600 * time.Millisecond)
		if s := status(); s != "running" {
			t.Errorf("after the approval: %s", s)
		}
		time.Sleep(time.Hour)
		if s := status(); s != "success" {
			t.Errorf("at the end: %s", s)
		}
		if code, body := ask(t, p, "POST", "/api/repos/15/pipelines/1/approve", "x"); code != 400 || body != "cannot approve a pipeline with status success" {
			t.Errorf("second approval: %d %q", code, body)
		}
	})
}

func TestReplayStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := recording.Replay(t, "log_stream").Clock(time.Now)
		begin := time.Now()
		status, body := ask(t, p, "GET", "/api/stream/logs/17/1/49", "x")
		if status != 200 || !strings.HasSuffix(body, "event: eof\ndata: eof\n\n") {
			t.Errorf("%d %q", status, body)
		}
		if d := time.Since(begin).Round(time.Millisecond); d != 3019*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}
