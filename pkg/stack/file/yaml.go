package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"homelab/pkg/nearest"
)

const maxFile = 1 << 20 // bytes of a YAML file; a real one has a few thousand

// reader walks one YAML file and collects what is wrong with it and what has
// no effect.
type reader struct {
	file     string
	problems []Problem
	notices  []Notice
	lines    map[string]int
}

// value is a node with the dotted key it stands under.
type value struct {
	key  string
	line int
	node *yaml.Node // nil: not there, or null
}

// has says whether there is anything but null.
func (v value) has() bool { return v.node != nil }

func (r *reader) fail(v value, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.file, Line: v.line, Key: v.key, Message: fmt.Sprintf(format, args...)})
}

func (r *reader) tell(v value, code string, level Level, format string, args ...any) {
	r.notices = append(r.notices, Notice{
		Code: code, Level: level, File: r.file, Line: v.line, Key: v.key, Message: fmt.Sprintf(format, args...),
	})
}

func (r *reader) pos(v value) Pos { return Pos{File: r.file, Line: v.line} }

// err returns the problems by line; nil when there are none.
func (r *reader) err() error {
	byLine(r.problems)
	return problems(r.problems)
}

// open returns the one document of data.
func (r *reader) open(data []byte) value {
	top := value{}
	switch {
	case len(data) > maxFile:
		r.fail(top, "is larger than %d KiB", maxFile>>10)
		return top
	case bytes.IndexByte(data, 0) >= 0:
		r.fail(top, "has a zero byte in it: no YAML")
		return top
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			r.syntax(err)
		}
		return top
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		r.fail(value{line: second.Line}, "is a second document; the file holds one")
		return top
	} else if !errors.Is(err, io.EOF) {
		r.syntax(err)
		return top
	}
	if len(doc.Content) == 0 {
		return top
	}
	return r.at("", doc.Content[0])
}

// syntax reports an error of the YAML library, which names its line in words.
func (r *reader) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = strings.TrimPrefix(text, m[0])
	}
	r.fail(value{line: line}, "is not valid YAML: %s", text)
}

// at returns what stands under a key: aliases are followed, null is nothing.
func (r *reader) at(key string, n *yaml.Node) value {
	v := value{key: key, line: n.Line}
	for range 8 { // an alias of an alias; no file needs more
		if n == nil || n.Kind != yaml.AliasNode {
			break
		}
		n = n.Alias
	}
	if n != nil && (n.Kind != yaml.ScalarNode || n.Tag != "!!null") {
		v.node = n
	}
	return v
}

// entry is a key and its value in the order of the file.
type entry struct {
	name string
	value
}

// entries returns the pairs of a mapping; null is an empty one. Merge keys are
// unfolded: what stands beside them wins.
func (r *reader) entries(v value) []entry { return r.unfold(v, 0) }

func (r *reader) unfold(v value, depth int) []entry {
	if !v.has() {
		return nil
	}
	if v.node.Kind != yaml.MappingNode {
		r.fail(v, "must be a mapping, not %s", kindOf(v.node))
		return nil
	}
	var out, merged []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		k, n := v.node.Content[i], v.node.Content[i+1]
		if k.Kind == yaml.AliasNode && k.Alias != nil {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			r.fail(value{key: v.key, line: k.Line}, "has %s as a key; keys are plain words", kindOf(k))
			continue
		}
		if k.Tag == "!!merge" {
			merged = append(merged, r.merge(v, n, depth)...)
			continue
		}
		x := r.at(join(v.key, k.Value), n)
		x.line = k.Line
		if first, ok := seen[k.Value]; ok {
			r.fail(x, "is already set in line %d", first)
			continue
		}
		seen[k.Value] = k.Line
		out = append(out, entry{k.Value, x})
	}
	for _, m := range merged {
		if _, ok := seen[m.name]; !ok {
			seen[m.name] = m.line
			out = append(out, m)
		}
	}
	return out
}

func (r *reader) merge(v value, n *yaml.Node, depth int) []entry {
	x := r.at(join(v.key, "<<"), n)
	if depth > 8 {
		r.fail(x, "is merged too deep")
		return nil
	}
	list := []value{x}
	if x.has() && x.node.Kind == yaml.SequenceNode {
		list = nil
		for _, m := range x.node.Content {
			list = append(list, r.at(x.key, m))
		}
	}
	var out []entry
	for _, m := range list {
		for _, e := range r.unfold(m, depth+1) {
			e.key = join(v.key, e.name)
			out = append(out, e)
		}
	}
	return out
}

// fields returns the known keys of a mapping; what else stands there is a
// problem when it looks like a slip of a known one, else a notice.
func (r *reader) fields(v value, known ...string) map[string]value {
	out := map[string]value{}
	for _, e := range r.entries(v) {
		if !slices.Contains(known, e.name) {
			r.unknown(e, known)
			continue
		}
		out[e.name] = e.value
		if r.lines != nil {
			r.lines[e.key] = e.line
		}
	}
	// What is not there still has a place, so that its absence can be told.
	for _, k := range known {
		if _, ok := out[k]; !ok {
			out[k] = value{key: join(v.key, k), line: v.line}
		}
	}
	return out
}

func (r *reader) unknown(e entry, known []string) {
	if near := meant(e.name, known...); near != "" {
		r.fail(e.value, "is no known key; did you mean %s?", near)
		return
	}
	r.tell(e.value, "unknown-key", Ignored, "%s is no known key and has no effect", quoted(e.key))
}

// list returns the entries of a list; null is an empty one.
func (r *reader) list(v value) []value {
	if !v.has() {
		return nil
	}
	if v.node.Kind != yaml.SequenceNode {
		r.fail(v, "must be a list, not %s", kindOf(v.node))
		return nil
	}
	out := make([]value, 0, len(v.node.Content))
	for i, n := range v.node.Content {
		out = append(out, r.at(fmt.Sprintf("%s[%d]", v.key, i), n))
	}
	return out
}

// text returns a string; "" for nothing. Numbers are taken as they are
// written; true and false are not taken for a word.
func (r *reader) text(v value) string {
	if !v.has() {
		return ""
	}
	if v.node.Kind != yaml.ScalarNode || v.node.Tag == "!!bool" {
		r.fail(v, "must be a string, not %s", kindOf(v.node))
		return ""
	}
	s := strings.TrimSpace(v.node.Value)
	if strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		r.fail(v, "has a control character in it")
		return ""
	}
	return s
}

// scalar returns any scalar as it is written; "" for nothing.
func (r *reader) scalar(v value) string {
	if !v.has() {
		return ""
	}
	if v.node.Kind != yaml.ScalarNode {
		r.fail(v, "must be a single value, not %s", kindOf(v.node))
		return ""
	}
	return v.node.Value
}

// need is text that must be there.
func (r *reader) need(v value) string {
	before := len(r.problems)
	s := r.text(v)
	if s == "" && len(r.problems) == before {
		r.fail(v, "is missing")
	}
	return s
}

func (r *reader) truth(v value) bool {
	if !v.has() {
		return false
	}
	if v.node.Kind != yaml.ScalarNode || v.node.Tag != "!!bool" {
		r.fail(v, "must be true or false, not %s", kindOf(v.node))
		return false
	}
	return strings.EqualFold(v.node.Value, "true")
}

// number returns an integer of at least low and at most high; def for nothing.
func (r *reader) number(v value, def, low, high int) int {
	if !v.has() {
		return def
	}
	s := r.scalar(v)
	n, err := strconv.Atoi(s)
	switch {
	case v.node.Kind != yaml.ScalarNode:
	case err != nil:
		r.fail(v, "must be a whole number, not %s", quoted(s))
	case n < low || n > high:
		r.fail(v, "must be %d to %d, not %d", low, high, n)
	default:
		return n
	}
	return def
}

func (r *reader) texts(v value) []string {
	var out []string
	for _, e := range r.list(v) {
		if s := r.need(e); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	case yaml.DocumentNode:
		return "a document"
	case yaml.ScalarNode:
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "the number " + n.Value
	}
	return "the string " + quoted(n.Value)
}

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

// quoted shows a word nobody vouches for: escaped and cut.
func quoted(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "..."
	}
	return strconv.Quote(s)
}

// meant returns the known key within two slips of key, "" for none.
func meant(key string, known ...string) string {
	return nearest.Of(strings.ReplaceAll(key, "_", "-"), known, 2)
}
