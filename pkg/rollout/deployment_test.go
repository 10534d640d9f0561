package rollout

import (
	"testing"
	"time"
)

// graced is one rule: what a world is at first sight, just before its grace is
// over and just after.
type graced struct {
	name   string
	kind   Kind
	bend   func(*world)
	grace  time.Duration // 0: decided at first sight, or never
	before expect
	after  expect
}

func runGraced(t *testing.T, rows []graced) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			kind := r.kind
			if kind == "" {
				kind = Deployment
			}
			w := newWorld(kind)
			r.bend(w)
			if r.grace == 0 {
				r.after.check(t, "at first sight", w.look())
				if r.after.outcome == Pending {
					r.after.check(t, "an hour later", w.pass(time.Hour).look())
				}
				return
			}
			if r.before.outcome == "" {
				r.before.outcome = Pending
			}
			v := w.look()
			r.before.check(t, "at first sight", v)
			v = w.pass(r.grace - time.Millisecond).look()
			r.before.check(t, "just before", v)
			if v.Outcome == Pending && (v.Wake.IsZero() || v.Wake.After(w.now.Add(time.Second))) {
				t.Errorf("a grace runs and the next look is at %v, a millisecond before its end", v.Wake)
			}
			r.after.check(t, "just after", w.pass(time.Millisecond).look())
		})
	}
}

func progressing(w *world, reason, message string) {
	w.Target.Conditions = []Condition{{Type: "Progressing", Status: "False", Reason: reason, Message: message, Update: w.now, Transition: w.now}}
}

func unobserve(w *world) { w.Target.Generation, w.Target.Status.Observed = 3, 2 }

// failing makes the new ReplicaSet unable to create pods.
func failing(text string) func(*world) {
	return func(w *world) {
		w.rolling(State{})
		w.Pods = w.Pods[1:]
		w.Target.Status.Updated, w.Target.Status.Replicas = 0, 3
		w.ReplicaSets[1].Status.Replicas = 0
		w.ReplicaSets[1].Conditions = []Condition{{Type: "ReplicaFailure", Status: "True", Reason: "FailedCreate", Message: text, Transition: w.now}}
		w.events("set-new")
	}
}

func TestDeploymentGeneration(t *testing.T) {
	const refused = `Failed to create new replica set "web-9": admission webhook "x" denied the request: no`
	runGraced(t, []graced{
		{
			name: "the controller has not seen it", bend: unobserve, grace: 30 * time.Second,
			before: expect{phase: PhaseRollout, says: "has not observed generation 3 (at 2)"},
			after:  expect{outcome: Pending, says: "kube-controller-manager"},
		},
		{
			name: "the revision is refused for good", grace: 15 * time.Second,
			bend:   func(w *world) { unobserve(w); progressing(w, "ReplicaSetCreateError", refused) },
			before: expect{says: "denied the request"},
			after:  expect{outcome: Failed, class: ClassAdmission, reason: "ReplicaSetCreateError"},
		},
		{
			name: "the revision is invalid", grace: 15 * time.Second,
			bend: func(w *world) {
				unobserve(w)
				progressing(w, "ReplicaSetCreateError", `ReplicaSet.apps "web-9" is invalid: spec.template: Invalid value`)
			},
			after: expect{outcome: Failed, class: ClassPermanent},
		},
		{
			name: "a webhook that does not answer passes",
			bend: func(w *world) {
				unobserve(w)
				progressing(w, "ReplicaSetCreateError", `failed calling webhook "x": denied the request: context deadline exceeded`)
			},
			after: expect{outcome: Pending, says: "failed calling webhook"},
		},
		{
			name: "an object that is being deleted passes",
			bend: func(w *world) {
				unobserve(w)
				progressing(w, "ReplicaSetCreateError", `object is being deleted: replicasets.apps "web-9" already exists`)
			},
			after: expect{outcome: Pending},
		},
		{
			name: "a quota on ReplicaSets may be raised",
			bend: func(w *world) {
				unobserve(w)
				progressing(w, "ReplicaSetCreateError", `replicasets.apps "web-9" is forbidden: exceeded quota: q`)
			},
			after: expect{outcome: Pending, says: "exceeded quota"},
		},
		{
			name: "the deadline of another generation says nothing",
			bend: func(w *world) {
				unobserve(w)
				progressing(w, "ProgressDeadlineExceeded", `ReplicaSet "web-new" has timed out progressing.`)
			},
			after: expect{outcome: Pending, says: "has not observed"},
		},
	})
	t.Run("without a deadline the event tells", func(t *testing.T) {
		w := newWorld(Deployment)
		unobserve(w)
		w.Target.Conditions = nil
		w.look()
		v := w.pass(5 * time.Second).look()
		if len(v.Fetch) == 0 || v.Fetch[0].Kind != WantEvents || v.Fetch[0].UID != "target" {
			t.Fatalf("does not ask for the target's events: %+v", v.Fetch)
		}
		w.events("target", Event{Reason: "ReplicaSetCreateError", Message: refused})
		w.look()
		expect{outcome: Pending, says: "denied the request"}.check(t, "just before", w.pass(15*time.Second-time.Millisecond).look())
		expect{outcome: Failed, class: ClassAdmission}.check(t, "just after", w.pass(time.Millisecond).look())
	})
	t.Run("a quiet controller may mean a dying namespace", func(t *testing.T) {
		w := newWorld(Deployment)
		unobserve(w)
		ask := func(v Verdict) bool {
			for _, f := range v.Fetch {
				if f.Kind == WantNamespace {
					return true
				}
			}
			return false
		}
		if w.look(); ask(w.pass(10*time.Second - time.Millisecond).look()) {
			t.Error("asks too early")
		}
		if !ask(w.pass(time.Millisecond).look()) {
			t.Error("does not ask after ten seconds")
		}
		w.Namespace = &NamespaceAnswer{Sight: Seen, Namespace: Namespace{Phase: "Active"}}
		v := w.look()
		expect{outcome: Pending}.check(t, "an active namespace", v)
		if ask(v) {
			t.Error("asks a second time")
		}
		w.Namespace.Namespace.Phase = "Terminating"
		expect{outcome: Failed, reason: "NamespaceTerminating", class: ClassController}.check(t, "a dying one", w.look())
		w.Namespace = &NamespaceAnswer{Sight: Forbidden}
		expect{outcome: Pending}.check(t, "an unreadable one", w.look())
	})
}

func TestDeploymentPausedAndZero(t *testing.T) {
	runGraced(t, []graced{
		{
			name: "paused with the change to come", grace: 10 * time.Second,
			bend: func(w *world) {
				w.rolling(waiting("ContainerCreating", ""))
				w.Target.Paused = true
				w.Target.Conditions[0] = Condition{Type: "Progressing", Status: "Unknown", Reason: "DeploymentPaused"}
			},
			before: expect{says: "paused"},
			after:  expect{outcome: Paused, next: "kubectl -n shop rollout resume deployment/web"},
		},
		{
			name: "paused before the ReplicaSet was made", grace: 10 * time.Second,
			bend:  func(w *world) { w.Target.Paused = true; w.Target.Template.Hash = "newer" },
			after: expect{outcome: Paused},
		},
		{
			name:  "paused and complete",
			bend:  func(w *world) { w.Target.Paused = true },
			after: expect{outcome: Ready, warns: "paused", verified: new(true)},
		},
		{
			name:  "scaled to zero",
			bend:  func(w *world) { w.Target.Replicas, w.Target.Status, w.Pods = 0, Status{Observed: 2}, nil },
			after: expect{outcome: Ready, warns: "nothing running", verified: new(false)},
		},
		{
			name: "scaled to zero though it has to run",
			bend: func(w *world) {
				w.Target.Replicas, w.Target.Status, w.Pods, w.cfg.RequireRunning = 0, Status{Observed: 2}, nil, true
			},
			after: expect{outcome: Failed, reason: "ScaledToZero", class: ClassController},
		},
		{
			name:  "scaling down",
			bend:  func(w *world) { w.Target.Replicas = 0 },
			after: expect{outcome: Pending, says: "scaling down: 3 left"},
		},
	})
}

func TestDeploymentRevision(t *testing.T) {
	const mine = `ReplicaSet "web-new" has timed out progressing.`
	hang := func(reason string) func(*world) {
		return func(w *world) {
			w.rolling(State{Is: Running, Started: noon()})
			progressing(w, "ProgressDeadlineExceeded", reason)
		}
	}
	runGraced(t, []graced{
		{
			name: "no ReplicaSet yet", bend: func(w *world) { w.Target.Template.Hash = "newer" },
			after: expect{outcome: Pending, says: "does not exist yet"},
		},
		{
			name: "another's equal ReplicaSet does not count", bend: func(w *world) { w.ReplicaSets[1].Owner.UID = "else" },
			after: expect{outcome: Pending, says: "does not exist yet"},
		},
		{name: "ReplicaSets not listed yet", bend: func(w *world) { w.ReplicaSetSight, w.ReplicaSets = Unread, nil }, after: expect{outcome: Pending, says: "reading its ReplicaSets"}},
		{name: "pods not listed yet", bend: func(w *world) { w.PodSight, w.Pods = Unread, nil }, after: expect{outcome: Pending, says: "reading its pods"}},
		{
			name: "the deadline names our ReplicaSet", bend: hang(mine),
			after: expect{outcome: Failed, reason: "ProgressDeadlineExceeded", class: ClassController},
		},
		{
			name: "the deadline is to be ignored", bend: func(w *world) { hang(mine)(w); w.cfg.IgnoreProgressDeadline = true },
			after: expect{outcome: Pending},
		},
		{name: "the deadline names another ReplicaSet", bend: hang(`ReplicaSet "web-old" has timed out progressing.`), after: expect{outcome: Pending}},
		{name: "the deadline names nothing we know", bend: hang(`timed out`), after: expect{outcome: Pending}},
		{
			name: "the deadline of a Deployment without ReplicaSet",
			bend: func(w *world) {
				hang(`Deployment "web" has timed out progressing.`)(w)
				w.Target.Template.Hash = "newer"
			},
			after: expect{outcome: Pending, says: "does not exist yet"},
		},
		{
			name: "that with a refusal in the events", grace: 15 * time.Second,
			bend: func(w *world) {
				hang(`Deployment "web" has timed out progressing.`)(w)
				w.Target.Template.Hash = "newer"
				w.events("target", Event{Reason: "ReplicaSetCreateError", Message: "denied the request"})
			},
			after: expect{outcome: Failed, reason: "ReplicaSetCreateError"},
		},
		{
			name: "without ReplicaSets a deadline has to be older than the generation", grace: 10 * time.Minute,
			bend:  func(w *world) { hang(mine)(w); w.ReplicaSetSight, w.ReplicaSets = Forbidden, nil },
			after: expect{outcome: Failed, reason: "ProgressDeadlineExceeded"},
		},
		{
			name: "without ReplicaSets and complete", bend: func(w *world) { w.ReplicaSetSight, w.ReplicaSets = Forbidden, nil },
			after: expect{outcome: Ready, verified: new(true)},
		},
		{
			name: "without pods and complete", grace: 3 * time.Second, bend: func(w *world) { w.PodSight, w.Pods = Forbidden, nil },
			before: expect{phase: PhaseSettle},
			after:  expect{outcome: Ready, verified: new(false), warns: "pods cannot be read"},
		},
	})
	t.Run("of equal ReplicaSets the oldest is the one", func(t *testing.T) {
		w := newWorld(Deployment)
		twin := w.set("twin", newRef, 0, w.ReplicaSets[1].Created.Add(time.Minute))
		twin.Template.Hash = "new"
		w.ReplicaSets = append([]ReplicaSet{twin}, w.ReplicaSets...)
		expect{outcome: Ready}.check(t, "with a younger twin", w.look())
		w.ReplicaSets[0].Created = w.ReplicaSets[2].Created.Add(-time.Minute)
		expect{outcome: Pending}.check(t, "with an older twin", w.look())
	})
	t.Run("a deadline tells the pod's cause", func(t *testing.T) {
		w := newWorld(Deployment)
		w.rolling(waiting("ImagePullBackOff", `Back-off pulling image "x": ErrImagePull: x: not found`))
		progressing(w, "ProgressDeadlineExceeded", mine)
		v := w.look()
		expect{outcome: Failed, reason: "ProgressDeadlineExceeded", says: "not found"}.check(t, "", v)
		if v.Cause.Pod != "web-new-0" || v.Cause.Container != "web" || v.Cause.Node != "node-a" {
			t.Errorf("cause %+v", v.Cause)
		}
	})
}

func TestDeploymentRefusedPods(t *testing.T) {
	quota := `pods "web-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3`
	runGraced(t, []graced{
		{
			name: "a policy refuses", grace: 10 * time.Second, bend: failing(`pods "web-x" is forbidden: violates PodSecurity "restricted:latest"`),
			before: expect{says: "violates PodSecurity"}, after: expect{outcome: Failed, class: ClassAdmission, reason: "FailedCreate"},
		},
		{
			name: "the pod is invalid", grace: 10 * time.Second, bend: failing(`Pod "web-x" is invalid: spec.containers[0].name`),
			after: expect{outcome: Failed, class: ClassPermanent},
		},
		{
			name: "a claim is missing", grace: 10 * time.Second, bend: failing(`error looking up persistentvolumeclaim "data" not found`),
			after: expect{outcome: Failed, class: ClassVolume},
		},
		{name: "a webhook does not answer", bend: failing(`Internal error occurred: failed calling webhook "v": denied the request`), after: expect{outcome: Pending, class: ClassTransient}},
		{name: "words nobody knows", bend: failing(`the moon is full`), after: expect{outcome: Pending, says: "the moon is full", class: ClassTransient}},
		{
			name: "a quota that nothing frees", grace: 30 * time.Second,
			bend:  func(w *world) { failing(quota)(w); w.Target.MaxUnavailable = "0" },
			after: expect{outcome: Failed, class: ClassQuota, next: "resourcequota"},
		},
		{
			name: "a quota at the floor", grace: 30 * time.Second,
			bend:  func(w *world) { failing(quota)(w); w.Target.MaxUnavailable = "1"; w.Target.Status.Available = 2 },
			after: expect{outcome: Failed, class: ClassQuota},
		},
		{
			name: "a quota that old pods may free", bend: func(w *world) { failing(quota)(w); w.Target.MaxUnavailable = "1" },
			after: expect{outcome: Pending, class: ClassQuota},
		},
		{
			name: "a quota that a leaving pod frees",
			bend: func(w *world) {
				failing(quota)(w)
				w.Target.MaxUnavailable = "0"
				w.Pods[0].Deleted = noon().Add(30 * time.Second)
			},
			after: expect{outcome: Pending, class: ClassQuota},
		},
		{
			name: "the condition on the Deployment is only a copy",
			bend: func(w *world) {
				failing("violates PodSecurity")(w)
				w.Target.Conditions = append(w.Target.Conditions, w.ReplicaSets[1].Conditions...)
				w.ReplicaSets[1].Conditions = nil
			},
			after: expect{outcome: Pending, says: "0/3 updated"},
		},
		{
			name: "all pods were made after all",
			bend: func(w *world) {
				failing("violates PodSecurity")(w)
				w.ReplicaSets[1].Status.Replicas = 1
			},
			after: expect{outcome: Pending, says: "0/3 updated"},
		},
	})
	t.Run("an event is newer than the condition", func(t *testing.T) {
		w := newWorld(Deployment)
		failing(`violates PodSecurity`)(w)
		w.pass(time.Minute).events("set-new", Event{Reason: "FailedCreate", Message: "failed calling webhook"})
		expect{outcome: Pending, class: ClassTransient, says: "failed calling webhook"}.check(t, "", w.look())
	})
}

func TestDeploymentRollout(t *testing.T) {
	bend := func(f func(*world)) func(*world) { return f }
	runGraced(t, []graced{
		{name: "complete and settled long ago", bend: bend(func(*world) {}), after: expect{outcome: Ready, phase: PhaseDone, says: "runs 3f9c2ab on 3/3 pods", verified: new(true)}},
		{name: "counters: not all updated", bend: bend(func(w *world) { w.Target.Status.Updated = 2 }), after: expect{outcome: Pending, says: "2/3 updated"}},
		{name: "counters: more than updated", bend: bend(func(w *world) { w.Target.Status.Replicas = 4 }), after: expect{outcome: Pending, says: "1 old pod to go"}},
		{name: "counters: not all available", bend: bend(func(w *world) { w.Target.Status.Available = 2 }), after: expect{outcome: Pending, says: "2/3 available"}},
		{name: "the ReplicaSet lags", bend: bend(func(w *world) { w.ReplicaSets[1].Generation = 2 }), after: expect{outcome: Pending, says: "newest generation"}},
		{name: "the ReplicaSet is not available", bend: bend(func(w *world) { w.ReplicaSets[1].Status.Available = 2 }), after: expect{outcome: Pending, says: "3/3 available"}},
		{name: "pods are not ready", bend: bend(func(w *world) { w.Pods[2].unready(State{Is: Running, Started: noon()}) }), after: expect{outcome: Pending, says: "2/3 ready"}},
		{name: "pods are missing", bend: bend(func(w *world) { w.Pods = w.Pods[:2] }), after: expect{outcome: Pending, says: "2/3 ready"}},
		{name: "a failed pod is neither ready nor doomed", bend: bend(func(w *world) { w.Pods[2].Phase, w.Pods[2].Reason = "Failed", "Evicted" }), after: expect{outcome: Pending, says: "2/3 ready"}},
		{name: "failed pods beside enough ready ones", bend: bend(func(w *world) {
			p := w.pod(3, "new", newRef)
			p.Phase, p.Reason = "Failed", "Evicted"
			w.Pods = append(w.Pods, p)
		}), after: expect{outcome: Ready}},
		{name: "an active pod of another ReplicaSet", bend: bend(func(w *world) { w.Pods = append(w.Pods, w.pod(3, "old", oldRef)) }), after: expect{outcome: Pending, says: "1 old pod to go"}},
		{name: "available condition is no evidence", bend: bend(func(w *world) {
			w.Pods, w.Target.Status = nil, Status{Observed: 2, Replicas: 0}
			w.Target.Conditions = append(w.Target.Conditions, Condition{Type: "Available", Status: "True", Reason: "MinimumReplicasAvailable"})
		}), after: expect{outcome: Pending, says: "0/3 updated"}},
		{
			name: "old pods still terminating",
			bend: bend(func(w *world) {
				p, q := w.pod(3, "old", oldRef), w.pod(4, "old", oldRef)
				p.Deleted, q.Deleted = noon().Add(30*time.Second), noon().Add(10*time.Second)
				w.Pods = append(w.Pods, p, q)
			}),
			after: expect{outcome: Ready, warns: "2 old pods still terminating (up to 30s)"},
		},
		{
			name: "old pods that have to be gone",
			bend: bend(func(w *world) {
				p := w.pod(3, "old", oldRef)
				p.Deleted = noon().Add(30 * time.Second)
				w.Pods, w.cfg.WaitTerminated = append(w.Pods, p), true
			}),
			after: expect{outcome: Pending, says: "1 old pod still terminating"},
		},
		{
			name: "recreate waits for the old pods without end",
			bend: bend(func(w *world) {
				w.Target.Strategy, w.Target.Template.Hash = Recreate, "newer"
				w.Target.Status = Status{Observed: 2}
				p := w.pod(0, "old", oldRef)
				p.Deleted, p.DeletionGrace, p.Finalizers = noon(), 30*time.Second, []string{"x/y"}
				w.Nodes["node-a"] = NodeAnswer{Sight: Seen, Node: Node{Ready: "Unknown"}}
				w.Pods = []Pod{p}
			}),
			after: expect{outcome: Pending, says: "on node node-a, which is not ready, finalizers x/y"},
		},
	})
	t.Run("minReadySeconds are counted down", func(t *testing.T) {
		w := newWorld(Deployment)
		w.Target.MinReady, w.Target.Status.Available = 30*time.Second, 2
		w.Pods[2].Conditions[1].Transition = noon().Add(-18 * time.Second)
		expect{outcome: Pending, says: "minReadySeconds 30: 12s left"}.check(t, "", w.look())
	})
	t.Run("an old pod that stays is the probable cause after its time", func(t *testing.T) {
		w := newWorld(Deployment)
		w.Target.Strategy, w.Target.Template.Hash, w.Target.Status = Recreate, "newer", Status{Observed: 2}
		p := w.pod(0, "old", oldRef)
		p.Deleted, p.DeletionGrace = noon(), 30*time.Second
		w.Pods = []Pod{p}
		if v := w.pass(30*time.Second - time.Millisecond).look(); v.Cause != nil {
			t.Errorf("named too early: %+v", v.Cause)
		}
		expect{outcome: Pending, reason: "OldPodTerminating"}.check(t, "later", w.pass(time.Millisecond).look())
	})
}

func TestSettle(t *testing.T) {
	fresh := func(w *world) {
		for i := range w.Pods {
			w.Pods[i].Conditions[1].Transition = noon()
		}
	}
	ten, none := 10*time.Minute, time.Duration(0)
	runGraced(t, []graced{
		{name: "three seconds with a probe", grace: 3 * time.Second, bend: fresh, before: expect{phase: PhaseSettle, says: "watching for 3s"}, after: expect{outcome: Ready}},
		{
			name: "ten without", grace: 10 * time.Second,
			bend:   func(w *world) { fresh(w); w.Target.Template.Containers[0].Readiness = nil },
			before: expect{phase: PhaseSettle, says: "no readiness probe"}, after: expect{outcome: Ready},
		},
		{name: "as asked", grace: 10 * time.Minute, bend: func(w *world) { fresh(w); w.cfg.Settle = &ten }, after: expect{outcome: Ready}},
		{name: "none", bend: func(w *world) { fresh(w); w.cfg.Settle = &none }, after: expect{outcome: Ready}},
		{
			name: "from the start of the last container", grace: 3 * time.Second,
			bend:  func(w *world) { w.Pods[1].Containers[0].State.Started = noon() },
			after: expect{outcome: Ready},
		},
		{
			name: "a kubelet's clock ahead does not lengthen it", grace: 3 * time.Second,
			bend:  func(w *world) { w.Pods[1].Containers[0].State.Started = noon().Add(time.Hour) },
			after: expect{outcome: Ready},
		},
	})
	t.Run("a restart starts it anew and is counted", func(t *testing.T) {
		w := newWorld(Deployment)
		fresh(w)
		expect{outcome: Pending, phase: PhaseSettle}.check(t, "first", w.look())
		w.pass(2 * time.Second)
		c := &w.Pods[0].Containers[0]
		c.Restarts, c.Last, c.State = 1, State{Is: Terminated, ExitCode: 1, Finished: w.now}, State{Is: Running, Started: w.now}
		w.Pods[0].Conditions[1] = Condition{Type: "Ready", Status: "False", Transition: w.now}
		c.Ready = false
		expect{outcome: Pending, phase: PhaseRollout, says: "2/3 ready"}.check(t, "unready", w.look())
		w.pass(time.Second)
		w.Pods[0].Conditions[1] = Condition{Type: "Ready", Status: "True", Transition: w.now}
		c.Ready = true
		w.look()
		expect{outcome: Pending, phase: PhaseSettle}.check(t, "again", w.pass(3*time.Second-time.Millisecond).look())
		expect{outcome: Ready, warns: "1 time before"}.check(t, "at last", w.pass(time.Millisecond).look())
	})
	t.Run("a restart nobody saw starts it anew", func(t *testing.T) {
		w := newWorld(Deployment)
		fresh(w)
		w.look()
		w.pass(2 * time.Second)
		w.Pods[0].Containers[0].State.Started = w.now
		w.look()
		expect{outcome: Pending, phase: PhaseSettle}.check(t, "still", w.pass(2*time.Second).look())
		expect{outcome: Ready}.check(t, "then", w.pass(time.Second).look())
	})
}
