package pipeline_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"homelab/internal/woodsim"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
)

const second = time.Second

// The lives of rows, followed to their ends. Each case sets a server up, says
// what happens later, and what a watch of the commit must come to.
func TestLives(t *testing.T) {
	a := woodsim.Commit{Message: "a"}
	b := woodsim.Commit{Message: "b"}
	sha := woodsim.SHA("a")
	shaB := woodsim.SHA("b")
	gate := func(only ...string) func(*pipeline.Limits) {
		return func(l *pipeline.Limits) { l.Gate.Only = only }
	}
	tests := []struct {
		name   string
		o      options
		setup  func(l *lab)
		limits func(*pipeline.Limits)
		target func(*pipeline.Target)
		within time.Duration // 0: an hour
		want   want
	}{
		{
			name:  "green",
			setup: func(l *lab) { l.repo.Push(a, woodsim.Green(20*second)) },
			want:  want{verdict: pipeline.Success, reason: "passed in 20s", row: 1, from: 20 * second, to: 21 * second, requests: 10},
		},
		{
			name:  "green by polling",
			o:     options{version: "3.13.0"},
			setup: func(l *lab) { l.repo.Push(a, woodsim.Green(20*second)) },
			want:  want{verdict: pipeline.Success, reason: "passed in 20s", row: 1, from: 20 * second, to: 22500 * time.Millisecond},
		},
		{
			name:  "red",
			setup: func(l *lab) { l.repo.Push(a, woodsim.Red("unit", 3)) },
			want:  want{verdict: pipeline.Failure, reason: "step unit of workflow woodpecker exited with 3", advice: pipeline.SeeLogs, row: 1, from: 2 * second, to: 4 * second, told: "tails 1"},
		},
		{
			name:  "a created row is deleted: filtered",
			setup: func(l *lab) { l.repo.Push(a, woodsim.Filtered(3*second)) },
			want:  want{verdict: pipeline.Absent, reason: "filtered out", confirmed: true, from: 3 * second, to: 8 * second},
		},
		{
			name: "a created row is deleted: no pipeline file",
			setup: func(l *lab) {
				l.local.noFile = true
				l.repo.Push(a, woodsim.Filtered(3*second))
			},
			want: want{verdict: pipeline.Absent, reason: "no pipeline file", confirmed: true, from: 3 * second, to: 8 * second},
		},
		{
			name: "a created row is deleted and another commit takes its number",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Filtered(3*second))
				l.at(3100*time.Millisecond, func() { l.repo.Push(b, woodsim.Green(second)) })
			},
			want: want{verdict: pipeline.Absent, reason: "filtered out", confirmed: true, from: 3 * second, to: 8 * second},
		},
		{
			name: "a running row is deleted and another commit takes its number",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Running(time.Hour))
				l.at(10*second, func() { p.Delete(); l.repo.Push(b, woodsim.Green(second)) })
			},
			want: want{verdict: pipeline.Absent, reason: "#1 was deleted on the server", advice: pipeline.RunBranch, to: 170 * second},
		},
		{
			name: "approval keeps the number and changes the ids",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Blocked(woodsim.Green(10*second)))
				l.at(-1, func() { p.Approve("bob") })
			},
			want: want{verdict: pipeline.Success, reason: "passed in 10s", row: 1, to: 20 * second},
		},
		{
			name:  "blocked at once",
			setup: func(l *lab) { l.repo.Push(a, woodsim.Blocked(woodsim.Green(second))) },
			want:  want{verdict: pipeline.Blocked, reason: "waits for approval", advice: pipeline.Approve, row: 1, to: second},
		},
		{
			name:  "blocked after a while",
			setup: func(l *lab) { p := l.repo.Push(a, woodsim.Running(time.Hour)); l.at(20*second, p.Block) },
			want:  want{verdict: pipeline.Blocked, reason: "waits for approval", advice: pipeline.Approve, row: 1, from: 20 * second, to: 21 * second},
		},
		{
			name: "declined",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Blocked(woodsim.Green(second)))
				p.Decline("bob")
			},
			want: want{verdict: pipeline.Declined, reason: "declined by bob", row: 1, to: second},
		},
		{
			name: "cancelled by a user",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Running(time.Hour))
				l.at(10*second, func() { p.Cancel("eve") })
			},
			want: want{verdict: pipeline.Canceled, reason: "cancelled by eve", advice: pipeline.Rerun, row: 1, from: 12 * second, to: 13 * second},
		},
		{
			name: "cancelled before it started",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Plan{Queue: time.Hour, Workflows: woodsim.Green(second).Workflows})
				l.at(10*second, func() { p.Cancel("eve") })
			},
			want: want{verdict: pipeline.Canceled, reason: "cancelled by eve", advice: pipeline.Rerun, row: 1, to: 13 * second},
		},
		{
			name:  "the agent is lost",
			setup: func(l *lab) { p := l.repo.Push(a, woodsim.Running(time.Hour)); l.at(10*second, p.Lose) },
			want:  want{verdict: pipeline.Canceled, reason: "the agent was lost, or somebody cancelled it", advice: pipeline.Rerun, row: 1, to: 13 * second},
		},
		{
			name:  "the repository's limit",
			o:     options{repo: woodsim.RepoOptions{Timeout: 2}},
			setup: func(l *lab) { p := l.repo.Push(a, woodsim.Running(time.Hour)); l.at(121*second, p.Lose) },
			want:  want{verdict: pipeline.Canceled, reason: "hit the repository's limit of 2 min", advice: pipeline.Rerun, row: 1, to: 125 * second},
		},
		{
			name: "a step cancels the rest",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Plan{Workflows: []woodsim.Workflow{
					{Name: "lint", Steps: []woodsim.Step{{Name: "vet", Takes: 2 * second, Exit: 1, Cancel: true, Log: woodsim.Log{Lines: []string{"vet: bad"}}}}},
					{Name: "test", Steps: []woodsim.Step{{Name: "unit", Takes: time.Hour}}},
				}})
			},
			want: want{verdict: pipeline.Failure, reason: "step vet of workflow lint failed and cancelled the rest", advice: pipeline.SeeLogs, row: 1, to: 8 * second, told: "tails 1"},
		},
		{
			name: "superseded by a descendant, which passes",
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Yes}
				l.repo.Push(a, woodsim.Running(time.Hour))
				l.at(10*second, func() { l.repo.Push(b, woodsim.Green(10*second)) })
			},
			want: want{verdict: pipeline.Success, reason: "in #2 of " + shaB[:7] + ", which contains it", row: 2, followed: 1, to: 25 * second, told: "followed #1 to #2: superseded by #2 of " + shaB[:7]},
		},
		{
			name: "superseded by a descendant, which fails",
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Yes}
				l.repo.Push(a, woodsim.Running(time.Hour))
				l.at(10*second, func() { l.repo.Push(b, woodsim.Red("unit", 3)) })
			},
			want: want{verdict: pipeline.Failure, reason: "step unit", advice: pipeline.SeeLogs, row: 2, followed: 1, to: 25 * second},
		},
		{
			name: "superseded by an unrelated commit",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Running(time.Hour))
				l.at(10*second, func() { l.repo.Push(b, woodsim.Green(10*second)) })
			},
			want: want{verdict: pipeline.Superseded, reason: "superseded by #2 of " + shaB[:7] + ", which does not contain the commit", advice: pipeline.WatchRow, number: 2, row: 1, to: 15 * second},
		},
		{
			name: "superseded by a commit this checkout does not have",
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Unproven}
				l.repo.Push(a, woodsim.Running(time.Hour))
				l.at(10*second, func() { l.repo.Push(b, woodsim.Green(10*second)) })
			},
			want: want{verdict: pipeline.Superseded, reason: "cannot be shown to contain", advice: pipeline.FetchFirst, number: 2, row: 1, to: 15 * second},
		},
		{
			name: "superseded by a restart of itself",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Running(time.Hour))
				plan := woodsim.Green(10 * second)
				l.at(10*second, func() { l.repo.Restart(1, &plan) })
			},
			want: want{verdict: pipeline.Success, reason: "passed in 10s", row: 2, followed: 1, to: 25 * second},
		},
		{
			name: "superseded by an unrelated commit, then restarted",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Running(time.Hour))
				plan := woodsim.Green(10 * second)
				l.at(10*second, func() { l.repo.Push(b, woodsim.Green(10*second)); l.repo.Restart(1, &plan) })
			},
			want: want{verdict: pipeline.Success, reason: "passed in 10s", row: 3, followed: 1, to: 30 * second},
		},
		{
			name: "a restart inherits the old successor and passes",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Running(time.Hour))
				l.repo.Push(b, woodsim.Green(second))
				plan := woodsim.Green(10 * second)
				l.repo.Restart(1, &plan)
			},
			want: want{verdict: pipeline.Success, reason: "passed in 10s", row: 3, to: 15 * second},
		},
		{
			name: "before 3.14, probably superseded by a descendant",
			o:    options{version: "3.13.0"},
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Yes}
				l.repo.Push(a, woodsim.Running(time.Hour))
				l.at(10*second, func() { l.repo.Push(b, woodsim.Green(10*second)) })
			},
			want: want{verdict: pipeline.Success, reason: "which contains it", row: 2, followed: 1, to: 30 * second, told: "probably superseded by #2"},
		},
		{
			name: "before 3.14, probably superseded by an unrelated commit",
			o:    options{version: "3.13.0"},
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Running(time.Hour))
				l.at(10*second, func() { l.repo.Push(b, woodsim.Green(10*second)) })
			},
			want: want{verdict: pipeline.Superseded, reason: "probably superseded by #2 of " + shaB[:7] + ", which does not contain", advice: pipeline.WatchRow, number: 2, row: 1, to: 20 * second},
		},
		{
			name: "before 3.14, killed turns into success",
			o:    options{version: "3.13.0"},
			setup: func(l *lab) {
				p := woodsim.Running(time.Hour)
				p.Flip, p.FlipAfter, p.KillDelay = "success", 5*second, 5*second
				x := l.repo.Push(a, p)
				l.at(10*second, func() { x.Cancel("eve") })
			},
			want: want{verdict: pipeline.Failure, reason: "the server says success, but step build", advice: pipeline.SeeLogs, row: 1, to: 40 * second},
		},
		{
			name: "before 3.14, killed turns into failure",
			o:    options{version: "3.13.0"},
			setup: func(l *lab) {
				p := woodsim.Running(time.Hour)
				p.Flip, p.FlipAfter, p.KillDelay = "failure", 3*second, 3*second
				x := l.repo.Push(a, p)
				l.at(10*second, func() { x.Cancel("eve") })
			},
			want: want{verdict: pipeline.Failure, reason: "step build", advice: pipeline.SeeLogs, row: 1, to: 30 * second},
		},
		{
			name: "the pipeline is never closed",
			setup: func(l *lab) {
				p := woodsim.Green(10 * second)
				p.Stuck = true
				l.repo.Push(a, p)
			},
			want: want{verdict: pipeline.Success, reason: "the server never closed the pipeline", row: 1, from: 70 * second, to: 82 * second, requests: 22},
		},
		{
			name: "never closed, and red",
			setup: func(l *lab) {
				p := woodsim.Red("unit", 3)
				p.Stuck = true
				l.repo.Push(a, p)
			},
			want: want{verdict: pipeline.Failure, reason: "exited with 3; the server never closed", advice: pipeline.SeeLogs, row: 1, from: 62 * second, to: 80 * second},
		},
		{
			name: "the forge is slow to be told",
			setup: func(l *lab) {
				p := woodsim.Green(60 * second)
				p.Forge, p.Gap = 20*second, 300*time.Millisecond
				l.repo.Push(a, p)
			},
			want: want{verdict: pipeline.Success, reason: "passed", row: 1, from: 60 * second, to: 61500 * time.Millisecond},
		},
		{
			name: "success contradicted by a failed workflow",
			setup: func(l *lab) {
				p := woodsim.Red("unit", 3)
				p.Status = "success"
				l.repo.Push(a, p)
			},
			want: want{verdict: pipeline.Failure, reason: "the server says success, but step unit", advice: pipeline.SeeLogs, row: 1, from: 12 * second, to: 16 * second},
		},
		{
			name: "an unknown status",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Green(5*second))
				l.at(10*second, func() { p.SetStatus("meditating") })
			},
			within: 20 * time.Minute,
			want:   want{verdict: pipeline.Success, reason: "passed", row: 1, to: 7 * second},
		},
		{
			name: "an unknown status that stays",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Running(time.Hour))
				p.Stop()
				p.SetWorkflow("woodpecker", "success")
				p.SetStatus("meditating")
			},
			within: 20 * time.Minute,
			want:   want{verdict: pipeline.Timeout, reason: "still meditating after 20m", advice: pipeline.Resume, row: 1, from: 20 * time.Minute, to: 20*time.Minute + second, told: `note the server calls the pipeline "meditating"`},
		},
		{
			name: "success while a workflow never ends",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Running(time.Hour))
				p.Stop()
				p.SetStatus("success")
			},
			within: 20 * time.Minute,
			want:   want{verdict: pipeline.Timeout, reason: "the time was up after 20m00s: the server says success, but woodpecker has not ended", advice: pipeline.Resume, row: 1, from: 20 * time.Minute, to: 20*time.Minute + second, requests: 40},
		},
		{
			name:  "a configuration error",
			setup: func(l *lab) { l.repo.Push(a, woodsim.ConfigError("bad yaml")) },
			want:  want{verdict: pipeline.Errored, reason: "bad yaml", row: 1, to: second},
		},
		{
			name:  "the file could not be fetched",
			setup: func(l *lab) { l.repo.Push(a, woodsim.Plan{FetchError: "500"}) },
			want:  want{verdict: pipeline.Errored, reason: "not the commit's fault", advice: pipeline.RunBranch, row: 1, to: second},
		},
		{
			name:  "an error without words",
			setup: func(l *lab) { p := l.repo.Push(a, woodsim.Running(time.Hour)); p.Stop(); p.SetStatus("error") },
			want:  want{verdict: pipeline.Errored, reason: "the server gives no reason", advice: pipeline.SeePage, row: 1, from: second, to: 2 * second},
		},
		{
			name: "red, and restarted before it is seen",
			o:    options{version: "3.13.0"},
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Red("unit", 3))
				plan := woodsim.Green(10 * second)
				l.at(2*second, func() { l.repo.Restart(1, &plan) })
			},
			want: want{verdict: pipeline.Success, reason: "passed in 10s", row: 2, followed: 1, to: 20 * second, told: "followed #1 to #2: #1 was restarted as #2"},
		},
		{
			name: "a green cron and a red push",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Red("unit", 3))
				l.repo.Cron("nightly", a, woodsim.Green(second))
				l.repo.Tag("v1", a, woodsim.Green(second))
			},
			want: want{verdict: pipeline.Failure, reason: "step unit", advice: pipeline.SeeLogs, row: 1, to: 5 * second},
		},
		{
			name: "a green cron first, the push a little later",
			setup: func(l *lab) {
				l.repo.Cron("nightly", a, woodsim.Green(second))
				l.at(3*second, func() { l.repo.Push(a, woodsim.Red("unit", 3)) })
			},
			want: want{verdict: pipeline.Failure, reason: "step unit", advice: pipeline.SeeLogs, row: 2, to: 10 * second},
		},
		{
			name:  "only a tag",
			setup: func(l *lab) { l.repo.Tag("v1", a, woodsim.Green(second)) },
			want:  want{verdict: pipeline.Success, reason: "passed", row: 1, from: 5 * second, to: 7 * second},
		},
		{
			name: "covered by a descendant",
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Yes}
				l.repo.Push(b, woodsim.Green(10*second))
			},
			want: want{verdict: pipeline.Success, reason: "in #1 of " + shaB[:7] + ", which contains it", row: 1, from: 10 * second, to: 12 * second, told: "covered by #1 of " + shaB[:7]},
		},
		{
			name: "covered by a row far down the list",
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Yes}
				l.repo.Push(b, woodsim.Green(second))
				for range 45 {
					l.repo.Cron("nightly", woodsim.Commit{Message: "other"}, woodsim.Green(second))
				}
			},
			want: want{verdict: pipeline.Success, reason: "which contains it", row: 1, to: 3 * second},
		},
		{
			name: "covered although the repository is disabled by now",
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Yes}
				l.repo.Push(b, woodsim.Green(second))
				l.repo.SetActive(false)
			},
			want: want{verdict: pipeline.Success, reason: "which contains it", row: 1, to: 3 * second},
		},
		{
			name: "covered by a row that is filtered out",
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Yes}
				l.repo.Push(b, woodsim.Filtered(5*second))
			},
			want: want{verdict: pipeline.Absent, reason: "#1 of " + shaB[:7] + ", which covered it, was filtered out", to: 12 * second},
		},
		{
			name: "a descendant's row that cannot be shown to be one",
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Unproven}
				l.repo.Push(b, woodsim.Green(second))
			},
			want: want{verdict: pipeline.Absent, reason: "#1 of " + shaB[:7] + " may contain it", advice: pipeline.FetchFirst, from: 90 * second, to: 91 * second},
		},
		{
			name:   "no checkout to tell what contains what",
			setup:  func(l *lab) { l.local = nil; l.repo.Push(b, woodsim.Green(second)) },
			target: func(t *pipeline.Target) { t.Local = nil },
			want:   want{verdict: pipeline.Absent, reason: "was the forge's hook lost?", advice: pipeline.RunBranch, from: 90 * second, to: 91 * second},
		},
		{
			name: "skip marker",
			setup: func(l *lab) {
				l.local.message = "docs [skip ci]"
				l.repo.Push(woodsim.Commit{SHA: sha, Message: "docs [skip ci]"}, woodsim.Green(second))
			},
			want: want{verdict: pipeline.Absent, reason: "carries [CI SKIP]", confirmed: true, from: 5 * second, to: 7 * second},
		},
		{
			name:  "no pipeline file",
			setup: func(l *lab) { l.local.noFile = true },
			want:  want{verdict: pipeline.Absent, reason: "no pipeline file in the commit", confirmed: true, from: 15 * second, to: 16 * second},
		},
		{
			name:  "no pipeline file, and the repository names another",
			o:     options{repo: woodsim.RepoOptions{ConfigFile: "ci/build.yml"}},
			setup: func(l *lab) { l.local.noFile = true },
			want:  want{verdict: pipeline.Absent, reason: "hook lost", advice: pipeline.RunBranch, from: 90 * second, to: 91 * second},
		},
		{
			name:  "inactive",
			o:     options{repo: woodsim.RepoOptions{Inactive: true}},
			setup: func(l *lab) { l.repo.Push(a, woodsim.Green(second)) },
			want:  want{verdict: pipeline.Absent, reason: "disabled in Woodpecker", advice: pipeline.SeePage, to: second},
		},
		{
			name:  "not pushed",
			setup: func(l *lab) { l.local.notPushed = true },
			want:  want{verdict: pipeline.Absent, reason: "is not pushed", advice: pipeline.PushCommit, from: 15 * second, to: 16 * second},
		},
		{
			name:   "only excluded events",
			setup:  func(l *lab) { l.repo.Push(a, woodsim.Green(second)) },
			target: func(t *pipeline.Target) { t.Event = "tag" },
			want:   want{verdict: pipeline.Absent, reason: "others exist: #1 event push", advice: pipeline.TryStatus, from: 90 * second, to: 91 * second},
		},
		{
			name:  "the hook is lost",
			setup: func(*lab) {},
			want:  want{verdict: pipeline.Absent, reason: "no pipeline appeared in 1m30s", advice: pipeline.RunBranch, from: 90 * second, to: 91 * second, requests: 36},
		},
		{
			name: "the hook takes its time",
			setup: func(l *lab) {
				p := woodsim.Green(second)
				p.Delay = 40 * second
				l.repo.Push(a, p)
			},
			want: want{verdict: pipeline.Success, reason: "passed", row: 1, from: 41 * second, to: 45 * second},
		},
		{
			name:   "by number",
			setup:  func(l *lab) { l.repo.Push(b, woodsim.Green(second)); l.repo.Push(a, woodsim.Green(10*second)) },
			target: func(t *pipeline.Target) { t.Commit, t.Number = "", 2 },
			want:   want{verdict: pipeline.Success, reason: "passed in 10s", row: 2, to: 12 * second, requests: 10},
		},
		{
			name: "by number: the successor is named and not followed",
			setup: func(l *lab) {
				l.local.contains = map[string]git.Answer{shaB: git.Yes}
				l.repo.Push(a, woodsim.Running(time.Hour))
				l.at(5*second, func() { l.repo.Push(b, woodsim.Green(second)) })
			},
			target: func(t *pipeline.Target) { t.Commit, t.Number = "", 1 },
			want:   want{verdict: pipeline.Superseded, reason: "superseded by #2 of " + shaB[:7], advice: pipeline.WatchRow, number: 2, row: 1, to: 10 * second},
		},
		{
			name: "by number: its restart is named and not followed",
			o:    options{version: "3.13.0"},
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Red("unit", 3))
				plan := woodsim.Green(10 * second)
				l.at(2*second, func() { l.repo.Restart(1, &plan) })
			},
			target: func(t *pipeline.Target) { t.Commit, t.Number = "", 1 },
			want:   want{verdict: pipeline.Failure, reason: "step unit", advice: pipeline.WatchRow, number: 2, row: 1, to: 10 * second},
		},
		{
			name:   "by number: there is none",
			setup:  func(l *lab) { l.repo.Push(a, woodsim.Green(second)) },
			target: func(t *pipeline.Target) { t.Commit, t.Number = "", 7 },
			want:   want{verdict: pipeline.Absent, reason: "ada/app has no pipeline #7", advice: pipeline.SeePage, to: 2 * second},
		},
		{
			name:   "by number and id: it is another's by now",
			setup:  func(l *lab) { l.repo.Push(a, woodsim.Green(second)) },
			target: func(t *pipeline.Target) { t.Commit, t.Number, t.ID = "", 1, 4711 },
			want:   want{verdict: pipeline.Absent, reason: "#1 was deleted on the server", to: second},
		},
		{
			name:   "a prefix",
			setup:  func(l *lab) { l.repo.Push(a, woodsim.Green(second)) },
			target: func(t *pipeline.Target) { t.Commit, t.Prefix = sha[:9], true },
			want:   want{verdict: pipeline.Success, reason: "passed", row: 1, to: 3 * second},
		},
		{
			name: "gate: green while the rest runs on",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Multi([]string{"lint", "test"}, woodsim.Green(4*second), woodsim.Running(time.Hour)))
			},
			limits: gate("lint"),
			want:   want{verdict: pipeline.Success, reason: "lint passed; the pipeline is still running", row: 1, from: 4 * second, to: 8 * second},
		},
		{
			name: "gate: red while the rest runs on",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Multi([]string{"lint", "test"}, woodsim.Red("vet", 1), woodsim.Running(time.Hour)))
			},
			limits: gate("lint"),
			want:   want{verdict: pipeline.Failure, reason: "step vet of workflow lint exited with 1", advice: pipeline.SeeLogs, row: 1, from: 2 * second, to: 4 * second},
		},
		{
			name: "gate: the rest is red",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Multi([]string{"lint", "test"}, woodsim.Green(6*second), woodsim.Red("unit", 3)))
			},
			limits: gate("lint"),
			want:   want{verdict: pipeline.Success, reason: "lint passed; others failed: test", row: 1, from: 6 * second, to: 8 * second},
		},
		{
			name: "gate: no such workflow",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Multi([]string{"lint", "test"}, woodsim.Green(second), woodsim.Green(second)))
			},
			limits: gate("deploy"),
			want:   want{verdict: pipeline.Absent, reason: "no workflow is called deploy; there are: lint, test", advice: pipeline.TryStatus, row: 1, to: second},
		},
		{
			name: "fail fast",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Multi([]string{"lint", "test"}, woodsim.Red("vet", 1), woodsim.Running(time.Hour)))
			},
			limits: func(l *pipeline.Limits) { l.FailFast = true },
			want:   want{verdict: pipeline.Failure, reason: "the pipeline is still running", advice: pipeline.SeeLogs, row: 1, from: 2 * second, to: 4 * second},
		},
		{
			name:   "one look: running",
			setup:  func(l *lab) { l.repo.Push(a, woodsim.Running(time.Hour)) },
			limits: func(l *pipeline.Limits) { l.Once = true },
			want:   want{verdict: pipeline.Running, reason: "step build of workflow woodpecker since", advice: pipeline.WatchRow, row: 1, to: second, requests: 5},
		},
		{
			name:   "one look: created",
			setup:  func(l *lab) { l.repo.Push(a, woodsim.Filtered(time.Minute)) },
			limits: func(l *pipeline.Limits) { l.Once = true },
			want:   want{verdict: pipeline.Pending, reason: "created since", advice: pipeline.WatchRow, row: 1, to: second},
		},
		{
			name:   "one look: none",
			setup:  func(*lab) {},
			limits: func(l *pipeline.Limits) { l.Once = true },
			want:   want{verdict: pipeline.Absent, reason: "there is no pipeline of " + sha[:7], advice: pipeline.RunBranch, from: second, to: 2 * second},
		},
		{
			name:   "one look: inactive, and no time to appear",
			o:      options{repo: woodsim.RepoOptions{Inactive: true}},
			setup:  func(*lab) {},
			limits: func(l *pipeline.Limits) { l.Once, l.Appear = true, 0 },
			want:   want{verdict: pipeline.Absent, reason: "disabled", advice: pipeline.SeePage, to: 2 * second},
		},
		{
			name:   "one look: superseded",
			setup:  func(l *lab) { l.repo.Push(a, woodsim.Running(time.Hour)); l.repo.Push(b, woodsim.Green(second)) },
			limits: func(l *pipeline.Limits) { l.Once = true },
			want:   want{verdict: pipeline.Superseded, reason: "superseded by #2", advice: pipeline.WatchRow, number: 2, row: 1, to: second},
		},
		{
			name:   "one look: success with a workflow that runs",
			setup:  func(l *lab) { p := l.repo.Push(a, woodsim.Running(time.Hour)); p.Stop(); p.SetStatus("success") },
			limits: func(l *pipeline.Limits) { l.Once = true },
			want:   want{verdict: pipeline.Running, reason: "the server says success, but woodpecker has not ended", advice: pipeline.WatchRow, row: 1, to: second},
		},
		{
			name: "the database loses the row from sight for a while",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Green(60*second))
				l.at(10*second, func() { l.TroubleFor(30*second, woodsim.Trouble{Row: true}) })
			},
			o:    options{version: "3.13.0"},
			want: want{verdict: pipeline.Success, reason: "passed", row: 1, from: 60 * second, to: 63 * second},
		},
		{
			name: "the whole database fails for a while",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Green(60*second))
				l.at(10*second, func() { l.TroubleFor(30*second, woodsim.AllTrouble()) })
			},
			o:    options{version: "3.13.0"},
			want: want{verdict: pipeline.Success, reason: "passed", row: 1, from: 60 * second, to: 68 * second},
		},
		{
			name: "the row stays out of sight although it is listed",
			setup: func(l *lab) {
				l.repo.Push(a, woodsim.Green(60*second))
				l.at(10*second, func() { l.TroubleFor(time.Hour, woodsim.Trouble{Row: true}) })
			},
			o:    options{version: "3.13.0"},
			want: want{verdict: pipeline.Unreachable, reason: "the server does not show it, although its list has it", advice: pipeline.Resume, row: 1, from: 5 * time.Minute, to: 5*time.Minute + 30*second},
		},
		{
			name: "only a tag, whose run is deleted before the watch is sure",
			setup: func(l *lab) {
				p := l.repo.Tag("v1", a, woodsim.Running(time.Hour))
				l.at(1500*time.Millisecond, func() { p.Delete() })
			},
			want: want{verdict: pipeline.Absent, reason: "#1 was deleted on the server", advice: pipeline.RunBranch, to: 10 * second},
		},
		{
			name: "only a tag, whose row goes while it is created",
			setup: func(l *lab) {
				p := l.repo.Tag("v1", a, woodsim.Running(time.Hour))
				p.Stop()
				p.SetStatus("created")
				l.at(1500*time.Millisecond, func() { p.Delete() })
			},
			want: want{verdict: pipeline.Absent, reason: "filtered out by the conditions", confirmed: true, to: 10 * second},
		},
		{
			name: "only a tag, whose held row is deleted",
			setup: func(l *lab) {
				p := l.repo.Tag("v1", a, woodsim.Blocked(woodsim.Green(second)))
				l.at(1500*time.Millisecond, func() { p.Delete() })
			},
			want: want{verdict: pipeline.Absent, reason: "#1 was deleted on the server", advice: pipeline.RunBranch, to: 10 * second},
		},
		{
			name: "success without any workflow",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Running(time.Hour))
				p.Stop()
				l.alter = func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
					if strings.HasSuffix(r.URL.Path, "/pipelines/1") {
						return said(r, 200, fmt.Sprintf(`{"id":%d,"number":1,"status":"success","commit":%q,"workflows":[]}`, p.ID(), p.Commit())), nil
					}
					return send()
				}
			},
			within: 5 * time.Minute,
			want:   want{verdict: pipeline.Timeout, reason: "the time was up after 5m00s: the server says success, but lists no workflows", advice: pipeline.Resume, row: 1, from: 5 * time.Minute, to: 5*time.Minute + second, told: "note the server calls the pipeline success, but lists no workflows"},
		},
		{
			name: "time is up before success is settled",
			setup: func(l *lab) {
				p := l.repo.Push(a, woodsim.Running(time.Hour))
				p.Stop()
				p.SetStatus("success")
			},
			within: 5 * second,
			want:   want{verdict: pipeline.Timeout, reason: "the server says success, which is not settled yet", advice: pipeline.Resume, row: 1, from: 5 * second, to: 6 * second},
		},
		{
			name: "a job that nobody takes",
			setup: func(l *lab) {
				p := woodsim.Green(10 * second)
				p.Queue = 200 * second
				l.repo.Push(a, p)
			},
			want: want{verdict: pipeline.Success, reason: "passed", row: 1, to: 215 * second, told: "note pending for 2 min: no agent has taken it, as far as can be told"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.o, func(t *testing.T, l *lab) {
				target := l.target(sha)
				tt.setup(l)
				o := limits()
				if tt.limits != nil {
					tt.limits(&o)
				}
				if tt.target != nil {
					tt.target(&target)
				}
				// What the server is like when the watch begins counts.
				if fresh := l.locate(); fresh.ID > 0 {
					target.Repo = fresh
				}
				d := tt.within
				if d == 0 {
					d = time.Hour
				}
				start := time.Now()
				out := l.await(within(t, d), target, o)
				l.check(out, time.Since(start), tt.want)
				if out.Verdict == pipeline.Success && out.Err != nil {
					t.Errorf("green with an error: %v", out.Err)
				}
			})
		})
	}
}
