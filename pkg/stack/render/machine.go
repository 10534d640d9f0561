package render

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Machine is what a render reads of the machine it runs on: the files that ship
// with a stack. The zero value is this machine without a home directory.
type Machine struct {
	Home    string // what "~" stands for; "": a path with it is a mistake
	WorkDir string // where relative paths of ca-certificates are looked for after the directory itself; "": nowhere
	Files   Files  // nil: the machine's own
}

// Files is a file system. Paths are absolute; errors are those of package os.
type Files interface {
	Lstat(path string) (fs.FileInfo, error)
	Stat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error) // sorted by name
	ReadFile(path string) ([]byte, error)
	EvalSymlinks(path string) (string, error)
}

// diskFiles is the machine's own file system.
type diskFiles struct{}

var _ Files = diskFiles{}

func (diskFiles) Lstat(path string) (fs.FileInfo, error)     { return os.Lstat(path) }
func (diskFiles) Stat(path string) (fs.FileInfo, error)      { return os.Stat(path) }
func (diskFiles) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }

// ReadFile reads what a stack names; naming it is how a person says that it may be read.
func (diskFiles) ReadFile(path string) ([]byte, error)     { return os.ReadFile(path) } //nolint:gosec // G304: the path is the file's meaning
func (diskFiles) EvalSymlinks(path string) (string, error) { return filepath.EvalSymlinks(path) }

func (m Machine) files() Files {
	if m.Files == nil {
		return diskFiles{}
	}
	return m.Files
}

// expand writes "~" and "~/x" out; every other path is returned as it is.
func (m Machine) expand(path string) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok && path != "~" {
		return "", errors.New("only ~ itself and ~/ are understood, not the home of another user")
	}
	if !ok {
		rest = ""
	}
	if m.Home == "" {
		return "", errors.New("the home directory is not known")
	}
	return filepath.Join(m.Home, rest), nil
}

// real returns path cleaned and with the links of its existing part resolved.
func (m Machine) real(path string) string {
	path = filepath.Clean(path)
	rest := ""
	for p := path; ; p = filepath.Dir(p) {
		if r, err := m.files().EvalSymlinks(p); err == nil {
			return filepath.Join(r, rest)
		}
		if p == filepath.Dir(p) {
			return path
		}
		rest = filepath.Join(filepath.Base(p), rest)
	}
}

// below returns path relative to root, by whole components: /srv/kind2 is not
// below /srv/kind. Both are absolute and clean. The root itself is ".".
func below(root, path string) (string, bool) {
	if root == path {
		return ".", true
	}
	if root != "/" {
		root += "/"
	}
	return strings.CutPrefix(path, root)
}

// nested reports whether one of two clean absolute paths holds the other.
func nested(a, b string) bool {
	_, ab := below(a, b)
	_, ba := below(b, a)
	return ab || ba
}
