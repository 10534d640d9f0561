package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// lone is a rollout whose only new pod is in a state; the old ones serve on.
func lone(s State) func(*world) { return func(w *world) { w.rolling(s) } }

func pull(reason, message string) func(*world) { return lone(waiting(reason, message)) }

// crash puts the new pod into a crash loop: it has ended code n times, the
// last time just now.
func crash(s State, restarts int32, code int32, reason string) func(*world) {
	return func(w *world) {
		w.rolling(s)
		c := &w.Pods[0].Containers[0]
		c.Restarts, c.Last = restarts, State{Is: Terminated, ExitCode: code, Reason: reason, Started: noon().Add(-time.Second), Finished: noon()}
	}
}

func TestPodClasses(t *testing.T) {
	never := func(name string, class Class, bend func(*world)) graced {
		return graced{name: name, bend: bend, after: expect{outcome: Pending, class: class}}
	}
	rows := []graced{
		{
			name: "crash looping", grace: 45 * time.Second, bend: crash(waiting("CrashLoopBackOff", "back-off 10s"), 1, 1, "Error"),
			before: expect{says: "CrashLoopBackOff"}, after: expect{outcome: Failed, class: ClassCrash, reason: "CrashLoopBackOff", next: "kubectl -n shop logs web-new-0 -c web --previous"},
		},
		{
			name: "crash looping with exit code 0", grace: 45 * time.Second, bend: crash(waiting("CrashLoopBackOff", "back-off 10s"), 1, 0, "Completed"),
			after: expect{outcome: Failed, class: ClassCrash},
		},
		{name: "three restarts", bend: crash(waiting("CrashLoopBackOff", ""), 3, 1, "Error"), after: expect{outcome: Failed, class: ClassCrash}},
		{name: "three restarts, ended", bend: crash(State{Is: Terminated, ExitCode: 1, Reason: "Error", Finished: noon()}, 3, 1, "Error"), after: expect{outcome: Failed, class: ClassCrash, reason: "Error"}},
		{name: "more restarts allowed", grace: 45 * time.Second, bend: func(w *world) {
			crash(waiting("CrashLoopBackOff", ""), 3, 1, "Error")(w)
			w.cfg.MaxRestarts = 9
		}, after: expect{outcome: Failed, class: ClassCrash}},
		{name: "fewer restarts allowed", bend: func(w *world) {
			crash(waiting("CrashLoopBackOff", ""), 1, 1, "Error")(w)
			w.cfg.MaxRestarts = 1
		}, after: expect{outcome: Failed, class: ClassCrash}},
		never("ended once, no back-off", ClassCrash, lone(State{Is: Terminated, ExitCode: 1, Reason: "Error", Finished: noon()})),
		{name: "out of memory twice", bend: func(w *world) {
			crash(waiting("CrashLoopBackOff", ""), 2, 137, "OOMKilled")(w)
			w.Pods[0].Containers[0].Memory = "64Mi"
		}, after: expect{outcome: Failed, class: ClassCrash, reason: "OOMKilled"}},
		{name: "out of memory once", grace: 45 * time.Second, bend: crash(waiting("CrashLoopBackOff", ""), 1, 137, "OOMKilled"), after: expect{outcome: Failed, reason: "OOMKilled"}},
		{name: "killed by its probe", grace: 45 * time.Second, bend: func(w *world) {
			crash(waiting("CrashLoopBackOff", ""), 2, 0, "Completed")(w)
			w.events("pod-new0", Event{Reason: "Killing", Message: "Container web failed liveness probe, will be restarted", FieldPath: "spec.containers{web}"})
		}, after: expect{outcome: Failed, class: ClassCrash, reason: "ProbeKilled"}},
		{name: "an init container loops", grace: 45 * time.Second, bend: func(w *world) {
			crash(waiting("CrashLoopBackOff", ""), 1, 1, "Error")(w)
			bad := w.Pods[0].Containers[0]
			bad.Name, bad.Init = "migrate", true
			w.Pods[0].Containers = []ContainerStatus{bad, {Name: "web", Image: newRef, Seen: true, State: waiting("PodInitializing", "")}}
		}, after: expect{outcome: Failed, class: ClassCrash, says: "container migrate"}},
		never("an init container that ended well", "", func(w *world) {
			w.rolling(waiting("PodInitializing", ""))
			w.Pods[0].Containers = append([]ContainerStatus{{Name: "migrate", Init: true, Seen: true, State: State{Is: Terminated, Reason: "Completed"}}}, w.Pods[0].Containers...)
		}),

		{name: "readiness with a grace", grace: 20 * time.Second, bend: func(w *world) {
			w.rolling(State{Is: Running, Started: noon()})
			w.cfg.ReadinessGrace = 20 * time.Second
		}, after: expect{outcome: Failed, class: ClassReadiness}},
		never("readiness without", ClassReadiness, lone(State{Is: Running, Started: noon()})),
		never("a readiness gate", ClassReadiness, func(w *world) {
			w.rolling(State{Is: Running, Started: noon()})
			w.Pods[0].Containers[0].Ready, w.Pods[0].Gates, w.cfg.ReadinessGrace = true, []string{"lb/ready"}, time.Second
		}),
		{name: "unschedulable with a grace", grace: 20 * time.Second, bend: func(w *world) {
			w.rolling(State{})
			w.cfg.UnschedulableGrace = 20 * time.Second
			w.Pods[0].Node, w.Pods[0].Conditions[0] = "", Condition{Type: "PodScheduled", Status: "False", Reason: "Unschedulable", Message: "0/3 nodes: Insufficient cpu", Transition: noon()}
		}, before: expect{says: "Insufficient cpu"}, after: expect{outcome: Failed, class: ClassScheduling, reason: "Unschedulable"}},
		{name: "the scheduler misses a claim", grace: 60 * time.Second, bend: func(w *world) {
			w.rolling(State{})
			w.Pods[0].Node, w.Pods[0].Conditions[0] = "", Condition{Type: "PodScheduled", Status: "False", Reason: "Unschedulable", Message: `persistentvolumeclaim "data" not found`, Transition: noon()}
		}, after: expect{outcome: Failed, class: ClassVolume}},
		{name: "a claim is gone", grace: 60 * time.Second, bend: claim(ClaimAnswer{Sight: Seen, Gone: true}), after: expect{outcome: Failed, class: ClassVolume}},
		{name: "a claim lost its volume", grace: 60 * time.Second, bend: claim(ClaimAnswer{Sight: Seen, Claim: Claim{Phase: "Lost"}}), after: expect{outcome: Failed, class: ClassVolume, reason: "ClaimLost"}},
		{name: "a storage class is missing", grace: 60 * time.Second, bend: func(w *world) {
			claim(ClaimAnswer{Sight: Seen, Claim: Claim{Meta: Meta{UID: "pvc"}, Phase: "Pending"}})(w)
			w.events("pvc", Event{Reason: "ProvisioningFailed", Message: `storageclass.storage.k8s.io "fast" not found`})
		}, after: expect{outcome: Failed, class: ClassVolume}},
		never("a claim waits", ClassTransient, claim(ClaimAnswer{Sight: Seen, Claim: Claim{Phase: "Pending", StorageClass: "fast"}})),
		never("a claim that may not be read", "", claim(ClaimAnswer{Sight: Forbidden})),
		{name: "a mount misses a secret", grace: 60 * time.Second, bend: event(Event{Reason: "FailedMount", Message: `MountVolume.SetUp failed for volume "s" : secret "tls" not found`}), after: expect{outcome: Failed, class: ClassVolume, reason: "FailedMount"}},
		never("a mount whose cache is not there", ClassTransient, event(Event{Reason: "FailedMount", Message: `failed to sync secret cache: secret "tls" not found`})),
		never("a mount that has worked since", "", event(Event{Reason: "FailedMount", Message: `secret "tls" not found`, Last: noon()}, Event{Reason: "Pulling", Last: noon().Add(time.Second)})),
		never("an attach", ClassTransient, event(Event{Reason: "FailedAttachVolume", Message: "Multi-Attach error"})),
		never("a sandbox", ClassTransient, event(Event{Reason: "FailedCreatePodSandBox", Message: "plugin: not found"})),
		never("a network", ClassTransient, event(Event{Reason: "NetworkNotReady", Message: "cni"})),
	}
	for _, r := range []struct{ reason, message string }{
		{"InvalidImageName", "couldn't parse"},
		{"ErrImageNeverPull", "not present"},
		{"RunContainerError", "exec: exec format error"},
		{"CreateContainerError", `exec: "x": executable file not found in $PATH`},
		{"RunContainerError", "stat /run.sh: no such file or directory"},
		{"StartError", "permission denied: unknown"},
	} {
		t.Run("permanent "+r.message, func(t *testing.T) {
			w := newWorld(Deployment)
			pull(r.reason, r.message)(w)
			expect{outcome: Pending}.check(t, "one observation", w.look())
			expect{outcome: Failed, class: ClassPermanent, reason: r.reason}.check(t, "the second", w.pass(time.Millisecond).look())
		})
	}
	for _, text := range []string{
		"x: not found", "manifest unknown", "no match for platform in manifest", "repository does not exist", "pull access denied", "insufficient_scope: authorization failed",
		"unexpected status: 401 Unauthorized", "403 Forbidden", "denied: nope", "tls: x509: unknown authority", "http: server gave HTTP response to HTTPS client",
	} {
		rows = append(rows, graced{
			name: "image " + text, grace: 60 * time.Second, bend: pull("ErrImagePull", text),
			after: expect{outcome: Failed, class: ClassImage, reason: "ErrImagePull"},
		})
	}
	rows = append(rows,
		graced{name: "image with another grace", grace: 5 * time.Second, bend: func(w *world) {
			pull("ErrImagePull", "not found")(w)
			w.cfg.ImagePullGrace = 5 * time.Second
		}, after: expect{outcome: Failed, class: ClassImage}},
		graced{name: "signature", grace: 60 * time.Second, bend: pull("SignatureValidationFailed", "bad"), after: expect{outcome: Failed, class: ClassImage}},
		graced{name: "back-off with its cause", grace: 60 * time.Second, bend: pull("ImagePullBackOff", `Back-off pulling image "x": ErrImagePull: x: not found`), after: expect{outcome: Failed, class: ClassImage, reason: "ImagePullBackOff"}},
		graced{name: "back-off with its cause in an event", grace: 60 * time.Second, bend: func(w *world) {
			pull("ImagePullBackOff", `Back-off pulling image "x"`)(w)
			w.events("pod-new0", Event{Reason: "Failed", Message: `Failed to pull image "x": not found`})
		}, after: expect{outcome: Failed, class: ClassImage}},
	)
	for _, text := range []string{
		"i/o timeout", "connection refused", "lookup reg.lan: no such host", "TLS handshake timeout", "unexpected EOF", "context deadline exceeded",
		"429 Too Many Requests", "toomanyrequests: slow down", "unexpected status code 503: not found", "502 Bad Gateway", "no space left on device", "something new", "x: not found: unexpected EOF",
	} {
		rows = append(rows, never("pull "+text, ClassTransient, pull("ErrImagePull", text)))
	}
	for _, text := range []string{`secret "x" not found`, `configmap "x" not found`, `couldn't find key a in Secret shop/x`, "container has runAsNonRoot and image will run as root"} {
		rows = append(rows, graced{name: "config " + text, grace: 30 * time.Second, bend: pull("CreateContainerConfigError", text), after: expect{outcome: Failed, class: ClassConfig}})
	}
	rows = append(rows,
		never("config cache", ClassTransient, pull("CreateContainerConfigError", `failed to sync configmap cache: configmap "x" not found`)),
		never("registry unavailable", ClassTransient, pull("RegistryUnavailable", "not found")),
		never("cannot run", ClassTransient, func(w *world) {
			w.rolling(State{Is: Terminated, Reason: "ContainerCannotRun", ExitCode: 128, Message: "no such file or directory", Finished: noon()})
		}),
		never("creating", "", pull("ContainerCreating", "")),
		never("initialising", "", pull("PodInitializing", "")),
		never("the scheduler waits without a grace", ClassScheduling, func(w *world) {
			w.rolling(State{})
			w.Pods[0].Node, w.Pods[0].Conditions[0] = "", Condition{Type: "PodScheduled", Status: "False", Reason: "SchedulingGated", Transition: noon()}
		}),
	)
	for _, reason := range []string{"ImageInspectError", "ImageVolumeMountFailed", "RROUnsupported", "PreCreateHookError", "PreStartHookError", "PostStartHookError"} {
		rows = append(rows, never("reason "+reason, ClassTransient, pull(reason, "not found")))
	}
	for _, reason := range []string{"DeadlineExceeded", "ContainerStatusUnknown"} {
		rows = append(rows, never("terminated "+reason, ClassTransient, lone(State{Is: Terminated, Reason: reason, ExitCode: 137, Finished: noon()})))
	}
	for _, reason := range []string{"Evicted", "Preempting", "NodeLost", "Terminated", "NodeShutdown", "NodeAffinity", "OutOfcpu", "OutOfmemory", "OutOfpods", "UnexpectedAdmissionError"} {
		rows = append(rows,
			never("pod "+reason, ClassTransient, func(w *world) { w.rolling(State{}); w.Pods[0].Reason = reason }),
			never("failed pod "+reason, "", func(w *world) {
				w.rolling(State{Is: Terminated, ExitCode: 1})
				w.Pods[0].Phase, w.Pods[0].Reason = "Failed", reason
			}))
	}
	runGraced(t, rows)
}

func claim(answer ClaimAnswer) func(*world) {
	return func(w *world) {
		w.rolling(State{})
		w.Pods[0].Claims, w.Pods[0].Created = []string{"data"}, noon().Add(-explainAfter)
		w.Claims["data"] = answer
	}
}

func event(es ...Event) func(*world) {
	return func(w *world) {
		w.rolling(waiting("ContainerCreating", ""))
		w.Pods[0].Started = noon().Add(-explainAfter)
		w.events("pod-new0", es...)
	}
}

func TestOneBadPodAmongGood(t *testing.T) {
	for _, r := range []struct {
		name string
		s    State
		at   time.Duration
	}{
		{"image", waiting("ErrImagePull", "not found"), 180 * time.Second},
		{"config", waiting("CreateContainerConfigError", `secret "x" not found`), 120 * time.Second},
		{"permanent", waiting("InvalidImageName", ""), 120 * time.Second},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(Deployment)
			w.Pods[1].unready(r.s)
			w.look()
			expect{outcome: Pending}.check(t, "just before", w.pass(r.at-time.Millisecond).look())
			expect{outcome: Failed}.check(t, "just after", w.pass(time.Millisecond).look())
		})
	}
	t.Run("all bad", func(t *testing.T) {
		w := newWorld(Deployment)
		for i := range w.Pods {
			w.Pods[i].unready(waiting("ErrImagePull", "not found"))
		}
		w.look()
		expect{outcome: Failed}.check(t, "", w.pass(time.Minute).look())
	})
	t.Run("one of the bad came later", func(t *testing.T) {
		w := newWorld(Deployment)
		w.Pods = w.Pods[:2]
		w.Pods[0].unready(waiting("ErrImagePull", "not found"))
		w.Pods[1].unready(waiting("ContainerCreating", ""))
		w.look()
		w.pass(30 * time.Second)
		w.Pods[1].unready(waiting("ErrImagePull", "not found"))
		w.look()
		expect{outcome: Pending}.check(t, "only one is over", w.pass(30*time.Second).look())
		expect{outcome: Failed}.check(t, "both", w.pass(30*time.Second).look())
	})
	t.Run("old pods cannot fail it", func(t *testing.T) {
		w := newWorld(Deployment)
		w.rolling(State{Is: Running, Started: noon()})
		for i := range w.Pods[1:] {
			w.Pods[i+1].unready(waiting("ErrImagePull", "not found"))
		}
		w.look()
		expect{outcome: Pending}.check(t, "", w.pass(time.Hour).look())
	})
}

func TestGracesStartAnew(t *testing.T) {
	t.Run("when the condition clears", func(t *testing.T) {
		w := newWorld(Deployment)
		pull("ErrImagePull", "not found")(w)
		w.look()
		w.pass(50 * time.Second)
		w.Pods[0].Containers[0].State = waiting("ContainerCreating", "")
		w.look()
		w.Pods[0].Containers[0].State = waiting("ErrImagePull", "not found")
		w.look()
		expect{outcome: Pending}.check(t, "", w.pass(59*time.Second).look())
		expect{outcome: Failed}.check(t, "", w.pass(time.Second).look())
	})
	t.Run("not when the pull backs off", func(t *testing.T) {
		w := newWorld(Deployment)
		pull("ErrImagePull", "not found")(w)
		w.look()
		w.pass(30 * time.Second)
		w.Pods[0].Containers[0].State = waiting("ImagePullBackOff", `Back-off pulling image "x"`) // an old kubelet hides the cause
		w.look()
		expect{outcome: Failed, class: ClassImage}.check(t, "", w.pass(30*time.Second).look())
	})
	t.Run("for another pod", func(t *testing.T) {
		w := newWorld(Deployment)
		pull("ErrImagePull", "not found")(w)
		w.look()
		w.pass(50 * time.Second)
		w.Pods[0].UID = "another"
		w.look()
		expect{outcome: Pending}.check(t, "", w.pass(50*time.Second).look())
	})
	t.Run("restarts count from first sight", func(t *testing.T) {
		w := newWorld(Deployment)
		crash(State{Is: Running, Started: noon()}, 7, 1, "Error")(w)
		expect{outcome: Pending}.check(t, "seven before", w.look())
		w.Pods[0].Containers[0].Restarts = 9
		expect{outcome: Pending}.check(t, "two more", w.pass(time.Second).look())
		w.Pods[0].Containers[0].Restarts = 10
		expect{outcome: Failed, class: ClassCrash}.check(t, "three more", w.pass(time.Second).look())
	})
	t.Run("two crashes are survived", func(t *testing.T) {
		w := newWorld(Deployment)
		at := func(d time.Duration, s State, restarts int32) {
			t.Helper()
			w.now = noon().Add(d)
			crash(s, restarts, 1, "Error")(w)
			expect{outcome: Pending}.check(t, fmt.Sprint(d), w.look())
		}
		at(0, State{Is: Terminated, ExitCode: 1, Finished: noon()}, 0)
		at(2*time.Second, State{Is: Running, Started: noon().Add(2 * time.Second)}, 1)
		at(20*time.Second, State{Is: Terminated, ExitCode: 1, Finished: noon().Add(20 * time.Second)}, 1)
		at(21*time.Second, waiting("CrashLoopBackOff", ""), 1)
		at(40*time.Second, State{Is: Running, Started: noon().Add(40 * time.Second)}, 2)
		at(70*time.Second, State{Is: Running, Started: noon().Add(40 * time.Second)}, 2)
	})
	t.Run("an hour after the last crash a new one starts anew", func(t *testing.T) {
		w := newWorld(Deployment)
		crash(waiting("CrashLoopBackOff", ""), 1, 1, "Error")(w)
		w.look()
		w.now = noon().Add(20 * time.Minute)
		c := &w.Pods[0].Containers[0]
		c.State = State{Is: Running, Started: noon().Add(time.Minute)}
		w.look()
		c.State, c.Last, c.Restarts = waiting("CrashLoopBackOff", ""), State{Is: Terminated, ExitCode: 1, Finished: w.now}, 2
		w.look()
		expect{outcome: Pending}.check(t, "", w.pass(44*time.Second).look())
		expect{outcome: Failed}.check(t, "", w.pass(time.Second).look())
	})
}

func TestExplaining(t *testing.T) {
	w := newWorld(Deployment)
	crash(waiting("CrashLoopBackOff", ""), 3, 1, "Error")(w)
	log := Want{Kind: WantLog, Pod: "web-new-0", Container: "web", Previous: true}
	v := w.look()
	if slices.Contains(v.Fetch, log) {
		t.Error("a log is asked for before the end is certain")
	}
	if v = w.confirm(); !slices.Contains(v.Fetch, log) {
		t.Errorf("no log of the instance before is asked for: %+v", v.Fetch)
	}
	w.Logs[log] = LogTail{Lines: []string{"boom"}}
	v = w.confirm()
	if !v.Confirmed || v.Cause == nil || len(v.Cause.LogTail) != 1 || v.Cause.ExitCode == nil || *v.Cause.ExitCode != 1 || v.Cause.Restarts != 3 {
		t.Errorf("%+v", v.Cause)
	}
	if v.Serving == nil || !v.Serving.Old || v.Serving.Ready != 3 || v.Serving.Image != oldRef {
		t.Errorf("serving %+v", v.Serving)
	}
	if want := "old ReplicaSet web-old (" + oldRef + ") still has 3/3 ready"; !contains(v.Why, want) {
		t.Errorf("why %q lacks %q", v.Why, want)
	}
	w.Pods = w.Pods[:1]
	if v = w.confirm(); !contains(v.Why, "0 ready: OUTAGE") {
		t.Errorf("why %q", v.Why)
	}
	w.Logs[log] = LogTail{Lines: []string{"/bin/web: exec format error"}}
	w.look()
	expect{outcome: Failed, class: ClassPermanent}.check(t, "the log tells more", w.pass(time.Second).look())

	w = newWorld(Deployment)
	w.rolling(State{Is: Running, Started: noon()})
	w.pass(time.Minute).events("pod-new0", Event{Reason: "Unhealthy", Message: "Readiness probe failed: HTTP probe failed with statuscode: 503"})
	expect{outcome: Pending, says: "web-new-0: readiness probe failing 1m"}.check(t, "", w.look())
	expect{outcome: Pending, says: "HTTP 503"}.check(t, "", w.look())
	w.Events["pod-new0"] = Events{Sight: Forbidden}
	if v := w.look(); !contains(v.Why, "not permitted to read events") {
		t.Errorf("why %q", v.Why)
	}
}

func contains(list []string, want string) bool {
	return slices.Contains(list, want)
}

// However many pods are bad, event lists are asked for one at a time.
func TestEventsArePaced(t *testing.T) {
	w := newWorld(Deployment)
	w.Target.Replicas, w.Pods = 500, nil
	for i := range 500 {
		p := w.pod(i, "new", newRef)
		p.unready(State{Is: Running, Started: noon()})
		w.Pods = append(w.Pods, p)
	}
	lists := 0
	for range 120 {
		for _, f := range w.pass(500 * time.Millisecond).look().Fetch {
			if f.Kind == WantEvents {
				lists++
				w.events(f.UID)
			}
		}
	}
	if lists == 0 || lists > 12 {
		t.Errorf("%d event lists in a minute, want 1 to 12", lists)
	}
}

// What looks like trouble and is none.
func TestNoTrouble(t *testing.T) {
	t.Run("an init container that ended well is not to blame", func(t *testing.T) {
		w := newWorld(Deployment)
		w.rolling(waiting("PodInitializing", ""))
		w.Pods[0].Containers = append([]ContainerStatus{{Name: "migrate", Init: true, Seen: true, State: State{Is: Terminated, Reason: "Completed"}}}, w.Pods[0].Containers...)
		if v := w.look(); v.Cause != nil {
			t.Errorf("blames %+v", v.Cause)
		}
	})
	t.Run("pods with the same labels and another owner", func(t *testing.T) {
		for _, k := range []Kind{Deployment, StatefulSet, DaemonSet} {
			w := newWorld(k)
			p := w.pod(3, "else", oldRef)
			p.Owner.UID = "a stranger"
			p.unready(waiting("InvalidImageName", ""))
			w.Pods = append(w.Pods, p)
			expect{outcome: Ready}.check(t, string(k), w.look())
		}
	})
	t.Run("a refusal before the last success", func(t *testing.T) {
		w := newWorld(StatefulSet)
		w.Pods = w.Pods[:2]
		w.Target.Status.Ready, w.Target.Status.Available = 2, 2
		w.look()
		w.pass(explainAfter)
		w.events("target", Event{Reason: "FailedCreate", Message: "violates PodSecurity", Last: noon()}, Event{Reason: "SuccessfulCreate"})
		w.look()
		v := w.pass(time.Minute).look()
		expect{outcome: Pending, says: "2/3 updated"}.check(t, "", v)
	})
}

func TestTheFirstCrashCounts(t *testing.T) {
	w := newWorld(Deployment)
	crash(State{Is: Running, Started: noon()}, 1, 1, "Error")(w)
	w.look()
	w.pass(30 * time.Second)
	c := &w.Pods[0].Containers[0]
	c.State, c.Last.Finished = waiting("CrashLoopBackOff", ""), w.now
	w.look()
	expect{outcome: Pending}.check(t, "just before", w.pass(15*time.Second-time.Millisecond).look())
	expect{outcome: Failed}.check(t, "just after", w.pass(time.Millisecond).look())
}
