package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"homelab/pkg/artifact"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
)

// tries is how often a write is prepared anew because the object was changed
// between the look and the write.
const tries = 5

// Stage implements artifact.Target. The dry run is the very write that Activate
// makes, so the server's answer holds for permissions, ownership and policies.
func (t *Target) Stage(ctx context.Context, s artifact.Switch) (artifact.Stage, error) {
	var st artifact.Stage
	err := t.insist(ctx, func(w rollout.Target) error {
		st = artifact.Stage{}
		if err := t.judge(w, s); err != nil {
			return err
		}
		warning, err := t.wayBack(ctx, w, s)
		if err != nil {
			return err
		}
		if warning != "" {
			st.Warnings = append(st.Warnings, warning)
		}
		return t.write(ctx, w, s, true, &st)
	})
	if err != nil {
		return artifact.Stage{}, err
	}
	return st, nil
}

// Activate implements artifact.Target.
func (t *Target) Activate(ctx context.Context, s artifact.Switch) error {
	return t.insist(ctx, func(w rollout.Target) error {
		if err := t.judge(w, s); err != nil {
			return err
		}
		was := t.remember(ctx, w, s)
		var st artifact.Stage
		err := t.write(ctx, w, s, false, &st)
		if err == nil {
			t.mu.Lock()
			t.before, t.took = was, t.took || st.Owner != ""
			t.mu.Unlock()
		}
		return err
	})
}

// Rollback implements artifact.Target. It writes as Activate does, whatever
// else has happened to the workload meanwhile: paused, it will still lead there.
func (t *Target) Rollback(ctx context.Context, s artifact.Switch) error {
	s.Back, s.TakeOwnership = true, false // nothing is taken to go back
	return t.insist(ctx, func(w rollout.Target) error {
		if _, ok := t.s.container(w); !ok {
			return hold(artifact.Preflight, "%s", t.noContainer(w))
		}
		var st artifact.Stage
		return t.write(ctx, w, s, false, &st)
	})
}

// insist reads the workload and calls f on it, again whenever f's write met an
// object that was changed since.
func (t *Target) insist(ctx context.Context, f func(rollout.Target) error) error {
	var err error
	for range tries {
		w, getErr := t.get(ctx)
		if getErr != nil {
			return getErr
		}
		if err = f(w); err == nil || !kube.IsConflict(err) {
			return err
		}
	}
	return &artifact.Failure{Class: artifact.Later, What: fmt.Sprintf("%s was changed by others %d times while it was looked at", t.s.object(), tries), Err: err}
}

func hold(why artifact.Why, format string, args ...any) error {
	return &artifact.Failure{Class: artifact.Hold, Why: why, What: fmt.Sprintf(format, args...)}
}

// judge says whether s may be written into w, ownership aside.
func (t *Target) judge(w rollout.Target, s artifact.Switch) error {
	c, ok := t.s.container(w)
	if !ok {
		// An apply with a name that is not there would add a container.
		return hold(artifact.Preflight, "%s", t.noContainer(w))
	}
	switch {
	case w.Paused:
		return hold(artifact.WorkloadHeld, "%s is paused", t.s.object())
	case w.Strategy == rollout.OnDelete:
		return hold(artifact.Preflight, "%s updates its pods only when they are deleted (OnDelete)", t.s.object())
	case s.To.Ref == "" && s.Back:
		return nil // the present repository it will be
	case pinned(s.To.Ref) != s.To.ID || s.To.ID == "":
		return hold(artifact.Preflight, "%s does not name the digest %s", ui.Clean(s.To.Ref), s.To.ID)
	}
	have, want := rollout.ParseReference(c.Image).Repo, rollout.ParseReference(s.To.Ref).Repo
	if have != want && !s.AllowRepositoryChange && !s.Back {
		return hold(artifact.Repository, "container %s runs an image of %s, not of %s; --allow-repository-change allows it", t.s.Container, ui.Clean(have), ui.Clean(want))
	}
	return nil
}

// Reference is what is written of an image that ran under id in image's
// repository: the digest, with the tag if that does not move.
func Reference(image string, id artifact.ID) string { return reference(image, id) }

// Pinned is the digest that a reference is pinned to; "" none.
func Pinned(ref string) artifact.ID { return pinned(ref) }

// wayBack proves that what runs could be pulled again.
func (t *Target) wayBack(ctx context.Context, w rollout.Target, s artifact.Switch) (warning string, err error) {
	if s.From == nil || s.NoRollback {
		return "", nil
	}
	c, _ := t.s.container(w)
	image := s.From.Ref
	if image == "" {
		image = c.Image
	}
	t.mu.Lock()
	gone := t.gone
	t.mu.Unlock()
	warning, gone, err = WayBack(ctx, t.d.Registry, image, s.From.ID, gone)
	t.mu.Lock()
	t.gone = gone
	t.mu.Unlock()
	return warning, err
}

// WayBack proves that an image of which the digest ran could be pulled again.
// The error is an *artifact.Failure when the registry has it no more, and ctx's
// cause; what cannot be told is a warning. r may be nil. gone is what the call
// before returned as missing, "" at first: what a silent registry last said
// stands.
func WayBack(ctx context.Context, r Registry, image string, id artifact.ID, gone string) (warning, missing string, err error) {
	ref := repository(image) + "@" + string(id)
	if r == nil {
		return "whether " + ref + ", the way back, is still there was not asked: there is no registry to ask", gone, nil
	}
	err = r.Answers(ctx, ref)
	switch {
	case ctx.Err() != nil:
		return "", gone, context.Cause(ctx)
	case err == nil:
		return "", "", nil
	case absent(err):
		return "", ref, hold(artifact.NoWayBack, "%s runs and the registry does not have it (any more): there would be no way back", ui.Clean(ref))
	case gone == ref:
		return "", gone, hold(artifact.NoWayBack, "%s runs and the registry did not have it when it last answered: there would be no way back; now %s", ui.Clean(ref), ui.Clean(err.Error()))
	default:
		return "whether " + ui.Clean(ref) + ", the way back, is still there cannot be told: " + ui.Clean(err.Error()), gone, nil
	}
}

// remember notes what an activation is about to replace. Only the digest that
// runs is a way back, in the repository it was pulled from.
func (t *Target) remember(ctx context.Context, w rollout.Target, s artifact.Switch) *before {
	b := &before{revision: w.Template.Annotations[RevisionKey]}
	if s.From == nil {
		return b
	}
	c, _ := t.s.container(w)
	t.mu.Lock()
	was := t.before
	t.mu.Unlock()
	if was != nil && was.id == s.From.ID && pinned(c.Image) == s.To.ID {
		return was // the same switch once more: what was replaced is not there to be seen
	}
	b.id = s.From.ID
	if o, err := t.see(ctx, w, []artifact.ID{s.From.ID}); err == nil && o.Is(s.From.ID) {
		b.image = reference(c.Image, s.From.ID)
	}
	return b
}

// image is the reference and the annotation that s writes; revision "" writes
// none, and takes away one that this watch wrote.
func (t *Target) image(w rollout.Target, s artifact.Switch) (image, revision string) {
	c, _ := t.s.container(w)
	t.mu.Lock()
	was := t.before
	t.mu.Unlock()
	image = s.To.Ref
	put := s.Back && was != nil && was.id == s.To.ID
	if pinned(image) != s.To.ID {
		image = reference(c.Image, s.To.ID)
		if put && was.image != "" {
			image = was.image
		}
	}
	if put {
		return image, was.revision
	}
	revision = s.To.Meta.Commit
	_, written := w.Template.Annotations[RevisionKey]
	if !written && carried(image, revision) {
		revision = ""
	}
	return image, revision
}

// carried reports whether the tag of an image names the commit.
func carried(image, commit string) bool {
	tag := rollout.ParseReference(strings.SplitN(image, "@", 2)[0]).Tag
	return commit == "" || rollout.Carries(tag, commit)
}

// write applies the image of s to w, or tries to with dry. A conflict with the
// object's version is returned as it is; everything else as *artifact.Failure.
// Who lost the field goes into st.
func (t *Target) write(ctx context.Context, w rollout.Target, s artifact.Switch, dry bool, st *artifact.Stage) error {
	image, revision := t.image(w, s)
	err := t.apply(ctx, w, image, revision, kube.ApplyOptions{DryRun: dry})
	owners, shared := split(kube.Owners(err))
	if shared != "" {
		// The annotation speaks for the whole pod and another watch writes it: it
		// keeps it.
		st.Warnings = append(st.Warnings, "the annotation "+RevisionKey+" is left to "+shared)
		revision = ""
		if len(owners) == 0 {
			err = t.apply(ctx, w, image, revision, kube.ApplyOptions{DryRun: dry})
			owners, _ = split(kube.Owners(err))
		}
	}
	if len(owners) > 0 {
		t.mu.Lock()
		took := t.took
		t.mu.Unlock()
		owner := strings.Join(owners, ", ")
		if !s.TakeOwnership || took {
			return t.owned(owner, took)
		}
		err = t.apply(ctx, w, image, revision, kube.ApplyOptions{DryRun: dry, Force: true})
		if err == nil {
			st.Owner = owner
			st.Warnings = append(st.Warnings, again(owners, w)...)
		}
	}
	if err == nil || kube.IsConflict(err) {
		return err
	}
	return t.failure(ctx, err)
}

func (t *Target) owned(owner string, took bool) error {
	f := &artifact.Failure{
		Class: artifact.Owned, Owner: owner,
		What: owner + " owns the image of container " + t.s.Container + " of " + t.s.object() + "; --take-ownership takes it, once",
	}
	if took {
		f.What = owner + " took the image of container " + t.s.Container + " of " + t.s.object() + " back; it is not taken a second time"
	}
	return f
}

// apply sends the patch. It is bound to the version of the object that was
// judged, and to its UID: a version alone would not keep a deleted object from
// being made anew.
func (t *Target) apply(ctx context.Context, w rollout.Target, image, revision string, o kube.ApplyOptions) error {
	type object = map[string]any
	template := object{"spec": object{"containers": []any{object{"name": t.s.Container, "image": image}}}}
	if revision != "" {
		template["metadata"] = object{"annotations": object{RevisionKey: revision}}
	}
	body, err := json.Marshal(object{
		"apiVersion": "apps/v1", "kind": t.s.kind(),
		"metadata": object{"name": t.s.Name, "namespace": t.s.Namespace, "uid": w.UID, "resourceVersion": w.ResourceVersion},
		"spec":     object{"template": template},
	})
	if err != nil {
		return err
	}
	o.Manager = t.s.Manager()
	_, err = t.d.Cluster.Apply(ctx, t.s.resource(), t.s.Namespace, t.s.Name, body, o)
	return err
}

// split separates the owners of what is written, each once, from another watch
// that has only the annotation.
func split(causes []kube.Cause) (owners []string, shared string) {
	for _, c := range causes {
		owner := manager(c.Message)
		if strings.Contains(c.Field, RevisionKey) && strings.HasPrefix(owner, managers) {
			shared = owner
			continue
		}
		if !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	return owners, shared
}

// manager reads who a conflict is with: `conflict with "keel" using apps/v1`.
func manager(message string) string {
	if _, rest, ok := strings.Cut(message, `"`); ok {
		if name, _, ok := strings.Cut(rest, `"`); ok && name != "" {
			return ui.Clean(name)
		}
	}
	return "somebody else"
}

// again warns of owners that write what their own source says, over and over.
func again(owners []string, w rollout.Target) []string {
	var tools []string
	add := func(tool string) {
		if !slices.Contains(tools, tool) {
			tools = append(tools, tool)
		}
	}
	for _, o := range owners {
		lower := strings.ToLower(o)
		for _, known := range []struct{ part, tool string }{
			{"helm-controller", "Flux"},
			{"kustomize-controller", "Flux"},
			{"flux", "Flux"},
			{"helm", "Helm"},
			{"terraform", "Terraform"},
			{"tofu", "Terraform"},
			{"keel", "Keel"},
			{"argocd", "Argo CD"},
			{"argo-cd", "Argo CD"},
		} {
			if strings.Contains(lower, known.part) {
				add(known.tool)
				break
			}
		}
	}
	for key := range w.Annotations {
		domain, _, _ := strings.Cut(key, "/")
		switch {
		case domain == "argocd.argoproj.io":
			add("Argo CD")
		case strings.HasSuffix(domain, ".fluxcd.io"):
			add("Flux")
		}
	}
	for key := range w.Labels {
		if domain, _, _ := strings.Cut(key, "/"); strings.HasSuffix(domain, ".fluxcd.io") {
			add("Flux")
		}
	}
	slices.Sort(tools)
	var out []string
	for _, tool := range tools {
		out = append(out, tool+" loses the image of this container, and writes its own again whenever it applies: take it out of what it applies")
	}
	return out
}
