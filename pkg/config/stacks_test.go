package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Where stacks are found, and which level says so.
func TestStacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file string
		env        map[string]string
		roots      []string
		base, from string // from: the source of base
		bad        string
	}{
		{name: "nothing", env: map[string]string{"HOME": "/home/ada"}, base: "/home/ada/cerc", from: "default"},
		{name: "no home", env: map[string]string{}, from: "default"},
		{
			name: "file", file: "stacks:\n  roots: [~/a, /b/, c]\n", env: map[string]string{"HOME": "/home/ada"},
			roots: []string{"/home/ada/a", "/b", "DIR/c"}, base: "/home/ada/cerc", from: "default",
		},
		{name: "variable", env: map[string]string{"HOME": "/home/ada", "CERC_REPO_BASE_DIR": "~/src"}, base: "/home/ada/src", from: "CERC_REPO_BASE_DIR"},
		{name: "relative variable", env: map[string]string{"HOME": "/home/ada", "CERC_REPO_BASE_DIR": "src"}, bad: "CERC_REPO_BASE_DIR must be an absolute path"},
		{name: "twice", file: "stacks: {roots: [/a, /a]}\n", env: map[string]string{"HOME": "/h"}, bad: "stacks.roots[1] repeats"},
		{name: "no list", file: "stacks: {roots: /a}\n", env: map[string]string{"HOME": "/h"}, bad: "stacks.roots must be a list"},
		{name: "slip", file: "stacks: {root: [/a]}\n", env: map[string]string{"HOME": "/h"}, bad: `nearest known key: "roots"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "config.yaml")
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			e, err := Load(Options{Env: FromMap(c.env), Flags: Flags{Config: &path}})
			if c.bad != "" {
				if err == nil || !strings.Contains(err.Error(), c.bad) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(c.roots)
			for i := range want {
				want[i] = strings.Replace(want[i], "DIR", dir, 1)
			}
			if !slices.Equal(e.StackRoots.V, want) || e.RepoBase.V != c.base || e.RepoBase.Source.String() != c.from {
				t.Errorf("roots %q, base %q from %s", e.StackRoots.V, e.RepoBase.V, e.RepoBase.Source)
			}
			if len(want) > 0 && e.StackRoots.Source.String() != path+":2" {
				t.Errorf("from %s", e.StackRoots.Source)
			}
		})
	}
}
