package compose

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
	"homelab/pkg/transport"
)

// site is a deployment directory on disk.
func site(t *testing.T, spec string, pods map[string]string) *file.Directory {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for name, text := range pods {
		names = append(names, name)
		write("compose/docker-compose-"+name+".yml", text)
	}
	slices.Sort(names)
	write("spec.yml", "stack: shop\ndeploy-to: compose\n"+spec)
	write("stack.yml", "name: shop\npods: ["+strings.Join(names, ", ")+"]\n")
	write("deployment.yml", "cluster-id: laconic-c1\ndeployment-id: laconic-d1\nrender: v2\n")
	write("config.env", "TAG=7\n")
	write("config/web/x.txt", "x")
	write("configmaps/conf/c", "c")
	d, _, err := file.Load(dir, file.Env{WorkDir: dir, Home: "/home/u"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func build(t *testing.T, spec string, pods map[string]string, images map[string]string) (*Project, error) {
	t.Helper()
	d := site(t, spec, pods)
	return Make(Input{Directory: d, Images: images, Machine: render.Machine{Home: "/home/u"}})
}

const web = `services:
  web:
    image: reg.example/web:${TAG}
    volumes: ["data:/data", "conf:/conf", "../config/web/x.txt:/x.txt:ro", "/etc/hosts:/h:ro"]
    depends_on: {init: {condition: service_completed_successfully}}
    deploy: {replicas: 2}
  init:
    image: reg.example/init
    build: .
volumes: {data: , conf: }
`

const webSpec = "volumes: {data: ./data/data}\nconfigmaps: {conf: ./configmaps/conf}\n"

func TestProject(t *testing.T) {
	t.Parallel()
	_, err := build(t, webSpec+"image-pull-policy: IfNotPresent\nimage-overrides: {init: reg.example/init:$2}\n", map[string]string{"web": web}, nil)
	if err == nil {
		t.Fatal("an image that is none was taken")
	}
	p, err := build(t, webSpec+"image-pull-policy: IfNotPresent\nimage-overrides: {init: 'reg.example/init:2'}\n", map[string]string{"web": web}, map[string]string{"web": "reg.example/web:new"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "laconic-c1" || p.Pull != "missing" || !slices.Equal(p.Set, []string{"TAG"}) {
		t.Errorf("%+v", p)
	}
	if len(p.Services) != 2 {
		t.Fatalf("%+v", p.Services)
	}
	init, w := p.Services[0], p.Services[1]
	if !init.Once || init.Image != "reg.example/init:2" || init.Scale != 1 {
		t.Errorf("%+v", init)
	}
	bound := []string{filepath.Join(p.Dir, "config/web/x.txt"), filepath.Join(p.Dir, "configmaps/conf")}
	if w.Once || w.Image != "reg.example/web:new" || w.Scale != 2 || !slices.Equal(w.Bound, bound) {
		t.Errorf("%+v", w)
	}
	if v := p.Volumes; len(v) != 1 || v[0].Object != "laconic-c1_data" || v[0].Path != filepath.Join(p.Dir, "data/data") {
		t.Errorf("%+v", v)
	}
	want := strings.ReplaceAll(`# What spec.yml adds to the compose files. Written at every start.
services:
  init:
    image: reg.example/init:2
    build: !reset null
  web:
    image: reg.example/web:new
    volumes:
      - type: bind
        source: DIR/configmaps/conf
        target: /conf
        read_only: true
volumes:
  data:
    driver: local
    driver_opts:
      type: none
      o: bind
      device: DIR/data/data
`, "DIR", p.Dir)
	if got := string(p.Override); got != want {
		t.Errorf("override is\n%s", got)
	}
	var codes []string
	for _, n := range p.Notices {
		codes = append(codes, n.Code)
	}
	if !slices.Equal(codes, []string{"build"}) {
		t.Errorf("notices %v", codes)
	}
}

func TestNothingToOverride(t *testing.T) {
	t.Parallel()
	p, err := build(t, "", map[string]string{"web": "version: '3'\nservices:\n  web: {image: a}\n"}, nil)
	if err != nil || p.Override != nil {
		t.Fatalf("%v %s", err, p.Override)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	one := func(service string) map[string]string {
		return map[string]string{"web": "services:\n  web:\n    image: a\n" + service}
	}
	for name, c := range map[string]struct {
		spec   string
		pods   map[string]string
		images map[string]string
		want   string
	}{
		"no image":            {"", map[string]string{"web": "services:\n  web: {build: .}\n"}, nil, "a service needs an image"},
		"two of a name":       {"", map[string]string{"a": "services: {web: {image: a}}\n", "b": "services: {web: {image: b}}\n"}, nil, "compose would make one service of the two"},
		"volume not in spec":  {"", one("    volumes: [dat:/d]\nvolumes: {dat: }\n"), nil, "web:4: service web: volumes volume dat is in neither"},
		"undeclared":          {"volumes: {dat: }\n", one("    volumes: [dat:/d]\n"), nil, "undefined volume dat"},
		"nested":              {"volumes: {dat: /srv/a, e12: /srv/a/b}\n", one("    volumes: [dat:/d, e12:/e]\nvolumes: {dat: , e12: }\n"), nil, "share a directory"},
		"out of it":           {"volumes: {dat: ../x}\n", one("    volumes: [dat:/d]\nvolumes: {dat: }\n"), nil, "leads out of the deployment directory"},
		"external with path":  {"volumes: {dat: /srv/a}\n", one("    volumes: [dat:/d]\nvolumes: {dat: {external: true}}\n"), nil, "external volume"},
		"unknown override":    {"image-overrides: {nope: a}\n", one(""), nil, `there is no container "nope": the containers are web`},
		"unknown flag":        {"", one(""), map[string]string{"nope": "a"}, `--image there is no container "nope"`},
		"no reference":        {"", one(""), map[string]string{"web": "A B"}, "no image reference"},
		"bind missing":        {"", one("    volumes: [../config/none:/n]\n"), nil, "config/none, which does not exist"},
		"required variable":   {"", one("    command: ${NOPE:?set it}\n"), nil, "set it"},
		"unknown dependency":  {"", one("    depends_on: [nope]\n"), nil, "nope"},
		"not a compose file":  {"", map[string]string{"web": "services: [a]\n"}, nil, "must be a mapping of services"},
		"unknown service key": {"", one("    imagee: a\n"), nil, "imagee"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := build(t, c.spec, c.pods, c.images)
			if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(c.want, "web:4: ")) || len(file.AsProblems(err)) == 0 {
				t.Fatalf("%v", err)
			}
		})
	}
}

// Every key of a spec that only a cluster can follow is told.
func TestIgnored(t *testing.T) {
	t.Parallel()
	p, err := build(t, `image-registry: reg.example
network: {http-proxy: [{host-name: a.example, routes: [{path: /, proxy-to: "web:80"}]}], acme-email: a@b.c, node-ports: none}
secrets: {s: }
resources: {containers: {limits: {cpus: 1}}, volumes: {reservations: {storage: 1Gi}}}
security: {privileged: true}
annotations: {a: b}
labels: {a: b}
replicas: 2
node-affinities: [{label: a, value: b}]
node-tolerations: [{key: a, value: b}]
namespace: other
kind-cluster-name: k
kind-mount-root: /srv
caddy-ingress-image: c
maintenance-service: web:80
external-services: {x: {host: h}}
ca-certificates: [ca.pem]
volumes: {unused: }
`, map[string]string{"web": "services:\n  web: {image: a}\n  extra: {image: b, profiles: [x]}\n"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, n := range p.Notices {
		got[n.Code]++
		if n.Level == file.Ignored && n.Line == 0 {
			t.Errorf("no line: %+v", n)
		}
	}
	if got["cluster-only"] != 20 || got["volume-unused"] != 1 || got["profile"] != 1 {
		t.Errorf("%v", got)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	c := Call{Project: &Project{Name: "p", Dir: "/d", Files: []string{"/d/a.yml", "/d/b.yml"}}, Override: "/d/o.yml", Env: []string{"/d/config.env", "/d/g.env"}}
	const base = "compose --ansi never -f /d/a.yml -f /d/b.yml -f /d/o.yml -p p --project-directory /d/compose --env-file /d/config.env --env-file /d/g.env "
	for want, got := range map[string][]string{
		base + "up -d --remove-orphans --wait":                                 c.up(UpOptions{Wait: true}),
		base + "up -d --remove-orphans --wait --wait-timeout 9":                c.up(UpOptions{Wait: true, Left: 9900 * time.Millisecond}),
		base + "up -d --remove-orphans":                                        c.up(UpOptions{Left: time.Minute}),
		base + "up -d --wait web":                                              c.up(UpOptions{Wait: true, Only: []string{"web"}}),
		base + "up -d --force-recreate --no-deps web":                          c.up(UpOptions{Services: []string{"web"}, Recreate: true}),
		base + "down --remove-orphans":                                         c.down(false),
		base + "down --remove-orphans --volumes":                               c.down(true),
		base + "logs --no-color --tail 0 --since 5s --follow --timestamps web": c.logs(LogOptions{Services: []string{"web"}, Since: "5s", Follow: true, Times: true}),
		"compose --ansi never -p p down --remove-orphans":                      Call{Project: &Project{Name: "p"}}.down(false),
		"compose --ansi never -f x -p p --project-directory compose --env-file /dev/null up -d --pull always --remove-orphans": Call{
			Project: &Project{Name: "p", Pull: "always"}, Files: []string{"x"},
		}.up(UpOptions{}),
	} {
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s\nnot %s", got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	got := Environment(
		[]string{"PATH=/bin", "HOME=/h", "COMPOSE_FILE=x", "TAG=evil", "DOCKER_HOST=unix:///s", "HTTP_PROXY=p", "WOODPECKER_TOKEN=t", "HTTPS_PROXY=q"},
		map[string]bool{"TAG": true, "HTTP_PROXY": true, "PATH": true, "DOCKER_HOST": true})
	if want := []string{"PATH=/bin", "HOME=/h", "DOCKER_HOST=unix:///s", "HTTPS_PROXY=q"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestParsePS(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"lines": `{"ID":"a","Name":"p-web-1","Service":"web","Publishers":[{"URL":"127.0.0.1","TargetPort":80,"PublishedPort":32768,"Protocol":"tcp"}]}` + "\n" + `{"ID":"b","Publishers":null}` + "\n",
		"list":  `[{"ID":"a","Name":"p-web-1","Service":"web","Publishers":[{"URL":"127.0.0.1","TargetPort":80,"PublishedPort":32768,"Protocol":"tcp"}]},{"ID":"b"}]`,
	} {
		got, err := parsePS([]byte(text))
		if err != nil || len(got) != 2 || got[0].Publishers[0] != (Port{"127.0.0.1", 32768, 80, "tcp"}) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	for _, text := range []string{"", "\n", "[]"} {
		if got, err := parsePS([]byte(text)); err != nil || len(got) != 0 {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	if _, err := parsePS([]byte("no json")); err == nil {
		t.Error("no json was read")
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	s := Service{Name: "web", Image: "a", Scale: 1}
	up := Container{Service: "web", Name: "p-web-1", State: "running", Started: now.Add(-time.Minute), Image: "a", ImageID: "sha256:1"}
	with := func(f func(*Container)) []Container {
		c := up
		f(&c)
		return []Container{c, {Service: "other", State: "exited", ExitCode: 9}}
	}
	once := s
	once.Once = true
	two := s
	two.Scale = 2
	for name, c := range map[string]struct {
		s    Service
		all  []Container
		id   string
		want rollout.Outcome
		says string
	}{
		"up":              {s, with(func(*Container) {}), "sha256:1", rollout.Ready, "1/1 run a"},
		"not compared":    {s, with(func(*Container) {}), "", rollout.Ready, "1/1"},
		"healthy":         {s, with(func(c *Container) { c.Health, c.Started = "healthy", now }), "sha256:1", rollout.Ready, ""},
		"none":            {s, nil, "sha256:1", rollout.Absent, "no container"},
		"other image":     {s, with(func(*Container) {}), "sha256:2", rollout.Pending, "another image"},
		"other reference": {s, with(func(c *Container) { c.Image = "b" }), "", rollout.Pending, "another image"},
		"just started":    {s, with(func(c *Container) { c.Started = now.Add(-settle / 2) }), "sha256:1", rollout.Pending, "just started"},
		"settled":         {s, with(func(c *Container) { c.Started = now.Add(-settle) }), "sha256:1", rollout.Ready, ""},
		"starting":        {s, with(func(c *Container) { c.Health = "starting" }), "sha256:1", rollout.Pending, "not healthy yet"},
		"unhealthy":       {s, with(func(c *Container) { c.Health = "unhealthy" }), "sha256:1", rollout.Failed, "is unhealthy"},
		"exited":          {s, with(func(c *Container) { c.State, c.ExitCode = "exited", 3 }), "sha256:1", rollout.Failed, "p-web-1 ended with 3"},
		"exited well":     {s, with(func(c *Container) { c.State = "exited" }), "sha256:1", rollout.Failed, "ended with 0"},
		"once, done":      {once, with(func(c *Container) { c.State = "exited" }), "sha256:1", rollout.Ready, ""},
		"once, failed":    {once, with(func(c *Container) { c.State, c.ExitCode = "exited", 1 }), "sha256:1", rollout.Failed, "ended with 1"},
		"once, running":   {once, with(func(*Container) {}), "sha256:1", rollout.Pending, "has not ended yet"},
		"dead":            {s, with(func(c *Container) { c.State = "dead" }), "sha256:1", rollout.Failed, "ended"},
		"created":         {s, with(func(c *Container) { c.State = "created" }), "sha256:1", rollout.Pending, "is created"},
		"cannot start":    {s, with(func(c *Container) { c.State, c.Error = "created", "no such file" }), "sha256:1", rollout.Failed, "cannot be started: no such file"},
		"paused":          {s, with(func(c *Container) { c.State = "paused" }), "sha256:1", rollout.Pending, "is paused"},
		"restarting":      {s, with(func(c *Container) { c.State, c.Restarts = "restarting", crashes-1 }), "sha256:1", rollout.Pending, "is restarting"},
		"crash loop":      {s, with(func(c *Container) { c.State, c.Restarts = "restarting", crashes }), "sha256:1", rollout.Failed, "again and again"},
		"loop, for once":  {s, with(func(c *Container) { c.Restarts, c.Started = crashes, now }), "sha256:1", rollout.Failed, "again and again"},
		"recovered":       {s, with(func(c *Container) { c.Restarts = crashes }), "sha256:1", rollout.Ready, ""},
		"one of two":      {two, with(func(*Container) {}), "sha256:1", rollout.Pending, "1 of 2 containers"},
		"nothing to run":  {Service{Name: "none", Image: "a"}, nil, "sha256:1", rollout.Ready, "0/0"},
	} {
		v := Judge(c.s, c.all, c.id, now)
		if v.Outcome != c.want || !strings.Contains(v.Sentence, c.says) {
			t.Errorf("%s: %s %q", name, v.Outcome, v.Sentence)
		}
		if v.Verified && (c.want != rollout.Ready || c.id == "") {
			t.Errorf("%s: verified", name)
		}
		if (v.Cause != nil) != (c.want == rollout.Failed) {
			t.Errorf("%s: %+v", name, v.Cause)
		}
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	s := Service{Bound: []string{dir}}
	see := func() string {
		t.Helper()
		h, err := Fingerprint(s)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	seen := map[string]bool{see(): true}
	for _, change := range []func() error{
		func() error { return os.WriteFile(path, []byte("1"), 0o644) },
		func() error { return os.WriteFile(path, []byte("2"), 0o644) },
		func() error { return os.Chmod(path, 0o755) },
		func() error { return os.Rename(path, path+"b") },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		h := see()
		if seen[h] || h != see() {
			t.Errorf("%s is not new", h)
		}
		seen[h] = true
	}
	if h, err := Fingerprint(Service{}); h != "" || err != nil {
		t.Errorf("%q %v", h, err)
	}
	if _, err := Fingerprint(Service{Bound: []string{path}}); err == nil {
		t.Error("a file that is gone has a fingerprint")
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	user := t.TempDir()
	if err := os.MkdirAll(filepath.Join(user, "cli-plugins"), 0o755); err != nil {
		t.Fatal(err)
	}
	old := `{"credsStore":"desktop","currentContext":"x","credHelpers":{"reg.example":"y"},"auths":{"other.example":{},"reg.example":{"auth":"old"}}}`
	if err := os.WriteFile(filepath.Join(user, "config.json"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := transport.NewSecret("canary")
	if err != nil {
		t.Fatal(err)
	}
	dir, remove, err := Login(user, "reg.example", "me", token)
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "config.json"): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "cli-plugins")); err != nil || to != filepath.Join(user, "cli-plugins") {
		t.Error(to, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Auths          map[string]struct{ Auth string }
		CredHelpers    map[string]string
		CredsStore     string
		CurrentContext string
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.Auths["reg.example"].Auth != "bWU6Y2FuYXJ5" || got.CredsStore != "" || got.CurrentContext != "x" ||
		got.CredHelpers["other.example"] != "desktop" || got.CredHelpers["reg.example"] != "" {
		t.Errorf("%s", raw)
	}
	remove()
	if _, err := os.Stat(dir); err == nil {
		t.Error("it is still there")
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		image, server string
		want          bool
	}{
		{"nginx", "docker.io", true},
		{"lib/nginx:1", "https://index.docker.io/v1/", true},
		{"ghcr.io/a/b", "ghcr.io", true},
		{"ghcr.io/a/b", "docker.io", false},
		{"localhost/a", "localhost", true},
		{"reg:5000/a", "reg:5000", true},
		{"reg:5000/a", "reg", false},
	} {
		if got := From(c.image, c.server); got != c.want {
			t.Errorf("%+v", c)
		}
	}
}

func TestFail(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]fault.Kind{
		"Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?":                        fault.Unreachable,
		"permission denied while trying to connect to the Docker daemon socket":                                  fault.Unreachable,
		"docker: 'compose' is not a docker command.":                                                             fault.Unreachable,
		"Error response from daemon: pull access denied for x, repository does not exist":                        fault.Denied,
		"Error response from daemon: Head \"https://ghcr.io/v2/a\": unauthorized":                                fault.Denied,
		"Error response from daemon: driver failed programming external connectivity: port is already allocated": fault.Failed,
	} {
		e := (&Engine{}).fail("it failed", &git.CommandError{ExitCode: 1, Stderr: said})
		if e.Kind != want || strings.Contains(said, "ghcr.io") != strings.Contains(e.Why, "read:packages") {
			t.Errorf("%s: %v %s", said, e.Kind, e.Why)
		}
	}
	if e := (&Engine{}).fail("it failed", git.ErrNoProgram); e.Kind != fault.Unreachable || !strings.Contains(e.Why, "not installed") {
		t.Error(e)
	}
}
