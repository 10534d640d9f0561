package image_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/regsim"
	"homelab/internal/tlstest"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source/image"
	"homelab/pkg/fault"
	"homelab/pkg/registry"
	"homelab/pkg/transport"
)

const (
	host   = "reg.example.lan"
	web    = "oci://" + host + "/shop/web:main"
	commit = "1111111111111111111111111111111111111111"
	head   = "HEAD /v2/shop/web/manifests/main"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		web:                              web,
		"oci://REG.example.lan/a/b:V1.2": "oci://reg.example.lan/a/b:V1.2",
		"oci://127.0.0.1:5000/x:1?platform=linux/arm64": "oci://127.0.0.1:5000/x:1?platform=linux/arm64",
		"oci://h.lan/x:1?platform=linux%2Farm%2Fv7":     "oci://h.lan/x:1?platform=linux/arm/v7",
		"oci://docker.io/nginx:1":                       "oci://docker.io/library/nginx:1",
		"oci://index.docker.io/lab/x:1":                 "oci://docker.io/lab/x:1",
	} {
		s, err := image.Parse(in)
		if err != nil || s.String() != want {
			t.Errorf("%s: %v, %v; want %s", in, s, err, want)
			continue
		}
		if again, err := image.Parse(s.String()); err != nil || again != s {
			t.Errorf("%s is read as %v, %v", s, again, err)
		}
		floor := 5 * time.Second
		if strings.Contains(want, "docker.io") {
			floor = time.Minute
		}
		if s.Floor() != floor {
			t.Errorf("%s: %s", s, s.Floor())
		}
	}
	for in, why := range map[string]string{
		"oci://" + host + "/shop/web@sha256:" + strings.Repeat("a", 64):      "always serves the same",
		"oci://" + host + "/shop/web:main@sha256:" + strings.Repeat("a", 64): "always serves the same",
		"oci://" + host + "/shop/web":                                        "tag is missing",
		"oci://shop/web:main":                                                "host is missing",
		"https://" + host + "/shop/web:main":                                 "want oci://",
		"oci://me:hunter2@" + host + "/shop/web:main":                        "docker configuration",
		web + "?platform=linux":                                              "OS/ARCH",
		web + "?platform=linux/a&platform=linux/b":                           "once",
		web + "?platform=linux/amd64\x1b[2J":                                 "OS/ARCH",
		web + "?arch=arm64":                                                  "not arch=",
		web + "?platform=%zz":                                                "invalid URL escape",
		"oci://" + host + "/Shop/web:main":                                   "repository",
		web + "\x1b]0;x\a":                                                   "tag",
		"":                                                                   "want oci://",
	} {
		_, err := image.Parse(in)
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Usage || f.Next == "" || !strings.Contains(f.Why, why) || !strings.Contains(f.What, "--from") {
			t.Errorf("%q: %v (%+v), want %q", in, err, f, why)
		}
		if text := fmt.Sprint(err, f); strings.ContainsAny(text, "\x1b\a") || strings.Contains(text, "hunter2") {
			t.Errorf("%q", text)
		}
	}
}

// lab is a registry behind TLS, reached as the program does: by name, pinned,
// with its own authority.
type lab struct {
	*testing.T
	*regsim.Server
	client *registry.Client
	source *image.Source
	q      artifact.Query

	elsewhere string // the same server as another origin
}

func newLab(t *testing.T, from string) *lab {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // not this machine's
	l := &lab{T: t, Server: regsim.New()}
	ca := tlstest.NewCA(t)
	srv := ca.Serve(t, l.Server, host, "localhost")
	l.elsewhere = srv.URL("localhost")
	stack, err := transport.New(transport.Options{
		Base: &url.URL{Scheme: "https", Host: host}, CAFile: ca.File(t),
		Pin: &transport.Pin{Addr: srv.Addr.Addr(), Port: srv.Addr.Port()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stack.CloseIdleConnections)
	l.use(from, stack)
	return l
}

func (l *lab) use(from string, next http.RoundTripper) {
	var err error
	if l.client, err = registry.New(registry.Options{Transport: next}); err != nil {
		l.Fatal(err)
	}
	spec, err := image.Parse(from)
	if err != nil {
		l.Fatal(err)
	}
	l.source = image.New(spec, l.client)
}

func (l *lab) push(i regsim.Image) artifact.ID {
	l.Helper()
	d, err := l.Push("shop/web:main", i)
	if err != nil {
		l.Fatal(err)
	}
	return artifact.ID(d)
}

// look is one look, with what the watch would remember of the one before.
func (l *lab) look() (artifact.Look, error) {
	l.Helper()
	got, err := l.source.Look(l.Context(), l.q)
	if err != nil {
		return got, err
	}
	l.q.Seen = got.Seen
	if got.Candidate != nil {
		l.q.Offered = got.Candidate
	} else if !got.Unchanged {
		l.Errorf("neither a candidate nor unchanged: %+v", got)
	}
	return got, nil
}

func (l *lab) must() artifact.Look {
	l.Helper()
	got, err := l.look()
	if err != nil {
		l.Fatal(err)
	}
	return got
}

func (l *lab) fails(class artifact.Class) artifact.Failure {
	l.Helper()
	_, err := l.look()
	f, ok := errors.AsType[*artifact.Failure](err)
	if !ok || f.Class != class {
		l.Fatalf("%v (%+v), want %s", err, f, class)
	}
	if strings.ContainsAny(f.What, "\x1b\n\a") || len(f.What) > 700 {
		l.Errorf("%q", f.What)
	}
	return *f
}

func TestLook(t *testing.T) {
	l := newLab(t, web)
	first := l.push(regsim.Image{Text: "1", Revision: strings.ToUpper(commit[:39]) + "A", Platforms: []string{"linux/amd64", "linux/arm64"}})
	c := l.must().Candidate
	want := artifact.Candidate{
		ID: first, Kind: artifact.Image, Location: host + "/shop/web:main", Ref: host + "/shop/web:main@" + string(first),
		Meta: artifact.Meta{Commit: commit[:39] + "a"},
	}
	if c == nil || *c != want {
		t.Fatalf("%+v, want %+v", c, want)
	}
	l.Asked()
	for range 3 {
		if got := l.must(); !got.Unchanged || got.Candidate != nil {
			t.Errorf("%+v", got)
		}
		if asked := l.Asked(); !slices.Equal(asked, []string{head}) {
			t.Errorf("an idle look costs %q", asked)
		}
	}
	// The same content under the tag once more is nothing.
	l.push(regsim.Image{Text: "1", Revision: strings.ToUpper(commit[:39]) + "A", Platforms: []string{"linux/amd64", "linux/arm64"}})
	if !l.must().Unchanged {
		t.Error("the same image is a candidate again")
	}
	second := l.push(regsim.Image{Text: "2", Revision: "v1.2"})
	c = l.must().Candidate
	if c == nil || c.ID != second || c.Meta.Commit != "" || c.Order != 0 {
		t.Errorf("%+v", c)
	}
	// A new process goes on with what was noted; another source does not.
	l.use(web, l.InProcess())
	if !l.must().Unchanged {
		t.Error("forgotten")
	}
	if _, err := l.Push("shop/api:main", regsim.Image{Text: "2", Revision: "v1.2"}); err != nil {
		t.Fatal(err)
	}
	l.use("oci://"+host+"/shop/api:main", l.InProcess())
	if c := l.must().Candidate; c == nil || c.ID != second || !strings.HasPrefix(c.Ref, host+"/shop/api:main@sha256:") {
		t.Errorf("%+v", c)
	}
	if f, _ := errors.AsType[*artifact.Failure](l.source.Fetch(t.Context(), *c, nil)); f == nil {
		t.Error("an image was fetched")
	}
}

// Blobs are often kept elsewhere, where no credentials go.
func TestBlobsElsewhere(t *testing.T) {
	l := newLab(t, web)
	l.push(regsim.Image{Text: "1", Revision: commit})
	var there []string
	l.Gate(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.Host, "localhost:") {
			there = append(there, r.Header.Get("Authorization"))
			return false
		}
		if u, _, _ := r.BasicAuth(); u != "lab" {
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, l.elsewhere+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	login := fmt.Sprintf(`{"auths":{%q:{"auth":"bGFiOmh1bnRlcjI="}}}`, host)
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := l.must().Candidate; c == nil || c.Meta.Commit != commit || !slices.Equal(there, []string{""}) {
		t.Errorf("%+v, %q", c, there)
	}
}

func TestPlatform(t *testing.T) {
	l := newLab(t, web+"?platform=linux/arm64")
	id := l.push(regsim.Image{Text: "1", Revision: commit, Platforms: []string{"linux/amd64", "linux/arm64/v8"}})
	if c := l.must().Candidate; c == nil || c.ID != id || c.Meta.Platform != "linux/arm64" || c.Meta.Commit != commit {
		t.Errorf("%+v", c) // the index's digest, not the child's
	}
	amd := l.push(regsim.Image{Text: "2", Platforms: []string{"linux/amd64"}})
	f := l.fails(artifact.Absent)
	if !strings.Contains(f.What, amd.Short()) || !strings.Contains(f.What, "linux/arm64") {
		t.Error(f.What)
	}
	l.Asked()
	l.fails(artifact.Absent)
	if asked := l.Asked(); !slices.Equal(asked, []string{head}) {
		t.Errorf("what is known costs %q", asked)
	}
	// One manifest without an index tells by its configuration.
	l.push(regsim.Image{Text: "3"})
	l.fails(artifact.Absent)
	// The other platforms may be missing, not ours.
	for missing, there := range map[string]bool{"linux/amd64": true, "linux/arm64": false} {
		l.Gate(nil)
		l.push(regsim.Image{Text: "4" + missing, Platforms: []string{"linux/amd64", "linux/arm64"}})
		child, err := l.client.Resolve(t.Context(), host+"/shop/web:main")
		if err != nil {
			t.Fatal(err)
		}
		p, _ := child.For(missing)
		l.Gate(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, p.Digest) {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			return false
		})
		l.use(web+"?platform=linux/arm64", l.InProcess()) // which has not read it
		if _, err := l.look(); (err == nil) != there {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

func TestExpected(t *testing.T) {
	l := newLab(t, web)
	if !l.source.Answers(artifact.ByID) || !l.source.Answers(artifact.ByCommit) || l.source.Answers(artifact.ByUUID) {
		t.Error("answers")
	}
	first := l.push(regsim.Image{Text: "1"})
	l.q.Expect = artifact.Expectation{Form: artifact.ByCommit, Value: commit[:8]}
	for range 2 {
		if got := l.must(); got.Expected != artifact.Awaited || !strings.Contains(got.Reason, "no revision label") {
			t.Errorf("%+v", got)
		}
	}
	l.push(regsim.Image{Text: "2", Revision: commit})
	got := l.must()
	if got.Candidate == nil || !l.q.Expect.Is(*got.Candidate) {
		t.Errorf("%+v", got)
	}
	l.q.Expect, l.q.Offered, l.q.Seen = artifact.Expectation{Form: artifact.ByID, Value: first.Hex()}, &artifact.Candidate{ID: first}, string(first)
	if got := l.must(); got.Expected != artifact.Passed || got.By != got.Candidate.ID || got.Reason == "" {
		t.Errorf("%+v", got)
	}
}

func TestFailures(t *testing.T) {
	l := newLab(t, web)
	l.push(regsim.Image{Text: "1"})
	answer := func(code int, header, body string) {
		l.Gate(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			if name, v, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(name, v)
			}
			w.WriteHeader(code)
			fmt.Fprint(w, body)
			return true
		})
	}
	answer(503, "", "busy")
	l.fails(artifact.Transient)
	answer(200, "Content-Type: text/html", "<html>sign in")
	l.fails(artifact.Transient)
	answer(400, "", strings.Repeat("\x1b[2Jno\n", 999))
	l.fails(artifact.Transient)
	answer(429, "Retry-After: 120", "")
	l.Asked()
	if f := l.fails(artifact.Transient); !f.Limited || f.RetryAfter != 2*time.Minute {
		t.Errorf("%+v", f)
	}
	if asked := l.Asked(); len(asked) != 1 {
		t.Errorf("429 is asked again: %q", asked)
	}
	answer(200, "Docker-Content-Digest: sha512:"+strings.Repeat("a", 128), "")
	l.fails(artifact.Transient) // without a type, and what GET brings is no manifest
	// The digest of a HEAD is believed only as far as the bytes confirm it.
	answer(200, "", "")
	l.Gate(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodHead {
			return false
		}
		w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("b", 64))
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		w.Header().Set("Content-Length", "7")
		return true
	})
	l.fails(artifact.Transient)
	ctx, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("mine")
	cancel(mine)
	if _, err := l.source.Look(ctx, l.q); !errors.Is(err, mine) {
		t.Errorf("%v", err)
	}
}

// A refusal is believed after it was repeated.
func TestRefusals(t *testing.T) {
	for code, class := range map[int]artifact.Class{404: artifact.Absent, 401: artifact.Denied, 403: artifact.Denied} {
		t.Setenv("DOCKER_CONFIG", t.TempDir())
		l := &lab{T: t, Server: regsim.New()}
		l.use(web, l.InProcess())
		l.Gate(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			w.WriteHeader(code)
			fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"\u001b[31mno\u001b[0m"}]}`)
			return true
		})
		synctest.Test(t, func(t *testing.T) {
			l.T = t
			start := time.Now()
			if f := l.fails(class); time.Since(start) != 3*time.Second || !strings.Contains(f.What, "DENIED: no") {
				t.Errorf("%s after %s", f.What, time.Since(start))
			}
			l.Asked()
			l.fails(class)
			if asked := slices.DeleteFunc(l.Asked(), func(a string) bool { return a == "GET /v2/" }); !slices.Equal(asked, []string{head}) {
				t.Errorf("%d, believed: %q", code, asked)
			}
		})
	}
}
