package stack

import (
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/stack/kind"
)

// hostPath is where a PersistentVolume keeps its data on its node: its hostPath
// or local path; "" for anything else.
func hostPath(v *unstructured.Unstructured) string {
	for _, field := range []string{"hostPath", "local"} {
		if p, _, _ := unstructured.NestedString(v.Object, "spec", field, "path"); p != "" {
			return p
		}
	}
	return ""
}

// claimIn tells whether the claim of a PersistentVolume is in a namespace.
func claimIn(v *unstructured.Unstructured, namespace string) bool {
	ns, _, _ := unstructured.NestedString(v.Object, "spec", "claimRef", "namespace")
	return ns == namespace
}

// outside tells whether a path of a node lies on this machine, by a bind mount
// of every node that has it.
func outside(nodes []kind.Node, at string) bool {
	_, ok := onHost(nodes, at)
	return ok
}

// onHost returns where on this machine a path of a node lies; false when it is
// inside the node.
func onHost(nodes []kind.Node, at string) (string, bool) {
	if at == "" {
		return "", false
	}
	best, host := "", ""
	for _, n := range nodes {
		for _, m := range n.Mounts {
			dest := path.Clean(m.Destination)
			if (at == dest || strings.HasPrefix(at, strings.TrimSuffix(dest, "/")+"/")) && len(dest) > len(best) {
				best, host = dest, path.Join(m.Source, strings.TrimPrefix(at, dest))
			}
		}
	}
	return host, best != ""
}

// running returns the image IDs of a pod's running containers, by name.
func running(pod *unstructured.Unstructured) map[string]string {
	out := map[string]string{}
	list, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
	for _, c := range list {
		m, ok := c.(map[string]any)
		if !ok {
			continue
		}
		name, _ := m["name"].(string)
		id, _ := m["imageID"].(string)
		if name != "" && id != "" {
			out[name] = id
		}
	}
	return out
}
