package stack

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

// Pushed is an image of this machine and what it is in the registry.
type Pushed struct{ Local, Remote string }

// PushImages brings the images that were built here to the spec's registry,
// under the names that the deployment's pods pull. No cluster is asked.
func (w *World) PushImages(ctx context.Context, o Options) (*Outcome, error) {
	r, err := w.open(o)
	defer r.close()
	if err != nil {
		return r.out, err
	}
	if r.composed() {
		return r.out, fault.Usagef("", "push-images is not for deploy-to: compose").Because("this machine runs its own images")
	}
	if r.d.Spec.ImageRegistry == "" {
		return r.out, fault.Usagef("", "%s has no image-registry to push to", r.d.Spec.File)
	}
	all := pushes(r.rules, r.d.Spec, r.d.Deployment.ID)
	var lacking []string
	for _, p := range all {
		id, err := w.Docker.ImageID(ctx, p.Local)
		if err != nil {
			return r.out, err
		}
		if id == "" {
			lacking = append(lacking, p.Local)
		}
	}
	if len(lacking) > 0 {
		return r.out, fault.New(fault.Absent, "this machine has no "+orNone(lacking), "docker image ls").Because("they must be built before they are pushed")
	}
	for i, p := range all {
		if o.DryRun {
			w.Tell.Line("would push " + p.Local + " as " + p.Remote)
			continue
		}
		if i == 0 {
			w.Tell.Stage("push")
		}
		if err := w.Docker.Tag(ctx, p.Local, p.Remote); err != nil {
			return r.out, err
		}
		if err := w.Docker.Push(ctx, p.Remote); err != nil {
			return r.out, err
		}
		r.out.Pushed = append(r.out.Pushed, p)
		w.Tell.Line("Pushed " + p.Local + " as " + p.Remote)
	}
	r.out.Kind = fault.OK
	switch n := len(all); {
	case n == 0:
		r.out.Verdict, r.out.Reason = "same", "no image is tagged :local"
	case o.DryRun:
		r.out.Verdict, r.out.Reason, r.out.Pushed = "changes", fmt.Sprintf("would push %s to %s", images(n), r.d.Spec.ImageRegistry), all
	default:
		r.out.Verdict, r.out.Reason = "ok", fmt.Sprintf("pushed %s to %s", images(n), r.d.Spec.ImageRegistry)
	}
	return r.out, nil
}

func images(n int) string {
	if n == 1 {
		return "1 image"
	}
	return fmt.Sprintf("%d images", n)
}

// pushes lists what containers run that were built here, each once, by name.
func pushes(rules *render.Result, s *file.Spec, id string) []Pushed {
	var out []Pushed
	for _, ref := range slices.Sorted(maps.Keys(rules.Built)) {
		out = append(out, Pushed{ref, render.RegistryImage(ref, s.ImageRegistry, id)})
	}
	return out
}
