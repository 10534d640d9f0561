package directory

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"homelab/pkg/stack/file"
)

// Keep writes a value under a key of its own into what a directory remembers;
// nil forgets it. Nothing is written when it is there already. The lock must be
// held.
func Keep(dir, key string, value any) error {
	state, err := file.ReadState(dir)
	if err != nil {
		return err
	}
	if state.Rest == nil {
		state.Rest = map[string]json.RawMessage{}
	}
	delete(state.Rest, key)
	if value != nil {
		if state.Rest[key], err = json.Marshal(value); err != nil {
			return err
		}
	}
	data, err := state.Marshal()
	if err != nil {
		return err
	}
	path := file.StatePath(dir)
	old, err := os.ReadFile(path) //nolint:gosec // our own state
	if err == nil && slices.Equal(old, data) {
		return nil
	}
	var d disk
	if err := d.mkdir(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return d.write(path, data, 0o600)
}
