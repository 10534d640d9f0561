package render

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/stack/file"
)

// scene is a deployment directory on disk, and what is asked of a render.
type scene struct {
	t *testing.T
	d *file.Directory
	o Options
	f Facts
}

// newScene makes a directory of V2 on kind with pod files by name.
func newScene(t *testing.T, pods ...string) *scene {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, d: &file.Directory{
		Path:       filepath.Join(dir, "d"),
		Spec:       &file.Spec{File: "spec.yml", Target: file.Kind, Replicas: 1},
		Deployment: file.Deployment{ClusterID: "laconic-c", ID: "laconic-1", Rules: file.V2},
		Stack:      &file.Stack{Name: "web"},
	}}
	s.o.Machine.Home = filepath.Join(dir, "home")
	s.write("compose/.keep", "")
	names := []string{"one", "two", "three"}
	for i, text := range pods {
		s.pod(names[i], text)
	}
	return s
}

func (s *scene) pod(name, text string) {
	path := filepath.Join(s.d.Path, "compose", "docker-compose-"+name+".yml")
	s.d.Pods = append(s.d.Pods, file.Source{Name: name, Path: path, Raw: []byte(text)})
}

func (s *scene) job(name, text string) {
	path := filepath.Join(s.d.Path, "compose-jobs", "docker-compose-"+name+".yml")
	s.d.Jobs = append(s.d.Jobs, file.Source{Name: name, Path: path, Raw: []byte(text)})
}

// write makes a file below the directory, or at an absolute path.
func (s *scene) write(path, text string) string {
	s.t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.d.Path, path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *scene) mkdir(path string) string {
	s.t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *scene) link(target, path string) {
	s.t.Helper()
	s.mkdir(filepath.Dir(path))
	if err := os.Symlink(target, path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) volume(name, path string) *scene {
	s.d.Spec.Volumes = append(s.d.Spec.Volumes, file.Volume{Name: name, Path: path, Pos: file.Pos{Line: len(s.d.Spec.Volumes) + 1}})
	return s
}

func (s *scene) configmap(name string) *scene {
	s.d.Spec.ConfigMaps = append(s.d.Spec.ConfigMaps, file.ConfigMap{Name: name})
	return s
}

func (s *scene) route(host, path, container string, port int) *scene {
	s.d.Spec.Proxies = append(s.d.Spec.Proxies, file.Proxy{Host: host, Routes: []file.Route{{Path: path, Container: container, Port: port}}})
	return s
}

// volumes and network of the scene, with what they tell.
func (s *scene) render() *renderer {
	s.t.Helper()
	loaded, c := load(s.d, nil)
	r := &renderer{d: s.d, o: s.o, f: s.f, c: c, result: &Result{}}
	for _, p := range loaded {
		if p.job {
			r.jobs = append(r.jobs, p)
		} else {
			r.pods = append(r.pods, p)
		}
	}
	if err := c.err(); err != nil {
		s.t.Fatal(err)
	}
	r.volumes()
	r.network()
	return r
}

// good is render without a problem.
func (s *scene) good() *renderer {
	s.t.Helper()
	r := s.render()
	if err := r.c.err(); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// refused checks that one problem says every word, and nothing else is wrong.
func (s *scene) refused(words ...string) {
	s.t.Helper()
	r := s.render()
	for p := range r.each() {
		r.podVolumes(p)
	}
	all, ok := errors.AsType[*Problems](r.c.err())
	if !ok {
		s.t.Fatalf("nothing was refused; want one with %q", words)
	}
	if len(all.All) != 1 {
		s.t.Errorf("%d problems: %v", len(all.All), all)
	}
	for _, w := range words {
		if !strings.Contains(all.Error(), w) {
			s.t.Errorf("%q is not in: %v", w, all)
		}
	}
}

// told returns the codes of the notices with their levels, sorted.
func told(r *renderer) []string {
	var out []string
	for _, n := range r.c.notices {
		if n.Message == "" || n.File == "" {
			out = append(out, "incomplete:"+n.Code)
		}
		out = append(out, n.Code+" "+string(n.Level))
	}
	slices.Sort(out)
	return out
}

func find(t *testing.T, r *renderer, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range r.result.Objects {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("there is no %s %s among %q", kind, name, names(r, ""))
	return nil
}

// names lists the objects of a kind, or of all as KIND/NAME.
func names(r *renderer, kind string) []string {
	out := []string{}
	for _, o := range r.result.Objects {
		switch kind {
		case "":
			out = append(out, o.GetKind()+"/"+o.GetName())
		case o.GetKind():
			out = append(out, o.GetName())
		}
	}
	slices.Sort(out)
	return out
}

// text writes values as one YAML stream.
func text(t *testing.T, values ...any) string {
	t.Helper()
	var b strings.Builder
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// objects writes every object of a render.
func objects(t *testing.T, r *renderer) string {
	t.Helper()
	var all []any
	for _, o := range r.result.Objects {
		all = append(all, o.Object)
	}
	return text(t, all...)
}

// mounts of one pod as lines: CONTAINER AT <- VOLUME[/SUBPATH][ ro].
func mountLines(r *renderer, p *pod) (volumes, mounts []string) {
	vs, ms := r.podVolumes(p)
	for _, v := range vs {
		volumes = append(volumes, v.Name+" "+sourceOf(v))
	}
	for _, c := range slices.Sorted(maps.Keys(ms)) {
		for _, m := range ms[c] {
			line := c + " " + m.MountPath + " <- " + m.Name
			if m.SubPath != "" {
				line += "/" + m.SubPath
			}
			if m.ReadOnly {
				line += " ro"
			}
			mounts = append(mounts, line)
		}
	}
	return volumes, mounts
}

func sourceOf(v corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return "claim " + v.PersistentVolumeClaim.ClaimName
	case v.ConfigMap != nil:
		s := "configmap " + v.ConfigMap.Name
		if *v.ConfigMap.DefaultMode != 0o755 {
			s += " WRONG MODE"
		}
		for _, i := range v.ConfigMap.Items {
			s += " " + i.Key + "=" + i.Path
		}
		return s
	case v.EmptyDir != nil:
		return "empty " + string(v.EmptyDir.Medium)
	}
	return "?"
}

// jsonOf turns a value of the API's types into what it is on the wire.
func jsonOf(t *testing.T, v any) any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
