package workload

import (
	"context"
	"errors"
	"strings"
	"sync"

	"homelab/pkg/artifact"
	"homelab/pkg/kube"
	"homelab/pkg/registry"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
)

// Cluster is all that is needed of an API server. *kube.Cluster is one.
type Cluster interface {
	rollout.Cluster
	Apply(ctx context.Context, r kube.Resource, ns, name string, body []byte, o kube.ApplyOptions) (kube.Object, error)
}

// Registry is all that is needed of the registries that images come from.
// *registry.Client is one.
type Registry interface {
	Resolve(ctx context.Context, ref string) (registry.Image, error)
	Answers(ctx context.Context, ref string) error
}

// Deps are what a Target works with. Without a Registry digests are compared as
// they are, and no way back is proved.
type Deps struct {
	Cluster  Cluster
	Registry Registry
}

// Target is one container of a workload, as artifacts are deployed to it.
type Target struct {
	s Spec
	d Deps

	mu     sync.Mutex
	known  []artifact.ID  // of the last Observe, for Watch
	took   bool           // the field was taken by force once; once is all
	before *before        // what the last Activate replaced
	gone   string         // the way back that the registry did not have
	look   artifact.ID    // what memory is about
	memory rollout.Memory // of the assessments of look
}

// before is what an activation replaced, as far as it must be put back.
type before struct {
	id       artifact.ID
	image    string // REPO@sha256:HEX; "" unknown
	revision string // the template's annotation; "" none
}

var (
	_ artifact.Target = (*Target)(nil)
	_ Cluster         = (*kube.Cluster)(nil)
	_ Registry        = (*registry.Client)(nil)
)

// New returns the target. Nothing is contacted.
func New(s Spec, d Deps) *Target { return &Target{s: s, d: d} }

// get reads the workload as it is now. One that is being deleted is gone. The
// error is *artifact.Failure or ctx's cause.
func (t *Target) get(ctx context.Context) (rollout.Target, error) {
	o, err := t.d.Cluster.Get(ctx, t.s.resource(), t.s.Namespace, t.s.Name)
	if err != nil {
		return rollout.Target{}, t.failure(ctx, err)
	}
	w, err := rollout.DecodeTarget(t.s.Kind, o.Raw)
	switch {
	case err != nil:
		return w, &artifact.Failure{Class: artifact.Transient, What: t.s.object() + " cannot be read: " + ui.Clean(err.Error()), Err: err}
	case w.Terminating():
		return w, &artifact.Failure{Class: artifact.Absent, What: t.s.object() + " is being deleted"}
	}
	return w, nil
}

// failure sorts an error of the API server that is no conflict.
func (t *Target) failure(ctx context.Context, err error) error {
	f := &artifact.Failure{Class: artifact.Transient, What: ui.Clean(err.Error()), Err: err}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case kube.IsAbsent(err):
		f.Class, f.What = artifact.Absent, "there is no "+t.s.object()
	case kube.IsDenied(err):
		f.Class = artifact.Denied
		if s, ok := errors.AsType[*kube.StatusError](err); ok && kube.IsForbidden(err) {
			verb := map[string]string{"apply": "patch"}[s.Verb]
			if verb == "" {
				verb = s.Verb
			}
			f.What += "; the role needs " + verb + " on " + s.Resource.String()
		}
	}
	if s, ok := errors.AsType[*kube.StatusError](err); ok {
		f.RetryAfter = s.RetryAfter
		if f.Class == artifact.Transient && s.Refused() {
			// The server understood and will not: a policy, a webhook, a value.
			f.Class, f.Why = artifact.Hold, artifact.Preflight
		}
	}
	return f
}

// repository is a reference without tag and digest, as it is written.
func repository(ref string) string {
	base, _, _ := strings.Cut(ref, "@")
	if tag := rollout.ParseReference(base).Tag; tag != "" {
		base = strings.TrimSuffix(base, ":"+tag)
	}
	return base
}

// pinned is the digest a reference is pinned to; "" none.
func pinned(ref string) artifact.ID {
	id, err := artifact.ParseID(rollout.ParseReference(ref).Digest)
	if err != nil {
		return ""
	}
	return id
}
