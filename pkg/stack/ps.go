package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
)

// Pod is a pod of a deployment as it is now.
type Pod struct {
	Namespace, Name string
	Component       string // the pod file, where a stack has several
	Phase           string
	Reason          string // why it is not what it should be; "" when nothing is known
	Node, IP        string // "" while there is none
	Ready           bool
	Terminating     bool
	Started         time.Time // zero: not yet
	Restarts        int       // of all containers
	Containers      []PodContainer

	uid, hash, job string // job: the Job it belongs to
	created        time.Time
	labels         map[string]string
	hostIP         string // of its node
}

// PodContainer is a container of a pod.
type PodContainer struct {
	Name, Image string
	State       string // "waiting", "running", "terminated"
	Reason      string // of that state
	Init, Ready bool
	Restarts    int
	ExitCode    *int // of a terminated one
	Ports       []Port

	begun bool // there is a log
	over  bool // the run that has the log has ended
}

// Port is a port that a container declares.
type Port struct {
	Number   int
	Protocol string

	Host      string // where compose publishes it; "" elsewhere
	Published int

	name   string
	hostIP string // with a port of the node: "" is all of its addresses
	host   int    // of the node; 0: none
}

// Ps lists the pods of a deployment, in whatever phase they are.
func (w *World) Ps(ctx context.Context, o Options) (*Outcome, []Pod, error) {
	r, _, err := w.look(ctx, o)
	defer r.close()
	if err != nil {
		return r.out, nil, err
	}
	if r.composed() {
		pods, err := r.composePs(ctx)
		return r.out, pods, err
	}
	if err := r.reach(ctx); err != nil {
		return r.out, nil, err
	}
	pods, err := r.pods(ctx, false)
	if err != nil {
		return r.out, nil, err
	}
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "ok", podCount(pods)
	return r.out, pods, nil
}

func podCount(pods []Pod) string {
	ready := 0
	for _, p := range pods {
		if p.Ready {
			ready++
		}
	}
	switch len(pods) {
	case 0:
		return "no pods"
	case 1:
		return fmt.Sprintf("1 pod, %d ready", ready)
	}
	return fmt.Sprintf("%d pods, %d ready", len(pods), ready)
}

// pods lists the deployment's pods by name.
func (r *run) pods(ctx context.Context, jobs bool) ([]Pod, error) {
	items, err := r.list(ctx, kube.Core("pods"), r.scope.Namespace, kube.Query{Labels: r.selector(jobs)})
	if err != nil {
		return nil, err
	}
	return decodePods(items)
}

func decodePods(items []kube.Object) ([]Pod, error) {
	out := make([]Pod, 0, len(items))
	for _, o := range items {
		p, err := decodePod(o.Raw)
		if err != nil {
			return nil, fmt.Errorf("pod %s: %w", o.Name, err)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Pod) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func decodePod(raw []byte) (Pod, error) {
	var p corev1.Pod
	if err := json.Unmarshal(raw, &p); err != nil {
		return Pod{}, err
	}
	out := Pod{
		Namespace: p.Namespace, Name: p.Name, Component: p.Labels["app.kubernetes.io/component"], Phase: string(p.Status.Phase),
		Reason: p.Status.Reason, Node: p.Spec.NodeName, IP: p.Status.PodIP, Terminating: p.DeletionTimestamp != nil,
		uid: string(p.UID), hash: p.Labels["pod-template-hash"], created: p.CreationTimestamp.Time,
		labels: p.Labels, hostIP: p.Status.HostIP,
	}
	if p.Status.StartTime != nil {
		out.Started = p.Status.StartTime.Time
	}
	for _, o := range p.OwnerReferences {
		if o.Kind == "Job" {
			out.job = o.Name
		}
	}
	for _, c := range p.Status.Conditions {
		switch c.Type { //nolint:exhaustive // the others say nothing more
		case corev1.PodReady:
			out.Ready = c.Status == corev1.ConditionTrue
		case corev1.PodScheduled:
			if c.Status == corev1.ConditionFalse {
				out.Reason = cmp.Or(out.Reason, c.Reason)
			}
		}
	}
	over := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	for _, part := range []struct {
		init   bool
		specs  []corev1.Container
		status []corev1.ContainerStatus
	}{{true, p.Spec.InitContainers, p.Status.InitContainerStatuses}, {false, p.Spec.Containers, p.Status.ContainerStatuses}} {
		for _, s := range part.specs {
			c := PodContainer{Name: s.Name, Image: s.Image, Init: part.init, State: "waiting", over: over}
			for _, port := range s.Ports {
				c.Ports = append(c.Ports, Port{
					Number: int(port.ContainerPort), Protocol: string(cmp.Or(port.Protocol, corev1.ProtocolTCP)),
					name: port.Name, hostIP: port.HostIP, host: int(port.HostPort),
				})
			}
			if i := slices.IndexFunc(part.status, func(x corev1.ContainerStatus) bool { return x.Name == s.Name }); i >= 0 {
				c.take(part.status[i])
			}
			out.Restarts += c.Restarts
			if c.State != "running" && !c.Init {
				out.Reason = cmp.Or(out.Reason, c.Reason)
			}
			out.Containers = append(out.Containers, c)
		}
	}
	return out, nil
}

// take reads what the node says of a container.
func (c *PodContainer) take(s corev1.ContainerStatus) {
	c.Ready, c.Restarts = s.Ready, int(s.RestartCount)
	switch {
	case s.State.Running != nil:
		c.State, c.begun = "running", true
	case s.State.Terminated != nil:
		code := int(s.State.Terminated.ExitCode)
		c.State, c.Reason, c.ExitCode, c.begun, c.over = "terminated", s.State.Terminated.Reason, &code, true, true
	case s.State.Waiting != nil:
		c.Reason = s.State.Waiting.Reason
		if s.LastTerminationState.Terminated != nil {
			c.begun, c.over = true, true // the log is that of the run before
		}
	}
}

// Ports are the pod's as "IP:PORT->PORT".
func (p Pod) Ports() []string {
	var out []string
	for _, c := range p.Containers {
		for _, port := range c.Ports {
			one := fmt.Sprintf("%s:%d->%d", p.IP, port.Number, port.Number)
			if port.Published != 0 {
				one = fmt.Sprintf("%s:%d->%d", port.Host, port.Published, port.Number)
			}
			if port.Protocol != "" && port.Protocol != "TCP" {
				one += "/" + strings.ToLower(port.Protocol)
			}
			out = append(out, one)
		}
	}
	return out
}
