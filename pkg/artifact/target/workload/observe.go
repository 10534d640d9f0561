package workload

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/kube"
	"homelab/pkg/registry"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
)

// registryWithin bounds what an observation asks registries for: more digests
// than one may have to be looked up.
const registryWithin = 20 * time.Second

// RevisionKey is the pod template's annotation that names an image's commit.
const RevisionKey = "homelab/revision"

// Observe implements artifact.Target.
func (t *Target) Observe(ctx context.Context, known []artifact.ID) (artifact.Observation, error) {
	t.mu.Lock()
	t.known = slices.Clone(known)
	t.mu.Unlock()
	w, err := t.get(ctx)
	if err != nil {
		return artifact.Observation{}, err
	}
	if _, ok := t.s.container(w); !ok {
		return artifact.Observation{}, &artifact.Failure{Class: artifact.Absent, What: t.noContainer(w)}
	}
	return t.see(ctx, w, known)
}

// see tells what C runs in w: the digest its template is pinned to, also before
// its first pod is there, as a rollout runs what it leads to; else the one its
// pods show.
func (t *Target) see(ctx context.Context, w rollout.Target, known []artifact.ID) (artifact.Observation, error) {
	c, ok := t.s.container(w)
	if !ok {
		return artifact.Observation{Sight: artifact.Unknown, Why: t.noContainer(w)}, nil
	}
	o := artifact.Observation{Sight: artifact.Runs, Owner: t.s.stranger(w), Commit: commit(w)}
	running, why, err := t.running(ctx, w, c)
	if err != nil {
		return artifact.Observation{}, err
	}
	return t.identify(ctx, o, c.Image, running, why, known)
}

// Identify tells which artifact a container is that was made of an image and
// shows these digests, each once; none: it shows nothing yet. No cluster is
// asked.
func (t *Target) Identify(ctx context.Context, image string, running, known []artifact.ID) (artifact.Observation, error) {
	return t.identify(ctx, artifact.Observation{Sight: artifact.Runs}, image, running, "", known)
}

// identify completes o. why is why nothing is known of what is running.
func (t *Target) identify(ctx context.Context, o artifact.Observation, image string, running []artifact.ID, why string, known []artifact.ID) (artifact.Observation, error) {
	ask, done := context.WithTimeout(ctx, registryWithin)
	defer done()
	var id artifact.ID
	if pin := pinned(image); pin != "" {
		id = t.pinnedTo(ask, pin, running, image, known)
	} else if why == "" {
		id, why = t.tagged(ask, running, image, known)
	}
	switch {
	case ctx.Err() != nil:
		return artifact.Observation{}, context.Cause(ctx)
	case id == "":
		return artifact.Observation{Sight: artifact.Unknown, Owner: o.Owner, Why: why}, nil
	}
	o.ID, o.Ref = id, reference(image, id)
	return o, nil
}

// pinnedTo is what a template pinned to a digest runs: that, under the name it
// is known by, unless its pods are seen to run what is no part of it.
func (t *Target) pinnedTo(ctx context.Context, pin artifact.ID, running []artifact.ID, image string, known []artifact.ID) artifact.ID {
	for _, r := range running {
		if r == pin {
			continue
		}
		// Without the registry's answer the template is believed: nothing else is
		// pulled for a digest.
		i, why := t.resolve(ctx, repository(image)+"@"+string(pin))
		if why == "" && !i.Has(string(r)) {
			id, _ := t.name(ctx, r, image, known)
			return id
		}
	}
	id, _ := t.name(ctx, pin, image, known)
	return id
}

// tagged is what a template runs whose tag may have moved since: what its pods
// show, or before they show anything what the tag serves. why is why it cannot
// be told.
func (t *Target) tagged(ctx context.Context, running []artifact.ID, image string, known []artifact.ID) (id artifact.ID, why string) {
	for _, r := range running {
		got, doubt := t.name(ctx, r, image, known)
		switch {
		case doubt != "":
			return "", doubt
		case id != "" && id != got:
			return "", "its pods run different images, " + id.Short() + " and " + got.Short()
		}
		id = got
	}
	if id != "" {
		return id, ""
	}
	i, why := t.resolve(ctx, image)
	if why != "" {
		return "", why
	}
	for _, k := range known {
		if i.Has(string(k)) {
			return k, ""
		}
	}
	return artifact.ID(i.Digest), ""
}

// reference is what is kept of an image that runs, to write it again: the
// digest in the template's repository. A tag that can move says nothing of
// what ran under it, and is left out.
func reference(image string, id artifact.ID) string {
	tag := rollout.ParseReference(strings.SplitN(image, "@", 2)[0])
	if tag.Tag == "" || tag.Mutable() {
		return repository(image) + "@" + string(id)
	}
	return repository(image) + ":" + tag.Tag + "@" + string(id)
}

// commit is the commit the template names; "" none, or none that is one.
func commit(w rollout.Target) string {
	v := w.Template.Annotations[RevisionKey]
	if regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`).MatchString(v) {
		return v
	}
	return ""
}

// running is every digest that C's pods of the present template show, each
// once. None and no why: no pod has told one yet.
func (t *Target) running(ctx context.Context, w rollout.Target, c rollout.Container) (ids []artifact.ID, why string, err error) {
	mine, written := func(p rollout.Pod) bool { return p.Owner.UID == w.UID }, true
	if w.Kind == rollout.Deployment {
		set, err := t.revision(ctx, w)
		switch {
		case kube.IsDenied(err):
			// By the image's text alone, which tells less where a tag moved.
			mine = func(p rollout.Pod) bool {
				return p.Owner.Kind == "ReplicaSet" && strings.HasPrefix(p.Owner.Name, w.Name+"-")
			}
		case err != nil:
			return nil, "", t.failure(ctx, err)
		default:
			// What is written in the pod does not matter: something between may have
			// changed it.
			mine, written = func(p rollout.Pod) bool { return set != "" && p.Owner.UID == set }, false
		}
	}
	items, _, err := t.d.Cluster.List(ctx, kube.Core("pods"), t.s.Namespace, kube.Query{Labels: w.Selector.String(), Keep: func(o *kube.Object) bool {
		p, err := rollout.DecodePod(o.Raw)
		if err != nil || !p.Active() || !w.Selector.Matches(p.Labels) || !mine(p) {
			return false
		}
		o.Value, o.Raw = p, nil
		return true
	}})
	switch {
	case kube.IsDenied(err) && pinned(c.Image) != "":
		return nil, "", nil // the template says it all
	case kube.IsDenied(err):
		return nil, "what its pods run may not be read: " + ui.Clean(err.Error()), nil
	case err != nil:
		return nil, "", t.failure(ctx, err)
	}
	for _, o := range items {
		p, _ := o.Value.(rollout.Pod)
		for _, k := range p.Containers {
			if k.Name != c.Name || k.Init || written && k.Image != c.Image {
				continue
			}
			id, err := artifact.ParseID(rollout.ParseImageID(k.ImageID).Digest)
			if err == nil && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, "", nil
}

// revision is the UID of the ReplicaSet of the Deployment's present template;
// "" while there is none.
func (t *Target) revision(ctx context.Context, w rollout.Target) (uid string, err error) {
	oldest := rollout.ReplicaSet{}
	_, _, err = t.d.Cluster.List(ctx, kube.Apps("replicasets"), t.s.Namespace, kube.Query{Labels: w.Selector.String(), Keep: func(o *kube.Object) bool {
		rs, err := rollout.DecodeReplicaSet(o.Raw)
		if err == nil && rs.Owner.UID == w.UID && rs.Template.Hash == w.Template.Hash &&
			(oldest.UID == "" || rs.Created.Before(oldest.Created)) { // of equal ones, as the controller
			oldest = rs
		}
		return false
	}})
	return oldest.UID, err
}

// name returns the name under which the digest that runs is known: itself, a
// known id whose image it belongs to (a node may show the digest of an index or
// of its child), or what the template's tag serves. doubt is why it cannot be
// told.
func (t *Target) name(ctx context.Context, running artifact.ID, image string, known []artifact.ID) (id artifact.ID, doubt string) {
	if slices.Contains(known, running) || t.d.Registry == nil {
		return running, ""
	}
	repo := repository(image)
	for _, k := range known {
		if !strings.HasPrefix(string(k), "sha256:") {
			continue
		}
		i, err := t.d.Registry.Resolve(ctx, repo+"@"+string(k))
		switch {
		case i.Has(string(running)):
			return k, ""
		case err != nil && !absent(err):
			doubt = "whether " + running.Short() + " belongs to " + k.Short() + " cannot be told: " + ui.Clean(err.Error())
		}
	}
	if pinned(image) == "" {
		// The source will name it by what the tag serves, an index for instance.
		if i, why := t.resolve(ctx, image); why == "" && i.Has(string(running)) {
			return artifact.ID(i.Digest), ""
		}
	}
	return running, doubt
}

// resolve asks the registry what is behind a reference; why is what kept it
// from telling.
func (t *Target) resolve(ctx context.Context, ref string) (i registry.Image, why string) {
	if t.d.Registry == nil {
		return i, "no registry is asked what " + ui.Clean(ref) + " is"
	}
	i, err := t.d.Registry.Resolve(ctx, ref)
	if err != nil || i.Digest == "" {
		why = "what " + ui.Clean(ref) + " is cannot be told"
		if err != nil {
			why += ": " + ui.Clean(err.Error())
		}
	}
	return i, why
}

// absent says that a registry answered and has no such image.
func absent(err error) bool {
	no, ok := errors.AsType[*registry.RefusedError](err)
	return ok && no.Absent()
}

func (t *Target) noContainer(w rollout.Target) string {
	var have []string
	for _, c := range w.Template.Containers {
		if !c.Init {
			have = append(have, ui.Clean(c.Name))
		}
	}
	return t.s.object() + " has no container " + t.s.Container + "; it has " + strings.Join(have, ", ")
}
