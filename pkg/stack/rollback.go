package stack

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

// Rollback brings a deployment back to a revision: its generated files into the
// directory, its objects to the cluster, and sees it up. number 0 is the last
// good one. Data, volumes and Secrets stay what they are, and no Job runs. Once
// something was written, a failure is of kind Unsafe.
func (w *World) Rollback(ctx context.Context, o Options, number int) (*Outcome, error) {
	r := w.run(o)
	defer r.close()
	d, _, err := file.Load(o.Dir, w.Files)
	if err != nil {
		return r.out, err
	}
	r.d = d
	r.identify()
	if r.composed() {
		return r.out, fault.Usagef("", "rollback is not supported with deploy-to: compose").Because("no revisions are recorded of it")
	}
	if _, err := revisionOf(r, number); err != nil {
		return r.out, err // before anything is waited for
	}
	if err := r.settled(ctx); err != nil {
		return r.out, err
	}
	if err := r.admit(); err != nil {
		return r.out, err
	}
	if r.d, _, err = file.Load(o.Dir, w.Files); err != nil {
		return r.out, err
	}
	rev, err := revisionOf(r, number)
	if err != nil {
		return r.out, err
	}
	if err := r.connect(ctx); err != nil {
		return r.out, err
	}
	r.left = r.leaving()
	if err := r.rollTo(ctx, rev); err != nil {
		return r.out, err
	}
	if r.out.Kind == fault.OK && r.out.Verdict == verdictUp {
		r.out.Reason = fmt.Sprintf("back at revision %d: %s", rev.Number, r.out.Reason)
	}
	return r.out, nil
}

func revisionOf(r *run, number int) (*Revision, error) {
	all, err := recordedIn(r.d.Path)
	if err != nil {
		return nil, err
	}
	return pick(all, number, r.source(), r.o.Dir)
}

// leaving is what is gone back from: what the directory says now.
func (r *run) leaving() *Left {
	l := &Left{Source: r.source(), Spec: r.out.Spec.Commit, Stack: r.out.Stack.Commit}
	all, err := recordedIn(r.d.Path)
	if err != nil {
		return l
	}
	for _, rev := range all {
		if rev.Source == l.Source && l.Source != "" {
			l.Number = rev.Number
			if l.Spec == "" && l.Stack == "" {
				l.Spec, l.Stack = rev.Spec.Commit, rev.Stack.Commit
			}
			break
		}
	}
	return l
}

// rollTo makes directory and cluster what a revision says. The lock is held and
// the cluster reached.
func (r *run) rollTo(ctx context.Context, rev *Revision) error {
	state, kept, err := rev.open(r.d.Path)
	if err != nil {
		return err
	}
	if err := override(state, r.o.Images); err != nil {
		return err
	}
	was := r.d
	r.revision, r.state0 = rev, state
	r.w.Tell.Line(fmt.Sprintf("going back to revision %d of %s", rev.Number, rev.Time.Format("2006-01-02 15:04:05Z07:00")))
	o := directory.Options{
		Dir: was.Path, DryRun: r.o.DryRun, NoHooks: true, Verb: "deployment " + r.o.Verb, Env: r.w.Files, Now: r.w.Now(), Random: rand.Reader,
		Render: func(*file.Directory, render.Options, render.Facts) (*render.Result, error) { return state, nil },
		Guard: func(next *file.Directory, machine render.Machine) error {
			if changed := elsewhere(was, next); len(changed) > 0 {
				return fault.New(fault.Conflict, fmt.Sprintf("revision %d was another deployment: %s", rev.Number, strings.Join(changed, "; ")), "").
					Because("what runs would be left behind")
			}
			r.d, r.machine = next, machine
			r.identify()
			r.out.Spec, r.out.Stack = rev.Spec, rev.Stack
			if r.rules, err = r.render(render.Facts{}); err != nil {
				return err
			}
			if err := r.read(ctx); err != nil {
				return err
			}
			if err := r.mounts(ctx); err != nil {
				return err
			}
			return r.aim(ctx)
		},
	}
	put, err := directory.PutBack(ctx, o, kept)
	if put != nil {
		r.notices(put.Notices)
	}
	if err != nil {
		return err
	}
	if err := r.loadUnlessDry(ctx); err != nil {
		return r.half(err)
	}
	if err := r.write(ctx); err != nil {
		return r.half(err)
	}
	switch r.out.Kind { //nolint:exhaustive // the others are all the same here
	case fault.OK, fault.Interrupted, fault.Terminated:
	default:
		return fault.New(fault.Unsafe, fmt.Sprintf("revision %d is applied and is not up", rev.Number), "homelab deployment status --dir "+r.o.Dir).
			Because(r.out.Reason)
	}
	return nil
}

func (r *run) loadUnlessDry(ctx context.Context) error {
	if r.o.DryRun {
		return nil
	}
	return r.loadImages(ctx)
}

// half says that a rollback was not finished: the files are those of the
// revision, what runs may be anything. Who ended the run is told as it is.
func (r *run) half(err error) error {
	if k := fault.KindOf(err); k == fault.Interrupted || k == fault.Terminated {
		return err
	}
	return fault.New(fault.Unsafe, fmt.Sprintf("going back to revision %d failed half way", r.revision.Number),
		fmt.Sprintf("homelab deployment rollback %d --dir %s", r.revision.Number, r.o.Dir)).Because(err.Error()).From(err)
}

// elsewhere lists what makes two directories different deployments.
func elsewhere(was, is *file.Directory) []string {
	var changed []string
	note := func(key, a, b string) {
		if a != b {
			changed = append(changed, fmt.Sprintf("%s was %s and is %s now", key, a, b))
		}
	}
	note("deploy-to", string(was.Spec.Target), string(is.Spec.Target))
	note("stack", was.Stack.Name, is.Stack.Name)
	note("the namespace", was.Namespace(), is.Namespace())
	if was.Spec.Target == file.Kind {
		note("the cluster", was.Cluster(), is.Cluster())
	}
	return changed
}

// bring is what a rollback wants: the revision's objects as they were applied,
// but for what it must not touch. Volumes and claims that are there stay as they
// are; Secrets come from the files that are put back, else stay; addresses are
// those of now; Jobs do not run again.
func (r *run) bring() (apply.Desired, error) {
	fresh := map[apply.Ref]*unstructured.Unstructured{}
	if r.fresh != nil {
		for _, o := range append(r.fresh.Objects, r.secrets.Objects...) {
			fresh[refOf(o)] = o
		}
	}
	var want apply.Desired
	for _, stored := range r.state0.Objects {
		o := stored.DeepCopy()
		ref := refOf(o)
		live := r.live.Objects[ref]
		switch ref.Kind {
		case "PersistentVolume", "PersistentVolumeClaim":
			if r.stands(ref) {
				continue
			}
		case "Job":
			if live == nil {
				continue
			}
		case "Endpoints":
			if now := fresh[ref]; now != nil {
				o = now
			}
		case "Secret":
			switch now := fresh[ref]; {
			case now != nil:
				o = now
			case live != nil:
				o.Object["data"] = live.Object["data"]
				if t, ok := live.Object["type"]; ok {
					o.Object["type"] = t
				}
			default:
				e := fault.New(fault.Denied, fmt.Sprintf("Secret %s of revision %d is gone, and its values are not recorded", ref.Name, r.revision.Number), "")
				if r.noSecrets != nil {
					return want, e.Because(r.noSecrets.Error()).From(r.noSecrets)
				}
				return want, e
			}
		}
		want.Objects = append(want.Objects, o)
	}
	return want, nil
}

// stands tells whether a volume or claim is live.
func (r *run) stands(ref apply.Ref) bool {
	list := r.live.Claims
	if ref.Kind == "PersistentVolume" {
		list = r.live.Volumes
	}
	for _, o := range list {
		if o.GetName() == ref.Name {
			return true
		}
	}
	return false
}

func refOf(o *unstructured.Unstructured) apply.Ref {
	return apply.Ref{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
}

// back goes back to the last good revision after a wait that failed. What it
// comes to is told with the failure: the run ends as failed, or as unsafe when
// going back failed as well.
func (r *run) back(ctx context.Context) error { //nolint:contextcheck // going back has a time of its own
	if !r.o.RollbackOnFailure || r.o.DryRun || r.out.Kind != fault.Failed && r.out.Kind != fault.Timeout {
		return nil
	}
	all, err := recordedIn(r.d.Path)
	if err != nil {
		return err
	}
	var rev *Revision
	for i := range all {
		if all[i].Good && all[i].Number != r.out.Revision {
			rev = &all[i]
			break
		}
	}
	if rev == nil {
		r.out.Reason += "; there is no good revision to go back to"
		return nil
	}
	if r.o.Anew != nil {
		again, cancel, deadline := r.o.Anew()
		defer cancel()
		ctx, r.o.Deadline = again, deadline
	}
	r.w.Tell.Stage("rollback")
	o := r.o
	o.Verb, o.Images, o.Recreate, o.WaitJobs, o.NoLoadImages = "rollback", nil, false, false, true
	o.Expected.Commit, o.Containers = "", nil
	b := r.w.run(o)
	b.d, b.c, b.journal, b.machine = r.d, r.c, r.journal, r.machine
	b.out.Context = r.out.Context
	b.left = r.leaving()
	err = b.rollTo(ctx, rev)
	r.notices(b.out.Notices)
	failed := r.out.Reason
	r.out.Revision = max(r.out.Revision, b.out.Revision)
	if err != nil {
		e := fault.New(fault.Unsafe, fmt.Sprintf("going back to revision %d failed as well", rev.Number),
			fmt.Sprintf("homelab deployment rollback %d --dir %s", rev.Number, r.o.Dir)).From(err)
		return e.Because(failed + "; then " + err.Error())
	}
	r.out.Kind, r.out.Verdict = fault.Failed, string(fault.Failed)
	r.out.Reason = fmt.Sprintf("%s; went back to revision %d, which is up", failed, rev.Number)
	r.out.Next = "homelab deployment history --dir " + r.o.Dir
	return nil
}
