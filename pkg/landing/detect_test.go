package landing

import (
	"strings"
	"testing"

	"homelab/pkg/fault"
)

// What the base alone would have run still runs, whatever a branch puts nearer
// to its changes.
func TestDetectBoth(t *testing.T) {
	files := []string{"x", "cli/x", "cli/sub/x", "web/x", "Makefile"}
	tree := func(markers ...marker) survey { return survey{files: files, markers: markers} }
	root := marker{"", "make test"}
	for _, tc := range []struct {
		name            string
		here, base      survey
		changed         []string
		want, lost, not string
	}{
		{"the same", tree(root), tree(root), []string{"x", "cli/x"}, "make test", "", ""},
		{"a nearer Makefile", tree(root, marker{"cli", "make test"}), tree(root), []string{"cli/x"}, "make test; make test (cli)", "", ""},
		{"a nearer go.mod", tree(root, marker{"cli", "go"}), tree(root), []string{"cli/x", "cli/go.mod"}, "make test; go test ./... (cli)", "", ""},
		{"a kind that comes first", tree(root, marker{"", "npm"}), tree(root), []string{"x"}, "npm test; make test", "", ""},
		{"another target", tree(root, marker{"", "make check"}), tree(root), []string{"x"}, "make check; make test", "", ""},
		{"the base's went", tree(), tree(root), []string{"x"}, "", "make test", ""},
		{"the base's was replaced", tree(marker{"", "npm"}), tree(root), []string{"x"}, "", "make test", ""},
		{"a module became part of the outer one", tree(marker{"", "go"}), tree(marker{"", "go"}, marker{"cli", "go"}), []string{"cli/x"}, "go test ./...; go test ./... (cli)", "", ""},
		{"the directory went as a whole", tree(root), tree(root, marker{"old", "go"}), []string{"old/go.mod"}, "make test", "", ""},
		{"the base has nothing", tree(marker{"", "go"}), tree(), []string{"x"}, "go test ./...", "", ""},
		{"nothing", tree(marker{"cli", "go"}), tree(), []string{"cli/x", "web/x"}, "", "", "web/x"},
	} {
		got, lost, not := detectBoth(tc.here, tc.base, tc.changed)
		was := ""
		if lost != nil {
			was = named([]Command{*lost})
		}
		if named(got) != tc.want || was != tc.lost || not != tc.not {
			t.Errorf("%s: %q, lost %q, not %q", tc.name, named(got), was, not)
		}
	}
}

func TestGoTests(t *testing.T) {
	for _, tc := range []struct {
		all  []string
		dir  string
		want bool
	}{
		{[]string{"go.mod", "a/a_test.go"}, "", true},
		{[]string{"go.mod", "a/go.mod", "a/a_test.go"}, "", false}, // not what go test runs at the root
		{[]string{"go.mod", "a/go.mod", "a/a_test.go"}, "a", true},
		{[]string{"a/go.mod", "a/a.go", "b_test.go"}, "a", false},
	} {
		if got := goTests(tc.all, tc.dir); got != tc.want {
			t.Errorf("%v in %q: %v", tc.all, tc.dir, got)
		}
	}
}

// A branch with a failing test brings a Makefile of its own, nearer to it.
func TestBranchCannotNarrowTheDetectedGate(t *testing.T) {
	t.Parallel()
	for _, nested := range []struct{ name, file, content string }{
		{"Makefile", "sub/Makefile", "test:\n\ttrue\n"},
		{"package.json", "sub/package.json", `{"scripts": {"test": "true"}}`},
		{"go.mod", "sub/go.mod", "module sub\n"},
	} {
		t.Run(nested.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			w.someone(rulesFile, "{}")
			w.someone("Makefile", "test:\n\ttest ! -e sub/broken\n")
			c := w.clone("anna/fan", "sub/broken")
			c.Write(nested.file, nested.content)
			c.Write("sub/sub_test.go", "package sub\n")
			c.Commit("a gate of its own")
			w.unchanged(c, func() {
				r, s := w.land(c, Options{})
				wants(t, r, s, fault.Failed, "")
				if !strings.Contains(r.Reason, "make test failed") {
					t.Errorf("%s\n%s", r.Reason, s)
				}
			})
		})
	}
	t.Run("taken away", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "main")
		w.someone(rulesFile, "{}")
		w.someone("Makefile", "test:\n\ttest ! -e broken\n")
		c := w.clone("anna/fan", "broken")
		c.Write("Makefile", "check:\n\ttrue\n")
		c.Commit("another target")
		w.unchanged(c, func() {
			r, s := w.land(c, Options{})
			wants(t, r, s, fault.Usage, "")
			if !strings.Contains(r.Reason, "main is verified with make test, which this branch takes away") {
				t.Error(r.Reason)
			}
		})
	})
}
