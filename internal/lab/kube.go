package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"homelab/internal/kubesim"
	"homelab/internal/shellsim"
	"homelab/internal/tlstest"
)

// KubeToken is the cluster user's.
const KubeToken = "kube-canary-6dR1s0Qb"

// Kube is a running simulated cluster.
type Kube struct {
	Sim    *kubesim.Sim
	Server *kubesim.Server

	mu   sync.Mutex
	deny []kubesim.Rule
}

// NewKube starts a cluster whose user may do everything; it ends with the test.
func NewKube(t tlstest.TB) *Kube {
	k := &Kube{Sim: kubesim.New(kubesim.Options{})}
	k.allow()
	k.Server = k.Sim.Serve(t)
	return k
}

func (k *Kube) allow() {
	k.Sim.AddUser(kubesim.User{Name: Login, Token: KubeToken, Deny: slices.Clone(k.deny)})
}

// Do carries out one line.
func (k *Kube) Do(args ...string) error {
	if len(args) == 0 {
		return errors.New("kube: what?")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w := read(args[1:], "no-probe", "stuck", "deaf")
	do, err := k.word(args[0], w)
	if err != nil {
		return fmt.Errorf("kube %s: %w", args[0], err)
	}
	if err := w.done(); err != nil {
		return fmt.Errorf("kube %s: %w", args[0], err)
	}
	if err := do(); err != nil {
		return fmt.Errorf("kube %s: %w", args[0], err)
	}
	return nil
}

// word reads "deploy TARGET IMAGE FLAGS", "roll TARGET IMAGE FLAGS", "expect
// TARGET FLAGS" for the next rollout that is written by the program, "set
// RESOURCE NAMESPACE/NAME PATH=JSON...", "running NAMESPACE/NAME IMAGEID",
// "delete RESOURCE NAMESPACE/NAME", "namespace NAME", "node NAME READY",
// "deny RESOURCE [VERB...]", "revoke", "warn TEXT", "down DUR", "drop", "fault
// KIND FLAGS", "requests VERB RESOURCE COUNT", "forget", "log NAMESPACE/WORKLOAD
// CONTAINER TEXT", "cut-logs", "no-websockets", "drop-tunnels", "replace
// NAMESPACE/DEPLOYMENT", whose pods are deleted, "put RESOURCE JSON" and "files
// DIRECTORY", which has what each container has, below its name, and where exec
// runs the real thing.
func (k *Kube) word(verb string, w *words) (func() error, error) {
	s := k.Sim
	ok := func(f func()) (func() error, error) { return func() error { f(); return nil }, nil }
	switch verb {
	case "deploy":
		load := w.workload()
		return ok(func() { s.Deploy(load) })
	case "roll":
		target, image, p := w.need("a target"), w.need("an image"), w.rollout()
		return ok(func() { s.Rollout(target, image, p) })
	case "expect":
		target, p := w.need("a target"), w.rollout()
		return ok(func() { s.Expect(target, p) })
	case "set":
		resource, ns, name := w.need("a resource"), "", w.need("a name")
		if a, b, namespaced := strings.Cut(name, "/"); namespaced {
			ns, name = a, b
		}
		changes := w.pos
		w.pos = nil
		return func() error { return k.set(resource, ns, name, changes) }, nil
	case "running":
		ns, name, _ := strings.Cut(w.need("a target"), "/")
		id := w.need("an image id")
		return ok(func() { k.running(ns, name, id) })
	case "delete":
		resource := w.need("a resource")
		ns, name, _ := strings.Cut(w.need("a name"), "/")
		return ok(func() { s.Delete(resource, ns, name) })
	case "replace":
		target := w.need("a target")
		ns, name, _ := strings.Cut(target, "/")
		return ok(func() {
			for _, p := range s.Objects("pods", ns) {
				m, _ := p["metadata"].(kubesim.Object)
				if pod, _ := m["name"].(string); strings.HasPrefix(pod, name+"-") {
					s.DeletePod(target, pod)
				}
			}
		})
	case "namespace":
		name := w.need("a name")
		return ok(func() { s.Namespace(name) })
	case "node":
		name, state := w.need("a name"), w.need("ready or not")
		return ok(func() { s.Node(name, state == "ready") })
	case "deny":
		rule := kubesim.Rule{Resources: strings.Split(w.need("a resource"), ","), Verbs: w.pos}
		w.pos = nil
		return ok(func() { k.deny = append(k.deny, rule); k.allow() })
	case "revoke":
		return ok(func() { s.RemoveUser(KubeToken) })
	case "warn":
		text := w.need("a text")
		return ok(func() { s.Warn(text) })
	case "down":
		d := w.duration("a duration")
		return ok(func() { s.Down(d) })
	case "drop":
		return ok(s.DropWatches)
	case "fault":
		f := kubesim.Fault{
			Kind: kubesim.FaultKind(w.need("a kind")), Verb: w.one("verb", ""), Resource: w.one("resource", ""),
			Times: w.numberOf("times"), Code: w.numberOf("code"), RetryAfter: w.numberOf("retry-after"),
		}
		return ok(func() { s.Inject(f) })
	case "requests":
		what, resource, count := w.need("a verb"), w.need("a resource"), w.need("a count")
		if what == "*" {
			what = ""
		}
		if resource == "*" {
			resource = ""
		}
		return func() error {
			if n := s.Count(what, resource); fmt.Sprint(n) != count {
				return fmt.Errorf("%d requests, not %s", n, count)
			}
			return nil
		}, nil
	case "log":
		ns, workload, _ := strings.Cut(w.need("a target"), "/")
		container, text := w.need("a container"), w.need("a text")
		return ok(func() {
			for _, p := range s.Objects("pods", ns) {
				m, _ := p["metadata"].(kubesim.Object)
				if name, _ := m["name"].(string); strings.HasPrefix(name, workload+"-") {
					s.AppendLog(ns, name, container, text+"\n")
				}
			}
		})
	case "cut-logs":
		return ok(s.DropLogs)
	case "no-websockets":
		return ok(s.NoWebSockets)
	case "drop-tunnels":
		return ok(s.DropTunnels)
	case "files":
		root := w.need("a directory")
		return ok(func() {
			s.Commands(func(c *kubesim.Command) int {
				return shellsim.Run(filepath.Join(root, c.Container), c.Args, c.Stdin, c.Stdout, c.Stderr)
			})
		})
	case "put":
		resource := w.need("a resource")
		var o kubesim.Object
		if err := json.Unmarshal([]byte(w.need("an object")), &o); err != nil {
			return nil, err
		}
		return ok(func() { s.Put(resource, o) })
	case "forget":
		return ok(s.Forget)
	}
	return nil, errors.New("there is no such word")
}

// workload reads "NS/[KIND/]NAME IMAGE [--replicas N] [--strategy S]
// [--partition N] [--deadline DUR] [--min-ready DUR] [--max-unavailable N]
// [--annotation KEY=VALUE] [--no-probe]".
func (w *words) workload() kubesim.Workload {
	p := strings.Split(w.need("a target"), "/")
	kind := map[string]string{"statefulset": "StatefulSet", "daemonset": "DaemonSet"}
	load := kubesim.Workload{
		Namespace: p[0], Name: p[len(p)-1], Image: w.need("an image"), Replicas: 1, Strategy: w.one("strategy", ""),
		Partition: w.numberOf("partition"), Deadline: w.durationOf("deadline"), MinReady: w.durationOf("min-ready"),
		MaxUnavailable: w.numberOf("max-unavailable"), Container: w.one("container", ""), Probe: !w.has("no-probe"),
		Annotations: map[string]string{},
	}
	if len(p) == 3 {
		load.Kind = kind[p[1]]
		load.MaxUnavailable = max(load.MaxUnavailable, 1)
	}
	if n := w.one("replicas", ""); n != "" {
		_, err := fmt.Sscan(n, &load.Replicas)
		if err != nil {
			w.fail(err)
		}
	}
	for _, a := range w.all("annotation") {
		key, value, _ := strings.Cut(a, "=")
		load.Annotations[key] = value
	}
	return load
}

// rollout reads how it goes: "[--schedule DUR] [--ready DUR] [--pull TEXT]
// [--pull-fails N] [--config TEXT] [--crash DUR] [--crashes N] [--exit N]
// [--probe TEXT] [--unschedulable TEXT] [--log TEXT] [--writer W]
// [--pod-error TEXT] [--create-error TEXT] [--deaf] [--stuck]".
func (w *words) rollout() kubesim.Plan {
	p := kubesim.Plan{
		Writer: w.one("writer", ""), PodError: w.one("pod-error", ""), CreateError: w.one("create-error", ""),
		Terminate: w.durationOf("terminate"),
		Pod: kubesim.Life{
			Ready: w.durationOf("ready"), Schedule: w.durationOf("schedule"), PullError: w.one("pull", ""), PullFails: w.numberOf("pull-fails"),
			ConfigError: w.one("config", ""), CrashAfter: w.durationOf("crash"), Crashes: w.numberOf("crashes"), ExitCode: w.numberOf("exit"),
			ProbeError: w.one("probe", ""), Unschedulable: w.one("unschedulable", ""), Log: w.one("log", ""),
		},
	}
	if w.has("deaf") {
		p.Observe = kubesim.Never
	}
	if w.has("stuck") {
		p.Terminate = kubesim.Never
	}
	return p
}

// set changes fields: "spec.template.spec.containers.0.image=\"x\"".
func (k *Kube) set(resource, ns, name string, changes []string) error {
	if k.Sim.Object(resource, ns, name) == nil {
		return fmt.Errorf("no %s %s/%s", resource, ns, name)
	}
	var bad error
	k.Sim.Update(resource, ns, name, func(o kubesim.Object) {
		for _, c := range changes {
			path, text, _ := strings.Cut(c, "=")
			var v any
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				bad = fmt.Errorf("%s: %w", c, err)
				return
			}
			var here any = o
			parts := strings.Split(path, ".")
			for i, p := range parts {
				p, _ = url.PathUnescape(p) // %2E is a dot of the key
				last := i == len(parts)-1
				switch x := here.(type) {
				case kubesim.Object:
					if last {
						x[p] = v
					} else if x[p] == nil {
						x[p] = kubesim.Object{}
					}
					here = x[p]
				case []any:
					n := 0
					if _, err := fmt.Sscan(p, &n); err != nil || n >= len(x) {
						bad = fmt.Errorf("%s: no %s", c, p)
						return
					}
					here = x[n]
				default:
					bad = fmt.Errorf("%s: nothing at %s", c, p)
					return
				}
			}
		}
	})
	return bad
}

// running makes all pods of a workload report an image id.
func (k *Kube) running(ns, name, id string) {
	for _, p := range k.Sim.Objects("pods", ns) {
		m, _ := p["metadata"].(kubesim.Object)
		if labels, _ := m["labels"].(kubesim.Object); labels["app"] != name {
			continue
		}
		status, _ := p["status"].(kubesim.Object)
		all, _ := status["containerStatuses"].([]any)
		for _, c := range all {
			if c, is := c.(kubesim.Object); is {
				c["imageID"] = id
			}
		}
		k.Sim.Put("pods", p)
	}
}
