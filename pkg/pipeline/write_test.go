package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/woodsim"
	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

// deed is one of the five writes.
type deed struct {
	name  string
	setup func(l *lab)
	do    func(ctx context.Context, l *lab, repo woodpecker.RepoID) (woodpecker.Pipeline, error)
	after woodpecker.Status // of the row it returns; "": any
	id    int64             // of that row
}

func deeds() []deed {
	row := func(l *lab) woodpecker.Pipeline {
		p := l.repo.Pipeline(1)
		return woodpecker.Pipeline{ID: p.ID(), Number: 1, Commit: shaA(), Status: woodpecker.Status(p.Status())}
	}
	return []deed{
		{
			"restart", func(l *lab) { l.repo.Push(commitA, woodsim.Red("unit", 3)); l.Settle() },
			func(ctx context.Context, l *lab, repo woodpecker.RepoID) (woodpecker.Pipeline, error) {
				return pipeline.RestartRow(ctx, l.client, repo, row(l))
			}, "", 2,
		},
		{
			"run", func(l *lab) { l.repo.SetHead("main", commitA) },
			func(ctx context.Context, l *lab, repo woodpecker.RepoID) (woodpecker.Pipeline, error) {
				return pipeline.StartBranch(ctx, l.client, repo, "main")
			}, "", 1,
		},
		{
			"cancel", func(l *lab) { l.repo.Push(commitA, woodsim.Running(time.Hour)) },
			func(ctx context.Context, l *lab, repo woodpecker.RepoID) (woodpecker.Pipeline, error) {
				return pipeline.CancelRow(ctx, l.client, repo, row(l))
			}, woodpecker.Killed, 1,
		},
		{
			"approve", func(l *lab) { l.repo.Push(commitA, woodsim.Blocked(woodsim.Running(time.Hour))) },
			func(ctx context.Context, l *lab, repo woodpecker.RepoID) (woodpecker.Pipeline, error) {
				return pipeline.ApproveRow(ctx, l.client, repo, row(l))
			}, woodpecker.Running, 1,
		},
		{
			"decline", func(l *lab) { l.repo.Push(commitA, woodsim.Blocked(woodsim.Running(time.Hour))) },
			func(ctx context.Context, l *lab, repo woodpecker.RepoID) (woodpecker.Pipeline, error) {
				return pipeline.DeclineRow(ctx, l.client, repo, row(l))
			}, woodpecker.Declined, 1,
		},
	}
}

// Whatever befalls the answer of a write, it takes effect once and is found.
func TestWritesOnce(t *testing.T) {
	kinds := append(faultlb.Transient(), faultlb.Hang, faultlb.None)
	for _, d := range deeds() {
		for _, version := range []string{"", "3.17.0"} { // of a proxy; like the server's own
			for _, k := range kinds {
				t.Run(fmt.Sprintf("%s/%s/%q", d.name, k, version), func(t *testing.T) {
					bubble(t, options{lb: faultlb.Options{Version: version}}, func(t *testing.T, l *lab) {
						repo := l.locate().ID
						d.setup(l)
						l.lb.NextMatch(1, k, faultlb.Match("POST", ""))
						got, err := d.do(within(t, 5*time.Minute), l, repo)
						writes := l.Writes()
						if err != nil || len(writes) != 1 || writes[0].Kind != d.name {
							t.Fatalf("%v, effects %+v", err, writes)
						}
						if got.ID != d.id || d.after != "" && got.Status != d.after {
							t.Errorf("row %d %s, want %d %s", got.ID, got.Status, d.id, d.after)
						}
						if n := l.lb.Stats().Faults[k]; n != 1 && k != faultlb.None {
							t.Errorf("%d faults", n)
						}
						if bad := l.Unexpected(); len(bad) > 0 {
							t.Errorf("asked for %s %s", bad[0].Method, bad[0].Path)
						}
					})
				})
			}
		}
	}
}

// When the answers stay away, nothing is done twice, and it is said that it is
// not known.
func TestWritesInDoubt(t *testing.T) {
	for _, d := range deeds() {
		for _, k := range []faultlb.Kind{faultlb.ResetBefore, faultlb.ResetAfter, faultlb.Empty502} {
			t.Run(fmt.Sprintf("%s/%s", d.name, k), func(t *testing.T) {
				bubble(t, options{}, func(t *testing.T, l *lab) {
					repo := l.locate().ID
					d.setup(l)
					l.lb.NextMatch(100, k, faultlb.Match("POST", ""))
					_, err := d.do(within(t, 5*time.Minute), l, repo)
					if k == faultlb.ResetAfter {
						if err != nil || len(l.Writes()) != 1 {
							t.Errorf("%v, %d effects", err, len(l.Writes()))
						}
						return
					}
					var w *pipeline.WriteError
					if !errors.As(err, &w) || w.Why != pipeline.Unclear || len(l.Writes()) != 0 {
						t.Errorf("%v, %d effects", err, len(l.Writes()))
					}
					if n := l.lb.Stats().Faults[k]; n != 2 {
						t.Errorf("sent %d times, want 2", n)
					}
				})
			})
			t.Run(fmt.Sprintf("%s/%s, then no answer at all", d.name, k), func(t *testing.T) {
				bubble(t, options{}, func(t *testing.T, l *lab) {
					repo := l.locate().ID
					d.setup(l)
					sent := false
					l.lb.NextMatch(1, k, func(r *http.Request) bool { sent = sent || r.Method == http.MethodPost; return sent })
					l.lb.NextMatch(1000, faultlb.Refuse, func(*http.Request) bool { return sent })
					_, err := d.do(within(t, 5*time.Minute), l, repo)
					var w *pipeline.WriteError
					if !errors.As(err, &w) || w.Why != pipeline.Unclear {
						t.Errorf("%v", err)
					}
					if n := l.lb.Stats().Faults[k]; n != 1 || len(l.Writes()) > 1 {
						t.Errorf("sent %d times without a look, %d effects", n, len(l.Writes()))
					}
				})
			})
		}
	}
}

// The time is up while a write's answer is awaited: the cause is kept.
func TestWriteInterrupted(t *testing.T) {
	for _, d := range deeds() {
		t.Run(d.name, func(t *testing.T) {
			bubble(t, options{}, func(t *testing.T, l *lab) {
				repo := l.locate().ID
				d.setup(l)
				l.lb.NextMatch(1, faultlb.Hang, faultlb.Match("POST", ""))
				start := time.Now()
				_, err := d.do(within(t, 5*second), l, repo)
				if !errors.Is(err, fault.ErrTimeUp) || time.Since(start) > 6*second {
					t.Errorf("%v after %s", err, time.Since(start))
				}
			})
		})
	}
}

// What the server says no to.
func TestWritesRefused(t *testing.T) {
	ended := func(l *lab) { l.repo.Push(commitA, woodsim.Green(second)); l.Settle() }
	running := func(l *lab) { l.repo.Push(commitA, woodsim.Running(time.Hour)) }
	blocked := func(l *lab) { l.repo.Push(commitA, woodsim.Blocked(woodsim.Green(second))) }
	none := func(*lab) {}
	row := woodpecker.Pipeline{ID: 1, Number: 1}
	tests := []struct {
		name  string
		o     options
		setup func(l *lab)
		do    func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error)
		why   pipeline.Refusal
		text  string
		row   woodpecker.Status
	}{
		{"cancel what has ended", options{}, ended, func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error) {
			return pipeline.CancelRow(ctx, l.client, id, row)
		}, pipeline.WrongState, "Cannot cancel a non-running or non-pending or non-blocked pipeline", "success"},
		{"approve what runs", options{}, running, func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error) {
			return pipeline.ApproveRow(ctx, l.client, id, row)
		}, pipeline.WrongState, "cannot approve a pipeline with status running", "running"},
		{"decline what runs", options{}, running, func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error) {
			return pipeline.DeclineRow(ctx, l.client, id, row)
		}, pipeline.WrongState, "pipeline 1 is running", "running"},
		{"restart what is blocked", options{}, blocked, func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error) {
			return pipeline.RestartRow(ctx, l.client, id, row)
		}, pipeline.WrongState, "cannot restart a pipeline with status blocked", "blocked"},
		{"cancel what does not exist", options{}, none, func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error) {
			return pipeline.CancelRow(ctx, l.client, id, row)
		}, pipeline.NotFound, "", ""},
		{"approve without the permission", options{perm: woodsim.Perm{Pull: true}}, blocked, func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error) {
			return pipeline.ApproveRow(ctx, l.client, id, row)
		}, pipeline.NotAllowed, "", ""},
		{"run without the permission", options{perm: woodsim.Perm{Pull: true}}, none, func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error) {
			return pipeline.StartBranch(ctx, l.client, id, "main")
		}, pipeline.NotAllowed, "", ""},
		{"run a branch the forge does not know", options{}, none, func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error) {
			return pipeline.StartBranch(ctx, l.client, id, "nowhere")
		}, pipeline.NoBranch, "the server answered 500 (Internal Server Error)", ""},
		{"run what is filtered out", options{}, func(l *lab) {
			l.repo.SetHead("main", commitA)
			l.repo.PlanNext(woodsim.Plan{Filtered: true})
		}, func(ctx context.Context, l *lab, id woodpecker.RepoID) (woodpecker.Pipeline, error) {
			return pipeline.StartBranch(ctx, l.client, id, "main")
		}, pipeline.Filtered, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.o, func(t *testing.T, l *lab) {
				id := l.locate().ID
				tt.setup(l)
				_, err := tt.do(within(t, time.Minute), l, id)
				var w *pipeline.WriteError
				if !errors.As(err, &w) || w.Why != tt.why || w.Text != tt.text {
					t.Fatalf("%v %+v", err, w)
				}
				var got woodpecker.Status
				if w.Row != nil {
					got = w.Row.Status
				}
				if got != tt.row {
					t.Errorf("row %q, want %q", got, tt.row)
				}
			})
		})
	}
}

// A row whose file could not be fetched answers 204 without saying that it was
// filtered: it is found and handed back.
func TestRunThatWentWrong(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		id := l.locate().ID
		l.repo.SetHead("main", commitA)
		l.repo.PlanNext(woodsim.Plan{FetchError: "500"})
		row, err := pipeline.StartBranch(within(t, time.Minute), l.client, id, "main")
		if err != nil || row.Status != woodpecker.Error || len(l.Writes()) != 1 {
			t.Errorf("%v %s, %d effects", err, row.Status, len(l.Writes()))
		}
	})
}

// A restart that does not compile answers 500 and leaves a row: that is it.
func TestRestartThatWentWrong(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		id := l.locate().ID
		p := woodsim.Red("unit", 3)
		p.RerunBroken = true
		l.repo.Push(commitA, p)
		l.Settle()
		row, err := pipeline.RestartRow(within(t, time.Minute), l.client, id, woodpecker.Pipeline{ID: 1, Number: 1})
		if err != nil || row.Status != woodpecker.Error || row.Number != 2 || len(l.Writes()) != 1 {
			t.Errorf("%v %d %s, %d effects", err, row.Number, row.Status, len(l.Writes()))
		}
	})
}

// The number of a row that was deleted belongs to another: a lost write is not
// sent to that one.
func TestWriteToAReusedNumber(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		id := l.locate().ID
		p := l.repo.Push(commitA, woodsim.Running(time.Hour))
		row := woodpecker.Pipeline{ID: p.ID(), Number: 1, Status: "running"}
		l.lb.NextMatch(1, faultlb.Hang, faultlb.Match("POST", ""))
		l.at(5*second, func() { p.Delete(); l.repo.Push(woodsim.Commit{Message: "b"}, woodsim.Running(time.Hour)) })
		_, err := pipeline.CancelRow(within(t, time.Minute), l.client, id, row)
		var w *pipeline.WriteError
		if !errors.As(err, &w) || w.Why != pipeline.Unclear || len(l.Writes()) != 0 {
			t.Errorf("%v, effects %+v", err, l.Writes())
		}
	})
}

// Somebody else is faster: what happened is told, and nothing is repeated.
func TestWriteOvertaken(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		id := l.locate().ID
		p := l.repo.Push(commitA, woodsim.Blocked(woodsim.Running(time.Hour)))
		l.lb.NextMatch(1, faultlb.ResetBefore, faultlb.Match("POST", ""))
		p.Decline("bob")
		_, err := pipeline.ApproveRow(within(t, time.Minute), l.client, id, woodpecker.Pipeline{ID: p.ID(), Number: 1, Status: "blocked"})
		var w *pipeline.WriteError
		if !errors.As(err, &w) || w.Why != pipeline.WrongState || w.Text != "pipeline 1 is declined" || len(l.Writes()) != 0 {
			t.Errorf("%v, effects %+v", err, l.Writes())
		}
	})
}

// The answer to a write names another row than the one it made: that row is
// not handed on, and the new one is found.
func TestWriteAnswersWithAnotherRow(t *testing.T) {
	answers := map[string][]string{
		"restart": {
			`{"id":1,"number":1,"parent":1,"status":"success","commit":"` + shaA() + `"}`,
			`{"id":9,"number":1,"status":"success","commit":"` + shaA() + `"}`,
			`{"id":9,"number":9,"parent":7,"status":"success","commit":"` + shaA() + `"}`,
			`{"id":9,"number":9,"parent":1,"status":"success","commit":"` + woodsim.SHA("b") + `"}`,
		},
		"run": {
			`{"id":9,"number":9,"event":"push","branch":"main","status":"success"}`,
			`{"id":9,"number":9,"event":"manual","branch":"other","status":"success"}`,
		},
		"approve": {`{"id":9,"number":1,"status":"running"}`, `{"id":1,"number":2,"status":"running"}`},
		"decline": {`{"id":9,"number":1,"status":"declined"}`},
	}
	for _, d := range deeds() {
		for _, body := range answers[d.name] {
			t.Run(d.name+"/"+body, func(t *testing.T) {
				bubble(t, options{}, func(t *testing.T, l *lab) {
					repo := l.locate().ID
					d.setup(l)
					l.alter = func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
						resp, err := send()
						if r.Method == http.MethodPost {
							return said(r, 200, body), nil
						}
						return resp, err
					}
					got, err := d.do(within(t, 5*time.Minute), l, repo)
					if err != nil || got.ID != d.id || len(l.Writes()) != 1 {
						t.Errorf("%v, row %d, %d effects", err, got.ID, len(l.Writes()))
					}
				})
			})
		}
	}
}

// The answer says yes and nothing happens: nobody may say that it did.
func TestWriteWithoutEffect(t *testing.T) {
	for _, d := range deeds() {
		for name, answer := range map[string]func(r *http.Request) *http.Response{
			"204": func(r *http.Request) *http.Response { return said(r, 204, "") },
			"204 of a proxy": func(r *http.Request) *http.Response {
				x := said(r, 204, "")
				x.Header.Del("X-Woodpecker-Version")
				x.Header.Set("Pipeline-Filtered", "true")
				return x
			},
			"the row as it was": func(r *http.Request) *http.Response {
				return said(r, 200, `{"id":1,"number":1,"status":"blocked"}`)
			},
			"the web page": func(r *http.Request) *http.Response {
				x := said(r, 200, "<!doctype html>")
				x.Header.Set("Content-Type", "text/html")
				return x
			},
		} {
			t.Run(d.name+"/"+name, func(t *testing.T) {
				bubble(t, options{}, func(t *testing.T, l *lab) {
					repo := l.locate().ID
					d.setup(l)
					l.alter = func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
						if r.Method == http.MethodPost {
							return answer(r), nil
						}
						return send()
					}
					start := time.Now()
					got, err := d.do(within(t, 5*time.Minute), l, repo)
					if d.name == "cancel" && name == "204" { // the server's word, and the row is at work
						if err != nil || got.Status != woodpecker.Running || time.Since(start) > 3*second {
							t.Errorf("%v, %s after %s", err, got.Status, time.Since(start))
						}
						return
					}
					var w *pipeline.WriteError
					if !errors.As(err, &w) || w.Why != pipeline.Unclear {
						t.Errorf("%v, row %d %s", err, got.ID, got.Status)
					}
				})
			})
		}
	}
}

// A cancelled row takes a moment to be killed.
func TestCancelShowsLate(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		repo := l.locate().ID
		p := l.repo.Push(commitA, woodsim.Running(time.Hour))
		l.alter = func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
			if r.Method == http.MethodPost {
				l.at(1200*time.Millisecond, func() { p.Cancel("ada") })
				return said(r, 204, ""), nil
			}
			return send()
		}
		got, err := pipeline.CancelRow(within(t, time.Minute), l.client, repo, woodpecker.Pipeline{ID: p.ID(), Number: 1, Status: "running"})
		if err != nil || got.Status != woodpecker.Killed {
			t.Errorf("%v, %s", err, got.Status)
		}
	})
}

// The answer says yes, and something else became of the row.
func TestWriteTakenAndOvertaken(t *testing.T) {
	bubble(t, options{}, func(t *testing.T, l *lab) {
		repo := l.locate().ID
		p := l.repo.Push(commitA, woodsim.Running(time.Hour))
		l.alter = func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
			if r.Method == http.MethodPost {
				p.Stop()
				p.SetStatus("success")
				return said(r, 204, ""), nil
			}
			return send()
		}
		_, err := pipeline.CancelRow(within(t, time.Minute), l.client, repo, woodpecker.Pipeline{ID: p.ID(), Number: 1, Status: "running"})
		var w *pipeline.WriteError
		if !errors.As(err, &w) || w.Why != pipeline.WrongState || w.Text != "pipeline 1 is success" {
			t.Errorf("%v", err)
		}
	})
}
