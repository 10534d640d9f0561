package file

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
)

// Env is what the files' words mean on this machine.
type Env struct {
	Home     string   // what ~ stands for; "" when unknown
	WorkDir  string   // what relative references start from, absolute
	RepoBase string   // where repositories are checked out; absolute
	Roots    []string // where stacks are looked for by name, in order; absolute
}

// dataDir is where the original tool keeps the stacks that come with it, below
// the directory of checkouts.
const dataDir = "stack-orchestrator/stack_orchestrator/data"

// roots returns all roots in the order they are asked.
func (e Env) roots() []string {
	out := slices.Clone(e.Roots)
	if e.RepoBase != "" {
		out = append(out, filepath.Join(e.RepoBase, dataDir))
	}
	return out
}

// Path returns where p points: ~ is the home directory, and a relative path
// starts in the working directory.
func (e Env) Path(p string) string {
	return e.PathFrom(e.WorkDir, p)
}

// PathFrom is Path with another start for relative paths.
func (e Env) PathFrom(dir, p string) string {
	if rest, ok := strings.CutPrefix(p, "~"); ok && e.Home != "" && (rest == "" || rest[0] == '/') {
		return filepath.Join(e.Home, rest)
	}
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(dir, p)
}

const stackFile = "stack.yml"

// Find returns the directory of the stack ref names, absolute, and its root:
// the directory is ROOT/stacks/NAME, "" when it lies elsewhere. A path wins
// over a name. Not found: *fault.Error, Usage, with the places tried.
func (e Env) Find(ref string) (dir, root string, err error) {
	if ref == "" {
		return "", "", fault.Usagef("", "no stack is named")
	}
	var tried []string
	look := func(dir string) bool {
		if slices.Contains(tried, dir) {
			return false
		}
		tried = append(tried, dir)
		st, err := os.Stat(filepath.Join(dir, stackFile))
		return err == nil && st.Mode().IsRegular()
	}
	if dir := e.Path(ref); look(dir) {
		return dir, rootOf(dir), nil
	}
	if filepath.IsLocal(ref) {
		for _, root := range e.roots() {
			if dir := filepath.Join(root, "stacks", ref); look(dir) {
				return dir, rootOf(dir), nil
			}
		}
	}
	return "", "", fault.Usagef("homelab config show", "there is no stack %s", quoted(ref)).
		Because("no " + stackFile + " in " + strings.Join(tried, ", "))
}

// rootOf returns ROOT of ROOT/stacks/NAME, "" for any other directory.
func rootOf(dir string) string {
	if parent := filepath.Dir(dir); filepath.Base(parent) == "stacks" {
		return filepath.Dir(parent)
	}
	return ""
}

// rootsOf returns the stack's own root and then the others.
func (e Env) rootsOf(s *Stack) []string {
	var out []string
	if s.Root != "" {
		out = append(out, s.Root)
	}
	for _, r := range e.roots() {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// PodFile returns the compose file of a pod. The error names the places tried.
func (e Env) PodFile(s *Stack, p Pod) (string, error) {
	if p.Repository != "" {
		dir := e.podDir(p)
		return firstFile("pod "+quoted(p.Name), []string{
			filepath.Join(dir, "docker-compose.yml"), filepath.Join(dir, "docker-compose.yaml"),
		})
	}
	return e.composeFile(s, "pod", "compose", p.Name)
}

// JobFile returns the compose file of a job. The error names the places tried.
func (e Env) JobFile(s *Stack, job string) (string, error) {
	return e.composeFile(s, "job", "compose-jobs", job)
}

// podDir is where the files of a pod of another repository are.
func (e Env) podDir(p Pod) string {
	repo, _, _ := strings.Cut(p.Repository, "@")
	repo = strings.TrimSuffix(strings.TrimRight(repo, "/"), ".git")
	return filepath.Join(e.RepoBase, filepath.Base(repo), p.Path)
}

// PodScript returns a script of a pod of another repository, absolute.
func (e Env) PodScript(p Pod, script string) string { return filepath.Join(e.podDir(p), script) }

// HookDirs returns the directories that may hold hooks of the stack: its own,
// then those of pods of other repositories.
func (e Env) HookDirs(s *Stack) []string {
	out := []string{filepath.Join(s.Dir, "deploy")}
	for _, p := range s.Pods {
		if p.Repository != "" {
			if dir := filepath.Join(e.podDir(p), "stack", "deploy"); !slices.Contains(out, dir) {
				out = append(out, dir)
			}
		}
	}
	return out
}

func (e Env) composeFile(s *Stack, what, dir, name string) (string, error) {
	var places []string
	for _, root := range e.rootsOf(s) {
		base := filepath.Join(root, dir, "docker-compose-"+name)
		places = append(places, base+".yml", base+".yaml")
	}
	return firstFile(what+" "+quoted(name), places)
}

func firstFile(what string, places []string) (string, error) {
	for _, p := range places {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p, nil
		}
	}
	if len(places) == 0 {
		return "", fault.Usagef("homelab config show", "%s has no compose file", what).
			Because("the stack does not lie in ROOT/stacks, and no stacks.roots are configured")
	}
	return "", fault.Usagef("", "%s has no compose file", what).Because("looked for " + strings.Join(places, ", "))
}

// ConfigDir returns ROOT/config/NAME, false when no root has it.
func (e Env) ConfigDir(s *Stack, name string) (string, bool) {
	for _, root := range e.rootsOf(s) {
		p := filepath.Join(root, "config", name)
		if _, err := os.Stat(p); err == nil {
			return p, true
		}
	}
	return "", false
}

// LoadStack finds and reads a stack. The error is *fault.Error when there is
// none, else *Problems.
func (e Env) LoadStack(ref string) (*Stack, []Notice, error) {
	dir, root, err := e.Find(ref)
	if err != nil {
		return nil, nil, err
	}
	name := filepath.Join(dir, stackFile)
	data, err := readFile(name)
	if err != nil {
		return nil, nil, err
	}
	s, notices, err := ParseStack(name, data)
	if err != nil {
		return nil, notices, err
	}
	s.Dir, s.Root, s.Name = dir, root, filepath.Base(dir)
	return s, notices, nil
}

// readFile reads a file a person wrote; what stops it is a problem of theirs.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the files a person names are what this program reads
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close() //nolint:errcheck // read only
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, unreadable(path, err)
	case st.IsDir():
		return nil, problems([]Problem{{File: path, Message: "is a directory, not a file"}})
	case st.Size() > maxFile:
		return nil, problems([]Problem{{File: path, Message: "is larger than 1024 KiB"}})
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return data, nil
}

func unreadable(path string, err error) error {
	why := err.Error()
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		why = pe.Err.Error()
	}
	if errors.Is(err, fs.ErrNotExist) {
		why = "does not exist"
	} else {
		why = "cannot be read: " + why
	}
	return problems([]Problem{{File: path, Message: why}})
}
