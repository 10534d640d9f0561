package rollout

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// record is a rollout as it happened: every version of every object, in the
// order in which the API server had them. Each object belongs to one watch,
// and only within a watch is the order known to a watcher.
type record struct {
	kind   Kind
	cfg    Config
	start  *world // what the first lists show
	target Target
	sets   map[string]ReplicaSet
	pods   map[string]Pod
	steps  []step
	now    time.Time
	// lag bounds how far a watch may fall behind another; 0 does not. A grace of
	// 45 s cannot be right for a watch that is a minute behind.
	lag time.Duration
}

type step struct {
	watch string
	at    time.Time
	apply func(*world)
	done  bool // from here on the whole is rolled out
}

func recordOf(kind Kind) *record {
	w := newWorld(kind)
	zero := time.Duration(0)
	w.cfg.Settle = &zero
	r := &record{kind: kind, start: w, now: noon(), sets: map[string]ReplicaSet{}, pods: map[string]Pod{}}
	w.Pods = []Pod{w.pod(0, "old", oldRef), w.pod(1, "old", oldRef), w.pod(2, "old", oldRef)}
	w.Target.Template, w.Target.Status.UpdateRevision, w.Target.Status.CurrentRevision = templateOf(oldRef, "old"), "web-old", "web-old"
	if kind == Deployment {
		w.ReplicaSets = []ReplicaSet{w.set("old", oldRef, 3, noon().Add(-time.Hour))}
	}
	if kind == DaemonSet {
		w.Revisions = w.Revisions[:1]
	}
	r.cfg, r.target = w.cfg, *w.Target
	for _, s := range w.ReplicaSets {
		r.sets[s.Name] = s
	}
	for _, p := range w.Pods {
		r.pods[p.Name] = p
	}
	return r
}

func (r *record) add(watch string, apply func(*world)) {
	r.now = r.now.Add(100 * time.Millisecond)
	r.steps = append(r.steps, step{watch: watch, at: r.now, apply: apply})
}

// finished marks that the rollout is complete as of the last step.
func (r *record) finished() { r.steps[len(r.steps)-1].done = true }

func (r *record) tgt(f func(*Target)) {
	f(&r.target)
	t := r.target
	t.Conditions = slices.Clone(t.Conditions)
	r.add("targets", func(w *world) { c := t; w.Target = &c })
}

func (r *record) set(name string, f func(*ReplicaSet)) {
	s := r.sets[name]
	f(&s)
	r.sets[name] = s
	r.add("sets", func(w *world) {
		w.ReplicaSets = append(slices.DeleteFunc(slices.Clone(w.ReplicaSets), func(o ReplicaSet) bool { return o.Name == name }), s)
	})
}

func (r *record) pod(p Pod) {
	p.Conditions, p.Containers = slices.Clone(p.Conditions), slices.Clone(p.Containers)
	r.pods[p.Name] = p
	r.add("pods", func(w *world) {
		w.Pods = append(slices.DeleteFunc(slices.Clone(w.Pods), func(o Pod) bool { return o.Name == p.Name }), p)
	})
}

func (r *record) gone(name string) {
	delete(r.pods, name)
	r.add("pods", func(w *world) {
		w.Pods = slices.DeleteFunc(slices.Clone(w.Pods), func(o Pod) bool { return o.Name == name })
	})
}

func (r *record) leaves(name string) {
	p := r.pods[name]
	p.Deleted, p.DeletionGrace = r.now.Add(30*time.Second), 30*time.Second
	r.pod(p)
	p.Conditions[1] = Condition{Type: "Ready", Status: "False", Transition: r.now}
	r.pod(p)
	r.gone(name)
}

// starts brings up a pod; bad keeps it from becoming ready.
func (r *record) starts(p Pod, bad *State) {
	fresh := func(s State, ready string) Pod {
		q := p
		q.Conditions, q.Containers = slices.Clone(p.Conditions), slices.Clone(p.Containers)
		q.Created = r.now
		q.Conditions[1] = Condition{Type: "Ready", Status: ready, Transition: r.now}
		q.Containers[0].State, q.Containers[0].Ready = s, ready == "True"
		return q
	}
	r.pod(fresh(waiting("ContainerCreating", ""), "False"))
	if bad != nil {
		r.pod(fresh(*bad, "False"))
		return
	}
	r.pod(fresh(State{Is: Running, Started: r.now}, "False"))
	r.pod(fresh(State{Is: Running, Started: r.now}, "True"))
}

func progress(t *Target, status, reason, message string) {
	t.Conditions = []Condition{{Type: "Progressing", Status: status, Reason: reason, Message: message}}
}

// change sets another template and lets the controller observe it, the way it
// does: the old status stands for a while.
func (r *record) change(rev, image string) {
	set := "web-" + rev
	r.tgt(func(t *Target) { t.Generation++; t.Template = templateOf(image, rev) })
	if _, known := r.sets[set]; !known {
		r.sets[set] = r.start.set(rev, image, 0, r.now)
	}
	r.set(set, func(*ReplicaSet) {})
	r.tgt(func(t *Target) { progress(t, "True", "NewReplicaSetCreated", `Created new replica set "`+set+`"`) })
	have := r.sets[set].Status
	r.tgt(func(t *Target) { t.Status.Observed, t.Status.Updated = t.Generation, have.Replicas })
}

// roll replaces pods one by one.
func (r *record) roll(from, to, image string, n int, bad *State) {
	for i := range n {
		old, fresh := "web-"+from, "web-"+to
		r.set(fresh, func(s *ReplicaSet) { s.Replicas++; s.Generation++ })
		r.starts(r.start.pod(i, to, image), bad)
		r.set(fresh, func(s *ReplicaSet) { s.Status.Replicas++; s.Status.Observed = s.Generation })
		r.tgt(func(t *Target) {
			t.Status.Replicas++
			t.Status.Updated++
			progress(t, "True", "ReplicaSetUpdated", "")
		})
		if bad != nil {
			return
		}
		r.set(fresh, func(s *ReplicaSet) { s.Status.Ready++; s.Status.Available++ })
		r.tgt(func(t *Target) { t.Status.Ready++; t.Status.Available++ })
		r.set(old, func(s *ReplicaSet) { s.Replicas--; s.Generation++ })
		r.leaves(fmt.Sprintf("web-%s-%d", from, i))
		r.set(old, func(s *ReplicaSet) {
			s.Status.Replicas--
			s.Status.Ready--
			s.Status.Available--
			s.Status.Observed = s.Generation
		})
		r.tgt(func(t *Target) { t.Status.Replicas--; t.Status.Ready--; t.Status.Available-- })
	}
}

// orders returns ways to deliver the steps that keep each watch's own order:
// as it happened, each watch wholly before the others, and seeded mixtures.
func (r *record) orders(mixtures int) map[string][]step {
	by := map[string][]step{}
	for _, s := range r.steps {
		by[s.watch] = append(by[s.watch], s)
	}
	names := slices.Sorted(maps.Keys(by))
	out := map[string][]step{"as it happened": r.steps}
	var permute func(done, left []string)
	permute = func(done, left []string) {
		if len(left) == 0 {
			var all []step
			for _, n := range done {
				all = append(all, by[n]...)
			}
			out[fmt.Sprint(done)] = all
		}
		for i, n := range left {
			permute(append(slices.Clone(done), n), slices.Delete(slices.Clone(left), i, i+1))
		}
	}
	if r.lag == 0 {
		permute(nil, names)
	}
	for seed := range mixtures {
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		at := map[string]int{}
		var all []step
		for len(all) < len(r.steps) {
			n := names[rng.IntN(len(names))]
			// A burst of one watch, then another's turn.
			for range 1 + rng.IntN(6) {
				if at[n] < len(by[n]) && (r.lag == 0 || !by[n][at[n]].at.After(oldest(by, at).Add(r.lag))) {
					all = append(all, by[n][at[n]])
					at[n]++
				}
			}
		}
		out[fmt.Sprintf("seed %d", seed)] = all
	}
	return out
}

// oldest is when the oldest step happened that is not delivered yet.
func oldest(by map[string][]step, at map[string]int) time.Time {
	var out time.Time
	for n, steps := range by {
		if i := at[n]; i < len(steps) && (out.IsZero() || steps[i].at.Before(out)) {
			out = steps[i].at
		}
	}
	return out
}

// replay delivers every order and checks each look on the way. early names the
// ends that may come before the rollout is done, last the end that has to come.
func (r *record) replay(t *testing.T, early []Outcome, last Outcome) {
	t.Helper()
	for name, order := range r.orders(150) {
		w := &world{Snapshot: r.start.Snapshot, cfg: r.cfg, now: noon()}
		w.Memory = Memory{}
		target := r.start.Target
		c := *target
		w.Target = &c
		done, targets := false, 0
		for i, s := range order {
			if s.at.After(w.now) {
				w.now = s.at
			}
			s.apply(w)
			if s.watch == "targets" {
				targets++
			}
			v := w.look()
			// The target's own watch tells how far the whole has come.
			done = done || (s.done && s.watch == "targets")
			ok := v.Outcome == Pending || slices.Contains(early, v.Outcome) || (done && v.Outcome == last)
			if !ok {
				t.Fatalf("%s, after step %d (%s): %s\n%s", name, i, s.watch, v.Outcome, dump(v))
			}
		}
		if v := w.pass(time.Second).look(); v.Outcome != last {
			t.Fatalf("%s, in the end: %s, want %s\n%s", name, v.Outcome, last, dump(v))
		}
	}
}

func TestNoOrderMisleads(t *testing.T) {
	t.Run("a normal update", func(t *testing.T) {
		r := recordOf(Deployment)
		r.change("new", newRef)
		r.roll("old", "new", newRef, 3, nil)
		r.tgt(func(t *Target) { progress(t, "True", "NewReplicaSetAvailable", "") })
		// The counters were complete one version before the condition was.
		r.steps[len(r.steps)-2].done = true
		r.finished()
		r.replay(t, nil, Ready)
	})
	t.Run("an update after a stuck one", func(t *testing.T) {
		r := recordOf(Deployment)
		bad := waiting("ErrImagePull", "not found")
		r.change("broken", "reg.lan/web:5555555")
		r.roll("old", "broken", "reg.lan/web:5555555", 1, &bad)
		r.tgt(func(t *Target) {
			progress(t, "False", "ProgressDeadlineExceeded", `ReplicaSet "web-broken" has timed out progressing.`)
		})
		// The next generation is observed while the old condition still stands.
		r.tgt(func(t *Target) { t.Generation++; t.Template = templateOf(newRef, "new") })
		r.tgt(func(t *Target) { t.Status.Observed, t.Status.Updated = t.Generation, 0 })
		r.sets["web-new"] = r.start.set("new", newRef, 0, r.now)
		r.set("web-new", func(*ReplicaSet) {})
		r.tgt(func(t *Target) { progress(t, "True", "NewReplicaSetCreated", "") })
		r.set("web-broken", func(s *ReplicaSet) { s.Replicas = 0 })
		r.leaves("web-broken-0")
		r.set("web-broken", func(s *ReplicaSet) { s.Status.Replicas = 0 })
		r.tgt(func(t *Target) { t.Status.Replicas-- })
		r.roll("old", "new", newRef, 3, nil)
		r.tgt(func(t *Target) { progress(t, "True", "NewReplicaSetAvailable", "") })
		r.steps[len(r.steps)-2].done = true
		r.finished()
		r.replay(t, nil, Ready)
	})
	t.Run("an update that is undone", func(t *testing.T) {
		r := recordOf(Deployment)
		r.change("new", newRef)
		r.roll("old", "new", newRef, 2, nil)
		r.change("old", oldRef)
		r.roll("new", "old", oldRef, 2, nil)
		r.tgt(func(t *Target) { progress(t, "True", "NewReplicaSetAvailable", "") })
		r.replay(t, []Outcome{Superseded}, Superseded)
	})
	t.Run("an update that never starts", func(t *testing.T) {
		r := recordOf(Deployment)
		bad := waiting("ErrImagePull", "not found")
		r.change("new", newRef)
		r.roll("old", "new", newRef, 1, &bad)
		r.tgt(func(t *Target) {
			progress(t, "False", "ProgressDeadlineExceeded", `ReplicaSet "web-new" has timed out progressing.`)
		})
		r.finished()
		r.replay(t, nil, Failed)
	})
	t.Run("an update whose pod crashes twice", func(t *testing.T) {
		r := recordOf(Deployment)
		r.lag = 5 * time.Second
		r.change("new", newRef)
		p := r.start.pod(0, "new", newRef)
		r.set("web-new", func(s *ReplicaSet) { s.Replicas, s.Status.Replicas = 1, 1 })
		for n, s := range []State{
			{Is: Running, Started: r.now},
			{Is: Terminated, ExitCode: 1, Reason: "Error", Finished: r.now},
			{Is: Running, Started: r.now},
			waiting("CrashLoopBackOff", ""),
			{Is: Running, Started: r.now},
		} {
			p.Containers, p.Conditions = slices.Clone(p.Containers), slices.Clone(p.Conditions)
			p.Containers[0].State, p.Containers[0].Ready, p.Containers[0].Restarts = s, false, int32(n/2)
			if n > 0 {
				p.Containers[0].Last = State{Is: Terminated, ExitCode: 1, Reason: "Error", Finished: r.now}
			}
			p.Conditions[1] = Condition{Type: "Ready", Status: "False", Transition: r.now}
			r.pod(p)
			r.now = r.now.Add(9 * time.Second)
		}
		r.set("web-new", func(s *ReplicaSet) { s.Replicas, s.Status.Replicas = 0, 0 })
		r.gone(p.Name)
		r.roll("old", "new", newRef, 3, nil)
		r.steps[len(r.steps)-1].done = true
		r.replay(t, nil, Ready)
	})
	t.Run("a daemonset", func(t *testing.T) {
		r := recordOf(DaemonSet)
		r.tgt(func(t *Target) { t.Generation++; t.Template = templateOf(newRef, "new") })
		rev := newWorld(DaemonSet).Revisions[1]
		r.add("revisions", func(w *world) { w.Revisions = append(slices.Clone(w.Revisions), rev) })
		r.tgt(func(t *Target) { t.Status.Observed, t.Status.Updated = t.Generation, 0 })
		for i := range 3 {
			r.leaves(fmt.Sprintf("web-%d", i))
			r.tgt(func(t *Target) { t.Status.Ready--; t.Status.Available--; t.Status.Current-- })
			r.starts(r.start.pod(i, "new", newRef), nil)
			r.tgt(func(t *Target) { t.Status.Updated++; t.Status.Current++ })
			r.tgt(func(t *Target) { t.Status.Ready++; t.Status.Available++ })
		}
		r.finished()
		r.replay(t, nil, Ready)
	})
	t.Run("a statefulset", func(t *testing.T) {
		r := recordOf(StatefulSet)
		r.tgt(func(t *Target) { t.Generation++; t.Template = templateOf(newRef, "new") })
		r.tgt(func(t *Target) {
			t.Status.Observed, t.Status.Updated, t.Status.UpdateRevision = t.Generation, 0, "web-new"
		})
		for i := 2; i >= 0; i-- {
			r.leaves(fmt.Sprintf("web-%d", i))
			r.tgt(func(t *Target) { t.Status.Ready--; t.Status.Available--; t.Status.Replicas-- })
			r.starts(r.start.pod(i, "new", newRef), nil)
			r.tgt(func(t *Target) { t.Status.Updated++; t.Status.Replicas++ })
			r.tgt(func(t *Target) { t.Status.Ready++; t.Status.Available++ })
		}
		r.finished()
		r.tgt(func(t *Target) { t.Status.CurrentRevision = "web-new" })
		r.replay(t, nil, Ready)
	})
}
