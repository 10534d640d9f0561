package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"homelab/pkg/fault"
	"homelab/pkg/nearest"
)

const (
	maxFile     = 64 << 10 // bytes; a real file has a few hundred
	maxNesting  = 32       // brackets open at once; the parser recurses
	maxProblems = 20       // kept per file
	maxTold     = 5        // put into the sentence
)

// Problem is one thing wrong in a file.
type Problem struct {
	Line int // from 1; 0 means the file as a whole
	Text string
}

// FileError is everything found wrong in one file. It is the cause of the
// *fault.Error that reports it.
type FileError struct {
	File     string
	Problems []Problem // by line, at most 20
	More     int       // how many are not listed
}

func (e *FileError) Error() string {
	what, why := e.told()
	if why == "" {
		return what
	}
	return what + ": " + why
}

func (e *FileError) told() (what, why string) {
	if len(e.Problems) == 1 && e.More == 0 {
		p := e.Problems[0]
		if p.Line == 0 {
			return e.File + ": " + p.Text, ""
		}
		return fmt.Sprintf("%s:%d: %s", e.File, p.Line, p.Text), ""
	}
	var told []string
	for _, p := range e.Problems[:min(maxTold, len(e.Problems))] {
		if p.Line == 0 {
			told = append(told, p.Text)
			continue
		}
		told = append(told, fmt.Sprintf("line %d: %s", p.Line, p.Text))
	}
	total := len(e.Problems) + e.More
	if rest := total - len(told); rest > 0 {
		told = append(told, fmt.Sprintf("and %d more", rest))
	}
	return fmt.Sprintf("%s has %d problems", e.File, total), strings.Join(told, "; ")
}

// reader reads one YAML file strictly and collects what is wrong with it.
// Only the plain part of YAML is accepted: anchors, aliases, merge keys and
// tags are refused, so a small file can never unfold into a large one
// (ADR 0018).
type reader struct {
	file     string
	level    Level
	problems []Problem
	more     int
	stray    func(section, key string) string // an unknown key's own message; "" means the usual one
	told     func(key string) bool            // reported already, whatever the section; may be nil
}

// field is a key of a section with its value.
type field struct {
	path string // "woodpecker.server"
	line int
	node ast.Node
}

func (r *reader) problem(line int, format string, args ...any) {
	if len(r.problems) >= maxProblems {
		r.more++
		return
	}
	r.problems = append(r.problems, Problem{line, fmt.Sprintf(format, args...)})
}

// err returns what was found as a usage error, nil if that is nothing.
func (r *reader) err(next string) error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	fe := &FileError{File: r.file, Problems: r.problems, More: r.more}
	what, why := fe.told()
	return fault.New(fault.Usage, what, next).Because(why).From(fe)
}

func (r *reader) source(line int) Source { return fromFile(r.level, r.file, line) }

// open parses data and returns its one document, nil if there is nothing in
// it or it cannot be read.
func (r *reader) open(data []byte) ast.Node {
	data, ok := r.plain(data)
	if !ok {
		return nil
	}
	f, err := parse(data)
	if err != nil {
		var ye yaml.Error
		if errors.As(err, &ye) && ye.GetToken() != nil && ye.GetToken().Position != nil {
			// Only the message and the line: the library's own text quotes
			// the file, and a token may stand there by mistake.
			line := ye.GetToken().Position.Line
			r.problem(line, "not valid YAML: %s%s", strings.ReplaceAll(ye.GetMessage(), "\t", `\t`), hint(data, line))
			return nil
		}
		r.problem(0, "not valid YAML")
		return nil
	}
	var body ast.Node
	for _, doc := range f.Docs {
		switch b := doc.Body.(type) {
		case nil, *ast.CommentGroupNode:
		case *ast.DirectiveNode:
			r.problem(lineOf(b), "YAML directives are not used here; remove the line")
			return nil
		default:
			if body != nil {
				r.problem(lineOf(b), "a second document; the file holds one")
				return nil
			}
			body = b
		}
	}
	return body
}

// parse keeps a crash of the library from becoming one of the program: the
// file may come from any checkout.
func parse(data []byte) (f *ast.File, err error) {
	defer func() {
		if recover() != nil {
			f, err = nil, errors.New("unreadable")
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

// plain checks what has to be right before the parser sees it and returns the
// text without byte order mark and with bare line feeds.
func (r *reader) plain(data []byte) ([]byte, bool) {
	if len(data) > maxFile {
		r.problem(0, "larger than %d KiB: not a configuration file", maxFile>>10)
		return nil, false
	}
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		r.problem(0, "is UTF-16; save it as UTF-8")
		return nil, false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))

	block := -1 // indentation of the key that opened a block scalar; tabs in its text are the user's
	open := 0
	for i, line := range strings.Split(string(data), "\n") {
		n := i + 1
		if !utf8.ValidString(line) {
			r.problem(n, "not UTF-8")
			return nil, false
		}
		if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c >= 0x7f && c < 0xa0 || c == '\ufeff' }) {
			r.problem(n, "a control character")
			return nil, false
		}
		text := strings.TrimLeft(line, " ")
		indent := len(line) - len(text)
		switch {
		case strings.TrimSpace(text) == "":
			continue
		case block >= 0 && indent > block:
			continue
		case strings.HasPrefix(text, "#"):
			continue
		case strings.HasPrefix(text, "\t"):
			r.problem(n, "a tab in the indentation; use spaces")
			return nil, false
		}
		block = -1
		if opensBlock(text) {
			block = indent
		}
		open += strings.Count(text, "[") + strings.Count(text, "{") - strings.Count(text, "]") - strings.Count(text, "}")
		if open > maxNesting || deep(text) {
			r.problem(n, "nested too deep")
			return nil, false
		}
		open = max(open, 0)
	}
	return data, true
}

// opensBlock reports whether a line ends in the header of a block scalar.
func opensBlock(text string) bool {
	if head, _, ok := strings.Cut(text, " #"); ok {
		text = head
	}
	words := strings.Fields(text)
	if len(words) < 2 {
		return false
	}
	last := words[len(words)-1]
	return (last[0] == '|' || last[0] == '>') && strings.Trim(last[1:], "+-123456789") == ""
}

// deep reports whether one line opens more levels than any sane one does,
// by brackets, list dashes or explicit keys.
func deep(text string) bool {
	depth, deepest := 0, 0
	for _, c := range text {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		deepest = max(deepest, depth)
	}
	marks := 0
	for w := range strings.FieldsSeq(text) {
		if w != "-" && w != "?" && w != ":" && w[0] != '!' && w[0] != '&' {
			break
		}
		marks++
	}
	return deepest > maxNesting || marks > maxNesting
}

// hint explains the one mistake the syntax of addresses invites.
func hint(data []byte, line int) string {
	lines := strings.Split(string(data), "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	if key, value, ok := strings.Cut(lines[line-1], ":"); ok &&
		strings.TrimLeft(key, " -{") == "dial" && strings.HasPrefix(strings.TrimSpace(value), "[") {
		return "; put an address in brackets into quotes"
	}
	return ""
}

// fields returns the section's known keys that are there and have a value, and
// reports everything else. A section without any content is an empty one.
func (r *reader) fields(section string, n ast.Node, known ...string) map[string]field {
	out := map[string]field{}
	seen := map[string]int{}
	for _, kv := range r.pairs(section, n) {
		name, line := kv.Key.GetToken().Value, lineOf(kv.Key)
		if _, ok := kv.Key.(*ast.StringNode); !ok {
			r.problem(line, "%s as a key in %s; keys are plain words", kindOf(kv.Key), orFile(section))
			continue
		}
		if first, ok := seen[name]; ok {
			r.problem(line, "key %s is already set in line %d", quoted(name), first)
			continue
		}
		seen[name] = line
		if !slices.Contains(known, name) {
			if r.told == nil || !r.told(name) {
				r.unknown(section, name, line, known)
			}
			continue
		}
		out[name] = field{path: join(section, name), line: line, node: kv.Value}
	}
	return out
}

func (r *reader) unknown(section, name string, line int, known []string) {
	if r.stray != nil {
		if msg := r.stray(section, name); msg != "" {
			r.problem(line, "%s", msg)
			return
		}
	}
	where := ""
	if section != "" {
		where = " in " + section
	}
	if k := nearest.Of(name, known, nearest.Slips(name)); k != "" {
		r.problem(line, "unknown key %s%s; nearest known key: %q", quoted(name), where, k)
		return
	}
	r.problem(line, "unknown key %s%s; known keys: %s", quoted(name), where, strings.Join(known, ", "))
}

// pairs returns the keys and values of a mapping and reports any other node.
func (r *reader) pairs(section string, n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	default:
		r.wrong(lineOf(n), orFile(section), "keys and values", n)
		return nil
	}
}

// text returns a field's string. A number or a truth value is not taken for
// one: 1.10 would arrive as 1.1.
func (r *reader) text(f field) (string, bool) { return r.scalar(f.line, f.path, f.node) }

func (r *reader) scalar(line int, path string, n ast.Node) (string, bool) {
	var v string
	switch n := n.(type) {
	case *ast.StringNode:
		v = n.Value
	case *ast.LiteralNode:
		v = n.Value.Value
	case nil, *ast.NullNode:
		r.problem(line, "%s has no value; give one or remove the line", path)
		return "", false
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		r.problem(line, "%s must be a string, not %s; put it into quotes", path, kindOf(n))
		return "", false
	default:
		r.wrong(line, path, "a string", n)
		return "", false
	}
	if strings.TrimSpace(v) == "" {
		r.problem(line, "%s is empty; give a value or remove the line", path)
		return "", false
	}
	return v, true
}

// list returns the entries of a list.
func (r *reader) list(f field, of string) []field {
	var values []ast.Node
	switch n := f.node.(type) {
	case *ast.SequenceNode:
		values = n.Values
	case nil, *ast.NullNode:
		r.problem(f.line, "%s has no value; give one or remove the line", f.path)
		return nil
	default:
		r.wrong(f.line, f.path, "a list of "+of, n)
		return nil
	}
	if len(values) == 0 {
		r.problem(f.line, "%s is an empty list; give an entry or remove the line", f.path)
	}
	out := make([]field, 0, len(values))
	for i, v := range values {
		line := f.line
		if v != nil {
			line = lineOf(v)
		}
		out = append(out, field{path: fmt.Sprintf("%s[%d]", f.path, i), line: line, node: v})
	}
	return out
}

func (r *reader) wrong(line int, path, want string, n ast.Node) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode, *ast.MappingKeyNode:
		r.problem(line, "%s uses %s, which is not read here; write the value out", path, kindOf(n))
	default:
		r.problem(line, "%s must be %s, not %s", path, want, kindOf(n))
	}
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.StringNode, *ast.LiteralNode:
		return "a string"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.AnchorNode:
		return "an anchor"
	case *ast.AliasNode:
		return "an alias"
	case *ast.TagNode:
		return "a tag"
	case *ast.MergeKeyNode:
		return "a merge key"
	case *ast.MappingKeyNode:
		return "a complex key"
	}
	return "something else"
}

func lineOf(n ast.Node) int {
	switch m := n.(type) {
	case *ast.MappingNode: // its own token is the colon, or the bracket
		if len(m.Values) > 0 && !m.IsFlowStyle {
			return lineOf(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return lineOf(m.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

func orFile(section string) string {
	if section == "" {
		return "the file"
	}
	return section
}

// quoted shows a key that nobody vouches for: escaped and cut.
func quoted(key string) string {
	if r := []rune(key); len(r) > 40 {
		key = string(r[:40]) + "..."
	}
	return fmt.Sprintf("%q", key)
}
