package render

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/stack/file"
)

func TestSanitise(t *testing.T) {
	for source, want := range map[string]string{
		"../config/test/script.sh": "config-test-script-sh",
		"./script.sh":              "script-sh",
		"../../a":                  "a",
		"/etc/localtime":           "etc-localtime",
		"~/x/y.pem":                "x-y-pem",
		"./My_File@v1.txt":         "myfilev1-txt",
		"./a--b//c..d/":            "a-b-c-d",
		"../.env":                  "env",
		"./-x-":                    "x",
		".":                        "",
		"./..":                     "",
		"./été":                    "t",
	} {
		if got := sanitise(source); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
}

func TestBindNames(t *testing.T) {
	var n bindNames
	n.reserve("host-path-taken")
	first := n.name("../config/a.sh", "/d/config/a.sh")
	again := n.name("../config/./a.sh", "/d/config/a.sh")
	if first != "host-path-config-a-sh" || again != first {
		t.Errorf("%q, then %q for the same file", first, again)
	}
	other := n.name("../config/a/sh", "/d/config/a/sh")
	if want := "host-path-config-a-sh-" + digest("../config/a/sh", 8); other != want {
		t.Errorf("another source of the same name: %q, want %q", other, want)
	}
	// "./x" of a pod and of a job are two files.
	seen := []string{n.name("./taken", "/d/compose/taken"), n.name("./taken", "/d/compose-jobs/taken"), n.name(".", "/d/compose")}
	if slices.Contains(seen, "host-path-taken") || seen[0] == seen[1] {
		t.Errorf("names are used twice: %q", seen)
	}
	if want := "host-path-" + digest(".", 8); seen[2] != want {
		t.Errorf("a source without letters: %q, want %q", seen[2], want)
	}
}

func TestShorten(t *testing.T) {
	fits, long := strings.Repeat("a", 63), strings.Repeat("a", 64)
	if shorten(fits) != fits {
		t.Error("63 characters fit")
	}
	if got := shorten(long); got != long[:54]+"-"+digest(long, 8) || len(got) != 63 {
		t.Errorf("64 characters: %q", got)
	}
}

func TestKeyFor(t *testing.T) {
	for name, want := range map[string]string{
		"script.sh": "script.sh", ".env": ".env", "A_b-c.9": "A_b-c.9",
		"a b": "file-" + digest("a b", 16), "é": "file-" + digest("é", 16),
		strings.Repeat("x", 253): strings.Repeat("x", 253),
		strings.Repeat("x", 254): "file-" + digest(strings.Repeat("x", 254), 16),
	} {
		if got, err := keyFor(name); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"..", "..data", "\xff"} {
		if got, err := keyFor(name); err == nil {
			t.Errorf("%q became %q: no volume can hold it", name, got)
		}
	}
}

// TestReadBudget is both sides of the budget, of a file and of a directory.
func TestReadBudget(t *testing.T) {
	const most = 716_800
	for _, c := range []struct {
		name  string
		sizes []int
		dir   bool
		fits  bool
	}{
		{"file at the budget", []int{most}, false, true},
		{"file above it", []int{most + 1}, false, false},
		{"directory at the budget", []int{most - 10, 4, 6}, true, true},
		{"directory above it", []int{most - 10, 5, 6}, true, false},
		{"one file of a directory above it", []int{most + 1}, true, false},
		{"empty directory", nil, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := dir
			for i, n := range c.sizes {
				path = filepath.Join(dir, string(rune('a'+i)))
				if err := os.WriteFile(path, bytes.Repeat([]byte{0xff}, n), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.dir {
				path = dir
			}
			got, err := Machine{}.read(source{path: path, budget: bindBudget, advice: "ADVICE"})
			if !c.fits {
				if err == nil || !strings.Contains(err.Error(), "716800") || !strings.Contains(err.Error(), "ADVICE") || isMissing(err) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || len(got.data) != len(c.sizes) || got.dir != c.dir {
				t.Errorf("%d keys, %v", len(got.data), err)
			}
		})
	}
}

// growing is a file system whose files are longer than they said.
type growing struct{ diskFiles }

func (growing) ReadFile(string) ([]byte, error) { return make([]byte, bindBudget+1), nil }

func TestReadBudgetIsOfWhatWasRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Machine{Files: growing{}}).read(source{path: path, budget: bindBudget}); err == nil {
		t.Error("a file that grew while it was read went through")
	}
}

// denied is a file system that lets nobody read a file.
type denied struct{ diskFiles }

func (denied) ReadFile(path string) ([]byte, error) {
	return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrPermission}
}

func TestReadFileKinds(t *testing.T) {
	// Short, because a socket's path may have 108 bytes only.
	dir, err := os.MkdirTemp("", "hl") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"stack/flat", "stack/deep/sub", "stack/withpipe", "stack/escapes", "stack/odd", "stack2", "outside"} {
		must(os.MkdirAll(at(d), 0o755))
	}
	for _, f := range []string{"stack/f", "stack/flat/.hidden", "stack/flat/a b", "stack/flat/c", "stack/odd/..x", "outside/secret", "stack2/f"} {
		must(os.WriteFile(at(f), []byte("content of "+f), 0o600))
	}
	l, err := net.Listen("unix", at("stack/sock"))
	must(err)
	t.Cleanup(func() { _ = l.Close() })
	must(syscall.Mkfifo(at("stack/pipe"), 0o600))
	must(syscall.Mkfifo(at("stack/withpipe/p"), 0o600))
	for name, target := range map[string]string{
		"stack/in": at("stack/f"), "stack/flatlink": "flat", "stack/out": at("outside/secret"), "stack/outdir": "../outside",
		"stack/escapes/x": "../../outside/secret", "stack/dangling": "nowhere", "stack/near": at("stack2/f"), "stack/loop": "loop",
	} {
		must(os.Symlink(target, at(name)))
	}
	for _, c := range []struct {
		path    string
		machine Machine
		want    string // of the error; "" none
		missing bool
	}{
		{path: "stack/f"},
		{path: "stack/flat"},
		{path: "stack/in"},
		{path: "stack/flatlink"},
		{path: "stack/deep", want: "subdirectory sub"},
		{path: "stack/sock", want: "a socket"},
		{path: "stack/pipe", want: "a named pipe"},
		{path: "stack/withpipe", want: "p in it: it is a named pipe"},
		{path: "stack/out", want: "link out of the stack"},
		{path: "stack/outdir", want: "link out of the stack"},
		{path: "stack/near", want: "link out of the stack"},
		{path: "stack/escapes", want: "x in it: it is a link out of the stack"},
		{path: "stack/odd", want: "..x"},
		{path: "stack/loop", want: "cannot be read"},
		{path: "stack/dangling", want: "a link to nothing", missing: true},
		{path: "stack/none", want: "does not exist", missing: true},
		{path: "stack/f/below", want: "cannot be read"},
		{path: "stack/../outside/secret", want: "outside the stack"},
		{path: "stack/../stack2/f", want: "outside the stack"},
		{path: "stack/f", machine: Machine{Files: denied{}}, want: "permission denied"},
	} {
		_, err := c.machine.read(source{path: at("stack") + strings.TrimPrefix(c.path, "stack"), within: []string{at("stack")}, budget: bindBudget})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.path, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || isMissing(err) != c.missing {
			t.Errorf("%s: %v (missing %v), want %q", c.path, err, isMissing(err), c.want)
		}
	}
	// What a person names on this machine is theirs to name, links included;
	// but no cluster can be given a device.
	if _, err := (Machine{}).read(source{path: at("stack/out"), budget: bindBudget}); err != nil {
		t.Error(err)
	}
	if _, err := (Machine{}).read(source{path: "/dev/null", budget: bindBudget}); err == nil || !strings.Contains(err.Error(), "a device") {
		t.Errorf("/dev/null: %v", err)
	}
	got, err := Machine{}.read(source{path: at("stack/flat"), budget: bindBudget})
	must(err)
	hash := "file-" + digest("a b", 16)
	var items []string
	for _, i := range got.items {
		items = append(items, i.Key+"="+i.Path)
	}
	if diff := cmp.Diff([]string{".hidden=.hidden", hash + "=a b", "c=c"}, items); diff != "" || string(got.data[hash]) != "content of stack/flat/a b" {
		t.Errorf("%s\n%q", diff, got.data)
	}
}

const bindFile = `
services:
  web:
    image: web
    volumes:
`

func TestBinds(t *testing.T) {
	s := newScene(t, bindFile+`
      - ../config/run.sh:/run.sh:ro
      - ../config/conf:/etc/conf:ro,z
      - ../config/./run.sh:/again.sh:ro
      - type: bind
        source: ../config/odd name
        target: /odd
        read_only: true
      - ../config/loose.txt:/loose.txt
`)
	s.job("seed", "services: {seed: {image: seed, volumes: ['../config/run.sh:/run.sh:ro']}}")
	s.write("config/run.sh", "#!/bin/sh\n")
	s.write("config/conf/.env", "A=1\n")
	s.write("config/conf/x.bin", "\x00\xff")
	s.write("config/odd name", "odd")
	s.write("config/loose.txt", "loose")
	r := s.good()
	if diff := cmp.Diff([]string{
		"laconic-1-host-path-config-conf", "laconic-1-host-path-config-loose-txt", "laconic-1-host-path-config-oddname", "laconic-1-host-path-config-run-sh",
	}, names(r, "ConfigMap")); diff != "" {
		t.Error(diff)
	}
	hash := "file-" + digest("odd name", 16)
	volumes, mounts := mountLines(r, &r.pods[0])
	if diff := cmp.Diff([]string{
		"host-path-config-run-sh configmap laconic-1-host-path-config-run-sh",
		"host-path-config-conf configmap laconic-1-host-path-config-conf",
		"host-path-config-oddname configmap laconic-1-host-path-config-oddname " + hash + "=odd name",
		"host-path-config-loose-txt configmap laconic-1-host-path-config-loose-txt",
	}, volumes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{
		"web /run.sh <- host-path-config-run-sh/run.sh ro",
		"web /etc/conf <- host-path-config-conf ro",
		"web /again.sh <- host-path-config-run-sh/run.sh ro",
		"web /odd <- host-path-config-oddname/odd name ro",
		"web /loose.txt <- host-path-config-loose-txt/loose.txt",
	}, mounts); diff != "" {
		t.Error(diff)
	}
	_, mounts = mountLines(r, &r.jobs[0])
	if diff := cmp.Diff([]string{"seed /run.sh <- host-path-config-run-sh/run.sh ro"}, mounts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"bind-read-only changed", "mount-option info"}, told(r)); diff != "" {
		t.Error(diff)
	}
	if len(r.result.Mounts) != 0 {
		t.Errorf("a bind needs no mount of the node: %v", r.result.Mounts)
	}
	o := find(t, r, "ConfigMap", "laconic-1-host-path-config-conf")
	if diff := cmp.Diff(map[string]any{".env": "QT0xCg==", "x.bin": "AP8="}, o.Object["binaryData"]); diff != "" {
		t.Error(diff)
	}
	if got := o.GetLabels()["configmap-label"]; got != "host-path-config-conf" {
		t.Errorf("configmap-label is %q", got)
	}
}

func TestBindsOfThisMachine(t *testing.T) {
	s := newScene(t, bindFile+`
      - ~/ca.pem:/ca.pem:ro
      - ABS:/abs:ro
`)
	abs := s.write(filepath.Join(t.TempDir(), "abs.txt"), "abs")
	s.d.Pods[0].Raw = []byte(strings.ReplaceAll(string(s.d.Pods[0].Raw), "ABS", abs))
	s.write(filepath.Join(s.o.Machine.Home, "ca.pem"), "ca")
	r := s.good()
	if diff := cmp.Diff([]string{"bind-from-this-machine info", "bind-from-this-machine info"}, told(r)); diff != "" {
		t.Error(diff)
	}
	if got := find(t, r, "ConfigMap", "laconic-1-host-path-ca-pem").Object["binaryData"]; cmp.Diff(map[string]any{"ca.pem": "Y2E="}, got) != "" {
		t.Errorf("%v", got)
	}
	s.o.Machine.Home = ""
	s.refused("~/ca.pem", "home")
}

func TestBindRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		entry string
		want  []string
	}{
		"rw":             {"../config/f:/f:rw", []string{"docker-compose-one.yml:6", "service web", "mounted for writing", "named volume"}},
		"rw in options":  {"../config/f:/f:Z,rw", []string{"mounted for writing"}},
		"long rw":        {"{type: bind, source: ../config/f, target: /f, read_only: false}", []string{"mounted for writing"}},
		"missing":        {"../config/none:/f:ro", []string{"../config/none", "does not exist"}},
		"escape":         {"../../x:/x:ro", []string{"outside the stack and the deployment directory"}},
		"socket":         {"/dev/null:/var/run/docker.sock:ro", []string{"a device"}},
		"directory":      {"../config:/c:ro", []string{"subdirectory deep"}},
		"another's home": {"~you/x:/x:ro", []string{"home of another user"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, bindFile+"      - "+c.entry+"\n")
			s.write("config/f", "f")
			s.write("config/deep/f", "f")
			s.write(filepath.Join(filepath.Dir(s.d.Path), "x"), "outside")
			s.refused(c.want...)
		})
	}
}

// TestBindMissing is what a source that is not there means, by the verb's
// stage and the rules.
func TestBindMissing(t *testing.T) {
	for _, c := range []struct {
		rules   file.Rules
		missing Missing
		refused bool
		told    []string
	}{
		{file.V1, MissingRefused, true, nil},
		{file.V2, MissingRefused, true, nil},
		{file.V1, MissingWarned, false, []string{"bind-missing warning"}},
		{file.V2, MissingWarned, true, nil},
		{file.V1, MissingLater, false, nil},
		{file.V2, MissingLater, false, nil},
	} {
		s := newScene(t, bindFile+"      - ../config/none:/f:ro\n")
		s.d.Deployment.Rules, s.o.Missing = c.rules, c.missing
		r := s.render()
		_, refused := errors.AsType[*Problems](r.c.err())
		if refused != c.refused || cmp.Diff(c.told, told(r)) != "" {
			t.Errorf("%v %v: refused %v, told %q", c.rules, c.missing, refused, told(r))
		}
		if _, mounts := mountLines(r, &r.pods[0]); len(mounts) != 0 {
			t.Errorf("mounted without a source: %q", mounts)
		}
	}
}

// TestStage reads the files of a directory where they lie while it is made, and
// names everything as it will be.
func TestStage(t *testing.T) {
	s := newScene(t, bindFile+"      - ../config/f:/f:ro\n      - data:/data\n      - conf:/conf\nvolumes: {data: , conf: }\n")
	final := s.d.Path
	stage := final + ".stage"
	s.volume("data", "./data/x").configmap("conf")
	s.write(filepath.Join(stage, "config/f"), "f")
	s.write(filepath.Join(stage, "configmaps/conf/k"), "v")
	s.o.Stage = stage
	r := s.good()
	if diff := cmp.Diff([]Mount{{HostPath: filepath.Join(final, "data/x"), ContainerPath: "/mnt/data"}}, r.result.Mounts); diff != "" {
		t.Error(diff)
	}
	if got := names(r, "ConfigMap"); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func TestBindsOfTheSourceStack(t *testing.T) {
	s := newScene(t, bindFile+"      - ../config/web/f:/f:ro\n")
	root := filepath.Join(filepath.Dir(s.d.Path), "root")
	s.d.Stack.Root = root
	s.d.Pods[0].Path = filepath.Join(root, "compose", "docker-compose-one.yml")
	s.write(filepath.Join(root, "config/web/f"), "f")
	if got := names(s.good(), "ConfigMap"); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestSpecConfigMaps(t *testing.T) {
	const used = "services: {web: {image: web, volumes: ['conf:/conf', 'conf:/ro:ro']}}\nvolumes: {conf: }\n"
	t.Run("files", func(t *testing.T) {
		s := newScene(t, used).configmap("conf")
		s.write("configmaps/conf/a.toml", "a")
		s.write("configmaps/conf/.b", "b")
		s.write("configmaps/conf/with blank", "c")
		s.write("configmaps/conf/sub/left", "out")
		r := s.good()
		if diff := cmp.Diff([]string{"configmap-directory ignored"}, told(r)); diff != "" {
			t.Error(diff)
		}
		hash := "file-" + digest("with blank", 16)
		o := find(t, r, "ConfigMap", "laconic-1-conf")
		if diff := cmp.Diff(map[string]any{"a.toml": "YQ==", ".b": "Yg==", hash: "Yw=="}, o.Object["binaryData"]); diff != "" || o.GetLabels()["configmap-label"] != "conf" {
			t.Errorf("%s %v", diff, o.GetLabels())
		}
		volumes, mounts := mountLines(r, &r.pods[0])
		if diff := cmp.Diff([]string{"conf configmap laconic-1-conf .b=.b a.toml=a.toml " + hash + "=with blank"}, volumes); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"web /conf <- conf", "web /ro <- conf ro"}, mounts); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a mebibyte", func(t *testing.T) {
		s := newScene(t, used).configmap("conf")
		s.write("configmaps/conf/a", strings.Repeat("x", 1<<20))
		s.good()
		s.write("configmaps/conf/b", "x")
		s.refused("configmaps.conf", "1048576")
	})
	t.Run("missing", func(t *testing.T) { newScene(t, used).configmap("conf").refused("configmaps.conf", "does not exist") })
	t.Run("a file", func(t *testing.T) {
		s := newScene(t, used).configmap("conf")
		s.write("configmaps/conf", "x")
		s.refused("a file, not a directory")
	})
	t.Run("unused", func(t *testing.T) {
		s := newScene(t, "services: {web: {image: web}}").configmap("conf")
		r := s.good()
		if diff := cmp.Diff([]string{"volume-unused warning"}, told(r)); diff != "" || len(names(r, "ConfigMap")) != 0 {
			t.Error(diff)
		}
	})
}

// What an update kept of a file it replaced is nobody's configuration.
func TestKeptCopiesAreNotMounted(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"config/web/a.conf": "a", "config/web/a.conf.bak": "old", "config/web/own.bak": "shipped"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := &file.Directory{Path: dir, Hashes: map[string]string{"config/web/a.conf": "x", "config/web/own.bak": "y"}}
	got, err := Machine{}.read(source{path: filepath.Join(dir, "config/web"), budget: bindBudget, leave: d.Backup})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]byte{"a.conf": []byte("a"), "own.bak": []byte("shipped")}, got.data); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
