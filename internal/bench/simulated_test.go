package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/woodsim"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

// The bench gives these flags; without them the tests are short, and a missed
// target is a failed test.
var (
	rowsFile = flag.String("rows", "", "append a row per line to this file")
	long     = flag.Bool("long", false, "as many runs as the bench's table needs")
	seed     = flag.Uint64("seed", 1, "decides durations and faults")
)

// tell writes a row down and fails the test if it misses its target.
func tell(t *testing.T, r row) {
	t.Helper()
	write(t, r)
	if r.Verdict == miss {
		t.Errorf("%s: %s, target %s", r.Name, r.Measured, r.Target)
	}
}

// write writes a row down for the table.
func write(t *testing.T, r row) {
	t.Helper()
	t.Logf("%s: %s (%s) %s %s", r.Name, r.Measured, r.Target, r.Verdict, r.Beside)
	if *rowsFile == "" {
		return
	}
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(*rowsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
}

// bearer sends the token, as the binary's transport does.
type bearer struct{ next http.RoundTripper }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return b.next.RoundTrip(r)
}

// lab is a server, a repository and a client in one bubble.
type lab struct {
	ci     *woodsim.Server
	repo   *woodsim.Repo
	client *woodpecker.Client
}

const labRepo = "bench/app"

func newLab(version string, between func(http.RoundTripper) http.RoundTripper) *lab {
	l := &lab{ci: woodsim.New(woodsim.Options{Version: version, Seed: *seed})}
	l.ci.AddUser(woodsim.User{Login: "ada", Token: token})
	l.repo = l.ci.AddRepo(woodsim.RepoOptions{FullName: labRepo, Visibility: "private"})
	l.repo.Allow("ada", woodsim.Perm{Pull: true, Push: true})
	rt := l.ci.Client()
	if between != nil {
		rt = between(rt)
	}
	l.client = woodpecker.New(woodpecker.Options{Base: &url.URL{Scheme: "https", Host: "ci.example.lan"}, Transport: bearer{rt}})
	return l
}

// watch does all that "ci watch SHA --repo NAME" asks of the server.
func (l *lab) watch(ctx context.Context, sha string) (pipeline.Outcome, error) {
	at, err := pipeline.Locate(ctx, l.client, []pipeline.Candidate{{Origin: "--repo", Name: labRepo}}, false)
	if err != nil {
		return pipeline.Outcome{}, err
	}
	return pipeline.Await(ctx, l.client, pipeline.Target{Repo: at.Repo, Commit: sha},
		pipeline.Limits{Appear: 90 * time.Second, LogLines: 30}, func(pipeline.Update) {})
}

// green watches a new pipeline and returns how late its end was noticed.
func (l *lab) green(t *testing.T, plan woodsim.Plan, name string) time.Duration {
	t.Helper()
	p := l.repo.Push(woodsim.Commit{SHA: woodsim.SHA(name)}, plan)
	out, err := l.watch(t.Context(), p.Commit())
	if err != nil || out.Verdict != pipeline.Success {
		t.Fatalf("%s: %s: %s %v", name, out.Verdict, out.Reason, err)
	}
	end, ok := ended(p)
	if !ok {
		t.Fatalf("%s: green before its end", name)
	}
	return time.Since(end)
}

// earlier lets pipelines run to their end before the watched one.
func (l *lab) earlier(plans ...woodsim.Plan) {
	for i, p := range plans {
		l.repo.Push(woodsim.Commit{SHA: woodsim.SHA(fmt.Sprint("earlier", i))}, p)
		for _, w := range p.Workflows {
			for _, s := range w.Steps {
				time.Sleep(s.Takes)
			}
		}
		time.Sleep(5 * time.Second)
	}
	l.ci.ForgetRequests()
}

const quiet = 10 * time.Minute

// A quiet green pipeline of ten minutes that is there at the start.
func TestSimulatedRequests(t *testing.T) {
	known := []woodsim.Plan{four(9 * time.Minute), four(11 * time.Minute), four(10 * time.Minute)}
	for _, c := range []struct {
		name, how, version, target string
		most                       int
		before                     []woodsim.Plan
		plan                       woodsim.Plan
	}{
		{"requests-stream", "by event stream (server 3.17)", "3.17.0", "<= 12", 12, known, four(quiet)},
		{"requests-poll", "by polling (server 3.13)", "3.13.0", "<= 120 (1 per 5 s)", 120, known, four(quiet)},
		{
			"requests-poll-new", "by polling (server 3.13), one step and no earlier run", "3.13.0", "<= 120 (1 per 5 s)", 120,
			nil, woodsim.Running(quiet),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(c.version, nil)
				l.earlier(c.before...)
				lag := l.green(t, c.plan, "quiet")
				n := len(l.ci.Requests())
				naive := int(quiet/naivePause) + 1
				tell(t, row{
					Name: c.name, What: "requests of a watch of a quiet green 10-minute pipeline that exists at the start, " + c.how + ", simulated time",
					Target: c.target, Measured: fmt.Sprintf("%d", n), Verdict: judged(n <= c.most),
					Values: map[string]float64{"requests": float64(n), "lag": lag.Seconds()},
					Beside: fmt.Sprintf("poll every 5 s: %d, %s as many; this run's lag %.2f s", naive, times(float64(n), float64(naive)), lag.Seconds()),
				})
			})
		})
	}
}

// Pipelines of many lengths, by polling: too many hours for a real run. Only the
// table holds the result against the target, since it is a matter of degree; no
// end at all may be overlooked for half a minute.
func TestSimulatedLag(t *testing.T) {
	n := 40
	if *long {
		n = 300
	}
	dice := rand.New(rand.NewPCG(*seed, 8))
	var lags, naive sample
	for i := range n {
		usual := between(dice, 90*time.Second, 15*time.Minute)
		near := func() time.Duration { return between(dice, usual*85/100, usual*115/100) }
		synctest.Test(t, func(t *testing.T) {
			l := newLab("3.13.0", nil)
			l.earlier(four(near()), four(near()), four(near()), four(near()), four(near()))
			time.Sleep(between(dice, 0, time.Second))
			lags.add(l.green(t, four(near()), fmt.Sprint("lag", i)))
			naive.add(between(dice, 0, naivePause))
		})
	}
	if worst := lags.at(100); worst > 30 {
		t.Errorf("an end was noticed only after %.1f s", worst)
	}
	v := map[string]float64{"max": lags.at(100)}
	lags.values("", v)
	naive.values("naive_", v)
	write(t, row{
		Name: "lag-poll-long", What: "server writes the end -> verdict, by polling (server 3.13), four steps, 1.5 to 15 min and within 15 % of the usual, simulated time",
		Target: "p95 <= 2.5 s", Measured: lags.String(), Verdict: judged(lags.p95() <= 2.5), Values: v,
		Beside: fmt.Sprintf("poll every 5 s, at random: p50 %s  p95 %s", seconds(naive.p50()), seconds(naive.p95())),
	})
}

// A watch of a day, a third of its answers broken and its streams cut, may not
// grow after the first hour.
func TestSimulatedDay(t *testing.T) {
	for _, c := range []struct{ name, how, version string }{
		{"day-stream", "event stream, cut every half hour (server 3.17)", "3.17.0"},
		{"day-poll", "polling (server 3.13)", "3.13.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			hours := 6
			if *long {
				hours = 24
			}
			synctest.Test(t, func(t *testing.T) { day(t, c.name, c.how, c.version, hours) })
		})
	}
}

func day(t *testing.T, name, how, version string, hours int) {
	var lb *faultlb.Balancer
	l := newLab(version, func(next http.RoundTripper) http.RoundTripper {
		lb = faultlb.Transport(next, faultlb.Options{Seed: *seed, Rate: 1. / 3, MaxConsecutive: 2})
		return lb
	})
	plan := four(time.Duration(hours)*time.Hour + 30*time.Minute)
	var heap, routines []float64
	var asked int
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		for h := 1; h <= hours; h++ {
			for range 2 {
				if !sleepFor(ctx, 30*time.Minute) {
					return
				}
				l.ci.DropStreams()
			}
			asked += len(l.ci.Requests())
			l.ci.ForgetRequests() // what the simulator remembers is none of the watch's
			synctest.Wait()
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap, routines = append(heap, float64(m.HeapAlloc)), append(routines, float64(runtime.NumGoroutine()))
		}
	})
	lag := l.green(t, plan, name)
	stop()
	wait.Wait()
	if len(heap) != hours {
		t.Fatalf("%d hours of %d were measured", len(heap), hours)
	}
	grown, more := heap[hours-1]-heap[0], routines[hours-1]-routines[0]
	const slack = 128 << 10 // a buffer here or there
	tell(t, row{
		Name: name, What: fmt.Sprintf("growth of a watch of %d h after its first hour, a third of all answers broken, %s, simulated time", hours, how),
		Target: "none (heap within 128 KiB)", Measured: fmt.Sprintf("heap %+.0f KiB, goroutines %+.0f", grown/1024, more),
		Verdict: judged(grown <= slack && more <= 0),
		Values: map[string]float64{
			"heap_growth_bytes": grown, "heap_after_first_hour_bytes": heap[0], "goroutine_growth": more,
			"goroutines": routines[0], "requests": float64(asked), "lag": lag.Seconds(), "broken": float64(lb.Stats().Injected()),
		},
		Beside: fmt.Sprintf("%d requests, %d answers broken, right in the end", asked, lb.Stats().Injected()),
	})
}

func sleepFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func TestTable(t *testing.T) {
	s := sample{0.5, 0.1, 0.2, 0.4, 0.3}
	if s.p50() != 0.3 || s.p95() != 0.5 || s.at(0) != 0.1 || (sample{}).p50() != 0 {
		t.Errorf("percentiles of %v: %v %v", []float64(s), s.p50(), s.p95())
	}
	out := table([]row{{Name: "a", What: "what", Target: "<= 1", Measured: "p50 2 s", Verdict: judged(false), Beside: "b"}})
	for _, want := range []string{"row", "a    <= 1", "MISS", "  what\n", "beside it: b\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}
