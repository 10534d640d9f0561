package pipeline

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/woodpecker"
)

// The average stays below one reading per five seconds, whatever the tree
// looks like, and an end that is likely is looked for every two seconds.
func TestCadence(t *testing.T) {
	busy := row("running", "test running unit:running")
	busy.Workflows[0].Steps[0].Finished = 0
	waiting := row("running", "test running unit:running e2e:pending")
	tests := []struct {
		name   string
		row    woodpecker.Pipeline
		median time.Duration
		early  time.Duration // the first gap
		mid    time.Duration // at five minutes
	}{
		{"something waits", waiting, 0, soon, later},
		{"nothing waits", busy, 0, soon, refill},
		{"pending", row("pending", "test pending"), 0, soon, later},
		{"about to end as usual", waiting, 310 * time.Second, soon, soon},
		{"usual end long past", waiting, 100 * time.Second, soon, later},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			c := newCadence(start)
			var d time.Duration
			reads, mid := 0, time.Duration(0)
			for now := start; now.Sub(start) < 10*time.Minute; now = now.Add(d) {
				ran := now.Sub(start)
				if d, c = c.next(now, start, tt.row, tt.median, ran); reads == 0 && d != tt.early {
					t.Errorf("first gap %s", d)
				}
				if ran <= 5*time.Minute {
					mid = d
				}
				reads++
			}
			if mid != tt.mid {
				t.Errorf("gap at five minutes %s, want %s", mid, tt.mid)
			}
			if reads > 120 {
				t.Errorf("%d readings in ten minutes, more than one per 5 s", reads)
			}
		})
	}
	// A day of it: the bucket never pays more than it holds.
	start := time.Unix(1000, 0)
	c, reads := newCadence(start), 0
	var d time.Duration
	for now := start; now.Sub(start) < 24*time.Hour; now = now.Add(d) {
		d, c = c.next(now, start, busy, 0, 0)
		reads++
	}
	if most := 25 + int(24*time.Hour/refill) + 1; reads > most {
		t.Errorf("%d readings in a day, want %d at most", reads, most)
	}
	// After an idle hour the bucket is full and no fuller.
	c.tokens = 0
	_, c = c.next(c.at.Add(time.Hour), start, waiting, 0, 0)
	if c.tokens != mostReads-1 {
		t.Errorf("%g left after an idle hour", c.tokens)
	}
}

func TestClosing(t *testing.T) {
	for i, want := range []time.Duration{150 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, later, later} {
		if got := closing(i); got != want {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
}

func TestMedianRun(t *testing.T) {
	green := func(id, secs int64, f func(*woodpecker.Pipeline)) woodpecker.Pipeline {
		p := rw(id, "push", sha1, 0)
		p.Status, p.Started, p.Finished = "success", 100, 100+secs
		if f != nil {
			f(&p)
		}
		return p
	}
	like := rw(99, "push", sha2, 0)
	rows := []woodpecker.Pipeline{
		green(9, 70, nil),
		green(8, 1000, func(p *woodpecker.Pipeline) { p.Status = "failure" }),
		green(7, 1000, func(p *woodpecker.Pipeline) { p.Branch = "topic" }),
		green(6, 1000, func(p *woodpecker.Pipeline) { p.Event = "cron" }),
		green(5, 0, nil), green(4, 50, nil), green(3, 60, nil), green(2, 90, nil), green(1, 80, nil),
		green(0, 5000, nil), // the sixth
	}
	if got := medianRun(rows, like); got != 70*time.Second {
		t.Errorf("%s", got)
	}
	if got := medianRun(nil, like); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
}

func TestAllStepsEnded(t *testing.T) {
	for want, flows := range map[bool][][]string{
		true:  {{"a running x:success y:failure"}, {"a success x:success", "b running y:skipped"}, {"a success", "b running y:success"}},
		false: {{}, {"a running"}, {"a running x:success y:running"}, {"a success x:success", "b pending"}, {"a running x:success y:odd"}, {"a success"}},
	} {
		for _, f := range flows {
			if got := allStepsEnded(row("running", f...).Workflows); got != want {
				t.Errorf("%v: %t", f, got)
			}
		}
	}
}

func TestGate(t *testing.T) {
	g := Gate{Only: []string{"test", "lint"}, Ignore: []string{"lint"}}
	for name, want := range map[string]bool{"test": true, "lint": false, "build": false, "tes": false} {
		if g.Counts(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
	if (Gate{}).Named() || !(Gate{}).Counts("x") || !(Gate{Ignore: []string{"a"}}).Counts("x") {
		t.Error("the zero gate does not count all")
	}
	flows := row("running", "test success", "test failure", "build success").Workflows
	if got := names(g.gated(flows)); got != "test" || len(g.gated(flows)) != 2 {
		t.Errorf("gated %q", got)
	}
	if got := g.unknownNames(flows); len(got) != 2 || got[0] != "lint" {
		t.Errorf("unknown %q", got)
	}
}

// show words a tree.
func show(p woodpecker.Pipeline) string {
	var b strings.Builder
	b.WriteString(string(p.Status))
	for _, w := range p.Workflows {
		fmt.Fprintf(&b, " %d=%s", w.ID, w.State)
		for _, s := range w.Steps {
			fmt.Fprintf(&b, " %s=%s", s.Name, s.State)
		}
	}
	return b.String()
}

func TestMerge(t *testing.T) {
	tree := func(id int64, p woodpecker.Pipeline) woodpecker.Pipeline {
		for i := range p.Workflows {
			p.Workflows[i].ID = id + int64(i)
			for j := range p.Workflows[i].Steps {
				p.Workflows[i].Steps[j].ID = id*100 + int64(j)
			}
		}
		return p
	}
	at := func(updated int64, p woodpecker.Pipeline) woodpecker.Pipeline { p.Updated = updated; return p }
	tests := []struct {
		name      string
		old, told woodpecker.Pipeline
		want      string
	}{
		{"forward", tree(1, row("pending", "a pending x:pending")), tree(1, row("running", "a running x:running")), "running 1=running x=running"},
		{"late event", tree(1, row("running", "a running x:success y:running")), tree(1, row("running", "a running x:running y:pending")), "running 1=running x=success y=running"},
		{"late event of a pending pipeline", tree(1, row("success", "a success x:success")), tree(1, row("pending", "a pending x:pending")), "success 1=success x=success"},
		{"half late", tree(1, row("running", "a success x:success", "b pending")), tree(1, row("running", "a running x:running", "b running")), "running 1=success x=success 2=running"},
		{"without a tree", tree(1, row("running", "a running x:running")), row("killed"), "killed 1=running x=running"},
		{"approved", tree(1, row("blocked", "a blocked x:blocked")), tree(5, row("pending", "a pending x:pending")), "pending 5=pending x=pending"},
		{"late event from before the approval", tree(5, row("running", "a running x:running")), tree(1, row("blocked", "a blocked x:blocked")), "running 5=running x=running"},
		{"flipped end", at(10, row("killed")), at(12, row("success")), "success"},
		{"late event of the first end", at(12, row("success")), at(10, row("killed")), "success"},
		{"another row", tree(1, row("success", "a success")), with(tree(7, row("pending", "a pending")), func(p *woodpecker.Pipeline) { p.ID = 77 }), "pending 7=pending"},
		{"an unknown state counts as running", tree(1, row("running", "a running x:pending")), tree(1, row("running", "a running x:odd")), "running 1=running x=odd"},
		{"and does not undo an end", tree(1, row("running", "a running x:success")), tree(1, row("odd", "a running x:odd")), "odd 1=running x=success"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := show(merge(tt.old, tt.told)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// In whatever order a life's events arrive, no displayed state goes back.
func TestMergeNeverGoesBack(t *testing.T) {
	life := []woodpecker.Pipeline{
		row("created"), row("pending", "a pending x:pending y:pending"), row("running", "a running x:running y:pending"),
		row("running", "a running x:success y:running"), row("running", "a success x:success y:success"), row("success", "a success x:success y:success"),
	}
	for i := range life {
		life[i].Updated = int64(i)
		for w := range life[i].Workflows {
			for s := range life[i].Workflows[w].Steps {
				life[i].Workflows[w].Steps[s].ID = int64(s + 1)
			}
		}
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		cur := life[0]
		for range 20 {
			next := merge(cur, life[r.IntN(len(life))])
			if stage(next.Status) < stage(cur.Status) || len(next.Workflows) < len(cur.Workflows) {
				t.Fatalf("seed %d: %s after %s", seed, show(next), show(cur))
			}
			for i := range cur.Workflows {
				if stage(next.Workflows[i].State) < stage(cur.Workflows[i].State) {
					t.Fatalf("seed %d: %s after %s", seed, show(next), show(cur))
				}
				for j := range cur.Workflows[i].Steps {
					if stage(next.Workflows[i].Steps[j].State) < stage(cur.Workflows[i].Steps[j].State) {
						t.Fatalf("seed %d: %s after %s", seed, show(next), show(cur))
					}
				}
			}
			cur = next
		}
	}
}

func TestDiff(t *testing.T) {
	old := row("running", "a running x:running", "b pending")
	same := row("running", "a running x:running", "b pending")
	if _, ok := diff(old, same); ok {
		t.Error("the same differs")
	}
	cur := row("running", "a success x:success", "b pending")
	cur.Workflows[0].Steps[0].ID = old.Workflows[0].Steps[0].ID
	c, ok := diff(old, cur)
	if !ok || c.Status || len(c.Workflows) != 1 || c.Workflows[0].Name != "a" || len(c.Steps) != 1 || c.Steps[0].Step.Name != "x" || c.Steps[0].Workflow.Name != "a" {
		t.Errorf("%+v", c)
	}
	if c, ok := diff(row("pending"), row("running")); !ok || !c.Status {
		t.Errorf("%+v", c)
	}
}

func TestStuck(t *testing.T) {
	var q woodpecker.Queue
	q.Stats.Workers = 2
	paused, idle, ahead := q, q, q
	paused.Paused = true
	idle.Stats.Workers = 0
	ahead.Pending = make([]json.RawMessage, 3)
	for want, got := range map[string]string{
		"pending for 2 min: no agent has taken it":                        stuck(q, true),
		"pending for 2 min: the server's queue is paused":                 stuck(paused, true),
		"pending for 2 min: no agent is connected":                        stuck(idle, true),
		"pending for 2 min: 2 tasks ahead or beside it in the queue":      stuck(ahead, true),
		"pending for 2 min: no agent has taken it, as far as can be told": stuck(q, false),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// hearing makes a watch of row with an ear that was told so.
func hearing(r woodpecker.Pipeline, told ...woodpecker.Pipeline) *watch {
	w := &watch{row: r, shown: r, emit: func(Update) {}, noted: map[string]bool{}, lastRead: time.Now(), cadence: newCadence(time.Now())}
	w.ears = &listener{wake: make(chan struct{}, 1), healthy: true, told: told}
	w.hearing = true
	w.src, w.began = localClock{}, time.Now()
	return w
}

// localClock is a server that only tells the time.
type localClock struct{ Source }

func (localClock) Now() time.Time { return time.Now() }

// Which events make a read urgent.
func TestHear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := row("running", "a running x:running", "b running y:running")
		other := with(row("success", "a success"), func(p *woodpecker.Pipeline) { p.ID = 1 })
		known := row("running", "a failure x:failure", "b running y:running")
		tests := []struct {
			name   string
			row    woodpecker.Pipeline
			gate   Gate
			told   woodpecker.Pipeline
			urgent bool
		}{
			{"progress", base, Gate{}, row("running", "a running x:success", "b running y:running"), false},
			{"ended", base, Gate{}, row("success", "a success x:success", "b success y:success"), true},
			{"killed", base, Gate{}, row("killed", "a running x:running", "b running y:running"), true},
			{"blocked", row("created"), Gate{}, row("blocked", "a blocked"), true},
			{"a workflow ended well", base, Gate{}, row("running", "a success x:success", "b running y:running"), false},
			{"a workflow ended badly", base, Gate{}, row("running", "a failure x:failure", "b running y:running"), true},
			{"and does not count", base, Gate{Only: []string{"b"}}, row("running", "a failure x:failure", "b running y:running"), false},
			{"all that count ended well", base, Gate{Only: []string{"a"}}, row("running", "a success x:success", "b running y:running"), true},
			{"and a reading has shown that", row("running", "a success x:success", "b running y:running"), Gate{Only: []string{"a"}}, row("running", "a success x:success", "b running y:success"), false},
			{"and a reading has shown it", known, Gate{}, row("running", "a failure x:failure", "b running y:success"), false},
			{"another row's end", base, Gate{}, other, false},
			{"an unknown status", base, Gate{}, row("odd", "a running x:running", "b running y:running"), false},
		}
		for _, tt := range tests {
			w := hearing(tt.row, tt.told)
			w.limits.Gate = tt.gate
			time.Sleep(time.Second)
			if got := w.hear(); got != tt.urgent {
				t.Errorf("%s: urgent %t", tt.name, got)
			}
			if w.row.Status != tt.row.Status {
				t.Errorf("%s: an event changed the reading", tt.name)
			}
			if tt.told.ID == tt.row.ID && show(w.shown) != show(merge(tt.row, tt.told)) {
				t.Errorf("%s: shown %s", tt.name, show(w.shown))
			}
		}

		w := hearing(base)
		w.ears.pinged = time.Now().Add(time.Second)
		if !w.hear() {
			t.Error("no read after the first ping")
		}
		w = hearing(base)
		w.ears.blind = true
		if !w.hear() {
			t.Error("no read after an event that was too long")
		}
		w = hearing(base)
		time.Sleep(soon)
		w.ears.healthy = false
		if !w.hear() {
			t.Error("no read when the stream is lost")
		}
		if w.hear() {
			t.Error("a stream is lost twice")
		}
		w = hearing(base)
		w.ears.healthy = false
		if w.hear() {
			t.Error("a read right after a read")
		}
	})
}

// When the next read is due.
func TestDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var none time.Time
		now := time.Now()
		w := hearing(row("running", "a running x:running y:pending"))
		w.ears.pinged = now.Add(-time.Minute)
		if got := w.due(&none).Sub(now); got != safety {
			t.Errorf("healthy: %s", got)
		}
		w.ears.pinged = now.Add(-time.Second)
		if got := w.due(&none).Sub(now); got != time.Second {
			t.Errorf("a second after the ping: %s", got)
		}
		w.ears.healthy = false
		if got := w.due(&none).Sub(now); got < 1800*time.Millisecond || got > 2200*time.Millisecond {
			t.Errorf("polling: %s", got)
		}
		w = hearing(row("running", "a running x:success"))
		w.count(false)
		if got := w.due(&none).Sub(now); got != 150*time.Millisecond {
			t.Errorf("all steps ended: %s", got)
		}
		for _, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, later, later} {
			w.lastRead = time.Now()
			w.count(true)
			if got := w.due(&none).Sub(now); got != want {
				t.Errorf("reading %d since: %s, want %s", w.closed, got, want)
			}
		}
		w.shown.Status = "success"
		w.count(true)
		if !w.closing.IsZero() {
			t.Error("still closing after the end")
		}
	})
}
