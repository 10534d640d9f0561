package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/stack/file"
)

// tree is the files of a directory that is made or brought up to date.
type tree struct {
	env     file.Env
	spec    *file.Spec
	in      *loaded
	files   map[string]node // by slash-separated path
	bad     []file.Problem
	notices []file.Notice
	missing []missing // bind sources that are not there
}

// node is one generated file.
type node struct {
	data   []byte
	mode   fs.FileMode
	secret bool
}

type missing struct {
	problem file.Problem
	place   string // in the directory
}

func (t *tree) put(name string, n node, from file.Pos) {
	if n.mode == 0 {
		n.mode = 0o644
	}
	if n.secret {
		n.mode = 0o600
	}
	if old, ok := t.files[name]; ok && !slices.Equal(old.data, n.data) {
		t.bad = append(t.bad, file.Problem{File: from.File, Line: from.Line, Message: "two different files would become " + name})
		return
	}
	t.files[name] = n
}

func (t *tree) fail(err error, at string) {
	t.bad = append(t.bad, file.AsProblems(asProblem(err, at))...)
}

// gather collects everything that is copied or generated from files, and says
// what is wrong with it. deployment.yml and what needs a render are not in it.
func gather(env file.Env, spec *file.Spec, in *loaded, rules file.Rules, hooks []string) *tree {
	t := &tree{env: env, spec: spec, in: in, files: map[string]node{}}
	t.put("spec.yml", node{data: spec.Raw}, file.Pos{})
	stackPath := filepath.Join(in.stack.Dir, "stack.yml")
	if raw, err := read(stackPath); err != nil {
		t.fail(err, stackPath)
	} else {
		t.put("stack.yml", node{data: raw}, file.Pos{})
	}
	vars := t.config(rules)
	t.access()
	t.compose(vars)
	t.configMaps()
	for name, from := range hookCopies(hooks) {
		t.copyFile(from, name, nil, file.Pos{File: from})
	}
	slices.SortStableFunc(t.bad, func(a, b file.Problem) int { return strings.Compare(a.File, b.File) })
	return t
}

// config writes config.env and returns the variables in it.
func (t *tree) config(rules file.Rules) map[string]string {
	var files []file.Credentials
	for i, p := range t.spec.CredentialsFiles {
		data, err := read(t.env.Path(p))
		if err != nil {
			t.named(fmt.Sprintf("credentials-files[%d]", i), "credentials-files", p, err)
			continue
		}
		files = append(files, file.Credentials{Path: p, Content: data})
	}
	data, err := file.MarshalEnv(t.spec, rules, files)
	if err != nil {
		t.fail(err, t.spec.File)
		return nil
	}
	t.put("config.env", node{data: data, secret: true}, file.Pos{File: t.spec.File})
	vars, err := file.ParseEnv("config.env", data, t.spec.CredentialsFiles)
	if err != nil {
		t.fail(err, t.spec.File)
	}
	out := map[string]string{}
	for _, v := range vars {
		out[v.Name] = v.Value
	}
	return out
}

// named reports a file the spec names that cannot be read.
func (t *tree) named(key, section, written string, err error) {
	why := reason(err)
	if list := file.AsProblems(err); len(list) > 0 {
		why = list[0].Message
	}
	t.bad = append(t.bad, file.Problem{File: t.spec.File, Line: t.spec.Line(section), Key: key, Message: "names " + written + ", which " + why})
}

// access copies the kubeconfig and judges the other files the spec names.
func (t *tree) access() {
	if t.spec.KubeConfig != "" {
		data, err := read(t.env.Path(t.spec.KubeConfig))
		if err != nil {
			t.named("kube-config", "kube-config", t.spec.KubeConfig, err)
		} else {
			t.put("kubeconfig.yml", node{data: kubeconfig(t.env.Path(t.spec.KubeConfig), data), secret: true}, file.Pos{})
		}
	}
	for i, p := range t.spec.CAs {
		if _, err := read(t.env.Path(p)); err != nil {
			t.named(fmt.Sprintf("ca-certificates[%d]", i), "ca-certificates", p, err)
		}
	}
}

// compose copies pod and job files with what ships beside them.
func (t *tree) compose(vars map[string]string) {
	services := map[string]bool{}
	for _, c := range t.in.files {
		dir := "compose"
		if c.job {
			dir = "compose-jobs"
		}
		for _, s := range c.services {
			services[s.name] = true
		}
		data, err := withPorts(c, t.spec.Ports)
		if err != nil {
			t.fail(err, c.src.Path)
			continue
		}
		t.put(dir+"/docker-compose-"+c.src.Name+".yml", node{data: data}, file.Pos{File: c.src.Path})
		binds, err := c.binds(vars)
		if err != nil {
			t.fail(err, c.src.Path)
		}
		for _, b := range binds {
			t.bind(c, dir, b)
		}
		if !c.job {
			if from, ok := t.env.ConfigDir(t.in.stack, c.src.Name); ok {
				t.copyAny(from, "config/"+c.src.Name, filepath.Dir(filepath.Dir(from)), file.Pos{File: from})
			}
		}
	}
	for _, name := range sortedKeys(t.spec.Ports) {
		if !services[name] {
			t.notices = append(t.notices, file.Notice{
				Code: "unknown-service", Level: file.Ignored, File: t.spec.File, Line: t.spec.Line("network"), Key: "network.ports." + name,
				Message: "no compose file has a service " + name + ": its ports have no effect",
			})
		}
	}
}

// bind copies what a service mounts or reads to where the same words lead from
// the copied compose file.
func (t *tree) bind(c *composeFile, dir string, b source) {
	if filepath.IsAbs(b.path) || strings.HasPrefix(b.path, "~") {
		return // it is of the machine, not of the stack
	}
	pos := file.Pos{File: c.src.Path, Line: b.line}
	problem := file.Problem{File: c.src.Path, Line: b.line, Key: b.key}
	place := path.Join(dir, filepath.ToSlash(b.path))
	base := filepath.Dir(c.src.Path)
	root := filepath.Dir(base)
	top, _, _ := strings.Cut(place, "/")
	switch {
	case place == "." || !filepath.IsLocal(filepath.FromSlash(place)):
		problem.Message = fmt.Sprintf("%s lies outside of the stack: what a stack mounts must ship with it", b.path)
		t.bad = append(t.bad, problem)
		return
	case top == "data":
		return // made by whoever runs, and never touched
	case slices.Contains([]string{"deployment.yml", file.StateDir, "spec.yml", "stack.yml", "config.env", "kubeconfig.yml", "hooks"}, top) || place == "compose" || place == "compose-jobs":
		problem.Message = fmt.Sprintf("%s would be %s of the deployment directory, which is not the stack's", b.path, place)
		t.bad = append(t.bad, problem)
		return
	}
	from := filepath.Join(base, b.path)
	if top == "config" {
		rest := strings.TrimPrefix(place, "config/")
		name, _, _ := strings.Cut(rest, "/")
		place = "config/" + name
		from = filepath.Join(root, "config", name)
		if _, err := os.Lstat(from); err != nil {
			if other, ok := t.env.ConfigDir(t.in.stack, name); ok {
				from, root = other, filepath.Dir(filepath.Dir(other))
			}
		}
		// The whole of config/NAME is copied; what the service names must be in it.
		if _, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(from)), "config", filepath.FromSlash(rest))); errors.Is(err, fs.ErrNotExist) {
			t.absent(problem, b, "config/"+rest)
		}
	}
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		t.absent(problem, b, place)
		return
	}
	t.copyAny(from, place, root, pos)
}

func (t *tree) absent(p file.Problem, b source, place string) {
	if b.optional {
		return
	}
	p.Message = fmt.Sprintf("names %s, which does not exist in the stack", b.path)
	if !slices.ContainsFunc(t.missing, func(m missing) bool { return m.problem == p }) {
		t.missing = append(t.missing, missing{p, place})
	}
}

// copyAny copies a file or a directory with all below it. Links are followed
// as long as they stay within root.
func (t *tree) copyAny(from, place, root string, pos file.Pos) { t.copyTree(from, place, root, pos, 0) }

func (t *tree) copyTree(from, place, root string, pos file.Pos, depth int) {
	bad := func(format string, args ...any) {
		p := file.Problem{File: pos.File, Line: pos.Line, Message: fmt.Sprintf(format, args...)}
		if !slices.Contains(t.bad, p) {
			t.bad = append(t.bad, p)
		}
	}
	if depth > 32 {
		bad("%s is nested too deep, or links to itself", from)
		return
	}
	if actual, err := filepath.EvalSymlinks(from); err == nil && !within(root, actual) {
		bad("%s is a link out of the stack, to %s: what a stack mounts must ship with it", from, actual)
		return
	}
	st, err := os.Stat(from)
	switch {
	case err != nil:
		bad("%s cannot be read: %s", from, reason(err))
	case st.IsDir():
		list, err := os.ReadDir(from)
		if err != nil {
			bad("%s cannot be read: %s", from, reason(err))
		}
		for _, e := range list {
			t.copyTree(filepath.Join(from, e.Name()), path.Join(place, e.Name()), root, pos, depth+1)
		}
	case !st.Mode().IsRegular():
		bad("%s is a socket, a device or a pipe: only files can be copied", from)
	default:
		t.copyFile(from, place, st, pos)
	}
}

func (t *tree) copyFile(from, place string, st fs.FileInfo, pos file.Pos) {
	data, err := read(from)
	if err != nil {
		t.fail(err, from)
		return
	}
	if st == nil {
		if st, err = os.Stat(from); err != nil {
			t.fail(err, from)
			return
		}
	}
	t.put(place, node{data: data, mode: st.Mode().Perm() | 0o600}, pos)
}

// within says whether actual, a path without links, lies in root.
func within(root, actual string) bool {
	r, err := filepath.EvalSymlinks(root)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(r, actual)
	return err == nil && filepath.IsLocal(rel)
}

const mostConfigMap = 1 << 20 // bytes that the API takes

// configMaps copies the sources of the spec's configmaps: their files, not
// what lies in directories below.
func (t *tree) configMaps() {
	for _, m := range t.spec.ConfigMaps {
		key := "configmaps." + m.Name
		bad := func(format string, args ...any) {
			t.bad = append(t.bad, file.Problem{File: m.Pos.File, Line: m.Pos.Line, Key: key, Message: fmt.Sprintf(format, args...)})
		}
		if !filepath.IsLocal(m.Name) || strings.ContainsAny(m.Name, "/\\") {
			bad("is no name of a volume")
			continue
		}
		from := t.env.Path(m.Path)
		if m.Path == "" || strings.HasPrefix(m.Path, "./") {
			dir, ok := t.env.ConfigDir(t.in.stack, m.Name)
			if !ok {
				bad("needs config/%s in the stack's root, which does not exist", m.Name)
				continue
			}
			from = dir
		}
		list, err := os.ReadDir(from)
		if err != nil {
			bad("%s cannot be read as a directory: %s", from, reason(err))
			continue
		}
		size := 0
		for _, e := range list {
			p := filepath.Join(from, e.Name())
			st, err := os.Stat(p)
			switch {
			case err != nil:
				bad("%s cannot be read: %s", p, reason(err))
				continue
			case st.IsDir():
				t.notices = append(t.notices, file.Notice{
					Code: "configmap-subdirectory", Level: file.Ignored, File: m.Pos.File, Line: m.Pos.Line, Key: key,
					Message: fmt.Sprintf("%s is a directory: a ConfigMap has the files beside it only", p),
				})
				continue
			case !st.Mode().IsRegular():
				bad("%s is a socket, a device or a pipe: only files can be copied", p)
				continue
			}
			size += int(st.Size())
			t.copyFile(p, "configmaps/"+m.Name+"/"+e.Name(), st, m.Pos)
		}
		if size > mostConfigMap {
			bad("%s holds %d bytes: a ConfigMap has room for %d", from, size, mostConfigMap)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
