package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/kind"
	"homelab/pkg/stack/render"
)

// Survival is what the data of a volume outlives.
type Survival string

// What data outlives. Whatever it is, pods may be restarted and the stack
// stopped.
const (
	SurvivesUnknown Survival = ""        // nothing is there yet, or its place is not known
	SurvivesStop    Survival = "stop"    // not the cluster: it lies inside a node of it
	SurvivesCluster Survival = "cluster" // also a new cluster: it lies on this host, or the nodes
	SurvivesClass   Survival = "class"   // what the storage class makes of it
)

// VolumeView is a volume as it really is.
type VolumeView struct {
	Volume    string // of the spec
	Namespace string // of the claim; "" when there is none
	Claim, PV string // "" when there is none
	Phase     string // of the claim, else of the PersistentVolume; "" when neither is there
	Size      string
	Class     string

	InSpec   bool   // the spec has it; false: orphaned, or somebody else's
	Spec     string // the path as the spec has it; "" none
	Orphaned bool   // the spec has lost it, and it is still there
	Differs  string // how it is other than the spec says; "" when it is not

	Place     string // where the data is, in words
	Node      string // the node it is inside of; "" when it is not
	Path      string // on this host, or of the node; "" when a class keeps it
	NodeLocal bool   // inside a node of a kind cluster
	Survives  Survival

	Owner  string // the deployment's directory, or its id; "" unknown
	ID     string // the deployment's id; "" unknown
	Engine bool   // of a container engine: there is no cluster to survive
}

// Volumes tells where the data of a deployment's volumes is, or with all that
// of every deployment of the cluster, what is inside a node first.
func (w *World) Volumes(ctx context.Context, o Options, all bool) (*Outcome, []VolumeView, error) {
	r, _, err := w.look(ctx, o)
	defer r.close()
	if err != nil {
		return r.out, nil, err
	}
	if r.composed() {
		views, err := r.composeVolumeList(ctx, all)
		return r.out, views, err
	}
	if err := r.reach(ctx); err != nil {
		return r.out, nil, err
	}
	views, err := r.volumes(ctx, all)
	if err != nil {
		return r.out, nil, err
	}
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "ok", volumeCount(views)
	return r.out, views, nil
}

func volumeCount(views []VolumeView) string {
	local, orphaned := 0, 0
	for _, v := range views {
		if v.NodeLocal {
			local++
		}
		if v.Orphaned {
			orphaned++
		}
	}
	out := fmt.Sprintf("%d volumes", len(views))
	switch len(views) {
	case 0:
		return "no volumes"
	case 1:
		out = "1 volume"
	}
	if local > 0 {
		out += fmt.Sprintf(", %d inside a node and lost with the cluster", local)
	}
	if orphaned > 0 {
		out += fmt.Sprintf(", %d orphaned", orphaned)
	}
	return out
}

// storage is what a cluster has of volumes.
type storage struct {
	id, namespace, dir string
	kind               bool
	nodes              []kind.Node // of a kind cluster
	unseen             string      // why the mounts are not known; "" when they are
	spec               []render.Volume
	claims             []corev1.PersistentVolumeClaim
	pvs                []corev1.PersistentVolume
	owners             map[string]map[string]string // annotations of namespaces, by name
}

// volumes asks the cluster and the engine.
func (r *run) volumes(ctx context.Context, all bool) ([]VolumeView, error) {
	s := storage{
		id: r.scope.ID, namespace: r.scope.Namespace, dir: r.d.Path, kind: r.d.Spec.Target == file.Kind,
		spec: r.rules.Volumes, owners: map[string]map[string]string{},
	}
	ns := r.scope.Namespace
	if all {
		ns = ""
		spaces, err := r.list(ctx, kube.Core("namespaces"), "", kube.Query{})
		if err != nil {
			return nil, err
		}
		for _, o := range spaces {
			u, err := decode(o)
			if err != nil {
				return nil, err
			}
			s.owners[o.Name] = u.GetAnnotations()
		}
	}
	items, err := r.list(ctx, kube.Core("persistentvolumeclaims"), ns, kube.Query{})
	if err != nil {
		return nil, err
	}
	if s.claims, err = typed[corev1.PersistentVolumeClaim](items); err != nil {
		return nil, err
	}
	items, err = r.list(ctx, kube.Core("persistentvolumes"), "", kube.Query{})
	if err != nil && (all || !forbidden(err)) {
		return nil, err
	}
	if s.pvs, err = typed[corev1.PersistentVolume](items); err != nil {
		return nil, err
	}
	if s.kind {
		if s.nodes, err = r.w.Engine.Nodes(ctx, r.d.Cluster()); err != nil {
			if fault.KindOf(err) != fault.Unreachable || ctx.Err() != nil {
				return nil, err
			}
			s.unseen = strings.TrimSpace(err.Error())
		}
	}
	if all {
		return s.everyone(), nil
	}
	return s.own(), nil
}

// forbidden says whether somebody may not read what he asked for.
func forbidden(err error) bool { return kube.IsForbidden(errors.Unwrap(err)) || kube.IsForbidden(err) }

func typed[T any](items []kube.Object) ([]T, error) {
	out := make([]T, 0, len(items))
	for _, o := range items {
		u, err := decode(o)
		if err != nil {
			return nil, err
		}
		var x T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &x); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Name, err)
		}
		out = append(out, x)
	}
	return out, nil
}

// own are the volumes of the deployment itself: those of the spec in its order,
// then those it has lost.
func (s *storage) own() []VolumeView {
	var out []VolumeView
	claimed, bound := map[string]bool{}, map[string]bool{}
	for _, v := range s.spec {
		claim, pv := s.claim(s.namespace, v.PVC), s.pv(cmp.Or(v.PV, v.PVC))
		if claim != nil && claim.Spec.VolumeName != "" {
			pv = s.pv(claim.Spec.VolumeName)
		}
		view := s.view(claim, pv)
		view.Volume, view.InSpec, view.Spec = v.Name, true, v.Spec
		view.Owner, view.ID = s.dir, s.id
		view.Size = cmp.Or(view.Size, v.Size)
		view.Differs = s.differs(v, claim, pv)
		if claim == nil && pv == nil {
			view.Place, view.Path = "nothing is there yet", v.HostPath
			if v.HostPath != "" {
				view.Place += "; it will be " + v.HostPath
			}
		}
		claimed[v.PVC] = true
		if pv != nil {
			bound[pv.Name] = true
		}
		out = append(out, view)
	}
	var lost []VolumeView
	for i := range s.claims {
		c := &s.claims[i]
		if claimed[c.Name] || c.Namespace != s.namespace || c.Labels[apply.LabelApp] != s.id {
			continue
		}
		pv := s.pv(c.Spec.VolumeName)
		if pv != nil {
			bound[pv.Name] = true
		}
		lost = append(lost, s.lost(c, pv))
	}
	for i := range s.pvs {
		pv := &s.pvs[i]
		if !bound[pv.Name] && pv.Labels[apply.LabelApp] == s.id && !claimed[pv.Name] {
			lost = append(lost, s.lost(nil, pv))
		}
	}
	slices.SortStableFunc(lost, func(a, b VolumeView) int { return cmp.Compare(a.Volume, b.Volume) })
	return append(out, lost...)
}

func (s *storage) lost(c *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) VolumeView {
	v := s.view(c, pv)
	v.Orphaned, v.Owner, v.ID = true, s.dir, s.id
	return v
}

// everyone's volumes, those inside a node first.
func (s *storage) everyone() []VolumeView {
	mine := map[string]VolumeView{}
	var out []VolumeView
	add := func(v VolumeView) {
		if m, ok := mine[v.Claim+"\x00"+v.PV]; ok {
			v = m
		}
		out = append(out, v)
	}
	for _, v := range s.own() {
		mine[v.Claim+"\x00"+v.PV] = v
		if v.Claim == "" && v.PV == "" {
			out = append(out, v) // nothing of it is there
		}
	}
	bound := map[string]bool{}
	for i := range s.claims {
		c := &s.claims[i]
		pv := s.pv(c.Spec.VolumeName)
		if pv != nil {
			bound[pv.Name] = true
		}
		add(s.owned(s.view(c, pv), c.Namespace, c.Labels))
	}
	for i := range s.pvs {
		pv := &s.pvs[i]
		if bound[pv.Name] {
			continue
		}
		ns := ""
		if pv.Spec.ClaimRef != nil {
			ns = pv.Spec.ClaimRef.Namespace
		}
		add(s.owned(s.view(nil, pv), ns, pv.Labels))
	}
	slices.SortStableFunc(out, func(a, b VolumeView) int {
		if a.NodeLocal != b.NodeLocal {
			if a.NodeLocal {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Volume, b.Volume))
	})
	return out
}

// owned says whose a volume is: the namespace tells the directory.
func (s *storage) owned(v VolumeView, ns string, labels map[string]string) VolumeView {
	v.ID = labels[apply.LabelApp]
	v.Owner = cmp.Or(s.owners[ns][apply.AnnotationDir], v.ID)
	return v
}

func (s *storage) claim(ns, name string) *corev1.PersistentVolumeClaim {
	for i := range s.claims {
		if s.claims[i].Namespace == ns && s.claims[i].Name == name {
			return &s.claims[i]
		}
	}
	return nil
}

func (s *storage) pv(name string) *corev1.PersistentVolume {
	for i := range s.pvs {
		if name != "" && s.pvs[i].Name == name {
			return &s.pvs[i]
		}
	}
	return nil
}

// view is what a claim and its volume are, whatever a spec says.
func (s *storage) view(c *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) VolumeView {
	var v VolumeView
	if pv != nil {
		v.PV, v.Phase, v.Class = pv.Name, string(pv.Status.Phase), pv.Spec.StorageClassName
		v.Size = pv.Spec.Capacity.Storage().String()
		v.Volume = volumeName(pv.Name, pv.Labels)
	}
	if c != nil {
		v.Namespace, v.Claim, v.Phase = c.Namespace, c.Name, string(c.Status.Phase)
		if q, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]; ok {
			v.Size = q.String()
		}
		if c.Spec.StorageClassName != nil {
			v.Class = *c.Spec.StorageClassName
		}
		v.Volume = volumeName(c.Name, c.Labels)
	}
	s.place(&v, pv)
	return v
}

// volumeName is what a spec calls a volume: the label without the id before it.
func volumeName(object string, labels map[string]string) string {
	if name, ok := strings.CutPrefix(labels["volume-label"], labels[apply.LabelApp]+"-"); ok && name != "" {
		return name
	}
	if name, ok := strings.CutPrefix(object, labels[apply.LabelApp]+"-"); ok && name != "" {
		return name
	}
	return object
}

// place finds where the data of a volume really is.
func (s *storage) place(v *VolumeView, pv *corev1.PersistentVolume) {
	at := pathOf(pv)
	node := nodeOf(pv)
	switch {
	case pv == nil && v.Phase == string(corev1.ClaimPending):
		v.Place = "nothing is there yet: the claim waits for a volume"
	case pv == nil && v.Claim != "":
		v.Place = "not known: the volume cannot be read"
	case pv == nil:
	case at == "":
		v.Place, v.Survives = "where the class "+cmp.Or(v.Class, "of the volume")+" keeps it", SurvivesClass
	case !s.kind && provisioned(pv):
		v.Path, v.Survives = at, SurvivesClass
		v.Place = at + ", made by the class " + cmp.Or(v.Class, "of the volume")
	case !s.kind:
		v.Path, v.Survives = at, SurvivesCluster
		v.Place = at + " on the nodes"
		if node != "" {
			v.Node, v.Place = node, at+" on the node "+node
		}
	case s.unseen != "":
		v.Path = at
		v.Place = "not known: " + at + " of the node, whose mounts cannot be looked at"
	default:
		host, outside := onHost(s.nodes, at)
		if outside {
			v.Path, v.Place, v.Survives = host, host+" on this host", SurvivesCluster
			return
		}
		if node == "" && len(s.nodes) == 1 {
			node = s.nodes[0].Name
		}
		v.Path, v.Node, v.NodeLocal, v.Survives = at, node, true, SurvivesStop
		v.Place = "inside the node " + cmp.Or(node, "that ran the pod") + ": " + at
	}
}

// provisioned says whether a class has made a volume.
func provisioned(pv *corev1.PersistentVolume) bool {
	return pv.Annotations["pv.kubernetes.io/provisioned-by"] != "" ||
		pv.Spec.StorageClassName != "" && pv.Spec.StorageClassName != "manual"
}

// pathOf is where a volume keeps its data on its node; "" for anything else.
func pathOf(pv *corev1.PersistentVolume) string {
	switch {
	case pv == nil:
	case pv.Spec.HostPath != nil:
		return pv.Spec.HostPath.Path
	case pv.Spec.Local != nil:
		return pv.Spec.Local.Path
	}
	return ""
}

// nodeOf is the one node a volume is bound to; "" when there are several.
func nodeOf(pv *corev1.PersistentVolume) string {
	if pv == nil || pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, t := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range append(t.MatchExpressions, t.MatchFields...) {
			if (e.Key == "kubernetes.io/hostname" || e.Key == "metadata.name") && e.Operator == corev1.NodeSelectorOpIn && len(e.Values) == 1 {
				return e.Values[0]
			}
		}
	}
	return ""
}

// differs says how a volume is other than its spec.
func (s *storage) differs(v render.Volume, c *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) string {
	var out []string
	at := pathOf(pv)
	switch {
	case pv == nil:
	case v.NodePath != "" && at == "":
		out = append(out, "the spec says "+v.Spec+", the class "+pv.Spec.StorageClassName+" keeps it")
	case v.NodePath != "" && at != v.NodePath:
		out = append(out, "the spec says "+v.Spec+", which is "+v.NodePath+" of the node; the volume has "+at)
	case v.NodePath == "" && pv.Labels[apply.LabelApp] == s.id && pv.Spec.HostPath != nil:
		out = append(out, "the spec names no path, the volume has "+at)
	case v.HostPath != "" && s.kind && s.unseen == "":
		if host, ok := onHost(s.nodes, at); !ok {
			out = append(out, v.HostPath+" is not mounted in the node")
		} else if host != v.HostPath {
			out = append(out, "the spec says "+v.HostPath+", mounted is "+host)
		}
	}
	if c != nil && v.Size != "" {
		if has, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]; ok && has.String() != v.Size {
			if want, err := resource.ParseQuantity(v.Size); err == nil && want.Cmp(has) != 0 {
				out = append(out, "the spec asks for "+v.Size+", the claim has "+has.String())
			}
		}
	}
	return strings.Join(out, "; ")
}
