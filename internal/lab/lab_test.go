package lab

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"homelab/internal/tlstest"
	"homelab/internal/woodsim"
)

func TestParseFlow(t *testing.T) {
	step := func(name string, d time.Duration, exit int) woodsim.Step {
		s := woodsim.Step{Name: name, Takes: d, Exit: exit, Log: woodsim.Log{Lines: []string{"+ " + name}}}
		if exit != 0 {
			s.Log.Lines = append(s.Log.Lines, "--- FAIL: TestCacheKey (0.02s)", "FAIL")
		}
		return s
	}
	ignored := step("lint", defaultStep, 1)
	ignored.Ignore = true
	marked := step("clean", defaultStep, 0)
	marked.Always, marked.Cancel, marked.Parallel, marked.Type = true, true, true, "service"
	ending := step("odd", defaultStep, 0)
	ending.State = "canceled"
	tests := map[string]struct {
		want woodsim.Workflow
		bad  string
	}{
		"test: build=50ms unit=1h!3":       {want: woodsim.Workflow{Name: "test", Steps: []woodsim.Step{step("build", 50*time.Millisecond, 0), step("unit", time.Hour, 3)}}},
		"m{os=linux,go=1.26}@2s: a":        {want: woodsim.Workflow{Name: "m", Environ: map[string]string{"os": "linux", "go": "1.26"}, Start: 2 * time.Second, Steps: []woodsim.Step{step("a", defaultStep, 0)}}},
		"w: lint~1 clean^*&% odd?canceled": {want: woodsim.Workflow{Name: "w", Steps: []woodsim.Step{ignored, marked, ending}}},
		`e\x1bvil: s\u009btep`:             {want: woodsim.Workflow{Name: "e\x1bvil", Steps: []woodsim.Step{step("s\u009btep", defaultStep, 0)}}},
		"none:":                            {want: woodsim.Workflow{Name: "none"}},
		"no colon":                         {bad: "colon"},
		"w: a=soon":                        {bad: "invalid duration"},
		"w: !3":                            {bad: `step "!3"`},
		`w: a\q`:                           {bad: "invalid syntax"},
		"w@later: a":                       {bad: "invalid duration"},
	}
	for text, tt := range tests {
		got, err := parseFlow(text)
		switch {
		case tt.bad != "":
			if err == nil || !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("%s: %v", text, err)
			}
		case err != nil:
			t.Errorf("%s: %v", text, err)
		default:
			if diff := cmp.Diff(tt.want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Line" }, cmp.Ignore())); diff != "" {
				t.Errorf("%s:\n%s", text, diff)
			}
		}
	}
}

// What nobody understands is an error, never nothing.
func TestDoRefuses(t *testing.T) {
	l := New(t, Options{})
	for line, want := range map[string]string{
		"":                       "what?",
		"psuh":                   "no such word",
		"push --bogus x":         "unknown flags",
		"push extra":             "too many words",
		"push --flow":            "needs a value",
		"push --log nope=x":      "fits nothing",
		"push --scenario nope":   "no scenario",
		"push --repo ada/nope":   "no repository",
		"tag":                    "missing",
		"cancel 9":               "no pipeline 9",
		"cancel":                 "missing",
		"advance soon":           "invalid duration",
		"fault nonsense":         "no fault",
		"fault html":             "how long",
		"trouble brewing":        "trouble with brewing",
		"writes run:0":           "what took effect",
		"requests GET /x 1":      "0 requests",
		"requests GET /x >=1":    "0 requests",
		"streams stop":           "streams stop",
		"pr x":                   "invalid syntax",
		"push --step-error a":    "fits nothing",
		"push --log-delay x=bad": "fits nothing",
	} {
		if _, err := l.Do(strings.Fields(line)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %q", line, err, want)
		}
	}
	if _, err := ParseOptions([]string{"--bogus", "x"}); err == nil {
		t.Error("an unknown option passed")
	}
}

// Time passes when it is told to, and misuse does not go unseen.
func TestAdvanceAndMisuse(t *testing.T) {
	ca := tlstest.NewCA(t)
	l := New(t, Options{CA: ca})
	if n, err := l.Do("push", "--flow", "test: unit=1h!3"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if s := l.Repo.Pipeline(1).Status(); s != "running" {
		t.Errorf("status %s", s)
	}
	if _, err := l.Do("advance", "61m"); err != nil {
		t.Fatal(err)
	}
	if s := l.Repo.Pipeline(1).Status(); s != "failure" {
		t.Errorf("status %s", s)
	}
	if err := l.Misuse(); err != nil {
		t.Error(err)
	}
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, l.Dial())
		},
	}
	defer tr.CloseIdleConnections()
	tr.TLSClientConfig = &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
	for path, want := range map[string]string{
		l.URL() + "/api/nothing":                 "a request for nothing",
		l.URL() + "/api/user?access_token=x":     "a secret in its query",
		"https://localhost/api/user":             "",
		l.URL() + "/api/user#with-a-wrong-token": "a credential nobody gave out",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(path, "wrong") {
			req.Header.Set("Authorization", "Bearer other")
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if err := l.Misuse(); want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
