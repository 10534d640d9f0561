package run

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"

	"homelab/pkg/artifact"
	"homelab/pkg/fault"
)

// Place is where one watch keeps its state: the directory Name in Root.
type Place struct{ Root, Name string }

// Dir is the watch's own directory.
func (p Place) Dir() string { return filepath.Join(p.Root, p.Name) }

func (p Place) socket() string { return filepath.Join(p.Dir(), "control.sock") }

func (p Place) store() string { return filepath.Join(p.Dir(), "store") }

// Exists reports whether a watch has been here.
func (p Place) Exists() bool {
	_, err := os.Stat(filepath.Join(p.Dir(), "journal.jsonl"))
	return err == nil
}

// unknown is the error of a watch that has never been here.
func (p Place) unknown() *fault.Error {
	return fault.New(fault.Absent, fmt.Sprintf("there is no watch %q", p.Name), "").Because("nothing of it is in " + p.Root)
}

// Watches returns the names of the watches with state in root, sorted.
func Watches(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, onDisk("the state directory cannot be read", err)
	}
	var names []string
	for _, e := range entries {
		if CheckName(e.Name()) == nil && (Place{root, e.Name()}).Exists() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// CheckName refuses what cannot be a watch's name, which is a directory and
// stands where a sub-verb could: *fault.Error, Usage.
func CheckName(name string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`).MatchString(name) {
		return fault.Usagef("", "%.80q is no name for a watch: want a letter or digit, then at most 63 letters, digits, dots, dashes and underscores", name)
	}
	verbs := []string{"status", "history", "poke", "pause", "resume", "retry", "rollback", "pin", "unpin"}
	if slices.Contains(verbs, name) {
		return fault.Usagef("", "%q is no name for a watch: it is a sub-verb", name)
	}
	return nil
}

// FreshRun returns a name for this process, for Config.Run.
func FreshRun() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// diskKind is what an error of the file system means for a run.
func diskKind(err error) (fault.Kind, artifact.Why) {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Held, artifact.DiskFull
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fault.Denied, ""
	}
	return fault.Unreachable, ""
}

func onDisk(what string, err error) *fault.Error {
	kind, _ := diskKind(err)
	return fault.New(kind, what, "").Because(err.Error()).From(err)
}
