package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"time"

	"homelab/internal/woodsim"
)

// watched is a watch whose end is known.
type watched struct {
	lag      time.Duration // the server wrote the end → the process was gone
	settle   time.Duration // the first question after the end → the process was gone
	naive    time.Duration // the same as lag for the loop that asks every 5 s; 0: none ran
	asked    int           // by that loop
	requests int           // by the watch
	lasted   time.Duration // of the pipeline
}

// watches runs a watch for each plan, some at once, and checks every exit code.
func watches(ctx context.Context, b *bench, version string, plans []woodsim.Plan, before func(int) []woodsim.Plan, atOnce, code int, naive bool) ([]watched, error) {
	s := open(ctx, b, version)
	repos := make([]*woodsim.Repo, len(plans))
	names := make([]string, len(plans))
	for i := range plans {
		repos[i], names[i] = s.repo(before(i)...)
	}
	s.now()
	results, errs := make([]watched, len(plans)), make([]error, len(plans))
	room := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	dice := rand.New(rand.NewPCG(b.seed, 5))
	for i, plan := range plans {
		pause := between(dice, 0, 5*time.Second) // when the loop begins, within its own period
		wait.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			if ctx.Err() == nil {
				results[i], errs[i] = b.watch(ctx, s, repos[i], names[i], plan, code, naive, pause)
			}
		})
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("watch %d: %w", i+1, err)
		}
	}
	if odd := s.ci.Unexpected(); len(odd) > 0 {
		return nil, fmt.Errorf("%d requests for what does not exist, the first: %s %s", len(odd), odd[0].Method, odd[0].Path)
	}
	return results, nil
}

func (b *bench) watch(ctx context.Context, s *site, repo *woodsim.Repo, name string, plan woodsim.Plan, code int, naive bool, pause time.Duration) (watched, error) {
	sha := woodsim.SHA(name)
	began := time.Now()
	pushed := repo.Push(woodsim.Commit{SHA: sha}, plan)
	var w watched
	var noticed time.Time
	var naiveErr error
	var wait sync.WaitGroup
	if naive {
		wait.Go(func() {
			time.Sleep(pause)
			noticed, w.asked, naiveErr = s.naive(ctx, repo, pushed.Number())
		})
	}
	p, err := b.homelab(ctx, s, nil, "ci", "watch", sha, "--repo", name)
	wait.Wait()
	if err == nil {
		err = naiveErr
	}
	if err != nil {
		return w, err
	}
	end, ok := ended(pushed)
	if !ok || p.code != code {
		return w, fmt.Errorf("exit code %d, not %d, pipeline ended: %v: %s%s", p.code, code, ok, p.err.String(), p.out.String())
	}
	w.lag, w.lasted = p.exited.Sub(end), end.Sub(began)
	if naive {
		w.naive = noticed.Sub(end)
	}
	own := fmt.Sprintf("/api/repos/%d/", repo.ID())
	for _, r := range s.ci.Requests() {
		if strings.HasPrefix(r.Path, own) || strings.HasSuffix(r.Path, "/lookup/"+name) {
			w.requests++
		}
		if w.settle == 0 && strings.HasPrefix(r.Path, own+"pipelines/") && !r.Time.Before(end) {
			w.settle = p.exited.Sub(r.Time)
		}
	}
	w.requests++ // GET /api/user names no repository
	if strings.Contains(p.err.String(), "event stream") {
		return w, fmt.Errorf("the stream was in trouble: %s", p.err.String())
	}
	return w, nil
}

func nothing(int) []woodsim.Plan { return nil }

// lagByStream measures the time from the server's end to the process's, green
// and red, with a server whose stream is used.
func lagByStream(ctx context.Context, b *bench) ([]row, error) {
	dice := rand.New(rand.NewPCG(b.seed, 4))
	draw := func(n int, kind func(time.Duration) woodsim.Plan) (plans []woodsim.Plan) {
		for range n {
			plans = append(plans, kind(between(dice, 2500*time.Millisecond, 4500*time.Millisecond)))
		}
		return plans
	}
	green, err := watches(ctx, b, "3.17.0", draw(pick(b, 20, 80), four), nothing, 5, 0, false)
	if err != nil {
		return nil, err
	}
	red, err := watches(ctx, b, "3.17.0", draw(pick(b, 10, 40), failing), nothing, 5, 1, false)
	if err != nil {
		return nil, err
	}
	lag := lags(green)
	v := map[string]float64{}
	lag.values("", v)
	a := row{
		Name: "lag-stream", What: "server writes the end -> the process has exited; green, event stream (server 3.17)",
		Target: "p50 <= 0.3 s, p95 <= 1 s", Measured: lag.String(), Verdict: judged(lag.p50() <= 0.3 && lag.p95() <= 1), Values: v,
	}
	return []row{a, redRow("red-stream", "event stream (server 3.17)", red)}, nil
}

// redRow judges how long a watch that has seen a red end waits for the log's
// last lines, which the plan lets come late.
func redRow(name, how string, red []watched) row {
	v := map[string]float64{}
	var settle sample
	for _, w := range red {
		settle.add(w.settle)
	}
	lag := lags(red)
	settle.values("", v)
	lag.values("lag_", v)
	return row{
		Name: name, What: "a red end is seen -> the process has exited, its log's last lines waited for and read; " + how,
		Target: "<= 5 s, typically < 1.5 s", Measured: settle.String(), Verdict: judged(settle.at(100) <= 5 && settle.p50() < 1.5), Values: v,
		Beside: "server writes the end -> exit " + lag.String(),
	}
}

func lags(all []watched) (out sample) {
	for _, w := range all {
		out.add(w.lag)
	}
	return out
}

// lagByPolling measures the same with a server whose stream is not used, beside
// a loop that asks every 5 s.
func lagByPolling(ctx context.Context, b *bench) ([]row, error) {
	dice := rand.New(rand.NewPCG(b.seed, 6))
	low, high := pick(b, 12*time.Second, 45*time.Second), pick(b, 20*time.Second, 85*time.Second)
	draw := func(n int, kind func(time.Duration) woodsim.Plan) (plans []woodsim.Plan) {
		for range n {
			plans = append(plans, kind(between(dice, low, high)))
		}
		return plans
	}
	earlier := func(int) (plans []woodsim.Plan) {
		for range 5 {
			plans = append(plans, four(between(dice, low, high)))
		}
		return plans
	}
	n, m := pick(b, 16, 40), pick(b, 8, 16)
	var green, red []watched
	var greenErr, redErr error
	var wait sync.WaitGroup
	greens, reds := draw(n, four), draw(m, failing)
	history := make([][]woodsim.Plan, n+m)
	for i := range history {
		history[i] = earlier(i)
	}
	wait.Go(func() {
		green, greenErr = watches(ctx, b, "3.13.0", greens, func(i int) []woodsim.Plan { return history[i] }, n, 0, true)
	})
	wait.Go(func() {
		red, redErr = watches(ctx, b, "3.13.0", reds, func(i int) []woodsim.Plan { return history[n+i] }, m, 1, false)
	})
	wait.Wait()
	for _, err := range []error{greenErr, redErr} {
		if err != nil {
			return nil, err
		}
	}
	lag := lags(green)
	var naive sample
	var asked, requests, minutes float64
	for _, w := range green {
		naive.add(w.naive)
		asked += float64(w.asked)
		requests += float64(w.requests)
		minutes += w.lasted.Minutes()
	}
	v := map[string]float64{"requests_per_minute": requests / minutes, "naive_requests_per_minute": asked / minutes}
	lag.values("", v)
	naive.values("naive_", v)
	a := row{
		Name: "lag-poll", Target: "p95 <= 2.5 s", Measured: lag.String(), Verdict: judged(lag.p95() <= 2.5), Values: v,
		What: fmt.Sprintf("the same by polling (server 3.13), four steps, %.0f to %.0f s, five earlier runs listed", low.Seconds(), high.Seconds()),
		Beside: fmt.Sprintf("poll every 5 s: %s, %s the median; requests per watched minute %.1f, homelab %.1f",
			naive, times(lag.p50(), naive.p50()), asked/minutes, requests/minutes),
	}
	return []row{a, redRow("red-poll", "by polling (server 3.13)", red)}, nil
}

// appear measures how soon a watch that was there first finds the pipeline.
func appear(ctx context.Context, b *bench) ([]row, error) {
	s := open(ctx, b, "3.17.0")
	dice := rand.New(rand.NewPCG(b.seed, 7))
	n := pick(b, 8, 24)
	repos, names := make([]*woodsim.Repo, n), make([]string, n)
	for i := range n {
		repos[i], names[i] = s.repo(four(5 * time.Second))
	}
	s.now()
	found, errs := make([]time.Duration, n), make([]error, n)
	room := make(chan struct{}, 8)
	var wait sync.WaitGroup
	for i := range n {
		hook := between(dice, 500*time.Millisecond, 5*time.Second)
		wait.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			found[i], errs[i] = b.find(ctx, s, repos[i], names[i], hook)
		})
	}
	wait.Wait()
	var all sample
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("watch %d: %w", i+1, err)
		}
		all.add(found[i])
	}
	v := map[string]float64{}
	all.values("", v)
	return []row{{
		Name: "appear", What: "the pipeline's row appears -> the watch, which was there before it, names it (server 3.17)",
		Target: "none", Measured: all.String(), Verdict: free, Values: v,
	}}, nil
}

// find lets the row appear after the watch has begun, and reads from its events
// when it was found.
func (b *bench) find(ctx context.Context, s *site, repo *woodsim.Repo, name string, hook time.Duration) (time.Duration, error) {
	sha := woodsim.SHA(name)
	plan := four(time.Second)
	plan.Delay = hook
	pushed := repo.Push(woodsim.Commit{SHA: sha}, plan)
	events := &eventTimes{want: "found"}
	p, err := b.homelab(ctx, s, func(c *exec.Cmd) { c.Stdout = events }, "ci", "watch", sha, "--repo", name, "--jsonl")
	if err != nil {
		return 0, err
	}
	history := pushed.Truth().History
	if p.code != 0 || events.at.IsZero() || len(history) == 0 {
		return 0, fmt.Errorf("exit code %d, found at %v: %s", p.code, events.at, p.err.String())
	}
	return events.at.Sub(history[0].Time), nil
}

// eventTimes notes when the first event of a type arrives.
type eventTimes struct {
	want string
	line []byte
	at   time.Time
}

func (e *eventTimes) Write(p []byte) (int, error) {
	now := time.Now()
	for _, c := range p {
		if c != '\n' {
			e.line = append(e.line, c)
			continue
		}
		var event struct{ Type string }
		if json.Unmarshal(e.line, &event) == nil && event.Type == e.want && e.at.IsZero() {
			e.at = now
		}
		e.line = e.line[:0]
	}
	return len(p), nil
}
