package apply

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// DeletePlan says what stop deletes and what becomes of each volume, or why it
// must not. It is pure. By default the namespace, claims, volumes and generated
// secrets stay.
func DeletePlan(live *Live, s Scope, o DeleteOptions) (*Plan, []Conflict) {
	p := &Plan{Create: []Change{}, Update: []Change{}, Replace: []Change{}, Delete: []Change{}, scope: s}
	conflicts := guardDelete(live, s, o)
	if len(conflicts) > 0 {
		return p, conflicts
	}
	add := func(o *unstructured.Unstructured) {
		p.Delete = append(p.Delete, Change{Ref: s.ref(o)})
		p.steps = append(p.steps, action{
			Step: Step{Action: Deleted, Ref: s.ref(o), Line: "Deleted " + s.ref(o).String()}, uid: string(o.GetUID()),
		})
	}
	order := []string{"Ingress", "Deployment", "Job", "Service", "ConfigMap", "Secret", "Endpoints"}
	refs := slices.SortedFunc(maps.Keys(live.Objects), func(a, b Ref) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(a.Name, b.Name))
	})
	generated := s.own("Secret", s.ID+"-generated-secrets")
	for _, r := range refs {
		x := live.Objects[r]
		if slices.Contains(order, r.Kind) && r.Namespace == s.Namespace && r != generated && x.GetLabels()[LabelApp] == s.ID && !derived(x) {
			add(x)
		}
	}
	for _, pod := range live.Pods {
		if metav1.GetControllerOf(pod) == nil {
			add(pod) // what a Deployment or Job owns goes with it
		}
	}
	if o.Volumes {
		p.blind = live.missed["PersistentVolume"]
		for _, claim := range live.Claims {
			if claim.GetLabels()[LabelApp] == s.ID {
				add(claim)
			}
		}
		if x := live.Objects[generated]; x != nil {
			add(x)
		}
		for _, v := range live.Volumes {
			if ours(v, s) {
				add(v)
			}
		}
	}
	for _, pod := range live.Pods {
		if metav1.GetControllerOf(pod) != nil {
			p.steps = append(p.steps, action{Step: Step{Action: Awaited, Ref: s.ref(pod)}, uid: string(pod.GetUID())})
		}
	}
	if o.Namespace && live.Namespace != nil {
		add(live.Namespace)
	}
	p.Fates = fates(live, s, o)
	return p, nil
}

// guardDelete says why nothing may be deleted.
func guardDelete(live *Live, s Scope, o DeleteOptions) []Conflict {
	ns := live.Namespace
	if ns == nil {
		return nil
	}
	r := Ref{Kind: "Namespace", Name: s.Namespace}
	dir := ns.GetAnnotations()[AnnotationDir]
	if dir != "" && dir != s.Dir && !s.AdoptNamespace {
		return []Conflict{{
			Code: "namespace-owner", Object: r,
			Message: fmt.Sprintf("namespace %s belongs to the deployment in %s, this one is in %s", s.Namespace, dir, s.Dir),
			Fix:     []string{"homelab deployment stop --dir " + quote(dir)},
		}}
	}
	if !o.Namespace {
		return nil
	}
	refuse := func(code, format string, args ...any) []Conflict {
		return []Conflict{{Code: code, Object: r, Message: fmt.Sprintf(format, args...), Fix: []string{"leave --delete-namespace out"}}}
	}
	switch {
	case s.Namespace == "default" || strings.HasPrefix(s.Namespace, "kube-"):
		return refuse("namespace-system", "namespace %s is the cluster's own and is never deleted", s.Namespace)
	case dir != s.Dir || !made(ns):
		return refuse("namespace-foreign", "namespace %s was not made by this deployment", s.Namespace)
	}
	for _, claim := range live.Claims {
		mine := claim.GetLabels()[LabelApp] == s.ID
		v := live.volume(text(claim, "spec", "volumeName"))
		switch {
		case !mine:
			return refuse("namespace-shared", "namespace %s holds claim %s, which is not this deployment's", s.Namespace, claim.GetName())
		case !o.Volumes && text(claim, "spec", "volumeName") != "" && (v == nil || text(v, "spec", "persistentVolumeReclaimPolicy") != "Retain"):
			return refuse("volume-loss", "deleting namespace %s would delete the data of %s; --delete-volumes says that it may go",
				s.Namespace, claim.GetName())
		}
	}
	if !o.Volumes && live.Objects[s.own("Secret", s.ID+"-generated-secrets")] != nil {
		return refuse("secret-loss", "deleting namespace %s would delete the generated secrets; --delete-volumes says that they may go", s.Namespace)
	}
	return nil
}

// made says that the namespace was made for this deployment: by us, who mark
// it, or by the legacy client, to whom the server gave the name's label.
func made(ns *unstructured.Unstructured) bool {
	return ns.GetLabels()[LabelManagedBy] == Manager || owns(ns, isLegacy, "metadata", "labels", "kubernetes.io/metadata.name")
}

// fates says of each volume of the deployment what becomes of it.
func fates(live *Live, s Scope, o DeleteOptions) []Fate {
	byName := map[string]*Fate{}
	fate := func(name string) *Fate {
		if byName[name] == nil {
			byName[name] = &Fate{Volume: strings.TrimPrefix(name, s.ID+"-")}
		}
		return byName[name]
	}
	for _, claim := range live.Claims {
		if claim.GetLabels()[LabelApp] != s.ID {
			continue
		}
		f := fate(claim.GetName())
		f.Claim, f.PV, f.Deleted = claim.GetName(), text(claim, "spec", "volumeName"), o.Volumes
		f.Path = hostPath(live.volume(f.PV))
	}
	for _, v := range live.Volumes {
		if ours(v, s) {
			f := fate(v.GetName())
			f.PV, f.Path, f.Deleted = v.GetName(), hostPath(v), o.Volumes
		}
	}
	out := []Fate{}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, *byName[name])
	}
	return out
}

// Delete sends the deletions of a DeletePlan in order, and waits until all is
// gone. When ctx's time is up first the error is a *fault.Error of kind Timeout
// naming the objects that are left and their finalizers; else as Apply's.
func Delete(ctx context.Context, c Client, p *Plan, o Options) error {
	if p.blind != nil {
		return failed(ctx, p.blind, "reading the volumes to delete")
	}
	w, err := newWriter(c, p.scope, o)
	if err != nil {
		return err
	}
	var gone []action
	for _, a := range p.steps {
		if a.Kind == "Namespace" {
			// Nothing may be left in it that was to be waited for.
			if err := w.await(ctx, gone); err != nil {
				return err
			}
			gone = nil
		}
		if a.Action == Deleted {
			if err := w.do(ctx, a); err != nil {
				return err
			}
		}
		gone = append(gone, a)
	}
	return w.await(ctx, gone)
}
