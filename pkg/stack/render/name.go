package render

import "strings"

// dns returns a name as a part of a DNS label: "_" is not allowed there.
// Whatever else the API refuses is a problem, not something to guess at.
func dns(name string) string { return strings.ReplaceAll(name, "_", "-") }

// Name returns ID-PART-PART: the name of an object of a deployment.
func (r *renderer) name(parts ...string) string {
	all := []string{r.id()}
	for _, p := range parts {
		all = append(all, dns(p))
	}
	return strings.Join(all, "-")
}

// podName returns the name of an object that each pod has one of: ID-KIND, or
// ID-POD-KIND when there are several pod files.
func (r *renderer) podName(p *pod, kind string) string {
	if r.several() {
		return r.name(p.name, kind)
	}
	return r.name(kind)
}

// several reports whether pods are told apart by a component label.
func (r *renderer) several() bool { return len(r.d.Pods) > 1 }

// labels are what every object of the deployment carries. Never nil; the
// caller owns the map.
func (r *renderer) labels() map[string]string {
	return map[string]string{
		"app":                          r.id(),
		"app.kubernetes.io/stack":      r.d.Stack.Name,
		"app.kubernetes.io/managed-by": "homelab",
	}
}

// selector is what finds a pod's pods, and nothing else: it is immutable.
func (r *renderer) selector(p *pod) map[string]string {
	s := map[string]string{"app": r.id()}
	if r.several() {
		s["app.kubernetes.io/component"] = p.name
	}
	return s
}
