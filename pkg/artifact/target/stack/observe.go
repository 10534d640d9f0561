package stack

import (
	"context"
	"errors"
	"slices"
	"strings"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/target/workload"
	"homelab/pkg/rollout"
	"homelab/pkg/stack"
	"homelab/pkg/ui"
)

// Observe implements artifact.Target: what the container's pods, or containers,
// run.
func (t *Target) Observe(ctx context.Context, known []artifact.ID) (artifact.Observation, error) {
	w, err := t.d.Stack(&story{})
	if err != nil {
		return artifact.Observation{}, t.failure(ctx, err)
	}
	loc, a, err := t.located(ctx, w)
	if err != nil {
		return artifact.Observation{}, err
	}
	if composed(loc) {
		o, _, err := t.services(ctx, w, a, known)
		return o, err
	}
	in, _, err := t.reach(ctx, w, loc)
	if err != nil {
		return artifact.Observation{}, err
	}
	o, err := in.Observe(ctx, known)
	return o, t.stopped(t.forget(err))
}

// stopped says what it means that a Deployment is not there.
func (t *Target) stopped(err error) error {
	if f, ok := errors.AsType[*artifact.Failure](err); ok && f.Class == artifact.Absent {
		return &artifact.Failure{Class: artifact.Absent, Err: err, What: t.s.Dir + " is not deployed: " + f.Error() + "; try: homelab deployment start --dir " + t.s.Dir}
	}
	return err
}

// services looks at a deployment to compose: what the container runs, and all
// of its services.
func (t *Target) services(ctx context.Context, w Stack, a stack.Applied, known []artifact.ID) (artifact.Observation, []stack.Service, error) {
	all, err := w.Services(ctx, t.options(a.Overrides))
	if err != nil {
		return artifact.Observation{}, nil, t.failure(ctx, err)
	}
	i := slices.IndexFunc(all, func(s stack.Service) bool { return s.Name == t.s.Container })
	if i < 0 || len(all[i].Runs) == 0 {
		return artifact.Observation{}, all, &artifact.Failure{
			Class: artifact.Absent,
			What:  "nothing of service " + t.s.Container + " of " + t.s.Dir + " is there; try: homelab deployment start --dir " + t.s.Dir,
		}
	}
	o, err := t.identify(ctx, all[i].Runs, known)
	return o, all, err
}

// identify tells what the containers of a service run.
func (t *Target) identify(ctx context.Context, runs []stack.Instance, known []artifact.ID) (artifact.Observation, error) {
	var first artifact.Observation
	names := workload.New(workload.Spec{}, workload.Deps{Registry: t.d.Registry})
	for i, r := range runs {
		ids := digests(r, known)
		if len(ids) == 0 && workload.Pinned(r.Image) == "" {
			return artifact.Observation{Sight: artifact.Unknown, Why: r.Name + " runs an image that no registry has given a name: it was built or loaded here"}, nil
		}
		o, err := names.Identify(ctx, r.Image, ids, known)
		switch {
		case err != nil:
			return artifact.Observation{}, err
		case o.Sight != artifact.Runs:
			return o, nil
		case i == 0:
			first = o
		case o.ID != first.ID:
			return artifact.Observation{Sight: artifact.Unknown, Why: "its containers run different images, " + first.ID.Short() + " and " + o.ID.Short()}, nil
		}
	}
	return first, nil
}

// digests are those by which the repository of its reference knows what a
// container runs. One image may have several, of an index and of its child: one
// that is known, or that it was pinned to, says it all.
func digests(r stack.Instance, known []artifact.ID) []artifact.ID {
	repo := rollout.ParseReference(r.Image).Repo
	var ids []artifact.ID
	for _, d := range r.Digests {
		id := workload.Pinned(d)
		if id == "" || rollout.ParseReference(d).Repo != repo {
			continue
		}
		if id == workload.Pinned(r.Image) || slices.Contains(known, id) {
			return []artifact.ID{id}
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Watch tells saw what the container runs whenever that changes, as a workload
// does; on compose nobody tells, and looking now and then is all there is.
func (t *Target) Watch(ctx context.Context, saw func(artifact.Observation)) error {
	w, err := t.d.Stack(&story{})
	if err != nil {
		return t.failure(ctx, err)
	}
	loc, _, err := t.located(ctx, w)
	if err != nil {
		return err
	}
	if composed(loc) {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	in, _, err := t.reach(ctx, w, loc)
	if err != nil {
		return err
	}
	return in.Watch(ctx, saw)
}

// Ready implements artifact.Target: the rollout of the container's Deployment,
// and of every other that the switch has changed; on compose the services.
func (t *Target) Ready(ctx context.Context, s artifact.Switch) (artifact.Readiness, error) {
	w, err := t.d.Stack(&story{})
	if err != nil {
		return workload.NotRead(ctx, t.failure(ctx, err))
	}
	loc, a, err := t.located(ctx, w)
	if err != nil {
		return workload.NotRead(ctx, err)
	}
	if composed(loc) {
		return t.servicesReady(ctx, w, a, s)
	}
	in, cluster, err := t.reach(ctx, w, loc)
	if err != nil {
		return workload.NotRead(ctx, err)
	}
	r, err := in.Ready(ctx, s)
	if err != nil || r.State != artifact.IsReady {
		if r.State == artifact.Superseded && r.Owner == "" && a.Revision != nil && a.Revision.Verb != verb {
			r.Owner = "homelab deployment " + a.Revision.Verb
		}
		if r.State == artifact.NotAsked {
			_ = t.forget(&artifact.Failure{Class: artifact.Transient})
		}
		return r, err
	}
	return t.others(ctx, cluster, loc, s, r)
}

// changed are the Deployments, or services, beside the container's own that the
// switch to or from an artifact has changed.
func (t *Target) changed(s artifact.Switch) []string {
	rec, err := t.recorded()
	if err != nil || rec == nil || rec.To != s.To.ID && rec.From != s.To.ID {
		return nil
	}
	return rec.Changes
}

// others assesses the other Deployments that the switch has changed; r is what
// the container's own came to.
func (t *Target) others(ctx context.Context, c stack.Cluster, loc stack.Located, s artifact.Switch, r artifact.Readiness) (artifact.Readiness, error) {
	names := t.changed(s)
	if len(names) == 0 {
		return r, nil
	}
	t.mu.Lock()
	if t.look != s.To.ID || t.memories == nil {
		t.look, t.memories = s.To.ID, map[string]rollout.Memory{}
	}
	t.mu.Unlock()
	for _, wl := range loc.Workloads {
		if wl.Name == loc.Workload || !slices.Contains(names, wl.Name) {
			continue
		}
		cfg := rollout.Config{Kind: rollout.Deployment, Namespace: loc.Deployment.Namespace, Name: wl.Name, NoGate: true}
		t.mu.Lock()
		m := t.memories[wl.Name]
		t.mu.Unlock()
		v, m := rollout.Again(ctx, c, cfg, rollout.Sources{}, m)
		if ctx.Err() != nil {
			return artifact.Readiness{}, context.Cause(ctx)
		}
		t.mu.Lock()
		t.memories[wl.Name] = m
		t.mu.Unlock()
		if v.Outcome != rollout.Ready {
			return verdict(wl.Name, v), nil
		}
	}
	return r, nil
}

// verdict is what it means that something beside the container does not come up
// with it.
func verdict(name string, v rollout.Verdict) artifact.Readiness {
	r := artifact.Readiness{State: artifact.NotYet, Reason: ui.Clean(name + ": " + v.Sentence)}
	switch v.Outcome {
	case rollout.Failed:
		if v.Confirmed {
			r.State = artifact.NotReady
		}
	case rollout.Unreachable:
		r.State = artifact.NotAsked
	case rollout.Denied:
		r.State = artifact.Forbidden
	case rollout.Ready, rollout.Superseded, rollout.Paused, rollout.Absent, rollout.Pending, rollout.Timeout, rollout.Interrupted:
	}
	r.Evidence = evidence(r.Reason, v)
	return r
}

// evidence is what will be gone after a rollback.
func evidence(said string, v rollout.Verdict) []string {
	if v.Cause == nil {
		return nil
	}
	out := []string{said}
	if len(v.Cause.LogTail) > 0 {
		lines := make([]string, 0, len(v.Cause.LogTail))
		for _, l := range v.Cause.LogTail {
			lines = append(lines, ui.Clean(l))
		}
		out = append(out, "log of "+ui.Clean(v.Cause.Pod)+":\n"+strings.Join(lines, "\n"))
	}
	return out
}

// servicesReady looks once at how the services come up.
func (t *Target) servicesReady(ctx context.Context, w Stack, a stack.Applied, s artifact.Switch) (artifact.Readiness, error) {
	known := []artifact.ID{s.To.ID}
	if s.From != nil {
		known = append(known, s.From.ID)
	}
	o, all, err := t.services(ctx, w, a, known)
	switch {
	case err != nil:
		return workload.NotRead(ctx, err)
	case o.Sight == artifact.Unknown:
		return artifact.Readiness{State: artifact.NotYet, Reason: o.Why}, nil
	case !o.Is(s.To.ID):
		return artifact.Readiness{State: artifact.Superseded, Reason: "service " + t.s.Container + " of " + t.s.Dir + " runs " + o.String()}, nil
	}
	also := t.changed(s)
	for _, x := range all {
		if x.Name != t.s.Container && !slices.Contains(also, x.Name) || x.Verdict.Outcome == rollout.Ready {
			continue
		}
		r := artifact.Readiness{State: artifact.NotYet, Reason: ui.Clean(x.Name + " " + x.Verdict.Sentence), Evidence: evidence(x.Name+" "+x.Verdict.Sentence, x.Verdict)}
		if x.Verdict.Outcome == rollout.Failed {
			r.State = artifact.NotReady
		}
		return r, nil
	}
	return artifact.Readiness{State: artifact.IsReady, Proof: true}, nil
}
