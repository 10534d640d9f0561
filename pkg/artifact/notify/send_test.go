package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/internal/tlstest"
	"homelab/pkg/artifact"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

// request is what a server got.
type request struct {
	Method, Path, Host, Body string
	Header                   http.Header
}

type server struct {
	*tlstest.Server
	ca   string
	got  []request
	next func(http.ResponseWriter, *http.Request)
}

func serve(t *testing.T) *server {
	t.Helper()
	ca := tlstest.NewCA(t)
	s := &server{ca: ca.File(t)}
	s.Server = ca.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.got = append(s.got, request{r.Method, r.URL.String(), r.Host, string(body), r.Header})
		if s.next != nil {
			s.next(w, r)
		}
	}), "hooks.example.lan")
	return s
}

// to parses and makes one receiver of that server.
func (s *server) to(t *testing.T, d Deps, means, path string, more ...Part) Receiver {
	t.Helper()
	spec, err := Parse(append([]Part{{means, "https://hooks.example.lan" + path}, {"ca-file", s.ca}, {"dial", s.Addr.String()}}, more...))
	if err != nil {
		t.Fatal(err)
	}
	all, err := New([]Spec{spec}, d)
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func one() Notification {
	next := "homelab deploy watch history www"
	return Notification{
		Kind: "deploy.watch.notification", ID: "run1-7", Event: RolledBack, Time: noon(), Watch: "www", Run: "run1",
		From: "shelf:x", To: "host:y", Title: "www: bbbbbbbb was rolled back", Text: "the probes failed", Next: &next, Priority: 4,
		State: "rolled_back", Candidate: &artifact.Offer{ID: id("b")}, Running: &artifact.Named{ID: id("a")},
	}
}

const secretPath = "/services/T0000/canary-of-the-path"

func TestWebhook(t *testing.T) {
	s := serve(t)
	r := s.to(t, Deps{}, "webhook", secretPath+"?key=canary-query")
	if err := r.Send(t.Context(), one()); err != nil {
		t.Fatal(err)
	}
	got := s.got[0]
	if got.Method != "POST" || got.Path != secretPath+"?key=canary-query" || got.Host != "hooks.example.lan" ||
		got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Authorization") != "" {
		t.Errorf("%+v", got)
	}
	want := `{"kind":"deploy.watch.notification","id":"run1-7","event":"rolled_back","time":"2026-07-01T12:00:00Z","watch":"www","run":"run1",` +
		`"from":"shelf:x","to":"host:y","title":"www: bbbbbbbb was rolled back","text":"the probes failed","next":"homelab deploy watch history www",` +
		`"priority":4,"state":"rolled_back","candidate":{"id":"` + string(id("b")) + `"},"running":{"id":"` + string(id("a")) + `"},"previous":null}` + "\n"
	if got.Body != want {
		t.Errorf("body\n%s\nwant\n%s", got.Body, want)
	}
}

func TestNtfy(t *testing.T) {
	s := serve(t)
	read := func(path string) (transport.Secret, error) {
		if path != "/run/token" {
			t.Errorf("token of %q", path)
		}
		return transport.NewSecret("tk_canary")
	}
	r := s.to(t, Deps{Secret: read}, "ntfy", "/lab", Part{"token-file", "/run/token"})
	n := one()
	n.Title = "www: é"
	if err := r.Send(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	got := s.got[0]
	h := map[string]string{}
	for _, name := range []string{"Title", "Priority", "Tags", "Authorization"} {
		h[name] = got.Header.Get(name)
	}
	want := map[string]string{"Title": "=?utf-8?b?d3d3OiDDqQ==?=", "Priority": "4", "Tags": "leftwards_arrow_with_hook", "Authorization": "Bearer tk_canary"}
	if !maps.Equal(h, want) || got.Path != "/lab" || got.Body != "the probes failed\nhomelab deploy watch history www" {
		t.Errorf("%+v", got)
	}
}

// Whatever is answered, no error, no log line and nothing shown has more of the
// URL than its host.
func TestAnswers(t *testing.T) {
	status := func(code int, header ...string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "you asked for "+r.URL.String())
		}
	}
	for name, tc := range map[string]struct {
		next func(http.ResponseWriter, *http.Request)
		want *SendError
	}{
		"taken":       {status(204), nil},
		"down":        {status(503, "Retry-After", "120"), &SendError{What: "the server answered 503", RetryAfter: 2 * time.Minute}},
		"too often":   {status(429, "Retry-After", "9999999"), &SendError{What: "the server answered 429", RetryAfter: time.Hour}},
		"gone":        {status(404), &SendError{What: "the server answered 404", Refused: true}},
		"denied":      {status(401), &SendError{What: "the server answered 401", Refused: true}},
		"moved":       {status(307, "Location", secretPath+"/else"), &SendError{What: "the server answered 307, and a redirect is not followed", Refused: true}},
		"moved away":  {status(308, "Location", "https://evil.example/"), &SendError{What: "the server answered 308, and a redirect is not followed", Refused: true}},
		"cut":         {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, &SendError{}},
		"an odd code": {status(500), &SendError{What: "the server answered 500"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			s.next = tc.next
			var log []string
			r := s.to(t, Deps{
				Log:    func(f string, a ...any) { log = append(log, fmt.Sprintf(f, a...)) },
				Secret: func(string) (transport.Secret, error) { return transport.NewSecret("tk_canary") },
			}, "webhook", secretPath, Part{"token-file", "x"})
			err := r.Send(t.Context(), one())
			e, ok := errors.AsType[*SendError](err)
			switch {
			case tc.want == nil && err != nil, tc.want != nil && !ok:
				t.Errorf("%v", err)
			case tc.want == nil:
			case tc.want.What != "" && *e != *tc.want, e.Refused != tc.want.Refused:
				t.Errorf("%+v", e)
			}
			if len(s.got) != 1 {
				t.Errorf("%d requests", len(s.got))
			}
			shown := strings.Join(log, "\n") + r.To + r.Key
			if err != nil {
				shown += err.Error()
			}
			if strings.Contains(shown, "canary") || !strings.Contains(shown, "https://hooks.example.lan") || len(log) != 1 {
				t.Errorf("shown: %s", shown)
			}
		})
	}
}

// A server that never answers is left when its time is up.
func TestNoAnswer(t *testing.T) {
	s := serve(t)
	over := make(chan struct{})
	s.next = func(http.ResponseWriter, *http.Request) { <-over }
	t.Cleanup(func() { close(over) })
	r := s.to(t, Deps{}, "webhook", secretPath)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errSlow)
	defer cancel()
	err := r.Send(ctx, one())
	if err == nil || err.Error() != "no answer in 30s" {
		t.Errorf("%v", err)
	}
}

// The redactor learns what an unknown path would show elsewhere.
func TestRedacts(t *testing.T) {
	s := serve(t)
	var known transport.Redactor
	s.to(t, Deps{Transport: transport.Options{Redact: &known}}, "webhook", secretPath)
	s.to(t, Deps{Transport: transport.Options{Redact: &known}}, "ntfy", "/lab")
	if got := known.String("POST https://hooks.example.lan" + secretPath + " and " + secretPath + ", the lab"); strings.Contains(got, "canary") || !strings.Contains(got, "the lab") {
		t.Error(got)
	}
}

func TestExec(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tell")
	out := filepath.Join(dir, "out")
	script := func(text string) {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script("env | grep -v '^_=\\|^PWD=\\|^SHLVL=\\|^OLDPWD=' | sort >" + out + "; echo $# >>" + out)
	spec, err := Parse([]Part{{"exec", path}, {"on", "rolled_back"}})
	if err != nil {
		t.Fatal(err)
	}
	d := Deps{Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=/h", "TOKEN=canary"}, Dir: filepath.Join(dir, "work"), Redact: func(s string) string { return strings.ReplaceAll(s, "s3cret", "[redacted]") }}
	all, err := New([]Spec{spec}, d)
	if err != nil {
		t.Fatal(err)
	}
	n := one()
	n.Text = "the $(probes) failed\nX=1"
	if err := all[0].Send(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"HOME=/h", "HOMELAB_ACTION=notify", "HOMELAB_CANDIDATE=" + string(id("b")), "HOMELAB_EVENT=rolled_back",
		"HOMELAB_NEXT=homelab deploy watch history www", "HOMELAB_NOTIFICATION_ID=run1-7", "HOMELAB_PRIORITY=4",
		"HOMELAB_RUNNING=" + string(id("a")), "HOMELAB_RUN_ID=run1", "HOMELAB_STATE=rolled_back", "HOMELAB_TEXT=the $(probes) failed X=1",
		"HOMELAB_TIME=2026-07-01T12:00:00Z", "HOMELAB_TITLE=www: bbbbbbbb was rolled back", "HOMELAB_WATCH=www",
		"PATH=" + os.Getenv("PATH"), "0",
	}
	if got := strings.Split(strings.TrimSpace(string(raw)), "\n"); !slices.Equal(got, want) {
		t.Errorf("environment\n%s", raw)
	}

	for text, refused := range map[string]bool{"echo s3cret words; exit 1": true, "echo s3cret words; exit 75": false} {
		script(text)
		err := all[0].Send(t.Context(), n)
		e, ok := errors.AsType[*SendError](err)
		if !ok || e.Refused != refused || !strings.Contains(e.What, "[redacted] words") {
			t.Errorf("%s: %v", text, err)
		}
	}
	script("sleep 60")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errSlow)
	defer cancel()
	began := time.Now()
	if e, ok := errors.AsType[*SendError](all[0].Send(ctx, n)); !ok || e.Refused || time.Since(began) > 10*time.Second {
		t.Errorf("%+v after %s", e, time.Since(began))
	}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		parts string // key=value, space separated
		want  string // what it is for people; with ! an error
	}{
		{"webhook=https://h.example/a/canary?b", "webhook https://h.example"},
		{"ntfy=https://h.example:8443/canary on=live on=live", "ntfy https://h.example:8443"},
		{"webhook=http://127.0.0.1:1/x", "webhook http://127.0.0.1:1"},
		{"exec=/usr/bin/true", "exec /usr/bin/true"},
		{"on=live", "!needs one of webhook, ntfy and exec"},
		{"webhook=https://h/canary ntfy=https://h/canary", "!not both"},
		{"webhook=ftp://h/canary", "!want a URL"},
		{"webhook=canary", "!want a URL"},
		{"webhook=https://h/%zzcanary", "!want a URL"},
		{"webhook=https://u:canary@h/", "!token-file"},
		{"webhook=https://h/x#canary", "!#"},
		{"ntfy=https://h/", "!topic"},
		{"exec=tell", "!absolute"},
		{"exec=/tell token-file=/x", "!not with exec"},
		{"webhook=https://h/x on=rolledback", "!\"rolledback\" is nothing that is told; there are live, failed, rolled_back,"},
		{"webhook=https://h/x dial=nowhere", "!dial: "},
		{"webhook=https://h/x tokenfile=x", "!unknown key"},
	} {
		var parts []Part
		for word := range strings.FieldsSeq(tc.parts) {
			k, v, _ := strings.Cut(word, "=")
			parts = append(parts, Part{k, v})
		}
		s, err := Parse(parts)
		why, bad := strings.CutPrefix(tc.want, "!")
		switch {
		case bad && (err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "canary")):
			t.Errorf("%s: %v", tc.parts, err)
		case !bad && (err != nil || s.String() != tc.want || strings.Contains(s.key(), "canary")):
			t.Errorf("%s: %s %v", tc.parts, s, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	hook := Spec{Means: Webhook, At: "https://h.example/canary-canary"}
	for name, specs := range map[string][]Spec{
		"twice":      {hook, hook},
		"no program": {{Means: Exec, At: filepath.Join(t.TempDir(), "none")}},
		"plain http": {{Means: Webhook, At: "http://h.example/canary-canary"}},
		"no CA":      {{Means: Webhook, At: hook.At, CAFile: filepath.Join(t.TempDir(), "none")}},
		"no token":   {{Means: Ntfy, At: hook.At, TokenFile: "x"}},
	} {
		_, err := New(specs, Deps{Secret: func(string) (transport.Secret, error) {
			return transport.Secret{}, fault.Usagef("", "no such file")
		}})
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || e.Kind != fault.Usage || strings.Contains(e.What+e.Why, "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublicShape(t *testing.T) {
	// What is unknown is null, and names are stable.
	raw, err := json.Marshal(Notification{})
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(raw, &keys); err != nil {
		t.Fatal(err)
	}
	want := []string{"candidate", "event", "from", "id", "kind", "next", "previous", "priority", "run", "running", "state", "text", "time", "title", "to", "watch"}
	if got := slices.Sorted(maps.Keys(keys)); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
