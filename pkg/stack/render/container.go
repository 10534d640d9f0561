package render

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	compose "github.com/compose-spec/compose-go/v2/types"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"homelab/pkg/stack/file"
)

// container renders a service without its mounts.
func (r *renderer) container(p *pod, s *service) corev1.Container {
	c := corev1.Container{
		Name:            s.container,
		Image:           r.image(p, s),
		ImagePullPolicy: r.pull(p),
		Command:         r.literals(s.cfg.Entrypoint),
		Args:            r.literals(s.cfg.Command),
		Ports:           ports(s),
		Env:             r.environment(p, s),
		EnvFrom:         r.envFrom(),
		Resources:       r.resources(p, s),
		SecurityContext: r.security(p, s),
	}
	if !s.init && !p.job {
		c.ReadinessProbe = r.routeProbe(s)
	}
	if r.v2() {
		// An entrypoint that is there and empty takes the image's away.
		if _, there := s.keys["entrypoint"]; there && len(c.Command) == 0 {
			c.Command, c.Args = c.Args, nil
		}
		c.WorkingDir = s.cfg.WorkingDir
		c.TTY, c.Stdin = s.cfg.Tty, s.cfg.StdinOpen
		if !s.init && !p.job {
			r.health(p, s, &c)
		}
	}
	return c
}

// ports lists what a container listens on, each port and protocol once.
func ports(s *service) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for _, p := range s.cfg.Ports {
		one := corev1.ContainerPort{ContainerPort: int32(p.Target), Protocol: protocol(p)} //nolint:gosec // G115: compose has checked the range
		if !slices.Contains(out, one) {
			out = append(out, one)
		}
	}
	return out
}

// protocol returns a port's protocol as the API writes it.
func protocol(p compose.ServicePortConfig) corev1.Protocol {
	return corev1.Protocol(strings.ToUpper(cmp.Or(p.Protocol, "tcp")))
}

// routeProbe is the probe of a container that the ingress leads to: its first
// routed port takes connections.
func (r *renderer) routeProbe(s *service) *corev1.Probe {
	for _, proxy := range r.d.Spec.Proxies {
		for _, route := range proxy.Routes {
			if dns(route.Container) == s.container {
				return &corev1.Probe{
					ProbeHandler:        corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(route.Port)}},
					InitialDelaySeconds: 5, PeriodSeconds: 10, FailureThreshold: 3,
				}
			}
		}
	}
	return nil
}

// health renders a healthcheck: it replaces the probe of a routed port.
func (r *renderer) health(p *pod, s *service, c *corev1.Container) {
	h := s.cfg.HealthCheck
	if h == nil {
		return
	}
	if h.Disable || len(h.Test) > 0 && h.Test[0] == "NONE" {
		c.ReadinessProbe = nil
		return
	}
	var command []string
	switch {
	case len(h.Test) > 1 && h.Test[0] == "CMD":
		command = h.Test[1:]
	case len(h.Test) > 1 && h.Test[0] == "CMD-SHELL":
		command = []string{"/bin/sh", "-c", strings.Join(h.Test[1:], " ")}
	case len(h.Test) == 0:
		r.tell(p, s, file.Ignored, "healthcheck-image", "healthcheck", "a healthcheck without a test tunes the image's own, which no cluster runs")
		return
	default:
		r.refuse(p, s, "healthcheck", "test must be CMD or CMD-SHELL with a command, NONE, or one string")
		return
	}
	action := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}}
	// Where the file is silent, compose's defaults hold: 30 s, 30 s, 3.
	probe := &corev1.Probe{
		ProbeHandler: action, PeriodSeconds: seconds(h.Interval, 30), TimeoutSeconds: seconds(h.Timeout, 30), FailureThreshold: 3,
	}
	if h.Retries != nil {
		probe.FailureThreshold = int32(min(max(*h.Retries, 1), 1000))
	}
	c.ReadinessProbe = probe
	if h.StartPeriod == nil || *h.StartPeriod <= 0 {
		return
	}
	start := &corev1.Probe{ProbeHandler: action, PeriodSeconds: seconds(h.StartInterval, 5), TimeoutSeconds: probe.TimeoutSeconds}
	period := time.Duration(start.PeriodSeconds) * time.Second
	// A failure in the start period does not count; what follows it must fail
	// as often as any check before the container is given up.
	tries := int64((time.Duration(*h.StartPeriod) + period - 1) / period)
	start.FailureThreshold = int32(min(tries, 100_000)) + probe.FailureThreshold //nolint:gosec // G115: bounded
	c.StartupProbe = start
}

// seconds returns a duration in whole seconds, rounded up, at least one.
func seconds(d *compose.Duration, standard int32) int32 {
	if d == nil || *d <= 0 {
		return standard
	}
	return int32(min((time.Duration(*d)+time.Second-1)/time.Second, math.MaxInt32)) //nolint:gosec // G115: bounded
}

// security renders whom and with what rights a container runs.
func (r *renderer) security(p *pod, s *service) *corev1.SecurityContext {
	privileged := r.d.Spec.Security.Privileged || r.v2() && s.cfg.Privileged
	sc := &corev1.SecurityContext{Privileged: &privileged}
	sc.RunAsUser, sc.RunAsGroup = r.user(p, s)
	var add, drop []corev1.Capability
	grant := func(list *[]corev1.Capability, name string, trim bool) {
		if trim {
			name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		}
		if c := corev1.Capability(name); !slices.Contains(*list, c) {
			*list = append(*list, c)
		}
	}
	for _, c := range r.d.Spec.Security.Capabilities {
		grant(&add, c, r.v2())
	}
	if r.v2() {
		for _, c := range s.cfg.CapAdd {
			grant(&add, c, true)
		}
		for _, c := range s.cfg.CapDrop {
			grant(&drop, c, true)
		}
		if s.cfg.ReadOnly {
			sc.ReadOnlyRootFilesystem = new(true)
		}
	}
	if len(add)+len(drop) > 0 {
		sc.Capabilities = &corev1.Capabilities{Add: add, Drop: drop}
	}
	return sc
}

// user reads UID[:GID]. Names other than root are in the image's files, which
// nobody here can read.
func (r *renderer) user(p *pod, s *service) (uid, gid *int64) {
	if s.cfg.User == "" {
		return nil, nil
	}
	id := func(what, text string) *int64 {
		if text == "root" {
			return new(int64(0))
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			r.refuse(p, s, "user", "%s %q is a name of the image's: write its number", what, text)
			return nil
		}
		return &n
	}
	u, g, group := strings.Cut(s.cfg.User, ":")
	uid = id("the user", u)
	if group && g != "" {
		gid = id("the group", g)
	}
	return uid, gid
}

// resources picks who decides what a container reserves and may use: the spec
// for this container, the compose file, the spec for all, the rules. Whoever
// decides decides all of it: a limit of one and a request of another may
// contradict each other.
func (r *renderer) resources(p *pod, s *service) corev1.ResourceRequirements {
	var from file.Resources
	key, spec := "resources.containers", false
	for name, own := range r.d.Spec.ContainerResources {
		if dns(name) == s.container && own != (file.Resources{}) {
			from, key, spec = own, "resources.containers."+name, true
		}
	}
	switch {
	case spec:
	case s.res.set:
		from, key = s.res.Resources, "deploy.resources"
	case r.d.Spec.Resources != (file.Resources{}):
		from, spec = r.d.Spec.Resources, true
	case !r.v2():
		from = file.Resources{ReserveCPU: "1", ReserveMemory: "2000M", LimitCPU: "4", LimitMemory: "8000M"}
	}
	rr := corev1.ResourceRequirements{}
	for _, one := range []struct {
		to   *corev1.ResourceList
		kind corev1.ResourceName
		key  string
		q    file.Quantity
	}{
		{&rr.Requests, corev1.ResourceCPU, "reservations.cpus", from.ReserveCPU},
		{&rr.Requests, corev1.ResourceMemory, "reservations.memory", from.ReserveMemory},
		{&rr.Limits, corev1.ResourceCPU, "limits.cpus", from.LimitCPU},
		{&rr.Limits, corev1.ResourceMemory, "limits.memory", from.LimitMemory},
	} {
		text, err := cpus(one.q)
		if one.kind == corev1.ResourceMemory {
			text, err = size(one.q, r.d.Deployment.Rules)
		}
		switch {
		case err != nil && spec:
			r.refuseSpec(key+"."+one.key, r.spot(key), "%v", err)
		case err != nil:
			r.refuse(p, s, key+"."+one.key, "%v", err)
		case text != "":
			if *one.to == nil {
				*one.to = corev1.ResourceList{} //nolint:exhaustive // filled in below
			}
			(*one.to)[one.kind] = resource.MustParse(text)
			if one.kind == corev1.ResourceMemory {
				group, _, _ := strings.Cut(one.key, ".")
				r.spell(p, s, group, text)
			}
		}
	}
	for kind, limit := range rr.Limits {
		if request, ok := rr.Requests[kind]; ok && request.Cmp(limit) > 0 {
			text := fmt.Sprintf("%s: %s is reserved and only %s allowed", kind, request.String(), limit.String())
			if spec {
				r.refuseSpec(key, r.spot(key), "%s", text)
			} else {
				r.refuse(p, s, key, "%s", text)
			}
		}
	}
	return rr
}

// spot returns where a key of the spec stands; the key above it if it has no
// line of its own.
func (r *renderer) spot(key string) file.Pos {
	for k := key; k != ""; {
		if line := r.d.Spec.Line(k); line > 0 {
			return file.Pos{File: r.d.Spec.File, Line: line}
		}
		k = k[:max(0, strings.LastIndexByte(k, '.'))]
	}
	return file.Pos{File: r.d.Spec.File}
}
