package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/stack"
)

// record is what there is to go back to, written down before a switch.
type record struct {
	At      time.Time    `json:"at"`
	Attempt int          `json:"attempt"`
	To      artifact.ID  `json:"to"`
	ToRef   string       `json:"to_ref"`
	From    artifact.ID  `json:"from,omitempty"` // "" nothing to go back to
	FromRef string       `json:"from_ref,omitempty"`
	Dir     string       `json:"dir"`
	Spec    stack.Origin `json:"spec"`
	Stack   stack.Origin `json:"stack"`
	// Revision is the one that ran; 0: there is none, or files were kept aside.
	Revision  int               `json:"revision,omitempty"`
	Content   string            `json:"content,omitempty"` // hash of that revision: numbers begin anew in a directory that is made anew
	Kept      string            `json:"kept,omitempty"`    // the name under which they were
	Overrides map[string]string `json:"overrides,omitempty"`
	// Changes are the Deployments, or services, that the switch changes.
	Changes []string `json:"changes,omitempty"`
}

func (t *Target) recordPath() string { return filepath.Join(t.d.Dir, "stack.json") }

// recorded reads the record; nil when there is none.
func (t *Target) recorded() (*record, error) {
	raw, err := os.ReadFile(t.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // none
	}
	r := &record{}
	if err == nil {
		err = json.Unmarshal(raw, r)
	}
	if err != nil {
		return nil, fmt.Errorf("what was recorded before the switch cannot be read: %w", err)
	}
	return r, nil
}

// keep writes the record, whole and on the disk, before it returns.
func (t *Target) keep(r *record) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(t.d.Dir, 0o711); err != nil { //nolint:gosec // as the watch's directory is made
		return err
	}
	tmp := t.recordPath() + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // below the watch's own directory
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, t.recordPath()); err != nil {
		return err
	}
	d, err := os.Open(t.d.Dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
