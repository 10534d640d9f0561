package file

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ParseStack reads a stack.yml; name is how it is shown. Dir, Root and Name
// are the caller's to fill in: a stack is called like its directory, not like
// the file's name key. The error is *Problems.
func ParseStack(name string, data []byte) (*Stack, []Notice, error) {
	r := &reader{file: name}
	top := r.open(data)
	if err := r.err(); err != nil {
		return nil, nil, err
	}
	f := r.fields(top, "version", "name", "description", "pods", "jobs", "containers", "config", "repos", "npms")
	s := &Stack{Version: r.text(f["version"]), Description: r.scalar(f["description"]), Containers: r.texts(f["containers"])}
	r.text(f["name"])
	for _, key := range []string{"repos", "npms"} { // for building; no effect when deploying
		r.list(f[key])
	}
	for _, e := range r.list(f["pods"]) {
		if p, ok := s.pod(r, e); ok {
			s.Pods = append(s.Pods, p)
		}
	}
	for _, e := range r.list(f["jobs"]) {
		name := ""
		if e.has() && e.node.Kind == yaml.MappingNode {
			name = r.need(r.fields(e, "name")["name"])
		} else {
			name = r.need(e)
		}
		if s.fresh(r, e, name, s.Jobs) {
			s.Jobs = append(s.Jobs, name)
		}
	}
	s.exchange(r, f["config"])
	sortNotices(r.notices)
	if err := r.err(); err != nil {
		return nil, r.notices, err
	}
	return s, r.notices, nil
}

func (s *Stack) pod(r *reader, e value) (Pod, bool) {
	p := Pod{}
	if e.has() && e.node.Kind == yaml.MappingNode {
		f := r.fields(e, "name", "repository", "path", "pre_start_command", "post_start_command")
		p = Pod{
			Name: r.need(f["name"]), Repository: r.text(f["repository"]), Path: r.text(f["path"]),
			PreStart: r.text(f["pre_start_command"]), PostStart: r.text(f["post_start_command"]),
		}
		if p.Repository == "internal" {
			p.Repository = ""
		}
		s.demand(p.PreStart != "", r, f["pre_start_command"])
		s.demand(p.PostStart != "", r, f["post_start_command"])
	} else {
		p.Name = r.need(e)
	}
	var names []string
	for _, other := range s.Pods {
		names = append(names, other.Name)
	}
	return p, s.fresh(r, e, p.Name, names)
}

// fresh says whether a pod or job can have this name, which becomes part of
// file names.
func (s *Stack) fresh(r *reader, v value, name string, others []string) bool {
	switch {
	case name == "":
		return false
	case !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`).MatchString(name):
		r.fail(v, "must be letters, digits, _ . and -, not %s", quoted(name))
		return false
	}
	if slices.Contains(others, name) {
		r.fail(v, "names %s a second time", name)
		return false
	}
	return true
}

// exchange reads what is handed from one container to another.
func (s *Stack) exchange(r *reader, v value) {
	for _, c := range r.entries(v) {
		for _, e := range r.entries(c.value) {
			from := r.need(e.value)
			if a, b, ok := strings.Cut(from, "."); from != "" && (!ok || a == "" || b == "") {
				r.fail(e.value, "must be CONTAINER.VARIABLE, not %s", quoted(from))
				continue
			}
			if s.Config == nil {
				s.Config = map[string]map[string]string{}
			}
			if s.Config[c.name] == nil {
				s.Config[c.name] = map[string]string{}
			}
			s.Config[c.name][e.name] = from
		}
	}
	s.demand(len(s.Config) > 0, r, v)
}

// demand records a key that asks for what does not exist yet.
func (s *Stack) demand(asked bool, r *reader, v value) {
	if asked {
		s.unsupported = append(s.unsupported, Problem{File: r.file, Line: v.line, Key: v.key, Message: "is not supported yet"})
	}
}

// Unsupported returns what a stack asks for that does not exist yet. It is
// refused, not skipped.
func Unsupported(stack *Stack) error { return problems(stack.unsupported) }
