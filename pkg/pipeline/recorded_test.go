package pipeline_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/recording"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

// played is a recorded server behind a balancer.
type played struct {
	t      *testing.T
	client *woodpecker.Client
	lb     *faultlb.Balancer
	replay *recording.Replayer
	before bool // nothing has been written: the rows of the recording are not there yet
}

func (p *played) RoundTrip(r *http.Request) (*http.Response, error) {
	p.before = p.before && r.Method == http.MethodGet
	if p.before && strings.HasSuffix(r.URL.Path, "/pipelines") {
		return said(r, 200, "[]"), nil
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer valid")
	return p.lb.RoundTrip(r)
}

func (p *played) await(t pipeline.Target) pipeline.Outcome {
	p.t.Helper()
	out, err := pipeline.Await(within(p.t, time.Hour), p.client, t, pipeline.Limits{Appear: 90 * second, LogLines: 30}, func(pipeline.Update) {})
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// The recorded scenarios end with the verdict they had, also when every answer
// is preceded by a fault.
func TestRecordings(t *testing.T) {
	type end struct {
		verdict pipeline.Verdict
		row     int64 // id
	}
	repo := func(id woodpecker.RepoID) woodpecker.Repo {
		return woodpecker.Repo{ID: id, FullName: "ada/app", Active: true, Visibility: "public", Timeout: 60}
	}
	byCommit := func(id woodpecker.RepoID) func(p *played) pipeline.Outcome {
		return func(p *played) pipeline.Outcome {
			return p.await(pipeline.Target{Repo: repo(id), Commit: p.replay.Recording().Commit})
		}
	}
	byNumber := func(id woodpecker.RepoID, n int64) func(p *played) pipeline.Outcome {
		return func(p *played) pipeline.Outcome { return p.await(pipeline.Target{Repo: repo(id), Number: n}) }
	}
	tests := []struct {
		name, of string
		skip     time.Duration // into the recording
		play     func(p *played) pipeline.Outcome
		end      end
		reason   string // exactly, when nothing is spoiled; "" not checked
	}{
		{"success", "success", 0, byCommit(2), end{pipeline.Success, 1}, "passed in 4s"},
		{"failure", "failure", 0, byCommit(3), end{pipeline.Failure, 7}, "step test of workflow woodpecker exited with 3"},
		{"config_error", "config_error", 0, byCommit(7), end{pipeline.Errored, 11}, ""},
		{"canceled", "canceled", 3500 * time.Millisecond, func(p *played) pipeline.Outcome {
			row, err := pipeline.CancelRow(p.t.Context(), p.client, 13, woodpecker.Pipeline{ID: 16, Number: 1, Status: "running"})
			if err != nil || row.ID != 16 {
				p.t.Errorf("cancelled: %+v %v", row, err)
			}
			time.Sleep(10 * time.Millisecond) // the recording's next answer
			return byNumber(13, 1)(p)
		}, end{pipeline.Canceled, 16}, "cancelled by ada"},
		{"blocked", "blocked_approve", 4170 * time.Millisecond, byNumber(15, 1), end{pipeline.Blocked, 19}, "waits for approval"},
		{"blocked, approved", "blocked_approve", 4173 * time.Millisecond, func(p *played) pipeline.Outcome {
			row, err := pipeline.ApproveRow(p.t.Context(), p.client, 15, woodpecker.Pipeline{ID: 19, Number: 1, Status: "blocked"})
			if err != nil || row.ID != 19 {
				p.t.Errorf("approved: %+v %v", row, err)
			}
			time.Sleep(10 * time.Millisecond) // the recording's next answer
			return byNumber(15, 1)(p)
		}, end{pipeline.Success, 19}, ""},
		{"restart", "restart", 0, func(p *played) pipeline.Outcome {
			p.before = true
			row, err := pipeline.RestartRow(p.t.Context(), p.client, 2, woodpecker.Pipeline{ID: 1, Number: 1, Status: "success"})
			if err != nil || row.ID != 2 || row.Parent != 1 {
				p.t.Errorf("restarted: %+v %v", row, err)
			}
			return p.await(pipeline.Target{Repo: repo(2), Number: row.Number, ID: row.ID})
		}, end{pipeline.Success, 2}, ""},
		{"manual", "manual", 0, func(p *played) pipeline.Outcome {
			p.before = true
			row, err := pipeline.StartBranch(p.t.Context(), p.client, 2, "main")
			if err != nil || row.ID != 4 || row.Event != woodpecker.Manual {
				p.t.Errorf("started: %+v %v", row, err)
			}
			return p.await(pipeline.Target{Repo: repo(2), Number: row.Number, ID: row.ID})
		}, end{pipeline.Success, 4}, ""},
		{"the tag", "tag_same_commit", 0, func(p *played) pipeline.Outcome {
			return p.await(pipeline.Target{Repo: repo(2), Commit: "41bdff3", Prefix: true, Event: woodpecker.Tag})
		}, end{pipeline.Success, 3}, ""},
		{"log_stream", "log_stream", 5 * second, byNumber(17, 1), end{pipeline.Success, 21}, ""},
		{"skip_ci", "skip_ci", 0, func(p *played) pipeline.Outcome {
			return p.await(pipeline.Target{Repo: repo(12), Commit: p.replay.Recording().Commit, Local: &checkout{message: "Docs [CI SKIP]"}})
		}, end{pipeline.Absent, 0}, "the commit's message carries [CI SKIP]"},
		{"no_config", "no_config", 0, func(p *played) pipeline.Outcome {
			return p.await(pipeline.Target{Repo: repo(9), Commit: p.replay.Recording().Commit, Local: &checkout{noFile: true}})
		}, end{pipeline.Absent, 0}, "there is no pipeline file in the commit"},
		{"no_config, the row seen", "no_config", 3100 * time.Millisecond, func(p *played) pipeline.Outcome {
			return p.await(pipeline.Target{Repo: repo(9), Commit: p.replay.Recording().Commit, Local: &checkout{noFile: true}})
		}, end{pipeline.Absent, 0}, "its pipeline was dropped: the commit has no pipeline file"},
	}
	for _, tt := range tests {
		for _, k := range append([]faultlb.Kind{faultlb.None}, faultlb.Transient()...) {
			t.Run(fmt.Sprintf("%s/%s", tt.name, k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := faultlb.Options{Kinds: []faultlb.Kind{k}, MaxConsecutive: 1, Version: "dev"}
					if k != faultlb.None {
						o.Rate = 1
					}
					p := &played{t: t, replay: recording.Replay(t, tt.of)}
					clock := time.Now
					if tt.name == "blocked" { // nobody approves it, however long it takes
						clock = func() time.Time { return time.Unix(0, 0) }
					}
					p.replay.Clock(clock)
					if k != faultlb.None { // writes are for another test: a recording answers them once
						o.Match = faultlb.Match("GET", "")
					}
					p.lb = faultlb.Transport(p.replay, o)
					base, err := url.Parse("https://ci.example")
					if err != nil {
						t.Fatal(err)
					}
					p.client = woodpecker.New(woodpecker.Options{Base: base, Transport: p, Exact: true})
					time.Sleep(tt.skip)
					out := tt.play(p)
					var row int64
					if out.Row != nil {
						row = out.Row.ID
					}
					if out.Verdict != tt.end.verdict || row != tt.end.row {
						t.Fatalf("%s, row %d: %s", out.Verdict, row, out.Reason)
					}
					if k == faultlb.None && tt.reason != "" && out.Reason != tt.reason {
						t.Errorf("reason %q, want %q", out.Reason, tt.reason)
					}
					if out.Verdict == pipeline.Absent && !out.Confirmed {
						t.Error("not confirmed")
					}
					if out.Verdict == pipeline.Failure && (len(out.Failed) != 1 || len(out.Failed[0].LogTail) == 0) {
						t.Errorf("tails %+v", out.Failed)
					}
					if n := p.lb.Stats(); k != faultlb.None && n.Injected() == 0 {
						t.Error("nothing was spoiled")
					}
				})
			})
		}
	}
}
