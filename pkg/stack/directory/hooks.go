package directory

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
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

// SkipHooks tells of the hooks of a deployment directory that are not run. Not
// to run them has to be asked for: without it they are refused.
func SkipHooks(dir string, skip bool) ([]file.Notice, error) {
	hooks := Hooks(dir)
	if len(hooks) > 0 && !skip {
		return nil, hooksRefused(hooks)
	}
	return hookNotice(hooks), nil
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
