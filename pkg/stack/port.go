package stack

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
)

// PortOptions name a port of a service.
type PortOptions struct {
	Options
	Service  string
	Port     int
	Protocol string // "tcp" or "udp"
}

func (o PortOptions) what() string {
	return fmt.Sprintf("port %d/%s of %s", o.Port, o.Protocol, o.Service)
}

// Published is where a port of a service is answered.
type Published struct {
	Pod       string // "" on compose
	Container string
	Host      string // an address
	Port      int
}

// String is IP:PORT.
func (p Published) String() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// PortEnd is what a port's look came to.
type PortEnd struct {
	Published []Published
	URLs      []string // of Ingresses that lead to it
}

// Port tells where a port of a service is published: by the engine, or on the
// nodes on which its pods run, by a NodePort Service or as a port of the host.
// None is an error of kind Absent; what an Ingress leads to it is told all the
// same.
func (w *World) Port(ctx context.Context, o PortOptions) (*Outcome, PortEnd, error) {
	var end PortEnd
	r, rendered, err := w.look(ctx, o.Options)
	defer r.close()
	if err != nil {
		return r.out, end, err
	}
	if rendered {
		if err := r.known([]string{o.Service}, false); err != nil {
			return r.out, end, err
		}
	}
	if r.composed() {
		end.Published, err = r.composePort(ctx, o)
	} else {
		end, err = r.clusterPort(ctx, o)
	}
	if err != nil {
		return r.out, end, err
	}
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "ok", end.Published[0].String()
	if n := len(end.Published); n > 1 {
		r.out.Reason += fmt.Sprintf(" and %d more", n-1)
	}
	return r.out, end, nil
}

// clusterPort asks the cluster what is published: what was rendered may not be
// what is there, and the cluster chooses ports.
func (r *run) clusterPort(ctx context.Context, o PortOptions) (PortEnd, error) {
	var end PortEnd
	if err := r.reach(ctx); err != nil {
		return end, err
	}
	pods, err := r.pods(ctx, false)
	if err != nil {
		return end, err
	}
	pods = serving(pods, o.Service)
	if len(pods) == 0 {
		return end, fault.New(fault.Absent, "no pod runs a container "+o.Service, "homelab deployment ps --dir "+r.o.Dir)
	}
	items, err := r.list(ctx, kube.Core("services"), r.scope.Namespace, kube.Query{Labels: r.selector(false)})
	if err != nil {
		return end, err
	}
	services, err := typed[corev1.Service](items)
	if err != nil {
		return end, err
	}
	end.Published = published(pods, services, o)
	ingresses, err := r.ingresses(ctx)
	if err != nil && !kube.IsForbidden(err) {
		return end, err
	}
	for _, route := range r.routes(o) {
		end.URLs = append(end.URLs, urls(ingresses, services, pods[0], route)...)
	}
	slices.Sort(end.URLs)
	end.URLs = slices.Compact(end.URLs)
	if len(end.Published) > 0 {
		return end, nil
	}
	e := fault.New(fault.Absent, o.what()+" is not published", "homelab deployment ps --dir "+r.o.Dir)
	if o.Protocol == "tcp" {
		e.Next = fmt.Sprintf("homelab deployment port %s %d --forward --dir %s", o.Service, o.Port, r.o.Dir)
	}
	if len(end.URLs) > 0 {
		e = e.Because("it is reached through the Ingress, at " + words(end.URLs))
	}
	return end, e
}

func (r *run) ingresses(ctx context.Context) ([]networkingv1.Ingress, error) {
	items, err := r.list(ctx, kube.Resource{Group: "networking.k8s.io", Version: "v1", Plural: "ingresses"}, r.scope.Namespace,
		kube.Query{Labels: r.selector(false)})
	if err != nil {
		return nil, err
	}
	return typed[networkingv1.Ingress](items)
}

// routes are the hosts of the spec that lead to this port, each once. What the
// Ingress says decides; these tell which of a pod's services a port is meant for.
func (r *run) routes(o PortOptions) []hostRoute {
	var out []hostRoute
	if o.Protocol != "tcp" {
		return nil
	}
	for _, p := range r.d.Spec.Proxies {
		for _, route := range p.Routes {
			if route.Container == o.Service && route.Port == o.Port {
				out = append(out, hostRoute{p.Host, o.Port})
			}
		}
	}
	return out
}

type hostRoute struct {
	host string
	port int
}

// serving are the pods in which a container of the service runs, the ready ones
// first, and of those the newest.
func serving(pods []Pod, service string) []Pod {
	var out []Pod
	for _, p := range pods {
		if p.job == "" && !p.Terminating && slices.ContainsFunc(p.Containers, func(c PodContainer) bool {
			return c.Name == service && c.State == "running"
		}) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b Pod) int {
		if a.Ready != b.Ready {
			if a.Ready {
				return -1
			}
			return 1
		}
		return b.created.Compare(a.created)
	})
	return out
}

// published is where the nodes of these pods answer a port of a service. A
// NodePort is answered by every node; that of the pod is sure to, whatever the
// Service says about the others.
func published(pods []Pod, services []corev1.Service, o PortOptions) []Published {
	var out []Published
	add := func(p Pod, host string, port int) {
		one := Published{p.Name, o.Service, host, port}
		if host == "" || slices.ContainsFunc(out, func(x Published) bool { return x.Host == host && x.Port == port }) {
			return
		}
		out = append(out, one)
	}
	for _, p := range pods {
		declared, ok := declares(p, o)
		if !ok {
			continue
		}
		for _, s := range services {
			for _, port := range s.Spec.Ports {
				if port.NodePort != 0 && selects(s, p) && leads(port, declared) {
					add(p, p.hostIP, int(port.NodePort))
				}
			}
		}
		if declared.host != 0 {
			host := declared.hostIP
			if host == "" || host == "0.0.0.0" || host == "::" {
				host = p.hostIP
			}
			add(p, host, declared.host)
		}
	}
	return out
}

// declares returns the port as the service's container has it. Of a pod's
// containers only one can listen on a port: the one that says so.
func declares(p Pod, o PortOptions) (Port, bool) {
	for _, c := range p.Containers {
		for _, port := range c.Ports {
			if c.Name == o.Service && port.Number == o.Port && strings.EqualFold(port.Protocol, o.Protocol) {
				return port, true
			}
		}
	}
	return Port{}, false
}

// selects says whether a Service answers for a pod.
func selects(s corev1.Service, p Pod) bool {
	return len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.labels))
}

// leads says whether a Service's port leads to a container's.
func leads(s corev1.ServicePort, c Port) bool {
	protocol := string(s.Protocol)
	if protocol == "" {
		protocol = "TCP"
	}
	if !strings.EqualFold(protocol, c.Protocol) {
		return false
	}
	switch {
	case s.TargetPort.Type == intstr.String:
		return s.TargetPort.StrVal != "" && s.TargetPort.StrVal == c.name
	case s.TargetPort.IntVal != 0:
		return int(s.TargetPort.IntVal) == c.Number
	}
	return int(s.Port) == c.Number
}

// urls are what Ingresses answer and lead to a pod's port.
func urls(ingresses []networkingv1.Ingress, services []corev1.Service, p Pod, route hostRoute) []string {
	var out []string
	for _, in := range ingresses {
		for _, rule := range in.Spec.Rules {
			if rule.HTTP == nil || rule.Host != route.host {
				continue
			}
			scheme := "http://"
			if slices.ContainsFunc(in.Spec.TLS, func(t networkingv1.IngressTLS) bool {
				return slices.ContainsFunc(t.Hosts, func(x string) bool { return covers(x, rule.Host) })
			}) {
				scheme = "https://"
			}
			for _, path := range rule.HTTP.Paths {
				b := path.Backend.Service
				if b == nil || !slices.ContainsFunc(services, func(s corev1.Service) bool {
					return s.Name == b.Name && selects(s, p) && slices.ContainsFunc(s.Spec.Ports, func(x corev1.ServicePort) bool {
						return (x.Port == b.Port.Number || b.Port.Name != "" && x.Name == b.Port.Name) && leads(x, Port{Number: route.port, Protocol: "TCP"})
					})
				}) {
					continue
				}
				out = append(out, scheme+rule.Host+"/"+strings.TrimPrefix(path.Path, "/"))
			}
		}
	}
	return out
}
