package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

// Problems is everything that makes a directory impossible to render, found
// in one go.
type Problems struct{ All []Problem } //nolint:errname // it is a list of problems, and reads like one

func (p *Problems) Error() string {
	lines := make([]string, len(p.All))
	for i, one := range p.All {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Fault returns the problems as a usage error: nothing was contacted.
func (p *Problems) Fault(what, next string) *fault.Error {
	return fault.New(fault.Usage, what, next).Because(p.Error()).From(p)
}

// String returns the problem on one line: place, service, key, what is wrong.
func (p Problem) String() string {
	var parts []string
	switch {
	case p.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d", p.File, p.Line))
	case p.File != "":
		parts = append(parts, p.File)
	}
	if p.Service != "" {
		parts = append(parts, "service "+p.Service)
	}
	if p.Key != "" {
		parts = append(parts, p.Key)
	}
	return strings.Join(append(parts, p.Message), ": ")
}

func (c *collector) notice(n file.Notice) {
	if !slices.Contains(c.notices, n) {
		c.notices = append(c.notices, n)
	}
}

func (c *collector) problem(p Problem) {
	if !slices.Contains(c.problems, p) {
		c.problems = append(c.problems, p)
	}
}

// err returns what was found as an error, or nil.
func (c *collector) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(c.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return &Problems{All: c.problems}
}

// at fills in where something of a service stands.
func (p *pod) at(s *service, key string) (line int) {
	top, _, _ := strings.Cut(key, ".")
	return cmp.Or(s.keys[top], s.line)
}

// tell records a notice on a key of a service.
func (r *renderer) tell(p *pod, s *service, level file.Level, code, key, format string, args ...any) {
	r.c.notice(file.Notice{
		Code: code, Level: level, File: p.src.Path, Line: p.at(s, key), Service: s.name, Key: key,
		Message: fmt.Sprintf(format, args...),
	})
}

// refuse records a problem with a key of a service.
func (r *renderer) refuse(p *pod, s *service, key, format string, args ...any) {
	r.c.problem(Problem{File: p.src.Path, Line: p.at(s, key), Service: s.name, Key: key, Message: fmt.Sprintf(format, args...)})
}

// tellSpec records a notice on a key of the spec.
func (r *renderer) tellSpec(level file.Level, code, key string, pos file.Pos, format string, args ...any) {
	r.c.notice(file.Notice{Code: code, Level: level, File: r.specFile(pos), Line: pos.Line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// refuseSpec records a problem with a key of the spec.
func (r *renderer) refuseSpec(key string, pos file.Pos, format string, args ...any) {
	r.c.problem(Problem{File: r.specFile(pos), Line: pos.Line, Key: key, Message: fmt.Sprintf(format, args...)})
}

func (r *renderer) specFile(pos file.Pos) string { return cmp.Or(pos.File, r.d.Spec.File) }
