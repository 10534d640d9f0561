package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A pod is one pod on one of the nodes: goroutines play its containers, and
// each change of state is sent as the pod's status.
type pod struct {
	n                          *Nodes
	namespace, name, uid, node string
	owner                      string // the controller's UID, "" for none
	spec                       Object
	end                        context.CancelFunc
	going                      bool // only the watching goroutine reads and writes it

	mu          sync.Mutex
	init, main  []*container
	initialized bool
	phase       string   // "" as long as the containers decide it
	over        string   // the phase when all containers ended for good
	reason      string   // with a phase
	gates       []string // readiness gates not yet true
	since       map[string][2]string
	started     string
}

type container struct {
	name, image string
	act         string // the tag's word
	arg         string // what follows the word, without the dash
	probed      bool   // has a readiness probe
	always      bool   // pull policy
	sidecar     bool
	restarts    int
	state, last map[string]any
	ready       bool
	imageID     string
	log, before []string // of this run and of the one before
}

// acts finds the word at the end of a tag. Longer words come first.
var acts = regexp.MustCompile(`(?:^|-)(?:(ready-then-crash|never-ready|oom|liveness|exec-format|run-as-root|config-cache|` +
	`pull-notfound|pull-denied|pull-timeout|invalid-name|evicted|slow-term|stuck-terminating|done|fails|ok)` +
	`|(slow|pull-late)-([0-9]+m?s)|(crash)(?:-([0-9]+))?)$`)

// act splits an image's tag into the word that says what becomes of it and the
// word's argument.
func act(image string) (word, arg string) {
	image, _, _ = strings.Cut(image, "@")
	m := acts.FindStringSubmatch(strings.TrimPrefix(image, repository(image)+":"))
	if m == nil {
		return "ok", ""
	}
	return m[1] + m[2] + m[4], m[3] + m[5]
}

func newPod(n *Nodes, o Object) *pod {
	p := &pod{
		n: n, namespace: o.Str("metadata", "namespace"), name: o.Name(), uid: o.UID(), node: o.Str("spec", "nodeName"),
		since: map[string][2]string{}, end: func() {}, started: stamp(time.Now()),
	}
	p.spec, _ = o.At("spec").(map[string]any)
	for _, ref := range o.List("metadata", "ownerReferences") {
		if ref.At("controller") == true {
			p.owner = ref.Str("uid")
		}
	}
	for _, c := range p.spec.List("initContainers") {
		p.init = append(p.init, newContainer(c))
	}
	for _, c := range p.spec.List("containers") {
		p.main = append(p.main, newContainer(c))
	}
	p.initialized = len(p.init) == 0
	return p
}

func newContainer(spec Object) *container {
	c := &container{
		name: spec.Str("name"), image: spec.Str("image"),
		probed: spec.At("readinessProbe") != nil, always: spec.Str("imagePullPolicy") == "Always",
		sidecar: spec.Str("restartPolicy") == "Always",
		state:   waiting("ContainerCreating", ""),
	}
	c.act, c.arg = act(c.image)
	return c
}

// live plays the pod until ctx ends: it is being deleted.
func (p *pod) live(ctx context.Context) {
	if !p.n.found(ctx, p.node) {
		return
	}
	if p.main[0].act == "evicted" && p.n.firstEviction(p.owner) {
		p.change(ctx, func() { p.phase, p.reason = "Failed", "Evicted" })
		return
	}
	p.change(ctx, func() {})
	if !p.mount(ctx) {
		return
	}
	var sidecars sync.WaitGroup
	defer sidecars.Wait()
	for _, c := range p.init {
		if c.sidecar {
			sidecars.Go(func() { p.play(ctx, c, false) })
		} else {
			p.play(ctx, c, true)
		}
		if ctx.Err() != nil {
			return
		}
	}
	p.change(ctx, func() { p.initialized = true })
	for _, c := range p.main {
		sidecars.Go(func() { p.play(ctx, c, false) })
	}
}

// leave lets a pod go that is being deleted.
func (p *pod) leave(ctx context.Context, o Object) {
	wait := 300 * time.Millisecond
	for _, c := range p.main {
		switch c.act {
		case "stuck-terminating":
			return
		case "slow-term":
			wait = time.Duration(o.Int("metadata", "deletionGracePeriodSeconds")) * time.Second
		}
	}
	if !sleep(ctx, wait) || !p.n.found(ctx, p.node) {
		return
	}
	body := fmt.Sprintf(`{"gracePeriodSeconds": 0, "preconditions": {"uid": %q}}`, p.uid)
	p.insist(ctx, http.MethodDelete, "", "application/json", []byte(body))
}

// update takes over what others wrote into the pod's status.
func (p *pod) update(ctx context.Context, o Object) {
	var missing []string
	for _, g := range p.spec.List("readinessGates") {
		if t := g.Str("conditionType"); o.Condition(t).Str("status") != "True" {
			missing = append(missing, t)
		}
	}
	p.mu.Lock()
	changed := len(missing) != len(p.gates)
	p.gates = missing
	p.mu.Unlock()
	if changed && o.At("status", "containerStatuses") != nil {
		p.n.work.Go(func() { p.change(ctx, func() {}) })
	}
}

// mount waits for what the pod's volumes name, and is false if ctx ends.
func (p *pod) mount(ctx context.Context) bool {
	for _, v := range p.spec.List("volumes") {
		for kind, name := range map[string]string{"secret": v.Str("secret", "secretName"), "configmap": v.Str("configMap", "name")} {
			for name != "" && v.At("secret", "optional") != true && v.At("configMap", "optional") != true && !p.exists(ctx, kind, name) {
				p.event(ctx, "Warning", "FailedMount", "", fmt.Sprintf("MountVolume.SetUp failed for volume %q : %s %q not found", v.Str("name"), kind, name))
				if !sleep(ctx, 2*time.Second) {
					return false
				}
			}
		}
	}
	return true
}

// missing names what the container's environment wants and is not there.
func (p *pod) missing(ctx context.Context, c *container) string {
	for _, list := range []string{"initContainers", "containers"} {
		for _, spec := range p.spec.List(list) {
			if spec.Str("name") != c.name {
				continue
			}
			type ref struct{ kind, name string }
			var refs []ref
			add := func(kind string, o Object, at ...any) {
				if o.At(append(at, "optional")...) != true {
					refs = append(refs, ref{kind, o.Str(append(at, "name")...)})
				}
			}
			for _, e := range spec.List("env") {
				add("secret", e, "valueFrom", "secretKeyRef")
				add("configmap", e, "valueFrom", "configMapKeyRef")
			}
			for _, e := range spec.List("envFrom") {
				add("secret", e, "secretRef")
				add("configmap", e, "configMapRef")
			}
			for _, r := range refs {
				if r.name != "" && !p.exists(ctx, r.kind, r.name) {
					return fmt.Sprintf("%s %q not found", r.kind, r.name)
				}
			}
		}
	}
	return ""
}

func (p *pod) exists(ctx context.Context, kind, name string) bool {
	_, err := p.n.client.Do(ctx, http.MethodGet, "/api/v1/namespaces/"+p.namespace+"/"+kind+"s/"+name, "", nil)
	return Code(err) != http.StatusNotFound
}

// play runs one container until ctx ends, or to its successful end.
func (p *pod) play(ctx context.Context, c *container, once bool) {
	if !p.pulled(ctx, c) || !p.configured(ctx, c) {
		return
	}
	limit, err := strconv.Atoi(c.arg)
	if err != nil {
		limit = 1 << 30
	}
	delay := 10 * time.Second // before the second restart; the first is at once
	for {
		end := exit{code: 1, reason: "Error"}
		run := time.Second
		switch c.act {
		case "exec-format":
			text := `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: ` +
				`unable to start container process: exec: "/app": exec format error`
			p.change(ctx, func() {
				c.imageID = p.n.pull(c.image, c.always)
				c.state = waiting("RunContainerError", text)
			})
			p.event(ctx, "Warning", "Failed", c.name, "Error: "+text)
			end, run = exit{code: 128, reason: "StartError", message: text}, 300*time.Millisecond
		case "crash", "oom", "liveness", "ready-then-crash":
			if c.restarts >= limit {
				p.run(ctx, c, once, 0, true)
				return
			}
			// With no probe to say otherwise a container that runs is ready.
			p.run(ctx, c, false, 0, c.act == "ready-then-crash" || !c.probed)
			switch c.act {
			case "oom":
				end = exit{code: 137, reason: "OOMKilled"}
			case "ready-then-crash":
				run = 2 * time.Second
			case "liveness":
				end = exit{code: 137, reason: "Error"}
				p.event(ctx, "Warning", "Unhealthy", c.name, "Liveness probe failed: HTTP probe failed with statuscode: 500")
				p.event(ctx, "Normal", "Killing", c.name, fmt.Sprintf("Container %s failed liveness probe, will be restarted", c.name))
			}
		case "never-ready":
			p.run(ctx, c, false, 0, false)
			for {
				p.event(ctx, "Warning", "Unhealthy", c.name, "Readiness probe failed: HTTP probe failed with statuscode: 503")
				if !sleep(ctx, 5*time.Second) {
					return
				}
			}
		case "done", "fails":
			p.run(ctx, c, false, 0, true)
			if !sleep(ctx, 300*time.Millisecond) {
				return
			}
			last, phase := exit{reason: "Completed"}, "Succeeded"
			if c.act == "fails" {
				last, phase = exit{code: 1, reason: "Error"}, "Failed"
			}
			p.change(ctx, func() { c.ready, c.state, p.over = false, last.state(), phase })
			return
		case "slow":
			d, err := time.ParseDuration(c.arg)
			if err != nil {
				panic(err) // the expression that found it lets no other text through
			}
			p.run(ctx, c, once, d, true)
			return
		default:
			p.run(ctx, c, once, 200*time.Millisecond, true)
			return
		}
		if !sleep(ctx, run) {
			return
		}
		p.change(ctx, func() {
			c.ready = false
			c.before = c.log
			c.state = end.state()
		})
		if c.restarts > 0 { // the kubelet waits from the second end on
			p.change(ctx, func() {
				c.last = end.state()
				c.state = waiting("CrashLoopBackOff", fmt.Sprintf("back-off %v restarting failed container=%s pod=%s_%s(%s)",
					delay, c.name, p.name, p.namespace, p.uid))
			})
			p.event(ctx, "Warning", "BackOff", c.name, fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.name, p.name, p.namespace, p.uid))
			if !sleep(ctx, delay) {
				return
			}
			delay = min(2*delay, 5*time.Minute)
		}
		p.change(ctx, func() {
			c.last = end.state()
			c.restarts++
		})
	}
}

// run lets the container run: ready, if at all, after so long; or, when it is
// to run once, to its end.
func (p *pod) run(ctx context.Context, c *container, once bool, after time.Duration, ready bool) {
	p.change(ctx, func() {
		c.imageID = p.n.pull(c.image, c.always)
		c.state = map[string]any{"running": map[string]any{"startedAt": stamp(time.Now())}}
		c.log = []string{c.name + ": starting " + c.image + "\n"}
		if c.act != "ok" && c.act != "slow" {
			c.log = append(c.log, c.name+": told to "+c.act+"\n")
		}
		c.ready = ready && after == 0 && !once
	})
	if !sleep(ctx, after) {
		return
	}
	if once {
		p.change(ctx, func() { c.state, c.ready = exit{reason: "Completed"}.state(), true })
		return
	}
	if ready && after > 0 {
		p.change(ctx, func() { c.ready = true })
	}
}

// pulled gets the image, and is false if ctx ends before.
func (p *pod) pulled(ctx context.Context, c *container) bool {
	late := time.Now().Add(time.Hour)
	fail := fmt.Sprintf("failed to pull and unpack image %q: failed to resolve reference %q: ", c.image, c.image)
	switch c.act {
	case "pull-notfound":
		fail += c.image + ": not found"
	case "pull-late":
		fail += c.image + ": not found"
		d, err := time.ParseDuration(c.arg)
		if err != nil {
			panic(err) // the expression that found it lets no other text through
		}
		late = time.Now().Add(d)
	case "pull-denied":
		fail += "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials"
	case "pull-timeout":
		fail += `failed to do request: Head "https://` + c.image + `": dial tcp 10.9.9.9:443: i/o timeout`
	case "invalid-name":
		p.change(ctx, func() {
			c.state = waiting("InvalidImageName", fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: invalid reference format", c.image, c.image))
		})
		p.event(ctx, "Warning", "InspectFailed", c.name, fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name", c.image))
		<-ctx.Done()
		return false
	default:
		return sleep(ctx, 100*time.Millisecond)
	}
	for delay := 10 * time.Second; time.Now().Before(late); delay = min(2*delay, 5*time.Minute) {
		p.event(ctx, "Normal", "Pulling", c.name, fmt.Sprintf("Pulling image %q", c.image))
		p.change(ctx, func() { c.state = waiting("ErrImagePull", fail) })
		p.event(ctx, "Warning", "Failed", c.name, fmt.Sprintf("Failed to pull image %q: %s", c.image, fail))
		if !sleep(ctx, time.Second) {
			return false
		}
		p.change(ctx, func() {
			c.state = waiting("ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", c.image, fail))
		})
		p.event(ctx, "Normal", "BackOff", c.name, fmt.Sprintf("Back-off pulling image %q", c.image))
		if !sleep(ctx, min(delay, max(0, time.Until(late)))) {
			return false
		}
	}
	return true
}

// configured waits for what the container needs to be made, and is false if
// ctx ends before.
func (p *pod) configured(ctx context.Context, c *container) bool {
	text := ""
	switch c.act {
	case "run-as-root":
		text = fmt.Sprintf("container has runAsNonRoot and image will run as root (pod: %q, container: %s)", p.name+"_"+p.namespace, c.name)
	case "config-cache":
		text = "failed to sync secret cache: timed out waiting for the condition"
	}
	for {
		why := text
		if why == "" {
			why = p.missing(ctx, c)
		}
		if why == "" || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		p.change(ctx, func() {
			c.imageID = p.n.pull(c.image, c.always)
			c.state = waiting("CreateContainerConfigError", why)
		})
		p.event(ctx, "Warning", "Failed", c.name, "Error: "+why)
		if !sleep(ctx, 2*time.Second) {
			return false
		}
	}
}

func (p *pod) log(name string, previous bool) (lines []string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range append(append([]*container{}, p.init...), p.main...) {
		if c.name == name {
			if previous {
				return c.before, c.before != nil
			}
			return c.log, c.log != nil
		}
	}
	return nil, false
}

// change applies f and sends the status that follows from it.
func (p *pod) change(ctx context.Context, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	f()
	body, err := json.Marshal(map[string]any{"status": p.status()})
	if err != nil {
		panic(err) // it consists of maps and strings
	}
	p.insist(ctx, http.MethodPatch, "/status", StrategicPatch, body)
}

func (p *pod) status() map[string]any {
	allReady, running := true, false
	for _, c := range p.main {
		allReady = allReady && c.ready
		running = running || c.state["waiting"] == nil || c.restarts > 0
	}
	for _, c := range p.init {
		allReady = allReady && (c.ready || !c.sidecar)
	}
	phase := p.phase
	switch {
	case phase != "":
		return map[string]any{"phase": phase, "reason": p.reason, "message": "The node was low on resource: memory.", "startTime": p.started}
	case p.over != "":
		phase = p.over
	case p.initialized && running:
		phase = "Running"
	default:
		phase = "Pending"
	}
	why := ""
	if !allReady {
		why = "ContainersNotReady"
	}
	gated := why
	if gated == "" && len(p.gates) > 0 {
		gated = "ReadinessGatesNotReady"
	}
	initialized := ""
	if !p.initialized {
		initialized = "ContainersNotInitialized"
	}
	return map[string]any{
		"phase": phase, "startTime": p.started, "hostIP": "127.0.0.1", "podIP": "127.0.0.1",
		"conditions": []any{
			p.condition("Initialized", initialized),
			p.condition("ContainersReady", why),
			p.condition("Ready", gated),
		},
		"initContainerStatuses": statuses(p.init),
		"containerStatuses":     statuses(p.main),
	}
}

// condition is true without a reason.
func (p *pod) condition(kind, reason string) map[string]any {
	status := "True"
	if reason != "" {
		status = "False"
	}
	if p.since[kind][0] != status {
		p.since[kind] = [2]string{status, stamp(time.Now())}
	}
	c := map[string]any{"type": kind, "status": status, "lastTransitionTime": p.since[kind][1], "reason": nil}
	if reason != "" {
		c["reason"] = reason
	}
	return c
}

func statuses(list []*container) []any {
	out := []any{}
	for _, c := range list {
		_, started := c.state["running"]
		s := map[string]any{
			"name": c.name, "image": c.image, "imageID": c.imageID, "ready": c.ready,
			"started": started, "restartCount": c.restarts, "state": c.state,
		}
		if c.last != nil {
			s["lastState"] = c.last
		}
		out = append(out, s)
	}
	return out
}

func waiting(reason, message string) map[string]any {
	w := map[string]any{"reason": reason}
	if message != "" {
		w["message"] = message
	}
	return map[string]any{"waiting": w}
}

// An exit is how a container ended.
type exit struct {
	code            int
	reason, message string
}

func (e exit) state() map[string]any {
	t := map[string]any{"exitCode": e.code, "reason": e.reason, "finishedAt": stamp(time.Now()), "startedAt": stamp(time.Now().Add(-time.Second))}
	if e.message != "" {
		t["message"] = e.message
	}
	return map[string]any{"terminated": t}
}

// events numbers the events, as their names have to differ.
var events atomic.Int64

func (p *pod) event(ctx context.Context, kind, reason, container, message string) {
	object := map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": p.namespace, "name": p.name, "uid": p.uid}
	if container != "" {
		object["fieldPath"] = "spec.containers{" + container + "}"
	}
	now := stamp(time.Now())
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Event",
		"metadata":       map[string]any{"name": fmt.Sprintf("%s.%x", p.name, events.Add(1)), "namespace": p.namespace},
		"involvedObject": object, "type": kind, "reason": reason, "message": message, "count": 1,
		"firstTimestamp": now, "lastTimestamp": now,
		"source": map[string]any{"component": "kubelet", "host": p.node}, "reportingComponent": "kubelet", "reportingInstance": p.node,
	})
	if err != nil {
		panic(err) // it consists of maps and strings
	}
	// An event is lost as easily as a kubelet loses one.
	_, _ = p.n.client.Do(ctx, http.MethodPost, "/api/v1/namespaces/"+p.namespace+"/events", "application/json", body)
}

// insist sends a change of the pod until the server has judged it; the server
// may be down for a while.
func (p *pod) insist(ctx context.Context, method, sub, kind string, body []byte) {
	for {
		_, err := p.n.client.Do(ctx, method, "/api/v1/namespaces/"+p.namespace+"/pods/"+p.name+sub, kind, body)
		code := Code(err)
		if err == nil || code == http.StatusNotFound || code == http.StatusConflict {
			return // done, or the pod is gone
		}
		if code == http.StatusUnprocessableEntity || code == http.StatusBadRequest {
			p.n.problem(fmt.Errorf("%s of pod %s/%s: %w: %s", method, p.namespace, p.name, err, body))
			return
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return
		}
	}
}

// sleep is false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
