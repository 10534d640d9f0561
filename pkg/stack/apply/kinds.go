package apply

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"homelab/pkg/kube"
)

// kind is what is to know about a kind of object. No discovery is asked: these
// are what stacks are made of, and their versions are stable.
type kind struct {
	name     string
	resource kube.Resource
	cluster  bool // not namespaced
	listed   bool // by the label app in the deployment's namespace
	pruned   bool // when it is no longer rendered, and by stop
}

// kinds stand in the order in which they are written: what others need first.
func kinds() []kind {
	rbac := func(plural string) kube.Resource {
		return kube.Resource{Group: "rbac.authorization.k8s.io", Version: "v1", Plural: plural}
	}
	net := func(plural string) kube.Resource {
		return kube.Resource{Group: "networking.k8s.io", Version: "v1", Plural: plural}
	}
	return []kind{
		{name: "Namespace", resource: kube.Core("namespaces"), cluster: true},
		{name: "RuntimeClass", resource: kube.Resource{Group: "node.k8s.io", Version: "v1", Plural: "runtimeclasses"}, cluster: true},
		{name: "IngressClass", resource: net("ingressclasses"), cluster: true},
		{name: "ServiceAccount", resource: kube.Core("serviceaccounts")},
		{name: "ClusterRole", resource: rbac("clusterroles"), cluster: true},
		{name: "ClusterRoleBinding", resource: rbac("clusterrolebindings"), cluster: true},
		{name: "Role", resource: rbac("roles")},
		{name: "RoleBinding", resource: rbac("rolebindings")},
		{name: "PersistentVolume", resource: kube.Core("persistentvolumes"), cluster: true},
		{name: "PersistentVolumeClaim", resource: kube.Core("persistentvolumeclaims")},
		{name: "Secret", resource: kube.Core("secrets"), listed: true, pruned: true},
		{name: "ConfigMap", resource: kube.Core("configmaps"), listed: true, pruned: true},
		{name: "Service", resource: kube.Core("services"), listed: true, pruned: true},
		{name: "Endpoints", resource: kube.Core("endpoints"), listed: true, pruned: true},
		{name: "Deployment", resource: kube.Apps("deployments"), listed: true, pruned: true},
		{name: "CronJob", resource: kube.Batch("cronjobs")},
		{name: "Job", resource: kube.Batch("jobs"), listed: true, pruned: true},
		{name: "Ingress", resource: net("ingresses"), listed: true, pruned: true},
		{name: "Pod", resource: kube.Core("pods")},
		{name: "Lease", resource: kube.Resource{Group: "coordination.k8s.io", Version: "v1", Plural: "leases"}},
	}
}

func kindOf(name string) (kind, error) {
	all := kinds()
	i := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, fmt.Errorf("objects of kind %s cannot be applied", name)
	}
	return all[i], nil
}

// rank is the place of a kind in the order of writes.
func rank(name string) int {
	return slices.IndexFunc(kinds(), func(k kind) bool { return k.name == name })
}

// gvr is how the dynamic client calls the resource.
func (k kind) gvr() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.resource.Group, Version: k.resource.Version, Resource: k.resource.Plural}
}

func (k kind) apiVersion() string {
	return schema.GroupVersion{Group: k.resource.Group, Version: k.resource.Version}.String()
}

// ref names o. What of a namespaced kind has no namespace stands in the scope's.
func (s Scope) ref(o *unstructured.Unstructured) Ref {
	r := Ref{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
	k, err := kindOf(r.Kind)
	switch {
	case err == nil && k.cluster:
		r.Namespace = ""
	case r.Namespace == "":
		r.Namespace = s.Namespace
	}
	return r
}

func (s Scope) own(kind, name string) Ref { return Ref{Kind: kind, Namespace: s.Namespace, Name: name} }
