package kubesim

import (
	"fmt"
	"hash/fnv"
	"reflect"
	"strings"
	"time"
)

// Workload is what the brain runs.
type Workload struct {
	Kind            string // Deployment (""), StatefulSet, DaemonSet
	Namespace, Name string
	Image           string
	Container       string        // "" is Name
	Replicas        int           // a DaemonSet has one pod on each node
	Strategy        string        // "" is RollingUpdate; Recreate, OnDelete
	MaxSurge        int           // Deployment
	MaxUnavailable  int           // Deployment; 0 with MaxSurge 0 means a surge of 1
	Partition       int           // StatefulSet
	Deadline        time.Duration // progressDeadlineSeconds; 0: ten minutes
	MinReady        time.Duration
	Probe           bool              // there is a readiness probe
	Annotations     map[string]string // of the pod template
}

// Never is a duration that does not pass.
const Never = time.Duration(1 << 62)

// Plan is how a rollout goes. The zero value: healthy, a pod in half a second.
type Plan struct {
	Pod         Life
	Pods        map[int]Life  // exceptions, for the n-th pod made, from 0
	Observe     time.Duration // until the controller notices; 0: 20 ms; Never: it is down
	Terminate   time.Duration // of a pod of an older revision; 0: 1 s; Never: stuck
	CreateError string        // no ReplicaSet is made, for this reason
	PodError    string        // no pod is made, for this reason
	Writer      string        // field manager of the image; "" is kubectl-set
}

// Life is how a pod does. Durations count from the step before.
type Life struct {
	Schedule, Start, Ready time.Duration // 0: 50, 200, 250 ms
	Unschedulable          string        // the scheduler's message; for ever
	PullError              string        // the runtime's message; attempts after 0, 10, 30, 70 s
	PullFails              int           // attempts that fail; 0: all
	ConfigError            string        // CreateContainerConfigError; for ever
	CrashAfter             time.Duration // of running, then it exits
	ExitCode               int           // 0 with CrashAfter: 1
	Crashes                int           // 0: for ever
	ProbeError             string        // never ready: the readiness probe's message
	Log                    string
}

// load is a workload with its plan.
type load struct {
	Workload
	resource string
	plan     Plan
	template string // hash of it, of one written through the API
	made     int    // pods of this rollout
	serial   int    // pods ever
	queued   bool
	instant  bool      // being deployed: nothing takes time
	alarm    time.Time // when the deadline is looked at
	progress string    // counts at the last progress
	since    time.Time // of it
}

func (s *Sim) loadKey(ns, kind, name string) string { return kind + "/" + ns + "/" + name }

// target reads NS/NAME or NS/KIND/NAME.
func (s *Sim) target(t string) *load {
	p := strings.Split(t, "/")
	kind := "Deployment"
	if len(p) == 3 {
		kind = p[1]
	}
	l := s.brain.loads[s.loadKey(p[0], strings.ToLower(kind), p[len(p)-1])]
	if l == nil {
		panic("kubesim: nothing was deployed as " + t)
	}
	return l
}

// Node makes a node that is ready, or not.
func (s *Sim) Node(name string, ready bool) {
	status := "True"
	if !ready {
		status = "False"
	}
	s.Put("nodes", Object{
		"metadata": Object{"name": name}, "spec": Object{},
		"status": Object{"conditions": []any{Object{"type": "Ready", "status": status, "lastTransitionTime": s.stamp()}}},
	})
}

// Deploy makes w as if it had been there for long: complete. Without a node
// there will be node-1.
func (s *Sim) Deploy(w Workload) {
	if w.Kind == "" {
		w.Kind = "Deployment"
	}
	if w.Container == "" {
		w.Container = w.Name
	}
	if w.Deadline == 0 {
		w.Deadline = 10 * time.Minute
	}
	if w.MaxSurge == 0 && w.MaxUnavailable == 0 {
		w.MaxSurge = 1
	}
	if len(s.Objects("nodes", "")) == 0 {
		s.Node("node-1", true)
	}
	if s.Object("namespaces", "", w.Namespace) == nil {
		s.Namespace(w.Namespace)
	}
	b := &s.brain
	b.work.Lock()
	defer b.work.Unlock()
	l := &load{Workload: w, resource: strings.ToLower(w.Kind) + "s", plan: Plan{Writer: "kubectl-create"}, since: s.o.Now(), instant: true}
	b.loads[s.loadKey(w.Namespace, strings.ToLower(w.Kind), w.Name)] = l
	s.Put(l.resource, s.spec(l, w.Image))
	for range 10 * (w.Replicas + len(s.Objects("nodes", "")) + 2) { // all steps, none of the waits
		for _, p := range s.pods(l) {
			s.instantly(l, p)
		}
		s.reconcile(l)
	}
	l.instant = false
}

// Rollout gives the target ("shop/web", "shop/statefulset/db") another image
// and lets it go as planned. Another one may follow before it is through.
func (s *Sim) Rollout(target, image string, p Plan) {
	b := &s.brain
	b.work.Lock()
	defer b.work.Unlock()
	l := s.target(target)
	if p.Writer == "" {
		p.Writer = "kubectl-set"
	}
	l.plan, l.made, l.progress = p, 0, ""
	l.since = s.o.Now()
	s.Update(l.resource, l.Namespace, l.Name, func(o Object) {
		for _, c := range containers(child(child(o, "spec"), "template")) {
			if c["name"] == l.Container {
				c["image"] = image
			}
		}
		meta(o)["managedFields"] = s.written(l)
	})
	s.soon(l, p.Observe)
}

// Kick makes the brain look at a target again, after a test has changed it.
func (s *Sim) Kick(target string) {
	s.brain.work.Lock()
	defer s.brain.work.Unlock()
	s.soon(s.target(target), 0)
}

// Release lets a target's stuck pods terminate.
func (s *Sim) Release(target string) {
	s.brain.work.Lock()
	defer s.brain.work.Unlock()
	l := s.target(target)
	for _, p := range s.pods(l) {
		if meta(p)["deletionTimestamp"] != nil {
			s.Delete("pods", l.Namespace, str(meta(p)["name"]))
		}
	}
	s.soon(l, 0)
}

const pace = 20 * time.Millisecond // between two steps of a controller

// soon reconciles once, in d or at the controllers' pace.
func (s *Sim) soon(l *load, d time.Duration) {
	if d == Never || l.plan.Observe == Never || l.queued || l.instant {
		return
	}
	l.queued = true
	s.brain.after(max(d, pace), func() {
		l.queued = false
		if s.reconcile(l) {
			s.soon(l, 0)
		}
	})
}

// later reconciles in d, whatever happens before.
func (s *Sim) later(l *load, d time.Duration) { s.brain.after(d, func() { s.soon(l, 0) }) }

func (s *Sim) reconcile(l *load) (again bool) {
	o := s.Object(l.resource, l.Namespace, l.Name)
	if o == nil || meta(o)["deletionTimestamp"] != nil {
		return false
	}
	switch l.Kind {
	case "Deployment":
		return s.deployment(l, o)
	case "StatefulSet":
		return s.statefulSet(l, o)
	default:
		return s.daemonSet(l, o)
	}
}

func (s *Sim) written(l *load) []any {
	return []any{Object{
		"manager": l.plan.Writer, "operation": "Update", "apiVersion": "apps/v1", "time": s.stamp(), "fieldsType": "FieldsV1",
		"fieldsV1": Object{"f:spec": Object{"f:template": Object{"f:spec": Object{"f:containers": Object{
			`k:{"name":"` + l.Container + `"}`: Object{"f:image": Object{}},
		}}}}},
	}}
}

func (s *Sim) spec(l *load, image string) Object {
	container := Object{"name": l.Container, "image": image}
	if l.Probe {
		container["readinessProbe"] = Object{
			"httpGet": Object{"path": "/ready", "port": 8080}, "periodSeconds": 10, "failureThreshold": 3,
			"successThreshold": 1, "timeoutSeconds": 1,
		}
	}
	annotations := Object{}
	for k, v := range l.Annotations {
		annotations[k] = v
	}
	spec := Object{
		"selector": Object{"matchLabels": Object{"app": l.Name}},
		"template": Object{
			"metadata": Object{"labels": Object{"app": l.Name}, "annotations": annotations},
			"spec":     Object{"containers": []any{container}, "restartPolicy": "Always", "terminationGracePeriodSeconds": 30},
		},
		"minReadySeconds": int(l.MinReady / time.Second),
	}
	strategy := l.Strategy
	if strategy == "" {
		strategy = "RollingUpdate"
	}
	switch l.Kind {
	case "Deployment":
		spec["replicas"] = l.Replicas
		spec["progressDeadlineSeconds"] = int(l.Deadline / time.Second)
		spec["strategy"] = Object{"type": strategy}
		if strategy == "RollingUpdate" {
			child(spec, "strategy")["rollingUpdate"] = Object{"maxSurge": l.MaxSurge, "maxUnavailable": l.MaxUnavailable}
		}
	case "StatefulSet":
		spec["replicas"] = l.Replicas
		spec["serviceName"] = l.Name
		spec["podManagementPolicy"] = "OrderedReady"
		spec["updateStrategy"] = Object{"type": strategy}
		if strategy == "RollingUpdate" {
			child(spec, "updateStrategy")["rollingUpdate"] = Object{"partition": l.Partition}
		}
	default:
		spec["updateStrategy"] = Object{"type": strategy}
	}
	return Object{
		"metadata": Object{
			"namespace": l.Namespace, "name": l.Name, "labels": Object{"app": l.Name}, "managedFields": s.written(l),
		},
		"spec": spec, "status": Object{},
	}
}

func containers(template Object) []Object {
	all, _ := child(template, "spec")["containers"].([]any)
	out := make([]Object, 0, len(all))
	for _, c := range all {
		out = append(out, c.(Object))
	}
	return out
}

// hash names a template, whatever the hash label in it says.
func hash(template Object) string {
	t := clone(template)
	delete(child(meta(t), "labels"), "pod-template-hash")
	h := fnv.New32a()
	fmt.Fprint(h, t) // maps are printed in the order of their keys
	return fmt.Sprintf("%08x", h.Sum32())
}

// set writes the status of an object that was read before, and only if
// something is different. Nothing else of it is ours: a test, which asks nobody,
// may have changed or deleted it meanwhile.
func (s *Sim) set(resource string, o, status Object) (changed bool) {
	status = clone(status)
	s.edit(resource, o, func(now Object) bool {
		changed = !reflect.DeepEqual(now["status"], status)
		now["status"] = status
		return changed
	})
	return changed
}

// edit changes an object that was read before, in place, if f says so. It
// returns nil where that object is no longer there.
func (s *Sim) edit(resource string, o Object, f func(now Object) bool) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := meta(o)
	r := s.live[resource][str(m["namespace"])+"/"+str(m["name"])]
	if r == nil || meta(r.object)["uid"] != m["uid"] {
		return nil
	}
	now := clone(r.object)
	if !f(now) {
		return now
	}
	return s.put(resource, now)
}

// owned are the objects of a resource that o controls.
func (s *Sim) owned(resource string, o Object) []Object {
	var out []Object
	for _, c := range s.Objects(resource, str(meta(o)["namespace"])) {
		refs, _ := meta(c)["ownerReferences"].([]any)
		if len(refs) == 1 && refs[0].(Object)["uid"] == meta(o)["uid"] {
			out = append(out, c)
		}
	}
	return out
}

func owner(o Object) []any {
	return []any{Object{
		"apiVersion": o["apiVersion"], "kind": o["kind"], "name": meta(o)["name"], "uid": meta(o)["uid"],
		"controller": true, "blockOwnerDeletion": true,
	}}
}

// Event adds one about an object.
func (s *Sim) Event(about Object, kind, reason, message string) {
	m := meta(about)
	s.mu.Lock()
	n := s.rv
	s.mu.Unlock()
	s.Put("events", Object{
		"metadata": Object{"namespace": m["namespace"], "name": fmt.Sprintf("%s.%x", m["name"], n)},
		"involvedObject": Object{
			"kind": about["kind"], "namespace": m["namespace"], "name": m["name"], "uid": m["uid"], "apiVersion": about["apiVersion"],
		},
		"reason": reason, "message": message, "type": kind, "count": 1,
		"firstTimestamp": s.stamp(), "lastTimestamp": s.stamp(),
	})
}

// condition is one of o's, or an empty one.
func condition(o Object, kind string) Object {
	all, _ := child(o, "status")["conditions"].([]any)
	for _, c := range all {
		if c.(Object)["type"] == kind {
			return c.(Object)
		}
	}
	return Object{}
}

// say makes a condition, keeping the times of one that says the same.
func (s *Sim) say(o Object, kind, status, reason, message string, progress bool) Object {
	was := condition(o, kind)
	c := Object{
		"type": kind, "status": status, "reason": reason, "message": message,
		"lastTransitionTime": s.stamp(), "lastUpdateTime": s.stamp(),
	}
	if was["status"] == status {
		c["lastTransitionTime"] = was["lastTransitionTime"]
	}
	if was["status"] == status && was["reason"] == reason && was["message"] == message && !progress {
		c["lastUpdateTime"] = was["lastUpdateTime"]
	}
	return c
}

// deployment is one step of the deployment and replica set controllers.
func (s *Sim) deployment(l *load, d Object) (again bool) {
	spec, status := child(d, "spec"), clone(child(d, "status"))
	name, want := l.Name, num(spec["replicas"])
	template := clone(child(spec, "template"))
	h := hash(template)
	sets := s.owned("replicasets", d)
	var current Object
	for _, rs := range sets {
		if child(meta(rs), "labels")["pod-template-hash"] == h {
			current = rs
		}
	}
	paused, _ := spec["paused"].(bool)
	available := condition(d, "Available")
	progressing := condition(d, "Progressing")
	conditions := func() []any {
		out := []any{}
		for _, c := range []Object{available, progressing} {
			if len(c) > 0 {
				out = append(out, c)
			}
		}
		return out
	}
	if current == nil && !paused {
		if l.plan.CreateError != "" {
			// observedGeneration stays behind.
			progressing = s.say(d, "Progressing", "False", "ReplicaSetCreateError", l.plan.CreateError, false)
			status["conditions"] = conditions()
			if s.set(l.resource, d, status) {
				s.Event(d, "Warning", "ReplicaSetCreateError", l.plan.CreateError)
			}
			return false
		}
		child(meta(template), "labels")["pod-template-hash"] = h
		matches := clone(child(child(spec, "selector"), "matchLabels"))
		matches["pod-template-hash"] = h
		s.Put("replicasets", Object{
			"metadata": Object{
				"namespace": l.Namespace, "name": name + "-" + h, "labels": clone(child(meta(template), "labels")),
				"ownerReferences": owner(d),
				"annotations":     Object{"deployment.kubernetes.io/revision": fmt.Sprint(len(sets) + 1)},
			},
			"spec": Object{
				"replicas": 0, "selector": Object{"matchLabels": matches}, "template": template,
				"minReadySeconds": spec["minReadySeconds"],
			},
			"status": Object{"replicas": 0, "observedGeneration": 1},
		})
		progressing = s.say(d, "Progressing", "True", "NewReplicaSetCreated",
			fmt.Sprintf("Created new replica set %q", name+"-"+h), true)
		status["conditions"] = conditions()
		s.set(l.resource, d, status)
		return true
	}

	// What there is.
	total, old, readyAll, availableAll, terminating, running := 0, 0, 0, 0, 0, 0
	var newReady, newAvailable, newSpec, updated int
	for _, rs := range sets {
		n := num(child(rs, "spec")["replicas"])
		total += n
		for _, p := range s.owned("pods", rs) {
			if meta(p)["deletionTimestamp"] != nil {
				terminating++
				continue
			}
			running++
			ready, avail := s.fit(l, p)
			mine := current != nil && meta(rs)["uid"] == meta(current)["uid"]
			readyAll, availableAll = readyAll+one(ready), availableAll+one(avail)
			if mine {
				updated++
				newReady, newAvailable = newReady+one(ready), newAvailable+one(avail)
			} else {
				old++
			}
		}
	}
	if current != nil {
		newSpec = num(child(current, "spec")["replicas"])
	}

	// What there ought to be.
	scale := func(rs Object, n int) {
		if num(child(rs, "spec")["replicas"]) != n {
			s.edit("replicasets", rs, func(o Object) bool { child(o, "spec")["replicas"] = n; return true })
			again = true
		}
	}
	strategy := child(spec, "strategy")
	surge, spare := num(child(strategy, "rollingUpdate")["maxSurge"]), num(child(strategy, "rollingUpdate")["maxUnavailable"])
	recreate := strategy["type"] == "Recreate"
	if !paused {
		drop := total - newSpec // how many of the old ones may go
		if !recreate {
			drop = min(drop, max(0, total-(want-spare)-(newSpec-newAvailable)))
		}
		for _, rs := range sets {
			if meta(rs)["uid"] == meta(current)["uid"] {
				continue
			}
			n := num(child(rs, "spec")["replicas"])
			cut := min(n, drop)
			drop -= cut
			scale(rs, n-cut)
		}
		switch {
		case newSpec > want:
			scale(current, want)
		case recreate && (old > 0 || terminating > 0):
		case recreate:
			scale(current, want)
		case newSpec < want && total < want+surge:
			scale(current, newSpec+min(want+surge-total, want-newSpec))
		case newSpec < want && total == newSpec:
			scale(current, want)
		}
	}
	for _, rs := range s.owned("replicasets", d) {
		again = s.replicaSet(l, rs, current != nil && meta(rs)["uid"] == meta(current)["uid"]) || again
	}

	// What is said about it.
	counts := fmt.Sprint(updated, running, availableAll, newReady)
	moved := counts != l.progress
	if moved {
		l.progress, l.since = counts, s.o.Now()
	}
	deadline := time.Duration(num(spec["progressDeadlineSeconds"])) * time.Second
	rs := name + "-" + h
	complete := updated == want && running == want && availableAll == want
	switch {
	case paused:
		progressing = s.say(d, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", false)
	case complete:
		progressing = s.say(d, "Progressing", "True", "NewReplicaSetAvailable", fmt.Sprintf("ReplicaSet %q has successfully progressed.", rs), false)
	case recreate && old+terminating > 0 && updated == 0:
		// A controller that waits for old pods to go says nothing new.
	case s.o.Now().Sub(l.since) >= deadline:
		progressing = s.say(d, "Progressing", "False", "ProgressDeadlineExceeded", fmt.Sprintf("ReplicaSet %q has timed out progressing.", rs), false)
	default:
		if progressing["reason"] != "ReplicaSetUpdated" || moved {
			progressing = s.say(d, "Progressing", "True", "ReplicaSetUpdated", fmt.Sprintf("ReplicaSet %q is progressing.", rs), moved)
		}
		if at := l.since.Add(deadline); !l.alarm.Equal(at) {
			l.alarm = at
			s.later(l, at.Sub(s.o.Now()))
		}
	}
	if availableAll >= want-spare {
		available = s.say(d, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", false)
	} else {
		available = s.say(d, "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", false)
	}
	now := Object{"observedGeneration": meta(d)["generation"], "conditions": conditions()}
	for k, n := range map[string]int{
		"replicas": running, "updatedReplicas": updated, "readyReplicas": readyAll, "availableReplicas": availableAll,
		"unavailableReplicas": max(0, max(want, running)-availableAll), "terminatingReplicas": terminating,
	} {
		if n > 0 {
			now[k] = n
		}
	}
	return s.set(l.resource, d, now) || again
}

// replicaSet makes or removes a set's pods and counts them.
func (s *Sim) replicaSet(l *load, rs Object, current bool) (again bool) {
	want := num(child(rs, "spec")["replicas"])
	var alive []Object
	for _, p := range s.owned("pods", rs) {
		if meta(p)["deletionTimestamp"] == nil {
			alive = append(alive, p)
		}
	}
	status := Object{"observedGeneration": meta(rs)["generation"]}
	if current && len(alive) < want && l.plan.PodError != "" {
		c := s.say(rs, "ReplicaFailure", "True", "FailedCreate", l.plan.PodError, false)
		status["conditions"] = []any{c}
		if len(condition(rs, "ReplicaFailure")) == 0 {
			s.Event(rs, "Warning", "FailedCreate", "Error creating: "+l.plan.PodError)
		}
	} else {
		for n := len(alive); n < want; n++ {
			l.serial++
			name := fmt.Sprintf("%s-%05x", meta(rs)["name"], l.serial)
			alive = append(alive, s.pod(l, rs, name, clone(child(child(rs, "spec"), "template")), "", current))
			again = true
		}
	}
	for _, p := range alive[min(len(alive), want):] {
		s.terminate(l, p)
		again = true
	}
	alive = alive[:min(len(alive), want)]
	ready, available := 0, 0
	for _, p := range alive {
		r, a := s.fit(l, p)
		ready, available = ready+one(r), available+one(a)
	}
	status["replicas"] = len(alive)
	for k, n := range map[string]int{"fullyLabeledReplicas": len(alive), "readyReplicas": ready, "availableReplicas": available} {
		if n > 0 {
			status[k] = n
		}
	}
	return s.set("replicasets", rs, status) || again
}

// revision makes sure that the template's ControllerRevision exists.
func (s *Sim) revision(o Object) (name, h string) {
	template := child(child(o, "spec"), "template")
	h = hash(template)
	name = str(meta(o)["name"]) + "-" + h
	ns := str(meta(o)["namespace"])
	if s.Object("controllerrevisions", ns, name) == nil {
		label := "controller-revision-hash"
		s.Put("controllerrevisions", Object{
			"metadata": Object{
				"namespace": ns, "name": name, "ownerReferences": owner(o),
				"labels": Object{"app": meta(o)["name"], label: h},
			},
			"revision": len(s.owned("controllerrevisions", o)) + 1,
			"data":     Object{"spec": Object{"template": template}},
		})
	}
	return name, h
}

// statefulSet is one step of its controller: ordered, from the top down.
func (s *Sim) statefulSet(l *load, o Object) (again bool) {
	spec, status := child(o, "spec"), child(o, "status")
	want := num(spec["replicas"])
	update, _ := s.revision(o)
	running := str(status["currentRevision"])
	if running == "" {
		running = update
	}
	strategy := child(spec, "updateStrategy")
	partition := num(child(strategy, "rollingUpdate")["partition"])
	byName := map[string]Object{}
	for _, p := range s.owned("pods", o) {
		byName[str(meta(p)["name"])] = p
	}
	counts := map[string]int{}
	calm := true // nothing below is in the way
	for n := range want {
		name := fmt.Sprintf("%s-%d", l.Name, n)
		p := byName[name]
		if p == nil {
			if !calm {
				continue
			}
			rev := running
			if n >= partition || running == update {
				rev = update
			}
			template := clone(child(spec, "template"))
			if rev != update {
				cr := s.Object("controllerrevisions", l.Namespace, rev)
				template = clone(child(child(child(cr, "data"), "spec"), "template"))
			}
			if rev == update && l.plan.PodError != "" {
				s.Event(o, "Warning", "FailedCreate", fmt.Sprintf("create Pod %s in StatefulSet %s failed error: %s", name, l.Name, l.plan.PodError))
				calm = false
				continue
			}
			child(meta(template), "labels")["controller-revision-hash"] = rev
			child(meta(template), "labels")["apps.kubernetes.io/pod-index"] = fmt.Sprint(n)
			p = s.pod(l, o, name, template, "", rev == update)
			again = true
		}
		counts["replicas"]++
		if child(meta(p), "labels")["controller-revision-hash"] == update {
			counts["updatedReplicas"]++
		} else {
			counts["currentReplicas"]++
		}
		ready, available := s.fit(l, p)
		if meta(p)["deletionTimestamp"] == nil {
			counts["readyReplicas"] += one(ready)
			counts["availableReplicas"] += one(available)
		}
		calm = calm && available && meta(p)["deletionTimestamp"] == nil
	}
	if calm && strategy["type"] != "OnDelete" {
		for n := want - 1; n >= partition; n-- {
			p := byName[fmt.Sprintf("%s-%d", l.Name, n)]
			if p != nil && child(meta(p), "labels")["controller-revision-hash"] != update {
				s.terminate(l, p)
				again = true
				break
			}
		}
	}
	if counts["updatedReplicas"] == want && counts["availableReplicas"] == want {
		running = update
		counts["currentReplicas"] = want
	}
	now := Object{
		"observedGeneration": meta(o)["generation"], "currentRevision": running, "updateRevision": update,
		"replicas": 0, "collisionCount": 0, "availableReplicas": 0,
	}
	for k, n := range counts {
		now[k] = n
	}
	return s.set(l.resource, o, now) || again
}

// daemonSet is one step of its controller: one node after the other.
func (s *Sim) daemonSet(l *load, o Object) (again bool) {
	_, h := s.revision(o)
	template := child(child(o, "spec"), "template")
	byNode := map[string]Object{}
	for _, p := range s.owned("pods", o) {
		byNode[at(p, "spec.nodeName")] = p
	}
	nodes := s.Objects("nodes", "")
	counts := map[string]int{"desiredNumberScheduled": len(nodes)}
	calm := true
	for _, node := range nodes {
		name := str(meta(node)["name"])
		p := byNode[name]
		if p == nil {
			l.serial++
			t := clone(template)
			child(meta(t), "labels")["controller-revision-hash"] = h
			p = s.pod(l, o, fmt.Sprintf("%s-%05x", l.Name, l.serial), t, name, true)
			again = true
		}
		counts["currentNumberScheduled"]++
		counts["updatedNumberScheduled"] += one(child(meta(p), "labels")["controller-revision-hash"] == h)
		ready, available := s.fit(l, p)
		gone := meta(p)["deletionTimestamp"] != nil
		counts["numberReady"] += one(ready && !gone)
		counts["numberAvailable"] += one(available && !gone)
		calm = calm && available && !gone
	}
	if calm && child(child(o, "spec"), "updateStrategy")["type"] != "OnDelete" {
		for _, node := range nodes {
			p := byNode[str(meta(node)["name"])]
			if p != nil && child(meta(p), "labels")["controller-revision-hash"] != h {
				s.terminate(l, p)
				again = true
				break
			}
		}
	}
	now := Object{
		"observedGeneration": meta(o)["generation"], "numberMisscheduled": 0, "currentNumberScheduled": 0, "numberReady": 0,
		"desiredNumberScheduled": 0, "numberUnavailable": len(nodes) - counts["numberAvailable"],
	}
	for k, n := range counts {
		now[k] = n
	}
	return s.set(l.resource, o, now) || again
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
