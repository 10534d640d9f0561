package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// RepoFile is the name of the repository's configuration file, at its root.
const RepoFile = ".homelab.yaml"

// Gate is what must be green before the base moves. The zero value means the
// file does not say.
type Gate string

// The gates.
const (
	GateLocal Gate = "local" // the verification command
	GateCI    Gate = "ci"    // the candidate's own pipeline as well
)

// Verify is one verification command.
type Verify struct {
	Run     string
	Dir     string        // relative to the repository's root, slash-separated; "" is the root
	Paths   []string      // globs with ** of changed paths that make it necessary; none means always
	Timeout time.Duration // 0 means the caller's default
}

// Repo is what a repository's file says, checked. Its zero value is an empty
// file. It has no place for a server, an address, a token source or a CA.
type Repo struct {
	Base      Value[string]
	Remote    Value[string] // a remote's name, never a URL
	Verify    Value[[]Verify]
	Gate      Value[Gate]
	Deploy    Value[[]string] // NS/NAME or NS/KIND/NAME
	Workflows Value[[]string] // exact names; none means all
}

// KnownRepoKeys returns every key of the repository's file, dotted; verify is
// a command or a list of entries, shown as verify[].
func KnownRepoKeys() []string {
	return []string{
		"base", "remote",
		"verify[].run", "verify[].dir", "verify[].paths", "verify[].timeout",
		"gate", "deploy", "ci.workflows",
	}
}

// ParseRepo reads a repository's file strictly. name is what errors and
// sources call it, such as ".homelab.yaml" or "main:.homelab.yaml". An empty
// file is an empty configuration. The error lists up to 20 problems.
func ParseRepo(name string, data []byte) (*Repo, error) {
	r := &reader{file: name, level: LevelRepo, told: forbidden}
	repo := &Repo{}

	root := r.open(data)
	r.refuse(root)
	top := r.fields("", root, keysOf(KnownRepoKeys(), "")...)
	repo.Base = fileValue(r, top["base"], parseBranch)
	repo.Remote = fileValue(r, top["remote"], parseRemoteName)
	repo.Gate = fileValue(r, top["gate"], parseGate)
	if f, ok := top["verify"]; ok {
		repo.Verify = set(r.verify(f), r.source(f.line))
	}
	if f, ok := top["deploy"]; ok {
		repo.Deploy = set(r.names(f, "workloads", parseWorkload), r.source(f.line))
	}
	ci := r.fields("ci", top["ci"].node, keysOf(KnownRepoKeys(), "ci")...)
	if f, ok := ci["workflows"]; ok {
		repo.Workflows = set(r.names(f, "workflow names", parseWord), r.source(f.line))
	}
	if err := r.err("git log -1 -p -- ':/" + RepoFile + "'"); err != nil {
		return nil, err
	}
	return repo, nil
}

// verify reads a command, or a list whose entries are commands or sections.
func (r *reader) verify(f field) []Verify {
	switch f.node.(type) {
	case *ast.SequenceNode:
	case *ast.MappingNode, *ast.MappingValueNode:
		r.wrong(f.line, f.path, "a command or a list of entries", f.node)
		return nil
	default:
		return []Verify{{Run: fileValue(r, f, parseCommand).V}}
	}
	var out []Verify
	for _, e := range r.list(f, "entries") {
		switch e.node.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
		default:
			out = append(out, Verify{Run: fileValue(r, e, parseCommand).V})
			continue
		}
		k := r.fields(e.path, e.node, keysOf(KnownRepoKeys(), "verify[]")...)
		v := Verify{
			Run:     fileValue(r, k["run"], parseCommand).V,
			Dir:     fileValue(r, k["dir"], parseDir).V,
			Timeout: fileValue(r, k["timeout"], parseLimit).V,
		}
		if _, ok := k["run"]; !ok {
			r.problem(e.line, "%s needs run", e.path)
		}
		if p, ok := k["paths"]; ok {
			v.Paths = r.names(p, "globs", parseGlob)
		}
		out = append(out, v)
	}
	return out
}

// names reads a list of distinct strings.
func (r *reader) names(f field, of string, convert func(string) (string, error)) []string {
	var out []string
	for _, e := range r.list(f, of) {
		v := fileValue(r, e, convert)
		if v.Set && slices.Contains(out, v.V) {
			r.problem(e.line, "%s repeats %s", e.path, quoted(v.V))
			continue
		}
		if v.Set {
			out = append(out, v.V)
		}
	}
	return out
}

// refuse reports every key, at any depth, that would say where to connect,
// whom to trust or where a token comes from. What stands below such a key is
// not reported again.
func (r *reader) refuse(n ast.Node) {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, kv := range n.Values {
			r.refuse(kv)
		}
	case *ast.MappingValueNode:
		name := keyText(n.Key)
		if forbidden(name) {
			r.problem(lineOf(n.Key), "%s is not allowed here: a checkout can never name a server, an address, a token source or a CA; it belongs in the user's own configuration file", quoted(name))
			return
		}
		r.refuse(n.Value)
	case *ast.SequenceNode:
		for _, v := range n.Values {
			r.refuse(v)
		}
	case *ast.AnchorNode:
		r.refuse(n.Value)
	case *ast.TagNode:
		r.refuse(n.Value)
	}
}

func keyText(k ast.MapKeyNode) string {
	if mk, ok := k.(*ast.MappingKeyNode); ok && mk.Value != nil && mk.Value.GetToken() != nil {
		return mk.Value.GetToken().Value
	}
	return k.GetToken().Value
}

// forbidden reports whether a key belongs to the user's file only, in any
// spelling. "path" alone is left out: it is one letter from verify's paths
// and means nothing without token-vault above it.
func forbidden(key string) bool {
	n := normal(key)
	for _, k := range KnownKeys() {
		for part := range strings.SplitSeq(k, ".") {
			if part = normal(strings.TrimSuffix(part, "[]")); part != "path" && (n == part || n == part+"s") {
				return true
			}
		}
	}
	for _, word := range []string{"token", "secret", "password", "credential", "proxy", "insecure", "woodpecker", "vault", "kube", "forge"} {
		if strings.Contains(n, word) {
			return true
		}
	}
	return slices.Contains([]string{"addr", "ca", "cacert", "cert", "certificate", "pin", "endpoint", "urls", "servers", "hosts", "ip", "port", "tls"}, n)
}

func parseCommand(s string) (string, error) {
	s = strings.TrimSpace(s)
	if strings.ContainsRune(s, 0) {
		return "", errors.New("contains a zero byte")
	}
	return s, nil
}

// parseBranch takes a branch's name. A leading dash would be an option of
// git, the rest is what git itself refuses.
func parseBranch(s string) (string, error) {
	s = strings.TrimSpace(s)
	bad := strings.HasPrefix(s, "-") || strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") ||
		strings.HasSuffix(s, ".") || strings.HasSuffix(s, ".lock") || s == "@" ||
		strings.Contains(s, "..") || strings.Contains(s, "//") || strings.Contains(s, "/.") || strings.HasPrefix(s, ".") ||
		strings.Contains(s, "@{") ||
		strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(`~^:?*[\`, c) })
	if bad {
		return "", errors.New("is not a branch name such as main")
	}
	if strings.HasPrefix(s, "refs/") {
		return "", errors.New("is a whole ref; write the branch name, such as main")
	}
	return s, nil
}

// parseRemoteName takes the name of a remote. git takes a URL or a path as
// well: refused, the file would name a server.
func parseRemoteName(s string) (string, error) {
	s, err := parseBranch(s)
	if err != nil || strings.Contains(s, "@") {
		return "", errors.New("must be the name of a remote such as origin; a checkout can never name a server")
	}
	return s, nil
}

func parseGate(s string) (Gate, error) {
	switch g := Gate(strings.TrimSpace(s)); g {
	case GateLocal, GateCI:
		return g, nil
	}
	return "", errors.New("must be local or ci")
}

func parseWorkload(s string) (string, error) {
	s = strings.TrimSpace(s)
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") ||
		strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return "", errors.New("is not NAMESPACE/NAME or NAMESPACE/KIND/NAME")
	}
	return s, nil
}

func parseDir(s string) (string, error) {
	s = path.Clean(strings.TrimSpace(s))
	if path.IsAbs(s) || s == ".." || strings.HasPrefix(s, "../") || strings.ContainsRune(s, 0) {
		return "", errors.New("leaves the repository")
	}
	if s == "." {
		return "", nil
	}
	return s, nil
}

func parseGlob(s string) (string, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "/") || slices.Contains(strings.Split(s, "/"), "..") {
		return "", errors.New("must be relative to the repository's root")
	}
	for seg := range strings.SplitSeq(s, "/") {
		if _, err := path.Match(seg, ""); err != nil {
			return "", errors.New("is not a valid glob")
		}
	}
	return s, nil
}

// parseLimit takes a duration with unit, at least a second.
func parseLimit(s string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		return 0, errors.New("is not a duration such as 20m")
	}
	if d < time.Second {
		return 0, fmt.Errorf("is %v; it must be at least 1s", d)
	}
	return d, nil
}
