package cluster

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Nodes plays every node of the cluster: it takes the pods the scheduler binds,
// reports what a kubelet would, and lets them go when they are deleted. What
// becomes of a container is said by its image's tag: the tag is one of the
// words below or ends in "-" and one of them, so that main-3f9c2ab-crash
// carries a commit too. Any other tag is ok.
//
//	done               ends with 0 soon, for Jobs
//	fails              ends with 1 soon, for Jobs
//	ok                 pulled, started and ready within half a second
//	slow-5s            ready after that time
//	never-ready        runs; the readiness probe fails
//	crash, crash-2     exits with 1 after a second, for ever or so many times
//	oom                as crash, killed for its memory
//	liveness           as crash, killed by its liveness probe
//	ready-then-crash   ready for two seconds, then as crash
//	exec-format        cannot be started: the image is for another platform
//	run-as-root        refused: runAsNonRoot and the image's user is root
//	config-cache       not started: the kubelet's cache of secrets is late
//	pull-notfound      the registry has no such image
//	pull-denied        the registry refuses
//	pull-timeout       the registry does not answer
//	pull-late-5s       as pull-notfound, and there after that time
//	invalid-name       the image's name cannot be parsed
//	evicted            the owner's first pod is evicted, all others are ok
//	slow-term          ok, and uses its whole grace period when deleted
//	stuck-terminating  ok, and never goes: as on a node that is gone
//
// Beside the tag, a secret or config map that a container's environment or a
// volume names has to exist, and readiness gates have to be true. Waits between
// restarts and pulls are the kubelet's: 10 s, then double.
type Nodes struct {
	c      *Cluster
	client *Client
	port   int // of the kubelet's API
	end    context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	pods     map[string]*pod   // by UID
	registry map[string]string // image to digest, where a test has set one
	cached   map[string]string // image to digest, as pulled
	evicted  map[string]bool   // owners' UIDs
	lost     map[string]bool   // nodes that are not ready
	problems []error
}

func startNodes(ctx context.Context, c *Cluster) (*Nodes, error) {
	ctx, cancel := context.WithCancel(ctx)
	n := &Nodes{
		c: c, end: cancel, pods: map[string]*pod{},
		registry: map[string]string{}, cached: map[string]string{}, evicted: map[string]bool{}, lost: map[string]bool{},
	}
	l, err := c.component("kubelet", "system:masters")
	if err != nil {
		return nil, err
	}
	if n.client, err = c.client(l); err != nil {
		return nil, err
	}
	if err := n.serve(ctx, l.cert.tls); err != nil {
		return nil, err
	}
	n.work.Go(func() {
		n.client.Watch(ctx, "/api/v1/pods?fieldSelector=spec.nodeName%21%3D", func(e Event) { n.see(ctx, e) })
	})
	return n, nil
}

func (n *Nodes) stop() {
	n.end()
	n.work.Wait()
}

// problem notes what the nodes themselves did wrong.
func (n *Nodes) problem(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.problems = append(n.problems, err)
}

// Problems says what the nodes themselves did wrong: a test run with any has
// shown nothing.
func (n *Nodes) Problems() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return errors.Join(n.problems...)
}

// Add makes a node that is ready. A reserved one is only for pods that
// tolerate the taint "reserved".
func (n *Nodes) Add(ctx context.Context, name string, labels map[string]string, reserved bool) error {
	capacity := map[string]any{"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "500Gi"}
	all := map[string]string{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
	for k, v := range labels {
		all[k] = v
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{"name": name, "labels": all},
		"status": map[string]any{
			"capacity": capacity, "allocatable": capacity,
			"addresses":       []any{map[string]any{"type": "InternalIP", "address": "127.0.0.1"}},
			"daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": n.port}},
			"conditions":      []any{nodeReady(true)},
		},
	})
	if err != nil {
		return err
	}
	if _, err := n.client.Do(ctx, http.MethodPost, "/api/v1/nodes", "application/json", body); err != nil {
		return err
	}
	// A new node is tainted as not ready until a controller has looked at it.
	taints := []any{}
	if reserved {
		taints = append(taints, map[string]any{"key": "reserved", "effect": "NoSchedule"})
	}
	body, err = json.Marshal(map[string]any{"spec": map[string]any{"taints": taints}})
	if err != nil {
		return err
	}
	_, err = n.client.Do(ctx, http.MethodPatch, "/api/v1/nodes/"+name, MergePatch, body)
	return err
}

// SetReady makes a node ready or not. One that is not starts no pod and lets
// none go; the containers it runs are left as they are.
func (n *Nodes) SetReady(ctx context.Context, name string, ready bool) error {
	n.mu.Lock()
	n.lost[name] = !ready
	n.mu.Unlock()
	body, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{nodeReady(ready)}}})
	if err != nil {
		return err
	}
	_, err = n.client.Do(ctx, http.MethodPatch, "/api/v1/nodes/"+name+"/status", StrategicPatch, body)
	return err
}

// found waits until the node is ready, and is false if ctx ends before.
func (n *Nodes) found(ctx context.Context, node string) bool {
	for {
		n.mu.Lock()
		lost := n.lost[node]
		n.mu.Unlock()
		if !lost {
			return true
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return false
		}
	}
}

func nodeReady(ready bool) map[string]any {
	status, reason := "True", "KubeletReady"
	if !ready {
		status, reason = "Unknown", "NodeStatusUnknown"
	}
	now := stamp(time.Now())
	return map[string]any{"type": "Ready", "status": status, "reason": reason, "lastHeartbeatTime": now, "lastTransitionTime": now}
}

// SetDigest says what the registry has under the image's name from now on; a
// node that has pulled the image keeps the old one unless the pull policy is
// Always. Without it the digest is made from the name.
func (n *Nodes) SetDigest(image, digest string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.registry[image] = digest
}

// Digest is what the registry has under the image's name.
func (n *Nodes) Digest(image string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.digest(image)
}

func (n *Nodes) digest(image string) string {
	if _, d, ok := strings.Cut(image, "@"); ok {
		return d
	}
	if d, ok := n.registry[image]; ok {
		return d
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(image)))
}

// pull returns the imageID of what runs when the image is started now.
func (n *Nodes) pull(image string, always bool) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	d, ok := n.cached[image]
	if !ok || always {
		d = n.digest(image)
		n.cached[image] = d
	}
	return repository(image) + "@" + d
}

// firstEviction says whether the owner has lost no pod yet, and notes that it
// has now.
func (n *Nodes) firstEviction(owner string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	first := !n.evicted[owner]
	n.evicted[owner] = true
	return first
}

func (n *Nodes) see(ctx context.Context, e Event) {
	uid := e.Object.UID()
	n.mu.Lock()
	p, known := n.pods[uid]
	if !known && e.Type != "DELETED" {
		p = newPod(n, e.Object)
		n.pods[uid] = p
	}
	if known && e.Type == "DELETED" {
		delete(n.pods, uid)
	}
	n.mu.Unlock()

	switch {
	case e.Type == "DELETED":
		if known {
			p.end()
		}
		return
	case !known:
		var life context.Context
		life, p.end = context.WithCancel(ctx)
		n.work.Go(func() { p.live(life) })
	}
	p.update(ctx, e.Object)
	if e.Object.Str("metadata", "deletionTimestamp") != "" && !p.going {
		p.going = true
		p.end()
		n.work.Go(func() { p.leave(ctx, e.Object) })
	}
}

// serve answers what the API server asks a kubelet for: logs.
func (n *Nodes) serve(ctx context.Context, cert tls.Certificate) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("%v is no TCP address", l.Addr())
	}
	n.port = a.Port
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", n.logs)
	s := &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, ReadHeaderTimeout: 5 * time.Second}
	n.work.Go(func() { _ = s.ServeTLS(l, "", "") }) // ends by being closed
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return nil
}

func (n *Nodes) logs(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	var found *pod
	for _, p := range n.pods {
		if p.namespace == r.PathValue("namespace") && p.name == r.PathValue("pod") {
			found = p
		}
	}
	n.mu.Unlock()
	if found == nil {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	lines, ok := found.log(r.PathValue("container"), r.URL.Query().Get("previous") == "true")
	if !ok {
		http.Error(w, fmt.Sprintf("container %q in pod %q is waiting to start", r.PathValue("container"), found.name), http.StatusBadRequest)
		return
	}
	if tail, err := strconv.Atoi(r.URL.Query().Get("tailLines")); err == nil {
		lines = lines[max(0, len(lines)-tail):]
	}
	fmt.Fprint(w, strings.Join(lines, ""))
}

// repository is the image's name without tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i]
	}
	return image
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
