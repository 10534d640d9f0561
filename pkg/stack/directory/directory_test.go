package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"homelab/internal/golden"
	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

// site is a machine with one stack.
type site struct {
	t   *testing.T
	dir string
	env file.Env
}

const specText0 = `stack: root/stacks/shop
deploy-to: k8s-kind
config:
  A: '1'
network:
  ports:
    web:
     - '80'
     - '8443:443'
volumes:
  web-data: ./data/web
  db-data:
configmaps:
  web-config: ./configmaps/web-config
credentials-files: [creds.env]
`

func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, env: file.Env{Home: dir, WorkDir: dir, RepoBase: filepath.Join(dir, "cerc")}}
	s.write(map[string]string{
		"root/stacks/shop/stack.yml": "version: '1'\nname: shop\npods: [web, db]\njobs: [tidy]\n",
		"root/compose/docker-compose-web.yml": `# The shop.
services:
  web:
    image: nginx:1.27
    ports:
      - "80"       # plain
      - "8443:443"
    env_file: ../config/web/web.env
    volumes:
      - web-data:/data
      - web-config:/etc/web:ro
      - ../config/shared/run.sh:/run.sh:ro
      - ../extra/a.txt:/a.txt:ro
volumes:
  web-data:
  web-config:
`,
		"root/compose/docker-compose-db.yml":        "services:\n  db:\n    image: postgres:16\n    ports: [\"5432\"]\n    volumes: [db-data:/var/lib/postgresql/data]\nvolumes: {db-data: }\n",
		"root/compose-jobs/docker-compose-tidy.yml": "services:\n  tidy:\n    image: alpine:3\n    volumes: [../config/tidy/t.sh:/t.sh:ro]\n",
		"root/config/web/web.env":                   "A=1\n", "root/config/web/more": "more", "root/config/shared/run.sh": "#!/bin/sh\n", "root/config/tidy/t.sh": "#!/bin/sh\n",
		"root/config/web-config/a.conf": "x", "root/extra/a.txt": "a", "creds.env": "TOKEN=t\n", "spec.yml": specText0,
	})
	if err := os.Chmod(filepath.Join(dir, "root/config/shared/run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) write(files map[string]string) {
	s.t.Helper()
	for name, text := range files {
		path := filepath.Join(s.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) edit(name, old, fresh string) {
	s.t.Helper()
	data := s.read(name)
	if !strings.Contains(data, old) {
		s.t.Fatalf("%s has no %q", name, old)
	}
	s.write(map[string]string{name: strings.Replace(data, old, fresh, 1)})
}

func (s *site) read(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

// files returns what lies below name: path to mode and text. The lock is left
// out.
func (s *site) files(name string) map[string]string {
	out := map[string]string{}
	root := filepath.Join(s.dir, name)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		data, err := os.ReadFile(p)
		out[rel] = fmt.Sprintf("%o %s", st.Mode().Perm(), data)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) options() Options {
	return Options{
		SpecFile: "spec.yml", Dir: "d", Env: s.env, Version: "v1", Verb: "deploy create",
		Clusters: func(context.Context) ([]Cluster, error) { return nil, nil },
		Now:      time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Random: bytes.NewReader(bytes.Repeat([]byte{1, 2, 3, 4}, 100)),
	}
}

func (s *site) create(change ...func(*Options)) *Outcome {
	s.t.Helper()
	out, err := s.try(change...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) try(change ...func(*Options)) (*Outcome, error) {
	o := s.options()
	for _, c := range change {
		c(&o)
	}
	return Create(s.t.Context(), o)
}

func update(o *Options) { o.Update = true }

func TestCreate(t *testing.T) {
	s := newSite(t)
	out := s.create()
	got := s.files("d")
	for name, want := range map[string]string{
		"spec.yml": "644 " + specText0, "stack.yml": "644 " + s.read("root/stacks/shop/stack.yml"),
		"config.env":                           "600 # Settings of spec.yml. Edit that file: this one is written from it.\nA=1\n# credentials file: creds.env\nTOKEN=t\n",
		"compose/docker-compose-web.yml":       "644 " + s.read("root/compose/docker-compose-web.yml"),
		"compose/docker-compose-db.yml":        "644 " + s.read("root/compose/docker-compose-db.yml"),
		"compose-jobs/docker-compose-tidy.yml": "644 " + s.read("root/compose-jobs/docker-compose-tidy.yml"),
		"config/web/web.env":                   "644 A=1\n",
		"config/web/more":                      "644 more",
		"config/shared/run.sh":                 "755 #!/bin/sh\n",
		"config/tidy/t.sh":                     "644 #!/bin/sh\n",
		"extra/a.txt":                          "644 a",
		"configmaps/web-config/a.conf":         "644 x",
		"deployment.yml":                       "644 cluster-id: laconic-dh4yvut34\ndeployment-id: laconic-dh4yvut12\nstack-source: " + s.dir + "/root/stacks/shop\nspec-source: " + s.dir + "/spec.yml\nrender: v2\ncreated-by: homelab v1\n",
	} {
		if name == "deployment.yml" {
			// The ids are whatever they are; they differ.
			a, b := out.Directory.Deployment.ID, out.Directory.Deployment.ClusterID
			if a == b || !strings.HasPrefix(a, "laconic-") || !strings.HasPrefix(b, "laconic-") {
				t.Errorf("ids %s, %s", a, b)
			}
			want = strings.NewReplacer("laconic-dh4yvut34", b, "laconic-dh4yvut12", a).Replace(want)
		}
		if got[name] != want {
			t.Errorf("%s:\n got %q\nwant %q", name, got[name], want)
		}
		delete(got, name)
	}
	kind := got["kind-config.yml"]
	if !strings.Contains(kind, "hostPath: "+s.dir+"/d/data/web\n") || !strings.Contains(kind, "containerPath: /mnt/web-data\n") {
		t.Errorf("kind-config.yml:\n%s", kind)
	}
	state, err := file.ReadState(filepath.Join(s.dir, "d"))
	if err != nil || state.Hashes["kind-config.yml"] != file.Hash([]byte(strings.TrimPrefix(kind, "644 "))) || state.Hashes["deployment.yml"] != "" {
		t.Errorf("state %+v, %v", state, err)
	}
	delete(got, "kind-config.yml")
	delete(got, ".homelab/state.json")
	if len(got) != 0 {
		t.Errorf("besides: %q", slices.Collect(maps.Keys(got)))
	}
	if st, err := os.Stat(filepath.Join(s.dir, "d/.homelab")); err != nil || st.Mode().Perm() != 0o700 {
		t.Error(st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Join(s.dir, "d/data/web")); err != nil || !st.IsDir() {
		t.Error(err)
	}
	if d, _, err := file.Load(filepath.Join(s.dir, "d"), s.env); err != nil || len(d.Env) != 2 || !d.Env[1].Credential {
		t.Errorf("%+v, %v", d, err)
	}
	if len(out.Plan.Create) != 14 || out.Plan.Unchanged != 0 {
		t.Errorf("%+v", out.Plan)
	}
}

// What is wrong is told, and nothing is there afterwards.
func TestCreateRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*site)
		change  func(*Options)
		want    string
	}{
		"exists":             {func(s *site) { s.write(map[string]string{"d/x": ""}) }, nil, "d exists"},
		"exists, deployment": {func(s *site) { s.write(map[string]string{"d/deployment.yml": ""}) }, nil, "--update brings it up to date"},
		"not there":          {nil, update, "d is no deployment directory"},
		"no parent":          {nil, func(o *Options) { o.Dir = "none/d" }, "has no parent directory"},
		"no spec":            {nil, func(o *Options) { o.SpecFile = "none.yml" }, "none.yml: does not exist"},
		"other stack":        {func(s *site) { s.write(map[string]string{"root/stacks/other/stack.yml": ""}) }, func(o *Options) { o.Stack = "root/stacks/other" }, "--stack root/stacks/other contradicts spec.yml"},
		"unknown stack":      {func(s *site) { s.edit("spec.yml", "root/stacks/shop", "nowhere") }, nil, "there is no stack"},
		"no compose file":    {func(s *site) { _ = os.Remove(filepath.Join(s.dir, "root/compose/docker-compose-db.yml")) }, nil, `pod "db" has no compose file`},
		"bad compose file":   {func(s *site) { s.write(map[string]string{"root/compose/docker-compose-db.yml": "a: ["}) }, nil, "docker-compose-db.yml:1: is not valid YAML"},
		"no target":          {func(s *site) { s.edit("spec.yml", "deploy-to: k8s-kind\n", "") }, nil, "deploy-to is missing"},
		"no credentials":     {func(s *site) { _ = os.Remove(filepath.Join(s.dir, "creds.env")) }, nil, "credentials-files[0] names creds.env, which does not exist"},
		"bad credentials":    {func(s *site) { s.write(map[string]string{"creds.env": "a b\n"}) }, nil, "is no environment file"},
		"no CA":              {func(s *site) { s.edit("spec.yml", "credentials", "ca-certificates: [ca.pem]\ncredentials") }, nil, "ca-certificates[0] names ca.pem"},
		"no kubeconfig": {func(s *site) {
			s.edit("spec.yml", "k8s-kind", "k8s\nkube-config: k")
			s.edit("spec.yml", "./data/web", "/data/web")
		}, nil, "kube-config names k, which does not exist"},
		"no configmap":      {func(s *site) { _ = os.RemoveAll(filepath.Join(s.dir, "root/config/web-config")) }, nil, "configmaps.web-config needs config/web-config"},
		"configmap too big": {func(s *site) { s.write(map[string]string{"root/config/web-config/b": strings.Repeat("x", 1<<20)}) }, nil, "a ConfigMap has room for 1048576"},
		"bind missing":      {func(s *site) { _ = os.RemoveAll(filepath.Join(s.dir, "root/extra")) }, nil, "docker-compose-web.yml:13: volumes names ../extra/a.txt, which does not exist in the stack"},
		"bind in config":    {func(s *site) { _ = os.Remove(filepath.Join(s.dir, "root/config/shared/run.sh")) }, nil, "names ../config/shared/run.sh, which does not exist"},
		"env_file missing":  {func(s *site) { _ = os.Remove(filepath.Join(s.dir, "root/config/web/web.env")) }, nil, "env_file names ../config/web/web.env"},
		"bind outside":      {func(s *site) { s.edit("root/compose/docker-compose-web.yml", "../extra", "../../extra") }, nil, "lies outside of the stack"},
		"bind over ours":    {func(s *site) { s.edit("root/compose/docker-compose-web.yml", "../extra/a.txt", "../deployment.yml") }, nil, "is not the stack's"},
		"link out": {func(s *site) {
			_ = os.Symlink("/etc/hostname", filepath.Join(s.dir, "root/config/web/link"))
		}, nil, "is a link out of the stack"},
		"rw bind":             {func(s *site) { s.edit("root/compose/docker-compose-web.yml", "a.txt:ro", "a.txt:rw") }, nil, "rw"},
		"hooks":               {func(s *site) { s.write(map[string]string{"root/stacks/shop/deploy/commands.py": ""}) }, nil, "--no-hooks goes on"},
		"several clusters":    {nil, func(o *Options) { o.Clusters = clusters("a", "b") }, "several kind clusters run: a, b"},
		"bad id":              {nil, func(o *Options) { o.ID = "A_b" }, "deployment-id must be"},
		"bad cluster":         {nil, func(o *Options) { o.Cluster = "A b" }, "cluster-id must be"},
		"cluster contradicts": {func(s *site) { s.edit("spec.yml", "credentials", "kind-cluster-name: lab\ncredentials") }, func(o *Options) { o.Cluster = "x" }, "contradicts kind-cluster-name: lab"},
		"update and id":       {nil, func(o *Options) { o.Update, o.ID = true, "x" }, "--update leaves deployment.yml as it is"},
		"strict":              {nil, func(o *Options) { o.Judge = func([]file.Notice) error { return errors.New("judged") } }, "judged"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			if c.prepare != nil {
				c.prepare(s)
			}
			before := s.files(".")
			_, err := s.try(func(o *Options) {
				if c.change != nil {
					c.change(o)
				}
			})
			told := fmt.Sprint(err)
			if e, ok := errors.AsType[*fault.Error](err); ok {
				told = e.What + " " + e.Why
			}
			if err == nil || !strings.Contains(told, c.want) {
				t.Errorf("got %v", err)
			}
			if d := cmp.Diff(before, s.files(".")); d != "" {
				t.Errorf("something was written: %s", d)
			}
		})
	}
}

// All mistakes of all files at once.
func TestCreateTellsAll(t *testing.T) {
	s := newSite(t)
	s.edit("spec.yml", "credentials-files", "replicas: x\ncredentials-files")
	s.edit("root/stacks/shop/stack.yml", "db]", "db, none]")
	_ = os.RemoveAll(filepath.Join(s.dir, "creds.env"))
	_, err := s.try()
	var got []string
	for _, p := range file.AsProblems(err) {
		got = append(got, p.String())
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{"replicas must be", `pod "none" has no compose file`} {
		if !strings.Contains(all, want) {
			t.Errorf("not told: %s\n%s", want, all)
		}
	}
}

func clusters(names ...string) func(context.Context) ([]Cluster, error) {
	return func(context.Context) ([]Cluster, error) {
		var out []Cluster
		for _, n := range names {
			name, ours := strings.CutPrefix(n, "+")
			out = append(out, Cluster{name, ours})
		}
		return out, nil
	}
}

func TestClusterID(t *testing.T) {
	for name, c := range map[string]struct {
		spec   string
		change func(*Options)
		want   string // "fresh", "id" or the name
		notice string
	}{
		"none":        {want: "fresh"},
		"one of ours": {change: func(o *Options) { o.Clusters = clusters("+a") }, want: "a"},
		"foreign":     {change: func(o *Options) { o.Clusters = clusters("a") }, want: "a", notice: "foreign-cluster"},
		"only ours":   {change: func(o *Options) { o.Clusters = clusters("a", "+b", "c") }, want: "b"},
		"flag":        {change: func(o *Options) { o.Cluster, o.Clusters = "x", clusters("a", "b") }, want: "x"},
		"spec":        {spec: "kind-cluster-name: lab\n", change: func(o *Options) { o.Clusters = clusters("a", "b") }, want: "lab"},
		"no engine": {change: func(o *Options) {
			o.Clusters = func(context.Context) ([]Cluster, error) { return nil, fault.New(fault.Unreachable, "x", "") }
		}, want: "fresh", notice: "engine-unreachable"},
		"id":            {change: func(o *Options) { o.ID = "shop-1" }, want: "fresh"},
		"other targets": {spec: "k8s", change: func(o *Options) { o.Clusters = clusters("a") }, want: "id"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			if c.spec == "k8s" {
				s.edit("spec.yml", "k8s-kind", "k8s\nkube-config: kube")
				s.edit("spec.yml", "./data/web", "/data/web")
				s.write(map[string]string{"kube": "apiVersion: v1\n"})
			} else {
				s.edit("spec.yml", "credentials", c.spec+"credentials")
			}
			out := s.create(func(o *Options) {
				if c.change != nil {
					c.change(o)
				}
			})
			d := out.Directory.Deployment
			switch c.want {
			case "fresh":
				if !strings.HasPrefix(d.ClusterID, "laconic-") || d.ClusterID == d.ID {
					t.Errorf("%+v", d)
				}
			case "id":
				if d.ClusterID != d.ID || s.files("d")["kubeconfig.yml"] != "600 apiVersion: v1\n" || s.files("d")["kind-config.yml"] != "" {
					t.Errorf("%+v", d)
				}
			default:
				if d.ClusterID != c.want {
					t.Errorf("%+v", d)
				}
			}
			if name == "id" && d.ID != "shop-1" {
				t.Errorf("%+v", d)
			}
			told := slices.ContainsFunc(out.Notices, func(n file.Notice) bool { return n.Code == c.notice })
			if told != (c.notice != "") {
				t.Errorf("%+v", out.Notices)
			}
		})
	}
}

func TestCreateDryRun(t *testing.T) {
	s := newSite(t)
	before := s.files(".")
	out := s.create(func(o *Options) { o.DryRun = true })
	if len(out.Plan.Create) != 14 {
		t.Errorf("%+v", out.Plan)
	}
	s.create()
	made := s.files("d")
	s.edit("spec.yml", "A: '1'", "A: '2'")
	out = s.create(update, func(o *Options) { o.DryRun = true })
	if !slices.Equal(out.Plan.Update, []string{"config.env", "spec.yml"}) {
		t.Errorf("%+v", out.Plan)
	}
	if d := cmp.Diff(made, s.files("d")); d != "" {
		t.Error(d)
	}
	for name, text := range before {
		if name != "spec.yml" && s.files(".")[name] != text {
			t.Errorf("%s changed", name)
		}
	}
}

func TestHooksCopied(t *testing.T) {
	s := newSite(t)
	s.write(map[string]string{"root/stacks/shop/deploy/commands.py": "x", "root/stacks/shop/deploy/hooks/start": "y"})
	out := s.create(func(o *Options) { o.NoHooks = true })
	got := s.files("d")
	if got["hooks/commands.py"] != "644 x" || got["hooks/start"] != "644 y" || len(Hooks(filepath.Join(s.dir, "d"))) != 2 {
		t.Errorf("%q", got)
	}
	n := 0
	for _, x := range out.Notices {
		if x.Code == "hook-skipped" && x.Level == file.Ignored {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%+v", out.Notices)
	}
}

// Under the old rules a missing source is warned of only.
func TestCreateV1(t *testing.T) {
	s := newSite(t)
	_ = os.RemoveAll(filepath.Join(s.dir, "root/extra"))
	out := s.create(func(o *Options) { o.Rules = file.V1 })
	if strings.Contains(s.read("d/deployment.yml"), "render") || !slices.ContainsFunc(out.Notices, func(n file.Notice) bool { return n.Code == "bind-missing" }) {
		t.Errorf("%s\n%+v", s.read("d/deployment.yml"), out.Notices)
	}
}

func TestUpdate(t *testing.T) {
	s := newSite(t)
	s.create()
	s.write(map[string]string{"d/data/web/file": "data", "d/config/web/mine": "mine"})
	first := s.files("d")

	// The same again changes no byte.
	out := s.create(update)
	if d := cmp.Diff(first, s.files("d")); d != "" || out.Plan.Changes() {
		t.Fatalf("%+v %s", out.Plan, d)
	}

	s.edit("spec.yml", "A: '1'", "B: '2'")
	s.write(map[string]string{"root/config/web/web.env": "A=9\n", "root/config/web/new": "new", "d/config/shared/run.sh": "#!/bin/sh\nmine\n", "creds.env": "TOKEN=u\n"})
	_ = os.Remove(filepath.Join(s.dir, "root/config/web/more"))
	out = s.create(update)
	got := s.files("d")
	for name, want := range map[string]string{
		"config/web/web.env": "644 A=9\n", "config/web/web.env.bak": "644 A=1\n", "config/web/new": "644 new", "config/web/more.bak": "644 more", "config/web/more": "",
		"config/shared/run.sh": "755 #!/bin/sh\n", "config/shared/run.sh.bak": "755 #!/bin/sh\nmine\n", "spec.yml.bak": "644 " + specText0,
		"data/web/file": "644 data", "config/web/mine": "644 mine", "deployment.yml": first["deployment.yml"],
		"config.env":     "600 # Settings of spec.yml. Edit that file: this one is written from it.\nB=2\n# credentials file: creds.env\nTOKEN=u\n",
		"config.env.bak": "600 # Settings of spec.yml. Edit that file: this one is written from it.\nA=1\n# credentials file: creds.env\nTOKEN=t\n",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, not %q", name, got[name], want)
		}
	}
	if !slices.Equal(out.Edited, []string{"config/shared/run.sh"}) || !slices.Equal(out.Vanished, []string{"config.A"}) {
		t.Errorf("edited %q, vanished %q", out.Edited, out.Vanished)
	}
	if !slices.Equal(out.Plan.Update, []string{"config.env", "config/shared/run.sh", "config/web/web.env", "spec.yml"}) ||
		!slices.Equal(out.Plan.Create, []string{"config/web/new"}) || !slices.Equal(out.Plan.Delete, []string{"config/web/more"}) {
		t.Errorf("%+v", out.Plan)
	}
	out = s.create(update)
	if d := cmp.Diff(got, s.files("d")); d != "" || out.Plan.Changes() {
		t.Errorf("again: %+v %s", out.Plan, d)
	}
}

// A kind-config.yml that is not the generated one stays.
func TestUpdateKindConfig(t *testing.T) {
	s := newSite(t)
	s.create()
	s.edit("spec.yml", "./data/web", "./data/other")
	s.create(update)
	if got := s.read("d/kind-config.yml"); !strings.Contains(got, "data/other") {
		t.Error(got)
	}
	s.write(map[string]string{"d/kind-config.yml": "kind: Cluster\n# mine\n"})
	s.edit("spec.yml", "./data/other", "./data/third")
	out := s.create(update)
	if s.read("d/kind-config.yml") != "kind: Cluster\n# mine\n" || !strings.Contains(s.read("d/kind-config.yml.new"), "data/third") ||
		!slices.ContainsFunc(out.Notices, func(n file.Notice) bool { return n.Code == "kind-config-kept" }) {
		t.Errorf("%+v", out.Notices)
	}
	was := s.files("d")
	if out := s.create(update); out.Plan.Changes() {
		t.Errorf("%+v", out.Plan)
	}
	if d := cmp.Diff(was, s.files("d")); d != "" {
		t.Error(d)
	}
}

// A directory of the old tool: nothing is recorded, credentials were readable.
func TestUpdateOld(t *testing.T) {
	s := newSite(t)
	s.create(func(o *Options) { o.Rules = file.V1 })
	_ = os.RemoveAll(filepath.Join(s.dir, "d/.homelab"))
	_ = os.Chmod(filepath.Join(s.dir, "d/config.env"), 0o644)
	s.write(map[string]string{"d/compose/docker-compose-gone.yml": "services: {}\n", "d/kind-config.yml": "old\n"})
	out := s.create(update)
	got := s.files("d")
	if got["compose/docker-compose-gone.yml"] != "" || got["compose/docker-compose-gone.yml.bak"] == "" || !strings.HasPrefix(got["config.env"], "600 ") ||
		got["kind-config.yml"] != "644 old\n" || got["kind-config.yml.new"] == "" {
		t.Errorf("%+v\n%q", out.Plan, got)
	}
	if out := s.create(update); out.Plan.Changes() {
		t.Errorf("%+v", out.Plan)
	}
}

var errKilled = errors.New("killed")

// killAt ends a run before its nth step, and every one after it.
func killAt(n int) (disk, *int) {
	count := new(int)
	return disk{before: func(string, string) error {
		if *count++; *count > n {
			return errKilled
		}
		return nil
	}}, count
}

// A create that is killed anywhere leaves nothing or everything, and the next
// one succeeds.
func TestCreateKilled(t *testing.T) {
	s := newSite(t)
	fixed := func(o *Options) { o.ID, o.Cluster = "shop", "lab" }
	s.create(fixed)
	want := s.files("d")
	for n := 0; ; n++ {
		_ = os.RemoveAll(filepath.Join(s.dir, "d"))
		d, count := killAt(n)
		_, err := s.try(fixed, func(o *Options) { o.disk = d })
		if err == nil {
			if *count > n || n < 30 {
				t.Errorf("%d steps, the run had %d", n, *count)
			}
			break
		}
		if got := s.files("d"); len(got) != 0 && cmp.Diff(want, got) != "" {
			t.Fatalf("after %d steps: %s", n, cmp.Diff(want, got))
		}
		if !file.IsDeployment(filepath.Join(s.dir, "d")) {
			s.create(fixed)
		}
		if diff := cmp.Diff(want, s.files("d")); diff != "" {
			t.Fatalf("after %d steps and another run: %s", n, diff)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, ".*stage*")); len(left) != 0 {
		t.Errorf("left over: %q", left)
	}
}

// An update that is killed anywhere leaves each file old or new, and the next
// one ends as an undisturbed one does.
func TestUpdateKilled(t *testing.T) {
	change := func(s *site) {
		s.edit("spec.yml", "A: '1'", "B: '2'")
		s.edit("spec.yml", "./data/web", "./data/other")
		s.write(map[string]string{"root/config/web/web.env": "A=9\n", "root/config/web/new": "new"})
		_ = os.Remove(filepath.Join(s.dir, "root/config/web/more"))
	}
	fixed := func(o *Options) { o.ID, o.Cluster = "shop", "lab" }
	model := newSite(t)
	model.create(fixed)
	old := model.files("d")
	change(model)
	model.create(update)
	at := func(s *site, files map[string]string) map[string]string {
		out := map[string]string{}
		for k, v := range files {
			out[k] = strings.ReplaceAll(v, s.dir, "DIR")
		}
		delete(out, ".homelab/state.json") // its hashes are of files with the directory in them
		return out
	}
	was, want := at(model, old), at(model, model.files("d"))
	for n := 0; ; n++ {
		s := newSite(t)
		s.create(fixed)
		s.write(map[string]string{"d/data/web/file": "data"})
		change(s)
		d, _ := killAt(n)
		_, err := s.try(update, func(o *Options) { o.disk = d })
		if err == nil {
			if n < 20 {
				t.Errorf("only %d steps", n)
			}
			break
		}
		for name, text := range at(s, s.files("d")) {
			if strings.HasPrefix(name, ".homelab/") || strings.HasSuffix(name, ".bak") || strings.HasSuffix(name, tmpSuffix) || strings.HasPrefix(name, "data/") {
				continue
			}
			if text != was[name] && text != want[name] {
				t.Fatalf("after %d steps %s is neither: %q", n, name, text)
			}
		}
		s.create(update)
		got := at(s, s.files("d"))
		if got["data/web/file"] != "644 data" {
			t.Fatalf("after %d steps the data is %q", n, got["data/web/file"])
		}
		delete(got, "data/web/file")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("after %d steps and another run: %s", n, diff)
		}
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	held, err := Lock(t.Context(), dir, "deployment start", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, fault.ErrTimeUp)
	defer cancel()
	var told []Holder
	_, err = Lock(ctx, dir, "deployment stop", func(h Holder) { told = append(told, h) })
	if fault.KindOf(err) != fault.Timeout || !strings.Contains(err.Error(), fmt.Sprintf("process %d (deployment start)", os.Getpid())) {
		t.Error(err)
	}
	if len(told) != 1 || told[0] != (Holder{os.Getpid(), "deployment start"}) {
		t.Errorf("%+v", told)
	}
	gone, stop := context.WithCancelCause(t.Context())
	stop(errKilled)
	if _, err := Lock(gone, dir, "x", nil); !errors.Is(err, errKilled) {
		t.Error(err)
	}
	held.Release()
	held.Release()
	again, err := Lock(t.Context(), dir, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
	if data, err := os.ReadFile(filepath.Join(dir, ".homelab/lock")); err != nil || len(data) != 0 {
		t.Errorf("%q, %v", data, err)
	}
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := OpenJournal(dir)
	if e, err := j.Read(); e != nil || err != nil {
		t.Fatal(e, err)
	}
	want := Entry{Verb: "deployment stop", PID: 7, Began: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Deletions: []string{"Service a"}, Cluster: "lab", Commits: map[string]string{"spec": "abc"}}
	if err := j.Write(want); err != nil {
		t.Fatal(err)
	}
	// What is not about files stays for the workflow to settle.
	e, err := Settle(dir)
	if err != nil || cmp.Diff(&want, e) != "" {
		t.Fatal(cmp.Diff(&want, e), err)
	}
	if err := errors.Join(j.Clear(), j.Clear()); err != nil {
		t.Fatal(err)
	}
	if e, err := Settle(dir); e != nil || err != nil {
		t.Error(e, err)
	}
	if err := os.WriteFile(j.path(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Settle(dir); fault.KindOf(err) != fault.Unsafe {
		t.Error(err)
	}
}

func TestInit(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*InitOptions)
	}{
		{"compose", func(*InitOptions) {}},
		{"kind", func(o *InitOptions) {
			o.Target, o.Config = file.Kind, []string{"A=1", "B=x #y", "C=$generate:hex:16$", "D=", "E=it's", "F=true"}
		}},
		{"k8s", func(o *InitOptions) {
			o.Target, o.KubeConfig, o.ImageRegistry, o.Ports = file.K8s, "~/.kube/lab", "reg.lan/shop", LocalhostSame
		}},
		{"any-same", func(o *InitOptions) { o.Ports, o.ConfigFile, o.Config = AnySame, "creds.env", []string{"TOKEN=u"} }},
		{"fixed", func(o *InitOptions) { o.Ports = LocalhostFixedRandom }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.edit("root/compose/docker-compose-db.yml", `["5432"]`, `["5432/udp", "9000-9001", {target: 7, published: "70", host_ip: 10.0.0.1}]`)
			o := s.initOptions()
			c.change(&o)
			out, err := WriteSpec(t.Context(), s.env, o)
			if err != nil {
				t.Fatal(err)
			}
			if s.read("new.yml") != string(out.Text) {
				t.Error("something else was written")
			}
			golden.Compare(t, "init-"+c.name, out.Text)
		})
	}
}

func (s *site) initOptions() InitOptions {
	return InitOptions{
		Stack: "root/stacks/shop", Target: file.Compose, Output: "new.yml",
		Free: func(_ string, port int, _ bool) bool { return port%2 == 0 }, Random: bytes.NewReader(bytes.Repeat([]byte{1, 2, 3, 4, 9, 8, 7, 6, 5}, 100)),
	}
}

func TestInitRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*InitOptions)
		want   string
	}{
		"k8s":       {func(o *InitOptions) { o.Target = file.K8s }, "needs --kube-config"},
		"kube":      {func(o *InitOptions) { o.KubeConfig = "x" }, "--kube-config is for"},
		"registry":  {func(o *InitOptions) { o.Target, o.ImageRegistry = file.Kind, "x" }, "--image-registry is for"},
		"target":    {func(o *InitOptions) { o.Target = "x" }, "--deploy-to must be"},
		"recipe":    {func(o *InitOptions) { o.Ports = "x" }, "--map-ports-to-host must be one of any-variable-random"},
		"pair":      {func(o *InitOptions) { o.Config = []string{"A=1", "hunter2"} }, "one of them has no NAME="},
		"no stack":  {func(o *InitOptions) { o.Stack = "none" }, "there is no stack"},
		"no file":   {func(o *InitOptions) { o.ConfigFile = "none" }, "does not exist"},
		"no ports":  {func(o *InitOptions) { o.Ports, o.Free = AnyFixedRandom, func(string, int, bool) bool { return false } }, "is free"},
		"no place":  {func(o *InitOptions) { o.Output = "none/x.yml" }, "cannot be written"},
		"directory": {func(o *InitOptions) { o.Output = "root" }, "root cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			o := s.initOptions()
			o.Random = bytes.NewReader(make([]byte, 4000))
			c.change(&o)
			_, err := WriteSpec(t.Context(), s.env, o)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(filepath.Join(s.dir, "new.yml")); err == nil {
				t.Error("it was written")
			}
		})
	}
}

func TestInitExists(t *testing.T) {
	s := newSite(t)
	o := s.initOptions()
	if _, err := WriteSpec(t.Context(), s.env, o); err != nil {
		t.Fatal(err)
	}
	_, err := WriteSpec(t.Context(), s.env, o)
	exists, ok := errors.AsType[*ExistsError](err)
	if !ok || len(exists.Customised) != 0 {
		t.Fatalf("%v", err)
	}
	s.edit("new.yml", "./data/db-data", "/srv/db")
	s.edit("new.yml", "network:", "namespace: shop\nnetwork:\n  acme-email: a@b")
	_, err = WriteSpec(t.Context(), s.env, o)
	exists, _ = errors.AsType[*ExistsError](err)
	if exists == nil || !slices.Equal(exists.Customised, []string{"namespace", "network.acme-email", "volumes.db-data"}) {
		t.Fatalf("%+v", exists)
	}
	was := s.read("new.yml")
	o.Force = true
	out, err := WriteSpec(t.Context(), s.env, o)
	if err != nil || out.Backup != "new.yml.bak" || s.read("new.yml.bak") != was || strings.Contains(s.read("new.yml"), "namespace") {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestPorts(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"same": {"services:\n  a:\n    ports: ['1', \"2:3\"]  # kept\n", "services:\n  a:\n    ports: ['1', \"2:3\"]  # kept\n"},
		"block": {
			"# top\nservices:\n  a:\n    image: x # why\n    ports:\n      - 80\n      # old\n      - 443\n\n    tty: true\n  b:\n    image: y\n",
			"# top\nservices:\n  a:\n    image: x # why\n    ports:\n      - '1'\n      - '2:3'\n\n    tty: true\n  b:\n    image: y\n",
		},
		"flow": {"services:\n  a:\n    ports: [80]\n    tty: true\n", "services:\n  a:\n    ports:\n      - '1'\n      - '2:3'\n    tty: true\n"},
		"long": {"services:\n  a:\n    ports:\n      - target: 80\n        published: 8080\n    tty: true\n", "services:\n  a:\n    ports:\n      - '1'\n      - '2:3'\n    tty: true\n"},
		"none": {"services:\n  a:\n    image: x\n", "services:\n  a:\n    ports:\n      - '1'\n      - '2:3'\n    image: x\n"},
		"end":  {"services:\n  a:\n    ports:\n      - 80", "services:\n  a:\n    ports:\n      - '1'\n      - '2:3'"},
		"anew": {"services: {a: {image: x, ports: [80]}} # c\n", "services: {a: {image: x, ports: ['1', '2:3']}} # c\n"},
		"alias": {
			"services:\n  z: &z\n    ports: ['9']\n  a: *z\n",
			"services:\n  z: &z\n    ports: ['9']\n  a:\n    <<: *z\n    ports:\n      - '1'\n      - '2:3'\n",
		},
	} {
		in, err := inspect(file.Source{Name: "p", Raw: []byte(c.text)}, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := withPorts(in, map[string][]string{"a": {"1", "2:3"}})
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n got %q\nwant %q", name, err, got, c.want)
		}
	}
}
