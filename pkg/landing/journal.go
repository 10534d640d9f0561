package landing

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"homelab/pkg/git"
)

// Phase is how far a landing has come. It is written before what it names
// happens.
type Phase string

// Every phase, in order.
const (
	Begun      Phase = "begun"
	Integrated Phase = "integrated"
	Verified   Phase = "verified"
	Staged     Phase = "staged"   // a branch of the candidate is pushed for CI to test
	Pushing    Phase = "pushing"  // the base is pushed to
	Proposed   Phase = "proposed" // a pull request
	OnBase     Phase = "landed"
	Done       Phase = "done"
)

// Record is what is written down of one landing.
type Record struct {
	ID        string       `json:"id"`
	Phase     Phase        `json:"phase"`
	Branch    string       `json:"branch"`
	Head      git.Commit   `json:"head"`
	Remote    string       `json:"remote"`
	Base      string       `json:"base"`
	Before    git.Commit   `json:"before"`              // the base's tip that Candidate was made for
	Candidate git.Commit   `json:"candidate,omitempty"` // what is, or is to be, pushed
	Tried     []git.Commit `json:"tried,omitempty"`     // every candidate that was pushed to the base
	Attempts  int          `json:"attempts"`
	Commands  []Command    `json:"commands,omitempty"`
	Stagings  []Staging    `json:"stagings,omitempty"` // branches on the remote that are not deleted yet
	Pull      *PullRequest `json:"pull_request,omitempty"`
	Review    git.Commit   `json:"review,omitempty"`   // what was published for a pull request
	Reviewed  []git.Commit `json:"reviewed,omitempty"` // what was before that
	Topic     string       `json:"topic,omitempty"`    // of a request that has no branch
	Pipeline  int64        `json:"pipeline,omitempty"`
	NoWatch   bool         `json:"no_watch,omitempty"`
	RequireCI bool         `json:"require_ci,omitempty"`
	Deploy    []string     `json:"deploy,omitempty"`
	Named     bool         `json:"named,omitempty"` // Deploy came from the command line
	Workflows []string     `json:"workflows,omitempty"`
	Red       int64        `json:"red,omitempty"`    // the failed pipeline that was, or is about to be, restarted
	Revert    *Record      `json:"revert,omitempty"` // of what takes it off the base again: a landing of its own
	PID       int          `json:"pid"`
	Started   time.Time    `json:"started"`
}

// journal is the file of one landing.
type journal struct {
	dir  string
	held *os.File // its lock, as long as the process lives
}

const (
	journalFile = "journal.json"
	keepFor     = 30 * 24 * time.Hour
)

func landings(common string) string { return filepath.Join(common, "homelab", "land") }

// newID names a landing by its time, and by chance within a second.
func newID(now time.Time) (string, error) {
	var b [2]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(b[:]), nil
}

// openJournal makes the directory of a landing and holds it: another run can
// tell a landing that is under way from one that was left.
func openJournal(common, id string) (*journal, error) {
	j := &journal{dir: filepath.Join(landings(common), id)}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(j.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("landing %s: %w", id, err)
	}
	j.held = f
	return j, nil
}

// write replaces the file: whenever the process dies, the old or the new one
// is there, whole.
func (j *journal) write(r Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(j.dir, journalFile), append(data, '\n'))
}

func writeWhole(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

func (j *journal) close() {
	if j != nil && j.held != nil {
		_ = j.held.Close()
		j.held = nil
	}
}

// remove forgets the landing.
func (j *journal) remove() error {
	err := os.RemoveAll(j.dir)
	j.close()
	return err
}

// Records reads every landing's record, oldest first. What cannot be read is
// named in the error, beside those that can.
func Records(common string) ([]Record, error) {
	entries, err := os.ReadDir(landings(common))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []Record
	var bad []error
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(landings(common), e.Name(), journalFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended before it began
		}
		var r Record
		if err == nil {
			err = json.Unmarshal(data, &r)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("landing %s: %w", e.Name(), err))
			continue
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.ID, b.ID) })
	return out, errors.Join(bad...)
}

// Unfinished returns the records of branch's landings that are not done,
// oldest first; every branch's with "".
func Unfinished(common, branch string) ([]Record, error) {
	all, err := Records(common)
	return slices.DeleteFunc(all, func(r Record) bool {
		return r.Phase == Done || branch != "" && r.Branch != branch
	}), err
}

// UnderWay says whether a process still works on the landing.
func UnderWay(common, id string) bool {
	f, err := os.Open(filepath.Join(landings(common), id, "lock")) //nolint:gosec // the id is one of our own directories
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// expire removes the directories of landings older than keepFor and returns
// their ids.
func expire(common string, now time.Time) []string {
	entries, err := os.ReadDir(landings(common))
	if err != nil {
		return nil
	}
	var gone []string
	for _, e := range entries {
		at, err := time.Parse("20060102T150405Z", strings.Split(e.Name(), "-")[0])
		if err != nil || now.Sub(at) < keepFor || UnderWay(common, e.Name()) {
			continue
		}
		if os.RemoveAll(filepath.Join(landings(common), e.Name())) == nil {
			gone = append(gone, e.Name())
		}
	}
	return gone
}
