package compose

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-containerregistry/pkg/name"
	"go.yaml.in/yaml/v3"

	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

// Input is what a project is made of.
type Input struct {
	Directory *file.Directory
	Images    map[string]string // service -> image; wins over the spec's image-overrides
	Generated map[string]string // values that were generated once; one that is missing is about to be
	Machine   render.Machine
	Stage     string // where the files of the directory lie while it is being made; "" in its place
}

// Project is what a directory comes to.
type Project struct {
	Name     string    // of the compose project: the directory's cluster-id
	Dir      string    // the deployment directory
	Files    []string  // compose files, absolute, in the stack's order
	Services []Service // by name
	Volumes  []Volume  // of the spec, in its order
	Override []byte    // a compose file; nil when nothing is overridden
	Set      []string  // names of the variables that the files are interpolated with
	Pull     string    // "always", "missing" or "never"; "" compose's own
	Notices  []file.Notice
}

// Service is one service that should run.
type Service struct {
	Name  string
	Image string
	Scale int      // containers
	Once  bool     // it is done when it has ended well
	Bound []string // files and directories of the deployment directory that it mounts, absolute, sorted
}

// Volume is a named volume of the spec.
type Volume struct {
	Name   string
	Object string // the engine's volume; "" for one that no service uses
	Path   string // its directory on this host, absolute; "" when the engine keeps it
}

// maker is one project under way.
type maker struct {
	Input
	spec    *file.Spec
	files   render.Summary
	out     *Project
	bad     []file.Problem
	project *types.Project
}

// Make judges the files of a directory and says what they come to. Nothing is
// contacted. The error is *file.Problems, all of them at once.
func Make(in Input) (*Project, error) {
	d := in.Directory
	m := &maker{Input: in, spec: d.Spec, out: &Project{Name: d.Deployment.ClusterID, Dir: d.Path}}
	for _, s := range d.Pods {
		m.out.Files = append(m.out.Files, s.Path)
	}
	var found []render.Problem
	m.files, found = render.Inspect(d.Pods, nil, m.env())
	for _, p := range found {
		m.bad = append(m.bad, file.Problem(p))
	}
	if len(m.bad) == 0 {
		m.load()
	}
	if len(m.bad) == 0 {
		m.unique()
		m.volumes()
		m.services()
		m.policy()
		m.ignored()
	}
	if len(m.bad) > 0 {
		return nil, &file.Problems{List: m.bad}
	}
	for _, v := range m.env() {
		m.out.Set = append(m.out.Set, v.Name)
	}
	m.out.Override = m.override()
	return m.out, nil
}

// env is what the files are interpolated with.
func (m *maker) env() []file.EnvVar {
	out := slices.Clone(m.Directory.Env)
	for _, g := range m.spec.Generated {
		v, ok := m.Generated[g.Name]
		if !ok {
			v = "generated"
		}
		out = append(out, file.EnvVar{Name: g.Name, Value: v})
	}
	return out
}

func (m *maker) fail(p file.Problem, format string, args ...any) {
	p.Message = fmt.Sprintf(format, args...)
	m.bad = append(m.bad, p)
}

func (m *maker) notice(level file.Level, code string, p file.Problem, format string, args ...any) {
	m.out.Notices = append(m.out.Notices, file.Notice{
		Code: code, Level: level, File: p.File, Line: p.Line, Service: p.Service, Key: p.Key, Message: fmt.Sprintf(format, args...),
	})
}

// at is the place of a service's key.
func (m *maker) at(service, key string) file.Problem {
	for _, s := range m.files.Services {
		if s.Name == service {
			return file.Problem{File: s.Path, Line: s.Line, Service: service, Key: key}
		}
	}
	return file.Problem{Service: service, Key: key}
}

// in is the place of a key of the spec.
func (m *maker) in(key string, line int) file.Problem {
	return file.Problem{File: m.spec.File, Line: line, Key: key}
}

// place is where a path of the directory lies.
func (m *maker) place(path string) string {
	rel, err := filepath.Rel(m.Directory.Path, path)
	if m.Stage == "" || err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return filepath.Join(m.Stage, rel)
}

// home is the reverse of place.
func (m *maker) home(path string) string {
	if m.Stage == "" {
		return path
	}
	rel, err := filepath.Rel(m.Stage, path)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return filepath.Join(m.Directory.Path, rel)
}

// load hands all files together to compose's own library.
func (m *maker) load() {
	d := m.Directory
	if len(d.Pods) == 0 {
		m.project = &types.Project{}
		return
	}
	details := types.ConfigDetails{WorkingDir: m.place(filepath.Join(d.Path, "compose")), Environment: types.Mapping{}}
	for _, v := range m.env() {
		details.Environment[v.Name] = v.Value
	}
	for _, s := range d.Pods {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: s.Path, Content: quiet(s.Raw)})
	}
	p, err := project(details, m.out.Name)
	if err != nil {
		where := file.Problem{File: filepath.Join(d.Path, "compose")}
		if len(d.Pods) == 1 {
			where.File = d.Pods[0].Path
		}
		m.fail(where, "%s", strings.ReplaceAll(err.Error(), details.WorkingDir, filepath.Join(d.Path, "compose")))
		return
	}
	m.project = p
}

func project(details types.ConfigDetails, called string) (p *types.Project, err error) {
	// The library has paths that assume a shape its own schema did not ask for.
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("the files cannot be read as compose files: %v", r)
		}
	}()
	//nolint:forbidigo // the library asks for a context and waits for nothing: files only
	return loader.LoadWithContext(context.Background(), details, func(o *loader.Options) {
		o.SetProjectName(called, true)
		o.SkipResolveEnvironment = true // files of env_file are read by whoever runs it
		o.Interpolate.Substitute = func(s string, look template.Mapping) (string, error) {
			return template.SubstituteWithOptions(s, look, template.WithoutLogging)
		}
	})
}

// quiet blanks the line of a key that the library would write a line about to a
// log of its own. A file written in another way is left as it is.
func quiet(raw []byte) []byte {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil || len(doc.Content) == 0 {
		return raw
	}
	top := doc.Content[0]
	for i := 0; top.Kind == yaml.MappingNode && top.Style&yaml.FlowStyle == 0 && i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		lines := bytes.SplitAfter(raw, []byte("\n"))
		if key.Value != "version" || value.Kind != yaml.ScalarNode || value.Line != key.Line || key.Line > len(lines) {
			continue
		}
		lines[key.Line-1] = []byte("\n")
		return bytes.Join(lines, nil)
	}
	return raw
}

// unique refuses one name in two files: compose would make one service of them.
func (m *maker) unique() {
	first := map[string]string{}
	for _, s := range m.files.Services {
		other, ok := first[s.Name]
		first[s.Name] = s.Path
		switch at := m.at(s.Name, ""); {
		case !ok || other == s.Path:
		case m.Directory.Deployment.Rules == file.V1:
			m.notice(file.Warning, "service-merged", at, "the service is in %s as well: the two become one", filepath.Base(s.Path))
		default:
			m.fail(at, "is in %s as well: compose would make one service of the two", filepath.Base(s.Path))
		}
	}
}

// volumes judges where data is.
func (m *maker) volumes() {
	inSpec := map[string]bool{}
	for _, v := range m.spec.Volumes {
		inSpec[v.Name] = true
		at := m.in("volumes."+v.Name, v.Pos.Line)
		out := Volume{Name: v.Name}
		if v.Path != "" {
			out.Path = m.absolute(at, v.Path)
		}
		declared, ok := m.project.Volumes[v.Name]
		switch {
		case !ok:
			m.notice(file.Warning, "volume-unused", at, "%s is in no compose file: it has no effect", v.Name)
		case bool(declared.External) && v.Path != "":
			m.fail(at, "%s is an external volume in its compose file: it cannot have a path", v.Name)
		default:
			out.Object = declared.Name
		}
		for _, other := range m.out.Volumes {
			if out.Path != "" && other.Path != "" && nested(out.Path, other.Path) {
				m.fail(at, "%s and %s share a directory: %s and %s", other.Name, v.Name, other.Path, out.Path)
			}
		}
		if st, err := os.Stat(out.Path); ok && filepath.IsAbs(v.Path) && (err != nil || !st.IsDir()) {
			m.notice(file.Warning, "volume-path-missing", at, "%s is no directory of this machine: start makes it", v.Path)
		}
		m.out.Volumes = append(m.out.Volumes, out)
	}
	for _, c := range m.spec.ConfigMaps {
		at := m.in("configmaps."+c.Name, c.Pos.Line)
		if _, ok := m.project.Volumes[c.Name]; !ok {
			m.notice(file.Warning, "volume-unused", at, "%s is in no compose file: it has no effect", c.Name)
		}
		inSpec[c.Name] = true
	}
	for _, s := range m.files.Services {
		for _, v := range s.Volumes {
			if inSpec[v.Source] {
				continue
			}
			at := m.at(s.Name, "volumes")
			at.Line = v.Line
			if m.Directory.Deployment.Rules == file.V1 {
				m.notice(file.Warning, "volume-not-in-spec", at, "volume %s is in neither volumes nor configmaps of the spec: the engine keeps it", v.Source)
				continue
			}
			m.fail(at, "volume %s is in neither volumes nor configmaps of the spec: say there where its data is", v.Source)
		}
	}
}

// absolute resolves the path of a volume.
func (m *maker) absolute(at file.Problem, path string) string {
	switch {
	case path == "~" || strings.HasPrefix(path, "~/"):
		if m.Machine.Home == "" {
			m.fail(at, "%s: the home directory is not known", path)
		}
		return filepath.Join(m.Machine.Home, path[1:])
	case filepath.IsAbs(path):
		return filepath.Clean(path)
	case !filepath.IsLocal(path):
		m.fail(at, "%s leads out of the deployment directory", path)
	}
	return filepath.Join(m.Directory.Path, path)
}

// nested tells whether one of two clean paths holds the other.
func nested(a, b string) bool { return within(a, b) || within(b, a) }

func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// services judges what runs.
func (m *maker) services() {
	names := slices.Sorted(maps.Keys(m.project.Services))
	for _, list := range []map[string]string{m.Images, m.spec.ImageOverrides} {
		for _, c := range slices.Sorted(maps.Keys(list)) {
			if slices.ContainsFunc(names, func(s string) bool { return same(s, c) }) {
				continue
			}
			at := file.Problem{Key: "--image"}
			if _, byFlag := m.Images[c]; !byFlag {
				at = m.in("image-overrides."+c, m.spec.Line("image-overrides."+c))
			}
			m.fail(at, "there is no container %q: the containers are %s", c, strings.Join(names, ", "))
		}
	}
	awaited := map[string]bool{}
	for _, s := range m.project.Services {
		for on, d := range s.DependsOn {
			awaited[on] = awaited[on] || d.Condition == types.ServiceConditionCompletedSuccessfully
		}
	}
	for _, n := range names {
		cfg := m.project.Services[n]
		s := Service{Name: n, Image: m.image(n, cfg.Image), Scale: cfg.GetScale(), Once: awaited[n] || truth(cfg.Labels["laconic.init-container"])}
		switch _, err := name.ParseReference(s.Image, name.WeakValidation); {
		case s.Image == "":
			m.fail(m.at(n, "image"), "a service needs an image: nothing is built here")
		case err != nil:
			m.fail(m.at(n, "image"), "%q is no image reference", s.Image)
		case cfg.Build != nil:
			m.notice(file.Ignored, "build", m.at(n, "build"), "nothing is built here: the image must be there")
		}
		m.bound(&s, cfg)
		m.out.Services = append(m.out.Services, s)
	}
	for _, s := range m.files.Services {
		if _, runs := m.project.Services[s.Name]; !runs && len(s.Profiles) > 0 {
			m.notice(file.Ignored, "profile", m.at(s.Name, "profiles"), "the service belongs to a profile and is not deployed")
		}
	}
}

// image is what a service runs.
func (m *maker) image(service, otherwise string) string {
	for _, from := range []map[string]string{m.Images, m.spec.ImageOverrides} {
		for _, key := range slices.Sorted(maps.Keys(from)) {
			if same(key, service) {
				return from[key]
			}
		}
	}
	return otherwise
}

// same compares names as clusters do, which know no underscore.
func same(a, b string) bool {
	return strings.ReplaceAll(a, "_", "-") == strings.ReplaceAll(b, "_", "-")
}

func truth(label string) bool { return slices.Contains([]string{"true", "1", "yes"}, label) }

// bound finds what of the directory a service mounts.
func (m *maker) bound(s *Service, cfg types.ServiceConfig) {
	d := m.Directory.Path
	add := func(path, key string) {
		path = m.home(path)
		switch {
		case slices.Contains(s.Bound, path):
		case !within(d, path):
			if _, err := os.Stat(path); err != nil {
				m.notice(file.Warning, "bind-missing", m.at(s.Name, key), "%s is not on this machine", path)
			}
		case within(filepath.Join(d, "data"), path): // made by whoever runs
		default:
			if _, err := os.Stat(m.place(path)); err != nil && m.Stage == "" && m.Machine.Files == nil {
				m.fail(m.at(s.Name, key), "names %s, which does not exist", path)
			}
			s.Bound = append(s.Bound, path)
		}
	}
	for _, v := range cfg.Volumes {
		switch {
		case v.Type == types.VolumeTypeBind:
			add(v.Source, "volumes")
		case v.Type == types.VolumeTypeVolume && m.configMap(v.Source):
			s.Bound = append(s.Bound, m.configDir(v.Source))
		}
	}
	for _, c := range cfg.Configs {
		if f := m.project.Configs[c.Source].File; f != "" {
			add(f, "configs")
		}
	}
	for _, c := range cfg.Secrets {
		if f := m.project.Secrets[c.Source].File; f != "" {
			add(f, "secrets")
		}
	}
	slices.Sort(s.Bound)
}

func (m *maker) configMap(volume string) bool {
	return slices.ContainsFunc(m.spec.ConfigMaps, func(c file.ConfigMap) bool { return c.Name == volume })
}

func (m *maker) configDir(volume string) string {
	return filepath.Join(m.Directory.Path, "configmaps", volume)
}

// policy says when images are pulled.
func (m *maker) policy() {
	m.out.Pull = map[string]string{"Always": "always", "IfNotPresent": "missing", "Never": "never"}[m.spec.PullPolicy]
}

// ignored tells of keys that only a cluster can follow.
func (m *maker) ignored() {
	s := m.spec
	for _, k := range []struct {
		key string
		set bool
	}{
		{"image-registry", s.ImageRegistry != ""},
		{"network.http-proxy", len(s.Proxies) > 0},
		{"network.acme-email", s.ACMEEmail != ""},
		{"network.node-ports", s.NodePorts != file.NodePortsDefault},
		{"secrets", len(s.Secrets) > 0},
		{"resources.containers", s.Resources != file.Resources{} || len(s.ContainerResources) > 0},
		{"resources.volumes", s.VolumeStorage != "" || len(s.VolumeStorages) > 0},
		{"security", s.Security.Privileged || s.Security.UnlimitedMemlock || len(s.Security.Capabilities) > 0 || s.Security.RuntimeClass != ""},
		{"annotations", len(s.Annotations) > 0},
		{"labels", len(s.Labels) > 0},
		{"replicas", s.Replicas > 1},
		{"node-affinities", len(s.Affinities) > 0},
		{"node-tolerations", len(s.Tolerations) > 0},
		{"namespace", s.Namespace != ""},
		{"kind-cluster-name", s.KindClusterName != ""},
		{"kind-mount-root", s.KindMountRoot != ""},
		{"caddy-ingress-image", s.CaddyImage != ""},
		{"maintenance-service", s.Maintenance != nil},
		{"external-services", len(s.Externals) > 0},
		{"ca-certificates", len(s.CAs) > 0},
	} {
		if k.set {
			m.notice(file.Ignored, "cluster-only", m.in(k.key, s.Line(k.key)), "it has no effect with deploy-to: compose")
		}
	}
	for _, j := range m.Directory.Jobs {
		m.notice(file.Info, "job-not-run", file.Problem{File: j.Path}, "compose starts no jobs: %s is not run", j.Name)
	}
}
