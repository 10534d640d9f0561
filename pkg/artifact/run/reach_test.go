package run

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

// up is a daemon with all its ways in, on the real clock.
type up struct {
	*world
	url string
	end func() (Result, error)
}

func daemonOf(t *testing.T, w *world) *up {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.o.Listen = &Listen{Listener: ln}
	w.o.Config.Soak = time.Second
	ctx, cancel := context.WithCancelCause(t.Context())
	type ended struct {
		res Result
		err error
	}
	done := make(chan ended, 1)
	go func() {
		res, err := Daemon(ctx, w.o)
		done <- ended{res, err}
	}()
	u := &up{world: w, url: "http://" + ln.Addr().String()}
	var last *ended
	u.end = func() (Result, error) {
		if last == nil {
			cancel(signalOf(fault.Terminated))
			e := <-done
			last = &e
		}
		return last.res, last.err
	}
	t.Cleanup(func() { _, _ = u.end() })
	w.until("it listens", func() bool {
		resp, err := http.Get(u.url + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusNoContent
	})
	w.until("it answers", func() bool { v, err := Status(ctx, w.o.Place); return err == nil && v.Daemon })
	return u
}

func (w *world) until(what string, f func() bool) {
	w.tb.Helper()
	for began := time.Now(); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 15*time.Second {
			w.tb.Fatalf("in 15 s not: %s\n%s", what, w.story())
		}
	}
}

func expect(name string) artifact.Expectation {
	return artifact.Expectation{Form: artifact.ByID, Value: idOf(name).Hex()}
}

// bubbled prepares the state of a watch that runs a, in no time.
func bubbled(t *testing.T) *world {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) { w.deployed(t.Context()) })
	w.events = nil
	return w
}

func TestBesideADaemon(t *testing.T) {
	t.Parallel()
	w := bubbled(t)
	u := daemonOf(t, w)
	ctx := t.Context()

	// A single run is handed over, and ends when soaking begins.
	o := w.o
	var followed []Event
	o.Events = func(e Event) { followed = append(followed, e) }
	go func() {
		time.Sleep(300 * time.Millisecond)
		w.source.put("b", 2)
	}()
	res, err := Once(ctx, o, artifact.Request{Expect: expect("b"), Wait: 20 * time.Second})
	if err != nil || !res.Handed || res.Outcome.Verdict != artifact.VerdictLive || res.Report.Expected == nil {
		t.Fatalf("%+v %v", res, err)
	}
	if v, err := Status(ctx, w.o.Place); err != nil || !v.Daemon || v.State != artifact.Soaking || v.Kind != fault.Timeout {
		t.Errorf("the daemon soaks on: %+v %v", v, err)
	}
	if !slices.ContainsFunc(followed, func(e Event) bool { return e.Type == artifact.ProbeEvent }) {
		t.Errorf("followed %v", followed)
	}

	// Another watch of this name.
	o.Policy = "other"
	if _, err := Once(ctx, o, artifact.Request{}); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "policy") {
		t.Errorf("%v", err)
	}
	o = w.o
	o.From = "shelf:other"
	if _, err := Once(ctx, o, artifact.Request{}); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "source") {
		t.Errorf("%v", err)
	}

	o = w.o
	o.Policy = "p"
	o.Config.AllowDowngrade = true
	if _, err := Once(ctx, o, artifact.Request{}); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "goes without --allow-downgrade") {
		t.Errorf("a flag that would be dropped: %v", err)
	}

	// Verbs.
	w.until("live", func() bool { return journalled(w.o.Place).State == artifact.Live })
	if res, err := Steer(ctx, w.o.Place, artifact.Request{Verb: artifact.PauseVerb, Reason: "holiday"}, nil); err != nil || res.Outcome.Kind != fault.OK {
		t.Errorf("%+v %v", res, err)
	}
	w.source.put("c", 3)
	res, err = Steer(ctx, w.o.Place, artifact.Request{Verb: artifact.Hint, Expect: expect("c"), Wait: 5 * time.Second}, nil)
	if err != nil || res.Outcome.Kind != fault.Held || !strings.Contains(res.Outcome.Reason, "holiday") {
		t.Errorf("%+v %v", res, err)
	}
	if v, err := Status(ctx, w.o.Place); err != nil || v.Kind != fault.Held || v.Policy != "p" {
		t.Errorf("%+v %v", v, err)
	}
	_, err = Steer(ctx, w.o.Place, artifact.Request{Verb: artifact.Hint, Expect: artifact.Expectation{Form: artifact.ByCommit, Value: "1234567"}}, nil)
	if fault.KindOf(err) != fault.Usage {
		t.Errorf("an expectation that cannot be answered: %v", err)
	}

	// Who goes away undoes nothing; who is told of the daemon's end was not signalled.
	if _, err := Steer(ctx, w.o.Place, artifact.Request{Verb: artifact.ResumeVerb}, nil); err != nil {
		t.Error(err)
	}
	gone, cancel := context.WithCancelCause(ctx)
	res, err = Steer(gone, w.o.Place, artifact.Request{Verb: artifact.Hint, Expect: expect("c"), Wait: time.Minute}, func(e Event) {
		if e.State == artifact.Probing {
			cancel(signalOf(fault.Interrupted))
		}
	})
	if err != nil || res.Outcome.Kind != fault.Interrupted || !strings.Contains(res.Outcome.Reason, "goes on") {
		t.Errorf("%+v %v", res, err)
	}
	w.until("c runs", func() bool { return w.host.running() == idOf("c") && journalled(w.o.Place).State == artifact.Live })
	told := make(chan Result)
	go func() {
		res, _ := Steer(ctx, w.o.Place, artifact.Request{Verb: artifact.Hint, Expect: expect("never"), Wait: time.Minute}, nil)
		told <- res
	}()
	w.until("it is asked", func() bool { return strings.Contains(w.story(), "hint: expect "+expect("never").Short()) })
	if res, err := u.end(); err != nil || res.Outcome.Kind != fault.Terminated {
		t.Errorf("%+v %v", res, err)
	}
	if res := <-told; res.Outcome.Kind != fault.Unreachable {
		t.Errorf("%+v", res)
	}
	if _, err := os.Stat(w.o.Place.socket()); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket is left")
	}
}

func TestWithoutADaemon(t *testing.T) {
	w := bubbled(t)
	ctx := t.Context()
	nobody := Place{w.o.Place.Root, "nobody"}
	if _, err := Status(ctx, nobody); fault.KindOf(err) != fault.Absent {
		t.Error(err)
	}
	if _, err := Steer(ctx, nobody, artifact.Request{Verb: artifact.PauseVerb}, nil); fault.KindOf(err) != fault.Absent {
		t.Error(err)
	}
	if _, err := os.Stat(nobody.Dir()); err == nil {
		t.Error("a watch nobody knows has a directory now")
	}
	if names, err := Watches(w.o.Place.Root); err != nil || !slices.Equal(names, []string{"www"}) {
		t.Errorf("%v %v", names, err)
	}
	_ = os.WriteFile(w.o.Place.socket(), nil, 0o600) // what is left of one
	for _, verb := range []artifact.Verb{artifact.Hint, artifact.RollbackVerb} {
		if _, err := Steer(ctx, w.o.Place, artifact.Request{Verb: verb}, nil); fault.KindOf(err) != fault.Absent || !errors.Is(err, ErrNoDaemon) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	res, err := Steer(ctx, w.o.Place, artifact.Request{Verb: artifact.PauseVerb, Reason: "x"}, nil)
	if err != nil || res.Outcome.Kind != fault.OK || res.Report.From != "shelf:x" {
		t.Errorf("%+v %v", res, err)
	}
	if v, err := Status(ctx, w.o.Place); err != nil || v.Kind != fault.Held || v.Daemon || !slices.Contains(v.States, "paused") {
		t.Errorf("%+v %v", v, err)
	}
	if res, err := Steer(ctx, w.o.Place, artifact.Request{Verb: artifact.ResumeVerb}, nil); err != nil || res.Outcome.Kind != fault.OK {
		t.Errorf("%+v %v", res, err)
	}
	lines, err := History(w.o.Place)
	if err != nil || lines[len(lines)-1].Op != artifact.OpResume {
		t.Errorf("%v %v", lines, err)
	}

	// A retry needs a run, a rollback by hand its target.
	synctest.Test(t, func(t *testing.T) {
		w.host.bad[idOf("b")] = true
		w.source.put("b", 2)
		if res, err := w.once(t.Context(), artifact.Request{}); err != nil || res.Outcome.Kind != fault.Failed {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if res, err := w.once(t.Context(), artifact.Request{}); err != nil || res.Outcome.Why != artifact.Quarantined {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
	})
	stands := func(kind fault.Kind, held string) {
		t.Helper()
		v, err := Status(ctx, w.o.Place)
		if err != nil || v.Kind != kind || !strings.HasPrefix(v.Held, held) || held == "" && v.Held != "" {
			t.Errorf("%s %q, want %s %q (%v)", v.Kind, v.Held, kind, held, err)
		}
	}
	steer := func(r artifact.Request) {
		t.Helper()
		if _, err := Steer(ctx, w.o.Place, r, nil); err != nil {
			t.Error(err)
		}
	}
	stands(fault.Held, "quarantined: ")
	steer(artifact.Request{Verb: artifact.PauseVerb, Reason: "lunch"})
	stands(fault.Held, "paused (lunch)")
	steer(artifact.Request{Verb: artifact.ResumeVerb})
	stands(fault.OK, "")
	if res, err := Steer(ctx, w.o.Place, artifact.Request{Verb: artifact.RetryVerb}, nil); err != nil || res.Outcome.Kind != fault.Held || !strings.Contains(res.Outcome.Reason, "once more") {
		t.Errorf("%+v %v", res, err)
	}
	synctest.Test(t, func(t *testing.T) {
		w.host.bad[idOf("b")] = false
		if res, err := w.once(t.Context(), artifact.Request{}); err != nil || res.Outcome.Verdict != artifact.VerdictLive {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		res, err := w.once(t.Context(), artifact.Request{Verb: artifact.RollbackVerb})
		if err != nil || res.Outcome.Verdict != artifact.VerdictLive || w.host.running() != idOf("a") {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		if v, err := Status(t.Context(), w.o.Place); err != nil || !slices.Contains(v.States, "pinned") {
			t.Errorf("%+v %v", v, err)
		}
	})
}

// Of two long texts only what differs is told.
func TestApart(t *testing.T) {
	for _, c := range [][4]string{
		{`a="1" b="x y" c=3`, `a="1" b="x z" c=3`, `y"`, `z"`},
		{"a b", "a b", "b", "b"},
		{"a b", "a", "a b", "a"},
		{"", "a b", "", "a b"},
		{"a b c", "a c", "b c", "c"},
	} {
		if x, y := apart(c[0], c[1]); x != c[2] || y != c[3] {
			t.Errorf("%q %q: %q %q", c[0], c[1], x, y)
		}
	}
}

// A state directory may lie deeper than the name of a socket can be long.
func TestLongPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.o.Place.Root = filepath.Join(w.o.Place.Root, strings.Repeat("deep/", 40))
	w.source.put("a", 1)
	daemonOf(t, w)
	info, err := os.Stat(w.o.Place.socket())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func TestSocketIsNotFed(t *testing.T) {
	t.Parallel()
	w := bubbled(t)
	daemonOf(t, w)
	for name, line := range map[string]string{
		"not JSON":      "hello\n",
		"other version": `{"v":2,"verb":"status"}` + "\n",
		"other verb":    `{"v":1,"verb":"pin"}` + "\n",
		"nothing":       `{"v":1}` + "\n",
		"bad id":        `{"v":1,"verb":"retry","target":"x"}` + "\n",
		"too long":      `{"v":1,"reason":"` + strings.Repeat("x", mostRequest) + "\"}\n",
	} {
		conn, err := net.Dial("unix", w.o.Place.socket())
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = conn.Write([]byte(line)) }()
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		a, err := readAnswer(bufio.NewReader(conn))
		if err != nil || a.Type != "refused" || a.Kind != fault.Usage {
			t.Errorf("%s: %+v %v", name, a, err)
		}
		conn.Close()
	}
}

// hint posts one and returns the status and the body.
func (u *up) hint(t *testing.T, path, body string, change func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data)
}

func TestListener(t *testing.T) {
	t.Parallel()
	w := bubbled(t)
	u := daemonOf(t, w)
	looks := w.source.count()
	for _, tc := range []struct {
		name, path, body string
		change           func(*http.Request)
		want             int
	}{
		{"unknown watch", "/watches/other/hint", "", nil, 404},
		{"origin", "/watches/www/hint", "", func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		{"foreign host", "/watches/www/hint", "", func(r *http.Request) { r.Host = "evil.example" }, 403},
		{"foreign address", "/watches/www/hint", "", func(r *http.Request) { r.Host = "10.1.2.3:80" }, 403},
		{"localhost", "/watches/www/hint", "", func(r *http.Request) { r.Host = "localhost:1" }, 202},
		{"large", "/watches/www/hint", strings.Repeat(" ", mostHint+1), nil, 413},
		{"not JSON", "/watches/www/hint", "x", nil, 400},
		{"other keys", "/watches/www/hint", `{"deploy":"x"}`, nil, 400},
		{"two", "/watches/www/hint", `{} {}`, nil, 400},
		{"bad id", "/watches/www/hint", `{"expect":"sha256:12"}`, nil, 400},
		{"other form", "/watches/www/hint", `{"expect":"commit:1234567"}`, nil, 400},
		{"wait", "/watches/www/hint?wait=601", "", nil, 400},
		{"no wait", "/watches/www/hint?wait=x", "", nil, 400},
		{"method", "/watches/www/status", "", nil, 405},
	} {
		if got, body := u.hint(t, tc.path, tc.body, tc.change); got != tc.want {
			t.Errorf("%s: %d %s", tc.name, got, body)
		}
	}
	w.until("the one hint is looked at", func() bool { return w.source.count() > looks })
	if n := w.source.count(); n > looks+2 {
		t.Errorf("%d looks for one hint", n-looks)
	}
	resp, err := http.Get(u.url + "/watches/www/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v View
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || v.Watch != "www" || !v.Daemon || v.Running.ID != idOf("a") {
		t.Errorf("%+v %v", v, err)
	}
	code, body := u.hint(t, "/watches/www/hint", `{"expect":"sha256:`+idOf("b").Hex()+`"}`, nil)
	if want := `{"watch":"www","state":"live","events":"/watches/www/events"}` + "\n"; code != 202 || body != want {
		t.Errorf("%d %s", code, body)
	}
	// One that waits hears of everything up to its outcome.
	w.source.put("b", 2)
	code, body = u.hint(t, "/watches/www/hint?wait=30", `{"expect":"sha256:`+idOf("b").Hex()+`"}`, nil)
	events := parse(body)
	if n := len(events); code != 200 || n < 5 || events[n-1].Type != artifact.OutcomeEvent || events[n-1].Outcome.Verdict != artifact.VerdictLive || events[n-1].Outcome.ExitCode != 0 {
		t.Errorf("%d %s", code, body)
	}
	if n := strings.Count(body, "event: outcome"); n != 1 {
		t.Errorf("%d outcomes", n)
	}

	// One that goes away in mid-switch cancels nothing.
	w.source.put("c", 3)
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, u.url+"/watches/www/hint?wait=30", nil)
	if resp, err := http.DefaultClient.Do(r); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	w.until("it switches", func() bool { return w.host.running() == idOf("c") })
	cancel()
	w.until("it is live all the same", func() bool { v := journalled(w.o.Place); return v.State == artifact.Live && v.Running.ID == idOf("c") })

	// Who comes back is told what he missed: of this process, and of the one before.
	missed := u.replay(t, 0)
	if n := len(missed); n < 5 || !slices.IsSortedFunc(missed, func(a, b Event) int { return int(a.Seq - b.Seq) }) {
		t.Errorf("%d events", n)
	}
	live := slices.IndexFunc(missed, func(e Event) bool { return e.Outcome != nil && e.Outcome.Candidate.ID == idOf("a") })
	if live < 0 || missed[live].Outcome.Verdict != artifact.VerdictLive {
		t.Errorf("the first deployment is not told again: %v", missed)
	}
	middle := missed[len(missed)/2].Seq
	if again := u.replay(t, middle); len(again) == 0 || again[0].Seq <= middle {
		t.Errorf("after %d: %v", middle, again)
	}
	if again := u.replay(t, 1<<40); len(again) == 0 {
		t.Error("a number of the future hides everything")
	}
}

func parse(text string) []Event {
	var all []Event
	for line := range strings.Lines(text) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var e Event
			if json.Unmarshal([]byte(data), &e) == nil {
				all = append(all, e)
			}
		}
	}
	return all
}

// replay reads what is sent at once after Last-Event-ID.
func (u *up) replay(t *testing.T, after int64) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, u.url+"/watches/www/events", nil)
	r.Header.Set("Last-Event-ID", strconv.FormatInt(after, 10))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return parse(string(data))
}

func TestStreamsAreCounted(t *testing.T) {
	t.Parallel()
	w := bubbled(t)
	u := daemonOf(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	for range mostStreams {
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, u.url+"/watches/www/events", nil)
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		defer resp.Body.Close()
	}
	if code, _ := u.hint(t, "/watches/www/hint?wait=1", "", nil); code != 503 {
		t.Errorf("one more stream: %d", code)
	}
	if code, _ := u.hint(t, "/watches/www/hint", "", nil); code != 202 {
		t.Errorf("a hint: %d", code)
	}
	cancel()
	w.until("there is room again", func() bool { code, _ := u.hint(t, "/watches/www/hint?wait=1", "", nil); return code == 200 })
}

// Beyond loopback the story needs the token, a hint does not.
func TestToken(t *testing.T) {
	w := bubbled(t)
	token, err := transport.NewSecret("s3cret")
	if err != nil {
		t.Fatal(err)
	}
	l, err := open(t.Context(), w.o, daemon)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	beyond := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 7777}
	for _, tc := range []struct {
		name, auth string
		token      transport.Secret
		want       int
	}{
		{"none given", "", token, 401},
		{"another", "Bearer other", token, 401},
		{"another scheme", "Basic s3cret", token, 401},
		{"right", "Bearer s3cret", token, 200},
		{"none configured", "Bearer s3cret", transport.Secret{}, 403},
	} {
		h := newWeb(l, Listen{Addr: "www.lan:7777", Token: tc.token}, beyond)
		ask := func(method, path string) int {
			r := httptest.NewRequest(method, "http://www.lan:7777"+path, nil)
			r = r.WithContext(t.Context())
			if tc.auth != "" {
				r.Header.Set("Authorization", tc.auth)
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			return rec.Code
		}
		if got := ask(http.MethodGet, "/watches/www/status"); got != tc.want {
			t.Errorf("%s: status %d", tc.name, got)
		}
		if tc.want != 200 {
			if got := ask(http.MethodGet, "/watches/www/events"); got != tc.want {
				t.Errorf("%s: events %d", tc.name, got)
			}
			if got := ask(http.MethodPost, "/watches/www/hint?wait=9"); got != tc.want {
				t.Errorf("%s: a hint that waits %d", tc.name, got)
			}
		}
	}
	h := newWeb(l, Listen{Addr: "www.lan:7777", Token: token}, beyond)
	var turning sync.WaitGroup
	answered := make(chan struct{})
	turning.Go(func() {
		for {
			select {
			case <-answered:
				return
			case <-time.After(5 * time.Millisecond):
				for _, f := range l.box.take() {
					f()
				}
			}
		}
	})
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "http://www.lan:7777/watches/www/hint", nil).WithContext(t.Context()))
	close(answered)
	turning.Wait()
	if rec.Code != 202 {
		t.Errorf("a hint: %d", rec.Code)
	}
}

// recorder is a reader that may be slow.
type recorder struct {
	header http.Header
	bytes.Buffer
	block chan struct{}
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(int)     {}
func (r *recorder) Flush()              {}
func (r *recorder) Write(p []byte) (int, error) {
	if r.block != nil && bytes.HasPrefix(p, []byte("id:")) {
		<-r.block
	}
	return r.Buffer.Write(p)
}

func TestStreamInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, err := open(t.Context(), w.o, daemon)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		h := newWeb(l, Listen{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
		begin := func(r *recorder) (cancel func(), done chan struct{}) {
			ctx, cancel := context.WithCancel(t.Context())
			done = make(chan struct{})
			go func() {
				defer close(done)
				h.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "http://localhost/watches/www/events", nil).WithContext(ctx))
			}()
			synctest.Wait()
			return cancel, done
		}
		// A sign of life each 15 s.
		quiet := &recorder{header: http.Header{}}
		cancel, done := begin(quiet)
		time.Sleep(61 * time.Second)
		cancel()
		<-done
		if n := strings.Count(quiet.String(), ":\n\n"); n != 5 {
			t.Errorf("%d comments in a minute", n)
		}
		// Who does not read is dropped, and holds nobody up.
		slow := &recorder{header: http.Header{}, block: make(chan struct{})}
		cancel, done = begin(slow)
		defer cancel()
		began := time.Now()
		for i := range 2 * (streamQueue + keptEvents) {
			l.hub.publish(Event{Type: artifact.NoteEvent, Seq: int64(i + 1), Time: time.Now(), Text: fmt.Sprint(i)})
		}
		if time.Since(began) > 0 {
			t.Error("it was waited for")
		}
		close(slow.block)
		<-done
		if n := strings.Count(slow.String(), "event: "); n > streamQueue+keptEvents {
			t.Errorf("%d events for one that was dropped", n)
		}
	})
}

// The service manager hears that the watch is up, that it lives, and its end.
func TestNotify(t *testing.T) {
	t.Parallel()
	w := bubbled(t)
	path := filepath.Join(w.o.Place.Root, "notify")
	conn, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w.o.Notify = Notify{Socket: path, Watchdog: 150 * time.Millisecond}
	w.source.fail(&artifact.Failure{Class: artifact.Transient, What: "502"}) // no reason not to be up
	u := daemonOf(t, w)
	heard := func() string {
		buf := make([]byte, 100)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
	counts := map[string]int{}
	for counts["READY=1"] == 0 || counts["WATCHDOG=1"] < 3 {
		if counts[heard()]++; len(counts) > 2 {
			t.Fatalf("%v", counts)
		}
	}
	if counts["READY=1"] != 1 {
		t.Errorf("%v", counts)
	}
	_, _ = u.end()
	for range 100 {
		if heard() == "STOPPING=1" {
			return
		}
	}
	t.Error("its end was not told")
}

// A caller that does not read its story holds nothing up.
func TestDeafCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.source.put("a", 1)
		block := make(chan struct{})
		w.o.Events = func(Event) { <-block }
		res, err := w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Verdict != artifact.VerdictLive {
			t.Errorf("%+v %v", res.Outcome, err)
		}
		close(block)
	})
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"www": true, "a.b_c-1": true, "": false, ".x": false, "status": false, "a/b": false, "..": false, strings.Repeat("x", 65): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// The public shape of an event.
func TestEventShape(t *testing.T) {
	next := "homelab deploy watch status www"
	o := Options{From: "f", To: "t", Config: artifact.Config{Name: "www", Run: "r"}, Advise: func(artifact.Outcome) string { return next }}
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	e := Event{Type: artifact.OutcomeEvent, Time: at, Seq: 7, Watch: "www", Run: "r", State: artifact.Live, Text: "www runs"}
	ended := o.ended(artifact.Outcome{Kind: fault.OK, Verdict: artifact.VerdictLive, Reason: "www runs", State: "live", Health: artifact.Healthy, Started: at, Ended: at.Add(4100 * time.Millisecond)}, artifact.Memory{})
	e.Outcome = &ended
	data, err := json.Marshal(e)
	want := `{"type":"outcome","time":"2026-07-01T12:00:00Z","seq":7,"watch":"www","run":"r","state":"live","text":"www runs",` +
		`"outcome":{"kind":"deploy.watch","verdict":"live","exit_code":0,"reason":"www runs","next":"homelab deploy watch status www","elapsed":4.1,` +
		`"watch":"www","run":"r","from":"f","to":"t","state":"live",`
	if err != nil || !strings.HasPrefix(string(data), want) {
		t.Errorf("%s %v", data, err)
	}
}
