package rollout

import (
	"testing"
	"time"
)

func TestStatefulSet(t *testing.T) {
	sts := func(name string, grace time.Duration, after expect, bend func(*world)) graced {
		return graced{name: name, kind: StatefulSet, bend: bend, grace: grace, after: after}
	}
	onDelete := func(w *world) {
		w.Target.Strategy = OnDelete
		w.Pods = []Pod{w.pod(0, "new", newRef), w.pod(1, "old", oldRef), w.pod(2, "old", oldRef)}
		w.Target.Status.Updated = 1
	}
	partition := func(p int32, updated int32) func(*world) {
		return func(w *world) {
			w.Target.Partition = p
			w.Target.Status.Updated = updated
			w.Pods = nil
			for i := range 3 {
				rev, image := "new", newRef
				if int32(i) < 3-updated {
					rev, image = "old", oldRef
				}
				w.Pods = append(w.Pods, w.pod(i, rev, image))
			}
		}
	}
	stuckOld := func(s State) func(*world) {
		return func(w *world) {
			w.Target.Status.Updated, w.Target.Status.Ready, w.Target.Status.Available = 0, 2, 2
			w.Pods = []Pod{w.pod(0, "old", oldRef), w.pod(1, "old", oldRef), w.pod(2, "old", oldRef)}
			w.Pods[2].unready(s)
		}
	}
	missing := func(text string) func(*world) {
		return func(w *world) {
			w.rolling(State{})
			w.Pods = w.Pods[1:]
			w.Target.Status.Updated, w.Target.Status.Replicas = 0, 2
			w.events("target", Event{Reason: "FailedCreate", Message: text}, Event{Reason: "SuccessfulCreate", Last: noon().Add(-time.Minute)})
			w.look() // the pod has to be missing for a moment
			w.pass(explainAfter).events("target", w.Events["target"].Items...)
		}
	}
	rows := []graced{
		sts("complete", 0, expect{outcome: Ready, verified: new(true)}, func(*world) {}),
		sts("never observed", 0, expect{outcome: Pending, says: "has not observed"}, func(w *world) { w.Target.Generation, w.Target.Status.Observed = 0, 0 }),
		sts("not observed", 0, expect{outcome: Pending, says: "has not observed"}, unobserve),
		sts("scaled to zero", 0, expect{outcome: Ready, verified: new(false)}, func(w *world) { w.Target.Replicas, w.Target.Status.Replicas, w.Pods = 0, 0, nil }),
		sts("scaling down to zero", 0, expect{outcome: Pending, says: "scaling down"}, func(w *world) { w.Target.Replicas = 0 }),

		sts("on delete, old pods", 10*time.Second, expect{outcome: Failed, reason: "OnDelete", says: "2 of 3", next: "kubectl -n shop delete pod web-1 web-2"}, onDelete),
		sts("on delete, told to wait", 0, expect{outcome: Pending, says: "2 of 3"}, func(w *world) { onDelete(w); w.cfg.OnDelete = OnDeleteWait }),
		sts("on delete, all done", 0, expect{outcome: Ready}, func(w *world) { w.Target.Strategy = OnDelete }),
		sts("on delete, not available", 0, expect{outcome: Pending, says: "2/3 available"}, func(w *world) {
			w.Target.Strategy, w.Target.Status.Available = OnDelete, 2
		}),
		sts("on delete, the last is being made", 0, expect{outcome: Pending}, func(w *world) { w.Target.Strategy, w.Pods = OnDelete, w.Pods[:2] }),

		sts("partition, done", 0, expect{outcome: Ready, warns: "partition=2", verified: new(false)}, partition(2, 1)),
		sts("partition, not yet", 0, expect{outcome: Pending, says: "0/1 updated"}, partition(2, 0)),
		sts("partition, one below is not ready", 0, expect{outcome: Pending, says: "2/3 ready"}, func(w *world) {
			partition(2, 1)(w)
			w.Target.Status.Ready = 2
			w.Target.Parallel = true
			w.Pods[0].unready(State{Is: Running, Started: noon()})
		}),
		sts("partition, all updated before", 0, expect{outcome: Ready, verified: new(true)}, partition(2, 3)),
		sts("partition, a pod below counts for nothing", 0, expect{outcome: Pending, says: "0/1 updated"}, func(w *world) {
			partition(2, 1)(w)
			w.Pods = []Pod{w.pod(0, "new", newRef), w.pod(1, "old", oldRef)}
		}),
		sts("partition with a first ordinal", 0, expect{outcome: Ready}, func(w *world) {
			partition(2, 1)(w)
			w.Target.FirstOrdinal = 5
			for i := range w.Pods {
				w.Pods[i].Name = []string{"web-5", "web-6", "web-7"}[i]
			}
		}),
		sts("partition blocks all", 0, expect{outcome: Failed, reason: "PartitionBlocksUpdate", says: "0 pods will be updated"}, partition(3, 0)),
		sts("partition blocks all, allowed", 0, expect{outcome: Ready, verified: new(false)}, func(w *world) { partition(3, 0)(w); w.cfg.AllowPartition = true }),
		sts("partition beyond, all updated before", 0, expect{outcome: Ready}, partition(5, 3)),

		sts("stuck behind an old pod that is not ready", 60*time.Second, expect{outcome: Failed, reason: "StatefulSetStuckOnOldRevision", next: "kubectl -n shop delete pod web-2"}, stuckOld(State{Is: Running, Started: noon()})),
		sts("stuck behind an old pod that is doomed", 60*time.Second, expect{outcome: Failed, reason: "StatefulSetStuckOnOldRevision"}, stuckOld(waiting("ErrImagePull", "not found"))),
		sts("stuck behind an old pod that is doomed at once", 20*time.Second, expect{outcome: Failed, reason: "StatefulSetStuckOnOldRevision"}, stuckOld(waiting("InvalidImageName", ""))),
		sts("in parallel nothing is stuck", 0, expect{outcome: Pending}, func(w *world) {
			stuckOld(waiting("ErrImagePull", "not found"))(w)
			w.Target.Parallel = true
		}),
		sts("in parallel with maxUnavailable it is", 60*time.Second, expect{outcome: Failed, reason: "StatefulSetStuckOnOldRevision"}, func(w *world) {
			stuckOld(waiting("ErrImagePull", "not found"))(w)
			w.Target.Parallel, w.Target.MaxUnavailable = true, "1"
		}),
		sts("an old pod being deleted is not stuck", 0, expect{outcome: Pending}, func(w *world) {
			stuckOld(waiting("InvalidImageName", ""))(w)
			w.Pods[2].Deleted = noon()
		}),

		sts("one doomed pod blocks the rest", 60*time.Second, expect{outcome: Failed, class: ClassImage}, func(w *world) {
			w.Pods[2].unready(waiting("ErrImagePull", "not found"))
		}),
		sts("a pod refused", 10*time.Second, expect{outcome: Failed, class: ClassAdmission, reason: "FailedCreate"}, missing(`create Pod web-0 in StatefulSet web failed error: pods "web-0" is forbidden: violates PodSecurity`)),
		sts("a claim refused", 10*time.Second, expect{outcome: Failed, class: ClassAdmission}, missing(`create Claim data-web-0 for Pod web-0 in StatefulSet web failed error: denied the request`)),
		sts("a pod refused in passing", 0, expect{outcome: Pending, says: "failed calling webhook"}, missing(`create Pod web-0 in StatefulSet web failed error: failed calling webhook`)),
		sts("a claim is pending", 0, expect{outcome: Pending, says: "persistentvolumeclaim data is Pending"}, claim(ClaimAnswer{Sight: Seen, Claim: Claim{Phase: "Pending"}})),

		sts("not all updated", 0, expect{outcome: Pending, says: "1/3 updated"}, func(w *world) { w.Target.Status.Updated = 1 }),
		sts("not all ready", 0, expect{outcome: Pending, says: "2/3 ready"}, func(w *world) { w.Target.Status.Ready = 2 }),
		sts("not all available", 0, expect{outcome: Pending, says: "2/3 available"}, func(w *world) { w.Target.Status.Available = 2 }),
		sts("too many", 0, expect{outcome: Pending, says: "scaling down"}, func(w *world) { w.Target.Status.Replicas = 4 }),
		sts("a pod off the revision", 0, expect{outcome: Pending, says: "2/3 updated"}, func(w *world) { w.Pods[0] = w.pod(0, "old", oldRef) }),
		sts("equal revisions are no evidence", 0, expect{outcome: Pending}, func(w *world) {
			w.Target.Status.Available, w.Target.MinReady = 0, time.Minute
		}),
		sts("pods not listed", 0, expect{outcome: Pending, says: "reading its pods"}, func(w *world) { w.PodSight, w.Pods = Unread, nil }),
		sts("pods forbidden", 3*time.Second, expect{outcome: Ready, verified: new(false)}, func(w *world) { w.PodSight, w.Pods = Forbidden, nil }),
	}
	runGraced(t, rows)
}

func TestDaemonSet(t *testing.T) {
	ds := func(name string, grace time.Duration, after expect, bend func(*world)) graced {
		return graced{name: name, kind: DaemonSet, bend: bend, grace: grace, after: after}
	}
	away := func(n Node) func(*world) {
		return func(w *world) {
			n.Name = "node-c"
			w.Nodes["node-c"] = NodeAnswer{Sight: Seen, Node: n}
			w.Pods[2].unready(State{Is: Running, Started: noon()})
			w.Target.Status.Available, w.Target.Status.Ready = 2, 2
		}
	}
	bad := func(w *world) {
		w.Pods[2].unready(waiting("ErrImagePull", "not found"))
		w.Target.Status.Available = 2
	}
	missing := func(reason, text string) func(*world) {
		return func(w *world) {
			w.Pods = w.Pods[:2]
			w.Target.Status = Status{Observed: 2, Replicas: 3, Updated: 2, Ready: 2, Available: 2, Current: 2}
			w.look()
			w.pass(explainAfter).events("target", Event{Reason: reason, Message: text})
		}
	}
	runGraced(t, []graced{
		ds("complete", 0, expect{outcome: Ready, verified: new(true)}, func(*world) {}),
		ds("not observed", 0, expect{outcome: Pending, says: "has not observed"}, unobserve),
		ds("on delete", 10*time.Second, expect{outcome: Failed, reason: "OnDelete", says: "1 of 3", next: "delete pod web-0"}, func(w *world) {
			w.Target.Strategy, w.Target.Status.Updated = OnDelete, 2
			w.Pods[0] = w.pod(0, "old", oldRef)
		}),
		ds("on delete, done", 0, expect{outcome: Ready}, func(w *world) { w.Target.Strategy = OnDelete }),
		ds("no node", 10*time.Second, expect{outcome: Failed, reason: "NoMatchingNodes", says: "disk=ssd"}, func(w *world) {
			w.Target.Status, w.Pods = Status{Observed: 2}, nil
			w.Target.Template.NodeSelector = map[string]string{"disk": "ssd"}
		}),
		ds("no node, allowed", 0, expect{outcome: Ready, verified: new(false), warns: "no node matches"}, func(w *world) {
			w.Target.Status, w.Pods, w.cfg.AllowZero = Status{Observed: 2}, nil, true
		}),
		ds("the rest on a node that is not ready", 0, expect{outcome: Pending, says: "nodes that cannot run them: node-c"}, away(Node{Ready: "False"})),
		ds("the rest on an unreachable node", 0, expect{outcome: Pending, says: "node-c"}, away(Node{Ready: "Unknown", Taints: []string{"node.kubernetes.io/unreachable"}})),
		ds("the rest on a cordoned node", 0, expect{outcome: Pending, says: "node-c"}, away(Node{Ready: "True", Unschedulable: true})),
		ds("left out on demand", 0, expect{outcome: Ready, warns: "node-c"}, func(w *world) {
			away(Node{Ready: "False"})(w)
			w.cfg.IgnoreNotReadyNodes = true
		}),
		ds("a bad pod on a good node is not left out", 0, expect{outcome: Pending, says: "2/3 ready"}, func(w *world) {
			away(Node{Ready: "True"})(w)
			w.cfg.IgnoreNotReadyNodes = true
		}),
		ds("a doomed pod on a good node", 60*time.Second, expect{outcome: Failed, class: ClassImage}, bad),
		ds("a doomed pod on a bad node", 0, expect{outcome: Pending}, func(w *world) {
			bad(w)
			w.Nodes["node-c"] = NodeAnswer{Sight: Seen, Node: Node{Ready: "False"}}
		}),
		ds("a doomed pod on a node that may not be read", 60*time.Second, expect{outcome: Failed}, func(w *world) {
			bad(w)
			w.Nodes["node-c"] = NodeAnswer{Sight: Forbidden}
		}),
		ds("a doomed pod on a node not read yet", 0, expect{outcome: Pending}, func(w *world) { bad(w); delete(w.Nodes, "node-c") }),
		ds("a pod refused", 10*time.Second, expect{outcome: Failed, class: ClassAdmission}, missing("FailedCreate", "violates PodSecurity")),
		ds("a placement refused in passing", 0, expect{outcome: Pending, says: "nobody knows"}, missing("FailedPlacement", "nobody knows")),
		ds("a failed pod is replaced", 0, expect{outcome: Pending}, missing("FailedDaemonPod", "Found failed daemon pod shop/web-2 on node node-c, will try to kill it")),
		ds("too many pods elsewhere", 0, expect{outcome: Ready}, func(w *world) { w.Target.Status.Misscheduled = 2 }),
		ds("not all updated", 0, expect{outcome: Pending, says: "2/3 updated"}, func(w *world) { w.Target.Status.Updated = 2 }),
		ds("not all available", 0, expect{outcome: Pending, says: "2/3 available"}, func(w *world) { w.Target.Status.Available = 2 }),
		ds("a pod of another revision", 0, expect{outcome: Pending, says: "2/3 updated"}, func(w *world) { w.Pods[0] = w.pod(0, "old", oldRef) }),
		ds("the revision lags", 0, expect{outcome: Pending, says: "does not exist yet"}, func(w *world) { w.Revisions = w.Revisions[:1] }),
		ds("a rollback raised the number of an old revision", 0, expect{outcome: Pending}, func(w *world) { w.Revisions[0].Number = 3 }),
		ds("another encoding of the same revision", 10*time.Second, expect{outcome: Ready}, func(w *world) { w.Revisions[1].Template.Shape = "else" }),
		ds("revisions not listed", 0, expect{outcome: Pending, says: "reading its revisions"}, func(w *world) { w.RevisionSight, w.Revisions = Unread, nil }),
		ds("revisions forbidden", 0, expect{outcome: Ready}, func(w *world) { w.RevisionSight, w.Revisions = Forbidden, nil }),
		ds("revisions forbidden, old pods", 0, expect{outcome: Pending}, func(w *world) {
			w.RevisionSight, w.Revisions = Forbidden, nil
			w.Pods[0] = w.pod(0, "old", oldRef)
		}),
		ds("pods forbidden", 3*time.Second, expect{outcome: Ready, verified: new(false)}, func(w *world) { w.PodSight, w.Pods = Forbidden, nil }),
		ds("pods not listed", 0, expect{outcome: Pending, says: "reading its pods"}, func(w *world) { w.PodSight, w.Pods = Unread, nil }),
	})
}

func TestCronJob(t *testing.T) {
	runGraced(t, []graced{
		{name: "gated", kind: CronJob, bend: func(*world) {}, after: expect{outcome: Ready, warns: "gate only: nothing was run", verified: new(false)}},
		{name: "suspended", kind: CronJob, bend: func(w *world) { w.Target.Suspended = true }, after: expect{outcome: Ready, warns: "suspended"}},
		{name: "another image", kind: CronJob, bend: func(w *world) { w.Target.Template = templateOf(oldRef, "old") }, after: expect{outcome: Pending, phase: PhaseImage}},
		{name: "without a gate", kind: CronJob, bend: func(w *world) { w.cfg.NoGate = true }, after: expect{outcome: Failed, class: ClassGate}},
	})
}

func TestAnyKind(t *testing.T) {
	gone := func(m Missing) func(*world) {
		return func(w *world) { w.Target, w.Missing = nil, &m }
	}
	recreated := func(w *world) { w.look(); w.Target.UID = "second" }
	runGraced(t, []graced{
		{name: "not read yet", bend: func(w *world) { w.Target = nil }, after: expect{outcome: Pending, phase: PhaseImage}},
		{name: "never there", bend: gone(Missing{}), after: expect{outcome: Absent, says: "no deployment of that name"}},
		{name: "no namespace", bend: gone(Missing{Namespace: true}), after: expect{outcome: Absent, says: "namespace shop does not exist"}},
		{name: "waited for", bend: func(w *world) { gone(Missing{})(w); w.cfg.WaitCreate = true }, after: expect{outcome: Pending, says: "does not exist yet"}},
		{name: "waiting to be made is not waiting to be made again", bend: func(w *world) { gone(Missing{Deleted: true})(w); w.cfg.WaitCreate = true }, after: expect{outcome: Absent, reason: "Deleted"}},
		{name: "deleted", bend: gone(Missing{Deleted: true, NewUID: "second"}), after: expect{outcome: Absent, reason: "Deleted", says: "uid second"}},
		{name: "deleted and followed", bend: func(w *world) { gone(Missing{Deleted: true})(w); w.cfg.FollowRecreate = true }, after: expect{outcome: Pending}},
		{name: "being deleted", bend: func(w *world) { w.Target.Deleted = noon() }, after: expect{outcome: Absent}},
		{name: "being deleted and followed", bend: func(w *world) { w.Target.Deleted, w.cfg.FollowRecreate = noon(), true }, after: expect{outcome: Pending}},
		{name: "another uid", bend: recreated, after: expect{outcome: Absent, says: "uid target is now second"}},
		{name: "another uid, followed", bend: func(w *world) { w.cfg.FollowRecreate = true; recreated(w) }, after: expect{outcome: Pending, phase: PhaseRollout}},
		{name: "not permitted", bend: func(w *world) {
			w.Refused = &Refusal{Code: 403, Verb: "get", Resource: "deployments.apps", Message: "forbidden: no rule"}
		}, after: expect{outcome: Denied, says: "get deployments.apps in namespace shop"}},
		{name: "not known", bend: func(w *world) { w.Refused = &Refusal{Code: 401} }, after: expect{outcome: Denied, says: "credentials"}},
		{name: "an old copy of the target", bend: func(w *world) {
			w.look()
			w.Target.Generation, w.Target.Template = 1, templateOf(oldRef, "old")
		}, after: expect{outcome: Pending, says: "generation 1 after 2"}},
		{name: "a dying namespace", bend: func(w *world) {
			w.Namespace = &NamespaceAnswer{Sight: Seen, Namespace: Namespace{Phase: "Terminating"}}
		}, after: expect{outcome: Failed, reason: "NamespaceTerminating"}},
	})

	t.Run("followed to a new object and its own history", func(t *testing.T) {
		w := newWorld(Deployment)
		w.cfg.FollowRecreate = true
		w.look()
		w.Target.UID, w.Target.Template = "second", templateOf(oldRef, "old")
		expect{outcome: Pending, phase: PhaseImage}.check(t, "not superseded", w.look())
	})

	t.Run("the end of the watch", func(t *testing.T) {
		w := newWorld(Deployment)
		w.rolling(waiting("ErrImagePull", "not found"))
		w.look()
		w.Ended = TimeUp
		v := w.look()
		expect{outcome: Timeout, phase: PhaseRollout, class: ClassImage}.check(t, "", v)
		if v.Repeat == nil || !contains(v.Why, "old ReplicaSet web-old ("+oldRef+") still has 3/3 ready") {
			t.Errorf("%+v", v)
		}
		w.Target.Template = templateOf("reg.lan/web:5555555", "else")
		w.Memory = Memory{}
		expect{outcome: Timeout, phase: PhaseImage, says: "reg.lan/web:5555555"}.check(t, "", w.look())
		w.Ended = BySignal
		expect{outcome: Interrupted}.check(t, "", w.look())

		w = newWorld(Deployment)
		w.Ended = TimeUp
		expect{outcome: Timeout, verified: new(false)}.check(t, "an end nobody confirmed is none", w.look())
		expect{outcome: Ready}.check(t, "a confirmed one is", w.confirm())

		w = newWorld(Deployment)
		w.Ended, w.Trouble = TimeUp, Trouble{FailingSince: noon().Add(-troubleFatal + time.Millisecond), Last: "refused"}
		w.Target.Status.Updated = 1
		expect{outcome: Timeout}.check(t, "just before", w.look())
		expect{outcome: Unreachable, says: "refused"}.check(t, "just after", w.pass(time.Millisecond).look())
		w = newWorld(Deployment)
		w.Target, w.Ended, w.Trouble = nil, TimeUp, Trouble{Never: true}
		expect{outcome: Unreachable}.check(t, "never answered", w.look())
	})

	t.Run("trouble is told after three seconds and decides nothing", func(t *testing.T) {
		w := newWorld(Deployment)
		w.Target.Status.Updated = 1
		w.Trouble = Trouble{FailingSince: noon(), Last: "connection refused"}
		expect{outcome: Pending, says: "1/3 updated"}.check(t, "just before", w.pass(3*time.Second-time.Millisecond).look())
		expect{outcome: Pending, says: "has not answered for 3s: connection refused"}.check(t, "just after", w.pass(time.Millisecond).look())
		expect{outcome: Pending}.check(t, "later", w.pass(time.Hour).look())
	})

	t.Run("ends are confirmed", func(t *testing.T) {
		w := newWorld(Deployment)
		if v := w.look(); v.Confirmed {
			t.Error("confirmed without a live read")
		}
		if v := w.confirm(); !v.Confirmed || v.Outcome != Ready {
			t.Errorf("%+v", v)
		}
		w.Target.Status.Updated = 2
		if v := w.confirm(); v.Confirmed || v.Outcome != Pending {
			t.Errorf("%+v", v)
		}
	})
}
