package render

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"

	"homelab/pkg/stack/file"
)

// RegistryImage returns the reference a locally built image has in a registry:
// x/name:local becomes REGISTRY/name:deploy- and the last eight characters of
// the deployment's id. Every other reference, and any with no registry, comes
// back as it is. What pushes images names them with the same function.
func RegistryImage(ref, registry, id string) string {
	base, ok := strings.CutSuffix(ref, ":local")
	if !ok || registry == "" {
		return ref
	}
	return strings.TrimRight(registry, "/") + "/" + base[strings.LastIndexByte(base, '/')+1:] + ":deploy-" + id[max(0, len(id)-8):]
}

// image returns what a container runs.
func (r *renderer) image(p *pod, s *service) string {
	for _, from := range []map[string]string{r.o.Images, r.d.Spec.ImageOverrides} {
		for _, key := range slices.Sorted(maps.Keys(from)) {
			if dns(key) == s.container {
				return r.reference(p, s, from[key])
			}
		}
	}
	if s.cfg.Image == "" {
		r.refuse(p, s, "image", "a service needs an image: nothing is built here")
		return ""
	}
	ref := RegistryImage(s.cfg.Image, r.d.Spec.ImageRegistry, r.id())
	if ref != s.cfg.Image {
		if r.result.Built == nil {
			r.result.Built = map[string]bool{}
		}
		r.result.Built[s.cfg.Image] = true
	}
	return r.reference(p, s, ref)
}

// reference refuses what no registry could be asked for.
func (r *renderer) reference(p *pod, s *service, ref string) string {
	if _, err := name.ParseReference(ref, name.WeakValidation); err != nil {
		r.refuse(p, s, "image", "%q is no image reference", ref)
	}
	return ref
}

// unknownContainers refuses settings for containers that do not exist.
func (r *renderer) unknownContainers() {
	known := map[string]bool{}
	for p := range r.each() {
		for _, s := range p.services {
			known[s.container] = true
		}
	}
	names := strings.Join(slices.Sorted(maps.Keys(known)), ", ")
	for _, c := range slices.Sorted(maps.Keys(r.d.Spec.ImageOverrides)) {
		if !known[dns(c)] {
			r.refuseSpec("image-overrides."+c, r.spot("image-overrides."+c), "there is no container %q: the containers are %s", c, names)
		}
	}
	for _, c := range slices.Sorted(maps.Keys(r.o.Images)) {
		if !known[dns(c)] {
			r.c.problem(Problem{Key: "--image", Message: "there is no container \"" + c + "\": the containers are " + names})
		}
	}
	for _, c := range slices.Sorted(maps.Keys(r.d.Spec.ContainerResources)) {
		if !known[dns(c)] {
			r.tellSpec(file.Ignored, "resources-container", "resources.containers."+c, r.spot("resources.containers."+c),
				"there is no container %q: its resources have no effect", c)
		}
	}
}

// pull returns when a node asks the registry for an image.
func (r *renderer) pull(p *pod) corev1.PullPolicy {
	if p.job && !r.v2() {
		return "" // the API's own default
	}
	standard := "Always"
	if r.d.Spec.Target == file.Kind {
		standard = "IfNotPresent" // most images are loaded into the node
	}
	return corev1.PullPolicy(cmp.Or(r.d.Spec.PullPolicy, standard))
}
