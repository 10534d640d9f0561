package directory

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

// Entry is what a verb is about to do to a directory and its cluster. It is
// written before the effect, so that the next verb can finish or undo what a
// kill left half done.
type Entry struct {
	Verb      string            `json:"verb"`
	PID       int               `json:"pid"`
	Began     time.Time         `json:"began"`
	Stage     string            `json:"stage,omitempty"`     // relative to the directory: where new files wait
	Sync      []Change          `json:"sync,omitempty"`      // files that are being put in place
	Hashes    map[string]string `json:"hashes,omitempty"`    // those to be recorded when they are
	Commits   map[string]string `json:"commits,omitempty"`   // "spec", "stack"
	Plan      []string          `json:"plan,omitempty"`      // what is applied
	Hook      string            `json:"hook,omitempty"`      // the hook that runs
	Cluster   string            `json:"cluster,omitempty"`   // the kind cluster that is being made
	Deletions []string          `json:"deletions,omitempty"` // what is being deleted
	Swap      json.RawMessage   `json:"swap,omitempty"`      // Ingress backends and replicas to bring back
}

// Change is one file of a sync.
type Change struct {
	Path   string      `json:"path"` // slash-separated, relative to the directory
	Action string      `json:"action"`
	Mode   fs.FileMode `json:"mode,omitempty"`
	Secret bool        `json:"secret,omitempty"` // the copy that is kept is nobody else's to read
}

// The actions of a Change.
const (
	actionPut    = "put"    // a new file
	actionUpdate = "update" // it differs: the old one is kept beside
	actionRetire = "retire" // it is no longer generated: only the copy is kept
	actionMode   = "mode"   // others may no longer read it
)

// Journal is the journal of a directory. The lock must be held.
type Journal struct {
	dir  string
	disk disk
}

// OpenJournal returns the journal of a directory.
func OpenJournal(dir string) *Journal { return &Journal{dir: dir} }

func (j *Journal) path() string { return filepath.Join(j.dir, file.StateDir, "journal.json") }

// Read returns what was begun and not ended; nil when nothing was. What cannot
// be read is a *fault.Error of kind Unsafe: nobody knows what is half done.
func (j *Journal) Read() (*Entry, error) {
	data, err := os.ReadFile(j.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing was begun
	}
	e := &Entry{}
	if err == nil {
		err = json.Unmarshal(data, e)
	}
	if err != nil {
		return nil, fault.New(fault.Unsafe, "the journal "+j.path()+" cannot be read", "").
			Because("an earlier run was interrupted, and what it left is not known: " + reason(err)).From(err)
	}
	return e, nil
}

// Write replaces the entry: whole, and on the disk, before it returns.
func (j *Journal) Write(e Entry) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	if err := j.disk.mkdir(filepath.Dir(j.path()), 0o700); err != nil {
		return err
	}
	return j.disk.write(j.path(), append(data, '\n'), 0o600)
}

// Clear ends what was begun. Nothing there is no error.
func (j *Journal) Clear() error {
	if err := j.disk.step("clear", j.path()); err != nil {
		return err
	}
	if err := os.Remove(j.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(j.path()))
}

// Settle makes a directory's files whole after an interrupted run: a sync that
// had begun is finished, a stage nothing was taken from is removed. What the
// run was doing to the cluster is the caller's to settle: it is returned, nil
// when there is nothing, and stays in the journal until Clear.
func Settle(dir string) (*Entry, error) { return settle(dir, disk{}) }

func settle(dir string, d disk) (*Entry, error) {
	j := &Journal{dir: dir, disk: d}
	e, err := j.Read()
	if err != nil {
		return nil, err
	}
	if e == nil || e.Stage == "" {
		if _, err := os.Lstat(stageOf(dir)); err == nil {
			if err := d.removeAll(stageOf(dir)); err != nil {
				return nil, err
			}
		}
		return e, nil
	}
	if err := finishSync(dir, *e, d); err != nil {
		return nil, fault.New(fault.Unsafe, dir+": an interrupted update of its files cannot be finished", "").
			Because(reason(err)).From(err)
	}
	e.Stage, e.Sync, e.Hashes = "", nil, nil
	if e.Cluster == "" && e.Swap == nil && len(e.Deletions) == 0 && len(e.Plan) == 0 {
		return nil, j.Clear()
	}
	return e, j.Write(*e)
}

// stageOf is where the new files of a directory wait.
func stageOf(dir string) string { return filepath.Join(dir, file.StateDir, "stage") }

// finishSync puts the staged files in place. It may be repeated.
func finishSync(dir string, e Entry, d disk) error {
	stage := filepath.Join(dir, filepath.FromSlash(e.Stage))
	for _, c := range e.Sync {
		path, from := filepath.Join(dir, filepath.FromSlash(c.Path)), filepath.Join(stage, filepath.FromSlash(c.Path))
		_, waits := os.Lstat(from)
		was, err := os.Lstat(path)
		there := err == nil
		mode := c.Mode
		if there {
			mode = was.Mode().Perm()
		}
		if c.Secret {
			mode = 0o600
		}
		switch {
		case c.Action == actionMode:
			if there {
				if err := d.chmod(path, 0o600); err != nil {
					return err
				}
			}
			continue
		case c.Action == actionRetire:
			if there {
				if c.Secret {
					if err := d.chmod(path, 0o600); err != nil {
						return err
					}
				}
				if err := d.rename(path, path+".bak"); err != nil {
					return err
				}
			}
			continue
		case waits != nil:
			continue // it is in place
		case there:
			if err := d.keep(path, path+".bak", mode); err != nil {
				return err
			}
		}
		if err := d.mkdir(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := d.rename(from, path); err != nil {
			return err
		}
	}
	if err := record(dir, e.Hashes, d); err != nil {
		return err
	}
	return d.removeAll(stage)
}

// record makes hashes the ones the directory remembers. Nothing is written
// when they are already.
func record(dir string, hashes map[string]string, d disk) error {
	state, err := file.ReadState(dir)
	if err != nil {
		return err
	}
	state.Hashes = hashes
	data, err := state.Marshal()
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(file.StatePath(dir)); err == nil && slices.Equal(old, data) {
		return nil
	}
	if err := d.mkdir(filepath.Dir(file.StatePath(dir)), 0o700); err != nil {
		return err
	}
	return d.write(file.StatePath(dir), data, 0o600)
}
