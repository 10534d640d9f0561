package work

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/landing"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// runTask executes a command line in dir the way cmd does.
func runTask(t *testing.T, env []string, dir string, tty bool, args ...string) (out, story string, kind fault.Kind) {
	t.Helper()
	io, o, e := ui.Test("")
	io.OutTTY = tty
	flags := &verb.Flags{}
	root := &cobra.Command{Use: "homelab", SilenceErrors: true, SilenceUsage: true}
	flags.Output(root.PersistentFlags())
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		mode, err := flags.Mode()
		if err != nil {
			return err
		}
		return io.Configure(ui.Settings{Mode: mode, Color: flags.Color})
	}
	root.AddCommand(New(Deps{
		IO: io, Flags: flags, Child: env, Dir: dir, User: "anna", File: ".homelab.yaml",
		Rules: func(string, []byte) (landing.Rules, error) { return landing.Rules{}, nil },
		Checkout: func(ctx context.Context) (*git.Repo, error) {
			r, err := git.Open(ctx, dir, env)
			if errors.Is(err, git.ErrNotRepo) {
				return nil, nil
			}
			return r, err
		},
	}))
	root.SetArgs(append([]string{"work"}, args...))
	err := root.ExecuteContext(t.Context())
	kind = fault.KindOf(err)
	if done, ok := errors.AsType[*verb.Exit](err); ok {
		kind = done.Kind
	}
	return o.String(), e.String(), kind
}

func taskClone(t *testing.T) (env []string, clone *gittest.Repo) {
	t.Helper()
	origin := gittest.New(t, "trunk")
	origin.Write("f", "1\n")
	origin.Write(".gitignore", "*.env\n")
	origin.Commit("first")
	return gittest.Env(t), origin.Clone("--bare").Clone()
}

// keys returns the sorted names of an object's fields.
func keys(t *testing.T, v any) string {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%v is no object", v)
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), " ")
}

func object(t *testing.T, out string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return m
}

func TestTaskVerbs(t *testing.T) {
	t.Parallel()
	env, clone := taskClone(t)
	path := filepath.Join(clone.Dir, ".worktrees", "fan")
	for _, tty := range []bool{false, true} {
		out, story, kind := runTask(t, env, clone.Dir, tty, "start", "fan")
		if out != path+"\n" || story != "" || kind != fault.OK {
			t.Errorf("stdout is %q, not the path alone; %q %s", out, story, kind)
		}
	}
	out, _, kind := runTask(t, env, path, false, "start", "fan", "--json")
	m := object(t, out)
	if kind != fault.OK || m["verdict"] != "existing" || m["existing"] != true || m["next"] != "cd "+path || m["base"] != "trunk" ||
		keys(t, m) != "base branch elapsed existing exit_code kind next path reason remote topic verdict" {
		t.Errorf("%s %s", kind, out)
	}

	w := gittest.At(t, path)
	w.Write("prod.env", "SECRET")
	w.Write("new", "x")
	out, _, kind = runTask(t, env, clone.Dir, false, "status")
	if want := "fan  anna/fan  not landed  0 ahead, 0 behind trunk  1 untracked, 1 ignored  " + path + "\n"; out != want || kind != fault.OK {
		t.Errorf("%s %q, want %q", kind, out, want)
	}
	out, _, _ = runTask(t, env, clone.Dir, false, "status", "--fetch", "--json")
	m = object(t, out)
	task := m["tasks"].([]any)[0].(map[string]any)
	if keys(t, m) != "elapsed exit_code kind landings next reason staging tasks trash verdict warnings" ||
		keys(t, task) != "ahead base behind branch changed commit created ignored landed landing missing path pull_request pushed remote stacked_on topic untracked" ||
		task["landed"] != "no" || task["untracked"] != 1.0 || task["landing"] != nil || task["stacked_on"] != nil {
		t.Errorf("%s", out)
	}

	out, story, kind := runTask(t, env, path, false, "clean", "fan", "--json")
	m = object(t, out)
	item := m["items"].([]any)[0].(map[string]any)
	if kind != fault.Held || m["exit_code"] != 5.0 || m["verdict"] != "held" || keys(t, item) != "branch done path reasons topic trash_id" ||
		item["trash_id"] != nil || len(item["reasons"].([]any)) != 2 {
		t.Errorf("%s %s %s", kind, out, story)
	}
	out, _, kind = runTask(t, env, clone.Dir, false, "clean", "fan")
	if kind != fault.Held || out != "held: fan: untracked: new; next: homelab work status\n" {
		t.Errorf("%s %q", kind, out)
	}
	out, _, kind = runTask(t, env, clone.Dir, false, "clean", "fan", "--force", "--json")
	m = object(t, out)
	id, _ := m["items"].([]any)[0].(map[string]any)["trash_id"].(string)
	if kind != fault.OK || m["verdict"] != "cleaned" || m["next"] != "homelab work restore "+id || id == "" {
		t.Fatalf("%s %s", kind, out)
	}
	out, _, kind = runTask(t, env, clone.Dir, false, "restore")
	if kind != fault.OK || !strings.HasPrefix(out, "trash "+id+": fan (anna/fan), kept until ") || strings.Count(out, "\n") != 1 {
		t.Errorf("%s %q", kind, out)
	}
	out, _, kind = runTask(t, env, clone.Dir, false, "restore", id, "--json")
	m = object(t, out)
	if kind != fault.OK || m["verdict"] != "restored" || m["next"] != "cd "+path {
		t.Errorf("%s %s", kind, out)
	}
	if data, _ := os.ReadFile(filepath.Join(path, "prod.env")); string(data) != "SECRET" {
		t.Errorf("%q", data)
	}
	out, _, kind = runTask(t, env, clone.Dir, false, "restore")
	if kind != fault.OK || out != "ok: the trash is empty\n" {
		t.Errorf("%s %q", kind, out)
	}
	out, _, kind = runTask(t, env, path, false, "abort", "--json")
	m = object(t, out)
	if kind != fault.OK || m["verdict"] != "nothing" || m["topic"] != "fan" || keys(t, m) != "elapsed exit_code kind landed next pull_request reason topic verdict" || m["landed"] != nil {
		t.Errorf("%s %s", kind, out)
	}
	out, _, kind = runTask(t, env, clone.Dir, false, "clean", "--landed")
	if kind != fault.OK || !strings.HasPrefix(out, "nothing: no task's work has landed") {
		t.Errorf("%s %q", kind, out)
	}
}

func TestTaskUsage(t *testing.T) {
	t.Parallel()
	env, clone := taskClone(t)
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"start"}, ""}, // the tree refuses it
		{[]string{"start", "a..b", "--json"}, "cannot be a topic"},
		{[]string{"start", "a", "--base", "", "--json"}, "--base is empty"},
		{[]string{"start", "a", "--from=-x", "--json"}, "must not begin with a dash"},
		{[]string{"start", "a", "--timeout=-1s", "--json"}, "must not be negative"},
		{[]string{"clean", "--json"}, "name a topic"},
		{[]string{"clean", "a", "--landed", "--json"}, "not both"},
		{[]string{"clean", "a", "--json"}, "there is no task a"},
		{[]string{"restore", "x", "--json"}, "nothing in the trash"},
		{[]string{"abort", "x", "--json"}, "there is no task x"},
	} {
		out, story, kind := runTask(t, env, clone.Dir, false, tc.args...)
		if kind != fault.Usage || !strings.Contains(out, tc.says) {
			t.Errorf("%v: %s %q %q", tc.args, kind, out, story)
		}
		if tc.says != "" && object(t, out)["verdict"] != "usage" {
			t.Errorf("%v: %s", tc.args, out)
		}
	}
	for _, v := range []string{"start x", "status", "clean x", "abort", "restore"} {
		out, _, kind := runTask(t, env, t.TempDir(), false, append(strings.Fields(v), "--json")...)
		if kind != fault.Usage || !strings.Contains(out, "no git checkout") {
			t.Errorf("%s outside of a checkout: %s %s", v, kind, out)
		}
	}
}

func TestAbortTold(t *testing.T) {
	t.Parallel()
	env, clone := taskClone(t)
	runTask(t, env, clone.Dir, false, "start", "fan")
	w := gittest.At(t, filepath.Join(clone.Dir, ".worktrees", "fan"))
	w.Write("f", "2\n")
	c := w.Commit("two")
	record := func(phase, extra string) {
		clone.Write(".git/homelab/land/20261120T163000Z-0001/journal.json", `{"id":"20261120T163000Z-0001","phase":"`+phase+`","branch":"anna/fan",
			"head":"`+c+`","candidate":"`+c+`","tried":["`+c+`"],"remote":"origin","base":"trunk"`+extra+`}`)
	}
	record("proposed", `,"pull_request":{"url":"https://git.example.lan/lab/infra/pulls/7","number":7,"state":"open"}`)
	out, _, kind := runTask(t, env, clone.Dir, false, "abort", "fan", "--json")
	if m := object(t, out); kind != fault.OK || m["verdict"] != "aborted" || keys(t, m["pull_request"]) != "number state url" || m["landed"] != nil {
		t.Errorf("%s %s", kind, out)
	}
	record("pushing", "")
	w.Git("push", "--quiet", "origin", "HEAD:trunk")
	out, _, kind = runTask(t, env, clone.Dir, false, "abort", "fan", "--json")
	if m := object(t, out); kind != fault.OK || m["verdict"] != "landed" || m["landed"] != c || m["next"] != "homelab work land" {
		t.Errorf("%s %s", kind, out)
	}
	record("pushing", "")
	clone.Git("remote", "set-url", "origin", "http://127.0.0.1:1/gone.git")
	out, _, kind = runTask(t, env, clone.Dir, false, "abort", "fan", "--json", "--timeout", "1s")
	m := object(t, out)
	if _, known := m["landed"]; kind != fault.Timeout || known {
		t.Errorf("what is not known must be absent: %s %s", kind, out)
	}
}

// A directory that does not fit beside the rest stands on a line of its own:
// what is cut off cannot be pasted.
func TestTaskRows(t *testing.T) {
	tasks := []taskJSON{{Topic: "fan", Branch: "anna/fan", Landed: landing.StateNo, Path: "/home/anna/src/infra/.worktrees/fan"}}
	for width, want := range map[int]int{0: 1, 200: 1, 60: 2} {
		lines := taskRows(tasks, width)
		if len(lines) != want || !strings.HasSuffix(lines[len(lines)-1].Text(), "  "+tasks[0].Path) {
			t.Errorf("%d columns: %v", width, lines)
		}
	}
}
