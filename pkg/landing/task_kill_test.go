package landing

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/git"
)

// deskSpec is what the child of the kill tests does: it puts a topic away or
// brings an ID back, and dies after so many steps; 0: never.
type deskSpec struct {
	Dir     string
	Env     []string
	Clean   string
	Restore string
	DieAt   int
}

func deskChild(spec string) int {
	var s deskSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return 99
	}
	repo, err := git.Open(context.Background(), s.Dir, s.Env)
	if err != nil {
		return 98
	}
	steps := 0
	d := &Desk{Dir: s.Dir, User: "anna", Deps: Deps{Repo: repo, Env: s.Env, File: ".homelab.yaml"}, Stepped: func(step string) {
		if steps++; steps == s.DieAt {
			fmt.Println(step)
			p, _ := os.FindProcess(os.Getpid())
			_ = p.Kill()
			select {}
		}
	}}
	done := false
	if s.Clean != "" {
		items, failed := d.Clean(context.Background(), CleanOptions{Topics: []string{s.Clean}, Force: true})
		done = failed == nil && len(items) == 1 && items[0].Done
	} else {
		item, failed := d.Restore(context.Background(), s.Restore)
		done = failed == nil && item.Done
	}
	if !done {
		return 1
	}
	return 0
}

// killed runs the child and returns the step it died at; "" it came through.
func (b *bench) killed(s deskSpec) string {
	b.t.Helper()
	s.Dir, s.Env = b.clone.Dir, b.env
	spec, err := json.Marshal(s)
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.CommandContext(b.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HOMELAB_DESK_CHILD="+string(spec))
	out, err := cmd.CombinedOutput()
	switch code := cmd.ProcessState.ExitCode(); code {
	case 0:
		return ""
	case -1:
		return strings.TrimSpace(string(out))
	default:
		b.t.Fatalf("%+v: exit %d, %v: %s", s, code, err, out)
		return ""
	}
}

// full makes a task that has everything a task can have, and returns its files.
func (b *bench) full(topic string) (w *gittest.Repo, tip string, files map[string]string) {
	b.t.Helper()
	w = b.start(topic)
	w.Write("a", "1")
	tip = w.Commit("a")
	w.Write("f", "changed\n")
	w.Write("dir/new", "untracked")
	w.Write("prod.env", "PASSWORD=x")
	return w, tip, tree(b.t, w.Dir)
}

func (b *bench) ids() []string {
	entries, _ := os.ReadDir(filepath.Join(b.clone.Dir, ".git", "homelab", "trash"))
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// inPlace fails unless the task is where it was, with all it had, and nothing
// is left over.
func (b *bench) inPlace(when string, w *gittest.Repo, tip string, files map[string]string) {
	b.t.Helper()
	if now := tree(b.t, w.Dir); !maps.Equal(now, files) {
		b.t.Fatalf("%s: files %v, were %v", when, now, files)
	}
	if got := w.Git("status", "--porcelain"); got != " M f\n?? dir/" || w.Git("rev-parse", "HEAD") != tip || w.Git("symbolic-ref", "HEAD") != "refs/heads/anna/a" {
		b.t.Fatalf("%s: %q, %s", when, got, w.Git("log", "-1"))
	}
	o, err := b.desk(b.clone.Dir).Status(b.t.Context(), StatusOptions{})
	if err != nil || len(o.Tasks) != 1 || o.Tasks[0].Missing || len(o.Trash) != 0 || len(o.Warnings) != 0 {
		b.t.Fatalf("%s: %+v, %v", when, o, err)
	}
}

// told fails unless status says where the task is: in its place, or in the
// trash, and with both of the commands that go on if it is between.
func (b *bench) toldWhere(when string, w *gittest.Repo, files map[string]string) {
	b.t.Helper()
	o, err := b.desk(b.clone.Dir).Status(b.t.Context(), StatusOptions{})
	if err != nil {
		b.t.Fatalf("%s: %v", when, err)
	}
	words := strings.Join(o.Warnings, "\n")
	switch there := len(o.Tasks) == 1 && !o.Tasks[0].Missing; {
	case there && len(o.Trash) == 0 && words == "":
		if now := tree(b.t, w.Dir); !maps.Equal(now, files) {
			b.t.Errorf("%s: said to be in its place with %v", when, now)
		}
	case len(o.Tasks) == 1 && len(o.Trash) == 1:
		if id := o.Trash[0].ID; !strings.Contains(words, "broken off") || !strings.Contains(words, "homelab work restore "+id) {
			b.t.Errorf("%s: nothing says how to go on: %q", when, words)
		}
	case len(o.Tasks) == 0 && len(o.Trash) == 1:
		if r := o.Trash[0].Restoring; r != "" && words != "" && !strings.Contains(words, "goes on") {
			b.t.Errorf("%s: %q", when, words)
		}
	default:
		b.t.Errorf("%s: %+v", when, o)
	}
}

// A run that is killed after any step of putting a task away: status says
// where the task is, the next clean ends what was begun, and restore brings
// everything back, ignored files included, with or without that.
func TestCleanKilledAtEachStep(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"restore", "clean", "start"} {
		t.Run(next, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "main")
			w, c, files := b.full("a")
			for n := 1; ; n++ {
				step := b.killed(deskSpec{Clean: "a", DieAt: n})
				if step == "" {
					if n < 7 {
						t.Errorf("only %d steps", n-1)
					}
					return
				}
				b.toldWhere(step, w, files)
				ids := b.ids()
				if len(ids) != 1 {
					t.Fatalf("%s: %v in the trash", step, ids)
				}
				d := b.desk(b.clone.Dir)
				if _, noted := os.Stat(filepath.Join(b.clone.Dir, ".git/homelab/trash", ids[0], trashFile)); next == "restore" && noted != nil {
					b.inPlace(step, w, c, files)
					continue
				}
				switch next {
				case "clean":
					if _, known, _ := d.record("a"); !known {
						break // it was through
					}
					items, err := d.Clean(t.Context(), CleanOptions{Topics: []string{"a"}, Force: true})
					if err != nil || len(items) != 1 || !items[0].Done {
						t.Fatalf("%s: %+v, %v", step, items, err)
					}
					if ids = b.ids(); len(ids) != 1 || items[0].TrashID != ids[0] {
						t.Fatalf("%s: %v in the trash, told %q", step, ids, items[0].TrashID)
					}
				case "start":
					// The same name for something else: what was put away stays so.
					s, err := d.Start(t.Context(), StartOptions{Topic: "a"})
					if err != nil {
						t.Fatalf("%s: %v", step, err)
					}
					ids = b.ids()
					if len(ids) == 0 { // it had not moved
						if !s.Existing {
							t.Errorf("%s: %+v", step, s)
						}
						b.inPlace(step, w, c, files)
						continue
					}
					b.clone.Git("worktree", "remove", "--force", w.Dir)
					b.clone.Git("branch", "--quiet", "-D", "anna/a")
					if err := os.Remove(d.taskFile("a")); err != nil {
						t.Fatal(err)
					}
				}
				item, err := b.desk(b.clone.Dir).Restore(t.Context(), ids[0])
				if err != nil || !item.Done || len(item.Reasons) > 0 {
					t.Fatalf("%s: %+v, %v", step, item, err)
				}
				b.inPlace(step, w, c, files)
			}
		})
	}
}

// And one that is killed after any step of bringing a task back.
func TestRestoreKilledAtEachStep(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	w, c, files := b.full("a")
	for n := 1; ; n++ {
		items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}, Force: true})
		if err != nil || !items[0].Done {
			t.Fatalf("%+v, %v", items, err)
		}
		id := items[0].TrashID
		step := b.killed(deskSpec{Restore: id, DieAt: n})
		if step == "" {
			if n < 10 {
				t.Errorf("only %d steps", n-1)
			}
			b.inPlace("at the end", w, c, files)
			return
		}
		b.toldWhere(step, w, files)
		item, err := b.desk(b.clone.Dir).Restore(t.Context(), id)
		if err != nil || !item.Done || len(item.Reasons) > 0 {
			t.Fatalf("%s: %+v, %v", step, item, err)
		}
		b.inPlace(step, w, c, files)
		if left := b.ids(); len(left) > 0 {
			t.Errorf("%s: left in the trash: %v", step, left)
		}
	}
}

// --force overrides what may be wanted, never what would do harm.
func TestCleanForce(t *testing.T) {
	t.Parallel()
	other := t.TempDir()
	for _, base := range []string{"/dev/shm", "/var/tmp"} {
		dir, err := os.MkdirTemp(base, "homelab-") //nolint:usetesting // another file system than the temporary one
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if same, err := oneFileSystem(dir, other); err == nil && !same {
			other = dir
			break
		}
	}
	unlanded := func(b *bench, phase Phase) {
		j, err := openJournal(t.Context(), filepath.Join(b.clone.Dir, ".git"), "20261120T163000Z-0001")
		if err != nil {
			b.t.Fatal(err)
		}
		if err := j.write(Record{ID: "20261120T163000Z-0001", Phase: phase, Branch: "anna/a", Started: time.Now()}); err != nil {
			b.t.Fatal(err)
		}
		j.close()
	}
	for _, tc := range []struct {
		name   string
		setup  func(b *bench, w *gittest.Repo)
		says   string
		forced bool // --force overrides it
	}{
		{"changed", func(_ *bench, w *gittest.Repo) { w.Write("f", "x") }, "1 changed file(s): f", true},
		{"staged", func(_ *bench, w *gittest.Repo) { w.Write("f", "x"); w.Git("add", "f") }, "1 changed file(s): f", true},
		{"untracked", func(_ *bench, w *gittest.Repo) { w.Write("new", "x") }, "untracked: new", true},
		{"unpublished", func(_ *bench, w *gittest.Repo) { w.Write("a", "x"); w.Commit("a") }, "1 commit on no remote and not landed", true},
		{"unfinished landing", func(b *bench, _ *gittest.Repo) { unlanded(b, Pushing) }, "landing 20261120T163000Z-0001 is not finished (pushing)", true},
		{"open pull request", func(b *bench, w *gittest.Repo) {
			w.Write("a", "x")
			w.Commit("a")
			w.Git("push", "--quiet", "origin", "HEAD")
			unlanded(b, Proposed)
		}, "is not finished (proposed)", true},
		{"cherry-pick in progress", func(_ *bench, w *gittest.Repo) { w.Write("../../.git/worktrees/a/CHERRY_PICK_HEAD", "x") }, "a cherry-pick is in progress", false},
		{"bisect in progress", func(_ *bench, w *gittest.Repo) { w.Git("bisect", "start") }, "a bisect is in progress", false},
		{"another file system", func(b *bench, w *gittest.Repo) {
			if ok, err := oneFileSystem(other, b.clone.Dir); err != nil || ok {
				b.t.Skip("there is only one file system here")
			}
			b.clone.Git("worktree", "remove", w.Dir)
			b.clone.Git("worktree", "add", "--quiet", filepath.Join(other, "a"), "anna/a")
		}, "it is on another file system than", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, "main")
			w := b.start("a")
			tc.setup(b, w)
			before := b.state()
			items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}})
			if err != nil || items[0].Done || !strings.Contains(strings.Join(items[0].Reasons, "; "), tc.says) {
				t.Errorf("%+v, %v; want %q", items, err, tc.says)
			}
			if after := b.state(); after != before {
				t.Errorf("changed:\n%s\nto:\n%s", before, after)
			}
			items, err = b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}, Force: true})
			if err != nil || items[0].Done != tc.forced || tc.forced != (len(items[0].Reasons) == 0) {
				t.Errorf("with --force: %+v, %v", items, err)
			}
			if !tc.forced && b.state() != before {
				t.Errorf("changed:\n%s\nto:\n%s", before, b.state())
			}
		})
	}
}

// A rename that fails in spite of all: the task stays as it was, and nothing
// is left in the trash.
func TestCleanRenameFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, "main")
	w, c, files := b.full("a")
	b.clone.Write(".worktrees/.trash", "in the way")
	items, err := b.desk(b.clone.Dir).Clean(t.Context(), CleanOptions{Topics: []string{"a"}, Force: true})
	if err != nil || items[0].Done || !strings.Contains(strings.Join(items[0].Reasons, ""), "cannot be moved") {
		t.Errorf("%+v, %v", items, err)
	}
	b.inPlace("after it failed", w, c, files)
}
