package directory

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"homelab/pkg/stack/file"
)

// disk carries out what changes files. Each change is one step, and before is
// asked before each: a test ends the run there, as a kill does.
type disk struct {
	before func(step, path string) error // nil: nothing stops it
}

func (d disk) step(name, path string) error {
	if d.before == nil {
		return nil
	}
	return d.before(name, path)
}

func (d disk) mkdir(path string, mode fs.FileMode) error {
	if err := d.step("mkdir", path); err != nil {
		return err
	}
	return os.MkdirAll(path, mode)
}

// write puts a file in place in two steps: whole beside, then renamed.
func (d disk) write(path string, data []byte, mode fs.FileMode) error {
	if err := d.step("write", path); err != nil {
		return err
	}
	tmp, err := stageFile(path, data, mode)
	if err != nil {
		return err
	}
	if err := d.step("replace", path); err != nil {
		return err // the temporary file stays, as after a kill
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (d disk) rename(from, to string) error {
	if err := d.step("rename", to); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// keep makes path.bak the file that path is, without path ever missing.
func (d disk) keep(path, backup string, mode fs.FileMode) error {
	if err := d.step("keep", path); err != nil {
		return err
	}
	data, err := os.ReadFile(path) //nolint:gosec // a file of the deployment directory
	if err != nil {
		return err
	}
	tmp, err := stageFile(backup, data, mode)
	if err != nil {
		return err
	}
	return os.Rename(tmp, backup)
}

func (d disk) chmod(path string, mode fs.FileMode) error {
	if err := d.step("chmod", path); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func (d disk) removeAll(path string) error {
	if err := d.step("remove", path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// tmpSuffix ends the names of files that are being written.
const tmpSuffix = ".homelab-tmp"

// stageFile writes a file that survives a power cut and returns its name.
func stageFile(path string, data []byte, mode fs.FileMode) (string, error) {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+tmpSuffix)
	_ = os.Remove(tmp)
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode) //nolint:gosec // beside the file it becomes
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()) // umask must not decide
	if err != nil {
		_ = os.Remove(tmp)
		return "", err
	}
	return tmp, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // a directory just written to
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // read only
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}

// writeFile puts one file in place, whole or not at all.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	return disk{}.write(path, data, mode)
}

const maxRead = 64 << 20 // bytes of one file that is copied

// read reads a file that a stack or a person names. The error is
// *file.Problems.
func read(path string) ([]byte, error) {
	bad := func(msg string) error {
		return &file.Problems{List: []file.Problem{{File: path, Message: msg}}}
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, bad("does not exist")
	case err != nil:
		return nil, bad("cannot be read: " + reason(err))
	case st.IsDir():
		return nil, bad("is a directory, not a file")
	case !st.Mode().IsRegular():
		return nil, bad("is no regular file")
	case st.Size() > maxRead:
		return nil, bad("is larger than 64 MiB")
	}
	f, err := os.Open(path) //nolint:gosec // the files a person names are what this program reads
	if err != nil {
		return nil, bad("cannot be read: " + reason(err))
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, maxRead))
	if err != nil {
		return nil, bad("cannot be read: " + reason(err))
	}
	return data, nil
}

func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err.Error()
	}
	return err.Error()
}
