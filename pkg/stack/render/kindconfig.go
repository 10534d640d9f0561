package render

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"homelab/pkg/stack/file"
)

// nodeRoot is where a kind node has the kind-mount-root, and the volumes
// outside of it.
const nodeRoot = "/mnt"

// HighMemlock is the name of the container runtime, and of the RuntimeClass,
// whose containers may lock any amount of memory.
const HighMemlock = "high-memlock"

// HighMemlockFile is the name of the file that describes that runtime.
const HighMemlockFile = "high-memlock-spec.json"

// HostPort is a port of a pod in the host's network: on kind the host is the
// node, so this machine only has it if the node passes it on.
type HostPort struct {
	Port     int
	Protocol string // "TCP" or "UDP"
}

// KindNode is what a kind-config.yml is made of.
type KindNode struct {
	Mounts      []Mount    // the umbrella first
	HostPorts   []HostPort // besides 80 and 443
	MemlockSpec string     // absolute path of high-memlock-spec.json on this host; "": no such runtime
}

// NodeOf returns the node that a rendered directory needs.
func NodeOf(d *file.Directory, res *Result) KindNode {
	n := KindNode{Mounts: res.Mounts, HostPorts: res.HostPorts}
	if d.Spec.Security.UnlimitedMemlock {
		n.MemlockSpec = filepath.Join(d.Path, HighMemlockFile)
	}
	return n
}

// KindConfig returns a kind-config.yml: one control-plane node that takes
// ingress traffic. The same input gives the same bytes.
func KindConfig(n KindNode) []byte {
	var b bytes.Buffer
	b.WriteString(`kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
    kubeadmConfigPatches:
      - |
        kind: InitConfiguration
        nodeRegistration:
          kubeletExtraArgs:
            node-labels: "ingress-ready=true"
    extraPortMappings:
`)
	ports := []HostPort{{80, "TCP"}, {443, "TCP"}}
	extra := slices.Clone(n.HostPorts)
	slices.SortFunc(extra, func(a, b HostPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	for _, p := range extra {
		if !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	for _, p := range ports {
		fmt.Fprintf(&b, "      - containerPort: %d\n        hostPort: %d\n        protocol: %s\n", p.Port, p.Port, p.Protocol)
	}
	mounts := slices.Clone(n.Mounts)
	if n.MemlockSpec != "" {
		mounts = append(mounts, Mount{HostPath: n.MemlockSpec, ContainerPath: n.MemlockSpec})
	}
	if len(mounts) > 0 {
		b.WriteString("    extraMounts:\n")
	}
	for _, m := range mounts {
		fmt.Fprintf(&b, "      - hostPath: %s\n        containerPath: %s\n        propagation: HostToContainer\n", scalar(m.HostPath), scalar(m.ContainerPath))
	}
	if n.MemlockSpec != "" {
		// The path stands in TOML, whose basic strings are JSON's. kind's node
		// image speaks version 2 of this file and runs its containers in
		// systemd's control groups, this runtime's as well.
		table := `plugins."io.containerd.grpc.v1.cri".containerd.runtimes.` + HighMemlock
		fmt.Fprintf(&b, `containerdConfigPatches:
  - |-
    [%s]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = %s
      [%s.options]
        SystemdCgroup = true
`, table, quote(n.MemlockSpec), table)
	}
	return b.Bytes()
}

// scalar writes a path as YAML: plain where nothing in it could mean anything.
func scalar(s string) string {
	if strings.HasPrefix(s, "/") && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+@", r)
	}) {
		return s
	}
	return quote(s)
}

// quote writes a string as JSON, which is YAML and TOML as well.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // a string always encodes
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// ParseKindConfig returns the mounts of every node of a kind-config.yml, with
// its role, counted within it, in the order of the file. People write such
// files by hand, with several nodes: what it has besides is not looked at. A
// file without nodes is one control-plane node.
func ParseKindConfig(raw []byte) ([]Mount, error) {
	var file struct {
		Nodes []struct {
			Role        string `yaml:"role"`
			ExtraMounts []struct {
				HostPath      string `yaml:"hostPath"`
				ContainerPath string `yaml:"containerPath"`
			} `yaml:"extraMounts"`
		} `yaml:"nodes"`
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	var out []Mount
	count := map[string]int{}
	for _, n := range file.Nodes {
		role := cmp.Or(n.Role, ControlPlane)
		for _, m := range n.ExtraMounts {
			mount := Mount{
				HostPath: m.HostPath, ContainerPath: m.ContainerPath, Node: count[role],
				Umbrella: filepath.Clean(m.ContainerPath) == nodeRoot,
			}
			if role != ControlPlane { // written as a render writes it, so that the two compare
				mount.Role = role
			}
			out = append(out, mount)
		}
		count[role]++
	}
	return out, nil
}

// HighMemlockSpec returns high-memlock-spec.json: what a container of the
// high-memlock runtime starts from. containerd takes it in place of its own
// default, not on top of it, so it is a whole one; RLIMIT_MEMLOCK is all it
// limits, and without end.
func HighMemlockSpec() []byte {
	type object = map[string]any
	capabilities := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
	mount := func(at, kind, source string, options ...string) object {
		return object{"destination": at, "type": kind, "source": source, "options": options}
	}
	namespaces := []object{}
	for _, n := range []string{"pid", "ipc", "uts", "mount", "network"} {
		namespaces = append(namespaces, object{"type": n})
	}
	// RLIM_INFINITY as a number that JSON keeps exactly.
	const unlimited = json.Number("18446744073709551615")
	spec := object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": 0, "gid": 0},
			"cwd":  "/",
			"capabilities": object{
				"bounding": capabilities, "effective": capabilities, "permitted": capabilities,
			},
			"rlimits":         []object{{"type": "RLIMIT_MEMLOCK", "hard": unlimited, "soft": unlimited}},
			"noNewPrivileges": true,
		},
		"root": object{"path": "rootfs"},
		"mounts": []object{
			mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
			mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
			mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
			mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
			mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
			mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
			mount("/run", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
		},
		"linux": object{
			"resources":  object{"devices": []object{{"allow": false, "access": "rwm"}}},
			"namespaces": namespaces,
			"maskedPaths": []string{
				"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
			},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	raw, err := json.MarshalIndent(spec, "", "  ")
	if err != nil { // strings, numbers and booleans always encode
		return nil
	}
	return append(raw, '\n')
}
