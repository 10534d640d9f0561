package lease

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/run"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
)

// scene is an API server with a lease on it.
type scene struct {
	t   *testing.T
	sim *kubesim.Sim
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t, kubesim.New(kubesim.Options{})}
	s.sim.Put("leases", kubesim.Object{"metadata": kubesim.Object{
		"name": "homelab-watch", "namespace": "shop", "annotations": kubesim.Object{"mine": "stays"},
	}})
	return s
}

func (s *scene) cluster() *kube.Cluster {
	return kube.New(kubesim.Base(), s.sim.Transport(kubesim.Admin), kube.Options{Random: func() float64 { return 0.5 }})
}

// one is a keeper at work, and what it told.
type one struct {
	*Keeper
	s      *scene
	c      *kube.Cluster
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	told []string
	last run.Tenure
}

func (s *scene) keep(me string, c Cluster) *one {
	o := &one{s: s, done: make(chan struct{})}
	if c == nil {
		o.c = s.cluster()
		c = o.c
	}
	o.Keeper = New(Spec{"shop", "homelab-watch"}, c, me)
	ctx, cancel := context.WithCancel(s.t.Context())
	o.cancel = cancel
	go func() {
		defer close(o.done)
		o.Keep(ctx, func(t run.Tenure) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.last = t
			text := "held"
			if !t.Held {
				text = string(t.Kind) + " " + t.Why
			}
			if n := len(o.told); n == 0 || o.told[n-1] != text {
				o.told = append(o.told, text)
			}
		})
	}()
	return o
}

func (o *one) kill() {
	o.cancel()
	<-o.done
	if o.c != nil {
		o.c.Close()
	}
}

func (o *one) end() {
	o.cancel()
	<-o.done
	if err := o.Release(o.s.t.Context()); err != nil {
		o.s.t.Error(err)
	}
	o.kill()
}

func (o *one) state() run.Tenure {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

func (o *one) story() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.told, "; ")
}

func (o *one) surely(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(o.s.t.Context(), d)
	defer cancel()
	return o.Sure(ctx) == nil
}

func bubble(t *testing.T, f func(t *testing.T, s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		f(t, s)
		s.sim.Close()
	})
}

func id(n int) artifact.ID { return artifact.ID(fmt.Sprintf("sha256:%064d", n)) }

// Two want it: one stands by, and takes over within the term and a look when
// the other is killed, at once when it gives it up.
func TestTurns(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		a := s.keep("a", nil)
		time.Sleep(time.Second)
		b := s.keep("b", nil)
		time.Sleep(time.Minute)
		if !a.state().Held || b.state().Held {
			t.Fatalf("%s | %s", a.story(), b.story())
		}
		if got := b.story(); got != "conflict lease shop/homelab-watch is held by a" {
			t.Error(got)
		}
		a.Note([]artifact.Attempted{{ID: id(1), Outcome: "rolled_back", Reason: "503"}})
		if !a.surely(time.Second) || b.surely(time.Second) {
			t.Error("who may act?")
		}
		a.kill()
		began := time.Now()
		for !b.state().Held && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < 9*time.Second || took > 18*time.Second {
			t.Errorf("taken over after %s", took)
		}
		fates := b.state().Attempted
		if len(fates) != 1 || fates[0].ID != id(1) || fates[0].By != "a" || fates[0].Outcome != "rolled_back" {
			t.Errorf("%+v", fates)
		}
		o := s.sim.Object("leases", "shop", "homelab-watch")
		notes, _ := o["metadata"].(kubesim.Object)["annotations"].(kubesim.Object)
		spec, _ := o["spec"].(kubesim.Object)
		if notes["mine"] != "stays" || spec["holderIdentity"] != "b" || fmt.Sprint(spec["leaseDurationSeconds"], spec["leaseTransitions"]) != "15 2" {
			t.Errorf("%v %v", notes, spec)
		}
		a = s.keep("a", nil)
		time.Sleep(5 * time.Second)
		b.end()
		time.Sleep(looks + time.Second)
		if !a.state().Held || len(a.state().Attempted) != 1 {
			t.Errorf("%s", a.story())
		}
		// The same one again, after it was killed, has not to wait.
		a.kill()
		a = s.keep("a", nil)
		time.Sleep(time.Second)
		if !a.state().Held {
			t.Errorf("%s", a.story())
		}
		a.end()
	})
}

// Nothing is made: get and update are all that the Role allows, and every
// renewal is one request.
func TestRequests(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		a := s.keep("a", nil)
		time.Sleep(time.Minute)
		a.end()
		verbs := map[string]int{}
		for _, r := range s.sim.Requests() {
			verbs[r.Verb]++
		}
		// A renewal that the end cuts short is looked after.
		if verbs["get"] < 1 || verbs["get"] > 2 || verbs["update"] < 12 || verbs["update"] > 15 || len(verbs) != 2 {
			t.Errorf("%v", verbs)
		}
	})
}

// Right before anything is changed five seconds are left; after a term without
// an answer it is lost, and not before.
func TestLostAndHadAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		a := s.keep("a", nil)
		time.Sleep(time.Second)
		s.sim.Down(40 * time.Second)
		began := time.Now()
		for time.Since(began) < 40*time.Second {
			held := a.state().Held
			switch since := time.Since(began); {
			case since < 9*time.Second && !held, since > 16*time.Second && held:
				t.Fatalf("held %v after %s: %s", held, since, a.story())
			case since > 10*time.Second && since < 14*time.Second && a.surely(time.Millisecond):
				t.Fatalf("sure after %s", since)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if got := a.story(); !strings.HasPrefix(got, "held; unreachable lease shop/homelab-watch cannot be asked for") {
			t.Error(got)
		}
		time.Sleep(5 * time.Second)
		if !a.state().Held || !a.surely(time.Second) {
			t.Error(a.story())
		}
		a.end()
	})
}

// taken replaces the lease under whoever holds it.
func TestTaken(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		a := s.keep("a", nil)
		time.Sleep(time.Second)
		s.sim.Update("leases", "shop", "homelab-watch", func(o kubesim.Object) {
			o["metadata"].(kubesim.Object)["labels"] = kubesim.Object{"by": "somebody"}
		})
		time.Sleep(10 * time.Second)
		if !a.state().Held {
			t.Fatal("a label is no holder: " + a.story())
		}
		s.sim.Update("leases", "shop", "homelab-watch", func(o kubesim.Object) {
			o["spec"].(kubesim.Object)["holderIdentity"] = "b"
		})
		if a.Note(nil); a.surely(3 * time.Second) {
			t.Error("sure")
		}
		if got := a.story(); got != "held; conflict lease shop/homelab-watch was taken by b; conflict lease shop/homelab-watch is held by b" {
			t.Error(got)
		}
		a.end()
	})
}

// A renewal that was cut short by the end arrived: it is given up all the same.
func TestReleaseAfterACut(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		a := s.keep("a", nil)
		time.Sleep(time.Second)
		a.cancel()
		<-a.done
		s.sim.Update("leases", "shop", "homelab-watch", func(o kubesim.Object) {
			o["spec"].(kubesim.Object)["renewTime"] = time.Now().Format(time.RFC3339Nano)
		})
		a.end()
		if spec, _ := s.sim.Object("leases", "shop", "homelab-watch")["spec"].(kubesim.Object); spec["holderIdentity"] != "" {
			t.Errorf("%v", spec)
		}
	})
}

func TestCannotBeHad(t *testing.T) {
	for name, c := range map[string]struct {
		with func(*kubesim.Sim)
		want string
	}{
		"absent":     {func(s *kubesim.Sim) { s.Delete("leases", "shop", "homelab-watch") }, "absent there is no lease shop/homelab-watch: it comes with the manifest"},
		"no get":     {func(s *kubesim.Sim) { s.Inject(kubesim.Fault{Kind: kubesim.Status, Verb: "get", Code: 403}) }, "denied"},
		"no update":  {func(s *kubesim.Sim) { s.Inject(kubesim.Fault{Kind: kubesim.Status, Verb: "update", Code: 403}) }, "denied"},
		"no answer":  {func(s *kubesim.Sim) { s.Inject(kubesim.Fault{Kind: kubesim.Silent}) }, "unreachable"},
		"unreadable": {func(s *kubesim.Sim) { attempted(s, "[{") }, "held the annotation homelab/attempted of lease shop/homelab-watch cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *scene) {
				c.with(s.sim)
				a := s.keep("a", nil)
				time.Sleep(30 * time.Second)
				if got := a.story(); !strings.HasPrefix(got, c.want) || a.state().Held || a.state().Soon {
					t.Errorf("%s, want %s", got, c.want)
				}
				a.end()
			})
		})
	}
}

func attempted(s *kubesim.Sim, text string) {
	s.Update("leases", "shop", "homelab-watch", func(o kubesim.Object) {
		o["metadata"].(kubesim.Object)["annotations"] = kubesim.Object{Annotation: text}
	})
}

// skewed is a machine whose clock is wrong, and whose server tells no time.
type skewed struct {
	*kube.Cluster
	by time.Duration
}

func (s skewed) Now() time.Time { return time.Now().Add(s.by) }

// A wrong clock takes nothing from anybody.
func TestClocks(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		c := s.cluster()
		a := s.keep("a", skewed{c, -time.Hour})
		time.Sleep(time.Second)
		b := s.keep("b", skewed{c, time.Hour})
		time.Sleep(2 * time.Minute)
		if !a.state().Held || strings.Contains(a.story()+b.story(), "taken") || strings.Contains(b.story(), "held;") {
			t.Errorf("%s | %s", a.story(), b.story())
		}
		b.kill()
		a.end()
		c.Close()
	})
}

// A single run does not wait for somebody who is alive.
func TestLook(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		a := s.keep("a", nil)
		time.Sleep(time.Second)
		c := s.cluster()
		k := New(Spec{"shop", "homelab-watch"}, c, "b")
		if got := k.Look(t.Context()); got.Held || got.Kind != fault.Conflict {
			t.Errorf("%+v", got)
		}
		a.end()
		if got := k.Look(t.Context()); !got.Held {
			t.Errorf("%+v", got)
		}
		if slices.ContainsFunc(s.sim.Requests(), func(r kubesim.Request) bool { return strings.Contains(fmt.Sprint(r), `"b"`) }) {
			t.Error("a look wrote")
		}
		c.Close()
	})
}

func TestParse(t *testing.T) {
	if s, err := Parse("shop/homelab-watch"); err != nil || s.String() != "shop/homelab-watch" {
		t.Errorf("%v %v", s, err)
	}
	for _, bad := range []string{"", "shop", "/x", "shop/", "Shop/x", "a/b/c", "a.b/c", "shop/-x"} {
		if _, err := Parse(bad); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
