package directory

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v3"

	"homelab/pkg/stack/file"
)

// composeFile is what making a directory needs to know of a compose file. It
// is read from the nodes as they are written, before any interpolation: what
// the file means is decided by package render.
type composeFile struct {
	src      file.Source
	job      bool
	root     *yaml.Node // the document; nil for an empty file
	services []service
	volumes  []string // declared at the top, in order
	beside   []source // files it is made of: what secrets and configs read
}

// service is one service of a compose file.
type service struct {
	name     string
	ports    []port
	mounts   []mount
	envFiles []source
	host     bool // network_mode: host
}

// port is one entry of ports.
type port struct {
	text string // as a short string
	line int
}

// mount is one entry of a service's volumes.
type mount struct {
	source
	volume   string // the named volume; "" for a bind or an anonymous one
	readOnly bool
}

// source is a path that a compose file names.
type source struct {
	path     string // as written
	line     int
	key      string // of the file
	optional bool
}

// inspect reads a compose file. The error is *file.Problems.
func inspect(src file.Source, job bool) (*composeFile, error) {
	c := &composeFile{src: src, job: job}
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(src.Raw)))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
		if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = strings.TrimPrefix(text, m[0])
		}
		return nil, &file.Problems{List: []file.Problem{{File: src.Path, Line: line, Message: "is not valid YAML: " + text}}}
	}
	if len(doc.Content) == 0 {
		return c, nil
	}
	c.root = &doc
	for _, s := range pairs(child(doc.Content[0], "services")) {
		c.services = append(c.services, inspectService(s.key.Value, s.value))
	}
	for _, section := range []string{"secrets", "configs"} {
		for _, s := range pairs(child(doc.Content[0], section)) {
			if f := text(child(s.value, "file")); f != "" {
				c.beside = append(c.beside, source{path: f, line: s.key.Line, key: section})
			}
		}
	}
	for _, v := range pairs(child(doc.Content[0], "volumes")) {
		c.volumes = append(c.volumes, v.key.Value)
	}
	return c, nil
}

func inspectService(name string, n *yaml.Node) service {
	s := service{name: name}
	if m := child(n, "network_mode"); m != nil {
		s.host = m.Value == "host"
	}
	for _, p := range items(child(n, "ports")) {
		s.ports = append(s.ports, port{text: portText(p), line: p.Line})
	}
	for _, v := range items(child(n, "volumes")) {
		if m, ok := mountOf(v); ok {
			s.mounts = append(s.mounts, m)
		}
	}
	if f := text(child(child(n, "extends"), "file")); f != "" {
		s.envFiles = append(s.envFiles, source{path: f, line: n.Line, key: "extends"})
	}
	files := resolve(child(n, "env_file"))
	if files != nil && files.Kind == yaml.ScalarNode {
		s.envFiles = append(s.envFiles, source{path: files.Value, line: files.Line, key: "env_file"})
	}
	for _, f := range items(files) {
		e := source{path: f.Value, line: f.Line, key: "env_file"}
		if f.Kind == yaml.MappingNode {
			e.path = text(child(f, "path"))
			e.optional = text(child(f, "required")) == "false"
		}
		s.envFiles = append(s.envFiles, e)
	}
	return s
}

// portText returns an entry of ports as the short form that means the same.
func portText(n *yaml.Node) string {
	if n.Kind != yaml.MappingNode {
		return n.Value
	}
	out := text(child(n, "target"))
	if p := text(child(n, "published")); p != "" {
		out = p + ":" + out
		if ip := text(child(n, "host_ip")); ip != "" {
			out = ip + ":" + out
		}
	}
	if p := text(child(n, "protocol")); p != "" && p != "tcp" {
		out += "/" + p
	}
	return out
}

// mountOf reads an entry of a service's volumes; false for an anonymous one.
func mountOf(n *yaml.Node) (mount, bool) {
	m := mount{source: source{line: n.Line, key: "volumes"}}
	if n.Kind == yaml.MappingNode {
		m.path = text(child(n, "source"))
		m.readOnly = text(child(n, "read_only")) == "true"
		switch text(child(n, "type")) {
		case "volume":
			m.volume = m.path
		case "bind":
		default:
			return m, false
		}
		return m, m.path != ""
	}
	parts := splitOutside(n.Value, ':')
	if len(parts) < 2 {
		return m, false
	}
	m.path = parts[0]
	if len(parts) > 2 {
		m.readOnly = slices.Contains(strings.Split(parts[2], ","), "ro")
	}
	if !isPath(m.path) {
		m.volume = m.path
	}
	return m, true
}

// isPath says whether the source of a mount is a path, not a volume's name.
func isPath(s string) bool {
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") || strings.HasPrefix(s, "~")
}

// splitOutside splits at sep where it does not stand in ${...}.
func splitOutside(s string, sep byte) []string {
	var out []string
	depth, from := 0, 0
	for i := range len(s) {
		switch {
		case s[i] == '{' && i > 0 && s[i-1] == '$':
			depth++
		case s[i] == '}' && depth > 0:
			depth--
		case s[i] == sep && depth == 0:
			out = append(out, s[from:i])
			from = i + 1
		}
	}
	return append(out, s[from:])
}

// namedVolumes returns the volumes declared or used in the files, in order,
// and whether all uses of each are read-only; false for one never used.
func namedVolumes(files []*composeFile) (names []string, readOnly map[string]bool) {
	readOnly = map[string]bool{}
	used := map[string]bool{}
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, f := range files {
		for _, v := range f.volumes {
			add(v)
		}
		for _, s := range f.services {
			for _, m := range s.mounts {
				if m.volume == "" {
					continue
				}
				add(m.volume)
				readOnly[m.volume] = m.readOnly && (readOnly[m.volume] || !used[m.volume])
				used[m.volume] = true
			}
		}
	}
	return names, readOnly
}

// binds returns the paths the file's services mount or read, interpolated
// with env, each once.
func (c *composeFile) binds(env map[string]string) ([]source, error) {
	var out []source
	var bad []file.Problem
	add := func(s service, src source) {
		p, err := template.Substitute(src.path, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
		if err != nil {
			bad = append(bad, file.Problem{File: c.src.Path, Line: src.line, Service: s.name, Key: src.key, Message: "cannot be interpolated: " + err.Error()})
			return
		}
		src.path = p
		if p != "" && !slices.ContainsFunc(out, func(o source) bool { return o.path == p }) {
			out = append(out, src)
		}
	}
	for _, b := range c.beside {
		add(service{}, b)
	}
	for _, s := range c.services {
		for _, m := range s.mounts {
			if m.volume == "" {
				add(s, m.source)
			}
		}
		for _, e := range s.envFiles {
			add(s, e)
		}
	}
	if len(bad) > 0 {
		return out, &file.Problems{List: bad}
	}
	return out, nil
}

// containerPorts returns the container ports of a short port string, ranges
// expanded, and its protocol suffix ("/udp" or ""). What is interpolated or no
// number is returned as it is.
func containerPorts(text string) (ports []string, suffix string) {
	parts := splitOutside(text, ':')
	last := parts[len(parts)-1]
	if i := strings.LastIndexByte(last, '/'); i >= 0 {
		last, suffix = last[:i], last[i:]
	}
	low, high, ok := strings.Cut(last, "-")
	a, errA := strconv.Atoi(low)
	b, errB := strconv.Atoi(high)
	if !ok || errA != nil || errB != nil || b < a || b-a > 1000 {
		return []string{last}, suffix
	}
	for p := a; p <= b; p++ {
		ports = append(ports, strconv.Itoa(p))
	}
	return ports, suffix
}

type pair struct{ key, value *yaml.Node }

func resolve(n *yaml.Node) *yaml.Node {
	for range 8 {
		if n == nil || n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return nil
}

// pairs returns what stands in a mapping, merge keys unfolded once.
func pairs(n *yaml.Node) []pair { return unfold(n, 0) }

func unfold(n *yaml.Node, depth int) []pair {
	n = resolve(n)
	if n == nil || n.Kind != yaml.MappingNode || depth > 8 {
		return nil
	}
	var out, merged []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], resolve(n.Content[i+1])
		if k.Tag != "!!merge" {
			out = append(out, pair{k, v})
			continue
		}
		for _, m := range append(items(v), v) {
			merged = append(merged, unfold(m, depth+1)...)
		}
	}
	for _, m := range merged {
		if !slices.ContainsFunc(out, func(p pair) bool { return p.key.Value == m.key.Value }) {
			out = append(out, m)
		}
	}
	return out
}

func child(n *yaml.Node, key string) *yaml.Node {
	for _, p := range pairs(n) {
		if p.key.Value == key {
			return p.value
		}
	}
	return nil
}

func items(n *yaml.Node) []*yaml.Node {
	n = resolve(n)
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	out := make([]*yaml.Node, 0, len(n.Content))
	for _, x := range n.Content {
		if x = resolve(x); x != nil {
			out = append(out, x)
		}
	}
	return out
}

func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// loaded is a stack with its compose files.
type loaded struct {
	stack *file.Stack
	files []*composeFile // pods, then jobs
}

// load reads the compose files of a stack. All errors are returned at once.
func load(env file.Env, stack *file.Stack) (*loaded, error) {
	l := &loaded{stack: stack}
	var errs []error
	add := func(name, path string, err error, job bool) {
		if err == nil {
			var raw []byte
			if raw, err = read(path); err == nil {
				var c *composeFile
				c, err = inspect(file.Source{Name: name, Path: path, Raw: raw}, job)
				if err == nil {
					l.files = append(l.files, c)
				}
			}
		}
		errs = append(errs, asProblem(err, filepath.Join(stack.Dir, "stack.yml")))
	}
	for _, p := range stack.Pods {
		path, err := env.PodFile(stack, p)
		add(p.Name, path, err, false)
	}
	for _, j := range stack.Jobs {
		path, err := env.JobFile(stack, j)
		add(j, path, err, true)
	}
	return l, file.Join(errs...)
}

// asProblem lets an error be told beside others.
func asProblem(err error, at string) error {
	if err == nil || file.AsProblems(err) != nil {
		return err
	}
	return &file.Problems{List: []file.Problem{{File: at, Message: fmt.Sprint(err)}}}
}
