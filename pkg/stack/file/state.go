package file

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// State is what a directory's .homelab/state.json remembers.
type State struct {
	// Hashes are those of the files this program wrote, by their path in the
	// directory: a file whose hash is another one was edited.
	Hashes map[string]string
	// Rest are the keys other parts of the program keep there.
	Rest map[string]json.RawMessage
}

// StatePath returns where the state of a directory is kept.
func StatePath(dir string) string { return filepath.Join(dir, StateDir, "state.json") }

// ReadState reads a directory's state; an empty one when there is none. The
// error is *Problems.
func ReadState(dir string) (State, error) {
	path := StatePath(dir)
	data, err := os.ReadFile(path) //nolint:gosec // our own file
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, unreadable(path, err)
	}
	s := State{}
	if err := json.Unmarshal(data, &s.Rest); err != nil {
		return State{}, problems([]Problem{{File: path, Message: "is no state of this program: " + err.Error()}})
	}
	if raw, ok := s.Rest["hashes"]; ok {
		if err := json.Unmarshal(raw, &s.Hashes); err != nil {
			return State{}, problems([]Problem{{File: path, Key: "hashes", Message: "is no map of hashes: " + err.Error()}})
		}
		delete(s.Rest, "hashes")
	}
	return s, nil
}

// Marshal returns the file's text.
func (s State) Marshal() ([]byte, error) {
	all := map[string]any{}
	for k, v := range s.Rest {
		all[k] = v
	}
	if len(s.Hashes) > 0 {
		all["hashes"] = s.Hashes
	}
	out, err := json.MarshalIndent(all, "", "  ")
	return append(out, '\n'), err
}

// Hash returns the hash of a file's content, as State keeps it.
func Hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
