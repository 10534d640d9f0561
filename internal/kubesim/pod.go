package kubesim

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"
)

// pods are all pods of a workload, whatever their revision.
func (s *Sim) pods(l *load) []Object {
	var out []Object
	for _, p := range s.Objects("pods", l.Namespace) {
		labels := child(meta(p), "labels")
		if labels["app"] == l.Name || l.template != "" && ownedBy(p, fmt.Sprintf("%s-%v", l.Name, labels["pod-template-hash"])) {
			out = append(out, p)
		}
	}
	return out
}

// ownedBy says whether a ReplicaSet of that name controls a pod.
func ownedBy(p Object, set string) bool {
	owners, _ := meta(p)["ownerReferences"].([]any)
	for _, o := range owners {
		if r, ok := o.(Object); ok && r["kind"] == "ReplicaSet" && r["name"] == set {
			return true
		}
	}
	return false
}

// pod makes a pod and starts its life. planned pods follow the rollout's plan.
func (s *Sim) pod(l *load, by Object, name string, template Object, node string, planned bool) Object {
	m := clone(meta(template))
	m["namespace"], m["name"], m["ownerReferences"] = l.Namespace, name, owner(by)
	spec := clone(child(template, "spec"))
	if node != "" {
		spec["nodeName"] = node
	}
	p := s.Put("pods", Object{
		"metadata": m, "spec": spec,
		"status": Object{"phase": "Pending", "qosClass": "BestEffort"},
	})
	if l.instant {
		return p
	}
	life := Life{}
	if planned {
		life = l.plan.Pod
		if special, ok := l.plan.Pods[l.made]; ok {
			life = special
		}
		l.made++
	}
	k := &kubelet{s: s, l: l, name: name, uid: str(meta(p)["uid"]), life: life}
	k.after(life.Schedule, 50*time.Millisecond, k.schedule)
	return p
}

// fit says whether a pod is ready, and has been for as long as it must be.
func (s *Sim) fit(l *load, p Object) (ready, available bool) {
	c := condition(p, "Ready")
	if c["status"] != "True" {
		return false, false
	}
	since, err := time.Parse(time.RFC3339, str(c["lastTransitionTime"]))
	return true, err == nil && s.o.Now().Sub(since) >= l.MinReady
}

// terminate deletes a pod as the API does: it is gone after a while.
func (s *Sim) terminate(l *load, p Object) {
	name, uid := str(meta(p)["name"]), meta(p)["uid"]
	if s.Object("pods", l.Namespace, name) == nil || meta(p)["deletionTimestamp"] != nil {
		return
	}
	s.edit("pods", p, func(o Object) bool {
		meta(o)["deletionTimestamp"] = s.o.Now().Add(30 * time.Second).UTC().Format(time.RFC3339)
		meta(o)["deletionGracePeriodSeconds"] = 30
		return true
	})
	d := l.plan.Terminate
	if d == Never {
		return
	}
	if d == 0 {
		d = time.Second
	}
	s.brain.after(d, func() {
		if now := s.Object("pods", l.Namespace, name); now != nil && meta(now)["uid"] == uid {
			s.Delete("pods", l.Namespace, name)
			s.soon(l, 0)
		}
	})
}

// DeletePod deletes a pod as a person would; its controller replaces it.
func (s *Sim) DeletePod(target, name string) {
	s.brain.work.Lock()
	defer s.brain.work.Unlock()
	l := s.target(target)
	if p := s.Object("pods", l.Namespace, name); p != nil {
		s.terminate(l, p)
		s.soon(l, 0)
	}
}

// kubelet plays one pod's life.
type kubelet struct {
	s         *Sim
	l         *load
	name, uid string
	life      Life
	restarts  int
	last      Object // lastState
}

// after does the next step, unless the pod is gone or going by then.
func (k *kubelet) after(d, otherwise time.Duration, step func(Object)) {
	if d == 0 {
		d = otherwise
	}
	if d == Never {
		return
	}
	k.s.brain.after(d, func() {
		p := k.s.Object("pods", k.l.Namespace, k.name)
		if p != nil && meta(p)["uid"] == k.uid && meta(p)["deletionTimestamp"] == nil {
			step(p)
		}
	})
}

func (k *kubelet) condition(p Object, kind string, ok bool, reason, message string) Object {
	status := "False"
	if ok {
		status = "True"
	}
	c := k.s.say(p, kind, status, reason, message, false)
	delete(c, "lastUpdateTime")
	if reason == "" {
		delete(c, "reason")
		delete(c, "message")
	}
	return c
}

// write puts down what the kubelet knows of the one container.
func (k *kubelet) write(p Object, phase string, state Object, ready bool) {
	status := Object{"phase": phase, "qosClass": "BestEffort", "startTime": meta(p)["creationTimestamp"], "hostIP": "10.0.0.1"}
	why, what := "ContainersNotReady", fmt.Sprintf("containers with unready status: [%s]", k.l.Container)
	if ready {
		why, what = "", ""
	}
	status["conditions"] = []any{
		k.condition(p, "PodScheduled", true, "", ""), k.condition(p, "Initialized", true, "", ""),
		k.condition(p, "ContainersReady", ready, why, what), k.condition(p, "Ready", ready, why, what),
	}
	image := k.image(p)
	c := Object{
		"name": k.l.Container, "image": image, "ready": ready, "restartCount": k.restarts, "state": state,
		"lastState": Object{}, "imageID": "", "started": state["running"] != nil,
	}
	if k.last != nil {
		c["lastState"] = k.last
	}
	if state["running"] != nil || state["terminated"] != nil || k.restarts > 0 {
		c["imageID"] = k.s.imageID(image)
		c["containerID"] = fmt.Sprintf("containerd://%s-%d", k.uid, k.restarts)
	}
	all := []any{c}
	for _, other := range containers(p) {
		if other["name"] == k.l.Container { // whose life the others share
			continue
		}
		o := clone(c)
		o["name"], o["image"] = other["name"], other["image"]
		if c["imageID"] != "" {
			o["imageID"] = k.s.imageID(str(other["image"]))
		}
		all = append(all, o)
	}
	status["containerStatuses"] = all
	k.s.set("pods", p, status)
	k.s.soon(k.l, 0)
}

func (k *kubelet) image(p Object) string {
	for _, c := range containers(p) {
		if c["name"] == k.l.Container {
			return str(c["image"])
		}
	}
	return ""
}

// ImageID is what the simulated runtime reports for an image: its repository
// with a digest made of the reference, or the digest it was pinned to.
func ImageID(image string) string {
	repo, digest, pinned := strings.Cut(image, "@")
	if pinned {
		return repo + "@" + digest
	}
	if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
		repo = repo[:i]
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(image))
	return fmt.Sprintf("%s@sha256:%064x", repo, h.Sum64())
}

func waiting(reason, message string) Object {
	w := Object{"reason": reason}
	if message != "" {
		w["message"] = message
	}
	return Object{"waiting": w}
}

// SetDigest says what a container started from now on shows as its imageID
// where its spec names image.
func (s *Sim) SetDigest(image, imageID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.digests[image] = imageID
}

func (s *Sim) imageID(image string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := s.digests[image]; ok {
		return id
	}
	return ImageID(image)
}

func (k *kubelet) schedule(p Object) {
	if k.life.Unschedulable != "" {
		k.s.set("pods", p, Object{"phase": "Pending", "conditions": []any{
			k.condition(p, "PodScheduled", false, "Unschedulable", k.life.Unschedulable),
		}})
		k.s.Event(p, "Warning", "FailedScheduling", k.life.Unschedulable)
		return
	}
	if p = k.s.assign(k.l, p); p == nil {
		return
	}
	k.write(p, "Pending", waiting("ContainerCreating", ""), false)
	switch {
	case k.life.PullError != "":
		k.after(0, pace, func(p Object) { k.pull(p, 1, 10*time.Second) })
	case k.life.ConfigError != "":
		k.after(k.life.Start, 200*time.Millisecond, func(p Object) {
			k.write(p, "Pending", waiting("CreateContainerConfigError", k.life.ConfigError), false)
			k.s.Event(p, "Warning", "Failed", "Error: "+k.life.ConfigError)
		})
	default:
		k.after(k.life.Start, 200*time.Millisecond, k.start)
	}
}

// pull fails and backs off, or succeeds in the end.
func (k *kubelet) pull(p Object, attempt int, back time.Duration) {
	if k.life.PullFails > 0 && attempt > k.life.PullFails {
		k.start(p)
		return
	}
	image := k.image(p)
	k.write(p, "Pending", waiting("ErrImagePull", k.life.PullError), false)
	k.s.Event(p, "Warning", "Failed", fmt.Sprintf("Failed to pull image %q: %s", image, k.life.PullError))
	k.after(0, time.Second, func(p Object) {
		k.write(p, "Pending", waiting("ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", image, k.life.PullError)), false)
	})
	k.after(back, back, func(p Object) { k.pull(p, attempt+1, min(2*back, 5*time.Minute)) })
}

func (k *kubelet) start(p Object) {
	began := k.s.stamp()
	k.s.SetLog(k.l.Namespace, k.name, k.l.Container, false, k.life.Log)
	crashes := k.life.CrashAfter > 0 && (k.life.Crashes == 0 || k.restarts < k.life.Crashes)
	unprobed := !k.l.Probe && k.life.ProbeError == "" && k.life.Ready == 0
	k.write(p, "Running", Object{"running": Object{"startedAt": began}}, unprobed)
	if crashes {
		k.after(k.life.CrashAfter, 0, func(p Object) { k.exit(p, began) })
	}
	if k.life.ProbeError != "" {
		k.after(0, time.Second, func(p Object) {
			k.s.Event(p, "Warning", "Unhealthy", "Readiness probe failed: "+k.life.ProbeError)
		})
		return
	}
	ready := k.life.Ready
	if ready == 0 {
		ready = 250 * time.Millisecond
	}
	if crashes && ready >= k.life.CrashAfter {
		return
	}
	run := k.restarts
	k.after(ready, 0, func(p Object) {
		if k.restarts != run {
			return
		}
		k.write(p, "Running", Object{"running": Object{"startedAt": began}}, true)
	})
	// A second more than needed, as timestamps have whole seconds.
	if k.l.MinReady > 0 {
		k.s.later(k.l, ready+k.l.MinReady+time.Second)
	}
}

// exit restarts the container: at once after the first time, then ever later.
func (k *kubelet) exit(p Object, began string) {
	code := k.life.ExitCode
	if code == 0 {
		code = 1
	}
	ended := Object{"terminated": Object{
		"exitCode": code, "reason": "Error", "startedAt": began, "finishedAt": k.s.stamp(),
		"containerID": fmt.Sprintf("containerd://%s-%d", k.uid, k.restarts),
	}}
	if code == 137 {
		ended["terminated"].(Object)["reason"] = "OOMKilled"
	}
	k.s.EndLog(k.l.Namespace, k.name, k.l.Container)
	k.write(p, "Running", ended, false)
	k.last = ended
	back := pace
	if k.restarts > 0 {
		back = min(10*time.Second<<(k.restarts-1), 5*time.Minute)
		k.after(0, pace, func(p Object) {
			k.write(p, "Running", waiting("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				back, k.l.Container, k.name, k.l.Namespace, k.uid)), false)
			k.s.Event(p, "Warning", "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s", k.l.Container, k.name))
		})
	}
	k.after(back+pace, 0, func(p Object) {
		k.restarts++
		k.start(p)
	})
}

// instantly makes a pod ready without a life.
func (s *Sim) instantly(l *load, p Object) {
	if condition(p, "Ready")["status"] == "True" || meta(p)["deletionTimestamp"] != nil {
		return
	}
	long := s.o.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	k := &kubelet{s: s, l: l, name: str(meta(p)["name"]), uid: str(meta(p)["uid"])}
	if p = s.assign(l, p); p == nil {
		return
	}
	k.write(p, "Running", Object{"running": Object{"startedAt": long}}, true)
	s.edit("pods", p, func(o Object) bool {
		for _, c := range child(o, "status")["conditions"].([]any) {
			c.(Object)["lastTransitionTime"] = long
		}
		return true
	})
}

// assign gives a pod its node, and returns nil if the pod is gone.
func (s *Sim) assign(l *load, p Object) Object {
	nodes := s.Objects("nodes", "")
	return s.edit("pods", p, func(o Object) bool {
		if child(o, "spec")["nodeName"] != nil {
			return false
		}
		child(o, "spec")["nodeName"] = meta(nodes[l.serial%len(nodes)])["name"]
		return true
	})
}
