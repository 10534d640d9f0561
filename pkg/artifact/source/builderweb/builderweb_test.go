package builderweb

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/buildersim"
	"homelab/internal/tlstest"
	"homelab/internal/woodsim"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

const www = "builder-web+https://builds.example.org/job/www"

func spec(t *testing.T, from string) Spec {
	t.Helper()
	s, err := Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// local asks b without a socket.
func local(t *testing.T, b http.Handler, from string) *Source {
	return New(spec(t, from), Deps{HTTP: source.NewClient(source.Options{Next: woodsim.InProcess(b)})})
}

func noon() time.Time { return time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC) }

func idOfBytes(b string) artifact.ID { return artifact.ID("sha256:" + buildersim.Sum([]byte(b))) }

func class(t *testing.T, err error) artifact.Class {
	t.Helper()
	f, ok := errors.AsType[*artifact.Failure](err)
	if !ok {
		t.Fatalf("%v is no failure", err)
	}
	return f.Class
}

func look(t *testing.T, s *Source, q artifact.Query) artifact.Look {
	t.Helper()
	l, err := s.Look(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func requests(t *testing.T, b *buildersim.Builder, want int) {
	t.Helper()
	if got := b.Requests(); len(got) != want {
		for _, r := range got {
			t.Log(r.Method, r.URI, r.Status, r.Bytes)
		}
		t.Fatalf("%d requests, want %d", len(got), want)
	}
	for _, r := range b.Requests() {
		if r.Method != http.MethodGet || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("%s %s asks for %q", r.Method, r.URI, r.Header.Get("Accept-Encoding"))
		}
	}
}

func TestParse(t *testing.T) {
	for from, want := range map[string]string{
		www: www,
		"builder-web+https://Builds.Example.org:443/job/www/":                                www,
		"builder-web+https://builds.example.org:8443/job/a%20b":                              "builder-web+https://builds.example.org:8443/job/a%20b",
		www + "?platform=debian-12&artifact=bin/x.hvt":                                       www + "?artifact=bin%2Fx.hvt&platform=debian-12",
		"builder-web+http://builds.example.org/job/www":                                      "want builder-web+https://",
		"https://builds.example.org/job/www":                                                 "want builder-web+https://",
		"builder-web+https:///job/www":                                                       "host",
		"builder-web+https://me:secret@builds.example.org/job/www":                           "user name",
		"builder-web+https://builds.example.org/":                                            "/job/J",
		"builder-web+https://builds.example.org/job/":                                        "/job/J",
		"builder-web+https://builds.example.org/job/www/build/latest":                        "/job/J",
		"builder-web+https://builds.example.org/job/..":                                      `".."`,
		"builder-web+https://builds.example.org/job/a%2fb":                                   `"a/b"`,
		"builder-web+https://builds.example.org/job/a%1b[31m":                                "part",
		www + "?plattform=x":                                                                 `"plattform" is not known`,
		www + "?platform=a&platform=b":                                                       "one value",
		www + "?platform=":                                                                   "one value",
		www + "?platform=a%0ab":                                                              "characters",
		www + "?artifact=../x":                                                               "plain path",
		www + "?artifact=/etc/passwd":                                                        "plain path",
		www + "?artifact=a//b":                                                               "plain path",
		www + "?artifact=a%00b":                                                              "plain path",
		www + "#x":                                                                           "fragment",
		"builder-web+https://builds.example.org/job/www?platform=a;b=c":                      "semicolon",
		"builder-web+https://builds.example.org/job/%zz":                                     "no URL",
		"builder-web+https://bu\x00ilds.example.org/job/www":                                 "no URL",
		"builder-web+https://builds.example.org:99999/job/www":                               "port",
		"builder-web+https://builds.example.org/job/" + strings.Repeat("a", 600):             "part",
		"builder-web+https://builds.example.org/job/www?platform=" + strings.Repeat("a", 65): "characters",
	} {
		s, err := Parse(from)
		if err == nil {
			if s.String() != want {
				t.Errorf("%q is %q, want %q", from, s, want)
			}
			if again, err := Parse(s.String()); err != nil || again != s {
				t.Errorf("%q does not come back: %v %v", s, again, err)
			}
			continue
		}
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Usage || f.Next == "" || !strings.Contains(f.Why, want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %#v, want %q", from, err, want)
		}
	}
}

// The life of a job: each look with what it costs.
func TestLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		s := local(t, b, www+"?platform=debian-12")
		b.Add(buildersim.Build{Job: "www", Start: noon().Add(-time.Hour), Bytes: []byte("zero")})
		b.Add(buildersim.Build{Job: "www", Start: noon().Add(9 * time.Hour), Platform: "freebsd-14", Bytes: []byte("else")})
		one := b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})

		q := artifact.Query{}
		l := look(t, s, q)
		want := artifact.Candidate{
			ID: idOfBytes("one"), Kind: artifact.File, Order: noon().UnixMilli(), Size: 3, Made: noon().Add(time.Minute),
			Location: "/job/www/build/" + one + "/f/bin/www.hvt",
			Meta:     artifact.Meta{UUID: one, URL: "https://builds.example.org/job/www/build/" + one, Platform: "debian-12"},
		}
		if l.Candidate == nil || *l.Candidate != want || l.Rebuilt || l.Unchanged {
			t.Fatalf("%+v %+v", l, l.Candidate)
		}
		requests(t, b, 5)
		if n := b.Count("platform=debian-12"); n != 2 {
			t.Errorf("%d requests name the platform", n)
		}

		q = artifact.Query{Seen: l.Seen, Offered: l.Candidate, Running: &artifact.Version{Candidate: *l.Candidate}}
		b.Forget()
		if l := look(t, s, q); !l.Unchanged || l.Candidate != nil || l.Seen != q.Seen {
			t.Fatalf("%+v", l)
		}
		requests(t, b, 1)

		// Another process, and another file of the same build.
		b.Forget()
		if l := look(t, local(t, b, www+"?platform=debian-12"), q); !l.Unchanged {
			t.Fatalf("%+v", l)
		}
		requests(t, b, 1)
		if l := look(t, local(t, b, www), q); l.Unchanged {
			t.Fatal("without the platform it is another source")
		}

		// Rebuilt with the same bytes: no file is sent.
		two := b.Add(buildersim.Build{Job: "www", Start: noon().Add(time.Hour), Bytes: []byte("one")})
		b.Forget()
		l = look(t, s, q)
		if !l.Rebuilt || l.Candidate.ID != want.ID || l.Candidate.Order != noon().Add(time.Hour).UnixMilli() || l.Candidate.Size != 3 || l.Candidate.Meta.UUID != two {
			t.Fatalf("%+v %+v", l, l.Candidate)
		}
		requests(t, b, 5)
		for _, r := range b.Requests() {
			if strings.Contains(r.URI, "/f/") && (r.Status != http.StatusNotModified || strings.Contains(r.Header.Get("If-None-Match"), `"`)) {
				t.Errorf("%s: %d for %q", r.URI, r.Status, r.Header.Get("If-None-Match"))
			}
		}

		// Something new, then its deletion: backwards, for the watch to refuse.
		q.Seen, q.Offered, q.Running = l.Seen, l.Candidate, &artifact.Version{Candidate: *l.Candidate}
		three := b.Add(buildersim.Build{Job: "www", Start: noon().Add(2 * time.Hour), Bytes: []byte("three")})
		l = look(t, s, q)
		if l.Candidate.ID != idOfBytes("three") || l.Compare != "https://builds.example.org/compare/"+two+"/"+three {
			t.Fatalf("%+v %+v", l, l.Candidate)
		}
		q.Seen, q.Offered = l.Seen, l.Candidate
		b.Delete(three)
		b.Delete(two)
		if l = look(t, s, q); l.Candidate == nil || l.Candidate.Order >= q.Offered.Order || l.Candidate.Meta.UUID != one {
			t.Fatalf("%+v %+v", l, l.Candidate)
		}
	})
}

// A file of the build instead of the main binary has no row.
func TestLookArtifact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		s := local(t, b, www+"?artifact=data/a%20b.img")
		u := b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one"), Files: map[string][]byte{"data/a b.img": []byte("image")}})
		l := look(t, s, artifact.Query{})
		if l.Candidate.ID != idOfBytes("image") || l.Candidate.Size != 5 || l.Candidate.Location != "/job/www/build/"+u+"/f/data/a%20b.img" {
			t.Fatalf("%+v", l.Candidate)
		}
		requests(t, b, 3)
		var got bytes.Buffer
		if err := s.Fetch(t.Context(), *l.Candidate, &got); err != nil || got.String() != "image" {
			t.Fatal(err, got.String())
		}
		b.Add(buildersim.Build{Job: "www", Start: noon().Add(time.Hour), Bytes: []byte("two")})
		if _, err := s.Look(t.Context(), artifact.Query{}); class(t, err) != artifact.Absent {
			t.Fatal(err)
		}
	})
}

// The order of what runs, if this job made it.
func TestRunningOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		s := local(t, b, www)
		b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})
		b.Add(buildersim.Build{Job: "other", Start: noon(), Bytes: []byte("others")})
		b.Add(buildersim.Build{Job: "www", Start: noon().Add(time.Hour), Bytes: []byte("two")})
		for _, tc := range []struct {
			runs artifact.ID
			want int64
			cost int // of a look, beyond 5
		}{
			{idOfBytes("one"), noon().UnixMilli(), 2},
			{idOfBytes("others"), 0, 1},
			{idOfBytes("never"), 0, 1},
			{"commit:" + artifact.ID(strings.Repeat("a", 40)), 0, 0},
		} {
			b.Forget()
			q := artifact.Query{Running: &artifact.Version{Candidate: artifact.Candidate{ID: tc.runs}}}
			l := look(t, s, q)
			if l.RunningOrder != tc.want || l.Candidate.ID != idOfBytes("two") {
				t.Errorf("%s: %d, want %d", tc.runs, l.RunningOrder, tc.want)
			}
			requests(t, b, 5+tc.cost)
			q.Seen, q.Offered = l.Seen, l.Candidate
			b.Forget()
			look(t, s, q)
			requests(t, b, 1)
		}
	})
}

// What a 404 means, and how long it takes to believe it.
func TestAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		s := local(t, b, www)
		began := time.Now()
		_, err := s.Look(t.Context(), artifact.Query{})
		if class(t, err) != artifact.Absent || time.Since(began) < 3*time.Second {
			t.Fatal(err, time.Since(began))
		}
		requests(t, b, 4)
		b.Forget()
		if _, err := s.Look(t.Context(), artifact.Query{}); class(t, err) != artifact.Absent {
			t.Fatal(err)
		}
		requests(t, b, 1)

		// A job without a good build, in a new process.
		b.AddJob("www")
		b.Add(buildersim.Build{Job: "www", Start: noon()})
		s = local(t, b, www)
		b.Forget()
		if l := look(t, s, artifact.Query{}); l.Candidate != nil || l.Unchanged || l.Seen != "" {
			t.Fatalf("%+v", l)
		}
		requests(t, b, 2)
		look(t, s, artifact.Query{})
		requests(t, b, 3)

		// A build appears; then the job goes: no change, but told.
		b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})
		l := look(t, s, artifact.Query{})
		if l.Candidate == nil {
			t.Fatalf("%+v", l)
		}
		b.Vanish("www")
		if _, err := s.Look(t.Context(), artifact.Query{Seen: l.Seen, Offered: l.Candidate}); class(t, err) != artifact.Absent {
			t.Fatal(err)
		}
		// A 404 that passes is none.
		b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})
		b.Next(1, "latest$", buildersim.Status(http.StatusNotFound, "text/html", "x"))
		if _, err := local(t, b, www).Look(t.Context(), artifact.Query{}); class(t, err) != artifact.Transient {
			t.Fatal(err)
		}
	})
}

// The row of a new build may come a moment later; one that never comes is a
// contradiction, and a row with another size too.
func TestRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		s := local(t, b, www)
		b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})
		hash := idOfBytes("one").Hex()
		b.Hide(hash, true)
		began := time.Now()
		if _, err := s.Look(t.Context(), artifact.Query{}); class(t, err) != artifact.Refused || time.Since(began) != 10*time.Second {
			t.Fatal(err, time.Since(began))
		}
		time.AfterFunc(5*time.Second, func() { b.Hide(hash, false) })
		began = time.Now()
		if l := look(t, s, artifact.Query{}); l.Candidate.ID != idOfBytes("one") || time.Since(began) != 7*time.Second {
			t.Fatal(l, time.Since(began))
		}
		b.Next(1, "/job/www$", buildersim.Status(200, "application/json",
			`{"builds":[{"uuid":"10000001-0000-4000-8000-000000000001","main_binary":{"filename":"x","sha256":"`+hash+`","size":4}}]}`))
		if _, err := s.Look(t.Context(), artifact.Query{}); class(t, err) != artifact.Refused {
			t.Fatal(err)
		}
		// A wait that is given up.
		b.Hide(hash, true)
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, fault.ErrTimeUp)
		defer cancel()
		if _, err := s.Look(ctx, artifact.Query{}); !errors.Is(err, fault.ErrTimeUp) {
			t.Fatal(err)
		}
	})
}

// A build that is deleted while it is read, and one that is overtaken.
func TestMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		s := local(t, b, www)
		b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})
		two := b.Add(buildersim.Build{Job: "www", Start: noon().Add(time.Hour), Bytes: []byte("two")})
		b.Next(1, "latest$", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(w, r)
			b.Delete(two)
		})
		if l := look(t, s, artifact.Query{}); l.Candidate.ID != idOfBytes("one") {
			t.Fatalf("%+v", l.Candidate)
		}
	})
}

func TestExpected(t *testing.T) {
	const failedUUID = "ffffffff-0000-4000-8000-000000000000"
	early := "eeeeeeee-0000-4000-8000-000000000000"
	late := "dddddddd-0000-4000-8000-000000000000"
	foreign := "cccccccc-0000-4000-8000-000000000000"
	for _, tc := range []struct {
		expect string
		half   bool
		want   artifact.Standing
		reason string
		cost   int // beyond latest
	}{
		{"sha256:" + idOfBytes("newest").Hex(), true, artifact.Awaited, "", 0}, // it is on offer
		{"uuid:" + late, false, artifact.Awaited, "", 0},
		{"sha256:" + idOfBytes("early").Hex(), false, artifact.Passed, late, 2},
		{"uuid:" + early, false, artifact.Passed, late, 3},
		{"sha256:" + idOfBytes("shared").Hex(), false, artifact.Passed, late, 3}, // the newest build with it is another job's
		{"sha256:" + idOfBytes("never").Hex(), false, artifact.Awaited, "", 1},
		{"sha256:" + idOfBytes("never").Hex(), true, artifact.Awaited, "build " + failedUUID, 3},
		{"uuid:" + foreign, false, artifact.Awaited, "", 1},    // another job's, and newer
		{"uuid:" + failedUUID, false, artifact.Awaited, "", 1}, // not asked yet
		{"uuid:" + failedUUID, true, artifact.Broken, "failed", 2},
		{"uuid:aaaaaaaa-0000-4000-8000-000000000000", false, artifact.Awaited, "", 1},
	} {
		t.Run(tc.expect[:14], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := buildersim.NewBuilder()
				s := local(t, b, www)
				at := func(h int) time.Time { return noon().Add(time.Duration(h) * time.Hour) }
				b.Add(buildersim.Build{Job: "www", Start: at(0), Bytes: []byte("shared")})
				b.Add(buildersim.Build{Job: "other", Start: at(9), UUID: foreign, Bytes: []byte("shared")})
				b.Add(buildersim.Build{Job: "www", Start: at(1), UUID: early, Bytes: []byte("early")})
				b.Add(buildersim.Build{Job: "www", Start: at(2)})
				b.Add(buildersim.Build{Job: "www", Start: at(3), UUID: late, Bytes: []byte("newest")})
				b.Add(buildersim.Build{Job: "www", Start: at(4), UUID: failedUUID})
				l := look(t, s, artifact.Query{})
				e, err := artifact.ParseExpectation(tc.expect)
				if err != nil {
					t.Fatal(err)
				}
				q := artifact.Query{Seen: l.Seen, Offered: l.Candidate, Expect: e, Half: tc.half}
				b.Forget()
				l = look(t, s, q)
				if l.Expected != tc.want || !strings.Contains(l.Reason, tc.reason) || (tc.want == artifact.Passed) != (l.By == q.Offered.ID) {
					t.Errorf("%q %q %s", l.Expected, l.Reason, l.By)
				}
				requests(t, b, 1+tc.cost)
				if tc.want != artifact.Awaited {
					return
				}
				// Nothing moves: the next looks cost one request again, up to the end.
				q.Half = false
				b.Forget()
				look(t, s, q)
				requests(t, b, 1)
			})
		})
	}
}

// What a wait of a job without any good build is told.
func TestExpectedNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		u := b.Add(buildersim.Build{Job: "www", Start: noon()})
		e := artifact.Expectation{Form: artifact.ByUUID, Value: u}
		if l := look(t, local(t, b, www), artifact.Query{Expect: e, End: true}); l.Expected != artifact.Broken {
			t.Fatalf("%+v", l)
		}
	})
}

// Redirects that lead anywhere but where they must, and answers that are none.
func TestHostile(t *testing.T) {
	const u = "10000001-0000-4000-8000-000000000001"
	jsonOf := func(text string) buildersim.Hook { return buildersim.Status(200, "application/json", text) }
	good := `{"job":"www","uuid":"` + u + `","platform":"debian-12","start_time":"2026-07-01T12:00:00-00:00","main_binary":true}`
	for name, tc := range map[string]struct {
		match string
		hook  buildersim.Hook
		want  artifact.Class
	}{
		"other origin":         {"latest$", buildersim.Redirect(307, "https://evil.example/job/www/build/"+u), artifact.Refused},
		"other scheme":         {"latest$", buildersim.Redirect(307, "http://builds.example.org/job/www/build/"+u), artifact.Refused},
		"other port":           {"latest$", buildersim.Redirect(307, "https://builds.example.org:8443/job/www/build/"+u), artifact.Refused},
		"no scheme":            {"latest$", buildersim.Redirect(307, "//evil.example/job/www/build/"+u), artifact.Refused},
		"a user":               {"latest$", buildersim.Redirect(307, "https://me:pw@builds.example.org/job/www/build/"+u), artifact.Refused},
		"other job":            {"latest$", buildersim.Redirect(307, "/job/other/build/"+u), artifact.Refused},
		"out of the job":       {"latest$", buildersim.Redirect(307, "/job/www/../other/build/"+u), artifact.Refused},
		"out, escaped":         {"latest$", buildersim.Redirect(307, "/job/www/build/%2e%2e"), artifact.Refused},
		"a slash, escaped":     {"latest$", buildersim.Redirect(307, "/job/www%2fbuild%2f"+u), artifact.Refused},
		"no uuid":              {"latest$", buildersim.Redirect(307, "/job/www/build/1;rm -rf"), artifact.Refused},
		"a loop":               {"latest$", buildersim.Redirect(307, "/job/www/build/latest"), artifact.Refused},
		"no location":          {"latest$", buildersim.Redirect(307, ""), artifact.Refused},
		"controls":             {"latest$", buildersim.Redirect(307, "/job/www/build/\x1b[31m"), artifact.Refused},
		"a page":               {"latest$", buildersim.Status(200, "text/html", "<h1>login</h1>"), artifact.Transient},
		"trouble":              {"latest$", buildersim.Status(500, "text/plain", "Internal\x1b[31m server error\n"), artifact.Transient},
		"locked":               {"latest$", buildersim.Status(403, "text/plain", "no"), artifact.Denied},
		"no login":             {"latest$", buildersim.Status(401, "text/plain", "no"), artifact.Denied},
		"binary of another":    {"main-binary$", buildersim.Redirect(302, "/job/www/build/20000001-0000-4000-8000-000000000001/f/bin/www.hvt"), artifact.Refused},
		"binary elsewhere":     {"main-binary$", buildersim.Redirect(302, "https://evil.example/job/www/build/"+u+"/f/bin/www.hvt"), artifact.Refused},
		"binary of other job":  {"main-binary$", buildersim.Redirect(302, "/job/other/build/"+u+"/f/bin/www.hvt"), artifact.Refused},
		"binary is a path out": {"main-binary$", buildersim.Redirect(302, "/job/www/build/"+u+"/f/%2e%2e/console"), artifact.Refused},
		"binary is nothing":    {"main-binary$", buildersim.Redirect(302, "/job/www/build/"+u+"/f/"), artifact.Refused},
		"file without hash":    {"www.hvt$", buildersim.Header("Etag", ""), artifact.Refused},
		"file of odd hash":     {"www.hvt$", buildersim.Header("Etag", "abc"), artifact.Refused},
		"file is a page":       {"www.hvt$", buildersim.Status(200, "text/html", "<h1>login</h1>"), artifact.Transient},
		"file is packed":       {"www.hvt$", buildersim.Header("Content-Encoding", "gzip"), artifact.Transient},
		"file goes on":         {"www.hvt$", buildersim.Redirect(302, "https://evil.example/"), artifact.Transient},
		"length and row":       {"www.hvt$", buildersim.Header("Content-Length", "2"), artifact.Refused},
		"rows without end":     {"/job/www$", buildersim.Endless(), artifact.Transient},
		"build without end":    {"build/" + u + "$", buildersim.Endless(), artifact.Transient},
		"rows are a page":      {"/job/www$", buildersim.Status(200, "text/html", "<h1>builds</h1>"), artifact.Transient},
		"rows are null":        {"/job/www$", jsonOf(`{"builds":null}`), artifact.Transient},
		"rows have a tail":     {"/job/www$", jsonOf(`{"builds":[]}{}`), artifact.Transient},
		"rows are hostile":     {"/job/www$", jsonOf(`{"builds":[{"uuid":"../x","main_binary":{"sha256":"\u001b","size":-1}}]}`), artifact.Refused},
		"build is another":     {"build/" + u + "$", jsonOf(strings.Replace(good, u, "20000001-0000-4000-8000-000000000001", 1)), artifact.Transient},
		"build of no time":     {"build/" + u + "$", jsonOf(strings.Replace(good, "2026", "x", 1)), artifact.Transient},
		"platform of controls": {"build/" + u + "$", jsonOf(strings.Replace(good, "debian-12", `\u001b[31m`, 1)), artifact.Transient},
		"other platform":       {"build/" + u + "$", jsonOf(strings.Replace(good, "debian-12", "freebsd-14", 1)), artifact.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := buildersim.NewBuilder()
				b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})
				b.Next(-1, tc.match, tc.hook)
				s := local(t, b, www+"?platform=debian-12")
				_, err := s.Look(t.Context(), artifact.Query{})
				if class(t, err) != tc.want || strings.ContainsRune(err.Error(), '\x1b') || strings.Contains(err.Error(), "pw@") {
					t.Fatalf("%v: %q", class(t, err), err)
				}
				for _, r := range b.Requests() {
					if strings.Contains(r.URI, "other") || strings.Contains(r.URI, "console") {
						t.Errorf("asked for %s", r.URI)
					}
				}
				// Once it is over, all is well.
				b.Clear()
				if l := look(t, s, artifact.Query{}); l.Candidate == nil || l.Candidate.ID != idOfBytes("one") {
					t.Fatalf("%+v", l)
				}
			})
		})
	}
}

// A passing fault is told at once: the watch knows when to look again.
func TestTransient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		s := local(t, b, www)
		b.Next(1, "", buildersim.TooMany(90*time.Second))
		began := time.Now()
		_, err := s.Look(t.Context(), artifact.Query{})
		f, _ := errors.AsType[*artifact.Failure](err)
		if f == nil || f.Class != artifact.Transient || !f.Limited || f.RetryAfter != 90*time.Second || time.Since(began) != 0 {
			t.Fatalf("%#v after %s", err, time.Since(began))
		}
		requests(t, b, 1)
	})
}

// Over real connections: what a download can meet.
func TestFetch(t *testing.T) {
	ca := tlstest.NewCA(t)
	b := buildersim.NewBuilder()
	body := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	server := ca.Serve(t, b, "builds.example.org")
	base := "builder-web+https://builds.example.org:" + server.Port() + "/job/www"
	sp := spec(t, base)
	pin := transport.Pin{Addr: server.Addr.Addr()}
	stack, err := transport.New(transport.Options{Base: sp.Base(), Pin: &pin, CAFile: ca.File(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := New(sp, Deps{HTTP: source.NewClient(source.Options{Next: stack, CloseIdle: stack.CloseIdleConnections}), MaxSize: 1 << 20})
	b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: body})
	l := look(t, s, artifact.Query{})
	c := *l.Candidate
	requests(t, b, 5)
	q := artifact.Query{Seen: l.Seen, Offered: l.Candidate, Running: &artifact.Version{Candidate: c}}
	b.Forget()
	look(t, s, q)
	requests(t, b, 1)

	other := c
	other.Location = "/job/other/build/" + c.Meta.UUID + "/f/bin/www.hvt"
	away := c
	away.Location = "https://evil.example/job/www/build/" + c.Meta.UUID + "/f/bin/www.hvt"
	unsized := c
	unsized.Size = 0
	small := c
	small.Size = 10
	swapped := append([]byte("X"), body[1:]...)
	for _, tc := range []struct {
		name string
		c    artifact.Candidate
		hook buildersim.Hook
		want artifact.Class // "": it works
		sent int            // bytes written, at most
	}{
		{"good", c, nil, "", len(body)},
		{"good, size not known", unsized, nil, "", len(body)},
		{"slow", c, buildersim.Slow(len(body)/3, time.Millisecond), "", len(body)},
		{"cut", c, buildersim.Cut(1000), artifact.Transient, 1000},
		{"cut before the body", c, buildersim.Cut(0), artifact.Transient, 0},
		{"trouble", c, buildersim.Status(502, "text/html", "x"), artifact.Transient, 0},
		{"longer than announced", c, buildersim.Body(append(bytes.Clone(body), 'x')), artifact.Refused, 0},
		{"another size", small, nil, artifact.Refused, 0},
		{"another hash is announced", c, buildersim.Header("Etag", etagOf(idOfBytes("x"))), artifact.Refused, 0},
		// The store hashes what is written; the source need not.
		{"swapped", c, buildersim.Body(swapped), "", len(body)},
		{"other job", other, nil, artifact.Refused, 0},
		{"other origin", away, nil, artifact.Refused, 0},
		{"endless", unsized, buildersim.Header("Content-Length", ""), "", len(body)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b.Clear()
			b.Forget()
			if tc.hook != nil {
				b.Next(1, "/f/", tc.hook)
			}
			var got bytes.Buffer
			err := s.Fetch(t.Context(), tc.c, &got)
			if tc.want == "" && (err != nil || !bytes.Equal(got.Bytes(), body) != (tc.name == "swapped")) {
				t.Fatalf("%v, %d bytes", err, got.Len())
			}
			if tc.want != "" && class(t, err) != tc.want || got.Len() > tc.sent {
				t.Fatalf("%v, %d bytes", err, got.Len())
			}
			if tc.want == artifact.Transient {
				got.Reset()
				if err := s.Fetch(t.Context(), tc.c, &got); err != nil || !bytes.Equal(got.Bytes(), body) {
					t.Fatalf("then: %v", err)
				}
			}
		})
	}
	full := errors.New("disk full")
	if err := s.Fetch(t.Context(), c, failing{full}); !errors.Is(err, full) {
		t.Fatal(err)
	}
	tight := New(sp, Deps{HTTP: s.d.HTTP, MaxSize: 100})
	if _, err := tight.Look(t.Context(), artifact.Query{}); class(t, err) != artifact.Refused {
		t.Fatal(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestAnswers(t *testing.T) {
	s := local(t, buildersim.NewBuilder(), www)
	if !s.Answers(artifact.ByID) || !s.Answers(artifact.ByUUID) || s.Answers(artifact.ByCommit) {
		t.Fatal("hash and uuid, no commit")
	}
}

func FuzzWire(f *testing.F) {
	f.Add([]byte(`{"builds":[{"uuid":"10000001-0000-4000-8000-000000000001","main_binary":{"sha256":"` + strings.Repeat("a", 64) + `","size":4}}]}`))
	f.Add([]byte(`{"uuid":"10000001-0000-4000-8000-000000000001","platform":"debian-12","start_time":"2026-07-01T12:00:00-00:00","main_binary":true}`))
	f.Add([]byte("{\"uuid\":\"\x1b\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if rows, err := parseRows(body); err == nil {
			for _, r := range rows {
				if !isUUID(r.uuid) || r.size < 0 || r.sum != "" && len(r.sum) != 64 {
					t.Errorf("%+v", r)
				}
			}
		}
		if b, err := parseBuild(body); err == nil {
			if !isUUID(b.uuid) || !isPlatform(b.platform) || b.order() <= 0 || !b.finish.IsZero() && b.finish.Before(b.start) {
				t.Errorf("%+v", b)
			}
		}
	})
}

func FuzzPlace(f *testing.F) {
	const u = "10000001-0000-4000-8000-000000000001"
	for _, s := range []string{"/job/www/build/" + u, "/job/www/build/" + u + "/f/bin/x", "//evil/job/www/build/" + u, "/job/www/build/" + u + "/f/%2e%2e/x"} {
		f.Add(s)
	}
	sp, err := Parse(www)
	if err != nil {
		f.Fatal(err)
	}
	s := New(sp, Deps{})
	f.Fuzz(func(t *testing.T, location string) {
		to, err := s.base.Parse(location)
		if err != nil {
			return
		}
		for _, file := range []bool{false, true} {
			p, err := s.place(to, file)
			if err != nil {
				continue
			}
			if !isUUID(p.uuid) || file != (p.path != "") || strings.Contains(p.path, "..") && !isPath(p.path) || !source.SameOrigin(to, s.base) {
				t.Errorf("%q: %+v", location, p)
			}
			if _, err := url.Parse(s.at(append([]string{"job", p.job, "build", p.uuid, "f"}, strings.Split(p.path, "/")...)...).String()); err != nil {
				t.Errorf("%q: %v", location, err)
			}
		}
	})
}
