// Package hook runs what a stack brings along to be run: executables in
// deploy/hooks, and the functions of a commands.py, which import names of the
// tool they were written for. Those names are provided by files of this
// package's own; python3 and nothing else is needed, unless a hook reads YAML
// by itself.
package hook

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

//go:embed all:shim
var shim embed.FS

// The events.
const (
	Init   = "init"
	Create = "create"
	Start  = "start"
)

// Context is what a hook is told on its standard input, as JSON.
type Context struct {
	Dir       string            `json:"dir"` // of the deployment; "" before there is one
	ID        string            `json:"id"`
	Cluster   string            `json:"cluster"`
	Namespace string            `json:"namespace"`
	Target    string            `json:"target"`
	Spec      any               `json:"spec"`
	Stack     any               `json:"stack"`
	StackName string            `json:"stack_name"`
	Images    map[string]string `json:"images"` // service -> image
	Args      []string          `json:"args"`
}

// Runner runs hooks. Its zero value runs nothing useful: Env must hold PATH.
type Runner struct {
	Env     []string          // the whole environment of a hook, but for KUBECONFIG
	WorkDir string            // where hooks run that have no deployment yet; absolute
	Tell    func(line string) // what hooks print; nil: nobody
}

// Check refuses hooks that cannot be run here: a *fault.Error of kind Usage.
func (r *Runner) Check(paths []string) error {
	for _, p := range paths {
		switch st, err := os.Stat(p); {
		case err != nil:
			return fault.Usagef("", "hook %s cannot be read", p).Because(err.Error()).From(err)
		case python(p):
			if !r.has("python3") {
				return fault.Usagef("", "hook %s needs python3, and there is none in PATH", p).
					Because("--no-hooks goes on without running it")
			}
		case st.Mode()&0o111 == 0:
			return fault.Usagef("chmod +x "+p, "hook %s is not executable", p)
		}
	}
	return nil
}

func (r *Runner) has(program string) bool {
	for _, kv := range r.Env {
		list, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			if st, err := os.Stat(filepath.Join(dir, program)); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return true
			}
		}
	}
	return false
}

func python(path string) bool { return filepath.Ext(path) == ".py" }

// For returns those of the hooks that have something to do at an event: every
// commands.py, and the executables of that name, numbered or not.
func For(event string, paths []string) []string {
	var out []string
	for _, p := range paths {
		base := filepath.Base(p)
		number, numbered := strings.CutPrefix(base, event+"_")
		if python(p) || base == event || numbered && strings.Trim(number, "0123456789") == "" {
			out = append(out, p)
		}
	}
	return out
}

// Run runs one hook and returns what it answered on its standard output. The
// hook sees the cluster of kubeconfig and no other; nil is none at all. The
// error is a *fault.Error: Failed with what the hook said, or ctx's cause.
func (r *Runner) Run(ctx context.Context, event, path string, c Context, kubeconfig []byte) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "homelab-hook-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a temporary directory
	private := filepath.Join(tmp, "kubeconfig")
	if err := os.WriteFile(private, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	given, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("the context of hook %s: %w", path, err)
	}
	cmd := git.Command{
		Dir: c.Dir, Name: path, Stdin: strings.NewReader(string(given)), Sweep: true,
		Env: slices.DeleteFunc(slices.Clone(r.Env), func(kv string) bool { return strings.HasPrefix(kv, "KUBECONFIG=") }),
		Set: []string{"KUBECONFIG=" + private},
	}
	if cmd.Dir == "" {
		cmd.Dir = r.WorkDir
	}
	if python(path) {
		if err := unpack(tmp); err != nil {
			return nil, err
		}
		cmd.Name, cmd.Args = "python3", []string{filepath.Join(tmp, "shim", "run.py"), event, path}
		cmd.Set = append(cmd.Set, "PYTHONDONTWRITEBYTECODE=1")
	}
	res, err := git.Run(ctx, cmd)
	said := lines(res.Stderr)
	if !python(path) && event != Init {
		said = append(lines(res.Stdout), said...)
	}
	name := event
	if python(path) {
		name = event + " of " + filepath.Base(path)
	}
	switch e, ok := errors.AsType[*git.CommandError](err); {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case ok:
		why := strings.Join(said[max(0, len(said)-10):], "\n")
		if why == "" {
			why = fmt.Sprintf("exit status %d", e.ExitCode)
		}
		return nil, fault.New(fault.Failed, "hook "+name+" failed", "").Because(why).From(err)
	case err != nil:
		return nil, fault.New(fault.Failed, "hook "+name+" could not be run", "").Because(err.Error()).From(err)
	}
	if r.Tell != nil {
		for _, l := range said {
			r.Tell("hook " + name + ": " + l)
		}
	}
	return res.Stdout, nil
}

func lines(text []byte) []string {
	var out []string
	for l := range strings.Lines(string(text)) {
		if l = strings.TrimRight(l, "\r\n"); strings.TrimSpace(l) != "" {
			out = append(out, l)
		}
	}
	return out
}

// unpack writes the files that stand for the other tool's modules.
func unpack(dir string) error {
	return fs.WalkDir(shim, "shim", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(path))
		if e.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		raw, err := shim.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, raw, 0o600)
	})
}

// Document reads a YAML file's text as JSON knows it: nil for an empty one.
func Document(raw []byte) (any, error) {
	var v any
	if err := yaml.Unmarshal(raw, &v); err != nil {
		return nil, err
	}
	return plain(v), nil
}

// plain makes every key a text.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = plain(x)
		}
	case map[any]any:
		out := map[string]any{}
		for k, x := range v {
			out[fmt.Sprint(k)] = plain(x)
		}
		return out
	case []any:
		for i, x := range v {
			v[i] = plain(x)
		}
	}
	return v
}
