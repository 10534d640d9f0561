package render

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// NodeMount is one mount of a running kind node. A node without mounts is told
// with an empty ContainerPath, so that it is known to be there.
type NodeMount struct {
	Node          string // the container's name
	Role          string // "control-plane" or "worker"; "" means control-plane
	HostPath      string // the source; the volume's name when it is no bind mount
	ContainerPath string
	Bind          bool
}

// Mismatch is a mount a running cluster does not have as a directory needs it.
type Mismatch struct {
	Mount  Mount
	Node   string // "" when there is no such node
	Actual string // what is mounted there; "" nothing
}

// NotMounted stands where a mismatch has nothing mounted at its path.
const NotMounted = "NOT MOUNTED"

// String tells a mismatch in one line: path, expected, actual.
func (m Mismatch) String() string {
	actual := cmp.Or(m.Actual, NotMounted)
	line := fmt.Sprintf("%s: expected %s, actual %s", m.Mount.ContainerPath, m.Mount.HostPath, actual)
	switch {
	case m.Node == "":
		return fmt.Sprintf("%s (the cluster has no such %s node)", line, m.Mount.role())
	case m.Mount.role() == ControlPlane && m.Mount.Node == 0:
		return line
	default:
		return fmt.Sprintf("%s (node %s)", line, m.Node)
	}
}

func (m Mount) role() string { return cmp.Or(m.Role, ControlPlane) }

// The roles of kind nodes.
const (
	ControlPlane = "control-plane"
	Worker       = "worker"
)

// legacyBindMount matches the mounts that old kind configurations hold for
// compose binds. Nothing mounts them any more.
const legacyBindMount = "/mnt/host-path-"

// Required returns the mounts of want that a running cluster must have: without
// those of compose binds, which are ConfigMaps now.
func Required(want []Mount) []Mount {
	return slices.DeleteFunc(slices.Clone(want), func(m Mount) bool {
		return len(m.ContainerPath) >= len(legacyBindMount) && m.ContainerPath[:len(legacyBindMount)] == legacyBindMount
	})
}

// CompareMounts returns what the nodes of a running cluster lack: each wanted
// mount must be a bind mount, of the node in that role, from exactly that
// source. kind sets them when it creates a cluster and never again, so nothing
// but a matching mount keeps data out of the node. A mount below another one
// counts as itself only: an umbrella does not stand in for it, because the data
// would lie elsewhere on the host. The result is in the order of want, each mount
// once.
func CompareMounts(want []Mount, live []NodeMount) []Mismatch {
	at := map[string]map[string]NodeMount{}
	for _, l := range live {
		if at[l.Node] == nil {
			at[l.Node] = map[string]NodeMount{}
		}
		if l.ContainerPath != "" {
			at[l.Node][filepath.Clean(l.ContainerPath)] = l
		}
	}
	var out []Mismatch
	seen := map[Mount]bool{}
	for _, w := range Required(want) {
		same := Mount{HostPath: filepath.Clean(w.HostPath), ContainerPath: filepath.Clean(w.ContainerPath), Role: w.role(), Node: w.Node}
		if seen[same] {
			continue // the directory and its kind-config.yml ask for it both
		}
		seen[same] = true
		names := nodesOf(live, w.role())
		if w.Node >= len(names) {
			out = append(out, Mismatch{Mount: w})
			continue
		}
		node := names[w.Node]
		l, ok := at[node][filepath.Clean(w.ContainerPath)]
		switch {
		case !ok:
			out = append(out, Mismatch{Mount: w, Node: node})
		case !l.Bind:
			out = append(out, Mismatch{Mount: w, Node: node, Actual: "volume " + l.HostPath})
		case filepath.Clean(l.HostPath) != filepath.Clean(w.HostPath):
			out = append(out, Mismatch{Mount: w, Node: node, Actual: l.HostPath})
		}
	}
	return out
}

// Shadowed returns the mounts of a running cluster that stand between a volume
// and the mount its data should be under: on each node that has that mount, the
// deepest live one over the volume's path must be a wanted one, or the data
// lies somewhere else on the host, or inside the node. What is wanted at the same
// path is for CompareMounts to judge. The result is in the order of the volumes.
func Shadowed(volumes []Volume, want []Mount, live []NodeMount) []Mismatch {
	wanted := map[string][]Mount{} // by node
	for _, w := range Required(want) {
		if names := nodesOf(live, w.role()); w.Node < len(names) {
			wanted[names[w.Node]] = append(wanted[names[w.Node]], w)
		}
	}
	var out []Mismatch
	for _, v := range volumes {
		if v.NodePath == "" {
			continue
		}
		for _, node := range slices.Sorted(maps.Keys(wanted)) {
			at := ""
			var under Mount
			for _, w := range wanted[node] {
				if p := filepath.Clean(w.ContainerPath); over(p, v.NodePath) && len(p) > len(at) {
					at, under = p, w
				}
			}
			if at == "" {
				continue // its data is not expected on this node
			}
			deepest := NodeMount{}
			for _, l := range live {
				if p := filepath.Clean(l.ContainerPath); l.Node == node && l.ContainerPath != "" && over(p, v.NodePath) && len(p) > len(filepath.Clean(deepest.ContainerPath)) {
					deepest = l
				}
			}
			if p := filepath.Clean(deepest.ContainerPath); len(p) > len(at) {
				m := Mismatch{Node: node, Actual: deepest.HostPath, Mount: Mount{
					HostPath: filepath.Join(under.HostPath, strings.TrimPrefix(p, at)), ContainerPath: p, Role: under.Role, Node: under.Node,
				}}
				if !deepest.Bind {
					m.Actual = "volume " + deepest.HostPath
				}
				if !slices.Contains(out, m) {
					out = append(out, m)
				}
			}
		}
	}
	return out
}

// over tells whether a path is a directory that another one is or lies in.
func over(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// nodesOf are the nodes of a role as kind counts them: NAME-worker,
// NAME-worker2 … NAME-worker10.
func nodesOf(live []NodeMount, role string) []string {
	var names []string
	for _, l := range live {
		if cmp.Or(l.Role, ControlPlane) == role && !slices.Contains(names, l.Node) {
			names = append(names, l.Node)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return names
}

// LiveRoot returns what a running cluster has mounted at /mnt of its control
// plane: the kind-mount-root its deployments must agree on.
func LiveRoot(live []NodeMount) (string, bool) {
	for _, l := range live {
		if l.Bind && cmp.Or(l.Role, ControlPlane) == ControlPlane && filepath.Clean(l.ContainerPath) == nodeRoot {
			return l.HostPath, true
		}
	}
	return "", false
}

// MountFix tells what to do about mounts that do not fit, in sentences.
func MountFix(live []NodeMount) []string {
	if root, ok := LiveRoot(live); ok {
		return []string{
			fmt.Sprintf("this cluster has %s at %s: write kind-mount-root: %s into the spec and give every volume a path below it", root, nodeRoot, root),
			"a new directory below it is visible to the cluster at once, without creating it anew",
		}
	}
	return []string{
		"kind mounts host directories only when it creates a cluster, so this one must be created anew",
		"back up what `homelab deployment volumes --cluster` shows as node-local: it goes with the cluster",
		"set one kind-mount-root in the spec of every deployment of this cluster, with the volumes below it",
		"stop all of them, delete the cluster, start them again, restore what was backed up",
	}
}
