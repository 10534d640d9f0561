package stack

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/kind"
	"homelab/pkg/stack/render"
)

// StopOptions are what stop takes away beyond the workloads.
type StopOptions struct {
	Options
	Volumes   bool // claims and volumes of this deployment, and its generated secrets
	Namespace bool
}

// Stop takes a stack down. What its volumes hold stays unless it is told
// otherwise; what lies on a host always stays.
func (w *World) Stop(ctx context.Context, o StopOptions) (*Outcome, error) {
	r, err := w.openForStop(o.Options)
	defer r.close()
	if err != nil {
		return r.out, err
	}
	if err := r.settled(ctx); err != nil {
		return r.out, err
	}
	if err := r.take(w.openForStop(o.Options)); err != nil {
		return r.out, err
	}
	if r.composed() {
		return r.out, r.composeStop(ctx, o)
	}
	if err := r.connect(ctx); err != nil {
		if fault.KindOf(err) == fault.Absent {
			return r.out, r.stopped("the kind cluster " + r.d.Cluster() + " does not run: there is nothing to stop")
		}
		return r.out, err
	}
	if r.live, err = apply.Read(ctx, r.c, r.scope); err != nil {
		if r.w.gone(ctx, r.d, told("", err)) {
			return r.out, r.stopped("the kind cluster " + r.d.Cluster() + " does not run: there is nothing to stop")
		}
		return r.out, told("the cluster cannot be read", err)
	}
	plan, conflicts := apply.DeletePlan(r.live, r.scope, apply.DeleteOptions{Volumes: o.Volumes, Namespace: o.Namespace})
	if err := apply.Refusal(conflicts); err != nil {
		return r.out, err
	}
	r.plan = plan
	r.out.Plan = plan
	r.notices(plan.Notices)
	tenancy, err := r.tenancy(ctx, o)
	if err != nil {
		return r.out, err
	}
	end, err := kind.AtStop(o.Mode, tenancy, o.Force)
	if err != nil {
		return r.out, err
	}
	for _, text := range end.Warnings {
		r.notices([]file.Notice{{Code: "volume-goes-with-cluster", Level: file.Warning, File: r.d.Spec.File, Key: "volumes", Message: text}})
	}
	r.out.Volumes = fates(plan)
	if o.DryRun {
		return r.out, r.planned()
	}
	if err := r.delete(ctx, plan); err != nil {
		return r.out, err
	}
	if err := r.forgetPlaces(r.out.Volumes); err != nil {
		return r.out, err
	}
	text := "stopped; " + kept(r.out.Volumes)
	if r.d.Spec.Target == file.Kind && o.Mode != kind.Skip {
		if !end.Delete {
			r.w.Tell.Line("the kind cluster " + r.d.Cluster() + " stays: " + strings.Join(end.Reasons, "; ") + "; to delete it: kind delete cluster --name " + r.d.Cluster())
		} else {
			r.w.Tell.Line("deleting the kind cluster " + r.d.Cluster())
			if err := r.w.Engine.Delete(ctx, r.d.Cluster()); err != nil {
				return r.out, err
			}
			text += "; the kind cluster " + r.d.Cluster() + " is deleted"
		}
	}
	return r.out, r.stopped(text)
}

// openForStop reads the files. A stack whose compose files no longer render
// must still be stoppable: only what the deployment is called is needed.
func (w *World) openForStop(o Options) (*run, error) {
	r, err := w.open(o)
	if err == nil || r.d == nil || r.rules != nil {
		return r, err // nothing is wrong, or everything, or --strict refuses
	}
	r.notices([]file.Notice{{Code: "does-not-render", Level: file.Warning, File: r.o.Dir, Message: "its files cannot be rendered; it is stopped by its labels all the same"}})
	r.rules = &render.Result{}
	return r, nil
}

func (r *run) stopped(reason string) error {
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "stopped", reason
	return r.journal.Clear()
}

// delete sends the deletions and waits until everything is gone.
func (r *run) delete(ctx context.Context, plan *apply.Plan) error {
	if plan.Writes() == 0 && !r.cut {
		return nil
	}
	entry := r.entry()
	for _, c := range plan.Delete {
		entry.Deletions = append(entry.Deletions, c.String())
	}
	if err := r.journal.Write(entry); err != nil {
		return err
	}
	r.w.Tell.Stage("delete")
	held, release, _, err := r.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	return told("the stack is stopped in part; a repetition goes on from there", apply.Delete(held, r.c, plan, r.steps()))
}

func fates(plan *apply.Plan) []VolumeEnd {
	var out []VolumeEnd
	for _, f := range plan.Fates {
		place := "where its class keeps it"
		if f.Path != "" {
			place = f.Path
		}
		out = append(out, VolumeEnd{Volume: f.Volume, Claim: f.Claim, PV: f.PV, Place: place, Deleted: f.Deleted})
	}
	return out
}

// kept says in a few words what became of the volumes.
func kept(all []VolumeEnd) string {
	var stay, gone, data []string
	for _, v := range all {
		if v.Deleted {
			gone = append(gone, v.Volume)
			if filepath.IsAbs(v.Place) {
				data = append(data, v.Place)
			}
		} else {
			stay = append(stay, v.Volume)
		}
	}
	var parts []string
	if len(stay) > 0 {
		parts = append(parts, "kept volumes "+strings.Join(stay, ", "))
	}
	if len(gone) > 0 {
		text := "deleted volumes " + strings.Join(gone, ", ")
		if len(data) > 0 {
			text += " (the data in " + strings.Join(data, ", ") + " stays)"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "it had no volumes"
	}
	return strings.Join(parts, ", ")
}

// tenancy gathers who else lives in the kind cluster, and what would be lost
// with it.
func (r *run) tenancy(ctx context.Context, o StopOptions) (kind.Tenancy, error) {
	var t kind.Tenancy
	if r.d.Spec.Target != file.Kind || o.Mode == kind.Skip {
		return t, nil
	}
	fail := func(err error) (kind.Tenancy, error) {
		return t, told("it cannot be told who else uses the kind cluster "+r.d.Cluster(), err)
	}
	t.Named = kind.Named(r.d.Cluster(), r.d.Spec.KindClusterName)
	spaces, _, err := r.c.List(ctx, kube.Core("namespaces"), "", kube.Query{})
	if err != nil {
		return fail(err)
	}
	owned := map[string]bool{r.scope.Namespace: true, kind.CaddyNamespace: true, "local-path-storage": true}
	for _, s := range spaces {
		u, err := decode(s)
		if err != nil {
			return fail(err)
		}
		a := u.GetAnnotations()
		if u.GetName() == kubeSystem {
			_, t.Annotated = a[OurCluster]
		}
		if dir := a[apply.AnnotationDir]; dir != "" && u.GetName() != r.scope.Namespace {
			t.Others = append(t.Others, u.GetName()+" ("+dir+")")
		}
		if strings.HasPrefix(u.GetName(), "kube-") || a[apply.AnnotationDir] != "" {
			owned[u.GetName()] = true
		}
	}
	pods, _, err := r.c.List(ctx, kube.Core("pods"), "", kube.Query{})
	if err != nil {
		return fail(err)
	}
	for _, p := range pods {
		if !owned[p.Namespace] || p.Namespace == r.scope.Namespace && p.Labels[apply.LabelApp] != r.scope.ID && p.Labels[apply.LabelApp] != r.scope.ID+"-job" {
			t.Foreign = append(t.Foreign, p.Namespace+"/"+p.Name)
		}
	}
	if err := r.localVolumes(ctx, o, &t); err != nil {
		return fail(err)
	}
	if err := r.certificatesWithoutBackup(ctx, &t); err != nil {
		return fail(err)
	}
	return t, nil
}

// localVolumes finds volumes whose data is inside a node: those a class made,
// and those whose path no mount leads out of the node.
func (r *run) localVolumes(ctx context.Context, o StopOptions, t *kind.Tenancy) error {
	nodes, err := r.w.Engine.Nodes(ctx, r.d.Cluster())
	if err != nil {
		return err
	}
	for _, v := range r.live.Volumes {
		own := v.GetLabels()[apply.LabelApp] == r.scope.ID || claimIn(v, r.scope.Namespace)
		if own && o.Volumes {
			continue // it goes on purpose
		}
		if outside(nodes, hostPath(v)) {
			continue
		}
		name := v.GetName()
		if own {
			t.OwnLocal = append(t.OwnLocal, name)
		}
		t.NodeLocal = append(t.NodeLocal, name)
	}
	return nil
}

// certificatesWithoutBackup finds certificates that a new cluster would have to
// ask for again.
func (r *run) certificatesWithoutBackup(ctx context.Context, t *kind.Tenancy) error {
	secrets, _, err := r.c.List(ctx, kube.Core("secrets"), kind.CaddyNamespace, kube.Query{Labels: kind.CaddySelector})
	if err != nil {
		return err
	}
	if len(secrets) == 0 {
		return nil
	}
	_, err = r.c.Get(ctx, kube.Batch("cronjobs"), kind.CaddyNamespace, kind.CaddyBackup)
	if err == nil {
		return nil
	}
	if !kube.IsAbsent(err) {
		return err
	}
	for _, s := range secrets {
		t.Certs = append(t.Certs, s.Name)
	}
	slices.Sort(t.Certs)
	return nil
}
