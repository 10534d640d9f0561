package render

import (
	"slices"
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

// A mount that nobody asked for stands between a volume and the umbrella.
func TestShadowed(t *testing.T) {
	root := Mount{HostPath: "/srv/kind", ContainerPath: "/mnt", Umbrella: true}
	node := func(name, role string, mounts ...string) []NodeMount {
		out := []NodeMount{{Node: name, Role: role}}
		for _, m := range mounts {
			host, at, _ := strings.Cut(m, ":")
			out = append(out, NodeMount{Node: name, Role: role, HostPath: strings.TrimPrefix(host, "volume "), ContainerPath: at, Bind: !strings.HasPrefix(host, "volume ")})
		}
		return out
	}
	cp := func(mounts ...string) []NodeMount { return node("lab-control-plane", "control-plane", mounts...) }
	volume := func(path string) []Volume { return []Volume{{Name: "db", NodePath: path}} }
	for _, r := range []struct {
		name    string
		volumes []Volume
		want    []Mount
		live    []NodeMount
		says    []string
	}{
		{"the umbrella alone", volume("/mnt/shop/db"), []Mount{root}, cp("/srv/kind:/mnt", "volume x:/var"), nil},
		{"a mount below it", volume("/mnt/shop/db"), []Mount{root}, cp("/srv/kind:/mnt", "/other/shop:/mnt/shop"), []string{"/mnt/shop: expected /srv/kind/shop, actual /other/shop"}},
		{"at the volume itself", volume("/mnt/shop/db"), []Mount{root}, cp("/srv/kind:/mnt", "volume abc:/mnt/shop/db/"), []string{"/mnt/shop/db: expected /srv/kind/shop/db, actual volume abc"}},
		{"the deepest counts", volume("/mnt/shop/db"), []Mount{root}, cp("/srv/kind:/mnt", "/a:/mnt/shop", "/b:/mnt/shop/db"), []string{"/mnt/shop/db: expected /srv/kind/shop/db, actual /b"}},
		{"beside it", volume("/mnt/shop/db"), []Mount{root}, cp("/srv/kind:/mnt", "/a:/mnt/shop2", "/b:/mnt/shop/db2"), nil},
		{"wanted as well", volume("/mnt/db"), []Mount{root, {HostPath: "/apart", ContainerPath: "/mnt/db"}}, cp("/srv/kind:/mnt", "/apart:/mnt/db"), nil},
		{"under one that is wanted", volume("/mnt/db"), []Mount{{HostPath: "/apart", ContainerPath: "/mnt/db"}}, cp("/root:/mnt", "/apart:/mnt/db"), nil},
		{"inside the node", volume(""), []Mount{root}, cp("/srv/kind:/mnt", "/a:/mnt/db"), nil},
		{"on a node that has no such mount", volume("/mnt/db"), []Mount{root}, append(cp("/srv/kind:/mnt"), node("lab-worker", "worker", "/a:/mnt/db")...), nil},
		{
			"on the worker that has it", volume("/mnt/db"),
			[]Mount{root, {HostPath: "/srv/kind", ContainerPath: "/mnt", Role: "worker", Node: 1}},
			append(cp("/srv/kind:/mnt"), append(node("lab-worker2", "worker", "/srv/kind:/mnt", "/a:/mnt/db"), node("lab-worker", "worker", "/b:/mnt/db")...)...),
			[]string{"/mnt/db: expected /srv/kind/db, actual /a (node lab-worker2)"},
		},
		{"two volumes, one mount", []Volume{{NodePath: "/mnt/s/a"}, {NodePath: "/mnt/s/b"}}, []Mount{root}, cp("/srv/kind:/mnt", "/o:/mnt/s"), []string{"/mnt/s: expected /srv/kind/s, actual /o"}},
	} {
		var got []string
		for _, m := range Shadowed(r.volumes, r.want, r.live) {
			got = append(got, m.String())
		}
		if !slices.Equal(got, r.says) {
			t.Errorf("%s: %q", r.name, got)
		}
	}
}
