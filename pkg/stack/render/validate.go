package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
)

// unique refuses services of one pod that come to one container name.
func (r *renderer) unique() {
	for p := range r.each() {
		seen := map[string]string{}
		for i := range p.services {
			s := &p.services[i]
			if other, ok := seen[s.container]; ok {
				r.refuse(p, s, "", "its container is called %s, and so is that of %s: names differ by more than _ and -", s.container, other)
				continue
			}
			seen[s.container] = s.name
			if why := validation.IsDNS1123Label(s.container); len(why) > 0 {
				r.refuse(p, s, "", "%q is no name for a container: lower-case letters, digits and -, at most 63", s.name)
			}
			for _, port := range s.cfg.Ports {
				if port.Target < 1 || port.Target > 65535 {
					r.refuse(p, s, "ports", "%d is no port", port.Target)
				}
			}
		}
	}
}

// validate refuses names and labels the API would refuse, and two objects of
// one name: better now than half-way through.
func (r *renderer) validate() {
	if why := validation.IsDNS1123Label(r.d.Namespace()); len(why) > 0 {
		r.refuseSpec("namespace", r.spot("namespace"), "%q is no name for a namespace: lower-case letters, digits and -, at most 63; set namespace", r.d.Namespace())
	}
	seen := map[string]bool{}
	for _, o := range r.result.Objects {
		what := o.GetKind() + " " + o.GetName()
		limit := validation.IsDNS1123Subdomain(o.GetName())
		switch o.GetKind() {
		case "Service", "Job":
			limit = validation.IsDNS1123Label(o.GetName())
		}
		switch {
		case len(limit) > 0:
			r.c.problem(Problem{File: r.d.Path, Message: fmt.Sprintf("%s: the API takes no such name: %s", what, limit[0])})
		case seen[what]:
			r.c.problem(Problem{File: r.d.Path, Message: what + " would be made twice: something must be named differently"})
		}
		seen[what] = true
		r.tags(what, o.GetLabels(), o.GetAnnotations())
		if t, ok := within(o.Object, "spec", "template", "metadata"); ok {
			labels, _, _ := unstructured.NestedStringMap(t, "labels")
			annotations, _, _ := unstructured.NestedStringMap(t, "annotations")
			r.tags(what, labels, annotations)
		}
	}
	for _, a := range r.d.Spec.Affinities {
		r.tags("node-affinities", map[string]string{a.Key: a.Value}, nil)
	}
	for _, t := range r.d.Spec.Tolerations {
		r.tags("node-tolerations", map[string]string{t.Key: t.Value}, nil)
	}
}

// tags judges labels and annotations.
func (r *renderer) tags(what string, labels, annotations map[string]string) {
	for _, m := range []map[string]string{labels, annotations} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if why := validation.IsQualifiedName(k); len(why) > 0 {
				r.c.problem(Problem{File: r.d.Spec.File, Message: fmt.Sprintf("%s: %q can be no key of a label or annotation: %s", what, k, why[0])})
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if why := validation.IsValidLabelValue(labels[k]); len(why) > 0 {
			r.c.problem(Problem{File: r.d.Spec.File, Message: fmt.Sprintf("%s: %q can be no value of label %s: %s", what, labels[k], k, why[0])})
		}
	}
}

// sort puts the objects in order: by kind and name, Deployments in the order
// they are to be applied.
func (r *renderer) sort() {
	place := map[string]int{}
	for i, w := range r.result.Workloads {
		place[w.Name] = i
	}
	slices.SortStableFunc(r.result.Objects, func(a, b *unstructured.Unstructured) int {
		if c := cmp.Compare(a.GetKind(), b.GetKind()); c != 0 {
			return c
		}
		if a.GetKind() == "Deployment" {
			return cmp.Compare(place[a.GetName()], place[b.GetName()])
		}
		return cmp.Compare(a.GetName(), b.GetName())
	})
}
