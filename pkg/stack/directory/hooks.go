package directory

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/hook"
	"homelab/pkg/stack/render"
)

// hookNames are the executables a stack may have in deploy/hooks.
func hookNames() []string { return []string{"init", "create", "start"} }

// commandsFile holds hooks of the original tool.
const commandsFile = "commands.py"

// StackHooks returns the hooks that come with a stack, as paths.
func StackHooks(env file.Env, stack *file.Stack) []string {
	var out []string
	for _, dir := range env.HookDirs(stack) {
		out = append(out, present(dir, commandsFile)...)
		for _, n := range hookNames() {
			out = append(out, present(filepath.Join(dir, "hooks"), n)...)
		}
	}
	return out
}

// Hooks returns the hooks of a deployment directory, as paths: what "start"
// would have to run.
func Hooks(dir string) []string {
	list, err := os.ReadDir(filepath.Join(dir, "hooks"))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range list {
		if e.Type().IsRegular() && !strings.HasSuffix(e.Name(), ".bak") {
			out = append(out, filepath.Join(dir, "hooks", e.Name()))
		}
	}
	return out
}

// JudgeHooks says whether the hooks of a deployment directory can be run, or
// tells that they are not: not to run them has to be asked for. A runner that is
// nil runs none.
func JudgeHooks(run *hook.Runner, dir string, skip bool) ([]file.Notice, error) {
	return judgeHooks(run, Hooks(dir), skip)
}

func judgeHooks(run *hook.Runner, hooks []string, skip bool) ([]file.Notice, error) {
	switch {
	case len(hooks) == 0:
		return nil, nil
	case skip:
		return hookNotice(hooks), nil
	case run == nil:
		return nil, hooksRefused(hooks)
	}
	return nil, run.Check(hooks)
}

// HookContext is what hooks are told of a directory.
func HookContext(d *file.Directory, images map[string]string, args []string) (hook.Context, error) {
	target := d.Spec.Target
	if target == "" {
		target = file.Compose
	}
	c := hook.Context{
		Dir: d.Path, ID: d.Deployment.ID, Cluster: d.Cluster(), Namespace: d.Namespace(), Target: string(target),
		StackName: d.Stack.Name, Images: images, Args: args,
	}
	if c.Args == nil {
		c.Args = []string{}
	}
	for name, into := range map[string]*any{"spec.yml": &c.Spec, "stack.yml": &c.Stack} {
		raw, err := read(filepath.Join(d.Path, name))
		if err != nil {
			return c, err
		}
		if *into, err = hook.Document(raw); err != nil {
			return c, fault.Usagef("", "%s cannot be read", filepath.Join(d.Path, name)).Because(err.Error()).From(err)
		}
	}
	return c, nil
}

// runCreate runs the create hooks in the finished directory, then judges what
// they may have made.
func (m *maker) runCreate(ctx context.Context) error {
	if len(m.creates) == 0 {
		return nil
	}
	images := map[string]string{}
	for _, w := range m.out.Rendered.Workloads {
		maps.Copy(images, w.Images)
	}
	args := m.o.HookArgs
	if len(args) == 0 {
		args = []string{"", ""}
	}
	c, err := HookContext(m.out.Directory, images, args)
	if err != nil {
		return err
	}
	for _, h := range m.creates {
		if _, err := m.o.Hooks.Run(ctx, hook.Create, h, c, nil); err != nil {
			return err
		}
	}
	d, _, err := file.LoadAs(m.dir, m.o.Dir, m.o.Env)
	if err != nil {
		return err
	}
	machine := render.Machine{Home: m.o.Env.Home, WorkDir: m.o.Env.WorkDir}
	got, err := m.o.Render(d, render.Options{Missing: render.MissingWarned, Machine: machine}, render.Facts{})
	if err != nil {
		return rendered(err)
	}
	m.out.Directory, m.out.Rendered = d, got
	return nil
}

func present(dir, name string) []string {
	p := filepath.Join(dir, name)
	if st, err := os.Stat(p); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	return []string{p}
}

func hooksRefused(hooks []string) error {
	return fault.Usagef("", "the stack has hooks, which are not supported yet: %s", strings.Join(hooks, ", ")).
		Because("--no-hooks goes on without running them")
}

// hookNotice tells of hooks that are not run.
func hookNotice(hooks []string) []file.Notice {
	var out []file.Notice
	for _, h := range hooks {
		out = append(out, file.Notice{
			Code: "hook-skipped", Level: file.Ignored, File: h, Message: fmt.Sprintf("hook %s is not run: --no-hooks", filepath.Base(h)),
		})
	}
	return out
}

// hookCopies returns where in a deployment directory the stack's hooks go:
// commands.py, or numbered when several repositories have one.
func hookCopies(hooks []string) map[string]string {
	count := map[string]int{}
	for _, h := range hooks {
		count[filepath.Base(h)]++
	}
	out, next := map[string]string{}, map[string]int{}
	for _, h := range hooks {
		base := filepath.Base(h)
		name := base
		if count[base] > 1 {
			ext := filepath.Ext(base)
			name = fmt.Sprintf("%s_%d%s", strings.TrimSuffix(base, ext), next[base], ext)
			next[base]++
		}
		out["hooks/"+name] = h
	}
	return out
}
