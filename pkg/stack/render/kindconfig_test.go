package render

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"homelab/internal/golden"
)

func TestKindConfig(t *testing.T) {
	for name, n := range map[string]KindNode{
		"plain": {},
		"all": {
			Mounts: []Mount{
				{HostPath: "/srv/kind", ContainerPath: "/mnt", Umbrella: true},
				{HostPath: "/srv/d/data/db", ContainerPath: "/mnt/db"},
				{HostPath: `/srv/odd: "name" #1`, ContainerPath: "/mnt/odd"},
			},
			HostPorts:   []HostPort{{30303, "UDP"}, {9000, "TCP"}, {30303, "TCP"}, {443, "UDP"}, {80, "TCP"}},
			MemlockSpec: "/srv/d/high-memlock-spec.json",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := KindConfig(n)
			golden.Compare(t, "", got)
			back, err := ParseKindConfig(got)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(n.Mounts)
			if n.MemlockSpec != "" {
				want = append(want, Mount{HostPath: n.MemlockSpec, ContainerPath: n.MemlockSpec})
			}
			if diff := cmp.Diff(want, back); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKindReadsIt decodes the file into kind's own types, no key left over.
func TestKindReadsIt(t *testing.T) {
	s := newScene(t, volumeFile).volume("data", "./data")
	s.d.Spec.Security.UnlimitedMemlock = true
	s.d.Spec.KindMountRoot = "/srv/kind"
	n := NodeOf(s.d, s.good().result)
	d := yaml.NewDecoder(bytes.NewReader(KindConfig(n)))
	d.KnownFields(true)
	var c v1alpha4.Cluster
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	spec := filepath.Join(s.d.Path, HighMemlockFile)
	if len(c.Nodes) != 1 || len(c.ContainerdConfigPatches) != 1 || !strings.Contains(c.ContainerdConfigPatches[0], spec) {
		t.Fatalf("%+v", c)
	}
	var mounts []string
	for _, m := range c.Nodes[0].ExtraMounts {
		if m.Propagation != v1alpha4.MountPropagationHostToContainer {
			t.Errorf("%+v", m)
		}
		mounts = append(mounts, m.HostPath+" "+m.ContainerPath)
	}
	if diff := cmp.Diff([]string{"/srv/kind /mnt", filepath.Join(s.d.Path, "data") + " /mnt/data", spec + " " + spec}, mounts); diff != "" {
		t.Error(diff)
	}
	if c.Nodes[0].Role != v1alpha4.ControlPlaneRole || len(c.Nodes[0].ExtraPortMappings) != 2 {
		t.Errorf("%+v", c.Nodes[0])
	}
}

func TestParseKindConfig(t *testing.T) {
	got, err := ParseKindConfig([]byte(`
kind: Cluster
nodes:
  - extraMounts: [{hostPath: /a, containerPath: /mnt/}]
  - role: worker
  - role: worker
    extraMounts:
      - {hostPath: /b, containerPath: /mnt/b, readOnly: true}
  - role: control-plane
    extraMounts: [{hostPath: /c, containerPath: /c}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Mount{
		{HostPath: "/a", ContainerPath: "/mnt/", Umbrella: true},
		{HostPath: "/b", ContainerPath: "/mnt/b", Role: Worker, Node: 1},
		{HostPath: "/c", ContainerPath: "/c", Node: 1},
	}, got); diff != "" {
		t.Error(diff)
	}
	if got, err := ParseKindConfig(nil); err != nil || got != nil {
		t.Errorf("%v %v", got, err)
	}
	if _, err := ParseKindConfig([]byte("nodes: {")); err == nil {
		t.Error("not YAML, and no error")
	}
}

// TestHighMemlockSpec: the limit is exactly RLIM_INFINITY, and what a container
// needs besides is there.
func TestHighMemlockSpec(t *testing.T) {
	raw := HighMemlockSpec()
	golden.Compare(t, "", raw)
	var spec struct {
		Process struct {
			Rlimits []struct {
				Type       string
				Hard, Soft uint64
			}
		}
		Mounts []struct{ Destination string }
	}
	if err := json.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	const infinity = ^uint64(0)
	if l := spec.Process.Rlimits; len(l) != 1 || l[0].Type != "RLIMIT_MEMLOCK" || l[0].Hard != infinity || l[0].Soft != infinity {
		t.Errorf("%+v", l)
	}
	if len(spec.Mounts) == 0 || spec.Mounts[0].Destination != "/proc" {
		t.Errorf("a container without /proc: %v", spec.Mounts)
	}
}

func TestScalar(t *testing.T) {
	for path, plain := range map[string]bool{
		"/srv/kind-1/a_b.c+d@e": true, "/srv/a b": false, "/srv/ä": false, "/a:b": false, "/a#b": false, "/a'": false, `/a"\`: false, "rel": false, "": false, "/<&>": false,
	} {
		got := scalar(path)
		if (got == path) != plain {
			t.Errorf("%s is written %s", path, got)
		}
		var back string
		if err := yaml.Unmarshal([]byte(got), &back); err != nil || back != path || strings.Contains(got, `\u003c`) {
			t.Errorf("%s comes back as %q, %v", got, back, err)
		}
	}
}
