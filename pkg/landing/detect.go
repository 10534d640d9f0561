package landing

import (
	"context"
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// marker is a file that says how the directory it lies in is tested.
type marker struct {
	dir, kind string // "go", "cargo", "npm", "make check", "make test"
}

const goTest = "go test ./..."

// command is what tests a marker's directory.
func (m marker) command() Command {
	run := map[string]string{
		"go": goTest, "cargo": "cargo test", "npm": "npm test", "make check": "make check", "make test": "make test",
	}[m.kind]
	return Command{Run: run, Dir: m.dir}
}

// nearest returns the marker closest above a path; in one directory go.mod
// comes before Cargo.toml, package.json and Makefile.
func nearest(markers []marker, name string) (marker, bool) {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if dir == "." {
			dir = ""
		}
		for _, kind := range []string{"go", "cargo", "npm", "make check", "make test"} {
			if m := (marker{dir, kind}); slices.Contains(markers, m) {
				return m, true
			}
		}
		if dir == "" {
			return marker{}, false
		}
	}
}

// survey is what a tree's own files say about how it is tested.
type survey struct {
	files   []string
	markers []marker // above the paths that change
}

// has says whether a directory has a file.
func (s survey) has(dir string) bool {
	return dir == "" || slices.ContainsFunc(s.files, func(p string) bool { return strings.HasPrefix(p, dir+"/") })
}

// detection finds what tests each changed path, by the candidate's own markers
// and by the base's: one that a branch puts nearer to its changes adds a
// command and takes none away.
func (l *lander) detection(ctx context.Context) ([]Command, error) {
	here, err := l.survey(ctx, l.plan.tree)
	if err != nil {
		return nil, err
	}
	base, err := l.survey(ctx, string(l.out.BaseBefore))
	if err != nil {
		return nil, err
	}
	commands, lost, uncovered := detectBoth(here, base, l.plan.changed)
	switch {
	case uncovered != "":
		return nil, l.unverifiable("nothing says how to verify %s", uncovered)
	case lost != nil:
		return nil, l.unverifiable("%s is verified with %s, which this branch takes away", l.out.Base, named([]Command{*lost}))
	}
	for _, c := range commands {
		if c.Run == goTest && !goTests(here.files, c.Dir) {
			return nil, l.unverifiable("%s has no tests at all", path.Join(c.Dir, "go.mod"))
		}
	}
	return commands, nil
}

// detectBoth returns what detect says of either tree, one command of each kind
// and directory. lost is a command of the base's that the candidate cannot run
// any more; directories that are gone as a whole have nothing left to test.
func detectBoth(here, base survey, changed []string) (commands []Command, lost *Command, uncovered string) {
	still := slices.DeleteFunc(slices.Clone(base.markers), func(m marker) bool { return !here.has(m.dir) })
	var found []marker
	for _, p := range changed {
		mine, ok := nearest(here.markers, p)
		theirs, had := nearest(still, p)
		if !ok && !had {
			return nil, nil, p
		}
		if ok && !slices.Contains(found, mine) {
			found = append(found, mine)
		}
		if !had || slices.Contains(found, theirs) {
			continue
		}
		if !slices.Contains(here.markers, theirs) && (theirs.kind != "go" || !inModule(here.markers, theirs.dir)) {
			c := theirs.command()
			return nil, &c, ""
		}
		found = append(found, theirs)
	}
	slices.SortStableFunc(found, func(a, b marker) int { return strings.Compare(a.dir, b.dir) })
	for _, m := range found {
		commands = append(commands, m.command())
	}
	return commands, nil, ""
}

// inModule says whether a go.mod lies at or above a directory: go test runs
// there.
func inModule(markers []marker, dir string) bool {
	return slices.ContainsFunc(markers, func(m marker) bool {
		return m.kind == "go" && (m.dir == "" || m.dir == dir || strings.HasPrefix(dir, m.dir+"/"))
	})
}

// survey reads the files of a tree that say how a directory is tested, above
// the paths that change.
func (l *lander) survey(ctx context.Context, tree string) (survey, error) {
	all, err := l.Repo.Paths(ctx, tree)
	if err != nil {
		return survey{}, err
	}
	above := map[string]bool{}
	for _, p := range l.plan.changed {
		for dir := path.Dir(p); ; dir = path.Dir(dir) {
			above[dir] = true
			if dir == "." {
				break
			}
		}
	}
	out := survey{files: all}
	for _, p := range all {
		dir := path.Dir(p)
		if !above[dir] {
			continue
		}
		kinds, err := l.kinds(ctx, tree, p)
		if err != nil {
			return survey{}, err
		}
		if dir == "." {
			dir = ""
		}
		for _, k := range kinds {
			out.markers = append(out.markers, marker{dir, k})
		}
	}
	return out, nil
}

// goTests says whether a module has a test file that is no nested module's.
func goTests(all []string, dir string) bool {
	var nested []string
	for _, p := range all {
		if d := path.Dir(p); path.Base(p) == "go.mod" && d != "." && d != dir && (dir == "" || strings.HasPrefix(d, dir+"/")) {
			nested = append(nested, d+"/")
		}
	}
	return slices.ContainsFunc(all, func(p string) bool {
		return strings.HasSuffix(p, "_test.go") && (dir == "" || strings.HasPrefix(p, dir+"/")) &&
			!slices.ContainsFunc(nested, func(d string) bool { return strings.HasPrefix(p, d) })
	})
}

// kinds returns what a file says about how its directory is tested.
func (l *lander) kinds(ctx context.Context, tree, file string) ([]string, error) {
	name := path.Base(file)
	switch name {
	case "go.mod":
		return []string{"go"}, nil
	case "Cargo.toml":
		return []string{"cargo"}, nil
	case "package.json", "Makefile":
	default:
		return nil, nil
	}
	data, err := l.Repo.TreeFile(ctx, tree, file)
	if err != nil {
		return nil, err
	}
	if name == "package.json" {
		var p struct {
			Scripts map[string]string `json:"scripts"`
		}
		if json.Unmarshal(data, &p) == nil && p.Scripts["test"] != "" {
			return []string{"npm"}, nil
		}
		return nil, nil
	}
	var kinds []string
	for line := range strings.Lines(string(data)) {
		for _, target := range []string{"check", "test"} {
			if rest, ok := strings.CutPrefix(line, target); ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), ":") && !strings.HasPrefix(strings.TrimLeft(rest, " \t"), ":=") {
				kinds = append(kinds, "make "+target)
			}
		}
	}
	return kinds, nil
}
