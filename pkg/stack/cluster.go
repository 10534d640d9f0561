package stack

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/kind"
)

// OurCluster is the annotation of the namespace kube-system by which a kind
// cluster is known as one that homelab made.
const OurCluster = "homelab/cluster"

const kubeSystem = "kube-system"

// connect reaches the cluster of d. For a kind cluster that does not run the
// error is of kind Absent; its next command starts it.
func (w *World) connect(ctx context.Context, d *file.Directory) (Cluster, func(), error) {
	switch d.Spec.Target {
	case file.K8s:
		return w.Connect(ctx, Access{Kubeconfig: filepath.Join(d.Path, "kubeconfig.yml"), Namespace: d.Namespace()})
	case file.Kind:
		return w.connectKind(ctx, d)
	case file.Compose, "":
	}
	return nil, nil, fault.New(fault.Usage, "deploy-to "+string(file.Compose)+" is not run by this version", "").
		Because("spec.yml: deploy-to must be " + string(file.K8s) + " or " + string(file.Kind))
}

func (w *World) connectKind(ctx context.Context, d *file.Directory) (Cluster, func(), error) {
	name := d.Cluster()
	a := Access{Context: "kind-" + name, Namespace: d.Namespace()}
	if !w.HasContext(a.Context) {
		all, err := w.Engine.List(ctx)
		if err != nil {
			return nil, nil, err
		}
		if !slices.Contains(all, name) {
			return nil, nil, notRunning(d)
		}
		if a.Content, err = w.Engine.Kubeconfig(ctx, name); err != nil {
			return nil, nil, err
		}
	}
	return w.Connect(ctx, a)
}

// notRunning says that the kind cluster of d is not there.
func notRunning(d *file.Directory) *fault.Error {
	return fault.New(fault.Absent, "the kind cluster "+d.Cluster()+" does not run", "homelab deployment start --dir "+d.Path)
}

// gone tells whether err, met while talking to a kind cluster, means that the
// cluster itself is not there: the context of a deleted cluster stays in a
// kubeconfig for long.
func (w *World) gone(ctx context.Context, d *file.Directory, err error) bool {
	if d.Spec.Target != file.Kind || fault.KindOf(err) != fault.Unreachable {
		return false
	}
	all, asked := w.Engine.List(ctx)
	return asked == nil && !slices.Contains(all, d.Cluster())
}

// clusters lists the kind clusters of this machine for a deployment.
func (w *World) clusters(ctx context.Context, d *file.Directory) ([]kind.Cluster, error) {
	return w.Clusters(ctx, d.Spec.KindClusterName, d.Cluster())
}

// Clusters lists the kind clusters of this machine with what is known of each.
// Whether one is ours is asked of its API only where its name does not say it:
// named is the spec's kind-cluster-name, own the deployment's, which need not
// be known to be used. Both may be "".
func (w *World) Clusters(ctx context.Context, named, own string) ([]kind.Cluster, error) {
	names, err := w.Engine.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []kind.Cluster
	for _, name := range names {
		nodes, err := w.Engine.Nodes(ctx, name)
		if err != nil {
			return nil, err
		}
		c := kind.Cluster{Name: name, Running: len(nodes) > 0, Ours: kind.Named(name, named)}
		for _, n := range nodes {
			c.Running = c.Running && n.Running
		}
		if !c.Ours && c.Running && name != own {
			c.Ours = w.annotated(ctx, name)
		}
		out = append(out, c)
	}
	return out, nil
}

// annotated asks a kind cluster whether homelab made it; a cluster that cannot
// be asked is somebody else's.
func (w *World) annotated(ctx context.Context, name string) bool {
	config, err := w.Engine.Kubeconfig(ctx, name)
	if err != nil {
		return false
	}
	c, done, err := w.Connect(ctx, Access{Content: config, Context: "kind-" + name})
	if err != nil {
		return false
	}
	defer done()
	yes, err := marked(ctx, c)
	return err == nil && yes
}

// marked reads the annotation by which a cluster is ours.
func marked(ctx context.Context, c Cluster) (bool, error) {
	o, err := c.Get(ctx, kube.Core("namespaces"), "", kubeSystem)
	if err != nil {
		return false, err
	}
	u, err := decode(o)
	if err != nil {
		return false, err
	}
	_, yes := u.GetAnnotations()[OurCluster]
	return yes, nil
}

// told words an error of the API server.
func told(what string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	switch {
	case kube.IsDenied(err) || kube.IsForbidden(err):
		return fault.New(fault.Denied, what, "").Because(strings.TrimSpace(err.Error())).From(err)
	case kube.IsTransient(err):
		return fault.New(fault.Unreachable, what, "").Because(strings.TrimSpace(err.Error())).From(err)
	}
	if _, ok := errors.AsType[*kube.StatusError](err); ok && what != "" {
		return fault.New(fault.Failed, what, "").Because(strings.TrimSpace(err.Error())).From(err)
	}
	return err
}
