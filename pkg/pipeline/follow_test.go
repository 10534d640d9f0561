package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/woodsim"
	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

// follow prints what a run writes while it runs.
func (l *lab) follow(ctx context.Context, id woodpecker.RepoID, want string) (lines []string, err error) {
	_, err = pipeline.FollowLogs(ctx, l.client, id, 1, want, false, func(x pipeline.LogLine) error {
		lines = append(lines, x.Step.Step.Name+":"+x.Text)
		return nil
	})
	return lines, err
}

func writes(name string, d time.Duration, log woodsim.Log) woodsim.Step {
	for i := range 5 {
		log.Lines = append(log.Lines, fmt.Sprint(name, i))
	}
	return woodsim.Step{Name: name, Takes: d, Log: log}
}

// Every line of every step comes once, whatever the stream loses, and it ends
// with the steps.
func TestFollowLogs(t *testing.T) {
	tests := []struct {
		name  string
		o     options
		log   woodsim.Log
		setup func(l *lab)
		want  string // step
		lag   time.Duration
	}{
		{name: "by stream"},
		{name: "by stream, one step", want: "unit"},
		{name: "by reading again", o: options{version: "3.13.0"}},
		{name: "lines are lost", log: woodsim.Log{Lossy: 2}},
		{name: "lines are late and mixed up", log: woodsim.Log{Delay: 1500 * time.Millisecond, Lag: time.Second, Shuffled: true}},
		{name: "the stream breaks", setup: func(l *lab) { l.at(5*second, l.DropStreams); l.at(15*second, l.DropStreams) }},
		{name: "the stream is silent", setup: func(l *lab) { l.at(5*second, func() { l.StallStreams(time.Hour) }) }},
		{name: "no stream to be had", setup: func(l *lab) { l.lb.NextMatch(100, faultlb.Empty502, faultlb.Match("GET", "/stream/")) }},
		{name: "every answer is spoiled once", o: options{lb: faultlb.Options{Rate: 1, MaxConsecutive: 1, Seed: 5}}},
		{name: "logs break off", o: options{version: "3.13.0"}, setup: func(l *lab) { l.lb.NextMatch(6, faultlb.Cut, faultlb.Match("GET", "/logs/")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.o, func(t *testing.T, l *lab) {
				id := l.locate().ID
				l.repo.Push(commitA, woodsim.Plan{Workflows: []woodsim.Workflow{{Name: "test", NoClone: true, Steps: []woodsim.Step{
					writes("build", 10*second, tt.log), writes("unit", 20*second, tt.log), writes("e2e", 10*second, tt.log),
				}}}})
				if tt.setup != nil {
					tt.setup(l)
				}
				start := time.Now()
				lines, err := l.follow(within(t, time.Hour), id, tt.want)
				if err != nil {
					t.Fatal(err)
				}
				var want []string
				for _, s := range []string{"build", "unit", "e2e"} {
					for i := range 5 {
						if tt.want == "" || tt.want == s {
							want = append(want, fmt.Sprintf("%s:%s%d", s, s, i))
						}
					}
				}
				got := slices.Sorted(slices.Values(lines))
				if !slices.Equal(got, slices.Sorted(slices.Values(want))) {
					t.Errorf("%q", lines)
				}
				if tt.log.Lossy == 0 && !tt.log.Shuffled && tt.o.lb.Rate == 0 && !slices.Equal(lines, want) {
					t.Errorf("out of order: %q", lines)
				}
				if took := time.Since(start); tt.o.lb.Rate == 0 && took > 52*second {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

// Following costs no more than watching.
func TestFollowRequests(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		id := l.locate().ID
		l.repo.Push(commitA, woodsim.Plan{Workflows: []woodsim.Workflow{{Steps: []woodsim.Step{writes("build", 20*time.Minute, woodsim.Log{})}}}})
		if _, err := l.follow(within(t, time.Hour), id, ""); err != nil {
			t.Fatal(err)
		}
		if n := len(l.Requests()); n > 20*60/5 {
			t.Errorf("%d requests in twenty minutes", n)
		}
	})
}

func TestFollowEnds(t *testing.T) {
	t.Run("time is up", func(t *testing.T) {
		bubble(t, options{}, func(t *testing.T, l *lab) {
			id := l.locate().ID
			l.repo.Push(commitA, woodsim.Running(time.Hour))
			start := time.Now()
			if _, err := l.follow(within(t, 30*second), id, ""); !errors.Is(err, fault.ErrTimeUp) || time.Since(start) != 30*second {
				t.Errorf("%v after %s", err, time.Since(start))
			}
		})
	})
	t.Run("no such step", func(t *testing.T) {
		bubble(t, options{}, func(t *testing.T, l *lab) {
			id := l.locate().ID
			l.repo.Push(commitA, woodsim.Running(time.Hour))
			var none *pipeline.NoStepError
			if _, err := l.follow(within(t, time.Minute), id, "nope"); !errors.As(err, &none) || !slices.Contains(none.Names, "woodpecker/build") {
				t.Errorf("%v", err)
			}
		})
	})
	t.Run("the taker has had enough", func(t *testing.T) {
		bubble(t, options{}, func(t *testing.T, l *lab) {
			id := l.locate().ID
			l.repo.Push(commitA, woodsim.Green(20*second))
			closed := errors.New("pipe closed")
			_, err := pipeline.FollowLogs(within(t, time.Hour), l.client, id, 1, "", false, func(pipeline.LogLine) error { return closed })
			if !errors.Is(err, closed) {
				t.Errorf("%v", err)
			}
		})
	})
	t.Run("the number is another's by now", func(t *testing.T) {
		bubble(t, options{version: "3.13.0"}, func(t *testing.T, l *lab) {
			id := l.locate().ID
			p := l.repo.Push(commitA, woodsim.Running(time.Hour))
			l.at(10*second, func() { p.Delete(); l.repo.Push(woodsim.Commit{Message: "b"}, woodsim.Green(second)) })
			lines, err := l.follow(within(t, time.Hour), id, "")
			var api *woodpecker.APIError
			if !errors.As(err, &api) || api.Class != woodpecker.Refused || slices.ContainsFunc(lines, func(s string) bool { return strings.Contains(s, "ok") }) {
				t.Errorf("%v %q", err, lines)
			}
		})
	})
}

// Whole logs of an ended run, through every fault.
func TestPrintLogs(t *testing.T) {
	for _, k := range append(faultlb.Transient(), faultlb.None) {
		t.Run(k.String(), func(t *testing.T) {
			bubble(t, options{}, func(t *testing.T, l *lab) {
				repo := l.locate()
				p := woodsim.Red("unit", 3, "one", "two")
				p.Workflows[0].Steps[1].Log.Shuffled = true
				l.repo.Push(commitA, p)
				l.Settle()
				row, err := l.client.Pipeline(t.Context(), repo.ID, 1)
				if err != nil {
					t.Fatal(err)
				}
				steps, err := pipeline.Select(row, "", false)
				if err != nil {
					t.Fatal(err)
				}
				l.lb.NextMatch(2, k, faultlb.Match("GET", "/logs/"))
				var lines []string
				err = pipeline.PrintLogs(within(t, time.Minute), l.client, repo.ID, row, steps, func(x pipeline.LogLine) error {
					lines = append(lines, x.Step.Address()+" "+string(x.Raw))
					return nil
				})
				want := []string{"woodpecker/clone + git fetch", "woodpecker/build + make build", "woodpecker/unit one", "woodpecker/unit two"}
				if err != nil || !slices.Equal(lines, want) {
					t.Errorf("%v %q", err, lines)
				}
			})
		})
	}
}
