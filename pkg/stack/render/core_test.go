package render

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	compose "github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

// TestEveryKeyHasAnEffect walks compose's own type: a key the library learns is
// a key somebody must think about.
func TestEveryKeyHasAnEffect(t *testing.T) {
	known := effects()
	seen := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(s reflect.Type) {
		for f := range s.Fields() {
			tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			switch {
			case f.Anonymous:
				walk(f.Type)
			case tag == "-" || strings.HasPrefix(tag, "#"):
			case tag == "":
				t.Errorf("field %s has no key", f.Name)
			default:
				seen[tag] = true
				if _, ok := known[tag]; !ok {
					t.Errorf("the key %q of a service is in no table: render it, or say that it has no effect", tag)
				}
			}
		}
	}
	walk(reflect.TypeFor[compose.ServiceConfig]())
	for key := range known {
		if !seen[key] {
			t.Errorf("compose has no key %q", key)
		}
	}
}

// TestKeysWithoutEffectAreTold puts every such key into a file, with a value
// compose would not even accept.
func TestKeysWithoutEffectAreTold(t *testing.T) {
	for key, e := range effects() {
		if e != none || key == "name" {
			continue
		}
		text := "services:\n  web:\n    image: web\n    " + key + ": {strange: [value]}\n    unheard_of: 1\n"
		d := unpack(t, archive("compose/docker-compose-main.yml", text), file.V2)
		r, err := Render(d, Options{}, Facts{})
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		for _, k := range []string{key, "unheard_of"} {
			if !slices.ContainsFunc(r.Notices, func(n file.Notice) bool {
				return n.Code == "compose-key" && n.Level == file.Ignored && n.Key == k && n.Service == "web" && n.Line > 3
			}) {
				t.Errorf("%s was dropped in silence", k)
			}
		}
	}
}

func archive(parts ...string) *txtar.Archive {
	a := &txtar.Archive{}
	for i := 0; i+1 < len(parts); i += 2 {
		a.Files = append(a.Files, txtar.File{Name: parts[i], Data: []byte(parts[i+1])})
	}
	return a
}

func TestSize(t *testing.T) {
	for _, c := range []struct{ in, v1, v2 string }{
		{"5Gi", "5000M", "5Gi"},
		{"1GiB", "1073M", "1Gi"},
		{"5G", "5000M", "5G"},
		{"5GB", "5000M", "5G"},
		{"512m", "512M", "512M"},
		{"1.5Gi", "1500M", "1536Mi"},
		{"1000000", "1M", "1M"},
		{"500K", "500k", "500k"},
		{"64KiB", "64Ki", "64Ki"},
		{"2Ti", "2000000M", "2Ti"},
		{" 1 g ", "1000M", "1G"},
		{"10b", "10", "10"},
		{"0", "", ""},
		{"", "", ""},
		{"five", "error", "error"},
		{"5X", "error", "error"},
		{"-5G", "error", "error"},
		{"5i", "error", "error"},
		{"9999999P", "error", "error"},
	} {
		for rules, want := range map[file.Rules]string{file.V1: c.v1, file.V2: c.v2} {
			got, err := size(file.Quantity(c.in), rules)
			if err != nil {
				got = "error"
			}
			if got != want {
				t.Errorf("size(%q, v%d) = %q, want %q", c.in, rules, got, want)
			}
		}
	}
}

func TestCPUs(t *testing.T) {
	for in, want := range map[file.Quantity]string{
		"": "", "0": "", "0.0": "", "2": "2", "0.5": "500m", ".25": "250m", "1500m": "1500m", "1.": "1", "two": "error", "1k": "error", "-1": "error",
	} {
		got, err := cpus(in)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("cpus(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRegistryImage(t *testing.T) {
	for _, c := range []struct{ ref, registry, id, want string }{
		{"cerc/web:local", "reg.example.com/acme", "laconic-abcdefgh12345678", "reg.example.com/acme/web:deploy-12345678"},
		{"web:local", "reg.example.com/", "laconic-abcdefgh12345678", "reg.example.com/web:deploy-12345678"},
		{"reg:5000/a/b/web:local", "r", "short", "r/web:deploy-short"},
		{"cerc/web:local", "", "laconic-abcdefgh12345678", "cerc/web:local"},
		{"ghcr.io/org/img:v1", "reg", "laconic-abcdefgh12345678", "ghcr.io/org/img:v1"},
		{"cerc/web:localish", "reg", "laconic-abcdefgh12345678", "cerc/web:localish"},
		{"cerc/local", "reg", "laconic-abcdefgh12345678", "cerc/local"},
	} {
		if got := RegistryImage(c.ref, c.registry, c.id); got != c.want {
			t.Errorf("RegistryImage(%q, %q, %q) = %q, want %q", c.ref, c.registry, c.id, got, c.want)
		}
	}
}

func TestLocalhost(t *testing.T) {
	for _, c := range []struct {
		value, word, want string
		inside            bool
	}{
		{"db", "db", "localhost", false},
		{"db:5432", "db", "localhost:5432", false},
		{"a,db,b", "db", "a,localhost,b", false},
		{"mydb", "db", "mydb", false},
		{"my_db", "db", "my_db", false},
		{"dbs", "db", "dbs", false},
		{"db.example.com", "db", "localhost.example.com", true},
		{"http://db:80/x", "db", "http://localhost:80/x", true},
		{"/var/db", "db", "/var/localhost", true},
		{"my-db", "db", "my-localhost", true},
		{"db db", "db", "localhost localhost", false},
		{"dbdb db", "db", "dbdb localhost", false},
		{"", "db", "", false},
	} {
		got, inside := localhost(c.value, c.word)
		if got != c.want || inside != c.inside {
			t.Errorf("localhost(%q, %q) = %q, %v, want %q, %v", c.value, c.word, got, inside, c.want, c.inside)
		}
	}
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		after [][]int
		want  []int
	}{
		{[][]int{nil, nil, nil}, []int{0, 1, 2}},
		{[][]int{{2}, nil, nil}, []int{2, 0, 1}},
		{[][]int{{1}, {2}, nil}, []int{2, 1, 0}},
		{[][]int{{1}, {0}, nil}, []int{1, 0, 2}},
	} {
		if got := order(c.after); !slices.Equal(got, c.want) {
			t.Errorf("order(%v) = %v, want %v", c.after, got, c.want)
		}
	}
}

// deployment renders one pod file and returns its pod's spec.
func podSpec(t *testing.T, rules file.Rules, o Options, parts ...string) (*Result, map[string]any) {
	t.Helper()
	r, err := Render(unpack(t, archive(parts...), rules), o, Facts{})
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range r.Objects {
		if obj.GetKind() == "Deployment" {
			spec, _, _ := unstructured.NestedMap(obj.Object, "spec", "template", "spec")
			return r, spec
		}
	}
	t.Fatal("no Deployment")
	return nil, nil
}

func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func TestImagesOfTheCommandLineWin(t *testing.T) {
	spec := "stack: demo\ndeploy-to: k8s-kind\nimage-overrides: {a_b: two}\n"
	pod := "services:\n  a_b:\n    build: .\n  other:\n    image: x\n"
	r, got := podSpec(t, file.V1, Options{Images: map[string]string{"a-b": "one@sha256:" + strings.Repeat("0", 64)}},
		"spec.yml", spec, "compose/docker-compose-main.yml", pod)
	if image := at(got, "containers", 0, "image"); image != "one@sha256:"+strings.Repeat("0", 64) {
		t.Errorf("image is %v", image)
	}
	want := map[string]string{"a-b": "one@sha256:" + strings.Repeat("0", 64), "other": "x"}
	if diff := cmp.Diff(want, r.Workloads[0].Images); diff != "" {
		t.Error(diff)
	}
	_, err := Render(unpack(t, archive("spec.yml", spec, "compose/docker-compose-main.yml", pod), file.V1), Options{Images: map[string]string{"c": "x"}}, Facts{})
	if p, ok := errors.AsType[*Problems](err); !ok || len(p.All) != 1 || p.All[0].Key != "--image" || !strings.Contains(p.All[0].Message, "a-b, other") {
		t.Errorf("an unknown container gives %v", err)
	} else if f := p.Fault("x", ""); f.Kind != fault.Usage || !errors.Is(f, p) {
		t.Errorf("fault %v", f)
	}
}

// TestCredentials: what a credentials file holds stands in no template of the
// second rules.
func TestCredentials(t *testing.T) {
	parts := []string{
		"spec.yml", "stack: demo\ndeploy-to: k8s-kind\nconfig: {PLAIN: a}\ncredentials-files: [~/cred.env]\n",
		"config.env", "PLAIN=a\n# credentials file: ~/cred.env\nPASSWORD=hunter2\nNONE=\n",
		"compose/docker-compose-main.yml", "services:\n  web:\n    image: web\n",
	}
	_, v1 := podSpec(t, file.V1, Options{}, parts...)
	want := []any{map[string]any{"name": "PLAIN", "value": "a"}, map[string]any{"name": "PASSWORD", "value": "hunter2"}}
	if diff := cmp.Diff(any(want), at(v1, "containers", 0, "env")); diff != "" {
		t.Error(diff)
	}
	r, v2 := podSpec(t, file.V2, Options{}, parts...)
	want[1] = map[string]any{"name": "PASSWORD", "valueFrom": map[string]any{"secretKeyRef": map[string]any{
		"name": "laconic-abcdefgh12345678-credentials", "key": "PASSWORD",
	}}}
	if diff := cmp.Diff(any(want), at(v2, "containers", 0, "env")); diff != "" {
		t.Error(diff)
	}
	for _, o := range r.Objects {
		if o.GetKind() != "Secret" && strings.Contains(fmt.Sprint(o.Object), "hunter2") {
			t.Errorf("%s %s shows the password", o.GetKind(), o.GetName())
		}
		if o.GetKind() == "Secret" && at(o.Object, "data", "PASSWORD") == nil {
			t.Errorf("the Secret is %v", o.Object)
		}
	}
}

// TestChecksumFollowsContent: it changes with what is mounted and with nothing
// else.
func TestChecksumFollowsContent(t *testing.T) {
	sum := func(rules file.Rules, content, password, image string) string {
		r, err := Render(unpack(t, archive(
			"spec.yml", "stack: demo\ndeploy-to: k8s-kind\ncredentials-files: [~/c]\n",
			"config.env", "# credentials file: ~/c\nPASSWORD="+password+"\n",
			"config/demo/a.conf", content,
			"compose/docker-compose-main.yml", "services:\n  web:\n    image: "+image+"\n    volumes: ['../config/demo/a.conf:/a.conf:ro']\n",
		), rules), Options{}, Facts{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range r.Objects {
			if s, ok, _ := unstructured.NestedString(o.Object, "spec", "template", "metadata", "annotations", "homelab/checksum"); ok {
				return s
			}
		}
		return ""
	}
	for _, rules := range []file.Rules{file.V1, file.V2} {
		base := sum(rules, "a", "p", "web")
		if len(base) != 64 || sum(rules, "a", "p", "other") != base {
			t.Errorf("v%d: the checksum %q is not of the content alone", rules, base)
		}
		if sum(rules, "b", "p", "web") == base {
			t.Errorf("v%d: a changed file leaves it", rules)
		}
	}
	if sum(file.V2, "a", "q", "web") == sum(file.V2, "a", "p", "web") {
		t.Error("a changed credential leaves it")
	}
}

func TestEmptyEntrypointTakesTheImagesAway(t *testing.T) {
	pod := "services:\n  web:\n    image: web\n    entrypoint: []\n    command: [run, it]\n"
	_, v2 := podSpec(t, file.V2, Options{}, "compose/docker-compose-main.yml", pod)
	if diff := cmp.Diff(any([]any{"run", "it"}), at(v2, "containers", 0, "command")); diff != "" {
		t.Error(diff)
	}
	if at(v2, "containers", 0, "args") != nil {
		t.Error("the command is an argument as well")
	}
}

func TestEnvFileProblems(t *testing.T) {
	render := func(o Options, entry string, more ...string) error {
		parts := append([]string{"compose/docker-compose-main.yml", "services:\n  web:\n    image: web\n    env_file: " + entry + "\n"}, more...)
		_, err := Render(unpack(t, archive(parts...), file.V2), o, Facts{})
		return err
	}
	if err := render(Options{}, "missing.env"); err == nil || !strings.Contains(err.Error(), "missing.env") {
		t.Errorf("a missing file gives %v", err)
	}
	if err := render(Options{Missing: MissingLater}, "missing.env"); err != nil {
		t.Errorf("a file a hook may write gives %v", err)
	}
	if err := render(Options{}, "[{path: missing.env, required: false}]"); err != nil {
		t.Errorf("an optional file gives %v", err)
	}
	if err := render(Options{}, "/dev/zero"); err == nil || !strings.Contains(err.Error(), "a device") {
		t.Errorf("a device gives %v", err)
	}
	err := render(Options{}, "bad.env", "compose/bad.env", "A=1\nthe secret word\n")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a file that is none gives %v", err)
	}
}

func TestInspect(t *testing.T) {
	d := unpack(t, archive(
		"compose/docker-compose-main.yml", `
services:
  web:
    image: web:${TAG:?}
    network_mode: host
    profiles: [x]
    env_file: [a.env, {path: b.env, required: false}]
    extends: {file: base.yml, service: base}
    ports:
      - "${PORT:-80}:80"
      - 53:53/udp
      - {target: 443, published: "8443", host_ip: 127.0.0.1, protocol: tcp}
      - 9000-9001
    volumes:
      - data:/data
      - config:/config:ro
      - ../config/x:/x:ro
      - ./y:/y:rw
      - /anonymous
      - type: bind
        source: ./z
        target: /z
    secrets: [token]
volumes:
  data:
  config:
  unused:
secrets:
  token: {file: ./token.txt}
`,
		"compose/base.yml", "services:\n  base:\n    ports: ['1:1']\n    volumes: ['./base:/base']\n",
		"compose-jobs/docker-compose-job.yml", "services:\n  job:\n    image: x\n    volumes: ['config:/c:ro', 'data:/d']\n",
	), file.V1)
	got, problems := Inspect(d.Pods, d.Jobs, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for i := range got.Services {
		got.Services[i].Path = ""
	}
	for i := range got.Volumes {
		got.Volumes[i].Path = ""
	}
	want := Summary{
		Services: []ServiceSummary{
			{
				File: "main", Name: "web", Line: 3, Image: "web:TAG", Profiles: []string{"x"}, Network: "host",
				Ports:    []string{"1:1", "${PORT:-80}:80", "53:53/udp", "127.0.0.1:8443:443", "9000-9001"},
				EnvFiles: []EnvFileSummary{{"a.env", true, 7}, {"b.env", false, 7}},
				Files:    []string{"./token.txt"}, Extends: []string{"base.yml"},
				Volumes: []MountSummary{{"data", "/data", false, false, 15}, {"config", "/config", true, false, 16}},
				Binds: []MountSummary{
					{"base", "/base", false, false, 4}, {"../config/x", "/x", true, false, 17}, {"./y", "/y", false, true, 18}, {"./z", "/z", false, false, 20},
				},
			},
			{File: "job", Job: true, Name: "job", Line: 2, Image: "x", Volumes: []MountSummary{{"config", "/c", true, false, 4}, {"data", "/d", false, false, 4}}},
		},
		Volumes: []VolumeSummary{
			{Name: "data", Line: 25, Declared: true, Used: true},
			{Name: "config", Line: 26, Declared: true, Used: true, ReadOnly: true},
			{Name: "unused", Line: 27, Declared: true},
		},
	}
	slices.SortFunc(got.Services[0].Binds, func(a, b MountSummary) int { return strings.Compare(a.Target, b.Target) })
	slices.SortFunc(got.Services[0].Volumes, func(a, b MountSummary) int { return strings.Compare(b.Target, a.Target) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, problems := Inspect([]file.Source{{Name: "x", Path: "/x.yml", Raw: []byte("services: [")}}, nil, nil); len(problems) != 1 {
		t.Errorf("a broken file gives %v", problems)
	}
}

// TestExtendsOfNoFile: whatever is not a plain file is refused before anybody
// reads it.
func TestExtendsOfNoFile(t *testing.T) {
	for _, name := range []string{"/dev/zero", "missing.yml", "."} {
		text := "services:\n  web:\n    image: x\n    extends: {file: " + name + ", service: web}\n"
		_, err := Render(unpack(t, archive("compose/docker-compose-main.yml", text), file.V2), Options{}, Facts{})
		if p, ok := errors.AsType[*Problems](err); !ok || p.All[0].Key != "extends" || p.All[0].Line != 4 {
			t.Errorf("%s gives %v", name, err)
		}
	}
}

// TestFilesOfADirectoryBeingMade: what a service reads lies in the stage, and
// errors name the place it will have.
func TestFilesOfADirectoryBeingMade(t *testing.T) {
	d := unpack(t, archive(
		"compose/docker-compose-main.yml", "services:\n  web:\n    extends: {file: base.yml, service: b}\n    env_file: ../config/demo/a.env\n    secrets: [s]\nsecrets: {s: {file: ../config/demo/s}}\n",
		"compose/base.yml", "services: {b: {image: from-base}}\n",
		"config/demo/a.env", "A=1\n", "config/demo/s", "x",
	), file.V2)
	stage := d.Path
	d.Path = "/srv/deployments/new"
	d.Pods[0].Path = strings.Replace(d.Pods[0].Path, stage, d.Path, 1)
	r, err := Render(d, Options{Stage: stage}, Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if text := show(d, r, err, nil); !strings.Contains(text, "image: from-base") || !strings.Contains(text, "name: A\n") || strings.Contains(text, stage) {
		t.Error(text)
	}
	d.Pods[0].Raw = []byte("services:\n  web:\n    extends: {file: base.yml, service: ghost}\n")
	_, err = Render(d, Options{Stage: stage}, Facts{})
	if err == nil || strings.Contains(err.Error(), stage) || !strings.Contains(err.Error(), "ghost") {
		t.Error(err)
	}
}

// BenchmarkRender is a large stack: 200 services with all that services have.
func BenchmarkRender(b *testing.B) {
	var text strings.Builder
	text.WriteString("services:\n")
	for i := range 200 {
		fmt.Fprintf(&text, "  s%d:\n    image: acme/s%d:1\n    ports: ['80%02d:80']\n    environment: {A: s%d, B: '2', C: '${X}'}\n    healthcheck: {test: [CMD, x]}\n    volumes: ['v%d:/data']\n", i, i, i%100, (i+1)%200, i)
	}
	text.WriteString("volumes:\n")
	for i := range 200 {
		fmt.Fprintf(&text, "  v%d:\n", i)
	}
	var spec strings.Builder
	spec.WriteString("stack: demo\ndeploy-to: k8s-kind\nvolumes:\n")
	for i := range 200 {
		fmt.Fprintf(&spec, "  v%d: ./data/v%d\n", i, i)
	}
	d := unpack(b, archive("spec.yml", spec.String(), "config.env", "X=1\n", "compose/docker-compose-main.yml", text.String()), file.V2)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Render(d, Options{}, Facts{}); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzRender looks for files that break a render instead of being refused, and
// for results that depend on anything but the files.
func FuzzRender(f *testing.F) {
	f.Add("services:\n  web:\n    image: x\n", "A=1\n")
	f.Add("services:\n  a_b:\n    image: ${A}\n    command: x 'y z'\n    ports: ['1-3:1-3', {target: 4}]\n    environment: [A, B=c]\n    depends_on: {c: {condition: service_completed_successfully}}\n  c: {image: y, tmpfs: /x}\n", "A=1\n")
	f.Add("x: &a\n  <<: [{b: 1}]\nservices:\n  web:\n    <<: *a\n    image: x\n    volumes: [v:/v, ./x:/x:rw, /y]\n    healthcheck: {test: NONE}\nvolumes: {v: }\n", "")
	f.Add("services:\n  web:\n    image: x\n    extends: web\n", "")
	f.Add("services: {web: {image: x, deploy: {resources: {limits: {memory: 5Gi, cpus: '.5'}}}, secrets: [a], labels: {b: }}}\nsecrets: {a: {content: b}}\n", "")
	f.Add("services:\n  web: !reset null\n  b: {image: !override x}\n", "")
	f.Fuzz(func(t *testing.T, pod, env string) {
		if strings.Contains(pod, "/dev") || strings.Contains(pod, "/proc") || strings.Contains(pod, "/sys") {
			t.Skip("the machine's own files")
		}
		for _, rules := range []file.Rules{file.V1, file.V2} {
			d, err := unpackInto(t.TempDir(), archive("config.env", env, "compose/docker-compose-main.yml", pod), rules)
			if err != nil {
				return
			}
			r, err := Render(d, Options{}, Facts{})
			first := show(d, r, err, nil)
			r, err = Render(d, Options{}, Facts{})
			if diff := cmp.Diff(first, show(d, r, err, nil)); diff != "" {
				t.Fatal(diff)
			}
			Inspect(d.Pods, nil, d.Env)
		}
	})
}
