package rollout

import (
	"testing"
	"time"
)

// theirs is what another tool says of a state.
type theirs string

const (
	theirDone theirs = "done"
	theirWait theirs = "wait"
	theirFail theirs = "fail"
)

// The states in which "kubectl rollout status" and kstatus are commonly
// tested, as our fixtures. Where why is empty we agree; where it is not, we
// must differ, and it says why. All of them have a matching image: without one
// the others have no opinion.
func TestKnownStates(t *testing.T) {
	counters := func(gen, obs int64, replicas int32, s Status) func(*world) {
		return func(w *world) {
			w.Target.Generation, w.Target.Replicas = gen, replicas
			s.Observed = obs
			s.UpdateRevision = "web-new"
			w.Target.Status = s
			// Pods and ReplicaSets are as the counters say.
			w.Pods = nil
			for i := range int(s.Updated) {
				p := w.pod(i, "new", newRef)
				if int32(i) >= s.Ready {
					p.unready(State{Is: Running, Started: noon()})
				}
				w.Pods = append(w.Pods, p)
			}
			for i := int(s.Updated); i < int(s.Replicas); i++ {
				w.Pods = append(w.Pods, w.pod(i, "old", oldRef))
			}
			if len(w.ReplicaSets) > 1 {
				w.ReplicaSets[1].Replicas = replicas
				w.ReplicaSets[1].Status = Status{Observed: 1, Replicas: s.Updated, Available: min(s.Available, s.Updated)}
			}
		}
	}
	then := func(fs ...func(*world)) func(*world) {
		return func(w *world) {
			for _, f := range fs {
				f(w)
			}
		}
	}
	for _, r := range []struct {
		name string
		kind Kind
		bend func(*world)
		said theirs
		ours Outcome
		why  string
	}{
		{"nothing updated", Deployment, counters(1, 1, 1, Status{Replicas: 1, Available: 1, Ready: 1}), theirWait, Pending, ""},
		{"old replicas to go", Deployment, counters(1, 1, 1, Status{Replicas: 2, Updated: 1, Available: 2, Ready: 2}), theirWait, Pending, ""},
		{"not all available", Deployment, counters(1, 1, 2, Status{Replicas: 2, Updated: 2, Available: 1, Ready: 1}), theirWait, Pending, ""},
		{"all available", Deployment, counters(1, 1, 2, Status{Replicas: 2, Updated: 2, Available: 2, Ready: 2}), theirDone, Ready, ""},
		{"not observed", Deployment, counters(2, 1, 2, Status{Replicas: 2, Updated: 2, Available: 2, Ready: 2}), theirWait, Pending, ""},
		{"past its deadline", Deployment, then(counters(1, 1, 2, Status{Replicas: 2, Updated: 1, Available: 1, Ready: 1}), func(w *world) {
			progressing(w, "ProgressDeadlineExceeded", `ReplicaSet "web-new" has timed out progressing.`)
		}), theirFail, Failed, ""},
		{"past the deadline of another ReplicaSet", Deployment, then(counters(1, 1, 2, Status{Replicas: 2, Updated: 1, Available: 1, Ready: 1}), func(w *world) {
			progressing(w, "ProgressDeadlineExceeded", `ReplicaSet "web-older" has timed out progressing.`)
		}), theirFail, Pending, "the condition of the revision before stands for a moment beside the new generation"},
		{"paused in the middle", Deployment, then(counters(1, 1, 2, Status{Replicas: 2, Updated: 1, Available: 2, Ready: 2}), func(w *world) {
			w.Target.Paused = true
			w.look()
			w.pass(pausedGrace)
		}), theirWait, Paused, "a paused rollout never goes on by itself, and no deadline runs"},
		{"available is not ready", Deployment, then(counters(1, 1, 2, Status{Replicas: 2, Updated: 2, Available: 2, Ready: 2}), func(w *world) {
			w.Pods[1].unready(State{Is: Running, Started: noon()})
		}), theirDone, Pending, "the pods themselves say otherwise, and the counters follow"},
		{"zero replicas", Deployment, counters(1, 1, 0, Status{}), theirDone, Ready, ""},
		{"a failed pod among those of the revision", Deployment, then(counters(1, 1, 2, Status{Replicas: 2, Updated: 2, Available: 2, Ready: 2}), func(w *world) {
			p := w.pod(2, "new", newRef)
			p.Phase = "Failed"
			w.Pods = append(w.Pods, p)
		}), theirDone, Ready, ""},
		{"a pod that cannot pull", Deployment, then(counters(1, 1, 1, Status{Replicas: 1, Updated: 1}), func(w *world) {
			w.Pods[0].unready(waiting("ErrImagePull", "not found"))
			w.look()
			w.pass(time.Minute)
		}), theirWait, Failed, "nothing will change before the deadline"},
		{"a revision that cannot be made", Deployment, then(counters(2, 1, 2, Status{Replicas: 2, Updated: 2, Available: 2, Ready: 2}), func(w *world) {
			progressing(w, "ReplicaSetCreateError", "denied the request")
			w.look()
			w.pass(revisionRefused)
		}), theirWait, Failed, "the generation stays unobserved and no deadline runs"},

		{"not observed", StatefulSet, counters(2, 1, 3, Status{Replicas: 3, Updated: 3, Available: 3, Ready: 3}), theirWait, Pending, ""},
		{"not all ready", StatefulSet, counters(1, 1, 3, Status{Replicas: 3, Updated: 3, Available: 2, Ready: 2}), theirWait, Pending, ""},
		{"not all updated", StatefulSet, counters(1, 1, 3, Status{Replicas: 3, Updated: 1, Available: 3, Ready: 3}), theirWait, Pending, ""},
		{"all updated", StatefulSet, counters(1, 1, 3, Status{Replicas: 3, Updated: 3, Available: 3, Ready: 3, CurrentRevision: "web-new"}), theirDone, Ready, ""},
		{"equal revisions, not available", StatefulSet, counters(1, 1, 3, Status{Replicas: 3, Updated: 3, Ready: 3, CurrentRevision: "web-new"}), theirDone, Pending, "minReadySeconds run on after the revisions are equal"},
		{"a partition in the middle", StatefulSet, then(counters(1, 1, 4, Status{Replicas: 4, Updated: 1, Available: 4, Ready: 4}), backwards, func(w *world) { w.Target.Partition = 2 }), theirWait, Pending, ""},
		{"a partition that is done", StatefulSet, then(counters(1, 1, 4, Status{Replicas: 4, Updated: 2, Available: 4, Ready: 4}), backwards, func(w *world) { w.Target.Partition = 2 }), theirDone, Ready, ""},
		{"a partition that lets nothing change", StatefulSet, then(counters(1, 1, 2, Status{Replicas: 2, Available: 2, Ready: 2}), func(w *world) { w.Target.Partition = 2 }), theirDone, Failed, "the commit will not run anywhere"},
		{"on delete with old pods", StatefulSet, then(counters(1, 1, 2, Status{Replicas: 2, Available: 2, Ready: 2}), func(w *world) {
			w.Target.Strategy = OnDelete
			w.look()
			w.pass(onDeleteGrace)
		}), theirDone, Failed, "no pod changes before somebody deletes it"},
		{"on delete, all updated", StatefulSet, then(counters(1, 1, 2, Status{Replicas: 2, Updated: 2, Available: 2, Ready: 2}), func(w *world) { w.Target.Strategy = OnDelete }), theirDone, Ready, ""},

		{"not observed", DaemonSet, counters(2, 1, 0, Status{Replicas: 2, Current: 2, Updated: 2, Available: 2, Ready: 2}), theirWait, Pending, ""},
		{"not all updated", DaemonSet, counters(1, 1, 0, Status{Replicas: 2, Current: 2, Updated: 1, Available: 2, Ready: 2}), theirWait, Pending, ""},
		{"not all available", DaemonSet, counters(1, 1, 0, Status{Replicas: 2, Current: 2, Updated: 2, Available: 1, Ready: 1}), theirWait, Pending, ""},
		{"all available", DaemonSet, counters(1, 1, 0, Status{Replicas: 2, Current: 2, Updated: 2, Available: 2, Ready: 2}), theirDone, Ready, ""},
		{"no node", DaemonSet, then(counters(1, 1, 0, Status{}), func(w *world) { w.look(); w.pass(noNodesGrace) }), theirDone, Failed, "it runs nowhere"},
	} {
		t.Run(string(r.kind)+" "+r.name, func(t *testing.T) {
			w := newWorld(r.kind)
			r.bend(w)
			v := w.look()
			if v.Outcome != r.ours {
				t.Fatalf("%s, want %s\n%s", v.Outcome, r.ours, dump(v))
			}
			same := map[theirs]Outcome{theirDone: Ready, theirWait: Pending, theirFail: Failed}[r.said] == v.Outcome
			if same != (r.why == "") {
				t.Errorf("they say %s, we say %s, and the reason to differ is %q", r.said, v.Outcome, r.why)
			}
		})
	}
}

// backwards makes the last ordinals the updated ones, as a StatefulSet does.
func backwards(w *world) {
	n := len(w.Pods)
	updated := int(w.Target.Status.Updated)
	w.Pods = nil
	for i := range n {
		if i < n-updated {
			w.Pods = append(w.Pods, w.pod(i, "old", oldRef))
		} else {
			w.Pods = append(w.Pods, w.pod(i, "new", newRef))
		}
	}
}
