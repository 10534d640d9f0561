package run

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/journal"
	"homelab/pkg/fault"
)

func TestOnceDeploysAndProves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		w.source.put("b", 2)
		began := time.Now()
		res, err := w.once(t.Context(), artifact.Request{Expect: artifact.Expectation{Form: artifact.ByID, Value: idOf("b").Hex()}, Wait: time.Minute})
		if err != nil || res.Outcome.Verdict != artifact.VerdictLive || res.Outcome.Health != artifact.Healthy {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		if took := time.Since(began); took != 3*time.Second+artifact.OnceSoak {
			t.Errorf("three probes, one each second, and the soak took %s", took)
		}
		if got := w.host.running(); got != idOf("b") {
			t.Errorf("%s runs", got)
		}
		if path := w.host.paths[1]; !strings.HasPrefix(path, w.o.Place.store()) {
			t.Errorf("activated from %q", path)
		}
		if res.Report.Previous == nil || res.Report.Previous.ID != idOf("a") || res.Report.From != "shelf:x" {
			t.Errorf("report %+v", res.Report)
		}
		// Once more: nothing newer.
		res, err = w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Verdict != artifact.VerdictCurrent {
			t.Errorf("%+v %v", res.Outcome, err)
		}
		if n := w.host.times(); n != 2 {
			t.Errorf("%d activations", n)
		}
	})
}

// A memory that was lost is in the story too, as what failed is forgotten with it.
func TestLostIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		for _, name := range []string{"state.json", "journal.jsonl"} {
			if err := os.WriteFile(filepath.Join(w.o.Place.Dir(), name), []byte("x\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.once(t.Context(), artifact.Request{}); err != nil || !strings.Contains(w.story(), "this is a first start") {
			t.Errorf("%v:\n%s", err, w.story())
		}
	})
}

func TestOnceRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		w.host.bad[idOf("b")] = true
		w.source.put("b", 2)
		var after artifact.Switch
		w.o.AfterRollback = func(_ context.Context, s artifact.Switch) error { after = s; return errors.New("not well") }
		w.host.activate = func(context.Context, artifact.Switch) error { w.o.Desk.Line("restart\x1b[2J done"); return nil }
		res, err := w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Kind != fault.Failed || res.Outcome.Rollback == nil || !res.Outcome.Rollback.Done {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		if w.host.running() != idOf("a") {
			t.Error("b still runs")
		}
		if after.To.ID != idOf("a") || after.From.ID != idOf("b") || after.ToPath == "" {
			t.Errorf("after the rollback: %+v", after)
		}
		if evidence := strings.Join(res.Outcome.Evidence, "\n"); !strings.Contains(evidence, "restart done") {
			t.Errorf("evidence %q", evidence)
		}
		for _, want := range []string{"hook switching restart done", "outcome", "rolled back to"} {
			if !strings.Contains(w.story(), want) {
				t.Errorf("no %q in:\n%s", want, w.story())
			}
		}
		// It stays out.
		res, err = w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Kind != fault.Held || w.host.times() != 3 {
			t.Errorf("%+v %v, %d activations", res.Outcome, err, w.host.times())
		}
	})
}

// What is stored is hashed right before it is used.
func TestSpoiledInTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		w.source.put("b", 2)
		path := filepath.Join(w.o.Place.store(), "sha256", idOf("b").Hex()[:2], idOf("b").Hex())
		w.o.wrote = func(l artifact.Line) {
			if l.Op == artifact.OpIntent && l.State == artifact.Switching {
				_ = os.Remove(path)
				_ = os.WriteFile(path, []byte("something else"), 0o600)
			}
		}
		res, err := w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Kind != fault.Failed || !strings.Contains(res.Outcome.Reason, "not touched") {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		if w.host.times() != 1 {
			t.Error("it was activated")
		}
	})
}

// A way back that was never fetched is fetched, or the switch is held.
func TestWayBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		gone bool
	}{{"the source still has it", false}, {"it is gone", true}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.source.put("a", 1)
			w.host.runs = idOf("a")
			if res, err := w.once(t.Context(), artifact.Request{}); err != nil || res.Outcome.Verdict != artifact.VerdictCurrent {
				t.Fatalf("%+v %v", res.Outcome, err)
			}
			tries := 0
			w.source.fetch = func(_ context.Context, c artifact.Candidate, to io.Writer) error {
				if c.Location == "a" {
					if tries++; tc.gone {
						return &artifact.Failure{Class: artifact.Absent, What: "404"}
					}
				}
				_, err := to.Write(body(c.Location))
				return err
			}
			w.source.put("b", 2)
			res, err := w.once(t.Context(), artifact.Request{})
			want := fault.OK
			if tc.gone {
				want = fault.Held
			}
			if err != nil || res.Outcome.Kind != want || tries != 1 {
				t.Errorf("%s: %+v %v, %d tries\n%s", tc.name, res.Outcome, err, tries, w.story())
			}
		})
	}
}

func TestCheckChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.source.put("a", 1)
		res, err := Check(t.Context(), w.o, artifact.Expectation{})
		if err != nil || res.Outcome.Verdict != artifact.VerdictReady {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		if _, err := os.Stat(w.o.Place.Dir()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a check made %v", files(t, w.o.Place.Root))
		}
		w.deployed(t.Context())
		before := files(t, w.o.Place.Dir())
		lines, _ := History(w.o.Place)
		if res, err := Check(t.Context(), w.o, artifact.Expectation{}); err != nil || res.Outcome.Verdict != artifact.VerdictCurrent {
			t.Errorf("%+v %v", res.Outcome, err)
		}
		w.source.put("b", 2)
		res, err = Check(t.Context(), w.o, artifact.Expectation{})
		if err != nil || res.Outcome.Verdict != artifact.VerdictReady || res.Report.Candidate.ID != idOf("b") {
			t.Errorf("%+v %v", res.Outcome, err)
		}
		after, _ := History(w.o.Place)
		if !slices.Equal(before, files(t, w.o.Place.Dir())) || len(lines) != len(after) {
			t.Error("a check changed something")
		}
		// What a run would meet.
		c := cand("b", 2)
		c.Size = 1 << 60
		w.source.offer = &c
		if res, err := Check(t.Context(), w.o, artifact.Expectation{}); err != nil || res.Outcome.Why != artifact.DiskFull {
			t.Errorf("%+v %v", res.Outcome, err)
		}
		w.source.fail(&artifact.Failure{Class: artifact.Denied, What: "401"})
		if res, err := Check(t.Context(), w.o, artifact.Expectation{}); err != nil || res.Outcome.Kind != fault.Denied {
			t.Errorf("%+v %v", res.Outcome, err)
		}
		if _, err := Check(t.Context(), w.o, artifact.Expectation{Form: artifact.ByCommit, Value: "1234567"}); fault.KindOf(err) != fault.Usage {
			t.Errorf("an expectation that cannot be answered: %v", err)
		}
		if w.host.times() != 1 {
			t.Error("a check activated")
		}
	})
}

// A daemon looks each half a minute, and does not count a clock that is set.
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		w.source.looks = nil
		_, end := w.turning(t.Context())
		time.Sleep(10*time.Minute + time.Second)
		if n := w.source.count(); n != 21 {
			t.Errorf("%d looks in ten minutes", n)
		}
		if d := w.source.looks[5].Sub(w.source.looks[4]); d != 30*time.Second {
			t.Errorf("%s between looks", d)
		}
		if res := end(); res.Outcome.Kind != fault.Interrupted || !strings.Contains(res.Outcome.Reason, "looks again") {
			t.Errorf("%+v", res.Outcome)
		}
	})
}

func TestClockIsSet(t *testing.T) {
	for _, jump := range []time.Duration{48 * time.Hour, -48 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.deployed(t.Context())
			w.source.looks = nil
			var by, turns atomic.Int64
			// A clock without a monotonic reading is the worst there can be.
			w.o.Now = func() time.Time { turns.Add(1); return time.Now().Round(0).Add(time.Duration(by.Load())) }
			l, end := w.turning(t.Context())
			time.Sleep(time.Minute)
			by.Store(int64(jump))
			time.Sleep(10 * time.Minute)
			if n := w.source.count(); n > 40 {
				t.Errorf("%s: %d looks", jump, n)
			}
			if n := turns.Load(); n > 2000 {
				t.Errorf("%s: the clock was read %d times: it spins", jump, n)
			}
			w.source.put("b", 2)
			l.box.post(func() { l.ask(artifact.Request{Verb: artifact.Hint, Detached: true}, nil) })
			time.Sleep(5 * time.Minute)
			if w.host.running() != idOf("b") && jump > 0 {
				t.Errorf("%s: it stands still\n%s", jump, w.story())
			}
			end()
		})
	}
}

// A flood of hints costs three looks, and one more each two seconds.
func TestHintFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		l, end := w.turning(t.Context())
		time.Sleep(time.Second)
		before := w.source.count()
		for range 1000 {
			l.box.post(func() { l.ask(artifact.Request{Verb: artifact.Hint, Detached: true}, nil) })
			time.Sleep(10 * time.Millisecond)
		}
		if n := w.source.count() - before; n < 3 || n > 3+5+1 {
			t.Errorf("%d looks for 1000 hints in 10 s", n)
		}
		end()
	})
}

// Nothing is begun when a line cannot be written, and it goes on when it can.
func TestJournalCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		l, end := w.turning(t.Context())
		time.Sleep(time.Second)
		l.box.post(func() { // as a full disk does
			_ = l.journal.Close()
			_ = os.Rename(w.o.Place.Dir(), w.o.Place.Dir()+".away")
			_ = os.WriteFile(w.o.Place.Dir(), nil, 0o600)
		})
		w.source.put("b", 2)
		s := newSub(10, true)
		l.box.post(func() { l.ask(artifact.Request{Verb: artifact.Hint, Wait: time.Minute}, s) })
		time.Sleep(10 * time.Minute)
		if w.host.times() != 1 {
			t.Fatal("it was activated without its intent on disk")
		}
		if a := s.take().answer; a == nil || a.outcome.Kind == fault.OK {
			t.Errorf("who waited was told %+v", a)
		}
		if v := l.latest.Load(); v.Kind == fault.OK || !strings.Contains(v.Held, "nothing more is begun") {
			t.Errorf("status %+v", v)
		}
		if err := errors.Join(os.Remove(w.o.Place.Dir()), os.Rename(w.o.Place.Dir()+".away", w.o.Place.Dir())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if w.host.running() != idOf("b") {
			t.Errorf("it does not go on:\n%s", w.story())
		}
		if n := strings.Count(w.story(), "nothing more is begun"); n > 2 {
			t.Errorf("said %d times", n)
		}
		end()
	})
}

func TestDiskKinds(t *testing.T) {
	for err, want := range map[error]fault.Kind{
		syscall.ENOSPC: fault.Held, syscall.EDQUOT: fault.Held, syscall.EROFS: fault.Denied, os.ErrPermission: fault.Denied, syscall.EIO: fault.Unreachable,
	} {
		if got, _ := diskKind(&os.PathError{Err: err}); got != want {
			t.Errorf("%v is %s", err, got)
		}
	}
}

// A running hook gets its grace, and who asks twice does not wait.
func TestSignals(t *testing.T) {
	for _, tc := range []struct {
		name    string
		takes   time.Duration
		signals int
		within  time.Duration
		next    string
	}{
		{"before the switch", 0, 1, time.Second, "looks again"},
		{"the hook ends", 5 * time.Second, 1, 6 * time.Second, "the next start"},
		{"the hook hangs", time.Hour, 1, 31 * time.Second, "the next start asks"},
		{"a second one", time.Hour, 2, time.Second, "the next start asks"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.deployed(t.Context())
			begun := make(chan bool, 1)
			w.host.activate = func(ctx context.Context, _ artifact.Switch) error {
				begun <- true
				ctx, cancel := context.WithTimeout(ctx, tc.takes)
				defer cancel()
				<-ctx.Done()
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					return context.Cause(ctx)
				}
				return nil
			}
			signals := make(chan fault.Kind)
			w.o.Signals = signals
			if tc.takes > 0 {
				w.source.put("b", 2)
			}
			l, err := open(t.Context(), w.o, daemon)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan Result)
			go func() {
				l.run(t.Context(), nil)
				res, _ := l.finish(l.now())
				done <- res
			}()
			if tc.takes > 0 {
				<-begun
			} else {
				time.Sleep(time.Second)
			}
			at := time.Now()
			for range tc.signals {
				signals <- fault.Terminated
			}
			synctest.Wait()
			res := <-done
			if took := time.Since(at); took > tc.within {
				t.Errorf("%s: %s", tc.name, took)
			}
			if res.Outcome.Kind != fault.Terminated || !strings.Contains(res.Outcome.Reason, tc.next) {
				t.Errorf("%s: %+v", tc.name, res.Outcome)
			}
		})
	}
}

// A bug in a source or target ends the watch, and not with Go's own status.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.source.put("a", 1)
		w.host.activate = func(context.Context, artifact.Switch) error { panic("oh") }
		_, err := w.once(t.Context(), artifact.Request{})
		if fault.KindOf(err) != fault.Bug || !strings.Contains(err.Error(), "oh") {
			t.Errorf("%v", err)
		}
	})
}

func TestNeedsToObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.unknown = true
		w.o.NeedObserve = true
		l, err := open(t.Context(), w.o, daemon)
		if err != nil {
			t.Fatal(err)
		}
		l.run(t.Context(), nil)
		if _, err := l.finish(l.now()); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "no hook for that") {
			t.Errorf("%v", err)
		}
		// A single run goes on and says so.
		w.source.put("a", 1)
		w.o.Config.Blind = true
		res, err := w.once(t.Context(), artifact.Request{})
		if err != nil || w.host.times() != 1 || len(res.Report.Warnings) == 0 {
			t.Errorf("%+v %v", res.Outcome, err)
		}
	})
}

// What one source told means nothing to another: neither its validators, nor
// what it offers, nor its order.
func TestAnotherSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		w.o.Config.Windows = make([]artifact.Hours, 1) // never
		w.o.Config.Windows[0].Zone = time.UTC
		w.source.put("b", 2)
		if res, err := w.once(t.Context(), artifact.Request{}); err != nil || res.Outcome.Why != artifact.Window {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		w.o.Config.Windows = nil
		w.source.queries = nil
		w.source.put("c", 1)
		w.o.From = "shelf:other"
		res, err := w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Why != artifact.FirstStart || w.host.times() != 1 {
			t.Errorf("%+v %v, activated %d", res.Outcome, err, w.host.times())
		}
		if q := w.source.queries[0]; q.Seen != "" || q.Offered != nil {
			t.Errorf("asked with %+v", q)
		}
		w.o.Config.Initial = artifact.DeployFirst
		if res, err := w.once(t.Context(), artifact.Request{}); err != nil || res.Outcome.Verdict != artifact.VerdictLive {
			t.Errorf("%+v %v", res.Outcome, err)
		}
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		reload := make(chan Options)
		w.o.Reload = reload
		l, end := w.turning(t.Context())
		time.Sleep(time.Second)
		other := &shelf{}
		other.put("b", 2)
		o := w.o
		o.Source, o.From, o.Config.Interval, o.Config.Initial = other, "shelf:other", time.Minute, artifact.DeployFirst
		// Somebody waits over it.
		s := newSub(100, true)
		l.box.post(func() {
			l.ask(artifact.Request{Verb: artifact.Hint, Wait: time.Minute, Expect: artifact.Expectation{Form: artifact.ByID, Value: idOf("b").Hex()}}, s)
		})
		time.Sleep(3 * time.Second)
		reload <- o
		time.Sleep(time.Minute)
		if w.host.running() != idOf("b") || other.queries[0].Seen != "" {
			t.Errorf("not taken over, or asked with %q:\n%s", other.queries[0].Seen, w.story())
		}
		if a := s.take().answer; a == nil || a.outcome.Verdict != artifact.VerdictLive {
			t.Errorf("who waited was told %+v", a)
		}
		end()
		if v := journalled(w.o.Place); v.From != "shelf:other" || v.State != artifact.Live {
			t.Errorf("status.json: %+v", v)
		}
	})
}

// measured is a file for what TestADay measures, as a row of the table of
// scripts/bench; "" none.
var measured = flag.String("measured", "", "append what a simulated day measures to this file")

// extent is how much of everything a process has.
type extent struct {
	heap                          int64 // bytes in use
	goroutines, descriptors, kept int   // kept: files of the state
}

func (w *world) extent() extent {
	w.tb.Helper()
	synctest.Wait()
	w.source.mu.Lock()
	w.source.looks, w.source.queries = nil, nil // what the source remembers is none of the watch's
	w.source.mu.Unlock()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return extent{int64(m.HeapAlloc), runtime.NumGoroutine(), fds(), len(files(w.tb, w.o.Place.Dir()))}
}

// report writes the row of a day.
func (from extent) report(t *testing.T, to extent, looks int) {
	t.Helper()
	const slack = 256 << 10 // a buffer here or there
	grown := to.heap - from.heap
	what := fmt.Sprintf("heap %+d KiB, goroutines %+d, descriptors %+d, files %+d", grown>>10, to.goroutines-from.goroutines, to.descriptors-from.descriptors, to.kept-from.kept)
	ok := grown <= slack && to.goroutines <= from.goroutines && to.descriptors <= from.descriptors && to.kept <= from.kept
	t.Log(what)
	if !ok {
		t.Errorf("a day's growth: %s", what)
	}
	if *measured == "" {
		return
	}
	row, err := json.Marshal(map[string]any{
		"name": "watch-day", "what": "growth of a watch over 24 h of simulated time from its eighth hour on, a deployment each hour, with failing versions, a source that fails and floods of hints",
		"target": "none (heap within 256 KiB)", "measured": what, "verdict": map[bool]string{true: "PASS", false: "MISS"}[ok],
		"beside": fmt.Sprintf("%d looks; the heap is %d KiB in the end", looks, to.heap>>10),
		"values": map[string]float64{
			"heap_growth_bytes": float64(grown), "heap_bytes": float64(to.heap), "goroutine_growth": float64(to.goroutines - from.goroutines),
			"descriptor_growth": float64(to.descriptors - from.descriptors), "file_growth": float64(to.kept - from.kept), "looks": float64(looks),
		},
	})
	if err == nil {
		err = os.WriteFile(*measured, append(row, '\n'), 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}

// A day with faults: nothing grows.
func TestADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var eighth extent
		looks := 0
		w := newWorld(t)
		w.o.Events = nil
		w.deployed(t.Context())
		l, end := w.turning(t.Context())
		time.Sleep(time.Hour)
		goroutines, open := runtime.NumGoroutine(), fds()
		trouble := &artifact.Failure{Class: artifact.Transient, What: "502"}
		for hour := range 23 {
			name := "v" + time.Duration(hour).String()
			switch hour % 4 {
			case 1:
				w.source.fail(trouble)
				time.Sleep(20 * time.Minute)
				w.source.fail(nil)
			case 2:
				w.host.mu.Lock()
				w.host.bad[idOf(name)] = true
				w.host.mu.Unlock()
			case 3:
				for range 50 {
					l.box.post(func() { l.ask(artifact.Request{Verb: artifact.Hint, Wait: time.Second}, newSub(1, true)) })
				}
			}
			w.source.put(name, int64(hour+2))
			time.Sleep(time.Hour)
			if hour == 6 { // all that has a limit has reached it
				looks += w.source.count()
				eighth = w.extent()
			}
		}
		l.box.post(func() {
			if len(l.running)+len(l.waiting) > 0 || len(l.hub.kept) > keptEvents {
				t.Errorf("%d effects, %d waiters are left", len(l.running), len(l.waiting))
			}
		})
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines, %d after an hour", n, goroutines)
		}
		if n := fds(); n > open {
			t.Errorf("%d descriptors, %d after an hour", n, open)
		}
		if all := files(t, w.o.Place.Dir()); len(all) > 6+w.o.Config.Keep+2 {
			t.Errorf("files: %v", all)
		}
		looks += w.source.count()
		last := w.extent()
		eighth.report(t, last, looks)
		if got := w.host.running(); got != idOf("v20ns") && got != idOf("v21ns") && got != idOf("v22ns") {
			t.Errorf("%s runs", got)
		}
		end()
	})
}

func fds() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// The journal turns over, and what it knew is known.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		l, end := w.turning(t.Context())
		reason := strings.Repeat("x", 60<<10)
		for range 60 {
			l.box.post(func() { l.ask(artifact.Request{Verb: artifact.PauseVerb, Reason: reason, Detached: true}, nil) })
		}
		l.box.post(func() { l.ask(artifact.Request{Verb: artifact.ResumeVerb, Detached: true}, nil) })
		time.Sleep(time.Minute)
		end()
		total := int64(0)
		for _, f := range []string{"journal.jsonl", "journal.1.jsonl"} {
			info, err := os.Stat(filepath.Join(w.o.Place.Dir(), f))
			if err != nil {
				t.Fatal(err)
			}
			total += info.Size()
		}
		if total > 3<<20 {
			t.Errorf("%d bytes of journal", total)
		}
		m, _, err := journal.Read(w.o.Place.Dir())
		if err != nil || m.Pause != nil || m.Running == nil || m.Running.ID != idOf("a") {
			t.Errorf("%+v %v", m, err)
		}
	})
}

// seeing is a target that notices changes by itself.
type seeing struct {
	*host
	changed chan artifact.Observation
}

func (s *seeing) Watch(ctx context.Context, saw func(artifact.Observation)) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case o := <-s.changed:
			saw(o)
		}
	}
}

func TestTargetThatSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		target := &seeing{w.host, make(chan artifact.Observation)}
		w.o.Target = target
		l, end := w.turning(t.Context())
		time.Sleep(10 * time.Second)
		target.changed <- artifact.Observation{Sight: artifact.Runs, ID: idOf("x")}
		synctest.Wait()
		if v := l.latest.Load(); !slices.Contains(v.States, "drifted") || v.Kind != fault.Held {
			t.Errorf("%+v", v)
		}
		end()
	})
}

// What the target is in the middle of is not cut off by a disk that fills up.
func TestJournalBreaksInMidSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		l, end := w.turning(t.Context())
		time.Sleep(time.Second)
		var cut atomic.Bool
		w.host.activate = func(ctx context.Context, _ artifact.Switch) error {
			l.box.post(func() {
				_ = l.journal.Close()
				_ = os.Rename(w.o.Place.Dir(), w.o.Place.Dir()+".away")
				_ = os.WriteFile(w.o.Place.Dir(), nil, 0o600)
				l.ask(artifact.Request{Verb: artifact.PauseVerb, Detached: true}, nil) // a line
			})
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			<-late.Done()
			cut.Store(ctx.Err() != nil)
			return nil
		}
		w.source.put("b", 2)
		time.Sleep(2 * time.Minute)
		if cut.Load() || w.host.running() != idOf("b") || journalled(w.o.Place).State == artifact.Live {
			t.Errorf("cut off: %t, %s runs", cut.Load(), w.host.running())
		}
		if err := errors.Join(os.Remove(w.o.Place.Dir()), os.Rename(w.o.Place.Dir()+".away", w.o.Place.Dir())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if v := l.latest.Load(); v.State != artifact.Live || v.Running.ID != idOf("b") || w.host.times() != 2 {
			t.Errorf("%+v, %d activations\n%s", v, w.host.times(), w.story())
		}
		end()
	})
}
