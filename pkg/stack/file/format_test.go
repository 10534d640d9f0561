package file

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"cwd/here/stack.yml": "", "a/stacks/shop/stack.yml": "", "b/stacks/shop/stack.yml": "", "b/stacks/only/stack.yml": "",
		"base/" + dataDir + "/stacks/late/stack.yml": "", "a/stacks/hollow/x": "", "home/mine/stack.yml": "", "cwd/shop/readme": "",
	})
	env := Env{Home: filepath.Join(dir, "home"), WorkDir: filepath.Join(dir, "cwd"), RepoBase: filepath.Join(dir, "base"), Roots: []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}}
	for ref, want := range map[string]string{
		"here": "cwd/here|", "./here": "cwd/here|", "~/mine": "home/mine|", dir + "/cwd/here": "cwd/here|",
		"shop": "a/stacks/shop|a", "only": "b/stacks/only|b", "late": "base/" + dataDir + "/stacks/late|base/" + dataDir,
		"../a/stacks/shop": "a/stacks/shop|a", "hollow": "!a/stacks/hollow", "none": "!base/" + dataDir + "/stacks/none", "../none": "!cwd",
	} {
		got, root, err := env.Find(ref)
		if place, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), place) && ref != "../none" {
				t.Errorf("%s: %s, %v", ref, got, err)
			}
			continue
		}
		p, r, _ := strings.Cut(want, "|")
		if r != "" {
			r = filepath.Join(dir, r)
		}
		if err != nil || got != filepath.Join(dir, p) || root != r {
			t.Errorf("%s: %s in %q, %v", ref, got, root, err)
		}
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"r/stacks/shop/stack.yml": "pods: [web]\n", "r/compose/docker-compose-web.yml": "", "o/compose/docker-compose-old.yaml": "",
		"r/compose-jobs/docker-compose-tidy.yml": "", "base/far/deploy/docker-compose.yml": "", "o/config/x/f": "", "r/config/x2/f": "",
	})
	env := Env{WorkDir: dir, RepoBase: filepath.Join(dir, "base"), Roots: []string{filepath.Join(dir, "o")}}
	s, _, err := env.LoadStack("r/stacks/shop")
	if err != nil || s.Name != "shop" || s.Root != filepath.Join(dir, "r") {
		t.Fatalf("%+v, %v", s, err)
	}
	rel := func(p string, err error) string {
		if err != nil {
			return "!" + err.Error()
		}
		r, _ := filepath.Rel(dir, p)
		return r
	}
	for _, c := range []struct{ got, want string }{
		{rel(env.PodFile(s, Pod{Name: "web"})), "r/compose/docker-compose-web.yml"},
		{rel(env.PodFile(s, Pod{Name: "old"})), "o/compose/docker-compose-old.yaml"},
		{rel(env.PodFile(s, Pod{Name: "far", Repository: "github.com/a/far@v1", Path: "deploy"})), "base/far/deploy/docker-compose.yml"},
		{rel(env.PodFile(s, Pod{Name: "far", Repository: "github.com/a/gone.git"})), "!pod \"far\" has no compose file: looked for " + dir + "/base/gone/docker-compose.yml"},
		{rel(env.JobFile(s, "tidy")), "r/compose-jobs/docker-compose-tidy.yml"},
		{rel(env.JobFile(s, "none")), "!job \"none\" has no compose file"},
	} {
		if !strings.HasPrefix(c.got, c.want) {
			t.Errorf("%s, not %s", c.got, c.want)
		}
	}
	if p, ok := env.ConfigDir(s, "x"); !ok || p != filepath.Join(dir, "o/config/x") {
		t.Error(p, ok)
	}
	if _, ok := env.ConfigDir(s, "none"); ok {
		t.Error("a directory that is not there")
	}
}

func TestDeployment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want Deployment
		bad  string
	}{
		{text: "cluster-id: lab\n", want: Deployment{ClusterID: "lab", ID: "lab", FallbackID: true, Rules: V1}},
		{text: "cluster-id: lab.two\ndeployment-id: my-shop\nrender: v2\nstack-source: /a\nspec-source: /b\ncreated-by: x\n", want: Deployment{ClusterID: "lab.two", ID: "my-shop", Rules: V2, StackSource: "/a", SpecSource: "/b", CreatedBy: "x"}},
		{text: "cluster-id: lab\nrender: v1\n", want: Deployment{ClusterID: "lab", ID: "lab", FallbackID: true, Rules: V1}},
		{text: "deployment-id: x\n", want: Deployment{ClusterID: "x", ID: "x", Rules: V1}},
		{text: "", bad: "deployment-id is missing"},
		{text: "cluster-id: Lab\n", bad: "cluster-id must be"},
		{text: "cluster-id: a\ndeployment-id: a.b\n", bad: "deployment.yml:2: deployment-id must be"},
		{text: "cluster-id: a\nrender: v3\n", bad: "render must be v1 or v2"},
		{text: "cluster-id: a.b\n", bad: "cluster-id must be"},
		{text: "cluster-i: a\n", bad: "did you mean cluster-id?"},
	} {
		got, _, err := ParseDeployment("deployment.yml", []byte(c.text))
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%q: %v", c.text, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: %+v, %v", c.text, got, err)
		}
		again, _, err := ParseDeployment("deployment.yml", got.Marshal())
		if err != nil || again != got {
			t.Errorf("%q reads back as %+v, %v", got.Marshal(), again, err)
		}
	}
}

func TestFreshID(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)
	got, err := FreshID(at, bytes.NewReader([]byte{10, 71}))
	if want := "laconic-iio0az"; err != nil || got != want || !label(got) {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if _, err := FreshID(at, bytes.NewReader(nil)); err == nil {
		t.Error("an id without random bytes")
	}
}

// Whatever a spec says, the environment file says it again.
func TestEnvReadsBack(t *testing.T) {
	t.Parallel()
	values := []string{
		"plain", "", "a b", " lead", "trail ", "#x", "a #b", "a#b", "$x", "${x}", "$$", "it's", `"q"`, `'q'`, `\`, `a\`, `\'`, `a\'b`, `\\n`, "a\nb", "a\n",
		"a\r\nb", "\t", "https://x:1/?a=b&c=d", `{"a": "$b"}`, "ünï", "`x`", "a\\\nb", "'", `"`, "\\$", "export A=1", "a=b", "$'",
	}
	spec := &Spec{}
	for i, v := range values {
		spec.Config = append(spec.Config, Setting{Name: "V" + string(rune('A'+i/26)) + string(rune('A'+i%26)), Value: v, Kind: String})
	}
	data, err := MarshalEnv(spec, V2, []Credentials{{"~/c.env", []byte("TOKEN='a b'\nexport OTHER=1")}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseEnv("config.env", data, nil)
	if err != nil || len(got) != len(values)+2 {
		t.Fatalf("%v\n%s", err, data)
	}
	for i, v := range values {
		if got[i].Value != v || got[i].Name != spec.Config[i].Name || got[i].Credential {
			t.Errorf("%q came back as %+v", v, got[i])
		}
	}
	if c := got[len(values):]; c[0] != (EnvVar{"TOKEN", "a b", true}) || c[1] != (EnvVar{"OTHER", "1", true}) {
		t.Errorf("%+v", c)
	}
}

func TestEnvRules(t *testing.T) {
	t.Parallel()
	spec := &Spec{Config: []Setting{{Name: "T", Value: "TRUE", Kind: Bool}, {Name: "F", Value: "false", Kind: Bool}, {Name: "N", Kind: Null}, {Name: "I", Value: "1.10", Kind: Number}}}
	for rules, want := range map[Rules]string{V1: "T=True\nF=False\nN=None\nI=1.10\n", V2: "T=true\nF=false\nN=\nI=1.10\n"} {
		got, err := MarshalEnv(spec, rules, nil)
		if _, body, _ := strings.Cut(string(got), "\n"); err != nil || body != want {
			t.Errorf("v%d: %q, %v", rules, got, err)
		}
	}
	_, err := MarshalEnv(spec, V2, []Credentials{{"c.env", []byte("A=1\nsecret words\n")}})
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "c.env") {
		t.Error(err)
	}
	// Files of the other tool name the credentials file in words of their own.
	got, err := ParseEnv("config.env", []byte("A=1\n# Taken from ~/c.env\nB=2\nA=3\n"), []string{"~/c.env"})
	if err != nil || len(got) != 2 || got[0] != (EnvVar{"A", "3", true}) || got[1] != (EnvVar{"B", "2", true}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ParseEnv("config.env", []byte("A='x\n"), nil); err == nil {
		t.Error("an open quote is read")
	}
}

func FuzzEnv(f *testing.F) {
	for _, s := range []string{"a", "$x'\"\\", "a\n#b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		data, err := MarshalEnv(&Spec{Config: []Setting{{Name: "A", Value: v, Kind: String}}}, V2, nil)
		if err != nil {
			return // said, not written wrong
		}
		got, err := ParseEnv("config.env", data, nil)
		if err != nil || len(got) != 1 || got[0].Value != v {
			t.Fatalf("%q: %+v, %v\n%s", v, got, err, data)
		}
	})
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"spec.yml": "stack: shop\ndeploy-to: k8s-kind\n", "stack.yml": "pods: [web]\n", "deployment.yml": "cluster-id: a\n", "compose/docker-compose-web.yml": "services: {}\n",
	}
	for name, c := range map[string]struct {
		file, text, want string
	}{
		"no deployment": {"deployment.yml", "", "is no deployment directory"},
		"no compose":    {"compose/docker-compose-web.yml", "", "docker-compose-web.yml: does not exist"},
		"no spec":       {"spec.yml", "", "spec.yml: does not exist"},
		"no stack":      {"stack.yml", "", "stack.yml: does not exist"},
		"bad env":       {"config.env", "A='\n", "is no environment file"},
		"bad state":     {".homelab/state.json", "[", "is no state"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, good)
			if _, _, err := Load(dir, Env{}); err != nil {
				t.Fatal(err)
			}
			if c.text == "" {
				if err := os.Remove(filepath.Join(dir, c.file)); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, dir, map[string]string{c.file: c.text})
			}
			if _, _, err := Load(dir, Env{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Where a directory came from is found as old files say it, too.
func TestLoadSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"d/spec.yml": "stack: .\ndeploy-to: k8s-kind\n", "d/stack.yml": "pods:\n", "r/stacks/shop/stack.yml": "",
	})
	for source, work := range map[string]string{dir + "/r/stacks/shop": "", "r/stacks/shop": dir, "../r/stacks/shop": "/nowhere"} {
		write(t, dir, map[string]string{"d/deployment.yml": "cluster-id: a\nstack-source: " + source + "\n"})
		d, _, err := Load(filepath.Join(dir, "d"), Env{WorkDir: work})
		if err != nil || d.Stack.Name != "shop" || filepath.Base(d.Stack.Root) != "r" {
			t.Errorf("%s: %+v, %v", source, d, err)
		}
	}
}
