package render

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	compose "github.com/compose-spec/compose-go/v2/types"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"homelab/pkg/stack/file"
)

// The ports a NodePort Service may have on the nodes.
const (
	firstNodePort = 30000
	lastNodePort  = 32767
)

// network adds the Services, NodePorts, the Ingress, the external services and
// the object that holds the CA certificates, and refuses a route or a
// maintenance-service whose container does not exist.
func (r *renderer) network() {
	r.services()
	r.nodePorts()
	r.composeNames()
	r.ingress()
	r.externals()
	r.caObjects()
	r.hostPorts()
}

// addService adds a Service, whose name nothing else may have.
func (r *renderer) addService(name string, labels map[string]string, spec corev1.ServiceSpec) {
	r.add(&corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.d.Namespace(), Labels: labels},
		Spec:       spec,
	})
}

// podWith returns the pod file that has a container. Jobs serve nobody.
func (r *renderer) podWith(container string) (*pod, bool) {
	for i := range r.pods {
		for _, s := range r.pods[i].services {
			if s.name == container || s.container == dns(container) {
				return &r.pods[i], true
			}
		}
	}
	return nil, false
}

// containerNames lists what a route may name.
func (r *renderer) containerNames() string {
	var names []string
	for _, p := range r.pods {
		for _, s := range p.services {
			names = append(names, s.name)
		}
	}
	if len(names) == 0 {
		return "there is none"
	}
	return "there is " + strings.Join(names, ", ")
}

// routedPorts returns the ports of a pod that something is led to, in order.
func (r *renderer) routedPorts(p *pod) []int {
	var ports []int
	add := func(container string, port int) {
		if q, ok := r.podWith(container); ok && q == p && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	for _, proxy := range r.d.Spec.Proxies {
		for _, route := range proxy.Routes {
			add(route.Container, route.Port)
		}
	}
	if m := r.d.Spec.Maintenance; m != nil {
		add(m.Container, m.Port)
	}
	slices.Sort(ports)
	return ports
}

// services adds a Service for each pod that something is led to.
func (r *renderer) services() {
	for _, proxy := range r.d.Spec.Proxies {
		for _, route := range proxy.Routes {
			if _, ok := r.podWith(route.Container); !ok {
				r.refuseSpec("network.http-proxy", route.Pos, "the route %s of %s leads to container %s, which is in no pod: %s", route.Path, proxy.Host, route.Container, r.containerNames())
			}
		}
	}
	if m := r.d.Spec.Maintenance; m != nil {
		if p, ok := r.podWith(m.Container); ok {
			r.result.Page = &Page{Workload: r.podName(p, "deployment"), Service: r.podName(p, "service"), Port: m.Port}
		} else {
			r.refuseSpec("maintenance-service", m.Pos, "container %s is in no pod: %s", m.Container, r.containerNames())
		}
	}
	for i := range r.pods {
		p := &r.pods[i]
		ports := r.routedPorts(p)
		if len(ports) == 0 {
			continue // the API takes no Service without ports
		}
		name := r.podName(p, "service")
		if why := validation.IsDNS1123Label(name); len(why) > 0 {
			r.c.problem(Problem{File: p.src.Path, Message: fmt.Sprintf("%s cannot name a Service: %s", name, why[0])})
			continue
		}
		spec := corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: r.selector(p)}
		for _, port := range ports {
			spec.Ports = append(spec.Ports, servicePort(port))
		}
		r.addService(name, r.labels(), spec)
	}
}

// servicePort is a port that is passed on as it is.
func servicePort(port int) corev1.ServicePort {
	return corev1.ServicePort{
		Name: "port-" + strconv.Itoa(port), Port: int32(port), TargetPort: intstr.FromInt(port), Protocol: corev1.ProtocolTCP, //nolint:gosec // G115: ports were read as 1 to 65535
	}
}

// nodePort is a port of a pod that the nodes have as well.
type nodePort struct {
	pod      *pod
	service  *service
	port     int
	protocol string // "tcp", "udp"
	host     int    // 0: any
}

// nodePorts adds a Service for each port that the nodes have as well. Such a
// Service is named for its port, so of one port in two pods only the first has
// one, and it answers for that pod alone.
func (r *renderer) nodePorts() {
	mode := r.d.Spec.NodePorts
	if mode == file.NodePortsDefault {
		mode = file.NodePortsExplicit
		if !r.v2() {
			mode = file.NodePortsAll
		}
	}
	if mode == file.NodePortsNone {
		return
	}
	var all []*nodePort
	for i := range r.pods {
		p := &r.pods[i]
		for j := range p.services {
			s := &p.services[j]
			for _, c := range s.cfg.Ports {
				n, ok := r.nodePort(p, s, c, mode)
				if !ok {
					continue
				}
				k := slices.IndexFunc(all, func(o *nodePort) bool { return o.port == n.port && o.protocol == n.protocol })
				switch {
				case k < 0:
					all = append(all, n)
				case all[k].pod != p:
					r.tell(p, s, file.Ignored, "node-port-taken", "ports", "port %d of %s has no NodePort: the one for %d/%s leads to pod %s", n.port, p.name, n.port, n.protocol, all[k].pod.name)
				case all[k].host == 0:
					all[k] = n
				case n.host != 0 && n.host != all[k].host:
					r.tell(p, s, file.Ignored, "node-port-taken", "ports", "port %d is at %d of the nodes already, and not at %d as well", n.port, all[k].host, n.host)
				}
			}
		}
	}
	taken := map[int]*nodePort{}
	for _, n := range all {
		if o, ok := taken[n.host]; ok && n.host != 0 {
			r.refuse(n.pod, n.service, "ports", "port %d of the nodes leads to %d/%s of %s already: it can be given once, whatever the protocol", n.host, o.port, o.protocol, o.service.name)
			continue
		}
		taken[n.host] = n
		name := fmt.Sprintf("%s-nodeport-%d-%s", r.id(), n.port, n.protocol)
		if why := validation.IsDNS1123Label(name); len(why) > 0 {
			r.refuse(n.pod, n.service, "ports", "%s cannot name a Service: %s", name, why[0])
			continue
		}
		r.addService(name, r.labels(), corev1.ServiceSpec{
			Type:     corev1.ServiceTypeNodePort,
			Selector: r.selector(n.pod),
			Ports: []corev1.ServicePort{{
				Port: int32(n.port), TargetPort: intstr.FromInt(n.port), NodePort: int32(n.host), Protocol: corev1.Protocol(strings.ToUpper(n.protocol)), //nolint:gosec // G115: ports of 16 bits
			}},
		})
	}
}

// nodePort judges one port of a service: whether the nodes have it, and where.
func (r *renderer) nodePort(p *pod, s *service, c compose.ServicePortConfig, mode file.NodePorts) (*nodePort, bool) {
	n := &nodePort{pod: p, service: s, port: int(c.Target), protocol: "tcp"}
	if c.Protocol != "" {
		n.protocol = strings.ToLower(c.Protocol)
	}
	elsewhere := fmt.Sprintf("reach it through http-proxy, or with `homelab deployment port %s %d --forward`", s.name, n.port)
	if c.HostIP != "" {
		r.tell(p, s, file.Ignored, "port-address-ignored", "ports", "a cluster publishes on all addresses or none, so %s:%s:%d is not published: %s", c.HostIP, c.Published, n.port, elsewhere)
		return nil, false
	}
	if c.Published == "" {
		return n, mode == file.NodePortsAll
	}
	if h, err := strconv.Atoi(c.Published); err == nil && h >= firstNodePort && h <= lastNodePort {
		n.host = h
		return n, true
	}
	if mode == file.NodePortsAll {
		r.tell(p, s, file.Changed, "port-host-ignored", "ports", "nodes publish from %d to %d only, so not at %s: the cluster chooses a port for %d; %s", firstNodePort, lastNodePort, c.Published, n.port, elsewhere)
		return n, true
	}
	r.tell(p, s, file.Ignored, "port-host-ignored", "ports", "nodes publish from %d to %d only, so %s:%d is not published: %s", firstNodePort, lastNodePort, c.Published, n.port, elsewhere)
	return nil, false
}

// composeNames adds what lets pods find each other by the names compose gives
// their services. Inside a pod they are found without: with one file there is
// nothing to add, and under V1 they have never been found.
func (r *renderer) composeNames() {
	if !r.v2() || len(r.pods)+len(r.jobs) < 2 {
		return
	}
	taken := map[string]string{} // name -> pod
	for _, x := range r.d.Spec.Externals {
		taken[x.Name] = "external-services"
	}
	for i := range r.pods {
		p := &r.pods[i]
		for j := range p.services {
			s := &p.services[j]
			if s.init {
				continue // it has ended when others run
			}
			for _, name := range composeNames(s) {
				if len(validation.IsDNS1123Label(name)) > 0 {
					r.tell(p, s, file.Changed, "alias-unknown", "networks", "the alias %s is no name a cluster can resolve: lower case letters, digits and - only", name)
					continue
				}
				if other, ok := taken[name]; ok {
					if other != p.name {
						r.tell(p, s, file.Changed, "name-taken", "networks", "other pods reach %s under this name, not this service", other)
					}
					continue
				}
				taken[name] = p.name
				r.addService(name, r.labels(), corev1.ServiceSpec{
					Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone, Selector: r.selector(p),
					// Compose resolves a name as soon as its container runs; two
					// services that wait for each other would never get ready.
					PublishNotReadyAddresses: true,
				})
			}
		}
	}
}

// composeNames returns what compose calls a service: its name, then its aliases.
func composeNames(s *service) []string {
	names := []string{s.container}
	for _, network := range slices.Sorted(maps.Keys(s.cfg.Networks)) {
		if n := s.cfg.Networks[network]; n != nil {
			for _, a := range n.Aliases {
				if !slices.Contains(names, a) {
					names = append(names, a)
				}
			}
		}
	}
	return names
}

// hostPorts lists the ports of services in the host's network: on kind that is
// the node's, and this machine has them only if the node passes them on.
func (r *renderer) hostPorts() {
	if r.d.Spec.Target != file.Kind {
		return
	}
	for _, p := range r.pods {
		for _, s := range p.services {
			if s.cfg.NetworkMode != "host" {
				continue
			}
			for _, c := range s.cfg.Ports {
				h := HostPort{Port: int(c.Target), Protocol: "TCP"}
				if c.Protocol != "" {
					h.Protocol = strings.ToUpper(c.Protocol)
				}
				if !slices.Contains(r.result.HostPorts, h) {
					r.result.HostPorts = append(r.result.HostPorts, h)
				}
			}
		}
	}
}
