package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/regsim"
	"homelab/internal/tlstest"
	"homelab/internal/woodsim"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source/pipeline"
	"homelab/pkg/fault"
	"homelab/pkg/registry"
	"homelab/pkg/transport"
	"homelab/pkg/woodpecker"
)

const (
	from     = "woodpecker:lab/shop?branch=main"
	template = "oci://reg.example.lan/shop/web:main-{sha8}"
	list     = "GET /api/repos/1/pipelines"
)

func TestParse(t *testing.T) {
	for in, want := range map[[2]string]string{
		{from, template}: "woodpecker:lab/shop?branch=main&event=push " + template,
		{"woodpecker:a/b/c?event=tag&branch=x/y", "https://h.lan/{sha}/f"}:                   "woodpecker:a/b/c?branch=x%2Fy&event=tag https://h.lan/{sha}/f",
		{from + "&workflow=z&workflow=a&workflow=z", "https://h.lan/f?n={number}&s={sha40}"}: "woodpecker:lab/shop?branch=main&event=push&workflow=a&workflow=z https://h.lan/f?n={number}&s={sha40}",
		{from, "oci://reg.example.lan/shop/web-{number}:{sha}?platform=linux/arm64"}:         "woodpecker:lab/shop?branch=main&event=push oci://reg.example.lan/shop/web-{number}:{sha}?platform=linux/arm64",
	} {
		s, err := pipeline.Parse(in[0], in[1])
		if err != nil || s.String() != want {
			t.Errorf("%q: %v, %v", in, s, err)
		}
		kind := artifact.Image
		if strings.HasPrefix(in[1], "https") {
			kind = artifact.File
		}
		host := map[artifact.Kind]string{artifact.Image: "reg.example.lan"}[kind]
		if s.Kind() != kind || s.Registry() != host {
			t.Errorf("%q: %s of %q", in, s.Kind(), s.Registry())
		}
	}
	for in, why := range map[[2]string]string{
		{"woodpecker:lab/shop", template}:                              "branch= is missing",
		{"woodpecker:shop?branch=main", template}:                      "OWNER/REPO",
		{"woodpecker:lab/../shop?branch=main", template}:               "OWNER/REPO",
		{"woodpecker://ci.example.lan/lab/shop?branch=main", template}: "configured server",
		{"https://ci.example.lan/lab/shop?branch=main", template}:      "configured server",
		{from + "&event=psuh", template}:                               "no event",
		{from + "&branch=b", template}:                                 "twice",
		{from + "&workflow=", template}:                                "no usable value",
		{from + "&workflow=%1b[2J", template}:                          "no usable value",
		{from + "&tag=x", template}:                                    "not tag=",
		{from + "&x=%zz", template}:                                    "invalid URL escape",
		{from, ""}:                                                     "where a pipeline's artifact lies",
		{from, "oci://reg.example.lan/shop/web:main"}:                  "any pipeline's artifact",
		{from, "oci://reg.example.lan/shop/web:main-{sha6}"}:           "{sha7} to {sha40}",
		{from, "oci://reg.example.lan/shop/web:main-{sha41}"}:          "{sha7} to {sha40}",
		{from, "oci://reg.example.lan/shop/web:main-{sha08}"}:          "{sha7} to {sha40}",
		{from, "oci://reg.example.lan/shop/web:{branch}-{sha}"}:        "{branch} is none",
		{from, "oci://reg.example.lan/shop/web:{sha}}"}:                "braces",
		{from, "oci://reg.example.lan/shop/web@sha256:{sha}"}:          "digest",
		{from, "oci://reg.example.lan/shop/web"}:                       "any pipeline's artifact",
		{from, "oci://reg.example.lan/shop/web-{sha8}"}:                "tag is missing",
		{from, "https://{sha8}.example.lan/x"}:                         "host",
		{from, "https://me:hunter2@h.lan/{sha}"}:                       "password",
		{from, "https://h.lan/{sha}#x"}:                                "fragment",
		{from, "http://h.lan/{sha}"}:                                   "oci:// or https://",
		{from, "file:/srv/{sha}"}:                                      "oci:// or https://",
		{from, "https://h.lan?{sha}"}:                                  "host",
	} {
		_, err := pipeline.Parse(in[0], in[1])
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Usage || f.Next == "" || !strings.Contains(f.Why, why) || !strings.Contains(f.What, "--") {
			t.Errorf("%q: %v (%+v), want %q", in, err, f, why)
		}
		if text := fmt.Sprint(err, f); strings.ContainsAny(text, "\x1b\a") || strings.Contains(text, "hunter2") {
			t.Errorf("%q", text)
		}
	}
}

// lab is a Woodpecker and a registry. Outside a bubble both are behind TLS.
type lab struct {
	*testing.T
	ci     *woodsim.Server
	repo   *woodsim.Repo
	reg    *regsim.Server
	deps   pipeline.Deps
	source *pipeline.Source
	q      artifact.Query
}

// bubble is a lab without sockets.
func bubble(t *testing.T) *lab {
	t.Helper()
	l := &lab{T: t, ci: woodsim.New(woodsim.Options{}), reg: regsim.New()}
	l.repo = l.ci.AddRepo(woodsim.RepoOptions{FullName: "lab/shop", CancelPrevious: []string{}})
	l.client(l.ci.Client(), l.reg.InProcess())
	l.use(from, template)
	return l
}

func newLab(t *testing.T) *lab {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // not this machine's
	l := bubble(t)
	ca := tlstest.NewCA(t)
	stack := func(h http.Handler, name string) http.RoundTripper {
		srv := ca.Serve(t, h, name)
		s, err := transport.New(transport.Options{
			Base: &url.URL{Scheme: "https", Host: name}, CAFile: ca.File(t),
			Pin: &transport.Pin{Addr: srv.Addr.Addr(), Port: srv.Addr.Port()},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.CloseIdleConnections)
		return s
	}
	l.client(stack(l.ci, "ci.example.lan"), stack(l.reg, "reg.example.lan"))
	l.use(from, template)
	return l
}

func (l *lab) client(ci, reg http.RoundTripper) {
	images, err := registry.New(registry.Options{Transport: reg})
	if err != nil {
		l.Fatal(err)
	}
	base := &url.URL{Scheme: "https", Host: "ci.example.lan"}
	l.deps = pipeline.Deps{Server: woodpecker.New(woodpecker.Options{Base: base, Transport: ci, Exact: true}), Images: images}
}

// use is a process that starts.
func (l *lab) use(from, template string) {
	l.Helper()
	spec, err := pipeline.Parse(from, template)
	if err != nil {
		l.Fatal(err)
	}
	l.source = pipeline.New(spec, l.deps)
}

// push makes a pipeline of a commit that is named by text.
func (l *lab) push(text string, p woodsim.Plan) *woodsim.Pipeline {
	return l.repo.Push(woodsim.Commit{SHA: woodsim.SHA(text)}, p)
}

// image puts the commit's image into the registry.
func (l *lab) image(text, content string) artifact.ID {
	l.Helper()
	d, err := l.reg.Push("shop/web:main-"+woodsim.SHA(text)[:8], regsim.Image{Text: content})
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
		if got.Unchanged {
			l.Error("a candidate, and unchanged")
		}
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

// offers takes a look that must offer id, of the pipeline and the order.
func (l *lab) offers(id artifact.ID, number, order int64) artifact.Look {
	l.Helper()
	got := l.must()
	if c := got.Candidate; c == nil || c.ID != id || c.Meta.Pipeline != number || c.Order != order {
		l.Fatalf("%+v, want %s of pipeline %d, order %d", c, id.Short(), number, order)
	}
	return got
}

// asked is what was asked of both servers since the last call.
func (l *lab) asked() []string {
	var out []string
	for _, r := range l.ci.Requests() {
		out = append(out, r.Method+" "+r.Path)
	}
	l.ci.ForgetRequests()
	return append(out, slices.DeleteFunc(l.reg.Asked(), func(a string) bool { return a == "GET /v2/" })...)
}

// costs says what the next look may ask.
func (l *lab) costs(want ...string) artifact.Look {
	l.Helper()
	l.asked()
	got := l.must()
	if asked := l.asked(); !slices.Equal(asked, want) {
		l.Errorf("asked %q, want %q", asked, want)
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

func head(text string) string { return "HEAD /v2/shop/web/manifests/main-" + woodsim.SHA(text)[:8] }

var (
	green   = woodsim.Green(0)
	red     = woodsim.Plan{Status: "failure"}
	running = woodsim.Running(time.Hour)
)

func TestLook(t *testing.T) {
	l := newLab(t)
	if got := l.must(); got.Candidate != nil || got.Unchanged || got.Hot != "" || got.Failing != "" || got.Missing {
		t.Errorf("nothing there: %+v", got)
	}
	l.push("a", green)
	one := l.image("a", "1")
	got := l.offers(one, 1, 1)
	c := got.Candidate
	if c.Kind != artifact.Image || c.Meta.Commit != woodsim.SHA("a") || c.Meta.URL != "https://ci.example.lan/repos/1/pipeline/1" ||
		c.Ref != "reg.example.lan/shop/web:main-"+woodsim.SHA("a")[:8]+"@"+string(one) || time.Since(c.Made) > time.Minute || got.Missing || got.Hot != "" {
		t.Errorf("%+v", got)
	}
	for range 3 {
		if got := l.costs(list); !got.Unchanged || got.Hot != "" {
			t.Errorf("idle: %+v", got)
		}
	}
	l.q.Running = &artifact.Version{Candidate: *c}

	// A new pipeline is watched closely, and costs no more.
	p := l.push("b", running)
	for range 2 {
		if got := l.costs(list); !got.Unchanged || got.Hot != "pipeline 2 is not finished" {
			t.Errorf("%+v", got)
		}
	}
	l.image("b", "1")
	p.Stop()
	p.SetStatus("success")
	// Other commit, other tag, the same bytes.
	if got := l.offers(one, 2, 2); !got.Rebuilt {
		t.Errorf("%+v", got)
	}
	if got := l.costs(list); !got.Unchanged || got.Rebuilt {
		t.Errorf("%+v", got)
	}
	l.push("c", green)
	three := l.image("c", "3")
	if got := l.offers(three, 3, 3); got.Rebuilt {
		t.Error("rebuilt")
	}
	// A new process goes on with what was noted; another source does not.
	l.use(from, template)
	if got := l.costs("GET /api/repos/lookup/lab/shop", list); !got.Unchanged {
		t.Errorf("%+v", got)
	}
	l.use(from, "oci://reg.example.lan/shop/web:main-{sha8}?platform=linux/amd64")
	l.offers(three, 3, 3)
	// Others' pipelines are not ours.
	l.use(from, template)
	l.repo.Manual(woodsim.Commit{SHA: woodsim.SHA("d")}, green)
	l.repo.Push(woodsim.Commit{SHA: woodsim.SHA("e"), Branch: "dev"}, green)
	l.repo.PR(7, woodsim.Commit{SHA: woodsim.SHA("f")}, green)
	l.offers(three, 3, 3)
	if len(l.ci.Unexpected()) != 0 {
		t.Errorf("%v", l.ci.Unexpected())
	}
}

// An artifact that is not there is believed to be missing after it was asked
// for again, and from then on costs one request more.
func TestMissing(t *testing.T) {
	inBubble(t, func(l *lab) {
		l.push("a", green)
		start := time.Now()
		got := l.must()
		if got.Candidate != nil || !got.Missing || got.Hot == "" || time.Since(start) != 3*time.Second {
			l.Errorf("no image yet: %+v after %s", got, time.Since(start))
		}
		if again := l.costs(list, head("a")); again.Hot != got.Hot || !again.Missing {
			l.Errorf("%+v", again)
		}
		one := l.image("a", "1")
		if got := l.offers(one, 1, 1); got.Missing || got.Hot != "" {
			l.Errorf("%+v", got)
		}
		// It comes while it is asked for again.
		l.push("b", green)
		go func() {
			time.Sleep(time.Second)
			l.image("b", "2")
		}()
		start = time.Now()
		if got := l.must(); got.Candidate == nil || got.Missing || time.Since(start) != 1500*time.Millisecond {
			l.Errorf("%+v after %s", got, time.Since(start))
		}
	})
}

// inBubble runs f where time costs nothing.
func inBubble(t *testing.T, f func(l *lab)) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	synctest.Test(t, func(t *testing.T) { f(bubble(t)) })
}

// Running an old commit again makes the highest number and nothing newer.
func TestRestarts(t *testing.T) {
	l := newLab(t)
	l.push("old", green)
	old := l.image("old", "old")
	l.offers(old, 1, 1)
	l.push("new", green)
	fresh := l.image("new", "new")
	l.offers(fresh, 2, 2)
	l.repo.Restart(1, nil) // 3
	l.repo.Restart(3, nil) // 4, of a restart
	if got := l.costs(list); !got.Unchanged || got.Hot != "" || got.Failing != "" {
		t.Errorf("%+v", got)
	}
	l.repo.Restart(1, &running) // 5: whatever comes of it is old
	l.repo.Restart(1, &red)     // 6
	if got := l.costs(list); !got.Unchanged || got.Hot != "" || got.Failing != "" {
		t.Errorf("%+v", got)
	}
	// Without a memory the same is found.
	l.use(from, template)
	l.q = artifact.Query{}
	l.offers(fresh, 2, 2)
	// The newest commit again: the same order, and what it brought this time.
	l.repo.Restart(2, nil) // 7
	if got := l.costs(list, head("new")); got.Candidate == nil || got.Candidate.ID != fresh || got.Candidate.Order != 2 || got.Candidate.Meta.Pipeline != 7 {
		t.Errorf("%+v", got.Candidate)
	}
	l.repo.Restart(7, nil) // 8
	other := l.image("new", "not reproducible")
	l.offers(other, 8, 2)
	if got := l.costs(list); !got.Unchanged {
		t.Errorf("%+v", got)
	}
	// Only restarts are left on the pages: the chain is followed by asking.
	for range 60 {
		l.push("x", red)
	}
	l.repo.Restart(8, nil) // 69
	l.use(from, template)
	l.q = artifact.Query{}
	l.offers(other, 69, 2)
	if n := l.ci.Count("GET", "/pipelines/"); n != 3 { // 8, 7, 2
		t.Errorf("%d rows were read", n)
	}
	l.repo.Pipeline(8).Delete()
	l.use(from, template)
	l.q = artifact.Query{}
	l.deps.Server = confirmed{l.deps.Server}
	l.use(from, template)
	l.offers(other, 69, 1) // its place is not known: older than everything
}

// confirmed believes a 404 at once.
type confirmed struct{ pipeline.Server }

func (c confirmed) Pipeline(ctx context.Context, id woodpecker.RepoID, number int64) (woodpecker.Pipeline, error) {
	return c.Server.Pipeline(woodpecker.Unconfirmed(ctx), id, number)
}

// More pages are read only to reach what was handled, five at most.
func TestPages(t *testing.T) {
	l := newLab(t)
	l.push("a", green)
	one := l.image("a", "1")
	for range 14 {
		l.push("x", red)
	}
	lookup := "GET /api/repos/lookup/lab/shop"
	l.asked()
	l.offers(one, 1, 1)
	if asked := l.asked(); len(asked) < 4 || !slices.Equal(asked[:4], []string{lookup, list, list, head("a")}) {
		t.Errorf("%q", asked)
	}
	if got := l.costs(list); !got.Unchanged || !strings.HasPrefix(got.Failing, "pipeline 15 failed: https://ci.example.lan/") {
		t.Errorf("%+v", got)
	}
	for range 12 {
		l.push("y", red)
	}
	l.costs(list, list)
	l.costs(list)
	for range 70 {
		l.push("z", red)
	}
	l.costs(list, list, list, list, list)
	l.costs(list)
	// A row that is not finished is not handled, however many come after it.
	late := l.push("late", running)
	for range 12 {
		l.push("w", red)
	}
	if got := l.costs(list, list); got.Hot == "" || got.Failing == "" {
		t.Errorf("%+v", got)
	}
	two := l.image("late", "2")
	late.Stop()
	late.SetStatus("success")
	if got := l.must(); got.Candidate == nil || got.Candidate.ID != two {
		t.Errorf("%+v", got)
	}
	l.costs(list)
	for _, r := range l.ci.Requests() {
		if q, _ := url.ParseQuery(r.Query); r.Path == "/api/repos/1/pipelines" &&
			(q.Get("perPage") != "10" || q.Get("branch") != "main" || q.Get("event") != "push" || q.Has("status")) {
			t.Errorf("%s?%s", r.Path, r.Query)
		}
	}
}

func TestExpected(t *testing.T) {
	inBubble(t, func(l *lab) {
		expect := func(text string) artifact.Look {
			l.Helper()
			l.q.Expect = artifact.Expectation{Form: artifact.ByCommit, Value: woodsim.SHA(text)[:12]}
			return l.must()
		}
		stands := func(text string, s artifact.Standing, reason, hot string) {
			l.Helper()
			if got := expect(text); got.Expected != s || !strings.Contains(got.Reason, reason) || got.Hot != hot {
				l.Errorf("%s: %q, %q, hot %q", text, got.Expected, got.Reason, got.Hot)
			}
		}
		l.push("a", green)
		one := l.image("a", "1")
		if got := expect("a"); got.Candidate == nil || !l.q.Expect.Is(*got.Candidate) || got.Expected != artifact.Awaited {
			l.Errorf("%+v", got)
		}
		stands("b", artifact.Awaited, "no pipeline of that commit", "")
		p := l.push("b", running)
		stands("b", artifact.Awaited, "pipeline 2 is not finished", "pipeline 2 is not finished")
		p.Stop()
		p.SetStatus("failure")
		stands("b", artifact.Broken, "pipeline 2 failed: https://ci.example.lan/repos/1/pipeline/2", "")
		r := l.repo.Restart(2, &running) // 3
		stands("b", artifact.Awaited, "not finished", "pipeline 3 is not finished")
		r.Stop()
		r.SetStatus("killed")
		stands("b", artifact.Broken, "pipeline 3 was cancelled", "")
		for status, text := range map[string]string{"error": "could not be run", "declined": "was declined", "canceled": "was cancelled"} {
			r.SetStatus(status)
			stands("b", artifact.Broken, text, "")
		}
		r.SetStatus("blocked")
		stands("b", artifact.Awaited, "waits for approval", "")
		r.SetStatus("success")
		stands("b", artifact.Awaited, "artifact is not there", "the artifact of pipeline 3 is not there")
		two := l.image("b", "2")
		if got := expect("b"); got.Candidate == nil || got.Candidate.ID != two || got.Candidate.Order != 2 {
			l.Errorf("%+v", got)
		}
		// Past it: said with what came instead.
		l.push("c", green)
		three := l.image("c", "3")
		for range 2 {
			if got := expect("a"); got.Expected != artifact.Passed || got.By != three || got.Reason == "" {
				l.Errorf("%+v", got)
			}
		}
		l.push("d", green)
		l.image("d", "4")
		l.q.Expect = artifact.Expectation{Form: artifact.ByID, Value: three.Hex()}
		if got := l.must(); got.Expected != artifact.Passed || got.By != got.Candidate.ID {
			l.Errorf("%+v", got)
		}
		l.q.Expect = artifact.Expectation{Form: artifact.ByID, Value: one.Hex()}
		if got := l.must(); got.Expected != artifact.Awaited {
			l.Errorf("%+v", got)
		}
		if !l.source.Answers(artifact.ByID) || !l.source.Answers(artifact.ByCommit) || l.source.Answers(artifact.ByUUID) {
			l.Error("answers")
		}
	})
}

func TestFailing(t *testing.T) {
	l := newLab(t)
	l.push("a", green)
	l.image("a", "1")
	l.must()
	p := l.push("b", red)
	if got := l.must(); !strings.HasPrefix(got.Failing, "pipeline 2 failed") || !got.Unchanged {
		t.Errorf("%+v", got)
	}
	p.SetStatus("mu\x1b[31mddled")
	if got := l.must(); !strings.Contains(got.Failing, `the status "muddled"`) || got.Hot != "" || !got.Unchanged {
		t.Errorf("an unknown status: %+v", got)
	}
	q := l.push("c", running)
	if got := l.must(); got.Failing != "" || got.Hot == "" {
		t.Errorf("%+v", got)
	}
	q.Stop()
	q.SetStatus("skipped")
	if got := l.must(); got.Failing != "" || got.Hot != "" || !got.Unchanged {
		t.Errorf("%+v", got)
	}
}

// With named workflows those decide, not the pipeline.
func TestWorkflows(t *testing.T) {
	l := newLab(t)
	l.use(from+"&workflow=image", template)
	l.push("a", woodsim.Multi([]string{"image", "lint"}, woodsim.Plan{Workflows: woodsim.Green(0).Workflows}, woodsim.Red("lint", 1)))
	l.ci.Settle()
	if s := l.repo.Pipeline(1).Status(); s != "failure" {
		t.Fatal(s)
	}
	one := l.image("a", "1")
	if got := l.offers(one, 1, 1); got.Failing != "" {
		t.Errorf("%+v", got)
	}
	if got := l.costs(list); !got.Unchanged {
		t.Errorf("%+v", got)
	}
	p := l.push("b", woodsim.Multi([]string{"image", "lint"}, woodsim.Green(0), running))
	p.SetWorkflow("image", "running")
	if got := l.costs(list, list+"/2"); got.Hot != "pipeline 2 is not finished" {
		t.Errorf("%+v", got)
	}
	l.image("b", "2")
	p.SetWorkflow("image", "success")
	got := l.must() // while lint goes on
	if got.Candidate == nil || got.Candidate.Meta.Pipeline != 2 || got.Hot != "" {
		t.Errorf("%+v", got)
	}
	// The image's workflow fails: said, and read once.
	l.push("c", woodsim.Multi([]string{"image", "lint"}, woodsim.Red("build", 1), woodsim.Green(0)))
	l.ci.Settle()
	if got := l.costs(list, list+"/3"); !got.Unchanged || !strings.Contains(got.Failing, "pipeline 3 did not pass image") {
		t.Errorf("%+v", got)
	}
	l.costs(list)
	// A pipeline without that workflow brings nothing.
	l.push("d", woodsim.Multi([]string{"lint"}, woodsim.Green(0)))
	l.ci.Settle()
	if got := l.costs(list, list+"/4"); !got.Unchanged || got.Missing || got.Failing != "" {
		t.Errorf("%+v", got)
	}
	l.costs(list)
}

// A pipeline that never brings an artifact does not hide the one before.
func TestBarren(t *testing.T) {
	inBubble(t, func(l *lab) {
		l.push("a", green)
		one := l.image("a", "1")
		l.push("docs", green)
		if got := l.must(); got.Candidate != nil || !got.Missing {
			l.Errorf("it may still come: %+v", got)
		}
		time.Sleep(uploading - 8*time.Second)
		if got := l.must(); got.Candidate != nil {
			l.Errorf("%+v", got)
		}
		time.Sleep(8 * time.Second)
		if got := l.offers(one, 1, 1); !got.Missing {
			l.Errorf("%+v", got)
		}
		if got := l.costs(list, head("docs")); !got.Unchanged || !got.Missing {
			l.Errorf("%+v", got)
		}
		for _, text := range []string{"docs2", "docs3", "docs4"} {
			l.push(text, green)
		}
		time.Sleep(uploading + 2*time.Second)
		l.must()
		l.costs(list, head("docs4"))
		two := l.image("docs4", "2")
		l.offers(two, 5, 5)
	})
}

const uploading = 10 * time.Minute

// file is an artifact behind a URL.
type file struct {
	url  string
	body []byte
	err  error
}

func (f *file) Look(context.Context, artifact.Query) (artifact.Look, error) {
	if f.err != nil {
		return artifact.Look{}, f.err
	}
	c := artifact.Candidate{ID: "sha256:" + artifact.ID(strings.Repeat("a", 64)), Kind: artifact.File, Order: 99, Size: int64(len(f.body)), Location: f.url}
	return artifact.Look{Candidate: &c}, nil
}

func (f *file) Fetch(_ context.Context, _ artifact.Candidate, w io.Writer) error {
	_, err := w.Write(f.body)
	return err
}

func (*file) Answers(artifact.Form) bool { return true }

func TestFiles(t *testing.T) {
	l := newLab(t)
	f := &file{body: []byte("hello"), err: &artifact.Failure{Class: artifact.Absent, What: "404"}}
	opened := 0
	l.deps.File = func(url string) (artifact.Source, error) {
		opened++
		f.url = url
		return f, nil
	}
	l.use(from, "https://files.example.lan/{number}/web-{sha10}.hvt")
	l.push("a", green)
	if got := l.must(); !got.Missing || got.Candidate != nil {
		t.Errorf("%+v", got)
	}
	f.err = nil
	c := l.offers("sha256:"+artifact.ID(strings.Repeat("a", 64)), 1, 1).Candidate
	if want := "https://files.example.lan/1/web-" + woodsim.SHA("a")[:10] + ".hvt"; f.url != want || c.Kind != artifact.File || c.Size != 5 || opened != 1 {
		t.Errorf("%s, %+v, opened %d times", f.url, c, opened)
	}
	var got bytes.Buffer
	l.use(from, "https://files.example.lan/{number}/web-{sha10}.hvt") // after a restart, from the journal
	if err := l.source.Fetch(t.Context(), *c, &got); err != nil || got.String() != "hello" || opened != 2 {
		t.Errorf("%q, %v", got.String(), err)
	}
	c.Meta.Commit = "../../etc"
	if err := l.source.Fetch(t.Context(), *c, &got); err == nil {
		t.Error("a forged commit was filled in")
	}
	f.err = &artifact.Failure{Class: artifact.Transient, Limited: true, RetryAfter: time.Minute, What: "429"}
	l.push("b", green)
	if got := l.fails(artifact.Transient); !got.Limited {
		t.Errorf("%+v", got)
	}
}

func TestFailures(t *testing.T) {
	inBubble(t, func(l *lab) {
		l.push("a", green)
		one := l.image("a", "1")
		l.offers(one, 1, 1)
		l.ci.TroubleFor(time.Hour, woodsim.Trouble{List: true})
		l.asked()
		l.fails(artifact.Transient)
		if asked := l.asked(); len(asked) != 1 {
			l.Errorf("a passing fault is looked at again by the watch: %q", asked)
		}
		l.ci.TroubleFor(-1, woodsim.Trouble{})
		l.push("b", green)
		l.reg.Gate(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "70")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		})
		if f := l.fails(artifact.Transient); !f.Limited || f.RetryAfter != 70*time.Second {
			l.Errorf("%+v", f)
		}
		l.reg.Gate(nil)
		if got := l.must(); !got.Missing {
			l.Errorf("%+v", got)
		}
		limit := trip(func(r *http.Request) (*http.Response, error) {
			h := http.Header{"Retry-After": {"80"}, "X-Woodpecker-Version": {"3.17.0"}}
			return &http.Response{StatusCode: 429, Header: h, Body: io.NopCloser(strings.NewReader("slow \x1b[2Jdown")), Request: r}, nil
		})
		l.client(limit, l.reg.InProcess())
		l.use(from, template)
		if f := l.fails(artifact.Transient); !f.Limited || f.RetryAfter != 80*time.Second {
			l.Errorf("%+v", f)
		}
		ctx, cancel := context.WithCancelCause(l.Context())
		mine := errors.New("mine")
		cancel(mine)
		if _, err := l.source.Look(ctx, l.q); !errors.Is(err, mine) {
			l.Errorf("%v", err)
		}
	})
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What is not there, or not shown, is believed after it was asked again.
func TestRefusals(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		l := bubble(t)
		l.use("woodpecker:lab/nothing?branch=main", template)
		l.fails(artifact.Denied) // a guest is told nothing
		l.ci.AddUser(woodsim.User{Login: "ada", Token: "t-ada"})
		l.client(trip(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Set("Authorization", "Bearer t-ada")
			return l.ci.Client().RoundTrip(r)
		}), l.reg.InProcess())
		l.use("woodpecker:lab/nothing?branch=main", template)
		start := time.Now()
		if f := l.fails(artifact.Absent); !strings.Contains(f.What, "lab/nothing") || time.Since(start) < 3*time.Second {
			t.Errorf("%s after %s", f.What, time.Since(start))
		}
		// A registry that wants a login, confirmed.
		l.use(from, template)
		l.push("a", green)
		l.reg.Gate(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		})
		start = time.Now()
		l.fails(artifact.Denied)
		if time.Since(start) != 3*time.Second {
			t.Error(time.Since(start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := bubble(t)
		l.ci.AddRepo(woodsim.RepoOptions{FullName: "lab/secret", Visibility: "private"})
		l.use("woodpecker:lab/secret?branch=main", template)
		_, err := l.look()
		if f, ok := errors.AsType[*artifact.Failure](err); !ok || f.Class != artifact.Absent && f.Class != artifact.Denied {
			t.Errorf("%v", err)
		}
	})
}

// rows is a server that says anything.
type rows struct {
	pipeline.Server
	rows []woodpecker.Pipeline
}

func (r *rows) Pipelines(context.Context, woodpecker.RepoID, woodpecker.ListOptions) ([]woodpecker.Pipeline, error) {
	return r.rows, nil
}

func TestHostileRows(t *testing.T) {
	l := newLab(t)
	r := &rows{Server: confirmed{l.deps.Server}}
	l.deps.Server = r
	l.use(from, template)
	row := woodpecker.Pipeline{ID: 1, Number: 5, Event: "push", Branch: "main", Status: "success", Commit: "../../latest"}
	r.rows = []woodpecker.Pipeline{row}
	l.fails(artifact.Refused)
	row.Commit = woodsim.SHA("a")
	for _, parent := range []int64{5, 9, 4} { // itself, the future, gone
		l.use(from, template)
		l.q = artifact.Query{}
		row.Parent = parent
		r.rows = []woodpecker.Pipeline{row}
		l.image("a", "1")
		if c := l.must().Candidate; c == nil || c.Order != 1 {
			t.Errorf("parent %d: %+v", parent, c)
		}
	}
	// A server that ignores the filter.
	row.Parent, row.Branch = 0, "dev"
	r.rows = []woodpecker.Pipeline{row}
	l.q = artifact.Query{}
	if got := l.must(); got.Candidate != nil || got.Missing {
		t.Errorf("%+v", got)
	}
	l.q.Seen = "{broken"
	l.must()
}
