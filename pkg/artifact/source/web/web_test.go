package web

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync"
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

const (
	from = "https://files.example.org/www/app.bin"
	sums = "https://files.example.org/www/SHA256SUMS"
)

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

func local(t *testing.T, h http.Handler, from, sums string) *Source {
	t.Helper()
	sp, err := Parse(from, sums)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(sp, Deps{HTTP: source.NewClient(source.Options{Next: woodsim.InProcess(h)}), MaxSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// watch is what the watch remembers between looks.
type watch struct {
	t *testing.T
	f *buildersim.Files
	s *Source
	q artifact.Query
}

// look looks, which costs one request.
func (w *watch) look() artifact.Look {
	w.t.Helper()
	w.f.Forget()
	l, err := w.s.Look(w.t.Context(), w.q)
	if err != nil {
		w.t.Fatal(err)
	}
	got := w.f.Requests()
	if len(got) != 1 {
		w.t.Fatalf("%d requests: %+v", len(got), got)
	}
	for _, r := range got {
		if r.Header.Get("Accept-Encoding") != "identity" {
			w.t.Errorf("%s asks for %q", r.URI, r.Header.Get("Accept-Encoding"))
		}
	}
	w.q.Seen = l.Seen
	if l.Candidate != nil {
		w.q.Offered = l.Candidate
	} else if !l.Unchanged {
		w.t.Fatalf("%+v", l)
	}
	return l
}

func (w *watch) status() int { return w.f.Requests()[0].Status }

func TestParse(t *testing.T) {
	for _, tc := range []struct{ from, sums, want string }{
		{from, "", from},
		{"https://Files.Example.org:443/www/app.bin?x=1", "", "https://files.example.org/www/app.bin?x=1"},
		{"https://files.example.org", "", "https://files.example.org/"},
		{from, sums, from + " sums " + sums},
		{from, "https://Other.example.org:8443/S", from + " sums https://other.example.org:8443/S"},
		{"http://files.example.org/x", "", "plain http"},
		{"https://me:secret@files.example.org/x", "", "user name"},
		{"https:///x", "", "host"},
		{"https://files.example.org/x#y", "", "fragment"},
		{"https://files.example.org/a%2fb", "", "part"},
		{"https://files.example.org/a/../b", "", "part"},
		{"https://files.example.org/a%0d%0aX: y", "", "part"},
		{"ftp://files.example.org/x", "", "scheme"},
		{"https://files.example.org/dir/", sums, "names no file"},
		{from, "http://files.example.org/S", "plain http"},
		{from, "S", ""},
	} {
		s, err := Parse(tc.from, tc.sums)
		if err == nil {
			if s.String() != tc.want {
				t.Errorf("%q is %q", tc.from, s)
			}
			continue
		}
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Usage || f.Next == "" || !strings.Contains(f.Why, tc.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", tc.from, err)
		}
	}
}

// Each kind of validator comes back as it was received, and an idle look is
// one request without a body.
func TestValidators(t *testing.T) {
	for name, tc := range map[string]struct {
		set    buildersim.Settings
		header string
		prefix string
		idle   int // status of an idle look
		blind  []bool
	}{
		"quoted":              {buildersim.Settings{ETags: buildersim.Quoted, LastModified: true}, "If-None-Match", `"`, 304, []bool{false, false}},
		"weak":                {buildersim.Settings{ETags: buildersim.Weak}, "If-None-Match", `W/"`, 304, []bool{false, false}},
		"bare":                {buildersim.Settings{ETags: buildersim.Bare}, "If-None-Match", "", 304, []bool{false, false}},
		"date":                {buildersim.Settings{LastModified: true}, "If-Modified-Since", "Wed, 01 Jul", 304, []bool{false, false}},
		"tag, not understood": {buildersim.Settings{ETags: buildersim.Quoted, Deaf: true}, "If-None-Match", `"`, 200, []bool{false, false}},
		// The first look cannot know that the date is of no use.
		"date, not understood": {buildersim.Settings{LastModified: true, Deaf: true}, "If-Modified-Since", "Wed", 200, []bool{false, true, true}},
		"none":                 {buildersim.Settings{}, "", "", 200, []bool{true, true}},
		"none, no length":      {buildersim.Settings{Chunked: true}, "", "", 200, []bool{true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := buildersim.NewFiles()
				f.Set(tc.set)
				f.Put("/www/app.bin", []byte("one"), noon())
				w := &watch{t: t, f: f, s: local(t, f, from, "")}
				l := w.look()
				if c := l.Candidate; c == nil || c.ID != idOfBytes("one") || c.Size != 3 || c.Kind != artifact.File || (c.Order == noon().Unix()) != tc.set.LastModified || l.Blind != tc.blind[0] {
					t.Fatalf("%+v %+v", l, l.Candidate)
				}
				for n, blind := range tc.blind[1:] {
					l := w.look()
					if !l.Unchanged || l.Blind != blind || w.status() != tc.idle {
						t.Fatalf("look %d: %+v, %d", n+2, l, w.status())
					}
					if got := f.Requests()[0].Header.Get(tc.header); tc.header != "" && (got == "" || !strings.HasPrefix(got, tc.prefix)) {
						t.Errorf("look %d sends %s: %q", n+2, tc.header, got)
					}
				}
				w.q.Running = &artifact.Version{Candidate: *w.q.Offered}
				f.Put("/www/app.bin", []byte("two"), noon().Add(time.Hour))
				if l := w.look(); l.Candidate == nil || l.Candidate.ID != idOfBytes("two") || l.Rebuilt {
					t.Fatalf("%+v", l)
				}
				// Back to what runs, and in another process.
				f.Put("/www/app.bin", []byte("one"), noon().Add(2*time.Hour))
				if l := w.look(); l.Candidate == nil || !l.Rebuilt {
					t.Fatalf("%+v", l)
				}
				w.s = local(t, f, from, "")
				if l := w.look(); !l.Unchanged {
					t.Fatalf("%+v", l)
				}
				w.s = local(t, f, from+"?other", "")
				if l := w.look(); l.Unchanged {
					t.Fatal("another source")
				}
			})
		})
	}
}

// ETags of two machines that disagree over the same bytes count as none after
// the third time; a date takes over where there is one.
func TestAlternating(t *testing.T) {
	for _, dated := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := buildersim.NewFiles()
			f.Set(buildersim.Settings{ETags: buildersim.Alternating, LastModified: dated})
			f.Put("/www/app.bin", []byte("one"), noon())
			w := &watch{t: t, f: f, s: local(t, f, from, "")}
			w.look()
			for n := range 3 {
				if l := w.look(); !l.Unchanged || w.status() != 200 || l.Blind != (n == 2 && !dated) {
					t.Fatalf("%d: %+v %d", n, l, w.status())
				}
			}
			for range 2 {
				want := 200
				if dated {
					want = 304
				}
				if l := w.look(); !l.Unchanged || w.status() != want || f.Requests()[0].Header.Get("If-None-Match") != "" {
					t.Fatalf("%+v %d", l, w.status())
				}
			}
			f.Put("/www/app.bin", []byte("two"), noon().Add(time.Hour))
			if l := w.look(); l.Candidate == nil || l.Blind {
				t.Fatalf("%+v: a change starts over", l)
			}
		})
	}
}

// With a checksum file, that is asked and not the file.
func TestSums(t *testing.T) {
	for _, form := range []buildersim.SumsForm{buildersim.TextSums, buildersim.BinarySums, buildersim.TaggedSums} {
		synctest.Test(t, func(t *testing.T) {
			f := buildersim.NewFiles()
			f.Set(buildersim.Settings{ETags: buildersim.Quoted, LastModified: true})
			f.Put("/www/app.bin", []byte("one"), noon())
			f.Put("/www/else", []byte("x"), noon())
			f.Sums("/www/SHA256SUMS", form, noon(), "/www/else", "/www/app.bin")
			w := &watch{t: t, f: f, s: local(t, f, from, sums)}
			if l := w.look(); l.Candidate == nil || l.Candidate.ID != idOfBytes("one") || l.Candidate.Order != noon().Unix() || l.Candidate.Size != 0 {
				t.Fatalf("%+v", l.Candidate)
			}
			if w.look(); w.status() != 304 || f.Count("app.bin") != 0 {
				t.Fatal(f.Requests())
			}
			// Another line changes, any number of times: no news, and no doubt in ETags.
			for n := range 5 {
				f.Put("/www/else", []byte{byte(n)}, noon())
				if l := w.look(); !l.Unchanged || l.Blind {
					t.Fatalf("%+v", l)
				}
			}
			if w.look(); w.status() != 304 {
				t.Fatal("the ETag is not used any more")
			}
			var got bytes.Buffer
			if err := w.s.Fetch(t.Context(), *w.q.Offered, &got); err != nil || got.String() != "one" {
				t.Fatal(err)
			}
		})
	}
}

// A checksum file and its file that disagree are read twice more over a
// minute.
func TestDisagree(t *testing.T) {
	for name, tc := range map[string]struct {
		after func(f *buildersim.Files)
		want  artifact.Class
		took  time.Duration
	}{
		"for good":             {func(*buildersim.Files) {}, artifact.Refused, time.Minute},
		"until the file comes": {func(f *buildersim.Files) { f.Put("/www/app.bin", []byte("two"), noon()) }, artifact.Transient, time.Minute},
		"until the sums do":    {func(f *buildersim.Files) { f.Sums("/www/SHA256SUMS", buildersim.TextSums, noon(), "/www/app.bin") }, artifact.Transient, time.Minute},
		"until the sums go":    {func(f *buildersim.Files) { f.Put("/www/SHA256SUMS", []byte("none\n"), noon()) }, artifact.Refused, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := buildersim.NewFiles()
				f.Put("/www/app.bin", []byte("one"), noon())
				f.Put("/www/SHA256SUMS", []byte(buildersim.SumsLine(buildersim.TextSums, "app.bin", idOfBytes("two").Hex())), noon())
				w := &watch{t: t, f: f, s: local(t, f, from, sums)}
				c := *w.look().Candidate
				began := time.Now()
				time.AfterFunc(45*time.Second, func() { tc.after(f) })
				f.Forget()
				var got bytes.Buffer
				err := w.s.Fetch(t.Context(), c, &got)
				if class(t, err) != tc.want || time.Since(began) != tc.took {
					t.Fatalf("%v after %s", err, time.Since(began))
				}
				if n := f.Count("SHA256SUMS"); n != 2 {
					t.Errorf("%d readings of the sums", n)
				}
				if name == "until the file comes" {
					got.Reset()
					if err := w.s.Fetch(t.Context(), c, &got); err != nil || got.String() != "two" {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// chunkedNothing is 200 with an empty body and no length.
func chunkedNothing(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
}

// A page may be what is watched; then its name says so.
func TestPage(t *testing.T) {
	f := buildersim.NewFiles()
	f.Next(-1, "", buildersim.Status(200, "text/html", "<h1>one"))
	l, err := local(t, f, "https://files.example.org/www/index.html", "").Look(t.Context(), artifact.Query{})
	if err != nil || l.Candidate == nil || l.Candidate.ID != idOfBytes("<h1>one") {
		t.Fatalf("%+v, %v", l, err)
	}
}

// Where a hash is known it decides, whatever the server calls the file.
func TestPageByItsSums(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want artifact.Class
	}{
		"the file":            {"one", ""},
		"a page in its place": {"<h1>sorry", artifact.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			f := buildersim.NewFiles()
			f.Put("/www/app.bin", []byte("one"), noon())
			f.Sums("/www/SHA256SUMS", buildersim.TextSums, noon(), "/www/app.bin")
			s := local(t, f, from, sums)
			l, err := s.Look(t.Context(), artifact.Query{})
			if err != nil || l.Candidate == nil {
				t.Fatal(l, err)
			}
			f.Next(-1, "", buildersim.Status(200, "text/html", tc.text))
			var got bytes.Buffer
			err = s.Fetch(t.Context(), *l.Candidate, &got)
			if tc.want == "" && (err != nil || got.String() != tc.text) {
				t.Errorf("%v, %q", err, got.String())
			}
			if f, ok := errors.AsType[*artifact.Failure](err); tc.want != "" && (!ok || f.Class != tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

// What a look can meet.
func TestTrouble(t *testing.T) {
	for name, tc := range map[string]struct {
		sums string
		hook buildersim.Hook
		want artifact.Class
		took time.Duration
	}{
		"gone":           {"", buildersim.Status(404, "text/html", "x"), artifact.Absent, 3 * time.Second},
		"gone for good":  {"", buildersim.Status(410, "text/html", "x"), artifact.Absent, 3 * time.Second},
		"locked":         {"", buildersim.Status(403, "text/plain", "no\x1b[31m"), artifact.Denied, 3 * time.Second},
		"broken":         {"", buildersim.Status(503, "text/plain", "x"), artifact.Transient, 0},
		"partial":        {"", buildersim.Status(206, "text/plain", "x"), artifact.Transient, 0},
		"not asked 304":  {"", buildersim.Status(304, "text/plain", ""), artifact.Transient, 0},
		"cut":            {"", buildersim.Cut(1), artifact.Transient, 0},
		"too large":      {"", buildersim.Body(make([]byte, 1001)), artifact.Refused, 0},
		"endless":        {"", buildersim.Endless(), artifact.Refused, 0},
		"packed":         {"", buildersim.Header("Content-Encoding", "gzip"), artifact.Transient, 0},
		"endless sums":   {sums, buildersim.Endless(), artifact.Refused, 0},
		"sums of others": {sums, buildersim.Body([]byte(strings.Repeat("a", 64) + "  other\n")), artifact.Refused, 0},
		"sums of two":    {sums, buildersim.Body([]byte(strings.Repeat(strings.Repeat("a", 64)+"  app.bin\n", 2))), artifact.Refused, 0},
		"a page":         {"", buildersim.Status(200, "text/html; charset=utf-8", "<h1>sorry"), artifact.Transient, 0},
		"nothing":        {"", buildersim.Status(200, "application/octet-stream", ""), artifact.Transient, 0},
		"nothing, late":  {"", chunkedNothing, artifact.Transient, 0},
		"sums a page":    {sums, buildersim.Status(200, "text/html", "<h1>sorry"), artifact.Transient, 0},
		"sums nothing":   {sums, chunkedNothing, artifact.Transient, 0},
		"no sums":        {sums, buildersim.Status(404, "text/html", "x"), artifact.Absent, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := buildersim.NewFiles()
				f.Set(buildersim.Settings{ETags: buildersim.Quoted})
				f.Put("/www/app.bin", []byte("one"), noon())
				f.Sums("/www/SHA256SUMS", buildersim.TextSums, noon(), "/www/app.bin")
				f.Next(-1, "", tc.hook)
				s := local(t, f, from, tc.sums)
				began := time.Now()
				_, err := s.Look(t.Context(), artifact.Query{})
				if class(t, err) != tc.want || time.Since(began) != tc.took || strings.ContainsRune(err.Error(), '\x1b') {
					t.Fatalf("%q %s after %s", err, class(t, err), time.Since(began))
				}
				if tc.want == artifact.Absent {
					f.Forget()
					if _, err := s.Look(t.Context(), artifact.Query{}); class(t, err) != artifact.Absent {
						t.Fatal(err)
					}
					if name != "gone for good" && len(f.Requests()) != 1 {
						t.Errorf("%d requests for what is known to be gone", len(f.Requests()))
					}
				}
				f.Clear()
				w := &watch{t: t, f: f, s: s}
				w.look()
			})
		})
	}
}

// A validator that cannot be sent back is none.
func TestOddValidator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tag := range []string{"a\x1bb", strings.Repeat("a", 2000), "ä"} {
			f := buildersim.NewFiles()
			f.Put("/www/app.bin", []byte("one"), noon())
			f.Next(-1, "", buildersim.Header("Etag", tag))
			w := &watch{t: t, f: f, s: local(t, f, from, "")}
			if l := w.look(); !l.Blind {
				t.Errorf("%+v", l)
			}
		}
	})
}

// Over real connections: redirects, and a file that changes under the download.
func TestFetch(t *testing.T) {
	ca := tlstest.NewCA(t)
	f := buildersim.NewFiles()
	body := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	f.Put("/app.bin", body, noon())
	server := ca.Serve(t, f, "files.example.org")
	away := buildersim.NewFiles()
	away.Put("/app.bin", body, noon())
	elsewhere := ca.Serve(t, away, "files.example.org")
	origin := "https://files.example.org:" + server.Port()
	sp, err := Parse(origin+"/app.bin", "")
	if err != nil {
		t.Fatal(err)
	}
	base, err := sp.Base()
	if err != nil {
		t.Fatal(err)
	}
	pin := transport.Pin{Addr: server.Addr.Addr()}
	stack, err := transport.New(transport.Options{Base: base, Pin: &pin, CAFile: ca.File(t)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(sp, Deps{HTTP: source.NewClient(source.Options{Next: stack, CloseIdle: stack.CloseIdleConnections})})
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{t: t, f: f, s: s}
	c := *w.look().Candidate
	changed := append([]byte("X"), body[1:]...)
	fetch := func(t *testing.T, hook buildersim.Hook, n int, want artifact.Class) {
		f := buildersim.NewFiles()
		f.Put("/app.bin", body, noon())
		if hook != nil {
			f.Next(n, "", hook)
		}
		server := ca.Serve(t, f, "files.example.org")
		pin := transport.Pin{Addr: server.Addr.Addr(), Port: server.Addr.Port()}
		stack, err := transport.New(transport.Options{Base: base, Pin: &pin, CAFile: ca.File(t)})
		if err != nil {
			t.Error(err)
			return
		}
		s, err := New(sp, Deps{HTTP: source.NewClient(source.Options{Next: stack})})
		if err != nil {
			t.Error(err)
			return
		}
		var got bytes.Buffer
		err = s.Fetch(t.Context(), c, &got)
		if want == "" && (err != nil || !bytes.Equal(got.Bytes(), body)) || got.Len() > len(body) {
			t.Errorf("%v, %d bytes", err, got.Len())
		}
		if f, ok := errors.AsType[*artifact.Failure](err); want != "" && (!ok || f.Class != want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for name, tc := range map[string]struct {
		hook buildersim.Hook
		n    int
		want artifact.Class
	}{
		"good":               {nil, 0, ""},
		"redirects":          {buildersim.Redirect(302, "/app.bin?x"), 3, ""},
		"a redirect, whole":  {buildersim.Redirect(301, origin+"/app.bin"), 1, ""},
		"cut":                {buildersim.Cut(1000), 1, artifact.Transient},
		"changed":            {buildersim.Body(changed), 1, artifact.Transient},
		"changed, and grown": {buildersim.Body(append(changed, 'x')), 1, artifact.Transient},
		"grown, no length":   {buildersim.Endless(), 1, artifact.Transient},
		"a page":             {buildersim.Status(200, "text/html", "<h1>sorry"), 1, artifact.Transient},
	} {
		t.Run(name, func(t *testing.T) { fetch(t, tc.hook, tc.n, tc.want) })
	}
	// It takes seconds to believe these, so they are not believed one by one.
	t.Run("refused", func(t *testing.T) {
		var all sync.WaitGroup
		for _, to := range []string{"/app.bin", elsewhere.URL("files.example.org") + "/app.bin", "http://files.example.org/app.bin"} {
			all.Go(func() { fetch(t, buildersim.Redirect(302, to), -1, artifact.Refused) })
		}
		all.Wait()
	})
	if n := len(away.Requests()); n != 0 {
		t.Errorf("another origin was asked %d times", n)
	}
}

func TestAnswers(t *testing.T) {
	s := local(t, buildersim.NewFiles(), from, "")
	if !s.Answers(artifact.ByID) || s.Answers(artifact.ByUUID) || s.Answers(artifact.ByCommit) {
		t.Fatal("a hash and nothing else")
	}
}

func TestParseSums(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for text, want := range map[string]string{
		a + "  x":                           a,
		a + " *x\n":                         a,
		strings.ToUpper(a) + "  x\r\n":      a,
		"SHA256 (x) = " + a + "\n":          a,
		"SHA256 (a) = (x) = " + a + "\n":    "",
		"SHA256 (dir/x) = " + a:             a,
		a + "  ./dir/x\n" + b + "  y\n":     a,
		"# comment\n\n" + b + "  x\nmore":   b,
		b + "  y\nSHA512 (x) = " + a + a:    "",
		a + a + "  x":                       "",
		a + " x":                            "",
		a + "\tx":                           "",
		a + "  ":                            "",
		a + "  x/":                          "",
		a + "  dir/x/y":                     "",
		a + "  x\n" + a + "  x\n":           "2 times",
		a + "  a/x\n" + b + "  b/x\n":       "2 times",
		strings.Repeat("g", 64) + "  x":     "",
		"\\" + a + "  x":                    "",
		"-----BEGIN PGP-----\n" + a + "  x": a,
	} {
		id, err := ParseSums(text, "x")
		if err == nil && id.Hex() != want || err != nil && (len(want) == 64 || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %s %v, want %q", text, id, err, want)
		}
	}
}

func FuzzParseSums(f *testing.F) {
	a := strings.Repeat("a", 64)
	for _, s := range []string{a + "  x\n", a + " *x", "SHA256 (x) = " + a, a + "  x\n" + a + "  y/x\n", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseSums(text, "x")
		if err != nil {
			return
		}
		if parsed, err := artifact.ParseID(string(id)); err != nil || parsed != id || !strings.Contains(strings.ToLower(text), id.Hex()) {
			t.Errorf("%q: %s", text, id)
		}
		if _, err := ParseSums(text+"\n"+text, "x"); err == nil {
			t.Errorf("%q twice is still one", text)
		}
	})
}
