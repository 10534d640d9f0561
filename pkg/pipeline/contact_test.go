package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/woodsim"
	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

var commitA = woodsim.Commit{Message: "a"}

func shaA() string { return woodsim.SHA("a") }

// A prefix that fits several commits is no target.
func TestAmbiguousPrefix(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		l.repo.Push(woodsim.Commit{SHA: "41bdff3a" + strings.Repeat("0", 32)}, woodsim.Green(second))
		for range 30 {
			l.repo.Cron("nightly", commitA, woodsim.Green(second))
		}
		l.repo.Push(woodsim.Commit{SHA: "41bdff3b" + strings.Repeat("0", 32)}, woodsim.Green(second))
		target := l.target("41bdff3")
		target.Prefix, target.Local = true, nil
		_, err := pipeline.Await(t.Context(), l.client, target, limits(), func(pipeline.Update) {})
		var ambiguous *pipeline.AmbiguousError
		if !errors.As(err, &ambiguous) || len(ambiguous.Commits) != 2 {
			t.Errorf("%v", err)
		}
	})
}

// A prefix that fits one commit becomes that commit, so that a restart that
// superseded its own run is known to contain it.
func TestPrefixBecomesCommit(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		l.repo.Push(commitA, woodsim.Running(time.Hour))
		plan := woodsim.Green(5 * second)
		l.at(5*second, func() { l.repo.Restart(1, &plan) })
		target := l.target(shaA()[:8])
		target.Prefix, target.Local = true, nil
		out := l.await(within(t, time.Hour), target, limits())
		l.check(out, 0, want{verdict: pipeline.Success, reason: "passed", row: 2, followed: 1})
		if out.Target.Commit != shaA() || out.Target.Prefix {
			t.Errorf("target %q, prefix %t", out.Target.Commit, out.Target.Prefix)
		}
	})
}

// A token that is refused in mid-watch is renewed once; the same one ends the
// watch.
func TestRenew(t *testing.T) {
	private := options{version: "3.13.0", repo: woodsim.RepoOptions{Visibility: "private"}}
	for name, tt := range map[string]struct {
		fresh bool
		err   error
		want  want
	}{
		"a new token": {fresh: true, want: want{verdict: pipeline.Success, reason: "passed", row: 1, to: 75 * second}},
		"the same":    {want: want{verdict: pipeline.Denied, reason: "the token is missing, expired or not accepted", advice: pipeline.SeeDoctor, row: 1, to: 45 * second}},
		"the source refuses": {
			err:  fault.New(fault.Denied, "the Vault token has expired", "vault login"),
			want: want{verdict: pipeline.Denied, reason: "the Vault token has expired", advice: pipeline.SeeDoctor, row: 1, to: 45 * second},
		},
		"the source is out of reach": {
			err:  errors.New("vault: connection refused"),
			want: want{verdict: pipeline.Unreachable, reason: "vault: connection refused", advice: pipeline.Resume, row: 1, to: 45 * second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, private, func(t *testing.T, l *lab) {
				l.repo.Push(commitA, woodsim.Green(60*second))
				l.at(10*second, func() { l.SetToken("ada", "t-new") })
				o, asked := limits(), 0
				o.Renew = func(context.Context) (bool, error) {
					asked++
					if tt.fresh {
						l.mu.Lock()
						l.token = "t-new"
						l.mu.Unlock()
					}
					return tt.fresh, tt.err
				}
				start := time.Now()
				out := l.await(within(t, time.Hour), l.target(shaA()), o)
				l.check(out, time.Since(start), tt.want)
				if asked != 1 {
					t.Errorf("renewed %d times", asked)
				}
			})
		})
	}
}

// The deadline and signals end a watch at once, also in mid-request and in
// mid-log, and are never told as something else.
func TestEndOfPatience(t *testing.T) {
	sig := &fault.Signal{Signal: syscall.SIGTERM}
	tests := []struct {
		name  string
		o     options
		setup func(l *lab)
		at    time.Duration
		cause error
		want  want
	}{
		{
			"time is up while it runs",
			options{},
			func(l *lab) { l.repo.Push(commitA, woodsim.Running(time.Hour)) },
			10 * time.Minute, fault.ErrTimeUp,
			want{verdict: pipeline.Timeout, reason: "the time was up: still running after 10m", advice: pipeline.Resume, row: 1},
		},
		{
			"time is up and nothing has appeared",
			options{},
			func(*lab) {}, 30 * second, fault.ErrTimeUp,
			want{verdict: pipeline.Timeout, reason: "no pipeline has appeared yet", advice: pipeline.Resume},
		},
		{
			"time is up in a request that hangs",
			options{version: "3.13.0"},
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Running(time.Hour))
				l.at(20*second, func() { l.lb.During(time.Hour, faultlb.Hang) })
			},
			30 * second, fault.ErrTimeUp,
			want{verdict: pipeline.Timeout, reason: "still running", advice: pipeline.Resume, row: 1},
		},
		{
			"time is up after a minute of failure",
			options{version: "3.13.0"},
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Running(time.Hour))
				l.at(20*second, func() { l.lb.During(time.Hour, faultlb.Empty502) })
			},
			80 * second, fault.ErrTimeUp,
			want{verdict: pipeline.Unreachable, reason: "time is up and the server did not answer: the server answered 502 (Bad Gateway); #1 was running", advice: pipeline.Resume, row: 1},
		},
		{
			"time is up after twenty seconds of failure",
			options{version: "3.13.0"},
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Running(time.Hour))
				l.at(60*second, func() { l.lb.During(time.Hour, faultlb.Empty502) })
			},
			80 * second, fault.ErrTimeUp,
			want{verdict: pipeline.Timeout, reason: "still running", advice: pipeline.Resume, row: 1},
		},
		{
			"a signal while it runs",
			options{},
			func(l *lab) { l.repo.Push(commitA, woodsim.Running(time.Hour)) },
			time.Minute, sig,
			want{verdict: pipeline.Interrupted, reason: "interrupted; #1 was running", advice: pipeline.Resume, row: 1},
		},
		{
			"a signal while nothing has appeared",
			options{},
			func(*lab) {}, 10 * second, sig,
			want{verdict: pipeline.Interrupted, reason: "interrupted; no pipeline has been seen", advice: pipeline.Resume},
		},
		{
			"a signal in a request that hangs",
			options{version: "3.13.0"},
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Running(time.Hour))
				l.at(20*second, func() { l.lb.During(time.Hour, faultlb.Hang) })
			},
			2 * time.Minute, sig,
			want{verdict: pipeline.Interrupted, reason: "interrupted; #1 was running", advice: pipeline.Resume, row: 1},
		},
		{
			"a signal in a wait between tries",
			options{version: "3.13.0"},
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Running(time.Hour))
				l.at(20*second, func() { l.lb.During(time.Hour, faultlb.Refuse) })
			},
			50 * second, sig,
			want{verdict: pipeline.Interrupted, reason: "interrupted; #1 was running", advice: pipeline.Resume, row: 1},
		},
		{
			"a signal while the successor is looked for",
			options{},
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Red("unit", 3))
				l.at(1500*time.Millisecond, func() { l.lb.NextMatch(1000, faultlb.Hang, faultlb.Match("GET", "/pipelines")) })
			},
			20 * second, sig,
			want{verdict: pipeline.Interrupted, reason: "interrupted; #1 was", advice: pipeline.Resume, row: 1},
		},
		{
			"the caller gives up",
			options{},
			func(l *lab) { l.repo.Push(commitA, woodsim.Running(time.Hour)) },
			time.Minute, context.Canceled,
			want{verdict: pipeline.Interrupted, reason: "given up; #1 was running", advice: pipeline.Resume, row: 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.o, func(t *testing.T, l *lab) {
				target := l.target(shaA())
				tt.setup(l)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if errors.Is(tt.cause, fault.ErrTimeUp) {
					var done context.CancelFunc
					ctx, done = context.WithTimeoutCause(ctx, tt.at, tt.cause)
					defer done()
				} else {
					l.at(tt.at, func() { cancel(tt.cause) })
				}
				tt.want.from, tt.want.to = tt.at, tt.at+second
				start := time.Now()
				out := l.await(ctx, target, limits())
				l.check(out, time.Since(start), tt.want)
				if !errors.Is(out.Err, tt.cause) {
					t.Errorf("the cause is lost: %v", out.Err)
				}
			})
		})
	}
}

// A red verdict that is known stays, also when the time is up while its logs
// are read.
func TestInterruptedTails(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		target := l.target(shaA())
		l.repo.Push(commitA, woodsim.Red("unit", 3))
		l.lb.NextMatch(1000, faultlb.Hang, faultlb.Match("GET", "/logs/"))
		start := time.Now()
		out := l.await(within(t, 5*second), target, limits())
		l.check(out, time.Since(start), want{verdict: pipeline.Failure, reason: "step unit", advice: pipeline.SeeLogs, row: 1, from: 5 * second, to: 5 * second})
		if len(out.Failed) != 1 || out.Failed[0].LogNote == "" {
			t.Errorf("%+v", out.Failed)
		}
	})
}

// A signal while the logs of a known end are read: the code is the signal's,
// and what is known is told.
func TestSignalledTails(t *testing.T) {
	for _, cause := range []error{&fault.Signal{Signal: syscall.SIGINT}, &fault.Signal{Signal: syscall.SIGTERM}, context.Canceled} {
		bubble(t, options{}, func(t *testing.T, l *lab) {
			target := l.target(shaA())
			l.repo.Push(commitA, woodsim.Red("unit", 3))
			l.lb.NextMatch(1000, faultlb.Hang, faultlb.Match("GET", "/logs/"))
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			l.at(5*second, func() { cancel(cause) })
			start := time.Now()
			out := l.await(ctx, target, limits())
			l.check(out, time.Since(start), want{
				verdict: pipeline.Interrupted, reason: "interrupted while reading logs; #1 failed: step unit of workflow",
				advice: pipeline.Resume, row: 1, from: 5 * second, to: 5 * second,
			})
			if len(out.Failed) != 1 || !errors.Is(out.Err, cause) {
				t.Errorf("%+v, %v", out.Failed, out.Err)
			}
		})
	}
}

// How long failure is borne, and what it is called then.
func TestBudgets(t *testing.T) {
	tests := []struct {
		name  string
		setup func(l *lab)
		want  want
	}{
		{
			"never an answer to the list",
			func(l *lab) { l.lb.NextMatch(10000, faultlb.Refuse, faultlb.Match("GET", "/pipelines")) },
			want{verdict: pipeline.Unreachable, reason: "connection refused; no pipeline has been seen", advice: pipeline.SeeDoctor, from: 19 * second, to: 30 * second},
		},
		{
			"listed, never read",
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Running(time.Hour))
				l.lb.NextMatch(10000, faultlb.HTML, faultlb.Match("GET", "/pipelines/"))
			},
			want{verdict: pipeline.Unreachable, reason: "a proxy answers; #1 was running", advice: pipeline.Resume, row: 1, from: 19 * second, to: 30 * second},
		},
		{
			"lost in mid-watch for four minutes",
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Green(60*second))
				l.at(20*second, func() { l.lb.During(4*time.Minute, faultlb.Refuse) })
			},
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 4 * time.Minute, to: 270 * second},
		},
		{
			"lost in mid-watch for good",
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Running(time.Hour))
				l.at(20*second, func() { l.lb.During(time.Hour, faultlb.Refuse) })
			},
			want{verdict: pipeline.Unreachable, reason: "connection refused; #1 was running 5m", advice: pipeline.Resume, row: 1, from: 5 * time.Minute, to: 335 * second},
		},
		{
			"lost when it was killed: what took over is not known",
			func(l *lab) {
				p := l.repo.Push(commitA, woodsim.Running(time.Hour))
				l.at(10*second, func() { p.Supersede(2) })
				l.at(10*second, func() { l.repo.Push(woodsim.Commit{Message: "b"}, woodsim.Running(time.Hour)) })
				l.at(9*second, func() {
					l.lb.NextMatch(10000, faultlb.Refuse, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/pipelines") })
				})
			},
			want{verdict: pipeline.Unreachable, reason: "connection refused; #1 was killed", advice: pipeline.Resume, row: 1, from: 5 * time.Minute, to: 340 * second},
		},
		{
			"red, and the list cannot be had",
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Red("unit", 3))
				l.at(1500*time.Millisecond, func() {
					l.lb.NextMatch(10000, faultlb.Refuse, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/pipelines") })
				})
			},
			want{verdict: pipeline.Failure, reason: "step unit", advice: pipeline.SeeLogs, row: 1, from: 20 * second, to: 40 * second},
		},
		{
			"the permission is taken away",
			func(l *lab) {
				l.repo.Push(commitA, woodsim.Running(time.Hour))
				l.at(20*second, func() { l.repo.Allow("ada", woodsim.Perm{Never: true}) })
			},
			want{verdict: pipeline.Denied, reason: "may not see it in ada/app", advice: pipeline.SeeDoctor, row: 1, from: 35 * second, to: 60 * second},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, options{version: "3.13.0", repo: woodsim.RepoOptions{Visibility: "private"}}, func(t *testing.T, l *lab) {
				target := l.target(shaA())
				tt.setup(l)
				start := time.Now()
				out := l.await(within(t, time.Hour), target, limits())
				l.check(out, time.Since(start), tt.want)
			})
		})
	}
}

// What the stream is worth: few requests while it is healthy, and no verdict
// missed when it is not.
func TestStream(t *testing.T) {
	long := func(d time.Duration) woodsim.Plan {
		var p woodsim.Plan
		for i := range 4 {
			p.Workflows = append(p.Workflows, woodsim.Workflow{Name: fmt.Sprint("w", i), Start: time.Duration(i) * second, Steps: []woodsim.Step{
				{Name: "one", Takes: d / 3}, {Name: "two", Takes: d / 3}, {Name: "three", Takes: d - 2*(d/3) - time.Duration(i)*second},
			}})
		}
		return p
	}
	tests := []struct {
		name  string
		o     options
		setup func(l *lab)
		want  want
	}{
		{
			"ten quiet minutes",
			options{},
			func(l *lab) { l.repo.Push(commitA, long(10*time.Minute)) },
			want{verdict: pipeline.Success, reason: "passed in 10m", row: 1, from: 10 * time.Minute, to: 10*time.Minute + 300*time.Millisecond, requests: 12},
		},
		{
			"ten quiet minutes of a private repository",
			options{repo: woodsim.RepoOptions{Visibility: "private"}},
			func(l *lab) { l.repo.Push(commitA, long(10*time.Minute)) },
			want{verdict: pipeline.Success, reason: "passed in 10m", row: 1, from: 10 * time.Minute, to: 10*time.Minute + 300*time.Millisecond, requests: 12},
		},
		{
			"ten minutes by polling",
			options{version: "3.13.0"},
			func(l *lab) { l.repo.Push(commitA, long(10*time.Minute)) },
			want{verdict: pipeline.Success, reason: "passed in 10m", row: 1, from: 10 * time.Minute, to: 10*time.Minute + 11*second, requests: 120},
		},
		{
			"a slow subscription and an end between ping and subscription",
			options{sim: woodsim.Options{SubscribeDelay: 1500 * time.Millisecond}},
			func(l *lab) { l.repo.Push(commitA, woodsim.Green(second)) },
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: second, to: 2200 * time.Millisecond},
		},
		{
			"all events are lost",
			options{},
			func(l *lab) {
				l.SetStreamFaults(woodsim.StreamFaults{Lose: -1})
				l.repo.Push(commitA, long(400*second))
			},
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 400 * second, to: 485 * second, told: "detail event stream: it did not tell what a reading showed; polling, again in 5s"},
		},
		{
			"events overtake each other",
			options{sim: woodsim.Options{Seed: 3}},
			func(l *lab) {
				l.SetStreamFaults(woodsim.StreamFaults{Reorder: 3 * second})
				l.repo.Push(commitA, long(400*second))
			},
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 400 * second, to: 404 * second},
		},
		{
			"events are too long",
			options{},
			func(l *lab) {
				l.SetStreamFaults(woodsim.StreamFaults{Pad: 5 << 20})
				l.repo.Push(commitA, woodsim.Green(40*second))
			},
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 40 * second, to: 41 * second},
		},
		{
			"dropped again and again",
			options{},
			func(l *lab) {
				l.repo.Push(commitA, long(600*second))
				for i := range 20 {
					l.at(time.Duration(10+20*i)*second, l.DropStreams)
				}
			},
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 600 * second, to: 611 * second, told: "polling from now on"},
		},
		{
			"silent without closing",
			options{},
			func(l *lab) {
				l.repo.Push(commitA, long(100*second))
				l.at(20*second, func() { l.StallStreams(time.Hour) })
			},
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 100 * second, to: 107 * second, told: "polling, again in 5s"},
		},
		{
			"held back by a proxy",
			options{lb: faultlb.Options{Rate: 1, MaxConsecutive: 100, Kinds: []faultlb.Kind{faultlb.BufferBody}}},
			func(l *lab) { l.repo.Push(commitA, long(100*second)) },
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 100 * second, to: 107 * second},
		},
		{
			"a web page instead",
			options{lb: faultlb.Options{Rate: 1, MaxConsecutive: 100, Kinds: []faultlb.Kind{faultlb.HTML}, Match: faultlb.Match("GET", "/stream/")}},
			func(l *lab) { l.repo.Push(commitA, long(100*second)) },
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 100 * second, to: 107 * second, told: "text/html instead of an event stream"},
		},
		{
			"no permission is stored",
			options{repo: woodsim.RepoOptions{Visibility: "internal"}, perm: woodsim.Perm{Pull: true, Never: true}},
			func(l *lab) { l.repo.Push(commitA, long(100*second)) },
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 100 * second, to: 107 * second, told: "no permission of this user is stored"},
		},
		{
			"release candidate: no stream",
			options{version: "3.14.0-rc.1"},
			func(l *lab) { l.repo.Push(commitA, woodsim.Green(10*second)) },
			want{verdict: pipeline.Success, reason: "passed", row: 1, from: 10 * second, to: 13 * second},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.o, func(t *testing.T, l *lab) {
				target := l.target(shaA())
				tt.setup(l)
				start := time.Now()
				out := l.await(within(t, time.Hour), target, limits())
				l.check(out, time.Since(start), tt.want)
				if n := l.Count("GET", "/stream/"); tt.o.version != "" && n > 0 {
					t.Errorf("%d streams opened on %s", n, tt.o.version)
				}
				if l.trouble > 0 && tt.o.lb.Match != nil {
					t.Error("the stream's trouble was told as the server's")
				}
			})
		})
	}
}

// A stream that is lost is opened again after 5, 20 and 60 s, and no more.
func TestReconnect(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		target := l.target(shaA())
		l.repo.Push(commitA, woodsim.Running(20*time.Minute))
		l.lb.NextMatch(100, faultlb.Empty502, faultlb.Match("GET", "/stream/"))
		var opened []time.Duration
		start := time.Now()
		l.lb.NextMatch(0, faultlb.None, nil)
		out := l.await(within(t, time.Hour), target, limits())
		l.check(out, time.Since(start), want{verdict: pipeline.Success, reason: "passed", row: 1})
		for line := range strings.SplitSeq(l.told(), "\n") {
			if strings.HasPrefix(line, "detail event stream") {
				opened = append(opened, 0)
			}
		}
		if n := l.lb.Stats().Faults[faultlb.Empty502]; n != 4 || len(opened) != 4 {
			t.Errorf("%d connections, %d told", n, len(opened))
		}
	})
}

// Logs that are late, unordered, long or unreadable cost little and lose
// nothing.
func TestTails(t *testing.T) {
	exact := func(n int, d time.Duration) woodsim.Log {
		var lines []woodsim.Line
		for i := range n {
			lines = append(lines, woodsim.Line{At: second, Delay: time.Duration(n-i) * d, Data: fmt.Sprint("line ", i)})
		}
		return woodsim.Log{Exact: lines, Shuffled: true}
	}
	red := func(log woodsim.Log) woodsim.Plan {
		return woodsim.Plan{Workflows: []woodsim.Workflow{{Name: "test", Steps: []woodsim.Step{{Name: "unit", Takes: second, Exit: 3, Log: log}}}}}
	}
	tests := []struct {
		name  string
		plan  woodsim.Plan
		setup func(l *lab)
		tail  string
		note  string
		extra time.Duration // at most, on top of the step's second
	}{
		{"on time", red(woodsim.Log{Lines: []string{"a", "b"}}), nil, "a b", "", 900 * time.Millisecond},
		{"late", red(woodsim.Log{Lines: []string{"a", "b"}, Delay: 1200 * time.Millisecond}), nil, "a b", "", 2500 * time.Millisecond},
		{"dribbling in backwards", red(exact(5, 300*time.Millisecond)), nil, "line 0 line 1 line 2 line 3 line 4", "", 3 * second},
		{"none", red(woodsim.Log{}), nil, "", "no output", 2500 * time.Millisecond},
		{"late and after silence", red(woodsim.Log{Exact: []woodsim.Line{{At: second, Delay: 900 * time.Millisecond, Data: "a"}}}), nil, "a", "", 2500 * time.Millisecond},
		{"five minutes late", red(woodsim.Log{Lines: []string{"a"}, Delay: 5 * time.Minute}), nil, "", "no output", 5 * second},
		{"unreadable", red(woodsim.Log{Lines: []string{"a"}}), func(l *lab) { l.TroubleFor(time.Hour, woodsim.Trouble{Logs: true}) }, "", "the log could not be read: the server answered 500 (Internal Server Error)", 6 * second},
		{"a step out of sight", red(woodsim.Log{Lines: []string{"a"}}), func(l *lab) { l.TroubleFor(time.Hour, woodsim.Trouble{Step: true}) }, "", "the log could not be read: the server answered 404 (Not Found)", 6 * second},
		{"cut off once", red(woodsim.Log{Lines: []string{"a", "b"}}), func(l *lab) { l.lb.NextMatch(1, faultlb.Cut, faultlb.Match("GET", "/logs/")) }, "a b", "", 2 * second},
		{"hanging", red(woodsim.Log{Lines: []string{"a"}}), func(l *lab) { l.lb.NextMatch(100, faultlb.Hang, faultlb.Match("GET", "/logs/")) }, "", "the log could not be read in 5s", 6 * second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, options{}, func(t *testing.T, l *lab) {
				target := l.target(shaA())
				l.repo.Push(commitA, tt.plan)
				if tt.setup != nil {
					tt.setup(l)
				}
				start := time.Now()
				out := l.await(within(t, time.Hour), target, limits())
				l.check(out, time.Since(start), want{verdict: pipeline.Failure, reason: "step unit", advice: pipeline.SeeLogs, row: 1, from: second, to: second + tt.extra})
				if len(out.Failed) != 1 || strings.Join(out.Failed[0].LogTail, " ") != tt.tail || out.Failed[0].LogNote != tt.note {
					t.Errorf("%+v", out.Failed)
				}
			})
		})
	}
}

// Ten failing steps are read side by side.
func TestManyTails(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		target := l.target(shaA())
		var p woodsim.Plan
		for i := range 12 {
			p.Workflows = append(p.Workflows, woodsim.Workflow{Name: fmt.Sprint("w", i), Steps: []woodsim.Step{{Name: "unit", Takes: second, Exit: 1, Log: woodsim.Log{Lines: []string{"boom"}}}}})
		}
		l.repo.Push(commitA, p)
		start := time.Now()
		out := l.await(within(t, time.Hour), target, limits())
		l.check(out, time.Since(start), want{verdict: pipeline.Failure, reason: "and 9 more failed steps", advice: pipeline.SeeLogs, row: 1, to: 6 * second})
		for _, s := range out.Failed {
			if len(s.LogTail) != 1 {
				t.Errorf("%+v", s)
			}
		}
		if len(out.Failed) != 10 {
			t.Errorf("%d tails", len(out.Failed))
		}
	})
}

// Only administrators learn more of the queue, and nobody waits for it.
func TestQueueIsAskedOnce(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		target := l.target(shaA())
		p := woodsim.Green(second)
		p.Queue = 20 * time.Minute
		l.repo.Push(commitA, p)
		out := l.await(within(t, time.Hour), target, limits())
		l.check(out, 0, want{verdict: pipeline.Success, reason: "passed", row: 1})
		if n := l.Count("GET", "/queue/info"); n != 1 {
			t.Errorf("asked %d times", n)
		}
		if n := l.Count("GET", "/healthz"); n != 0 {
			t.Errorf("health asked %d times: a refusal was doubted", n)
		}
	})
	bubble(t, options{version: "3.13.0"}, func(t *testing.T, l *lab) {
		l.AddUser(woodsim.User{Login: "root", Token: "t-root", Admin: true})
		l.token = "t-root"
		target := l.target(shaA())
		l.SetPaused(true, 1)
		p := woodsim.Green(second)
		p.Queue = 5 * time.Minute
		l.repo.Push(commitA, p)
		out := l.await(within(t, time.Hour), target, limits())
		l.check(out, 0, want{verdict: pipeline.Success, reason: "passed", row: 1, told: "note pending for 2 min: the server's queue is paused"})
	})
}

// A busy repository does not make the search for a row busy.
func TestFindInABusyRepository(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		target := l.target(shaA())
		for i := range 300 {
			l.at(time.Duration(i)*200*time.Millisecond, func() { l.repo.Cron("x", woodsim.Commit{Message: "other"}, woodsim.Green(50*second)) })
		}
		l.at(30*second, func() { l.repo.Push(commitA, woodsim.Green(second)) })
		start := time.Now()
		out := l.await(within(t, time.Hour), target, limits())
		l.check(out, time.Since(start), want{verdict: pipeline.Success, reason: "passed", row: out.Row.Number, from: 31 * second, to: 32 * second, requests: 75})
	})
}

// An old row that the server does not show for a moment is looked for where it
// must be, not from the top.
func TestOldRow(t *testing.T) {
	bubble(t, options{version: "3.13.0"}, func(t *testing.T, l *lab) {
		l.repo.Push(commitA, woodsim.Green(second))
		for range 600 {
			l.repo.Cron("x", woodsim.Commit{Message: "other"}, woodsim.Green(second))
		}
		target := l.target("")
		target.Number = 1
		l.TroubleNext(1, woodsim.Trouble{Row: true})
		out := l.await(within(t, time.Hour), target, limits())
		l.check(out, 0, want{verdict: pipeline.Success, reason: "passed", row: 1, requests: 8})
	})
}

var _ pipeline.Source = (*woodpecker.Client)(nil)
