package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/artifact/share"
	"homelab/pkg/fault"
)

func TestDistinct(t *testing.T) {
	watch := func(name, to string) Options { return Options{Place: Place{"/s", name}, To: to} }
	for name, tc := range map[string]struct {
		watches []Options
		want    string
	}{
		"none":            {},
		"apart":           {[]Options{watch("a", "file:/a"), watch("b", "file:/b")}, ""},
		"containers":      {[]Options{watch("a", "k8s://n/w?container=a"), watch("b", "k8s://n/w?container=b")}, ""},
		"same name":       {[]Options{watch("a", "file:/a"), watch("a", "file:/b")}, `watch "a" is named twice`},
		"same target":     {[]Options{watch("a", "exec:/x"), watch("c", "exec:/c"), watch("b", "exec:/x")}, `watches "a" and "b" have the same target`},
		"same file":       {[]Options{watch("a", "file:/a?unit=x"), watch("b", "file:/a?copy=true")}, `watches "a" and "b" have the same target`},
		"other arguments": {[]Options{watch("a", `exec:/x --arg "1"`), watch("b", `exec:/x --arg "2"`)}, ""},
	} {
		err := Distinct(tc.watches)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want) || fault.KindOf(err) != fault.Usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// worlds are watches beside each other.
func worlds(t *testing.T, names ...string) []*world {
	t.Helper()
	at := root(t)
	var all []*world
	for _, name := range names {
		w := newWorld(t)
		w.o.Place, w.o.To, w.o.Config.Soak = Place{at, name}, "host:"+name, time.Second
		w.o.Config.Interval = time.Hour // nobody looks unasked
		w.source.put(name, 1)
		all = append(all, w)
	}
	return all
}

// under is several watches that run.
type under struct {
	url string
	end func() ([]Member, error)
}

// together runs the watches as one process does.
func together(t *testing.T, f Fleet, all []*world) *under {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.Listen = &Listen{Listener: ln}
	for _, w := range all {
		f.Watches = append(f.Watches, w.o)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	type ended struct {
		out []Member
		err error
	}
	done := make(chan ended, 1)
	go func() {
		out, err := Daemons(ctx, f)
		done <- ended{out, err}
	}()
	u := &under{url: "http://" + ln.Addr().String()}
	u.end = sync.OnceValues(func() ([]Member, error) {
		cancel(signalOf(fault.Terminated))
		e := <-done
		return e.out, e.err
	})
	t.Cleanup(func() { _, _ = u.end() })
	return u
}

func (u *under) ask(t *testing.T, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, u.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// Several watches of one process: one listener, and each with its own ways in.
func TestFleet(t *testing.T) {
	t.Parallel()
	all := worlds(t, "a", "b", "c")
	reload := make(chan []Options)
	u := together(t, Fleet{Reload: reload}, all)
	for _, w := range all {
		w.until("all run", func() bool { return w.host.running() == idOf(w.o.Place.Name) })
		v, err := Status(t.Context(), w.o.Place)
		if err != nil || !v.Daemon || v.Watch != w.o.Place.Name {
			t.Errorf("%+v %v", v, err)
		}
	}
	for path, want := range map[string]int{
		"GET /healthz": 204, "GET /watches/a/status": 200, "GET /watches/d/status": 404, "POST /watches/d/hint": 404, "GET /watches/": 404,
		"GET /watches/a": 404, "POST /watches/a/status": 405, "GET /watches/b/nothing": 404, "GET /watches/a%2Fb/status": 404,
	} {
		method, path, _ := strings.Cut(path, " ")
		if got, body := u.ask(t, method, path); got != want {
			t.Errorf("%s %s: %d %s", method, path, got, body)
		}
	}
	// A hint is of one of them.
	all[0].until("it soaks no more", func() bool { v, _ := Status(t.Context(), all[0].o.Place); return v.State == artifact.Live })
	others := all[1].source.count() + all[2].source.count()
	all[0].source.put("a2", 2)
	if got, body := u.ask(t, "POST", "/watches/a/hint"); got != 202 || !strings.Contains(body, `"/watches/a/events"`) {
		t.Error(got, body)
	}
	all[0].until("the hint is heard", func() bool { return all[0].host.running() == idOf("a2") })
	if n := all[1].source.count() + all[2].source.count(); n != others {
		t.Errorf("%d looks of others", n-others)
	}
	// A single run beside it is handed over.
	if res, err := Once(t.Context(), all[1].o, artifact.Request{}); err != nil || !res.Handed {
		t.Error(res, err)
	}
	if _, err := Daemons(t.Context(), Fleet{Watches: []Options{worlds(t, "x")[0].o, all[1].o}}); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), `"b"`) {
		t.Error(err)
	}
	// All are taken over anew.
	var next []Options
	for _, w := range all {
		o := w.o
		o.Policy = "other"
		next = append(next, o)
	}
	reload <- next
	for _, w := range all {
		w.until("it was reloaded", func() bool {
			v, err := Status(t.Context(), w.o.Place)
			return err == nil && v.Policy == "other" && strings.Contains(w.story(), "reloaded")
		})
	}
	out, err := u.end()
	if err != nil || len(out) != 3 {
		t.Fatal(out, err)
	}
	for i, m := range out {
		if m.Name != all[i].o.Place.Name || m.Err != nil || m.Alone || m.Result.Outcome.Kind != fault.Terminated {
			t.Errorf("%+v", m)
		}
	}
}

// Streams are counted over all watches, and one that does not turn is told.
func TestFleetLimits(t *testing.T) {
	t.Parallel()
	all := worlds(t, "a", "b")
	u := together(t, Fleet{}, all)
	all[0].until("it listens", func() bool { got, _ := u.ask(t, "GET", "/healthz"); return got == 204 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var open []io.Closer
	for i := range mostStreams + 1 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.url+"/watches/"+[]string{"a", "b"}[i%2]+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, resp.Body)
		if want := map[bool]int{true: 200, false: 503}[i < mostStreams]; resp.StatusCode != want {
			t.Errorf("stream %d: %d", i, resp.StatusCode)
		}
	}
	for _, c := range open {
		_ = c.Close()
	}
}

// Before anything begins it is clear that all can: a lock that another holds,
// an address that is taken.
func TestFleetBegins(t *testing.T) {
	t.Parallel()
	all := worlds(t, "a", "b")
	j, _, _, err := journal.Open(t.Context(), all[1].o.Place.Dir())
	if err != nil {
		t.Fatal(err)
	}
	watches := []Options{all[0].o, all[1].o}
	if _, err := Daemons(t.Context(), Fleet{Watches: watches}); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), `"b"`) {
		t.Error(err)
	}
	if all[0].o.Place.Exists() {
		t.Error("the first one had begun")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := Daemons(t.Context(), Fleet{Watches: watches, Listen: &Listen{Addr: ln.Addr().String()}}); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	for _, w := range all {
		if w.source.count() > 0 || w.host.times() > 0 {
			t.Error("something was begun")
		}
		if _, err := os.Stat(w.o.Place.socket()); err == nil {
			t.Error("a socket is left")
		}
		if held, err := journal.Locked(w.o.Place.Dir()); held || err != nil {
			t.Error("a lock is left", err)
		}
	}
	// A file where a directory is due.
	if err := os.RemoveAll(all[1].o.Place.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(all[1].o.Place.Dir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Daemons(t.Context(), Fleet{Watches: watches}); err == nil || !strings.Contains(err.Error(), `"b"`) {
		t.Error(err)
	}
}

// A watch that ends by itself ends the others as a signal does, and it is told
// which one it was.
func TestFleetFalls(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(*world)
		want  fault.Kind
		told  string
	}{
		"a bug": {func(w *world) {
			w.source.fetch = func(context.Context, artifact.Candidate, io.Writer) error { panic("oops") }
		}, fault.Bug, "oops"},
		"cannot tell": {func(w *world) { w.host.unknown, w.o.NeedObserve = true, true }, fault.Usage, "working observe"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := worlds(t, "a", "b")
			tc.spoil(all[1])
			out, err := Daemons(t.Context(), Fleet{Watches: []Options{all[0].o, all[1].o}})
			if err != nil || len(out) != 2 {
				t.Fatal(out, err)
			}
			if a := out[0]; a.Alone || a.Err != nil || a.Result.Outcome.Kind != fault.Terminated {
				t.Errorf("%+v", a)
			}
			if b := out[1]; !b.Alone || fault.KindOf(b.Err) != tc.want {
				t.Errorf("%+v", b)
			}
			if s := all[1].story(); !strings.Contains(s, "this watch has ended: ") || !strings.Contains(s, tc.told) {
				t.Error(s)
			}
			if s := all[0].story(); !strings.Contains(s, "stopping, because watch b has ended by itself") {
				t.Error(s)
			}
		})
	}
}

// Several single runs and checks: each has its own end.
func TestOnces(t *testing.T) {
	t.Parallel()
	all := worlds(t, "a", "b", "c")
	all[1].host.bad[idOf("b")] = true
	all[1].o.Config.ReadyTimeout = time.Second
	all[2].source.Answers(artifact.ByID)
	watches := []Options{all[0].o, all[1].o, all[2].o}
	for _, m := range Checks(t.Context(), watches) {
		if m.Err != nil || m.Result.Outcome.Verdict != artifact.VerdictReady {
			t.Errorf("%+v", m)
		}
	}
	all[2].source.fetch = func(context.Context, artifact.Candidate, io.Writer) error { panic("oops") }
	out := Onces(t.Context(), watches, nil, artifact.Request{Verb: artifact.Hint})
	if out[0].Result.Outcome.Verdict != artifact.VerdictLive || out[1].Result.Outcome.Kind != fault.Unsafe || fault.KindOf(out[2].Err) != fault.Bug {
		t.Errorf("%+v", out)
	}
}

// The service manager hears that the process is up when all watches are, and
// that it lives as long as all turn.
func TestChorus(t *testing.T) {
	t.Parallel()
	path := filepath.Join(root(t), "notify")
	conn, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	now := time.Now()
	n, err := newNotifier(t.Context(), Notify{Socket: path, Watchdog: 30 * time.Second}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	heard := func(within time.Duration) string {
		buf := make([]byte, 100)
		_ = conn.SetReadDeadline(time.Now().Add(within))
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return ""
		}
		return string(buf[:n])
	}
	c := newChorus(n)
	a, b := c.join(), c.join()
	step := func(want string, f func()) {
		t.Helper()
		f()
		within := 20 * time.Millisecond // for nothing
		if want != "" {
			within = 15 * time.Second
		}
		if got := heard(within); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	step("", a.ready)
	step("", a.ready)
	step("READY=1", b.ready)
	step("", a.ready)
	step("", func() { a.alive() })
	step("WATCHDOG=1", func() { b.alive() })
	now = now.Add(time.Minute)
	step("", func() { a.alive(); a.alive() })
	step("WATCHDOG=1", func() { b.alive() })
	step("", func() { a.alive(); b.alive() }) // too soon
	now = now.Add(a.every)
	step("WATCHDOG=1", func() { a.alive() })
	now = now.Add(time.Minute)
	c.leave(b) // it has come to its own end
	step("WATCHDOG=1", func() { a.alive() })
	step("STOPPING=1", n.stoppingOnce)
	step("", n.stoppingOnce)
}

// library is a source that several watches ask together.
type library struct {
	*shelf
	host *share.Host
	key  string
}

func (l library) Look(ctx context.Context, _ artifact.Query) (artifact.Look, error) {
	return share.Ask(ctx, l.host, l.key, func(err error) (time.Duration, bool) {
		f, ok := errors.AsType[*artifact.Failure](err)
		return 0, ok && f.Limited
	}, func(ctx context.Context) (artifact.Look, error) { return l.shelf.Look(ctx, artifact.Query{}) })
}

// readers are n watches of one source, at work in a bubble.
func readers(t *testing.T, n int) (all []*world, s *shelf, loops []*loop, pool *share.Pool, end func()) {
	t.Helper()
	s, pool = &shelf{}, share.New()
	s.put("one", 1)
	var ends []func() Result
	for i := range n {
		w := newWorld(t)
		w.host.runs = idOf("one")
		w.o.Place.Name = fmt.Sprint("w", i)
		w.o.Source = library{s, pool.Host("h:443"), "k"}
		w.o.Dice = nil
		w.o = spread(w.o, i, n)
		l, stop := w.turning(t.Context())
		all, loops, ends = append(all, w), append(loops, l), append(ends, stop)
	}
	return all, s, loops, pool, func() {
		for _, stop := range ends {
			stop()
		}
	}
}

// Ten watches of one source cost what one does, and each notices as soon as it
// would alone.
func TestSharedLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, s, loops, _, end := readers(t, 10)
		defer end()
		time.Sleep(firstLooks)
		if n := s.count(); n != 1 {
			t.Errorf("%d first looks", n)
		}
		const hours = 5
		time.Sleep(hours * time.Hour)
		if n, most := s.count(), hours*120+5; n > most || n < hours*110 {
			t.Errorf("%d looks, %d at most", n, most)
		}
		for i := range 20 {
			time.Sleep(7*time.Minute + time.Duration(i)*1234*time.Millisecond)
			name := fmt.Sprint("v", i)
			s.put(name, int64(i+2))
			began := time.Now()
			for _, w := range all {
				for w.host.running() != idOf(name) {
					if time.Since(began) > 34*time.Second {
						t.Fatalf("%s does not run %s after %s", w.o.Place.Name, name, time.Since(began))
					}
					time.Sleep(100 * time.Millisecond)
				}
			}
		}
		// A hint to one is a look of its own; the others go on as before, with
		// what it found.
		time.Sleep(10 * time.Minute)
		for i := range 10 {
			time.Sleep(time.Duration(11+i) * time.Second)
			before := s.count()
			name := fmt.Sprint("h", i)
			s.put(name, int64(i+100))
			loops[i].box.post(func() { loops[i].ask(artifact.Request{Verb: artifact.Hint, Detached: true}, nil) })
			time.Sleep(2 * time.Second)
			if got := all[i].host.running(); got != idOf(name) {
				t.Errorf("hint %d was answered with what was known: %s", i, got)
			}
			if n := s.count() - before; n != 1 && n != 2 {
				t.Errorf("hint %d: %d looks", i, n)
			}
			time.Sleep(5 * time.Minute)
		}
	})
}

// One 429 is for all watches of the host, for a minute, and for hints.
func TestHostIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, s, loops, pool, end := readers(t, 5)
		defer end()
		time.Sleep(10 * time.Minute)
		// Another source of that host is told so.
		other := newWorld(t)
		other.o.Place.Name, other.o.Dice = "other", nil
		answers := &shelf{}
		answers.fail(&artifact.Failure{Class: artifact.Transient, Limited: true, What: "429"})
		other.o.Source = library{answers, pool.Host("h:443"), "other"}
		l, stop := other.turning(t.Context())
		defer stop()
		time.Sleep(time.Second)
		if answers.count() != 1 {
			t.Fatal(answers.count())
		}
		answers.fail(nil)
		before := s.count()
		s.put("two", 2)
		for time.Since(answers.looks[0]) < 58*time.Second {
			time.Sleep(3 * time.Second)
			for _, l := range append(loops, l) {
				l.box.post(func() { l.ask(artifact.Request{Verb: artifact.Hint, Detached: true}, nil) })
			}
		}
		if n := s.count() - before + answers.count() - 1; n != 0 {
			t.Errorf("%d looks at a host that counts", n)
		}
		time.Sleep(15 * time.Second)
		for _, w := range all {
			if w.host.running() != idOf("two") {
				t.Errorf("%s runs %s\n%s", w.o.Place.Name, w.host.running(), w.story())
			}
		}
		if n := s.count() - before; n < 1 || n > 4 {
			t.Errorf("%d looks when it was over", n)
		}
	})
}

// When the source fails, it is not asked by all of them all the time.
func TestSharedTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, s, _, _, end := readers(t, 10)
		defer end()
		time.Sleep(10 * time.Minute)
		s.fail(&artifact.Failure{Class: artifact.Transient, What: "502"})
		before := s.count()
		time.Sleep(2 * time.Hour)
		one := s.count() - before
		if one > 60 {
			t.Errorf("%d looks in two hours of trouble", one)
		}
		s.fail(nil)
		s.put("two", 2)
		time.Sleep(20 * time.Minute)
		for _, w := range all {
			if w.host.running() != idOf("two") {
				t.Errorf("%s runs %s", w.o.Place.Name, w.host.running())
			}
			if !strings.Contains(w.story(), "the source cannot be asked") {
				t.Error(w.o.Place.Name + " did not tell")
			}
		}
	})
}
