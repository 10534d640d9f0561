package notify

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/pkg/artifact"
)

func id(c string) artifact.ID { return artifact.ID("sha256:" + strings.Repeat(c, 64)) }

func noon() time.Time { return time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC) }

// facts is a watch that runs a and has looked.
func facts() Facts {
	var s artifact.State
	s.Looks, s.LastGood = 1, noon()
	s.Memory.Phase = artifact.Live
	s.Memory.Running = &artifact.Version{Candidate: artifact.Candidate{ID: id("a")}}
	s.Observed = artifact.Observation{Sight: artifact.Runs, ID: id("a")}
	return Facts{
		Now: noon(), Name: "www", Run: "run1", From: "shelf:x", To: "host:y", State: s,
		Next: func(o artifact.Outcome) string { return "help " + string(o.Why) },
	}
}

func ended(verdict artifact.Verdict, c string, change ...func(*artifact.Outcome)) func(*Facts) {
	return func(f *Facts) {
		o := artifact.Outcome{
			Verdict: verdict, Reason: "because", Candidate: &artifact.Candidate{ID: id(c)}, By: artifact.ByItself,
			Attempt: 1, Ended: f.Now,
		}
		for _, ch := range change {
			ch(&o)
		}
		f.State.Memory.Last = &o
	}
}

func held(why artifact.Why, c string) func(*Facts) {
	return func(f *Facts) {
		f.State.Memory.Offered = &artifact.Candidate{ID: id(c)}
		f.State.Hold = &artifact.Held{Why: why, Text: "it is so"}
	}
}

func free(f *Facts) { f.State.Hold = nil }

// restarted is what the next process knows before it has asked anybody.
func restarted(f *Facts) {
	m := f.State.Memory
	f.State = artifact.State{Memory: m}
	f.Run = "run2"
}

// rest is a watch again with nothing the matter, after it has looked.
func rest(f *Facts) {
	last := f.State.Memory.Last
	now := f.Now
	*f = facts()
	f.Now, f.State.Memory.Last = now, last
}

func TestDecide(t *testing.T) {
	back := func(o *artifact.Outcome) { o.Rollback = &artifact.Rollback{Done: true, To: id("a")} }
	by := func(c artifact.Cause) func(*artifact.Outcome) { return func(o *artifact.Outcome) { o.By = c } }
	set := func(f func(m *artifact.Memory)) func(*Facts) { return func(x *Facts) { f(&x.State.Memory) } }
	trouble := func(f *Facts) { f.State.Troubled = true }
	type step struct {
		do   func(*Facts)
		want string // names, with what is over
	}
	for name, steps := range map[string][]step{
		"nothing new":               {{rest, ""}, {rest, ""}},
		"live, once":                {{ended("live", "b"), "live"}, {rest, ""}, {restarted, ""}},
		"failed":                    {{ended("failed", "b"), "failed"}},
		"rolled back":               {{ended("failed", "b", back), "rolled_back"}, {held(artifact.Quarantined, "b"), ""}},
		"two in a row":              {{ended("failed", "b", back), "rolled_back"}, {ended("failed", "c", back), "rolled_back"}},
		"the workload is gone":      {{ended("absent", "b"), "failed"}},
		"enforced":                  {{ended("live", "a", by(artifact.ByEnforce)), "live"}},
		"unreachable, one recovery": {{trouble, "unreachable"}, {trouble, ""}, {rest, "recovered(unreachable)"}, {rest, ""}},
		"a long outage, one recovery": {
			{trouble, "unreachable"},
			{func(f *Facts) { f.State.Stale = true }, "stale"},
			{restarted, ""},
			{trouble, ""},
			{rest, "recovered(unreachable stale)"},
		},
		"a restart in an outage is no recovery": {{trouble, "unreachable"}, {restarted, ""}, {restarted, ""}, {rest, "recovered(unreachable)"}},
		"the build fails": {
			{func(f *Facts) { f.State.Failing = "pipeline 7 failed" }, "upstream_failing"},
			{func(f *Facts) { f.State.Failing = "pipeline 8 failed" }, ""},
			{restarted, ""},
			{rest, "recovered(upstream_failing)"},
		},
		"halted": {
			{func(f *Facts) {
				ended("unsafe", "b")(f)
				f.State.Memory.Halt, f.State.Memory.Phase = "no way back", artifact.Halted
			}, "halted"},
			{restarted, ""},
			{rest, ""},
			{set(func(m *artifact.Memory) { m.Halt = "no way back" }), "halted"},
		},
		"halted and lifted at once": {{ended("unsafe", "b"), "halted"}},
		"contended": {
			{func(f *Facts) { ended("conflict", "b")(f); f.State.Memory.Contended = "helm writes" }, "contended"}, {rest, ""},
		},
		"drifted": {
			{set(func(m *artifact.Memory) { m.Drift = &artifact.Observation{Sight: artifact.Runs, ID: id("c")} }), "drifted"},
			{restarted, ""},
			{set(func(m *artifact.Memory) { m.Drift = &artifact.Observation{Sight: artifact.Runs, ID: id("d")} }), "drifted"},
			{rest, "recovered(drifted)"},
		},
		"drifted in a deployment": {
			{func(f *Facts) {
				ended("held", "b")(f)
				f.State.Memory.Drift = &artifact.Observation{Sight: artifact.Nothing}
			}, "drifted"},
			{set(func(m *artifact.Memory) { m.Drift, m.Phase = nil, artifact.Switching }), ""},
		},
		"paused": {
			{set(func(m *artifact.Memory) { m.Pause = &artifact.Pause{At: noon(), Reason: "demo"} }), "paused"},
			{held(artifact.Paused, "b"), ""},
			{rest, "resumed(paused)"},
		},
		"gone back by hand": {
			{set(func(m *artifact.Memory) { m.Pin, m.Phase = id("a"), artifact.Switching }), ""},
			{func(f *Facts) { ended("live", "a", by(artifact.ByRollback))(f); f.State.Memory.Phase = artifact.Live }, "pinned"},
			{restarted, ""},
			{set(func(m *artifact.Memory) { m.Halt = "x" }), "halted"},
			{rest, "resumed(pinned)"},
		},
		"held, however often it is tried": {
			{held(artifact.DiskFull, "b"), "held"},
			{free, ""},
			{held(artifact.DiskFull, "b"), ""},
			{restarted, ""},
			{held(artifact.DiskFull, "b"), ""},
			{held(artifact.NoWayBack, "b"), "held"},
			{held(artifact.DiskFull, "b"), ""},
			{held(artifact.DiskFull, "c"), "held"},
		},
		"held again after an end": {
			{held(artifact.Window, "b"), "held"}, {func(f *Facts) { free(f); ended("live", "b")(f) }, "live"}, {held(artifact.Window, "b"), "held"},
		},
		"at work it is not held": {{func(f *Facts) { held(artifact.DiskFull, "b")(f); f.State.Memory.Phase = artifact.Staged }, ""}},
		"the source went back":   {{held(artifact.Regressed, "b"), "source_regressed"}, {rest, ""}},
		"the disk":               {{func(f *Facts) { f.Stuck = "no space" }, "stuck"}, {func(f *Facts) { f.Stuck = "" }, "recovered(stuck)"}},
		"much at once":           {{func(f *Facts) { ended("failed", "b")(f); trouble(f) }, "failed unreachable"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts()
			told := First(f)
			for n, s := range steps {
				f.Now = f.Now.Add(time.Minute)
				s.do(&f)
				before := maps.Clone(told.Open)
				news, next := Decide(told, f)
				if !maps.Equal(before, told.Open) {
					t.Error("the argument was changed")
				}
				var got []string
				for _, x := range news {
					word := string(x.Event)
					if x.Of != nil {
						of := make([]string, len(x.Of))
						for i, o := range x.Of {
							of[i] = string(o)
						}
						word += "(" + strings.Join(of, " ") + ")"
					}
					got = append(got, word)
					if x.Title == "" || x.Text == "" || x.ID == "" || x.Priority == 0 || !slices.Contains(Names(), x.Event) {
						t.Errorf("%+v", x)
					}
				}
				if g := strings.Join(got, " "); g != s.want {
					t.Errorf("step %d: told %q, want %q", n, g, s.want)
				}
				// What was told is remembered as it is on disk.
				raw, err := json.Marshal(next)
				if err != nil {
					t.Fatal(err)
				}
				told = Told{}
				if err := json.Unmarshal(raw, &told); err != nil {
					t.Fatal(err)
				}
				if again, _ := Decide(told, f); len(again) != 0 {
					t.Errorf("step %d: told again: %+v", n, again)
				}
			}
		})
	}
}

// The first receiver is told what is the matter, and no old news.
func TestFirst(t *testing.T) {
	f := facts()
	ended("failed", "b")(&f)
	f.State.Memory.Halt = "no way back"
	news, _ := Decide(First(f), f)
	if len(news) != 1 || news[0].Event != Halted {
		t.Errorf("%+v", news)
	}
}

// Foreign text becomes one line of words, and is cut.
func TestCleaned(t *testing.T) {
	f := facts()
	f.State.Failing = "pipeline \x1b[31m7\x1b[0m: " + strings.Repeat("é", 2000) + "\x00\nX-Evil: 1"
	news, _ := Decide(First(f), f)
	if text := news[0].Text; len(text) > maxText+10 || strings.ContainsAny(text, "\x1b\x00\n") || !strings.HasPrefix(text, "pipeline 7: é") {
		t.Errorf("%q", text)
	}
}

// All look different.
func TestLook(t *testing.T) {
	tags := map[string]Name{}
	for _, n := range Names() {
		priority, tag := n.look()
		if tag == "loudspeaker" || priority < 1 || priority > 5 {
			t.Errorf("%s has no look", n)
		}
		if tag != "warning" && tags[tag] != "" {
			t.Errorf("%s looks like %s", n, tags[tag])
		}
		tags[tag] = n
	}
}
