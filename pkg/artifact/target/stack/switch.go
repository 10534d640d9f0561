package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/target/workload"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
	"homelab/pkg/rollout"
	"homelab/pkg/stack"
	"homelab/pkg/stack/apply"
	"homelab/pkg/ui"
)

// lockEvery is how often it is looked whether somebody still writes.
const lockEvery = 200 * time.Millisecond

// plan is a switch as it was judged.
type plan struct {
	applied stack.Applied
	compose bool
	live    map[string]string // what every container is made of
	image   string            // what this one is made of
	ref     string            // what it is to be made of
	images  map[string]string // all that no file says, with it
}

// judge says whether s may be made, ownership and way back aside. It reads, and
// changes nothing.
func (t *Target) judge(ctx context.Context, w Stack, s artifact.Switch) (plan, stack.Located, error) {
	loc, a, err := t.located(ctx, w)
	if err != nil {
		return plan{}, loc, err
	}
	p := plan{applied: a, compose: composed(loc)}
	if p.live, err = t.present(ctx, w, loc, a, s.Back); err != nil {
		return p, loc, err
	}
	p.image = p.live[t.s.Container]
	if p.ref = s.To.Ref; p.ref == "" && s.Back {
		p.ref = workload.Reference(p.image, s.To.ID) // the present repository it will be
	}
	if s.To.ID == "" || workload.Pinned(p.ref) != s.To.ID {
		return p, loc, hold(artifact.Preflight, "%s does not name the digest %s", p.ref, s.To.ID)
	}
	have, want := rollout.ParseReference(p.image).Repo, rollout.ParseReference(p.ref).Repo
	if have != want && !s.AllowRepositoryChange && !s.Back {
		return p, loc, hold(artifact.Repository, "container %s of %s runs an image of %s, not of %s; --allow-repository-change allows it", t.s.Container, t.s.Dir, have, want)
	}
	p.images = t.with(p.live, loc, p.ref)
	return p, loc, nil
}

// present are the references that the stack's containers are made of now. What
// is there decides, not what was written last: whoever wrote may have been
// killed before that was recorded. A Deployment that is paused is held, unless
// the way is back: it will still lead there.
func (t *Target) present(ctx context.Context, w Stack, loc stack.Located, a stack.Applied, back bool) (map[string]string, error) {
	out := map[string]string{}
	if composed(loc) {
		_, all, err := t.services(ctx, w, a, nil)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if len(s.Runs) > 0 {
				out[s.Name] = s.Runs[0].Image
			}
		}
		return out, nil
	}
	_, c, err := t.reach(ctx, w, loc)
	if err != nil {
		return nil, err
	}
	differ := map[string]bool{}
	for _, wl := range loc.Workloads {
		d, err := t.deployment(ctx, c, loc.Deployment.Namespace, wl.Name)
		if f, ok := errors.AsType[*artifact.Failure](err); ok && f.Class == artifact.Absent && wl.Name != loc.Workload {
			continue
		}
		if err != nil {
			return nil, err
		}
		if wl.Name == loc.Workload && d.Paused && !back {
			return nil, hold(artifact.WorkloadHeld, "deployment %s/%s is paused", loc.Deployment.Namespace, wl.Name)
		}
		for _, k := range d.Template.Containers {
			if was, twice := out[k.Name]; twice && was != k.Image {
				differ[k.Name] = true
			}
			out[k.Name] = k.Image
		}
	}
	if out[t.s.Container] == "" {
		return nil, hold(artifact.Preflight, "deployment %s/%s has no container %s yet; try: homelab deployment update --dir %s",
			loc.Deployment.Namespace, loc.Workload, t.s.Container, t.s.Dir)
	}
	maps.DeleteFunc(out, func(name, _ string) bool { return differ[name] }) // no override can say it
	return out, nil
}

// deployment reads one as it is now; one that is being deleted is gone.
func (t *Target) deployment(ctx context.Context, c stack.Cluster, ns, name string) (rollout.Target, error) {
	what := "deployment " + ns + "/" + name
	o, err := c.Get(ctx, kube.Apps("deployments"), ns, name)
	switch {
	case ctx.Err() != nil:
		return rollout.Target{}, context.Cause(ctx)
	case kube.IsAbsent(err):
		return rollout.Target{}, t.stopped(&artifact.Failure{Class: artifact.Absent, What: "there is no " + what, Err: err})
	case kube.IsDenied(err):
		return rollout.Target{}, &artifact.Failure{Class: artifact.Denied, What: ui.Clean(err.Error()), Err: err}
	case err != nil:
		return rollout.Target{}, t.forget(&artifact.Failure{Class: artifact.Transient, What: ui.Clean(err.Error()), Err: err})
	}
	d, err := rollout.DecodeTarget(rollout.Deployment, o.Raw)
	switch {
	case err != nil:
		return d, &artifact.Failure{Class: artifact.Transient, What: what + " cannot be read: " + ui.Clean(err.Error()), Err: err}
	case d.Terminating():
		return d, t.stopped(&artifact.Failure{Class: artifact.Absent, What: what + " is being deleted"})
	}
	return d, nil
}

// with are the images that a run has to be told, so that the container gets ref
// and every other keeps what it has, whatever the files say by now.
func (t *Target) with(live map[string]string, loc stack.Located, ref string) map[string]string {
	out := map[string]string{}
	for _, wl := range loc.Workloads {
		for name, says := range wl.Images {
			if is := live[name]; is != "" && is != says {
				out[name] = is
			}
		}
	}
	out[t.s.Container] = ref
	return out
}

// Stage implements artifact.Target. What is asked is what the update will ask:
// the same guards, and the server's own dry run.
func (t *Target) Stage(ctx context.Context, s artifact.Switch) (artifact.Stage, error) {
	var st artifact.Stage
	w, err := t.d.Stack(&story{})
	if err != nil {
		return st, t.failure(ctx, err)
	}
	if err := t.unlocked(ctx, w, s.Deadline); err != nil {
		return st, err
	}
	p, loc, err := t.judge(ctx, w, s)
	if err != nil {
		return st, err
	}
	warning, err := t.wayBack(ctx, p, s)
	if err != nil {
		return st, err
	}
	if warning != "" {
		st.Warnings = append(st.Warnings, warning)
	}
	if needs(p, s) && !t.inHistory(p) {
		if err := t.recordable(ctx, w, p, loc); err != nil {
			return artifact.Stage{}, err
		}
	}
	out, err := w.Preview(ctx, t.options(p.images))
	if err != nil {
		return artifact.Stage{}, t.failure(ctx, err)
	}
	if owners := t.losers(out.Plan, loc); len(owners) > 0 {
		owner := strings.Join(owners, ", ")
		if !s.TakeOwnership {
			return artifact.Stage{}, &artifact.Failure{
				Class: artifact.Owned, Owner: owner,
				What: owner + " owns the image of container " + t.s.Container + " of " + t.s.Dir + "; --take-ownership takes it, once",
			}
		}
		st.Owner = owner
	}
	if more := t.beside(out.Plan, loc); len(more) > 0 {
		st.Warnings = append(st.Warnings, "the files in "+t.s.Dir+" say more than what runs, and the switch applies that too: "+strings.Join(more, ", "))
	}
	return st, nil
}

// unlocked waits until nobody writes to the directory, as whoever wants to write
// to it does: what it looks like meanwhile is nobody's decision.
func (t *Target) unlocked(ctx context.Context, w Stack, until time.Time) error {
	told := false
	for {
		who, err := w.Writer(t.s.Dir)
		switch {
		case err != nil:
			return t.failure(ctx, err)
		case who == "":
			return nil
		case !until.After(t.d.Now()):
			return &artifact.Failure{Class: artifact.Later, What: t.s.Dir + " is locked by " + who}
		case !told:
			t.d.Tell("waiting for " + who)
		}
		told = true
		if err := poll.Sleep(ctx, lockEvery); err != nil {
			return context.Cause(ctx)
		}
	}
}

// image is the path of the field that is switched, as plans write it.
func (t *Target) image() string { return "spec.template.spec.containers[" + t.s.Container + "].image" }

// losers are the field managers that set the container's image to something
// else, and would lose it.
func (t *Target) losers(p *apply.Plan, loc stack.Located) []string {
	var out []string
	for _, c := range p.Update {
		for _, x := range c.Taken {
			if c.Kind == "Deployment" && c.Name == loc.Workload && x.Path == t.image() && !slices.Contains(out, ui.Clean(x.Manager)) {
				out = append(out, ui.Clean(x.Manager))
			}
		}
	}
	return out
}

// beside is what else a plan changes than the container's image.
func (t *Target) beside(p *apply.Plan, loc stack.Located) []string {
	var out []string
	for _, c := range slices.Concat(p.Create, p.Update, p.Replace, p.Delete) {
		own := c.Kind == "Deployment" && c.Name == loc.Workload || composed(loc) && c.Kind == "Service" && c.Name == t.s.Container
		if own && !slices.ContainsFunc(c.Fields, func(f apply.Field) bool {
			return f.Path != t.image() && f.Path != "image" && !strings.HasPrefix(f.Path, "metadata.annotations")
		}) {
			continue
		}
		out = append(out, ui.Clean(c.String()))
	}
	return out
}

// needs reports whether s must leave a way back.
func needs(p plan, s artifact.Switch) bool { return s.From != nil && !s.NoRollback && !p.compose }

// wayBack proves that the image that runs could be pulled again.
func (t *Target) wayBack(ctx context.Context, p plan, s artifact.Switch) (warning string, err error) {
	if s.From == nil || s.NoRollback {
		return "", nil
	}
	t.mu.Lock()
	gone := t.missing
	t.mu.Unlock()
	warning, gone, err = workload.WayBack(ctx, t.d.Registry, t.ran(p.image, s), s.From.ID, gone)
	t.mu.Lock()
	t.missing = gone
	t.mu.Unlock()
	return warning, err
}

// inHistory reports whether what runs is what the history ends with.
func (t *Target) inHistory(p plan) bool {
	r := p.applied.Revision
	if r == nil {
		return false
	}
	for name, image := range r.Images {
		if is := p.live[name]; is != "" && is != image {
			return false
		}
	}
	return r.Images[t.s.Container] == p.image
}

// recordable proves that what runs can be recorded before it is replaced: it is
// what the files say, but for images.
func (t *Target) recordable(ctx context.Context, w Stack, p plan, loc stack.Located) error {
	out, err := w.Preview(ctx, t.options(t.with(p.live, loc, p.image)))
	if err != nil {
		return t.failure(ctx, err)
	}
	var other []string
	for _, c := range slices.Concat(out.Plan.Create, out.Plan.Update, out.Plan.Replace, out.Plan.Delete) {
		if len(c.Fields) == 0 || slices.ContainsFunc(c.Fields, func(f apply.Field) bool { return !strings.HasPrefix(f.Path, "metadata.annotations") }) {
			other = append(other, ui.Clean(c.String()))
		}
	}
	if len(other) == 0 {
		return nil
	}
	return hold(artifact.NoWayBack, "what runs is not in the history of %s, and its files say something else (%s): there would be no way back; try: homelab deployment update --dir %s",
		t.s.Dir, strings.Join(other, ", "), t.s.Dir)
}

// recordFirst writes what runs into the history: an update that changes nothing.
func (t *Target) recordFirst(ctx context.Context, w Stack, p plan, loc stack.Located, s artifact.Switch) error {
	if err := t.recordable(ctx, w, p, loc); err != nil {
		return err
	}
	t.d.Tell("recording what runs, which the history of " + t.s.Dir + " does not end with")
	bound, cancel, o := t.bounded(ctx, s, t.with(p.live, loc, p.image))
	defer cancel()
	if _, err := w.Update(bound, o); err != nil {
		return t.failure(ctx, err)
	}
	return nil
}

// ran is the reference by which what ran comes back.
func (t *Target) ran(image string, s artifact.Switch) string {
	switch s.From.ID {
	case workload.Pinned(image):
		return image
	case workload.Pinned(s.From.Ref):
		return s.From.Ref
	}
	return workload.Reference(image, s.From.ID)
}

// bounded is ctx with the time of s, and the options of its run.
func (t *Target) bounded(ctx context.Context, s artifact.Switch, images map[string]string) (context.Context, context.CancelFunc, stack.Options) {
	o := t.options(images)
	if s.Deadline.IsZero() {
		bound, cancel := context.WithCancel(ctx)
		return bound, cancel, o
	}
	o.Deadline = s.Deadline
	bound, cancel := context.WithDeadlineCause(ctx, s.Deadline, fault.ErrTimeUp)
	return bound, cancel, o
}

// Activate implements artifact.Target: the update, with everything that it
// waits for. What its rollout comes to is told; Ready judges it.
func (t *Target) Activate(ctx context.Context, s artifact.Switch) error {
	tell := &story{tell: t.d.Tell}
	w, err := t.d.Stack(tell)
	if err != nil {
		return t.failure(ctx, err)
	}
	p, loc, err := t.judge(ctx, w, s)
	if err != nil {
		return err
	}
	if needs(p, s) && !t.inHistory(p) && p.image != p.ref {
		if err := t.recordFirst(ctx, w, p, loc, s); err != nil {
			return err
		}
		if p, _, err = t.judge(ctx, w, s); err != nil {
			return err
		}
	}
	bound, cancel, o := t.bounded(ctx, s, p.images)
	defer cancel()
	o.Admit = func() error { return t.admit(bound, w, p, s) }
	o.Planned = t.note
	out, err := w.Update(bound, o)
	switch {
	case err == nil:
		if out.Kind != fault.OK {
			t.d.Tell(ui.Clean("the rollout: " + out.Reason))
		}
		return nil
	case !tell.wrote():
		return t.failure(ctx, err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	f := &artifact.Failure{Class: artifact.Failed, What: sentence(err), Err: err}
	if fault.KindOf(err) == fault.Unreachable {
		f.Class = artifact.Transient
	}
	return f
}

// admit records what there is to go back to, with the directory's lock in hand.
func (t *Target) admit(ctx context.Context, w Stack, p plan, s artifact.Switch) error {
	now, err := w.Applied(ctx, t.s.Dir)
	if err != nil {
		return t.failure(ctx, err)
	}
	if number(now.Revision) != number(p.applied.Revision) || !maps.Equal(now.Overrides, p.applied.Overrides) {
		return &artifact.Failure{Class: artifact.Later, What: "somebody has written to " + t.s.Dir + " meanwhile"}
	}
	rec := &record{
		At: t.d.Now().UTC().Round(time.Second), Attempt: s.Attempt, To: s.To.ID, ToRef: p.ref, Dir: t.s.Dir,
		Spec: now.Spec, Stack: now.Stack, Overrides: now.Overrides, Revision: number(now.Revision),
	}
	if now.Revision != nil {
		rec.Content = now.Revision.Content
	}
	if s.From != nil {
		rec.From, rec.FromRef = s.From.ID, t.ran(p.image, s)
	}
	if was, err := t.recorded(); err == nil && was != nil && was.Attempt == rec.Attempt && was.To == rec.To && was.From == rec.From {
		if t.begun(was, now) {
			return nil // the same attempt once more: what it began with is not there to be seen
		}
		rec.Changes = was.Changes // it may have written some of that
	}
	if p.compose {
		rec.Kept = "watch-" + t.s.Container
		if err := w.KeepAside(t.s.Dir, rec.Kept); err != nil {
			return t.failure(ctx, err)
		}
	}
	if err := t.keep(rec); err != nil {
		return &artifact.Failure{Class: artifact.Transient, What: "what there is to go back to cannot be recorded: " + err.Error(), Err: err}
	}
	return nil
}

// begun reports whether what was written last is the switch that was recorded.
func (t *Target) begun(rec *record, now stack.Applied) bool {
	if r := now.Revision; r != nil {
		return r.Verb == verb && r.Images[t.s.Container] == rec.ToRef
	}
	return now.Overrides[t.s.Container] == rec.ToRef
}

func number(r *stack.Revision) int {
	if r == nil {
		return 0
	}
	return r.Number
}

// ours reports whether what was written last is what was recorded, or what
// watches made of it since: nobody else has brought the deployment to another
// state. Who has, is by: a watch of another container may have written after
// them.
func (t *Target) ours(rec *record, now stack.Applied) (by *stack.Revision, ok bool) {
	r := now.Revision
	if r == nil {
		return nil, rec.Revision == 0
	}
	if r.Number == rec.Revision {
		return r, r.Content == rec.Content || rec.Content == ""
	}
	if image := r.Images[t.s.Container]; r.Verb != verb || image != rec.ToRef && image != rec.FromRef {
		return r, false
	}
	for i := range now.Before {
		b := &now.Before[i]
		if b.Number > rec.Revision && b.Verb != verb || b.Number == rec.Revision && rec.Content != "" && b.Content != rec.Content {
			return b, false
		}
	}
	return nil, true
}

// note adds to the record what else the switch will change: whoever goes on with
// it after it was cut off looks at that too.
func (t *Target) note(p *apply.Plan) error {
	failed := func(err error) error {
		return &artifact.Failure{Class: artifact.Transient, What: "what the switch changes cannot be recorded: " + err.Error(), Err: err}
	}
	rec, err := t.recorded()
	if err != nil {
		return failed(err)
	}
	if rec == nil || p == nil {
		return nil
	}
	n := len(rec.Changes)
	for _, c := range slices.Concat(p.Create, p.Update, p.Replace) {
		if (c.Kind == "Deployment" || c.Kind == "Service" && rec.Kept != "") && !slices.Contains(rec.Changes, c.Name) {
			rec.Changes = append(rec.Changes, c.Name)
		}
	}
	if len(rec.Changes) == n {
		return nil
	}
	if err := t.keep(rec); err != nil {
		return failed(err)
	}
	return nil
}

// Rollback implements artifact.Target: what was recorded, with the digest that
// ran. Other containers keep the images that they were given since by watches
// of their own.
func (t *Target) Rollback(ctx context.Context, s artifact.Switch) error {
	failed := func(err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &artifact.Failure{Class: artifact.Failed, What: sentence(err), Err: err}
	}
	w, err := t.d.Stack(&story{tell: t.d.Tell})
	if err != nil {
		return failed(err)
	}
	rec, err := t.recorded()
	if err == nil && (rec == nil || rec.From != s.To.ID || rec.FromRef == "") {
		err = errors.New("what to go back to was not recorded: the switch had not begun")
	}
	if err != nil {
		return failed(err)
	}
	loc, a, err := t.located(ctx, w)
	if err != nil {
		return failed(err)
	}
	if err := t.unmoved(rec, a); err != nil {
		return failed(err)
	}
	live, err := t.present(ctx, w, loc, a, true)
	if err != nil {
		return failed(err)
	}
	images := map[string]string{} // every other container keeps what it has
	for _, wl := range loc.Workloads {
		for name := range wl.Images {
			if is := live[name]; is != "" {
				images[name] = is
			}
		}
	}
	images[t.s.Container] = rec.FromRef
	bound, cancel, o := t.bounded(ctx, s, images)
	defer cancel()
	o.Admit = func() error {
		now, err := w.Applied(bound, t.s.Dir)
		if err != nil {
			return err
		}
		return t.unmoved(rec, now)
	}
	var out *stack.Outcome
	if composed(loc) {
		out, err = w.BringBack(bound, o, rec.Kept)
	} else {
		out, err = w.Rollback(bound, o, rec.Revision)
	}
	if err != nil {
		return failed(err)
	}
	if out.Kind != fault.OK {
		t.d.Tell(ui.Clean("the rollout: " + out.Reason))
	}
	return nil
}

// unmoved refuses to go back over what somebody else has done since.
func (t *Target) unmoved(rec *record, now stack.Applied) error {
	r, ok := t.ours(rec, now)
	if ok {
		return nil
	}
	who, next := "somebody", "homelab deployment history --dir "+t.s.Dir
	if r != nil {
		who = fmt.Sprintf("homelab deployment %s (revision %d)", r.Verb, r.Number)
		if rec.Revision > 0 {
			next = fmt.Sprintf("homelab deployment rollback %d --dir %s", rec.Revision, t.s.Dir)
		}
	}
	return fault.New(fault.Unsafe, who+" has changed what is deployed since the switch", next).
		Because(fmt.Sprintf("what was recorded (%s) cannot be put back without undoing that", rec))
}

// String is what was recorded, for people.
func (r *record) String() string {
	var parts []string
	if r.Revision > 0 {
		parts = append(parts, fmt.Sprintf("revision %d", r.Revision))
	}
	if r.Stack.Commit != "" {
		parts = append(parts, "stack at "+r.Stack.Commit.Short())
	}
	return strings.Join(append(parts, ui.Clean(r.FromRef)), ", ")
}
