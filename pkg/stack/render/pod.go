package render

import (
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"homelab/pkg/stack/file"
)

// workloads renders the Deployments, in the order they are applied, and Jobs.
func (r *renderer) workloads(after [][]int) {
	s := r.d.Spec
	for _, i := range order(after) {
		r.deployment(&r.pods[i])
	}
	for i := range r.jobs {
		r.jobObject(&r.jobs[i])
	}
	if s.Replicas > 1 && slices.ContainsFunc(r.pods, r.stores) {
		r.tellSpec(file.Warning, "replicas-with-volumes", "replicas", r.spot("replicas"),
			"%d replicas write one volume: most programs lose data that way", s.Replicas)
	}
	if len(r.pods) > 0 && r.runtimeClass() == HighMemlock && s.Security.UnlimitedMemlock && s.Target == file.Kind {
		// One for the whole cluster: the label of one deployment would make
		// the others fight for it.
		r.add(&nodev1.RuntimeClass{
			TypeMeta:   metav1.TypeMeta{APIVersion: "node.k8s.io/v1", Kind: "RuntimeClass"},
			ObjectMeta: metav1.ObjectMeta{Name: HighMemlock, Labels: map[string]string{"app.kubernetes.io/managed-by": "homelab"}},
			Handler:    HighMemlock,
		})
	}
}

// stores reports whether a pod has volumes to write to: top-level ones that
// are no configmap of the spec.
func (r *renderer) stores(p pod) bool {
	return slices.ContainsFunc(p.volumes, func(v string) bool {
		return !slices.ContainsFunc(r.d.Spec.ConfigMaps, func(c file.ConfigMap) bool { return c.Name == v })
	})
}

// runtimeClass returns how the pods' containers are run; "" for as usual.
func (r *renderer) runtimeClass() string {
	s := r.d.Spec.Security
	if s.RuntimeClass == "" && s.UnlimitedMemlock {
		return HighMemlock
	}
	return s.RuntimeClass
}

// deployment renders one pod file.
func (r *renderer) deployment(p *pod) {
	labels := r.labels()
	selector := r.selector(p)
	maps.Copy(labels, selector)
	template := r.template(p)
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: r.podName(p, "deployment"), Namespace: r.d.Namespace(), Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(r.d.Spec.Replicas)), //nolint:gosec // G115: the file's reader bounds it
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
		},
	}
	if !r.stores(*p) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{
			Type: appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1)),
			},
		}
	}
	// What every object carries, without who made it: the template must not
	// differ from what is running.
	template.Labels = map[string]string{"app.kubernetes.io/stack": r.d.Stack.Name}
	annotations := map[string]string{}
	for _, pair := range r.d.Spec.Labels {
		for _, key := range r.named(p, pair.Key) {
			if _, taken := selector[key]; taken {
				r.refuseSpec("labels."+pair.Key, r.spot("labels."+pair.Key), "%s is what pods are selected by; another label, please", key)
			}
			template.Labels[key] = pair.Value
		}
	}
	maps.Copy(template.Labels, selector)
	for _, pair := range r.d.Spec.Annotations {
		for _, key := range r.named(p, pair.Key) {
			annotations[key] = pair.Value
		}
	}
	if sum := r.checksum(&template.Spec); sum != "" {
		annotations["homelab/checksum"] = sum
	}
	if len(annotations) > 0 {
		template.Annotations = annotations
	}
	if class := r.runtimeClass(); class != "" {
		template.Spec.RuntimeClassName = &class
	}
	template.Spec.Affinity = r.affinity()
	for _, t := range r.d.Spec.Tolerations {
		template.Spec.Tolerations = append(template.Spec.Tolerations, corev1.Toleration{
			Key: t.Key, Operator: corev1.TolerationOpEqual, Value: t.Value, Effect: corev1.TaintEffectNoSchedule,
		})
	}
	d.Spec.Template = template
	r.amounts(p, r.add(d))
	w := Workload{Name: d.Name, Pod: p.name, Images: images(&template.Spec)}
	for _, v := range template.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			w.Claims = append(w.Claims, v.PersistentVolumeClaim.ClaimName)
		}
	}
	r.result.Workloads = append(r.result.Workloads, w)
}

// named returns a key of labels or annotations for each service it stands for.
func (r *renderer) named(p *pod, key string) []string {
	if !strings.Contains(key, "{name}") {
		return []string{key}
	}
	var out []string
	for _, s := range p.services {
		out = append(out, strings.ReplaceAll(key, "{name}", s.name))
	}
	return out
}

// affinity lets pods run where one of the labels is: each is a term of its own.
func (r *renderer) affinity() *corev1.Affinity {
	var terms []corev1.NodeSelectorTerm
	for _, a := range r.d.Spec.Affinities {
		terms = append(terms, corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: a.Key, Operator: corev1.NodeSelectorOpIn, Values: []string{a.Value}},
		}})
	}
	if terms == nil {
		return nil
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms},
	}}
}

// jobObject renders one job file.
func (r *renderer) jobObject(p *pod) {
	template := r.template(p)
	template.Labels = map[string]string{"app": r.id() + "-job", "app.kubernetes.io/stack": r.d.Stack.Name}
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	j := &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: r.name("job", p.name), Namespace: r.d.Namespace(), Labels: r.labels()},
		Spec:       batchv1.JobSpec{BackoffLimit: new(int32(0)), Template: template},
	}
	r.amounts(p, r.add(j))
	out := Job{Name: j.Name, Job: p.name, Images: images(&template.Spec)}
	for _, s := range p.services {
		out.Suspend = out.Suspend || truth(s.labels["laconic.suspend"])
		out.Recreate = out.Recreate || truth(s.labels["laconic.recreate-job"])
	}
	r.result.Jobs = append(r.result.Jobs, out)
}

// images returns what each container of a pod runs.
func images(s *corev1.PodSpec) map[string]string {
	out := map[string]string{}
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for _, c := range list {
			out[c.Name] = c.Image
		}
	}
	return out
}

// template renders what Deployments and Jobs have in common.
func (r *renderer) template(p *pod) corev1.PodTemplateSpec {
	var spec corev1.PodSpec
	volumes, mounts := r.podVolumes(p)
	extra, extraMounts := r.filesOf(p)
	ca, caMounts, caEnv := r.caCertificates()
	spec.Volumes = slices.Concat(volumes, extra, ca)
	inits, mains := p.sorted()
	if len(mains) == 0 {
		r.c.problem(Problem{File: p.src.Path, Key: "services", Message: "every service runs before the pod's containers: none of them is left to be one"})
	}
	for _, s := range inits {
		spec.InitContainers = append(spec.InitContainers, r.mounted(p, s, mounts, extraMounts, caMounts, caEnv))
	}
	for _, s := range mains {
		spec.Containers = append(spec.Containers, r.mounted(p, s, mounts, extraMounts, caMounts, caEnv))
	}
	if r.f.PullSecret != "" {
		spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: r.f.PullSecret}}
	}
	if r.hostNetwork(p) {
		spec.HostNetwork, spec.DNSPolicy = true, corev1.DNSClusterFirstWithHostNet
	}
	for _, s := range p.services {
		r.judge(p, &s)
	}
	if r.v2() {
		r.podSettings(p, &spec)
	}
	return corev1.PodTemplateSpec{Spec: spec}
}

// mounted renders a container with what it mounts. Two mounts at one place are
// refused here, whoever asked for them.
func (r *renderer) mounted(p *pod, s *service, named, files map[string][]corev1.VolumeMount, ca []corev1.VolumeMount, env []corev1.EnvVar) corev1.Container {
	c := r.container(p, s)
	c.VolumeMounts = slices.Concat(named[s.container], files[s.container], ca)
	seen := map[string]bool{}
	for _, m := range c.VolumeMounts {
		if seen[m.MountPath] {
			r.refuse(p, s, "volumes", "two things are mounted at %s", m.MountPath)
		}
		seen[m.MountPath] = true
	}
	for _, e := range env {
		if !slices.ContainsFunc(c.Env, func(o corev1.EnvVar) bool { return o.Name == e.Name }) {
			c.Env = append(c.Env, e)
		}
	}
	return c
}

// hostNetwork reports whether a pod shares the node's network. Under V1 one
// service that does takes every pod of the stack along.
func (r *renderer) hostNetwork(p *pod) bool {
	if p.hosted() {
		return true
	}
	if r.v2() || p.job {
		return false
	}
	for o := range r.each() {
		if !o.job && o.hosted() {
			return true
		}
	}
	return false
}

func (p *pod) hosted() bool {
	return slices.ContainsFunc(p.services, func(s service) bool { return s.cfg.NetworkMode == "host" })
}

// judge tells what the remaining keys of a service come to.
func (r *renderer) judge(p *pod, s *service) {
	switch mode := s.cfg.NetworkMode; {
	case mode == "" || mode == "host":
	case strings.HasPrefix(mode, "service:") && p.service(strings.TrimPrefix(mode, "service:")) != nil:
	default:
		r.refuse(p, s, "network_mode", "%q is not possible here: host, or service: with a service of the same file", mode)
	}
	networks := slices.Sorted(maps.Keys(s.cfg.Networks))
	if len(networks) > 1 || len(networks) == 1 && networks[0] != "default" {
		r.tell(p, s, file.Changed, "networks", "networks", "no isolation: everything in the namespace is reachable, whatever the network")
	}
	switch restart, _, _ := strings.Cut(s.cfg.Restart, ":"); {
	case s.init || p.job: // both end, and Jobs are not repeated
	case restart == "no" || restart == "on-failure":
		r.tell(p, s, file.Changed, "restart", "restart", "restart: %s has no effect: a cluster starts an ended container again", restart)
	}
	if s.cfg.Build != nil && s.cfg.Image != "" {
		r.tell(p, s, file.Info, "build", "build", "nothing is built here: %s must exist", s.cfg.Image)
	}
	known := []string{"laconic.init-container"}
	if p.job {
		known = append(known, "laconic.suspend", "laconic.recreate-job")
	}
	var idle []string
	for _, l := range slices.Sorted(maps.Keys(s.labels)) {
		if !slices.Contains(known, l) {
			idle = append(idle, l)
		}
	}
	if len(idle) > 0 {
		r.tell(p, s, file.Ignored, "labels", "labels", "labels of containers have no effect here: %s", strings.Join(idle, ", "))
	}
}

// podSettings renders what compose says of a service and the API of a pod.
func (r *renderer) podSettings(p *pod, spec *corev1.PodSpec) {
	spec.HostAliases = r.hosts(p)
	owner := ""
	sysctls := map[string]string{}
	var grace time.Duration
	for i := range p.services {
		s := &p.services[i]
		if h := s.cfg.Hostname; h != "" {
			switch {
			case len(validation.IsDNS1123Label(h)) > 0:
				r.refuse(p, s, "hostname", "%q is no name of a host: lower-case letters, digits and -, at most 63", h)
			case spec.Hostname == "":
				spec.Hostname, owner = h, s.name
			case spec.Hostname != h:
				r.tell(p, s, file.Ignored, "hostname", "hostname", "the pod has one name, and %s gives it %s", owner, spec.Hostname)
			}
		}
		for _, k := range slices.Sorted(maps.Keys(s.cfg.Sysctls)) {
			v := s.cfg.Sysctls[k]
			if other, ok := sysctls[k]; ok && other != v {
				r.refuse(p, s, "sysctls", "%s is %s for another service of the pod, and a pod has one value", k, other)
			}
			sysctls[k] = v
		}
		if s.cfg.StopGracePeriod != nil {
			grace = max(grace, time.Duration(*s.cfg.StopGracePeriod))
			spec.TerminationGracePeriodSeconds = new(int64((grace + time.Second - 1) / time.Second))
		}
	}
	if len(sysctls) > 0 {
		spec.SecurityContext = &corev1.PodSecurityContext{}
		for _, k := range slices.Sorted(maps.Keys(sysctls)) {
			spec.SecurityContext.Sysctls = append(spec.SecurityContext.Sysctls, corev1.Sysctl{Name: k, Value: sysctls[k]})
		}
	}
}

// hosts gives the containers of a pod each other's names, and extra_hosts.
func (r *renderer) hosts(p *pod) []corev1.HostAlias {
	byIP := map[string][]string{}
	var ips []string
	add := func(ip, host string) {
		if _, ok := byIP[ip]; !ok {
			ips = append(ips, ip)
		}
		if !slices.Contains(byIP[ip], host) {
			byIP[ip] = append(byIP[ip], host)
		}
	}
	if len(p.services) > 1 {
		for i := range p.services {
			s := &p.services[i]
			for _, n := range r.callNames(p, s) {
				add("127.0.0.1", n)
			}
		}
	}
	for i := range p.services {
		s := &p.services[i]
		for _, host := range slices.Sorted(maps.Keys(s.cfg.ExtraHosts)) {
			for _, ip := range s.cfg.ExtraHosts[host] {
				switch {
				case ip == "host-gateway":
					r.tell(p, s, file.Ignored, "host-gateway", "extra_hosts", "%s: a pod does not know the machine it runs on by host-gateway", host)
				case !validIP(ip):
					r.refuse(p, s, "extra_hosts", "%q of %s is no address", ip, host)
				case len(validation.IsDNS1123Subdomain(host)) > 0:
					r.tell(p, s, file.Ignored, "host-name", "extra_hosts", "%q is no name the API takes for a host", host)
				default:
					add(ip, host)
				}
			}
		}
	}
	var out []corev1.HostAlias
	for _, ip := range ips {
		out = append(out, corev1.HostAlias{IP: ip, Hostnames: byIP[ip]})
	}
	return out
}

// callNames returns the names a service is called by: its own and the aliases
// of its networks. Init containers have ended before anybody could call them.
func (r *renderer) callNames(p *pod, s *service) []string {
	if s.init {
		return nil
	}
	names := append([]string{s.name}, composeNames(s)...)
	var out []string
	for _, n := range names {
		switch {
		case slices.Contains(out, n):
		case len(validation.IsDNS1123Subdomain(n)) > 0:
			if n == s.name {
				r.tell(p, s, file.Changed, "service-name", "", "%q is no name a cluster can resolve: %s is", n, s.container)
			}
		default:
			out = append(out, n)
		}
	}
	return out
}

// key tells a pod from a job of the same name.
func (p *pod) key() string {
	if p.job {
		return "job " + p.name
	}
	return "pod " + p.name
}
