package render

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompareMounts(t *testing.T) {
	want := func(host, path string) Mount { return Mount{HostPath: host, ContainerPath: path} }
	live := func(host, path string) NodeMount {
		return NodeMount{Node: "c-control-plane", HostPath: host, ContainerPath: path, Bind: true}
	}
	for name, c := range map[string]struct {
		want  []Mount
		live  []NodeMount
		lines []string
	}{
		"nothing wanted":    {nil, []NodeMount{live("/srv", "/mnt")}, nil},
		"exactly":           {[]Mount{want("/srv/a", "/mnt/a")}, []NodeMount{live("/srv/a", "/mnt/a")}, nil},
		"written otherwise": {[]Mount{want("/srv/a/", "/mnt/a")}, []NodeMount{live("/srv//a", "/mnt/a/")}, nil},
		"not there":         {[]Mount{want("/srv/a", "/mnt/a")}, []NodeMount{live("/lib/modules", "/lib/modules")}, []string{"/mnt/a: expected /srv/a, actual NOT MOUNTED"}},
		"another source":    {[]Mount{want("/srv/a", "/mnt/a")}, []NodeMount{live("/srv/b", "/mnt/a")}, []string{"/mnt/a: expected /srv/a, actual /srv/b"}},
		"a longer name":     {[]Mount{want("/srv/a", "/mnt")}, []NodeMount{live("/srv/a2", "/mnt")}, []string{"/mnt: expected /srv/a, actual /srv/a2"}},
		"below an umbrella": {[]Mount{want("/srv/a", "/mnt/a")}, []NodeMount{live("/srv", "/mnt")}, []string{"/mnt/a: expected /srv/a, actual NOT MOUNTED"}},
		"a docker volume":   {[]Mount{want("/srv/a", "/mnt/a")}, []NodeMount{{Node: "c-control-plane", HostPath: "cache", ContainerPath: "/mnt/a"}}, []string{"/mnt/a: expected /srv/a, actual volume cache"}},
		"old bind mounts":   {[]Mount{want("/srv/c", "/mnt/host-path-c"), want("/srv/a", "/mnt/a")}, []NodeMount{live("/srv/a", "/mnt/a")}, nil},
		"several, in order": {
			[]Mount{want("/z", "/mnt/z"), want("/a", "/mnt/a"), want("/m", "/mnt/m")},
			[]NodeMount{live("/m", "/mnt/m")},
			[]string{"/mnt/z: expected /z, actual NOT MOUNTED", "/mnt/a: expected /a, actual NOT MOUNTED"},
		},
		"asked for twice": {
			[]Mount{want("/a", "/mnt/a"), {HostPath: "/a/", ContainerPath: "/mnt/a", Role: ControlPlane}},
			[]NodeMount{live("/m", "/mnt/m")},
			[]string{"/mnt/a: expected /a, actual NOT MOUNTED"},
		},
		"of the node in that role": {
			[]Mount{{HostPath: "/a", ContainerPath: "/mnt/a", Role: Worker}, {HostPath: "/b", ContainerPath: "/mnt/b", Role: Worker, Node: 1}},
			[]NodeMount{
				live("/a", "/mnt/a"),
				{Node: "c-worker10", Role: Worker, HostPath: "/b", ContainerPath: "/mnt/b", Bind: true},
				{Node: "c-worker2", Role: Worker},
				{Node: "c-worker", Role: Worker, HostPath: "/a", ContainerPath: "/mnt/a", Bind: true},
			},
			[]string{"/mnt/b: expected /b, actual NOT MOUNTED (node c-worker2)"},
		},
		"no such node": {
			[]Mount{{HostPath: "/a", ContainerPath: "/mnt/a", Role: Worker}},
			[]NodeMount{live("/a", "/mnt/a")},
			[]string{"/mnt/a: expected /a, actual NOT MOUNTED (the cluster has no such worker node)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			for _, m := range CompareMounts(c.want, c.live) {
				lines = append(lines, m.String())
			}
			if diff := cmp.Diff(c.lines, lines); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMountFix(t *testing.T) {
	with := []NodeMount{{Node: "c-worker", Role: Worker, HostPath: "/other", ContainerPath: "/mnt", Bind: true}, {Node: "c-control-plane", HostPath: "/srv/kind", ContainerPath: "/mnt", Bind: true}}
	if got := strings.Join(MountFix(with), "\n"); !strings.Contains(got, "kind-mount-root: /srv/kind") {
		t.Error(got)
	}
	got := strings.Join(MountFix(with[:1]), "\n")
	for _, step := range []string{"back up", "volumes --cluster", "kind-mount-root in the spec of every", "stop all", "delete", "start", "restore"} {
		if !strings.Contains(got, step) {
			t.Errorf("%q is not in: %s", step, got)
		}
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		root, path, rest string
		ok               bool
	}{
		{"/srv/kind", "/srv/kind/a/b", "a/b", true},
		{"/srv/kind", "/srv/kind", ".", true},
		{"/srv/kind", "/srv/kind2", "/srv/kind2", false},
		{"/srv/kind", "/srv", "/srv", false},
		{"/", "/a", "a", true},
		{"/", "/", ".", true},
	} {
		if rest, ok := below(c.root, c.path); ok != c.ok || ok && rest != c.rest {
			t.Errorf("%s below %s: %q %v", c.path, c.root, rest, ok)
		}
	}
}
