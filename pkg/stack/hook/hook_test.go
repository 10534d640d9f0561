package hook

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"homelab/pkg/fault"
)

func put(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func runner(t *testing.T) (*Runner, *[]string) {
	t.Helper()
	var told []string
	return &Runner{Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "KUBECONFIG=/everything"}, WorkDir: t.TempDir(), Tell: func(l string) { told = append(told, l) }}, &told
}

// An executable gets its context, a kubeconfig of its own, and says how it went.
func TestExecutable(t *testing.T) {
	r, told := runner(t)
	dir := t.TempDir()
	h := put(t, filepath.Join(dir, "start"), "#!/bin/sh\ncat >got.json\ncat \"$KUBECONFIG\"\nstat -c %a \"$KUBECONFIG\"\n", 0o755)
	if _, err := r.Run(t.Context(), Start, h, Context{Dir: dir, ID: "shop-1", Args: []string{"a"}}, []byte("this cluster\n")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"hook start: this cluster", "hook start: 600"}; !slices.Equal(*told, want) {
		t.Errorf("%q", *told)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "got.json"))
	var c Context
	if err != nil || json.Unmarshal(raw, &c) != nil || c.ID != "shop-1" || !slices.Equal(c.Args, []string{"a"}) {
		t.Errorf("%s, %v", raw, err)
	}
	h = put(t, filepath.Join(dir, "create"), "#!/bin/sh\necho no money >&2\nexit 3\n", 0o755)
	if _, err := r.Run(t.Context(), Create, h, Context{Dir: dir}, nil); fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), "hook create failed") || !strings.Contains(err.Error(), "no money") {
		t.Error(err)
	}
	h = put(t, filepath.Join(dir, "init"), "#!/bin/sh\necho 'config: {A: 1}'\n", 0o755)
	if out, err := r.Run(t.Context(), Init, h, Context{}, nil); err != nil || string(out) != "config: {A: 1}\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestCheckAndFor(t *testing.T) {
	r, _ := runner(t)
	dir := t.TempDir()
	plain := put(t, filepath.Join(dir, "start"), "", 0o644)
	if err := r.Check([]string{plain}); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	py := put(t, filepath.Join(dir, "commands.py"), "", 0o644)
	if err := (&Runner{Env: []string{"PATH=" + dir}}).Check([]string{py}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "python3") {
		t.Error(err)
	}
	if err := r.Check([]string{filepath.Join(dir, "none")}); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	got := For(Start, []string{"a/commands.py", "a/init", "a/start", "a/start_1", "a/start_x", "a/starter"})
	if !slices.Equal(got, []string{"a/commands.py", "a/start", "a/start_1"}) {
		t.Errorf("%v", got)
	}
}

// A commands.py finds the names it imports.
func TestCommands(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3 here")
	}
	r, told := runner(t)
	dir := t.TempDir()
	h := put(t, filepath.Join(dir, "commands.py"), `
from stack_orchestrator.util import get_yaml
from stack_orchestrator.opts import opts
from stack_orchestrator.deploy.deployment_context import DeploymentContext
from stack_orchestrator.deploy.deploy_types import DeployCommandContext, VolumeMapping, LaconicStackSetupCommand
from stack_orchestrator.deploy.deploy_util import run_container_command
from stack_orchestrator.deploy.stack_state import State


def init(command_context: DeployCommandContext):
    print("printed", opts.o.debug)
    return {"config": {"A": 1}}


def create(ctx: DeploymentContext, extra_args):
    with open(ctx.deployment_dir / "made", "w") as f:
        f.write("%s %s %s %s" % (ctx.deployment_id, ctx.id, ctx.spec.get_image_registry(), extra_args[2]))
    print(ctx.spec.is_kind_deployment(), ctx.stack.name, State.CREATED.name)


def start(ctx):
    raise Exception("not today")
`, 0o644)
	spec, err := Document([]byte("image-registry: reg.example.lan\ndeploy-to: k8s-kind\n1: x\n"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.Run(t.Context(), Init, h, Context{}, nil)
	if err != nil || string(out) != `{"config": {"A": 1}}` {
		t.Errorf("%q, %v", out, err)
	}
	c := Context{Dir: dir, ID: "shop-1", Cluster: "lab", Spec: spec, StackName: "shop", Args: []string{"", "", "x"}}
	if _, err := r.Run(t.Context(), Create, h, c, nil); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "made")); err != nil || string(raw) != "shop-1 lab reg.example.lan x" {
		t.Errorf("%q, %v", raw, err)
	}
	if want := []string{"hook init of commands.py: printed False", "hook create of commands.py: True shop CREATED"}; !slices.Equal(*told, want) {
		t.Errorf("%q", *told)
	}
	if _, err := r.Run(t.Context(), Start, h, c, nil); fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), "not today") {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "__pycache__")); len(left) > 0 {
		t.Error("Python's own files lie in the stack")
	}
	quiet := put(t, filepath.Join(dir, "commands_1.py"), "def create(ctx, args): pass\n", 0o644)
	if out, err := r.Run(t.Context(), Init, quiet, c, nil); err != nil || string(out) != "null" {
		t.Errorf("%q, %v", out, err)
	}
}
