package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"homelab/internal/golden"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/about"
	"homelab/verbs/verb"
)

// inProcess runs a command line with an empty environment, outside of any
// checkout.
func inProcess(t *testing.T, args ...string) (code int, out, err string) {
	t.Helper()
	streams, o, e := ui.Test("")
	code = run(t.Context(), args, process{streams: streams, dir: t.TempDir()})
	return code, o.String(), e.String()
}

// verbsOf lists the verbs below c, hidden ones left out.
func verbsOf(c *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, sub := range c.Commands() {
		if _, is := verb.InfoOf(sub); (is || !sub.HasSubCommands()) && !sub.Hidden {
			out = append(out, sub)
		}
		out = append(out, verbsOf(sub)...)
	}
	return out
}

// The manifest is the tree: nothing is missing, nothing is made up, and every
// verb says what it needs to.
func TestManifest(t *testing.T) {
	code, out, _ := inProcess(t, "manifest", "--json")
	var m struct {
		ui.Header
		Verbs     []about.Verb `json:"verbs"`
		ExitCodes []about.Code `json:"exit_codes"`
	}
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil || code != 0 {
		t.Fatalf("code %d: %v", code, err)
	}
	if diff := cmp.Diff(about.Codes(), m.ExitCodes); diff != "" {
		t.Error(diff)
	}
	listed := map[string]about.Verb{}
	for _, v := range m.Verbs {
		listed[v.Path] = v
	}
	if len(listed) != len(m.Verbs) {
		t.Error("a verb is listed twice")
	}
	for _, c := range verbsOf(tree()) {
		path := strings.TrimPrefix(c.CommandPath(), "homelab ")
		v, ok := listed[path]
		delete(listed, path)
		switch {
		case !ok:
			t.Errorf("%s is not in the manifest", path)
			continue
		case v.Summary == "" || strings.HasSuffix(v.Summary, "."):
			t.Errorf("%s: summary %q", path, v.Summary)
		case v.Tier != verb.Read && v.Tier != verb.Write:
			t.Errorf("%s: tier %q", path, v.Tier)
		case v.Kind == nil || *v.Kind == "":
			t.Errorf("%s has no kind of result", path)
		case !slices.Contains(v.ExitCodes, 0) || !slices.Contains(v.ExitCodes, 64):
			t.Errorf("%s: exit codes %v", path, v.ExitCodes)
		case v.Example == "":
			t.Errorf("%s has no example", path)
		}
		for line := range strings.Lines(strings.ReplaceAll(v.Example, "\\\n", " ")) {
			if line = strings.TrimSpace(line); line != "" {
				if err := pasteable(line); err != nil {
					t.Errorf("%s: example: %v", path, err)
				}
			}
		}
		for _, f := range v.Flags {
			if f.Usage == "" || c.Flag(f.Name) == nil {
				t.Errorf("%s --%s: %q", path, f.Name, f.Usage)
			}
		}
	}
	for path := range listed {
		t.Errorf("%s is in the manifest and not in the tree", path)
	}
}

// One verb's entry pins the shape.
func TestManifestShape(t *testing.T) {
	_, out, _ := inProcess(t, "manifest", "--json")
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	if err := json.Unmarshal(m["verbs"], &all); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(v map[string]any) bool { return v["path"] == "ci list" })
	shape, err := json.MarshalIndent(map[string]any{"keys": slices.Sorted(maps.Keys(m)), "ci list": all[i]}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "shape-manifest", append(shape, '\n'))
}

// Help needs nothing: no configuration, no checkout, no git, no network.
func TestHelpOffline(t *testing.T) {
	t.Setenv("PATH", "")
	all := verbsOf(tree())
	if len(all) < 12 {
		t.Fatalf("%d verbs", len(all))
	}
	for _, c := range all {
		words := strings.Fields(c.CommandPath())[1:]
		for _, args := range [][]string{append(slices.Clone(words), "--help"), append([]string{"help"}, words...), append([]string{"--json"}, append(slices.Clone(words), "-h")...)} {
			code, out, story := inProcess(t, args...)
			if code != 0 || story != "" || !strings.Contains(out, "Usage:\n  homelab "+strings.Join(words, " ")) || !strings.Contains(out, "--json") {
				t.Errorf("%v: code %d\n%s%s", args, code, out, story)
			}
		}
	}
}

// scripts are all lines of all scripts that run the program.
func scripts(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "script", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var out []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "homelab ") && !strings.HasPrefix(line, "#") {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return out
}

// Every flag has a script: with one of the verbs for which it means the same.
func TestEveryFlagHasAScript(t *testing.T) {
	lines := scripts(t)
	type flag struct{ name, short, usage string }
	used := map[flag]bool{}
	for _, v := range verbs() {
		for _, f := range v.Flags {
			key := flag{f.Name, f.Shorthand, f.Usage}
			pattern := `(^| )--` + regexp.QuoteMeta(f.Name) + `( |=|$)`
			if f.Shorthand != "" {
				pattern += `|(^| )-` + f.Shorthand + `( |$)`
			}
			re := regexp.MustCompile(pattern)
			used[key] = used[key] || slices.ContainsFunc(lines, func(l string) bool {
				_, rest, ok := strings.Cut(l, "homelab "+v.Path)
				return ok && re.MatchString(rest)
			})
		}
	}
	for f, ok := range used {
		if !ok {
			t.Errorf("no script uses --%s (%s)", f.name, f.usage)
		}
	}
}

// Every exit code that a verb can end with is asserted by a script of one that
// can.
func TestEveryExitCodeHasAScript(t *testing.T) {
	lines := scripts(t)
	can := map[int][]string{}
	for _, v := range verbs() {
		for _, code := range v.ExitCodes {
			can[code] = append(can[code], v.Path)
		}
	}
	for code, paths := range can {
		re := regexp.MustCompile(`^(exits|verdict) ` + strconv.Itoa(code) + ` `)
		if !slices.ContainsFunc(lines, func(l string) bool {
			return re.MatchString(l) && slices.ContainsFunc(paths, func(p string) bool { return strings.Contains(l, "homelab "+p) })
		}) {
			t.Errorf("no script ends with %d", code)
		}
	}
	// And each code of a CI verb by one of them.
	for _, v := range verbs() {
		for _, code := range v.ExitCodes {
			if !strings.HasPrefix(v.Path, "ci ") || code == fault.Bug.Code() || code == fault.Interrupted.Code() || code == fault.Terminated.Code() {
				continue
			}
			re := regexp.MustCompile(`^(exits|verdict) ` + strconv.Itoa(code) + ` `)
			if !slices.ContainsFunc(lines, func(l string) bool { return re.MatchString(l) && strings.Contains(l, "homelab "+v.Path) }) {
				t.Errorf("no script of %s ends with %d", v.Path, code)
			}
		}
	}
}

// A bug ends in one result as well: 70, the stack only under --verbose.
func TestBug(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"version", "--verbose"}} {
		streams, out, story := ui.Test("")
		a := &app{process: process{streams: streams}, flags: &verb.Flags{}, ran: func(*cobra.Command) {}}
		root := a.root()
		c, _, err := root.Find(args)
		if err != nil {
			t.Fatal(err)
		}
		if err := streams.Configure(a.settings(a.guess(args))); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(args, "--verbose") {
			_ = streams.Configure(ui.Settings{Verbose: true})
		}
		code := a.bug(c, "index out of range", []byte("goroutine 1 [running]:\nmain.main()\n"))
		if code != 70 || bytes.Count(out.Bytes(), []byte("\n")) != 1 || !strings.Contains(out.String(), "index out of range") {
			t.Errorf("%v: code %d, %q", args, code, out)
		}
		if strings.Contains(story.String(), "goroutine 1") != slices.Contains(args, "--verbose") {
			t.Errorf("%v: %s", args, story)
		}
	}
}
