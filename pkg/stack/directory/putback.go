package directory

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

// Kept is a generated file of a deployment directory, as a revision keeps it.
type Kept struct {
	Path   string // slash-separated, relative to the directory
	Data   []byte
	Mode   fs.FileMode
	Secret bool // nobody else's to read
}

// Snapshot reads the generated files of a directory: what its sources were made
// into, as it is on the disk. Data of volumes, deployment.yml and the files of
// the kind node are not among them: a cluster keeps its mounts, and data is
// never put back.
func Snapshot(d *file.Directory) ([]Kept, error) {
	secret := []string{"config.env", "kubeconfig.yml"}
	names := []string{"spec.yml", "stack.yml", "config.env", "kubeconfig.yml"}
	for _, top := range []string{"compose", "compose-jobs", "config", "configmaps", "pods", "hooks"} {
		names = append(names, below(d.Path, top)...)
	}
	for _, n := range sortedKeys(d.Hashes) {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	var out []Kept
	for _, n := range names {
		if !puttable(d, n) {
			continue
		}
		path := filepath.Join(d.Path, filepath.FromSlash(n))
		st, err := os.Lstat(path)
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		data, err := read(path)
		if err != nil {
			return nil, err
		}
		out = append(out, Kept{Path: n, Data: data, Mode: st.Mode().Perm(), Secret: slices.Contains(secret, n)})
	}
	slices.SortFunc(out, func(a, b Kept) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// below lists the files in a directory of the deployment, slash-separated.
func below(dir, top string) []string {
	var out []string
	_ = filepath.WalkDir(filepath.Join(dir, top), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // what cannot be read was not generated
		}
		if rel, err := filepath.Rel(dir, path); err == nil && e.Type().IsRegular() {
			out = append(out, filepath.ToSlash(rel))
		}
		return nil
	})
	return out
}

// puttable tells whether a file may be kept and put back: it was generated, and
// nothing that runs writes it.
func puttable(d *file.Directory, name string) bool {
	top, _, _ := strings.Cut(name, "/")
	switch {
	case !filepath.IsLocal(filepath.FromSlash(name)),
		slices.Contains([]string{"data", file.StateDir, "deployment.yml", kindConfig, kindConfig + ".new", render.HighMemlockFile}, top),
		strings.HasSuffix(name, ".bak"), strings.HasSuffix(name, tmpSuffix):
		return false
	}
	return !slices.ContainsFunc(d.Spec.Volumes, func(v file.Volume) bool {
		if v.Path == "" || filepath.IsAbs(v.Path) || strings.HasPrefix(v.Path, "~") {
			return false
		}
		at := filepath.ToSlash(filepath.Clean(v.Path))
		return name == at || strings.HasPrefix(name, at+"/")
	})
}

// PutBack makes kept files a directory's generated files again, as an update
// does with new ones: through a stage and the journal, each replaced file kept
// beside. o.Guard is asked before anything is replaced. The lock must be held.
// SpecFile, Stack and StackDir of o are not used.
func PutBack(_ context.Context, o Options, kept []Kept) (*Outcome, error) {
	o.Update, o.Locked = true, true
	if o.Render == nil {
		o.Render = render.Render
	}
	dir, err := filepath.EvalSymlinks(o.Env.Path(o.Dir))
	if err != nil {
		return nil, fault.Usagef("", "%s cannot be read", o.Dir).Because(reason(err)).From(err)
	}
	m := &maker{o: o, out: &Outcome{Dir: dir}, dir: dir, tree: &tree{env: o.Env, files: map[string]node{}}}
	for _, k := range kept {
		m.tree.put(k.Path, node{data: k.Data, mode: k.Mode, secret: k.Secret}, file.Pos{})
		if k.Path == "spec.yml" {
			if m.spec, _, err = file.ParseSpec(filepath.Join(o.Dir, k.Path), k.Data); err != nil {
				return m.out, err
			}
		}
	}
	if m.spec == nil {
		return m.out, fault.New(fault.Unsafe, "the revision has no spec.yml", "homelab deployment history --dir "+o.Dir)
	}
	m.o.SpecFile, m.tree.spec = filepath.Join(o.Dir, "spec.yml"), m.spec
	return m.out, m.update()
}
