package directory

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/stack/render"
)

// overlay shows a directory as it will be: the stage's files where they will
// lie, over what is there and stays.
type overlay struct {
	dir, stage string
	gone       map[string]bool // absolute paths that will not be there any more
}

var _ render.Files = overlay{}

// at returns where what will be at path is now.
func (o overlay) at(path string) string {
	rel, ok := o.inside(path)
	if !ok {
		return path
	}
	if staged := filepath.Join(o.stage, rel); exists(staged) {
		return staged
	}
	if o.gone[filepath.Clean(path)] {
		return filepath.Join(o.stage, rel) // which is not there
	}
	return path
}

func (o overlay) inside(path string) (string, bool) {
	rel, err := filepath.Rel(o.dir, path)
	return rel, err == nil && filepath.IsLocal(rel)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (o overlay) Lstat(path string) (fs.FileInfo, error) { return os.Lstat(o.at(path)) }
func (o overlay) Stat(path string) (fs.FileInfo, error)  { return os.Stat(o.at(path)) }
func (o overlay) ReadFile(path string) ([]byte, error)   { return os.ReadFile(o.at(path)) }

func (o overlay) ReadDir(path string) ([]fs.DirEntry, error) {
	out, err := os.ReadDir(o.at(path))
	if err != nil || o.at(path) == path {
		return out, err
	}
	// Besides what is staged, what a person put there stays.
	there, err := os.ReadDir(path)
	if err != nil {
		return out, nil //nolint:nilerr // there is only the stage
	}
	for _, e := range there {
		if !o.gone[filepath.Join(path, e.Name())] && !slices.ContainsFunc(out, func(x fs.DirEntry) bool { return x.Name() == e.Name() }) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

func (o overlay) EvalSymlinks(path string) (string, error) {
	actual, err := filepath.EvalSymlinks(o.at(path))
	if err != nil {
		return "", err
	}
	stage, err := filepath.EvalSymlinks(o.stage)
	if err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(stage, actual); err == nil && filepath.IsLocal(rel) {
		return filepath.Join(o.dir, rel), nil
	}
	return actual, nil
}
