package render

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"homelab/internal/golden"
	"homelab/pkg/stack/file"
)

const volumeFile = "services: {db: {image: db, volumes: ['data:/data']}}\nvolumes: {data: }\n"

// TestWhereVolumesAre is every form a path can have on every target, with the
// mount of the node it needs.
func TestWhereVolumesAre(t *testing.T) {
	for name, c := range map[string]struct {
		target     file.Target
		root, path string // ROOT and D stand for directories of the scene
		host, node string
		mounts     []string // besides the umbrella
		dynamic    bool
		told       []string
	}{
		"kind, none":                {target: file.Kind, dynamic: true, told: []string{"volume-in-node warning"}},
		"kind, none, with root":     {target: file.Kind, root: "ROOT", dynamic: true, told: []string{"volume-in-node warning"}},
		"kind, relative":            {target: file.Kind, path: "./data/x", host: "D/data/x", node: "/mnt/data", mounts: []string{"D/data/x /mnt/data"}},
		"kind, relative, plain":     {target: file.Kind, path: "data", host: "D/data", node: "/mnt/data", mounts: []string{"D/data /mnt/data"}},
		"kind, absolute":            {target: file.Kind, path: "TOP/a", host: "TOP/a", node: "/mnt/data", mounts: []string{"TOP/a /mnt/data"}},
		"kind, home":                {target: file.Kind, path: "~/a", host: "TOP/home/a", node: "/mnt/data", mounts: []string{"TOP/home/a /mnt/data"}, told: []string{"volume-path-missing warning"}},
		"kind, below the root":      {target: file.Kind, root: "ROOT", path: "ROOT/x/y", host: "ROOT/x/y", node: "/mnt/x/y", told: []string{"volume-path-missing warning"}},
		"kind, root with a slash":   {target: file.Kind, root: "ROOT/", path: "ROOT//x/../z/", host: "ROOT/z", node: "/mnt/z", told: []string{"volume-path-missing warning"}},
		"kind, beside the root":     {target: file.Kind, root: "ROOT", path: "ROOT2/x", host: "ROOT2/x", node: "/mnt/data", mounts: []string{"ROOT2/x /mnt/data"}},
		"kind, elsewhere":           {target: file.Kind, root: "ROOT", path: "TOP/a", host: "TOP/a", node: "/mnt/data", mounts: []string{"TOP/a /mnt/data"}},
		"kind, relative below it":   {target: file.Kind, root: "TOP", path: "./data/x", host: "D/data/x", node: "/mnt/d/data/x"},
		"kind, by a link":           {target: file.Kind, root: "ROOT", path: "TOP/link/x", host: "TOP/link/x", node: "/mnt/deep/x", told: []string{"volume-path-missing warning"}},
		"kind, root by a link":      {target: file.Kind, root: "TOP/rootlink", path: "ROOT/x", host: "ROOT/x", node: "/mnt/x", told: []string{"volume-path-missing warning"}},
		"kind, out by a link":       {target: file.Kind, root: "ROOT", path: "ROOT/out/x", host: "ROOT/out/x", node: "/mnt/data", mounts: []string{"ROOT/out/x /mnt/data"}, told: []string{"volume-path-missing warning"}},
		"kind, the root itself":     {target: file.Kind, root: "ROOT", path: "ROOT", host: "ROOT", node: "/mnt", told: []string{"volume-holds-root warning"}},
		"kind, above the root":      {target: file.Kind, root: "ROOT", path: "TOP", host: "TOP", node: "/mnt/data", mounts: []string{"TOP /mnt/data"}, told: []string{"volume-holds-root warning", "volume-in-directory warning"}},
		"k8s, none":                 {target: file.K8s, dynamic: true},
		"k8s, absolute":             {target: file.K8s, path: "/srv/nowhere/x/", host: "/srv/nowhere/x", node: "/srv/nowhere/x"},
		"k8s, a root means nothing": {target: file.K8s, root: "/srv", path: "/srv/x", host: "/srv/x", node: "/srv/x"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, volumeFile)
			top := filepath.Dir(s.d.Path)
			words := strings.NewReplacer("ROOT", filepath.Join(top, "root"), "TOP", top, "D/", s.d.Path+"/")
			for _, d := range []string{"a", "root/deep", "root2/x"} {
				s.mkdir(filepath.Join(top, d))
			}
			s.link("root/deep", filepath.Join(top, "link"))
			s.link("root", filepath.Join(top, "rootlink"))
			s.link(filepath.Join(top, "a"), filepath.Join(top, "root/out"))
			s.d.Spec.Target, s.d.Spec.KindMountRoot = c.target, words.Replace(c.root)
			s.volume("data", words.Replace(strings.ReplaceAll(c.path, "ROOT2", "TOP/root2")))
			r := s.good()
			want := Volume{
				Name: "data", PVC: "laconic-1-data", PV: "laconic-1-data", Spec: words.Replace(strings.ReplaceAll(c.path, "ROOT2", "TOP/root2")),
				HostPath: words.Replace(strings.ReplaceAll(c.host, "ROOT2", "TOP/root2")), NodePath: c.node, Size: "2Gi", Pods: []string{"one"},
			}
			if c.dynamic {
				want.PV = ""
			}
			if diff := cmp.Diff([]Volume{want}, r.result.Volumes); diff != "" {
				t.Error(diff)
			}
			var mounts, wantMounts []string
			if c.root != "" && c.target == file.Kind {
				wantMounts = append(wantMounts, filepath.Clean(words.Replace(c.root))+" /mnt umbrella")
			}
			for _, m := range c.mounts {
				wantMounts = append(wantMounts, words.Replace(strings.ReplaceAll(m, "ROOT2", "TOP/root2")))
			}
			for _, m := range r.result.Mounts {
				line := m.HostPath + " " + m.ContainerPath
				if m.Umbrella {
					line += " umbrella"
				}
				mounts = append(mounts, line)
			}
			if diff := cmp.Diff(wantMounts, mounts); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.told, told(r)); diff != "" {
				t.Error(diff)
			}
			if pvs := names(r, "PersistentVolume"); c.dynamic != (len(pvs) == 0) {
				t.Errorf("PVs %q", pvs)
			}
		})
	}
}

// TestVolumeObjects is the objects of each kind of volume, under both rules.
func TestVolumeObjects(t *testing.T) {
	for _, rules := range []file.Rules{file.V1, file.V2} {
		name := map[file.Rules]string{file.V1: "v1", file.V2: "v2"}[rules]
		t.Run(name, func(t *testing.T) {
			s := newScene(t, `
services:
  web:
    image: web
    volumes:
      - data:/data
      - data:/again:ro
      - my_cache:/cache
      - conf:/conf
      - type: volume
        source: data
        target: /part
        volume: {subpath: part}
volumes:
  unused:
  conf:
  data:
  my_cache:
`)
			s.d.Deployment.Rules = rules
			s.d.Spec.Target = file.K8s
			s.d.Spec.VolumeStorages = map[string]file.Quantity{"data": "5Gi"}
			s.volume("data", "/srv/data").volume("my_cache", "").volume("unused", "/srv/unused").configmap("conf")
			s.write("configmaps/conf/app.toml", "port = 1\n")
			r := s.good()
			volumes, mounts := r.podVolumes(&r.pods[0])
			golden.CompareString(t, "", objects(t, r)+text(t, jsonOf(t, volumes), jsonOf(t, mounts)))
			for _, n := range r.c.notices {
				t.Errorf("%v", n)
			}
		})
	}
}

func TestVolumeSizes(t *testing.T) {
	for _, c := range []struct {
		own, all file.Quantity
		v1, v2   string
	}{
		{"", "", "2000M", "2Gi"},
		{"", "1GiB", "1073M", "1Gi"},
		{"5Gi", "1G", "5000M", "5Gi"},
		{"1500MB", "", "1500M", "1500M"},
		{"10G", "", "10000M", "10G"},
	} {
		for rules, want := range map[file.Rules]string{file.V1: c.v1, file.V2: c.v2} {
			s := newScene(t, volumeFile).volume("data", "")
			s.d.Deployment.Rules, s.d.Spec.VolumeStorage = rules, c.all
			if c.own != "" {
				s.d.Spec.VolumeStorages = map[string]file.Quantity{"data": c.own}
			}
			r := s.good()
			claim := find(t, r, "PersistentVolumeClaim", "laconic-1-data").Object["spec"]
			if diff := cmp.Diff(map[string]any{
				"accessModes": []any{"ReadWriteOnce"}, "resources": map[string]any{"requests": map[string]any{"storage": want}},
			}, claim); diff != "" || r.result.Volumes[0].Size != want {
				t.Errorf("%v, V%d: %s", c, rules, diff)
			}
		}
	}
	s := newScene(t, volumeFile).volume("data", "")
	s.d.Spec.VolumeStorage = "0"
	s.refused("resources.volumes", "too small")
	s.d.Spec.VolumeStorage = "much"
	s.refused("resources.volumes", "size of data")
}

// TestFalsePersistence names the path that would keep the data.
func TestFalsePersistence(t *testing.T) {
	s := newScene(t, volumeFile).volume("data", "")
	if got := s.good().c.notices[0].Message; !strings.Contains(got, "data: ./data/data") {
		t.Error(got)
	}
	s.d.Spec.KindMountRoot = "/srv/kind"
	if got := s.good().c.notices[0].Message; !strings.Contains(got, "data: /srv/kind/laconic-web/data") {
		t.Error(got)
	}
	if n, ok := NoUmbrella(s.d); ok {
		t.Errorf("%v", n)
	}
	s.d.Spec.KindMountRoot = ""
	if n, ok := NoUmbrella(s.d); !ok || n.Level != file.Warning || n.Message == "" {
		t.Errorf("%v %v", n, ok)
	}
	s.d.Spec.Target = file.K8s
	if _, ok := NoUmbrella(s.d); ok {
		t.Error("only kind has an umbrella")
	}
}

func TestVolumeRefusals(t *testing.T) {
	const two = "services: {db: {image: db, volumes: ['a:/a', 'b:/b']}}\nvolumes: {a: , b: }\n"
	for name, c := range map[string]struct {
		compose string
		set     func(*scene)
		want    []string
	}{
		"relative on k8s": {volumeFile, func(s *scene) {
			s.d.Spec.Target = file.K8s
			s.volume("data", "./x")
		}, []string{"spec.yml:1", "volumes.data", "absolute"}},
		"home on k8s": {volumeFile, func(s *scene) {
			s.d.Spec.Target = file.K8s
			s.volume("data", "~/x")
		}, []string{"absolute"}},
		"out of the directory": {volumeFile, func(s *scene) { s.volume("data", "./data/../../x") }, []string{"out of the deployment directory"}},
		"its parent":           {volumeFile, func(s *scene) { s.volume("data", "..") }, []string{"out of the deployment directory"}},
		"the directory itself": {volumeFile, func(s *scene) { s.volume("data", "./") }, []string{"deployment directory itself"}},
		"another's home":       {volumeFile, func(s *scene) { s.volume("data", "~you/x") }, []string{"another user"}},
		"undeclared":           {"services: {db: {image: db, volumes: ['data:/data']}}\n", func(s *scene) { s.volume("data", "./data") }, []string{"service db", "declared in no compose file"}},
		"in no section":        {volumeFile, func(*scene) {}, []string{"service db", "neither volumes nor configmaps"}},
		"in both sections":     {volumeFile, func(s *scene) { s.volume("data", "./data").configmap("data"); s.write("configmaps/data/x", "") }, []string{"configmaps.data", "either data or configuration"}},
		"equal":                {two, func(s *scene) { s.volume("a", "./data").volume("b", "data/x/..") }, []string{"spec.yml:2", "volumes.b", "volume a"}},
		"nested":               {two, func(s *scene) { s.volume("a", "./data/a/b").volume("b", "./data/a") }, []string{"volumes.b", "one holds the other"}},
		"equal on k8s":         {two, func(s *scene) { s.d.Spec.Target = file.K8s; s.volume("a", "/a").volume("b", "/a/") }, []string{"volumes.b"}},
		"equal by a link": {two, func(s *scene) {
			s.mkdir(s.d.Path + "/data/a")
			s.link("a", s.d.Path+"/data/b")
			s.volume("a", "./data/a").volume("b", "./data/b")
		}, []string{"volumes.b"}},
		"equal inside the node": {two, func(s *scene) {
			s.d.Spec.KindMountRoot = s.mkdir(filepath.Dir(s.d.Path) + "/root")
			s.mkdir(s.d.Spec.KindMountRoot + "/b")
			s.volume("a", s.d.Spec.KindMountRoot+"/b").volume("b", "./data/b")
		}, []string{"volumes.b", "inside the node", "/mnt/b"}},
		"a name no cluster takes":     {"services: {db: {image: db, volumes: ['Data:/data']}}\nvolumes: {Data: }\n", func(s *scene) { s.volume("Data", "./data") }, []string{"volumes.Data", "lower case"}},
		"a name too long for a label": {strings.ReplaceAll(volumeFile, "data", strings.Repeat("d", 60)), func(s *scene) { s.volume(strings.Repeat("d", 60), "./data") }, []string{"63 characters"}},
		"one name of two":             {"services: {db: {image: db, volumes: ['a_b:/a', 'a-b:/b']}}\nvolumes: {a_b: , a-b: }\n", func(s *scene) { s.volume("a_b", "./a").volume("a-b", "./b") }, []string{"same name a-b"}},
		"a named pipe of Windows":     {"services: {db: {image: db, volumes: [{type: npipe, source: x, target: /x}]}}\n", func(*scene) {}, []string{"npipe"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, c.compose)
			c.set(s)
			s.refused(c.want...)
		})
	}
}

func TestMountOptions(t *testing.T) {
	s := newScene(t, `
services:
  db:
    image: db
    volumes:
      - {type: bind, source: ../config/f, target: /f, read_only: true, consistency: cached, bind: {propagation: rshared, recursive: disabled}}
      - {type: tmpfs, target: /t, tmpfs: {mode: 448}}
      - {type: volume, source: data, target: /d, volume: {nocopy: true, subpath: a/b}}
volumes: {data: }
`).volume("data", "./data")
	s.write("config/f", "")
	r := s.good()
	_, mounts := mountLines(r, &r.pods[0])
	if diff := cmp.Diff([]string{"db /f <- host-path-config-f/f ro", "db /t <- tmpfs-" + digest("db/t", 8), "db /d <- data/a/b"}, mounts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"mount-option ignored", "mount-option ignored", "mount-option info", "mount-option info"}, told(r)); diff != "" {
		t.Error(diff)
	}
	s = newScene(t, "services: {db: {image: db, volumes: [{type: volume, source: data, target: /d, volume: {subpath: ../x}}]}}\nvolumes: {data: }\n").volume("data", "./data")
	s.refused("subpath ../x")
}

func TestVolumeNotices(t *testing.T) {
	s := newScene(t, "services: {db: {image: db, volumes: ['/anon', 'data:/data', {type: tmpfs, target: /tmp, tmpfs: {size: 1048576}}]}}\nvolumes: {data: }\n")
	s.volume("data", "./data").volume("nowhere", "/srv/x")
	r := s.good()
	volumes, mounts := mountLines(r, &r.pods[0])
	anon, tmp := "anonymous-"+digest("db/anon", 8), "tmpfs-"+digest("db/tmp", 8)
	if diff := cmp.Diff([]string{"data claim laconic-1-data", anon + " empty ", tmp + " empty Memory"}, volumes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"db /anon <- " + anon, "db /data <- data", "db /tmp <- " + tmp}, mounts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"volume-anonymous changed", "volume-unused warning"}, told(r)); diff != "" {
		t.Error(diff)
	}
}

// TestVolumesAcrossFiles: a volume that one file declares and another uses, by
// pods and jobs.
func TestVolumesAcrossFiles(t *testing.T) {
	s := newScene(t, volumeFile, "services: {web: {image: web, volumes: ['data:/data:ro']}}\n")
	s.job("dump", "services: {dump: {image: db, volumes: ['data:/data']}}\nvolumes: {data: }\n")
	s.volume("data", "./data")
	r := s.good()
	if diff := cmp.Diff([]string{"PersistentVolume/laconic-1-data", "PersistentVolumeClaim/laconic-1-data", "Service/db", "Service/web"}, names(r, "")); diff != "" {
		t.Error(diff)
	}
	v := r.result.Volumes[0]
	if cmp.Diff([]string{"one", "two"}, v.Pods) != "" || cmp.Diff([]string{"dump"}, v.Jobs) != "" {
		t.Errorf("%+v", v)
	}
	volumes, mounts := mountLines(r, &r.pods[1])
	if cmp.Diff([]string{"data claim laconic-1-data"}, volumes) != "" || cmp.Diff([]string{"web /data <- data ro"}, mounts) != "" {
		t.Errorf("%q %q", volumes, mounts)
	}
}

func TestLongVolumeName(t *testing.T) {
	long := strings.Repeat("d", 64)
	s := newScene(t, strings.ReplaceAll(volumeFile, "data", long))
	s.d.Deployment.ID = "x"
	s.configmap(long)
	s.write("configmaps/"+long+"/f", "")
	r := s.render() // the ConfigMap's own label has to be short as well
	volumes, mounts := mountLines(r, &r.pods[0])
	short := shorten(long)
	if cmp.Diff([]string{"db /" + long + " <- " + short}, mounts) != "" || !strings.HasPrefix(volumes[0], short+" configmap x-"+long) {
		t.Errorf("%q %q", volumes, mounts)
	}
}

// TestLiveVolumesStay: a live V1 volume stays where the old rules put it, and
// says where that is; one that was moved does not pass for that.
func TestLiveVolumesStay(t *testing.T) {
	for name, c := range map[string]struct {
		rules      file.Rules
		path, live string
		node, host string
		told       []string
	}{
		"relative below the root, new":  {file.V1, "./data/x", "", "/mnt/d/data/x", "TOP/d/data/x", nil},
		"relative below the root, live": {file.V1, "./data/x", "/mnt/data", "/mnt/data", "TOP/data", []string{"volume-elsewhere warning"}},
		"the same under V2":             {file.V2, "./data/x", "/mnt/data", "/mnt/d/data/x", "TOP/d/data/x", nil},
		"already right":                 {file.V1, "./data/x", "/mnt/d/data/x", "/mnt/d/data/x", "TOP/d/data/x", nil},
		"prefix as text":                {file.V1, "TOP2/x", "/mnt2/x", "/mnt2/x", "", []string{"volume-elsewhere warning"}},
		"prefix as text, with a slash":  {file.V1, "TOP2/x", "/mnt/2/x", "/mnt/2/x", "TOP/2/x", []string{"volume-elsewhere warning"}},
		"moved":                         {file.V1, "./data/x", "/mnt/d/data/old", "/mnt/d/data/x", "TOP/d/data/x", nil},
		"moved below the root":          {file.V1, "TOP/x", "/mnt/data", "/mnt/x", "TOP/x", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, volumeFile)
			top := filepath.Dir(s.d.Path)
			s.mkdir(top + "/x")
			s.mkdir(top + "2/x")
			words := strings.NewReplacer("TOP", top)
			s.d.Deployment.Rules, s.d.Spec.KindMountRoot = c.rules, top
			s.volume("data", words.Replace(c.path))
			s.f.HostPaths = map[string]string{"laconic-1-data": c.live}
			r := s.good()
			v := r.result.Volumes[0]
			if v.NodePath != c.node || v.HostPath != words.Replace(c.host) || cmp.Diff(c.told, told(r)) != "" {
				t.Errorf("node %s, host %s, told %q", v.NodePath, v.HostPath, told(r))
			}
			if c.told != nil && len(r.result.Mounts) != 1 {
				t.Errorf("a volume that stays needs no new mount: %v", r.result.Mounts)
			}
		})
	}
}

// TestSameVolumesEveryTime renders one directory again and again.
func TestSameVolumesEveryTime(t *testing.T) {
	s := newScene(t, bindFile+"      - ../config:/c:ro\n      - b:/b\n      - a:/a\nvolumes: {b: , a: , c: }\n")
	for _, f := range []string{"z", "y", "x w", ".v"} {
		s.write("config/"+f, f)
	}
	s.volume("a", "").volume("b", "./data/b").volume("c", "./data/c")
	first := ""
	for range 20 {
		r := s.good()
		volumes, mounts := r.podVolumes(&r.pods[0])
		got := objects(t, r) + text(t, jsonOf(t, volumes), jsonOf(t, mounts))
		if first == "" {
			first = got
		}
		if got != first {
			t.Fatal(cmp.Diff(first, got))
		}
	}
}
