package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/tree"
	compose "github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"

	"homelab/pkg/stack/file"
)

// maxNodes bounds one compose file with its aliases written out: far above
// what a person writes, and far below what a hostile file could unfold to.
const maxNodes = 200_000

// load reads every pod and job file of d by itself: merging them would fuse
// services of one name. Pods come first, each kind in the stack's order. What
// is wrong with a file is in the collector, and the file is left out. onDisk
// says where a path of d lies while it is being made; nil: in its place.
func load(d *file.Directory, onDisk func(string) string) ([]pod, *collector) {
	c := &collector{}
	l := newLoader(c, d.Env, d.Deployment.Rules)
	l.onDisk = onDisk
	l.hidden = hidden(d)
	return l.files(d.Pods, d.Jobs), c
}

// loader reads compose files with the variables of one deployment.
type composeLoader struct {
	c     *collector
	env   compose.Mapping
	rules file.Rules
	look  bool                  // everything in the file is wanted, and nothing may depend on variables being set
	bases map[string]*yaml.Node // files that services extend, by path

	onDisk func(string) string // where a path of the directory lies; nil: there
	plain  *regexp.Regexp      // a variable, without what may stand for it
	named  *regexp.Regexp      // a variable, with it
	hidden map[string]string   // variables that only Secrets hold, and which Secret
}

// files loads pod and job files, several at a time: most of a render's time is
// spent here. What is returned and told is in the order of the files all the
// same.
func (l *composeLoader) files(pods, jobs []file.Source) []pod {
	type outcome struct {
		pod   pod
		ok    bool
		told  collector
		panic string
	}
	all := make([]outcome, len(pods)+len(jobs))
	one := func(i int) {
		o, own := &all[i], *l
		defer func() {
			if r := recover(); r != nil {
				o.panic = fmt.Sprintf("%v\n%s", r, debug.Stack())
			}
		}()
		own.c, own.bases = &o.told, map[string]*yaml.Node{}
		if i < len(pods) {
			o.pod, o.ok = own.file(pods[i], false)
		} else {
			o.pod, o.ok = own.file(jobs[i-len(pods)], true)
		}
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(all)) {
		wait.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				one(int(i))
			}
		})
	}
	wait.Wait()
	var out []pod
	for i := range all {
		o := &all[i]
		if o.panic != "" {
			panic(o.panic) // the caller's goroutine is where it is told as a bug
		}
		for _, n := range o.told.notices {
			l.c.notice(n)
		}
		for _, p := range o.told.problems {
			l.c.problem(p)
		}
		if o.ok {
			out = append(out, o.pod)
		}
	}
	return out
}

// place returns where a path lies.
func (l *composeLoader) place(path string) string {
	if l.onDisk == nil {
		return path
	}
	return l.onDisk(path)
}

func newLoader(c *collector, env []file.EnvVar, rules file.Rules) *composeLoader {
	m := compose.Mapping{}
	for _, v := range env {
		m[v.Name] = v.Value
	}
	return &composeLoader{
		c: c, env: m, rules: rules, bases: map[string]*yaml.Node{}, named: namedVariable(),
		plain: regexp.MustCompile(`\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))`),
	}
}

// file loads one compose file.
func (l *composeLoader) file(src file.Source, job bool) (pod, bool) {
	p := pod{name: src.Name, job: job, src: src, lines: map[string]int{}}
	before := len(l.c.problems)
	root, err := parse(src.Raw)
	if err != nil {
		l.c.problem(Problem{File: src.Path, Line: err.line, Key: err.key, Message: err.text})
		return p, false
	}
	services := child(root, "services")
	if services == nil || services.Kind == yaml.MappingNode && len(services.Content) == 0 {
		l.c.problem(Problem{File: src.Path, Key: "services", Message: "the file has no services"})
		return p, false
	}
	if services.Kind != yaml.MappingNode {
		l.c.problem(Problem{File: src.Path, Line: services.Line, Key: "services", Message: "must be a mapping of services"})
		return p, false
	}
	l.top(&p, root)
	for name, node := range pairs(services) {
		if node.Kind != yaml.MappingNode {
			l.c.problem(Problem{File: src.Path, Line: name.Line, Service: name.Value, Message: "must be a mapping of keys"})
			continue
		}
		l.keys(src.Path, name.Value, node)
		if l.rules == file.V1 {
			l.words(node)
		}
		asWritten(node)
		l.hide(node)
		if l.look {
			without(node, "ports")
		}
		l.base(src.Path, name.Value, node)
	}
	if len(l.c.problems) > before {
		return p, false
	}
	l.unset(src.Path, services)
	whole := root
	if l.look {
		if whole, err = parse(src.Raw); err != nil { // it was read before
			return p, false
		}
	}
	project, lerr := l.load(src, root)
	if lerr != nil {
		l.c.problem(located(src.Path, root, lerr))
		return p, false
	}
	p.project = project
	for name := range pairs(services) {
		cfg, ok := project.Services[name.Value]
		if !ok {
			continue // it stood in a part that compose leaves out
		}
		s := service{name: name.Value, cfg: cfg, line: name.Line, keys: map[string]int{}, mounts: map[string]written{}}
		for _, n := range l.chain(src.Path, whole, name.Value, nil) {
			l.raw(&s, n)
		}
		s.labels = map[string]string(cfg.Labels)
		if len(cfg.Profiles) > 0 && l.rules != file.V1 && !l.look {
			l.c.notice(file.Notice{
				Code: "profile", Level: file.Ignored, File: src.Path, Line: s.keys["profiles"], Service: s.name, Key: "profiles",
				Message: "the service belongs to a profile and is not deployed",
			})
			continue
		}
		s.container, s.init = dns(s.name), truth(s.labels["laconic.init-container"])
		p.services = append(p.services, s)
	}
	if len(p.services) == 0 && len(l.c.problems) == before {
		l.c.problem(Problem{File: src.Path, Key: "services", Message: "every service belongs to a profile: nothing is left to run"})
	}
	return p, len(l.c.problems) == before
}

// unset tells which variables nobody has set: each of them is empty.
func (l *composeLoader) unset(path string, services *yaml.Node) {
	var walk func(service string, n *yaml.Node)
	walk = func(service string, n *yaml.Node) {
		for _, c := range n.Content {
			walk(service, c)
		}
		if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "$") {
			return
		}
		for _, m := range l.plain.FindAllStringSubmatch(n.Value, -1) {
			name := m[1] + m[2]
			if _, ok := l.env[name]; ok || name == "" {
				continue
			}
			l.c.notice(file.Notice{
				Code: "variable-unset", Level: file.Warning, File: path, Line: n.Line, Service: service, Key: name,
				Message: name + " is not set in config.env: it is empty here",
			})
		}
	}
	for name, s := range pairs(services) {
		walk(name.Value, s)
	}
}

// base refuses a file to extend that cannot be one: compose would read whatever
// is there to its end, which a device does not have.
func (l *composeLoader) base(path, service string, node *yaml.Node) {
	f := child(child(node, "extends"), "file")
	if f == nil {
		return
	}
	name := l.text(f.Value)
	at := name
	if !filepath.IsAbs(at) {
		at = filepath.Join(filepath.Dir(path), at)
	}
	info, err := os.Stat(l.place(at))
	switch {
	case err != nil:
		err = reason(err)
	case !info.Mode().IsRegular() || info.Size() > configMapBudget:
		err = errors.New("is no compose file")
	default:
		return
	}
	l.c.problem(Problem{File: path, Line: f.Line, Service: service, Key: "extends", Message: fmt.Sprintf("%s: %v", name, err)})
}

// load hands the prepared tree to compose.
func (l *composeLoader) load(src file.Source, root *yaml.Node) (p *compose.Project, err error) {
	// The library has paths that assume a shape its own schema did not ask
	// for. Such a file is a mistake in the file.
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("the file cannot be read as a compose file: %v", r)
		}
	}()
	var raw bytes.Buffer
	enc := yaml.NewEncoder(&raw)
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	dir := l.place(filepath.Dir(src.Path))
	details := compose.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []compose.ConfigFile{{Filename: src.Path, Content: raw.Bytes()}},
		Environment: maps.Clone(l.env),
	}
	//nolint:forbidigo // the library asks for a context and waits for nothing: files only
	p, err = loader.LoadWithContext(context.Background(), details, func(o *loader.Options) {
		o.SetProjectName("stack", true)
		o.SkipConsistencyCheck = true // depends_on may name a service of a sibling file
		o.SkipNormalization = true    // it adds networks and dependencies nobody wrote
		o.SkipInclude = true
		o.SkipResolveEnvironment = true // env_file belongs below config.env; it is read later
		o.SkipResolveLabels = true
		o.ResolvePaths = false // names of binds are made of what is written
		o.Profiles = []string{"*"}
		casts := possible(o.Interpolate.TypeCastMapping, root)
		quiet(casts)
		o.Interpolate = &interpolation.Options{
			Substitute:      l.substitute,
			LookupValue:     l.env.Resolve, // the library adds a variable of its own to its copy
			TypeCastMapping: casts,
		}
	})
	if err != nil && dir != filepath.Dir(src.Path) {
		err = errors.New(strings.ReplaceAll(err.Error(), dir, filepath.Dir(src.Path)))
	}
	return p, err
}

// possible returns those casts whose path can occur in a file: the library
// compares each of them with the path of each value. It is a map of its own,
// as the library shares one among all its loads.
func possible(casts map[tree.Path]interpolation.Cast, root *yaml.Node) map[tree.Path]interpolation.Cast {
	keys := map[string]bool{tree.PathMatchAll: true, tree.PathMatchList: true}
	other := false // another file may be read into this one
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for i, c := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 {
				keys[c.Value] = true
				other = other || c.Value == "extends"
				continue
			}
			walk(c)
		}
	}
	walk(root)
	out := maps.Clone(casts)
	if !other {
		maps.DeleteFunc(out, func(path tree.Path, _ interpolation.Cast) bool {
			return slices.ContainsFunc(path.Parts(), func(part string) bool { return !keys[part] })
		})
	}
	return out
}

// quiet makes casts to a boolean take yes and no, in quotes, without a line in
// a log of the library's own.
func quiet(casts map[tree.Path]interpolation.Cast) {
	for path, cast := range casts {
		if v, err := cast("true"); err != nil || v != true {
			continue
		}
		casts[path] = func(s string) (any, error) {
			switch strings.ToLower(s) {
			case "y", "yes", "on":
				s = "true"
			case "n", "no", "off":
				s = "false"
			}
			return cast(s)
		}
	}
}

// substitute is compose's, without its log lines.
func (l *composeLoader) substitute(s string, look template.Mapping) (string, error) {
	out, err := template.SubstituteWithOptions(s, look, template.WithoutLogging)
	// It is set later: its name stands for it. Each round fills in one more.
	for filled := map[string]bool{}; l.look && err != nil; {
		missing, ok := errors.AsType[*template.MissingRequiredError](err)
		if !ok || filled[missing.Variable] {
			break
		}
		filled[missing.Variable] = true
		out, err = template.SubstituteWithOptions(s, func(name string) (string, bool) {
			if filled[name] {
				return name, true
			}
			return look(name)
		}, template.WithoutLogging)
	}
	return out, err
}

// text returns a scalar with its variables put in; what does not interpolate
// comes back as it is, and compose reports it.
func (l *composeLoader) text(s string) string {
	out, err := l.substitute(s, l.env.Resolve)
	if err != nil {
		return s
	}
	return out
}

// top judges the keys at the top of the file and removes what compose should
// not see.
func (l *composeLoader) top(p *pod, root *yaml.Node) {
	keep := root.Content[:0:0]
	for k, v := range pairs(root) {
		switch k.Value {
		case "services", "networks", "secrets", "configs":
			keep = append(keep, k, v)
		case "volumes":
			keep = append(keep, k, v)
			for name, opts := range pairs(v) {
				p.volumes = append(p.volumes, name.Value)
				p.lines["volumes."+name.Value] = name.Line
				for o := range pairs(opts) {
					if !strings.HasPrefix(o.Value, "x-") && o.Value != "labels" {
						l.c.notice(file.Notice{
							Code: "volume-option", Level: file.Ignored, File: p.src.Path, Line: o.Line,
							Key: "volumes." + name.Value + "." + o.Value, Message: "volume options of compose have no effect here; the spec says where the data is",
						})
					}
				}
			}
		case "version", "name":
		default:
			if !strings.HasPrefix(k.Value, "x-") {
				l.c.notice(file.Notice{
					Code: "compose-key", Level: file.Ignored, File: p.src.Path, Line: k.Line, Key: k.Value,
					Message: fmt.Sprintf("%q at the top of the file has no effect here", k.Value),
				})
			}
		}
	}
	root.Content = keep
	for _, section := range []string{"secrets", "configs", "volumes", "networks"} {
		for name, v := range pairs(child(root, section)) {
			p.lines[section+"."+name.Value] = name.Line
			// An old form, of which the library warns in a log of its own.
			if e := child(v, "external"); e != nil && e.Kind == yaml.MappingNode {
				*e = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true", Line: e.Line}
			}
		}
	}
}

// words writes a command given as one string the way V1 splits it: the
// command at blanks, without quotes, the entrypoint not at all.
func (l *composeLoader) words(service *yaml.Node) {
	for k, v := range pairs(service) {
		if v.Kind != yaml.ScalarNode {
			continue
		}
		var words []string
		switch text := l.text(v.Value); k.Value {
		case "command":
			words = strings.Fields(text)
		case "entrypoint":
			if strings.TrimSpace(text) != "" {
				words = []string{text}
			}
		default:
			continue
		}
		line := v.Line
		*v = yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: line}
		for _, w := range words {
			v.Content = append(v.Content, &yaml.Node{
				Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Line: line,
				Value: strings.ReplaceAll(w, "$", "$$"),
			})
		}
	}
}

// asWritten makes a text of every scalar that is one to whoever reads it, in the
// words of the file: user: 1000 is a name, and 1.10 no number that loses its
// zero. A variable without a value stays without.
func asWritten(service *yaml.Node) {
	write := func(n *yaml.Node) {
		if n != nil && n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			n.Tag, n.Style = "!!str", yaml.DoubleQuotedStyle
		}
	}
	for _, key := range []string{"user", "hostname", "image", "working_dir"} {
		write(child(service, key))
	}
	for _, list := range []*yaml.Node{
		child(service, "environment"), child(service, "command"), child(service, "entrypoint"), child(child(service, "healthcheck"), "test"),
	} {
		if list == nil || list.Kind != yaml.MappingNode && list.Kind != yaml.SequenceNode {
			continue
		}
		for i, n := range list.Content {
			if list.Kind == yaml.SequenceNode || i%2 == 1 {
				write(n)
			}
		}
	}
}

// chain returns the nodes a service is made of: what it extends first, itself
// last. Compose has refused circles by then.
func (l *composeLoader) chain(path string, root *yaml.Node, name string, seen []string) []*yaml.Node {
	id := path + "\x00" + name
	node := child(child(root, "services"), name)
	if node == nil || slices.Contains(seen, id) {
		return nil
	}
	seen = append(seen, id)
	base, from := child(node, "extends"), ""
	switch {
	case base == nil:
		return []*yaml.Node{node}
	case base.Kind == yaml.MappingNode:
		if f := child(base, "file"); f != nil {
			from = l.text(f.Value)
		}
		base = child(base, "service")
	}
	if base == nil {
		return []*yaml.Node{node}
	}
	if from != "" {
		if !filepath.IsAbs(from) {
			from = filepath.Join(filepath.Dir(path), from)
		}
		path = from
		if _, ok := l.bases[path]; !ok {
			l.bases[path] = nil
			if raw, err := os.ReadFile(l.place(filepath.Clean(path))); err == nil {
				if other, err := parse(raw); err == nil {
					l.bases[path] = other
				}
			}
		}
		root = l.bases[path]
	}
	name = l.text(base.Value)
	if other := child(child(root, "services"), name); from != "" && other != nil && !slices.Contains(seen, path+"\x00"+name) {
		l.keys(path, name, other) // what has no effect there has none here
	}
	return append(l.chain(path, root, name, seen), node)
}

// raw adds to s what a node says and compose's types do not keep.
func (l *composeLoader) raw(s *service, node *yaml.Node) {
	for k, v := range pairs(node) {
		s.keys[k.Value] = k.Line
		switch k.Value {
		case "environment":
			for name := range entries(v) {
				name, _, _ := strings.Cut(l.text(name.Value), "=")
				if !slices.Contains(s.env, name) {
					s.env = append(s.env, name)
				}
			}
		case "extends":
			if f := child(v, "file"); f != nil && !slices.Contains(s.extends, f.Value) {
				s.extends = append(s.extends, f.Value)
			}
		case "ports":
			for e := range entries(v) {
				if text := portText(e); text != "" && !slices.Contains(s.ports, text) {
					s.ports = append(s.ports, text)
				}
			}
		case "volumes":
			if v.Kind != yaml.SequenceNode {
				continue
			}
			for _, e := range v.Content {
				if target, w, ok := l.written(e); ok {
					s.mounts[target] = w
				}
			}
		case "deploy":
			res := child(v, "resources")
			for _, f := range []struct {
				group, key string
				to         *file.Quantity
			}{
				{"reservations", "cpus", &s.res.ReserveCPU},
				{"reservations", "memory", &s.res.ReserveMemory},
				{"limits", "cpus", &s.res.LimitCPU},
				{"limits", "memory", &s.res.LimitMemory},
			} {
				if n := child(child(res, f.group), f.key); n != nil && n.Kind == yaml.ScalarNode {
					*f.to, s.res.set = file.Quantity(l.text(n.Value)), true
				}
			}
		}
	}
}

// portText returns one entry of ports as a string: as written, or what the long
// form says.
func portText(e *yaml.Node) string {
	if e.Kind != yaml.MappingNode {
		return e.Value
	}
	get := func(key string) string {
		if n := child(e, key); n != nil {
			return n.Value
		}
		return ""
	}
	text := get("target")
	if h := get("published"); h != "" {
		text = h + ":" + text
		if ip := get("host_ip"); ip != "" {
			text = ip + ":" + text
		}
	}
	if p := get("protocol"); p != "" && p != "tcp" {
		text += "/" + p
	}
	return text
}

// written reads how one entry of volumes is written.
func (l *composeLoader) written(e *yaml.Node) (target string, w written, ok bool) {
	w.line = e.Line
	if e.Kind == yaml.MappingNode {
		t := child(e, "target")
		if t == nil {
			return "", w, false
		}
		if ro := child(e, "read_only"); ro != nil {
			w.ro = l.text(ro.Value) == "true"
			w.rw = !w.ro
		}
		return l.text(t.Value), w, true
	}
	text := l.text(e.Value)
	v, err := format.ParseVolume(text)
	if err != nil {
		return "", w, false
	}
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		options := strings.Split(text[i+1:], ",")
		w.rw, w.ro = slices.Contains(options, "rw"), slices.Contains(options, "ro")
	}
	return v.Target, w, true
}

// located finds the line an error of compose's speaks of.
func located(path string, root *yaml.Node, err error) Problem {
	text := strings.ReplaceAll(err.Error(), "validating "+path+": ", "")
	text = strings.TrimPrefix(text, "failed to parse "+path+": ")
	p := Problem{File: path, Message: text}
	m := regexp.MustCompile(`\bservices\.([A-Za-z0-9_-]+)(?:\.([a-z_]+))?`).FindStringSubmatch(text)
	if m == nil {
		return p
	}
	p.Service, p.Key = m[1], m[2]
	services := child(root, "services")
	for k, v := range pairs(services) {
		if k.Value != m[1] {
			continue
		}
		p.Line = k.Line
		for k := range pairs(v) {
			if k.Value == m[2] {
				p.Line = k.Line
			}
		}
	}
	return p
}

// parseError is what is wrong with a file before compose sees it.
type parseError struct {
	line int
	key  string
	text string
}

func (e *parseError) Error() string { return e.text }

// parse reads one document: no key twice, aliases and merges written out,
// empty keys left away, so that what follows meets plain mappings only.
func parse(raw []byte) (*yaml.Node, *parseError) {
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, &parseError{text: "the file is empty"}
	case err != nil:
		e := &parseError{text: strings.TrimPrefix(err.Error(), "yaml: ")}
		if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(e.text); m != nil {
			e.line, _ = strconv.Atoi(m[1])
			e.text = e.text[len(m[0]):]
		}
		return nil, e
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, &parseError{line: second.Line, text: "the file has more than one document"}
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, &parseError{line: 1, text: "the file is not a mapping"}
	}
	x := &expander{}
	root := x.node(doc.Content[0], 0)
	if x.err != nil {
		return nil, x.err
	}
	clean(root)
	return root, nil
}

// expander copies a tree with its aliases and merges written out.
type expander struct {
	count int
	err   *parseError
}

func (x *expander) node(n *yaml.Node, depth int) *yaml.Node {
	if x.count++; x.err != nil || x.count > maxNodes || depth > 200 {
		if x.err == nil {
			x.err = &parseError{line: n.Line, text: "the file unfolds to more than a compose file can hold"}
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	}
	if n.Kind == yaml.AliasNode {
		return x.node(n.Alias, depth+1)
	}
	out := &yaml.Node{Kind: n.Kind, Style: n.Style, Tag: n.Tag, Value: n.Value, Line: n.Line, Column: n.Column}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		out.Value = "null" // inside {} nothing would be written as an empty text
	}
	if n.Kind != yaml.MappingNode {
		for _, c := range n.Content {
			out.Content = append(out.Content, x.node(c, depth+1))
		}
		return out
	}
	seen := map[string]bool{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Tag == "!!merge" {
			if v := x.node(v, depth+1); v.Kind == yaml.SequenceNode {
				merged = append(merged, v.Content...)
			} else {
				merged = append(merged, v)
			}
			continue
		}
		k = x.node(k, depth+1)
		if k.Kind != yaml.ScalarNode {
			x.fail(k.Line, "", "a key must be a word")
			return out
		}
		if seen[k.Value] {
			x.fail(k.Line, k.Value, fmt.Sprintf("the key %q stands there twice", k.Value))
			return out
		}
		seen[k.Value] = true
		out.Content = append(out.Content, k, x.node(v, depth+1))
	}
	for _, m := range merged {
		if m.Kind != yaml.MappingNode {
			x.fail(n.Line, "<<", "only a mapping can be merged")
			return out
		}
		for k, v := range pairs(m) {
			if !seen[k.Value] {
				seen[k.Value] = true
				out.Content = append(out.Content, k, v)
			}
		}
	}
	return out
}

func (x *expander) fail(line int, key, text string) {
	if x.err == nil {
		x.err = &parseError{line: line, key: key, text: text}
	}
}

// clean removes keys without a value where compose wants a mapping or a list:
// nothing is an empty one.
func clean(root *yaml.Node) {
	drop(root)
	for _, s := range pairs(child(root, "services")) {
		drop(s)
		drop(child(s, "healthcheck"))
		drop(child(s, "logging"))
		deploy := child(s, "deploy")
		drop(deploy)
		resources := child(deploy, "resources")
		drop(resources)
		drop(child(resources, "limits"))
		drop(child(resources, "reservations"))
	}
}

// drop removes the keys of m that have no value.
func drop(m *yaml.Node) {
	if m == nil || m.Kind != yaml.MappingNode {
		return
	}
	keep := m.Content[:0:0]
	for k, v := range pairs(m) {
		if v.Kind != yaml.ScalarNode || v.Tag != "!!null" {
			keep = append(keep, k, v)
		}
	}
	m.Content = keep
}

// without removes a key.
func without(m *yaml.Node, key string) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content = slices.Delete(m.Content, i, i+2)
			return
		}
	}
}

// pairs walks a mapping in file order; anything else has none.
func pairs(m *yaml.Node) func(func(k, v *yaml.Node) bool) {
	return func(yield func(k, v *yaml.Node) bool) {
		if m == nil || m.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(m.Content); i += 2 {
			if !yield(m.Content[i], m.Content[i+1]) {
				return
			}
		}
	}
}

// entries walks the keys of a mapping or the items of a list.
func entries(n *yaml.Node) func(func(*yaml.Node) bool) {
	return func(yield func(*yaml.Node) bool) {
		if n != nil && n.Kind == yaml.SequenceNode {
			for _, c := range n.Content {
				if !yield(c) {
					return
				}
			}
			return
		}
		for k := range pairs(n) {
			if !yield(k) {
				return
			}
		}
	}
}

// child returns the value of a key, or nil.
func child(m *yaml.Node, key string) *yaml.Node {
	for k, v := range pairs(m) {
		if k.Value == key {
			return v
		}
	}
	return nil
}

// truth reads a label that is a yes.
func truth(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "1", "yes":
		return true
	}
	return false
}
