package stack

import (
	"context"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/kind"
)

// controller is what a run does about the cluster's ingress controller.
type controller struct {
	r       *run
	missing bool   // it is not there, and this run installs it
	from    string // the image that runs
	to      string // the image that should; "" leaves it alone
}

// controller decides what to do about the ingress controller. It is read now
// and written only after every guard has passed.
func (r *run) controller(ctx context.Context, install bool) (controller, error) {
	c := controller{r: r}
	if r.d.Spec.Target != file.Kind {
		return c, nil
	}
	o, err := r.c.Get(ctx, kube.Apps("deployments"), kind.CaddyNamespace, kind.CaddyName)
	switch {
	case kube.IsAbsent(err):
		c.missing = install && r.o.Mode != kind.Skip
		if c.missing && r.d.Spec.CaddyImage != "" {
			r.scope.NamespaceAnnotations = map[string]string{kind.CaddyAnnotation: r.d.Spec.CaddyImage}
		}
		if !c.missing && len(r.d.Spec.Proxies) > 0 {
			r.notices([]file.Notice{{
				Code: "no-ingress-controller", Level: file.Warning, File: r.d.Spec.File, Key: "network.http-proxy",
				Message: "the cluster has no ingress controller: the hosts of http-proxy lead nowhere",
			}})
		}
		return c, nil
	case err != nil:
		return c, told("the ingress controller cannot be looked at", err)
	}
	want := r.d.Spec.CaddyImage
	if want == "" {
		return c, nil
	}
	u, err := decode(o)
	if err != nil {
		return c, err
	}
	c.from = firstImage(u)
	if c.from != want {
		c.to = want
	}
	r.scope.NamespaceAnnotations = map[string]string{kind.CaddyAnnotation: want}
	return c, r.disputed(ctx, want)
}

// disputed warns when another deployment of the cluster wants another image:
// the last start wins for all.
func (r *run) disputed(ctx context.Context, want string) error {
	items, _, err := r.c.List(ctx, kube.Core("namespaces"), "", kube.Query{})
	if err != nil {
		return told("the namespaces of the cluster cannot be listed", err)
	}
	for _, o := range items {
		u, err := decode(o)
		if err != nil {
			return err
		}
		a := u.GetAnnotations()
		other := a[kind.CaddyAnnotation]
		if dir := a[apply.AnnotationDir]; u.GetName() != r.scope.Namespace && dir != "" {
			if d, _, err := file.Load(dir, r.w.Files); err == nil && d.Spec.CaddyImage != "" {
				other = d.Spec.CaddyImage // what its next start will want
			}
		}
		if u.GetName() != r.scope.Namespace && other != "" && other != want {
			r.notices([]file.Notice{{
				Code: "ingress-image-disputed", Level: file.Warning, File: r.d.Spec.File, Key: "caddy-ingress-image",
				Message: "namespace " + u.GetName() + " wants the ingress controller " + other + ", this one " + want + ": the last start wins for the whole cluster",
			}})
		}
	}
	return nil
}

func firstImage(u *unstructured.Unstructured) string {
	list, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			if image, ok := m["image"].(string); ok {
				return image
			}
		}
	}
	return ""
}

// install makes the ingress controller what it should be, and waits for it.
func (c controller) install(ctx context.Context) error {
	switch {
	case c.missing:
		return c.fresh(ctx)
	case c.to != "":
		return c.change(ctx)
	}
	return nil
}

// fresh installs the whole of it; certificates of an earlier cluster come
// first, or the controller would ask for new ones.
func (c controller) fresh(ctx context.Context) error {
	r := c.r
	spec := r.d.Spec
	before, after, err := kind.CaddyObjects(kind.Controller{Image: spec.CaddyImage, Email: spec.ACMEEmail, Backup: spec.KindMountRoot != ""})
	if err != nil {
		return err
	}
	if spec.KindMountRoot != "" {
		raw, err := os.ReadFile(filepath.Join(spec.KindMountRoot, kind.CaddyBackupFile))
		if err == nil {
			restored, err := kind.RestoredSecrets(raw)
			if err != nil {
				return fault.New(fault.Conflict, "the backup of the ingress certificates cannot be read", "").Because(err.Error()).From(err)
			}
			before = append(before, restored...)
		}
	}
	r.w.Tell.Line("installing the ingress controller")
	if err := r.put(ctx, append(before, after...)); err != nil {
		return told("the ingress controller could not be installed", err)
	}
	return c.ready(ctx)
}

// change gives the running controller another image.
func (c controller) change(ctx context.Context) error {
	c.r.w.Tell.Line("Updating Caddy ingress image: " + c.from + " -> " + c.to + " (expect brief ingress downtime)")
	if err := patch(ctx, c.r.c, kube.Apps("deployments"), kind.CaddyNamespace, kind.CaddyName, map[string]any{
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{
			map[string]any{"name": kind.CaddyName, "image": c.to, "imagePullPolicy": "Always"},
		}}}},
	}); err != nil {
		return told("the ingress controller could not be changed", err)
	}
	return c.ready(ctx)
}

// ready waits until the controller runs as it was written.
func (c controller) ready(ctx context.Context) error {
	image := c.r.d.Spec.CaddyImage
	if image == "" {
		image = kind.CaddyImage
	}
	if c.r.o.NoWait {
		return nil
	}
	v := rollout.Wait(ctx, c.r.c, []rollout.Config{{
		Kind: rollout.Deployment, Namespace: kind.CaddyNamespace, Name: kind.CaddyName,
		Images: map[string]string{kind.CaddyName: image}, Deadline: c.r.o.Deadline,
	}}, rollout.Sources{}, func(_ int, v rollout.Verdict) { c.r.w.Tell.Line("ingress controller: " + v.Sentence) })[0]
	if v.Outcome == rollout.Ready {
		return nil
	}
	return fault.New(rollout.KindOf(v.Outcome, context.Cause(ctx)), "the ingress controller is not ready", v.Next).Because(v.Sentence)
}
