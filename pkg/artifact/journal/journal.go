// Package journal keeps what a watch must not forget, in one directory per
// watch: a journal of lines, each on disk before the side effect it announces;
// state.json, the memory those lines made, and status.json for readers; and
// the lock that makes one process at a time the watch.
//
// A torn last line is what a power cut leaves: its side effect was never
// begun, and it is dropped. state.json that cannot be read is made again from
// the journal, whose files each begin with a snapshot.
package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"homelab/pkg/artifact"
	"homelab/pkg/flock"
)

const (
	linesFile  = "journal.jsonl"
	olderFile  = "journal.1.jsonl"
	newFile    = "journal.new"
	stateFile  = "state.json"
	statusFile = "status.json"
	lockFile   = "lock"

	rotateAt = 1 << 20 // bytes
	mostLine = 8 << 20 // a longer line is damage
)

// ErrLocked is of a watch that another process is.
var ErrLocked = errors.New("another process is this watch")

// Journal is the open journal of one watch. It is used by one goroutine.
type Journal struct {
	dir  string
	lock *flock.Lock
	file *os.File
	size int64 // of the file
	head int64 // of its snapshot
	err  error // once a write failed nothing more is promised
}

// Report is what reading found amiss. The zero value: nothing.
type Report struct {
	Torn    bool   // the last line was cut off and dropped
	Rebuilt bool   // state.json could not be read; memory is from the journal
	Lost    string // neither could: it is a first start; why
}

// Open takes the lock of the watch in dir, which is made if need be, and reads
// its memory. ErrLocked: somebody else is the watch.
func Open(ctx context.Context, dir string) (*Journal, artifact.Memory, Report, error) {
	var none artifact.Memory
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // a service that runs the artifact must reach the store
		return nil, none, Report{}, fmt.Errorf("state directory: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // as above, whatever the umask
		return nil, none, Report{}, fmt.Errorf("state directory: %w", err)
	}
	lock, err := takeLock(ctx, dir)
	if err != nil {
		return nil, none, Report{}, err
	}
	j := &Journal{dir: dir, lock: lock}
	m, rep, end, err := read(dir)
	if err == nil {
		err = j.open(m, rep, end)
	}
	if err != nil {
		_ = j.Close()
		return nil, none, rep, err
	}
	return j, m, rep, nil
}

func takeLock(ctx context.Context, dir string) (*flock.Lock, error) {
	l, err := flock.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := l.Brief(ctx); err != nil {
		_ = l.Release()
		if errors.Is(err, flock.ErrHeld) {
			return nil, ErrLocked
		}
		return nil, err
	}
	return l, nil
}

// open makes the file ready for appending. One that lost its beginning or was
// damaged is started anew, with what is known.
func (j *Journal) open(m artifact.Memory, rep Report, end int64) error {
	if err := os.Remove(filepath.Join(j.dir, newFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(filepath.Join(j.dir, linesFile), os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrNotExist) || rep.Lost != "" {
		if err == nil {
			_ = f.Close()
		}
		if err := j.rotate(m); err != nil {
			return err
		}
		return j.atomically(stateFile, 0o600, m)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(end), f.Sync()); err != nil {
		_ = f.Close()
		return err
	}
	if _, err := f.Seek(end, io.SeekStart); err != nil {
		_ = f.Close()
		return err
	}
	j.file, j.size, j.head = f, end, 0
	return j.atomically(stateFile, 0o600, m)
}

// Append writes l, which is on disk when it returns, and then memory as it is
// after l. After an error nothing more is accepted: a side effect whose intent
// is not on disk must not begin.
func (j *Journal) Append(l artifact.Line, m artifact.Memory) error {
	if j.err != nil {
		return j.err
	}
	if err := j.append(l); err != nil {
		j.err = fmt.Errorf("journal: %w", err)
		return j.err
	}
	if err := j.atomically(stateFile, 0o600, m); err != nil {
		j.err = fmt.Errorf("journal: %w", err)
		return j.err
	}
	if j.size >= max(rotateAt, 2*j.head) {
		if err := j.rotate(m); err != nil {
			j.err = fmt.Errorf("journal: %w", err)
		}
	}
	return j.err
}

func (j *Journal) append(l artifact.Line) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	n, err := j.file.Write(append(data, '\n'))
	j.size += int64(n)
	if err != nil {
		return err
	}
	return j.file.Sync()
}

// rotate begins a new file with a snapshot of m; the present one becomes the
// older one. A crash anywhere in between leaves at least one that is whole.
func (j *Journal) rotate(m artifact.Memory) error {
	at := filepath.Join(j.dir, newFile)
	f, err := os.OpenFile(at, os.O_CREATE|os.O_TRUNC|os.O_RDWR|syscall.O_NOFOLLOW, 0o600) //nolint:gosec // the watch's own directory
	if err != nil {
		return err
	}
	old := j.file
	j.file, j.size = f, 0
	if err := j.append(artifact.Line{Seq: m.Seq, Op: artifact.OpSnapshot, State: m.Phase, Memory: &m}); err != nil {
		return err
	}
	j.head = j.size
	if old != nil {
		_ = old.Close()
	}
	current := filepath.Join(j.dir, linesFile)
	if err := os.Rename(current, filepath.Join(j.dir, olderFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(at, current); err != nil {
		return err
	}
	return syncDir(j.dir)
}

// Status writes status.json, for who reads without the lock.
func (j *Journal) Status(v any) error { return j.atomically(statusFile, 0o644, v) }

// Close gives the lock back.
func (j *Journal) Close() error {
	var err error
	if j.file != nil {
		err = j.file.Close()
	}
	return errors.Join(err, j.lock.Release())
}

// atomically replaces a file: readers see the old or the new one, whole. Links
// are never written through: who acts for another user, as root does, must not
// be led to a file of his own.
func (j *Journal) atomically(name string, mode fs.FileMode, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := filepath.Join(j.dir, name)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NOFOLLOW, mode) //nolint:gosec // the watch's own directory, and under its lock
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(j.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the watch's own directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Read returns the memory of the watch in dir without its lock: what a watch
// was doing may be a moment older than it is. fs.ErrNotExist: there is none.
func Read(dir string) (artifact.Memory, Report, error) {
	if _, err := os.Stat(dir); err != nil {
		return artifact.Memory{}, Report{}, err
	}
	m, rep, _, err := read(dir)
	return m, rep, err
}

// Status reads status.json into v. fs.ErrNotExist: there is none yet.
func Status(dir string, v any) error {
	data, err := os.ReadFile(filepath.Join(dir, statusFile)) //nolint:gosec // the watch's own directory
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// Locked reports whether a process is the watch in dir.
func Locked(dir string) (bool, error) {
	return flock.Held(filepath.Join(dir, lockFile))
}

// History returns the lines of both files, oldest first, without snapshots.
func History(dir string) ([]artifact.Line, error) {
	var all []artifact.Line
	for _, name := range []string{olderFile, linesFile} {
		lines, _, _, err := readLines(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, l := range lines {
			if l.Op != artifact.OpSnapshot {
				all = append(all, l)
			}
		}
	}
	return all, nil
}

// read makes memory of state.json and the lines after it, or of the lines
// alone. end is where the last whole line of the current file ends.
func read(dir string) (m artifact.Memory, rep Report, end int64, err error) {
	m, stateErr := readState(filepath.Join(dir, stateFile))
	rep.Rebuilt = stateErr != nil && !errors.Is(stateErr, fs.ErrNotExist)
	known := stateErr == nil
	if !known {
		m = artifact.Memory{}
	}
	some := false
	for _, name := range []string{olderFile, linesFile} {
		lines, at, damage, err := readLines(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return m, rep, 0, err
		}
		end = at
		if name == olderFile && damage != nil {
			continue // what is in it is in the other's snapshot too
		}
		if errors.Is(damage, errTorn) {
			rep.Torn = true
			damage = nil
		}
		for _, l := range lines {
			// Without a snapshot, or state.json, to stand on a line means nothing.
			known = known || l.Op == artifact.OpSnapshot
			if known {
				m = m.Apply(l)
			}
		}
		some = true
		if damage != nil {
			rep.Lost = damage.Error()
		}
	}
	switch {
	case rep.Lost != "" && stateErr == nil:
		// state.json is written after every line: it knows what the damage hides.
		m, _ = readState(filepath.Join(dir, stateFile))
	case rep.Lost != "":
		m = artifact.Memory{}
	case !known && (some || rep.Rebuilt):
		rep.Lost = "neither state.json nor the journal can be read"
	}
	return m, rep, end, nil
}

func readState(path string) (artifact.Memory, error) {
	var m artifact.Memory
	data, err := os.ReadFile(path) //nolint:gosec // the watch's own directory
	if err != nil {
		return m, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&m); err != nil {
		return artifact.Memory{}, err
	}
	return m, nil
}

var errTorn = errors.New("the last line is torn")

// readLines returns the whole lines of a file and where the last one ends.
// damage is errTorn for a last line without an end, or what is wrong with the
// first line that is no line.
func readLines(path string) (lines []artifact.Line, end int64, damage, err error) {
	f, err := os.Open(path) //nolint:gosec // the watch's own directory
	if err != nil {
		return nil, 0, nil, err
	}
	defer func() { _ = f.Close() }()
	r := bufio.NewReader(f)
	for n := 1; ; n++ {
		data, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(data) > 0 {
				damage = errTorn
			}
			return lines, end, damage, nil
		}
		if err != nil {
			return nil, 0, nil, err
		}
		var l artifact.Line
		if len(data) > mostLine || json.Unmarshal(data, &l) != nil {
			// A block of zeros at the end is a torn line too.
			if _, more := r.Peek(1); errors.Is(more, io.EOF) {
				return lines, end, errTorn, nil
			}
			return lines, end, fmt.Errorf("%s: line %d is damaged", filepath.Base(path), n), nil
		}
		lines, end = append(lines, l), end+int64(len(data))
	}
}
