// Package arch holds the rules of who may import and call what, and a reader
// of the source they are checked against (ADR 0001). The linter repeats some of
// them for editors; here every arrow is decided.
//
//	cmd -> verbs -> workflows -> clients -> leaves, never back
//
// A package or library that no table names is a violation: it is added with a
// thought about where it belongs.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the product's module path.
const Module = "homelab"

// layer is how high a package stands; imports go down.
type layer int

const (
	unknown  layer = iota
	leaf           // no knowledge of any server
	client         // one kind of server, or git
	workflow       // a decision over time
	verb           // flags, phrases, the next command
	cmd            // wiring
	support        // for tests only
)

func (l layer) String() string {
	return [...]string{"unknown", "leaf", "client", "workflow", "verb", "cmd", "test support"}[l]
}

// packages is the layer of every package below pkg.
func packages() map[string]layer {
	return map[string]layer{
		"config": leaf, "fault": leaf, "flock": leaf, "nearest": leaf, "poll": leaf, "transport": leaf, "ui": leaf,
		"woodpecker": client, "vault": client, "kube": client, "git": client, "forge": client, "registry": client,
		"pipeline": workflow, "rollout": workflow, "landing": workflow, "stack": workflow, "artifact": workflow,
	}
}

// sideways are the only arrows inside a layer below pkg. Whatever is not here
// is joined by cmd, through a function or an interface of the importer's own.
func sideways() map[string][]string {
	return map[string][]string{
		"config":    {"fault", "nearest", "transport"},
		"flock":     {"poll"},
		"transport": {"fault", "poll"},
		"ui":        {"fault", "poll"},
		"landing":   {"pipeline", "rollout"},
		"stack":     {"rollout"},
		"artifact":  {"rollout", "stack"},
	}
}

// libraries is who may import what from elsewhere: a module, or any package
// below it, and the directories that may, each with all below it. Tests may
// import any of them, and the libraries that have no directory are theirs.
func libraries() map[string][]string {
	return map[string][]string{
		"github.com/spf13":                       {"cmd", "verbs"},
		"charm.land":                             {"pkg/ui"},
		"github.com/charmbracelet":               {"pkg/ui"},
		"github.com/clipperhouse/displaywidth":   {"pkg/ui"},
		"golang.org/x/term":                      {"pkg/ui", "cmd"},
		"github.com/hashicorp/vault":             {"pkg/vault"},
		"k8s.io/client-go":                       {"pkg/kube", "pkg/rollout", "pkg/stack"},
		"k8s.io/api":                             {"pkg/kube", "pkg/rollout", "pkg/stack"},
		"k8s.io/streaming":                       {"pkg/kube"},
		"k8s.io/klog":                            {"pkg/kube"},
		"k8s.io/apimachinery":                    {"pkg/kube", "pkg/rollout", "pkg/stack"},
		"github.com/cenkalti/backoff":            {"pkg/poll", "pkg/transport"},
		"github.com/goccy/go-yaml":               {"pkg/config", "pkg/stack"},
		"go.yaml.in/yaml":                        {"pkg/stack"},
		"github.com/compose-spec/compose-go":     {"pkg/stack"},
		"github.com/tmaxmax/go-sse":              {"pkg/woodpecker"},
		"golang.org/x/mod":                       {"pkg/woodpecker"},
		"golang.org/x/crypto":                    {"pkg/artifact/proof"},
		"golang.org/x/net/idna":                  {"pkg/transport", "pkg/git"},
		"golang.org/x/net/websocket":             nil,
		"golang.org/x/net/http2":                 {"pkg/transport"},
		"golang.org/x/net/http/httpproxy":        {"pkg/config"},
		"github.com/google/go-containerregistry": {"pkg/registry", "pkg/rollout", "pkg/stack", "pkg/artifact"},
		"sigs.k8s.io/kind":                       {"pkg/stack/kind"},
		"golang.org/x/sync":                      {"cmd", "pkg"},
		"github.com/google/go-cmp":               nil,
		"github.com/rogpeppe/go-internal":        nil,
		"github.com/creack/pty":                  nil,
		"github.com/hinshun/vt10x":               nil,
	}
}

// call is what only some packages may call.
type call struct {
	pkg   string
	names []string // empty: anything of pkg
	only  []string // directories
	why   string
}

func calls() []call {
	return []call{
		{"os", []string{
			"Getenv", "LookupEnv", "ExpandEnv", "Clearenv", "UserHomeDir", "UserConfigDir", "UserCacheDir",
		}, []string{"pkg/config"}, "only config reads the environment"},
		// vault hides VAULT_* from its library, which reads them by itself.
		{"os", []string{"Environ", "Setenv", "Unsetenv"}, []string{"pkg/config", "pkg/vault"}, "only config reads the environment"},
		{"syscall", []string{"Getenv", "Environ", "Setenv", "Unsetenv"}, []string{"pkg/config"}, "only config reads the environment"},
		{"net/http", []string{"ProxyFromEnvironment"}, []string{"pkg/config"}, "only config reads the environment"},
		{"os/exec", nil, []string{"pkg/git"}, "only git starts processes (ADR 0013)"},
		{"os", []string{"StartProcess"}, []string{"pkg/git"}, "only git starts processes (ADR 0013)"},
		{"syscall", []string{"ForkExec", "StartProcess", "Exec"}, []string{"pkg/git"}, "only git starts processes (ADR 0013)"},
		{"time", []string{"Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, []string{"pkg/poll"}, "only poll waits (ADR 0006)"},
	}
}

// File is what the rules need to know of one source file.
type File struct {
	Dir     string // slash-separated, from the module's root
	Name    string
	Test    bool
	Imports []string
	Uses    []Use // selectors on imported packages
	Sets    []Use // fields set, in a literal or by assignment; Pkg is empty
}

// Use is a name that a file uses, and the line it stands on.
type Use struct {
	Pkg, Name string
	Line      int
}

// place returns the layer of dir and, for the layers that are divided, the
// name of the division: the package below pkg, the verb group.
func place(dir string) (layer, string) {
	top, rest, _ := strings.Cut(dir, "/")
	name, _, _ := strings.Cut(rest, "/")
	switch {
	case dir == "cmd/homelab" || strings.HasPrefix(dir, "cmd/homelab/"):
		return cmd, "homelab"
	case top == "verbs" && name != "":
		return verb, name
	case top == "internal" && name != "":
		return support, name
	case top == "pkg":
		return packages()[name], name
	}
	return unknown, ""
}

// Check returns what in f is against the rules, each with where it stands.
func Check(f File) []string {
	var found []string
	at := func(line int, format string, args ...any) {
		where := path.Join(f.Dir, f.Name)
		if line > 0 {
			where += ":" + strconv.Itoa(line)
		}
		found = append(found, where+": "+fmt.Sprintf(format, args...))
	}
	from, name := place(f.Dir)
	if from == unknown {
		at(0, "%s is in no table: add it to packages in internal/arch, in the layer it belongs to", f.Dir)
		return found
	}
	exempt := f.Test || from == support
	for _, imported := range f.Imports {
		if why := arrow(f, from, name, imported, exempt); why != "" {
			at(0, "imports %s: %s", imported, why)
		}
	}
	for _, u := range f.Uses {
		if u.Name == "InsecureSkipVerify" && !f.Test {
			at(u.Line, "InsecureSkipVerify: certificates are always verified (ADR 0003)")
		}
		for _, c := range calls() {
			if !exempt && u.Pkg == c.pkg && (len(c.names) == 0 || slices.Contains(c.names, u.Name)) && !below(f.Dir, c.only) {
				at(u.Line, "%s.%s: %s", u.Pkg, u.Name, c.why)
			}
		}
	}
	for _, s := range f.Sets {
		switch {
		case s.Name == "InsecureSkipVerify" && !f.Test:
			at(s.Line, "InsecureSkipVerify: certificates are always verified (ADR 0003)")
		case s.Name == "ServerName" && !exempt:
			at(s.Line, "ServerName is set: the verified name is always the URL's (ADR 0003)")
		}
	}
	return found
}

// arrow says why f may not import imported, or "".
func arrow(f File, from layer, name, imported string, exempt bool) string {
	if imported == "C" || imported == "unsafe" || imported == "plugin" {
		return "not in this program"
	}
	if dir, ours := strings.CutPrefix(imported, Module+"/"); ours {
		return inward(f, from, name, dir)
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		for _, c := range calls() {
			if !exempt && c.pkg == imported && len(c.names) == 0 && !below(f.Dir, c.only) {
				return c.why
			}
		}
		return "" // the standard library
	}
	// The longest prefix decides: a module may have packages with rules of their own.
	best := ""
	for lib := range libraries() {
		if (imported == lib || strings.HasPrefix(imported, lib+"/")) && len(lib) > len(best) {
			best = lib
		}
	}
	switch only := libraries()[best]; {
	case best == "":
		return "no table names this library: add it to libraries in internal/arch, with who may import it"
	case exempt || below(f.Dir, only):
		return ""
	case len(only) == 0:
		return "only for tests"
	default:
		return "only in " + strings.Join(only, ", ")
	}
}

// inward judges an import of one of the product's own packages.
func inward(f File, from layer, name, dir string) string {
	to, toName := place(dir)
	switch {
	case to == unknown:
		return "it is in no table: add it to packages in internal/arch"
	case to == support:
		if f.Test || from == support {
			return ""
		}
		return "internal is test support"
	case to == cmd && from != cmd:
		return "nothing imports cmd"
	case from == support && to == verb:
		return "test support stands below the verbs"
	case from == support || from == to && name == toName:
		return ""
	case to > from:
		return fmt.Sprintf("a %s does not import a %s: never back", from, to)
	case dir == "pkg/config" && from < verb:
		return "only cmd and verbs know the configuration: take the value"
	case to < from || f.Test:
		return ""
	case from == verb:
		if toName == "verb" {
			return ""
		}
		return "verb groups do not import each other"
	case slices.Contains(sideways()[name], toName):
		return ""
	default:
		return fmt.Sprintf("a %s does not import this %s: take what is needed as a function or an interface, and let cmd join them", from, to)
	}
}

// below says whether dir is one of dirs or lies below one.
func below(dir string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return dir == d || strings.HasPrefix(dir, d+"/") })
}

// Read parses every Go file of the module at root, whatever its build
// constraints. Nested modules, testdata and hidden directories are left out.
func Read(root string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p == root {
				return nil
			}
			if n := d.Name(); n == "testdata" || n == "vendor" || strings.HasPrefix(n, ".") || strings.HasPrefix(n, "_") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := Parse(filepath.ToSlash(rel), src)
		if err == nil {
			files = append(files, f)
		}
		return err
	})
	return files, err
}

// Parse reads one file; name is its slash-separated path from the root.
func Parse(name string, src []byte) (File, error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
	if err != nil {
		return File{}, err
	}
	f := File{Dir: path.Dir(name), Name: path.Base(name), Test: strings.HasSuffix(name, "_test.go")}
	local := map[string]string{} // what the file calls an import
	for _, spec := range tree.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return File{}, err
		}
		f.Imports = append(f.Imports, p)
		called := path.Base(p)
		if spec.Name != nil {
			called = spec.Name.Name
		}
		if called == "." {
			return File{}, fmt.Errorf("%s: a dot import hides whose name it is", name)
		}
		local[called] = p
	}
	line := func(n ast.Node) int { return set.Position(n.Pos()).Line }
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			u := Use{Name: n.Sel.Name, Line: line(n)}
			if x, ok := n.X.(*ast.Ident); ok {
				u.Pkg = local[x.Name]
			}
			if u.Pkg != "" || u.Name == "InsecureSkipVerify" {
				f.Uses = append(f.Uses, u)
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok {
				f.Sets = append(f.Sets, Use{Name: key.Name, Line: line(n)})
			}
		case *ast.AssignStmt:
			for _, l := range n.Lhs {
				if sel, ok := l.(*ast.SelectorExpr); ok {
					f.Sets = append(f.Sets, Use{Name: sel.Sel.Name, Line: line(sel)})
				}
			}
		}
		return true
	})
	return f, nil
}
